//! The layout of a segment's data file.
//!
//! ```text
//! segments/<id>.data
//! header, 64 bytes                         sections, each at a multiple of 64 (of 64 KiB when 1 MiB or more)
//! offset bytes what                        kind what
//! 0      8     magic "OMENSEG1"            1    schema: JSON (collection, schema, hash seed)
//! 8      2+2   format version              2    id hashes: u64 a row
//! 12     4     0                           3    id ends: u32 a row, where its id ends in section 4
//! 16     16    database uuid               4    ids, encoded
//! 32     4     segment id                  5    metadata ends: u64 a row      (5 and 6 absent when no row has any)
//! 36     4     collection id               6    metadata, stored
//! 40     8     rows                        7    text ends: u64 a row          (7 and 8 absent when no row has any)
//! 48     8     seq                         8    text, stored
//! 56     8     0                           9    vectors: row-major, little-endian
//!                                          10+2n  field n ends: u64 a row    (absent when no row has field n)
//!                                          11+2n  field n: vectors, or sparse vectors, of the rows that have one
//! footer, after the last section           trailer, the last 32 bytes
//! 0      8     magic "OMENFTR1"            0    8   offset of the footer
//! 8      4     sections n                  8    8   length of the footer
//! 12     4     block size (65,536)         16   16  XXH3-128 of the footer
//! 16     8     rows
//! 24     8     offset of the footer
//! 32     24n   kind u32, 0 u32, offset u64, length u64
//! ..     4m    CRC32C of each block of the file before the footer
//! ```
//! The footer stands there twice: the second copy, right after the first, is for salvage alone. Its hash stands in the
//! manifest too: a swapped or stale file does not verify.

use crate::checksum::xxh3_128;
use crate::codec::{Reader, align_up, u32_at};
use crate::error::{Error, Result};
use crate::manifest::{FORMAT_MAJOR, FORMAT_MINOR};
use crate::schema::{FieldKind, MAX_FIELDS, Schema};
use serde::{Deserialize, Serialize};

/// First bytes of every segment.
pub const MAGIC: &[u8; 8] = b"OMENSEG1";
/// First bytes of every footer.
pub const FOOTER_MAGIC: &[u8; 8] = b"OMENFTR1";
/// Bytes before the first section.
pub const HEADER_BYTES: u64 = 64;
/// Bytes of the trailer.
pub const TRAILER_BYTES: u64 = 32;
/// Bytes covered by one checksum.
pub const BLOCK_BYTES: u64 = 64 << 10;
/// Sections start at a multiple of this.
pub const SECTION_ALIGN: u64 = 64;
/// Sections of this size or more start at a multiple of [`BLOCK_BYTES`], so that threads can write them apart.
pub const LARGE_SECTION_BYTES: u64 = 1 << 20;
const MAX_SECTIONS: u32 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SectionKind {
    Schema,
    IdHashes,
    IdEnds,
    Ids,
    MetadataEnds,
    Metadata,
    TextEnds,
    Text,
    Vectors,
    /// Of a further field, by its number.
    FieldEnds(usize),
    Field(usize),
}

/// The kinds that every collection has, in the order of their numbers, which begin with 1.
pub(crate) const SECTION_KINDS: [SectionKind; 9] = [
    SectionKind::Schema,
    SectionKind::IdHashes,
    SectionKind::IdEnds,
    SectionKind::Ids,
    SectionKind::MetadataEnds,
    SectionKind::Metadata,
    SectionKind::TextEnds,
    SectionKind::Text,
    SectionKind::Vectors,
];

impl SectionKind {
    /// As in the file.
    pub(crate) fn number(self) -> u32 {
        let first = SECTION_KINDS.len() as u32 + 1;
        match self {
            SectionKind::FieldEnds(field) => first + 2 * field as u32,
            SectionKind::Field(field) => first + 2 * field as u32 + 1,
            other => SECTION_KINDS.iter().position(|kind| *kind == other).map_or(0, |at| at as u32 + 1),
        }
    }

    fn of_number(number: u32) -> Option<SectionKind> {
        let fields = (0..MAX_FIELDS).flat_map(|field| [SectionKind::FieldEnds(field), SectionKind::Field(field)]);
        SECTION_KINDS.into_iter().chain(fields).find(|kind| kind.number() == number)
    }
}

/// Where a section lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Section {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// What stands in the schema section: enough to salvage the segment without a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SegmentSchema {
    pub(crate) collection: String,
    pub(crate) schema: Schema,
    pub(crate) hash_seed: u64,
}

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) uuid: [u8; 16],
    pub(crate) segment: u32,
    pub(crate) collection: u32,
    pub(crate) rows: u64,
    pub(crate) seq: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES as usize);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_MAJOR.to_le_bytes());
        out.extend_from_slice(&FORMAT_MINOR.to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&self.uuid);
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&self.collection.to_le_bytes());
        out.extend_from_slice(&self.rows.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.resize(HEADER_BYTES as usize, 0);
        out
    }

    pub(crate) fn decode(bytes: &[u8], path: &str) -> Result<Header> {
        let mut r = Reader::new(bytes);
        let fields = (|| {
            let head = (r.take(8)?, r.u16()?, r.u16()?, r.u32()?);
            Some((
                head,
                Header { uuid: r.uuid()?, segment: r.u32()?, collection: r.u32()?, rows: r.u64()?, seq: r.u64()? },
            ))
        })();
        match fields {
            Some(((magic, major, _, _), _)) if magic == MAGIC && major != FORMAT_MAJOR => {
                Err(Error::Unsupported(format!("{path} has format version {major}; this version reads {FORMAT_MAJOR}")))
            }
            Some(((magic, _, _, _), header)) if magic == MAGIC => Ok(header),
            _ => Err(Error::corrupt(path, 0, "not a segment: the magic is wrong")),
        }
    }
}

/// The parsed footer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Footer {
    pub(crate) rows: u32,
    /// Where the footer starts: the end of the checked body.
    pub(crate) body: u64,
    pub(crate) sections: Vec<(SectionKind, Section)>,
    pub(crate) crcs: Vec<u32>,
}

impl Footer {
    pub(crate) fn section(&self, kind: SectionKind) -> Section {
        self.sections.iter().find(|(k, _)| *k == kind).map(|(_, s)| *s).unwrap_or_default()
    }

    /// The footer and trailer as written, and the footer's hash.
    pub(crate) fn encode(&self) -> (Vec<u8>, u128) {
        let mut out = Vec::new();
        out.extend_from_slice(FOOTER_MAGIC);
        out.extend_from_slice(&(self.sections.len() as u32).to_le_bytes());
        out.extend_from_slice(&(BLOCK_BYTES as u32).to_le_bytes());
        out.extend_from_slice(&u64::from(self.rows).to_le_bytes());
        out.extend_from_slice(&self.body.to_le_bytes());
        for (kind, section) in &self.sections {
            out.extend_from_slice(&kind.number().to_le_bytes());
            out.extend_from_slice(&0u32.to_le_bytes());
            out.extend_from_slice(&section.offset.to_le_bytes());
            out.extend_from_slice(&section.len.to_le_bytes());
        }
        for crc in &self.crcs {
            out.extend_from_slice(&crc.to_le_bytes());
        }
        let hash = xxh3_128(&[&out]);
        let len = out.len() as u64;
        out.extend_from_within(..);
        out.extend_from_slice(&self.body.to_le_bytes());
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&hash.to_le_bytes());
        (out, hash)
    }

    /// Finds, verifies and parses the footer of a whole file. Returns the footer's hash, for the manifest to confirm.
    pub(crate) fn decode(file: &[u8], path: &str) -> Result<(Footer, u128)> {
        let len = file.len() as u64;
        let bad = |offset: u64, what: &str| Error::corrupt(path, offset, what);
        if len < HEADER_BYTES + TRAILER_BYTES {
            return Err(bad(0, "the segment is shorter than its header and trailer"));
        }
        let trailer_at = len - TRAILER_BYTES;
        let mut r = Reader::new(&file[trailer_at as usize..]);
        let (Some(offset), Some(footer_len), Some(hash)) = (r.u64(), r.u64(), r.u128()) else {
            return Err(bad(trailer_at, "the trailer is short"));
        };
        let copies = footer_len.checked_mul(2).and_then(|both| offset.checked_add(both));
        if offset < HEADER_BYTES || copies != Some(trailer_at) {
            return Err(bad(trailer_at, "the trailer does not point at a footer"));
        }
        let footer = &file[offset as usize..(offset + footer_len) as usize];
        if xxh3_128(&[footer]) != hash {
            return Err(bad(offset, "the footer's checksum does not match"));
        }
        let parsed = Footer::parse(footer, offset).ok_or_else(|| bad(offset, "the footer does not parse"))?;
        Ok((parsed, hash))
    }

    /// Finds a footer in a file whose footer or trailer is damaged: one that the trailer vouches for, or else one that
    /// its copy does.
    pub(crate) fn recover(file: &[u8], path: &str) -> Result<(Footer, u128)> {
        let found = Footer::decode(file, path);
        if found.is_ok() {
            return found;
        }
        let trailer_at = file.len().saturating_sub(TRAILER_BYTES as usize);
        let trailer = file.get(trailer_at + 16..).and_then(|bytes| Reader::new(bytes).u128());
        let mut offset = trailer_at.next_multiple_of(SECTION_ALIGN as usize);
        while offset > HEADER_BYTES as usize {
            offset -= SECTION_ALIGN as usize;
            let Some(rest) = trailer_at.checked_sub(offset).filter(|rest| rest.is_multiple_of(2)) else { continue };
            let (first, second) = file[offset..trailer_at].split_at(rest / 2);
            let starts = |copy: &[u8]| copy.starts_with(FOOTER_MAGIC);
            if !starts(first) && !starts(second) {
                continue;
            }
            let vouched = |copy: &&&[u8]| first == second || Some(xxh3_128(&[copy])) == trailer;
            let whole = [first, second]
                .iter()
                .find(vouched)
                .and_then(|copy| Some((Footer::parse(copy, offset as u64)?, xxh3_128(&[copy]))));
            if let Some(whole) = whole {
                return Ok(whole);
            }
        }
        found
    }

    fn parse(footer: &[u8], body: u64) -> Option<Footer> {
        let mut r = Reader::new(footer);
        let magic = r.take(8)?;
        let (count, block, rows, own_body) = (r.u32()?, r.u32()?, r.u64()?, r.u64()?);
        if magic != FOOTER_MAGIC || u64::from(block) != BLOCK_BYTES || own_body != body || count > MAX_SECTIONS {
            return None;
        }
        let mut sections = Vec::new();
        let mut free = HEADER_BYTES;
        for _ in 0..count {
            let (kind, _, offset, len) = (r.u32()?, r.u32()?, r.u64()?, r.u64()?);
            let kind = SectionKind::of_number(kind)?;
            let rises = sections.last().is_none_or(|(before, _): &(SectionKind, _)| before.number() < kind.number());
            if offset < free || !rises {
                return None;
            }
            free = offset.checked_add(len).filter(|end| *end <= body)?;
            sections.push((kind, Section { offset, len }));
        }
        let blocks = usize::try_from(body.div_ceil(BLOCK_BYTES)).ok()?;
        let crcs = r.take(blocks.checked_mul(4)?)?;
        if !r.is_empty() {
            return None;
        }
        let crcs = (0..blocks).map(|i| u32_at(crcs, i)).collect::<Option<Vec<_>>>()?;
        Some(Footer { rows: u32::try_from(rows).ok()?, body, sections, crcs })
    }

    /// Checks the sections' sizes against the number of rows.
    pub(crate) fn check_sizes(&self, schema: &Schema) -> bool {
        let rows = u64::from(self.rows);
        let len = |kind| self.section(kind).len;
        let ends_fit =
            |ends: SectionKind, data: SectionKind| len(ends) == rows * 8 || (len(ends) == 0 && len(data) == 0);
        len(SectionKind::IdHashes) == rows * 8
            && len(SectionKind::IdEnds) == rows * 4
            && ends_fit(SectionKind::MetadataEnds, SectionKind::Metadata)
            && ends_fit(SectionKind::TextEnds, SectionKind::Text)
            && rows.checked_mul(schema.stride() as u64) == Some(len(SectionKind::Vectors))
            && (0..MAX_FIELDS).all(|field| {
                let data = len(SectionKind::Field(field));
                let whole = match schema.fields.get(field).map(|field| &field.kind) {
                    Some(FieldKind::Vector(field)) => {
                        data.is_multiple_of(field.element.stride(field.dim).max(1) as u64)
                    }
                    Some(FieldKind::Sparse) => true,
                    None => data == 0,
                };
                whole && ends_fit(SectionKind::FieldEnds(field), SectionKind::Field(field))
            })
    }
}

/// Places sections of the given lengths one after the other.
pub(crate) fn place(lengths: &[(SectionKind, u64)]) -> (Vec<(SectionKind, Section)>, u64) {
    let mut end = HEADER_BYTES;
    let mut sections = Vec::with_capacity(lengths.len());
    for (kind, len) in lengths.iter().filter(|(_, len)| *len > 0) {
        let align = if *len >= LARGE_SECTION_BYTES { BLOCK_BYTES } else { SECTION_ALIGN };
        let offset = align_up(end, align);
        end = offset + len;
        sections.push((*kind, Section { offset, len: *len }));
    }
    (sections, align_up(end, SECTION_ALIGN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footer_is_found_whatever_single_byte_of_the_tail_is_damaged() {
        let (sections, body) = place(&[(SectionKind::Schema, 100), (SectionKind::Vectors, 70_000)]);
        let footer = Footer { rows: 7, body, sections, crcs: vec![1, 2] };
        let mut file = vec![0u8; body as usize];
        let (tail, hash) = footer.encode();
        file.extend_from_slice(&tail);
        assert_eq!(Footer::decode(&file, "f").unwrap(), (footer.clone(), hash));
        for at in body as usize..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x20;
            assert_eq!(Footer::recover(&damaged, "f").unwrap().0, footer, "byte {at}");
        }
    }
}
