//! Filtered search at every share of rows that pass, spread evenly or lying together: recall, rate and plan.

use crate::Outcome;
use crate::engine::{NAME, vectors};
use crate::graph::{DataSet, load_set, user_seconds};
use crate::measure::print_table;
use crate::workload::Scratch;
use omendb::{Batch, Collection, Database, Filter, IdColumn, Include, Options, SearchOptions, Vectors};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What to measure.
#[derive(clap::Args)]
pub struct Arguments {
    /// The data set: sift or another one of the cache. One with a texts.jsonl has its metadata as well.
    #[arg(long, default_value = "sift")]
    set: String,
    /// Rows to use.
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    n: usize,
    /// Queries of each figure, spread over the set's.
    #[arg(long, default_value_t = 500)]
    queries: usize,
    /// Rounds over all queries; the best counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The recall to ask for.
    #[arg(long, default_value_t = 0.95)]
    recall: f32,
    /// Shares of rows that pass, in percent.
    #[arg(long, value_delimiter = ',', default_values_t = [50.0, 20.0, 10.0, 5.0, 1.0, 0.1, 0.01])]
    shares: Vec<f64>,
    /// Further filters, in SQL, over the set's own metadata.
    #[arg(long)]
    filter: Vec<String>,
    /// Kinds of filters to measure; all unless given.
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<String>,
    /// Other queries, asked under each filter before it is measured.
    #[arg(long, default_value_t = 0)]
    warm: usize,
    /// Another bound for each query, which passes the same rows: nothing that is remembered of a filter serves twice.
    #[arg(long)]
    fresh: bool,
    /// Fails where recall@10 is below this.
    #[arg(long)]
    require: Option<f64>,
    /// Keep the database here; one that is here already is not loaded again.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Where to write.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

/// Labels run from 0 to this.
const SCALE: f64 = 1e6;

/// The rows' distance from a row in the middle, as ranks from 0 to `SCALE`; and that row.
fn ranks(data: &DataSet, rows: &[f32]) -> (Vec<f64>, usize) {
    let dim = data.schema.dim;
    let centre = data.count / 2;
    let far = |row: usize| distance(data, &rows[centre * dim..][..dim], &rows[row * dim..][..dim]);
    let far: Vec<f64> = (0..data.count).map(far).collect();
    let mut order: Vec<usize> = (0..data.count).collect();
    order.sort_unstable_by(|a, b| far[*a].total_cmp(&far[*b]));
    let mut ranks = vec![0.0; data.count];
    order.iter().enumerate().for_each(|(rank, row)| ranks[*row] = rank as f64 / data.count as f64 * SCALE);
    (ranks, centre)
}

/// Processor seconds of this thread; the kernel counts them up when the thread yields.
fn busy_seconds() -> f64 {
    std::thread::yield_now();
    user_seconds()
}

/// Orders like the metric.
fn distance(data: &DataSet, a: &[f32], b: &[f32]) -> f64 {
    let (mut aa, mut bb, mut ab) = (0f64, 0f64, 0f64);
    for (&x, &y) in a.iter().zip(b) {
        let (x, y) = (f64::from(x), f64::from(y));
        (aa, bb, ab) = (aa + x * x, bb + y * y, ab + x * y);
    }
    if data.schema.metric == omendb::Metric::Cosine { -ab / (aa * bb).sqrt().max(1e-30) } else { aa + bb - 2.0 * ab }
}

fn floats(data: &DataSet, bytes: &[u8]) -> Vec<f32> {
    let count = bytes.len() / data.schema.stride();
    match vectors(data, bytes, 0, count) {
        Vectors::F32(values) => values.into_owned(),
        _ => Vec::new(),
    }
}

/// Labels of each row: `even` without any order, `place` in the order of the set, `near` by distance from one row.
fn load(
    arguments: &Arguments,
    data: &DataSet,
    own: &[Value],
    near: &[f64],
    path: &Path,
) -> Result<Database, Box<dyn std::error::Error>> {
    let database = Options::new().open(path)?;
    let collection = database.create_collection(NAME, data.schema.clone())?;
    for first in (0..data.count).step_by(25_000) {
        let rows = first..(first + 25_000).min(data.count);
        let ids: IdColumn = rows.clone().map(|row| row as u64).collect();
        let metadata: Vec<Value> = rows
            .clone()
            .map(|row| {
                let even = (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11;
                let mut labels = own.get(row).cloned().unwrap_or_else(|| json!({}));
                labels["even"] = ((even as f64 / (1u64 << 53) as f64 * SCALE) as u64).into();
                labels["place"] = ((row as f64 / data.count as f64 * SCALE) as u64).into();
                labels["near"] = (near[row] as u64).into();
                labels
            })
            .collect();
        let batch = Batch::new(ids, vectors(data, &data.base, rows.start, rows.len()));
        collection.upsert(batch.with_metadata(metadata.iter().map(Some))?)?;
    }
    collection.wait_indexed(true)?;
    println!("{} rows of {} loaded and indexed", data.count, arguments.set);
    Ok(database)
}

/// One line of the table.
struct Case<'a> {
    kind: &'a str,
    share: f64,
    filter: Option<Filter>,
    /// The filter as SQL, its upper bound left out.
    form: Option<(String, f64)>,
    queries: &'a [usize],
    /// Asked before those.
    warm: &'a [usize],
}

struct Figures {
    matches: u64,
    recall: f64,
    rate: f64,
    slowest: f64,
    slowest_before: f64,
    visited: f64,
    compared: f64,
    plans: String,
}

fn measure(
    arguments: &Arguments,
    data: &DataSet,
    collection: &Collection,
    case: &Case<'_>,
) -> Result<Figures, Box<dyn std::error::Error>> {
    let mut options = SearchOptions::new(10).include(Include::NONE).recall(arguments.recall);
    let mut matches = data.count as u64;
    if let Some(filter) = &case.filter {
        matches = collection.count_matching(filter)?;
        options = options.filter(filter.clone());
    }
    let mut slowest_before = 0f64;
    for row in case.warm {
        let query = vectors(data, &data.queries, *row, 1);
        let clock = Instant::now();
        collection.search(query, &options)?;
        slowest_before = slowest_before.max(clock.elapsed().as_secs_f64());
    }
    let queries: Vec<Vectors<'static>> = case.queries.iter().map(|row| vectors(data, &data.queries, *row, 1)).collect();
    let (mut found, mut expected) = (0, 0);
    let (mut plans, mut visited, mut compared) = (BTreeMap::new(), 0, 0);
    for query in &queries {
        let truth = collection.search(query.clone(), &options.clone().recall(1.0))?;
        let told = collection.explain(query.clone(), &options)?;
        let limit = truth.last().map_or(f32::INFINITY, |hit| hit.distance * (1.0 + 1e-5) + 2e-6);
        visited += told.rows_visited;
        compared += told.distances;
        expected += truth.len();
        found += told.hits.iter().filter(|hit| hit.distance <= limit).count();
        if told.hits.len() < truth.len() || told.hits.complete != (truth.len() < 10) {
            return Err(format!("{} hits of {} in {}", told.hits.len(), truth.len(), case.kind).into());
        }
        for part in told.parts.iter().filter(|part| part.rows > 0) {
            *plans.entry(part.plan.name()).or_insert(0) += 1;
        }
    }
    let (mut rate, mut slowest) = (0f64, f64::INFINITY);
    let mut each = vec![options; queries.len()];
    if let Some((form, bound)) = case.form.as_ref().filter(|_| arguments.fresh) {
        // Labels are whole numbers.
        for (at, options) in each.iter_mut().enumerate() {
            let bound = bound - 0.5 + at as f64 / queries.len() as f64 / 4.0;
            *options = options.clone().filter(Filter::from_sql(&form.replace("{w}", &bound.to_string()))?);
        }
    }
    for _ in 0..arguments.rounds {
        let (start, mut worst) = (busy_seconds(), 0f64);
        for (query, options) in queries.iter().zip(&each) {
            let clock = Instant::now();
            collection.search(query.clone(), options)?;
            worst = worst.max(clock.elapsed().as_secs_f64());
        }
        rate = rate.max(queries.len() as f64 / (busy_seconds() - start));
        slowest = slowest.min(worst);
    }
    let plans = plans.iter().map(|(plan, count)| format!("{plan} {count}")).collect::<Vec<_>>().join(", ");
    let (visited, compared) = (visited as f64 / queries.len() as f64, compared as f64 / queries.len() as f64);
    Ok(Figures {
        compared,
        matches,
        recall: found as f64 / expected.max(1) as f64,
        rate,
        slowest,
        slowest_before,
        visited,
        plans,
    })
}

/// Queries to measure with, and others to ask before.
type QuerySet = (Vec<usize>, Vec<usize>);

/// Those spread over all, the nearest to one row, and the farthest from it.
fn asked(arguments: &Arguments, data: &DataSet, centre: &[f32]) -> [QuerySet; 3] {
    let (queries, dim) = (floats(data, &data.queries), data.schema.dim);
    let mut by_nearness: Vec<usize> = (0..data.query_count).collect();
    by_nearness.sort_by_cached_key(|row| {
        let key = distance(data, centre, &queries[row * dim..][..dim]) as f32;
        let bits = key.to_bits() as i32;
        bits ^ ((bits >> 31) & i32::MAX)
    });
    let count = arguments.queries.min(data.query_count);
    let total = (count + arguments.warm).min(data.query_count);
    let apart = |rows: &[usize]| -> QuerySet {
        let (asked, warm): (Vec<_>, Vec<_>) =
            (0..).zip(rows).partition(|(at, _)| (at + 1) * count / total > at * count / total);
        (asked.into_iter().map(|(_, row)| *row).collect(), warm.into_iter().map(|(_, row)| *row).collect())
    };
    let spread: Vec<usize> = (0..total).map(|i| i * data.query_count / total).collect();
    [apart(&spread), apart(&by_nearness[..total]), apart(&by_nearness[data.query_count - total..])]
}

/// The lines of the table: without a filter, under labels, and under the filters that were given.
fn cases<'a>(arguments: &'a Arguments, sets: &'a [QuerySet; 3]) -> Result<Vec<Case<'a>>, omendb::Error> {
    let [spread, around, away] = sets;
    let unfiltered = |kind, queries| Case { kind, share: 100.0, filter: None, form: None, queries, warm: &[] };
    let mut cases =
        vec![unfiltered("none", &spread.0), unfiltered("none, around", &around.0), unfiltered("none, away", &away.0)];
    let kinds = [
        ("even", "even < {w}", &spread),
        ("run", "place >= 400000 AND place < {w}", &spread),
        ("ball", "near < {w}", &spread),
        ("ball around", "near < {w}", &around),
        ("ball away", "near < {w}", &away),
    ];
    for (kind, form, (queries, warm)) in kinds {
        for &share in &arguments.shares {
            let bound = share / 100.0 * SCALE + if kind == "run" { 400_000.0 } else { 0.0 };
            let filter = Some(Filter::from_sql(&form.replace("{w}", &bound.to_string()))?);
            cases.push(Case { kind, share, filter, form: Some((form.to_owned(), bound)), queries, warm });
        }
    }
    for sql in &arguments.filter {
        cases.push(Case {
            kind: sql,
            share: 0.0,
            filter: Some(Filter::from_sql(sql)?),
            form: None,
            queries: &spread.0,
            warm: &spread.1,
        });
    }
    cases.retain(|case| {
        arguments.kinds.is_empty()
            || matches!(case.share, 0.0 | 100.0)
            || arguments.kinds.iter().any(|k| k == case.kind)
    });
    Ok(cases)
}

/// Measures and prints.
pub fn run(arguments: &Arguments) -> Outcome {
    let name = if arguments.set == "sift" { "sift-1m" } else { &arguments.set };
    let (data, root) = load_set(name, arguments.n, usize::MAX, true)?;
    let rows = floats(&data, &data.base);
    let (near, centre) = ranks(&data, &rows);
    let scratch = Scratch::new(&arguments.dir, "filtered")?;
    let path = arguments.keep.clone().unwrap_or_else(|| scratch.path("database"));
    let database = if path.exists() {
        Options::new().open(&path)?
    } else {
        let own = std::fs::read_to_string(root.join("texts.jsonl")).unwrap_or_default();
        let own: Result<Vec<Value>, _> = own.lines().map(serde_json::from_str).collect();
        let own: Vec<Value> = own?.into_iter().map(|mut line: Value| line["metadata"].take()).collect();
        load(arguments, &data, &own, &near, &path)?
    };
    let collection = database.collection(NAME)?;
    collection.wait_indexed(true)?;
    let dim = data.schema.dim;
    let sets = asked(arguments, &data, &rows[centre * dim..][..dim]);
    drop(rows);
    let cases = cases(arguments, &sets)?;
    let (mut table, mut whole, mut poor) = (Vec::new(), 0.0, 0);
    for case in &cases {
        let figures = measure(arguments, &data, &collection, case)?;
        whole = if table.is_empty() { figures.rate } else { whole };
        poor += usize::from(arguments.require.is_some_and(|least| figures.recall < least));
        table.push(vec![
            case.kind.to_owned(),
            format!("{:.4} %", figures.matches as f64 / data.count as f64 * 100.0),
            format!("{:.4}", figures.recall),
            format!("{:.0}", figures.rate),
            format!("{:.2}", figures.rate / whole),
            format!("{:.0}", figures.slowest * 1e6),
            format!("{:.1}", figures.slowest_before * 1e3),
            format!("{:.0}", figures.visited),
            format!("{:.0}", figures.compared),
            figures.plans,
        ]);
    }
    println!(
        "{name}: {} rows x {dim}, {} queries, one core, recall {} asked for, load average {}",
        data.count,
        sets[0].0.len(),
        arguments.recall,
        std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim()
    );
    print_table(
        &[
            "filter",
            "pass",
            "recall@10",
            "QPS",
            "of unfiltered",
            "slowest us",
            "slowest ms before",
            "nodes",
            "compared",
            "plans",
        ],
        &table,
    );
    match poor {
        0 => Ok(()),
        _ => Err(format!("{poor} filters with less recall than required").into()),
    }
}
