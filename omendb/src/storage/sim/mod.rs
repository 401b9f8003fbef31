//! A simulated file system for tests: it keeps what is durable apart from what is not, crashes on demand, and fails
//! on demand. See `disk` for what it promises less than a real one might, [`Crash`] for what a crash can keep,
//! [`Fault`] for what can fail and [`Mutant`] for deliberate defects that test programmes must notice.

mod crash;
mod disk;
mod fault;
#[cfg(test)]
mod tests;

pub use crash::{Crash, Fill, Keep, Pending, PendingKind, Rng};
pub use disk::SECTOR;
pub use fault::{Fault, FaultKind, Mutant, Op};

use super::locks::Locks;
use super::mem::{Shared, fail, read_bytes};
use super::{Bytes, DirEntry, File, LockGuard, LockKind, OpenMode, Storage};
use disk::{Disk, NodeId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// The disk just before a call that can change what a crash leaves behind.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The call's number; the first is 0.
    pub call: u64,
    /// The call that is about to be made.
    pub op: Op,
    /// On what.
    pub path: Arc<str>,
    disk: Disk,
}

impl Moment {
    /// What waits to become durable.
    pub fn pending(&self) -> Vec<Pending> {
        self.disk.pending()
    }

    /// How many changes wait.
    pub fn waiting(&self) -> usize {
        self.disk.pending().len()
    }

    /// The file system found after a crash at this moment.
    pub fn crash(&self, crash: Crash) -> SimFs {
        SimFs::from_disk(crash.apply(&self.disk))
    }
}

#[derive(Debug, Default)]
struct State {
    disk: Disk,
    calls: u64,
    stop_at: Option<u64>,
    fault: Option<Fault>,
    failures: u64,
    capacity: Option<u64>,
    mutant: Option<Mutant>,
    mutant_hits: u64,
    late_dirs: Vec<String>,
    removed: bool,
    moments: Option<Vec<Moment>>,
}

/// What a call must do, by the plan.
enum Verdict {
    Go,
    /// Fail, after half of the work where that makes sense.
    Fail(Fault),
}

impl State {
    /// Counts a call; says whether it is to fail.
    fn enter(&mut self, op: Op, path: &str) -> io::Result<Verdict> {
        let call = self.calls;
        self.calls += 1;
        if self.stop_at.is_some_and(|stop| call >= stop) {
            return Err(io::Error::other("the simulated process has stopped"));
        }
        if op.changes() {
            if let Some(moments) = &mut self.moments {
                moments.push(Moment { call, op, path: path.into(), disk: self.disk.clone() });
            }
            if self.removed {
                self.removed = false;
                for dir in std::mem::take(&mut self.late_dirs) {
                    self.disk.sync_dir(&dir)?;
                }
            }
        }
        match self.fault {
            Some(fault) if call >= fault.at && fault.kind.applies(op) => {
                if fault.forever || self.failures == 0 {
                    self.failures += 1;
                    return Ok(Verdict::Fail(fault));
                }
                Ok(Verdict::Go)
            }
            _ => Ok(Verdict::Go),
        }
    }

    /// As `enter`, for calls that fail without leaving anything behind.
    fn enter_whole(&mut self, op: Op, path: &str) -> io::Result<()> {
        match self.enter(op, path)? {
            Verdict::Go => Ok(()),
            Verdict::Fail(fault) => Err(fault.kind.error()),
        }
    }

    fn check_capacity(&self, grows_by: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if grows_by > 0 && self.disk.used() + grows_by > capacity => Err(FaultKind::Enospc.error()),
            _ => Ok(()),
        }
    }

    /// Whether the mutant's nth call on `path` is this one; counts it.
    fn mutant_turn(&mut self, wanted: &str, path: &str, nth: u64) -> bool {
        let selected = path.contains(wanted);
        self.mutant_hits += u64::from(selected);
        selected && self.mutant_hits == nth + 1
    }

    fn sync_data(&mut self, id: NodeId, path: &str) -> io::Result<()> {
        if let Verdict::Fail(fault) = self.enter(Op::SyncData, path)? {
            self.disk.lose_pending(id, fault.readable_after_failed_sync)?;
            return Err(fault.kind.error());
        }
        let mutant = self.mutant;
        match mutant {
            Some(Mutant::SkipSync { path: wanted }) if path.contains(wanted) => Ok(()),
            Some(Mutant::SkipNthSync { path: wanted, nth }) if self.mutant_turn(wanted, path, nth) => Ok(()),
            Some(Mutant::RenameBeforeSync { path: wanted }) if path.contains(wanted) => self.disk.defer_sync(id),
            _ => self.disk.sync_data(id),
        }
    }

    fn write(&mut self, id: NodeId, path: &str, buf: &[u8], offset: u64) -> io::Result<()> {
        if let Verdict::Fail(fault) = self.enter(Op::Write, path)? {
            if fault.torn_write {
                self.disk.write(id, &buf[..buf.len() / 2], offset)?;
            }
            return Err(fault.kind.error());
        }
        let len = self.disk.node(id)?.data.len() as u64;
        let room = offset.saturating_add(buf.len() as u64).saturating_sub(len);
        self.check_capacity(room)?;
        let mutant = self.mutant;
        match mutant {
            Some(Mutant::LoseWrite { path: wanted, nth }) if self.mutant_turn(wanted, path, nth) => Ok(()),
            Some(Mutant::MisdirectWrite { path: wanted, nth }) if self.mutant_turn(wanted, path, nth) => {
                self.disk.write(id, buf, offset.saturating_add(SECTOR as u64))
            }
            _ => self.disk.write(id, buf, offset),
        }
    }
}

/// A simulated file system. Clones share it; [`SimFs::fork`] copies it.
#[derive(Debug, Clone, Default)]
pub struct SimFs {
    state: Arc<Mutex<State>>,
    locks: Locks,
}

impl SimFs {
    /// An empty disk.
    pub fn new() -> Self {
        SimFs::default()
    }

    fn from_disk(disk: Disk) -> Self {
        SimFs { state: Arc::new(Mutex::new(State { disk, ..State::default() })), locks: Locks::default() }
    }

    /// A copy of the disk, waiting changes and all, without locks, faults, mutants and counts.
    pub fn fork(&self) -> SimFs {
        SimFs::from_disk(self.state.lock().disk.clone())
    }

    /// Calls made so far.
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// Calls that failed by plan so far.
    pub fn failures(&self) -> u64 {
        self.state.lock().failures
    }

    /// How often a mutant that counts calls found one of its own.
    pub fn mutant_hits(&self) -> u64 {
        self.state.lock().mutant_hits
    }

    /// Plans a failure, or none. The count of failures starts again.
    pub fn set_fault(&self, fault: Option<Fault>) {
        let mut state = self.state.lock();
        state.fault = fault;
        state.failures = 0;
    }

    /// From call number `at` on nothing is done and every call fails: the process died.
    pub fn stop_at(&self, at: Option<u64>) {
        self.state.lock().stop_at = at;
    }

    /// Limits the bytes of all files together.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Plants a deliberate defect, or none.
    pub fn set_mutant(&self, mutant: Option<Mutant>) {
        let mut state = self.state.lock();
        state.mutant = mutant;
        state.mutant_hits = 0;
    }

    /// Keeps a copy of the disk before every call that changes it, from now on.
    pub fn record(&self) {
        self.state.lock().moments = Some(Vec::new());
    }

    /// Ends the recording and adds the disk as it is now as a last moment.
    pub fn take_moments(&self) -> Vec<Moment> {
        let mut state = self.state.lock();
        let mut moments = state.moments.take().unwrap_or_default();
        moments.push(Moment { call: state.calls, op: Op::Len, path: "(the end)".into(), disk: state.disk.clone() });
        moments
    }

    /// What waits to become durable.
    pub fn pending(&self) -> Vec<Pending> {
        self.state.lock().disk.pending()
    }

    /// The file system found after a crash now.
    pub fn crash(&self, crash: Crash) -> SimFs {
        SimFs::from_disk(crash.apply(&self.state.lock().disk))
    }

    /// As `crash`, where `choose(n)` picks a number below n: for each waiting change 1 of 2 keeps it, then one of
    /// three fills. So a fuzzer's bytes can steer a crash.
    pub fn crash_by(&self, choose: &mut dyn FnMut(usize) -> usize) -> SimFs {
        let state = self.state.lock();
        let kept: Vec<u64> = state.disk.pending().iter().filter(|_| choose(2) == 1).map(|p| p.at).collect();
        let fill = [Fill::Zero, Fill::Garbage, Fill::Stale][choose(3) % 3];
        SimFs::from_disk(state.disk.crash(&|at| kept.binary_search(&at).is_ok(), fill))
    }

    /// Flips the bits of `mask` in one byte of a file, on the disk and in memory.
    pub fn damage(&self, path: &str, offset: u64, mask: u8) -> io::Result<()> {
        self.state.lock().disk.damage(path, usize::try_from(offset).unwrap_or(usize::MAX), mask)
    }

    /// All files and their bytes, as a program sees them.
    pub fn files(&self) -> BTreeMap<String, Arc<Vec<u8>>> {
        let state = self.state.lock();
        let bytes = |id: &NodeId| state.disk.nodes.get(id).map(|n| n.data.clone()).unwrap_or_default();
        state.disk.names.files.iter().map(|(path, id)| (path.to_string(), bytes(id))).collect()
    }

    /// A hash of all names and bytes as a program sees them: equal disks have equal hashes.
    pub fn fingerprint(&self) -> u128 {
        let state = self.state.lock();
        let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
        for dir in &state.disk.names.dirs {
            hasher.update(&(dir.len() as u64).to_le_bytes());
            hasher.update(dir.as_bytes());
        }
        for (path, id) in &state.disk.names.files {
            let data = state.disk.nodes.get(id).map(|n| n.data.as_slice()).unwrap_or_default();
            hasher.update(&(path.len() as u64).to_le_bytes());
            hasher.update(path.as_bytes());
            hasher.update(&(data.len() as u64).to_le_bytes());
            hasher.update(data);
        }
        hasher.digest128()
    }
}

impl Storage for SimFs {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.enter_whole(Op::CreateDir, path)?;
        state.disk.create_dir(path)
    }

    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let mut state = self.state.lock();
        let id = if mode == OpenMode::CreateNew {
            state.enter_whole(Op::Create, path)?;
            state.disk.create(path)?
        } else {
            state.enter_whole(Op::Open, path)?;
            state.disk.find(path)?
        };
        Ok(Box::new(SimFile { fs: self.clone(), id, path: path.into(), writable: mode != OpenMode::Read }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        let mut state = self.state.lock();
        state.enter_whole(Op::List, dir)?;
        if !state.disk.names.has_dir(dir) {
            return fail(io::ErrorKind::NotFound, dir);
        }
        let mut entries = Vec::new();
        for (path, id) in &state.disk.names.files {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            if parent == dir {
                entries.push(DirEntry { name: name.to_owned(), len: state.disk.node(*id)?.data.len() as u64 });
            }
        }
        Ok(entries)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.enter_whole(Op::Rename, to)?;
        let deferred = state.disk.find(from).and_then(|id| state.disk.node(id)).is_ok_and(|n| n.deferred);
        state.disk.rename(from, to)?;
        if deferred {
            state.disk.hurry_last_name();
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.enter_whole(Op::Remove, path)?;
        state.disk.remove(path)?;
        if matches!(state.mutant, Some(Mutant::RemoveBeforeDirSync { path: wanted }) if path.contains(wanted)) {
            state.disk.hurry_last_name();
            state.removed = true;
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.enter_whole(Op::SyncDir, dir)?;
        match state.mutant {
            Some(Mutant::SkipDirSync { path }) if dir.contains(path) => Ok(()),
            Some(Mutant::RemoveBeforeDirSync { .. }) => {
                state.late_dirs.push(dir.to_owned());
                Ok(())
            }
            _ => state.disk.sync_dir(dir),
        }
    }

    fn lock(&self, path: &str, kind: LockKind, note: &str) -> io::Result<Box<dyn LockGuard>> {
        let mut state = self.state.lock();
        state.enter_whole(Op::Lock, path)?;
        let guard = self.locks.take(path, kind, note)?;
        if state.disk.find(path).is_err() {
            state.disk.create(path)?;
        }
        Ok(guard)
    }

    fn map(&self, path: &str) -> io::Result<Bytes> {
        let mut state = self.state.lock();
        state.enter_whole(Op::Map, path)?;
        let id = state.disk.find(path)?;
        Ok(Bytes::new(Shared(state.disk.node(id)?.data.clone())))
    }

    fn describe(&self) -> String {
        "simulated disk".to_owned()
    }
}

#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    id: NodeId,
    path: Arc<str>,
    writable: bool,
}

impl SimFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { fail(io::ErrorKind::PermissionDenied, &self.path) }
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.fs.state.lock();
        state.enter_whole(Op::Read, &self.path)?;
        read_bytes(&state.disk.node(self.id)?.data, buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        self.fs.state.lock().write(self.id, &self.path, buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fs.state.lock().sync_data(self.id, &self.path)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.fs.state.lock();
        state.enter_whole(Op::SetLen, &self.path)?;
        let old = state.disk.node(self.id)?.data.len() as u64;
        state.check_capacity(len.saturating_sub(old))?;
        state.disk.set_len(self.id, len)
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.fs.state.lock();
        state.enter_whole(Op::Len, &self.path)?;
        Ok(state.disk.node(self.id)?.data.len() as u64)
    }
}
