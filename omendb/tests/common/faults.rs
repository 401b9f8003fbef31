//! Failing calls: runs a workload with one planned failure and checks every answer on the way and after it.

use super::explore::{Layouts, expect_records, probe_step};
use super::model::{self, State, Step, Trouble};
use super::{Setup, no_panic};
use omendb::storage::sim::{Crash, Fault, FaultKind, Keep, SimFs};
use omendb::{Database, Error};

/// What a failed write may leave: the state before it, and, where the outcome is unknown, the state after it.
struct Possible {
    current: State,
    maybe: Option<State>,
}

impl Possible {
    fn holds(&self, state: &State) -> bool {
        *state == self.current || self.maybe.as_ref() == Some(state)
    }

    fn difference(&self, state: &State) -> String {
        model::difference(state, &self.current)
    }
}

struct Run<'a> {
    setup: Setup,
    fault: Fault,
    fs: SimFs,
    possible: Possible,
    poisoned: bool,
    steps: &'a [Step],
    layouts: &'a mut Layouts,
}

fn refuses(error: &Error) -> bool {
    matches!(error, Error::Unusable(_) | Error::Indeterminate(_) | Error::AlreadyExists(_) | Error::NotFound(_))
}

/// Runs `steps` with a failure planned. Returns whether the failure came about.
pub fn run(setup: Setup, steps: &[Step], fault: Fault, layouts: &mut Layouts) -> Result<bool, String> {
    let fs = SimFs::new();
    fs.set_fault(Some(fault));
    let possible = Possible { current: State::default(), maybe: None };
    let mut run = Run { setup, fault, fs, possible, poisoned: false, steps, layouts };
    no_panic(|| run.all())
        .and_then(|r| r)
        .map_err(|message| format!("{fault:?} ({setup:?}): {message}\n    steps {steps:?}"))
}

impl Run<'_> {
    fn all(&mut self) -> Result<bool, String> {
        let mut db: Option<Database> = None;
        for (i, step) in self.steps.iter().enumerate() {
            if db.is_none() {
                db = self.open().map_err(|e| format!("before step {i}: {e}"))?;
            }
            let Some(handle) = &db else { continue };
            self.step(handle, step).map_err(|e| format!("step {i} {step:?}: {e}"))?;
            if matches!(step, Step::Reopen | Step::Close) {
                db = None;
            } else {
                self.live(handle).map_err(|e| format!("after step {i} {step:?}: {e}"))?;
            }
        }
        drop(db);
        let hit = self.fs.failures() > 0;
        self.fs.set_fault(None);
        self.after()?;
        Ok(hit)
    }

    /// Opens the database; a failure must be a typed error of the device.
    fn open(&mut self) -> Result<Option<Database>, String> {
        match self.setup.open(&self.fs) {
            Ok(db) => {
                self.poisoned = false;
                if let Ok(state) = self.read(&db)? {
                    if !self.possible.holds(&state) {
                        return Err(format!("open finds {}", self.possible.difference(&state)));
                    }
                    self.possible = Possible { current: state, maybe: None };
                }
                Ok(Some(db))
            }
            Err(error) => self.device_error(&error).map(|()| None),
        }
    }

    /// What the database holds, read in every way: by its texts, which takes a while, for each different set of segment
    /// files and records after a failure, and where a failure may meet that very read for one in eight.
    fn state(&mut self, db: &Database) -> Result<State, Trouble> {
        let state = model::read_records(db)?;
        let failed = self.fs.failures() > 0 && self.layouts.is_new("live", &self.fs, &state);
        if failed || self.fault.at.is_multiple_of(8) {
            model::check_texts(db, &state)?;
        }
        Ok(state)
    }

    /// Reads everything. The inner error is a device error at a time when the device may fail.
    fn read(&mut self, db: &Database) -> Result<Result<State, Error>, String> {
        match self.state(db) {
            Ok(state) => Ok(Ok(state)),
            Err(Trouble::Error(error)) => {
                let spent = !self.fault.forever && self.fs.failures() > 0;
                // The probe itself may meet the planned failure, unless that has happened before or hits no reads.
                if self.fault.kind == FaultKind::Enospc {
                    return Err(format!("a read fails on a full device: {error}"));
                }
                self.device_error(&error)?;
                if spent {
                    // It may have been this very read that met it; a second must work.
                    return self.state(db).map(Ok).map_err(|e| format!("reads keep failing: {e}"));
                }
                Ok(Err(error))
            }
            Err(wrong) => Err(wrong.to_string()),
        }
    }

    fn device_error(&self, error: &Error) -> Result<(), String> {
        let fits = match error {
            Error::Indeterminate(_) => true,
            Error::DiskFull(_) => self.fault.kind == FaultKind::Enospc,
            Error::Io { .. } => self.fault.kind != FaultKind::Enospc,
            _ => false,
        };
        if !fits {
            return Err(format!("{:?} is reported as {}: {error}", self.fault.kind, error.name()));
        }
        if self.fs.failures() == 0 { Err(format!("an error without a failure: {error}")) } else { Ok(()) }
    }

    fn step(&mut self, db: &Database, step: &Step) -> Result<(), String> {
        if !self.possible.current.fits(step) || self.possible.maybe.as_ref().is_some_and(|s| !s.fits(step)) {
            return Ok(());
        }
        let mut next = self.possible.current.clone();
        let expected = next.apply(step);
        match (model::perform(db, step), expected) {
            (Ok(count), Ok(wanted)) => {
                if self.poisoned && step.is_write() {
                    return Err("a poisoned handle accepted a write".to_owned());
                }
                if count != wanted {
                    return Err(format!("returned {count}, expected {wanted}"));
                }
                if !self.poisoned {
                    self.possible = Possible { current: next, maybe: None };
                }
                Ok(())
            }
            (Err(error), Err(name)) if error.name() == name => Ok(()),
            // The write of unknown outcome decides what exists, so any refusal will do.
            (Err(error), _) if self.poisoned && refuses(&error) => Ok(()),
            // The flush that followed an acknowledged write met the failure; the write itself is safe in the log.
            (Err(Error::Unusable(_)), _) if db.stats().poisoned.is_some() => {
                self.poisoned = true;
                Ok(())
            }
            (Err(error), _) => {
                self.device_error(&error)?;
                if matches!(error, Error::Indeterminate(_)) {
                    self.poisoned = true;
                    if step.is_write() {
                        self.possible.maybe = Some(next);
                    }
                }
                Ok(())
            }
            (Ok(count), Err(name)) => Err(format!("returned {count}, expected {name}")),
        }
    }

    /// The handle must go on reading what is acknowledged.
    fn live(&mut self, db: &Database) -> Result<(), String> {
        match self.read(db) {
            Ok(Ok(state)) if !self.possible.holds(&state) => Err(format!("reads {}", self.possible.difference(&state))),
            Ok(_) => Ok(()),
            Err(message) => Err(message),
        }
    }

    /// After the process has ended: restarts and crashes must find what is acknowledged.
    fn after(&mut self) -> Result<(), String> {
        let images = [
            ("restart", self.fs.fork()),
            ("crash that keeps nothing", self.fs.crash(Crash::new(Keep::None))),
            ("crash that keeps all", self.fs.crash(Crash::new(Keep::All))),
            ("random crash", self.fs.crash(Crash::random(self.fault.at))),
            ("other random crash", self.fs.crash(Crash::random(self.fault.at + 1_000_003))),
        ];
        for (name, image) in images {
            let wrong = |what: String| format!("after a {name}: {what}");
            let db = self.setup.open(&image).map_err(|e| wrong(format!("open fails: {e}")))?;
            let mut state = model::read_records(&db).map_err(|e| wrong(e.to_string()))?;
            self.layouts.judge(&self.setup, &image, &db, &state).map_err(|e| wrong(e.to_string()))?;
            if !self.possible.holds(&state) {
                return Err(wrong(self.possible.difference(&state)));
            }
            // What is acknowledged from here on must not stand on bytes that a failed sync lost.
            let probe = probe_step(&state);
            let _ = state.apply(&probe);
            model::perform(&db, &probe).map_err(|e| wrong(format!("a write fails: {e}")))?;
            drop(db);
            let image = image.crash(Crash::new(Keep::None));
            let db = self.setup.open(&image).map_err(|e| wrong(format!("a write and a crash, open fails: {e}")))?;
            expect_records(&db, &state).map_err(|e| wrong(format!("a write and a crash: {e}")))?;
        }
        Ok(())
    }
}
