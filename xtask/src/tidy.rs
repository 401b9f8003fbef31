//! Rules a compiler does not hold: layout, where unsafe code may lie, and that documents and fuzz targets keep up.

use crate::docs;
use crate::lexer::{code_only, has_word};
use crate::runner::{Context, Outcome, StepResult};
use std::fs;
use std::path::{Path, PathBuf};

/// Longest line of a source file, in characters.
const MAX_LINE: usize = 120;
/// The same where the line holds a string or a table, which are easier to search for in one piece.
const MAX_LITERAL_LINE: usize = 170;
/// Longest source file, in lines before its tests.
const MAX_FILE: usize = 800;
/// Longest function, in lines.
const MAX_FUNCTION: usize = 90;
/// Where unsafe code may lie: the distance kernels, the memory map, and tests that stand in for the hardware.
const UNSAFE_ALLOWED: &[&str] = &[
    "omendb/src/distance/",
    "omendb/src/storage/mmap.rs",
    "omendb/tests/power_cut.rs",
    "omendb/tests/concurrency/processes.rs",
];
/// Directories that hold nothing of ours.
const SKIPPED_DIRS: &[&str] = &["target", "node_modules", "__pycache__", "corpus", "artifacts", "coverage", "dist"];
/// Marks of unfinished work, split here so that this file does not hold them.
const MARKS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
/// Macros of unfinished work.
const UNFINISHED: &[&str] = &["dbg!", "todo!", "unimplemented!"];

/// Checks every rule and reports all that is wrong, not just the first.
pub fn run(context: &Context) -> StepResult {
    let root = &context.root;
    let mut files = Vec::new();
    walk(root, &mut files).map_err(|e| format!("{}: {e}", root.display()))?;
    files.sort();
    let mut problems = Vec::new();
    let mut lines = 0;
    for path in &files {
        let name = path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/");
        let Ok(text) = fs::read_to_string(path) else { continue };
        lines += text.lines().count();
        if name.ends_with(".rs") {
            problems.extend(check_rust(&name, &text));
        }
        if [".rs", ".py", ".sh", ".toml"].iter().any(|ending| name.ends_with(ending)) {
            problems.extend(check_lines(&name, &text));
        }
    }
    problems.extend(check_fuzz_corpus(root));
    for path in docs::documents(root) {
        problems.extend(check_links(&path));
    }
    if problems.is_empty() {
        println!("{} files, {lines} lines", files.len());
        Ok(Outcome::Done)
    } else {
        Err(format!("{} problems\n{}", problems.len(), problems.join("\n")))
    }
}

/// The files under `dir`, without hidden ones and what others wrote.
fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || SKIPPED_DIRS.contains(&name.as_str()) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Rules of every source file.
fn check_lines(name: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let width = line.chars().count();
        let most = if line.contains(['"', '|', '`']) { MAX_LITERAL_LINE } else { MAX_LINE };
        if width > most {
            problems.push(format!("{name}:{}: {width} characters; a line has at most {most}", n + 1));
        }
        if line.ends_with([' ', '\t']) {
            problems.push(format!("{name}:{}: the line ends in blanks", n + 1));
        }
        for mark in MARKS.iter().filter(|mark| has_word(line, mark)) {
            problems.push(format!("{name}:{}: {mark}; finish it or open an issue", n + 1));
        }
    }
    problems
}

/// Rules of Rust files.
fn check_rust(name: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !text.trim_start().starts_with("//!") {
        problems.push(format!("{name}:1: begin with a `//!` line that says what the file answers"));
    }
    let code = code_only(text);
    let before_tests = code.lines().position(|line| line.starts_with("#[cfg(test)]")).unwrap_or(code.lines().count());
    if before_tests > MAX_FILE && !name.contains("/tests/") {
        problems.push(format!("{name}: {before_tests} lines before its tests; split it, {MAX_FILE} is the most"));
    }
    let unsafe_allowed = UNSAFE_ALLOWED.iter().any(|place| name.starts_with(place));
    for (n, line) in code.lines().enumerate() {
        if !unsafe_allowed && has_word(line, "unsafe") {
            problems.push(format!("{name}:{}: unsafe code belongs in {}", n + 1, UNSAFE_ALLOWED.join(", ")));
        }
        for name_of_macro in UNFINISHED.iter().filter(|m| line.contains(*m)) {
            problems.push(format!("{name}:{}: {name_of_macro}", n + 1));
        }
    }
    for (line, length) in long_functions(&code) {
        problems.push(format!("{name}:{line}: a function of {length} lines; {MAX_FUNCTION} is the most"));
    }
    problems
}

/// (line, length) of the functions that are too long, in code formatted by rustfmt: a function's closing brace stands
/// in the column of its first word.
fn long_functions(code: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        if !has_word(line, "fn") || !starts_function(line) {
            continue;
        }
        let column = indent(line);
        let end = lines[n..].iter().position(|l| indent(l) == column && l.trim_start().starts_with('}'));
        let next = lines[n + 1..].iter().position(|l| indent(l) == column && starts_function(l)).unwrap_or(usize::MAX);
        // a declaration without a body has no brace before the next function
        if let Some(length) = end.filter(|&end| end <= next)
            && length + 1 > MAX_FUNCTION
        {
            found.push((n + 1, length + 1));
        }
    }
    found
}

/// Whether a function begins on this line.
fn starts_function(line: &str) -> bool {
    let before = line.split("fn ").next().unwrap_or("");
    line.contains("fn ")
        && before.split_whitespace().all(|word| {
            word.starts_with("pub") || ["const", "async", "unsafe", "extern", "crate)", "super)"].contains(&word)
        })
}

/// Every fuzz target has a corpus to replay.
fn check_fuzz_corpus(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.join("fuzz/fuzz_targets")) else { return Vec::new() };
    let mut problems = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let corpus = root.join("fuzz/corpus").join(&name);
        if !fs::read_dir(&corpus).is_ok_and(|mut inputs| inputs.next().is_some()) {
            problems.push(format!("fuzz/fuzz_targets/{name}.rs: fuzz/corpus/{name}/ holds no input"));
        }
    }
    problems
}

/// Every relative link of a document leads to a file.
fn check_links(path: &Path) -> Vec<String> {
    let Ok(text) = fs::read_to_string(path) else { return Vec::new() };
    let dir = path.parent().unwrap_or(Path::new(""));
    let mut problems = Vec::new();
    for (n, line) in text.lines().enumerate() {
        for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or("");
            if !target.is_empty() && !target.contains(':') && !dir.join(target).exists() {
                problems.push(format!("{}:{}: the link {link} leads nowhere", path.display(), n + 1));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_of_rust_files_can_fail() {
        assert!(check_rust("omendb/src/a.rs", "//! A.\nfn a() {}\n").is_empty());
        assert_eq!(check_rust("omendb/src/a.rs", "fn a() {}\n").len(), 1);
        assert_eq!(check_rust("omendb/src/a.rs", "//! A.\nfn a() { unsafe {} }\n").len(), 1);
        assert!(check_rust("omendb/src/storage/mmap.rs", "//! A.\nfn a() { unsafe {} }\n").is_empty());
        assert!(check_rust("omendb/src/a.rs", "//! A.\n// unsafe\nfn a() { \"unsafe\" }\n").is_empty());
        assert_eq!(check_rust("a.rs", &format!("//! A.\nfn a() {{ {}!(x) }}\n", "dbg")).len(), 1);
        let long = "// x\n".repeat(MAX_FILE);
        assert_eq!(check_rust("a.rs", &format!("//! A.\n{long}")).len(), 1);
        assert!(check_rust("a.rs", &format!("//! A.\n#[cfg(test)]\n{long}")).is_empty());
    }

    #[test]
    fn each_rule_of_lines_can_fail() {
        assert!(check_lines("a.py", &"é".repeat(MAX_LINE)).is_empty());
        assert_eq!(check_lines("a.py", &"x".repeat(MAX_LINE + 1)).len(), 1);
        assert_eq!(check_lines("a.py", "x \n").len(), 1);
        assert_eq!(check_lines("a.py", concat!("# TO", "DO: x")).len(), 1);
    }

    #[test]
    fn long_functions_are_found_and_declarations_are_not() {
        let body = "        x();\n".repeat(MAX_FUNCTION);
        let code =
            format!("trait T {{\n    fn b(&self);\n    pub(crate) fn a() {{\n{body}    }}\n    fn c() {{}}\n}}\n");
        assert_eq!(long_functions(&code), [(3, MAX_FUNCTION + 2)]);
    }
}
