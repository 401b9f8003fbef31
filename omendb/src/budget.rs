//! How much memory may a database take, what of it is used, and when must a write wait for room.

use crate::engine::Engine;
use crate::error::{Error, Result};
use std::sync::atomic::Ordering;

impl Engine {
    pub(crate) fn memtable_bytes(&self) -> u64 {
        self.collections().values().map(|c| c.memtable_memory.load(Ordering::Relaxed)).sum()
    }

    /// Memory of what is derived from segments and not read from a file, bytes.
    fn derived_memory(&self) -> u64 {
        self.graph_memory() + self.text_memory() + self.sparse_memory() + self.columns_memory()
    }

    /// Memory that the budget is for and that the database knows of, bytes.
    pub(crate) fn memory_used(&self) -> u64 {
        self.memtable_bytes() + self.id_memory() + self.derived_memory()
    }

    pub(crate) fn id_memory(&self) -> u64 {
        self.collections().values().map(|c| c.id_memory.load(Ordering::Relaxed)).sum()
    }

    /// The log is flushed into segments once it holds this much; the cap leaves room for writes that come meanwhile.
    pub(crate) fn over_flush_threshold(&self) -> bool {
        if self.log_bytes.load(Ordering::Relaxed) >= self.options.log_cap / 4 {
            return true;
        }
        // The room is at least an eighth of the budget, and finding out how large it is takes longer than a commit.
        let memtables = self.memtable_bytes();
        memtables >= self.memory_budget / 16 && memtables >= (self.memtable_room() / 2).min(self.memory_budget / 4)
    }

    /// Bytes that memtables may take beside the id indexes, the graphs and the text indexes that are in no file yet,
    /// with three eighths of the budget left for what flushing, merging and growing take for a while; always enough to
    /// go on.
    fn memtable_room(&self) -> u64 {
        let eighth = self.memory_budget / 8;
        (5 * eighth).saturating_sub(self.id_memory() + self.derived_memory()).max(eighth)
    }

    /// Waits until `bytes` more fit below the log's cap and the memory budget, flushing if need be.
    pub(crate) fn admit(&self, bytes: u64, rows: u64) -> Result<()> {
        // An entry of the id index takes 13 bytes at a load between 7/16 and 7/8.
        let ids = self.id_memory() + rows * 20;
        if ids > self.memory_budget / 4 * 3 {
            return Err(Error::LimitExceeded(format!(
                "the id index would need {ids} bytes of a memory budget of {} bytes: raise the budget or split the \
                    data over several databases",
                self.memory_budget
            )));
        }
        loop {
            let flushes = self.flushes.load(Ordering::Acquire);
            let log = self.log_bytes.load(Ordering::Relaxed) + bytes;
            let memtables = self.memtable_bytes();
            let fits = || {
                memtables + bytes <= self.memory_budget / 8
                    || memtables + bytes <= self.memtable_room()
                    || (memtables == 0 && bytes + ids <= self.memory_budget)
            };
            if log <= self.options.log_cap && fits() {
                return Ok(());
            }
            let _turn = self.maintenance.lock();
            // A close ends the waiting, too.
            self.usable()?;
            // Room that another flush made may be enough. Only where nothing is left to flush there is no hope.
            if self.flushes.load(Ordering::Acquire) == flushes && !self.flush_in_turn()? {
                return Err(Error::LimitExceeded(format!(
                    "a write of {bytes} bytes does not fit into a log of {} bytes and a memory budget of {} bytes: \
                        write smaller batches or raise them",
                    self.options.log_cap, self.memory_budget
                )));
            }
        }
    }

    /// After work that took much memory for a while: what the allocator keeps of it is not the database's, and yet
    /// counts as the process's. It takes time, so there has to be a reason.
    pub(crate) fn release_freed_memory(&self) {
        if anonymous_memory().is_none_or(|bytes| bytes > self.memory_budget / 2) {
            crate::storage::release_freed_memory();
        }
    }
}

/// A quarter of what the control group or the machine allows; at least 256 MiB.
pub(crate) fn default() -> u64 {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|info| {
        let line = info.lines().find(|l| l.starts_with("MemTotal:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    });
    let group = number("/sys/fs/cgroup/memory.max").or_else(|| number("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    let total = machine.unwrap_or(4 << 30).min(group.unwrap_or(u64::MAX));
    (total / 4).max(256 << 20)
}

/// Bytes of the process's memory that no file stands behind, where the system tells.
fn anonymous_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("RssAnon:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
