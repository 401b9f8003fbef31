//! The tables of docs/file-format.md and docs/limits.md say what the code does and what its files hold.

use crate::checksum::{crc32c, id_hash, xxh3_128};
use crate::codec::{align_up, u32_at};
use crate::segment::format::{BLOCK_BYTES, SECTION_ALIGN, SECTION_KINDS, TRAILER_BYTES};
use crate::storage::{MemStorage, Storage};
use crate::wal::FrameKind;
use crate::{Batch, Collection, Database, IdColumn, Metric, Options, Schema, SearchOptions, limits};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const FORMAT: &str = include_str!("../../docs/file-format.md");
const LIMITS: &str = include_str!("../../docs/limits.md");

/// The rows of the tables under a heading, or of the one table whose first column has that title: cells, trimmed.
fn table(document: &str, title: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect::<Vec<_>>();
    let mut heading = "";
    let mut found = Vec::new();
    let mut inside = false;
    for line in document.lines() {
        if let Some(text) = line.strip_prefix("## ") {
            heading = text;
        }
        if !line.starts_with('|') {
            inside = false;
        } else if inside {
            found.push(cells(line));
        } else {
            let first = cells(line).swap_remove(0);
            inside = first == title || (heading == title && first == "field");
        }
    }
    found.retain(|row| !row[0].starts_with("---"));
    assert!(!found.is_empty(), "the document has no table {title:?}");
    found
}

fn number(cell: &str) -> u64 {
    cell.replace(',', "").parse().unwrap_or_else(|_| panic!("{cell:?} is not a number"))
}

/// A layout: field -> place. The fields must follow one another without a gap.
struct Layout<'a> {
    title: &'a str,
    fields: BTreeMap<String, (usize, Option<usize>)>,
    /// Bytes of the fields of fixed size.
    bytes: usize,
}

impl<'a> Layout<'a> {
    fn of(title: &'a str) -> Self {
        let (mut fields, mut end) = (BTreeMap::new(), 0);
        for row in table(FORMAT, title) {
            let offset = number(&row[1]) as usize;
            assert_eq!(offset, end, "{title}: {} does not start where the field before ends", row[0]);
            let bytes = (row[2] != "rest").then(|| number(&row[2]) as usize);
            end += bytes.unwrap_or(0);
            fields.insert(row[0].clone(), (offset, bytes));
        }
        Layout { title, fields, bytes: end }
    }

    /// The bytes of a field of a structure that starts `file`.
    fn bytes<'b>(&self, file: &'b [u8], field: &str) -> &'b [u8] {
        let Some((offset, bytes)) = self.fields.get(field) else { panic!("{}: no field {field}", self.title) };
        &file[*offset..bytes.map_or(file.len(), |n| offset + n)]
    }

    fn number(&self, file: &[u8], field: &str) -> u64 {
        let mut wide = [0; 8];
        let bytes = self.bytes(file, field);
        wide[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(wide)
    }

    fn hash(&self, file: &[u8], field: &str) -> u128 {
        u128::from_le_bytes(self.bytes(file, field).try_into().unwrap())
    }

    /// Checks the numbers given and that every field named so is zero.
    fn expect(&self, file: &[u8], wanted: &[(&str, u64)]) {
        for (field, value) in wanted {
            assert_eq!(self.number(file, field), *value, "{}: {field}", self.title);
        }
        for field in ["zero", "reserved"].iter().filter(|f| self.fields.contains_key(**f)) {
            assert_eq!(self.number(file, field), 0, "{}: {field}", self.title);
        }
    }
}

const UUID_SEED: u64 = 5;

fn uuid() -> [u8; 16] {
    xxh3_128(&[&UUID_SEED.to_le_bytes()]).to_le_bytes()
}

/// A database with one segment of two rows, tombstones on it, and a log of an upsert and a delete.
fn database() -> (Arc<MemStorage>, Database, Collection) {
    let storage = Arc::new(MemStorage::new());
    let db = Options::new().background(false).seed(UUID_SEED).open_on(storage.clone()).unwrap();
    let docs = db.create_collection("docs", Schema::new(3, Metric::L2)).unwrap();
    let meta = json!({"lang": "en"});
    let batch = |ids: IdColumn| {
        Batch::new(ids, vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0])
            .with_metadata([Some(&meta), None])
            .unwrap()
            .with_text([None, Some("text")])
    };
    docs.upsert(batch(["a", "b"].into_iter().collect())).unwrap();
    docs.delete(["a"]).unwrap();
    docs.upsert(batch([7u64, 8].into_iter().collect())).unwrap();
    docs.flush().unwrap();
    docs.upsert(batch([9u64, 10].into_iter().collect())).unwrap();
    docs.delete([7u64]).unwrap();
    // A new collection commits a manifest, and the delete is in it as a tombstone only after a flush of its own.
    db.create_collection("other", Schema::new(1, Metric::L2)).unwrap();
    (storage, db, docs)
}

fn files(storage: &MemStorage) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for dir in ["", "wal", "segments"] {
        for entry in storage.list(dir).unwrap() {
            let path = if dir.is_empty() { entry.name } else { format!("{dir}/{}", entry.name) };
            all.insert(path.clone(), storage.map(&path).unwrap().to_vec());
        }
    }
    all
}

fn only<'a>(files: &'a BTreeMap<String, Vec<u8>>, part: &str) -> (&'a str, &'a [u8]) {
    let found: Vec<_> = files.iter().filter(|(path, _)| path.contains(part)).collect();
    assert_eq!(found.len(), 1, "one file of {part}: {:?}", files.keys());
    (found[0].0, found[0].1)
}

#[test]
fn manifests_are_as_documented() {
    let (storage, db, _docs) = database();
    db.flush().unwrap();
    let files = files(&storage);
    let (path, bytes) = only(&files, "MANIFEST-");
    let layout = Layout::of("Manifest");
    let payload = layout.bytes(bytes, "payload");
    let name = path.strip_prefix("MANIFEST-").unwrap();
    assert!(name.len() == 8);
    layout.expect(
        bytes,
        &[
            ("major", 1),
            ("minor", 0),
            ("features", 0),
            ("payload length", payload.len() as u64),
            ("number", number(name.trim_start_matches('0'))),
        ],
    );
    assert_eq!((layout.bytes(bytes, "magic"), layout.bytes(bytes, "uuid")), (&b"OMENMAN1"[..], &uuid()[..]));
    assert_eq!(layout.hash(bytes, "hash"), xxh3_128(&[&bytes[..48], payload]));
    let example = FORMAT.split("```json").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let (example, real) = (serde_json::from_str(example).unwrap(), serde_json::from_slice(payload).unwrap());
    let same = same_keys(&example, &real);
    assert!(same.is_empty(), "keys that document and file do not share: {same:?}");
}

/// The keys that one JSON document has and the other has not, down the first element of every list.
fn same_keys(a: &Value, b: &Value) -> Vec<String> {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let missing = a.keys().filter(|k| !b.contains_key(*k)).chain(b.keys().filter(|k| !a.contains_key(*k)));
            let deeper = a.iter().filter_map(|(k, v)| Some(same_keys(v, b.get(k)?))).flatten();
            missing.cloned().chain(deeper).collect()
        }
        (Value::Array(a), Value::Array(b)) => a.first().zip(b.first()).map_or(vec![], |(a, b)| same_keys(a, b)),
        _ => Vec::new(),
    }
}

#[test]
fn logs_are_as_documented() {
    let (storage, db, docs) = database();
    let stride = docs.schema().stride();
    db.close().unwrap();
    let files = files(&storage);
    let (path, bytes) = only(&files, "wal/");
    let layout = Layout::of("Log header");
    let generation = number(path.trim_start_matches("wal/0").trim_start_matches('0').trim_end_matches(".log"));
    // Three commits were flushed before this log began.
    layout.expect(
        bytes,
        &[
            ("major", 1),
            ("minor", 0),
            ("generation", generation),
            ("first seq", 4),
            ("crc", u64::from(crc32c(&[&bytes[..56]]))),
        ],
    );
    assert_eq!((layout.bytes(bytes, "magic"), layout.bytes(bytes, "uuid")), (&b"OMENLOG1"[..], &uuid()[..]));
    let frame = Layout::of("Log frame");
    let mut chain = layout.number(bytes, "crc");
    let mut at = layout.bytes;
    let mut kinds = Vec::new();
    for (row, seq) in table(FORMAT, "frame kind").iter().zip(4u64..) {
        let here = &bytes[at..];
        let length = frame.number(here, "length") as usize;
        let payload = &frame.bytes(here, "payload")[..length];
        let crc = crc32c(&[&uuid(), &generation.to_le_bytes(), &here[..36]]);
        frame.expect(
            here,
            &[
                ("seq", seq),
                ("durable seq", seq - 1),
                ("chain", chain),
                ("payload crc", u64::from(crc32c(&[payload]))),
                ("kind", number(&row[1])),
                ("crc", u64::from(crc)),
            ],
        );
        assert_eq!(frame.bytes(here, "magic"), b"OFRM");
        check_payload(&row[0], payload, stride);
        kinds.push(number(&row[1]) as u32);
        chain = u64::from(crc);
        at += align_up((frame.bytes + length) as u64, 8) as usize;
    }
    assert_eq!(at, bytes.len(), "a sealed log ends with its seal");
    assert_eq!(kinds, [FrameKind::Upsert as u32, FrameKind::Delete as u32, FrameKind::Seal as u32]);
}

fn check_payload(kind: &str, payload: &[u8], stride: usize) {
    let layout = Layout::of("Frame payload");
    let integer_id = table(FORMAT, "value")[0][1].parse::<u8>().unwrap();
    let mut rest = match kind {
        "upsert" => {
            // Two integer ids of nine bytes, metadata and text.
            layout.expect(payload, &[("collection", 1), ("rows", 2), ("flags", 3), ("id bytes", 18)]);
            layout.bytes(payload, "rest")
        }
        "delete" => {
            layout.expect(payload, &[("collection", 1), ("rows", 1), ("flags", 0), ("id bytes", 9)]);
            layout.bytes(payload, "rest")
        }
        _ => return assert!(payload.is_empty()),
    };
    let rows = layout.number(payload, "rows") as usize;
    let mut take = |n: usize| {
        let (head, tail) = rest.split_at(n);
        rest = tail;
        head
    };
    assert_eq!(u32_at(take(rows * 4), rows - 1), Some(rows as u32 * 9));
    assert_eq!(take(rows * 9)[0], integer_id);
    if kind == "upsert" {
        assert_eq!(&take(rows * stride)[..4], 1f32.to_le_bytes());
        for stored in [&b"\x01{\"lang\":\"en\"}"[..], &b"\x01text"[..]] {
            let ends = take(rows * 8);
            assert_eq!(&ends[8..], (stored.len() as u64).to_le_bytes());
            assert_eq!(take(stored.len()), stored);
        }
    }
    assert!(rest.is_empty(), "{} bytes of the payload are not documented", rest.len());
}

#[test]
fn segments_are_as_documented() {
    let (storage, db, docs) = database();
    let files = files(&storage);
    let (path, bytes) = only(&files, ".data");
    let layout = Layout::of("Segment header");
    let segment = number(path.trim_start_matches("segments/0").trim_start_matches('0').trim_end_matches(".data"));
    // "b", 7 and 8: "a" was deleted before the flush.
    layout
        .expect(bytes, &[("major", 1), ("minor", 0), ("segment", segment), ("collection", 1), ("rows", 3), ("seq", 3)]);
    assert_eq!((layout.bytes(bytes, "magic"), layout.bytes(bytes, "uuid")), (&b"OMENSEG1"[..], &uuid()[..]));
    let trailer_layout = Layout::of("Segment trailer");
    let trailer = &bytes[bytes.len() - trailer_layout.bytes..];
    assert_eq!(trailer_layout.bytes as u64, TRAILER_BYTES);
    let at = trailer_layout.number(trailer, "footer offset") as usize;
    let footer = &bytes[at..at + trailer_layout.number(trailer, "footer length") as usize];
    assert_eq!(at + 2 * footer.len() + trailer.len(), bytes.len());
    assert_eq!(&bytes[at + footer.len()..][..footer.len()], footer, "the footer stands there twice");
    assert!((at as u64).is_multiple_of(SECTION_ALIGN));
    assert_eq!(trailer_layout.hash(trailer, "footer hash"), xxh3_128(&[footer]));
    let named = db.handle.0.state.lock().manifest.collections[0].segments[0].footer.clone();
    assert_eq!(named, format!("{:032x}", xxh3_128(&[footer])));

    let footer_layout = Layout::of("Segment footer");
    let kinds = table(FORMAT, "section");
    footer_layout.expect(
        footer,
        &[("sections", kinds.len() as u64), ("block size", BLOCK_BYTES), ("rows", 3), ("footer offset", at as u64)],
    );
    assert_eq!(footer_layout.bytes(footer, "magic"), b"OMENFTR1");
    let numbers: Vec<u64> = kinds.iter().map(|row| number(&row[1])).collect();
    assert_eq!(numbers, SECTION_KINDS.map(|k| u64::from(k.number())));
    let entry = Layout::of("section entry");
    let entries = footer_layout.bytes(footer, "entries");
    let mut sections = BTreeMap::new();
    for (i, row) in kinds.iter().enumerate() {
        let here = &entries[i * entry.bytes..];
        entry.expect(here, &[("kind", number(&row[1]))]);
        let (offset, length) = (entry.number(here, "offset"), entry.number(here, "length"));
        assert!(offset.is_multiple_of(SECTION_ALIGN) && length > 0, "{row:?}");
        sections.insert(row[0].as_str(), &bytes[offset as usize..(offset + length) as usize]);
    }
    let crcs = &entries[kinds.len() * entry.bytes..];
    assert_eq!(crcs, crc32c(&[&bytes[..at]]).to_le_bytes(), "one block of the body, one checksum");

    let schema: Value = serde_json::from_slice(sections["schema"]).unwrap();
    let seed = schema["hash_seed"].as_u64().unwrap();
    assert_eq!(schema["collection"], json!("docs"));
    assert_eq!(sections["ids"], b"\x01b\x00\x07\0\0\0\0\0\0\0\x00\x08\0\0\0\0\0\0\0");
    assert_eq!(sections["id ends"], [2u32, 11, 20].map(u32::to_le_bytes).concat());
    assert_eq!(&sections["id hashes"][..8], id_hash(b"\x01b", seed).to_le_bytes());
    // "b" has text, 7 has metadata, 8 has text.
    assert_eq!(sections["metadata"], b"\x01{\"lang\":\"en\"}");
    assert_eq!(sections["metadata ends"], [0u64, 14, 14].map(u64::to_le_bytes).concat());
    assert_eq!(sections["text"], b"\x01text\x01text");
    assert_eq!(sections["text ends"], [5u64, 5, 10].map(u64::to_le_bytes).concat());
    assert_eq!(sections["vectors"].len(), 3 * docs.schema().stride());
}

#[test]
fn indexes_are_as_documented() {
    let storage = Arc::new(MemStorage::new());
    let db = Options::new().background(false).seed(UUID_SEED).open_on(storage.clone()).unwrap();
    let docs = db.create_collection("docs", Schema::new(3, Metric::L2)).unwrap();
    let rows = u64::from(crate::write::index::MIN_ROWS);
    let vectors: Vec<f32> = (0..rows * 3).map(|i| (i * 31 % 997) as f32).collect();
    docs.upsert(Batch::new((0..rows).collect(), vectors)).unwrap();
    docs.wait_indexed(false).unwrap();
    let files = files(&storage);
    let (_, bytes) = only(&files, ".index");
    let layout = Layout::of("Index header");
    let payload = layout.bytes(bytes, "payload");
    let wanted = [("major", 1), ("minor", 0), ("stage", 1), ("segment", 1), ("rows", rows)];
    layout.expect(bytes, &wanted);
    layout.expect(bytes, &[("payload length", payload.len() as u64)]);
    assert_eq!((layout.bytes(bytes, "magic"), layout.bytes(bytes, "uuid")), (&b"OMENIDX1"[..], &uuid()[..]));
    assert_eq!(layout.hash(bytes, "hash"), xxh3_128(&[&bytes[..64], payload]));
    assert!(layout.bytes(bytes, "padding").iter().all(|b| *b == 0));
    let named = db.handle.0.state.lock().manifest.collections[0].segments[0].footer.clone();
    assert_eq!(format!("{:032x}", layout.hash(bytes, "footer hash")), named);
}

#[test]
fn text_indexes_are_as_documented() {
    let storage = Arc::new(MemStorage::new());
    let db = Options::new().background(false).seed(UUID_SEED).open_on(storage.clone()).unwrap();
    let docs = db.create_collection("docs", Schema::new(1, Metric::L2)).unwrap();
    let rows = 8_000u64;
    let texts: Vec<String> = (0..rows).map(|row| format!("word{row} and others")).collect();
    let batch = Batch::new((0..rows).collect(), vec![1.0; rows as usize]);
    docs.upsert(batch.with_text(texts.iter().map(|text| Some(&**text)))).unwrap();
    docs.wait_indexed(false).unwrap();
    let files = files(&storage);
    let (_, bytes) = only(&files, ".text");
    let layout = Layout::of("Text index header");
    let rest = layout.bytes(bytes, "payload");
    let length = layout.number(bytes, "payload length") as usize;
    let (payload, checksums) = rest.split_at(length);
    layout.expect(bytes, &[("major", 1), ("minor", 0), ("version", 1), ("segment", 1), ("rows", rows)]);
    assert_eq!((layout.bytes(bytes, "magic"), layout.bytes(bytes, "uuid")), (&b"OMENTXT1"[..], &uuid()[..]));
    assert!(length as u64 > BLOCK_BYTES, "more than one block");
    let expected: Vec<u8> = payload.chunks(BLOCK_BYTES as usize).flat_map(|b| crc32c(&[b]).to_le_bytes()).collect();
    assert_eq!(checksums, expected);
    assert_eq!(layout.hash(bytes, "hash"), xxh3_128(&[&bytes[..64], checksums]));
    assert!(layout.bytes(bytes, "padding").iter().all(|b| *b == 0));
    let named = db.handle.0.state.lock().manifest.collections[0].segments[0].footer.clone();
    assert_eq!(format!("{:032x}", layout.hash(bytes, "footer hash")), named);
}

#[test]
fn tombstones_and_backups_are_as_documented() {
    let (storage, db, docs) = database();
    docs.flush().unwrap();
    let files = files(&storage);
    let (_, bytes) = only(&files, ".tombstones");
    let dead = roaring::RoaringBitmap::deserialize_from(bytes).unwrap();
    assert_eq!(dead.iter().collect::<Vec<_>>(), [1], "the row of id 7");
    let dir = tempfile::tempdir().unwrap();
    db.backup(dir.path().join("copy")).unwrap();
    let list: Value = serde_json::from_slice(&std::fs::read(dir.path().join("copy/BACKUP")).unwrap()).unwrap();
    let copied = list["files"].as_array().unwrap();
    let hex = |bytes: &[u8]| json!(format!("{:032x}", xxh3_128(&[bytes])));
    assert_eq!(list["hash"], hex(&serde_json::to_vec(copied).unwrap()));
    for file in copied {
        let bytes = &files[file["path"].as_str().unwrap()];
        assert_eq!((&file["bytes"], &file["hash"]), (&json!(bytes.len()), &hex(bytes)));
    }
}

#[test]
fn limits_are_as_documented() {
    let real: BTreeMap<&str, u64> = BTreeMap::from([
        ("MAX_DIM", limits::MAX_DIM as u64),
        ("MAX_RABITQ_DIM", limits::MAX_RABITQ_DIM as u64),
        ("MAX_ID_BYTES", limits::MAX_ID_BYTES as u64),
        ("MAX_K", limits::MAX_K as u64),
        ("MAX_MMR_K", limits::MAX_MMR_K as u64),
        ("MAX_MMR_POOL", limits::MAX_MMR_POOL as u64),
        ("MAX_BATCH_ROWS", limits::MAX_BATCH_ROWS as u64),
        ("MAX_BATCH_BYTES", limits::MAX_BATCH_BYTES as u64),
        ("MAX_METADATA_BYTES", limits::MAX_METADATA_BYTES as u64),
        ("MAX_METADATA_DEPTH", limits::MAX_METADATA_DEPTH as u64),
        ("MAX_TEXT_BYTES", limits::MAX_TEXT_BYTES as u64),
        ("MAX_FIELDS", limits::MAX_FIELDS as u64),
        ("MAX_SPARSE_ENTRIES", limits::MAX_SPARSE_ENTRIES as u64),
        ("MAX_NAME_BYTES", limits::MAX_NAME_BYTES as u64),
        ("MAX_COLLECTIONS", limits::MAX_COLLECTIONS as u64),
        ("filter::MAX_DEPTH", crate::filter::MAX_DEPTH as u64),
        ("filter::MAX_NODES", crate::filter::MAX_NODES as u64),
        ("filter::MAX_OPERAND_BYTES", crate::filter::MAX_OPERAND_BYTES as u64),
        ("filter::MAX_SQL_BYTES", crate::filter::MAX_SQL_BYTES as u64),
        ("filter::MAX_PATH_KEYS", crate::filter::MAX_PATH_KEYS as u64),
        ("filter::MAX_PATTERN_CHARS", crate::filter::MAX_PATTERN_CHARS as u64),
    ]);
    let documented = table(LIMITS, "constant");
    let documented: BTreeMap<&str, u64> = documented.iter().map(|r| (r[0].trim_matches('`'), number(&r[1]))).collect();
    assert_eq!(documented, real);
    let settings = table(LIMITS, "setting");
    let least = |name: &str| settings.iter().find(|row| row[0].trim_matches('`') == name).map(|row| number(&row[1]));
    let open = |options: Options| options.open_on(Arc::new(MemStorage::new()));
    let (memory, log) = (least("memory_budget").unwrap(), least("log_cap").unwrap());
    assert!(open(Options::new().memory_budget(memory).log_cap(log)).is_ok());
    assert!(open(Options::new().memory_budget(memory - 1)).is_err());
    assert!(open(Options::new().log_cap(log - 1)).is_err());
}

#[test]
fn a_request_past_a_limit_is_refused_by_name() {
    let (_, _db, docs) = database();
    let refused = docs.search(&[0f32; 3], &SearchOptions::new(limits::MAX_K + 1)).unwrap_err();
    assert_eq!(refused.name(), "LimitExceeded");
    assert!(refused.to_string().contains(&limits::MAX_K.to_string()), "{refused}");
}
