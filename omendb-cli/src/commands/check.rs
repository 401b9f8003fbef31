//! `check`: whether the files are whole.

use crate::failure::{Failure, Result};
use crate::output::{Output, bytes, count};
use crate::target;
use omendb::{CheckReport, Options};
use std::path::{Path, PathBuf};

/// Check that the database is whole
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  omendb check library.omen          names, lengths, footers
  omendb check library.omen --deep   every byte and every invariant

Ends with 1 if there are problems. `omendb salvage` copies what is whole into a new database.")]
pub struct Check {
    /// Directory of the database
    db: PathBuf,
    /// Read every byte and check every invariant
    #[arg(long)]
    deep: bool,
}

impl Check {
    /// Checks the database. One that cannot be opened as it is, is opened in degraded mode, so that all its damage is
    /// told.
    pub fn run(&self, json: bool) -> Result<Output> {
        let db = match target::read(&self.db) {
            Err(Failure::Engine(omendb::Error::Corrupt { .. })) => {
                Options::new().create(false).read_only(true).degraded(true).open(&self.db)?
            }
            other => other?,
        };
        finish(&self.db, "checked", db.check(self.deep)?, json)
    }
}

/// The output of a check; problems are printed and end the command with 1.
pub fn finish(path: &Path, verb: &str, report: CheckReport, json: bool) -> Result<Output> {
    let figures = format!("{} files, {}, {} records", count(report.files), bytes(report.bytes), count(report.records));
    let value = serde_json::to_value(&report).unwrap_or_default();
    if report.problems.is_empty() {
        return Ok(Output::new(format!("{verb} {}: {figures}, no problem found", path.display()), value));
    }
    let problems = report.problems.join("\n  ");
    Output::new(format!("{verb} {}: {figures}\n  {problems}", path.display()), value).print(json)?;
    Err(Failure::Problems(format!(
        "{} problems found in {}; copy what is whole with `omendb salvage {} NEW`",
        report.problems.len(),
        path.display(),
        path.display()
    )))
}
