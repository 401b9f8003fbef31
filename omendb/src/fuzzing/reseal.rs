//! Makes the checksums of hostile bytes right, so that the code behind them is reached.

use crate::checksum::{crc32c, xxh3_128};
use crate::codec::{align_up, u32_at, u64_at};
use crate::manifest::{FORMAT_MAJOR, HEADER_BYTES as MANIFEST_HEADER, MAGIC as MANIFEST_MAGIC};
use crate::segment::format::{BLOCK_BYTES, TRAILER_BYTES};
use crate::wal::{FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FRAME_MAGIC, LogKey, MAGIC as LOG_MAGIC};

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = at.checked_add(value.len()).and_then(|end| bytes.get_mut(at..end)) {
        place.copy_from_slice(value);
    }
}

/// The key that a log's own header gives.
pub(super) fn log_key(bytes: &[u8]) -> Option<LogKey> {
    let uuid = bytes.get(16..32)?.try_into().ok()?;
    Some(LogKey { uuid, generation: u64_at(bytes, 4)? })
}

/// The header and up to `frames` frames, as far as lengths allow; the rest stays as it is.
pub(super) fn log(bytes: &mut [u8], key: &LogKey, frames: usize) {
    if bytes.len() < FILE_HEADER_BYTES {
        return;
    }
    put(bytes, 0, LOG_MAGIC);
    put(bytes, 8, &FORMAT_MAJOR.to_le_bytes());
    put(bytes, 16, &key.uuid);
    put(bytes, 32, &key.generation.to_le_bytes());
    let mut chain = crc32c(&[&bytes[..56]]);
    put(bytes, 56, &chain.to_le_bytes());
    let mut at = FILE_HEADER_BYTES;
    for _ in 0..frames {
        let Some(len) = bytes.get(at..at + FRAME_HEADER_BYTES).and_then(|h| u32_at(h, 1)) else { return };
        let start = at + FRAME_HEADER_BYTES;
        let Some(payload) = bytes.get(start..start + len as usize) else { return };
        let crc = crc32c(&[payload]);
        put(bytes, at, &FRAME_MAGIC.to_le_bytes());
        put(bytes, at + 24, &chain.to_le_bytes());
        put(bytes, at + 28, &crc.to_le_bytes());
        chain = crc32c(&[&key.uuid, &key.generation.to_le_bytes(), &bytes[at..at + 36]]);
        put(bytes, at + 36, &chain.to_le_bytes());
        at = start + align_up(u64::from(len), 8) as usize;
    }
}

/// The blocks and the footer of a segment's data file, where its trailer points at a footer of fitting size.
pub(super) fn segment(bytes: &mut [u8]) -> Option<u128> {
    let trailer = bytes.len().checked_sub(TRAILER_BYTES as usize)?;
    let body = usize::try_from(u64_at(&bytes[trailer..], 0)?).ok()?;
    let sections = u32_at(bytes.get(body..trailer)?, 2)? as usize;
    let crcs = body.checked_add(32)?.checked_add(sections.checked_mul(24)?)?;
    let blocks: Vec<u32> = bytes[..body].chunks(BLOCK_BYTES as usize).map(|block| crc32c(&[block])).collect();
    for (i, crc) in blocks.into_iter().enumerate() {
        let at = crcs.checked_add(i * 4).filter(|at| at + 4 <= trailer)?;
        put(bytes, at, &crc.to_le_bytes());
    }
    let hash = xxh3_128(&[&bytes[body..trailer]]);
    put(bytes, trailer + 8, &((trailer - body) as u64).to_le_bytes());
    put(bytes, trailer + 16, &hash.to_le_bytes());
    Some(hash)
}

/// The header of a manifest around whatever payload there is.
pub(super) fn manifest(bytes: &mut [u8]) {
    if bytes.len() < MANIFEST_HEADER {
        return;
    }
    put(bytes, 0, MANIFEST_MAGIC);
    put(bytes, 8, &FORMAT_MAJOR.to_le_bytes());
    put(bytes, 12, &0u32.to_le_bytes());
    let len = (bytes.len() - MANIFEST_HEADER) as u64;
    put(bytes, 32, &len.to_le_bytes());
    let hash = xxh3_128(&[&bytes[..48], &bytes[MANIFEST_HEADER..]]);
    put(bytes, 48, &hash.to_le_bytes());
}
