//! Latency histograms and the statistics a user sees.

use serde::Serialize;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Eight buckets an octave: quantiles are right within 9 %.
const BUCKETS: usize = 64 * 8;

/// A histogram of nanoseconds that threads add to without a lock.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Vec<AtomicU64>,
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), max: AtomicU64::new(0) }
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < 8 {
        return nanos as usize;
    }
    let octave = nanos.ilog2();
    let eighth = (nanos >> (octave - 3)) & 7;
    ((octave as usize - 2) * 8 + eighth as usize).min(BUCKETS - 1)
}

/// The middle of a bucket, in nanoseconds.
fn middle(bucket: usize) -> f64 {
    if bucket < 8 {
        return bucket as f64;
    }
    let (octave, eighth) = (bucket / 8 + 2, bucket % 8);
    2f64.powi(octave as i32 - 3) * (8.5 + eighth as f64)
}

impl Histogram {
    pub(crate) fn record(&self, elapsed: Duration) {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
        self.max.fetch_max(nanos, Ordering::Relaxed);
    }

    /// Runs `work` and records how long it took.
    pub(crate) fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.record(start.elapsed());
        result
    }

    pub(crate) fn latency(&self) -> Latency {
        let counts: Vec<u64> = self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let max = self.max.load(Ordering::Relaxed) as f64 / 1e3;
        let quantile = |q: f64| {
            let rank = (count as f64 * q).ceil().max(1.0) as u64;
            let mut seen = 0;
            let at = counts.iter().position(|c| {
                seen += c;
                seen >= rank
            });
            at.map_or(0.0, |b| (middle(b) / 1e3).min(max))
        };
        Latency { count, p50_us: quantile(0.50), p99_us: quantile(0.99), max_us: max }
    }
}

/// One histogram an operation.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) write: Histogram,
    pub(crate) search: Histogram,
    pub(crate) fsync: Histogram,
    pub(crate) flush: Histogram,
    pub(crate) compaction: Histogram,
    pub(crate) index: Histogram,
    /// Share of the graph that is being built, in thousandths.
    index_progress: AtomicU64,
}

impl Metrics {
    pub(crate) fn set_index_progress(&self, share: f32) {
        self.index_progress.store((share * 1000.0) as u64, Ordering::Relaxed);
    }

    pub(crate) fn index_progress(&self) -> f32 {
        self.index_progress.load(Ordering::Relaxed) as f32 / 1000.0
    }
}

/// Latency of one operation since the handle opened. Quantiles are right within 9 %.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Latency {
    /// How often it ran.
    pub count: u64,
    /// Median, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
    /// Longest, microseconds.
    pub max_us: f64,
}

/// What one collection holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CollectionStats {
    /// Its name.
    pub name: String,
    /// Dimensions of a vector.
    pub dim: usize,
    /// Its metric's name.
    pub metric: String,
    /// Its element type's name.
    pub element: String,
    /// Live records.
    pub records: u64,
    /// Rows of segments that are deleted or replaced and wait for compaction.
    pub deleted: u64,
    /// Sealed segments.
    pub segments: u64,
    /// Rows in segments that have a graph.
    pub indexed_rows: u64,
    /// Rows in segments that are large enough for a graph and wait for one; they are scanned.
    pub unindexed_rows: u64,
    /// Rows in segments whose graph is the careful one.
    pub settled_rows: u64,
    /// Memory of the graphs, bytes.
    pub graph_bytes: u64,
    /// Rows in segments whose texts are indexed; the others are indexed by the first search that needs them.
    pub text_indexed_rows: u64,
    /// Memory of text indexes that are in no file yet, bytes.
    pub text_index_bytes: u64,
    /// Live records that are in the log and in memory, not in a segment yet.
    pub memtable_records: u64,
    /// Memory of those records, bytes.
    pub memtable_bytes: u64,
    /// Memory of the id index, bytes; 0 until the first `get` or write.
    pub id_index_bytes: u64,
    /// Memory of the metadata columns that filters use and that are in no file yet, bytes.
    pub filter_columns_bytes: u64,
}

/// What a database holds and how it has been doing since this handle opened.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Where it is.
    pub path: String,
    /// Live records of all collections.
    pub records: u64,
    /// One entry a collection, by name.
    pub collections: Vec<CollectionStats>,
    /// Bytes of log files.
    pub bytes_log: u64,
    /// Bytes of segment data files (primary data).
    pub bytes_data: u64,
    /// Bytes of index files (derived data).
    pub bytes_index: u64,
    /// Bytes of text index files (derived data).
    pub bytes_text: u64,
    /// Bytes of tombstone files.
    pub bytes_tombstones: u64,
    /// Bytes of manifests.
    pub bytes_manifest: u64,
    /// Bytes of log frames that a recovery would replay now.
    pub log_lag_bytes: u64,
    /// Memory of memtables and id indexes, bytes. Mapped files are the operating system's cache and not counted.
    pub memory_used: u64,
    /// The budget for it, bytes.
    pub memory_budget: u64,
    /// Damage seen so far, one line a file.
    pub damaged: Vec<String>,
    /// The last failure of background work, if it has not succeeded since.
    pub background_error: Option<String>,
    /// Why the handle takes no more writes, if a write could not be made durable.
    pub poisoned: Option<String>,
    /// Write calls, to acknowledgement.
    pub write: Latency,
    /// Search calls.
    pub search: Latency,
    /// Syncs of the log.
    pub fsync: Latency,
    /// Flushes of memtables into segments.
    pub flush: Latency,
    /// Compactions.
    pub compaction: Latency,
    /// Builds of graphs.
    pub index: Latency,
    /// Share done of the graph that is being built, or of the last one: 0 to 1.
    pub index_progress: f32,
}

impl Stats {
    /// The same in the Prometheus text exposition format, version 0.0.4.
    pub fn to_prometheus(&self) -> String {
        let mut out = String::new();
        let mut gauge = |name: &str, help: &str, rows: &[(String, f64)]| {
            let _ = writeln!(out, "# HELP omendb_{name} {help}\n# TYPE omendb_{name} gauge");
            for (labels, value) in rows {
                let _ = writeln!(out, "omendb_{name}{labels} {value}");
            }
        };
        let by_collection = |f: &dyn Fn(&CollectionStats) -> u64| -> Vec<(String, f64)> {
            let row = |c: &CollectionStats| (format!("{{collection=\"{}\"}}", escape_label(&c.name)), f(c) as f64);
            self.collections.iter().map(row).collect()
        };
        gauge("records", "Live records.", &by_collection(&|c| c.records));
        gauge("deleted_rows", "Rows that wait for compaction.", &by_collection(&|c| c.deleted));
        gauge("segments", "Sealed segments.", &by_collection(&|c| c.segments));
        gauge("indexed_rows", "Rows in segments with a graph.", &by_collection(&|c| c.indexed_rows));
        gauge("unindexed_rows", "Rows that wait for a graph.", &by_collection(&|c| c.unindexed_rows));
        gauge("memtable_records", "Records not in a segment yet.", &by_collection(&|c| c.memtable_records));
        let kinds = [
            ("log", self.bytes_log),
            ("data", self.bytes_data),
            ("index", self.bytes_index),
            ("text", self.bytes_text),
            ("tombstones", self.bytes_tombstones),
            ("manifest", self.bytes_manifest),
        ];
        let bytes: Vec<_> = kinds.iter().map(|(k, b)| (format!("{{kind=\"{k}\"}}"), *b as f64)).collect();
        gauge("file_bytes", "Bytes on disk by kind of file.", &bytes);
        gauge("log_lag_bytes", "Bytes a recovery would replay.", &[(String::new(), self.log_lag_bytes as f64)]);
        gauge("memory_used_bytes", "Memory of memtables and id indexes.", &[(String::new(), self.memory_used as f64)]);
        gauge("memory_budget_bytes", "Budget for it.", &[(String::new(), self.memory_budget as f64)]);
        gauge("damaged_files", "Files seen to be damaged.", &[(String::new(), self.damaged.len() as f64)]);
        let _ =
            writeln!(out, "# HELP omendb_latency_seconds Latency by operation.\n# TYPE omendb_latency_seconds summary");
        let operations = [
            ("write", &self.write),
            ("search", &self.search),
            ("fsync", &self.fsync),
            ("flush", &self.flush),
            ("compaction", &self.compaction),
            ("index", &self.index),
        ];
        for (name, latency) in operations {
            for (quantile, us) in [("0.5", latency.p50_us), ("0.99", latency.p99_us), ("1", latency.max_us)] {
                let _ = writeln!(
                    out,
                    "omendb_latency_seconds{{operation=\"{name}\",quantile=\"{quantile}\"}} {}",
                    us / 1e6
                );
            }
            let _ = writeln!(out, "omendb_latency_seconds_count{{operation=\"{name}\"}} {}", latency.count);
        }
        out
    }
}

fn escape_label(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_nine_percent() {
        let h = Histogram::default();
        for us in 1..=1000u64 {
            h.record(Duration::from_micros(us));
        }
        let l = h.latency();
        assert_eq!(l.count, 1000);
        assert!((l.p50_us / 500.0 - 1.0).abs() < 0.09, "{l:?}");
        assert!((l.p99_us / 990.0 - 1.0).abs() < 0.09, "{l:?}");
        assert_eq!(l.max_us, 1000.0);
    }

    #[test]
    fn labels_are_escaped() {
        let stats = Stats {
            collections: vec![CollectionStats { name: "a\"b\\\n".into(), ..Default::default() }],
            ..Default::default()
        };
        assert!(stats.to_prometheus().contains(r#"omendb_records{collection="a\"b\\\n"} 0"#));
    }
}
