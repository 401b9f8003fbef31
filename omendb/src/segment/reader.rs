//! Reads a segment: nothing is handed out before the block it lies in has been verified.

use super::format::{BLOCK_BYTES, Footer, HEADER_BYTES, Header, Section, SectionKind, SegmentSchema, TRAILER_BYTES};
use super::{RowSource, rows_having};
use crate::checksum::crc32c;
use crate::codec::{u32_at, u64_at};
use crate::error::{Error, Result};
use crate::fields::fits;
use crate::filter::cache::{Experience, FilterCache, Matches};
use crate::index::file::Stage;
use crate::index::graph::{Gathered, GraphIndex, Passing};
use crate::manifest::{CollectionEntry, SegmentEntry, hex};
use crate::schema::Schema;
use crate::sparse::index::SparseSlot;
use crate::storage::{Bytes, Storage};
use crate::text::index::TextSlot;
use arc_swap::ArcSwapOption;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A segment's graph in memory.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) index: GraphIndex,
    pub(crate) stage: Stage,
    pub(crate) bytes: u64,
    /// Whether its file is on stable storage, or was tried in vain.
    pub(crate) written: AtomicBool,
    number: GraphNumber,
    /// The node of each row, made by the first search under a filter.
    nodes: OnceLock<Box<[u32]>>,
}

/// Tells one graph from another, as long as the process runs.
type GraphNumber = u64;

impl Graph {
    pub(crate) fn new(index: GraphIndex, stage: Stage, written: bool) -> Self {
        let bytes = index.memory();
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Graph { index, stage, bytes, written: AtomicBool::new(written), number, nodes: OnceLock::new() }
    }

    /// The node of each row.
    pub(crate) fn nodes(&self) -> &[u32] {
        self.nodes.get_or_init(|| {
            let order = self.index.order();
            let mut nodes = vec![0; order.len()].into_boxed_slice();
            (0..).zip(order).for_each(|(node, row)| nodes[*row as usize] = node);
            nodes
        })
    }

    /// The nodes of the rows that pass a filter, as far as they were asked for before.
    pub(crate) fn passing(&self, matches: &Matches) -> Arc<PassingNodes> {
        let known = matches.passing.load_full().filter(|known| known.graph == self.number);
        known.unwrap_or_else(|| {
            let (nodes, gathered, missed) = (OnceLock::new(), OnceLock::new(), AtomicU64::new(0));
            let looked_up = AtomicBool::new(false);
            let experience = Experience::default();
            let made = Arc::new(PassingNodes { graph: self.number, nodes, looked_up, gathered, missed, experience });
            matches.passing.store(Some(Arc::clone(&made)));
            made
        })
    }
}

/// The nodes of the rows that pass a filter, in one graph.
#[derive(Debug)]
pub(crate) struct PassingNodes {
    graph: GraphNumber,
    nodes: OnceLock<Passing<'static>>,
    /// Whether a walk took the rows as they are.
    looked_up: AtomicBool,
    gathered: OnceLock<Option<Gathered>>,
    /// What searches cost more than with what is gathered, in codes compared.
    missed: AtomicU64,
    /// What walks for them came to.
    pub(crate) experience: Experience,
}

impl PassingNodes {
    /// Those of the rows of `matches` in `graph`, which both are those that this was made for.
    fn nodes(&self, graph: &Graph, matches: &Matches) -> &Passing<'static> {
        self.nodes.get_or_init(|| Passing::new(graph.nodes(), &matches.rows))
    }

    /// Calls `walk` with them. The first walk for many rows takes the rows as they are.
    pub(crate) fn with_nodes<T>(&self, graph: &Graph, matches: &Matches, walk: impl FnOnce(&Passing<'_>) -> T) -> T {
        if matches.len() < LOOKED_UP || self.looked_up.swap(true, Ordering::Relaxed) {
            return walk(self.nodes(graph, matches));
        }
        walk(&Passing::looked_up(graph.nodes(), graph.index.order(), &matches.rows))
    }

    /// What is gathered of them.
    pub(crate) fn gathered(&self) -> Option<&Gathered> {
        self.gathered.get()?.as_ref()
    }

    /// As [`gathered`](Self::gathered), by a search that cost so many codes more without. Once such searches have cost
    /// as much as gathering, one of them gathers; others go on without.
    pub(crate) fn gather(&self, graph: &Graph, matches: &Matches, missed: u64) -> Option<&Gathered> {
        let enough = matches.len() * GATHERING;
        let before = self.missed.fetch_add(missed, Ordering::Relaxed);
        if before >= enough || before + missed < enough {
            return self.gathered();
        }
        self.gathered.get_or_init(|| Gathered::new(&graph.index, self.nodes(graph, matches))).as_ref()
    }
}

/// To find the nodes of so many rows takes longer than to look each row up that one walk meets.
const LOOKED_UP: u64 = 40_000;
/// What gathering a row costs, in codes compared one by one.
const GATHERING: u64 = 12;

/// What is derived of one column of vectors.
#[derive(Debug, Default)]
struct VectorSlot {
    /// The graph, once it is built or loaded.
    graph: ArcSwapOption<Graph>,
    /// Set when no graph can be built.
    unindexable: AtomicBool,
    /// Set when every block of the vectors has been verified.
    verified: AtomicBool,
    /// The rows that have a vector, once they were asked for; `None` inside: all of them.
    having: OnceLock<Option<Arc<[u32]>>>,
}

/// An open segment. Immutable and shared.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) entry: SegmentEntry,
    path: String,
    bytes: Bytes,
    footer: Footer,
    stride: usize,
    /// Of the records' own vectors.
    vectors: VectorSlot,
    /// Of the further fields, by their numbers; without use for those that are no vectors.
    further: Vec<VectorSlot>,
    /// The metadata by column, and what recent filters selected. Derived: it could be made again.
    filters: FilterCache,
    text: TextSlot,
    /// Of the fields, by their numbers.
    sparse: Vec<SparseSlot>,
    /// One bit a block: set once its checksum has been seen to match.
    verified: Vec<AtomicU64>,
}

impl Segment {
    /// Opens the segment that a manifest names, checking length, header and footer.
    pub(crate) fn open(
        storage: &dyn Storage,
        entry: &SegmentEntry,
        collection: &CollectionEntry,
        uuid: &[u8; 16],
    ) -> Result<Segment> {
        Segment::open_with(storage, entry, collection, uuid, false)
    }

    /// The same; if `tolerant`, a damaged footer is made up for by its copy.
    pub(crate) fn open_with(
        storage: &dyn Storage,
        entry: &SegmentEntry,
        collection: &CollectionEntry,
        uuid: &[u8; 16],
        tolerant: bool,
    ) -> Result<Segment> {
        let path = entry.data_path();
        let bytes = storage.map(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::corrupt(&path, 0, "the file is missing"),
            _ => Error::io("open", &path, &e),
        })?;
        if bytes.len() as u64 != entry.bytes {
            let what = format!("the file has {} bytes; the manifest says {}", bytes.len(), entry.bytes);
            return Err(Error::corrupt(&path, entry.bytes.min(bytes.len() as u64), what));
        }
        let (footer, hash) = match tolerant {
            true => Footer::recover(&bytes, &path)?,
            false => Footer::decode(&bytes, &path)?,
        };
        if hex(hash) != entry.footer || footer.rows != entry.rows {
            return Err(Error::corrupt(&path, footer.body, "the footer is not the one that the manifest names"));
        }
        let mut segment = Segment::assemble(entry.clone(), path, bytes, footer)?;
        segment.fit(&collection.schema)?;
        let header = segment.header()?;
        if header.uuid != *uuid || header.segment != entry.id || header.collection != collection.id {
            return Err(Error::corrupt(&segment.path, 0, "the segment belongs elsewhere"));
        }
        Ok(segment)
    }

    /// Opens a segment by itself, for salvage: its own footer and schema section are the only authority.
    pub(crate) fn open_alone(storage: &dyn Storage, path: &str) -> Result<(Segment, SegmentSchema)> {
        let bytes = storage.map(path).map_err(|e| Error::io("open", path, &e))?;
        let (footer, hash) = Footer::recover(&bytes, path)?;
        let entry = SegmentEntry {
            id: 0,
            rows: footer.rows,
            seq: 0,
            bytes: bytes.len() as u64,
            footer: hex(hash),
            tombstones: None,
        };
        let mut segment = Segment::assemble(entry, path.to_owned(), bytes, footer)?;
        let (offset, json) = segment.section_bytes(SectionKind::Schema)?;
        let schema: SegmentSchema = serde_json::from_slice(json)
            .map_err(|e| Error::corrupt(path, offset, format!("the schema section does not parse: {e}")))?;
        schema.schema.validate().map_err(|e| Error::corrupt(path, offset, e.to_string()))?;
        let header = segment.header()?;
        (segment.entry.id, segment.entry.seq) = (header.segment, header.seq);
        segment.fit(&schema.schema)?;
        Ok((segment, schema))
    }

    /// Takes the sections for those of a collection of this schema.
    fn fit(&mut self, schema: &Schema) -> Result<()> {
        if !self.footer.check_sizes(schema) {
            return Err(Error::corrupt(&self.path, self.footer.body, "the sections do not fit the schema"));
        }
        self.stride = schema.stride();
        self.sparse.resize_with(schema.fields.len(), SparseSlot::default);
        self.further.resize_with(schema.fields.len(), VectorSlot::default);
        Ok(())
    }

    fn assemble(entry: SegmentEntry, path: String, bytes: Bytes, footer: Footer) -> Result<Segment> {
        let words = footer.crcs.len().div_ceil(64);
        let verified = (0..words).map(|_| AtomicU64::new(0)).collect();
        Ok(Segment {
            entry,
            path,
            bytes,
            footer,
            stride: 0,
            vectors: VectorSlot::default(),
            further: Vec::new(),
            filters: FilterCache::default(),
            text: TextSlot::default(),
            sparse: Vec::new(),
            verified,
        })
    }

    fn header(&self) -> Result<Header> {
        Header::decode(self.range(0, HEADER_BYTES)?, &self.path)
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn id_number(&self) -> u32 {
        self.entry.id
    }

    /// The bytes at `offset`, after verifying every block they touch.
    fn range(&self, offset: u64, len: u64) -> Result<&[u8]> {
        let end = offset.checked_add(len).filter(|end| *end <= self.footer.body);
        let Some(end) = end else {
            return Err(Error::corrupt(&self.path, offset, "a range beyond the file's body is referred to"));
        };
        if len > 0 {
            for block in offset / BLOCK_BYTES..=(end - 1) / BLOCK_BYTES {
                self.verify(block)?;
            }
        }
        Ok(&self.bytes[offset as usize..end as usize])
    }

    fn verify(&self, block: u64) -> Result<()> {
        let (word, bit) = ((block / 64) as usize, 1u64 << (block % 64));
        if self.verified[word].load(Ordering::Relaxed) & bit != 0 {
            return Ok(());
        }
        let start = block * BLOCK_BYTES;
        let end = (start + BLOCK_BYTES).min(self.footer.body);
        let matches = crc32c(&[&self.bytes[start as usize..end as usize]]) == self.footer.crcs[block as usize];
        if !matches && !crate::mutant::active("ignore-block-checksum") {
            tracing::error!(file = %self.path, offset = start, "block checksum does not match");
            return Err(Error::corrupt(&self.path, start, "the block's checksum does not match"));
        }
        self.verified[word].fetch_or(bit, Ordering::Relaxed);
        Ok(())
    }

    /// Verifies every byte of the body, whether read before or not.
    pub(crate) fn verify_all(&self) -> Result<()> {
        for word in &self.verified {
            word.store(0, Ordering::Relaxed);
        }
        self.range(0, self.footer.body)?;
        let (start, end) = (self.footer.body as usize, self.bytes.len().saturating_sub(TRAILER_BYTES as usize));
        let copies = self.bytes.get(start..end).map(|both| both.split_at(both.len() / 2));
        match copies {
            Some((first, second)) if first == second => Ok(()),
            _ => Err(Error::corrupt(&self.path, self.footer.body, "the two copies of the footer differ")),
        }
    }

    /// Checks what checksums cannot: that the offsets rise and end where the data ends, that ids decode and hash, and
    /// that the values of fields fit the schema.
    pub(crate) fn check_structure(&self, schema: &Schema, hash_seed: u64) -> Result<()> {
        for row in 0..self.rows() {
            let id = self.id(row)?;
            let valid =
                crate::ids::decode(id).is_some() && crate::checksum::id_hash(id, hash_seed) == self.hash(row)?;
            if !valid {
                let at = self.footer.section(SectionKind::Ids).offset;
                return Err(Error::corrupt(&self.path, at, format!("the id of row {row} does not decode or hash")));
            }
            self.metadata(row)?;
            self.text(row)?;
            for (number, field) in schema.fields.iter().enumerate() {
                if !fits(self.field(number, row)?, &field.kind) {
                    let at = self.footer.section(SectionKind::Field(number)).offset;
                    let what = format!("field {:?} of row {row} does not fit the schema", field.name);
                    return Err(Error::corrupt(&self.path, at, what));
                }
            }
        }
        Ok(())
    }

    fn section_bytes(&self, kind: SectionKind) -> Result<(u64, &[u8])> {
        let Section { offset, len } = self.footer.section(kind);
        Ok((offset, self.range(offset, len)?))
    }

    /// The id hashes of all rows.
    pub(crate) fn hashes(&self) -> Result<Vec<u64>> {
        let (_, bytes) = self.section_bytes(SectionKind::IdHashes)?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|c| u64::from_le_bytes(*c)).collect())
    }

    /// Element `row` of an array of ends, and the one before it (0 for the first).
    fn ends(&self, section: Section, width: u64, row: u32) -> Result<(u64, u64)> {
        let row = u64::from(row);
        let first = row.saturating_sub(1);
        let bytes = self.range(section.offset + first * width, (row - first + 1) * width)?;
        let at = |i| if width == 4 { u32_at(bytes, i).map(u64::from) } else { u64_at(bytes, i) };
        let pair = if row == 0 { at(0).map(|end| (0, end)) } else { at(0).zip(at(1)) };
        pair.filter(|(start, end)| start <= end)
            .ok_or_else(|| Error::corrupt(&self.path, section.offset + first * width, "the offsets do not rise"))
    }

    /// What is derived of the records' own vectors, or of those of a further field.
    fn slot(&self, field: Option<usize>) -> &VectorSlot {
        field.and_then(|field| self.further.get(field)).unwrap_or(&self.vectors)
    }

    /// All vectors of the records or of a further field, verified once.
    pub(crate) fn all_vectors(&self, field: Option<usize>) -> Result<&[u8]> {
        let section = self.footer.section(field.map_or(SectionKind::Vectors, SectionKind::Field));
        let slot = self.slot(field);
        if !slot.verified.load(Ordering::Acquire) {
            self.range(section.offset, section.len)?;
            slot.verified.store(true, Ordering::Release);
        }
        Ok(&self.bytes[section.offset as usize..(section.offset + section.len) as usize])
    }

    /// How many vectors of this size there are, of the records or of a further field.
    pub(crate) fn vector_count(&self, field: Option<usize>, stride: usize) -> u32 {
        match field {
            None => self.entry.rows,
            Some(field) => (self.field_bytes(field) / stride.max(1) as u64) as u32,
        }
    }

    pub(crate) fn graph(&self, field: Option<usize>) -> Option<Arc<Graph>> {
        self.slot(field).graph.load_full()
    }

    /// The graph for the length of one search: cheaper than [`graph`](Self::graph).
    pub(crate) fn graph_for_search(&self, field: Option<usize>) -> arc_swap::Guard<Option<Arc<Graph>>> {
        self.slot(field).graph.load()
    }

    /// All graphs there are.
    pub(crate) fn graphs(&self) -> impl Iterator<Item = Arc<Graph>> {
        std::iter::once(&self.vectors).chain(&self.further).filter_map(|slot| slot.graph.load_full())
    }

    pub(crate) fn set_graph(&self, field: Option<usize>, graph: Graph) {
        self.slot(field).graph.store(Some(Arc::new(graph)));
    }

    /// The bytes that say where a row's id lies, not verified.
    fn id_ends(&self, row: u32) -> &[u8] {
        let at = self.footer.section(SectionKind::IdEnds).offset as usize + row.saturating_sub(1) as usize * 4;
        self.bytes.get(at..at + 8).unwrap_or_default()
    }

    /// Asks for the bytes that say where a row's id lies, ahead of their use.
    pub(crate) fn prefetch_id_ends(&self, row: u32) {
        crate::distance::codes::prefetch(self.id_ends(row), 64);
    }

    /// Where the index of a sparse field is kept; none where no row has the field.
    pub(crate) fn sparse_slot(&self, field: usize) -> Option<&SparseSlot> {
        self.sparse.get(field).filter(|_| self.footer.section(SectionKind::Field(field)).len > 0)
    }

    /// Bytes of the values of a field.
    pub(crate) fn field_bytes(&self, field: usize) -> u64 {
        self.footer.section(SectionKind::Field(field)).len
    }

    /// Bytes of the metadata.
    pub(crate) fn metadata_bytes(&self) -> u64 {
        self.footer.section(SectionKind::Metadata).len
    }

    /// Whether building a graph has been given up.
    pub(crate) fn unindexable(&self, field: Option<usize>) -> bool {
        self.slot(field).unindexable.load(Ordering::Relaxed)
    }

    pub(crate) fn give_up_indexing(&self, field: Option<usize>) {
        self.slot(field).unindexable.store(true, Ordering::Relaxed);
    }

    /// Memory of the metadata by column that is in no file, bytes.
    pub(crate) fn columns_memory(&self) -> u64 {
        self.filters.memory()
    }

    fn variable(&self, ends: SectionKind, data: SectionKind, width: u64, row: u32) -> Result<&[u8]> {
        let ends = self.footer.section(ends);
        if ends.len == 0 {
            return Ok(&[]);
        }
        let data = self.footer.section(data);
        let (start, end) = self.ends(ends, width, row)?;
        if end > data.len {
            return Err(Error::corrupt(&self.path, ends.offset, "an offset points beyond its section"));
        }
        self.range(data.offset + start, end - start)
    }
}

impl RowSource for Segment {
    fn rows(&self) -> u32 {
        self.entry.rows
    }

    fn hash(&self, row: u32) -> Result<u64> {
        let section = self.footer.section(SectionKind::IdHashes);
        let at = section.offset + u64::from(row) * 8;
        u64_at(self.range(at, 8)?, 0).ok_or_else(|| Error::corrupt(&self.path, at, "the id hash is cut off"))
    }

    fn id(&self, row: u32) -> Result<&[u8]> {
        self.variable(SectionKind::IdEnds, SectionKind::Ids, 4, row)
    }

    fn prefetch_id(&self, row: u32) {
        let start = u32_at(self.id_ends(row), 0).filter(|_| row > 0).unwrap_or(0);
        let at = self.footer.section(SectionKind::Ids).offset as usize + start as usize;
        if let Some(id) = self.bytes.get(at..at + 1) {
            crate::distance::codes::prefetch(id, 64);
        }
    }

    fn vectors(&self, first: u32, count: u32) -> Result<&[u8]> {
        let section = self.footer.section(SectionKind::Vectors);
        let stride = self.stride as u64;
        self.range(section.offset + u64::from(first) * stride, u64::from(count) * stride)
    }

    fn metadata(&self, row: u32) -> Result<&[u8]> {
        self.variable(SectionKind::MetadataEnds, SectionKind::Metadata, 8, row)
    }

    fn filters(&self) -> Option<&FilterCache> {
        Some(&self.filters)
    }

    fn text(&self, row: u32) -> Result<&[u8]> {
        self.variable(SectionKind::TextEnds, SectionKind::Text, 8, row)
    }

    fn field(&self, field: usize, row: u32) -> Result<&[u8]> {
        self.variable(SectionKind::FieldEnds(field), SectionKind::Field(field), 8, row)
    }

    fn field_data(&self, field: usize, range: Range<usize>) -> Result<&[u8]> {
        let section = self.footer.section(SectionKind::Field(field));
        let (start, len) = (range.start as u64, range.len() as u64);
        if start + len > section.len {
            return Err(Error::corrupt(&self.path, section.offset, "a field has fewer values than rows that have it"));
        }
        self.range(section.offset + start, len)
    }

    fn having(&self, field: usize, stride: usize) -> Result<Option<Arc<[u32]>>> {
        let slot = self.slot(Some(field));
        if let Some(having) = slot.having.get() {
            return Ok(having.clone());
        }
        let having = match self.field_bytes(field) == u64::from(self.rows()) * stride as u64 {
            true => None,
            false => Some(rows_having(self, field, stride)?),
        };
        Ok(slot.having.get_or_init(|| having).clone())
    }

    fn text_slot(&self) -> Option<&TextSlot> {
        (self.footer.section(SectionKind::Text).len > 0).then_some(&self.text)
    }
}
