//! The index of several runs of rows out of the indexes that they have: several times as fast as reading the texts.

use super::index::{Built, TextIndex, TextPart, files_of, internal, payload_of, settings};
use crate::error::Result;
use std::ops::Range;
use std::sync::Arc;
use tantivy::BitSet;
use tantivy::directory::{OwnedBytes, RamDirectory};
use tantivy::fastfield::AliveBitSet;
use tantivy::indexer::merge_filtered_segments;

/// Rows of one merged part at most: it is made in memory.
const PART_ROWS: u64 = 1 << 20;

/// Rows of one part of an index that go on living, ascending.
struct Source<'a> {
    index: &'a TextIndex,
    part: &'a TextPart,
    live: Vec<Range<u32>>,
}

impl Source<'_> {
    fn rows(&self) -> u64 {
        self.live.iter().map(|run| run.len() as u64).sum()
    }

    /// The rows as documents of the part.
    fn alive(&self) -> Result<AliveBitSet> {
        let mut alive = BitSet::with_max_value(self.part.reader.max_doc());
        self.live.iter().cloned().flatten().for_each(|row| {
            alive.insert(row - self.part.first);
        });
        let mut bytes = Vec::new();
        alive.serialize(&mut bytes).map_err(internal)?;
        Ok(AliveBitSet::open(OwnedBytes::new(bytes)))
    }
}

/// The payload of the index of the live rows of `indexes`, one after the other.
pub(crate) fn merge(indexes: &[(Arc<TextIndex>, Vec<Range<u32>>)]) -> Result<Vec<u8>> {
    let mut built = Vec::new();
    let (mut group, mut rows) = (Vec::new(), 0);
    for (index, runs) in indexes {
        for part in &index.parts {
            let (start, end) = (part.first, part.first + part.reader.max_doc());
            let clip = |run: &Range<u32>| run.start.max(start)..run.end.min(end);
            let live: Vec<_> = runs.iter().map(clip).filter(|run| !run.is_empty()).collect();
            let source = Source { index, part, live };
            if rows + source.rows() > PART_ROWS && rows > 0 {
                built.push(merge_part(&std::mem::take(&mut group))?);
                rows = 0;
            }
            rows += source.rows();
            group.extend((source.rows() > 0).then_some(source));
        }
    }
    if !group.is_empty() {
        built.push(merge_part(&group)?);
    }
    Ok(payload_of(&built))
}

fn merge_part(sources: &[Source<'_>]) -> Result<Built> {
    let segments: Vec<_> = sources.iter().map(|source| source.part.segment.clone()).collect();
    let alive = sources.iter().map(|source| source.alive().map(Some)).collect::<Result<_>>()?;
    let directory = RamDirectory::create();
    let index = merge_filtered_segments(&segments, settings(), alive, directory.clone()).map_err(internal)?;
    let lengths = sources.iter().flat_map(|source| {
        let runs = source.live.iter().cloned();
        runs.flat_map(|run| source.index.lengths(run))
    });
    Ok(Built { files: files_of(&index, &directory)?, lengths: lengths.collect() })
}
