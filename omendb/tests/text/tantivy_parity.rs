//! BM25 is that of `tantivy` itself over the same texts with its own English analyser.

use super::*;
use tantivy::collector::TopDocs;
use tantivy::query::QueryParser;
use tantivy::schema::{IndexRecordOption, STORED, STRING, TextFieldIndexing, TextOptions, Value};
use tantivy::{Index, IndexWriter, TantivyDocument, doc};

const QUERIES: usize = 1_000;

/// What plain `tantivy` answers: (id, score), best first.
struct Plain {
    searcher: tantivy::Searcher,
    parser: QueryParser,
    id: tantivy::schema::Field,
}

impl Plain {
    fn new(records: &[(String, String)]) -> Plain {
        let mut schema = tantivy::schema::Schema::builder();
        let id = schema.add_text_field("id", STRING | STORED);
        let indexing = TextFieldIndexing::default()
            .set_tokenizer("en_stem")
            .set_index_option(IndexRecordOption::WithFreqsAndPositions);
        let text = schema.add_text_field("text", TextOptions::default().set_indexing_options(indexing));
        let index = Index::create_in_ram(schema.build());
        let mut writer: IndexWriter = index.writer_with_num_threads(2, 100 << 20).unwrap();
        for (word, gloss) in records {
            writer.add_document(doc!(id => word.as_str(), text => gloss.as_str())).unwrap();
        }
        writer.commit().unwrap();
        let searcher = index.reader().unwrap().searcher();
        Plain { searcher, parser: QueryParser::for_index(&index, vec![text]), id }
    }

    fn search(&self, query: &str, k: usize) -> Vec<(String, f32)> {
        let query = self.parser.parse_query(query).unwrap();
        let found = self.searcher.search(&query, &TopDocs::with_limit(k).order_by_score()).unwrap();
        let hit = |(score, address)| {
            let document: TantivyDocument = self.searcher.doc(address).unwrap();
            (document.get_first(self.id).and_then(|v| v.as_str().map(str::to_owned)).unwrap(), score)
        };
        found.into_iter().map(hit).collect()
    }
}

fn query(records: &[(String, String)], next: &mut impl FnMut(usize) -> usize) -> String {
    let (_, gloss) = &records[next(records.len())];
    let words: Vec<&str> = gloss.split(|c: char| !c.is_ascii_alphabetic()).filter(|w| !w.is_empty()).collect();
    let mut word = |i: usize| words[(i + next(3)) % words.len()].to_owned();
    let (a, b, c, d) = (word(0), word(1), word(3), word(5));
    let different = [&b, &c, &d].iter().all(|other| **other != a) && b != c;
    match next(8) {
        _ if !different => a,
        0 => a,
        1 => format!("{a} {b}"),
        2 => format!("+{c} {b} -{d}"),
        3 if words.len() > 2 => format!("\"{} {}\"", words[0], words[1]),
        4 => format!("{a} AND {b}"),
        5 => format!("{a} {b} {c} {d}"),
        6 => format!("({a} OR {b}) AND {c}"),
        _ => gloss.split(|c: char| !c.is_ascii_alphabetic()).collect::<Vec<_>>().join(" "),
    }
}

#[test]
fn a_thousand_queries_have_the_answers_of_plain_tantivy() {
    let records = glosses();
    let plain = Plain::new(&records);
    let (db, docs) = in_memory(schema());
    // Several segments and a memtable.
    for part in records.chunks(6_000) {
        write(&docs, part);
        if part.len() == 6_000 {
            db.flush().unwrap();
        }
    }
    assert!(docs.stats().segments > 1 && docs.stats().memtable_records > 0);
    let mut next = numbers(11);
    let (mut asked, mut answered) = (0, 0);
    while asked < QUERIES {
        let text = query(&records, &mut next);
        // An operator's name is not a word to either.
        if text
            .split(' ')
            .any(|word| ["OR", "AND", "NOT", "IN", "TO"].contains(&word) && !text.contains(&format!(" {word} ")))
        {
            continue;
        }
        asked += 1;
        let hits = docs.search_text(&text, &SearchOptions::new(10)).unwrap();
        let expected = plain.search(&text, 50);
        assert_eq!(hits.len(), expected.len().min(10), "{text:?}");
        answered += usize::from(!hits.is_empty());
        for (rank, (hit, (_, score))) in hits.iter().zip(&expected).enumerate() {
            assert!((hit.score - score).abs() <= 1e-5 * score, "{text:?}: rank {rank}: {} not {score}", hit.score);
            // Records of one score may stand in any order.
            let tied = |other: &&(String, f32)| (other.1 - score).abs() <= 1e-5 * score;
            let id = hit.id.to_string();
            let place = expected.iter().filter(tied).any(|(other, _)| *other == id);
            let cut = expected.len() == 50 && tied(&expected.last().unwrap());
            assert!(place || cut, "{text:?}: rank {rank} is {id:?}, not one of {expected:?}");
        }
    }
    println!("{asked} queries, {answered} with hits: scores and records are those of plain tantivy");
    assert!(answered > QUERIES * 9 / 10);
}
