//! `backup`, `verify-backup`, `restore`, `salvage`: one database becomes another.

use super::check;
use crate::failure::{Failure, Result};
use crate::output::{Output, bytes, count};
use crate::target;
use std::path::PathBuf;

/// Copy a database consistently, while it may be in use by readers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  omendb backup library.omen /backups/library-2026-11-21.omen
  omendb verify-backup /backups/library-2026-11-21.omen")]
pub struct Backup {
    /// Directory of the database
    db: PathBuf,
    /// Directory of the copy; must not exist
    copy: PathBuf,
}

impl Backup {
    /// Makes the copy.
    pub fn run(&self) -> Result<Output> {
        let report = target::write(&self.db)?.backup(&self.copy)?;
        let text = format!(
            "copied {} files, {}, {} records to {}",
            count(report.files),
            bytes(report.bytes),
            count(report.records),
            self.copy.display()
        );
        Ok(Output::new(text, serde_json::to_value(&report).unwrap_or_default()))
    }
}

/// Read a backup whole and check every byte of it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  omendb verify-backup /backups/library-2026-11-21.omen

Ends with 1 if there are problems.")]
pub struct VerifyBackup {
    /// Directory of the backup
    copy: PathBuf,
}

impl VerifyBackup {
    /// Checks the copy.
    pub fn run(&self, json: bool) -> Result<Output> {
        check::finish(&self.copy, "verified", omendb::verify_backup(&self.copy)?, json)
    }
}

/// Make a database from a backup, after checking the backup
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  omendb restore /backups/library-2026-11-21.omen library.omen")]
pub struct Restore {
    /// Directory of the backup
    copy: PathBuf,
    /// Directory of the new database; must not exist
    db: PathBuf,
}

impl Restore {
    /// Makes the database.
    pub fn run(&self, json: bool) -> Result<Output> {
        check::finish(&self.db, "restored", omendb::restore(&self.copy, &self.db)?, json)
    }
}

/// Copy what is whole of a damaged database into a new one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  omendb salvage damaged.omen saved.omen

The damaged database is only read. Ends with 1 if records were lost; what was saved is saved all the same.")]
pub struct Salvage {
    /// Directory of the damaged database
    db: PathBuf,
    /// Directory of the new database; must not exist
    saved: PathBuf,
}

impl Salvage {
    /// Saves what can be saved.
    pub fn run(&self, json: bool) -> Result<Output> {
        let report = omendb::salvage(&self.db, &self.saved)?;
        let mut text = format!(
            "saved {} records of {} collections to {}, lost {}",
            count(report.records_saved),
            count(report.collections),
            self.saved.display(),
            count(report.records_lost)
        );
        for problem in &report.problems {
            text.push_str("\n  ");
            text.push_str(problem);
        }
        let output = Output::new(text, serde_json::to_value(&report).unwrap_or_default());
        if report.records_lost == 0 {
            return Ok(output);
        }
        output.print(json)?;
        Err(Failure::Problems(format!(
            "{} records of {} could not be saved; restore a backup if you need them",
            report.records_lost,
            self.db.display()
        )))
    }
}
