//! What every storage must do alike; run by the tests of each.

use super::{LockKind, OpenMode, Storage};
use std::io::ErrorKind;

/// Runs every check on an empty storage.
pub(super) fn check(storage: &dyn Storage) {
    storage.create_dir("").unwrap();
    files(storage);
    names(storage);
    locks(storage);
    assert!(!storage.describe().is_empty());
}

fn files(storage: &dyn Storage) {
    let file = storage.open("data", OpenMode::CreateNew).unwrap();
    assert!(file.is_empty().unwrap());
    file.write_at(b"hello", 1_000).unwrap();
    assert_eq!(file.len().unwrap(), 1_005, "a write past the end extends the file");
    let mut buf = [9u8; 6];
    file.read_at(&mut buf, 999).unwrap();
    assert_eq!(&buf, b"\0hello", "a gap reads as zeros");
    assert_eq!(file.read_at(&mut buf, 1_000).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(file.read_at(&mut buf, u64::MAX / 4).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    file.read_at(&mut [], 1_005).unwrap();
    file.write_at(b"J", 1_000).unwrap();
    file.set_len(1_003).unwrap();
    file.set_len(1_006).unwrap();
    file.read_at(&mut buf, 1_000).unwrap();
    assert_eq!(&buf, b"Jel\0\0\0", "what was cut off comes back as zeros");
    file.sync_data().unwrap();
    let reader = storage.open("data", OpenMode::Read).unwrap();
    assert!(reader.write_at(b"x", 0).is_err());
    assert!(reader.set_len(0).is_err());
    assert_eq!(&storage.map("data").unwrap()[1_000..], b"Jel\0\0\0");
    let writer = storage.open("data", OpenMode::ReadWrite).unwrap();
    writer.set_len(0).unwrap();
    assert_eq!(reader.len().unwrap(), 0, "handles of one file see the same bytes");
    assert!(storage.map("data").unwrap().is_empty(), "an empty file can be mapped");
    assert_eq!(storage.open("data", OpenMode::CreateNew).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(storage.open("missing", OpenMode::ReadWrite).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(storage.open("missing", OpenMode::Read).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(storage.map("missing").unwrap_err().kind(), ErrorKind::NotFound);
}

fn names(storage: &dyn Storage) {
    let list = |dir: &str| storage.list(dir).unwrap().into_iter().map(|e| (e.name, e.len)).collect::<Vec<_>>();
    assert_eq!(storage.list("a/b").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(storage.open("a/b/x", OpenMode::CreateNew).unwrap_err().kind(), ErrorKind::NotFound);
    storage.create_dir("a/b").unwrap();
    storage.create_dir("a/b").unwrap();
    assert!(list("a").is_empty(), "directories are not listed");
    let file = storage.open("a/b/x", OpenMode::CreateNew).unwrap();
    file.write_at(b"one", 0).unwrap();
    storage.open("a/b/w", OpenMode::CreateNew).unwrap();
    assert_eq!(list("a/b"), [("w".to_owned(), 0), ("x".to_owned(), 3)]);
    storage.rename("a/b/x", "a/b/w").unwrap();
    assert_eq!(list("a/b"), [("w".to_owned(), 3)], "a rename replaces its target");
    file.write_at(b"two", 0).unwrap();
    assert_eq!(&*storage.map("a/b/w").unwrap(), b"two", "an open file follows its rename");
    assert_eq!(storage.rename("a/b/x", "a/b/y").unwrap_err().kind(), ErrorKind::NotFound);
    storage.rename("a/b/w", "moved").unwrap();
    assert!(list("a/b").is_empty());
    storage.sync_dir("a/b").unwrap();
    storage.sync_dir("").unwrap();
    assert_eq!(storage.sync_dir("nowhere").unwrap_err().kind(), ErrorKind::NotFound);
    let map = storage.map("moved").unwrap();
    storage.remove("moved").unwrap();
    assert_eq!(storage.remove("moved").unwrap_err().kind(), ErrorKind::NotFound);
    let mut buf = [0; 3];
    file.read_at(&mut buf, 0).unwrap();
    assert_eq!((&buf, &*map), (b"two", b"two".as_slice()), "a removed file lives as long as its handles");
}

fn locks(storage: &dyn Storage) {
    let first = storage.lock("LOCK", LockKind::Exclusive, "pid 42").unwrap();
    for kind in [LockKind::Exclusive, LockKind::Shared] {
        let error = storage.lock("LOCK", kind, "pid 43").unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::WouldBlock, "pid 42"));
    }
    drop(first);
    let readers = [storage.lock("LOCK", LockKind::Shared, "a"), storage.lock("LOCK", LockKind::Shared, "b")];
    assert!(readers.iter().all(Result::is_ok));
    assert_eq!(storage.lock("LOCK", LockKind::Exclusive, "c").unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(readers);
    storage.lock("LOCK", LockKind::Exclusive, "d").unwrap();
    assert!(storage.list("").unwrap().iter().any(|e| e.name == "LOCK"));
}
