//! A real process writes and is killed with SIGKILL, at random moments and at chosen storage calls; the database is
//! opened again and compared, all of it, with what was acknowledged.
//!
//! Each writing thread has ids of its own and knows its next operation from a seed and a number alone, so the parent
//! can
//! work out what must be stored: all operations acknowledged, and perhaps the one under way, whole or not at all.
//! 200 rounds, and 2,000 with OMENDB_LONG=1; OMENDB_SEED chooses another course.

mod model;
mod suicide;
mod writer;

use model::{DIM, Model, Op, THREADS};
use omendb::{Database, Options, Record};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use suicide::Call;

/// Rounds on one database before a new one is begun.
const ROUNDS_A_DATABASE: u64 = 20;

/// How a round ends.
#[derive(Debug, Clone, Copy)]
enum Kill {
    /// So many microseconds after the process was started.
    AfterMicros(u64),
    /// When so many acknowledgements have been read.
    AfterAcks(u64),
    /// By itself, at the n-th of these storage calls.
    AtCall(Call, u64),
}

/// Figures of the closing line.
#[derive(Debug, Default)]
struct Totals {
    rounds: u64,
    at_calls: u64,
    ended_by_itself: u64,
    acknowledged: u64,
    under_way_kept: u64,
    compared: u64,
    deep_checks: u64,
}

fn main() {
    if let Ok(job) = std::env::var(writer::JOB) {
        return writer::run(&job);
    }
    if std::env::args().any(|a| a == "--list") {
        return println!("kill9: test");
    }
    let long = std::env::var("OMENDB_LONG").is_ok_and(|v| v == "1");
    let rounds = if long { 2_000 } else { 200 };
    let seed = std::env::var("OMENDB_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_121);
    let start = Instant::now();
    let mut totals = Totals::default();
    let mut round = 0;
    while round < rounds {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut models: Vec<Model> = (0..THREADS).map(|t| Model::new(seed ^ round << 8, t)).collect();
        for _ in 0..ROUNDS_A_DATABASE.min(rounds - round) {
            one_round(&dir.path().join("db"), seed, round, &mut models, &mut totals);
            round += 1;
        }
    }
    assert!(totals.acknowledged > rounds, "the writers hardly wrote: {totals:?}");
    assert!(totals.at_calls > rounds / 10, "hardly a kill at a storage call: {totals:?}");
    println!(
        "kill9: {} rounds in {:.1} s ({} killed at a storage call, {} by signal, {} ended by themselves): {} \
            acknowledged writes, \
         {} records compared, {} deep checks, {} writes under way when killed kept whole; 0 lost, 0 wrong (seed {seed})",
        totals.rounds,
        start.elapsed().as_secs_f64(),
        totals.at_calls,
        totals.rounds - totals.at_calls - totals.ended_by_itself,
        totals.ended_by_itself,
        totals.acknowledged,
        totals.compared,
        totals.deep_checks,
        totals.under_way_kept
    );
}

fn kill_of(seed: u64, round: u64) -> Kill {
    let mut random = model::Random::of(&[seed, round, 99]);
    match random.below(4) {
        0 => Kill::AfterMicros(random.below(80_000)),
        1 => Kill::AfterAcks(1 + random.below(80)),
        2 => Kill::AtCall(Call::ALL[random.below(Call::ALL.len() as u64) as usize], 1 + random.below(8)),
        _ => Kill::AtCall(Call::ALL[random.below(Call::ALL.len() as u64) as usize], 1 + random.below(150)),
    }
}

fn one_round(db: &Path, seed: u64, round: u64, models: &mut [Model], totals: &mut Totals) {
    let kill = kill_of(seed, round);
    let place = format!("round {round} ({kill:?}), seed {seed}");
    let acknowledged = write_and_kill(db, kill, round, models, totals, &place);
    totals.rounds += 1;
    totals.acknowledged += acknowledged.iter().sum::<u64>();
    if !db.exists() {
        assert_eq!(acknowledged.iter().sum::<u64>(), 0, "{place}: acknowledged, but there is no database");
        return;
    }
    let database = match Options::new().open(db) {
        Ok(database) => database,
        Err(e) => panic!("{place}: the database does not open: {e}"),
    };
    let records = records(&database, &place);
    totals.compared += records.len() as u64;
    for (model, acknowledged) in models.iter_mut().zip(acknowledged) {
        for _ in 0..acknowledged {
            model.apply_next();
        }
        compare(model, &records, totals, &place);
    }
    let owned: usize = models.iter().map(|m| m.records.len()).sum();
    assert_eq!(records.len(), owned, "{place}: records of nobody");
    if round % 10 == 9 {
        totals.deep_checks += 1;
        let report = database.check(true).expect("check runs");
        assert!(report.problems.is_empty(), "{place}: {:?}", report.problems);
    }
    database.close().expect("close");
}

/// Ends the process however the round ends.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs a writer until it is dead; returns how many operations of each thread were acknowledged.
fn write_and_kill(db: &Path, kill: Kill, round: u64, models: &[Model], totals: &mut Totals, place: &str) -> Vec<u64> {
    let at_call = match kill {
        Kill::AtCall(call, n) => format!("{} {n}", call.name()),
        _ => "none 0".to_owned(),
    };
    let threads = if round.is_multiple_of(3) { THREADS } else { 1 };
    let next: Vec<String> = models.iter().map(|m| m.next.to_string()).collect();
    let job = format!("{} {} {threads} {} {at_call}", db.display(), models[0].seed, next.join(","));
    let program = std::env::current_exe().expect("this program's path");
    let start = Instant::now();
    let child = Command::new(program).env(writer::JOB, job).stdout(Stdio::piped()).stdin(Stdio::null()).spawn();
    let mut writer = Writer(child.expect("the writer starts"));
    let pipe = writer.0.stdout.take().expect("its output");
    let mut writer = match kill {
        Kill::AfterMicros(micros) => {
            std::thread::sleep(Duration::from_micros(micros).saturating_sub(start.elapsed()));
            writer.0.kill().expect("kill");
            writer
        }
        _ => writer,
    };
    let mut acknowledged = vec![0u64; models.len()];
    let mut total = 0;
    for line in BufReader::new(pipe).lines() {
        let line = line.expect("a line of the writer");
        let Some((thread, index)) = line.strip_prefix("ack ").and_then(|rest| rest.split_once(' ')) else {
            assert_eq!(line, "open", "{place}: the writer says {line}");
            continue;
        };
        let (thread, index): (usize, u64) = (thread.parse().expect("a thread"), index.parse().expect("a number"));
        assert_eq!(index, models[thread].next + acknowledged[thread], "{place}: acknowledgements out of order");
        acknowledged[thread] += 1;
        total += 1;
        if matches!(kill, Kill::AfterAcks(n) if n == total) {
            writer.0.kill().expect("kill");
        }
    }
    let status = writer.0.wait().expect("its end");
    match (status.code(), kill) {
        (Some(0), _) => totals.ended_by_itself += 1,
        (Some(code), _) => panic!("{place}: the writer failed with {code}"),
        (None, Kill::AtCall(..)) => totals.at_calls += 1,
        (None, _) => {}
    }
    acknowledged
}

fn records(database: &Database, place: &str) -> Vec<Record> {
    let collection = match database.collection(model::COLLECTION) {
        Ok(collection) => collection,
        Err(omendb::Error::NotFound(_)) => return Vec::new(),
        Err(e) => panic!("{place}: {e}"),
    };
    assert_eq!(collection.schema().dim, DIM);
    let records: Vec<Record> = collection.iterate().expect("iterate").map(|r| r.expect("a record")).collect();
    assert_eq!(collection.count().expect("count"), records.len() as u64, "{place}: count and iterate differ");
    records
}

/// Compares what is stored of one thread with its model, with or without the operation that was under way.
fn compare(model: &mut Model, records: &[Record], totals: &mut Totals, place: &str) {
    let without = model.difference(records);
    if without.is_none() {
        return;
    }
    let next: Op = model.next_op();
    let mut with = model.clone();
    with.apply_next();
    match with.difference(records) {
        None => {
            totals.under_way_kept += 1;
            *model = with;
        }
        Some(difference) => panic!(
            "{place}, thread {}: what is stored fits neither the {} acknowledged operations ({}) nor those and {}: \
                {difference}",
            model.thread,
            model.next,
            without.unwrap_or_default(),
            next.name()
        ),
    }
}
