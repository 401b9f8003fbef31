//! Every format: good files arrive exactly; truncated and hostile ones are refused with a reason, and leave nothing
//! behind.

mod common;

use arrow_array::builder::{Float32Builder, ListBuilder, StringBuilder, TimestampMicrosecondBuilder, UInt64Builder};
use arrow_array::{ArrayRef, RecordBatch};
use common::*;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

fn dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Imports `file` and returns the records of `ids`.
#[track_caller]
fn import(dir: &Path, file: &str, args: &[&str], rows: u64, ids: &[&str]) -> Vec<Value> {
    let dry = omendb(dir, &[&["import", "db", file, "--dry-run", "--json"], args].concat()).expect(0).json();
    assert_eq!(dry["rows"], rows);
    assert!(!dir.join("db").exists(), "a dry run opens no database");
    let done = omendb(dir, &[&["import", "db", file, "--json", "-c", "c"], args].concat()).expect(0).json();
    assert_eq!((done["rows"].clone(), done["records"].clone()), (json!(rows), json!(rows)));
    let got = omendb(dir, &[&["get", "db", "--json", "-c", "c"], ids].concat()).expect(0).json();
    std::fs::remove_dir_all(dir.join("db")).expect("the database is removed");
    got["records"].as_array().expect("records").clone()
}

/// The file is refused as invalid (or past a limit), the message holds every needle, and no database was made.
#[track_caller]
fn refuse(dir: &Path, file: &str, args: &[&str], needles: &[&str]) {
    for dry in [&["--dry-run"][..], &[]] {
        let ran = omendb(dir, &[&["import", "db", file], dry, args].concat());
        assert!(matches!(ran.code, Some(3 | 6)), "{ran:?}");
        for needle in needles.iter().chain(&["error: "]) {
            assert!(ran.err.contains(needle), "{needle:?} is not in {}", ran.err);
        }
        assert!(!dir.join("db").exists(), "a refused file leaves no database");
    }
}

fn floats(value: &Value) -> Vec<f32> {
    let list = value.as_array().expect("a list");
    list.iter().map(|x| x.to_string().parse().expect("a number")).collect()
}

fn lines(rows: usize, dim: usize) -> String {
    let values = matrix(3, rows, dim);
    let line = |i: usize| {
        let vector: Vec<String> = values[i * dim..(i + 1) * dim].iter().map(f32::to_string).collect();
        format!(
            "{{\"id\": \"r{i}\", \"vector\": [{}], \"text\": \"text {i}\", \"year\": {}}}\n",
            vector.join(", "),
            2000 + i
        )
    };
    (0..rows).map(line).collect()
}

#[test]
fn npy_types_orders_and_byte_orders_arrive_exactly() {
    let t = dir();
    let (rows, dim) = (7, 5);
    let values = matrix(1, rows, dim);
    put(t.path(), "a.npy", npy_f32(&values, dim));
    let got = import(t.path(), "a.npy", &[], 7, &["0", "6"]);
    assert_eq!(floats(&got[1]["vector"]), values[6 * dim..]);
    assert_eq!(got[1]["id"], 6);

    let transposed: Vec<f32> =
        (0..dim).flat_map(|c| (0..rows).map(move |r| (r, c))).map(|(r, c)| values[r * dim + c]).collect();
    put(t.path(), "f.npy", npy("<f4", true, "(7, 5)", &f32_bytes(&transposed)));
    assert_eq!(floats(&import(t.path(), "f.npy", &[], 7, &["3"])[0]["vector"]), values[3 * dim..4 * dim]);

    let big: Vec<u8> = values.iter().flat_map(|x| x.to_be_bytes()).collect();
    put(t.path(), "b.npy", npy(">f4", false, "(7, 5)", &big));
    assert_eq!(floats(&import(t.path(), "b.npy", &[], 7, &["3"])[0]["vector"]), values[3 * dim..4 * dim]);

    let double: Vec<u8> = values.iter().flat_map(|x| f64::from(*x).to_le_bytes()).collect();
    put(t.path(), "d.npy", npy("<f8", false, "(7, 5)", &double));
    assert_eq!(floats(&import(t.path(), "d.npy", &[], 7, &["3"])[0]["vector"]), values[3 * dim..4 * dim]);

    let bytes: Vec<u8> = (1..=35).collect();
    put(t.path(), "u.npy", npy("|u1", false, "(7, 5)", &bytes));
    assert_eq!(import(t.path(), "u.npy", &["--metric", "l2"], 7, &["6"])[0]["vector"], json!([31, 32, 33, 34, 35]));
    let bits = import(t.path(), "u.npy", &["--element", "bits", "--dim", "40"], 7, &["6"]);
    assert_eq!(bits[0]["vector"], json!([31, 32, 33, 34, 35]));

    let half: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect();
    put(t.path(), "h.npy", npy("<f2", false, "(1, 2)", &half));
    assert_eq!(import(t.path(), "h.npy", &[], 1, &["0"])[0]["vector"], json!([1.5, -2.0]));
}

#[test]
fn ids_come_from_files_of_every_kind() {
    let t = dir();
    put(t.path(), "v.npy", npy_f32(&matrix(1, 3, 2), 2));
    put(t.path(), "s.npy", npy_strings(&["a", "bé", "c"], 4));
    assert_eq!(import(t.path(), "v.npy", &["--ids", "s.npy"], 3, &["bé"])[0]["id"], "bé");
    let numbers: Vec<u8> = [9i64, 8, 7].iter().flat_map(|n| n.to_le_bytes()).collect();
    put(t.path(), "n.npy", npy("<i8", false, "(3,)", &numbers));
    assert_eq!(import(t.path(), "v.npy", &["--ids", "n.npy"], 3, &["7"])[0]["id"], 7);
    let ivecs: Vec<u8> = [1u32, 11, 1, 12, 1, 13].iter().flat_map(|n| n.to_le_bytes()).collect();
    put(t.path(), "i.ivecs", &ivecs);
    assert_eq!(import(t.path(), "v.npy", &["--ids", "i.ivecs"], 3, &["13"])[0]["id"], 13);
    put(t.path(), "l.txt", "x\ny\n\nz\n");
    assert_eq!(import(t.path(), "v.npy", &["--ids", "l.txt"], 3, &["z"])[0]["id"], "z");
    put(t.path(), "digits.txt", "1\n2\n3\n");
    assert_eq!(import(t.path(), "v.npy", &["--ids", "digits.txt", "--id-type", "string"], 3, &["2"])[0]["id"], "2");
    assert_eq!(import(t.path(), "v.npy", &["--first-id", "100"], 3, &["102"])[0]["id"], 102);

    put(t.path(), "two.txt", "x\ny\n");
    refuse(t.path(), "v.npy", &["--ids", "two.txt"], &["two.txt", "2 ids for the 3 vectors"]);
    put(t.path(), "cut.ivecs", &ivecs[..22]);
    refuse(t.path(), "v.npy", &["--ids", "cut.ivecs"], &["cut.ivecs", "truncated"]);
    let negative: Vec<u8> = [9i64, -8, 7].iter().flat_map(|n| n.to_le_bytes()).collect();
    put(t.path(), "neg.npy", npy("<i8", false, "(3,)", &negative));
    refuse(t.path(), "v.npy", &["--ids", "neg.npy"], &["neg.npy", "row 1", "-8"]);
}

#[test]
fn hostile_npy_is_refused() {
    let t = dir();
    let good = npy_f32(&matrix(1, 4, 3), 3);
    let cases: Vec<(&str, Vec<u8>, Vec<&str>)> = vec![
        ("huge.npy", npy("<f4", false, "(1000000000000, 128)", &[0; 64]), vec!["truncated"]),
        ("overflow.npy", npy("<f4", false, "(18446744073709551615, 128)", &[0; 64]), vec!["more than 2^64"]),
        ("pickle.npy", npy("|O", false, "(3, 3)", b"\x80\x04K\x01."), vec!["pickle"]),
        (
            "fields.npy",
            npy_of("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }", &[0; 12]),
            vec!["structured"],
        ),
        ("complex.npy", npy("<c8", false, "(2, 2)", &[0; 32]), vec!["<c8"]),
        ("flat.npy", npy("<f4", false, "(4,)", &[0; 16]), vec!["matrix [rows, dim]"]),
        ("cube.npy", npy("<f4", false, "(2, 2, 2)", &[0; 32]), vec!["matrix [rows, dim]"]),
        ("nodim.npy", npy("<f4", false, "(4, 0)", &[]), vec!["0 dimensions"]),
        ("text.npy", npy_strings(&["a"], 3), vec!["matrix"]),
        ("dict.npy", npy_of("__import__('os').system('true')", &[]), vec!["npy header"]),
        ("open.npy", npy_of("{'descr': '<f4', 'shape': (1, ", &[]), vec!["npy header"]),
        ("long.npy", [&b"\x93NUMPY\x02\x00"[..], &u32::MAX.to_le_bytes()].concat(), vec!["byte 8", "damaged"]),
        ("version.npy", b"\x93NUMPY\x09\x00\x10\x00".to_vec(), vec!["version 9"]),
        ("tail.npy", [good.clone(), vec![0]].concat(), vec!["49 bytes follow"]),
        ("nan.npy", npy_f32(&[1.0, 2.0, 3.0, f32::NAN], 2), vec!["row 1, element 1", "NaN"]),
        ("inf.npy", npy_f32(&[1.0, f32::INFINITY], 2), vec!["row 0, element 1", "inf"]),
        ("wide.npy", npy("<f8", false, "(1, 1)", &1e300f64.to_le_bytes()), vec!["row 0, element 0", "32-bit float"]),
        ("inexact.npy", npy("<i8", false, "(1, 1)", &((1i64 << 53) + 1).to_le_bytes()), vec!["9007199254740993"]),
    ];
    for (name, bytes, needles) in cases {
        put(t.path(), name, bytes);
        refuse(t.path(), name, &[], &[&[name][..], &needles].concat());
    }
    every_truncation(t.path(), "cut.npy", &good, true);
}

/// Cuts a good file at many places: the program refuses each, or (for text, which has no end mark) reads less.
fn every_truncation(dir: &Path, name: &str, good: &[u8], always_refused: bool) {
    let step = (good.len() / 80).max(1);
    for length in (0..good.len()).step_by(step) {
        put(dir, name, &good[..length]);
        let format = name.rsplit('.').find(|part| *part != "gz").unwrap_or_default();
        let ran = omendb(dir, &["import", "db", name, "--dry-run", "--format", format]);
        match ran.code {
            Some(3 | 6) => assert!(ran.err.contains(name) && ran.err.len() > name.len() + 30, "{ran:?}"),
            Some(0) if !always_refused => {}
            _ => panic!("{length} of {} bytes of {name}: {ran:?}", good.len()),
        }
    }
}

/// Changes single bytes of a good file: whatever happens, it is a typed error or a result, within the memory limit.
fn many_flips(dir: &Path, name: &str, good: &[u8]) {
    let mut random = Random(7);
    for _ in 0..150 {
        let mut bytes = good.to_vec();
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << random.below(8);
        put(dir, name, &bytes);
        let ran = omendb(dir, &["import", "db", name, "--dry-run"]);
        assert!(matches!(ran.code, Some(0 | 3 | 6)), "byte {at}: {ran:?}");
    }
}

#[test]
fn npz_arrays_are_chosen_and_archives_checked() {
    let t = dir();
    let values = matrix(2, 50, 4);
    let years: Vec<u8> = (0..50i32).flat_map(|i| (2000 + i).to_le_bytes()).collect();
    let names: Vec<String> = (0..50).map(|i| format!("n{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let entries = [
        ("vectors.npy", npy_f32(&values, 4)),
        ("ids.npy", npy_strings(&names, 5)),
        ("text.npy", npy_strings(&names, 5)),
        ("year.npy", npy("<i4", false, "(50,)", &years)),
        ("queries.npy", npy_f32(&values[..8], 4)),
        ("objects.npy", npy("|O", false, "(50,)", b"x")),
    ];
    for deflate in [false, true] {
        let good = npz(&entries, deflate);
        put(t.path(), "a.npz", &good);
        let got = import(t.path(), "a.npz", &["--metadata-columns", "year"], 50, &["n49"]);
        assert_eq!(floats(&got[0]["vector"]), values[196..]);
        assert_eq!((&got[0]["text"], &got[0]["metadata"]), (&json!("n49"), &json!({"year": 2049})));
        every_truncation(t.path(), "cut.npz", &good, true);
        many_flips(t.path(), "flip.npz", &good);
        // A byte of the vectors themselves: the checksum catches it.
        let at = good.windows(4).position(|w| w == values[100].to_le_bytes());
        if let Some(at) = at {
            let mut bad = good.clone();
            bad[at] ^= 1;
            put(t.path(), "crc.npz", bad);
            refuse(t.path(), "crc.npz", &[], &["crc.npz", "checksum"]);
        }
    }
    put(t.path(), "two.npz", npz(&[("x.npy", npy_f32(&values, 4)), ("y.npy", npy_f32(&values, 4))], false));
    refuse(t.path(), "two.npz", &[], &["two.npz", "--vector-column", "\"x\", \"y\""]);
    import(t.path(), "two.npz", &["--vector-column", "y"], 50, &["0"]);
    refuse(t.path(), "two.npz", &["--vector-column", "z"], &["\"z\" is not in the file"]);
    put(t.path(), "pickle.npz", npz(&[("vectors.npy", npy("|O", false, "(3, 3)", b"x"))], false));
    refuse(t.path(), "pickle.npz", &[], &["pickle.npz", "pickle"]);
    let transposed: Vec<f32> =
        (0..4).flat_map(|c| (0..50).map(move |r| (r, c))).map(|(r, c)| values[r * 4 + c]).collect();
    let fortran = npy("<f4", true, "(50, 4)", &f32_bytes(&transposed));
    put(t.path(), "f.npz", npz(&[("vectors.npy", fortran)], true));
    assert_eq!(floats(&import(t.path(), "f.npz", &[], 50, &["49"])[0]["vector"]), values[196..]);
}

#[test]
fn a_zip_bomb_is_refused() {
    let t = dir();
    // 100 MB of zeros become 100 kB.
    let zeros = npy("<f4", false, "(250000, 100)", &vec![0u8; 100_000_000]);
    put(t.path(), "bomb.npz", npz(&[("vectors.npy", zeros)], true));
    refuse(t.path(), "bomb.npz", &[], &["bomb.npz", "zip bomb"]);
}

#[test]
fn fvecs_and_bvecs_arrive_exactly_and_bad_ones_are_refused() {
    let t = dir();
    let values = matrix(4, 20, 6);
    let good = fvecs(&values, 6);
    put(t.path(), "a.fvecs", &good);
    assert_eq!(floats(&import(t.path(), "a.fvecs", &[], 20, &["19"])[0]["vector"]), values[114..]);
    let bytes: Vec<u8> = (1..=60).collect();
    put(t.path(), "a.bvecs", bvecs(&bytes, 6));
    assert_eq!(
        import(t.path(), "a.bvecs", &["--metric", "l2"], 10, &["9"])[0]["vector"],
        json!([55, 56, 57, 58, 59, 60])
    );

    let mut ragged = good.clone();
    ragged[3 * 28..3 * 28 + 4].copy_from_slice(&5u32.to_le_bytes());
    let mut negative = good.clone();
    negative[..4].copy_from_slice(&(-1i32).to_le_bytes());
    let mut nan = good.clone();
    nan[28 + 4 + 8..28 + 4 + 12].copy_from_slice(&f32::NAN.to_le_bytes());
    let cases: [(&str, &[u8], &[&str]); 5] = [
        ("ragged.fvecs", &ragged, &["row 3, byte 84", "a length of 5 where 6"]),
        ("negative.fvecs", &negative, &["byte 0", "-1 dimensions"]),
        ("nan.fvecs", &nan, &["row 1, element 2"]),
        ("empty.fvecs", &[], &["0 bytes"]),
        ("huge.bvecs", &[0xff, 0xff, 0xff, 0x7f, 0], &["2147483647 dimensions"]),
    ];
    for (name, bytes, needles) in cases {
        put(t.path(), name, bytes);
        refuse(t.path(), name, &[], &[&[name][..], needles].concat());
    }
    for length in (0..good.len()).filter(|n| n % 28 != 0) {
        put(t.path(), "cut.fvecs", &good[..length]);
        omendb(t.path(), &["import", "db", "cut.fvecs", "--dry-run"]).expect(3);
    }
}

#[test]
fn jsonl_arrives_exactly_and_bad_lines_are_named() {
    let t = dir();
    let good = lines(30, 4);
    put(t.path(), "a.jsonl", &good);
    let got = import(t.path(), "a.jsonl", &[], 30, &["r29"]);
    assert_eq!(floats(&got[0]["vector"]), matrix(3, 30, 4)[116..]);
    assert_eq!((&got[0]["text"], &got[0]["metadata"]), (&json!("text 29"), &json!({"year": 2029})));
    put(t.path(), "a.jsonl.gz", gzip(good.as_bytes()));
    import(t.path(), "a.jsonl.gz", &[], 30, &["r29"]);
    every_truncation(t.path(), "cut.jsonl", good.as_bytes(), false);
    every_truncation(t.path(), "cut.jsonl.gz", &gzip(good.as_bytes()), true);

    let other =
        "{\"key\": 7, \"emb\": [1, 2], \"body\": \"b\", \"skip\": 1, \"metadata\": {\"a\": {\"b\": [null, true]}}}\n\n";
    put(t.path(), "o.jsonl", format!("\u{feff}{other}"));
    let args = ["--id-column", "key", "--text-column", "body", "--metadata-columns", "metadata"];
    let got = import(t.path(), "o.jsonl", &args, 1, &["7"]);
    assert_eq!(got[0], json!({"id": 7, "vector": [1.0, 2.0], "metadata": {"a": {"b": [null, true]}}, "text": "b"}));

    let first = "{\"id\": 1, \"vector\": [1, 2]}\n";
    let deep = format!("{{\"id\": 2, \"vector\": [1, 2], \"m\": {}1{}}}", "[".repeat(1000), "]".repeat(1000));
    let cases: Vec<(&str, Vec<u8>, Vec<&str>)> = vec![
        (
            "dim.jsonl",
            format!("{first}{{\"id\": 2, \"vector\": [1]}}").into_bytes(),
            vec!["line 2", "1 elements where 2"],
        ),
        ("syntax.jsonl", format!("{first}{{\"id\": 2, \"vector\": [1,").into_bytes(), vec!["line 2, column"]),
        ("list.jsonl", b"[1, 2]\n".to_vec(), vec!["line 1", "object"]),
        (
            "novector.jsonl",
            b"{\"id\": 1, \"x\": 2}\n".to_vec(),
            vec!["line 1", "no vector among the keys \"id\", \"x\""],
        ),
        ("string.jsonl", b"{\"vector\": \"1,2\"}\n".to_vec(), vec!["line 1", "list of numbers"]),
        ("nan.jsonl", format!("{first}{{\"id\": 2, \"vector\": [1, NaN]}}").into_bytes(), vec!["line 2"]),
        (
            "big.jsonl",
            format!("{first}{{\"id\": 2, \"vector\": [1, 1e39]}}").into_bytes(),
            vec!["line 2", "element 1", "1e39"],
        ),
        (
            "null.jsonl",
            format!("{first}{{\"id\": null, \"vector\": [1, 2]}}").into_bytes(),
            vec!["line 2", "null given as the id"],
        ),
        (
            "noid.jsonl",
            format!("{first}{{\"vector\": [1, 2]}}").into_bytes(),
            vec!["line 2", "nothing given as the id"],
        ),
        ("float.jsonl", b"{\"id\": 1.5, \"vector\": [1, 2]}".to_vec(), vec!["line 1", "1.5 given as the id"]),
        (
            "late.jsonl",
            b"{\"vector\": [1, 2]}\n{\"id\": 1, \"vector\": [1, 2]}".to_vec(),
            vec!["line 2", "all or none"],
        ),
        (
            "meta.jsonl",
            format!("{first}{{\"id\": 2, \"vector\": [1, 2], \"metadata\": 5}}").into_bytes(),
            vec!["line 2", "object or null"],
        ),
        ("deep.jsonl", format!("{first}{deep}").into_bytes(), vec!["line 2", "recursion limit"]),
        ("utf8.jsonl", [first.as_bytes(), b"{\"id\": \"\xff\"}"].concat(), vec!["line 2, byte 8", "UTF-8"]),
        ("empty.jsonl", b"\n \n".to_vec(), vec!["no line"]),
        ("trailing.jsonl", b"{\"id\": 1, \"vector\": [1, 2]} {}".to_vec(), vec!["line 1", "trailing"]),
    ];
    for (name, bytes, needles) in cases {
        put(t.path(), name, bytes);
        refuse(t.path(), name, &[], &[&[name][..], &needles].concat());
    }
    let mut long = b"{\"id\": 1, \"vector\": [".to_vec();
    long.resize(70 << 20, b' ');
    put(t.path(), "long.jsonl", &long);
    refuse(t.path(), "long.jsonl", &[], &["line 1", "longer than"]);
    put(t.path(), "bomb.jsonl", gzip(&long));
    refuse(t.path(), "bomb.jsonl", &[], &["line 1", "longer than"]);
}

#[test]
fn csv_arrives_exactly_and_bad_records_are_named() {
    let t = dir();
    let good = "id,vector,text,year,flag\n\
                a,\"[0.5, -1]\",\"said \"\"hi\"\",\nand left\",2020,true\n\
                b,\"[1, 2]\",,007,\n";
    put(t.path(), "a.csv", good);
    let got = import(t.path(), "a.csv", &[], 2, &["a", "b"]);
    assert_eq!(
        got[0],
        json!({"id": "a", "vector": [0.5, -1.0], "metadata": {"year": 2020, "flag": true}, "text": "said \"hi\",\nand \
            left"})
    );
    assert_eq!(got[1], json!({"id": "b", "vector": [1.0, 2.0], "metadata": {"year": "007"}}));
    put(t.path(), "w.csv", "v0,v1,v2,id\n1,2,3,10\n4,5,6,11\n");
    let got = import(t.path(), "w.csv", &[], 2, &["11"]);
    assert_eq!(got[0], json!({"id": 11, "vector": [4.0, 5.0, 6.0]}));
    every_truncation(t.path(), "cut.csv", good.as_bytes(), false);

    let cases: Vec<(&str, Vec<u8>, Vec<&str>)> = vec![
        ("fields.csv", b"id,vector\na,1 2\nb,1 2,x\n".to_vec(), vec!["line 3", "3 fields where the header has 2"]),
        ("number.csv", b"id,vector\na,1 x\n".to_vec(), vec!["line 2", "column 2", "\"x\""]),
        ("wide.csv", b"id,v0,v1,v2\na,1,2,3\nb,1,,3\n".to_vec(), vec!["line 3", "column 3"]),
        ("dim.csv", b"id,vector\na,1 2\nb,1\n".to_vec(), vec!["line 3", "1 elements where 2"]),
        ("nan.csv", b"id,vector\na,1 nan\n".to_vec(), vec!["line 2", "\"nan\""]),
        ("id.csv", b"id,vector\n1,1 2\nx,1 2\n".to_vec(), vec!["line 3", "--id-type string"]),
        ("noid.csv", b"id,vector\n,1 2\n".to_vec(), vec!["line 2", "empty id"]),
        ("novector.csv", b"id,text\na,b\n".to_vec(), vec!["line 1", "--vector-column"]),
        ("header.csv", b"id,vector\n".to_vec(), vec!["no record"]),
        ("empty.csv", Vec::new(), vec!["empty.csv"]),
        ("utf8.csv", b"id,vector\n\xff,1 2\n".to_vec(), vec!["line 2", "UTF-8"]),
        ("meta.csv", b"id,vector,metadata\na,1 2,[]\n".to_vec(), vec!["line 2", "column 3", "JSON object"]),
    ];
    for (name, bytes, needles) in cases {
        put(t.path(), name, bytes);
        refuse(t.path(), name, &[], &[&[name][..], &needles].concat());
    }
    let mut open = b"id,vector\na,1 2\n\"b,".to_vec();
    open.resize(150 << 20, b'x');
    put(t.path(), "quote.csv", &open);
    refuse(t.path(), "quote.csv", &[], &["quote.csv", "quote is probably not closed"]);
}

/// A Parquet file of ids, vectors, text, a time and a list.
fn parquet_file(rows: usize, dim: usize, compression: Compression, row_group: usize) -> Vec<u8> {
    let values = matrix(5, rows, dim);
    let mut ids = UInt64Builder::new();
    let mut vectors = ListBuilder::new(Float32Builder::new());
    let mut text = StringBuilder::new();
    let mut when = TimestampMicrosecondBuilder::new();
    let mut tags = ListBuilder::new(StringBuilder::new());
    for (i, vector) in values.chunks_exact(dim).enumerate() {
        ids.append_value(i as u64);
        vectors.values().append_slice(vector);
        vectors.append(true);
        text.append_option((i % 2 == 0).then(|| format!("text {i}")));
        when.append_value(1_577_836_800_000_000 + i as i64);
        tags.values().append_value("x");
        tags.append(true);
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(ids.finish())),
        ("embedding", Arc::new(vectors.finish())),
        ("text", Arc::new(text.finish())),
        ("when", Arc::new(when.finish())),
        ("tags", Arc::new(tags.finish())),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let properties =
        WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(row_group)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).expect("a writer");
    writer.write(&batch).expect("rows");
    writer.into_inner().expect("the file")
}

#[test]
fn parquet_arrives_exactly_and_damage_is_refused() {
    let t = dir();
    let values = matrix(5, 100, 8);
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::LZ4_RAW, zstd] {
        put(t.path(), "a.parquet", parquet_file(100, 8, compression, 30));
        let got = import(t.path(), "a.parquet", &[], 100, &["99", "98"]);
        assert_eq!(floats(&got[0]["vector"]), values[792..]);
        assert_eq!(got[0]["metadata"], json!({"when": "2020-01-01T00:00:00.000099", "tags": ["x"]}));
        assert_eq!((&got[0]["text"], &got[1]["text"]), (&Value::Null, &json!("text 98")));
    }
    let good = parquet_file(100, 8, Compression::SNAPPY, 30);
    every_truncation(t.path(), "cut.parquet", &good, true);
    many_flips(t.path(), "flip.parquet", &good);

    put(t.path(), "bad.parquet", b"PAR1 this is no parquet file PAR1");
    refuse(t.path(), "bad.parquet", &[], &["bad.parquet", "Parquet"]);
    put(t.path(), "a.parquet", &good);
    refuse(t.path(), "a.parquet", &["--vector-column", "text"], &["\"text\"", "list of numbers"]);
    refuse(t.path(), "a.parquet", &["--text-column", "nothing"], &["\"nothing\" is not in the file"]);
}

#[test]
fn ragged_and_null_vectors_in_parquet_are_refused() {
    let t = dir();
    let write = |name: &str, lists: &[Option<&[Option<f32>]>]| {
        let mut vectors = ListBuilder::new(Float32Builder::new());
        for list in lists {
            list.unwrap_or_default().iter().for_each(|x| vectors.values().append_option(*x));
            vectors.append(list.is_some());
        }
        let batch = RecordBatch::try_from_iter([("vector", Arc::new(vectors.finish()) as ArrayRef)]).expect("a batch");
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).expect("a writer");
        writer.write(&batch).expect("rows");
        put(t.path(), name, writer.into_inner().expect("the file"));
    };
    let (a, b) = ([Some(1.0), Some(2.0)], [Some(1.0)]);
    write("ragged.parquet", &[Some(&a), Some(&b)]);
    refuse(t.path(), "ragged.parquet", &[], &["row 1", "1 elements where 2"]);
    write("long.parquet", &[Some(&b), Some(&a)]);
    refuse(t.path(), "long.parquet", &[], &["long.parquet", "dimensions of the first, 1"]);
    write("null.parquet", &[Some(&a), None]);
    refuse(t.path(), "null.parquet", &[], &["row 1", "no vector"]);
    write("hole.parquet", &[Some(&a), Some(&[None, Some(1.0)])]);
    refuse(t.path(), "hole.parquet", &[], &["row 1", "element 0", "null"]);
    write("nan.parquet", &[Some(&a), Some(&[Some(1.0), Some(f32::NAN)])]);
    refuse(t.path(), "nan.parquet", &[], &["row 1, element 1", "NaN"]);
    write("none.parquet", &[]);
    refuse(t.path(), "none.parquet", &[], &["no row"]);
}

#[test]
fn a_bad_block_late_in_a_file_is_not_applied_and_those_before_are() {
    let t = dir();
    // 16 MiB blocks of 1,024 floats hold 4,096 rows.
    let mut values = matrix(6, 5000, 1024);
    values[4500 * 1024 + 7] = f32::NAN;
    put(t.path(), "late.npy", npy_f32(&values, 1024));
    let ran = omendb(t.path(), &["import", "db", "late.npy"]).expect(3);
    assert!(ran.err.contains("row 4500, element 7"), "{ran:?}");
    let stats = omendb(t.path(), &["stats", "db", "--json"]).expect(0).json();
    assert_eq!(stats["stats"]["collections"][0]["records"], 4096);
}

#[test]
fn of_rows_with_the_same_id_the_last_one_counts() {
    let t = dir();
    put(t.path(), "a.csv", "id,vector,text\na,1 2,first\nb,3 4,\na,5 6,last\n");
    let done = omendb(t.path(), &["import", "db", "a.csv"]).expect(0);
    assert!(done.out.contains("imported 3 rows") && done.out.contains("holds 2 records, fewer than rows"), "{done:?}");
    let got = omendb(t.path(), &["get", "db", "a", "--json"]).expect(0).json();
    assert_eq!(got["records"][0], json!({"id": "a", "vector": [5.0, 6.0], "text": "last"}));
}

#[test]
fn unknown_and_missing_files_are_explained() {
    let t = dir();
    put(t.path(), "a.bin", b"12345678");
    refuse(t.path(), "a.bin", &[], &["a.bin", "--format"]);
    put(t.path(), "a.ivecs", b"12345678");
    refuse(t.path(), "a.ivecs", &[], &["--ids"]);
    refuse(t.path(), ".", &[], &["directory"]);
    assert_eq!(omendb(t.path(), &["import", "db", "no.npy"]).code, Some(7));
}
