//! Times the rows that pass a filter, over the columns of one large segment.

use crate::Outcome;
use omendb::Filter;
use omendb::filter::{Columns, ColumnsBuilder};
use omendb::storage::Bytes;
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// How often each filter is evaluated.
const RUNS: usize = 100;
/// How many rows are decided by the plain evaluator too.
const CHECKED: usize = 5_000;

/// What the figure must not pass, in microseconds; none where there is no promise.
const FILTERS: &[(&str, &str, Option<u64>)] = &[
    ("equality, 1 of 8, skewed", "lang = 'l0'", Some(1_000)),
    ("equality, 1 of 8, rare", "lang = 'l7'", Some(1_000)),
    ("equality, 1 of 50", "year = 2001", Some(1_000)),
    ("equality, 1 of 30,000", "author.name = 'author 77'", Some(1_000)),
    ("equality, unique", "id = 'doc-4711'", Some(1_000)),
    ("equality, boolean", "active = TRUE", Some(1_000)),
    ("equality in lists, common", "tags = 't0'", Some(1_000)),
    ("equality in lists, rare", "tags = 't900'", Some(1_000)),
    ("equality, clustered", "batch = 5", Some(1_000)),
    ("equality, negated", "lang != 'l0'", Some(1_000)),
    ("is missing", "note IS NULL", Some(1_000)),
    ("one of 3", "lang IN ('l1', 'l3', 'l5')", Some(3_000)),
    ("one of 100 ids", "id IN (@100)", Some(3_000)),
    ("one of 1,000 ids", "id IN (@1000)", None),
    ("range, 50 values, a half", "year >= 1999", Some(3_000)),
    ("range, 50 values, 2 of them", "year BETWEEN 2001 AND 2002", Some(3_000)),
    ("range, 1M values, a half", "price < 500", Some(3_000)),
    ("range, 1M values, 1 %", "price BETWEEN 100 AND 110", Some(3_000)),
    ("range, 1M values, 0.01 %", "price BETWEEN 100 AND 100.1", Some(3_000)),
    ("range, clustered", "batch BETWEEN 100 AND 500", Some(3_000)),
    ("range, sparse", "note.stars >= 3", Some(3_000)),
    ("range, dates", "day BETWEEN '2015-03-01' AND '2016-03-01'", Some(3_000)),
    ("range, date-times of two forms", "at >= '2020-06-01'", Some(3_000)),
    ("3 clauses, wide", "lang = 'l0' AND year >= 1990 AND price < 500", Some(3_000)),
    ("3 clauses, range each", "year >= 1990 AND price < 700 AND day >= '2012-01-01'", Some(3_000)),
    ("3 clauses, one rare", "author.name = 'author 77' AND year >= 1990 AND price < 500", Some(3_000)),
    ("3 clauses, one negated", "NOT lang = 'l0' AND active = TRUE AND year < 2010", Some(3_000)),
    ("3 clauses, OR", "lang = 'l3' OR year = 2001 OR tags = 't1'", Some(3_000)),
    ("prefix, 1M texts", "id STARTSWITH 'doc-12'", Some(3_000)),
    ("part of 8 texts", "lang CONTAINS '3'", Some(3_000)),
    ("part of 30,000 texts", "author.name CONTAINS '77'", None),
    ("part of 1M texts", "id CONTAINS '777'", None),
    ("form of 1M texts", "id LIKE '%7_7'", None),
    ("regular expression over 1M texts", "id REGEXP '7[0-9]7$'", None),
];

struct Rng(u64);

impl Rng {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0 >> 11) * u128::from(end)) >> 53) as u64
    }

    /// The small ones far more often.
    fn skewed(&mut self, end: u64) -> u64 {
        let end = 1 + self.below(end);
        self.below(end)
    }
}

fn record(rng: &mut Rng, row: u64) -> Value {
    let tags: Vec<String> = (0..rng.below(5)).map(|_| format!("t{}", rng.skewed(1_000))).collect();
    let (month, day) = (1 + rng.below(12), 1 + rng.below(28));
    let zone = if rng.below(2) == 0 { "Z" } else { "+02:00" };
    let mut record = json!({
        "id": format!("doc-{row}"),
        "lang": format!("l{}", rng.skewed(8)),
        "year": 1975 + rng.below(50),
        "price": rng.below(100_000_000) as f64 / 100_000.0,
        "batch": row / 1_000,
        "active": rng.below(3) > 0,
        "author": {"name": format!("author {}", rng.skewed(30_000)), "verified": rng.below(2) == 0},
        "tags": tags,
        "day": format!("20{:02}-{month:02}-{day:02}", 5 + rng.below(20)),
        "at": format!("2020-{month:02}-{day:02}T{:02}:{:02}:00{zone}", rng.below(24), rng.below(60)),
    });
    if rng.below(50) == 0 {
        record["note"] = json!({"stars": rng.below(6)});
    }
    record
}

/// What to measure.
#[derive(clap::Args)]
pub struct Arguments {
    /// Rows of the segment.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u32,
    /// Fails if a median is above its promise.
    #[arg(long)]
    require: bool,
}

/// Prints the table; the columns' answers are compared with the plain evaluator's first.
pub fn run(arguments: &Arguments) -> Outcome {
    let rows = u64::from(arguments.rows);
    let mut rng = Rng(11);
    let mut builder = ColumnsBuilder::new();
    let (mut sample, mut text_bytes, mut pushing) = (Vec::new(), 0, Duration::ZERO);
    for row in 0..rows {
        let record = record(&mut rng, row);
        let text = record.to_string();
        text_bytes += text.len();
        let start = Instant::now();
        builder.push_json(Some(text.as_bytes()))?;
        pushing += start.elapsed();
        if sample.len() < CHECKED {
            sample.push(record);
        }
    }
    let start = Instant::now();
    let bytes = builder.finish();
    let finishing = start.elapsed();
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    println!("{rows} rows, {:.1} MiB of JSON, columns {:.1} MiB", mib(text_bytes), mib(bytes.len()));
    println!(
        "built from JSON at {:.0} records/s (reading {:.2} s, sorting and writing {:.2} s)",
        rows as f64 / (pushing + finishing).as_secs_f64(),
        pushing.as_secs_f64(),
        finishing.as_secs_f64()
    );
    let start = Instant::now();
    let columns = Columns::parse(Bytes::new(bytes), arguments.rows, "bench", 0)?;
    println!("opened in {} us\n", start.elapsed().as_micros());
    println!("{:<34} {:>9} {:>9} {:>9} {:>9}  filter", "what", "rows", "best us", "median us", "promise");
    let mut broken = 0;
    for (what, sql, promise) in FILTERS {
        broken += u32::from(!measure(&columns, &sample, rows, what, sql, *promise)?);
    }
    match broken {
        0 => println!("\nevery promise kept"),
        _ if arguments.require => return Err(format!("{broken} promises broken").into()),
        _ => println!("\n{broken} promises broken"),
    }
    Ok(())
}

fn measure(
    columns: &Columns,
    sample: &[Value],
    rows: u64,
    what: &str,
    sql: &str,
    promise: Option<u64>,
) -> Result<bool, omendb::Error> {
    let ids = |count: u64| (0..count).map(|i| format!("'doc-{}'", i * 7919 % rows)).collect::<Vec<_>>().join(", ");
    let text = match sql.split_once('@') {
        Some((head, tail)) => format!("{head}{})", ids(tail.trim_end_matches(')').parse().unwrap_or(1))),
        None => sql.to_owned(),
    };
    let filter = Filter::from_sql(&text)?;
    let found = columns.eval(&filter)?;
    for (row, record) in sample.iter().enumerate() {
        assert_eq!(found.contains(row as u32), filter.matches(Some(record)), "{sql}, row {row}");
    }
    let runs = if promise.is_some() { RUNS } else { RUNS / 10 };
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        black_box(columns.eval(black_box(&filter))?);
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let micros = |time: Duration| time.as_nanos() as f64 / 1_000.0;
    let (best, median) = (micros(times[0]), micros(times[runs / 2]));
    let shown = promise.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
    let kept = promise.is_none_or(|limit| median <= limit as f64);
    let mark = if kept { "" } else { "  BROKEN" };
    println!("{what:<34} {:>9} {best:>9.1} {median:>9.1} {shown:>9}  {sql}{mark}", found.len());
    Ok(kept)
}
