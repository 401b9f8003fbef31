//! The file of a segment's graph: a derived file whose payload is the graph.

use super::derived::{GRAPH, HEADER_BYTES, Owner};
use super::graph::{GraphIndex, Keep};
use crate::error::{Error, Result};
use crate::storage::Storage;

/// How carefully a graph was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub(crate) enum Stage {
    First = 1,
    Settled = 2,
}

/// Writes the file under a temporary name and gives it its own once it is durable.
pub(crate) fn write(storage: &dyn Storage, owner: &Owner<'_>, stage: Stage, graph: &GraphIndex) -> Result<()> {
    GRAPH.write(storage, owner, stage as u16, graph.as_bytes())
}

/// Verifies the whole file of a graph of `count` vectors and copies what `keep` says into memory; `None` if there is none.
pub(crate) fn read(
    storage: &dyn Storage,
    owner: &Owner<'_>,
    count: u32,
    keep: Keep,
) -> Result<Option<(GraphIndex, Stage)>> {
    let Some(file) = GRAPH.read(storage, owner)? else { return Ok(None) };
    let bad = |what: &str| Error::corrupt(GRAPH.path(owner.segment, owner.field), 0, what);
    let stage = [Stage::First, Stage::Settled].into_iter().find(|s| *s as u16 == file.stamp);
    let stage = stage.ok_or_else(|| bad("the index is of an unknown stage"))?;
    let graph = GraphIndex::map(&file.bytes, HEADER_BYTES..file.end, keep)?;
    if graph.len() != count as usize {
        return Err(bad("the index has another number of vectors than its segment"));
    }
    Ok(Some((graph, stage)))
}
