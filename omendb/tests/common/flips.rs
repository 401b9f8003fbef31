//! Damaged files: a golden database, something broken in it, and what it then says.

use super::model::{self, State, Step, Trouble};
use super::{Setup, no_panic};
use omendb::storage::sim::SimFs;
use std::collections::BTreeMap;

/// What came of a damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// An error, at opening or at reading, of this name.
    Detected(&'static str),
    /// Every answer is right, and only `check` complains.
    Reported,
    /// Every answer is right.
    Harmless,
    /// The end of an unclosed log was dropped, and the recovery says so.
    TornTail,
}

/// A database on a disk, and what it holds.
pub struct Golden {
    pub name: &'static str,
    pub setup: Setup,
    pub fs: SimFs,
    pub state: State,
    /// Every state on the way there.
    pub earlier: Vec<State>,
    /// Whether it was closed cleanly; if not, the end of the log may be taken for a torn tail.
    pub closed: bool,
}

/// Builds a database by `steps`; with a clean close, or as a killed process leaves it.
pub fn golden(name: &'static str, setup: Setup, steps: &[Step], close: bool) -> Result<Golden, String> {
    let fs = SimFs::new();
    let db = setup.open(&fs).map_err(|e| e.to_string())?;
    let mut state = State::default();
    let mut earlier = vec![state.clone()];
    for step in steps {
        let expected = state.apply(step);
        let got = model::perform(&db, step);
        if got.as_ref().map_err(|e| e.name()) != expected.as_ref().map_err(|e| *e) {
            return Err(format!("{step:?} returned {got:?}, expected {expected:?}"));
        }
        earlier.push(state.clone());
    }
    let fs = if close {
        db.close().map_err(|e| e.to_string())?;
        fs.fork()
    } else {
        fs.fork()
    };
    drop(db);
    Ok(Golden { name, setup, fs, state, earlier, closed: close })
}

/// The kind of a file, for counting.
pub fn kind(path: &str) -> &str {
    if path.starts_with("MANIFEST") {
        return "manifest";
    }
    match path.rsplit_once('.') {
        Some((_, extension)) => extension,
        None => path,
    }
}

impl Golden {
    /// Breaks a copy of the disk with `damage`, and asks it everything. An error is a violation.
    pub fn judge(&self, damage: &dyn Fn(&SimFs)) -> Result<Verdict, String> {
        let fs = self.fs.fork();
        damage(&fs);
        no_panic(|| self.ask(&fs)).and_then(|r| r)
    }

    fn ask(&self, fs: &SimFs) -> Result<Verdict, String> {
        let db = match self.setup.open(fs) {
            Ok(db) => db,
            Err(error) => return Ok(Verdict::Detected(error.name())),
        };
        let recovery = db.recovery();
        // As it is found, and with every graph and text index loaded or made again.
        let answers = model::read_all(&db).and_then(|state| {
            model::index(&db, false)?;
            let again = model::read_all(&db)?;
            let same = state == again;
            if same { Ok(state) } else { Err(Trouble::Wrong(model::difference(&again, &state))) }
        });
        match answers {
            Ok(state) if state == self.state => match db.check(true) {
                Ok(report) if report.problems.is_empty() => Ok(Verdict::Harmless),
                _ => Ok(Verdict::Reported),
            },
            Ok(state) if !self.closed && recovery.truncated_bytes > 0 && self.earlier.contains(&state) => {
                Ok(Verdict::TornTail)
            }
            Ok(state) => Err(format!("SILENTLY WRONG: {}", model::difference(&state, &self.state))),
            Err(Trouble::Error(error)) => Ok(Verdict::Detected(error.name())),
            Err(Trouble::Wrong(what)) => Err(format!("SILENTLY WRONG: {what}")),
        }
    }

    /// As `judge`, opened in degraded mode: a record must be right, missing with an error, or, where the database says
    /// that it is damaged (a newer version may have been lost with the log), as it once was.
    pub fn judge_degraded(&self, damage: &dyn Fn(&SimFs)) -> Result<(), String> {
        let fs = self.fs.fork();
        damage(&fs);
        no_panic(|| self.ask_degraded(&fs)).and_then(|r| r)
    }

    fn ask_degraded(&self, fs: &SimFs) -> Result<(), String> {
        let options = self.setup.options().degraded(true);
        let Ok(db) = options.open_on(std::sync::Arc::new(fs.clone())) else { return Ok(()) };
        let says = !db.stats().damaged.is_empty() || db.recovery().truncated_bytes > 0;
        for (name, table) in &self.state.0 {
            let Ok(collection) = db.collection(name) else {
                if says {
                    continue;
                }
                return Err(format!("degraded: collection {name} is gone without a word"));
            };
            for (id, doc) in &table.docs {
                match collection.get(id) {
                    Err(_) => {}
                    Ok(None) if says => {}
                    Ok(None) => return Err(format!("degraded: {name}/{id:?} is gone without a word")),
                    Ok(Some(r)) => {
                        let read = model::Doc::of(&r);
                        let right = r.id == *id && read == **doc;
                        let earlier =
                            |s: &State| s.0.get(name).and_then(|t| t.docs.get(id)).is_some_and(|d| read == **d);
                        let once = || says && self.earlier.iter().any(earlier);
                        if !right && !once() {
                            return Err(format!("degraded: {name}/{id:?} reads {r:?}, expected {doc:?}"));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Counts of verdicts by kind of file.
#[derive(Debug, Default)]
pub struct Tally(pub BTreeMap<String, BTreeMap<String, u64>>);

impl Tally {
    pub fn add(&mut self, kind: &str, verdict: &Verdict) {
        let name = match verdict {
            Verdict::Detected(error) => format!("detected as {error}"),
            Verdict::Reported => "reported by check".to_owned(),
            Verdict::Harmless => "harmless".to_owned(),
            Verdict::TornTail => "torn tail".to_owned(),
        };
        *self.0.entry(kind.to_owned()).or_default().entry(name).or_default() += 1;
    }

    pub fn total(&self) -> u64 {
        self.0.values().flat_map(|v| v.values()).sum()
    }

    pub fn print(&self, title: &str) {
        for (kind, verdicts) in &self.0 {
            let parts: Vec<String> = verdicts.iter().map(|(name, n)| format!("{n} {name}")).collect();
            println!("{title} {kind}: {}", parts.join(", "));
        }
    }
}
