//! Where an import that was killed goes on.
//!
//! The cursor is a record of a hidden collection of the same database. It is written after the rows it counts were
//! acknowledged, and the log keeps the order of writes: so where the cursor survives, its rows do. It is believed
//! only for the very same file and options, and only if the last row it counts is in the collection.

use crate::failure::{Result, io};
use crate::output::id_json;
use crate::target::IMPORTS;
use flate2::Crc;
use omendb::{Batch, Collection, Database, Error, Id, Metric, Schema};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Bytes at both ends of a file whose checksum tells it from another of the same size and time.
const SAMPLE_BYTES: u64 = 64 << 10;

/// The progress of one import.
pub struct Cursor {
    key: String,
    fingerprint: Value,
    imports: Option<Collection>,
}

impl Cursor {
    /// The cursor of importing `path` into `collection`. `options` is all that decides which rows the file has.
    pub fn new(path: &Path, collection: &str, options: &str) -> Result<Self> {
        let absolute = path.canonicalize().map_err(|e| io("resolve", path, &e))?;
        let mut crc = Crc::new();
        crc.update(format!("{collection}\0{}\0{options}", absolute.display()).as_bytes());
        let metadata = std::fs::metadata(path).map_err(|e| io("read", path, &e))?;
        let modified =
            metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map(|t| t.as_nanos().to_string());
        let sample = sample(path, metadata.len()).map_err(|e| io("read", path, &e))?;
        let fingerprint = json!({
            "file": absolute.display().to_string(), "bytes": metadata.len(), "modified": modified,
            "sample": sample, "collection": collection, "options": options,
        });
        Ok(Cursor { key: format!("import-{:08x}-{}", crc.sum(), metadata.len()), fingerprint, imports: None })
    }

    /// How many rows are in the collection from an earlier run: 0 where none can be trusted.
    pub fn rows(&self, db: &Database, collection: &Collection) -> Result<u64> {
        if !db.collections().iter().any(|name| name == IMPORTS) {
            return Ok(0);
        }
        let Some(metadata) = db.collection(IMPORTS)?.get(self.key.as_str())?.and_then(|record| record.metadata) else {
            return Ok(0);
        };
        if metadata["fingerprint"] != self.fingerprint {
            return Ok(0);
        }
        let last = match &metadata["last_id"] {
            Value::String(s) => Id::Str(s.clone()),
            other => Id::U64(other.as_u64().unwrap_or_default()),
        };
        let rows = metadata["rows"].as_u64().unwrap_or(0);
        Ok(if collection.contains(&last)? { rows } else { 0 })
    }

    /// Notes that the first `rows` rows are acknowledged, the last of them with id `last`.
    pub fn advance(&mut self, db: &Database, rows: u64, last: &Id) -> Result<()> {
        let imports = match &self.imports {
            Some(imports) => imports,
            None => self.imports.insert(db.get_or_create_collection(IMPORTS, Schema::new(1, Metric::L2))?),
        };
        let metadata = json!({"fingerprint": self.fingerprint, "rows": rows, "last_id": id_json(last)});
        imports.upsert(Batch::one(self.key.as_str(), vec![0.0f32]).with_metadata([Some(&metadata)])?)?;
        Ok(())
    }

    /// The import is complete: its cursor goes, and the hidden collection with the last of them.
    pub fn finish(self, db: &Database) -> Result<()> {
        match db.collection(IMPORTS) {
            Ok(imports) => {
                imports.delete([self.key.as_str()])?;
                if imports.count()? == 0 {
                    db.drop_collection(IMPORTS)?;
                }
                Ok(())
            }
            Err(Error::NotFound(_)) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

/// The checksum of both ends of a file.
fn sample(path: &Path, length: u64) -> std::io::Result<u32> {
    let mut file = File::open(path)?;
    let (mut crc, mut bytes) = (Crc::new(), Vec::new());
    file.by_ref().take(SAMPLE_BYTES).read_to_end(&mut bytes)?;
    file.seek(SeekFrom::Start(length.saturating_sub(SAMPLE_BYTES)))?;
    file.take(SAMPLE_BYTES).read_to_end(&mut bytes)?;
    crc.update(&bytes);
    Ok(crc.sum())
}
