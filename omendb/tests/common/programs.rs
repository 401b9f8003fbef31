//! Random programmes: operations, reopenings and crashes in any order, compared with the model.

use super::explore::expect;
use super::generate::{self, Mix};
use super::model::{self, State, Step};
use super::{Setup, no_panic};
use omendb::storage::sim::{Crash, Rng, SimFs};
use omendb::{Database, Durability};

/// What a programme did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Ran {
    pub steps: u64,
    pub writes: u64,
    pub refused: u64,
    pub reopened: u64,
    pub crashed: u64,
    pub fingerprint: u128,
}

/// Runs the programme of `setup.seed`.
pub fn run(setup: Setup, mix: &Mix) -> Result<(Ran, SimFs), String> {
    let mut program = Program {
        setup,
        rng: Rng::new(setup.seed),
        fs: SimFs::new(),
        since: vec![State::default()],
        durable: 0,
        ran: Ran::default(),
    };
    no_panic(|| program.all(mix)).and_then(|r| r).map_err(|e| format!("seed {} ({setup:?}): {e}", setup.seed))?;
    program.ran.fingerprint = program.fs.fingerprint();
    Ok((program.ran, program.fs))
}

struct Program {
    setup: Setup,
    rng: Rng,
    fs: SimFs,
    /// The states since the last recovery, the newest last.
    since: Vec<State>,
    /// How many of them a crash must not undo.
    durable: usize,
    ran: Ran,
}

impl Program {
    fn state(&self) -> &State {
        &self.since[self.since.len() - 1]
    }

    fn all(&mut self, mix: &Mix) -> Result<(), String> {
        let mut db = self.setup.open(&self.fs).map_err(|e| format!("open of an empty disk: {e}"))?;
        for i in 0..mix.steps {
            self.ran.steps += 1;
            if self.rng.one_in(15) {
                db = self.crash(db).map_err(|e| format!("step {i}, a crash: {e}"))?;
                continue;
            }
            let state = self.state().clone();
            let step = generate::step(&mut self.rng, &state, mix);
            db = self.step(db, &step).map_err(|e| format!("step {i} {step:?}: {e}"))?;
            if self.rng.one_in(6) {
                expect(&db, self.state()).map_err(|e| format!("after step {i} {step:?}: {e}"))?;
            }
        }
        expect(&db, self.state()).map_err(|e| format!("at the end: {e}"))?;
        let report = db.check(true).map_err(|e| format!("check: {e}"))?;
        if !report.problems.is_empty() {
            return Err(format!("check finds {:?}", report.problems));
        }
        db.close().map_err(|e| format!("close: {e}"))
    }

    fn step(&mut self, db: Database, step: &Step) -> Result<Database, String> {
        let mut next = self.state().clone();
        let expected = next.apply(step);
        let got = model::perform(&db, step);
        if got.as_ref().map_err(|e| e.name()) != expected.as_ref().map_err(|e| *e) {
            return Err(format!("returned {got:?}, expected {expected:?}"));
        }
        if step.is_write() {
            self.ran.writes += u64::from(got.is_ok());
            self.ran.refused += u64::from(got.is_err());
            self.since.push(next);
        }
        if step.makes_durable() || self.setup.durability == Durability::Commit {
            self.durable = self.since.len() - 1;
        }
        if *step != Step::Reopen {
            return Ok(db);
        }
        drop(db);
        self.ran.reopened += 1;
        let db = self.setup.open(&self.fs).map_err(|e| format!("open after a clean close: {e}"))?;
        let recovery = db.recovery();
        if recovery.truncated_bytes > 0 {
            return Err(format!("a clean close left a torn tail: {recovery:?}"));
        }
        expect(&db, self.state()).map_err(|e| e.to_string())?;
        Ok(db)
    }

    fn crash(&mut self, db: Database) -> Result<Database, String> {
        let crashed = self.fs.crash(Crash::random(self.rng.next()));
        drop(db);
        self.ran.crashed += 1;
        self.fs = crashed;
        let db = self.setup.open(&self.fs).map_err(|e| format!("open: {e}"))?;
        let got = model::read_all(&db).map_err(|e| e.to_string())?;
        if !self.since[self.durable..].contains(&got) {
            let lost = model::difference(&got, &self.since[self.durable]);
            return Err(format!("recovered none of the {} allowed states: {lost}", self.since.len() - self.durable));
        }
        self.since = vec![got];
        self.durable = 0;
        Ok(db)
    }
}
