//! The payload of a log frame.
//!
//! ```text
//! upsert: collection u32, rows u32, flags u32 (1 metadata, 2 text, 4 further fields), id bytes u32,
//!         id ends u32 x rows, ids, vectors (rows x stride), then for metadata and text as flagged: ends u64 x rows,
//!         bytes; then, if flagged, a u32 with one bit a field, and the same for each field whose bit is set
//! delete: collection u32, rows u32, 0 u32, id bytes u32, id ends u32 x rows, ids
//! ```

use crate::codec::Reader;
use crate::fields::{FieldColumns, decode_blobs, encode_blobs};
use crate::ids::{IdColumn, decode};
use crate::memtable::{Block, hash_ids};
use crate::schema::Schema;
use crate::wal::{Draft, FrameKind};

const HAS_METADATA: u32 = 1;
const HAS_TEXT: u32 = 2;
const HAS_FIELDS: u32 = 4;

pub(crate) fn encode_upsert(collection: u32, block: &Block) -> Draft {
    let mut out = Vec::with_capacity(16 + block.memory() as usize);
    let flag = |there: bool, flag: u32| if there { flag } else { 0 };
    let flags = flag(block.metadata.is_some(), HAS_METADATA)
        | flag(block.text.is_some(), HAS_TEXT)
        | flag(!block.fields.is_empty(), HAS_FIELDS);
    encode_ids(&mut out, collection, flags, &block.ids);
    out.extend_from_slice(&block.vectors);
    for column in [&block.metadata, &block.text].into_iter().flatten() {
        encode_blobs(&mut out, column);
    }
    if flags & HAS_FIELDS != 0 {
        block.fields.encode(&mut out);
    }
    Draft::new(FrameKind::Upsert, out)
}

pub(crate) fn encode_delete(collection: u32, ids: &IdColumn) -> Draft {
    let mut out = Vec::with_capacity(16 + ids.bytes.len() + ids.len() * 4);
    encode_ids(&mut out, collection, 0, ids);
    Draft::new(FrameKind::Delete, out)
}

fn encode_ids(out: &mut Vec<u8>, collection: u32, flags: u32, ids: &IdColumn) {
    for n in [collection, ids.len() as u32, flags, ids.bytes.len() as u32] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    for end in &ids.ends {
        out.extend_from_slice(&end.to_le_bytes());
    }
    out.extend_from_slice(&ids.bytes);
}

/// The collection a payload belongs to.
pub(crate) fn collection_of(payload: &[u8]) -> Option<u32> {
    Reader::new(payload).u32()
}

pub(crate) fn decode_upsert(payload: &[u8], schema: &Schema, hash_seed: u64) -> Option<Block> {
    let stride = schema.stride();
    let mut r = Reader::new(payload);
    let (ids, flags) = decode_ids(&mut r)?;
    let rows = ids.len();
    let vectors = r.take(rows.checked_mul(stride)?)?.to_vec();
    let metadata = if flags & HAS_METADATA != 0 { Some(decode_blobs(&mut r, rows)?) } else { None };
    let text = if flags & HAS_TEXT != 0 { Some(decode_blobs(&mut r, rows)?) } else { None };
    let fields = match flags & HAS_FIELDS {
        0 => FieldColumns::default(),
        _ => FieldColumns::decode(&mut r, rows, schema)?,
    };
    let hashes = hash_ids(&ids, hash_seed);
    r.is_empty().then_some(Block { start: 0, hashes, ids, vectors, stride, metadata, text, fields, ..Block::default() })
}

pub(crate) fn decode_delete(payload: &[u8]) -> Option<IdColumn> {
    let mut r = Reader::new(payload);
    let (ids, _) = decode_ids(&mut r)?;
    r.is_empty().then_some(ids)
}

fn decode_ids(r: &mut Reader<'_>) -> Option<(IdColumn, u32)> {
    let (_, rows, flags, id_bytes) = (r.u32()?, r.u32()? as usize, r.u32()?, r.u32()? as usize);
    let ends = r.take(rows.checked_mul(4)?)?.as_chunks::<4>().0.iter().map(|c| u32::from_le_bytes(*c)).collect();
    let ids = IdColumn { bytes: r.take(id_bytes)?.to_vec(), ends };
    let rising = ids.ends.is_sorted() && ids.ends.last().copied().unwrap_or(0) as usize == id_bytes;
    (rising && (0..rows).all(|row| decode(ids.encoded(row)).is_some())).then_some((ids, flags))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Batch;
    use crate::schema::{Metric, VectorField};
    use crate::sparse::Sparse;
    use serde_json::json;

    #[test]
    fn payloads_round_trip_and_no_cut_one_is_accepted() {
        let meta = json!({"a": [1, null]});
        let ids: IdColumn = ["x", "yy", "zzz"].into_iter().collect();
        let schema =
            Schema::new(2, Metric::L2).with_vectors("title", VectorField::new(1, Metric::L2)).with_sparse("terms");
        let terms = Sparse::new([(1, 0.5), (u32::MAX, -2.0)]).unwrap();
        let mut batch = Batch::new(ids.clone(), vec![1f32; 6])
            .with_metadata([Some(&meta), None, Some(&meta)])
            .unwrap()
            .with_text([None, Some(""), Some("text")])
            .with_some_vectors("title", [true, false, true], vec![1f32; 2])
            .with_sparse("terms", [None, Some(&Sparse::default()), Some(&terms)]);
        batch.validate(&schema).unwrap();
        let block = Block::from_batch(&batch, 8, hash_ids(&ids, 9));
        let payload = encode_upsert(4, &block).payload;
        let back = decode_upsert(&payload, &schema, 9).unwrap();
        assert_eq!(collection_of(&payload), Some(4));
        assert_eq!((&back.ids, &back.vectors, &back.hashes), (&block.ids, &block.vectors, &block.hashes));
        assert_eq!((&back.metadata, &back.text, &back.fields), (&block.metadata, &block.text, &block.fields));
        assert!(decode_upsert(&payload, &Schema::new(2, Metric::L2), 9).is_none(), "fields that no schema declares");
        for cut in 0..payload.len() {
            assert!(decode_upsert(&payload[..cut], &schema, 9).is_none(), "cut at {cut}");
        }
        let payload = encode_delete(4, &ids).payload;
        assert_eq!(decode_delete(&payload), Some(ids));
    }
}
