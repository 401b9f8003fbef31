//! `recall`: how much of the truth do searches find.

use crate::failure::Result;
use crate::output::{Output, pairs};
use crate::target::{self, Target};
use omendb::SearchOptions;
use serde_json::json;
use std::time::Instant;

/// Measure the recall of searches against exact search
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  omendb recall library.omen
  omendb recall library.omen -c docs --sample 1000 -k 100 --target-recall 0.99 --json

Stored records are the queries; each search is blind to the record that it asks with. Searches find all where nothing
has a graph yet.")]
pub struct Recall {
    #[command(flatten)]
    target: Target,
    /// How many stored records to search with
    #[arg(long, default_value_t = 200)]
    sample: usize,
    /// How many neighbours each search is asked for
    #[arg(short, default_value_t = 10)]
    k: usize,
    /// The recall that the searches are asked for, 0.5 to 1
    #[arg(long, default_value_t = 0.95)]
    target_recall: f32,
    /// Only among records whose metadata passes: an SQL-style condition or a JSON object
    #[arg(long, value_name = "CONDITION")]
    filter: Option<String>,
}

impl Recall {
    /// Measures.
    pub fn run(&self) -> Result<Output> {
        let db = target::read(&self.target.db)?;
        let collection = self.target.collection(&db)?;
        let mut options = SearchOptions::new(self.k).recall(self.target_recall);
        if let Some(filter) = &self.filter {
            options = options.filter(target::filter(filter)?);
        }
        let start = Instant::now();
        let report = collection.recall(self.sample, &options)?;
        let seconds = start.elapsed().as_secs_f64();
        let text = pairs(&[
            ("recall", format!("{:.4} at {} of {} asked for", report.recall, report.k, self.target_recall)),
            ("lowest", format!("{:.4}", report.lowest)),
            ("queries", report.queries.to_string()),
            ("time", format!("{seconds:.2} s")),
        ]);
        Ok(Output::new(text, json!({"recall": report, "seconds": seconds})))
    }
}
