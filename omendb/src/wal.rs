//! The write-ahead log: frames of one generation in one preallocated file.
//!
//! ```text
//! wal/<generation>.log
//! header, 64 bytes                           frame, at a multiple of 8
//! offset bytes what                          offset bytes what
//! 0      8     magic "OMENLOG1"              0      4     magic "OFRM"
//! 8      2+2   format version                4      4     payload length
//! 12     4     0                             8      8     seq, one more than the frame's before
//! 16     16    database uuid                 16     8     durable seq: known to be on disk when this was written
//! 32     8     generation                    24     4     header CRC32C of the frame before (or of the file header)
//! 40     8     seq of the first frame        28     4     CRC32C of the payload
//! 48     8     manifest number at creation   32     4     kind: 1 upsert, 2 delete, 3 seal
//! 56     4     CRC32C over 0..56             36     4     CRC32C over uuid, generation and 0..36
//! 60     4     0                             40     ...   payload, padded with zeros to a multiple of 8
//! ```
//! A frame that does not verify ends the log. If any later frame says that the missing seq was durable, that is
//! damage (`Corrupt`); otherwise it is the torn tail of writes that were never acknowledged.

use crate::checksum::crc32c;
use crate::codec::{Reader, align_up, u32_at};
use crate::error::{Error, Result};
use crate::manifest::{FORMAT_MAJOR, FORMAT_MINOR, LOG_DIR, MAX_NUMBER, make_new};
use crate::storage::{File, OpenMode, Storage};
use std::ops::Range;

/// First bytes of every log.
pub const MAGIC: &[u8; 8] = b"OMENLOG1";
/// First bytes of every frame.
pub const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"OFRM");
/// Bytes before the first frame.
pub const FILE_HEADER_BYTES: usize = 64;
/// Bytes before a frame's payload.
pub const FRAME_HEADER_BYTES: usize = 40;
/// What is written at a time where frames are to go.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// Space in the log that only deletes may use when the device is full.
const DELETE_RESERVE: u64 = 64 << 10;
/// What a log takes at a time on a device that has no room for more than deletes.
pub(crate) const SMALL_CHUNK: u64 = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum FrameKind {
    Upsert = 1,
    Delete = 2,
    /// Written when a log ends cleanly: what came before is whole.
    Seal = 3,
}

impl FrameKind {
    fn from_u32(n: u32) -> Option<Self> {
        [FrameKind::Upsert, FrameKind::Delete, FrameKind::Seal].into_iter().find(|k| *k as u32 == n)
    }
}

/// A frame that has no place in a log yet.
#[derive(Debug)]
pub(crate) struct Draft {
    kind: FrameKind,
    pub(crate) payload: Vec<u8>,
    payload_crc: u32,
}

impl Draft {
    pub(crate) fn new(kind: FrameKind, payload: Vec<u8>) -> Draft {
        Draft { kind, payload_crc: crc32c(&[&payload]), payload }
    }

    /// Bytes it takes in a log.
    pub(crate) fn frame_bytes(&self) -> u64 {
        align_up((FRAME_HEADER_BYTES + self.payload.len()) as u64, 8)
    }
}

pub(crate) fn log_path(generation: u64) -> String {
    format!("{LOG_DIR}/{generation:08}.log")
}

pub(crate) fn parse_generation(name: &str) -> Option<u64> {
    name.strip_suffix(".log")?.parse().ok().filter(|n| *n < MAX_NUMBER)
}

/// What the checksums of one log are keyed with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogKey {
    pub(crate) uuid: [u8; 16],
    pub(crate) generation: u64,
}

impl LogKey {
    fn frame_crc(&self, header: &[u8]) -> u32 {
        crc32c(&[&self.uuid, &self.generation.to_le_bytes(), header])
    }
}

/// Appends frames to one generation.
#[derive(Debug)]
pub(crate) struct LogWriter {
    key: LogKey,
    file: Box<dyn File>,
    /// Where the next frame goes.
    offset: u64,
    /// How far the file holds zeros to write over.
    prepared: u64,
    chunk: u64,
    chain: u32,
    buffer: Vec<u8>,
}

impl LogWriter {
    /// Makes the file of a new generation durable, name and all, before any frame goes into it: so a log that has its
    /// final name has a whole header, and one that does not verify is damage.
    pub(crate) fn create(
        storage: &dyn Storage,
        key: LogKey,
        first_seq: u64,
        manifest: u64,
        chunk: u64,
    ) -> Result<LogWriter> {
        let path = log_path(key.generation);
        let mut header = Vec::with_capacity(FILE_HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&FORMAT_MAJOR.to_le_bytes());
        header.extend_from_slice(&FORMAT_MINOR.to_le_bytes());
        header.extend_from_slice(&0u32.to_le_bytes());
        header.extend_from_slice(&key.uuid);
        header.extend_from_slice(&key.generation.to_le_bytes());
        header.extend_from_slice(&first_seq.to_le_bytes());
        header.extend_from_slice(&manifest.to_le_bytes());
        let chain = crc32c(&[&header]);
        header.extend_from_slice(&chain.to_le_bytes());
        header.resize(FILE_HEADER_BYTES, 0);
        let prepared = align_up(FILE_HEADER_BYTES as u64 + 1, chunk) + DELETE_RESERVE.min(chunk);
        write_whole(storage, &path, &header, prepared)?;
        let file = storage.open(&path, OpenMode::ReadWrite).map_err(|e| Error::io("open", &path, &e))?;
        Ok(LogWriter { key, file, offset: FILE_HEADER_BYTES as u64, prepared, chunk, chain, buffer: Vec::new() })
    }

    pub(crate) fn generation(&self) -> u64 {
        self.key.generation
    }

    /// Bytes in use.
    pub(crate) fn len(&self) -> u64 {
        self.offset
    }

    /// Makes sure that `bytes` more of frames fit into prepared space, or fails with nothing written that counts.
    /// Deletes may use the reserve when the device has no room for more.
    pub(crate) fn prepare(&mut self, bytes: u64, may_use_reserve: bool) -> Result<()> {
        let reserve = DELETE_RESERVE.min(self.chunk);
        let end = self.offset + bytes;
        if end + reserve <= self.prepared {
            return Ok(());
        }
        match self.grow(align_up(end, self.chunk) + reserve) {
            Ok(()) => Ok(()),
            Err(_) if may_use_reserve && (end <= self.prepared || self.grow(align_up(end, SMALL_CHUNK)).is_ok()) => {
                Ok(())
            }
            Err(e) => Err(Error::io("extend", log_path(self.key.generation), &e)),
        }
    }

    fn grow(&mut self, target: u64) -> std::io::Result<()> {
        write_zeros(&*self.file, self.prepared..target)?;
        self.file.sync_data()?;
        self.prepared = target;
        Ok(())
    }

    /// Another amount to grow by from now on.
    pub(crate) fn with_chunk(mut self, chunk: u64) -> Self {
        self.chunk = chunk;
        self
    }

    /// Adds a frame to the buffer of the next [`LogWriter::write`].
    pub(crate) fn push(&mut self, frame: &Draft, seq: u64, durable_seq: u64) {
        self.chain = push_frame(&mut self.buffer, &self.key, self.chain, frame, seq, durable_seq);
    }

    /// Hands the buffered frames to the operating system. After a failure the log must not be written again.
    pub(crate) fn write(&mut self) -> std::io::Result<()> {
        self.file.write_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes every written frame durable. After a failure the log must not be written again.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.file.sync_data()
    }

    /// Ends the log, whose frames must be durable: a seal, the unused space given back.
    pub(crate) fn seal(mut self, seq: u64) -> std::io::Result<()> {
        self.push(&Draft::new(FrameKind::Seal, Vec::new()), seq, seq - 1);
        self.write()?;
        self.sync()?;
        self.file.set_len(self.offset)?;
        self.sync()
    }
}

/// Writes zeros behind what a file holds.
///
/// Piece by piece: what Linux takes in with one call, it keeps as one unit of up to 2 MiB where memory allows, and goes
/// through the whole unit at every small write into it.
fn write_zeros(file: &dyn File, range: Range<u64>) -> std::io::Result<()> {
    let mut start = range.start;
    while start < range.end {
        let end = align_up(start + 1, ZEROS.len() as u64).min(range.end);
        file.write_at(&ZEROS[..(end - start) as usize], start)?;
        start = end;
    }
    Ok(())
}

/// Writes a whole file under a temporary name, with zeros after its bytes up to `len`, and gives it its own name once
/// it is durable.
fn write_whole(storage: &dyn Storage, path: &str, bytes: &[u8], len: u64) -> Result<()> {
    let temporary = format!("{path}.tmp");
    make_new(storage, &temporary, |file| {
        file.write_at(bytes, 0)?;
        write_zeros(file, bytes.len() as u64..len)
    })?;
    let named = storage.rename(&temporary, path).and_then(|()| storage.sync_dir(LOG_DIR));
    named.map_err(|e| Error::io("rename", path, &e))
}

/// Replaces a log that was not ended cleanly by its verified frames and a seal.
///
/// What recovery read may be in the operating system's memory only, and after a failed sync may never have been
/// written although it reads back: only bytes written anew are sure to be on stable storage.
pub(crate) fn rewrite_sealed(storage: &dyn Storage, path: &str, key: LogKey, whole: &[u8], end: &LogEnd) -> Result<()> {
    let mut buffer = whole.to_vec();
    // A file that was cut off within the padding of its last frame ends askew.
    buffer.resize(align_up(buffer.len() as u64, 8) as usize, 0);
    let seal = Draft::new(FrameKind::Seal, Vec::new());
    push_frame(&mut buffer, &key, end.chain, &seal, end.next_seq, end.next_seq - 1);
    write_whole(storage, path, &buffer, 0)
}

/// Appends one frame; returns the CRC of its header, which the next frame names.
fn push_frame(out: &mut Vec<u8>, key: &LogKey, chain: u32, frame: &Draft, seq: u64, durable_seq: u64) -> u32 {
    let start = out.len();
    out.extend_from_slice(&FRAME_MAGIC.to_le_bytes());
    out.extend_from_slice(&(frame.payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&durable_seq.to_le_bytes());
    out.extend_from_slice(&chain.to_le_bytes());
    out.extend_from_slice(&frame.payload_crc.to_le_bytes());
    out.extend_from_slice(&(frame.kind as u32).to_le_bytes());
    let crc = key.frame_crc(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&frame.payload);
    out.resize(align_up(out.len() as u64, 8) as usize, 0);
    crc
}

/// One verified frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: FrameKind,
    pub(crate) seq: u64,
    pub(crate) payload: &'a [u8],
    pub(crate) offset: u64,
}

/// How a log ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogEnd {
    /// The seq that the next frame would have had.
    pub(crate) next_seq: u64,
    /// Bytes of verified frames, header and all.
    pub(crate) valid_bytes: u64,
    /// Bytes of an unacknowledged tail that were left out.
    pub(crate) torn_bytes: u64,
    pub(crate) sealed: bool,
    /// Header CRC of the last verified frame.
    chain: u32,
}

/// The header of a log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogHeader {
    pub(crate) first_seq: u64,
    pub(crate) manifest: u64,
    chain: u32,
}

/// Reads the header.
pub(crate) fn read_header(bytes: &[u8], path: &str, key: &LogKey) -> Result<LogHeader> {
    let bad = |what: &str| Error::corrupt(path, 0, what);
    let header = bytes.get(..FILE_HEADER_BYTES).filter(|h| u32_at(h, 14) == Some(crc32c(&[&h[..56]])));
    let Some(header) = header else { return Err(bad("the log's header does not verify")) };
    let mut r = Reader::new(header);
    let fields = (|| Some((r.take(8)?, r.u16()?, r.u16()?, r.u32()?, r.uuid()?, r.u64()?, r.u64()?, r.u64()?)))();
    let Some((magic, major, _, _, uuid, generation, first_seq, manifest)) = fields else {
        return Err(bad("the log is shorter than its header"));
    };
    if magic != MAGIC {
        return Err(bad("the log's magic is wrong"));
    }
    if major != FORMAT_MAJOR {
        return Err(Error::Unsupported(format!(
            "{path} has format version {major}; this version reads {FORMAT_MAJOR}"
        )));
    }
    if uuid != key.uuid || generation != key.generation {
        return Err(bad("the log belongs to another database or generation"));
    }
    Ok(LogHeader { first_seq, manifest, chain: crc32c(&[&header[..56]]) })
}

/// Calls `apply` for every verified data frame in order.
pub(crate) fn replay(
    bytes: &[u8],
    path: &str,
    key: &LogKey,
    header: &LogHeader,
    mut apply: impl FnMut(Frame<'_>) -> Result<()>,
) -> Result<LogEnd> {
    let mut offset = FILE_HEADER_BYTES;
    let mut chain = header.chain;
    let mut next_seq = header.first_seq;
    let mut sealed = false;
    while let Some((frame, crc, end)) = parse_frame(bytes, offset, key) {
        let linked = u32_at(&bytes[offset..], 6) == Some(chain);
        if !linked || frame.seq != next_seq || sealed {
            break;
        }
        chain = crc;
        offset = end;
        if frame.kind == FrameKind::Seal {
            sealed = true;
        } else {
            next_seq += 1;
            apply(frame)?;
        }
    }
    let rest = &bytes[offset..];
    if sealed || rest.iter().all(|b| *b == 0) {
        return Ok(LogEnd { next_seq, valid_bytes: offset as u64, torn_bytes: 0, sealed, chain });
    }
    if let Some(durable) = later_durable_seq(bytes, offset, key)
        && durable >= next_seq
    {
        return Err(Error::corrupt(
            path,
            offset as u64,
            format!("the frame of commit {next_seq} does not verify, but commits up to {durable} were on disk"),
        ));
    }
    let torn = rest.len() - rest.iter().rev().take_while(|b| **b == 0).count();
    Ok(LogEnd { next_seq, valid_bytes: offset as u64, torn_bytes: torn as u64, sealed: false, chain })
}

/// Every frame from `from` on that verifies by itself, whatever came before it: for salvage and degraded reading.
pub(crate) fn whole_frames<'a>(bytes: &'a [u8], from: usize, key: &LogKey) -> Vec<Frame<'a>> {
    let mut frames: Vec<Frame<'a>> = Vec::new();
    let mut at = from.next_multiple_of(8);
    while at < bytes.len() {
        match parse_frame(bytes, at, key) {
            Some((frame, _, end)) => {
                frames.push(frame);
                at = end;
            }
            None => at += 8,
        }
    }
    frames
}

/// Parses and verifies the frame at `offset`: the frame, its header's CRC, where it ends.
fn parse_frame<'a>(bytes: &'a [u8], offset: usize, key: &LogKey) -> Option<(Frame<'a>, u32, usize)> {
    let (kind, seq, _durable, len, crc) = parse_frame_header(bytes, offset, key)?;
    let start = offset + FRAME_HEADER_BYTES;
    let payload = bytes.get(start..start.checked_add(len)?)?;
    if crc32c(&[payload]) != u32_at(&bytes[offset..], 7)? && !crate::mutant::active("ignore-log-checksum") {
        return None;
    }
    let end = (start + len).next_multiple_of(8).min(bytes.len());
    Some((Frame { kind, seq, payload, offset: offset as u64 }, crc, end))
}

/// Verifies a frame's header alone: kind, seq, durable seq, payload length, header CRC.
fn parse_frame_header(bytes: &[u8], offset: usize, key: &LogKey) -> Option<(FrameKind, u64, u64, usize, u32)> {
    let header = bytes.get(offset..offset.checked_add(FRAME_HEADER_BYTES)?)?;
    let mut r = Reader::new(header);
    if r.u32()? != FRAME_MAGIC {
        return None;
    }
    let (len, seq, durable) = (r.u32()?, r.u64()?, r.u64()?);
    let (_chain, _payload_crc, kind, crc) = (r.u32()?, r.u32()?, r.u32()?, r.u32()?);
    if key.frame_crc(&header[..36]) != crc {
        return None;
    }
    Some((FrameKind::from_u32(kind)?, seq, durable, len as usize, crc))
}

/// The highest durable seq that any frame header beyond `from` vouches for.
fn later_durable_seq(bytes: &[u8], from: usize, key: &LogKey) -> Option<u64> {
    (from.next_multiple_of(8)..bytes.len())
        .step_by(8)
        .filter_map(|at| parse_frame_header(bytes, at, key).map(|(_, _, durable, _, _)| durable))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemStorage;

    const KEY: LogKey = LogKey { uuid: [7; 16], generation: 3 };

    fn sample(sealed: bool) -> Vec<u8> {
        let storage = MemStorage::new();
        storage.create_dir(LOG_DIR).unwrap();
        let mut log = LogWriter::create(&storage, KEY, 10, 1, 4096).unwrap();
        for seq in 10..15 {
            let payload = vec![seq as u8; seq as usize * 3];
            let frame = Draft::new(FrameKind::Upsert, payload);
            log.prepare(frame.frame_bytes(), false).unwrap();
            log.push(&frame, seq, seq - 1);
            log.write().unwrap();
            log.sync().unwrap();
        }
        if sealed {
            log.seal(15).unwrap();
        }
        storage.map(&log_path(3)).unwrap().to_vec()
    }

    fn read(bytes: &[u8]) -> Result<(Vec<u64>, LogEnd)> {
        let header = read_header(bytes, "log", &KEY)?;
        let mut seqs = vec![];
        let end = replay(bytes, "log", &KEY, &header, |f| {
            assert!(f.payload.iter().all(|b| u64::from(*b) == f.seq));
            seqs.push(f.seq);
            Ok(())
        })?;
        Ok((seqs, end))
    }

    #[test]
    fn frames_come_back_in_order() {
        for sealed in [false, true] {
            let (seqs, end) = read(&sample(sealed)).unwrap();
            assert_eq!(seqs, [10, 11, 12, 13, 14]);
            assert_eq!((end.next_seq, end.torn_bytes, end.sealed), (15, 0, sealed));
        }
    }

    #[test]
    fn a_torn_tail_is_cut_and_a_damaged_middle_is_not() {
        let whole = sample(false);
        let last = whole.iter().rposition(|b| *b != 0).unwrap();
        let mut torn = whole.clone();
        torn[last] ^= 1;
        let (seqs, end) = read(&torn).unwrap();
        assert_eq!(seqs, [10, 11, 12, 13]);
        assert!(end.torn_bytes > 0);
        let mut damaged = whole;
        damaged[FILE_HEADER_BYTES + FRAME_HEADER_BYTES + 2] ^= 0x10;
        assert!(matches!(read(&damaged), Err(Error::Corrupt { .. })));
    }

    #[test]
    fn no_flip_in_a_sealed_log_goes_unnoticed() {
        let whole = sample(true);
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                match read(&flipped) {
                    Err(_) => {}
                    Ok((seqs, _)) => assert_eq!(seqs, [10, 11, 12, 13, 14], "byte {at} bit {bit}"),
                }
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic() {
        let mut state = 1u64;
        for len in [0, 1, 39, 40, 63, 64, 65, 200, 4096] {
            let bytes: Vec<u8> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (state >> 33) as u8
                })
                .collect();
            let _ = read(&bytes);
        }
    }
}
