//! The file of a segment's text index: how are its bytes verified as they are read?

use super::index::TextIndex;
use crate::checksum::crc32c;
use crate::codec::u32_at;
use crate::error::{Error, Result};
use crate::index::derived::{Derived, HEADER_BYTES, Owner, TEXT};
use crate::segment::format::BLOCK_BYTES;
use crate::storage::{Bytes, Pinned, Storage};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tantivy::directory::OwnedBytes;

/// Version of what a text index holds: raised whenever the same text would give other terms or another layout.
const VERSION: u16 = 1;

/// The bytes of a payload, each block verified before it is handed out.
pub(crate) struct Checked {
    payload: OwnedBytes,
    /// Of a file: the checksums of the payload's blocks, and one bit a block, set once it was seen to match.
    file: Option<(OwnedBytes, Vec<AtomicU64>)>,
}

impl std::fmt::Debug for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Checked({} bytes)", self.payload.len())
    }
}

impl Checked {
    /// What was made in memory needs no checking.
    fn in_memory_of(payload: Vec<u8>) -> Checked {
        Checked { payload: OwnedBytes::new(Pinned::new(Bytes::new(payload))), file: None }
    }

    fn of_file(file: &Derived) -> Checked {
        let whole = OwnedBytes::new(Pinned::new(file.bytes.clone()));
        let checksums = whole.slice(file.end..whole.len());
        let seen = (0..(checksums.len() / 4).div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Checked { payload: whole.slice(HEADER_BYTES..file.end), file: Some((checksums, seen)) }
    }

    pub(crate) fn len(&self) -> usize {
        self.payload.len()
    }

    pub(crate) fn in_memory(&self) -> bool {
        self.file.is_none()
    }

    /// All bytes, unverified.
    pub(crate) fn bytes(&self) -> OwnedBytes {
        self.payload.clone()
    }

    /// The bytes of a range within the payload, after verifying every block they touch.
    pub(crate) fn read_bytes(&self, range: Range<usize>) -> std::io::Result<OwnedBytes> {
        if !range.is_empty() {
            let block = |at: usize| at / BLOCK_BYTES as usize;
            (block(range.start)..=block(range.end - 1)).try_for_each(|block| self.verify(block))?;
        }
        Ok(self.payload.slice(range))
    }

    fn verify(&self, block: usize) -> std::io::Result<()> {
        let Some((checksums, seen)) = &self.file else { return Ok(()) };
        let bit = 1u64 << (block % 64);
        if seen.get(block / 64).is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0) {
            return Ok(());
        }
        let start = block * BLOCK_BYTES as usize;
        let bytes = self.payload.get(start..(start + BLOCK_BYTES as usize).min(self.payload.len())).unwrap_or_default();
        if u32_at(checksums, block) != Some(crc32c(&[bytes])) {
            let what = format!("the text index does not match its checksum at byte {}", HEADER_BYTES + start);
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
        }
        if let Some(word) = seen.get(block / 64) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Opens what was built in memory.
pub(crate) fn open_built(payload: Vec<u8>, rows: u32, segment: Option<u32>) -> Result<TextIndex> {
    let path = segment.map_or_else(|| "memory".to_owned(), |segment| TEXT.path(segment, None));
    TextIndex::open(Arc::new(Checked::in_memory_of(payload)), rows, &path)
}

/// Writes a segment's text index.
pub(crate) fn write(storage: &dyn Storage, owner: &Owner<'_>, index: &TextIndex) -> Result<()> {
    TEXT.write(storage, owner, VERSION, index.payload())
}

/// Opens a segment's text index; `None` if there is none, or one of another version.
pub(crate) fn read(storage: &dyn Storage, owner: &Owner<'_>) -> Result<Option<TextIndex>> {
    match TEXT.read(storage, owner)? {
        Some(file) if file.stamp == VERSION => {
            let path = TEXT.path(owner.segment, None);
            TextIndex::open(Arc::new(Checked::of_file(&file)), owner.rows, &path).map(Some)
        }
        _ => Ok(None),
    }
}

/// Verifies every byte of a segment's text index; how many there are, if there is one.
pub(crate) fn check(storage: &dyn Storage, owner: &Owner<'_>) -> Result<Option<u64>> {
    let Some(file) = TEXT.read(storage, owner)? else { return Ok(None) };
    let checked = Checked::of_file(&file);
    checked
        .read_bytes(0..checked.len())
        .map_err(|e| Error::corrupt(TEXT.path(owner.segment, None), 0, e.to_string()))?;
    Ok(Some(file.bytes.len() as u64))
}
