//! Every input in `fuzz/corpus/imports` still passes its target, on any toolchain and in little memory, and so do
//! damaged ones; `fuzz/README.md` says how to find more.

mod common;

use arrow_array::builder::{Float32Builder, ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use common::*;
use omendb_cli::fuzzing::imports;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of addresses that the process may take, threads and all: a file that makes it want more ends the test.
const MEMORY: u64 = 2 << 30;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/imports")
}

#[test]
fn every_input_of_the_corpus_passes_whole_and_damaged() {
    setrlimit(Resource::As, Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) }).expect("a limit");
    let entries = std::fs::read_dir(corpus()).expect("a corpus");
    let mut inputs: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    inputs.sort();
    let (mut runs, mut failed) = (0, Vec::new());
    for (i, path) in inputs.iter().enumerate() {
        let whole = std::fs::read(path).expect("a file");
        let mut variants: Vec<Vec<u8>> = [1, 2, whole.len() / 3, whole.len().saturating_sub(1)]
            .map(|cut| whole[..cut.min(whole.len())].to_vec())
            .into();
        for step in 1..8 {
            let mut flipped = whole.clone();
            let at = (i * 7919 + step * 104_729) % flipped.len().max(1);
            flipped.iter_mut().skip(at.max(1)).take(1).for_each(|byte| *byte ^= 1 << step);
            variants.push(flipped);
        }
        variants.push(whole);
        runs += variants.len();
        if variants.iter().any(|input| std::panic::catch_unwind(|| imports(input)).is_err()) {
            failed.push(path.display().to_string());
        }
    }
    println!("fuzz corpus: {} inputs of imports in {runs} variants, {} failed", inputs.len(), failed.len());
    assert!(!inputs.is_empty() && failed.is_empty(), "{}", failed.join("\n"));
}

fn parquet_file(compression: Compression) -> Vec<u8> {
    let (mut ids, mut texts) = (StringBuilder::new(), StringBuilder::new());
    let mut vectors = ListBuilder::new(Float32Builder::new());
    for (i, vector) in matrix(3, 4, 2).chunks_exact(2).enumerate() {
        ids.append_value(format!("r{i}"));
        texts.append_option((i != 1).then_some("a text"));
        vectors.append_value(vector.iter().copied().map(Some));
    }
    let columns: [(&str, ArrayRef); 3] =
        [("id", Arc::new(ids.finish())), ("vector", Arc::new(vectors.finish())), ("text", Arc::new(texts.finish()))];
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let properties =
        WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(3)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).expect("a writer");
    writer.write(&batch).expect("rows");
    writer.into_inner().expect("a file")
}

/// Small files of every kind, as users have them, by the number of the kind.
fn seeds() -> Vec<(u8, &'static str, Vec<u8>)> {
    let values = matrix(1, 3, 2);
    let lines = concat!(
        "{\"id\": \"a\", \"vector\": [0.5, -1], \"text\": \"t\", \"year\": 2020}\n\n",
        "{\"id\": \"b\", \"vector\": [1e-3, 2], \"metadata\": {\"x\": [1, null]}}\n"
    );
    let further = concat!(
        "{\"vector\": [1, 2], \"fields\": {\"title\": [1, 0.5], \"bits\": [255, 3], \"terms\": {\"7\": 0.5}}}\n",
        "{\"vector\": [1, 2], \"fields\": {\"title\": null}}\n"
    );
    let table = "id,v0,v1,text,year\n1,0.5,2,\"a, b\",2020\n2,1,-3,,\n";
    let arrays = [
        ("vectors.npy", npy_f32(&values, 2)),
        ("ids.npy", npy_strings(&["a", "b", "c"], 2)),
        ("text.npy", npy_strings(&["x", "", "yy"], 2)),
    ];
    let zstd = Compression::ZSTD(ZstdLevel::default());
    vec![
        (0, "f32", npy_f32(&values, 2)),
        (0, "fortran-f64", npy("<f8", true, "(2, 2)", &[0x3f; 32])),
        (0, "big-endian-f16", npy(">f2", false, "(2, 3)", &[0x3c; 12])),
        (0, "u8", npy("|u1", false, "(3, 2)", &[1, 2, 3, 4, 5, 6])),
        (0, "many-rows-announced", npy("<f4", false, "(1000000000000, 128)", &[0; 64])),
        (1, "stored", npz(&arrays, false)),
        (1, "deflated", npz(&arrays, true)),
        (2, "two", fvecs(&values, 2)),
        (3, "two", bvecs(&[1, 2, 3, 4], 2)),
        (4, "plain", lines.into()),
        (4, "gzipped", gzip(lines.as_bytes())),
        (5, "plain", table.into()),
        (5, "gzipped", gzip(table.as_bytes())),
        (5, "vector-in-a-cell", "vector,tag\n\"[1, 2.5]\",x\n\"[3 4]\",\n".into()),
        (6, "plain", parquet_file(Compression::UNCOMPRESSED)),
        (6, "snappy", parquet_file(Compression::SNAPPY)),
        (6, "zstd", parquet_file(zstd)),
        (7, "fields", further.into()),
        (8, "npy", npy_f32(&values, 2)),
        (8, "parquet", parquet_file(Compression::UNCOMPRESSED)),
        (9, "two-lists", [&[4u8][..], &[2u32, 7, 8, 2, 9, 10].map(u32::to_le_bytes).concat()].concat()),
        (10, "names", b"\x03a\nb\n007\n".to_vec()),
        (10, "numbers", b"\x021\r\n2\r\n".to_vec()),
        (11, "npy", [&[2u8][..], &npy("<u8", false, "(2,)", &[1u64, 2].map(u64::to_le_bytes).concat())].concat()),
    ]
}

/// Writes the seeds of the corpus anew: `cargo test -p omendb-cli --test fuzz_corpus -- --ignored write_seeds`.
#[test]
#[ignore = "it writes into fuzz/corpus"]
fn write_seeds() {
    std::fs::create_dir_all(corpus()).expect("a directory");
    for (kind, name, file) in seeds() {
        put(&corpus(), &format!("seed-{kind}-{name}"), [&[kind][..], &file].concat());
    }
}
