//! `salvage`: copies what is whole of a damaged database into a new one. The source is only read.

use crate::collection::Collection;
use crate::database::{Database, Options};
use crate::error::{Error, Result};
use crate::ids::IdColumn;
use crate::manifest::{LOCK_PATH, LOG_DIR, SEGMENT_DIR, read_all};
use crate::query::exec;
use crate::record::{Batch, Record, Vector, Vectors};
use crate::schema::{Field, FieldKind, Schema};
use crate::segment::RowSource;
use crate::segment::format::{HEADER_BYTES, Header, SegmentSchema};
use crate::segment::reader::Segment;
use crate::storage::{LockKind, RealStorage, Storage};
use crate::wal::{self, FrameKind, LogKey, log_path, parse_generation};
use crate::write::payload::{collection_of, decode_delete, decode_upsert};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What a salvage saved and lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SalvageReport {
    /// Collections found.
    pub collections: u64,
    /// Records in the new database.
    pub records_saved: u64,
    /// Records known to have been there that could not be read.
    pub records_lost: u64,
    /// What was found damaged or had to be guessed, one line each.
    pub problems: Vec<String>,
}

const BATCH_ROWS: usize = 1_000;
const BATCH_BYTES: usize = 2 << 20;
const MAX_PROBLEMS: usize = 1_000;

impl SalvageReport {
    fn problem(&mut self, what: impl ToString) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(what.to_string());
        }
    }
}

/// Copies every whole record of the database at `source` into a new database at `destination`.
///
/// With a readable manifest this is exact: every live record that verifies. Without one, records come from the segments
/// and logs that are there, in the order of their commits; records whose deletion stood in a lost file may come back,
/// and the report says so.
///
/// # Errors
/// `Locked` if the source is open for writing; `AlreadyExists` if there is something at the destination; `NotFound`.
pub fn salvage(source: impl AsRef<Path>, destination: impl AsRef<Path>) -> Result<SalvageReport> {
    let (source, destination) = (source.as_ref(), destination.as_ref());
    let storage = RealStorage::new(source.to_path_buf());
    let taken = std::fs::read_dir(destination).is_ok_and(|mut entries| entries.next().is_some());
    if taken || destination.is_file() {
        return Err(Error::AlreadyExists(format!(
            "{}: choose a path where there is nothing yet",
            destination.display()
        )));
    }
    let mut report = SalvageReport::default();
    match Options::new().degraded(true).open(source) {
        Ok(from) => {
            let to = Options::new().open(destination)?;
            for line in from.stats().damaged {
                report.problem(line);
            }
            from_manifest(&from, &to, &mut report)?;
            to.flush()?;
            to.close()?;
        }
        Err(e @ (Error::Corrupt { .. } | Error::Unsupported(_))) => {
            report.problem(e);
            report.problem("records come from the files themselves; some that were deleted may be among them");
            let _lock = storage
                .lock(LOCK_PATH, LockKind::Shared, "")
                .map_err(|_| Error::Locked(format!("{} is open in another process", source.display())))?;
            let to = Options::new().open(destination)?;
            from_files(&storage, &to, &mut report)?;
            to.flush()?;
            report.records_saved = to.stats().records;
            to.close()?;
        }
        Err(e) => return Err(e),
    }
    Ok(report)
}

fn from_manifest(from: &Database, to: &Database, report: &mut SalvageReport) -> Result<()> {
    for entry in from.handle.0.state.lock().manifest.collections.clone() {
        let whole = from.collection(&entry.name)?;
        let open: Vec<u32> = whole.state.version.load().segments.iter().map(|v| v.segment.id_number()).collect();
        let mut target = Target::new(to.create_collection(&entry.name, entry.schema.clone())?);
        report.collections += 1;
        for segment in entry.segments.iter().filter(|s| !open.contains(&s.id)) {
            report.records_lost += u64::from(segment.rows) - segment.tombstones.as_ref().map_or(0, |t| t.rows);
        }
        for record in whole.iterate()? {
            match record {
                Ok(record) => target.push(record)?,
                Err(e) => {
                    report.records_lost += 1;
                    report.problem(e);
                }
            }
        }
        target.flush()?;
        report.records_saved += target.saved;
    }
    Ok(())
}

/// Collects records into batches.
struct Target {
    collection: Collection,
    records: Vec<Record>,
    bytes: usize,
    saved: u64,
}

impl Target {
    fn new(collection: Collection) -> Self {
        Target { collection, records: Vec::new(), bytes: 0, saved: 0 }
    }

    fn push(&mut self, record: Record) -> Result<()> {
        let sparse: usize = record.sparse.values().map(|value| value.len() * 8).sum();
        let vectors: usize = record.vectors.values().map(|vector| Vectors::from(vector).as_le_bytes().len()).sum();
        self.bytes += self.collection.schema().stride() + record.text.as_ref().map_or(0, String::len) + 64;
        self.bytes += sparse + vectors;
        self.records.push(record);
        if self.records.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let records = std::mem::take(&mut self.records);
        self.bytes = 0;
        if records.is_empty() {
            return Ok(());
        }
        let ids: IdColumn = records.iter().map(|r| &r.id).collect();
        let vectors = concatenate(records.iter().map(|r| &r.vector));
        let mut batch = Batch::new(ids, vectors)
            .with_metadata(records.iter().map(|r| r.metadata.as_ref()))?
            .with_text(records.iter().map(|r| r.text.as_deref()));
        for Field { name, kind } in &self.collection.schema().fields {
            batch = match kind {
                FieldKind::Sparse => batch.with_sparse(name, records.iter().map(|r| r.sparse.get(name))),
                FieldKind::Vector(_) => {
                    let present = records.iter().map(|r| r.vectors.contains_key(name));
                    let vectors = concatenate(records.iter().filter_map(|r| r.vectors.get(name)));
                    batch.with_some_vectors(name, present, vectors)
                }
            };
        }
        self.saved += self.collection.upsert(batch)? as u64;
        Ok(())
    }
}

fn concatenate<'a>(vectors: impl Iterator<Item = &'a Vector>) -> Vectors<'static> {
    let mut out: Option<Vector> = None;
    for vector in vectors {
        match (&mut out, vector) {
            (None, vector) => out = Some(vector.clone()),
            (Some(Vector::F32(all)), Vector::F32(more)) => all.extend_from_slice(more),
            (Some(Vector::F16(all)), Vector::F16(more)) => all.extend_from_slice(more),
            (Some(Vector::I8(all)), Vector::I8(more)) => all.extend_from_slice(more),
            (Some(Vector::U8(all)), Vector::U8(more)) => all.extend_from_slice(more),
            (Some(Vector::Bits(all)), Vector::Bits(more)) => all.extend_from_slice(more),
            // One collection has one element type.
            _ => {}
        }
    }
    match out.unwrap_or(Vector::F32(Vec::new())) {
        Vector::F32(v) => Vectors::F32(v.into()),
        Vector::F16(v) => Vectors::F16(v.into()),
        Vector::I8(v) => Vectors::I8(v.into()),
        Vector::U8(v) => Vectors::U8(v.into()),
        Vector::Bits(v) => Vectors::Bits(v.into()),
    }
}

/// A collection pieced together from segments alone.
struct Found {
    schema: SegmentSchema,
    target: Target,
}

fn from_files(storage: &dyn Storage, to: &Database, report: &mut SalvageReport) -> Result<()> {
    let mut segments = Vec::new();
    for entry in storage.list(SEGMENT_DIR).unwrap_or_default() {
        if entry.name.ends_with(".data") {
            let path = format!("{SEGMENT_DIR}/{}", entry.name);
            match Segment::open_alone(storage, &path) {
                Ok((segment, schema)) => segments.push((segment, schema)),
                Err(e) => report.problem(e),
            }
        }
    }
    segments.sort_by_key(|(s, _)| (s.entry.seq, s.entry.id));
    let mut found: BTreeMap<u32, Found> = BTreeMap::new();
    let mut uuid = None;
    for (segment, schema) in &segments {
        let header = Header::decode(&read_header(storage, segment.path())?, segment.path())?;
        uuid = Some(header.uuid);
        if let std::collections::btree_map::Entry::Vacant(slot) = found.entry(header.collection) {
            let collection = to.create_collection(&schema.collection, schema.schema.clone())?;
            slot.insert(Found { schema: schema.clone(), target: Target::new(collection) });
            report.collections += 1;
        }
        let Some(collection) = found.get_mut(&header.collection).filter(|f| f.schema == *schema) else {
            report.problem(format!("{}: its schema is not that of its collection; left out", segment.path()));
            continue;
        };
        for row in 0..segment.rows() {
            match exec::record(&collection.target.collection.state, segment, row) {
                Ok(record) => collection.target.push(record)?,
                Err(e) => {
                    report.records_lost += 1;
                    report.problem(e);
                }
            }
        }
        // Later segments replace records of earlier ones, never within one batch.
        collection.target.flush()?;
    }
    if let Some(uuid) = uuid {
        from_logs(storage, uuid, &mut found, report)?;
    }
    Ok(())
}

fn read_header(storage: &dyn Storage, path: &str) -> Result<Vec<u8>> {
    let bytes = storage.map(path).map_err(|e| Error::io("read", path, &e))?;
    Ok(bytes[..(HEADER_BYTES as usize).min(bytes.len())].to_vec())
}

fn from_logs(
    storage: &dyn Storage,
    uuid: [u8; 16],
    found: &mut BTreeMap<u32, Found>,
    report: &mut SalvageReport,
) -> Result<()> {
    let entries = storage.list(LOG_DIR).unwrap_or_default();
    let mut generations: Vec<u64> = entries.iter().filter_map(|e| parse_generation(&e.name)).collect();
    generations.sort_unstable();
    for generation in generations {
        let bytes = match read_all(storage, &log_path(generation)) {
            Ok(bytes) => bytes,
            Err(e) => {
                report.problem(e);
                continue;
            }
        };
        for frame in wal::whole_frames(&bytes, 0, &LogKey { uuid, generation }) {
            let Some(found) = collection_of(frame.payload).and_then(|id| found.get_mut(&id)) else { continue };
            apply_frame(found, frame.kind, frame.payload)?;
        }
    }
    Ok(())
}

fn apply_frame(found: &mut Found, kind: FrameKind, payload: &[u8]) -> Result<()> {
    let schema: &Schema = &found.schema.schema;
    let collection = &found.target.collection;
    match kind {
        FrameKind::Upsert => {
            let Some(block) = decode_upsert(payload, schema, found.schema.hash_seed) else { return Ok(()) };
            for row in 0..block.rows() {
                found.target.push(exec::record(&found.target.collection.state, &block, row)?)?;
            }
            found.target.flush()
        }
        FrameKind::Delete => match decode_delete(payload) {
            Some(ids) => collection.delete(ids.iter()).map(|_| ()),
            None => Ok(()),
        },
        FrameKind::Seal => Ok(()),
    }
}
