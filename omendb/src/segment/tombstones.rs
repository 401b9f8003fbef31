//! Which rows of a segment are dead, as of one manifest: a portable roaring bitmap in a file of its own.

use crate::checksum::xxh3_128;
use crate::error::{Error, Result};
use crate::manifest::{SegmentEntry, TombstonesEntry, hex, read_all, tombstones_path, write_new};
use crate::storage::Storage;
use roaring::RoaringBitmap;

/// Writes and syncs the file; its directory is synced by the caller, once for all files of a commit.
pub(crate) fn write(storage: &dyn Storage, segment: u32, number: u64, dead: &RoaringBitmap) -> Result<TombstonesEntry> {
    let mut bytes = Vec::with_capacity(dead.serialized_size());
    dead.serialize_into(&mut bytes).map_err(|e| Error::invalid(format!("tombstones: {e}")))?;
    write_new(storage, &tombstones_path(segment, number), &bytes)?;
    Ok(TombstonesEntry { number, rows: dead.len(), bytes: bytes.len() as u64, hash: hex(xxh3_128(&[&bytes])) })
}

/// Reads the tombstones that a manifest names for a segment.
pub(crate) fn read(storage: &dyn Storage, segment: &SegmentEntry) -> Result<RoaringBitmap> {
    let (Some(entry), Some(path)) = (&segment.tombstones, segment.tombstones_path()) else {
        return Ok(RoaringBitmap::new());
    };
    let bytes = read_all(storage, &path)?;
    decode(&bytes, &path, entry, segment.rows)
}

pub(crate) fn decode(bytes: &[u8], path: &str, entry: &TombstonesEntry, rows: u32) -> Result<RoaringBitmap> {
    let bad = |what: &str| Error::corrupt(path, 0, what);
    if bytes.len() as u64 != entry.bytes || hex(xxh3_128(&[bytes])) != entry.hash {
        return Err(bad("the tombstones' checksum does not match the manifest"));
    }
    let dead = RoaringBitmap::deserialize_from(bytes).map_err(|_| bad("the tombstones do not parse"))?;
    if dead.len() != entry.rows || dead.max().is_some_and(|max| max >= rows) {
        return Err(bad("the tombstones name rows that the segment does not have"));
    }
    Ok(dead)
}
