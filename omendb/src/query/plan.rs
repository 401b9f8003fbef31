//! The cheapest way to search a segment under a filter: compare every row that passes exactly, compare their codes, or
//! walk the graph past the rows that do not pass.
//!
//! The number of rows that pass is known before. What a walk will cost is not: it depends on where they lie. So a walk
//! is given as many nodes as the codes of all rows that pass would cost; if that is not enough, they are compared.

/// As few rows are compared exactly: that is as fast.
const EXACT: u64 = 64;
/// What a node of a walk costs, in codes compared one by one.
pub(crate) const HOP: u64 = 12;
/// The same in codes of rows that are gathered.
pub(crate) const HOP_GATHERED: u64 = 192;
/// Nodes on the way to the query's neighbourhood.
const APPROACH: u64 = 40;

/// A way to search a segment under a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Every row that passes is compared exactly.
    Scan,
    /// The codes of every row that passes are compared, and the best exactly.
    Codes,
    /// The graph is walked; the codes are compared if that takes more nodes than `most`.
    Walk { most: usize },
}

/// How to find the `k` nearest of `matches` rows among `rows`, where a node of a walk costs as much as `hop` codes.
pub(crate) fn choose(k: usize, matches: u64, rows: u64, hop: u64) -> Way {
    if matches <= EXACT.max(k as u64) {
        return Way::Scan;
    }
    let among = matches / hop;
    // Where the rows that pass are spread evenly, a walk meets as many of them as it does of all others.
    let expected = APPROACH + reach(k, matches, rows);
    if expected < among { Way::Walk { most: among.max(2 * expected) as usize } } else { Way::Codes }
}

/// How many rows hold `k` that pass, if those are spread evenly.
pub(crate) fn reach(k: usize, matches: u64, rows: u64) -> u64 {
    (k as u64).saturating_mul(rows).div_ceil(matches.max(1)).min(rows)
}

/// What a walk among `matches` rows cost that looked at so many nodes, and what followed if it gave up, as a share of
/// comparing the codes of all.
pub(crate) fn cost(hops: usize, gave_up: bool, matches: u64, hop: u64) -> f32 {
    (hops as u64 * hop) as f32 / matches.max(1) as f32 + if gave_up { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_follows_from_the_number_of_matches() {
        assert_eq!(choose(10, 1, 1_000_000, HOP), Way::Scan);
        assert_eq!(choose(10, 1_000, 1_000_000, HOP), Way::Codes);
        assert_eq!(choose(1_000, 900, 1_000_000, HOP), Way::Scan);
        assert!(matches!(choose(10, 100_000, 1_000_000, HOP), Way::Walk { most } if most > 100));
        assert!(matches!(choose(10, 1_000_000, 1_000_000, HOP), Way::Walk { .. }));
        // Among fewer rows a walk pays only where most of them pass.
        assert_eq!(choose(10, 500, 2_000, HOP), Way::Codes);
    }
}
