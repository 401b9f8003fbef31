//! The real file system, until a chosen call: there the process kills itself with SIGKILL, before, after or amid the
//! call.

use omendb::storage::{Bytes, DirEntry, File, LockGuard, LockKind, OpenMode, RealStorage, Storage};
use rustix::process::{Signal, getpid, kill_process};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The calls that can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Any call below.
    Any,
    /// A write; half of it reaches the file.
    WriteHalf,
    /// A write, after it.
    Write,
    /// Making a file durable, before it.
    SyncBefore,
    /// Making a file durable, after it.
    SyncAfter,
    /// Making names durable, before it.
    SyncDir,
    /// A rename, after it.
    Rename,
    /// A removal, after it.
    Remove,
    /// Making a file.
    Create,
}

impl Call {
    /// All of them.
    pub const ALL: [Call; 9] = [
        Call::Any,
        Call::WriteHalf,
        Call::Write,
        Call::SyncBefore,
        Call::SyncAfter,
        Call::SyncDir,
        Call::Rename,
        Call::Remove,
        Call::Create,
    ];

    /// A word for it.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// The call of that name.
    pub fn of(name: &str) -> Option<Call> {
        Call::ALL.into_iter().find(|call| call.name() == name)
    }
}

/// Counts the chosen calls.
#[derive(Debug)]
struct Countdown {
    call: Option<Call>,
    left: AtomicU64,
}

impl Countdown {
    /// Dies if this is the call it is waiting for.
    fn at(&self, call: Call) {
        if self.hit(call) {
            die();
        }
    }

    fn hit(&self, call: Call) -> bool {
        let counts = self.call == Some(call) || (self.call == Some(Call::Any) && call != Call::WriteHalf);
        counts && self.left.fetch_sub(1, Ordering::SeqCst) == 1
    }
}

fn die() -> ! {
    // Nothing runs after this in the whole process; the loop only satisfies the compiler until the signal arrives.
    kill_process(getpid(), Signal::KILL).ok();
    loop {
        std::thread::park();
    }
}

/// See the module.
#[derive(Debug)]
pub struct SuicideStorage {
    real: RealStorage,
    countdown: Arc<Countdown>,
}

impl SuicideStorage {
    /// The directory `root`, until the `n`-th `call` (never for `None`).
    pub fn new(root: PathBuf, call: Option<Call>, n: u64) -> Self {
        SuicideStorage {
            real: RealStorage::new(root),
            countdown: Arc::new(Countdown { call, left: AtomicU64::new(n) }),
        }
    }
}

impl Storage for SuicideStorage {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.real.create_dir(path)
    }

    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let file = self.real.open(path, mode)?;
        if mode == OpenMode::CreateNew {
            self.countdown.at(Call::Create);
        }
        Ok(Box::new(SuicideFile { real: file, countdown: self.countdown.clone() }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        self.real.list(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.real.rename(from, to)?;
        self.countdown.at(Call::Rename);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.real.remove(path)?;
        self.countdown.at(Call::Remove);
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.countdown.at(Call::SyncDir);
        self.real.sync_dir(dir)
    }

    fn lock(&self, path: &str, kind: LockKind, note: &str) -> io::Result<Box<dyn LockGuard>> {
        self.real.lock(path, kind, note)
    }

    fn map(&self, path: &str) -> io::Result<Bytes> {
        self.real.map(path)
    }

    fn describe(&self) -> String {
        self.real.describe()
    }
}

#[derive(Debug)]
struct SuicideFile {
    real: Box<dyn File>,
    countdown: Arc<Countdown>,
}

impl File for SuicideFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.real.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if self.countdown.hit(Call::WriteHalf) {
            self.real.write_at(&buf[..buf.len() / 2], offset)?;
            die();
        }
        self.real.write_at(buf, offset)?;
        self.countdown.at(Call::Write);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.countdown.at(Call::SyncBefore);
        self.real.sync_data()?;
        self.countdown.at(Call::SyncAfter);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.real.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.real.len()
    }
}
