//! Crash states: records a workload once, then crashes it before every call that changes the disk, with every plan
//! of what survives, and reopens each different disk once.

use super::model::{self, State, Step, Trouble};
use super::{Setup, no_panic};
use omendb::Durability;
use omendb::storage::sim::{Crash, Moment, Mutant, Rng, SimFs};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// How thorough to be.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Up to this many waiting changes, every subset survives once.
    pub exhaustive: usize,
    /// Random subsets of more.
    pub random: usize,
    /// Crash the recovery of every nth different disk too (0: none).
    pub recovery_every: u64,
    /// Stop a workload at its first violation.
    pub first_only: bool,
}

/// What was done and found.
#[derive(Debug, Default)]
pub struct Report {
    /// Calls before which a crash was tried.
    pub moments: u64,
    /// Crashes during the workload.
    pub states: u64,
    /// Crashes during a recovery.
    pub recovery_states: u64,
    /// Different disks among them, each opened and read in full.
    pub images: u64,
    /// Of these, also written to, closed, opened and checked in depth.
    pub probed: u64,
    /// Different segments and records among them, each searched by its graphs and texts.
    pub layouts: u64,
    pub violations: Vec<String>,
}

impl Report {
    pub fn add(&mut self, other: Report) {
        self.moments += other.moments;
        self.states += other.states;
        self.recovery_states += other.recovery_states;
        self.images += other.images;
        self.probed += other.probed;
        self.layouts += other.layouts;
        self.violations.extend(other.violations);
    }
}

/// A workload that has run: the disk at every moment, and when each step began and ended.
struct Recording {
    moments: Vec<Moment>,
    /// First call of each step, and the first call after it.
    spans: Vec<(u64, u64)>,
    /// States before the first and after each step.
    history: Vec<State>,
}

fn record(setup: &Setup, mutant: Option<Mutant>, steps: &[Step]) -> Result<Recording, String> {
    let fs = SimFs::new();
    fs.set_mutant(mutant);
    fs.record();
    let mut db = Some(setup.open(&fs).map_err(|e| format!("open of an empty disk: {e}"))?);
    let mut state = State::default();
    let (mut spans, mut history) = (Vec::new(), vec![state.clone()]);
    for (i, step) in steps.iter().enumerate() {
        let start = fs.calls();
        let handle = db.take().ok_or("a step after Close")?;
        let expected = state.apply(step);
        let got = model::perform(&handle, step);
        if got.as_ref().map_err(|e| e.name()) != expected.as_ref().map_err(|e| *e) {
            return Err(format!("step {i} {step:?} returned {got:?}, expected {expected:?}"));
        }
        db = match step {
            Step::Close => None,
            Step::Reopen => {
                drop(handle);
                Some(setup.open(&fs).map_err(|e| format!("step {i}: open after a clean close: {e}"))?)
            }
            _ => Some(handle),
        };
        spans.push((start, fs.calls()));
        history.push(state.clone());
    }
    if let Some(db) = &db {
        let live = model::read_all(db).map_err(|e| format!("before any crash: {e}"))?;
        if live != state {
            return Err(format!("before any crash: {}", model::difference(&live, &state)));
        }
    }
    Ok(Recording { moments: fs.take_moments(), spans, history })
}

impl Recording {
    /// The states that a crash before call `call` may leave: the indices into the history.
    fn allowed(&self, call: u64, steps: &[Step], durability: Durability) -> (usize, usize) {
        let ended = self.spans.iter().take_while(|(_, end)| *end <= call).count();
        let started = self.spans.iter().take_while(|(start, end)| *start < call || *end <= call).count();
        let durable = match durability {
            Durability::Commit => ended,
            _ => steps[..ended].iter().rposition(Step::makes_durable).map_or(0, |i| i + 1),
        };
        (durable, started)
    }
}

/// What a disk recovered to: an index into the different states of a history, or a message.
type Recovered = Result<usize, String>;

struct Explorer<'a> {
    setup: Setup,
    mutant: Option<Mutant>,
    effort: Effort,
    name: &'a str,
    steps: &'a [Step],
    recording: Recording,
    /// The different states of the history, and which of them each index is.
    distinct: Vec<State>,
    index: Vec<usize>,
    seen: HashMap<u128, Recovered>,
    layouts: Layouts,
    /// What crashes during the recovery of a disk lead to.
    children: HashMap<u128, BTreeSet<usize>>,
    report: Report,
}

/// Explores one workload.
pub fn explore(name: &str, setup: Setup, mutant: Option<Mutant>, steps: &[Step], effort: Effort) -> Report {
    let recording = match no_panic(|| record(&setup, mutant, steps)).and_then(|r| r) {
        Ok(recording) => recording,
        Err(message) => {
            return Report { violations: vec![format!("{name} ({setup:?}): {message}")], ..Report::default() };
        }
    };
    let (mut distinct, mut index) = (Vec::<State>::new(), Vec::new());
    for state in &recording.history {
        let known = distinct.iter().position(|s| s == state);
        index.push(known.unwrap_or(distinct.len()));
        if known.is_none() {
            distinct.push(state.clone());
        }
    }
    let (seen, children, report) = (HashMap::new(), HashMap::new(), Report::default());
    let layouts = Layouts::default();
    let mut explorer =
        Explorer { setup, mutant, effort, name, steps, recording, distinct, index, seen, layouts, children, report };
    explorer.run();
    explorer.report.layouts = explorer.layouts.0.len() as u64;
    explorer.report
}

impl Explorer<'_> {
    fn run(&mut self) {
        let moments = std::mem::take(&mut self.recording.moments);
        for (m, moment) in moments.iter().enumerate() {
            self.report.moments += 1;
            let allowed = self.recording.allowed(moment.call, self.steps, self.setup.durability);
            let seed = self.setup.seed.wrapping_add(m as u64 * 7_919);
            for crash in Crash::plans(moment.waiting(), self.effort.exhaustive, self.effort.random, seed) {
                self.report.states += 1;
                let image = moment.crash(crash);
                let place = || format!("crash before call {} {:?} {} {crash:?}", moment.call, moment.op, moment.path);
                self.visit(&image, allowed, &place);
                if self.effort.first_only && !self.report.violations.is_empty() {
                    return;
                }
            }
        }
    }

    fn violation(&mut self, place: &dyn Fn() -> String, message: &str) {
        let line = format!("{} ({:?}): {}: {message}\n    steps {:?}", self.name, self.setup, place(), self.steps);
        self.report.violations.push(line);
    }

    /// Checks that a disk recovers to an allowed state, and so do crashes of its recovery.
    fn visit(&mut self, image: &SimFs, allowed: (usize, usize), place: &dyn Fn() -> String) {
        let hash = image.fingerprint();
        let deep = self.effort.recovery_every > 0 && (hash as u64).is_multiple_of(self.effort.recovery_every);
        if deep && !self.children.contains_key(&hash) {
            // Entered first, so that a disk that recovers to itself ends the walk.
            self.children.insert(hash, BTreeSet::new());
            let children = self.crash_recovery(image, allowed, place);
            self.children.insert(hash, children);
        }
        let recovered = self.recover_once(image, hash);
        self.judge(recovered, allowed, place);
        for child in self.children.get(&hash).cloned().unwrap_or_default() {
            self.judge(Ok(child), allowed, &|| format!("{}, then another during its recovery", place()));
        }
    }

    fn judge(&mut self, recovered: Recovered, (low, high): (usize, usize), place: &dyn Fn() -> String) {
        match recovered {
            Err(message) => self.violation(place, &message),
            Ok(found) if self.index[low..=high].contains(&found) => {}
            Ok(found) => {
                let after = self.index.iter().rposition(|i| *i == found).unwrap_or(0);
                let difference = model::difference(&self.distinct[found], &self.recording.history[low]);
                let message = format!(
                    "recovered the state after step {after}, but steps 0..{low} are acknowledged and 0..{high} begun: \
                        {difference}"
                );
                self.violation(place, &message);
            }
        }
    }

    fn recover_once(&mut self, image: &SimFs, hash: u128) -> Recovered {
        if let Some(known) = self.seen.get(&hash) {
            return known.clone();
        }
        self.report.images += 1;
        let probe = ((hash >> 64) as u64).is_multiple_of(8);
        self.report.probed += u64::from(probe);
        let fs = image.fork();
        fs.set_mutant(self.mutant);
        let (setup, layouts) = (&self.setup, &mut self.layouts);
        let result = no_panic(|| recover(setup, &fs, probe, layouts)).and_then(|r| r.map_err(|e| e.to_string()));
        let recovered = result.and_then(|state| {
            self.distinct.iter().position(|s| *s == state).ok_or_else(|| {
                let nearest = self.distinct.iter().map(|s| model::difference(&state, s)).min_by_key(String::len);
                format!("recovered a state that never was; from the nearest: {}", nearest.unwrap_or_default())
            })
        });
        self.seen.insert(hash, recovered.clone());
        recovered
    }

    /// Crashes the recovery of `image` at every call; returns what these recover to.
    fn crash_recovery(
        &mut self,
        image: &SimFs,
        allowed: (usize, usize),
        place: &dyn Fn() -> String,
    ) -> BTreeSet<usize> {
        let fs = image.fork();
        fs.set_mutant(self.mutant);
        fs.record();
        // Errors and panics of this opening are reported by `recover_once`.
        let _ = no_panic(|| drop(self.setup.open(&fs)));
        let mut found = BTreeSet::new();
        for (m, moment) in fs.take_moments().iter().enumerate() {
            for crash in Crash::plans(moment.waiting(), self.effort.exhaustive.min(4), 2, m as u64) {
                self.report.recovery_states += 1;
                let again = moment.crash(crash);
                let hash = again.fingerprint();
                match self.recover_once(&again, hash) {
                    Ok(state) => {
                        found.insert(state);
                    }
                    Err(message) => {
                        let place =
                            || format!("{}, then before recovery's {:?} {} {crash:?}", place(), moment.op, moment.path);
                        self.judge(Err(message), allowed, &place);
                    }
                }
            }
        }
        found
    }
}

/// Segments with their derived files, and records, whose indexes have been judged: what a search of graphs or texts
/// finds depends on nothing else, so one disk of each kind will do.
#[derive(Debug, Default)]
pub struct Layouts(HashSet<u64>);

impl Layouts {
    /// Whether none like it was seen before by those who say `who`.
    pub fn is_new(&mut self, who: &str, fs: &SimFs, state: &State) -> bool {
        let mut hasher = DefaultHasher::new();
        let files = fs.files();
        files.iter().filter(|(path, _)| path.starts_with("segments/")).for_each(|file| file.hash(&mut hasher));
        format!("{who} {state:?}").hash(&mut hasher);
        self.0.insert(hasher.finish())
    }

    /// Loads or makes every graph and text index of a disk that was just opened, unless one like it was seen before,
    /// and searches by them.
    pub fn judge(&mut self, setup: &Setup, fs: &SimFs, db: &omendb::Database, state: &State) -> Result<(), Trouble> {
        if !self.is_new("opened", fs, state) {
            return Ok(());
        }
        let named = |trouble: Trouble| match trouble {
            Trouble::Error(e) => Trouble::Wrong(format!("the indexes cannot be searched: {}: {e}", e.name())),
            wrong => wrong,
        };
        model::check_texts(db, state).map_err(named)?;
        let copy = setup.open(&fs.fork())?;
        model::index(&copy, false).map_err(|e| named(e.into()))?;
        expect(&copy, state).map_err(named)
    }
}

/// Opens a disk and reads it in every way; a `probe` also writes, closes, and opens again.
pub fn recover(setup: &Setup, fs: &SimFs, probe: bool, layouts: &mut Layouts) -> Result<State, Trouble> {
    let db = setup.open(fs)?;
    let state = model::read_records(&db)?;
    layouts.judge(setup, fs, &db, &state)?;
    if probe {
        let mut expected = state.clone();
        let step = probe_step(&state);
        let _ = expected.apply(&step);
        let wrong = |what: String| Trouble::Wrong(format!("after recovery, {what}"));
        model::perform(&db, &step).map_err(|e| wrong(format!("a write fails: {e}")))?;
        expect_records(&db, &expected).map_err(|e| wrong(format!("after a write: {e}")))?;
        drop(db);
        // A crash right after the acknowledgement, unless acknowledgements promise less.
        let fs = if setup.durability == Durability::Commit { fs.crash(Crash::random(1)) } else { fs.clone() };
        let db = setup.open(&fs).map_err(|e| wrong(format!("a write and a crash, open fails: {e}")))?;
        expect_records(&db, &expected).map_err(|e| wrong(format!("a write and a crash: {e}")))?;
        let report = db.check(true)?;
        if !report.problems.is_empty() {
            return Err(wrong(format!("check finds {:?}", report.problems)));
        }
        db.close().map_err(|e| wrong(format!("close fails: {e}")))?;
    }
    Ok(state)
}

/// Compares all but the texts' indexes of a database with what it must hold.
pub fn expect_records(db: &omendb::Database, expected: &State) -> Result<(), Trouble> {
    let got = model::read_records(db)?;
    if got == *expected { Ok(()) } else { Err(Trouble::Wrong(model::difference(&got, expected))) }
}

/// A write that is possible in any state.
pub fn probe_step(state: &State) -> Step {
    let mut rng = Rng::new(5);
    match state.0.iter().next() {
        Some((name, table)) => {
            let doc = super::generate::doc(&mut rng, &table.schema);
            Step::Upsert { name: name.clone(), rows: vec![model::Row { id: omendb::Id::from("probe"), doc }] }
        }
        None => Step::Create { name: "probe".to_owned(), schema: super::generate::schema(&mut rng, false) },
    }
}

/// Compares a database with what it must hold.
pub fn expect(db: &omendb::Database, expected: &State) -> Result<(), Trouble> {
    let got = model::read_all(db)?;
    if got == *expected { Ok(()) } else { Err(Trouble::Wrong(model::difference(&got, expected))) }
}
