//! Texts: indexing and searching beside plain `tantivy`, ingest with text and metadata until all is indexed, and what
//! hybrid search finds that neither part finds alone.

use crate::Outcome;
use crate::measure::{median, print_table, quantile};
use crate::workload::{Scratch, directory_bytes, processor_seconds};
use omendb::{Batch, Collection, Fuse, Include, Metric, Options, Schema, SearchOptions};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tantivy::collector::TopDocs;
use tantivy::query::QueryParser;
use tantivy::schema::{FAST, Field, IndexRecordOption, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{Language, LowerCaser, RemoveLongFilter, SimpleTokenizer, Stemmer, TextAnalyzer};
use tantivy::{Index, IndexWriter, Searcher, doc};

/// What to measure.
#[derive(clap::Args)]
pub struct Arguments {
    /// A directory with texts.jsonl ({"text", "metadata"} a line), base.npy (f32, a row a text), queries.jsonl ({"text",
    /// "row": the right answer}) and queries.npy.
    #[arg(long)]
    set: PathBuf,
    /// Records a batch.
    #[arg(long, default_value_t = 10_000)]
    batch: usize,
    /// Queries.
    #[arg(long, default_value_t = 10_000)]
    queries: usize,
    /// Where to write.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Measure nothing but the quality of hybrid search.
    #[arg(long)]
    quality: bool,
}

struct Set {
    texts: Vec<String>,
    metadata: Vec<Value>,
    vectors: Vec<f32>,
    dim: usize,
    queries: Vec<(String, usize)>,
    query_vectors: Vec<f32>,
}

fn lines(path: &Path) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let file = std::fs::File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    BufReader::new(file).lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}

/// A matrix of f32 in NumPy's format, in C order; and its columns.
fn matrix(path: &Path) -> Result<(Vec<f32>, usize), Box<dyn std::error::Error>> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let bad = || format!("{} is not a matrix of little-endian f32 in C order", path.display());
    let head = bytes.get(8..10).ok_or_else(bad)?;
    let end = 10 + usize::from(u16::from_le_bytes([head[0], head[1]]));
    let header = String::from_utf8_lossy(bytes.get(10..end).ok_or_else(bad)?).into_owned();
    let columns = header.split_once(", ").and_then(|_| header.split("'shape': (").nth(1)?.split(')').next());
    let columns = columns.and_then(|shape| shape.split(", ").nth(1)?.parse().ok()).ok_or_else(bad)?;
    if !header.contains("<f4") || header.contains("True") {
        return Err(bad().into());
    }
    Ok((bytes[end..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(), columns))
}

impl Set {
    fn load(path: &Path, queries: usize) -> Result<Set, Box<dyn std::error::Error>> {
        let text = |value: &Value| value["text"].as_str().unwrap_or_default().to_owned();
        let (mut texts, mut metadata) = (Vec::new(), Vec::new());
        for mut line in lines(&path.join("texts.jsonl"))? {
            texts.push(text(&line));
            metadata.push(line["metadata"].take());
        }
        let (vectors, dim) = matrix(&path.join("base.npy"))?;
        let (query_vectors, _) = matrix(&path.join("queries.npy"))?;
        let asked = lines(&path.join("queries.jsonl"))?;
        let asked = asked.iter().map(|q| (text(q), q["row"].as_u64().unwrap_or(0) as usize)).take(queries).collect();
        if texts.len() * dim != vectors.len() {
            return Err(format!("{} texts, {} vectors", texts.len(), vectors.len() / dim.max(1)).into());
        }
        Ok(Set { texts, metadata, vectors, dim, queries: asked, query_vectors })
    }

    fn query_vector(&self, query: usize) -> &[f32] {
        &self.query_vectors[query * self.dim..(query + 1) * self.dim]
    }

    /// The words of a query without the signs that a parser would read.
    fn words(&self, query: usize) -> String {
        let text = &self.queries[query].0;
        let words = text.split(|c: char| !c.is_alphanumeric());
        let words = words.filter(|word| !["", "AND", "OR", "NOT", "IN", "TO"].contains(word));
        words.collect::<Vec<_>>().join(" ")
    }
}

/// Plain `tantivy` as its documentation has it: two threads, memory for both, its own parts of an English analyser. Its
/// ready-made one leaves out terms of 40 bytes and more, which changes the scores of the texts that have any.
struct Plain {
    searcher: Searcher,
    parser: QueryParser,
    row: Field,
}

impl Plain {
    fn build(set: &Set) -> Result<Plain, Box<dyn std::error::Error>> {
        let mut schema = tantivy::schema::Schema::builder();
        let row = schema.add_u64_field("row", FAST);
        let indexing = TextFieldIndexing::default()
            .set_tokenizer("english")
            .set_index_option(IndexRecordOption::WithFreqsAndPositions);
        let field = schema.add_text_field("text", TextOptions::default().set_indexing_options(indexing));
        let index = Index::create_in_ram(schema.build());
        let english = TextAnalyzer::builder(SimpleTokenizer::default())
            .filter(RemoveLongFilter::limit(255))
            .filter(LowerCaser)
            .filter(Stemmer::new(Language::English));
        index.tokenizers().register("english", english.build());
        let mut writer: IndexWriter = index.writer_with_num_threads(2, 400 << 20)?;
        let (clock, processor) = (Instant::now(), processor_seconds());
        for (number, text) in set.texts.iter().enumerate() {
            writer.add_document(doc!(row => number as u64, field => text.as_str()))?;
        }
        writer.commit()?;
        line("plain tantivy: indexed", set.texts.len(), clock, processor);
        let searcher = index.reader()?.searcher();
        println!("{} segments", searcher.segment_readers().len());
        Ok(Plain { searcher, parser: QueryParser::for_index(&index, vec![field]), row })
    }

    fn search(&self, query: &str) -> Result<Vec<(f32, u64)>, Box<dyn std::error::Error>> {
        let query = self.parser.parse_query(query)?;
        let found = self.searcher.search(&query, &TopDocs::with_limit(10).order_by_score())?;
        found
            .into_iter()
            .map(|(score, at)| {
                let rows = self
                    .searcher
                    .segment_reader(at.segment_ord)
                    .fast_fields()
                    .u64(self.searcher.schema().get_field_name(self.row))?;
                Ok((score, rows.first(at.doc_id).unwrap_or(0)))
            })
            .collect()
    }
}

fn line(what: &str, rows: usize, clock: Instant, processor: f64) {
    let (wall, cpu) = (clock.elapsed().as_secs_f64(), processor_seconds() - processor);
    println!(
        "{what:<34} {wall:>8.2} s {:>9.0} records/s {:>7.2} us CPU a record ({:>7.0} records/s on two idle cores)",
        rows as f64 / wall,
        cpu * 1e6 / rows as f64,
        2.0 * rows as f64 / cpu.max(1e-9)
    );
}

fn ingest(arguments: &Arguments, set: &Set, docs: &Collection) -> Outcome {
    let (clock, processor) = (Instant::now(), processor_seconds());
    for first in (0..set.texts.len()).step_by(arguments.batch) {
        let rows = first..(first + arguments.batch).min(set.texts.len());
        let ids = rows.clone().map(|row| row as u64).collect();
        let batch = Batch::new(ids, &set.vectors[rows.start * set.dim..rows.end * set.dim]);
        let batch = batch.with_metadata(set.metadata[rows.clone()].iter().map(Some))?;
        docs.upsert(batch.with_text(set.texts[rows].iter().map(|text| Some(&**text))))?;
    }
    line("vectors, texts, metadata durable", set.texts.len(), clock, processor);
    docs.wait_indexed(false)?;
    line("graphs and texts indexed", set.texts.len(), clock, processor);
    let stats = docs.stats();
    println!(
        "{} segments, {} rows in graphs, {} rows with texts",
        stats.segments, stats.indexed_rows, stats.text_indexed_rows
    );
    Ok(())
}

/// Queries a second on one thread, and the slowest, of each way to search.
fn speed(set: &Set, docs: &Collection, plain: &Plain) -> Outcome {
    let options = SearchOptions::new(10).include(Include::NONE);
    let queries: Vec<String> = (0..set.queries.len()).map(|query| set.words(query)).collect();
    let first = |count: usize| -> Vec<String> {
        queries.iter().map(|q| q.split(' ').take(count).collect::<Vec<_>>().join(" ")).collect()
    };
    let all_of = |queries: Vec<String>| queries.into_iter().map(|q| q.replace(' ', " AND ")).collect::<Vec<_>>();
    let phrase = first(2).into_iter().map(|q| format!("\"{q}\"")).collect::<Vec<_>>();
    let mut table = Vec::new();
    let kinds = [("one word", first(1)), ("two words", first(2)), ("whole query", queries.clone())];
    let kinds = kinds.into_iter().chain([("two words, AND", all_of(first(2))), ("phrase", phrase)]);
    let (mut unequal, mut shown) = (0, 0);
    for (kind, queries) in kinds {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for query in queries.iter().take(2_000) {
            let start = Instant::now();
            let hits = docs.search_text(query, &options)?;
            ours.push(start.elapsed().as_secs_f64());
            let start = Instant::now();
            let expected = plain.search(query)?;
            theirs.push(start.elapsed().as_secs_f64());
            let close = |(hit, (score, _)): (&omendb::Hit, &(f32, u64))| (hit.score - score).abs() <= 1e-5 * score;
            let equal = hits.len() == expected.len() && hits.iter().zip(&expected).all(close);
            unequal += usize::from(!equal);
            if !equal && shown < 5 {
                shown += 1;
                let ours: Vec<f32> = hits.iter().map(|hit| hit.score).collect();
                let theirs: Vec<f32> = expected.iter().map(|(score, _)| *score).collect();
                println!("unequal: {query:?}: {ours:?} beside {theirs:?}");
            }
        }
        let row = |times: &[f64]| {
            let mean = times.iter().sum::<f64>() / times.len() as f64;
            [1.0 / mean, median(times) * 1e6, quantile(times, 0.99) * 1e6].map(|x| format!("{x:.0}"))
        };
        table.push([&[kind.to_owned()][..], &row(&ours), &row(&theirs)].concat());
    }
    print_table(&["", "QPS", "p50 us", "p99 us", "tantivy QPS", "p50 us", "p99 us"], &table);
    println!("{unequal} answers of other scores");
    Ok(())
}

/// How often the right answer is among the first 1 and 10, and the time of one search.
fn quality(set: &Set, docs: &Collection) -> Outcome {
    let options = SearchOptions::new(10).include(Include::NONE);
    let weighted = |alpha| Some(options.clone().fuse(Fuse::Weighted { alpha }));
    let ways: Vec<(String, Option<SearchOptions>)> = [("vector".to_owned(), None), ("text".to_owned(), None)]
        .into_iter()
        .chain([("hybrid, rrf".to_owned(), Some(options.clone()))])
        .chain([("hybrid, adaptive".to_owned(), Some(options.clone().fuse(Fuse::Adaptive)))])
        .chain([0.1, 0.2, 0.3, 0.5].map(|alpha| (format!("hybrid, weighted {alpha}"), weighted(alpha))))
        .collect();
    let mut table = Vec::new();
    for (way, how) in ways {
        let (mut first, mut ten, mut times) = (0, 0, Vec::new());
        for query in 0..set.queries.len() {
            let (vector, words) = (set.query_vector(query), set.words(query));
            let start = Instant::now();
            let hits = match (&*way, &how) {
                ("vector", _) => docs.search(vector, &options)?,
                (_, None) => docs.search_text(&words, &options)?,
                (_, Some(options)) => docs.search_hybrid(vector, &words, options)?,
            };
            times.push(start.elapsed().as_secs_f64() * 1e6);
            let right = omendb::Id::U64(set.queries[query].1 as u64);
            let rank = hits.iter().position(|hit| hit.id == right);
            first += usize::from(rank == Some(0));
            ten += usize::from(rank.is_some());
        }
        let share = |n: usize| format!("{:.4}", n as f64 / set.queries.len() as f64);
        table.push(vec![way, share(first), share(ten), format!("{:.0}", median(&times))]);
    }
    print_table(&["", "R@1", "R@10", "p50 us"], &table);
    Ok(())
}

/// Measures and prints.
pub fn run(arguments: &Arguments) -> Outcome {
    let set = Set::load(&arguments.set, arguments.queries)?;
    let bytes: usize = set.texts.iter().map(String::len).sum();
    println!(
        "{} texts of {} bytes on average, {}-d, {} queries, load average {}",
        set.texts.len(),
        bytes / set.texts.len().max(1),
        set.dim,
        set.queries.len(),
        std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim()
    );
    let scratch = Scratch::new(&arguments.dir, "text")?;
    let path = scratch.path("database");
    let db = Options::new().open(&path)?;
    let docs = db.create_collection("docs", Schema::new(set.dim, Metric::Cosine))?;
    ingest(arguments, &set, &docs)?;
    println!(
        "on disk {:.2} of the bytes of texts and vectors",
        directory_bytes(&path)? as f64 / (bytes + set.vectors.len() * 4) as f64
    );
    if !arguments.quality {
        let texts = db.create_collection("texts", Schema::new(1, Metric::L2))?;
        let (clock, processor) = (Instant::now(), processor_seconds());
        let batch = Batch::new((0..set.texts.len() as u64).collect(), vec![1.0; set.texts.len()]);
        texts.upsert(batch.with_text(set.texts.iter().map(|text| Some(&**text))))?;
        let durable = Instant::now();
        texts.search_text("x", &SearchOptions::new(1))?;
        line("texts alone: written and indexed", set.texts.len(), clock, processor);
        println!("of it the index: {:.2} s", durable.elapsed().as_secs_f64());
        db.drop_collection("texts")?;
        let plain = Plain::build(&set)?;
        speed(&set, &docs, &plain)?;
    }
    quality(&set, &docs)
}
