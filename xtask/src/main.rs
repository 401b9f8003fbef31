//! `cargo xtask test`: every check and test of the project, in one command.
//!
//! It needs Rust, a C compiler and Python 3 and nothing else. Each step is one row of [`STEPS`]; each can be run alone
//! by its name (`cargo xtask tidy`).

mod docs;
mod lexer;
mod licences;
mod python;
mod runner;
mod tidy;

use runner::{Context, Outcome, Step, StepResult};
use std::process::ExitCode;

/// The steps in order, the cheap ones first.
const STEPS: &[Step] = &[
    Step { name: "fmt", what: "formatting", run: fmt },
    Step { name: "tidy", what: "layout rules, unsafe code, documents against code", run: tidy::run },
    Step { name: "licences", what: "licences and sources of the dependencies", run: licences::run },
    Step { name: "deny", what: "cargo-deny, where it is installed", run: licences::deny },
    Step { name: "clippy", what: "lints", run: clippy },
    Step { name: "doc", what: "API documentation", run: doc },
    Step { name: "test", what: "unit, integration, crash and documentation tests, fuzz corpus", run: test },
    Step { name: "examples", what: "Rust examples", run: docs::examples },
    Step { name: "python", what: "wheel, Python tests, type checks", run: python::run },
    Step { name: "docs", what: "the code blocks of README.md and docs/", run: docs::run },
];

fn fmt(context: &Context) -> StepResult {
    context.cargo(&["fmt", "--all", "--check"])?;
    Ok(Outcome::Done)
}

fn clippy(context: &Context) -> StepResult {
    context.cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])?;
    Ok(Outcome::Done)
}

fn doc(context: &Context) -> StepResult {
    let mut command = context.cargo_command(&["doc", "--workspace", "--lib", "--no-deps", "--locked"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    context.run(command)?;
    Ok(Outcome::Done)
}

fn test(context: &Context) -> StepResult {
    let mut tests = context.cargo_command(&["test", "--workspace", "--locked", "--no-fail-fast"]);
    // The programmes build text indexes by the million, and each takes megabytes for a moment: where the C library
    // gives them back to the system every time, that takes two thirds of the time.
    tests.env("MALLOC_MMAP_THRESHOLD_", "33554432").env("MALLOC_TRIM_THRESHOLD_", "536870912");
    context.run_tests(tests)?;
    Ok(Outcome::Done)
}

fn usage() -> String {
    let mut text = String::from(
        "cargo xtask test    every step below, in this order; stops at the first that fails\n\
         cargo xtask ci      the same\n\
         cargo xtask STEP... only these steps\n\nSteps:\n",
    );
    for step in STEPS {
        text.push_str(&format!("  {:<10} {}\n", step.name, step.what));
    }
    text
}

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let steps: Vec<&Step> = match names.as_slice() {
        [one] if one == "test" || one == "ci" => STEPS.iter().collect(),
        [_, ..] if names.iter().all(|name| STEPS.iter().any(|step| step.name == name)) => {
            STEPS.iter().filter(|step| names.iter().any(|name| name == step.name)).collect()
        }
        _ => {
            eprint!("{}", usage());
            let asked = names.first().is_some_and(|name| name == "help" || name == "--help");
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    let context = match Context::new() {
        Ok(context) => context,
        Err(message) => {
            eprintln!("xtask: {message}");
            return ExitCode::FAILURE;
        }
    };
    if runner::run_steps(&context, &steps) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
