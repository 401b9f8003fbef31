//! The inverted index of one segment's sparse vectors: how is it built, laid out and searched?
//!
//! ```text
//! payload   offset  bytes  what
//!           0       4      rows of the segment
//!           4       4      ids d
//!           8       4      blocks b
//!           12      4      postings p
//!           16      4d     the ids, ascending
//!           ..      4d     where each id's blocks end
//!           ..      16b    a block: window, first posting, postings (u32 each), largest weight by amount (f32)
//!           ..      4p     a posting: the row's place in its window (u16), its weight in 32,767ths of the block's
//!                          largest (i16)
//! ```
//! A window is 4,096 rows, so that their sums stay in the nearest cache; a block is what one id has in one window, and
//! the postings of a window lie together. Blocks of an id are in the order of the windows, postings of a block in that
//! of the rows.
//!
//! The index only nominates: it adds up weights that are rounded, leaves out what cannot be among the best (the idea is
//! MaxScore's: Turtle and Flood 1995), and every row that may be an answer is scored by the vector that is stored. So
//! the answer is exact, and the same as without an index.

use super::{SparseQuery, stored};
use crate::codec::Reader;
use crate::error::{Error, Result};
use crate::query::topk::Candidate;
use crate::segment::RowSource;
use crate::storage::Bytes;
use arc_swap::ArcSwapOption;
use std::cell::RefCell;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Rows of a window.
const WINDOW: u32 = 4_096;
/// What a weight is rounded to: this part of the largest of its block.
const STEPS: f32 = 32_767.0;
/// Scoring one row costs about as much as adding this many postings.
const SCORE_COST: usize = 64;
const HEADER_BYTES: usize = 16;

/// An open index.
#[derive(Debug)]
pub(crate) struct SparseIndex {
    payload: Bytes,
    rows: u32,
    ids: Range<usize>,
    ends: Range<usize>,
    blocks: Range<usize>,
    postings: Range<usize>,
    /// Whether its file is on stable storage, or was tried in vain.
    pub(crate) written: AtomicBool,
    /// Whether the payload is in anonymous memory rather than in a mapped file.
    pub(crate) in_memory: bool,
}

/// Where a segment keeps the index of a field.
#[derive(Debug, Default)]
pub(crate) struct SparseSlot {
    index: ArcSwapOption<SparseIndex>,
    /// Set once the file was looked for.
    pub(crate) looked_for: AtomicBool,
    /// Set when no index can be built.
    pub(crate) unindexable: AtomicBool,
}

impl SparseSlot {
    pub(crate) fn get(&self) -> Option<Arc<SparseIndex>> {
        self.index.load_full()
    }

    pub(crate) fn set(&self, index: SparseIndex) {
        self.index.store(Some(Arc::new(index)));
    }
}

/// One id's postings of one window.
#[derive(Debug, Clone, Copy)]
struct Block {
    window: u32,
    first: u32,
    count: u32,
    largest: f32,
}

impl Block {
    fn read(bytes: &[u8; 16]) -> Block {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Block { window: word(0), first: word(4), count: word(8), largest: f32::from_bits(word(12)) }
    }

    fn write(self, out: &mut Vec<u8>) {
        for word in [self.window, self.first, self.count, self.largest.to_bits()] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
}

/// The blocks of one window and their postings.
#[derive(Default)]
struct Built {
    blocks: Vec<(u32, Block)>,
    postings: Vec<u8>,
}

/// Builds the index of a field of all rows of a source: its payload.
pub(crate) fn build(rows: &dyn RowSource, field: usize, threads: usize, cancel: &AtomicBool) -> Result<Vec<u8>> {
    let windows = rows.rows().div_ceil(WINDOW);
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(u32, Built)>> {
        let mut done = Vec::new();
        loop {
            let window = next.fetch_add(1, Ordering::Relaxed) as u32;
            if window >= windows {
                return Ok(done);
            }
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled("the database is closing".into()));
            }
            done.push((window, build_window(rows, field, window)?));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads.min(windows as usize)).map(|_| scope.spawn(work)).collect();
        let mut done = work()?;
        for helper in helpers {
            done.extend(helper.join().map_err(|_| Error::Unusable("an indexing thread panicked".into()))??);
        }
        Ok::<_, Error>(done)
    })?;
    done.sort_unstable_by_key(|(window, _)| *window);
    assemble(rows.rows(), done.into_iter().map(|(_, built)| built).collect())
}

fn build_window(rows: &dyn RowSource, field: usize, window: u32) -> Result<Built> {
    let mut entries: Vec<(u64, f32)> = Vec::new();
    for row in window * WINDOW..((window + 1) * WINDOW).min(rows.rows()) {
        if let Some(value) = stored(rows.field(field, row)?, row)? {
            entries.extend(value.iter().map(|(id, weight)| (u64::from(id) << 16 | u64::from(row % WINDOW), weight)));
        }
    }
    entries.sort_unstable_by_key(|(place, _)| *place);
    let mut built = Built { blocks: Vec::new(), postings: Vec::with_capacity(entries.len() * 4) };
    for entries in entries.chunk_by(|(a, _), (b, _)| a >> 16 == b >> 16) {
        let largest = entries.iter().fold(0f32, |largest, (_, weight)| largest.max(weight.abs()));
        let (id, first) = ((entries[0].0 >> 16) as u32, (built.postings.len() / 4) as u32);
        built.blocks.push((id, Block { window, first, count: entries.len() as u32, largest }));
        for (place, weight) in entries {
            let steps = if largest > 0.0 { f64::from(*weight) / f64::from(largest) * f64::from(STEPS) } else { 0.0 };
            built.postings.extend_from_slice(&(*place as u16).to_le_bytes());
            built.postings.extend_from_slice(&(steps.round() as i16).to_le_bytes());
        }
    }
    Ok(built)
}

fn assemble(rows: u32, windows: Vec<Built>) -> Result<Vec<u8>> {
    let mut blocks = Vec::with_capacity(windows.iter().map(|built| built.blocks.len()).sum());
    let mut postings = 0u64;
    for built in &windows {
        let moved = |(id, block): &(u32, Block)| (*id, Block { first: block.first + postings as u32, ..*block });
        blocks.extend(built.blocks.iter().map(moved));
        postings += built.postings.len() as u64 / 4;
        if postings > u64::from(u32::MAX) {
            return Err(Error::LimitExceeded(format!("an index of {postings} weights; the limit is {}", u32::MAX)));
        }
    }
    // Stable: the windows of an id stay in order.
    blocks.sort_by_key(|(id, _)| *id);
    let of_ids: Vec<&[(u32, Block)]> = blocks.chunk_by(|(a, _), (b, _)| a == b).collect();
    let mut out = Vec::with_capacity(HEADER_BYTES + of_ids.len() * 8 + blocks.len() * 16 + postings as usize * 4);
    for word in [rows, of_ids.len() as u32, blocks.len() as u32, postings as u32] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    of_ids.iter().for_each(|blocks| out.extend_from_slice(&blocks[0].0.to_le_bytes()));
    let mut end = 0u32;
    for blocks in &of_ids {
        end += blocks.len() as u32;
        out.extend_from_slice(&end.to_le_bytes());
    }
    blocks.iter().for_each(|(_, block)| block.write(&mut out));
    windows.iter().for_each(|built| out.extend_from_slice(&built.postings));
    Ok(out)
}

/// The best rows of a search so far.
pub(crate) struct Best {
    k: usize,
    least: f32,
    /// The worst one on top; keys are negative scores.
    heap: BinaryHeap<Candidate>,
}

impl Best {
    /// Keeps the `k` best whose scores are at least `least`.
    pub(crate) fn new(k: usize, least: f32) -> Self {
        Best { k, least, heap: BinaryHeap::new() }
    }

    /// A score below this is not among the best.
    fn threshold(&self) -> f32 {
        let worst = self.heap.peek().filter(|_| self.heap.len() >= self.k);
        worst.map_or(self.least, |worst| self.least.max(-worst.key))
    }

    /// Offers a row. One that scores 0 has nothing in common with the query and is no answer.
    pub(crate) fn push(&mut self, score: f32, row: u64) {
        if score == 0.0 || score < self.least {
            return;
        }
        let candidate = Candidate { key: -score, row };
        if self.heap.len() < self.k {
            self.heap.push(candidate);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && candidate < *worst
        {
            *worst = candidate;
        }
    }

    pub(crate) fn into_sorted(self) -> Vec<Candidate> {
        self.heap.into_sorted_vec()
    }
}

/// What a search of one index took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Effort {
    /// Weights added up.
    pub(crate) postings: u64,
    /// Rows scored by their stored vectors.
    pub(crate) scored: u64,
}

/// What a search asks of the rows.
pub(crate) struct Rows<'a> {
    pub(crate) source: &'a dyn RowSource,
    pub(crate) field: usize,
    /// Whether a row may be an answer.
    pub(crate) allowed: &'a dyn Fn(u32) -> bool,
    /// What a row is called among the best.
    pub(crate) name: &'a dyn Fn(u32) -> u64,
}

impl Rows<'_> {
    pub(crate) fn score(&self, query: &SparseQuery, row: u32, best: &mut Best) -> Result<()> {
        if let Some(value) = stored(self.source.field(self.field, row)?, row)? {
            best.push(query.score(value), (self.name)(row));
        }
        Ok(())
    }
}

/// The postings of one entry of the query in one window.
#[derive(Clone, Copy)]
struct List<'a> {
    postings: &'a [[u8; 4]],
    /// What one step of a weight adds to the score.
    step: f32,
    /// The most that a row can gain here.
    bound: f64,
}

/// What one search leaves to the next on the same thread.
struct Sums(Box<[f32; WINDOW as usize]>);

impl Sums {
    fn add(&mut self, list: &List<'_>) {
        for posting in list.postings {
            let place = usize::from(u16::from_le_bytes([posting[0], posting[1]])) % WINDOW as usize;
            self.0[place] += list.step * f32::from(i16::from_le_bytes([posting[2], posting[3]]));
        }
    }

    /// The places whose sums are at least `cutoff`.
    fn at_least(&self, cutoff: f32, mut f: impl FnMut(u32)) {
        for (sums, first) in self.0.as_chunks::<16>().0.iter().zip((0..).step_by(16)) {
            // One test for sixteen sums: most hold nothing of interest.
            if sums.iter().fold(false, |any, sum| any | (*sum >= cutoff)) {
                sums.iter().zip(first..).filter(|(sum, _)| **sum >= cutoff).for_each(|(_, place)| f(place));
            }
        }
    }
}

thread_local! {
    static SUMS: RefCell<Sums> = RefCell::new(Sums(Box::new([0.0; WINDOW as usize])));
}

impl SparseIndex {
    /// Checks the layout of a payload; `None` if it is not one.
    pub(crate) fn parse(payload: Bytes, rows: u32, in_memory: bool) -> Option<SparseIndex> {
        let mut r = Reader::new(&payload);
        let (own_rows, ids, blocks, postings) = (r.u32()?, r.u32()? as usize, r.u32()? as usize, r.u32()? as usize);
        let mut end = HEADER_BYTES;
        let mut section = |bytes: Option<usize>| {
            let start = end;
            end = start.checked_add(bytes?)?;
            Some(start..end)
        };
        let (ids, ends) = (section(ids.checked_mul(4))?, section(ids.checked_mul(4))?);
        let (blocks, postings) = (section(blocks.checked_mul(16))?, section(postings.checked_mul(4))?);
        let fits = own_rows == rows && end == payload.len();
        let written = AtomicBool::new(!in_memory);
        let index = SparseIndex { rows, ids, ends, blocks, postings, written, in_memory, payload };
        (fits && index.is_consistent()).then_some(index)
    }

    fn is_consistent(&self) -> bool {
        let words = |range: &Range<usize>| {
            self.payload[range.clone()].as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w))
        };
        let blocks = self.blocks().len();
        let ends_rise = words(&self.ends).is_sorted() && words(&self.ends).next_back().unwrap_or(0) as usize == blocks;
        let postings = self.postings.len() as u64 / 4;
        let whole = |block: Block| {
            u64::from(block.first) + u64::from(block.count) <= postings
                && block.window < self.rows.div_ceil(WINDOW)
                && block.largest.is_finite()
        };
        words(&self.ids).is_sorted() && ends_rise && self.blocks().iter().all(|block| whole(Block::read(block)))
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    fn blocks(&self) -> &[[u8; 16]] {
        self.payload[self.blocks.clone()].as_chunks().0
    }

    /// The blocks of an id.
    fn blocks_of(&self, id: u32) -> &[[u8; 16]] {
        let word = |range: &Range<usize>, at: usize| crate::codec::u32_at(&self.payload[range.clone()], at);
        let ids = self.payload[self.ids.clone()].as_chunks::<4>().0;
        let Ok(at) = ids.binary_search_by_key(&id, |bytes| u32::from_le_bytes(*bytes)) else { return &[] };
        let start = if at == 0 { Some(0) } else { word(&self.ends, at - 1) };
        let range = start.zip(word(&self.ends, at)).map(|(start, end)| start as usize..end as usize);
        range.and_then(|range| self.blocks().get(range)).unwrap_or_default()
    }

    /// How many postings a search for all ids of a query goes through at most.
    pub(crate) fn postings_of(&self, query: &SparseQuery) -> u64 {
        let of = |id| self.blocks_of(id).iter().map(|block| u64::from(Block::read(block).count)).sum::<u64>();
        query.entries().iter().map(|(id, _)| of(id)).sum()
    }

    /// Weights of a row, on average, rounded up.
    pub(crate) fn weights_a_row(&self) -> u64 {
        (self.postings.len() as u64 / 4).div_ceil(u64::from(self.rows).max(1))
    }

    /// Offers every row that may be among the best.
    pub(crate) fn search(&self, query: &SparseQuery, rows: &Rows<'_>, best: &mut Best) -> Result<Effort> {
        let postings = self.payload[self.postings.clone()].as_chunks::<4>().0;
        let mut cursors: Vec<(f32, &[[u8; 16]])> =
            query.entries().iter().map(|(id, weight)| (weight, self.blocks_of(id))).collect();
        let mut run = Run { query, rows, count: self.rows, best, effort: Effort::default() };
        let mut lists = Vec::new();
        for window in 0..self.rows.div_ceil(WINDOW) {
            lists.clear();
            for (weight, blocks) in &mut cursors {
                let Some((first, rest)) = blocks.split_first() else { continue };
                let block = Block::read(first);
                if block.window <= window {
                    *blocks = rest;
                    let range = block.first as usize..block.first as usize + block.count as usize;
                    let product = f64::from(*weight) * f64::from(block.largest);
                    let step = (product / f64::from(STEPS)) as f32;
                    lists.push(List { postings: postings.get(range).unwrap_or_default(), step, bound: product.abs() });
                }
            }
            if !lists.is_empty() {
                SUMS.with_borrow_mut(|sums| run.window(window * WINDOW, &mut lists, sums))?;
            }
        }
        Ok(run.effort)
    }
}

/// A search under way.
struct Run<'a> {
    query: &'a SparseQuery,
    rows: &'a Rows<'a>,
    /// How many rows there are.
    count: u32,
    best: &'a mut Best,
    effort: Effort,
}

impl Run<'_> {
    /// Searches the window that begins with a row.
    fn window(&mut self, first: u32, lists: &mut [List<'_>], sums: &mut Sums) -> Result<()> {
        let threshold = f64::from(self.best.threshold());
        let total: f64 = lists.iter().map(|list| list.bound).sum();
        let slack = slack(total, lists.len());
        if total + slack < threshold {
            return Ok(());
        }
        lists.sort_unstable_by(|a, b| b.bound.total_cmp(&a.bound));
        sums.0.fill(0.0);
        let (mut added, mut rest) = (0, total);
        // As long as a row that is in none of the lists so far can be an answer, there must be more.
        while added < lists.len() && rest + slack >= threshold {
            sums.add(&lists[added]);
            rest -= lists[added].bound;
            added += 1;
        }
        let left: usize = lists[added..].iter().map(|list| list.postings.len()).sum();
        if left > 0 {
            let mut candidates = 0;
            sums.at_least((threshold - rest - slack) as f32, |_| candidates += 1);
            if candidates * SCORE_COST > left {
                lists[added..].iter().for_each(|list| sums.add(list));
                added = lists.len();
            }
        }
        if added == lists.len() {
            rest = 0.0;
        }
        self.effort.postings += lists[..added].iter().map(|list| list.postings.len() as u64).sum::<u64>();
        for place in self.candidates(first, lists, sums, threshold - rest, slack) {
            if self.may(first + place) {
                self.effort.scored += 1;
                self.rows.score(self.query, first + place, self.best)?;
            }
        }
        Ok(())
    }

    fn may(&self, row: u32) -> bool {
        row < self.count && (self.rows.allowed)(row)
    }

    /// The places of a window that may be answers: those whose sums are at least `least`, give or take the slack.
    fn candidates(&self, first: u32, lists: &[List<'_>], sums: &Sums, least: f64, slack: f64) -> Vec<u32> {
        let mut cutoff = least - slack;
        if cutoff <= 0.0 {
            // The k-th best of this window is a bound, too.
            let mut good = Vec::new();
            sums.at_least(slack as f32, |place| {
                let sum = sums.0[place as usize];
                if f64::from(sum) > slack && self.may(first + place) {
                    good.push(sum);
                }
            });
            if (1..=good.len()).contains(&self.best.k) {
                let (_, kth, _) = good.select_nth_unstable_by(self.best.k - 1, |a, b| b.total_cmp(a));
                cutoff = f64::from(*kth) - 2.0 * slack;
            }
        }
        let mut places = Vec::new();
        if cutoff > 0.0 {
            sums.at_least(cutoff as f32, |place| places.push(place));
            return places;
        }
        // Sums of 0 and less count: which rows are in a list must be looked up.
        let mut seen = [0u64; WINDOW as usize / 64];
        for posting in lists.iter().flat_map(|list| list.postings) {
            let place = usize::from(u16::from_le_bytes([posting[0], posting[1]])) % WINDOW as usize;
            seen[place / 64] |= 1 << (place % 64);
        }
        places.extend((0..WINDOW).filter(|place| seen[*place as usize / 64] >> (place % 64) & 1 == 1));
        places
    }
}

/// How far a sum may be from the true score. A rounded weight is off by half a step at most, and adding up n terms in
/// f32 by about (n + 1) * 2^-24 of their amounts; numbers too small for f32 are off by their own size.
fn slack(total: f64, lists: usize) -> f64 {
    let lists = lists as f64;
    total * (0.5 / f64::from(STEPS) + (lists + 4.0) / f64::from(1 << 23)) + lists * f64::from(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memtable::{Block as Memory, hash_ids};
    use crate::record::Batch;
    use crate::schema::{Metric, Schema};
    use crate::sparse::Sparse;

    /// A few rows that share ids, some without a value.
    fn rows() -> Memory {
        let value = |n: u32| Sparse::new([(n % 3, n as f32), (n + 10, 1.0), (u32::MAX, -0.5)]).unwrap();
        let values: Vec<Option<Sparse>> = (0..20).map(|n| (n % 4 > 0).then(|| value(n))).collect();
        let batch = Batch::new((0..20u64).collect(), vec![0f32; 20]);
        let mut batch = batch.with_sparse("terms", values.iter().map(Option::as_ref));
        batch.validate(&Schema::new(1, Metric::L2).with_sparse("terms")).unwrap();
        let hashes = hash_ids(&batch.ids, 1);
        Memory::from_batch(&batch, 4, hashes)
    }

    fn search(index: &SparseIndex, source: &Memory, query: &Sparse) -> Vec<(f32, u64)> {
        let mut best = Best::new(5, f32::NEG_INFINITY);
        let rows = Rows { source, field: 0, allowed: &|_| true, name: &u64::from };
        index.search(&SparseQuery::new(query), &rows, &mut best).unwrap();
        best.into_sorted().iter().map(|candidate| (-candidate.key, candidate.row)).collect()
    }

    #[test]
    fn no_hostile_payload_is_read_out_of_bounds() {
        let source = rows();
        let cancel = AtomicBool::new(false);
        let payload = build(&source, 0, 1, &cancel).unwrap();
        let query = Sparse::new([(0, 1.0), (1, 0.5), (13, 2.0), (u32::MAX, -1.0)]).unwrap();
        let index = SparseIndex::parse(Bytes::new(payload.clone()), 20, true).unwrap();
        let right = search(&index, &source, &query);
        assert_eq!(right[0], (18.5, 18));
        assert!(SparseIndex::parse(Bytes::new(payload.clone()), 21, true).is_none());
        for at in 0..payload.len() {
            assert!(SparseIndex::parse(Bytes::new(payload[..at].to_vec()), 20, true).is_none(), "cut at {at}");
            for mask in [1, 0x80, 0xff] {
                let mut hostile = payload.clone();
                hostile[at] ^= mask;
                if let Some(index) = SparseIndex::parse(Bytes::new(hostile), 20, true) {
                    // Rows may be missed, but every score is that of a stored vector.
                    let found = search(&index, &source, &query);
                    assert!(found.iter().all(|(score, row)| *row < 20 && score.is_finite()), "{at}: {found:?}");
                }
            }
        }
    }
}
