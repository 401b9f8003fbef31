//! Scores and order do not depend on how records lie in segments, memtables and index files.

use super::*;
use omendb::Filter;

const RECORDS: usize = 4_000;

/// Words, phrases and all other forms, made of the words of the glosses.
fn queries(records: &[(String, String)]) -> Vec<String> {
    let mut next = numbers(7);
    let mut word = || {
        let gloss = &records[next(records.len())].1;
        let words: Vec<&str> = gloss.split(' ').filter(|w| w.chars().all(|c| c.is_ascii_lowercase())).collect();
        words.get(next(words.len())).copied().unwrap_or("of").to_owned()
    };
    let mut queries = Vec::new();
    for _ in 0..40 {
        let (a, b, c, d) = (word(), word(), word(), word());
        queries.extend([
            a.clone(),
            format!("{a} {b}"),
            format!("{a} {b} {c} {d}"),
            format!("+{a} {b} {c}"),
            format!("{a} AND {b} AND {c}"),
            format!("({a} OR {b}) AND NOT {c}"),
            format!("\"of {a}\" \"{b} {c}\" {d}"),
            format!("{}* {b}", &a[..a.len().min(3)]),
            format!("{a}~ {b}~1 the"),
        ]);
    }
    queries
}

type Answer = Vec<(String, u32)>;

fn answers(docs: &Collection, queries: &[String]) -> Vec<Answer> {
    let filter = Filter::from_sql("third = 0").unwrap();
    let answer = |hits: Hits| hits.iter().map(|hit| (hit.id.to_string(), hit.score.to_bits())).collect();
    let mut answers = Vec::new();
    for query in queries {
        answers.push(answer(docs.search_text(query, &SearchOptions::new(20)).unwrap()));
        let options = SearchOptions::new(5).offset(3).filter(filter.clone());
        answers.push(answer(docs.search_text(query, &options).unwrap()));
    }
    answers
}

/// Writes all records in `steps` steps with `between` after each: first other texts for some, then all, then deletes.
fn history(docs: &Collection, records: &[(String, String)], steps: usize, mut between: impl FnMut()) {
    let put = |range: std::ops::Range<usize>, text: &dyn Fn(usize) -> Option<String>| {
        for start in range.clone().step_by(500) {
            let rows = start..(start + 500).min(range.end);
            let metadata: Vec<_> = rows.clone().map(|i| serde_json::json!({"third": i % 3})).collect();
            let texts: Vec<Option<String>> = rows.clone().map(text).collect();
            let batch = Batch::new(rows.clone().map(|i| &*records[i].0).collect(), vec![1.0; rows.len() * 2]);
            let batch = batch.with_metadata(metadata.iter().map(Some)).unwrap();
            docs.upsert(batch.with_text(texts.iter().map(Option::as_deref))).unwrap();
        }
    };
    let len = records.len();
    put(0..len / 4, &|i| Some(format!("{} the first version of it", records[len - 1 - i].1)));
    between();
    for step in 0..steps {
        // Every tenth record has no text.
        put(step * len / steps..(step + 1) * len / steps, &|i| (i % 10 != 9).then(|| records[i].1.clone()));
        between();
    }
    docs.delete(records.iter().step_by(7).map(|(id, _)| &**id)).unwrap();
}

#[test]
fn every_layout_gives_the_same_answers() {
    let mut records = glosses();
    records.truncate(RECORDS);
    let queries = queries(&records);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");

    let (_memory, docs) = in_memory(schema());
    history(&docs, &records, 3, || ());
    assert_eq!(docs.stats().segments, 0);
    let expected = answers(&docs, &queries);
    assert!(expected.iter().filter(|answer| !answer.is_empty()).count() > expected.len() / 2);

    let (one, docs) = in_memory(schema());
    history(&docs, &records, 1, || ());
    one.flush().unwrap();
    assert_eq!(docs.stats().segments, 1);
    same(&answers(&docs, &queries), &expected, "one segment");

    let db = quiet().open(&path).unwrap();
    let docs = db.create_collection("docs", schema()).unwrap();
    history(&docs, &records, 4, || docs.flush().unwrap());
    assert_eq!((docs.stats().segments, text_files(&path)), (5, 0));
    same(&answers(&docs, &queries), &expected, "five segments, dead rows and a memtable");
    docs.compact().unwrap();
    assert_eq!(docs.stats().segments, 1);
    same(&answers(&docs, &queries), &expected, "compacted");
    docs.wait_indexed(false).unwrap();
    assert_eq!(text_files(&path), 1);
    same(&answers(&docs, &queries), &expected, "indexed");
    db.close().unwrap();

    for text_file in ["kept", "removed"] {
        if text_file == "removed" {
            remove_text_files(&path);
        }
        let db = quiet().open(&path).unwrap();
        same(&answers(&db.collection("docs").unwrap(), &queries), &expected, text_file);
        db.close().unwrap();
    }

    // The first words of a query do not decide alone: threads merge and index while it is asked.
    let db = Options::new().seed(1).bulk_bytes(16 << 10).open(dir.path().join("busy")).unwrap();
    let docs = db.create_collection("docs", schema()).unwrap();
    history(&docs, &records, 7, || ());
    same(&answers(&docs, &queries), &expected, "while it is indexed");
    docs.wait_indexed(false).unwrap();
    same(&answers(&docs, &queries), &expected, "after it is indexed");
}

#[track_caller]
fn same(answers: &[Answer], expected: &[Answer], layout: &str) {
    for (i, (answer, expected)) in answers.iter().zip(expected).enumerate() {
        assert_eq!(answer, expected, "answer {i} of layout {layout:?}");
    }
}

fn text_files(path: &Path) -> usize {
    let entries = std::fs::read_dir(path.join("segments")).unwrap();
    entries.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "text")).count()
}

fn remove_text_files(path: &Path) {
    for entry in std::fs::read_dir(path.join("segments")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "text") {
            std::fs::remove_file(path).unwrap();
        }
    }
}
