//! Benchmarks of the database and its parts.

mod graph;

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.first().map(String::as_str) {
        Some("graph") => graph::run(&args[1..]),
        _ => Err("usage: omendb-bench graph --set sift --n 100000 --threads 2".into()),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}
