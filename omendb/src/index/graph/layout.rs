//! The graph as one block of little-endian bytes.
//!
//! A header of 256 bytes ([`Header`]), then sections that begin at multiples of 64 bytes, in this order:
//!
//! | section | bytes |
//! |---|---|
//! | projection | where codes have fewer dimensions than rows: the map's rows, `width` of them, a biased 8-bit code of `dim` bytes each, padded to a multiple of 16 |
//! | nodes | one block of `node_stride` bytes a node, see below |
//! | codes | one biased 8-bit code of `width` bytes a node, or one of another `coding`, see below; empty where nodes hold them |
//! | order | u32 a node: the row that the node stands for |
//! | entries | u32 each: nodes that searches may start from |
//! | entry codes | where `coding` is not 0: the biased 8-bit code of each entry |
//! | centroids | where `coding` is 9: f32 each |
//! | centre | f32 a dimension: what codes are centred on |
//! | calibration | pairs of f32: slack (beam, for dot products), recall@10 measured with it, ascending |
//!
//! A node block without inline codes: `degree` neighbour numbers (u32, unused: 2^32 - 1). With them, so that one hop
//! reads one stretch of memory: the node's own code, `degree` bytes of `add` and of `slope` factors, their three scales
//! (f32) and 4 bytes of zeros, the neighbours' numbers in 3 bytes each, or in 4 where there are 2^24 - 1 rows or more
//! (unused: all bits set), zeros up to a multiple of 16, and the sign codes of each 32 neighbours (see
//! `distance::fastscan`).
//!
//! The header's `coding` is 0, or 1 to 8 for RaBitQ codes of so many bits (`quantize/bits.rs`), or 9 for product
//! quantisation (`quantize/product.rs`).

use super::exact::Kind;
use super::prune::NO_NEIGHBOUR;
use crate::distance::codes;
use crate::distance::fastscan::{self, BLOCK, SignBlock};
use crate::distance::gemm::{TILE, Tile};
use crate::error::{Error, Result};
use crate::quantize::ScalarQuantizer;
use crate::quantize::bits::BitCoder;
use crate::quantize::coder::Coder;
use crate::quantize::product::ProductCoder;
use crate::quantize::projection::Projection;
use crate::quantize::rotation::Rotation;
use crate::quantize::scalar::Turn;
use crate::schema::Schema;
use crate::storage::Bytes;
use memmap2::MmapMut;
use std::ops::Range;
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const MAGIC: [u8; 8] = *b"OMGRAPH2";
const HEADER_BYTES: usize = 256;
const SECTION_ALIGNMENT: usize = 64;
/// Room for calibration pairs.
pub(super) const MAX_CALIBRATION: usize = 16;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    count: u64,
    seed: u64,
    total: u64,
    dim: u32,
    element: u8,
    metric: u8,
    inline: u8,
    coding: u8,
    degree: u32,
    width: u32,
    entries: u32,
    calibrations: u32,
    scale: f32,
    largest_norm: f32,
    /// Codes a unit of the projection; 0 where there is none.
    projection_scale: f32,
    /// See [`GraphIndex::farther`], plus one; 0 where it was not measured.
    farther: f32,
    /// See [`GraphIndex::beam_apart`]; 0 for none.
    beam_apart: u32,
    reserved: u32,
}

/// Where the sections lie.
#[derive(Debug, Clone)]
pub(super) struct Sections {
    projection: Range<usize>,
    nodes: Range<usize>,
    codes: Range<usize>,
    order: Range<usize>,
    entries: Range<usize>,
    entry_codes: Range<usize>,
    centroids: Range<usize>,
    center: Range<usize>,
    calibration: Range<usize>,
    node_stride: usize,
}

/// Where the parts of a node's block with inline codes lie. The own code comes first.
#[derive(Debug, Clone, Copy)]
pub(super) struct InlineBlock {
    pub width: usize,
    pub degree: usize,
    /// Bytes of a neighbour's number.
    pub id_bytes: usize,
}

impl InlineBlock {
    fn new(count: usize, degree: usize, width: usize) -> Self {
        InlineBlock { width, degree, id_bytes: if count < (1 << 24) - 1 { 3 } else { 4 } }
    }

    fn ids(self) -> usize {
        self.width + 2 * self.degree + fastscan::SCALE_BYTES
    }

    /// Where the sign codes begin.
    pub fn codes(self) -> usize {
        (self.ids() + self.degree * self.id_bytes).next_multiple_of(16)
    }

    pub fn bytes(self) -> usize {
        self.codes() + self.degree / BLOCK * fastscan::block_bytes(self.width)
    }

    /// The sign codes and factors of 32 neighbours.
    #[inline]
    pub fn signs(self, block: &[u8], part: usize) -> SignBlock<'_> {
        let bytes = fastscan::block_bytes(self.width);
        let (factors, scales) = (self.width + part * BLOCK, self.width + 2 * self.degree);
        SignBlock {
            codes: &block[self.codes() + part * bytes..][..bytes],
            add: &block[factors..][..BLOCK],
            slope: &block[factors + self.degree..][..BLOCK],
            scales: &block[scales..][..fastscan::SCALE_BYTES],
        }
    }

    /// The number of one neighbour.
    #[inline]
    pub fn neighbour(self, block: &[u8], place: usize) -> u32 {
        // The sign codes follow, so there are four bytes to read also where numbers take three.
        let bytes = &block[self.ids() + place * self.id_bytes..];
        let [a, b, c, d] = *bytes.first_chunk().unwrap_or(&[u8::MAX; 4]);
        let number = u32::from_le_bytes([a, b, c, if self.id_bytes == 3 { 0 } else { d }]);
        if self.id_bytes == 3 && number == 0xFF_FFFF { NO_NEIGHBOUR } else { number }
    }

    pub fn write_ids(self, block: &mut [u8], list: &[u32]) {
        for (bytes, id) in block[self.ids()..].chunks_exact_mut(self.id_bytes).zip(list) {
            bytes.copy_from_slice(&id.to_le_bytes()[..self.id_bytes]);
        }
    }
}

impl Sections {
    fn new(count: usize, degree: usize, entries: usize, quantizer: &ScalarQuantizer, coding: u8) -> Option<Self> {
        let (width, inline) = (quantizer.width(), quantizer.turn.is_some() && coding == 0);
        let entry_code = if coding == 0 { 0 } else { width };
        let code = match coding {
            0 => width,
            1..=8 => BitCoder { bits: coding.into(), width }.bytes(),
            _ => ProductCoder::bytes_of(quantizer.dims()),
        };
        let center = if quantizer.is_direct() { 0 } else { quantizer.dims() };
        let projection = match quantizer.turn {
            Some(Turn::Projection(_)) => width.checked_mul(Projection::stride(quantizer.dim))?,
            _ => 0,
        };
        let node_stride = if inline { InlineBlock::new(count, degree, width).bytes() } else { degree * 4 };
        let mut end = HEADER_BYTES;
        let mut section = |items: usize, size: usize| {
            let start = end;
            let stop = start.checked_add(items.checked_mul(size)?)?;
            end = stop.checked_next_multiple_of(SECTION_ALIGNMENT)?;
            Some(start..stop)
        };
        Some(Sections {
            projection: section(projection, 1)?,
            nodes: section(count, node_stride)?,
            codes: section(if inline { 0 } else { count }, code)?,
            order: section(count, 4)?,
            entries: section(entries, 4)?,
            entry_codes: section(entries, entry_code)?,
            centroids: section(Coder::centroids_of(coding, quantizer.dims()), 4)?,
            center: section(center, 4)?,
            calibration: section(MAX_CALIBRATION, 8)?,
            node_stride,
        })
    }
}

/// What of a graph on disk is copied into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// All of it.
    All,
    /// All but the nodes, where these do not hold the codes: nodes are read from the file.
    Codes,
    /// Nothing: everything is read from the file.
    Nothing,
}

/// Where a graph's bytes are.
enum Memory {
    Own(MmapMut),
    /// A part of a mapped file.
    File(Bytes, Range<usize>),
}

impl std::ops::Deref for Memory {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Memory::Own(bytes) => bytes,
            Memory::File(bytes, range) => &bytes[range.clone()],
        }
    }
}

impl std::ops::DerefMut for Memory {
    /// Files are never written to: there is nothing to change in one.
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Memory::Own(bytes) => bytes,
            Memory::File(..) => &mut [],
        }
    }
}

/// The graph of one segment, ready to be searched. See the module for its bytes.
pub struct GraphIndex {
    bytes: Memory,
    /// What follows the nodes, where it is in memory although the nodes are not.
    tail: Option<MmapMut>,
    pub(super) sections: Sections,
    pub(super) count: usize,
    pub(super) degree: usize,
    pub(super) width: usize,
    pub(super) inline: Option<InlineBlock>,
    /// What makes and compares the codes, where they are not the 8-bit ones.
    pub(super) coder: Option<Coder>,
    pub(super) quantizer: ScalarQuantizer,
    pub(super) kind: Kind,
    /// The codes of the entry points, in tiles that one kernel call compares with a query.
    pub(super) entry_tiles: Vec<Tile>,
    /// Whether distances between codes are the rows' own: bytes and bits, up to where f32 holds them exactly.
    pub(super) exact_codes: bool,
    seed: u64,
    /// What the section of the same name holds.
    pub(super) calibration: Vec<(f32, f32)>,
    /// How much farther detours of a filtered walk may lie for each halving of the share that passes, where measured.
    pub(super) farther: Option<f32>,
    /// How many rows found say when a filtered walk ends among rows that lie apart from the query: this many for each
    /// halving of their share and twice as many in any case. `None` where such walks do not find enough.
    pub(super) beam_apart: Option<u32>,
}

impl std::fmt::Debug for GraphIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match &self.coder {
            Some(Coder::Bits(coder)) => format!("{}-bit", coder.bits),
            Some(Coder::Product(_)) => "product".into(),
            None if self.inline.is_some() => "inline".into(),
            None => "separate".into(),
        };
        write!(f, "GraphIndex({} rows, degree {}, {name} codes, {} bytes)", self.count, self.degree, self.bytes.len())
    }
}

/// Zeroed memory on large pages where the system has them: a walk touches it at random, so page walks cost much.
pub(super) fn allocate(bytes: usize) -> Result<MmapMut> {
    let map = MmapMut::map_anon(bytes.max(HEADER_BYTES)).map_err(|error| {
        Error::LimitExceeded(format!(
            "no memory for a graph of {bytes} bytes: {error}; free some memory or raise the budget"
        ))
    })?;
    #[cfg(target_os = "linux")]
    if bytes >= 4 << 20 {
        // Only a hint: without large pages all works, slower.
        let _ = map.advise(memmap2::Advice::HugePage);
    }
    Ok(map)
}

/// A graph whose sections are being filled.
pub(super) struct Assembly {
    bytes: MmapMut,
    sections: Sections,
    inline: Option<InlineBlock>,
}

/// The sections that a build fills.
pub(super) struct Parts<'a> {
    pub nodes: &'a mut [u8],
    /// Empty where blocks hold the codes.
    pub codes: &'a mut [u8],
    /// The parts of a block, where it holds codes.
    pub inline: Option<InlineBlock>,
    /// The entries' 8-bit codes, where the codes are others.
    pub entry_codes: &'a mut [u8],
}

impl Assembly {
    /// Makes room for a graph and writes what is known already.
    pub fn new(
        quantizer: ScalarQuantizer,
        coder: Option<&Coder>,
        order: &[u32],
        entries: &[u32],
        degree: usize,
        seed: u64,
    ) -> Result<Self> {
        let (count, width) = (order.len(), quantizer.width());
        let inline = quantizer.turn.is_some() && coder.is_none();
        let projection = match &quantizer.turn {
            Some(Turn::Projection(projection)) => Some(projection),
            _ => None,
        };
        let sections = Sections::new(count, degree, entries.len(), &quantizer, coder.map_or(0, Coder::tag))
            .ok_or_else(|| Error::LimitExceeded(format!("a graph of {count} rows does not fit the address space")))?;
        let mut bytes = allocate(sections.calibration.end)?;
        let header = Header {
            magic: MAGIC,
            count: count as u64,
            seed,
            total: sections.calibration.end as u64,
            dim: quantizer.dim as u32,
            element: quantizer.element as u8,
            metric: quantizer.metric as u8,
            inline: u8::from(inline),
            coding: coder.map_or(0, Coder::tag),
            degree: degree as u32,
            width: width as u32,
            entries: entries.len() as u32,
            calibrations: 0,
            scale: quantizer.scale,
            largest_norm: quantizer.largest_norm,
            projection_scale: projection.map_or(0.0, |projection| projection.scale),
            farther: 0.0,
            beam_apart: 0,
            reserved: 0,
        };
        bytes[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        bytes[sections.order.clone()].copy_from_slice(order.as_bytes());
        bytes[sections.entries.clone()].copy_from_slice(entries.as_bytes());
        bytes[sections.center.clone()].copy_from_slice(quantizer.center.as_bytes());
        bytes[sections.centroids.clone()].copy_from_slice(coder.map_or(&[][..], Coder::centroids).as_bytes());
        if let Some(projection) = projection {
            bytes[sections.projection.clone()].copy_from_slice(&projection.codes);
        }
        let inline = inline.then(|| InlineBlock::new(count, degree, width));
        Ok(Assembly { bytes, sections, inline })
    }

    pub fn parts(&mut self) -> Parts<'_> {
        let sections = &self.sections;
        let (nodes, codes) = self.bytes.split_at_mut(sections.codes.start);
        let (codes, entries) = codes.split_at_mut(sections.entry_codes.start - sections.codes.start);
        Parts {
            nodes: &mut nodes[sections.nodes.clone()],
            codes: &mut codes[..sections.codes.len()],
            inline: self.inline,
            entry_codes: &mut entries[..sections.entry_codes.len()],
        }
    }

    pub fn finish(self) -> Result<GraphIndex> {
        // Made by this process just now: its numbers need no check.
        GraphIndex::open(Memory::Own(self.bytes), false)
    }
}

impl GraphIndex {
    /// Reads a graph written by [`as_bytes`](Self::as_bytes). Every length and number is checked first, so damaged
    /// bytes give an error and never a wrong access; checksums are the caller's.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut copy = allocate(bytes.len())?;
        copy[..bytes.len()].copy_from_slice(bytes);
        Self::open(Memory::Own(copy), true)
    }

    /// As [`parse`](Self::parse), for the part `range` of a mapped file, of which no more than `keep` says is copied.
    /// What the file is checked for is checked now; that it does not change afterwards is the caller's promise.
    pub(crate) fn map(file: &Bytes, range: Range<usize>, keep: Keep) -> Result<Self> {
        let bytes = &file[range.clone()];
        // A file that was read into memory may begin anywhere: its numbers could not be read in place.
        if keep == Keep::All || bytes.as_ptr().align_offset(SECTION_ALIGNMENT) != 0 {
            return Self::parse(bytes);
        }
        let mut index = Self::open(Memory::File(file.clone(), range), true)?;
        if keep == Keep::Codes && index.inline.is_none() {
            let tail = index.sections.codes.start..index.sections.calibration.end;
            let mut copy = allocate(tail.len())?;
            copy[..tail.len()].copy_from_slice(&index.bytes[tail]);
            index.tail = Some(copy);
        }
        Ok(index)
    }

    /// Bytes of anonymous memory that the graph takes.
    pub(crate) fn memory(&self) -> u64 {
        let own = match &self.bytes {
            Memory::Own(bytes) => bytes.len(),
            Memory::File(..) => 0,
        };
        (own + self.tail.as_ref().map_or(0, |tail| tail.len())) as u64
    }

    /// A section that follows the nodes.
    #[inline]
    fn behind(&self, range: &Range<usize>) -> &[u8] {
        match &self.tail {
            Some(tail) => &tail[range.start - self.sections.codes.start..range.end - self.sections.codes.start],
            None => &self.bytes[range.clone()],
        }
    }

    /// The graph's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.sections.calibration.end]
    }

    /// Rows of the graph.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether the graph has no rows.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn open(bytes: Memory, check: bool) -> Result<Self> {
        let corrupt = |what: &str| Error::corrupt("graph", 0, what);
        let (header, _) = Header::read_from_prefix(&bytes).map_err(|_| corrupt("shorter than its header"))?;
        if header.magic != MAGIC {
            return Err(Error::Unsupported("the graph's bytes do not begin with OMGRAPH2; rebuild the index".into()));
        }
        let element = element_of(header.element).ok_or_else(|| corrupt("unknown element type"))?;
        let metric = metric_of(header.metric).ok_or_else(|| corrupt("unknown metric"))?;
        let schema = Schema::new(header.dim as usize, metric).with_element(element);
        schema.validate().map_err(|_| corrupt("impossible schema"))?;
        let (count, degree) = (header.count as usize, header.degree as usize);
        let mut quantizer = ScalarQuantizer {
            dim: schema.dim,
            element,
            metric,
            scale: header.scale,
            largest_norm: header.largest_norm,
            center: Vec::new(),
            turn: None,
        };
        quantizer.turn = stored_turn(&header, &bytes, &schema)?;
        let (width, coding) = (quantizer.width(), header.coding);
        let inline = quantizer.turn.is_some() && coding == 0;
        let fits = count <= super::MAX_ROWS
            && degree.is_multiple_of(BLOCK)
            && (BLOCK..=256).contains(&degree)
            && header.width as usize == width
            && header.inline == u8::from(inline)
            && header.calibrations as usize <= MAX_CALIBRATION
            && header.entries as usize <= count
            && (count == 0 || header.entries > 0);
        let sections = Sections::new(count, degree.max(BLOCK), header.entries as usize, &quantizer, coding)
            .filter(|sections| fits && sections.calibration.end as u64 == header.total)
            .filter(|sections| sections.calibration.end <= bytes.len())
            .ok_or_else(|| corrupt("sizes that contradict each other"))?;
        let mut index = GraphIndex {
            bytes,
            tail: None,
            sections,
            count,
            degree,
            width,
            inline: inline.then(|| InlineBlock::new(count, degree, width)),
            coder: None,
            quantizer: quantizer.clone(),
            kind: Kind::of(metric),
            entry_tiles: Vec::new(),
            seed: header.seed,
            calibration: Vec::new(),
            farther: Some(header.farther - 1.0).filter(|farther| (0.0..1.0).contains(farther)),
            beam_apart: Some(header.beam_apart).filter(|&beam| beam > 0),
            exact_codes: quantizer.is_direct() && schema.dim <= 2048 && coding == 0,
        };
        quantizer.center = <[f32]>::ref_from_bytes(&index.bytes[index.sections.center.clone()]).unwrap_or(&[]).to_vec();
        quantizer.validate()?;
        let valid = |&id: &u32| (id as usize) < count;
        let fits = |id: u32| valid(&id) || id == NO_NEIGHBOUR;
        let neighbours_fit = || (0..count as u32).all(|node| index.neighbours(node).all(fits));
        let sound = || neighbours_fit() && index.order().iter().all(valid) && index.entries().iter().all(valid);
        if check && !sound() {
            return Err(corrupt("a node number out of range"));
        }
        if coding != 0 {
            let centroids = <[f32]>::ref_from_bytes(&index.bytes[index.sections.centroids.clone()]).unwrap_or(&[]);
            let coder = Coder::of(coding, &quantizer, centroids);
            index.coder = Some(coder.ok_or_else(|| corrupt("codes that do not fit the schema"))?);
        }
        let entry_codes: Vec<&[u8]> = match coding {
            0 => index.entries().iter().map(|&id| index.code(id)).collect(),
            _ => index.bytes[index.sections.entry_codes.clone()].chunks_exact(width).collect(),
        };
        let mut tiles = Vec::new();
        for entries in entry_codes.chunks(TILE) {
            let mut tile = Tile::default();
            let norms = entries.iter().map(|code| codes::row_terms(code).0);
            tile.pack(width, entries.iter().copied(), norms);
            tiles.push(tile);
        }
        index.entry_tiles = tiles;
        let pairs = <[f32]>::ref_from_bytes(&index.bytes[index.sections.calibration.clone()]).unwrap_or(&[]);
        let pairs = pairs.chunks_exact(2).take(header.calibrations as usize);
        index.calibration = pairs.map(|pair| (pair[0], pair[1])).collect();
        index.quantizer = quantizer;
        Ok(index)
    }

    #[inline]
    pub(super) fn node(&self, id: u32) -> &[u8] {
        &self.bytes[self.sections.nodes.start + id as usize * self.sections.node_stride..][..self.sections.node_stride]
    }

    pub(super) fn node_mut(&mut self, id: u32) -> &mut [u8] {
        let start = self.sections.nodes.start + id as usize * self.sections.node_stride;
        &mut self.bytes[start..start + self.sections.node_stride]
    }

    /// The 8-bit code of a node. Only where there are such codes.
    #[inline]
    pub(super) fn code(&self, id: u32) -> &[u8] {
        if self.inline.is_some() {
            return &self.node(id)[..self.width];
        }
        &self.codes()[id as usize * self.width..][..self.width]
    }

    /// The numbers of a node's neighbours, [`NO_NEIGHBOUR`] at unused places.
    pub(super) fn neighbours(&self, id: u32) -> impl Iterator<Item = u32> {
        let node = self.node(id);
        let plain = if self.inline.is_some() { &[] } else { words(node) };
        let inline = self.inline.into_iter().flat_map(move |at| (0..at.degree).map(move |i| at.neighbour(node, i)));
        inline.chain(plain.iter().copied())
    }

    /// Copies the 8-bit code of a node to `code`, or makes it from the node's row.
    pub(super) fn copy_code(&self, rows: super::Rows<'_>, id: u32, values: &mut Vec<f32>, code: &mut [u8]) {
        match self.coder {
            Some(_) => self.quantizer.encode(rows.row(self.order()[id as usize] as usize), values, code),
            None => code.copy_from_slice(self.code(id)),
        }
    }

    /// The codes of all nodes, where they are not in the nodes.
    #[inline]
    pub(super) fn codes(&self) -> &[u8] {
        self.behind(&self.sections.codes)
    }

    /// The row of each node.
    pub fn order(&self) -> &[u32] {
        words(self.behind(&self.sections.order))
    }

    pub(super) fn entries(&self) -> &[u32] {
        words(self.behind(&self.sections.entries))
    }

    /// Pairs of slack (beam, for dot products) and the recall@10 that was measured with it, ascending; empty where not
    /// calibrated.
    pub fn calibration(&self) -> &[(f32, f32)] {
        &self.calibration
    }

    pub(super) fn set_calibration(&mut self, pairs: &[(f32, f32)]) {
        self.calibration = pairs[..pairs.len().min(MAX_CALIBRATION)].to_vec();
        let flat: Vec<f32> = self.calibration.iter().flat_map(|&(level, recall)| [level, recall]).collect();
        let start = self.sections.calibration.start;
        self.bytes[start..start + flat.len() * 4].copy_from_slice(flat.as_bytes());
        let place = std::mem::offset_of!(Header, calibrations);
        self.bytes[place..place + 4].copy_from_slice(&((flat.len() / 2) as u32).to_le_bytes());
    }

    /// Keeps what was measured for filtered walks.
    pub(super) fn set_farther(&mut self, farther: f32) {
        self.farther = Some(farther);
        let place = std::mem::offset_of!(Header, farther);
        self.bytes[place..place + 4].copy_from_slice(&(1.0 + farther).to_le_bytes());
    }

    /// Keeps what was measured for filtered walks among rows that lie apart.
    pub(super) fn set_beam_apart(&mut self, beam: Option<u32>) {
        self.beam_apart = beam;
        let place = std::mem::offset_of!(Header, beam_apart);
        self.bytes[place..place + 4].copy_from_slice(&beam.unwrap_or(0).to_le_bytes());
    }

    /// The seed that the graph was built with.
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

/// How the rows of a stored graph are turned.
fn stored_turn(header: &Header, bytes: &[u8], schema: &Schema) -> Result<Option<Turn>> {
    let turned = header.inline == 1 || (1..=8).contains(&header.coding);
    if !turned || !ScalarQuantizer::can_rotate(schema.dim, schema.element, schema.metric) {
        return Ok(None);
    }
    if header.projection_scale == 0.0 {
        let rotation = Rotation::new(ScalarQuantizer::rotated_width(schema.dim), header.seed);
        return Ok(Some(Turn::Rotation(rotation)));
    }
    let width = header.width as usize;
    let end = width.saturating_mul(Projection::stride(schema.dim)).saturating_add(HEADER_BYTES);
    let codes = bytes.get(HEADER_BYTES..end).unwrap_or_default().to_vec();
    let projection = Projection::new(schema.dim, width, header.projection_scale, codes)
        .ok_or_else(|| Error::corrupt("graph", 0, "a projection whose sizes contradict each other"))?;
    Ok(Some(Turn::Projection(Arc::new(projection))))
}

/// The numbers of a section. Sections are aligned, so the cast succeeds.
#[inline]
pub(super) fn words(bytes: &[u8]) -> &[u32] {
    <[u32]>::ref_from_bytes(bytes).unwrap_or(&[])
}

fn element_of(tag: u8) -> Option<crate::schema::Element> {
    use crate::schema::Element::*;
    [F32, F16, I8, U8, Bits].into_iter().find(|element| *element as u8 == tag)
}

fn metric_of(tag: u8) -> Option<crate::schema::Metric> {
    use crate::schema::Metric::*;
    [Cosine, L2, Dot, Hamming].into_iter().find(|metric| *metric as u8 == tag)
}
