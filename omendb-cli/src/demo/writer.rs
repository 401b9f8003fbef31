//! The process that `demo` kills: it writes words and tells which are acknowledged.

use super::COLLECTION;
use super::bundle::Bundle;
use crate::failure::{Result, invalid};
use crate::output::{self, Output};
use crate::target;
use serde_json::Value;
use std::path::PathBuf;

/// Write the words from a position on, in small batches, until killed; print the position after each acknowledged
/// batch.
#[derive(Debug, clap::Args)]
pub struct DemoWriter {
    /// Directory of the database
    db: PathBuf,
    /// Position of the first word
    from: usize,
}

impl DemoWriter {
    /// Writes until there is nothing left or the process is killed.
    pub fn run(&self) -> Result<Output> {
        let bundle = Bundle::load()?;
        let db = target::write(&self.db)?;
        let words = db.collection(COLLECTION)?;
        if self.from > bundle.len() {
            return Err(invalid(format!("word {} given; there are {}", self.from, bundle.len())));
        }
        let mut next = self.from;
        output::line("ready")?;
        // One word, then two, then four: acknowledgements of different sizes.
        for size in [1usize, 2, 4].into_iter().cycle() {
            let end = (next + size).min(bundle.len());
            if next == end {
                break;
            }
            words.upsert(bundle.batch(next..end)?)?;
            next = end;
            output::line(&next.to_string())?;
        }
        db.close()?;
        Ok(Output::new("", Value::Null))
    }
}
