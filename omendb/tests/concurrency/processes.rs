//! Several handles and processes on one database: one writer or many readers, and a fork is noticed.

use crate::{batch, watchdog};
use omendb::{Database, Error, Metric, Options, Patch, Schema, SearchOptions};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The environment variable that makes this program another process's part: `what,path`.
const ROLE: &str = "OMENDB_TEST_CONCURRENCY_ROLE";

fn start_role(role: &str, path: &Path) -> Child {
    Command::new(std::env::current_exe().expect("the test knows its own program"))
        .args(["--exact", "processes::role", "--nocapture", "--test-threads", "1"])
        .env(ROLE, format!("{role},{}", path.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the other process starts")
}

/// Waits for a line of the other process that holds `wanted`; returns the line.
fn wait_for(child: &mut Child, wanted: &str) -> String {
    let lines = BufReader::new(child.stdout.as_mut().expect("it is piped")).lines();
    lines.map_while(Result::ok).find(|line| line.contains(wanted)).unwrap_or_else(|| panic!("it never said {wanted}"))
}

/// Does nothing unless a test below started it.
#[test]
fn role() {
    let Ok(order) = std::env::var(ROLE) else { return };
    let (role, path) = order.split_once(',').expect("what,path");
    match role {
        "hold" => {
            let _db = Database::open(path).expect("nobody else has it");
            println!("\nholding");
            let _ = std::io::stdin().read_line(&mut String::new());
        }
        "fork" => fork(Path::new(path), true),
        "fork without worker" => fork(Path::new(path), false),
        other => panic!("{other}"),
    }
}

fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for dir in ["", "wal", "segments"] {
        for entry in std::fs::read_dir(path.join(dir)).expect("a database directory") {
            let entry = entry.expect("an entry");
            let name = format!("{dir}/{}", entry.file_name().to_string_lossy());
            if entry.file_type().expect("a type").is_file() && !name.ends_with("LOCK") {
                files.insert(name, std::fs::read(entry.path()).expect("a file"));
            }
        }
    }
    files
}

#[test]
fn one_writer_or_many_readers() {
    watchdog(60, || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db.omen");
        let options = || Options::new().background(false);
        let db = options().open(&path).unwrap();
        let collection = db.create_collection("main", Schema::new(8, Metric::L2)).unwrap();
        collection.upsert(batch(0, 0..5, 1, 0)).unwrap();
        for refused in [options().open(&path), options().read_only(true).open(&path)] {
            let Err(Error::Locked(message)) = refused else { panic!("a second open gave {refused:?}") };
            assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        }
        drop((collection, db));

        let before = files(&path);
        let readers: Vec<_> = (0..3).map(|_| options().read_only(true).open(&path).unwrap()).collect();
        let Err(Error::Locked(_)) = options().open(&path) else { panic!("a writer came in beside readers") };
        for reader in &readers {
            let collection = reader.collection("main").unwrap();
            assert_eq!(collection.count().unwrap(), 5);
            collection.wait_idle().unwrap();
            let refused = [
                collection.upsert(batch(1, 0..2, 1, 0)).map(drop),
                collection.delete(["0-0"]).map(drop),
                collection.update("0-0", Patch::default()),
                collection.flush(),
                collection.compact(),
                reader.flush(),
                reader.compact(),
                reader.drop_collection("main"),
                reader.create_collection("new", Schema::new(8, Metric::L2)).map(drop),
            ];
            for (i, outcome) in refused.into_iter().enumerate() {
                let Err(Error::Unusable(message)) = outcome else { panic!("write {i} gave {outcome:?}") };
                assert!(message.contains("read-only"), "{message}");
            }
        }
        drop(readers);
        assert!(files(&path) == before, "reading changed a file");
    });
}

#[test]
fn another_process_is_named_and_its_death_frees_the_lock() {
    watchdog(60, || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db.omen");
        let mut holder = start_role("hold", &path);
        wait_for(&mut holder, "holding");
        let refused = Database::open(&path);
        let Err(Error::Locked(message)) = refused else { panic!("a second open gave {refused:?}") };
        assert!(message.contains(&format!("process {}", holder.id())), "{message}");
        holder.kill().unwrap();
        holder.wait().unwrap();
        Database::open(&path).expect("a dead holder holds nothing");
    });
}

#[test]
fn a_fork_is_noticed() {
    watchdog(60, || {
        for role in ["fork", "fork without worker"] {
            let dir = tempfile::tempdir().unwrap();
            let mut parent = start_role(role, &dir.path().join("db.omen"));
            let said = wait_for(&mut parent, "fork:");
            parent.wait().unwrap();
            assert!(said.ends_with("fork: all is well"), "{role}: {said}");
        }
    });
}

/// The parent's side: opens, forks, lets the child try everything, and looks at its own database afterwards.
fn fork(path: &Path, background: bool) {
    let db = Options::new().background(background).open(path).expect("it opens");
    let collection = db.create_collection("main", Schema::new(8, Metric::L2)).expect("it is made");
    collection.upsert(batch(0, 0..5, 1, 0)).expect("it is written");
    let mut open_iterator = collection.iterate().expect("it reads");
    let before = files(path);
    // SAFETY: the child calls the library, whose calls return at their first check, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let call = first_call_that_works(&db, &collection, &mut open_iterator);
        drop((open_iterator, collection, db));
        // SAFETY: it ends the process at once, without running the parent's exit handlers.
        unsafe { libc::_exit(call) };
    }
    let mut status = 0;
    // SAFETY: `status` lives throughout the call.
    assert!(child > 0 && unsafe { libc::waitpid(child, &raw mut status, 0) } == child, "no child");
    let report = if status != 0 {
        format!("status {status:#x}: in the child, call {} did not say Unusable", status >> 8)
    } else if files(path) != before {
        "the child changed a file".into()
    } else if std::fs::read_to_string(path.join("LOCK")).unwrap_or_default() != std::process::id().to_string() {
        "the child took the parent's note out of the lock".into()
    } else if !matches!(Database::open(path), Err(Error::Locked(_))) {
        "the child gave the parent's lock away".into()
    } else if collection.upsert(batch(1, 0..5, 1, 0)).is_err() || db.flush().is_err() || db.close().is_err() {
        "the parent cannot go on".into()
    } else {
        match Database::open(path).and_then(|db| db.collection("main")).and_then(|c| c.count()) {
            Ok(10) => "all is well".into(),
            other => format!("the parent's records are {other:?}"),
        }
    };
    println!("\nfork: {report}");
}

/// The number of the first call that does not say `Unusable`; 0 if all do.
fn first_call_that_works(db: &Database, c: &omendb::Collection, records: &mut omendb::Records) -> i32 {
    let schema = || Schema::new(8, Metric::L2);
    let query = [1f32; 8];
    let calls: [(i32, omendb::Result<()>); 21] = [
        (1, c.upsert(batch(5, 0..2, 1, 0)).map(drop)),
        (2, c.add(batch(6, 0..2, 1, 0)).map(drop)),
        (3, c.update("0-0", Patch { text: Some(None), ..Patch::default() })),
        (4, c.delete(["0-0"]).map(drop)),
        (5, c.get("0-0").map(drop)),
        (6, c.get_many(["0-0", "0-1"]).map(drop)),
        (7, c.contains("0-0").map(drop)),
        (8, c.count().map(drop)),
        (9, c.iterate().map(drop)),
        (10, records.next().unwrap_or_else(|| c.get("0-0").map(|r| r.expect("a record"))).map(drop)),
        (11, c.search(&query, &SearchOptions::new(3)).map(drop)),
        (12, c.search_batch(query.to_vec(), &SearchOptions::new(3), 2).map(drop)),
        (13, c.flush()),
        (14, c.compact()),
        (15, c.wait_idle()),
        (16, db.flush()),
        (17, db.check(false).map(drop)),
        (18, db.create_collection("new", schema()).map(drop)),
        (19, db.collection("main").map(drop)),
        (20, db.get_or_create_collection("main", schema()).map(drop)),
        (21, db.drop_collection("main")),
    ];
    let works = calls.iter().find(|(_, outcome)| !matches!(outcome, Err(Error::Unusable(m)) if m.contains("fork")));
    works.map_or(0, |(call, _)| *call)
}
