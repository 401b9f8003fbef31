//! Records to write, places to write them, and what the disk does without a database.

use crate::measure::Numbers;
use omendb::{Batch, Collection, IdColumn, Result as DbResult};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A directory that is removed with all it holds when this is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes a new directory below `parent`.
    pub fn new(parent: &Path, name: &str) -> io::Result<Scratch> {
        let path = parent.join(format!("omendb-bench-{name}-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Scratch(path))
    }

    /// A path within.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing is to be done about a directory that cannot be removed; it is in a temporary place.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Bytes of all files below a directory.
pub fn directory_bytes(path: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { directory_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// Records with string ids and random vectors. Batches borrow the vectors, so that making one costs little.
pub struct Records {
    dim: usize,
    vectors: Vec<f32>,
}

impl Records {
    /// Vectors for batches of up to `batch` records.
    pub fn new(dim: usize, batch: usize) -> Records {
        // Every batch starts at another place, so that no two are alike.
        Records { dim, vectors: Numbers::new(7).floats((batch + 4096) * dim) }
    }

    /// Records `first..first + rows`.
    pub fn batch(&self, first: usize, rows: usize) -> Batch<'_> {
        let ids: Vec<String> = (first..first + rows).map(|row| format!("row_{row}")).collect();
        let ids: IdColumn = ids.iter().collect();
        let start = first * 31 % 4096 * self.dim;
        Batch::new(ids, &self.vectors[start..start + rows * self.dim])
    }

    /// A query.
    pub fn query(&self, n: usize) -> &[f32] {
        let start = n * 17 % 4096 * self.dim;
        &self.vectors[start..start + self.dim]
    }

    /// Writes records `0..rows`; returns the time spent in the database and the bytes handed over.
    pub fn load(&self, collection: &Collection, rows: usize, batch: usize) -> DbResult<(Duration, u64)> {
        let (mut elapsed, mut bytes) = (Duration::ZERO, 0);
        for first in (0..rows).step_by(batch) {
            let batch = self.batch(first, batch.min(rows - first));
            bytes += batch.byte_len() as u64;
            let start = Instant::now();
            collection.upsert(batch)?;
            elapsed += start.elapsed();
        }
        Ok((elapsed, bytes))
    }
}

const MIB: usize = 1 << 20;

/// Writes `bytes` bytes to a new file in blocks of one MiB, then waits for the disk once.
pub fn raw_write(path: &Path, bytes: u64) -> io::Result<Duration> {
    let mut numbers = Numbers::new(9);
    let block: Vec<u8> = (0..MIB / 8).flat_map(|_| numbers.next().to_le_bytes()).collect();
    let start = Instant::now();
    let mut file = File::create(path)?;
    let mut left = bytes;
    while left > 0 {
        let n = left.min(MIB as u64);
        file.write_all(&block[..n as usize])?;
        left -= n;
    }
    file.sync_data()?;
    let elapsed = start.elapsed();
    fs::remove_file(path)?;
    Ok(elapsed)
}

/// The same with `dd`; `None` where there is no such program.
pub fn dd_write(path: &Path, bytes: u64) -> io::Result<Option<Duration>> {
    let start = Instant::now();
    let status = Command::new("dd")
        .arg("if=/dev/zero")
        .arg(format!("of={}", path.display()))
        .args(["bs=1M", &format!("count={bytes}"), "iflag=count_bytes", "conv=fdatasync"])
        .stderr(Stdio::null())
        .status();
    let elapsed = start.elapsed();
    let _ = fs::remove_file(path);
    match status {
        Ok(status) if status.success() => Ok(Some(elapsed)),
        Ok(status) => Err(io::Error::other(format!("dd failed: {status}"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Processor seconds of this process so far, user and system; 0 where the system does not tell.
pub fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, field 2, may hold blanks; user and system time are fields 14 and 15, in hundredths of a second.
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect())
        .unwrap_or_default();
    fields.get(11..13).map_or(0.0, |times| times.iter().sum::<f64>() / 100.0)
}

/// A line of `/proc/self/status` in bytes; 0 where there is none.
pub fn status_bytes(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}
