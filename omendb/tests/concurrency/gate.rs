//! A storage whose calls stop at a chosen one, so that a test can look at the rest of the database meanwhile.

use omendb::storage::{Bytes, DirEntry, File, LockGuard, LockKind, MemStorage, OpenMode, Storage};
use std::cell::Cell;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

thread_local! {
    /// Only the calls of threads that say so are counted and stopped.
    static GATED: Cell<bool> = const { Cell::new(false) };
}

/// Counts and stops the calls of this thread from now on.
pub fn gate_this_thread() {
    GATED.set(true);
}

#[derive(Debug, Default)]
struct State {
    calls: u64,
    syncs: u64,
    stop_at: Option<u64>,
    /// What the stopped call is.
    parked: Option<String>,
}

/// The gate of one storage. Clones are the same gate.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Gate {
    /// Stops the gated thread at its `n`-th call from now.
    pub fn stop_at(&self, n: u64) {
        let mut state = self.shared.0.lock().unwrap();
        (state.calls, state.stop_at) = (0, Some(n));
    }

    /// Lets the stopped call, and all others, go on.
    pub fn release(&self) {
        let mut state = self.shared.0.lock().unwrap();
        (state.stop_at, state.parked) = (None, None);
        self.shared.1.notify_all();
    }

    /// Waits until a call has stopped, or `ended` says that none will. `None` in that case.
    pub fn wait_parked(&self, ended: impl Fn() -> bool) -> Option<String> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut state = self.shared.0.lock().unwrap();
        loop {
            if state.parked.is_some() || ended() {
                return state.parked.clone();
            }
            assert!(Instant::now() < deadline, "the writer neither stopped nor ended");
            state = self.shared.1.wait_timeout(state, Duration::from_millis(1)).unwrap().0;
        }
    }

    /// How many syncs of file data there were, by any thread.
    pub fn syncs(&self) -> u64 {
        self.shared.0.lock().unwrap().syncs
    }

    fn pass(&self, what: &str, path: &str) {
        let mut state = self.shared.0.lock().unwrap();
        state.syncs += u64::from(what == "sync");
        if !GATED.get() {
            return;
        }
        let call = state.calls;
        state.calls += 1;
        if state.stop_at == Some(call) {
            state.parked = Some(format!("{what} {path} (call {call})"));
            self.shared.1.notify_all();
            while state.stop_at == Some(call) {
                state = self.shared.1.wait(state).unwrap();
            }
        }
    }
}

/// Files in memory behind a gate.
#[derive(Debug)]
pub struct GatedStorage {
    inner: Arc<MemStorage>,
    gate: Gate,
}

impl GatedStorage {
    pub fn new(inner: Arc<MemStorage>, gate: &Gate) -> Arc<Self> {
        Arc::new(GatedStorage { inner, gate: gate.clone() })
    }
}

impl Storage for GatedStorage {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.gate.pass("mkdir", path);
        self.inner.create_dir(path)
    }

    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn File>> {
        self.gate.pass("open", path);
        let file = self.inner.open(path, mode)?;
        Ok(Box::new(GatedFile { inner: file, path: path.to_owned(), gate: self.gate.clone() }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        self.gate.pass("list", dir);
        self.inner.list(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.gate.pass("rename", to);
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.gate.pass("remove", path);
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.gate.pass("sync directory", dir);
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &str, kind: LockKind, note: &str) -> io::Result<Box<dyn LockGuard>> {
        self.inner.lock(path, kind, note)
    }

    fn map(&self, path: &str) -> io::Result<Bytes> {
        self.gate.pass("map", path);
        self.inner.map(path)
    }

    fn describe(&self) -> String {
        "gated memory".to_owned()
    }
}

#[derive(Debug)]
struct GatedFile {
    inner: Box<dyn File>,
    path: String,
    gate: Gate,
}

impl File for GatedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.gate.pass("read", &self.path);
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.gate.pass("write", &self.path);
        self.inner.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass("sync", &self.path);
        self.inner.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.gate.pass("set length", &self.path);
        self.inner.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}
