//! The target for what a user types to search texts.

use crate::collection::Collection;
use crate::database::{Database, Options};
use crate::error::Result;
use crate::filter::Filter;
use crate::record::{Batch, Hits, Include, SearchOptions};
use crate::schema::{Metric, Schema};
use crate::storage::MemStorage;
use serde_json::json;
use std::sync::{Arc, OnceLock};

/// Texts of several scripts and lengths; one record has none.
const TEXTS: &[&str] = &[
    "Crash safe storage for vectors, crash after crash",
    "Storage that is safe; a crash loses nothing (see \"storage\")",
    "vector search and full text search in one database",
    "The databases of records: a record is an id, a vector, a text",
    "Häuser und Straßen, ÄRGER und Äpfel",
    "東京大学の図書館 is in 東京",
    "한국어 검색 엔진, searching Korean text",
    "КОШКИ и собаки живут в доме",
    "e\u{301}te\u{301} \u{feff} \u{0} … zero-width \u{200b} joiner",
    "AND OR NOT ( ) + - ~ * ^ : \\ \"",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "crash",
    "",
];

/// Records in a segment and in memory, some deleted, for each of several analysers.
fn collections() -> Result<Vec<(Database, Collection)>> {
    let open = |analyzer: &str| {
        let db = Options::new().background(false).open_on(Arc::new(MemStorage::new()))?;
        let docs = db.create_collection("docs", Schema::new(1, Metric::L2).with_analyzer(analyzer.parse()?))?;
        for round in 0..4u64 {
            let rows = || (0..).zip(TEXTS).map(move |(i, text)| (round * 100 + i, *text));
            let metadata: Vec<_> = rows().map(|(id, _)| json!({"n": id})).collect();
            let vectors = rows().map(|(id, _)| id as f32).collect::<Vec<_>>();
            let batch = Batch::new(rows().map(|(id, _)| id).collect(), vectors);
            let batch = batch.with_metadata(metadata.iter().map(Some))?;
            docs.upsert(batch.with_text(rows().map(|(_, text)| (!text.is_empty()).then_some(text))))?;
            docs.delete([round * 100])?;
            if round == 1 {
                db.flush()?;
            }
        }
        Ok((db, docs))
    };
    ["english", "german-stop", "cjk"].into_iter().map(open).collect()
}

/// A query, for whatever text it is: it has an answer, and its answers agree with each other.
pub fn text(data: &[u8]) {
    static COLLECTIONS: OnceLock<Result<Vec<(Database, Collection)>>> = OnceLock::new();
    let Ok(query) = std::str::from_utf8(data) else { return };
    let Ok(collections) = COLLECTIONS.get_or_init(collections) else { panic!("the texts cannot be written") };
    for (_, docs) in collections {
        let ask = |options: &SearchOptions| -> Hits {
            let hits = docs.search_text(query, options);
            let Ok(hits) = hits else { panic!("every string is a query: {hits:?}") };
            assert_eq!(hits.complete, hits.len() < options.k, "{query}");
            hits
        };
        let place = |hits: &[crate::Hit]| hits.iter().map(|hit| (hit.id.clone(), hit.score)).collect::<Vec<_>>();
        let all = ask(&SearchOptions::new(100).include(Include::ALL));
        assert!(all.iter().all(|hit| hit.score.is_finite() && hit.score > 0.0), "{query}: {all:?}");
        assert!(all.windows(2).all(|pair| pair[0].score >= pair[1].score), "{query}: {all:?}");
        for hit in all.iter() {
            let Some((text, snippet)) = hit.text.as_ref().zip(hit.snippet.as_ref()) else {
                panic!("what matches has a text and a snippet of it: {hit:?}")
            };
            assert!(text[snippet.start..].starts_with(&snippet.text), "{query}: {snippet:?}");
            snippet.to_html();
        }
        let page = ask(&SearchOptions::new(3).offset(2).include(Include::NONE));
        assert_eq!(place(&page), place(&all).into_iter().skip(2).take(3).collect::<Vec<_>>(), "{query}");
        let Ok(few) = Filter::from_sql("n < 203 AND n != 2") else { panic!("a filter") };
        let passing = ask(&SearchOptions::new(100).filter(few.clone()));
        let expected: Vec<_> = all.iter().filter(|hit| few.matches(hit.metadata.as_ref())).cloned().collect();
        assert_eq!(place(&passing), place(&expected), "{query}");
        let Ok(both) = docs.search_hybrid(&[3.0], query, &SearchOptions::new(5)) else {
            panic!("{query} with a vector")
        };
        assert!(both.len() == 5 && both.iter().all(|hit| (0.0..=1.0 + 1e-6).contains(&hit.score)), "{query}: {both:?}");
    }
}
