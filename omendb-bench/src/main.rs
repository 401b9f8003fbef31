//! Figures: each subcommand measures one thing and prints what it measured beside what it is to be judged by.

mod bandwidth;
mod calls;
mod engine;
mod filter;
mod filtered;
mod graph;
mod ingest;
mod larger;
mod measure;
mod memory;
mod peer;
mod recovery;
mod small_writes;
mod sparse;
mod text;
mod workload;

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
    /// Exact scan of one core against the machine's read bandwidth.
    Bandwidth(bandwidth::Arguments),
    /// Durable bulk ingest against the bare disk.
    Ingest(ingest::Arguments),
    /// Durable writes of one record: one writer, many, and in a large database.
    SmallWrites(small_writes::Arguments),
    /// The rows that pass a filter, over the columns of one large segment.
    Filter(filter::Arguments),
    /// Filtered search at every share of rows that pass: recall, rate, plan.
    Filtered(filtered::Arguments),
    /// The whole database call: durable ingest until every row is in a graph, search, reopen.
    Engine(engine::Arguments),
    /// What one search, batch search and upsert cost, for the Python package to compare with.
    Calls(calls::Arguments),
    /// Builds one graph of a data set and sweeps search effort on it, on one core.
    Graph {
        /// As the subcommand prints them when it does not understand them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Exact search by sparse vectors, with its index and without.
    Sparse(sparse::Arguments),
    /// Full text and hybrid search beside plain tantivy.
    Text(text::Arguments),
    /// Answers the efforts that peers/compare.py asks for.
    Peer(peer::Arguments),
    /// Time to open after a kill and after a clean close.
    Recovery(recovery::Arguments),
    /// Memory while ten times the budget is loaded.
    Memory(memory::Arguments),
    /// A collection larger than the memory it may use: load, index, search
    Larger(larger::Arguments),
    /// Fills a log and waits to be killed; used by `recovery`.
    #[command(hide = true)]
    FillLog(recovery::FillArguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Bandwidth(arguments) => bandwidth::run(&arguments),
        Command::Ingest(arguments) => ingest::run(&arguments),
        Command::SmallWrites(arguments) => small_writes::run(&arguments),
        Command::Engine(arguments) => engine::run(&arguments),
        Command::Graph { arguments } => graph::run(&arguments),
        Command::Filter(arguments) => filter::run(&arguments),
        Command::Filtered(arguments) => filtered::run(&arguments),
        Command::Calls(arguments) => calls::run(&arguments),
        Command::Sparse(arguments) => sparse::run(&arguments),
        Command::Text(arguments) => text::run(&arguments),
        Command::Peer(arguments) => peer::run(&arguments),
        Command::Recovery(arguments) => recovery::run(&arguments),
        Command::Memory(arguments) => memory::run(&arguments),
        Command::Larger(arguments) => larger::run(&arguments),
        Command::FillLog(arguments) => recovery::fill(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
