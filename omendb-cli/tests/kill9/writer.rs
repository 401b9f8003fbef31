//! The process that is killed: does the operations of its threads and says which are acknowledged.

use crate::model::{COLLECTION, Model, schema};
use crate::suicide::{Call, SuicideStorage};
use omendb::Options;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// The variable that makes a process a writer: `PATH SEED THREADS NEXT,NEXT,... CALL N`.
pub const JOB: &str = "OMENDB_KILL9_WRITER";
/// Operations of one thread after which it ends by itself.
const OPERATIONS: u64 = 400;

fn say(line: &str) {
    // One write for one line: what the parent has read was said before the process died.
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).expect("the parent listens");
}

/// Writes until killed, or until there is nothing left to do.
pub fn run(job: &str) {
    let fields: Vec<&str> = job.rsplitn(6, ' ').collect();
    let [n, call, next, threads, seed, path] = fields[..] else {
        panic!("a job is {JOB}=PATH SEED THREADS NEXT CALL N")
    };
    let seed: u64 = seed.parse().expect("a seed");
    let threads: usize = threads.parse().expect("a number of threads");
    let next: Vec<u64> = next.split(',').map(|n| n.parse().expect("an operation's number")).collect();
    let storage = SuicideStorage::new(PathBuf::from(path), Call::of(call), n.parse().expect("a number of calls"));
    // A small log is flushed and dropped often.
    let options = Options::new().create(true).log_cap(1 << 20);
    let database = options.open_on(Arc::new(storage)).unwrap_or_else(|e| fail(&format!("open: {e}")));
    let collection =
        database.get_or_create_collection(COLLECTION, schema()).unwrap_or_else(|e| fail(&format!("collection: {e}")));
    say("open");
    std::thread::scope(|scope| {
        for (thread, next) in next.into_iter().enumerate().take(threads) {
            let (database, collection) = (&database, &collection);
            scope.spawn(move || {
                let mut model = Model::new(seed, thread);
                model.next = next;
                for _ in 0..OPERATIONS {
                    let op = model.next_op();
                    let name = op.name();
                    op.run(database, collection).unwrap_or_else(|e| fail(&format!("{name}: {e}")));
                    say(&format!("ack {thread} {}", model.next));
                    model.next += 1;
                }
            });
        }
    });
    database.close().unwrap_or_else(|e| fail(&format!("close: {e}")));
}

fn fail(what: &str) -> ! {
    say(&format!("error: {what}"));
    std::process::exit(3)
}
