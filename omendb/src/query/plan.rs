//! The cheapest way to search a segment under a filter: compare every row that passes exactly, compare their codes, or
//! walk the graph past the rows that do not pass.
//!
//! The number of rows that pass is known before. What a walk will cost is not: it depends on where they lie. So a walk
//! is given as many nodes as comparing codes of rows that pass would cost; if that is not enough, they are compared.

use crate::index::graph::{Gathered, gathered};

/// As few rows are compared exactly: that is as fast.
const EXACT: u64 = 64;
/// What a node of a walk costs, in codes compared one by one.
const HOP: u64 = 12;
/// The same in rows that are gathered.
const HOP_GATHERED: u64 = 192;
/// Nodes on the way to the query's neighbourhood.
const APPROACH: u64 = 40;

/// A way to search a segment under a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Every row that passes is compared exactly.
    Scan,
    /// The codes of rows that pass are compared, and the best exactly: all, or those of as many cells as it takes.
    Codes,
    /// The graph is walked; the codes are compared if that takes more nodes than `most`.
    Walk { most: usize },
}

/// How to find the `k` nearest of `matches` rows among `rows`, where comparing their codes costs as much as `among`
/// nodes of a walk.
pub(crate) fn choose(k: usize, matches: u64, rows: u64, among: u64) -> Way {
    if matches <= EXACT.max(k as u64) {
        return Way::Scan;
    }
    // Where the rows that pass are spread evenly, a walk meets as many of them as it does of all others.
    let expected = APPROACH + reach(k, matches, rows);
    if expected < among { Way::Walk { most: among.max(2 * expected) as usize } } else { Way::Codes }
}

/// How many rows hold `k` that pass, if those are spread evenly.
pub(crate) fn reach(k: usize, matches: u64, rows: u64) -> u64 {
    (k as u64).saturating_mul(rows).div_ceil(matches.max(1)).min(rows)
}

/// What comparing the codes of `matches` rows costs, in nodes of a walk.
pub(crate) fn nodes_for_codes(matches: u64, gathered: Option<&Gathered>) -> u64 {
    gathered.map_or(matches / HOP, |gathered| gathered.cost() as u64 / HOP_GATHERED)
}

/// What a walk cost that looked at so many nodes, and what followed if it gave up, as a share of comparing codes.
pub(crate) fn cost(hops: usize, gave_up: bool, among: u64) -> f32 {
    hops as f32 / among.max(1) as f32 + if gave_up { 1.0 } else { 0.0 }
}

/// What so many nodes of a walk would cost less if `matches` rows were gathered, in codes compared one by one.
pub(crate) fn missed(hops: u64, matches: u64) -> u64 {
    let gathered = gathered::expected_cost(matches as usize) as u64 / HOP_GATHERED;
    hops.saturating_sub(gathered) * HOP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_follows_from_the_number_of_matches() {
        let choose = |k, matches, rows| choose(k, matches, rows, nodes_for_codes(matches, None));
        assert_eq!(choose(10, 1, 1_000_000), Way::Scan);
        assert_eq!(choose(10, 1_000, 1_000_000), Way::Codes);
        assert_eq!(choose(1_000, 900, 1_000_000), Way::Scan);
        assert!(matches!(choose(10, 100_000, 1_000_000), Way::Walk { most } if most > 100));
        assert!(matches!(choose(10, 1_000_000, 1_000_000), Way::Walk { .. }));
        // Among fewer rows a walk pays only where most of them pass.
        assert_eq!(choose(10, 500, 2_000), Way::Codes);
    }
}
