//! Where each live record of a collection is: id hash -> (source, row), in memory.
//!
//! Sharded by the hash's top bits, so that a batch sorted by shard works inside the cache and growth never
//! rehashes everything at once. An entry keeps 32 bits of the hash beside the shard's 8, so a match is only a
//! candidate: the caller compares the id itself.

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
    fn shard_order_is_a_permutation_in_order() {
        let hashes: Vec<u64> = (0..1000u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        let order = by_shard(&hashes);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(i, r)| i == *r as usize));
        assert!(order.windows(2).all(|w| shard(hashes[w[0] as usize]) <= shard(hashes[w[1] as usize])));
    }
}
