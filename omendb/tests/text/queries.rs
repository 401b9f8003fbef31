//! What queries find: words, phrases, prefixes, operators, misspelt words, other scripts; and that none fails.

use super::*;
use omendb::{Analyzer, Error, Filter, Include, Patch};
use proptest::prelude::*;
use serde_json::json;

const TEXTS: [(&str, &str); 8] = [
    ("a", "Crash safe storage for vectors"),
    ("b", "Storage that survives a crash, and a power cut"),
    ("c", "The crash of a safe"),
    ("d", "Vector search, full-text search and hybrid search"),
    ("e", "Ein Haus in der Stadt"),
    ("f", "東京大学で猫を飼う"),
    ("g", "Déjà vu: naïve café"),
    ("h", "..."),
];

#[test]
fn each_form_of_query_finds_what_it_says() {
    let (db, docs) = in_memory(schema());
    write(&docs, &TEXTS);
    for flushed in [false, true] {
        for (query, expected) in [
            ("crash", "a b c"),
            ("CRASHES", "a b c"),
            ("crash -power", "a c"),
            ("+crash +storage", "a b"),
            ("crash AND storage", "a b"),
            ("crash AND NOT storage", "c"),
            ("(power OR hybrid) AND search", "d"),
            ("power OR hybrid", "b d"),
            ("\"crash safe\"", "a"),
            ("\"safe crash\"", ""),
            ("\"crash safe\"~2", "a c"),
            ("\"crash storage\"~1", "a"),
            ("full-text", "d"),
            ("text-full", ""),
            ("surv*", "b"),
            ("vect*", "a d"),
            ("vectors*", "a d"),
            ("full-te*", "d"),
            ("storge~", "a b"),
            ("vctr~1", ""),
            ("vctr~2", "a d"),
            ("vcetor~", "a d"),
            ("cra~0", ""),
            ("haus", "e"),
            ("東京", "f"),
            ("京大", "f"),
            ("東京大学", "f"),
            ("大学東京", ""),
            ("猫", "f"),
            ("う", "f"),
            ("naïve", "g"),
            ("CAFÉ", "g"),
            ("-crash", ""),
            ("...", ""),
            ("", ""),
            ("absent", ""),
            ("+absent crash", ""),
            ("absent crash", "a b c"),
            ("\"never closed", ""),
            ("\"power cut", "b"),
        ] {
            let expected: Vec<String> = expected.split_whitespace().map(str::to_owned).collect();
            assert_eq!(sorted(found(&docs, query)), expected, "{query:?}, flushed: {flushed}");
        }
        db.flush().unwrap();
    }
}

#[test]
fn what_is_replaced_or_deleted_is_found_no_more() {
    let (db, docs) = in_memory(schema());
    write(&docs, &TEXTS);
    for flushed in [false, true] {
        docs.update("a", Patch { text: Some(Some("quite another".into())), ..Patch::default() }).unwrap();
        docs.update("b", Patch { text: Some(None), ..Patch::default() }).unwrap();
        assert_eq!(found(&docs, "crash"), ["c"]);
        assert_eq!(found(&docs, "another"), ["a"]);
        assert_eq!(docs.delete(["c"]).unwrap(), 1);
        assert_eq!(found(&docs, "crash*"), [""; 0]);
        write(&docs, &TEXTS[..3]);
        if flushed {
            docs.compact().unwrap();
        }
        db.flush().unwrap();
        assert_eq!(sorted(found(&docs, "crash")), ["a", "b", "c"]);
    }
}

#[test]
fn a_filter_an_offset_and_a_least_score_keep_their_promises() {
    let (db, docs) = in_memory(schema());
    let n = 3_000;
    let texts: Vec<String> = (0..n).map(|i| format!("common{} word{}", " more".repeat(i % 5), i % 100)).collect();
    let metadata: Vec<_> = (0..n).map(|i| json!({"n": i})).collect();
    let batch = Batch::new((0..n as u64).collect(), vec![0.5; n * 2]).with_metadata(metadata.iter().map(Some)).unwrap();
    docs.upsert(batch.with_text(texts.iter().map(|t| Some(t.as_str())))).unwrap();
    for _in_memory_then_flushed in 0..2 {
        for (condition, matching) in [("n < 12", 12), ("n >= 1000", 2_000), ("n < 0", 0)] {
            let options = SearchOptions::new(100).filter(Filter::from_sql(condition).unwrap());
            let hits = docs.search_text("common", &options).unwrap();
            assert_eq!((hits.len(), hits.complete), (matching.min(100), matching < 100), "{condition}");
            assert!(hits.iter().all(|hit| hit.text.as_ref().unwrap().contains("common")));
            assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
        }
        let all = docs.search_text("word7 common", &SearchOptions::new(300)).unwrap();
        let mut paged = Vec::new();
        for offset in (0..300).step_by(50) {
            let page = docs.search_text("word7 common", &SearchOptions::new(50).offset(offset)).unwrap();
            assert!(!page.complete);
            paged.extend(page.hits);
        }
        assert_eq!(paged, all.hits);
        let least = all[29].score;
        let good = docs.search_text("word7 common", &SearchOptions::new(300).min_score(least)).unwrap();
        assert!(good.len() >= 30 && good.complete && good.iter().all(|hit| hit.score >= least));
        let hit = &docs.search_text("word7", &SearchOptions::new(1).include(Include::NONE)).unwrap()[0];
        assert_eq!((hit.text_score, hit.vector_score, hit.distance), (Some(hit.score), None, -hit.score));
        assert!(hit.text.is_none() && hit.metadata.is_none() && hit.snippet.is_none());
        db.flush().unwrap();
    }
}

#[test]
fn snippets_mark_what_matches() {
    let (_db, docs) = in_memory(schema());
    let long = format!("{} crash-safe storage {}", "padding ".repeat(100), "padding ".repeat(100));
    write(&docs, &[("a", "Storing records: safe storage."), ("b", &*long)]);
    let options = SearchOptions::new(10).include(Include { snippet: true, ..Include::NONE });
    let marked = |query: &str| -> Vec<(String, String)> {
        let hits = docs.search_text(query, &options).unwrap();
        let piece = |hit: &omendb::Hit| hit.snippet.as_ref().unwrap().marked("[", "]");
        hits.iter().map(|hit| (hit.id.to_string(), piece(hit))).collect()
    };
    assert_eq!(marked("storage -crash"), [("a".into(), "Storing records: safe [storage]".into())]);
    assert_eq!(marked("+recor* sfae~"), [("a".into(), "Storing [records]: [safe] storage".into())]);
    let (id, piece) = marked("+crash +safe").remove(0);
    assert_eq!(id, "b");
    assert!(piece.contains("[crash]-[safe] storage padding") && piece.len() <= 210, "{piece}");
}

#[test]
fn an_analyzer_is_kept_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = quiet().open(&path).unwrap();
    let german = schema().with_analyzer("german-stop".parse().unwrap());
    let docs = db.create_collection("docs", german.clone()).unwrap();
    let plain = db.create_collection("plain", schema().with_analyzer(Analyzer::PLAIN)).unwrap();
    write(&docs, &[("a", "Die Häuser der Stadt")]);
    write(&plain, &[("a", "the houses")]);
    assert_eq!(found(&docs, "haus"), ["a"]);
    assert_eq!(found(&docs, "die der"), [""; 0]);
    assert_eq!((found(&plain, "house"), found(&plain, "THE")), (vec![], vec!["a".to_owned()]));
    docs.flush().unwrap();
    db.close().unwrap();
    let db = quiet().open(&path).unwrap();
    let docs = db.collection("docs").unwrap();
    assert_eq!(docs.schema(), &german);
    assert_eq!(found(&docs, "haus"), ["a"]);
    assert_eq!(db.get_or_create_collection("docs", schema()).unwrap().schema(), &german, "the default asks for none");
    let other = db.get_or_create_collection("docs", schema().with_analyzer(Analyzer::PLAIN));
    let Err(Error::InvalidInput(what)) = other else { panic!("{other:?}") };
    assert!(what.contains("german-stop") && what.contains("plain"), "{what}");
}

#[test]
fn odd_arguments_are_refused_in_words() {
    let (_db, docs) = in_memory(schema());
    assert!(matches!(docs.search_text("a", &SearchOptions::new(0)), Err(Error::InvalidInput(_))));
    let long = "x".repeat(17 << 20);
    assert!(matches!(docs.search_text(&long, &SearchOptions::new(1)), Err(Error::LimitExceeded(_))));
    let hits = docs.search_text("a", &SearchOptions::new(1)).unwrap();
    assert!(hits.is_empty() && hits.complete);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 300 } else { 3_000 }))]
    #[test]
    fn no_query_fails(query in r#"[crashefo "()+*~!&|0-9.\-]{0,40}|\PC{0,40}|(AND|OR|NOT|\(|\)| |crash|"|東京|saf\*|stor~){0,30}"#) {
        thread_local! {
            static DOCS: (Database, Collection) = {
                let (db, docs) = in_memory(schema());
                write(&docs, &TEXTS[..4]);
                db.flush().unwrap();
                write(&docs, &TEXTS[4..]);
                (db, docs)
            };
        }
        DOCS.with(|(_, docs)| {
            let hits = docs.search_text(&query, &SearchOptions::new(3).include(Include::ALL)).unwrap();
            assert!(hits.iter().all(|hit| hit.score.is_finite() && hit.score > 0.0));
            docs.search_hybrid(&[0.0, 0.0], &query, &SearchOptions::new(3).include(Include::ALL)).unwrap();
        });
    }
}
