//! What recall do searches really have: stored records as queries, compared with exact search.

use super::exec::Search;
use crate::engine::CollectionState;
use crate::error::{Error, Result};
use crate::idmap::Location;
use crate::index::graph::mix;
use crate::record::{SearchOptions, Vector, Vectors};
use crate::version::Version;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The recall of searches, measured. Made by [`Collection::recall`](crate::Collection::recall).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct RecallReport {
    /// The share of the true `k` nearest that was found, the mean over all queries; 1 where there is no record.
    pub recall: f32,
    /// That of the worst query.
    pub lowest: f32,
    /// Queries measured.
    pub queries: usize,
    /// Neighbours each was asked for.
    pub k: usize,
}

/// Queries that share one exact scan.
const GROUP: usize = 16;

/// Measures with `sample` live records as queries. Each search is blind to the record that it asks with.
pub(crate) fn recall(
    collection: &CollectionState,
    version: &Version,
    sample: usize,
    options: &SearchOptions,
) -> Result<RecallReport> {
    let (k, filter) = (options.k, options.filter.clone());
    let (recall, ef, using) = (options.recall, options.ef, options.using.clone());
    let options = SearchOptions { recall, ef, filter, using, ..SearchOptions::new(k) };
    let exact = SearchOptions { recall: 1.0, ef: None, k: k + 1, ..options.clone() };
    let (search, exact) = (Search::new(collection, version, &options)?, Search::new(collection, version, &exact)?);
    let picks = sampled(version, sample);
    let groups: Vec<&[Location]> = picks.chunks(GROUP).collect();
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<f32>> {
        let mut recalls = Vec::new();
        while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
            recalls.extend(measured(&search, &exact, group)?);
        }
        Ok(recalls)
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(groups.len());
    let recalls = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = vec![work()];
        let panicked = |_| Err(Error::Unusable("a measuring thread panicked".into()));
        done.extend(helpers.into_iter().map(|helper| helper.join().unwrap_or_else(panicked)));
        done.into_iter().collect::<Result<Vec<_>>>()
    })?;
    let recalls = recalls.concat();
    let sum: f64 = recalls.iter().map(|recall| f64::from(*recall)).sum();
    Ok(RecallReport {
        recall: if recalls.is_empty() { 1.0 } else { (sum / recalls.len() as f64) as f32 },
        lowest: recalls.iter().copied().fold(1.0, f32::min),
        queries: recalls.len(),
        k,
    })
}

/// The recall of each query of a group.
fn measured(search: &Search<'_>, exact: &Search<'_>, group: &[Location]) -> Result<Vec<f32>> {
    let schema = search.schema;
    let (mut bytes, mut asked) = (Vec::with_capacity(group.len() * schema.stride()), Vec::new());
    for at in group {
        let source = search.version.source(*at);
        let (source, row) = source.ok_or_else(|| Error::Unusable("a sampled record is not in its version".into()))?;
        match search.stored(source, row)? {
            Some(vector) => bytes.extend_from_slice(vector),
            None => continue,
        }
        asked.push(*at);
    }
    let vectors = Vector::from_le_bytes(schema.element, &bytes);
    let queries = Vectors::from(&vectors);
    let truth = exact.candidates(&queries, 0..asked.len(), None)?.candidates;
    let mut recalls = Vec::with_capacity(asked.len());
    for (query, (at, mut truth)) in asked.iter().zip(truth).enumerate() {
        truth.retain(|candidate| candidate.row != super::exec::pack(*at));
        truth.truncate(search.options.k);
        let Some(limit) = truth.last().map(|last| last.key) else { continue };
        let blind = Search { hidden: Some(*at), ..*search };
        let found = blind.candidates(&queries, query..query + 1, None)?.candidates;
        // Of several records at the last one's distance, each is as right as the other.
        let right = found.iter().flatten().filter(|candidate| candidate.key <= limit).count();
        recalls.push(right.min(truth.len()) as f32 / truth.len() as f32);
    }
    Ok(recalls)
}

/// Live records, spread evenly: the same ones for the same version.
fn sampled(version: &Version, sample: usize) -> Vec<Location> {
    let total = version.live_rows();
    let sample = (sample as u64).min(total);
    // One of each of `sample` equal stretches, drawn at random: a fixed step may fall in with an order of the data.
    let mut wanted = (0..sample)
        .map(|index| {
            let (from, to) = (index * total / sample, (index + 1) * total / sample);
            from + mix(total, index) % (to - from)
        })
        .peekable();
    let mut picks = Vec::with_capacity(sample as usize);
    let mut passed = 0;
    for part in version.parts() {
        for run in part.live_runs() {
            let rows = u64::from(run.end - run.start);
            while let Some(place) = wanted.next_if(|place| *place < passed + rows) {
                picks.push(part.location(run.start + (place - passed) as u32));
            }
            passed += rows;
        }
    }
    picks
}
