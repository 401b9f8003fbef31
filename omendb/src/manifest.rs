//! The manifest: the one file that says which files are the database. Swapping it is the only commit of structure.
//!
//! ```text
//! MANIFEST-<n>   offset  bytes  what
//!                0       8      magic "OMENMAN1"
//!                8       2+2    format version: major, minor
//!                12      4      incompatible feature bits (an unknown one refuses to open)
//!                16      16     database uuid
//!                32      8      payload length
//!                40      8      n, the manifest's number
//!                48      16     XXH3-128 over bytes 0..48 and the payload
//!                64      ...    payload: JSON
//! ```
//! It is written to a temporary name, synced, renamed, and its directory synced; so the highest number is always
//! whole, and one that does not verify is damage, never a torn write.

use crate::checksum::xxh3_128;
use crate::codec::Reader;
use crate::error::{Error, Result};
use crate::idmap::MEMTABLE;
use crate::index::derived::Owner;
use crate::schema::Schema;
use crate::storage::{File, OpenMode, Storage};
use serde::{Deserialize, Serialize};

/// First bytes of every manifest.
pub const MAGIC: &[u8; 8] = b"OMENMAN1";
/// Bytes before the payload.
pub const HEADER_BYTES: usize = 64;
/// Version of the on-disk format this code writes. A reader accepts any minor of its major.
pub const FORMAT_MAJOR: u16 = 1;
/// See [`FORMAT_MAJOR`].
pub const FORMAT_MINOR: u16 = 0;
/// Feature bits that a reader must know.
const KNOWN_FEATURES: u32 = FEATURE_FIELDS;
/// A collection has further fields.
const FEATURE_FIELDS: u32 = 1;
const MAX_MANIFEST_BYTES: u64 = 256 << 20;
/// Commits, manifests and log generations are numbered below this, so that counting on never overflows.
pub(crate) const MAX_NUMBER: u64 = 1 << 62;

/// What the database consists of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The manifest's own number.
    pub(crate) number: u64,
    /// Every commit up to this one is in the segments and tombstones named here or in the log from `log_start` on.
    pub(crate) seq: u64,
    /// Every commit up to this one is in the segments; the log goes on from the next.
    pub(crate) flushed: u64,
    /// The first log generation that is still needed.
    pub(crate) log_start: u64,
    pub(crate) next_segment: u32,
    pub(crate) next_collection: u32,
    pub(crate) collections: Vec<CollectionEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CollectionEntry {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) schema: Schema,
    /// Keys the hash of ids.
    pub(crate) hash_seed: u64,
    pub(crate) segments: Vec<SegmentEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SegmentEntry {
    pub(crate) id: u32,
    pub(crate) rows: u32,
    /// The newest commit whose records it may hold.
    pub(crate) seq: u64,
    /// Length of the data file.
    pub(crate) bytes: u64,
    /// XXH3-128 of the data file's footer, in hexadecimal.
    pub(crate) footer: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tombstones: Option<TombstonesEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TombstonesEntry {
    /// The number of the manifest that wrote the file.
    pub(crate) number: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// XXH3-128 of the file, in hexadecimal.
    pub(crate) hash: String,
}

impl SegmentEntry {
    pub(crate) fn data_path(&self) -> String {
        data_path(self.id)
    }

    /// What derived files of the segment name.
    pub(crate) fn owner(&self, uuid: [u8; 16]) -> Owner<'_> {
        Owner { uuid, segment: self.id, rows: self.rows, footer: &self.footer, field: None }
    }

    pub(crate) fn tombstones_path(&self) -> Option<String> {
        self.tombstones.as_ref().map(|t| tombstones_path(self.id, t.number))
    }
}

pub(crate) const SEGMENT_DIR: &str = "segments";
pub(crate) const LOG_DIR: &str = "wal";
pub(crate) const LOCK_PATH: &str = "LOCK";

pub(crate) fn data_path(segment: u32) -> String {
    format!("{SEGMENT_DIR}/{segment:08}.data")
}

pub(crate) fn tombstones_path(segment: u32, number: u64) -> String {
    format!("{SEGMENT_DIR}/{segment:08}.{number:08}.tombstones")
}

pub(crate) fn manifest_path(number: u64) -> String {
    format!("MANIFEST-{number:08}")
}

pub(crate) fn hex(hash: u128) -> String {
    format!("{hash:032x}")
}

impl Manifest {
    pub(crate) fn new() -> Self {
        Manifest {
            number: 0,
            seq: 0,
            flushed: 0,
            log_start: 1,
            next_segment: 1,
            next_collection: 1,
            collections: Vec::new(),
        }
    }

    /// What a reader must know to read the database.
    fn features(&self) -> u32 {
        let fields = self.collections.iter().any(|c| !c.schema.fields.is_empty());
        if fields { FEATURE_FIELDS } else { 0 }
    }

    fn encode(&self, uuid: &[u8; 16]) -> Result<Vec<u8>> {
        let payload = serde_json::to_vec(self).map_err(|e| Error::invalid(format!("manifest: {e}")))?;
        let mut out = Vec::with_capacity(HEADER_BYTES + payload.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_MAJOR.to_le_bytes());
        out.extend_from_slice(&FORMAT_MINOR.to_le_bytes());
        out.extend_from_slice(&self.features().to_le_bytes());
        out.extend_from_slice(uuid);
        out.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        let hash = xxh3_128(&[&out, &payload]);
        out.extend_from_slice(&hash.to_le_bytes());
        out.extend_from_slice(&payload);
        Ok(out)
    }

    /// Parses one manifest file; also gives the database's uuid.
    pub(crate) fn decode(bytes: &[u8], path: &str, number: u64) -> Result<(Manifest, [u8; 16])> {
        let bad = |what: &str| Error::corrupt(path, 0, what);
        let mut r = Reader::new(bytes);
        let header = (|| {
            let magic = r.take(8)?;
            Some((magic, r.u16()?, r.u16()?, r.u32()?, r.uuid()?, r.u64()?, r.u64()?, r.u128()?))
        })();
        let Some((magic, major, _minor, features, uuid, payload_len, own_number, hash)) = header else {
            return Err(bad("the manifest is shorter than its header"));
        };
        if magic != MAGIC {
            return Err(bad("the manifest's magic is wrong"));
        }
        let payload = bytes.get(HEADER_BYTES..).unwrap_or_default();
        let matches = payload.len() as u64 == payload_len && xxh3_128(&[&bytes[..48], payload]) == hash;
        if !matches && !crate::mutant::active("ignore-manifest-checksum") {
            return Err(bad("the manifest's checksum does not match"));
        }
        if major != FORMAT_MAJOR || features & !KNOWN_FEATURES != 0 {
            return Err(Error::Unsupported(format!(
                "{path} has format version {major} and feature bits {features:#x}; this version reads version \
                    {FORMAT_MAJOR} and bits {KNOWN_FEATURES:#x}: open it with a newer release"
            )));
        }
        let manifest: Manifest =
            serde_json::from_slice(payload).map_err(|e| bad(&format!("the manifest's payload does not parse: {e}")))?;
        if own_number != number || manifest.number != number {
            return Err(bad("the manifest's number is not that of its name"));
        }
        manifest.check(path)?;
        Ok((manifest, uuid))
    }

    /// The relations that later code relies on.
    fn check(&self, path: &str) -> Result<()> {
        let bad = |what: String| Err(Error::corrupt(path, HEADER_BYTES as u64, what));
        if self.number.max(self.seq).max(self.log_start) >= MAX_NUMBER || self.next_segment > MEMTABLE {
            return bad("a number is beyond what counting can have reached".into());
        }
        if self.flushed > self.seq {
            return bad(format!("flushed {} is beyond seq {}", self.flushed, self.seq));
        }
        let mut names = std::collections::HashSet::new();
        let mut ids = std::collections::HashSet::new();
        let mut segments = std::collections::HashSet::new();
        for c in &self.collections {
            if !names.insert(&c.name)
                || !ids.insert(c.id)
                || c.id >= self.next_collection
                || c.schema.validate().is_err()
            {
                return bad(format!("collection {:?} is described inconsistently", c.name));
            }
            for s in &c.segments {
                if !segments.insert(s.id) || s.id >= self.next_segment || s.seq > self.seq || s.rows == 0 {
                    return bad(format!("segment {} is described inconsistently", s.id));
                }
            }
        }
        Ok(())
    }

    /// Reads the newest manifest. `None` where there is no database at all.
    pub(crate) fn load(storage: &dyn Storage) -> Result<Option<(Manifest, [u8; 16])>> {
        let entries = match storage.list("") {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("list", storage.describe(), &e)),
        };
        let newest = entries.iter().filter_map(|e| Some((parse_number(&e.name)?, e))).max_by_key(|(n, _)| *n);
        let Some((number, entry)) = newest else {
            return if has_files(storage, SEGMENT_DIR)? || has_files(storage, LOG_DIR)? {
                Err(Error::corrupt("MANIFEST", 0, "the manifest is missing but segments or logs are there"))
            } else {
                Ok(None)
            };
        };
        if entry.len > MAX_MANIFEST_BYTES {
            return Err(Error::corrupt(&entry.name, 0, format!("a manifest of {} bytes is not plausible", entry.len)));
        }
        let bytes = read_all(storage, &entry.name)?;
        Manifest::decode(&bytes, &entry.name, number).map(Some)
    }

    /// Makes this manifest the database's. On success it is durable. `Indeterminate` means that the swap itself was
    /// interrupted; any other error means that the previous manifest still stands.
    pub(crate) fn commit(&self, storage: &dyn Storage, uuid: &[u8; 16]) -> Result<()> {
        let path = manifest_path(self.number);
        let temporary = format!("{path}.tmp");
        let bytes = self.encode(uuid)?;
        write_new(storage, &temporary, &bytes)?;
        let swap = storage.rename(&temporary, &path).and_then(|()| storage.sync_dir(""));
        swap.map_err(|e| Error::Indeterminate(format!("the manifest swap to {path} was interrupted ({e})")))
    }
}

/// Writes and syncs a whole new file; on failure the file is removed again.
pub(crate) fn write_new(storage: &dyn Storage, path: &str, bytes: &[u8]) -> Result<()> {
    make_new(storage, path, |file| file.write_at(bytes, 0))
}

/// Makes a new file of what `write` puts into it, and syncs it; on failure the file is removed again.
pub(crate) fn make_new(
    storage: &dyn Storage,
    path: &str,
    write: impl FnOnce(&dyn File) -> std::io::Result<()>,
) -> Result<()> {
    let written = storage.open(path, OpenMode::CreateNew).and_then(|file| {
        write(&*file)?;
        file.sync_data()
    });
    written.map_err(|e| {
        // Best effort: a leftover is not named by any manifest and is removed at the next open.
        let _ = storage.remove(path);
        Error::io("write", path, &e)
    })
}

pub(crate) fn read_all(storage: &dyn Storage, path: &str) -> Result<Vec<u8>> {
    let read = storage.open(path, OpenMode::Read).and_then(|file| {
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(std::io::Error::other)?];
        file.read_at(&mut bytes, 0)?;
        Ok(bytes)
    });
    read.map_err(|e| Error::io("read", path, &e))
}

/// The number of a manifest's file name.
pub(crate) fn parse_number(name: &str) -> Option<u64> {
    name.strip_prefix("MANIFEST-")?.parse().ok().filter(|n| *n < MAX_NUMBER)
}

fn has_files(storage: &dyn Storage, dir: &str) -> Result<bool> {
    match storage.list(dir) {
        Ok(entries) => Ok(!entries.is_empty()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("list", dir, &e)),
    }
}
