//! What filters leave behind for the next ones: the columns of a run of rows, and the rows that recent filters
//! selected.

use super::{Columns, ColumnsBuilder, Filter};
use crate::error::Result;
use crate::index::graph::Passing;
use crate::segment::reader::GraphNumber;
use crate::segment::{RowSource, decode_metadata};
use crate::storage::Bytes;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Of how many filters the rows are kept.
const KEPT: usize = 8;
/// Fewer rows are read one by one: that is as fast.
const MIN_COLUMN_ROWS: u32 = 64;

/// The live rows of a run that pass a filter.
#[derive(Debug)]
pub(crate) struct Matches {
    pub(crate) rows: RoaringBitmap,
    /// Their nodes in the graph that was last walked for them.
    pub(crate) passing: ArcSwapOption<(GraphNumber, Passing)>,
}

impl Matches {
    pub(crate) fn new(rows: RoaringBitmap) -> Matches {
        Matches { rows, passing: ArcSwapOption::empty() }
    }

    pub(crate) fn len(&self) -> u64 {
        self.rows.len()
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

/// What is derived for filters from one run of rows, which never change.
#[derive(Debug, Default)]
pub(crate) struct FilterCache {
    columns: OnceLock<Columns>,
    /// Bytes of `columns`.
    bytes: AtomicU64,
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
        if rows.rows() < MIN_COLUMN_ROWS { read_each(rows, filter) } else { self.columns(rows)?.eval(filter) }
    }

    fn columns(&self, rows: &dyn RowSource) -> Result<&Columns> {
        if let Some(columns) = self.columns.get() {
            return Ok(columns);
        }
        let mut builder = ColumnsBuilder::new();
        for row in 0..rows.rows() {
            builder.push_json(rows.metadata(row)?.split_first().map(|(_, json)| json))?;
        }
        let bytes = builder.finish();
        self.bytes.store(bytes.len() as u64, Ordering::Relaxed);
        let columns = Columns::parse(Bytes::new(bytes), rows.rows(), "memory", 0)?;
        Ok(self.columns.get_or_init(|| columns))
    }

    /// Memory of the columns, bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
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
