//! How was a search carried out: which way each part of the data was searched, and what that cost.

use crate::query::exec::Work;
use crate::record::Hits;
use crate::version::Part;
use serde::Serialize;
use std::time::Duration;

/// How a search was carried out, part by part, and what it found. Made by
/// [`Collection::explain`](crate::Collection::explain), which runs the search.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The segments, oldest first, then the records in memory, if there are any.
    pub parts: Vec<PartPlan>,
    /// Records looked at: nodes of graphs whose neighbours were compared, and rows scanned.
    pub rows_visited: u64,
    /// Distances computed, those between short codes included.
    pub distances: u64,
    /// The recall to expect, 0 to 1: that of each part, weighted by its rows. `None` where `ef` sets the effort or a
    /// graph is too small to be calibrated.
    pub estimated_recall: Option<f32>,
    /// How long the whole search took, its fields fetched, in microseconds.
    pub micros: u64,
    /// What it found.
    #[serde(skip)]
    pub hits: Hits,
}

/// How one part was searched.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartPlan {
    /// The segment's number, or `None` for the records in memory.
    pub segment: Option<u32>,
    /// How.
    pub plan: Plan,
    /// Why it was scanned, or its graph not walked to the end.
    pub reason: Option<&'static str>,
    /// Its live records.
    pub rows: u64,
    /// Those of them that pass the filter, if there is one.
    pub matching: Option<u64>,
    /// As [`Explanation::rows_visited`].
    pub rows_visited: u64,
    /// As [`Explanation::distances`].
    pub distances: u64,
    /// As [`Explanation::estimated_recall`].
    pub estimated_recall: Option<f32>,
    /// Microseconds, the filter included.
    pub micros: u64,
}

/// The ways to search a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Plan {
    /// The segment's graph is walked and the best are compared exactly.
    Graph,
    /// The short codes of every record that passes are compared, and the best exactly.
    Codes,
    /// The lists of the query's ids are gone through, and the records that may be among the best compared: exact.
    Postings,
    /// Every record that passes is compared: exact.
    Scan,
}

impl Plan {
    /// `graph`, `codes`, `postings` or `scan`.
    pub fn name(self) -> &'static str {
        match self {
            Plan::Graph => "graph",
            Plan::Codes => "codes",
            Plan::Postings => "postings",
            Plan::Scan => "scan",
        }
    }
}

/// The parts of a search in progress.
#[derive(Default)]
pub(crate) struct Trace {
    parts: Vec<PartPlan>,
}

impl Trace {
    pub(crate) fn push(&mut self, part: &Part<'_>, work: &Work, took: Duration) {
        let plan = PartPlan {
            segment: part.segment.map(|segment| segment.id_number()),
            plan: work.plan,
            reason: work.reason,
            rows: part.live_rows(),
            matching: work.matching,
            rows_visited: work.visited,
            distances: work.distances,
            estimated_recall: work.expected_recall,
            micros: took.as_micros() as u64,
        };
        match self.parts.last_mut() {
            // Memory is many blocks, but one thing to whoever asks.
            Some(last) if last.segment.is_none() && plan.segment.is_none() => {
                last.rows += plan.rows;
                last.matching = last.matching.zip(plan.matching).map(|(a, b)| a + b);
                last.rows_visited += plan.rows_visited;
                last.distances += plan.distances;
                last.micros += plan.micros;
                if last.rows_visited > 0 {
                    last.reason = Some("the records are in memory");
                }
            }
            _ => self.parts.push(plan),
        }
    }

    pub(crate) fn finish(self, hits: Hits, took: Duration) -> Explanation {
        let rows: u64 = self.parts.iter().map(|part| part.rows).sum();
        let weighted = |part: &PartPlan| Some(f64::from(part.estimated_recall?) * part.rows as f64);
        let sum: Option<f64> = self.parts.iter().map(weighted).sum();
        Explanation {
            rows_visited: self.parts.iter().map(|part| part.rows_visited).sum(),
            distances: self.parts.iter().map(|part| part.distances).sum(),
            estimated_recall: sum.map(|sum| if rows == 0 { 1.0 } else { (sum / rows as f64) as f32 }),
            micros: took.as_micros() as u64,
            parts: self.parts,
            hits,
        }
    }
}
