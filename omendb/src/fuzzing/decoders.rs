//! The targets that decode one file, or one part of a file.

use super::reseal;
use crate::checksum::xxh3_128;
use crate::engine::CollectionState;
use crate::error::Error;
use crate::manifest::{LOG_DIR, Manifest, SEGMENT_DIR, SegmentEntry, TombstonesEntry, data_path, hex};
use crate::memtable::hash_ids;
use crate::query::exec::{self, Search};
use crate::record::{SearchOptions, Vectors};
use crate::schema::{Element, Metric, Schema, VectorField};
use crate::segment::RowSource;
use crate::segment::reader::Segment;
use crate::storage::{MemStorage, OpenMode, Storage};
use crate::version::{SegmentView, Version};
use crate::wal::{self, FILE_HEADER_BYTES, FrameKind};
use crate::write::commit::{Effect, apply, new_memtable};
use crate::write::payload::{decode_delete, decode_upsert, encode_delete, encode_upsert};
use std::sync::Arc;

/// Most rows that a target reads one by one.
const READ_ROWS: u32 = 1_000;

/// A storage that holds one file.
fn holding(dir: &str, path: &str, bytes: &[u8]) -> MemStorage {
    let storage = MemStorage::new();
    let written = storage.create_dir(dir).and_then(|()| storage.open(path, OpenMode::CreateNew)?.write_at(bytes, 0));
    assert!(written.is_ok(), "memory takes a file");
    storage
}

/// A decoder's refusal must be one that says what is wrong with the file.
fn assert_typed(error: &Error) {
    assert!(matches!(error, Error::Corrupt { .. } | Error::Unsupported(_)), "{error:?}");
}

/// A log file: `[frames to reseal, 0 for none][file]`.
pub fn log(data: &[u8]) {
    let Some((frames, bytes)) = data.split_first() else { return };
    let Some(key) = reseal::log_key(bytes) else { return };
    let mut bytes = bytes.to_vec();
    if *frames > 0 {
        reseal::log(&mut bytes, &key, usize::from(*frames));
    }
    let header = match wal::read_header(&bytes, "wal/fuzz.log", &key) {
        Ok(header) => header,
        Err(e) => return assert_typed(&e),
    };
    if header.first_seq == 0 || header.first_seq >= crate::manifest::MAX_NUMBER {
        // Recovery refuses it: it is not one more than a commit that a manifest may name.
        return;
    }
    let schema = Schema::new(2, Metric::L2);
    let mut seen = Vec::new();
    let replayed = wal::replay(&bytes, "wal/fuzz.log", &key, &header, |frame| {
        assert_eq!(frame.seq, header.first_seq + seen.len() as u64, "commits come in order");
        match frame.kind {
            FrameKind::Upsert => drop(decode_upsert(frame.payload, &schema, 0)),
            FrameKind::Delete => drop(decode_delete(frame.payload)),
            FrameKind::Seal => panic!("a seal is no data"),
        }
        seen.push((frame.seq, frame.offset, frame.payload.to_vec()));
        Ok(())
    });
    let whole = wal::whole_frames(&bytes, 0, &key);
    for (seq, offset, payload) in &seen {
        let same = |f: &wal::Frame<'_>| f.seq == *seq && f.offset == *offset && f.payload == payload;
        assert!(whole.iter().any(same), "salvage finds what replay finds");
    }
    let end = match replayed {
        Ok(end) => end,
        Err(e) => return assert_typed(&e),
    };
    assert_eq!(end.next_seq, header.first_seq + seen.len() as u64);
    assert!(end.valid_bytes >= FILE_HEADER_BYTES as u64 && end.valid_bytes + end.torn_bytes <= bytes.len() as u64);
    let valid = &bytes[..end.valid_bytes as usize];
    let storage = holding(LOG_DIR, "wal/other", &[]);
    let rewritten = wal::rewrite_sealed(&storage, "wal/new.log", key, valid, &end).and_then(|()| {
        let bytes = crate::manifest::read_all(&storage, "wal/new.log")?;
        let header = wal::read_header(&bytes, "wal/new.log", &key)?;
        wal::replay(&bytes, "wal/new.log", &key, &header, |_| Ok(()))
    });
    // What recovery wrote anew must say the same, and be sealed.
    match rewritten {
        Ok(again) => assert!((again.next_seq, again.torn_bytes, again.sealed) == (end.next_seq, 0, true)),
        Err(e) => panic!("the rewritten log does not verify: {e}"),
    }
}

/// A manifest file: as it is, and with its header made right.
pub fn manifest(data: &[u8]) {
    let number = |bytes: &[u8]| crate::codec::u64_at(bytes, 5).unwrap_or(1);
    if let Err(e) = Manifest::decode(data, "MANIFEST", number(data)) {
        assert_typed(&e);
    }
    let mut sealed = data.to_vec();
    reseal::manifest(&mut sealed);
    match Manifest::decode(&sealed, "MANIFEST", number(&sealed)) {
        Err(e) => assert_typed(&e),
        Ok((manifest, uuid)) => {
            let storage = MemStorage::new();
            assert!(manifest.commit(&storage, &uuid).is_ok(), "a manifest that was read can be written");
            match Manifest::load(&storage) {
                Ok(Some(again)) => assert!(again == (manifest, uuid), "it reads back as it was"),
                other => panic!("it does not read back: {other:?}"),
            }
        }
    }
}

/// A segment's data file: `[1 to reseal][file]`; opened as salvage does, then every read there is.
pub fn segment(data: &[u8]) {
    let Some((control, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if *control & 1 != 0 {
        reseal::segment(&mut bytes);
    }
    let path = data_path(1);
    let storage = holding(SEGMENT_DIR, &path, &bytes);
    let (mut segment, described) = match Segment::open_alone(&storage, &path) {
        Ok(opened) => opened,
        Err(e) => return assert_typed(&e),
    };
    let whole = segment.verify_all().is_ok();
    let structured = segment.check_structure(&described.schema, described.hash_seed).is_ok();
    assert!(whole || !structured || *control & 1 == 0, "resealed blocks verify");
    let hashes = segment.hashes();
    let rows = segment.rows();
    for row in 0..rows.min(READ_ROWS) {
        let hash = segment.hash(row);
        if let (Ok(hashes), Ok(hash)) = (&hashes, hash) {
            assert_eq!(hashes[row as usize], hash);
        }
        let read = [segment.id(row), segment.vectors(row, 1), segment.metadata(row), segment.text(row)];
        read.iter().filter_map(|r| r.as_ref().err()).for_each(assert_typed);
        let fields = (0..described.schema.fields.len()).map(|field| segment.field(field, row));
        fields.filter_map(Result::err).for_each(|e| assert_typed(&e));
        if structured {
            assert!(read[0].as_ref().is_ok_and(|id| crate::ids::decode(id).is_some()), "checked ids decode");
        }
    }
    // A manifest never gives a segment a memtable's number; salvage does not search.
    segment.entry.id = 1;
    let (schema, seed) = (described.schema, described.hash_seed);
    let view = SegmentView { segment: Arc::new(segment), dead: Arc::default() };
    let mut version = Version::new(new_memtable(&mut { crate::idmap::MEMTABLE }));
    version.segments.push(view);
    search(&CollectionState::new(1, "fuzz", schema, seed, version));
}

/// Searches a collection and reads every field of what is found.
pub(super) fn search(collection: &CollectionState) {
    let version = collection.version.load_full();
    let schema = &collection.schema;
    let query = match schema.element {
        Element::Bits => Vectors::Bits(vec![1u8; schema.stride()].into()),
        Element::F16 => Vectors::F16(vec![half::f16::from_f32(0.5); schema.dim].into()),
        Element::I8 => Vectors::I8(vec![3i8; schema.dim].into()),
        Element::U8 => Vectors::U8(vec![3u8; schema.dim].into()),
        Element::F32 => Vectors::F32(vec![0.5f32; schema.dim].into()),
    };
    let options = SearchOptions::new(5).include(crate::record::Include::ALL);
    match Search::new(collection, &version, &options).and_then(|search| search.run(&query, 0..1)) {
        Ok(found) => {
            let best = found[0].iter().map(|hit| hit.distance).filter(|d| !d.is_nan());
            assert!(best.is_sorted(), "hits come in order");
        }
        Err(e) => assert_typed(&e),
    }
}

/// Tombstones: `[rows of the segment u32][file]`.
pub fn tombstones(data: &[u8]) {
    let Some((rows, bytes)) = data.split_first_chunk::<4>() else { return };
    let rows = u32::from_le_bytes(*rows);
    let parsed = roaring::RoaringBitmap::deserialize_from(bytes).ok();
    let entry = TombstonesEntry {
        number: 1,
        rows: parsed.as_ref().map_or(0, roaring::RoaringBitmap::len),
        bytes: bytes.len() as u64,
        hash: hex(xxh3_128(&[bytes])),
    };
    match crate::segment::tombstones::decode(bytes, "segments/fuzz.tombstones", &entry, rows) {
        Err(e) => assert_typed(&e),
        Ok(dead) => {
            assert!(dead.len() == entry.rows && dead.iter().all(|row| row < rows), "only rows of the segment are dead");
            let storage = holding(SEGMENT_DIR, "segments/other", &[]);
            let Ok(entry) = crate::segment::tombstones::write(&storage, 1, 2, &dead) else {
                panic!("memory takes a file")
            };
            let segment =
                SegmentEntry { id: 1, rows, seq: 0, bytes: 0, footer: String::new(), tombstones: Some(entry) };
            assert!(crate::segment::tombstones::read(&storage, &segment).is_ok_and(|again| again == dead));
        }
    }
}

/// The payload of a log frame: `[dimensions][payload]`, decoded and applied.
pub fn payload(data: &[u8]) {
    let Some((dim, payload)) = data.split_first() else { return };
    let title = VectorField::new(2, Metric::Dot).with_element(Element::U8);
    let schema = Schema::new(usize::from(*dim).max(1), Metric::L2).with_vectors("title", title).with_sparse("terms");
    let mut next_source = crate::idmap::MEMTABLE;
    let version = Version::new(new_memtable(&mut next_source));
    let collection = CollectionState::new(1, "fuzz", schema, 9, version);
    let mut effects = Vec::new();
    if let Some(block) = decode_upsert(payload, &collection.schema, 9) {
        let again = encode_upsert(1, &block).payload;
        let Some(back) = decode_upsert(&again, &collection.schema, 9) else { panic!("a block encodes") };
        assert!(back.ids == block.ids && back.vectors == block.vectors && back.hashes == block.hashes);
        assert!(back.metadata == block.metadata && back.text == block.text && back.fields == block.fields);
        effects.push((1, Effect::Write(Box::new(block.clone()))));
        effects.push((2, Effect::Write(Box::new(block))));
    }
    if let Some(ids) = decode_delete(payload) {
        assert_eq!(decode_delete(&encode_delete(1, &ids).payload).as_ref(), Some(&ids));
        effects.push((3, Effect::Delete { hashes: hash_ids(&ids, 9), ids }));
    }
    if let Err(e) = apply(&collection, effects, &mut next_source, true) {
        assert_typed(&e);
    }
    let version = collection.version.load_full();
    for part in version.parts() {
        for row in part.live_runs().into_iter().flatten().take(READ_ROWS as usize) {
            if let Err(e) = exec::record(&collection, part.rows, row) {
                assert_typed(&e);
            }
        }
    }
    search(&collection);
}
