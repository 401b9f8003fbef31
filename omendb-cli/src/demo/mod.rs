//! `demo`: real words in, searched, the writing process killed in mid-write, the database opened again, everything
//! proved.

pub mod bundle;
mod proof;
pub mod writer;

use crate::commands::progress::Progress;
use crate::commands::search::render;
use crate::failure::{Failure, Result, invalid, io};
use crate::output::{Output, count, line, rate};
use crate::target;
use bundle::{Bundle, DIM};
use omendb::{Collection, Database, Metric, Schema, SearchOptions, Vectors};
use proof::Proof;
use serde_json::{Map, Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The collection of the words.
pub const COLLECTION: &str = "words";
/// Words that are left to the process that is killed.
const HELD_OUT: usize = 4_000;
/// Words a batch of the import.
const BATCH: usize = 1_000;
/// Queries timed.
const QUERIES: usize = 1_000;
/// The writer is killed once it has acknowledged this many batches, some time within the next one or few.
const BATCHES_BEFORE_KILL: usize = 250;

/// Import 20,000 real words, search them, kill the writer in mid-write, and prove that nothing acknowledged is lost
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  omendb demo
  omendb demo --path /tmp/words.omen

The database stays, for you to try. Run again, the demo replaces its own collection in it and touches nothing else.
Ends with 1 if a proof fails.")]
pub struct Demo {
    /// Directory of the database
    #[arg(long, default_value = "omendb-demo")]
    path: PathBuf,
}

/// Prints steps for people and gathers figures for programs.
struct Story {
    silent: bool,
    figures: Map<String, Value>,
}

impl Story {
    fn say(&self, text: &str) -> Result<()> {
        if self.silent { Ok(()) } else { line(text) }
    }

    fn figure(&mut self, name: &str, value: Value) {
        self.figures.insert(name.to_owned(), value);
    }
}

impl Demo {
    /// Runs all steps.
    pub fn run(&self, json: bool) -> Result<Output> {
        let mut story = Story { silent: json, figures: Map::new() };
        let bundle = Bundle::load()?;
        let db = self.open(&bundle)?;
        let words = db.create_collection(COLLECTION, Schema::new(DIM, Metric::Cosine))?;
        let imported = bundle.len() - HELD_OUT.min(bundle.len() / 2);
        story.say(&format!("1. Importing {} English words with their vectors and meanings", count(imported as u64)))?;
        import(&words, &bundle, imported, &mut story)?;
        story.say("\n2. Searching by vector: what is near in meaning?")?;
        search(&words, &bundle, &mut story)?;
        drop(words);
        db.close()?;
        drop(db);

        story.say("\n3. Another process writes more words; kill -9 in the middle of it")?;
        let acknowledged = kill_writer(&self.path, imported, &mut story)?;
        story.say("\n4. Opening the database again, and comparing every word with the original")?;
        let proof = reopen(&self.path, &bundle, imported, acknowledged, &mut story)?;
        if let Some(failure) = proof.failure() {
            return Err(Failure::Problems(format!(
                "the proof failed: {failure}; please report this, with {}",
                self.path.display()
            )));
        }
        story.say(&self.what_next())?;
        Ok(Output::new("", Value::Object(story.figures)))
    }

    /// The database, without words of an earlier demo. A directory that is not the demo's own is refused.
    fn open(&self, bundle: &Bundle) -> Result<Database> {
        let not_ours = |what: &str| {
            invalid(format!(
                "{} {what}, which the demo did not make; give another directory with --path",
                self.path.display()
            ))
        };
        let is_empty = |entries: std::io::Result<std::fs::ReadDir>| entries.map(|mut e| e.next().is_none());
        if !self.path.exists() || is_empty(std::fs::read_dir(&self.path)).map_err(|e| io("read", &self.path, &e))? {
            return target::write_or_create(&self.path);
        }
        let db = match target::write(&self.path) {
            Err(Failure::Engine(omendb::Error::NotFound(_))) => return Err(not_ours("holds files")),
            other => other?,
        };
        if !db.collections().iter().any(|name| name == COLLECTION) {
            return Ok(db);
        }
        let words = db.collection(COLLECTION)?;
        let sample = words.get_many(bundle.words[..50].iter().map(|w| &w.word))?;
        let same = sample
            .iter()
            .zip(&bundle.words)
            .all(|(r, w)| r.as_ref().is_some_and(|r| r.text.as_ref() == Some(&w.gloss)));
        // A demo that was interrupted before its first batch leaves nothing in the collection.
        if !same && words.count()? > 0 {
            return Err(not_ours("has a collection `words`"));
        }
        drop(words);
        db.drop_collection(COLLECTION)?;
        Ok(db)
    }

    fn what_next(&self) -> String {
        let path = self.path.display();
        let program = std::env::args().next().unwrap_or_else(|| "omendb".to_owned());
        format!(
            "\nThe database is in {path}. Try:\n  \
             {program} search {path} --like queen -k 5\n  \
             {program} get {path} ocean\n  \
             {program} stats {path}\n  \
             {program} check {path} --deep\n  \
             {program} export {path} words.parquet\n  \
             {program} --help"
        )
    }
}

/// Imports the first `total` words.
fn import(words: &Collection, bundle: &Bundle, total: usize, story: &mut Story) -> Result<()> {
    let mut progress = Progress::start("importing", total as u64, 0, story.silent);
    for start in (0..total).step_by(BATCH) {
        let end = (start + BATCH).min(total);
        words.upsert(bundle.batch(start..end)?)?;
        progress.update(end as u64, end as u64);
    }
    let time = progress.finish();
    let rate = rate(total as u64, time);
    story.figure("imported", json!(total));
    story.figure("import_words_per_second", json!(rate));
    story.say(&format!(
        "   {} words in {:.2} s: {} a second, each batch of {} on stable storage before the next",
        count(total as u64),
        time.as_secs_f64(),
        count(rate),
        count(BATCH as u64)
    ))
}

/// Shows two searches and times many.
fn search(words: &Collection, bundle: &Bundle, story: &mut Story) -> Result<()> {
    words.wait_idle()?;
    for query in ["king", "paris"] {
        let Some(i) = bundle.words.iter().position(|w| w.word == query) else { continue };
        let start = Instant::now();
        let hits = words.search(bundle.vector(i), &SearchOptions::new(6))?;
        let micros = start.elapsed().as_micros() as u64;
        if hits.first().is_none_or(|hit| hit.id.to_string() != query) {
            return Err(Failure::Problems(format!(
                "searching by the vector of {query:?} did not find {query:?} first"
            )));
        }
        story.say(&format!("   near {query:?}:\n{}", render(&hits, 0, micros).text))?;
    }
    let imported = words.count()? as usize;
    let mut times: Vec<f64> = Vec::with_capacity(QUERIES);
    for i in 0..QUERIES {
        // Spread over all words with a step that shares no factor with their number.
        let query = Vectors::from(bundle.vector(i * 7_919 % imported));
        let start = Instant::now();
        words.search(query, &SearchOptions::new(10))?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    let (p50, p99) = (times[QUERIES / 2], times[QUERIES * 99 / 100]);
    story.figure("search_ms_p50", json!(p50));
    story.figure("search_ms_p99", json!(p99));
    story.say(&format!(
        "   {QUERIES} searches for the 10 nearest of {}: p50 {p50:.2} ms, p99 {p99:.2} ms",
        count(imported as u64)
    ))
}

/// Ends the process when it goes out of scope, however that happens.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing else to do about either failure.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts the writer, kills it, and returns the position up to which its words are acknowledged.
fn kill_writer(path: &Path, from: usize, story: &mut Story) -> Result<usize> {
    let program = std::env::current_exe().map_err(|e| io("find", Path::new("this program"), &e))?;
    let child =
        Command::new(&program).arg("demo-writer").arg(path).arg(from.to_string()).stdout(Stdio::piped()).spawn();
    let mut child = Killed(child.map_err(|e| io("start", &program, &e))?);
    let Some(pipe) = child.0.stdout.take() else { return Err(invalid("the writer has no standard output")) };
    let mut lines = BufReader::new(pipe).lines();
    let (mut acknowledged, mut batches, mut first) = (from, 0, None);
    let start = Instant::now();
    let mut elapsed = Duration::ZERO;
    // The kill comes while the writer goes on; what it acknowledged before it died is still in the pipe.
    for line in lines.by_ref() {
        let line = line.map_err(|e| io("read", Path::new("the writer's output"), &e))?;
        let Ok(position) = line.parse::<usize>() else {
            first = Some(Instant::now());
            continue;
        };
        acknowledged = position;
        batches += 1;
        if batches == BATCHES_BEFORE_KILL {
            elapsed = first.unwrap_or(start).elapsed();
            child.0.kill().map_err(|e| io("kill", &program, &e))?;
        }
    }
    if batches < BATCHES_BEFORE_KILL {
        return Err(Failure::Problems(format!("the writer ended by itself after {batches} batches")));
    }
    drop(child);
    let words = acknowledged - from;
    let rate = rate(BATCHES_BEFORE_KILL as u64, elapsed);
    story.figure("acknowledged_before_kill", json!(words));
    story.figure("commits_per_second", json!(rate));
    story.say(&format!(
        "   {} words acknowledged in {} batches of 1 to 4 ({} commits a second), then killed",
        count(words as u64),
        count(batches as u64),
        count(rate)
    ))?;
    Ok(acknowledged)
}

/// Opens the database after the kill and compares all of it.
fn reopen(path: &Path, bundle: &Bundle, imported: usize, acknowledged: usize, story: &mut Story) -> Result<Proof> {
    let start = Instant::now();
    let db = target::write(path)?;
    let millis = start.elapsed().as_secs_f64() * 1000.0;
    let recovery = db.recovery();
    let words = db.collection(COLLECTION)?;
    let proof = Proof::of(&words, bundle, acknowledged)?;
    let problems = db.check(true)?.problems;
    story.figure("recovery_ms", json!(millis));
    story.figure("recovered_from_log", json!(recovery.records));
    story.figure("compared", json!(proof.compared));
    story.figure("lost", json!(proof.missing.len()));
    story.figure("wrong", json!(proof.wrong.len()));
    story.figure("unacknowledged_kept", json!(proof.beyond));
    story.figure("check_problems", json!(problems));
    story.say(&format!(
        "   open again after {millis:.1} ms, {} records recovered from the log\n   \
         {} words compared (id, vector, meaning, part of speech): {} lost, {} wrong\n   \
         of these acknowledged by the killed process: {}; written but not yet acknowledged, and kept whole: {}\n   \
         every byte of every file checked: {} problems",
        count(recovery.records),
        count(proof.compared as u64),
        proof.missing.len(),
        proof.wrong.len(),
        count((acknowledged - imported) as u64),
        proof.beyond,
        problems.len()
    ))?;
    if let Some(problem) = problems.first() {
        return Err(Failure::Problems(format!("the proof failed: check found {problem}")));
    }
    db.close()?;
    Ok(proof)
}
