//! Advisory locks held in memory, for the storages that live there.

use super::{LockGuard, LockKind};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

#[derive(Debug)]
struct Holders {
    kind: LockKind,
    count: usize,
    note: String,
}

/// The locks of one storage. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Locks(Arc<Mutex<HashMap<String, Holders>>>);

impl Locks {
    /// Takes the lock named `path`, or fails with `WouldBlock` and the holder's note.
    pub(super) fn take(&self, path: &str, kind: LockKind, note: &str) -> io::Result<Box<dyn LockGuard>> {
        let mut held = self.0.lock();
        match held.get_mut(path) {
            None => {
                let note = if kind == LockKind::Exclusive { note.to_owned() } else { String::new() };
                held.insert(path.to_owned(), Holders { kind, count: 1, note });
            }
            Some(holders) if holders.kind == LockKind::Shared && kind == LockKind::Shared => holders.count += 1,
            Some(holders) => return Err(io::Error::new(io::ErrorKind::WouldBlock, holders.note.clone())),
        }
        Ok(Box::new(Guard { locks: self.clone(), path: path.to_owned() }))
    }
}

#[derive(Debug)]
struct Guard {
    locks: Locks,
    path: String,
}

impl LockGuard for Guard {}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut held = self.locks.0.lock();
        if let Some(holders) = held.get_mut(&self.path) {
            holders.count -= 1;
            if holders.count == 0 {
                held.remove(&self.path);
            }
        }
    }
}
