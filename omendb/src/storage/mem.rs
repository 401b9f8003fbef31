//! A file system in memory, for databases that need no disk. It is lost with its last handle.

use super::locks::Locks;
use super::{Bytes, DirEntry, File, LockGuard, LockKind, OpenMode, Storage};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// A file's bytes. A mapping shares the vector; a later write copies it first, so mapped bytes never change.
type Content = Arc<RwLock<Arc<Vec<u8>>>>;

#[derive(Debug, Default)]
struct Tree {
    files: BTreeMap<String, Content>,
    dirs: BTreeSet<String>,
}

/// Files in memory.
#[derive(Debug, Default)]
pub struct MemStorage {
    tree: Mutex<Tree>,
    locks: Locks,
}

impl MemStorage {
    /// An empty file system.
    pub fn new() -> Self {
        MemStorage::default()
    }
}

/// The directory part of a path; `""` is the root.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// An error as the operating system's, about `path`.
pub(super) fn fail<T>(kind: io::ErrorKind, path: &str) -> io::Result<T> {
    Err(io::Error::new(kind, format!("{kind}: {path}")))
}

impl Tree {
    fn has_dir(&self, dir: &str) -> bool {
        dir.is_empty() || self.dirs.contains(dir)
    }

    fn create(&mut self, path: &str) -> io::Result<Content> {
        if !self.has_dir(parent(path)) {
            return fail(io::ErrorKind::NotFound, path);
        }
        if self.has_dir(path) || self.files.contains_key(path) {
            return fail(io::ErrorKind::AlreadyExists, path);
        }
        let content = Content::default();
        self.files.insert(path.to_owned(), content.clone());
        Ok(content)
    }

    fn find(&self, path: &str) -> io::Result<Content> {
        self.files.get(path).cloned().map_or_else(|| fail(io::ErrorKind::NotFound, path), Ok)
    }
}

impl Storage for MemStorage {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        let mut tree = self.tree.lock();
        let ends = path.match_indices('/').map(|(i, _)| i).chain([path.len()]);
        for prefix in ends.map(|end| &path[..end]).filter(|p| !p.is_empty()) {
            if tree.files.contains_key(prefix) {
                return fail(io::ErrorKind::AlreadyExists, prefix);
            }
            tree.dirs.insert(prefix.to_owned());
        }
        Ok(())
    }

    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let mut tree = self.tree.lock();
        let content = if mode == OpenMode::CreateNew { tree.create(path)? } else { tree.find(path)? };
        Ok(Box::new(MemFile { content, writable: mode != OpenMode::Read }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        let tree = self.tree.lock();
        if !tree.has_dir(dir) {
            return fail(io::ErrorKind::NotFound, dir);
        }
        let name = |path: &str| path.rsplit_once('/').map_or(path, |(_, name)| name).to_owned();
        let inside = tree.files.iter().filter(|(path, _)| parent(path) == dir);
        Ok(inside.map(|(path, content)| DirEntry { name: name(path), len: content.read().len() as u64 }).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut tree = self.tree.lock();
        let content = tree.find(from)?;
        if !tree.has_dir(parent(to)) || tree.has_dir(to) {
            return fail(io::ErrorKind::NotFound, to);
        }
        tree.files.remove(from);
        tree.files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.tree.lock().files.remove(path).map_or_else(|| fail(io::ErrorKind::NotFound, path), |_| Ok(()))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        if self.tree.lock().has_dir(dir) { Ok(()) } else { fail(io::ErrorKind::NotFound, dir) }
    }

    fn lock(&self, path: &str, kind: LockKind, note: &str) -> io::Result<Box<dyn LockGuard>> {
        let guard = self.locks.take(path, kind, note)?;
        match self.tree.lock().create(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => Ok(guard),
        }
    }

    fn map(&self, path: &str) -> io::Result<Bytes> {
        let content = self.tree.lock().find(path)?;
        let bytes = content.read().clone();
        Ok(Bytes::new(Shared(bytes)))
    }

    fn describe(&self) -> String {
        ":memory:".to_owned()
    }
}

/// A shared vector as the owner of mapped bytes.
pub(super) struct Shared(pub(super) Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Copies the bytes at `offset` out of a file's content.
pub(super) fn read_bytes(data: &[u8], buf: &mut [u8], offset: u64) -> io::Result<()> {
    let available = usize::try_from(offset).ok().and_then(|start| data.get(start..)).unwrap_or_default();
    match available.get(..buf.len()) {
        Some(bytes) => {
            buf.copy_from_slice(bytes);
            Ok(())
        }
        None => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("{} bytes wanted at {offset}, the file has {}", buf.len(), data.len()),
        )),
    }
}

/// Where a write of `len` bytes at `offset` ends, if memory can hold it.
pub(super) fn write_end(offset: u64, len: usize) -> io::Result<usize> {
    usize::try_from(offset)
        .ok()
        .and_then(|start| start.checked_add(len))
        .filter(|end| *end <= isize::MAX as usize)
        .map_or_else(|| fail(io::ErrorKind::FileTooLarge, &format!("{len} bytes at {offset}")), Ok)
}

#[derive(Debug)]
struct MemFile {
    content: Content,
    writable: bool,
}

impl MemFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { fail(io::ErrorKind::PermissionDenied, "the file was opened for reading") }
    }
}

/// Grows `data` to `len` bytes, or says that memory is full.
fn grow(data: &mut Vec<u8>, len: usize) -> io::Result<()> {
    if len > data.len() {
        data.try_reserve(len - data.len()).map_err(|e| io::Error::new(io::ErrorKind::StorageFull, e))?;
        data.resize(len, 0);
    }
    Ok(())
}

impl File for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        read_bytes(&self.content.read(), buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        let end = write_end(offset, buf.len())?;
        let mut content = self.content.write();
        let data = Arc::make_mut(&mut content);
        if !buf.is_empty() {
            grow(data, end)?;
            data[end - buf.len()..end].copy_from_slice(buf);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let end = write_end(len, 0)?;
        let mut content = self.content.write();
        let data = Arc::make_mut(&mut content);
        grow(data, end)?;
        data.truncate(end);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.read().len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;

    #[test]
    fn conforms() {
        conformance::check(&MemStorage::new());
    }

    #[test]
    fn mapped_bytes_never_change() {
        let storage = MemStorage::new();
        let file = storage.open("a", OpenMode::CreateNew).unwrap();
        file.write_at(b"before", 0).unwrap();
        let map = storage.map("a").unwrap();
        file.write_at(b"after!", 0).unwrap();
        assert_eq!((&*map, &*storage.map("a").unwrap()), (b"before".as_slice(), b"after!".as_slice()));
    }

    #[test]
    fn impossible_lengths_are_errors() {
        let storage = MemStorage::new();
        let file = storage.open("a", OpenMode::CreateNew).unwrap();
        assert!(file.write_at(b"x", u64::MAX).is_err());
        assert!(file.set_len(u64::MAX).is_err());
        assert!(file.set_len(1 << 62).is_err());
        assert_eq!(file.len().unwrap(), 0);
    }
}
