//! The `omendb` program: every verb of the library from a shell. This file only dispatches. Not an interface: it is a
//! library so that tests and fuzz targets reach what is in it.

mod commands;
mod demo;
mod failure;
mod formats;
pub mod fuzzing;
mod output;
mod target;

use clap::{Parser, Subcommand};
use commands::{check, compact, copies, create, delete, export, get, import, recall, search, stats};
use failure::{EXIT_CODES, Failure, Result};
use output::Output;
use std::process::ExitCode;

/// An embedded vector database in one directory: durable on acknowledgement, checked on every read.
#[derive(Debug, Parser)]
#[command(name = "omendb", version, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Arguments {
    /// Print one JSON document on standard output (errors: on standard error) instead of tables and lines
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Create(create::Create),
    Import(import::Import),
    Export(export::Export),
    Search(search::Search),
    Recall(recall::Recall),
    Get(get::Get),
    Delete(delete::Delete),
    Stats(stats::Stats),
    Check(check::Check),
    Compact(compact::Compact),
    Backup(copies::Backup),
    VerifyBackup(copies::VerifyBackup),
    Restore(copies::Restore),
    Salvage(copies::Salvage),
    #[command(hide = true)]
    DemoWriter(demo::writer::DemoWriter),
}

fn run(command: &Command, json: bool) -> Result<Output> {
    match command {
        Command::Demo(c) => c.run(json),
        Command::Create(c) => c.run(),
        Command::Import(c) => c.run(json),
        Command::Export(c) => c.run(json),
        Command::Search(c) => c.run(),
        Command::Recall(c) => c.run(),
        Command::Get(c) => c.run(json),
        Command::Delete(c) => c.run(json),
        Command::Stats(c) => c.run(),
        Command::Check(c) => c.run(json),
        Command::Compact(c) => c.run(),
        Command::Backup(c) => c.run(),
        Command::VerifyBackup(c) => c.run(json),
        Command::Restore(c) => c.run(json),
        Command::Salvage(c) => c.run(json),
        Command::DemoWriter(c) => c.run(),
    }
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = run(&arguments.command, arguments.json).and_then(|output| output.print(arguments.json));
    match outcome {
        Ok(()) | Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(failure) => {
            if arguments.json {
                eprintln!("{}", failure.to_json());
            } else {
                eprintln!("error: {failure}");
            }
            ExitCode::from(failure.code())
        }
    }
}
