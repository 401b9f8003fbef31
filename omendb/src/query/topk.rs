//! Which k candidates are the best so far?

use std::cmp::Ordering;

/// A row and how good it is.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Lower is better: a distance, or a key in the order of distances.
    pub key: f32,
    /// Which row; of equal keys the lower one is better.
    pub row: u64,
}

impl Ord for Candidate {
    /// Best first. Total: a NaN comes last.
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.total_cmp(&other.key).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// The `k` best candidates of those pushed: the same ones in whatever order they come.
///
/// Candidates gather in a buffer; when it is full the k best are selected and the rest dropped. That costs the same few
/// comparisons a candidate for any `k` and any order.
#[derive(Debug, Clone)]
pub struct TopK {
    k: usize,
    candidates: Vec<Candidate>,
    /// The worst of the `k` best at the last selection; nothing that is not better can be among the answers.
    bound: Option<Candidate>,
    /// Nothing farther can be among the answers either.
    radius: f32,
}

/// Room beside the `k` best, so that a small `k` does not select at every push.
const MIN_SLACK: usize = 32;

impl TopK {
    /// Keeps the `k` best.
    pub fn new(k: usize) -> TopK {
        TopK { k, candidates: Vec::with_capacity(k.min(MIN_SLACK)), bound: None, radius: f32::INFINITY }
    }

    /// Keeps the `k` best of those whose keys are at most `radius`.
    pub fn within(k: usize, radius: f32) -> TopK {
        let bound = Candidate { key: radius, row: u64::MAX };
        TopK { bound: (radius < f32::INFINITY).then_some(bound), radius, ..TopK::new(k) }
    }

    /// The key that none of the answers exceeds.
    pub fn radius(&self) -> f32 {
        self.radius
    }

    /// How many are kept.
    pub fn k(&self) -> usize {
        self.k
    }

    /// A key above this cannot be among the answers; one at or below it may. Only ever falls.
    #[inline]
    pub fn threshold(&self) -> f32 {
        self.bound.map_or(f32::INFINITY, |bound| bound.key.min(f32::INFINITY))
    }

    /// Offers a candidate.
    #[inline]
    pub fn push(&mut self, key: f32, row: u64) {
        let candidate = Candidate { key, row };
        if self.bound.is_none_or(|bound| candidate < bound) {
            self.candidates.push(candidate);
            if self.candidates.len() >= self.k + self.k.max(MIN_SLACK) {
                self.select();
            }
        }
    }

    /// Offers one candidate a key: row `first_row` for the first key, and so on.
    pub fn push_consecutive(&mut self, keys: &[f32], first_row: u64) {
        const STEP: usize = 16;
        let mut row = first_row;
        for keys in keys.chunks(STEP) {
            let threshold = self.threshold();
            // One test for sixteen keys: most blocks of a long scan hold no candidate at all.
            if self.bound.is_none() || keys.iter().fold(false, |any, key| any | (*key <= threshold)) {
                for (key, row) in keys.iter().zip(row..) {
                    self.push(*key, row);
                }
            }
            row += STEP as u64;
        }
    }

    /// Takes over the candidates of another.
    pub fn merge(&mut self, other: TopK) {
        for candidate in other.candidates {
            self.push(candidate.key, candidate.row);
        }
    }

    /// The best candidates, best first: at most `k`.
    pub fn into_sorted(mut self) -> Vec<Candidate> {
        if self.candidates.len() > self.k {
            self.select();
        }
        self.candidates.sort_unstable();
        self.candidates
    }

    /// Drops all but the `k` best.
    fn select(&mut self) {
        match self.k.checked_sub(1) {
            None => self.candidates.clear(),
            Some(last) if last < self.candidates.len() => {
                let (_, worst, _) = self.candidates.select_nth_unstable(last);
                self.bound = Some(*worst);
                self.candidates.truncate(self.k);
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator of numbers that repeat from run to run.
    fn numbers(mut state: u64) -> impl FnMut() -> u64 {
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        }
    }

    fn expected(keys: &[f32], k: usize) -> Vec<Candidate> {
        let mut all: Vec<_> = keys.iter().zip(0..).map(|(key, row)| Candidate { key: *key, row }).collect();
        all.sort();
        all.truncate(k);
        all
    }

    #[test]
    fn the_k_best_are_kept_and_equal_keys_are_ordered_by_row() {
        let mut next = numbers(1);
        for n in [0, 1, 15, 16, 17, 100, 5_000] {
            // Few distinct keys, so that ties cross every boundary.
            let keys: Vec<f32> = (0..n).map(|_| (next() % 50) as f32 - 25.0).collect();
            for k in [0, 1, 2, 10, 33, 99, 100, 101, 6_000] {
                let mut one_by_one = TopK::new(k);
                let mut backwards = TopK::new(k);
                let mut blocks = TopK::new(k);
                for (i, key) in keys.iter().enumerate() {
                    one_by_one.push(*key, i as u64);
                }
                for (i, key) in keys.iter().enumerate().rev() {
                    backwards.push(*key, i as u64);
                }
                for (i, keys) in keys.chunks(100).enumerate() {
                    blocks.push_consecutive(keys, i as u64 * 100);
                }
                let expected = expected(&keys, k);
                assert_eq!(one_by_one.into_sorted(), expected);
                assert_eq!(backwards.into_sorted(), expected);
                assert_eq!(blocks.into_sorted(), expected);
            }
        }
    }

    #[test]
    fn merging_parts_gives_the_whole() {
        let mut next = numbers(2);
        let keys: Vec<f32> = (0..3_000).map(|_| (next() % 500) as f32).collect();
        for k in [1, 10, 700] {
            let mut parts: Vec<TopK> = (0..7).map(|_| TopK::new(k)).collect();
            for (i, key) in keys.iter().enumerate() {
                parts[i % 7].push(*key, i as u64);
            }
            let mut whole = TopK::new(k);
            while let Some(part) = parts.pop() {
                whole.merge(part);
            }
            assert_eq!(whole.into_sorted(), expected(&keys, k));
        }
    }

    #[test]
    fn within_a_radius_nothing_farther_is_kept() {
        let mut next = numbers(4);
        let keys: Vec<f32> = (0..2_000).map(|_| (next() % 100) as f32).collect();
        for (k, radius) in [(10, 5.0), (10, 0.0), (5_000, 50.0), (5_000, 49.5), (3, -1.0), (100, f32::INFINITY)] {
            let mut top = TopK::within(k, radius);
            top.push_consecutive(&keys, 0);
            let mut expected = expected(&keys, keys.len());
            expected.retain(|candidate| candidate.key <= radius);
            expected.truncate(k);
            assert_eq!(top.into_sorted(), expected, "k {k} within {radius}");
        }
    }

    #[test]
    fn infinite_and_nan_keys_come_last_but_are_not_lost() {
        let keys = [f32::INFINITY, f32::NAN, 1.0, f32::NEG_INFINITY];
        let mut top = TopK::new(4);
        top.push_consecutive(&keys, 0);
        let rows: Vec<u64> = top.into_sorted().iter().map(|c| c.row).collect();
        assert_eq!(rows, [3, 2, 0, 1]);
    }

    #[test]
    fn the_threshold_never_rises_and_rejects_only_what_is_worse() {
        let mut next = numbers(3);
        let mut top = TopK::new(10);
        let mut threshold = f32::INFINITY;
        for row in 0..10_000 {
            top.push((next() % 1_000_000) as f32, row);
            assert!(top.threshold() <= threshold);
            threshold = top.threshold();
        }
        let worst = top.into_sorted()[9];
        assert!(worst.key <= threshold && threshold < 100_000.0);
    }
}
