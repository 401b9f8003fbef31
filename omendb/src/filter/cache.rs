//! What filters leave behind for the next ones: the columns of a run of rows, the rows that recent filters selected,
//! and what walks for those came to.

use super::{Columns, ColumnsBuilder, Filter};
use crate::error::{Error, Result};
use crate::segment::reader::PassingNodes;
use crate::segment::{RowSource, decode_metadata};
use crate::storage::Bytes;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Of how many filters the rows are kept.
const KEPT: usize = 8;
/// Fewer rows are read one by one: that is as fast.
const MIN_COLUMN_ROWS: u32 = 64;
/// A build may be cancelled every so many rows.
const CANCEL_ROWS: u32 = 4_096;
/// A walk's cost counts for one part in so many of what is remembered.
const MEMORY: f32 = 16.0;
/// Where walks cost too much, one query in so many walks all the same: others may lie better.
const AGAIN: u32 = 32;
/// For builds that nobody cancels.
static NEVER: AtomicBool = AtomicBool::new(false);

/// The live rows of a run that pass a filter.
#[derive(Debug)]
pub(crate) struct Matches {
    pub(crate) rows: RoaringBitmap,
    /// Their nodes in the graph that was last walked for them.
    pub(crate) passing: ArcSwapOption<PassingNodes>,
}

impl Matches {
    pub(crate) fn new(rows: RoaringBitmap) -> Matches {
        Matches { rows, passing: ArcSwapOption::empty() }
    }

    pub(crate) fn len(&self) -> u64 {
        self.rows.len()
    }
}

/// What walks of late for the rows that pass one filter cost, as a share of comparing all of those. Threads may
/// overwrite what another learned: it is advice.
#[derive(Debug, Default)]
pub(crate) struct Experience {
    /// An f32.
    cost: AtomicU32,
    /// Queries for which walks seemed to cost too much.
    doubted: AtomicU32,
}

impl Experience {
    /// Whether to walk rather than to compare all at once.
    pub(crate) fn advises_walk(&self) -> bool {
        f32::from_bits(self.cost.load(Ordering::Relaxed)) <= 1.0
            || self.doubted.fetch_add(1, Ordering::Relaxed) % AGAIN == AGAIN - 1
    }

    /// A walk cost so much, the comparison of all that followed if it gave up included.
    pub(crate) fn learn(&self, cost: f32) {
        let before = f32::from_bits(self.cost.load(Ordering::Relaxed));
        self.cost.store((before + (cost - before) / MEMORY).to_bits(), Ordering::Relaxed);
    }
}

/// The rows that pass, record by record.
pub(crate) fn read_each(rows: &dyn RowSource, filter: &Filter) -> Result<RoaringBitmap> {
    let mut found = RoaringBitmap::new();
    for row in 0..rows.rows() {
        if filter.matches(decode_metadata(rows.metadata(row)?)?.as_ref()) {
            found.insert(row);
        }
    }
    Ok(found)
}

#[derive(Debug)]
struct Recent {
    filter: Filter,
    /// How many rows were dead. Rows only ever die, so equal counts are equal sets.
    dead: u64,
    matches: Arc<Matches>,
}

/// The columns of a run of rows, and where they are.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) columns: Columns,
    /// Rather than in a mapped file.
    pub(crate) in_memory: bool,
    /// Whether there is a file, or one is being written.
    pub(crate) written: AtomicBool,
}

/// What is derived for filters from one run of rows, which never change.
#[derive(Debug, Default)]
pub(crate) struct FilterCache {
    columns: ArcSwapOption<Held>,
    /// Held while the columns are built, so that they are built once.
    building: Mutex<()>,
    /// Set once a file of them was looked for.
    pub(crate) looked_for: AtomicBool,
    /// Set when no columns are to be built ahead of the first filter.
    pub(crate) unindexable: AtomicBool,
    /// The latest first.
    recent: Mutex<VecDeque<Recent>>,
}

impl Clone for FilterCache {
    /// An empty one: what is derived is not copied.
    fn clone(&self) -> Self {
        FilterCache::default()
    }
}

impl FilterCache {
    /// The rows that pass, dead ones included.
    pub(crate) fn eval(&self, rows: &dyn RowSource, filter: &Filter) -> Result<RoaringBitmap> {
        match self.columns() {
            Some(held) => held.columns.eval(filter),
            None if rows.rows() < MIN_COLUMN_ROWS => read_each(rows, filter),
            None => self.build(rows, &NEVER)?.columns.eval(filter),
        }
    }

    /// The columns, if there are any yet.
    pub(crate) fn columns(&self) -> Option<Arc<Held>> {
        self.columns.load_full()
    }

    /// Takes columns that were read from a file into use.
    pub(crate) fn set_mapped(&self, columns: Columns) {
        self.set(columns, false);
    }

    fn set(&self, columns: Columns, in_memory: bool) -> Arc<Held> {
        let held = Arc::new(Held { columns, in_memory, written: AtomicBool::new(!in_memory) });
        self.columns.store(Some(Arc::clone(&held)));
        held
    }

    /// The columns, made in memory where there are none.
    pub(crate) fn build(&self, rows: &dyn RowSource, cancel: &AtomicBool) -> Result<Arc<Held>> {
        if let Some(held) = self.columns() {
            return Ok(held);
        }
        let _one_at_a_time = self.building.lock();
        if let Some(held) = self.columns() {
            return Ok(held);
        }
        let mut builder = ColumnsBuilder::new();
        for row in 0..rows.rows() {
            if row % CANCEL_ROWS == 0 && cancel.load(Ordering::Acquire) {
                return Err(Error::Cancelled("the columns of a segment are not built".into()));
            }
            builder.push_json(rows.metadata(row)?.split_first().map(|(_, json)| json))?;
        }
        let columns = Columns::parse(Bytes::new(builder.finish()), rows.rows(), "memory", 0)?;
        Ok(self.set(columns, true))
    }

    /// Memory of the columns, bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.columns().filter(|held| held.in_memory).map_or(0, |held| held.columns.as_bytes().len() as u64)
    }

    /// What `find` selects for a filter while `dead` rows are dead, remembered for the next time.
    pub(crate) fn remember(
        &self,
        filter: &Filter,
        dead: u64,
        find: impl FnOnce() -> Result<RoaringBitmap>,
    ) -> Result<Arc<Matches>> {
        let mut recent = self.recent.lock();
        if let Some(place) = recent.iter().position(|known| known.dead == dead && known.filter == *filter) {
            recent.make_contiguous()[..=place].rotate_right(1);
            return Ok(Arc::clone(&recent[0].matches));
        }
        drop(recent);
        let matches = Arc::new(Matches::new(find()?));
        let mut recent = self.recent.lock();
        // Those of fewer dead rows are of no use to a newer version.
        recent.retain(|known| known.filter != *filter);
        recent.push_front(Recent { filter: filter.clone(), dead, matches: Arc::clone(&matches) });
        recent.truncate(KEPT);
        Ok(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_that_cost_more_than_comparing_all_are_tried_rarely_until_they_cost_less() {
        let experience = Experience::default();
        let walks = |queries| (0..queries).filter(|_| experience.advises_walk()).count();
        assert_eq!(walks(100), 100);
        (0..100).for_each(|_| experience.learn(2.0));
        assert_eq!(walks(160), 5);
        (0..100).for_each(|_| experience.learn(0.1));
        assert_eq!(walks(160), 160);
        // Two of three that succeed at a quarter of the cost are worth the one that fails.
        (0..300).for_each(|walk| experience.learn(if walk % 3 == 0 { 2.0 } else { 0.25 }));
        assert_eq!(walks(160), 160);
    }

    #[test]
    fn recent_filters_are_remembered_until_rows_die() {
        let cache = FilterCache::default();
        let filter = |n: usize| Filter::from_sql(&format!("x = {n}")).unwrap();
        let ask = |n: usize, dead: u64, rows: &[u32]| {
            cache.remember(&filter(n), dead, || Ok(rows.iter().copied().collect())).unwrap().rows.len()
        };
        assert_eq!(ask(0, 0, &[1, 2, 3]), 3);
        assert_eq!(ask(0, 0, &[]), 3);
        assert_eq!(ask(0, 1, &[1, 2]), 2);
        for n in 1..KEPT {
            assert_eq!(ask(n, 1, &[7]), 1);
        }
        assert_eq!(ask(0, 1, &[]), 2);
        assert_eq!(ask(KEPT, 1, &[]), 0);
        // The one that was asked for longest ago is gone.
        assert_eq!(ask(1, 1, &[]), 0);
        assert_eq!(ask(0, 1, &[]), 2);
    }
}
