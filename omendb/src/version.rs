//! What a reader sees: one immutable view of a collection, swapped whole at each commit.

use crate::error::Result;
use crate::filter::Filter;
use crate::filter::cache::{Matches, read_each};
use crate::idmap::{Location, MEMTABLE};
use crate::memtable::{Block, Memtable};
use crate::segment::RowSource;
use crate::segment::reader::Segment;
use roaring::RoaringBitmap;
use std::ops::Range;
use std::sync::Arc;

/// A segment and which of its rows are dead, as of one version.
#[derive(Debug, Clone)]
pub(crate) struct SegmentView {
    pub(crate) segment: Arc<Segment>,
    pub(crate) dead: Arc<RoaringBitmap>,
}

/// One consistent view of a collection.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    /// The newest commit it shows.
    pub(crate) seq: u64,
    pub(crate) segments: Vec<SegmentView>,
    /// Oldest first; the last one takes new records, the others are being flushed.
    pub(crate) memtables: Vec<Memtable>,
    /// Segments that could not be opened (degraded open only).
    pub(crate) damaged: Arc<Vec<String>>,
}

/// A contiguous run of rows and its dead rows, whichever part of the version they come from.
pub(crate) struct Part<'a> {
    pub(crate) rows: &'a dyn RowSource,
    /// The segment, if it is one.
    pub(crate) segment: Option<&'a Segment>,
    pub(crate) source: u32,
    /// The source's row number of the part's first row.
    pub(crate) start: u32,
    dead: &'a RoaringBitmap,
}

impl Part<'_> {
    /// Runs of rows (numbered within the part) that are alive.
    pub(crate) fn live_runs(&self) -> Vec<Range<u32>> {
        self.live_runs_in(0..self.rows.rows())
    }

    /// The same within a range of the part's rows.
    pub(crate) fn live_runs_in(&self, range: Range<u32>) -> Vec<Range<u32>> {
        let mut runs = Vec::new();
        let mut next = range.start;
        let dead = self.dead.range(self.start + range.start..self.start + range.end);
        for row in dead.map(|row| row - self.start) {
            if row > next {
                runs.push(next..row);
            }
            next = row + 1;
        }
        if next < range.end {
            runs.push(next..range.end);
        }
        runs
    }

    /// Number of dead rows.
    pub(crate) fn dead_count(&self) -> u64 {
        self.dead.range_cardinality(self.start..self.start + self.rows.rows())
    }

    /// The dead rows of a range, ascending; all numbered within the part.
    pub(crate) fn dead_rows(&self, range: Range<u32>) -> impl Iterator<Item = u32> {
        self.dead.range(self.start + range.start..self.start + range.end).map(|row| row - self.start)
    }

    /// Whether a row (numbered within the part) is alive.
    pub(crate) fn is_live(&self, row: u32) -> bool {
        !self.dead.contains(self.start + row)
    }

    /// Whether all rows are alive.
    pub(crate) fn all_live(&self) -> bool {
        self.dead.range_cardinality(self.start..self.start + self.rows.rows()) == 0
    }

    /// The live rows (numbered within the part) that pass a filter.
    pub(crate) fn live_matching(&self, filter: &Filter) -> Result<Arc<Matches>> {
        let live = |mut rows: RoaringBitmap| {
            self.dead_rows(0..self.rows.rows()).for_each(|row| {
                rows.remove(row);
            });
            rows
        };
        match self.rows.filters() {
            Some(cache) => cache.remember(filter, self.dead_count(), || Ok(live(cache.eval(self.rows, filter)?))),
            None => Ok(Arc::new(Matches::new(live(read_each(self.rows, filter)?)))),
        }
    }

    pub(crate) fn location(&self, row: u32) -> Location {
        Location { source: self.source, row: self.start + row }
    }

    /// The row (numbered within the part) at a location, if it is one of the part's.
    pub(crate) fn row_at(&self, at: Location) -> Option<u32> {
        let row = at.row.checked_sub(self.start).filter(|row| *row < self.rows.rows());
        row.filter(|_| at.source == self.source)
    }

    /// Number of live rows.
    pub(crate) fn live_rows(&self) -> u64 {
        let rows = self.rows.rows();
        u64::from(rows) - self.dead.range_cardinality(self.start..self.start + rows)
    }
}

impl Version {
    pub(crate) fn new(memtable: Memtable) -> Self {
        Version { seq: 0, segments: Vec::new(), memtables: vec![memtable], damaged: Arc::default() }
    }

    /// Every part, segments first, oldest first.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let segments = self.segments.iter().map(|view| Part {
            rows: &*view.segment,
            segment: Some(&*view.segment),
            source: view.segment.id_number(),
            start: 0,
            dead: &view.dead,
        });
        let blocks = self.memtables.iter().flat_map(|memtable| {
            memtable.blocks.iter().map(|block| Part {
                rows: &**block,
                segment: None,
                source: memtable.source,
                start: block.start,
                dead: &memtable.dead,
            })
        });
        segments.chain(blocks)
    }

    pub(crate) fn live_rows(&self) -> u64 {
        let segments: u64 = self.segments.iter().map(|v| u64::from(v.segment.rows()) - v.dead.len()).sum();
        let memtables: u64 = self.memtables.iter().map(|m| u64::from(m.rows()) - m.dead.len()).sum();
        segments + memtables
    }

    pub(crate) fn segment(&self, id: u32) -> Option<&SegmentView> {
        self.segments.iter().find(|v| v.segment.id_number() == id)
    }

    /// The source of a location, and the row's number in it.
    pub(crate) fn source(&self, at: Location) -> Option<(&dyn RowSource, u32)> {
        if at.source & MEMTABLE == 0 {
            let view = self.segment(at.source)?;
            (at.row < view.segment.rows()).then_some((&*view.segment as &dyn RowSource, at.row))
        } else {
            let memtable = self.memtables.iter().find(|m| m.source == at.source)?;
            memtable.locate(at.row).map(|(block, row)| (&**block as &dyn RowSource, row))
        }
    }

    /// Whether the record at a location has this id.
    pub(crate) fn has_id(&self, at: Location, encoded: &[u8]) -> Result<bool> {
        match self.source(at) {
            Some((source, row)) => Ok(source.id(row)? == encoded),
            None => Ok(false),
        }
    }

    /// Marks a row as dead.
    pub(crate) fn kill(&mut self, at: Location) {
        let dead = if at.source & MEMTABLE == 0 {
            self.segments.iter_mut().find(|v| v.segment.id_number() == at.source).map(|v| &mut v.dead)
        } else {
            self.memtables.iter_mut().find(|m| m.source == at.source).map(|m| &mut m.dead)
        };
        if let Some(dead) = dead {
            Arc::make_mut(dead).insert(at.row);
        }
    }

    /// Appends a block to the newest memtable; returns the location of its first row. [`Memtable::merge`] is due
    /// before searches see it.
    pub(crate) fn push(&mut self, mut block: Block, next_source: u32) -> Location {
        if self.memtables.is_empty() {
            self.memtables.push(Memtable::new(next_source));
        }
        let last = self.memtables.len() - 1;
        let memtable = &mut self.memtables[last];
        let at = Location { source: memtable.source, row: memtable.rows() };
        block.start = at.row;
        memtable.push(block);
        at
    }

    pub(crate) fn memtable_bytes(&self) -> u64 {
        self.memtables.iter().map(Memtable::memory).sum()
    }
}
