//! What binds a handle to its process: forks are detected, and long calls answer Ctrl-C.

use crate::errors::{OrRaise, exception};
use omendb::Error;
use pyo3::prelude::*;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// How often a long call looks for signals.
const SIGNAL_POLL: Duration = Duration::from_millis(50);

/// A value of the engine that only the process that made it may use or drop: after a fork the child has the
/// parent's memory but none of its threads, and closing there would write to the parent's files.
pub(crate) struct Owned<T> {
    value: Option<T>,
    pid: u32,
}

impl<T> Owned<T> {
    pub(crate) fn new(value: T) -> Self {
        Owned { value: Some(value), pid: std::process::id() }
    }

    /// The value; `Unusable` in a forked child.
    pub(crate) fn get(&self) -> omendb::Result<&T> {
        let here = std::process::id();
        match &self.value {
            Some(value) if self.pid == here => Ok(value),
            _ => Err(Error::Unusable(format!(
                "the database was opened in process {} and this is process {here}, forked from it; open it after the \
                 fork, or start processes with the \"spawn\" method",
                self.pid
            ))),
        }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            std::mem::forget(self.value.take());
        }
    }
}

/// Runs `work` on its own thread and waits for it, looking for Ctrl-C. An interrupt ends the wait and not the
/// work, which finishes in the background.
pub(crate) fn interruptible<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> omendb::Result<T> + Send + 'static,
) -> PyResult<T> {
    let (sender, mut receiver) = sync_channel(1);
    std::thread::Builder::new()
        .name("omendb-call".into())
        .spawn(move || {
            // The receiver is gone after an interrupt: then nobody wants the result.
            let _ = sender.send(work());
        })
        .map_err(|error| exception(py, &Error::io("start of a thread", "omendb-call", &error)))?;
    loop {
        let outcome;
        (receiver, outcome) = py.detach(move || {
            let outcome = receiver.recv_timeout(SIGNAL_POLL);
            (receiver, outcome)
        });
        match outcome {
            Ok(result) => return result.or_raise(py),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(pyo3::exceptions::PyRuntimeError::new_err(
                    "a thread of the database engine stopped unexpectedly; this is a defect, please report it",
                ));
            }
        }
    }
}
