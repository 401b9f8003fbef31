//! The operating system's file system, below one directory.

use super::{Bytes, DirEntry, File, LockGuard, LockKind, OpenMode, Storage, mmap};
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

/// Longest holder's note that is read back from a lock file.
const MAX_NOTE_BYTES: u64 = 256;

/// Files in one directory of the operating system.
#[derive(Debug)]
pub struct RealStorage {
    root: PathBuf,
    mmap: bool,
}

impl RealStorage {
    /// Files below `root`, which [`Storage::create_dir`] of `""` makes if it is missing.
    pub fn new(root: PathBuf) -> Self {
        RealStorage { root, mmap: true }
    }

    /// As `new`, but [`Storage::map`] reads a file into memory instead of mapping it: slower to open and counted
    /// against the process's memory, but safe against other programs that truncate the files.
    pub fn without_mmap(root: PathBuf) -> Self {
        RealStorage { root, mmap: false }
    }

    /// The place of `path`, which must stay below the root.
    fn resolve(&self, path: &str) -> io::Result<PathBuf> {
        let relative = Path::new(path);
        if !relative.components().all(|c| matches!(c, Component::Normal(_))) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "the path {path:?} leaves the database's directory; only relative paths of plain names are used"
                ),
            ));
        }
        Ok(if path.is_empty() { self.root.clone() } else { self.root.join(relative) })
    }
}

impl Storage for RealStorage {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        let path = self.resolve(path)?;
        let missing: Vec<&Path> = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
        fs::create_dir_all(&path)?;
        for made in missing {
            // The new directory's own name must survive a power cut too.
            let parent = made.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            fs::File::open(parent)?.sync_all()?;
        }
        Ok(())
    }

    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let mut options = OpenOptions::new();
        match mode {
            OpenMode::CreateNew => options.read(true).write(true).create_new(true),
            OpenMode::ReadWrite => options.read(true).write(true),
            OpenMode::Read => options.read(true),
        };
        let file = options.open(self.resolve(path)?)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?} is not a regular file")));
        }
        Ok(Box::new(RealFile(file)))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.resolve(dir)?)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Removed between the listing and the look: no longer a file of this directory.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            // A name that is not UTF-8 was not made by the engine.
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                entries.push(DirEntry { name, len: metadata.len() });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.resolve(from)?, self.resolve(to)?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.resolve(path)?)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        fs::File::open(self.resolve(dir)?)?.sync_all()
    }

    fn lock(&self, path: &str, kind: LockKind, note: &str) -> io::Result<Box<dyn LockGuard>> {
        let (mut file, writable) = open_lock_file(&self.resolve(path)?, kind)?;
        let taken = match kind {
            LockKind::Exclusive => file.try_lock(),
            LockKind::Shared => file.try_lock_shared(),
        };
        match taken {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = Vec::new();
                // The note is a courtesy: whatever cannot be read is left out.
                let _ = (&file).take(MAX_NOTE_BYTES).read_to_end(&mut holder);
                return Err(io::Error::new(io::ErrorKind::WouldBlock, String::from_utf8_lossy(&holder).into_owned()));
            }
            Err(TryLockError::Error(e)) => return Err(e),
        }
        if writable {
            // A note left behind by a killed holder must not be taken for this one's.
            file.set_len(0)?;
            if kind == LockKind::Exclusive {
                file.write_all(note.as_bytes())?;
            }
        }
        Ok(Box::new(RealLock { file, clear: (kind == LockKind::Exclusive).then(std::process::id) }))
    }

    fn map(&self, path: &str) -> io::Result<Bytes> {
        let path = self.resolve(path)?;
        if self.mmap { mmap::map_file(&fs::File::open(path)?) } else { Ok(Bytes::new(fs::read(path)?)) }
    }

    fn parallel(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        self.root.display().to_string()
    }
}

/// Opens (and makes, where allowed) the lock file; says whether it may be written.
fn open_lock_file(path: &Path, kind: LockKind) -> io::Result<(fs::File, bool)> {
    match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path) {
        Ok(file) => Ok((file, true)),
        // Readers of a database on a read-only medium can still share it.
        Err(e)
            if kind == LockKind::Shared
                && matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
        {
            Ok((fs::File::open(path)?, false))
        }
        Err(e) => Err(e),
    }
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// The operating system releases the lock when the file is closed, even by a crash.
#[derive(Debug)]
struct RealLock {
    file: fs::File,
    /// The process that wrote the note, and alone may take it out again: not a forked child.
    clear: Option<u32>,
}

impl LockGuard for RealLock {}

impl Drop for RealLock {
    fn drop(&mut self) {
        if self.clear == Some(std::process::id()) {
            // Best effort: a stale note is cleared by the next holder too.
            let _ = self.file.set_len(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;

    #[test]
    fn conforms_with_and_without_mapping() {
        let dir = tempfile::tempdir().unwrap();
        conformance::check(&RealStorage::new(dir.path().join("a")));
        conformance::check(&RealStorage::without_mmap(dir.path().join("b")));
    }

    #[test]
    fn paths_stay_below_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let storage = RealStorage::new(dir.path().join("db"));
        storage.create_dir("").unwrap();
        for path in ["../x", "a/../../x", "/etc/passwd", "./x", "a/./../x"] {
            let kind = storage.open(path, OpenMode::CreateNew).unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::InvalidInput, "{path}");
            assert!(storage.rename("x", path).is_err(), "{path}");
            assert!(storage.lock(path, LockKind::Exclusive, "").is_err(), "{path}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_stale_note_is_not_blamed() {
        let dir = tempfile::tempdir().unwrap();
        let storage = RealStorage::new(dir.path().to_owned());
        fs::write(dir.path().join("LOCK"), "pid 1 that was killed").unwrap();
        let shared = storage.lock("LOCK", LockKind::Shared, "reader").unwrap();
        let error = storage.lock("LOCK", LockKind::Exclusive, "writer").unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::WouldBlock, ""));
        drop(shared);
        drop(storage.lock("LOCK", LockKind::Exclusive, "pid 2").unwrap());
        assert_eq!(fs::read(dir.path().join("LOCK")).unwrap(), b"");
    }

    #[test]
    fn directories_are_not_files() {
        let dir = tempfile::tempdir().unwrap();
        let storage = RealStorage::new(dir.path().to_owned());
        storage.create_dir("sub").unwrap();
        assert!(storage.open("sub", OpenMode::Read).is_err());
        assert!(storage.list("").unwrap().is_empty());
    }
}
