//! The inverted index of one segment's or block's texts: how is it built, laid out and opened?
//!
//! ```text
//! payload   offset  bytes  what
//!           0       4      parts n
//!           4       4      rows
//!           8       56n    rows u32, 0 u32, length u64 of each of the part's six files
//!           ..      4      a row: how many terms its text has, or 2^32 - 1 if it has no text
//!           ..      ...    the files of each part, one after the other: what `tantivy` wrote for its rows, in the
//!                          order .term .idx .pos .fieldnorm .fast .store
//! ```
//! A part holds up to 131,072 rows; row and document numbers agree. The same rows give the same bytes.

use super::analyzer::Analyzer;
use crate::codec::{Reader, u32_at};
use crate::error::{Error, Result};
use crate::segment::RowSource;
use crate::text::file::Checked;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tantivy::directory::error::{DeleteError, OpenReadError, OpenWriteError};
use tantivy::directory::{Directory, FileHandle, Lock, OwnedBytes, RamDirectory, WatchCallback, WatchHandle, WritePtr};
use tantivy::index::SegmentReader;
use tantivy::schema::{Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{TextAnalyzer, TokenizerManager};
use tantivy::{DocSet, HasLen, Index, IndexSettings, SingleSegmentIndexWriter, TERMINATED, TantivyDocument, Term};

/// Rows of one part at most: parts are built side by side, and each in memory.
const PART_ROWS: u32 = 1 << 17;
/// Bytes of text of one part at most.
const PART_BYTES: u64 = 256 << 20;
/// The files of a part, in the order in which they lie.
const FILES: [&str; 6] = ["term", "idx", "pos", "fieldnorm", "fast", "store"];
/// The length of a row without text.
const ABSENT: u32 = u32::MAX;
const TOKENIZER: &str = "omendb";

fn schema() -> &'static (Schema, Field) {
    static SCHEMA: OnceLock<(Schema, Field)> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let indexing = TextFieldIndexing::default()
            .set_tokenizer(TOKENIZER)
            .set_index_option(IndexRecordOption::WithFreqsAndPositions);
        let mut builder = Schema::builder();
        let field = builder.add_text_field("text", TextOptions::default().set_indexing_options(indexing));
        (builder.build(), field)
    })
}

/// The one field of every index.
pub(crate) fn field() -> Field {
    schema().1
}

/// A term of that field.
pub(crate) fn term(text: &str) -> Term {
    Term::from_field_text(field(), text)
}

/// The schema of every index.
pub(crate) fn index_schema() -> Schema {
    schema().0.clone()
}

/// Where a segment or a block keeps its text index.
#[derive(Debug, Default)]
pub(crate) struct TextSlot {
    index: ArcSwapOption<TextIndex>,
    /// Held while the index is loaded or built, so that it is built once.
    pub(crate) building: Mutex<()>,
    /// Set when the stored text cannot be read.
    pub(crate) unindexable: AtomicBool,
    /// Set when the file was found to be damaged.
    pub(crate) distrusted: AtomicBool,
}

impl Clone for TextSlot {
    /// An empty slot: what is derived is not copied.
    fn clone(&self) -> Self {
        TextSlot::default()
    }
}

impl TextSlot {
    pub(crate) fn get(&self) -> Option<Arc<TextIndex>> {
        self.index.load_full()
    }

    pub(crate) fn set(&self, index: TextIndex) -> Arc<TextIndex> {
        let index = Arc::new(index);
        self.index.store(Some(Arc::clone(&index)));
        index
    }

    pub(crate) fn clear(&self) {
        self.index.store(None);
    }
}

/// One run of rows with an index of its own.
pub(crate) struct TextPart {
    pub(crate) first: u32,
    pub(crate) reader: SegmentReader,
    /// The same for merging.
    pub(super) segment: tantivy::Segment,
}

/// How many live texts there are, and of how many terms altogether.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) texts: u64,
    pub(crate) terms: u64,
}

/// An open index.
pub(crate) struct TextIndex {
    path: String,
    pub(crate) parts: Vec<TextPart>,
    lengths: OwnedBytes,
    /// Of all rows, dead ones included.
    totals: Totals,
    /// The totals without the dead rows, for the number of dead rows that was last asked for.
    live: Mutex<(u64, Totals)>,
    payload: OwnedBytes,
    /// Whether its file is on stable storage, or was tried in vain.
    pub(crate) written: AtomicBool,
    /// Whether the bytes are in anonymous memory rather than a mapped file.
    pub(crate) in_memory: bool,
}

impl std::fmt::Debug for TextIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TextIndex({:?}, {} parts, {:?})", self.path, self.parts.len(), self.totals)
    }
}

pub(super) fn internal(e: impl std::fmt::Display) -> Error {
    Error::Unusable(format!("a text index could not be built: {e}"))
}

/// Builds the index of all rows of a source: its payload.
pub(crate) fn build(analyzer: Analyzer, rows: &dyn RowSource, threads: usize, cancel: &AtomicBool) -> Result<Vec<u8>> {
    let runs = runs(rows)?;
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Built)>> {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(run) = runs.get(i) else { return Ok(done) };
            done.push((i, build_part(analyzer, rows, run.clone(), cancel)?));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads.min(runs.len())).map(|_| scope.spawn(work)).collect();
        let mut done = work()?;
        for helper in helpers {
            done.extend(helper.join().map_err(|_| internal("a thread panicked"))??);
        }
        Ok::<_, Error>(done)
    })?;
    done.sort_unstable_by_key(|(i, _)| *i);
    let parts: Vec<Built> = done.into_iter().map(|(_, built)| built).collect();
    Ok(payload_of(&parts))
}

/// The payload of some parts.
pub(super) fn payload_of(parts: &[Built]) -> Vec<u8> {
    let rows: usize = parts.iter().map(|part| part.lengths.len()).sum();
    let mut out = Vec::new();
    out.extend_from_slice(&(parts.len() as u32).to_le_bytes());
    out.extend_from_slice(&(rows as u32).to_le_bytes());
    for part in parts {
        out.extend_from_slice(&(part.lengths.len() as u32).to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        part.files.iter().for_each(|file| out.extend_from_slice(&(file.len() as u64).to_le_bytes()));
    }
    for part in parts {
        part.lengths.iter().for_each(|len| out.extend_from_slice(&len.to_le_bytes()));
    }
    for part in parts {
        part.files.iter().for_each(|file| out.extend_from_slice(file));
    }
    out
}

/// Ranges of rows that become a part each.
fn runs(rows: &dyn RowSource) -> Result<Vec<Range<u32>>> {
    let mut runs = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for row in 0..rows.rows() {
        bytes += rows.text(row)?.len() as u64;
        if row + 1 - start == PART_ROWS || bytes >= PART_BYTES {
            runs.push(start..row + 1);
            (start, bytes) = (row + 1, 0);
        }
    }
    if start < rows.rows() {
        runs.push(start..rows.rows());
    }
    Ok(runs)
}

/// One part, ready to be written.
pub(super) struct Built {
    pub(super) files: Vec<OwnedBytes>,
    pub(super) lengths: Vec<u32>,
}

/// How `tantivy` stores a part.
pub(super) fn settings() -> IndexSettings {
    IndexSettings {
        docstore_compression: tantivy::store::Compressor::None,
        docstore_compress_dedicated_thread: false,
        ..IndexSettings::default()
    }
}

/// The files of the one segment that an index consists of, as they lie in its directory.
pub(super) fn files_of(index: &Index, directory: &RamDirectory) -> Result<Vec<OwnedBytes>> {
    let segments = index.searchable_segment_ids().map_err(internal)?;
    let name = segments.first().ok_or_else(|| internal("no segment was written"))?.uuid_string();
    let read = |extension: &str| -> Result<OwnedBytes> {
        let path = PathBuf::from(format!("{name}.{extension}"));
        directory.open_read(&path).map_err(internal)?.read_bytes().map_err(internal)
    };
    FILES.into_iter().map(read).collect()
}

fn build_part(analyzer: Analyzer, rows: &dyn RowSource, run: Range<u32>, cancel: &AtomicBool) -> Result<Built> {
    let count = Arc::new(AtomicU32::new(0));
    let directory = RamDirectory::create();
    let tokenizers = TokenizerManager::default();
    tokenizers.register(TOKENIZER, analyzer.build_counting(Arc::clone(&count)));
    // Only a hint for the size of the first table of terms.
    let memory = if run.len() > 4096 { 48 << 20 } else { 1 << 20 };
    let mut writer: SingleSegmentIndexWriter = Index::builder()
        .schema(index_schema())
        .tokenizers(tokenizers)
        .settings(settings())
        .single_segment_index_writer(directory.clone(), memory)
        .map_err(internal)?;
    let mut lengths = Vec::with_capacity(run.len());
    for row in run {
        if row.is_multiple_of(1024) && cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled("the database is being closed".into()));
        }
        let mut document = TantivyDocument::default();
        let text = text_of(rows, row)?;
        if let Some(text) = text {
            document.add_text(field(), text);
        }
        let before = count.load(Ordering::Relaxed);
        writer.add_document(document).map_err(internal)?;
        lengths.push(text.map_or(ABSENT, |_| count.load(Ordering::Relaxed).wrapping_sub(before)));
    }
    let index = writer.finalize().map_err(internal)?;
    Ok(Built { files: files_of(&index, &directory)?, lengths })
}

/// A row's text, if it has one.
pub(crate) fn text_of(rows: &dyn RowSource, row: u32) -> Result<Option<&str>> {
    match rows.text(row)?.split_first() {
        Some((_, text)) => std::str::from_utf8(text)
            .map(Some)
            .map_err(|_| Error::corrupt("record", u64::from(row), "text is not UTF-8")),
        None => Ok(None),
    }
}

impl TextIndex {
    /// Opens a payload.
    pub(crate) fn open(payload: Arc<Checked>, rows: u32, path: &str) -> Result<TextIndex> {
        let bad = |what: &str| Error::corrupt(path, 0, format!("the text index {what}"));
        let damaged = |e: &dyn std::fmt::Display| Error::corrupt(path, 0, e.to_string());
        let whole = payload.len();
        let get = |range: Range<u64>| -> Result<OwnedBytes> {
            let range = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
            let range = range.filter(|(start, end)| start <= end && *end <= whole);
            let Some((start, end)) = range else { return Err(bad("is shorter than it says")) };
            payload.read_bytes(start..end).map_err(|e| damaged(&e))
        };
        let head = get(0..8)?;
        let (Some(count), Some(own_rows)) = (u32_at(&head, 0), u32_at(&head, 1)) else { return Err(bad("is short")) };
        if own_rows != rows {
            return Err(bad("is of another number of rows than its segment"));
        }
        let lengths_at = 8 + u64::from(count) * 56;
        let table = get(8..lengths_at)?;
        let mut at = lengths_at + u64::from(rows) * 4;
        let lengths = get(lengths_at..at)?;
        let mut reader = Reader::new(&table);
        let mut directory = Packed { files: HashMap::new(), meta: Vec::new(), payload: Arc::clone(&payload) };
        let mut sizes = Vec::new();
        for part in 0..count {
            let (Some(rows), Some(_)) = (reader.u32(), reader.u32()) else { return Err(bad("is short")) };
            sizes.push(rows);
            for extension in FILES {
                let end = reader.u64().and_then(|len| at.checked_add(len)).filter(|end| *end <= whole as u64);
                let end = end.ok_or_else(|| bad("names a file beyond its end"))?;
                directory.files.insert(format!("{}.{extension}", segment_name(part)), at as usize..end as usize);
                at = end;
            }
        }
        if sizes.iter().map(|rows| u64::from(*rows)).sum::<u64>() != u64::from(rows) {
            return Err(bad("has parts that do not make up its rows"));
        }
        directory.meta = meta(&sizes);
        let index = Index::open(directory).map_err(|e| damaged(&e))?;
        let mut parts = Vec::new();
        let mut first = 0;
        for segment in index.searchable_segments().map_err(|e| damaged(&e))? {
            let reader = SegmentReader::open(&segment).map_err(|e| damaged(&e))?;
            let rows = reader.max_doc();
            parts.push(TextPart { first, reader, segment });
            first += rows;
        }
        let in_memory = payload.in_memory();
        let mut index = TextIndex {
            path: path.to_owned(),
            parts,
            lengths,
            totals: Totals::default(),
            live: Mutex::default(),
            payload: payload.bytes(),
            written: AtomicBool::new(!in_memory),
            in_memory,
        };
        index.totals = index.totals_of(0..rows);
        Ok(index)
    }

    /// The file, for messages.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The bytes as they are written to the file.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Damage found while reading, as an error.
    pub(crate) fn failed(&self, e: impl std::fmt::Display) -> Error {
        Error::corrupt(&self.path, 0, e.to_string())
    }

    /// How many terms the texts of these rows have.
    pub(super) fn lengths(&self, rows: Range<u32>) -> impl Iterator<Item = u32> {
        let lengths = self.lengths.as_chunks::<4>().0;
        let rows = rows.start as usize..(rows.end as usize).min(lengths.len());
        lengths.get(rows).unwrap_or_default().iter().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn totals_of(&self, rows: impl Iterator<Item = u32>) -> Totals {
        let lengths = self.lengths.as_chunks::<4>().0;
        let mut totals = Totals::default();
        for len in rows.filter_map(|row| lengths.get(row as usize)).map(|bytes| u32::from_le_bytes(*bytes)) {
            if len != ABSENT {
                totals.texts += 1;
                totals.terms += u64::from(len);
            }
        }
        totals
    }

    /// The totals of the live rows, given `count` dead ones. Dead rows are only ever added.
    pub(crate) fn live_totals(&self, count: u64, dead: impl Iterator<Item = u32>) -> Totals {
        if count == 0 {
            return self.totals;
        }
        let mut known = self.live.lock();
        if known.0 != count {
            let dead = self.totals_of(dead);
            let live = Totals {
                texts: self.totals.texts.saturating_sub(dead.texts),
                terms: self.totals.terms.saturating_sub(dead.terms),
            };
            *known = (count, live);
        }
        known.1
    }

    /// In how many live rows a term occurs. `dead` are the dead rows from a row on, ascending.
    pub(crate) fn live_frequency<I: Iterator<Item = u32>>(
        &self,
        term: &Term,
        dead: impl Fn(Range<u32>) -> I,
    ) -> Result<u64> {
        let mut frequency = 0;
        for part in &self.parts {
            let terms = part.reader.inverted_index(field()).map_err(|e| self.failed(e))?;
            let Some(info) = terms.get_term_info(term).map_err(|e| self.failed(e))? else { continue };
            frequency += u64::from(info.doc_freq);
            let mut dead = dead(part.first..part.first + part.reader.max_doc()).peekable();
            if dead.peek().is_none() {
                continue;
            }
            let postings = terms.read_postings_from_terminfo(&info, IndexRecordOption::Basic);
            let mut postings = postings.map_err(|e| self.failed(e))?;
            for row in dead.map(|row| row - part.first) {
                if postings.doc() < row {
                    postings.seek(row);
                }
                if postings.doc() == TERMINATED {
                    break;
                }
                frequency -= u64::from(postings.doc() == row);
            }
        }
        Ok(frequency)
    }
}

fn segment_name(part: u32) -> String {
    format!("{part:032x}")
}

/// What `tantivy` reads to learn which segments there are.
fn meta(rows: &[u32]) -> Vec<u8> {
    let segments: Vec<_> = rows
        .iter()
        .zip(0..)
        .map(|(rows, part)| {
            let name = segment_name(part);
            let dashed = [&name[..8], &name[8..12], &name[12..16], &name[16..20], &name[20..]].join("-");
            serde_json::json!({"segment_id": dashed, "max_doc": rows, "deletes": null})
        })
        .collect();
    let settings = serde_json::json!({"docstore_compression": "none", "docstore_blocksize": 16384});
    let meta = serde_json::json!({
        "index_settings": settings, "segments": segments, "schema": index_schema(), "opstamp": 0
    });
    meta.to_string().into_bytes()
}

/// The files within a payload as a directory that can only be read.
#[derive(Debug, Clone)]
struct Packed {
    files: HashMap<String, Range<usize>>,
    meta: Vec<u8>,
    payload: Arc<Checked>,
}

#[derive(Debug)]
struct PackedFile {
    payload: Arc<Checked>,
    range: Range<usize>,
}

impl HasLen for PackedFile {
    fn len(&self) -> usize {
        self.range.len()
    }
}

impl FileHandle for PackedFile {
    fn read_bytes(&self, range: Range<usize>) -> std::io::Result<OwnedBytes> {
        if range.start > range.end || range.end > self.range.len() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.payload.read_bytes(self.range.start + range.start..self.range.start + range.end)
    }
}

fn read_only() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::Unsupported, "a text index never changes")
}

impl Directory for Packed {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        let range = path.to_str().and_then(|name| self.files.get(name));
        let range = range.ok_or_else(|| OpenReadError::FileDoesNotExist(path.to_owned()))?;
        Ok(Arc::new(PackedFile { payload: Arc::clone(&self.payload), range: range.clone() }))
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        Ok(path == Path::new("meta.json") || path.to_str().is_some_and(|name| self.files.contains_key(name)))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        match path.to_str() {
            Some("meta.json") => Ok(self.meta.clone()),
            _ => Err(OpenReadError::FileDoesNotExist(path.to_owned())),
        }
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        Err(DeleteError::IoError { io_error: Arc::new(read_only()), filepath: path.to_owned() })
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        Err(OpenWriteError::wrap_io_error(read_only(), path.to_owned()))
    }

    fn atomic_write(&self, _path: &Path, _data: &[u8]) -> std::io::Result<()> {
        Err(read_only())
    }

    fn sync_directory(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn acquire_lock(
        &self,
        _lock: &Lock,
    ) -> Result<tantivy::directory::DirectoryLock, tantivy::directory::error::LockError> {
        Ok(Box::new(()).into())
    }

    fn watch(&self, _callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}

/// The terms of a text, in order, with their positions.
pub(crate) fn terms_of(analyzer: &mut TextAnalyzer, text: &str) -> Vec<(usize, String)> {
    let mut terms = Vec::new();
    analyzer.token_stream(text).process(&mut |token| terms.push((token.position, token.text.clone())));
    terms
}
