//! The file of a segment's graph. Derived data: whatever is wrong with it, it is made again.
//!
//! ```text
//! segments/<id>.index
//! offset bytes what
//! 0      8     magic "OMENIDX1"
//! 8      2+2   format version: major, minor
//! 12     4     stage: 1 first graph, 2 settled
//! 16     16    database uuid
//! 32     4     segment id
//! 36     4     rows
//! 40     8     payload length
//! 48     16    XXH3-128 of the footer of the segment's data file, as the manifest names it
//! 64     16    XXH3-128 over bytes 0..64 and the payload
//! 80     48    0
//! 128    ...   payload: the graph, as laid out in `index/graph/layout.rs`
//! ```
//! It names the one data file that it was made from and needs no entry in the manifest.

use super::graph::GraphIndex;
use crate::checksum::xxh3_128;
use crate::codec::Reader;
use crate::error::{Error, Result};
use crate::manifest::{FORMAT_MAJOR, FORMAT_MINOR, SEGMENT_DIR, hex};
use crate::storage::{OpenMode, Storage};

/// First bytes of every index file.
pub const MAGIC: &[u8; 8] = b"OMENIDX1";
/// Bytes before the payload.
pub const HEADER_BYTES: usize = 128;
const WRITE_BYTES: usize = 8 << 20;

/// How carefully a graph was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub(crate) enum Stage {
    First = 1,
    Settled = 2,
}

/// Which data file a graph belongs to.
pub(crate) struct Owner<'a> {
    pub(crate) uuid: [u8; 16],
    pub(crate) segment: u32,
    pub(crate) rows: u32,
    /// XXH3-128 of its footer, in hexadecimal.
    pub(crate) footer: &'a str,
}

pub(crate) fn index_path(segment: u32) -> String {
    format!("{SEGMENT_DIR}/{segment:08}.index")
}

/// The segment that an index file's name belongs to.
pub(crate) fn parse_segment(name: &str) -> Option<u32> {
    name.strip_suffix(".index")?.parse().ok()
}

fn header(owner: &Owner<'_>, stage: Stage, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT_MAJOR.to_le_bytes());
    out.extend_from_slice(&FORMAT_MINOR.to_le_bytes());
    out.extend_from_slice(&(stage as u32).to_le_bytes());
    out.extend_from_slice(&owner.uuid);
    out.extend_from_slice(&owner.segment.to_le_bytes());
    out.extend_from_slice(&owner.rows.to_le_bytes());
    out.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    out.extend_from_slice(&u128::from_str_radix(owner.footer, 16).unwrap_or_default().to_le_bytes());
    let hash = xxh3_128(&[&out, payload]);
    out.extend_from_slice(&hash.to_le_bytes());
    out.resize(HEADER_BYTES, 0);
    out
}

/// Writes the file under a temporary name and gives it its own once it is durable.
pub(crate) fn write(storage: &dyn Storage, owner: &Owner<'_>, stage: Stage, graph: &GraphIndex) -> Result<()> {
    let path = index_path(owner.segment);
    let temporary = format!("{path}.tmp");
    let payload = graph.as_bytes();
    let head = header(owner, stage, payload);
    // A leftover of an interrupted attempt would be in the way.
    let _ = storage.remove(&temporary);
    let written = storage.open(&temporary, OpenMode::CreateNew).and_then(|file| {
        file.write_at(&head, 0)?;
        for (chunk, i) in payload.chunks(WRITE_BYTES).zip(0u64..) {
            file.write_at(chunk, HEADER_BYTES as u64 + i * WRITE_BYTES as u64)?;
        }
        file.sync_data()?;
        storage.rename(&temporary, &path)?;
        storage.sync_dir(SEGMENT_DIR)
    });
    written.map_err(|e| {
        let _ = storage.remove(&temporary);
        Error::io("write", path, &e)
    })
}

/// Reads and verifies the whole file; `None` if there is none.
pub(crate) fn read(storage: &dyn Storage, owner: &Owner<'_>) -> Result<Option<(GraphIndex, Stage)>> {
    let path = index_path(owner.segment);
    let bytes = match storage.map(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", path, &e)),
    };
    let bad = |what: &str| Error::corrupt(&path, 0, what);
    let mut r = Reader::new(&bytes);
    let fields = (|| {
        Some((r.take(8)?, r.u16()?, r.u16()?, r.u32()?, r.uuid()?, r.u32()?, r.u32()?, r.u64()?, r.u128()?, r.u128()?))
    })();
    let Some((magic, major, _, stage, uuid, segment, rows, len, footer, hash)) = fields else {
        return Err(bad("the index is shorter than its header"));
    };
    let payload = bytes.get(HEADER_BYTES..).unwrap_or_default();
    if magic != MAGIC || len != payload.len() as u64 || xxh3_128(&[&bytes[..64], payload]) != hash {
        return Err(bad("the index's checksum does not match"));
    }
    let same = uuid == owner.uuid && segment == owner.segment && rows == owner.rows && hex(footer) == owner.footer;
    let stage = [Stage::First, Stage::Settled].into_iter().find(|s| *s as u32 == stage);
    let (true, Some(stage), true) = (same, stage, major == FORMAT_MAJOR) else {
        return Err(bad("the index is of another version or belongs to another segment"));
    };
    let graph = GraphIndex::parse(payload)?;
    if graph.len() != rows as usize {
        return Err(bad("the index has another number of rows than its segment"));
    }
    Ok(Some((graph, stage)))
}
