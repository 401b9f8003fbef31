//! Every dependency's licence is one of those deny.toml allows, and comes from the default registry.

use crate::runner::{Context, Outcome, StepResult};
use serde_json::Value;

/// Checks what `cargo metadata` says of the dependencies.
pub fn run(context: &Context) -> StepResult {
    let deny = std::fs::read_to_string(context.root.join("deny.toml")).map_err(|e| format!("deny.toml: {e}"))?;
    let allowed = allow_list(&deny)?;
    let json = context.output(context.cargo_command(&["metadata", "--format-version", "1", "--locked", "--quiet"]))?;
    let metadata: Value = serde_json::from_slice(&json).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    let mut problems = Vec::new();
    let mut count = 0;
    for package in packages {
        let name =
            format!("{} {}", package["name"].as_str().unwrap_or("?"), package["version"].as_str().unwrap_or("?"));
        let Some(source) = package["source"].as_str() else { continue };
        count += 1;
        if !source.starts_with("registry+") {
            problems.push(format!("{name} comes from {source}, not from the registry"));
        }
        match package["license"].as_str() {
            Some(licence) if satisfied(licence, &allowed) => {}
            Some(licence) => problems.push(format!("{name} is under {licence}, which deny.toml does not allow")),
            None => problems.push(format!("{name} declares no licence")),
        }
    }
    if problems.is_empty() {
        println!("{count} dependencies, all under permissive licences");
        Ok(Outcome::Done)
    } else {
        Err(problems.join("\n"))
    }
}

/// Runs cargo-deny over deny.toml where it is installed.
pub fn deny(context: &Context) -> StepResult {
    let mut probe = context.cargo_command(&["deny", "--version"]);
    let there = probe.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        return Ok(Outcome::Skipped("cargo-deny is not installed; `licences` has checked the same list".into()));
    }
    context.cargo(&["deny", "--offline", "check", "bans", "licenses", "sources"])?;
    Ok(Outcome::Done)
}

/// The strings of deny.toml's `allow = [...]`.
fn allow_list(toml: &str) -> Result<Vec<String>, String> {
    let start = toml.find("\nallow = [").ok_or("deny.toml has no `allow = [` list")?;
    let list = &toml[start..];
    let end = list.find(']').ok_or("deny.toml's `allow` list does not end")?;
    Ok(list[..end].split('"').skip(1).step_by(2).map(String::from).collect())
}

/// Whether an SPDX expression can be satisfied with the allowed licences alone.
fn satisfied(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Spdx { tokens: &tokens, allowed };
    parser.any_of() == Some(true) && parser.tokens.is_empty()
}

/// A parser of SPDX expressions: OR binds weaker than AND, AND weaker than WITH.
struct Spdx<'a> {
    tokens: &'a [&'a str],
    allowed: &'a [String],
}

impl Spdx<'_> {
    fn accept(&mut self, word: &str) -> bool {
        let found = self.tokens.first().is_some_and(|token| token.eq_ignore_ascii_case(word));
        if found {
            self.tokens = &self.tokens[1..];
        }
        found
    }

    fn any_of(&mut self) -> Option<bool> {
        let mut value = self.all_of()?;
        while self.accept("OR") {
            value |= self.all_of()?;
        }
        Some(value)
    }

    fn all_of(&mut self) -> Option<bool> {
        let mut value = self.one()?;
        while self.accept("AND") {
            value &= self.one()?;
        }
        Some(value)
    }

    fn one(&mut self) -> Option<bool> {
        if self.accept("(") {
            let value = self.any_of()?;
            return self.accept(")").then_some(value);
        }
        let (name, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        let mut name = (*name).to_string();
        if self.accept("WITH") {
            let (exception, rest) = self.tokens.split_first()?;
            self.tokens = rest;
            name = format!("{name} WITH {exception}");
        }
        Some(self.allowed.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_judged_as_spdx_says() {
        let allowed = allow_list("\nallow = [\n \"MIT\", \"Apache-2.0\", \"Apache-2.0 WITH LLVM-exception\"]").unwrap();
        let good = [
            "MIT",
            "MIT/GPL-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "GPL-3.0 OR MIT",
            "(MIT OR GPL-2.0) AND Apache-2.0",
            "GPL-2.0 AND Apache-2.0 OR MIT",
        ];
        for expression in good {
            assert!(satisfied(expression, &allowed), "{expression}");
        }
        for expression in ["AGPL-3.0", "MIT AND GPL-3.0", "MIT WITH odd-exception", "", "(MIT", "MIT MIT", "MIT OR"] {
            assert!(!satisfied(expression, &allowed), "{expression}");
        }
    }
}
