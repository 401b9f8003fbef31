//! Candidate edges: within each leaf, every point's nearest, in both directions.

use super::parallel::{Task, pieces_mut};
use super::partition::Leaves;
use super::points::Points;
use crate::distance::gemm::{self, KeyBits, NO_KEY, RowBlock, TILE, Tile};
use crate::error::Result;

/// Candidate edges of all leaves. The edges of membership slot `s` are `keys[ends[s - 1]..ends[s]]`, counted from the
/// first edge of its leaf; a key packs the distance and the neighbour's place in the leaf.
pub(super) struct LeafEdges {
    keys: Vec<u32>,
    ends: Vec<u32>,
    /// Slots and leaves of each point's memberships.
    slots: Vec<(u32, u32)>,
    slot_starts: Vec<u32>,
    /// Keys that a leaf has room for, for each of its points.
    room: usize,
    pub bits: KeyBits,
}

/// Compares all points of each leaf, keeping `leaf_k` neighbours of each.
pub(super) fn collect(points: &Points, leaves: &Leaves, leaf_k: usize, leaf_max: usize, task: &Task<'_>) -> Result<LeafEdges> {
    let room = leaf_k * 2;
    let bits = KeyBits::new(points.width, leaf_max);
    let mut keys = vec![NO_KEY; leaves.members.len() * room];
    let mut ends = vec![0u32; leaves.members.len()];
    let mut pieces = Vec::with_capacity(leaves.starts.len());
    let (mut keys_left, mut ends_left) = (keys.as_mut_slice(), ends.as_mut_slice());
    // Leaves are handed out in batches, so that scratch space is made once for many.
    for batch in leaves.starts.windows(2).collect::<Vec<_>>().chunks(64) {
        let (from, to) = (batch[0][0], batch[batch.len() - 1][1]);
        let (batch_keys, rest) = keys_left.split_at_mut((to - from) * room);
        keys_left = rest;
        let (batch_ends, rest) = ends_left.split_at_mut(to - from);
        ends_left = rest;
        pieces.push((batch.iter().map(|w| (w[0], w[1])).collect::<Vec<_>>(), batch_keys, batch_ends));
    }
    pieces_mut(task, pieces, |_, (batch, mut keys, mut ends)| {
        let mut scratch = LeafScratch::default();
        for (from, to) in batch {
            let members = &leaves.members[from..to];
            let (leaf_keys, rest) = keys.split_at_mut(members.len() * room);
            keys = rest;
            let (leaf_ends, rest) = ends.split_at_mut(members.len());
            ends = rest;
            scratch.compare_all(points, members, leaf_k, bits, leaf_keys, leaf_ends);
        }
    })?;
    let (slots, slot_starts) = invert(points.count, leaves);
    Ok(LeafEdges { keys, ends, slots, slot_starts, room, bits })
}

fn invert(count: usize, leaves: &Leaves) -> (Vec<(u32, u32)>, Vec<u32>) {
    let mut starts = vec![0u32; count + 1];
    leaves.members.iter().for_each(|&id| starts[id as usize + 1] += 1);
    for index in 0..count {
        starts[index + 1] += starts[index];
    }
    let mut next = starts.clone();
    let mut slots = vec![(0u32, 0u32); leaves.members.len()];
    for (leaf, window) in leaves.starts.windows(2).enumerate() {
        for slot in window[0]..window[1] {
            let place = &mut next[leaves.members[slot] as usize];
            slots[*place as usize] = (slot as u32, leaf as u32);
            *place += 1;
        }
    }
    (slots, starts)
}

impl LeafEdges {
    /// Appends `distance << 32 | point` of every candidate neighbour of `id`.
    pub fn candidates(&self, leaves: &Leaves, id: u32, out: &mut Vec<u64>) {
        let (from, to) = (self.slot_starts[id as usize] as usize, self.slot_starts[id as usize + 1] as usize);
        for &(slot, leaf) in &self.slots[from..to] {
            let first = leaves.starts[leaf as usize];
            let base = first * self.room;
            let start = if slot as usize == first { 0 } else { self.ends[slot as usize - 1] as usize };
            for &key in &self.keys[base + start..base + self.ends[slot as usize] as usize] {
                let neighbour = leaves.members[first + self.bits.index(key)];
                out.push(u64::from(self.bits.distance(key)) << 32 | u64::from(neighbour));
            }
        }
    }
}

#[derive(Default)]
struct LeafScratch {
    signed: Vec<u8>,
    terms: Vec<u32>,
    tile: Tile,
    best: Vec<u32>,
    own: Vec<u32>,
    next: Vec<u32>,
}

impl LeafScratch {
    fn compare_all(
        &mut self,
        points: &Points,
        members: &[u32],
        leaf_k: usize,
        bits: KeyBits,
        keys: &mut [u32],
        ends: &mut [u32],
    ) {
        let count = members.len();
        self.signed.clear();
        self.terms.clear();
        for &id in members {
            let start = self.signed.len();
            self.signed.extend(points.code(id).iter().map(|code| code ^ 0x80));
            self.terms.push(gemm::row_terms(&self.signed[start..]).1);
        }
        let block = RowBlock { signed: &self.signed, terms: &self.terms };
        self.own.clear();
        self.own.resize(count * leaf_k, NO_KEY);
        for (tile, lanes) in members.chunks(TILE).enumerate() {
            self.tile.pack(points.width, lanes.iter().map(|&id| points.code(id)));
            // One more than asked for, because the nearest of a point is itself.
            gemm::nearest_rows(&self.tile, block, bits, leaf_k + 1, &mut self.best);
            for lane in 0..lanes.len() {
                let point = tile * TILE + lane;
                let mut kept = 0;
                for rank in 0..=leaf_k {
                    let key = self.best[rank * TILE + lane];
                    if key != NO_KEY && bits.index(key) != point && kept < leaf_k {
                        self.own[point * leaf_k + kept] = key;
                        kept += 1;
                    }
                }
            }
        }
        self.emit(count, leaf_k, bits, keys, ends);
    }

    /// Groups the edges and their reverses by source.
    fn emit(&mut self, count: usize, leaf_k: usize, bits: KeyBits, keys: &mut [u32], ends: &mut [u32]) {
        self.next.clear();
        self.next.resize(count + 1, 0);
        for (point, own) in self.own.chunks_exact(leaf_k).enumerate() {
            for &key in own.iter().filter(|&&key| key != NO_KEY) {
                self.next[point + 1] += 1;
                self.next[bits.index(key) + 1] += 1;
            }
        }
        for point in 0..count {
            self.next[point + 1] += self.next[point];
            ends[point] = self.next[point + 1];
        }
        let index_mask = bits.index(u32::MAX) as u32;
        for (point, own) in self.own.chunks_exact(leaf_k).enumerate() {
            for &key in own.iter().filter(|&&key| key != NO_KEY) {
                let other = bits.index(key);
                for (source, key) in [(point, key), (other, (key & !index_mask) | point as u32)] {
                    keys[self.next[source] as usize] = key;
                    self.next[source] += 1;
                }
            }
        }
    }
}
