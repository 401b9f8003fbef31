//! Work on several threads whose result does not depend on their number.

use crate::error::{Error, Result};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How a build may use the machine, and how it learns that it should stop.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub threads: usize,
    pub cancel: &'a AtomicBool,
}

impl Task<'_> {
    /// Fails where the caller has asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled(
                "the graph build was cancelled by its caller; start it again to build the graph".into(),
            ));
        }
        Ok(())
    }

    /// Calls `f` for `0..count` and returns the results in that order.
    pub fn map<T: Send>(&self, count: usize, f: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
        let workers = self.threads.min(count).max(1);
        if workers == 1 {
            return (0..count).map(|index| self.check().and_then(|()| f(index))).collect();
        }
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, T)>> {
            let mut results = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return Ok(results);
                }
                self.check()?;
                results.push((index, f(index)?));
            }
        };
        let mut results = std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
            let mut results = work();
            for helper in helpers {
                match (helper.join(), &mut results) {
                    (Ok(Ok(more)), Ok(results)) => results.extend(more),
                    (Ok(Err(error)), Ok(_)) => results = Err(error),
                    (Ok(_), Err(_)) => {}
                    (Err(panic), _) => std::panic::resume_unwind(panic),
                }
            }
            results
        })?;
        results.sort_unstable_by_key(|(index, _)| *index);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }
}

/// Calls `f(chunk number, chunk)` for every run of `length` values.
pub(super) fn chunks_mut<T: Send>(
    task: &Task<'_>,
    data: &mut [T],
    length: usize,
    f: impl Fn(usize, &mut [T]) + Sync,
) -> Result<()> {
    pieces_mut(task, data.chunks_mut(length.max(1)).collect(), f)
}

/// Calls `f(piece number, piece)` for every piece.
pub(super) fn pieces_mut<P: Send>(task: &Task<'_>, pieces: Vec<P>, f: impl Fn(usize, P) + Sync) -> Result<()> {
    let count = pieces.len();
    let queue = Mutex::new(pieces.into_iter().enumerate());
    let workers = Task { threads: task.threads.min(count).max(1), ..*task };
    workers.map(workers.threads, |_| {
        loop {
            // A poisoned queue means that another worker panicked, which `map` passes on.
            let Some((index, piece)) = queue.lock().ok().and_then(|mut queue| queue.next()) else { return Ok(()) };
            task.check()?;
            f(index, piece);
        }
    })?;
    Ok(())
}
