//! The bulk path on several threads: whichever sync of a segment file fails, early or last, the whole write fails,
//! nothing of it is seen, and the handle goes on.

use omendb::storage::{Bytes, DirEntry, File, LockGuard, LockKind, MemStorage, OpenMode, Storage};
use omendb::{Batch, Error, IdColumn, Metric, Options, Schema};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const ROWS: usize = 30_000;
const DIM: usize = 64;

/// Memory that takes calls from several threads and fails one sync of a data file.
#[derive(Debug)]
struct Failing {
    inner: MemStorage,
    /// Syncs that still succeed; negative once one has failed.
    left: Arc<AtomicI64>,
}

impl Storage for Failing {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.inner.create_dir(path)
    }

    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let left = path.starts_with("segments/").then(|| Arc::clone(&self.left));
        Ok(Box::new(FailingFile { inner: self.inner.open(path, mode)?, left }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        self.inner.list(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &str, kind: LockKind, note: &str) -> io::Result<Box<dyn LockGuard>> {
        self.inner.lock(path, kind, note)
    }

    fn map(&self, path: &str) -> io::Result<Bytes> {
        self.inner.map(path)
    }

    fn parallel(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        "failing memory".into()
    }
}

#[derive(Debug)]
struct FailingFile {
    inner: Box<dyn File>,
    left: Option<Arc<AtomicI64>>,
}

impl File for FailingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        match &self.left {
            // As an operating system does: the error is told once, the next sync succeeds.
            Some(left) if left.fetch_sub(1, Ordering::SeqCst) == 0 => Err(io::Error::other("injected")),
            _ => self.inner.sync_data(),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}

#[test]
fn a_failed_sync_fails_the_whole_bulk_write() {
    let vectors: Vec<f32> = (0..ROWS * DIM).map(|i| (i % 977) as f32 + 1.0).collect();
    let ids: Vec<String> = (0..ROWS).map(|row| format!("row_{row}")).collect();
    let batch = || Batch::new(ids.iter().collect::<IdColumn>(), vectors.as_slice());
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let storage = Arc::new(Failing { inner: MemStorage::new(), left: Arc::clone(&left) });
    let database = Options::new().background(false).open_on(Arc::clone(&storage) as Arc<dyn Storage>).unwrap();
    let collection = database.create_collection("c", Schema::new(DIM, Metric::Cosine)).unwrap();
    let mut failures = 0;
    for nth in 0.. {
        left.store(nth, Ordering::SeqCst);
        let outcome = collection.upsert(batch());
        if left.swap(i64::MAX, Ordering::SeqCst) >= 0 {
            // That write had fewer syncs than this.
            outcome.unwrap();
            break;
        }
        failures += 1;
        assert!(matches!(outcome, Err(Error::Io { .. })), "sync {nth}: {outcome:?}");
        assert_eq!(collection.count().unwrap(), 0, "sync {nth}");
        assert!(!collection.contains("row_0").unwrap(), "sync {nth}");
        assert!(storage.list("segments").unwrap().is_empty(), "sync {nth}: the file is still there");
    }
    assert!(failures >= 2, "early syncs were not reached: {failures}");
    assert_eq!(collection.count().unwrap(), ROWS as u64);
    database.close().unwrap();
    let database = Options::new().open_on(storage).unwrap();
    assert_eq!(database.collection("c").unwrap().count().unwrap(), ROWS as u64);
    assert!(database.check(true).unwrap().problems.is_empty());
}
