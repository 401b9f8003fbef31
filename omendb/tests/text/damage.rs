//! A text index is derived: whatever happens to its file, answers stay right.

use super::*;

const QUERIES: [&str; 5] = ["the of", "\"of the\"", "cr* house~", "+a -the person", "large animal water"];

fn answers(docs: &Collection) -> Vec<(Vec<String>, Vec<u32>)> {
    let answer = |query: &&str| {
        let hits = docs.search_text(query, &SearchOptions::new(10)).unwrap();
        (ids(&hits), hits.iter().map(|hit| hit.score.to_bits()).collect())
    };
    QUERIES.iter().map(answer).collect()
}

#[test]
fn damaged_files_are_noticed_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = quiet().open(&path).unwrap();
    let docs = db.create_collection("docs", schema()).unwrap();
    let mut records = glosses();
    records.truncate(3_000);
    write(&docs, &records);
    let expected = answers(&docs);
    docs.wait_indexed(false).unwrap();
    db.close().unwrap();
    let file = std::fs::read_dir(path.join("segments")).unwrap().map(|e| e.unwrap().path());
    let file = file.into_iter().find(|p| p.extension().is_some_and(|e| e == "text")).unwrap();
    let whole = std::fs::read(&file).unwrap();
    let mut next = numbers(3);
    let mut noticed = 0;
    for round in 0..120 {
        let mut bytes = whole.clone();
        match round {
            0 => bytes.truncate(100),
            1 => bytes.truncate(bytes.len() - 1),
            2 => bytes.clear(),
            3 => bytes.push(0),
            4 => bytes = std::fs::read(file.with_extension("data")).unwrap(),
            _ => {
                // The header, the table of files and everything after them.
                let at = if round < 40 { next(400) } else { next(bytes.len()) };
                bytes[at] ^= 1 << next(8);
            }
        }
        std::fs::write(&file, &bytes).unwrap();
        let options = if round % 2 == 0 { quiet() } else { quiet().read_only(true) };
        let db = options.open(&path).unwrap();
        let docs = db.collection("docs").unwrap();
        assert_eq!(answers(&docs), expected, "round {round}");
        let seen = !db.stats().damaged.is_empty();
        noticed += usize::from(seen);
        let sound = db.check(true).unwrap().problems.is_empty();
        assert!(!sound, "round {round}: a check must notice it");
        if round % 2 == 0 {
            docs.wait_indexed(false).unwrap();
            if seen {
                assert_eq!(std::fs::read(&file).unwrap(), whole, "round {round}: it is written as it was");
            }
            assert_eq!(answers(&docs), expected);
        }
        db.close().unwrap();
    }
    // The rest hit bytes that no query of these reads.
    assert!(noticed > 60, "{noticed}");
}

#[test]
fn damaged_text_is_an_error_and_never_a_wrong_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = quiet().open(&path).unwrap();
    let docs = db.create_collection("docs", schema()).unwrap();
    let records = glosses();
    write(&docs, &records[..2_000]);
    docs.flush().unwrap();
    db.close().unwrap();
    let file = path.join("segments/00000001.data");
    let mut bytes = std::fs::read(&file).unwrap();
    let gloss = records[1_000].1.as_bytes();
    let at = bytes.windows(gloss.len()).position(|window| window == gloss).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let db = quiet().open(&path).unwrap();
    let docs = db.collection("docs").unwrap();
    for _ in 0..2 {
        let found = docs.search_text("person", &SearchOptions::new(5));
        assert!(matches!(found, Err(omendb::Error::Corrupt { .. })), "{found:?}");
    }
    assert_eq!(docs.search(&[0.0, 0.0], &SearchOptions::new(5).include(omendb::Include::NONE)).unwrap().len(), 5);
}
