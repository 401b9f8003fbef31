//! The target that opens a whole database, given as an archive of its files.
//!
//! An archive is, for each file: bytes of its name u8, name, bytes u32 little-endian, bytes. One that is cut off ends
//! there.

use super::reseal;
use crate::checksum::xxh3_128;
use crate::codec::Reader;
use crate::database::{Database, Options};
use crate::error::{Error, Result};
use crate::ids::Id;
use crate::manifest::{HEADER_BYTES, LOG_DIR, SEGMENT_DIR, data_path, hex, parse_number, tombstones_path};
use crate::record::{Batch, Record, SearchOptions, Vectors};
use crate::schema::{Element, Schema};
use crate::storage::{MemStorage, OpenMode, Storage};
use crate::wal::{LogKey, parse_generation};
use crate::{Collection, Include};
use serde_json::Value;
use std::sync::Arc;

/// One file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFile {
    /// Its path below the database's directory.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Most files of an archive that are read.
const MAX_FILES: usize = 64;
/// Most records that are read one by one.
const READ_RECORDS: usize = 500;

/// Makes an archive.
pub fn pack(files: &[ImageFile]) -> Vec<u8> {
    let mut out = Vec::new();
    for file in files {
        out.push(file.name.len() as u8);
        out.extend_from_slice(file.name.as_bytes());
        out.extend_from_slice(&(file.bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(&file.bytes);
    }
    out
}

/// Reads an archive, as far as it goes.
pub fn unpack(archive: &[u8]) -> Vec<ImageFile> {
    let mut files = Vec::new();
    let mut rest = archive;
    while let Some((name_len, tail)) = rest.split_first()
        && files.len() < MAX_FILES
    {
        let mut r = Reader::new(tail);
        let Some((name, len)) = r.take(usize::from(*name_len)).zip(r.u32()) else { break };
        let tail = &tail[usize::from(*name_len) + 4..];
        let (bytes, after) = tail.split_at(tail.len().min(len as usize));
        files.push(ImageFile { name: String::from_utf8_lossy(name).into_owned(), bytes: bytes.to_vec() });
        rest = after;
    }
    files
}

/// A whole database: `[control][archive]`. Bit 0 of the control byte reseals every checksum, the other bits are the
/// number of frames of each log that are resealed.
pub fn open(data: &[u8]) {
    let Some((control, archive)) = data.split_first() else { return };
    let mut files = unpack(archive);
    if control & 1 != 0 {
        reseal_files(&mut files, usize::from(control >> 1));
    }
    for options in [options().read_only(true), options().degraded(true)] {
        if let Ok(db) = options.open_on(image(&files)) {
            let sound = db.check(true).is_ok_and(|report| report.problems.is_empty());
            db.collections().iter().filter_map(|name| db.collection(name).ok()).for_each(|c| read(&c, sound));
            assert!(db.flush().is_err(), "a read-only handle does not write");
        }
    }
    let storage = image(&files);
    if let Ok(db) = options().open_on(Arc::clone(&storage)) {
        // Whatever was found, only its own faults may be reported, and what is acknowledged is there afterwards.
        let sound = db.check(true).is_ok_and(|report| report.problems.is_empty());
        let counts = write(&db, sound);
        drop(db);
        let again = options().open_on(storage);
        if let Some(counts) = counts {
            let now = again.map(|db| db.collections().iter().map(|name| count(&db, name)).collect::<Vec<_>>());
            assert!(now.as_ref().is_ok_and(|now| *now == counts), "{counts:?} records became {now:?}");
        }
    }
}

fn options() -> Options {
    Options::new().background(false).log_cap(1 << 16).memory_budget(16 << 20).bulk_bytes(1 << 12).seed(1)
}

/// The files in memory; names that cannot be are left out.
fn image(files: &[ImageFile]) -> Arc<dyn Storage> {
    let storage = MemStorage::new();
    for dir in ["", SEGMENT_DIR, LOG_DIR] {
        assert!(storage.create_dir(dir).is_ok());
    }
    for file in files {
        if let Ok(handle) = storage.open(&file.name, OpenMode::CreateNew) {
            assert!(handle.write_at(&file.bytes, 0).is_ok());
        }
    }
    Arc::new(storage)
}

fn count(db: &Database, name: &str) -> Option<u64> {
    db.collection(name).and_then(|collection| collection.count()).ok()
}

/// Reads everything; in a sound database everything read must agree.
fn read(collection: &Collection, sound: bool) {
    let Ok(records) = collection.iterate() else { return };
    let mut number = 0;
    for record in records.take(READ_RECORDS) {
        number += 1;
        let Ok(record) = record else { continue };
        let found = collection.get(&record.id);
        if sound {
            let same = |r: &Record| r.metadata == record.metadata && r.text == record.text;
            assert!(matches!(&found, Ok(Some(r)) if same(r)), "{:?}: {found:?}", record.id);
        }
    }
    if sound && number < READ_RECORDS as u64 {
        assert_eq!(collection.count().ok(), Some(number));
    }
    let query = vector(collection.schema());
    let mut options = SearchOptions::new(7).include(Include::NONE);
    options.offset = 1;
    // Damage shows as an error; the order of hits is checked by the segment target.
    let _ = collection.search(query.clone(), &options).map(|hits| hits.len());
    let _ = collection.search_batch(query, &options, 1);
    let _ = collection.contains(u64::MAX);
}

fn vector(schema: &Schema) -> Vectors<'static> {
    match schema.element {
        Element::Bits => Vectors::Bits(vec![0u8; schema.stride()].into()),
        Element::F16 => Vectors::F16(vec![half::f16::from_f32(0.5); schema.dim].into()),
        Element::I8 => Vectors::I8(vec![3i8; schema.dim].into()),
        Element::U8 => Vectors::U8(vec![3u8; schema.dim].into()),
        Element::F32 => Vectors::F32(vec![0.5f32; schema.dim].into()),
    }
}

/// Writes into every collection. The numbers of records at the end, if the database is sound and took all of it.
fn write(db: &Database, sound: bool) -> Option<Vec<Option<u64>>> {
    let mut whole = sound;
    for name in db.collections() {
        let Ok(collection) = db.collection(&name) else { continue };
        read(&collection, sound);
        whole &= write_one(&collection).inspect_err(assert_expected).is_ok();
    }
    for outcome in [db.flush(), db.compact()] {
        whole &= outcome.inspect_err(assert_expected).is_ok();
    }
    let counts = db.collections().iter().map(|name| count(db, name)).collect();
    whole &= db.close().inspect_err(assert_expected).is_ok();
    whole.then_some(counts)
}

fn assert_expected(error: &Error) {
    assert!(matches!(error, Error::Corrupt { .. } | Error::Unsupported(_) | Error::LimitExceeded(_)), "{error:?}");
}

fn write_one(collection: &Collection) -> Result<()> {
    let id = Id::from("written by the fuzz target");
    collection.upsert(Batch::one(id.clone(), vector(collection.schema())))?;
    let kept = collection.contains(&id);
    assert!(!matches!(kept, Ok(false)), "an acknowledged record is not there");
    collection.delete([&id])?;
    assert!(!matches!(collection.contains(&id), Ok(true)), "a deleted record is still there");
    collection.upsert(Batch::one(7u64, vector(collection.schema()))).map(drop)
}

/// Makes every checksum right, from the segments up to the manifest that names them.
fn reseal_files(files: &mut [ImageFile], frames: usize) {
    let newest = files.iter().enumerate().filter_map(|(i, f)| Some((parse_number(&f.name)?, i))).max();
    let Some((_, manifest)) = newest else { return };
    let mut sealed = std::mem::take(&mut files[manifest].bytes);
    let payload = sealed.get(HEADER_BYTES..).and_then(|json| serde_json::from_slice::<Value>(json).ok());
    if let Some(mut payload) = payload {
        reseal_segments(files, &mut payload);
        if let Ok(json) = serde_json::to_vec(&payload) {
            sealed.truncate(HEADER_BYTES);
            sealed.extend_from_slice(&json);
        }
    }
    reseal::manifest(&mut sealed);
    let uuid = sealed.get(16..32).and_then(|uuid| uuid.try_into().ok()).unwrap_or([0; 16]);
    files[manifest].bytes = sealed;
    for file in files {
        let name = file.name.strip_prefix(LOG_DIR).and_then(|name| name.strip_prefix('/'));
        if let Some(generation) = name.and_then(parse_generation) {
            reseal::log(&mut file.bytes, &LogKey { uuid, generation }, frames);
        }
    }
}

/// Reseals the data files that a manifest names, and puts their hashes and lengths, and those of tombstones, into it.
fn reseal_segments(files: &mut [ImageFile], manifest: &mut Value) {
    let collections = manifest.get_mut("collections").and_then(Value::as_array_mut);
    let segments = collections.into_iter().flatten().filter_map(|c| c.get_mut("segments")?.as_array_mut()).flatten();
    for segment in segments {
        let Some(id) = segment.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok()) else {
            continue;
        };
        if let Some(file) = files.iter_mut().find(|f| f.name == data_path(id))
            && let Some(hash) = reseal::segment(&mut file.bytes)
        {
            segment["footer"] = hex(hash).into();
            segment["bytes"] = file.bytes.len().into();
        }
        let Some(tombstones) = segment.get_mut("tombstones") else { continue };
        let Some(number) = tombstones.get("number").and_then(Value::as_u64) else { continue };
        if let Some(file) = files.iter().find(|f| f.name == tombstones_path(id, number)) {
            tombstones["hash"] = hex(xxh3_128(&[&file.bytes])).into();
            tombstones["bytes"] = file.bytes.len().into();
        }
    }
}
