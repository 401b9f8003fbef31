//! Backup, verification of a backup, and restore.
//!
//! A backup is a database directory and a file `BACKUP`, written last: JSON with the length and XXH3-128 of every
//! file, and a hash of that list. It can be opened; to work on, restore it, since changing it ends its being
//! verifiable.

use crate::check::{CheckReport, check};
use crate::checksum::xxh3_128;
use crate::database::Options;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::manifest::{LOG_DIR, SEGMENT_DIR, hex, manifest_path, read_all, write_new};
use crate::storage::{OpenMode, RealStorage, Storage};
use crate::wal::log_path;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The list of a backup's files.
const LIST_PATH: &str = "BACKUP";
const COPY_BYTES: usize = 4 << 20;

/// What a backup holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BackupReport {
    /// Files copied.
    pub files: u64,
    /// Bytes copied.
    pub bytes: u64,
    /// Live records.
    pub records: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct List {
    files: Vec<Listed>,
    /// XXH3-128 of the files' JSON.
    hash: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Listed {
    path: String,
    bytes: u64,
    hash: String,
}

/// Makes the destination, refusing one that holds anything.
fn new_directory(path: &Path) -> Result<RealStorage> {
    let storage = RealStorage::new(path.to_path_buf());
    let taken = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    if taken || path.is_file() {
        return Err(Error::AlreadyExists(format!("{}: choose a path where there is nothing yet", path.display())));
    }
    for dir in ["", SEGMENT_DIR, LOG_DIR] {
        storage.create_dir(dir).map_err(|e| Error::io("create", path.join(dir), &e))?;
    }
    Ok(storage)
}

pub(crate) fn backup(engine: &Engine, destination: &Path) -> Result<BackupReport> {
    let to = new_directory(destination)?;
    let source = &*engine.storage;
    // Flushes, compactions and deletions of collections wait: no segment and no log goes away meanwhile.
    let _turn = engine.maintenance.lock();
    let mut files = Vec::new();
    let (segments, manifest, records) = {
        let mut state = engine.state.lock();
        engine.sync_log_in(&mut state)?;
        let records = engine.all_collections().iter().map(|c| c.version.load().live_rows()).sum();
        let manifest = state.manifest.clone();
        let named: Vec<_> = manifest.collections.iter().flat_map(|c| &c.segments).collect();
        // Logs grow and tombstones are replaced by writers, so these are copied before the next commit.
        let logs = state.old_logs.iter().map(|(generation, _)| *generation);
        for generation in logs.chain(state.log.as_ref().map(|log| log.generation())) {
            files.push(copy(source, &to, &log_path(generation))?);
        }
        for path in named.iter().filter_map(|s| s.tombstones_path()) {
            files.push(copy(source, &to, &path)?);
        }
        let segments: Vec<String> = named.iter().map(|s| s.data_path()).collect();
        files.push(copy(source, &to, &manifest_path(manifest.number))?);
        (segments, manifest, records)
    };
    for path in &segments {
        files.push(copy(source, &to, path)?);
    }
    tracing::info!(manifest = manifest.number, to = %destination.display(), "backed up");
    finish(&to, files.clone())?;
    Ok(BackupReport { files: files.len() as u64, bytes: files.iter().map(|f| f.bytes).sum(), records })
}

fn finish(to: &dyn Storage, mut files: Vec<Listed>) -> Result<()> {
    for dir in [SEGMENT_DIR, LOG_DIR] {
        to.sync_dir(dir).map_err(|e| Error::io("sync", dir, &e))?;
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let json = |e: serde_json::Error| Error::invalid(format!("backup list: {e}"));
    let hash = hex(xxh3_128(&[&serde_json::to_vec(&files).map_err(json)?]));
    let list = serde_json::to_vec_pretty(&List { files, hash }).map_err(json)?;
    write_new(to, LIST_PATH, &list)?;
    to.sync_dir("").map_err(|e| Error::io("sync", "", &e))
}

/// Copies one file and syncs it; hashes what was read.
fn copy(from: &dyn Storage, to: &dyn Storage, path: &str) -> Result<Listed> {
    let bytes = from.map(path).map_err(|e| Error::io("read", path, &e))?;
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    let copied = to.open(path, OpenMode::CreateNew).and_then(|file| {
        for (chunk, i) in bytes.chunks(COPY_BYTES).zip(0u64..) {
            hasher.update(chunk);
            file.write_at(chunk, i * COPY_BYTES as u64)?;
        }
        file.sync_data()
    });
    copied.map_err(|e| Error::io("copy", path, &e))?;
    Ok(Listed { path: path.to_owned(), bytes: bytes.len() as u64, hash: hex(hasher.digest128()) })
}

fn read_list(storage: &dyn Storage) -> Result<Vec<Listed>> {
    let bytes = read_all(storage, LIST_PATH).map_err(|e| match e {
        Error::Io { kind: std::io::ErrorKind::NotFound, .. } => Error::NotFound(format!(
            "{} has no file {LIST_PATH}: it is not a backup, or its making was interrupted",
            storage.describe()
        )),
        e => e,
    })?;
    let bad = |what: &str| Error::corrupt(LIST_PATH, 0, what);
    let list: List = serde_json::from_slice(&bytes).map_err(|_| bad("the list does not parse"))?;
    let json = serde_json::to_vec(&list.files).map_err(|_| bad("the list does not parse"))?;
    if hex(xxh3_128(&[&json])) != list.hash {
        return Err(bad("the list's checksum does not match"));
    }
    Ok(list.files)
}

/// Checks a backup: every file against the list of its making, then everything that a deep check checks.
///
/// # Errors
/// `NotFound` if it is not a whole backup; `Corrupt` if its list is damaged. Other damage is in the report.
pub fn verify_backup(path: impl AsRef<Path>) -> Result<CheckReport> {
    let storage = RealStorage::new(path.as_ref().to_path_buf());
    let files = read_list(&storage)?;
    let mut report = CheckReport::default();
    for file in &files {
        let found = storage.map(&file.path).map_err(|e| Error::io("read", &file.path, &e));
        if let Some(bytes) = report.note(found)
            && (bytes.len() as u64 != file.bytes || hex(xxh3_128(&[&bytes])) != file.hash)
        {
            report.problems.push(format!("{} is not what was backed up", file.path));
        }
    }
    if report.problems.is_empty() {
        let opened = Options::new().read_only(true).open(path)?;
        report = check(&opened.handle.0, true)?;
    }
    Ok(report)
}

/// Verifies a backup and copies it into the new directory `destination`, durably.
///
/// # Errors
/// `Corrupt` if the backup is damaged, `AlreadyExists` if there is something at the destination, and those of
/// [`verify_backup`].
pub fn restore(backup: impl AsRef<Path>, destination: impl AsRef<Path>) -> Result<CheckReport> {
    let verified = verify_backup(&backup)?;
    if let Some(problem) = verified.problems.first() {
        return Err(Error::corrupt("backup", 0, format!("nothing was restored: {problem}")));
    }
    let from = RealStorage::new(backup.as_ref().to_path_buf());
    let to = new_directory(destination.as_ref())?;
    let mut files = read_list(&from)?;
    // The manifest last: before it, the destination is no database.
    files.sort_by_key(|f| f.path.starts_with("MANIFEST-"));
    for file in &files {
        if file.path.starts_with("MANIFEST-") {
            for dir in [SEGMENT_DIR, LOG_DIR] {
                to.sync_dir(dir).map_err(|e| Error::io("sync", dir, &e))?;
            }
        }
        if copy(&from, &to, &file.path)?.hash != file.hash {
            return Err(Error::corrupt(&file.path, 0, "the backup changed while it was restored"));
        }
    }
    to.sync_dir("").map_err(|e| Error::io("sync", "", &e))?;
    let opened = Options::new().read_only(true).open(destination)?;
    check(&opened.handle.0, true)
}
