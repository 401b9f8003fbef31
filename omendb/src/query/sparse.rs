//! Searches by sparse vector: the highest dot products, exactly.

use crate::collection::{Collection, validate_options};
use crate::error::{Error, Result};
use crate::query::exec::{self, Found, Work, drop_excluded, pack};
use crate::query::explain::{Explanation, Plan, Trace};
use crate::query::topk::Candidate;
use crate::record::{Hits, SearchOptions};
use crate::sparse::index::{Best, Rows};
use crate::sparse::{Sparse, SparseQuery};
use crate::version::{Part, Version};
use std::time::Instant;

/// Scanning is the better way where it looks at fewer weights than this share of the postings of the query's ids.
const SCAN_COST: u64 = 2;

impl Collection {
    /// The records whose sparse vectors in `field` have the highest dot products with `query`, exactly. A record whose
    /// product is 0 is no hit, so there may be fewer than `k`.
    ///
    /// [`SearchOptions::recall`], `ef` and `fuse` mean nothing here.
    ///
    /// # Errors
    /// `InvalidInput` for a field that is not one of sparse vectors, and as for [`Collection::search`]; `max_distance`
    /// and `mmr` go with vectors alone.
    pub fn search_sparse(&self, field: &str, query: &Sparse, options: &SearchOptions) -> Result<Hits> {
        let number = self.validate_sparse(field, options)?;
        let found = self.engine().metrics.search.time(|| {
            let version = self.version_for(options.filter.as_ref());
            let found = self.sparse_candidates(&version, number, query, options, options.k + options.offset, None)?;
            self.sparse_hits(&version, field, found, options)
        });
        self.noted(found)
    }

    /// As [`Collection::search_sparse`], and tells how, as [`Collection::explain`] does: a part is searched by its
    /// index or scanned. Rows visited are those scored by their stored vectors; distances are weights multiplied.
    ///
    /// # Errors
    /// As [`Collection::search_sparse`].
    pub fn explain_sparse(&self, field: &str, query: &Sparse, options: &SearchOptions) -> Result<Explanation> {
        let number = self.validate_sparse(field, options)?;
        let version = self.version_for(options.filter.as_ref());
        let (start, mut trace) = (Instant::now(), Trace::default());
        let wanted = options.k + options.offset;
        let found = self.noted(self.sparse_candidates(&version, number, query, options, wanted, Some(&mut trace)))?;
        let hits = self.noted(self.sparse_hits(&version, field, found, options))?;
        Ok(trace.finish(hits, start.elapsed()))
    }

    fn validate_sparse(&self, field: &str, options: &SearchOptions) -> Result<usize> {
        self.readable()?;
        validate_options(options)?;
        if options.max_distance.is_some() || options.mmr.is_some() {
            return Err(Error::invalid(
                "max_distance or mmr was given with a sparse vector; bound the search with min_score",
            ));
        }
        self.schema().sparse_field(field)
    }

    /// The `wanted` best records of a field that are not excluded; keys are negative scores.
    pub(crate) fn sparse_candidates(
        &self,
        version: &Version,
        field: usize,
        query: &Sparse,
        options: &SearchOptions,
        wanted: usize,
        mut trace: Option<&mut Trace>,
    ) -> Result<Found> {
        let query = SparseQuery::new(query);
        let mut best = Best::new(wanted + options.exclude.len(), options.min_score.unwrap_or(f32::NEG_INFINITY));
        let mut whole = version.damaged.is_empty();
        for part in version.parts() {
            let started = trace.is_some().then(Instant::now);
            match self.search_sparse_part(&part, field, &query, options, &mut best) {
                Ok(work) => {
                    if let (Some(trace), Some(started)) = (&mut trace, started) {
                        trace.push(&part, &work, started.elapsed());
                    }
                }
                // A degraded version answers from what is whole, and says that it may not be complete.
                Err(Error::Corrupt { .. }) if !version.damaged.is_empty() => whole = false,
                Err(e) => return Err(e),
            }
        }
        let mut candidates = best.into_sorted();
        drop_excluded(version, options, &mut candidates)?;
        candidates.truncate(wanted);
        Ok(Found { candidates: vec![candidates], whole })
    }

    fn search_sparse_part(
        &self,
        part: &Part<'_>,
        field: usize,
        query: &SparseQuery,
        options: &SearchOptions,
        best: &mut Best,
    ) -> Result<Work> {
        let matching = options.filter.as_ref().map(|filter| part.live_matching(filter)).transpose()?;
        let rows = matching.as_ref().map_or_else(|| part.live_rows(), |m| m.len());
        let passes = |row: u32| matching.as_ref().map_or_else(|| part.is_live(row), |m| m.rows.contains(row));
        let name = |row: u32| pack(part.location(row));
        let asked = Rows { source: part.rows, field, allowed: &passes, name: &name };
        let index = part.segment.map(|segment| self.engine().sparse_index(segment, field));
        let reason = match &index {
            _ if rows == 0 => "nothing passes the filter",
            None => "the records are in memory",
            Some(None) => "the segment has no index of the field yet",
            Some(Some(index)) if rows * index.weights_a_row() * SCAN_COST < index.postings_of(query) => {
                "few rows pass the filter"
            }
            Some(Some(index)) => {
                let effort = index.search(query, &asked, best)?;
                return Ok(Work {
                    plan: Plan::Postings,
                    reason: None,
                    matching: matching.map(|m| m.len()),
                    visited: effort.scored,
                    distances: effort.postings,
                    expected_recall: Some(1.0),
                });
            }
        };
        match &matching {
            Some(matching) => matching.rows.iter().try_for_each(|row| asked.score(query, row, best))?,
            None => part.live_runs().into_iter().flatten().try_for_each(|row| asked.score(query, row, best))?,
        }
        Ok(Work {
            plan: Plan::Scan,
            reason: Some(reason),
            matching: matching.map(|m| m.len()),
            visited: rows,
            distances: rows * query.entries().len() as u64,
            expected_recall: Some(1.0),
        })
    }

    fn sparse_hits(&self, version: &Version, field: &str, found: Found, options: &SearchOptions) -> Result<Hits> {
        let Found { candidates, whole } = found;
        let chosen = candidates.into_iter().flatten().skip(options.offset).take(options.k);
        let hits = chosen
            .map(|Candidate { key, row }| {
                let mut hit = exec::hit(&self.state, version, row, options.include)?;
                (hit.distance, hit.score) = (key, -key);
                hit.field_scores.insert(field.to_owned(), -key);
                Ok(hit)
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Hits { complete: whole && hits.len() < options.k, hits })
    }
}
