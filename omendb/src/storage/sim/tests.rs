//! What the simulated disk keeps, loses and breaks.

use super::super::conformance;
use super::*;

fn create(fs: &SimFs, path: &str, bytes: &[u8]) -> Box<dyn File> {
    let file = fs.open(path, OpenMode::CreateNew).unwrap();
    file.write_at(bytes, 0).unwrap();
    file
}

fn read(fs: &SimFs, path: &str) -> Option<Vec<u8>> {
    fs.files().get(path).map(|bytes| bytes.to_vec())
}

/// A file of two sectors of 1s, all durable, and a handle to it.
fn durable_file() -> (SimFs, Box<dyn File>) {
    let fs = SimFs::new();
    let file = create(&fs, "a", &[1; 2 * SECTOR]);
    file.sync_data().unwrap();
    fs.sync_dir("").unwrap();
    (fs, file)
}

#[test]
fn conforms() {
    conformance::check(&SimFs::new());
}

#[test]
fn bytes_and_names_become_durable_apart() {
    let fs = SimFs::new();
    let file = create(&fs, "a", b"bytes");
    assert_eq!(read(&fs.crash(Crash::new(Keep::None)), "a"), None);
    file.sync_data().unwrap();
    assert_eq!(read(&fs.crash(Crash::new(Keep::None)), "a"), None, "a file's sync leaves its name out");
    fs.sync_dir("").unwrap();
    assert_eq!(read(&fs.crash(Crash::new(Keep::None)), "a"), Some(b"bytes".to_vec()));
    create(&fs, "b", b"bytes");
    fs.sync_dir("").unwrap();
    assert_eq!(read(&fs.crash(Crash::new(Keep::None)), "b"), Some(vec![]), "a directory's sync leaves the bytes out");
    assert_eq!(read(&fs.crash(Crash::new(Keep::NamesAndSizes)), "b"), Some(vec![0; 5]));
    let garbage = Crash { keep: Keep::NamesAndSizes, fill: Fill::Garbage };
    assert_eq!(read(&fs.crash(garbage), "b"), Some(vec![0xA5; 5]));
    assert_eq!(read(&fs.crash(Crash::new(Keep::Data)), "b"), Some(b"bytes".to_vec()));
}

#[test]
fn directories_and_renames_wait_too() {
    let fs = SimFs::new();
    fs.create_dir("d").unwrap();
    create(&fs, "d/new", b"new").sync_data().unwrap();
    fs.sync_dir("d").unwrap();
    assert!(fs.crash(Crash::new(Keep::None)).files().is_empty(), "the directory's own name was not durable");
    fs.sync_dir("").unwrap();
    create(&fs, "d/old", b"old").sync_data().unwrap();
    fs.sync_dir("d").unwrap();
    fs.rename("d/new", "d/old").unwrap();
    let lost = fs.crash(Crash::new(Keep::None));
    assert_eq!((read(&lost, "d/new"), read(&lost, "d/old")), (Some(b"new".to_vec()), Some(b"old".to_vec())));
    let kept = fs.crash(Crash::new(Keep::All));
    assert_eq!((read(&kept, "d/new"), read(&kept, "d/old")), (None, Some(b"new".to_vec())));
    fs.remove("d/old").unwrap();
    assert_eq!(fs.pending().iter().map(|p| p.kind).collect::<Vec<_>>(), [PendingKind::Rename, PendingKind::Remove]);
    assert_eq!(read(&fs.crash(Crash::new(Keep::Only(1))), "d/new"), Some(b"new".to_vec()));
    assert!(fs.crash(Crash::new(Keep::All)).files().is_empty());
}

#[test]
fn writes_tear_between_sectors() {
    let (fs, file) = durable_file();
    file.write_at(&[2; SECTOR], SECTOR as u64 / 2).unwrap();
    assert_eq!(fs.pending().iter().map(|p| p.offset).collect::<Vec<_>>(), [256, 512]);
    let count = |keep| read(&fs.crash(Crash::new(keep)), "a").unwrap().iter().filter(|b| **b == 2).count();
    assert_eq!((count(Keep::None), count(Keep::All)), (0, SECTOR));
    assert_eq!((count(Keep::First(1)), count(Keep::Last(1))), (SECTOR / 2, SECTOR / 2));
    let torn = read(&fs.crash(Crash::new(Keep::Only(1))), "a").unwrap();
    assert_eq!((torn[511], torn[512], torn[768]), (1, 2, 1));
    file.sync_data().unwrap();
    assert_eq!(count(Keep::None), SECTOR);
}

#[test]
fn lengths_wait_apart_from_bytes() {
    let (fs, file) = durable_file();
    file.set_len(10).unwrap();
    file.set_len(20).unwrap();
    let bytes = |keep| read(&fs.crash(Crash::new(keep)), "a").unwrap();
    assert_eq!(bytes(Keep::None).len(), 2 * SECTOR);
    assert_eq!(bytes(Keep::First(1)), [1; 10]);
    assert_eq!(bytes(Keep::All), [[1; 10], [0; 10]].concat());
    assert_eq!(bytes(Keep::Only(1)), [1; 20]);
    file.set_len(3 * SECTOR as u64).unwrap();
    let garbage = Crash { keep: Keep::All, fill: Fill::Garbage };
    assert_eq!(read(&fs.crash(garbage), "a").unwrap()[1_000], 0, "a set_len never shows garbage");
}

#[test]
fn stale_bytes_can_show_where_a_write_was_lost() {
    let (fs, _file) = durable_file();
    fs.remove("a").unwrap();
    create(&fs, "b", &[7; 4]);
    let stale = Crash { keep: Keep::NamesAndSizes, fill: Fill::Stale };
    assert_eq!(read(&fs.crash(stale), "b"), Some(vec![1; 4]));
}

#[test]
fn every_plan_is_reproducible_and_small_sets_are_exhausted() {
    let (fs, file) = durable_file();
    file.write_at(&[3; 2 * SECTOR], 0).unwrap();
    let plans = Crash::plans(fs.pending().len(), 4, 8, 1);
    let images: std::collections::HashSet<u128> = plans.iter().map(|p| fs.crash(*p).fingerprint()).collect();
    assert_eq!(images.len(), 4);
    assert!(plans.iter().all(|p| fs.crash(*p).fingerprint() == fs.crash(*p).fingerprint()));
    assert_eq!(Crash::plans(20, 4, 8, 1).len(), 1 + 4 + 19 + 19 + 20 + 20 + 8 + 2);
    let mut flip = 0;
    let chosen = fs.crash_by(&mut |n| {
        flip += 1;
        flip % n
    });
    assert_eq!(read(&chosen, "a").unwrap()[511..513], [3, 1]);
}

#[test]
fn calls_fail_once_or_for_ever() {
    let (fs, file) = durable_file();
    let next = fs.calls();
    fs.set_fault(Some(Fault::once(next + 1, FaultKind::Eio)));
    file.len().unwrap();
    assert_eq!(file.len().unwrap_err().raw_os_error(), Some(5));
    file.len().unwrap();
    assert_eq!(fs.failures(), 1);
    fs.set_fault(Some(Fault::forever(fs.calls(), FaultKind::Enospc)));
    file.len().unwrap();
    for _ in 0..2 {
        assert_eq!(file.write_at(&[9; 4], 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
    fs.remove("a").unwrap();
    fs.set_fault(Some(Fault::once(0, FaultKind::ShortRead)));
    file.set_len(1_024).unwrap();
    assert_eq!(file.read_at(&mut [0; 4], 0).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let mut buf = [0; 4];
    file.read_at(&mut buf, 0).unwrap();
    assert_eq!(buf, [9, 9, 1, 1], "a failing write leaves its first half");
}

#[test]
fn a_failed_sync_loses_the_bytes_for_good() {
    for readable in [false, true] {
        let (fs, file) = durable_file();
        file.write_at(b"new", 0).unwrap();
        let fault = Fault { readable_after_failed_sync: readable, ..Fault::once(fs.calls(), FaultKind::Eio) };
        fs.set_fault(Some(fault));
        file.sync_data().unwrap_err();
        assert_eq!(read(&fs, "a").unwrap().starts_with(b"new"), readable);
        file.write_at(b"x", 1_000).unwrap();
        file.sync_data().unwrap();
        let crashed = read(&fs.crash(Crash::new(Keep::All)), "a").unwrap();
        assert_eq!((&crashed[..3], crashed[1_000]), ([1; 3].as_slice(), b'x'), "a later sync does not bring them back");
        file.write_at(b"new", 0).unwrap();
        file.sync_data().unwrap();
        assert!(read(&fs.crash(Crash::new(Keep::None)), "a").unwrap().starts_with(b"new"), "writing again does");
    }
}

#[test]
fn a_stopped_process_changes_nothing_more() {
    let (fs, file) = durable_file();
    let before = fs.fingerprint();
    fs.stop_at(Some(fs.calls()));
    assert!(file.write_at(b"x", 0).is_err());
    assert!(fs.remove("a").is_err());
    assert!(fs.lock("LOCK", LockKind::Exclusive, "").is_err());
    assert_eq!(fs.fingerprint(), before);
    fs.stop_at(None);
    file.write_at(b"x", 0).unwrap();
    assert_ne!(fs.fingerprint(), before);
}

#[test]
fn capacity_is_a_limit_on_all_files() {
    let (fs, file) = durable_file();
    fs.set_capacity(Some(2 * SECTOR as u64 + 10));
    file.write_at(&[5; 10], 2 * SECTOR as u64).unwrap();
    assert_eq!(file.write_at(&[5; 11], 2 * SECTOR as u64).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.set_len(4 * SECTOR as u64).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.write_at(&[6; 10], 0).unwrap();
    fs.remove("a").unwrap();
    create(&fs, "b", &[1; 2 * SECTOR]);
}

#[test]
fn damage_reaches_memory_and_disk() {
    let (fs, file) = durable_file();
    fs.damage("a", 3, 0x80).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, 3).unwrap();
    assert_eq!((byte[0], read(&fs.crash(Crash::new(Keep::None)), "a").unwrap()[3]), (0x81, 0x81));
    assert!(fs.damage("missing", 0, 1).is_err());
}

#[test]
fn recording_keeps_the_disk_before_each_change() {
    let fs = SimFs::new();
    fs.record();
    let file = create(&fs, "a", b"one");
    file.len().unwrap();
    file.sync_data().unwrap();
    fs.sync_dir("").unwrap();
    let moments = fs.take_moments();
    let seen: Vec<(u64, Op, usize)> = moments.iter().map(|m| (m.call, m.op, m.waiting())).collect();
    assert_eq!(
        seen,
        [(0, Op::Create, 0), (1, Op::Write, 1), (3, Op::SyncData, 3), (4, Op::SyncDir, 1), (5, Op::Len, 0)]
    );
    assert_eq!(read(&moments[2].crash(Crash::new(Keep::All)), "a"), Some(b"one".to_vec()));
    assert_eq!(read(&moments[3].crash(Crash::new(Keep::None)), "a"), None);
    assert_eq!(read(&moments[4].crash(Crash::new(Keep::None)), "a"), Some(b"one".to_vec()));
}

#[test]
fn forks_and_crashes_share_nothing_and_hold_no_locks() {
    let (fs, file) = durable_file();
    let _held = fs.lock("LOCK", LockKind::Exclusive, "holder").unwrap();
    for copy in [fs.fork(), fs.crash(Crash::new(Keep::All))] {
        copy.lock("LOCK", LockKind::Exclusive, "other").unwrap();
        file.write_at(b"original", 0).unwrap();
        assert_eq!(read(&copy, "a").unwrap()[0], 1);
        file.write_at(&[1; 8], 0).unwrap();
    }
}

#[test]
fn mutants_break_what_they_say() {
    let replaced = |mutant| {
        let fs = SimFs::new();
        fs.set_mutant(Some(mutant));
        let file = create(&fs, "a.tmp", b"bytes");
        file.sync_data().unwrap();
        fs.rename("a.tmp", "a").unwrap();
        let between = read(&fs.crash(Crash::new(Keep::None)), "a");
        fs.sync_dir("").unwrap();
        (between, read(&fs.crash(Crash::new(Keep::None)), "a"))
    };
    let whole = Some(b"bytes".to_vec());
    assert_eq!(replaced(Mutant::SkipNthSync { path: "none", nth: 0 }), (None, whole.clone()));
    assert_eq!(replaced(Mutant::SkipSync { path: ".tmp" }), (None, Some(vec![])));
    assert_eq!(replaced(Mutant::SkipNthSync { path: "", nth: 0 }), (None, Some(vec![])));
    assert_eq!(replaced(Mutant::SkipNthSync { path: "", nth: 1 }), (None, whole.clone()));
    assert_eq!(replaced(Mutant::SkipDirSync { path: "" }), (None, None));
    assert_eq!(replaced(Mutant::RenameBeforeSync { path: ".tmp" }), (Some(vec![]), whole));
    assert_eq!(replaced(Mutant::LoseWrite { path: "a", nth: 0 }), (None, Some(vec![])));
    let misdirected = replaced(Mutant::MisdirectWrite { path: "a", nth: 0 }).1.unwrap();
    assert_eq!((misdirected.len(), &misdirected[SECTOR..]), (SECTOR + 5, b"bytes".as_slice()));
}

#[test]
fn a_mutant_can_remove_before_the_directory_is_synced() {
    let (fs, _file) = durable_file();
    fs.set_mutant(Some(Mutant::RemoveBeforeDirSync { path: "a" }));
    create(&fs, "b", b"new").sync_data().unwrap();
    fs.sync_dir("").unwrap();
    fs.remove("a").unwrap();
    assert!(fs.crash(Crash::new(Keep::None)).files().is_empty());
    create(&fs, "c", b"");
    assert_eq!(read(&fs.crash(Crash::new(Keep::None)), "b"), Some(b"new".to_vec()));
}
