//! The code blocks of README.md and docs/ are run, so that what they show works.
//!
//! A fence names its language. `rust` blocks are run by rustdoc, each alone. `bash` blocks of one file
//! are run in order in one fresh directory, with the `omendb` program on the path; then its `python` blocks,
//! together as one program, in the same directory. A block marked `no_run` is only shown.

use crate::python;
use crate::runner::{Context, Outcome, StepResult};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// One fenced block of a Markdown file.
#[derive(Debug, PartialEq)]
struct Block {
    language: String,
    run: bool,
    /// The number of the block's first line in the file, from 1.
    line: usize,
    text: String,
}

/// The fenced blocks of a Markdown file; an error names the line of a fence that is not right.
fn blocks(markdown: &str) -> Result<Vec<Block>, String> {
    let mut found = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for (n, line) in markdown.lines().enumerate() {
        let ticks = line.trim_start().bytes().take_while(|&b| b == b'`').count();
        match &mut open {
            None if ticks >= 3 => {
                let info = line.trim().trim_start_matches('`');
                let mut words = info.split([' ', ',']).filter(|word| !word.is_empty());
                let Some(language) = words.next() else {
                    return Err(format!("line {}: this fence names no language; write ```text for plain text", n + 1));
                };
                let run = !words.any(|word| word == "no_run" || word == "ignore");
                open = Some((ticks, Block { language: language.into(), run, line: n + 2, text: String::new() }));
            }
            None => {}
            Some((opening, _)) if ticks >= *opening && line.trim().len() == ticks => {
                found.extend(open.take().map(|(_, block)| block));
            }
            Some((_, block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
        }
    }
    match open {
        Some((_, block)) => Err(format!("line {}: this fence does not end", block.line - 1)),
        None => Ok(found),
    }
}

/// README.md and every Markdown file of docs/, sorted.
pub fn documents(root: &Path) -> Vec<PathBuf> {
    let mut files = vec![root.join("README.md")];
    if let Ok(entries) = fs::read_dir(root.join("docs")) {
        files.extend(
            entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "md")),
        );
    }
    files.retain(|path| path.is_file());
    files.sort();
    files
}

/// Runs the blocks of every document.
pub fn run(context: &Context) -> StepResult {
    let mut all = Vec::new();
    for file in documents(&context.root) {
        let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let found = blocks(&text).map_err(|e| format!("{}: {e}", file.display()))?;
        all.push((file, found));
    }
    let runs = |language: &str| all.iter().flat_map(|(_, b)| b).filter(|b| b.run && b.language == language).count();
    let (rust, bash, python) = (runs("rust"), runs("bash"), runs("python"));
    if rust + bash + python == 0 {
        return Ok(Outcome::Skipped("README.md and docs/ hold no code block that runs".into()));
    }
    context.cargo(&["build", "--locked", "-p", "omendb", "-p", "omendb-cli"])?;
    for (file, found) in &all {
        run_document(context, file, found)?;
    }
    println!("{rust} Rust, {bash} shell and {python} Python blocks ran");
    Ok(Outcome::Done)
}

fn run_document(context: &Context, file: &Path, found: &[Block]) -> Result<(), String> {
    let of = |language: &str| found.iter().filter(|b| b.run && b.language == language).collect::<Vec<_>>();
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let dir = context.target.join("docs-run").join(&name);
    let fail = |e: std::io::Error| format!("{}: {e}", dir.display());
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(fail)?;
    }
    fs::create_dir_all(&dir).map_err(fail)?;
    if !of("rust").is_empty() {
        rustdoc(context, file, &dir)?;
    }
    let in_file = |e: String| format!("{}: {e}", file.display());
    for block in of("bash") {
        let script = dir.join(format!("line-{}.sh", block.line));
        fs::write(&script, format!("set -euo pipefail\n{}", block.text)).map_err(fail)?;
        let mut command = context.command("bash", &[&script]);
        command.current_dir(&dir).env("PATH", search_path(context)?);
        context.run(command).map_err(in_file)?;
    }
    let python_blocks = of("python");
    if !python_blocks.is_empty() {
        if !python::exists(context) {
            return Err(in_file("it holds Python blocks, and there is no omendb-python/ to run them with".into()));
        }
        // each block keeps its line numbers, so that a traceback points into the document
        let mut program = String::new();
        for block in python_blocks {
            let gap = block.line.saturating_sub(1).saturating_sub(program.lines().count());
            program.push_str(&"\n".repeat(gap));
            program.push_str(&block.text);
        }
        let script = dir.join(format!("{name}.py"));
        fs::write(&script, program).map_err(fail)?;
        let mut command = context.command(python::interpreter(context), &[&script]);
        command.current_dir(&dir);
        context.run(command).map_err(in_file)?;
    }
    Ok(())
}

fn rustdoc(context: &Context, file: &Path, dir: &Path) -> Result<(), String> {
    let built = context.target.join("debug");
    let args: Vec<OsString> = vec![
        "--edition=2024".into(),
        "--test".into(),
        file.into(),
        "-L".into(),
        built.join("deps").into(),
        "--extern".into(),
        format!("omendb={}", built.join("libomendb.rlib").display()).into(),
    ];
    let mut command = context.command("rustdoc", &args);
    command.current_dir(dir);
    context.run_tests(command)
}

/// The path with the built `omendb` program and the Python environment in front.
fn search_path(context: &Context) -> Result<OsString, String> {
    let mut dirs = vec![context.target.join("debug")];
    dirs.extend(python::interpreter(context).parent().map(Path::to_path_buf));
    dirs.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    std::env::join_paths(dirs).map_err(|e| e.to_string())
}

/// Runs each Rust example of the library.
pub fn examples(context: &Context) -> StepResult {
    let mut names: Vec<String> = Vec::new();
    if let Ok(entries) = fs::read_dir(context.root.join("omendb/examples")) {
        for path in
            entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "rs"))
        {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    if names.is_empty() {
        return Ok(Outcome::Skipped("omendb/examples holds none".into()));
    }
    context.cargo(&["build", "--locked", "-p", "omendb", "--examples"])?;
    let dir = context.target.join("docs-run").join("examples");
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    for name in &names {
        let mut command = context.command::<_, &str>(context.target.join("debug/examples").join(name), &[]);
        command.current_dir(&dir);
        context.run(command)?;
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_with_their_lines_and_marks() {
        let text = "a\n```bash\nls\n```\n\n````python no_run\n```\nx\n````\n  ```rust,ignore\n  y\n  ```\n";
        let found = blocks(text).unwrap();
        let shown: Vec<_> = found.iter().map(|b| (b.language.as_str(), b.run, b.line, b.text.as_str())).collect();
        assert_eq!(shown, [("bash", true, 3, "ls\n"), ("python", false, 7, "```\nx\n"), ("rust", false, 11, "  y\n")]);
    }

    #[test]
    fn a_fence_without_language_or_end_is_refused() {
        assert!(blocks("x\n```\ny\n```\n").unwrap_err().starts_with("line 2:"));
        assert!(blocks("```rust\ny\n").unwrap_err().starts_with("line 1:"));
    }
}
