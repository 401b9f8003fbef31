//! Readers, writers, flushes and compactions together: every reader sees one version, nobody waits for a writer,
//! nothing acknowledged is lost, and closing in the middle of it all never hangs.
//!
//! `OMENDB_LONG=1` runs the mixed load thirty times as long.

mod gate;
mod load;
mod processes;
mod stops;

use omendb::{Batch, IdColumn};
use serde_json::json;
use std::ops::Range;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Whether the long run was asked for.
pub fn long_run() -> bool {
    std::env::var_os("OMENDB_LONG").is_some_and(|v| v == "1")
}

/// Rows `g-0`, `g-1`, ... of group `g`, whose vector, metadata and text all carry `stamp`. `padding` bytes of text
/// more.
pub fn batch(g: u64, rows: Range<u64>, stamp: u64, padding: usize) -> Batch<'static> {
    let ids: Vec<String> = rows.clone().map(|row| format!("{g}-{row}")).collect();
    let vectors: Vec<f32> = rows.clone().flat_map(|row| vector(g, stamp, row)).collect();
    let metadata: Vec<_> = rows.map(|_| json!({"group": g, "stamp": stamp})).collect();
    let text = format!("{stamp} {}", "x".repeat(padding));
    Batch::new(ids.iter().collect::<IdColumn>(), vectors)
        .with_metadata(metadata.iter().map(Some))
        .expect("metadata is an object")
        .with_text(ids.iter().map(|_| Some(text.as_str())))
}

/// Groups lie far apart, so that the nearest rows to a group's place are its own.
pub fn vector(g: u64, stamp: u64, row: u64) -> [f32; 8] {
    [g as f32 * 1e6, stamp as f32, row as f32, 1.0, 0.0, 0.0, 0.0, 0.0]
}

/// Runs `work`; panics if it takes longer than `seconds`.
pub fn watchdog(seconds: u64, work: impl FnOnce() + Send + 'static) {
    let (sender, done) = channel();
    let worker = std::thread::spawn(move || {
        work();
        let _ = sender.send(());
    });
    match done.recv_timeout(Duration::from_secs(seconds)) {
        Err(RecvTimeoutError::Timeout) => panic!("it hangs: not done after {seconds} s"),
        _ => {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Prints the closing line; panics with the first few violations.
pub fn conclude(line: &str, violations: &[String]) {
    println!("{line}, {} violations", violations.len());
    let shown: Vec<&str> = violations.iter().take(5).map(String::as_str).collect();
    assert!(violations.is_empty(), "{} violations, the first:\n{}", violations.len(), shown.join("\n"));
}
