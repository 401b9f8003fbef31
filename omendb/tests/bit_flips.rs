//! No damaged file gives a wrong answer without a word.
//!
//! A golden database with every kind of file has one bit flipped in every byte of every file, sectors zeroed, files
//! cut, lengthened, removed and swapped. It must answer with a typed error, or rightly. A second golden database was
//! killed instead of closed: there the end of the log may be taken for a torn tail, which the recovery must report.
//!
//! `OMENDB_LONG=1` flips every bit.

mod common;

use common::fields::with_fields;
use common::flips::{Golden, Tally, Verdict, golden, kind};
use common::generate;
use common::model::{Row, State, Step};
use common::{Setup, conclude, long_run, parallel};
use omendb::storage::sim::{Rng, SECTOR, SimFs};
use omendb::storage::{OpenMode, Storage};
use omendb::{Element, Id, Metric, Schema};
use std::collections::BTreeSet;
use std::time::Instant;

/// A workload that leaves every kind of file behind: several segments, tombstones on them, and a log with records.
fn steps() -> Vec<Step> {
    let mut rng = Rng::new(77);
    let schemas = [
        ("docs", with_fields(Schema::new(4, Metric::L2))),
        ("bits", Schema::new(12, Metric::Hamming).with_element(Element::Bits)),
    ];
    let mut steps = Vec::new();
    for (name, schema) in &schemas {
        let mut put = |ids: std::ops::Range<u64>| {
            let row = |id| Row { id: Id::U64(id), doc: generate::doc(&mut rng, schema) };
            Step::Upsert { name: (*name).to_owned(), rows: ids.map(row).collect() }
        };
        let delete =
            |ids: &[u64]| Step::Delete { name: (*name).to_owned(), ids: ids.iter().map(|n| Id::U64(*n)).collect() };
        steps.push(Step::Create { name: (*name).to_owned(), schema: schema.clone() });
        steps.extend([put(0..6), Step::Index, put(4..20), Step::Flush, delete(&[1, 5, 11]), Step::Flush]);
        steps.extend([put(18..22), delete(&[2, 19])]);
    }
    steps
}

/// Every flip (byte, mask) of a file.
fn flips(len: usize, seed: u64) -> Vec<(u64, u8)> {
    let mut rng = Rng::new(seed);
    let bits = |offset: usize| if long_run() { 0..8 } else { (offset % 8)..(offset % 8 + 1) };
    let salt = rng.below(8) as u32;
    (0..len).flat_map(|o| bits(o).map(move |b| (o as u64, (1u8 << b).rotate_left(salt)))).collect()
}

struct Job<'a> {
    golden: &'a Golden,
    path: String,
    flips: Vec<(u64, u8)>,
}

fn flip_all(job: &Job) -> (Tally, Vec<String>) {
    let (mut tally, mut violations) = (Tally::default(), Vec::new());
    for (offset, mask) in &job.flips {
        let damage = |fs: &SimFs| fs.damage(&job.path, *offset, *mask).expect("the file is there");
        let place = || format!("{}: {} byte {offset} mask {mask:#04x}", job.golden.name, job.path);
        match job.golden.judge(&damage) {
            Ok(verdict) => tally.add(kind(&job.path), &verdict),
            Err(message) => violations.push(format!("{}: {message}", place())),
        }
        if offset.is_multiple_of(5)
            && let Err(message) = job.golden.judge_degraded(&damage)
        {
            violations.push(format!("{}: {message}", place()));
        }
    }
    (tally, violations)
}

fn goldens() -> Vec<Golden> {
    let build = |name, close| golden(name, Setup::new(3), &steps(), close).expect("the golden database can be built");
    vec![build("closed", true), build("killed", false)]
}

#[test]
fn no_flipped_bit_gives_a_wrong_answer() {
    let started = Instant::now();
    let goldens = goldens();
    let mut jobs = Vec::new();
    for golden in &goldens {
        for (path, bytes) in golden.fs.files() {
            for chunk in flips(bytes.len(), bytes.len() as u64).chunks(512) {
                jobs.push(Job { golden, path: path.clone(), flips: chunk.to_vec() });
            }
        }
    }
    let mut tallies = [Tally::default(), Tally::default()];
    let mut violations = Vec::new();
    for (job, (tally, found)) in jobs.iter().zip(parallel(&jobs, flip_all)) {
        let sum = &mut tallies[usize::from(job.golden.name == "killed")];
        for (kind, verdicts) in tally.0 {
            for (verdict, count) in verdicts {
                *sum.0.entry(kind.clone()).or_default().entry(verdict).or_default() += count;
            }
        }
        violations.extend(found);
    }
    for (golden, tally) in goldens.iter().zip(&tallies) {
        tally.print(&format!("bit flips, {} database,", golden.name));
    }
    let flips = tallies[0].total() + tallies[1].total();
    let line = format!("bit flips: {flips} judged, {:.0} s", started.elapsed().as_secs_f64());
    conclude(&line, &violations);
    for wanted in ["manifest", "log", "data", "tombstones", "index", "text", "columns", "sparse"] {
        assert!(tallies[0].0.contains_key(wanted), "the golden database has no {wanted} file");
    }
}

/// Writes `bytes` in place of the file.
fn replace(fs: &SimFs, path: &str, bytes: &[u8]) {
    let file = fs.open(path, OpenMode::ReadWrite).expect("the file is there");
    file.set_len(0).expect("no fault is planned");
    file.write_at(bytes, 0).expect("no fault is planned");
}

/// Larger damage: what, and how.
type Wound = (String, Box<dyn Fn(&SimFs) + Sync>);

/// Every larger damage of a database's files.
fn wounds(golden: &Golden) -> Vec<Wound> {
    let mut all: Vec<Wound> = Vec::new();
    let files = golden.fs.files();
    for (path, bytes) in &files {
        let mut add = |what: String, bytes: Option<Vec<u8>>| {
            let path = path.clone();
            let wound = move |fs: &SimFs| match &bytes {
                Some(bytes) => replace(fs, &path, bytes),
                None => fs.remove(&path).expect("the file is there"),
            };
            all.push((what, Box::new(wound)));
        };
        add(format!("{path} removed"), None);
        add(format!("{path} lengthened"), Some([bytes.as_slice(), &[0x5A; 100]].concat()));
        for cut in (0..bytes.len()).step_by(97) {
            add(format!("{path} cut to {cut}"), Some(bytes[..cut].to_vec()));
        }
        for sector in 0..bytes.len().div_ceil(SECTOR) {
            let end = (sector * SECTOR + SECTOR).min(bytes.len());
            for fill in [0, 0xFF] {
                let mut damaged = bytes.to_vec();
                damaged[sector * SECTOR..end].fill(fill);
                add(format!("{path} sector {sector} of {fill:#04x}"), Some(damaged));
            }
        }
        for (other, content) in files.iter().filter(|(other, _)| *other != path) {
            add(format!("{path} with the bytes of {other}"), Some(content.to_vec()));
        }
    }
    all
}

#[test]
fn no_wounded_file_gives_a_wrong_answer() {
    let (mut counts, mut violations) = (Tally::default(), Vec::new());
    for golden in goldens().iter().filter(|g| g.name == "closed") {
        let wounds = wounds(golden);
        let judge = |(what, wound): &Wound| {
            let verdict = golden.judge(wound).map_err(|e| format!("{}: {what}: {e}", golden.name));
            verdict.and_then(|v| golden.judge_degraded(wound).map(|()| v).map_err(|e| format!("{what}: {e}")))
        };
        for ((what, _), verdict) in wounds.iter().zip(parallel(&wounds, judge)) {
            match verdict {
                Ok(verdict) => counts.add(kind(what.split(' ').next().unwrap_or(what)), &verdict),
                Err(message) => violations.push(message),
            }
        }
    }
    counts.print("wounds,");
    conclude(&format!("wounds: {} judged", counts.total()), &violations);
}

#[test]
fn stale_files_are_noticed() {
    let setup = Setup::new(3);
    let fs = SimFs::new();
    let db = setup.open(&fs).expect("an empty disk opens");
    let mut state = State::default();
    let mut versions = BTreeSet::new();
    for step in steps() {
        let _ = (state.apply(&step), common::model::perform(&db, &step));
        versions.extend(fs.files());
    }
    db.close().expect("no fault is planned");
    let golden = Golden { name: "stale", setup, fs: fs.fork(), state, earlier: Vec::new(), closed: true };
    let (mut counts, mut violations) = (Tally::default(), Vec::new());
    for (path, bytes) in golden.fs.files() {
        // Every other file of its kind that ever was, in its place.
        for (old, stale) in versions.iter().filter(|(old, stale)| kind(old) == kind(&path) && **stale != *bytes) {
            match golden.judge(&|fs| replace(fs, &path, stale)) {
                Ok(verdict @ Verdict::Detected(_)) => counts.add(kind(&path), &verdict),
                // The same log before its last sync or seal may hold every commit already.
                Ok(verdict @ Verdict::Harmless) if kind(&path) == "log" => counts.add("log", &verdict),
                // An index is made again from the records.
                Ok(verdict @ Verdict::Reported) if ["index", "text", "columns", "sparse"].contains(&kind(&path)) => {
                    counts.add(kind(&path), &verdict);
                }
                Ok(verdict) => violations.push(format!("{path} with the bytes of an older {old}: {verdict:?}")),
                Err(message) => violations.push(format!("{path} with the bytes of an older {old}: {message}")),
            }
        }
    }
    counts.print("stale files,");
    conclude(&format!("stale files: {} judged", counts.total()), &violations);
    assert!(counts.total() > 0);
}
