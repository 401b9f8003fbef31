//! Files that are made from a segment's data file. Whatever is wrong with one, it is made again.
//!
//! ```text
//! segments/<id>.index, segments/<id>.text, segments/<id>.columns, and of field n segments/<id>.<n>.index,
//! segments/<id>.<n>.sparse
//! offset bytes what
//! 0      8     magic: "OMENIDX1", "OMENTXT1", "OMENFLT1" or "OMENSPX1"
//! 8      2+2   format version: major, minor
//! 12     2     stage of a graph: 1 first, 2 settled; of the others the version of their payload
//! 14     2     0, or of a field 1 more than its number
//! 16     16    database uuid
//! 32     4     segment id
//! 36     4     rows
//! 40     8     payload length
//! 48     16    XXH3-128 of the footer of the segment's data file, as the manifest names it
//! 64     16    XXH3-128 over bytes 0..64 and the payload; of a text index, the checksums after it instead
//! 80     48    0
//! 128    ...   payload: the graph (`index/graph/layout.rs`), the text index (`text/index.rs`), the metadata by column
//!              (`filter/columns.rs`) or the index of sparse vectors (`sparse/index.rs`)
//! ..     4m    of a text index: CRC32C of each block (65,536 bytes) of the payload
//! ```
//! It names the one data file that it was made from and needs no entry in the manifest.

use crate::checksum::{crc32c, xxh3_128};
use crate::codec::Reader;
use crate::error::{Error, Result};
use crate::manifest::{FORMAT_MAJOR, FORMAT_MINOR, SEGMENT_DIR, hex};
use crate::schema::{Field, FieldKind, Schema};
use crate::segment::format::BLOCK_BYTES;
use crate::storage::{Bytes, OpenMode, Storage};

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 128;
/// Bytes of the header that its hash covers.
const HASHED_BYTES: usize = 64;
const WRITE_BYTES: usize = 8 << 20;

/// A kind of derived file.
pub(crate) struct Kind {
    pub(crate) magic: &'static [u8; 8],
    extension: &'static str,
    /// Whether the payload is checked block by block as it is read, rather than whole before it is used.
    blocks: bool,
    /// What messages call it.
    name: &'static str,
}

pub(crate) const GRAPH: Kind = Kind { magic: b"OMENIDX1", extension: "index", blocks: false, name: "index" };
pub(crate) const TEXT: Kind = Kind { magic: b"OMENTXT1", extension: "text", blocks: true, name: "text index" };
pub(crate) const SPARSE: Kind = Kind { magic: b"OMENSPX1", extension: "sparse", blocks: false, name: "sparse index" };
pub(crate) const COLUMNS: Kind = Kind { magic: b"OMENFLT1", extension: "columns", blocks: false, name: "columns file" };
const KINDS: [&Kind; 4] = [&GRAPH, &TEXT, &SPARSE, &COLUMNS];

/// Which data file a derived file belongs to.
pub(crate) struct Owner<'a> {
    pub(crate) uuid: [u8; 16],
    pub(crate) segment: u32,
    pub(crate) rows: u32,
    /// XXH3-128 of its footer, in hexadecimal.
    pub(crate) footer: &'a str,
    /// The further field that it is made of, if it is one.
    pub(crate) field: Option<usize>,
}

impl Owner<'_> {
    fn field_stamp(&self) -> u16 {
        self.field.map_or(0, |field| field as u16 + 1)
    }
}

/// A file whose header verifies.
pub(crate) struct Derived {
    pub(crate) bytes: Bytes,
    pub(crate) stamp: u16,
    /// Where the payload ends.
    pub(crate) end: usize,
}

impl Derived {
    /// The payload without the rest.
    pub(crate) fn into_payload(self) -> Bytes {
        struct Payload(Derived);
        impl AsRef<[u8]> for Payload {
            fn as_ref(&self) -> &[u8] {
                self.0.payload()
            }
        }
        Bytes::new(Payload(self))
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..self.end]
    }
}

/// The derived files that a segment of a collection may have.
pub(crate) fn paths(segment: u32, schema: &Schema) -> impl Iterator<Item = String> {
    let of_field = move |(number, field): (usize, &Field)| match field.kind {
        FieldKind::Vector(_) => GRAPH.path(segment, Some(number)),
        FieldKind::Sparse => SPARSE.path(segment, Some(number)),
    };
    let always = [&GRAPH, &TEXT, &COLUMNS].map(|kind| kind.path(segment, None));
    always.into_iter().chain(schema.fields.iter().enumerate().map(of_field))
}

/// The segment that a derived file's name belongs to.
pub(crate) fn parse_segment(name: &str) -> Option<u32> {
    let (number, rest) = name.split_once('.')?;
    let (field, extension) = rest.split_once('.').unwrap_or(("0", rest));
    let known = field.parse::<usize>().is_ok() && KINDS.iter().any(|kind| kind.extension == extension);
    known.then(|| number.parse().ok())?
}

/// The checksums of a payload's blocks, as stored.
fn block_checksums(payload: &[u8]) -> Vec<u8> {
    payload.chunks(BLOCK_BYTES as usize).flat_map(|block| crc32c(&[block]).to_le_bytes()).collect()
}

impl Kind {
    pub(crate) fn path(&self, segment: u32, field: Option<usize>) -> String {
        match field {
            None => format!("{SEGMENT_DIR}/{segment:08}.{}", self.extension),
            Some(field) => format!("{SEGMENT_DIR}/{segment:08}.{field}.{}", self.extension),
        }
    }

    fn header(&self, owner: &Owner<'_>, stamp: u16, payload: &[u8], checksums: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(self.magic);
        out.extend_from_slice(&FORMAT_MAJOR.to_le_bytes());
        out.extend_from_slice(&FORMAT_MINOR.to_le_bytes());
        out.extend_from_slice(&stamp.to_le_bytes());
        out.extend_from_slice(&owner.field_stamp().to_le_bytes());
        out.extend_from_slice(&owner.uuid);
        out.extend_from_slice(&owner.segment.to_le_bytes());
        out.extend_from_slice(&owner.rows.to_le_bytes());
        out.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        out.extend_from_slice(&u128::from_str_radix(owner.footer, 16).unwrap_or_default().to_le_bytes());
        let hash = xxh3_128(&[&out, if self.blocks { checksums } else { payload }]);
        out.extend_from_slice(&hash.to_le_bytes());
        out.resize(HEADER_BYTES, 0);
        out
    }

    /// Writes the file under a temporary name and gives it its own once it is durable.
    pub(crate) fn write(&self, storage: &dyn Storage, owner: &Owner<'_>, stamp: u16, payload: &[u8]) -> Result<()> {
        let path = self.path(owner.segment, owner.field);
        let temporary = format!("{path}.tmp");
        let checksums = if self.blocks { block_checksums(payload) } else { Vec::new() };
        let head = self.header(owner, stamp, payload, &checksums);
        // A leftover of an interrupted attempt would be in the way.
        let _ = storage.remove(&temporary);
        let written = storage.open(&temporary, OpenMode::CreateNew).and_then(|file| {
            let mut at = 0;
            for bytes in std::iter::once(&*head).chain(payload.chunks(WRITE_BYTES)).chain([&*checksums]) {
                if !bytes.is_empty() {
                    file.write_at(bytes, at)?;
                    at += bytes.len() as u64;
                }
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

    /// Reads the file and verifies what its header vouches for; `None` if there is none.
    pub(crate) fn read(&self, storage: &dyn Storage, owner: &Owner<'_>) -> Result<Option<Derived>> {
        let path = self.path(owner.segment, owner.field);
        let bytes = match storage.map(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("open", path, &e)),
        };
        let bad = |what: &str| Error::corrupt(&path, 0, format!("the {} {what}", self.name));
        let mut r = Reader::new(&bytes);
        let fields = (|| {
            let head = (r.take(8)?, r.u16()?, r.u16()?, r.u16()?, r.u16()?);
            Some((head, r.uuid()?, r.u32()?, r.u32()?, r.u64()?, r.u128()?, r.u128()?))
        })();
        let Some(((magic, major, _, stamp, field), uuid, segment, rows, len, footer, hash)) = fields else {
            return Err(bad("is shorter than its header"));
        };
        let (head, body) = bytes.split_at_checked(HEADER_BYTES).ok_or_else(|| bad("is shorter than its header"))?;
        let parts = usize::try_from(len).ok().and_then(|len| body.split_at_checked(len));
        let sealed = parts.filter(|(payload, checksums)| match self.blocks {
            true => checksums.len() == payload.len().div_ceil(BLOCK_BYTES as usize) * 4,
            false => checksums.is_empty(),
        });
        let Some((payload, checksums)) = sealed.filter(|_| magic == self.magic) else {
            return Err(bad("has another length than its header says"));
        };
        let unused = head[HASHED_BYTES + 16..].iter().all(|byte| *byte == 0);
        let matches = xxh3_128(&[&head[..HASHED_BYTES], if self.blocks { checksums } else { payload }]) == hash;
        if !(matches || crate::mutant::active("ignore-index-checksum")) || !unused {
            return Err(bad("has a checksum that does not match"));
        }
        let same = field == owner.field_stamp()
            && uuid == owner.uuid
            && segment == owner.segment
            && rows == owner.rows
            && hex(footer) == owner.footer;
        if !same || major != FORMAT_MAJOR {
            return Err(bad("is of another version or belongs to another segment"));
        }
        let end = HEADER_BYTES + payload.len();
        Ok(Some(Derived { bytes, stamp, end }))
    }
}
