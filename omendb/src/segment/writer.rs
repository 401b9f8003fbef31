//! Writes one segment's data file: layout first, then the sections, by two threads where they are large.

use super::RowSource;
use super::format::{BLOCK_BYTES, Footer, Header, Section, SectionKind, SegmentSchema, place};
use crate::checksum::Crc32c;
use crate::error::{Error, Result};
use crate::manifest::{SegmentEntry, data_path, hex};
use crate::storage::{File, OpenMode, Storage};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

/// Small pieces are gathered up to this size before they go to the file.
const BUFFER_BYTES: usize = 256 << 10;
/// Vectors are handed to the file in runs of at most this size.
const RUN_BYTES: usize = 1 << 20;
/// The device is set to work whenever this much more was handed to a large file: it writes while the rest is copied.
const EARLY_SYNC_BYTES: u64 = 2 << 20;

/// Rows to write, in order: ranges of several sources.
pub(crate) struct Selection<'a> {
    pub(crate) parts: Vec<(&'a dyn RowSource, Vec<Range<u32>>)>,
}

impl Selection<'_> {
    pub(crate) fn rows(&self) -> u64 {
        self.parts.iter().flat_map(|(_, runs)| runs).map(|r| u64::from(r.end - r.start)).sum()
    }

    fn for_each(&self, mut f: impl FnMut(&dyn RowSource, u32) -> Result<()>) -> Result<()> {
        for (source, runs) in &self.parts {
            for row in runs.iter().cloned().flatten() {
                f(*source, row)?;
            }
        }
        Ok(())
    }
}

/// What the new file is.
pub(crate) struct NewSegment<'a> {
    pub(crate) header: Header,
    pub(crate) schema: &'a SegmentSchema,
}

/// Writes and syncs the file. Its name is not durable before the caller has synced the directory.
/// On failure the file is removed again.
pub(crate) fn write(storage: &dyn Storage, new: &NewSegment<'_>, rows: &Selection<'_>) -> Result<SegmentEntry> {
    let path = data_path(new.header.segment);
    write_file(storage, &path, new, rows).inspect_err(|_| {
        // Best effort: a leftover is not named by any manifest and is removed at the next open.
        let _ = storage.remove(&path);
    })
}

fn write_file(storage: &dyn Storage, path: &str, new: &NewSegment<'_>, rows: &Selection<'_>) -> Result<SegmentEntry> {
    let count = u32::try_from(new.header.rows).map_err(|_| {
        Error::LimitExceeded(format!("a segment of {} rows; the limit is {}", new.header.rows, u32::MAX))
    })?;
    let schema = serde_json::to_vec(new.schema).map_err(|e| Error::invalid(format!("schema: {e}")))?;
    let totals = Totals::of(rows, new.schema.schema.fields.len())?;
    let blob_ends = |bytes: u64| if bytes == 0 { 0 } else { u64::from(count) * 8 };
    let stride = new.schema.schema.stride() as u64;
    let mut lengths = vec![
        (SectionKind::Schema, schema.len() as u64),
        (SectionKind::IdHashes, u64::from(count) * 8),
        (SectionKind::IdEnds, u64::from(count) * 4),
        (SectionKind::Ids, totals.ids),
        (SectionKind::MetadataEnds, blob_ends(totals.metadata)),
        (SectionKind::Metadata, totals.metadata),
        (SectionKind::TextEnds, blob_ends(totals.text)),
        (SectionKind::Text, totals.text),
        (SectionKind::Vectors, u64::from(count) * stride),
    ];
    for (field, bytes) in totals.fields.iter().enumerate() {
        lengths.push((SectionKind::FieldEnds(field), blob_ends(*bytes)));
        lengths.push((SectionKind::Field(field), *bytes));
    }
    let (sections, body) = place(&lengths);
    let mut footer = Footer { rows: count, body, sections, crcs: Vec::new() };
    let file = storage.open(path, OpenMode::CreateNew).map_err(|e| Error::io("create", path, &e))?;
    let vectors = footer.section(SectionKind::Vectors);
    let small = |out: &mut Body<'_>| -> Result<()> {
        out.append(&new.header.encode())?;
        out.append_at(footer.section(SectionKind::Schema), &schema)?;
        write_ids(out, &footer, rows)?;
        write_blobs(out, &footer, SectionKind::MetadataEnds, SectionKind::Metadata, rows, |s, row| s.metadata(row))?;
        write_blobs(out, &footer, SectionKind::TextEnds, SectionKind::Text, rows, |s, row| s.text(row))
    };
    let large = |out: &mut Body<'_>| -> Result<()> {
        out.seek(vectors.offset)?;
        write_vectors(out, rows, stride as usize)?;
        for field in 0..totals.fields.len() {
            let (ends, data) = (SectionKind::FieldEnds(field), SectionKind::Field(field));
            write_blobs(out, &footer, ends, data, rows, |s, row| s.field(field, row))?;
        }
        out.seek(body)
    };
    let file = &*file;
    footer.crcs = if vectors.offset.is_multiple_of(BLOCK_BYTES) && storage.parallel() {
        write_in_parallel(file, path, vectors, small, large)?
    } else {
        let mut out = Body::new(file, path, 0);
        small(&mut out)?;
        large(&mut out)?;
        out.finish()?
    };
    let (tail, hash) = footer.encode();
    file.write_at(&tail, body).and_then(|()| file.sync_data()).map_err(|e| Error::io("write", path, &e))?;
    Ok(SegmentEntry {
        id: new.header.segment,
        rows: count,
        seq: new.header.seq,
        bytes: body + tail.len() as u64,
        footer: hex(hash),
        tombstones: None,
    })
}

/// Writes what lies before the vectors and what follows from there on two threads, while a third keeps the device at
/// work; returns the CRCs of all blocks.
fn write_in_parallel(
    file: &dyn File,
    path: &str,
    vectors: Section,
    small: impl FnOnce(&mut Body<'_>) -> Result<()>,
    large: impl FnOnce(&mut Body<'_>) -> Result<()> + Send,
) -> Result<Vec<u32>> {
    let join = |_| Error::Unusable("a writer thread panicked".into());
    let (handed_over, waiting) = std::sync::mpsc::sync_channel(1);
    let all_handed_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Once everything is handed over, the last sync of the file is the next one that is due.
        let wanted = || waiting.into_iter().take_while(|()| !all_handed_over.load(Ordering::Relaxed));
        // A sync that fails must not be repeated: its error is the outcome of the whole file.
        let sync = || wanted().try_for_each(|()| file.sync_data().map_err(|e| Error::io("sync", path, &e)));
        let early = (vectors.len >= 2 * EARLY_SYNC_BYTES).then(|| scope.spawn(sync));
        let handed_over = early.is_some().then_some(handed_over);
        let tail = scope.spawn(move || {
            let mut out = Body::new(file, path, vectors.offset);
            out.handed_over = handed_over;
            large(&mut out)?;
            out.finish()
        });
        let mut out = Body::new(file, path, 0);
        small(&mut out)?;
        out.seek(vectors.offset)?;
        let mut crcs = out.finish()?;
        crcs.extend(tail.join().map_err(join)??);
        all_handed_over.store(true, Ordering::Relaxed);
        early.map_or(Ok(Ok(())), |thread| thread.join()).map_err(join)??;
        Ok(crcs)
    })
}

/// Bytes of the variable sections.
#[derive(Default)]
struct Totals {
    ids: u64,
    metadata: u64,
    text: u64,
    fields: Vec<u64>,
}

impl Totals {
    fn of(rows: &Selection<'_>, fields: usize) -> Result<Totals> {
        let mut totals = Totals { fields: vec![0; fields], ..Totals::default() };
        rows.for_each(|source, row| {
            totals.ids += source.id(row)?.len() as u64;
            totals.metadata += source.metadata(row)?.len() as u64;
            totals.text += source.text(row)?.len() as u64;
            for (field, bytes) in totals.fields.iter_mut().enumerate() {
                *bytes += source.field(field, row)?.len() as u64;
            }
            Ok(())
        })?;
        if totals.ids > u64::from(u32::MAX) {
            return Err(Error::LimitExceeded(format!(
                "{} bytes of ids in one segment; the limit is 4 GiB",
                totals.ids
            )));
        }
        Ok(totals)
    }
}

fn write_ids(out: &mut Body<'_>, footer: &Footer, rows: &Selection<'_>) -> Result<()> {
    out.seek(footer.section(SectionKind::IdHashes).offset)?;
    rows.for_each(|source, row| out.append(&source.hash(row)?.to_le_bytes()))?;
    out.seek(footer.section(SectionKind::IdEnds).offset)?;
    let mut end = 0u32;
    rows.for_each(|source, row| {
        end += source.id(row)?.len() as u32;
        out.append(&end.to_le_bytes())
    })?;
    out.seek(footer.section(SectionKind::Ids).offset)?;
    rows.for_each(|source, row| out.append(source.id(row)?))
}

fn write_blobs(
    out: &mut Body<'_>,
    footer: &Footer,
    ends: SectionKind,
    data: SectionKind,
    rows: &Selection<'_>,
    get: impl for<'s> Fn(&'s dyn RowSource, u32) -> Result<&'s [u8]>,
) -> Result<()> {
    if footer.section(data).len == 0 {
        return Ok(());
    }
    out.seek(footer.section(ends).offset)?;
    let mut end = 0u64;
    rows.for_each(|source, row| {
        end += get(source, row)?.len() as u64;
        out.append(&end.to_le_bytes())
    })?;
    out.seek(footer.section(data).offset)?;
    rows.for_each(|source, row| out.append(get(source, row)?))
}

fn write_vectors(out: &mut Body<'_>, rows: &Selection<'_>, stride: usize) -> Result<()> {
    let most = (RUN_BYTES / stride).max(1) as u32;
    for (source, runs) in &rows.parts {
        for run in runs {
            let mut first = run.start;
            while first < run.end {
                let count = most.min(run.end - first);
                out.append(source.vectors(first, count)?)?;
                first += count;
            }
        }
    }
    Ok(())
}

/// A stretch of the file's body, written front to back, with the CRC of each block.
struct Body<'a> {
    file: &'a dyn File,
    path: &'a str,
    /// Where `buffer` goes.
    flushed: u64,
    buffer: Vec<u8>,
    /// Where the next byte goes.
    position: u64,
    crc: Crc32c,
    crcs: Vec<u32>,
    /// Told whenever there is more for the device to do.
    handed_over: Option<SyncSender<()>>,
    told: u64,
}

impl<'a> Body<'a> {
    /// `start` is a multiple of the block size.
    fn new(file: &'a dyn File, path: &'a str, start: u64) -> Self {
        Body {
            file,
            path,
            flushed: start,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            position: start,
            crc: Crc32c::new(),
            crcs: Vec::new(),
            handed_over: None,
            told: start,
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
        }
        if bytes.len() >= BUFFER_BYTES / 2 {
            self.flush()?;
            self.file.write_at(bytes, self.flushed).map_err(|e| Error::io("write", self.path, &e))?;
            self.flushed += bytes.len() as u64;
            if let Some(device) = self.handed_over.as_ref().filter(|_| self.flushed - self.told >= EARLY_SYNC_BYTES) {
                // Where it is still busy, the next sync takes these bytes along.
                let _ = device.try_send(());
                self.told = self.flushed;
            }
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.checksum(bytes);
        Ok(())
    }

    fn append_at(&mut self, section: Section, bytes: &[u8]) -> Result<()> {
        self.seek(section.offset)?;
        self.append(bytes)
    }

    fn checksum(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = (BLOCK_BYTES - self.position % BLOCK_BYTES) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.crc.update(now);
            self.position += now.len() as u64;
            if self.position.is_multiple_of(BLOCK_BYTES) {
                self.crcs.push(self.crc.finish());
                self.crc = Crc32c::new();
            }
            bytes = later;
        }
    }

    /// Fills with zeros up to `offset`; does nothing for an absent section (offset 0).
    fn seek(&mut self, offset: u64) -> Result<()> {
        let zeros = [0u8; 4096];
        while self.position < offset {
            let n = (offset - self.position).min(zeros.len() as u64) as usize;
            self.append(&zeros[..n])?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.file.write_at(&self.buffer, self.flushed).map_err(|e| Error::io("write", self.path, &e))?;
            self.flushed += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u32>> {
        self.flush()?;
        if !self.position.is_multiple_of(BLOCK_BYTES) {
            self.crcs.push(self.crc.finish());
        }
        Ok(self.crcs)
    }
}
