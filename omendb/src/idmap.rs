//! Where each live record of a collection is: id hash -> (source, row), in memory.
//!
//! Sharded by the hash's top bits, so that a batch sorted by shard works inside the cache and growth never
//! rehashes everything at once. An entry keeps 32 bits of the hash beside the shard's 8, so a match is only a
//! candidate: the caller compares the id itself.

use crate::error::{Error, Result};
use crate::ids::IdColumn;
use crate::record::show_id;
use hashbrown::HashTable;

/// A row of a source: a segment, or a memtable (whose numbers have the top bit set).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Location {
    pub(crate) source: u32,
    pub(crate) row: u32,
}

/// Set in the source number of a memtable.
pub(crate) const MEMTABLE: u32 = 1 << 31;

const SHARDS: usize = 256;
/// Rows from which two threads change the map.
const ASSIGN_IN_PARALLEL: usize = 20_000;

#[derive(Debug, Clone, Copy)]
struct Entry {
    fragment: u32,
    at: Location,
}

/// Spreads the stored 32 bits over the 64 the table wants.
fn spread(fragment: u32) -> u64 {
    u64::from(fragment).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn split(hash: u64) -> (usize, u32) {
    ((hash >> 56) as usize, (hash >> 8) as u32)
}

/// The shard of a hash; batches are worked off in this order.
pub(crate) fn shard(hash: u64) -> u8 {
    (hash >> 56) as u8
}

#[derive(Debug)]
pub(crate) struct IdMap {
    shards: Vec<HashTable<Entry>>,
}

impl IdMap {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        let each = if rows < SHARDS * 4 { 0 } else { rows / SHARDS + rows / SHARDS / 16 };
        IdMap { shards: (0..SHARDS).map(|_| HashTable::with_capacity(each)).collect() }
    }

    /// The entry of `hash` for which `same` holds.
    pub(crate) fn find(&self, hash: u64, mut same: impl FnMut(Location) -> bool) -> Option<Location> {
        let (shard, fragment) = split(hash);
        let found = self.shards[shard].find(spread(fragment), |e| e.fragment == fragment && same(e.at));
        found.map(|e| e.at)
    }

    /// Adds an entry. The caller knows that there is none for this id.
    pub(crate) fn insert(&mut self, hash: u64, at: Location) {
        let (shard, fragment) = split(hash);
        self.shards[shard].insert_unique(spread(fragment), Entry { fragment, at }, |e| spread(e.fragment));
    }

    /// Moves the entry that stands at `from` to `to`; false if there is none.
    pub(crate) fn relocate(&mut self, hash: u64, from: Location, to: Location) -> bool {
        let (shard, fragment) = split(hash);
        match self.shards[shard].find_mut(spread(fragment), |e| e.fragment == fragment && e.at == from) {
            Some(entry) => {
                entry.at = to;
                true
            }
            None => false,
        }
    }

    /// Points the ids of `rows`, which are in shard order, to their rows in `source`: those of `replaced` (by row) move
    /// from where they stand, the others are new.
    pub(crate) fn assign(&mut self, hashes: &[u64], rows: &[u32], replaced: &[(u32, Location)], source: u32) {
        let work = |shards: &mut [HashTable<Entry>], base: usize, rows: &[u32]| {
            for row in rows {
                let (shard, fragment) = split(hashes[*row as usize]);
                let (table, at) = (&mut shards[shard - base], Location { source, row: *row });
                let old = replaced.binary_search_by_key(row, |(row, _)| *row).ok().map(|i| replaced[i].1);
                let entry =
                    old.and_then(|old| table.find_mut(spread(fragment), |e| e.fragment == fragment && e.at == old));
                match entry {
                    Some(entry) => entry.at = at,
                    None => drop(table.insert_unique(spread(fragment), Entry { fragment, at }, |e| spread(e.fragment))),
                }
            }
        };
        if rows.len() < ASSIGN_IN_PARALLEL {
            return work(&mut self.shards, 0, rows);
        }
        let (low, high) = self.shards.split_at_mut(SHARDS / 2);
        let (first, second) = rows.split_at(rows.partition_point(|row| split(hashes[*row as usize]).0 < SHARDS / 2));
        std::thread::scope(|scope| {
            scope.spawn(|| work(low, 0, first));
            work(high, SHARDS / 2, second);
        });
    }

    /// Removes the entry that stands at `at`.
    pub(crate) fn remove(&mut self, hash: u64, at: Location) {
        let (shard, fragment) = split(hash);
        if let Ok(entry) = self.shards[shard].find_entry(spread(fragment), |e| e.fragment == fragment && e.at == at) {
            entry.remove();
        }
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(HashTable::len).sum()
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> u64 {
        self.shards.iter().map(|s| s.allocation_size() as u64).sum()
    }
}

/// Row numbers ordered by shard, so that a pass over a map touches one shard after the other.
pub(crate) fn by_shard(hashes: &[u64]) -> Vec<u32> {
    let mut starts = [0usize; SHARDS + 1];
    for hash in hashes {
        starts[shard(*hash) as usize + 1] += 1;
    }
    for i in 0..SHARDS {
        starts[i + 1] += starts[i];
    }
    let mut order = vec![0u32; hashes.len()];
    for (row, hash) in hashes.iter().enumerate() {
        let slot = &mut starts[shard(*hash) as usize];
        order[*slot] = row as u32;
        *slot += 1;
    }
    order
}

/// As [`by_shard`], within a shard by hash; refuses a batch that names an id twice.
pub(crate) fn distinct_by_shard(ids: &IdColumn, hashes: &[u64]) -> Result<Vec<u32>> {
    let mut order = by_shard(hashes);
    let mut start = 0;
    while start < order.len() {
        let number = shard(hashes[order[start] as usize]);
        let len = order[start..].partition_point(|row| shard(hashes[*row as usize]) == number);
        let rows = &mut order[start..start + len];
        rows.sort_unstable_by_key(|row| hashes[*row as usize]);
        for (i, pair) in rows.windows(2).enumerate() {
            if hashes[pair[0] as usize] != hashes[pair[1] as usize] {
                continue;
            }
            let same = |row: &&u32| hashes[**row as usize] == hashes[pair[0] as usize];
            let duplicate = rows[i + 1..]
                .iter()
                .take_while(same)
                .find(|row| ids.encoded(**row as usize) == ids.encoded(pair[0] as usize));
            if let Some(other) = duplicate {
                let (a, b) = (pair[0].min(*other), pair[0].max(*other));
                return Err(Error::invalid(format!(
                    "id {} stands in records {a} and {b} of one batch; a batch may hold each id once: drop one of them",
                    show_id(ids.get(a as usize))
                )));
            }
        }
        start += len;
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_moves_and_removes_among_colliding_hashes() {
        let mut map = IdMap::with_capacity(0);
        let at = |row| Location { source: 7, row };
        for row in 0..10_000u32 {
            map.insert(u64::from(row % 10).wrapping_mul(0x1234_5678_9abc_def1), at(row));
        }
        assert_eq!(map.len(), 10_000);
        let hash = 3u64.wrapping_mul(0x1234_5678_9abc_def1);
        assert_eq!(map.find(hash, |l| l.row == 4243), Some(at(4243)));
        assert!(map.relocate(hash, at(4243), at(99_999)));
        assert!(!map.relocate(hash, at(4243), at(1)));
        map.remove(hash, at(99_999));
        assert_eq!(map.find(hash, |l| l.row == 99_999), None);
        assert_eq!(map.len(), 9_999);
    }

    #[test]
    fn assigning_moves_what_is_replaced_and_adds_the_rest_on_one_thread_or_two() {
        for rows in [100u32, 2 * ASSIGN_IN_PARALLEL as u32] {
            let hashes: Vec<u64> = (0..u64::from(rows)).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
            let (old, new) = (|row| Location { source: 1, row: row + 5 }, |row| Location { source: 2, row });
            let mut map = IdMap::with_capacity(0);
            let replaced: Vec<(u32, Location)> = (0..rows).step_by(3).map(|row| (row, old(row))).collect();
            for (row, at) in &replaced {
                map.insert(hashes[*row as usize], *at);
            }
            map.assign(&hashes, &by_shard(&hashes), &replaced, 2);
            assert_eq!(map.len(), rows as usize);
            for row in 0..rows {
                assert_eq!(map.find(hashes[row as usize], |at| at == new(row)), Some(new(row)));
            }
        }
    }

    #[test]
    fn shard_order_is_a_permutation_in_order() {
        let hashes: Vec<u64> = (0..1000u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        let order = by_shard(&hashes);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(i, r)| i == *r as usize));
        assert!(order.windows(2).all(|w| shard(hashes[w[0] as usize]) <= shard(hashes[w[1] as usize])));
    }
}
