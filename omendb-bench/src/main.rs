//! Figures: each subcommand measures one thing and prints what it measured beside what it is to be judged by.

mod filter;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// What every subcommand returns; the error's text is for a person.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Benchmarks of OmenDB.
#[derive(Parser)]
#[command(name = "omendb-bench")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The rows that pass a filter, over the columns of one large segment.
    Filter(filter::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Filter(arguments) => filter::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
