//! How steps run: one after another, timed, stopping at the first failure, with a summary.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How a step that did not fail ended.
pub enum Outcome {
    /// It ran.
    Done,
    /// It could not run here, for the reason given.
    Skipped(String),
}

/// The end of a step; an error is the line that says what went wrong.
pub type StepResult = Result<Outcome, String>;

/// One step: its name, what it checks, how.
pub struct Step {
    /// The word that runs it alone.
    pub name: &'static str,
    /// What it checks, for the help.
    pub what: &'static str,
    /// Runs it.
    pub run: fn(&Context) -> StepResult,
}

/// Where the steps run, and what the tests reported.
pub struct Context {
    /// The repository's root.
    pub root: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
    notes: RefCell<Notes>,
}

#[derive(Default)]
struct Notes {
    passed: u64,
    ignored: u64,
    repeated: Vec<String>,
}

impl Context {
    /// Finds the root and the target directory.
    pub fn new() -> Result<Self, String> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.parent().ok_or("the xtask directory has no parent")?.to_path_buf();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => root.join(dir),
            None => root.join("target"),
        };
        Ok(Context { root, target, notes: RefCell::default() })
    }

    /// A cargo command in the root.
    pub fn cargo_command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), args)
    }

    /// A command in the root.
    pub fn command<P: AsRef<OsStr>, S: AsRef<OsStr>>(&self, program: P, args: &[S]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.root);
        command
    }

    /// Runs cargo in the root.
    pub fn cargo<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<(), String> {
        self.run(self.cargo_command(args))
    }

    /// Runs a command, its output shown; an error names the command and its exit status.
    pub fn run(&self, mut command: Command) -> Result<(), String> {
        println!("$ {}", shown(&command));
        let status = command.status().map_err(|e| cannot_run(&command, &e))?;
        if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", shown(&command))) }
    }

    /// Runs a command and returns its standard output.
    pub fn output(&self, mut command: Command) -> Result<Vec<u8>, String> {
        command.stderr(Stdio::inherit());
        let output = command.output().map_err(|e| cannot_run(&command, &e))?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(format!("`{}` ended with {}", shown(&command), output.status))
        }
    }

    /// Runs a test command, its output shown as it comes, and counts the results for the summary.
    pub fn run_tests(&self, mut command: Command) -> Result<(), String> {
        println!("$ {}", shown(&command));
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| cannot_run(&command, &e))?;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).split(b'\n') {
                let line = line.map_err(|e| format!("cannot read the output of `{}`: {e}", shown(&command)))?;
                let line = String::from_utf8_lossy(&line);
                println!("{line}");
                self.notes.borrow_mut().read(&line);
            }
        }
        let status = child.wait().map_err(|e| cannot_run(&command, &e))?;
        if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", shown(&command))) }
    }
}

impl Notes {
    /// Takes what the summary repeats from one line of test output: cargo's and pytest's counts, SKIPPED and a reason,
    /// which a test writes when the machine lacks what it needs, and FIGURE and a figure that the documents name.
    fn read(&mut self, line: &str) {
        if let Some(at) = line.find("SKIPPED ").or_else(|| line.find("FIGURE ")) {
            self.repeated.push(line[at..].trim().to_string());
        } else if line.starts_with("test result:") {
            self.passed += count_before(line, "passed");
            self.ignored += count_before(line, "ignored");
        } else if line.starts_with("==") && line.contains(" passed") {
            self.passed += count_before(line, "passed");
            self.ignored += count_before(line, "skipped");
        }
    }
}

/// The number before `word` in a line such as `test result: ok. 12 passed; 0 failed; 1 ignored`.
fn count_before(line: &str, word: &str) -> u64 {
    let words: Vec<&str> = line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

fn cannot_run(command: &Command, error: &std::io::Error) -> String {
    format!("cannot run `{}`: {error}", shown(command))
}

/// A command as one would type it.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let mut text = name.to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

/// Runs the steps in order until one fails, then prints the summary. Returns whether all passed.
pub fn run_steps(context: &Context, steps: &[&Step]) -> bool {
    let start = Instant::now();
    let mut rows: Vec<(&str, Duration, StepResult)> = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        let name = step.name;
        println!("\n==> [{}/{}] {name}", n + 1, steps.len());
        let begin = Instant::now();
        let result = (step.run)(context);
        let failed = result.is_err();
        rows.push((name, begin.elapsed(), result));
        if failed {
            break;
        }
    }
    println!("\nsummary");
    let mut failure = None;
    for (name, time, result) in &rows {
        let state = match result {
            Ok(Outcome::Done) => "ok".to_string(),
            Ok(Outcome::Skipped(reason)) => format!("skipped: {reason}"),
            Err(message) => {
                failure = Some(format!("FAILED at {name}: {message}"));
                "FAILED".to_string()
            }
        };
        println!("  {name:<10} {:>8.1} s  {state}", time.as_secs_f64());
    }
    let notes = context.notes.borrow();
    for line in &notes.repeated {
        println!("  {line}");
    }
    if notes.passed > 0 {
        println!("  {} tests passed, {} left out", notes.passed, notes.ignored);
    }
    let total = start.elapsed().as_secs_f64();
    match &failure {
        Some(message) => println!("{message} (after {total:.1} s)"),
        None => println!("all {} steps passed in {total:.1} s", steps.len()),
    }
    let _ = std::io::stdout().flush();
    failure.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_both_kinds_of_result_lines() {
        let mut notes = Notes::default();
        notes.read("test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        notes.read("======= 7 passed, 2 skipped in 1.50s =======");
        notes.read("test power_cut ... SKIPPED power cut: not root");
        assert_eq!((notes.passed, notes.ignored), (19, 5));
        notes.read("FIGURE kill -9: 200 kills, 0 lost");
        assert_eq!(notes.repeated, ["SKIPPED power cut: not root", "FIGURE kill -9: 200 kills, 0 lost"]);
    }

    #[test]
    fn the_first_failure_stops_the_run() {
        let context = Context::new().expect("the crate lies in the workspace");
        fn good(_: &Context) -> StepResult {
            Ok(Outcome::Done)
        }
        fn bad(_: &Context) -> StepResult {
            Err("as asked".into())
        }
        fn never(_: &Context) -> StepResult {
            panic!("ran after a failure")
        }
        let step = |name, run| Step { name, what: "", run };
        let (good, bad, never) = (step("good", good), step("bad", bad), step("never", never));
        assert!(run_steps(&context, &[&good]));
        assert!(!run_steps(&context, &[&good, &bad, &never]));
    }

    #[test]
    fn a_failing_command_is_an_error_that_names_it() {
        let context = Context::new().expect("the crate lies in the workspace");
        let mut command = context.cargo_command(&["no-such-subcommand"]);
        command.stderr(Stdio::null());
        let error = context.run(command).unwrap_err();
        assert!(error.contains("no-such-subcommand"), "{error}");
    }
}
