//! `stats`: what the database holds, where its bytes are, how fast it was.

use crate::failure::Result;
use crate::output::{self, Output, bytes, count, pairs};
use crate::target;
use serde_json::json;
use std::path::PathBuf;

/// Show what the database holds and where its bytes are
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  omendb stats library.omen
  omendb stats library.omen --json
  omendb stats library.omen --prometheus")]
pub struct Stats {
    /// Directory of the database
    db: PathBuf,
    /// Print the figures in the Prometheus text format
    #[arg(long)]
    prometheus: bool,
}

impl Stats {
    /// Reads the figures.
    pub fn run(&self) -> Result<Output> {
        let db = target::read(&self.db)?;
        let mut stats = db.stats();
        let recovery = db.recovery();
        stats.collections.retain(|c| c.name != target::IMPORTS);
        stats.records = stats.collections.iter().map(|c| c.records).sum();
        let json = json!({"stats": stats, "recovery": recovery});
        if self.prometheus {
            return Ok(Output::new(stats.to_prometheus().trim_end(), json));
        }
        let mut table =
            output::table(&["collection", "records", "dim", "metric", "element", "deleted", "segments", "in memory"]);
        for c in &stats.collections {
            table.add_row([
                c.name.clone(),
                count(c.records),
                c.dim.to_string(),
                c.metric.clone(),
                c.element.clone(),
                count(c.deleted),
                count(c.segments),
                count(c.memtable_records),
            ]);
        }
        let mut rows = vec![
            ("database", self.db.display().to_string()),
            ("records", count(stats.records)),
            ("data", bytes(stats.bytes_data)),
            ("index", bytes(stats.bytes_index)),
            ("text", bytes(stats.bytes_text)),
            ("log", format!("{}, {} to recover", bytes(stats.bytes_log), bytes(stats.log_lag_bytes))),
            ("tombstones, manifest", format!("{}, {}", bytes(stats.bytes_tombstones), bytes(stats.bytes_manifest))),
            ("memory", format!("{} of {}", bytes(stats.memory_used), bytes(stats.memory_budget))),
            (
                "opened in",
                format!("{:.1} ms, {} records from the log", recovery.micros as f64 / 1000.0, count(recovery.records)),
            ),
        ];
        if !stats.damaged.is_empty() {
            rows.push(("damaged", stats.damaged.join(", ")));
        }
        Ok(Output::new(format!("{}\n{table}", pairs(&rows)), json))
    }
}
