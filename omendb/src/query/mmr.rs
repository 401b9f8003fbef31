//! Diversity: which of the nearest candidates to show, so that they do not all say the same.
//!
//! Maximal marginal relevance: one after the other, the candidate of the highest
//! `lambda * score(query) - (1 - lambda) * highest score against those chosen before`, in the metric's own scores.

use super::exec::Search;
use super::topk::Candidate;
use crate::distance::Prepared;
use crate::error::{Error, Result};
use crate::record::{Vector, Vectors};

/// Chooses `count` of `found`, which is sorted by distance.
pub(crate) fn choose(search: &Search<'_>, found: Vec<Candidate>, count: usize, lambda: f32) -> Result<Vec<Candidate>> {
    let metric = search.schema.metric;
    let vectors = found
        .iter()
        .map(|candidate| {
            let (source, row) = search.source(*candidate)?;
            let lost = || Error::Unusable("a candidate has no vector".into());
            search.stored(source, row)?.ok_or_else(lost)
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
        let vector = Vector::from_le_bytes(search.schema.element, vectors[next]);
        let prepared = Prepared::new(search.schema, &Vectors::from(&vector), 0);
        for index in &left {
            closest[*index] = closest[*index].max(metric.score(prepared.distance(vectors[*index])));
        }
        chosen.push(found[next]);
    }
    Ok(chosen)
}
