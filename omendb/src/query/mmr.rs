//! Diversity: which of the nearest candidates to show, so that they do not all say the same.
//!
//! Maximal marginal relevance: one after the other, the candidate of the highest
//! `lambda * score(query) - (1 - lambda) * highest score against those chosen before`, in the metric's own scores.

use super::exec::unpack;
use super::topk::Candidate;
use crate::distance::Prepared;
use crate::engine::CollectionState;
use crate::error::{Error, Result};
use crate::record::{Vector, Vectors};
use crate::version::Version;

/// Chooses `count` of `found`, which is sorted by distance.
pub(crate) fn choose(
    collection: &CollectionState,
    version: &Version,
    found: Vec<Candidate>,
    count: usize,
    lambda: f32,
) -> Result<Vec<Candidate>> {
    let metric = collection.schema.metric;
    let vectors = found
        .iter()
        .map(|candidate| match version.source(unpack(candidate.row)) {
            Some((source, row)) => source.vectors(row, 1),
            None => Err(Error::Unusable("a candidate is not in the version it was found in".into())),
        })
        .collect::<Result<Vec<&[u8]>>>()?;
    // The highest score of each candidate against those chosen; what is chosen itself is out of the race.
    let mut closest = vec![f32::NEG_INFINITY; found.len()];
    let mut left: Vec<usize> = (0..found.len()).collect();
    let mut chosen = Vec::with_capacity(count.min(found.len()));
    while chosen.len() < count && !left.is_empty() {
        let value = |index: usize| {
            let relevance = lambda * metric.score(found[index].key);
            if chosen.is_empty() { relevance } else { relevance - (1.0 - lambda) * closest[index] }
        };
        // Of equal values the nearest, which comes first.
        let mut best = 0;
        for place in 1..left.len() {
            if value(left[place]) > value(left[best]) {
                best = place;
            }
        }
        if chosen.is_empty() {
            best = 0;
        }
        let next = left.remove(best);
        let vector = Vector::from_le_bytes(collection.schema.element, vectors[next]);
        let prepared = Prepared::new(&collection.schema, &Vectors::from(&vector), 0);
        for index in &left {
            closest[*index] = closest[*index].max(metric.score(prepared.distance(vectors[*index])));
        }
        chosen.push(found[next]);
    }
    Ok(chosen)
}
