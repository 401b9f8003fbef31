//! Bad input gives the right kind of error, whose message says what was given, what was expected and the fix; and
//! nothing of it is applied: no record, no byte of any file, by the path through the log and by the bulk path.

use half::f16;
use omendb::storage::MemStorage;
use omendb::storage::sim::SimFs;
use omendb::{
    Batch, Collection, Database, Element, Error, IdColumn, Metric, Options, Patch, Result, Schema, SearchOptions,
    Vectors,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The options of one of the two paths: every batch through the log, or every batch in bulk.
fn options(bulk: bool) -> Options {
    let options = Options::new().background(false).seed(5).memory_budget(16 << 20);
    if bulk { options.bulk_bytes(1) } else { options }
}

struct Stage {
    fs: SimFs,
    db: Database,
}

const BITS_DIM: usize = 12;

fn stage(bulk: bool) -> Stage {
    let fs = SimFs::new();
    let db = options(bulk).open_on(Arc::new(fs.clone())).unwrap();
    let schemas = [
        ("main", Schema::new(4, Metric::L2)),
        ("cosine", Schema::new(4, Metric::Cosine)),
        ("i8", Schema::new(4, Metric::Dot).with_element(Element::I8)),
        ("f16", Schema::new(4, Metric::L2).with_element(Element::F16)),
        ("bits", Schema::new(BITS_DIM, Metric::Hamming).with_element(Element::Bits)),
    ];
    for (name, schema) in schemas {
        db.create_collection(name, schema).unwrap();
    }
    let main = db.collection("main").unwrap();
    main.upsert(rows(&["old", "older"])).unwrap();
    main.flush().unwrap();
    main.upsert(rows(&["new"])).unwrap();
    Stage { fs, db }
}

fn rows(ids: &[&str]) -> Batch<'static> {
    Batch::new(ids.iter().copied().collect(), vec![1f32; ids.len() * 4])
}

fn contents(db: &Database) -> Vec<String> {
    let mut all = Vec::new();
    for name in db.collections() {
        let records = db.collection(&name).and_then(|c| c.iterate()).expect("an open collection");
        all.extend(records.map(|r| format!("{name}: {r:?}")));
    }
    all.sort();
    all
}

type Call = Box<dyn Fn(&Database) -> Result<()>>;

struct Case {
    name: &'static str,
    variant: &'static str,
    /// What the message must say.
    says: &'static [&'static str],
    call: Call,
}

fn case(
    name: &'static str,
    variant: &'static str,
    says: &'static [&'static str],
    call: impl Fn(&Database) -> Result<()> + 'static,
) -> Case {
    Case { name, variant, says, call: Box::new(call) }
}

/// A case that writes into a collection.
fn write(
    name: &'static str,
    variant: &'static str,
    says: &'static [&'static str],
    collection: &'static str,
    call: impl Fn(&Collection) -> Result<usize> + 'static,
) -> Case {
    case(name, variant, says, move |db| call(&db.collection(collection)?).map(drop))
}

fn two(vectors: Vec<f32>) -> Batch<'static> {
    Batch::new(["good", "bad"].into_iter().collect(), vectors)
}

fn deep(levels: usize) -> Value {
    (1..levels).fold(json!({}), |inner, _| json!({"x": inner}))
}

fn vector_cases() -> Vec<Case> {
    let with = |x: f32| two(vec![1.0, 1.0, 1.0, 1.0, 1.0, 1.0, x, 1.0]);
    vec![
        write("seven elements for two", "InvalidInput", &["wrong dimension", "7 elements", "have 4"], "main", |c| {
            c.upsert(two(vec![1.0; 7]))
        }),
        write("three dimensions", "InvalidInput", &["wrong dimension", "3 elements a vector", "have 4"], "main", |c| {
            c.add(two(vec![1.0; 6]))
        }),
        write("no vector", "InvalidInput", &["wrong dimension"], "main", |c| c.upsert(two(vec![]))),
        write("NaN", "InvalidInput", &["vector 1", "bad", "NaN or infinity", "finite"], "main", move |c| {
            c.upsert(with(f32::NAN))
        }),
        write("infinity", "InvalidInput", &["vector 1", "NaN or infinity"], "main", move |c| {
            c.add(with(f32::INFINITY))
        }),
        write("minus infinity", "InvalidInput", &["vector 1", "finite"], "cosine", move |c| {
            c.upsert(with(f32::NEG_INFINITY))
        }),
        write("too large an element", "InvalidInput", &["vector 1", "1e15", "scale"], "main", move |c| {
            c.upsert(with(1e16))
        }),
        write("zero under cosine", "InvalidInput", &["vector 1", "bad", "zero", "l2 or dot"], "cosine", |c| {
            c.upsert(two(vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
        }),
        write("NaN of half precision", "InvalidInput", &["vector 0", "finite"], "f16", |c| {
            c.upsert(Batch::one("a", Vectors::F16(vec![f16::ONE, f16::NAN, f16::ONE, f16::ONE].into())))
        }),
        write("too large for f16", "InvalidInput", &["f32", "f16", "70000"], "f16", |c| {
            c.upsert(Batch::one("a", vec![70_000f32; 4]))
        }),
        write("a fraction for i8", "InvalidInput", &["f32", "i8", "0.5", "round"], "i8", |c| {
            c.upsert(Batch::one("a", vec![0.5f32; 4]))
        }),
        write("u8 beyond i8", "InvalidInput", &["u8", "i8", "200"], "i8", |c| {
            c.upsert(Batch::one("a", Vectors::U8(vec![200; 4].into())))
        }),
        write("floats for bits", "InvalidInput", &["f32", "bits", "pack"], "bits", |c| {
            c.upsert(Batch::one("a", vec![1f32; BITS_DIM]))
        }),
        write("bits for floats", "InvalidInput", &["bits", "f32"], "main", |c| {
            c.upsert(Batch::one("a", Vectors::Bits(vec![1; 4].into())))
        }),
        write("bits beyond the dimensions", "InvalidInput", &["vector 0", "beyond its dimensions"], "bits", |c| {
            c.upsert(Batch::one("a", Vectors::Bits(vec![1, 0x80].into())))
        }),
        write("an update with NaN", "InvalidInput", &["old", "NaN"], "main", |c| {
            c.update("old", Patch { vector: Some(vec![f32::NAN; 4].into()), ..Patch::default() }).map(|()| 1)
        }),
        write("an update of five dimensions", "InvalidInput", &["wrong dimension", "5", "have 4"], "main", |c| {
            c.update("old", Patch { vector: Some(vec![1f32; 5].into()), ..Patch::default() }).map(|()| 1)
        }),
    ]
}

fn record_cases() -> Vec<Case> {
    let long: &'static str = "i".repeat(513).leak();
    let huge: &'static str = "t".repeat(omendb::limits::MAX_TEXT_BYTES + 1).leak();
    let meta = |value: Value| rows(&["a", "b"]).with_metadata([Some(&json!({"fine": 1})), Some(&value)]);
    let update = |patch: fn() -> Patch<'static>| move |c: &Collection| c.update("old", patch()).map(|()| 1);
    vec![
        write("an empty id", "InvalidInput", &["record 1", "empty id", "1 to 512 bytes"], "main", |c| {
            c.upsert(rows(&["a", ""]))
        }),
        write("513 bytes of id", "LimitExceeded", &["record 1", "513 bytes", "512", "hash it"], "main", move |c| {
            c.upsert(rows(&["a", long]))
        }),
        write("an id twice", "InvalidInput", &["\"a\"", "records 0 and 2", "drop one"], "main", |c| {
            c.upsert(rows(&["a", "b", "a"]))
        }),
        write("an id twice in add", "InvalidInput", &["records 1 and 2"], "main", |c| c.add(rows(&["a", "b", "b"]))),
        write("a known id", "AlreadyExists", &["\"older\"", "upsert"], "main", |c| c.add(rows(&["a", "older"]))),
        write("a known recent id", "AlreadyExists", &["\"new\"", "upsert"], "main", |c| c.add(rows(&["new", "a"]))),
        write("update of an unknown id", "NotFound", &["\"a\"", "main", "upsert"], "main", |c| {
            c.update("a", Patch::default()).map(|()| 1)
        }),
        write("delete of an empty id", "InvalidInput", &["empty id"], "main", |c| c.delete(["old", ""])),
        write("delete of a long id", "LimitExceeded", &["513", "512"], "main", move |c| c.delete(["old", long])),
        write("get of an empty id", "InvalidInput", &["empty id"], "main", |c| c.get("").map(|_| 0)),
        write("get of a long id", "LimitExceeded", &["513"], "main", move |c| c.get_many(["old", long]).map(|_| 0)),
        write("metadata that is a list", "InvalidInput", &["record 1", "object", "a list"], "main", move |c| {
            c.upsert(meta(json!([1]))?)
        }),
        write("metadata that is a string", "InvalidInput", &["record 1", "object", "a string"], "main", move |c| {
            c.upsert(meta(json!("x"))?)
        }),
        write("metadata 65 deep", "LimitExceeded", &["record 1", "64 levels", "flatten"], "main", move |c| {
            c.upsert(meta(deep(65))?)
        }),
        write("metadata of more than 1 MiB", "LimitExceeded", &["record 1", "1048576"], "main", move |c| {
            c.upsert(meta(json!({"x": "y".repeat(1 << 20)}))?)
        }),
        write("too few rows of metadata", "InvalidInput", &["2 ids", "1 rows of metadata"], "main", |c| {
            c.upsert(rows(&["a", "b"]).with_metadata([None])?)
        }),
        write("too many rows of text", "InvalidInput", &["2 ids", "3 rows of text"], "main", |c| {
            c.upsert(rows(&["a", "b"]).with_text([None, Some("x"), None]))
        }),
        write("a huge text", "LimitExceeded", &["record 1", "16777217 bytes", "16777216", "split"], "main", move |c| {
            c.upsert(rows(&["a", "b"]).with_text([None, Some(huge)]))
        }),
        write("an update with a huge text", "LimitExceeded", &["16777217", "split"], "main", move |c| {
            c.update("old", Patch { text: Some(Some(huge.to_owned())), ..Patch::default() }).map(|()| 1)
        }),
        write(
            "an update with a number as metadata",
            "InvalidInput",
            &["object", "a number"],
            "main",
            update(|| Patch { metadata: Some(json!(3)), ..Patch::default() }),
        ),
        write(
            "an update with deep metadata",
            "LimitExceeded",
            &["64"],
            "main",
            update(|| Patch { metadata: Some(deep(65)), ..Patch::default() }),
        ),
    ]
}

fn query_cases() -> Vec<Case> {
    let search = |name, variant, says, vector: fn() -> Vec<f32>, options: fn() -> SearchOptions| {
        write(name, variant, says, "cosine", move |c| c.search(vector(), &options()).map(|hits| hits.len()))
    };
    let one = || vec![1f32; 4];
    vec![
        search("k = 0", "InvalidInput", &["k = 0", "at least one"], one, || SearchOptions::new(0)),
        search("k = 10^12", "LimitExceeded", &["1000000000000", "100000", "iterate"], one, || {
            SearchOptions::new(1_000_000_000_000)
        }),
        search("k and offset overflow", "LimitExceeded", &["offset", "100000"], one, || {
            SearchOptions::new(5).offset(usize::MAX)
        }),
        search("a NaN as least score", "InvalidInput", &["min_score", "NaN"], one, || {
            SearchOptions::new(5).min_score(f32::NAN)
        }),
        search(
            "a short query",
            "InvalidInput",
            &["wrong dimension", "3", "have 4"],
            || vec![1.0; 3],
            || SearchOptions::new(5),
        ),
        search("an empty query", "InvalidInput", &["wrong dimension"], Vec::new, || SearchOptions::new(5)),
        search("a NaN query", "InvalidInput", &["NaN"], || vec![f32::NAN; 4], || SearchOptions::new(5)),
        search("a zero query", "InvalidInput", &["zero", "cosine"], || vec![0.0; 4], || SearchOptions::new(5)),
        write("a ragged batch of queries", "InvalidInput", &["wrong dimension", "7"], "main", |c| {
            c.search_batch(vec![1f32; 7], &SearchOptions::new(5), 1).map(|_| 0)
        }),
        write("a batch of queries, one NaN", "InvalidInput", &["vector 1", "NaN"], "main", |c| {
            c.search_batch(vec![1., 1., 1., 1., 1., f32::NAN, 1., 1.], &SearchOptions::new(5), 1).map(|_| 0)
        }),
    ]
}

fn collection_cases() -> Vec<Case> {
    let create = |name, variant, says, collection: &'static str, schema: fn() -> Schema| {
        case(name, variant, says, move |db| db.create_collection(collection, schema()).map(drop))
    };
    let good = || Schema::new(4, Metric::L2);
    let long: &'static str = "n".repeat(256).leak();
    vec![
        create("no dimensions", "InvalidInput", &["dim = 0", "1 to 65536"], "x", || Schema::new(0, Metric::L2)),
        create("70,000 dimensions", "InvalidInput", &["dim = 70000", "1 to 65536"], "x", || {
            Schema::new(70_000, Metric::L2)
        }),
        create("hamming over floats", "InvalidInput", &["hamming", "f32", "bits"], "x", || {
            Schema::new(8, Metric::Hamming)
        }),
        create("bits under l2", "InvalidInput", &["l2", "bits", "hamming"], "x", || {
            Schema::new(8, Metric::L2).with_element(Element::Bits)
        }),
        create("an empty name", "InvalidInput", &["name", "1 to 255 bytes"], "", good),
        create("a long name", "InvalidInput", &["name", "1 to 255 bytes"], long, good),
        create("a name with a newline", "InvalidInput", &["a\\nb", "control"], "a\nb", good),
        create("a name with a zero byte", "InvalidInput", &["control"], "a\0b", good),
        create("a known name", "AlreadyExists", &["\"main\"", "another name"], "main", good),
        case("an unknown name", "NotFound", &["\"nowhere\"", "main"], |db| db.collection("nowhere").map(drop)),
        case("drop of an unknown name", "NotFound", &["\"nowhere\""], |db| db.drop_collection("nowhere")),
        case("another schema", "InvalidInput", &["dim 4", "dim 5"], |db| {
            db.get_or_create_collection("main", Schema::new(5, Metric::L2)).map(drop)
        }),
    ]
}

/// A batch that is refused for its size before its contents are looked at.
fn size_cases() -> Vec<Case> {
    vec![
        write("too many records", "LimitExceeded", &["4000001 records", "4000000", "split"], "main", |c| {
            let ids: IdColumn = (0..4_000_001u64).collect();
            c.upsert(Batch::new(ids, Vec::<f32>::new()))
        }),
        write("too many bytes", "LimitExceeded", &["bytes", "1073741824", "split"], "main", |c| {
            // Never touched, so never really there.
            c.upsert(Batch::one("a", vec![0f32; (1 << 28) + 1]))
        }),
        write("too many ids for the memory budget", "LimitExceeded", &["memory budget", "raise"], "i8", |c| {
            let ids: IdColumn = (0..700_000u64).collect();
            c.upsert(Batch::new(ids, Vectors::I8(vec![1; 2_800_000].into())))
        }),
    ]
}

/// Runs a case; what went wrong with it.
fn run(case: &Case, stage: &Stage) -> std::result::Result<(), String> {
    let (before, disk) = (contents(&stage.db), stage.fs.fingerprint());
    let error = match (case.call)(&stage.db) {
        Ok(()) => return Err("it was accepted".into()),
        Err(e) => e,
    };
    let message = error.to_string();
    if error.name() != case.variant {
        return Err(format!("it gave {}, not {}: {message}", error.name(), case.variant));
    }
    if let Some(missing) = case.says.iter().find(|part| !message.contains(*part)) {
        return Err(format!("the message does not say {missing:?}: {message}"));
    }
    if message.len() > 1_000 {
        return Err(format!("the message has {} bytes", message.len()));
    }
    if contents(&stage.db) != before || stage.fs.fingerprint() != disk {
        return Err("something was applied".into());
    }
    Ok(())
}

#[test]
fn bad_input_is_refused_by_name_and_nothing_is_applied() {
    let mut cases = vector_cases();
    cases.extend(record_cases());
    cases.extend(query_cases());
    cases.extend(collection_cases());
    cases.extend(size_cases());
    let mut violations = Vec::new();
    for bulk in [false, true] {
        let stage = stage(bulk);
        let before = contents(&stage.db);
        for case in &cases {
            if let Err(what) = run(case, &stage) {
                violations.push(format!("{} ({}): {what}", case.name, if bulk { "bulk" } else { "log" }));
            }
        }
        stage.db.close().unwrap();
        let again = options(bulk).open_on(Arc::new(stage.fs.fork())).unwrap();
        assert_eq!(contents(&again), before, "after a reopen");
        let main = again.collection("main").unwrap();
        assert_eq!(main.upsert(rows(&["a", "old"])).unwrap(), 2, "good input is still taken");
        assert!(again.check(true).unwrap().problems.is_empty());
    }
    println!("bad input: {} cases by two paths, {} violations", cases.len(), violations.len());
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn limits_are_reached_without_an_error() {
    for bulk in [false, true] {
        let stage = stage(bulk);
        let main = stage.db.collection("main").unwrap();
        let (id, text) = ("i".repeat(512), "t".repeat(omendb::limits::MAX_TEXT_BYTES));
        let metadata = deep(64);
        let batch = Batch::one(id.as_str(), vec![1e15f32; 4]);
        let batch = batch.with_metadata([Some(&metadata)]).unwrap();
        assert_eq!(main.upsert(batch).unwrap(), 1);
        assert_eq!(main.get(&id).unwrap().unwrap().metadata, Some(metadata));
        if bulk {
            main.upsert(Batch::one("text", vec![1f32; 4]).with_text([Some(text.as_str())])).unwrap();
            assert_eq!(main.get("text").unwrap().unwrap().text, Some(text));
        }
        assert!(main.search(vec![1f32; 4], &SearchOptions::new(omendb::limits::MAX_K)).unwrap().complete);
        let wide = stage.db.create_collection(&"n".repeat(255), Schema::new(65_536, Metric::L2)).unwrap();
        wide.upsert(Batch::one(1u64, vec![1f32; 65_536])).unwrap();
    }
}

#[test]
fn nothing_to_do_is_no_error_and_writes_nothing() {
    for bulk in [false, true] {
        let stage = stage(bulk);
        let main = stage.db.collection("main").unwrap();
        let disk = stage.fs.fingerprint();
        assert_eq!(main.upsert(rows(&[])).unwrap(), 0);
        assert_eq!(main.add(rows(&[])).unwrap(), 0);
        assert_eq!(main.delete(Vec::<&str>::new()).unwrap(), 0);
        assert_eq!(main.delete(["unknown", "5"]).unwrap(), 0);
        assert_eq!(main.get(5u64).unwrap(), None);
        assert!(main.get_many(Vec::<&str>::new()).unwrap().is_empty());
        assert!(main.search_batch(Vec::<f32>::new(), &SearchOptions::new(3), 0).unwrap().is_empty());
        assert_eq!(stage.fs.fingerprint(), disk);
    }
}

#[test]
fn bad_options_are_refused_before_anything_is_made() {
    for (bad, says) in [
        (Options::new().memory_budget(1 << 20), "1048576 bytes was given; the least is 16777216"),
        (Options::new().log_cap(10), "10 bytes was given; the least is 1024"),
    ] {
        let fs = SimFs::new();
        let Err(Error::InvalidInput(message)) = bad.open_on(Arc::new(fs.clone())) else { panic!("it opened") };
        assert!(message.contains(says), "{message}");
        assert!(fs.files().is_empty());
    }
    let fs = SimFs::new();
    for missing in [Options::new().read_only(true), Options::new().create(false), Options::new().degraded(true)] {
        let Err(Error::NotFound(message)) = missing.open_on(Arc::new(fs.clone())) else { panic!("it opened") };
        assert!(message.contains("no database") && message.contains("path"), "{message}");
    }
    assert!(fs.files().keys().all(|name| name == "LOCK"), "{:?}", fs.files().keys());
}

#[test]
fn a_closed_handle_refuses_everything() {
    let stage = stage(false);
    let main = stage.db.collection("main").unwrap();
    let mut records = main.iterate().unwrap();
    stage.db.close().unwrap();
    stage.db.close().expect("closing twice is no error");
    let disk = stage.fs.fingerprint();
    let query = vec![1f32; 4];
    let outcomes = [
        main.upsert(rows(&["a"])).map(drop),
        main.add(rows(&["a"])).map(drop),
        main.update("old", Patch::default()),
        main.delete(["old"]).map(drop),
        main.get("old").map(drop),
        main.contains("old").map(drop),
        main.count().map(drop),
        main.iterate().map(drop),
        records.next().map_or(Ok(()), |r| r.map(drop)),
        main.search(&query, &SearchOptions::new(1)).map(drop),
        main.search_batch(&query, &SearchOptions::new(1), 1).map(drop),
        main.flush(),
        main.compact(),
        main.wait_idle(),
        stage.db.flush(),
        stage.db.compact(),
        stage.db.check(false).map(drop),
        stage.db.collection("main").map(drop),
        stage.db.create_collection("x", Schema::new(4, Metric::L2)).map(drop),
        stage.db.drop_collection("main"),
    ];
    for (i, outcome) in outcomes.into_iter().enumerate() {
        let Err(Error::Unusable(message)) = outcome else { panic!("call {i} gave {outcome:?}") };
        assert!(message.contains("closed") && message.contains("open it again"), "call {i}: {message}");
    }
    assert_eq!(stage.fs.fingerprint(), disk);
}

#[test]
fn a_deleted_collection_refuses_everything() {
    let stage = stage(false);
    let main = stage.db.collection("main").unwrap();
    stage.db.drop_collection("main").unwrap();
    let outcomes = [
        main.upsert(rows(&["a"])).map(drop),
        main.delete(["old"]).map(drop),
        main.update("old", Patch::default()),
        main.get("old").map(drop),
        main.count().map(drop),
        main.iterate().map(drop),
        main.search(vec![1f32; 4], &SearchOptions::new(1)).map(drop),
        main.compact(),
        stage.db.drop_collection("main"),
    ];
    for (i, outcome) in outcomes.into_iter().enumerate() {
        assert!(matches!(&outcome, Err(Error::NotFound(m)) if m.contains("main")), "call {i} gave {outcome:?}");
    }
    let again = stage.db.create_collection("main", Schema::new(2, Metric::Dot)).unwrap();
    assert_eq!(again.count().unwrap(), 0, "a new collection of an old name is empty");
}

#[test]
fn the_number_of_collections_is_limited() {
    let db = Options::new().background(false).open_on(Arc::new(MemStorage::new())).unwrap();
    for i in 0..omendb::limits::MAX_COLLECTIONS {
        db.create_collection(&i.to_string(), Schema::new(4, Metric::L2)).unwrap();
    }
    let Err(Error::LimitExceeded(message)) = db.create_collection("one more", Schema::new(4, Metric::L2)) else {
        panic!("it was made")
    };
    assert!(message.contains("1024"), "{message}");
}
