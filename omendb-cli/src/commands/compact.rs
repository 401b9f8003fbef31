//! `compact`: rewrite what is left of segments with deleted records.

use crate::failure::Result;
use crate::output::{Output, bytes, pairs};
use crate::target::{self, Target};
use omendb::Stats;
use serde_json::json;
use std::time::Instant;

/// Rewrite the database without its deleted records
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  omendb compact library.omen            all collections
  omendb compact library.omen -c docs    one of them

Deleted records are gone from the files afterwards: vector, metadata and text.")]
pub struct Compact {
    #[command(flatten)]
    target: Target,
}

impl Compact {
    /// Compacts, and tells what it freed.
    pub fn run(&self) -> Result<Output> {
        let db = target::write(&self.target.db)?;
        let before = db.stats();
        let start = Instant::now();
        match &self.target.collection {
            Some(name) => db.collection(name)?.compact()?,
            None => db.compact()?,
        }
        let after = db.stats();
        let seconds = start.elapsed().as_secs_f64();
        db.close()?;
        let deleted = |stats: &Stats| stats.collections.iter().map(|c| c.deleted).sum::<u64>();
        let segments = |stats: &Stats| stats.collections.iter().map(|c| c.segments).sum::<u64>();
        let text = pairs(&[
            ("data", format!("{} -> {}", bytes(before.bytes_data), bytes(after.bytes_data))),
            ("segments", format!("{} -> {}", segments(&before), segments(&after))),
            ("deleted records", format!("{} -> {}", deleted(&before), deleted(&after))),
            ("time", format!("{seconds:.2} s")),
        ]);
        let json = json!({
            "seconds": seconds,
            "bytes_data": {"before": before.bytes_data, "after": after.bytes_data},
            "segments": {"before": segments(&before), "after": segments(&after)},
            "deleted": {"before": deleted(&before), "after": deleted(&after)},
        });
        Ok(Output::new(text, json))
    }
}
