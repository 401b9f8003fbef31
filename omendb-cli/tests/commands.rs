//! Each command from end to end: what it does, what it prints, how it ends.

mod common;

use common::*;
use omendb::{Batch, Database, Element, Id, Metric, Schema, Vectors};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

fn dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// A database `db` with a collection `docs` of three records.
fn small(dir: &Path) {
    put(
        dir,
        "docs.jsonl",
        "{\"id\": \"a\", \"vector\": [1, 0], \"text\": \"east\", \"year\": 1}\n\
         {\"id\": \"b\", \"vector\": [1, 1], \"text\": \"north-east\"}\n\
         {\"id\": 3, \"vector\": [-1, 0]}\n",
    );
    // A file's ids are of both kinds here, as a collection's may be.
    omendb(dir, &["import", "db", "docs.jsonl"]).expect(0);
}

#[test]
fn every_command_has_help_with_examples_and_bad_usage_ends_with_2() {
    let t = dir();
    let help = omendb(t.path(), &["--help"]).expect(0).out;
    assert!(help.contains("Exit codes:"));
    let commands = [
        "demo",
        "create",
        "import",
        "export",
        "search",
        "recall",
        "get",
        "delete",
        "stats",
        "check",
        "compact",
        "backup",
        "verify-backup",
        "restore",
        "salvage",
    ];
    for command in commands {
        assert!(help.contains(command), "{command}");
        let own = omendb(t.path(), &[command, "--help"]).expect(0).out;
        assert!(own.contains("Examples:") && own.contains(&format!("omendb {command}")), "{own}");
    }
    for bad in [
        &["frobnicate"][..],
        &["search", "db"],
        &["create", "db"],
        &["import"],
        &["search", "db", "--vector", "[1]", "--like", "x"],
    ] {
        omendb(t.path(), bad).expect(2);
    }
}

#[test]
fn create_makes_collections_and_refuses_what_cannot_be() {
    let t = dir();
    let made = omendb(
        t.path(),
        &["create", "db", "docs", "--dim", "8", "--metric", "euclidean", "--element", "f16", "--json"],
    );
    assert_eq!(
        made.expect(0).json(),
        json!({
            "database": "db", "collection": "docs", "dim": 8, "metric": "l2", "element": "f16", "analyzer": "english",
            "quantization": "auto", "profile": "default", "fields": 0,
        })
    );
    let german = ["create", "db", "german", "--dim", "8", "--analyzer", "german-stop", "--json"];
    assert_eq!(omendb(t.path(), &german).expect(0).json()["analyzer"], "german-stop");
    omendb(t.path(), &["create", "db", "x", "--dim", "8", "--analyzer", "klingon"]).expect(2);
    let again = omendb(t.path(), &["create", "db", "docs", "--dim", "8", "--json"]).expect(3);
    let error: Value = serde_json::from_str(&again.err).expect("an error as JSON");
    assert_eq!((&error["error"]["kind"], &error["error"]["exit_code"]), (&json!("AlreadyExists"), &json!(3)));
    assert!(omendb(t.path(), &["create", "db", "x", "--dim", "0"]).expect(3).err.contains("dim = 0"));
    assert!(
        omendb(t.path(), &["create", "db", "x", "--dim", "8", "--metric", "hamming"]).expect(3).err.contains("bits")
    );
    omendb(t.path(), &["create", "db", "x", "--dim", "8", "--metric", "manhattan"]).expect(2);
    let stats = omendb(t.path(), &["stats", "db"]).expect(0).out;
    assert!(stats.contains("docs") && stats.contains("f16"), "{stats}");
}

#[test]
fn search_explains_groups_and_keeps_to_a_radius() {
    let t = dir();
    let lines: String = (0..40)
        .map(|i| format!("{{\"id\": {i}, \"vector\": [{i}, 1], \"mark\": \"m{}\", \"text\": \"t{i}\"}}\n", i % 4))
        .collect();
    put(t.path(), "docs.jsonl", &lines);
    omendb(t.path(), &["import", "db", "docs.jsonl", "--metric", "l2"]).expect(0);
    let search = |args: &[&str]| omendb(t.path(), &[&["search", "db", "--vector", "[0, 1]"], args].concat());

    let told = search(&["-k", "3", "--explain", "--json"]).expect(0).json();
    assert_eq!(told["hits"][0]["id"], 0);
    assert_eq!((&told["explain"]["rows_visited"], &told["explain"]["distances"]), (&json!(40), &json!(40)));
    assert_eq!(told["explain"]["parts"][0]["plan"], "scan");
    let table = search(&["-k", "3", "--explain"]).expect(0).out;
    assert!(table.contains("distances") && table.contains("scan"), "{table}");

    let near = search(&["--max-distance", "4.5", "-k", "20", "--json"]).expect(0).json();
    assert_eq!((near["hits"].as_array().map(Vec::len), &near["complete"]), (Some(5), &json!(true)));
    let groups = search(&["--group-by", "mark", "--per-group", "2", "-k", "3", "--json"]).expect(0).json();
    assert_eq!((&groups["groups"][1]["value"], &groups["groups"][1]["hits"][1]["id"]), (&json!("m1"), &json!(5)));
    assert_eq!(groups["groups"].as_array().map(Vec::len), Some(3));
    assert!(search(&["--group-by", "mark"]).expect(0).out.contains("4 groups in"));
    assert_eq!(search(&["--mmr", "0.2", "-k", "2", "--json"]).expect(0).json()["hits"][0]["id"], 0);
    search(&["--mmr", "1.2"]).expect(3);
    search(&["--group-by", "mark", "--mmr", "0.5"]).expect(2);
    let like = omendb(t.path(), &["search", "db", "--like", "7", "-k", "2", "--json"]).expect(0).json();
    assert_eq!((&like["hits"][0]["id"], &like["hits"][1]["id"]), (&json!(6), &json!(8)));

    let recall = omendb(t.path(), &["recall", "db", "--sample", "9", "--json"]).expect(0).json();
    assert_eq!((&recall["recall"]["recall"], &recall["recall"]["queries"]), (&json!(1.0), &json!(9)));
    assert!(omendb(t.path(), &["recall", "db"]).expect(0).out.contains("lowest"));
    omendb(t.path(), &["recall", "db", "--target-recall", "0.2"]).expect(3);
}

#[test]
fn search_takes_vectors_files_and_ids() {
    let t = dir();
    small(t.path());
    let ids = |args: &[&str]| -> Value {
        let found = omendb(t.path(), &[&["search", "db", "--json"], args].concat()).expect(0).json();
        found["hits"].as_array().expect("hits").iter().map(|hit| hit["id"].clone()).collect()
    };
    assert_eq!(ids(&["--vector", "[1, 0.1]"]), json!(["a", "b", 3]));
    assert_eq!(ids(&["--vector", "-1 0", "-k", "1"]), json!([3]));
    assert_eq!(ids(&["--vector", "[1, 0.1]", "--offset", "1"]), json!(["b", 3]));
    assert_eq!(ids(&["--vector", "[1, 0.1]", "--min-score", "0.5"]), json!(["a", "b"]));
    assert_eq!(ids(&["--vector", "[1, 0.1]", "--min-score", "-1"]), json!(["a", "b", 3]));
    assert_eq!(ids(&["--like", "a"]), json!(["b", 3]));
    assert_eq!(ids(&["--like", "a", "-k", "1"]), json!(["b"]));
    assert_eq!(ids(&["--like", "a", "-k", "1", "--offset", "1"]), json!([3]));
    assert_eq!(ids(&["--like", "3", "-k", "1"]), json!(["b"]));
    assert_eq!(ids(&["--vector", "[-1, 0]", "--filter", "year = 1"]), json!(["a"]));
    assert_eq!(ids(&["--vector", "[-1, 0]", "--filter", "{\"year\": {\"$exists\": false}}"]), json!([3, "b"]));
    assert!(omendb(t.path(), &["search", "db", "--like", "a", "--filter", "year =="]).expect(3).err.contains("^"));
    omendb(t.path(), &["search", "db", "--like", "a", "--filter", "{\"year\""]).expect(3);
    put(t.path(), "q.json", "[1, 0.1]");
    assert_eq!(ids(&["--vector-file", "q.json"]), json!(["a", "b", 3]));
    put(t.path(), "q.npy", npy_f32(&[1.0, 0.0, -1.0, 0.1], 2));
    assert_eq!(ids(&["--vector-file", "q.npy", "--row", "1", "-k", "1"]), json!([3]));

    let found = omendb(t.path(), &["search", "db", "--vector", "[2, 0]", "--with-vector", "--json"]).expect(0).json();
    let first = json!({"id": "a", "score": 1.0, "distance": 0.0, "vector": [1.0, 0.0], "metadata": {"year": 1}, "text": "east"});
    assert_eq!((&found["hits"][0], &found["complete"]), (&first, &json!(true)));
    let table = omendb(t.path(), &["search", "db", "--vector", "[2, 0]"]).expect(0).out;
    assert!(table.contains("north-east") && table.contains("0.7071") && table.contains("3 records in"), "{table}");

    assert!(omendb(t.path(), &["search", "db", "--vector", "[1, 2, 3]"]).expect(3).err.contains("dimension"));
    assert!(omendb(t.path(), &["search", "db", "--vector", "[1, x]"]).expect(3).err.contains("--vector: element 1"));
    assert!(
        omendb(t.path(), &["search", "db", "--vector-file", "q.npy", "--row", "2"]).expect(3).err.contains("no row 2")
    );
    omendb(t.path(), &["search", "db", "--like", "zzz"]).expect(1);
}

#[test]
fn search_takes_texts_alone_and_with_vectors() {
    let t = dir();
    small(t.path());
    let search = |args: &[&str]| omendb(t.path(), &[&["search", "db", "--json"], args].concat()).expect(0).json();
    let ids = |found: &Value| -> Value {
        found["hits"].as_array().expect("hits").iter().map(|hit| hit["id"].clone()).collect()
    };
    let found = search(&["--text", "north* -south"]);
    assert_eq!((ids(&found), &found["complete"]), (json!(["b"]), &json!(true)));
    assert_eq!(found["hits"][0]["snippet"], json!({"text": "north-east", "start": 0, "highlights": [[0, 5]]}));
    assert_eq!(found["hits"][0]["text_score"], found["hits"][0]["score"]);
    assert_eq!(ids(&search(&["--text", "east", "--filter", "year = 1"])), json!(["a"]));
    let both = search(&["--vector", "[-1, 0]", "--text", "east"]);
    assert_eq!(both["hits"].as_array().expect("hits").len(), 3);
    assert!(both["hits"][0]["vector_score"].is_number(), "{both}");
    let near = search(&["--vector", "[-1, 0]", "--text", "east", "--fuse", "weighted", "--alpha", "1", "-k", "1"]);
    assert_eq!(ids(&near), json!([3]));
    assert_eq!(ids(&search(&["--like", "a", "--text", "east", "-k", "1"])), json!(["b"]));
    let table = omendb(t.path(), &["search", "db", "--text", "east"]).expect(0).out;
    assert!(table.contains("[east]"), "{table}");
    assert!(omendb(t.path(), &["search", "db", "--text", "(odd\"*~ AND"]).expect(0).out.contains("nothing found"));
    for bad in [
        &["--text", "x", "--alpha", "0.5"][..],
        &["--text", "x", "--vector", "[1, 0]", "--fuse", "weighted", "--alpha", "7"],
    ] {
        omendb(t.path(), &[&["search", "db"], bad].concat()).expect(3);
    }
    omendb(t.path(), &["search", "db", "--text", "x", "--fuse", "sum"]).expect(2);
    omendb(t.path(), &["search", "db", "--vector", "[1, 0]", "--alpha", "0.5"]).expect(2);
    omendb(t.path(), &["search", "db", "--vector", "[1, 0]", "-k", "0"]).expect(3);
    omendb(t.path(), &["search", "db", "--vector", "[1, 0]", "-k", "1000000"]).expect(6);
    omendb(t.path(), &["search", "nowhere", "--like", "a"]).expect(1);
    omendb(t.path(), &["search", "db", "-c", "nothing", "--like", "a"]).expect(1);
}

#[test]
fn get_and_delete_tell_what_is_missing() {
    let t = dir();
    small(t.path());
    let got = omendb(t.path(), &["get", "db", "a", "x", "3", "--json"]).expect(1);
    assert_eq!(
        got.json(),
        json!({"records": [{"id": "a", "vector": [1.0, 0.0], "metadata": {"year": 1}, "text": "east"}, {"id": 3, "vector": [-1.0, 0.0]}],
               "missing": ["x"]})
    );
    assert!(got.err.contains("no record x in docs"));
    omendb(t.path(), &["get", "db", "3", "--id-type", "string"]).expect(1);
    let text = omendb(t.path(), &["get", "db", "a"]).expect(0).out;
    assert!(text.contains("east") && text.contains("[1.0, 0.0]"), "{text}");

    assert_eq!(
        omendb(t.path(), &["delete", "db", "a", "3", "--json"]).expect(0).json(),
        json!({"deleted": 2, "missing": []})
    );
    let again = omendb(t.path(), &["delete", "db", "a", "b"]).expect(1);
    assert!(again.out.contains("deleted 1") && again.err.contains("no record a"));
    let stats = omendb(t.path(), &["stats", "db", "--json"]).expect(0).json();
    assert_eq!(stats["stats"]["records"], 0);
    omendb(t.path(), &["search", "db", "--vector", "[1, 0]"]).expect(0);
}

#[test]
fn filters_choose_what_is_exported_and_deleted() {
    let t = dir();
    small(t.path());
    let lines = omendb(t.path(), &["export", "db", "-", "--filter", "year >= 1"]).expect(0).out;
    assert!(lines.lines().count() == 1 && lines.contains("east"), "{lines}");
    assert_eq!(omendb(t.path(), &["delete", "db", "--filter", "year = 1", "--json"]).expect(0).json()["deleted"], 1);
    omendb(t.path(), &["get", "db", "a"]).expect(1);
    omendb(t.path(), &["get", "db", "b"]).expect(0);
    omendb(t.path(), &["delete", "db", "b", "--filter", "year = 1"]).expect(2);
    omendb(t.path(), &["delete", "db"]).expect(2);
}

#[test]
fn the_collection_must_be_named_where_there_are_several() {
    let t = dir();
    small(t.path());
    omendb(t.path(), &["create", "db", "other", "--dim", "2"]).expect(0);
    let ran = omendb(t.path(), &["get", "db", "a"]).expect(2);
    assert!(ran.err.contains("docs, other") && ran.err.contains("--collection"));
    omendb(t.path(), &["get", "db", "a", "-c", "docs"]).expect(0);
    let ran = omendb(t.path(), &["import", "db", "docs.jsonl", "-c", "other", "--metric", "l2"]).expect(3);
    assert!(ran.err.contains("metric l2") && ran.err.contains("has cosine"), "{ran:?}");
    put(t.path(), "wide.csv", "id,vector\na,1 2 3\n");
    assert!(omendb(t.path(), &["import", "db", "wide.csv", "-c", "docs"]).expect(3).err.contains("dimensions 3"));
}

#[test]
fn a_database_in_use_is_locked() {
    let t = dir();
    small(t.path());
    let held = Database::open(t.path().join("db")).expect("open");
    for command in [&["delete", "db", "a"][..], &["compact", "db"], &["import", "db", "docs.jsonl"]] {
        let ran = omendb(t.path(), command).expect(4);
        assert!(ran.err.contains("locked") && ran.err.contains(&std::process::id().to_string()), "{ran:?}");
    }
    drop(held);
    omendb(t.path(), &["delete", "db", "a"]).expect(0);
}

#[test]
fn copies_are_made_checked_and_brought_back() {
    let t = dir();
    small(t.path());
    put(t.path(), "p.npy", npy_f32(&matrix(1, 20_000, 64), 64));
    omendb(t.path(), &["import", "db", "p.npy", "-c", "large"]).expect(0);
    let made = omendb(t.path(), &["backup", "db", "copy", "--json"]).expect(0).json();
    assert_eq!(made["records"], 20_003);
    assert!(omendb(t.path(), &["verify-backup", "copy"]).expect(0).out.contains("no problem"));
    omendb(t.path(), &["backup", "db", "copy"]).expect(3);
    omendb(t.path(), &["delete", "db", "a", "-c", "docs"]).expect(0);
    omendb(t.path(), &["restore", "copy", "db"]).expect(3);
    omendb(t.path(), &["restore", "copy", "again"]).expect(0);
    omendb(t.path(), &["get", "again", "a", "-c", "docs"]).expect(0);
    omendb(t.path(), &["restore", "nowhere", "x"]).expect(1);
    flip_a_byte(&t.path().join("copy"));
    let ran = omendb(t.path(), &["verify-backup", "copy"]);
    assert!(matches!(ran.code, Some(1 | 5)), "{ran:?}");
}

/// Flips one bit in the middle of the largest file, which holds records.
fn flip_a_byte(db: &Path) {
    let mut files: Vec<_> = ["", "segments"]
        .iter()
        .filter_map(|sub| std::fs::read_dir(db.join(sub)).ok())
        .flat_map(|entries| entries.map(|e| e.expect("an entry").path()))
        .filter(|path| path.is_file() && path.extension().is_some_and(|e| e == "data"))
        .collect();
    files.sort_by_key(|path| std::fs::metadata(path).map_or(0, |m| m.len()));
    let path = files.pop().expect("a data file");
    let mut bytes = std::fs::read(&path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("write");
}

#[test]
fn damage_is_found_and_the_rest_is_saved() {
    let t = dir();
    // Several segments: only one of them is damaged.
    for part in 0..3 {
        put(t.path(), "p.npy", npy_f32(&matrix(part, 20_000, 64), 64));
        omendb(t.path(), &["import", "db", "p.npy", "-c", "c", "--first-id", &(part * 20_000).to_string()]).expect(0);
    }
    assert!(omendb(t.path(), &["check", "db", "--deep"]).expect(0).out.contains("no problem"));
    flip_a_byte(&t.path().join("db"));
    let ran = omendb(t.path(), &["check", "db", "--deep", "--json"]).expect(1);
    assert!(!ran.json()["problems"].as_array().expect("problems").is_empty() && ran.err.contains("salvage"), "{ran:?}");
    let ran = omendb(t.path(), &["salvage", "db", "saved", "--json"]);
    assert!(matches!(ran.code, Some(0 | 1)), "{ran:?}");
    let report = ran.json();
    let (saved, lost) = (report["records_saved"].as_u64(), report["records_lost"].as_u64());
    assert_eq!(saved.unwrap_or(0) + lost.unwrap_or(0), 60_000);
    assert!(saved >= Some(40_000), "{report}");
    assert!(omendb(t.path(), &["check", "saved", "--deep"]).expect(0).out.contains("no problem"));
}

#[test]
fn compact_frees_what_was_deleted() {
    let t = dir();
    put(t.path(), "p.npy", npy_f32(&matrix(1, 40_000, 64), 64));
    omendb(t.path(), &["import", "db", "p.npy", "-c", "c"]).expect(0);
    let ids: Vec<String> = (0..4_000).map(|i| i.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    omendb(t.path(), &[&["delete", "db"][..], &ids].concat()).expect(0);
    let report = omendb(t.path(), &["compact", "db", "--json"]).expect(0).json();
    assert_eq!(report["deleted"]["after"], 0);
    assert!(report["bytes_data"]["after"].as_u64() < report["bytes_data"]["before"].as_u64(), "{report}");
    assert_eq!(omendb(t.path(), &["stats", "db", "--json"]).expect(0).json()["stats"]["records"], 36_000);
    assert!(omendb(t.path(), &["stats", "db", "--prometheus"]).expect(0).out.contains("omendb_"));
}

/// All records of a collection, sorted by id.
fn all(path: &Path, collection: &str) -> Vec<omendb::Record> {
    let db = Database::open(path).expect("open");
    let mut records: Vec<_> = db
        .collection(collection)
        .expect("it is there")
        .iterate()
        .expect("iterate")
        .map(|r| r.expect("a record"))
        .collect();
    records.sort_by(|a, b| a.id.cmp(&b.id));
    records
}

#[test]
fn what_is_exported_and_imported_again_is_the_same() {
    let t = dir();
    let elements = [
        (Element::F32, Metric::Cosine),
        (Element::F16, Metric::L2),
        (Element::I8, Metric::Dot),
        (Element::U8, Metric::L2),
        (Element::Bits, Metric::Hamming),
    ];
    for (element, metric) in elements {
        for ids in ["integers", "strings", "mixed"] {
            let name = format!("{}-{ids}", element.name());
            let schema = Schema::new(13, metric).with_element(element);
            let db = Database::open(t.path().join("db")).expect("open");
            let collection = db.create_collection(&name, schema).expect("create");
            let mut random = Random(9);
            for i in 0..60u64 {
                let vector: Vectors<'static> = match element {
                    Element::F32 => random.vector(13).into(),
                    Element::F16 => {
                        Vectors::F16(random.vector(13).into_iter().map(half::f16::from_f32).collect::<Vec<_>>().into())
                    }
                    Element::I8 => Vectors::I8((0..13).map(|_| random.next() as i8 | 1).collect::<Vec<_>>().into()),
                    Element::U8 => Vectors::U8((0..13).map(|_| random.next() as u8).collect::<Vec<_>>().into()),
                    Element::Bits => Vectors::Bits(vec![random.next() as u8, random.next() as u8 & 31].into()),
                };
                let id = if ids == "integers" || ids == "mixed" && i % 2 == 0 {
                    Id::U64(i)
                } else {
                    Id::from(format!("é {i}"))
                };
                let metadata = match i % 4 {
                    0 => None,
                    1 => Some(json!({})),
                    2 => Some(json!({"z": 1, "a": [null, true, 1.5, 1e300, -7, "ü\n\""], "metadata": {"id": 5}})),
                    _ => Some(json!({"id": "x", "text": u64::MAX, "vector": [1]})),
                };
                let text = match i % 3 {
                    0 => None,
                    1 => Some(""),
                    _ => Some("some, \"quoted\"\ntext \u{1f642}"),
                };
                let batch =
                    Batch::one(id, vector).with_metadata([metadata.as_ref()]).expect("metadata").with_text([text]);
                collection.upsert(batch).expect("upsert");
            }
            drop(collection);
            db.close().expect("close");
            let before = all(&t.path().join("db"), &name);
            for file in [format!("{name}.parquet"), format!("{name}.jsonl")] {
                let out = omendb(t.path(), &["export", "db", &file, "-c", &name]).expect(0).out;
                assert!(out.contains("exported 60 records"), "{out}");
                // The command that it prints brings the records back.
                let hint = out.split("with: omendb ").nth(1).expect("a hint").trim();
                let args: Vec<&str> = hint.split(' ').collect();
                omendb(t.path(), &args).expect(0);
                assert!(before == all(&t.path().join("NEW.omen"), &name), "{file}");
                std::fs::remove_dir_all(t.path().join("NEW.omen")).expect("the copy is removed");
                omendb(t.path(), &["export", "db", &file, "-c", &name]).expect(3);
                omendb(t.path(), &["export", "db", &file, "-c", &name, "--force"]).expect(0);
            }
        }
    }
    omendb(t.path(), &["export", "db", "x.xml", "-c", "f32-mixed"]).expect(3);
    let lines = omendb(t.path(), &["export", "db", "-", "-c", "f32-mixed"]).expect(0).out;
    assert_eq!(lines.lines().count(), 60);
}

#[test]
fn further_fields_are_declared_imported_searched_and_exported() {
    let t = dir();
    put(
        t.path(),
        "docs.jsonl",
        "{\"id\": \"a\", \"vector\": [1, 0], \"fields\": {\"title\": [1, 0, 0], \"terms\": {\"3\": 0.5, \"4294967295\": 2}}}\n\
         {\"id\": \"b\", \"vector\": [0, 1], \"text\": \"some words\", \"fields\": {\"terms\": {\"3\": 1.25}, \"title\": null}}\n\
         {\"id\": \"c\", \"vector\": [1, 1]}\n",
    );
    let declare = ["--vectors", "title:3:l2", "--sparse", "terms"];
    omendb(t.path(), &[&["import", "db", "docs.jsonl"][..], &declare].concat()).expect(0);
    let search = |args: &[&str]| {
        let found = omendb(t.path(), &[&["search", "db", "--json"], args].concat()).expect(0).json();
        let hits = found["hits"].as_array().expect("hits").clone();
        (hits.iter().map(|hit| hit["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>(), hits, found)
    };
    let (ids, hits, _) = search(&["--sparse", "{\"3\": 2}", "--with-vector"]);
    assert_eq!((ids, hits[0]["score"].clone()), (vec!["b".to_owned(), "a".to_owned()], json!(2.5)));
    assert_eq!(hits[1]["fields"], json!({"title": [1.0, 0.0, 0.0], "terms": {"3": 0.5, "4294967295": 2.0}}));
    assert_eq!(search(&["--vector", "[1, 0, 0]", "--using", "title"]).0, ["a"]);
    let (ids, hits, _) = search(&["--vector", "[0, 1]", "--text", "words", "--sparse", "{\"3\": 1}"]);
    assert_eq!((ids[0].as_str(), hits[0]["field_scores"].clone()), ("b", json!({"terms": 1.25})));
    assert_eq!(search(&["--sparse", "{\"3\": 2}", "--explain"]).2["explain"]["parts"][0]["plan"], "scan");
    for (args, code, words) in [
        (&["--sparse", "{\"-1\": 1}"][..], 3, "no id"),
        (&["--sparse", "{\"3\": 1}", "--sparse-field", "title"], 3, "taken for a sparse vector"),
        (&["--vector", "[1]", "--using", "nope"], 3, "no field"),
        (&["--like", "c", "--using", "title"], 1, "no vector"),
    ] {
        let ran = omendb(t.path(), &[&["search", "db"], args].concat()).expect(code);
        assert!(ran.err.contains(words), "{ran:?}");
    }
    let exported = omendb(t.path(), &["export", "db", "out.jsonl"]).expect(0);
    assert!(exported.out.contains("--vectors title:3:l2:f32 --sparse terms"), "{exported:?}");
    omendb(t.path(), &["export", "db", "out.parquet"]).expect(3);
    let again = ["import", "again", "out.jsonl", "-c", "docs", "--vectors", "title:3:l2:f32", "--sparse", "terms"];
    omendb(t.path(), &again).expect(0);
    assert_eq!(all(&t.path().join("again"), "docs"), all(&t.path().join("db"), "docs"));
    omendb(t.path(), &["create", "db", "more", "--dim", "2", "--sparse", "a", "--vectors", "b:12:hamming:bits"])
        .expect(0);
    omendb(t.path(), &["create", "db", "bad", "--dim", "2", "--vectors", "b"]).expect(2);
    put(t.path(), "bad.jsonl", "{\"vector\": [1, 0], \"fields\": {\"terms\": {\"3\": 1, \"3\": 2}}}\n");
    let bad = omendb(t.path(), &["import", "db", "bad.jsonl", "-c", "docs"]).expect(3);
    assert!(bad.err.contains("line 1") && bad.err.contains("twice"), "{bad:?}");
}

#[test]
fn the_demo_proves_itself_and_touches_nothing_of_others() {
    let t = dir();
    let figures = omendb(t.path(), &["demo", "--json"]).expect(0).json();
    for (name, value) in [("lost", 0), ("wrong", 0), ("imported", 16_000)] {
        assert_eq!(figures[name], value, "{figures}");
    }
    assert!(figures["acknowledged_before_kill"].as_u64() >= Some(250) && figures["compared"].as_u64() > Some(16_250));
    let again = omendb(t.path(), &["demo"]).expect(0).out;
    for word in ["queen", "0 lost, 0 wrong", "near \"paris\""] {
        assert!(again.contains(word), "{word:?} is not in {again}");
    }
    // The commands that it suggests work.
    let suggested: Vec<&str> =
        again.split("Try:").nth(1).expect("suggestions").lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    assert!(suggested.len() >= 5);
    for line in suggested {
        let args: Vec<&str> = line.split(' ').skip(1).collect();
        omendb(t.path(), &args).expect(0);
    }
    std::fs::create_dir(t.path().join("mine")).expect("a directory");
    put(&t.path().join("mine"), "letter.txt", "dear");
    omendb(t.path(), &["demo", "--path", "mine"]).expect(3);
    assert_eq!(std::fs::read_dir(t.path().join("mine")).expect("still there").count(), 1);
    put(t.path(), "w.csv", "id,vector\na,1 2\n");
    omendb(t.path(), &["import", "own", "w.csv", "-c", "words"]).expect(0);
    omendb(t.path(), &["demo", "--path", "own"]).expect(3);
    omendb(t.path(), &["get", "own", "a"]).expect(0);
}
