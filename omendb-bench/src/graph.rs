//! Builds one graph and sweeps search effort on it, on one core.

use omendb::bench::Coding;
use omendb::bench::graph::{BuildParams, Effort, GraphIndex, Rows, Scratch, build};
use omendb::{Element, Metric, Schema};
use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// One array of a .npy file.
struct Npy {
    bytes: Vec<u8>,
    kind: String,
    shape: Vec<usize>,
}

impl Npy {
    fn read(path: &std::path::Path) -> Outcome<Self> {
        let mut bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let length = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
        let header = String::from_utf8(bytes[10..10 + length].to_vec())?;
        let kind = header.split("'descr': '").nth(1).and_then(|rest| rest.split('\'').next()).ok_or("no descr")?.into();
        let shape = header.split("'shape': (").nth(1).and_then(|rest| rest.split(')').next()).ok_or("no shape")?;
        let shape = shape.split(',').filter_map(|part| part.trim().parse().ok()).collect();
        bytes.drain(..10 + length);
        Ok(Npy { bytes, kind, shape })
    }
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks: u64 = [11, 12].iter().filter_map(|&field| fields.get(field)?.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// Processor seconds of this thread so far.
pub fn user_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// Options of the `graph` command.
struct Options {
    set: String,
    count: usize,
    threads: usize,
    queries: usize,
    params: BuildParams,
    beams: Vec<usize>,
    slacks: Vec<f32>,
    rounds: usize,
    as_f32: bool,
    rerank: usize,
    keep: Option<PathBuf>,
}

fn parse(args: &[String]) -> Outcome<Options> {
    let mut options = Options {
        set: "sift-1m".into(),
        count: usize::MAX,
        threads: 1,
        queries: 2000,
        params: BuildParams::first(),
        beams: Vec::new(),
        slacks: vec![0.9, 0.95, 1.0, 1.03, 1.06, 1.1, 1.15, 1.2, 1.3],
        rounds: 3,
        as_f32: false,
        rerank: 16,
        keep: None,
    };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        if name == "--f32" {
            options.as_f32 = true;
            continue;
        }
        if name == "--settled" {
            options.params = BuildParams::settled();
            continue;
        }
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        let list = || value.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>();
        match name.as_str() {
            "--set" => options.set = if value == "sift" { "sift-1m".into() } else { value.clone() },
            "--n" => options.count = value.parse()?,
            "--threads" => options.threads = value.parse()?,
            "--queries" => options.queries = value.parse()?,
            "--degree" => options.params.degree = value.parse()?,
            "--leaf-max" => options.params.leaf_max = value.parse()?,
            "--leaf-k" => options.params.leaf_k = value.parse()?,
            "--inline" => options.params.inline_max_dim = value.parse()?,
            "--coding" if value == "pq" => options.params.coding = Coding::Product,
            "--coding" => options.params.coding = Coding::Bits(value.parse()?),
            "--seed" => options.params.seed = value.parse()?,
            "--rounds" => options.rounds = value.parse()?,
            "--rerank" => options.rerank = value.parse()?,
            "--slacks" => options.slacks = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--keep" => options.keep = Some(value.into()),
            "--beams" => options.beams = list()?,
            "--fanout" => {
                let fanout = list()?;
                options.params.fanout = [fanout[0], fanout.get(1).copied().unwrap_or(1)];
            }
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    options.params.threads = options.threads;
    Ok(options)
}

/// Rows and queries of a set, as a collection stores them.
pub struct DataSet {
    /// The rows.
    pub base: Vec<u8>,
    /// The queries.
    pub queries: Vec<u8>,
    /// Number of rows.
    pub count: usize,
    /// Number of queries.
    pub query_count: usize,
    /// What they are.
    pub schema: Schema,
}

/// Loads up to `count` rows and `queries` queries of a set; with `as_f32`, bytes become f32.
pub fn load_set(set: &str, count: usize, queries: usize, as_f32: bool) -> Outcome<(DataSet, PathBuf)> {
    let root = PathBuf::from(std::env::var("HOME")?).join(".cache/omendb-bench").join(set);
    let (most_rows, most_queries) = (count, queries);
    let (base, queries) = (Npy::read(&root.join("base.npy"))?, Npy::read(&root.join("queries.npy"))?);
    let meta = std::fs::read_to_string(root.join("meta.json"))?;
    let cosine = meta.contains("cosine") || meta.contains("angular");
    let mut element = match base.kind.as_str() {
        "|u1" => Element::U8,
        "<f4" => Element::F32,
        "<f2" => Element::F16,
        other => return Err(format!("arrays of {other} are not supported").into()),
    };
    let dim = base.shape[1];
    let stride = element.stride(dim);
    let count = most_rows.min(base.shape[0]);
    let query_count = most_queries.min(queries.shape[0]);
    let (mut base, mut queries) =
        (base.bytes[..count * stride].to_vec(), queries.bytes[..query_count * stride].to_vec());
    if as_f32 && element == Element::U8 {
        let widen = |bytes: &[u8]| bytes.iter().flat_map(|&b| f32::from(b).to_le_bytes()).collect::<Vec<u8>>();
        (base, queries, element) = (widen(&base), widen(&queries), Element::F32);
    }
    let metric = if cosine { Metric::Cosine } else { Metric::L2 };
    Ok((DataSet { base, queries, count, query_count, schema: Schema::new(dim, metric).with_element(element) }, root))
}

/// The distance of the tenth neighbour of each query: from the set's truth where the whole base is used, else by
/// comparing all, kept in a file for the next run.
pub fn truth(data: &DataSet, root: &std::path::Path, threads: usize) -> Outcome<Vec<f32>> {
    let rows = Rows::new(&data.base, data.count, &data.schema)?;
    let cache = root.join(format!("tenth-{}-{}-{}.f32", data.count, data.query_count, data.schema.element.name()));
    if let Ok(bytes) = std::fs::read(&cache) {
        return Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect());
    }
    let stride = data.schema.stride();
    let values = |bytes: &[u8]| -> Vec<f32> {
        match data.schema.element {
            Element::U8 => bytes.iter().map(|&b| f32::from(b)).collect(),
            _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        }
    };
    let ids = Npy::read(&root.join("gt_ids.npy"))?;
    let whole = Npy::read(&root.join("base.npy"))?.shape[0] == data.count;
    let width = ids.shape[1];
    let distance = |a: &[f32], b: &[f32]| -> f32 {
        let (mut aa, mut bb, mut ab, mut dd) = (0f64, 0f64, 0f64, 0f64);
        for (&x, &y) in a.iter().zip(b) {
            let (x, y) = (f64::from(x), f64::from(y));
            (aa, bb, ab, dd) = (aa + x * x, bb + y * y, ab + x * y, dd + (x - y) * (x - y));
        }
        if data.schema.metric == Metric::Cosine {
            (1.0 - ab / (aa * bb).sqrt().max(1e-30)) as f32
        } else {
            dd.sqrt() as f32
        }
    };
    let one = |query: usize| -> f32 {
        let own = values(&data.queries[query * stride..][..stride]);
        if whole {
            let place = (query * width + 9) * 4;
            let id = i32::from_le_bytes(ids.bytes[place..place + 4].try_into().unwrap_or([0; 4]));
            return distance(&own, &values(rows.row(id as usize)));
        }
        let mut all: Vec<f32> = (0..data.count).map(|row| distance(&own, &values(rows.row(row)))).collect();
        *all.select_nth_unstable_by(9.min(data.count - 1), f32::total_cmp).1
    };
    let part = data.query_count.div_ceil(threads.max(1)).max(1);
    let one = &one;
    let tenths: Vec<f32> = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..data.query_count)
            .step_by(part)
            .map(|from| scope.spawn(move || (from..(from + part).min(data.query_count)).map(one).collect::<Vec<_>>()))
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    });
    std::fs::write(&cache, tenths.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
    Ok(tenths)
}

/// Runs `graph --set NAME [--n N] [--threads T] [--fanout A,B] [--leaf-k K] [--leaf-max C] [--coding BITS|pq]
/// [--beams ...]`.
pub fn run(args: &[String]) -> Outcome<()> {
    let options = parse(args)?;
    let (data, root) = load_set(&options.set, options.count, options.queries, options.as_f32)?;
    let rows = Rows::new(&data.base, data.count, &data.schema)?;
    let (clock, cpu) = (Instant::now(), cpu_seconds());
    let kept = options.keep.as_ref().and_then(|path| std::fs::read(path).ok());
    let index = match &kept {
        Some(bytes) => {
            let mut index = GraphIndex::parse(bytes)?;
            index.calibrate(rows, options.params.last, options.params.threads, &AtomicBool::new(false))?;
            index
        }
        None => {
            let stages = Mutex::new(Vec::new());
            let heard =
                |share: f32| stages.lock().unwrap_or_else(PoisonError::into_inner).push((share, clock.elapsed()));
            let index = build(rows, &options.params, &heard, &AtomicBool::new(false))?;
            let stages = stages.into_inner().unwrap_or_else(PoisonError::into_inner);
            let stages = stages.iter().map(|(share, at)| format!("{share} at {:.2} s", at.as_secs_f64()));
            println!("progress {}", stages.collect::<Vec<_>>().join(", "));
            index
        }
    };
    if let (None, Some(path)) = (&kept, &options.keep) {
        std::fs::write(path, index.as_bytes())?;
    }
    drop(kept);
    let (wall, cpu) = (clock.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    println!(
        "{} {} rows x {} {}: {index:?}\nbuild {wall:.2} s, {:.2} us CPU a vector, {:.0} vec/s of wall time; {:.0} \
            bytes a row",
        options.set,
        data.count,
        data.schema.dim,
        data.schema.element.name(),
        cpu * 1e6 / data.count as f64,
        data.count as f64 / wall,
        index.as_bytes().len() as f64 / data.count as f64
    );
    let calibration: Vec<String> =
        index.calibration().iter().map(|(level, recall)| format!("{level}:{recall:.3}")).collect();
    println!("calibration {}", calibration.join(" "));
    let tenths = truth(&data, &root, options.threads)?;
    println!(
        "{:>10} {:>8} {:>9} {:>9} {:>7} {:>8} {:>8}",
        "effort", "recall", "QPS cpu", "QPS wall", "hops", "compared", "reranked"
    );
    for &beam in &options.beams {
        let effort = Effort { rerank: options.rerank, ..Effort::beam(beam) };
        sweep(&index, rows, &data, &tenths, effort, &beam.to_string(), options.rounds)?;
    }
    for &slack in &options.slacks {
        let effort = Effort { rerank: options.rerank, ..Effort::slack(slack) };
        sweep(&index, rows, &data, &tenths, effort, &slack.to_string(), options.rounds)?;
    }
    for target in [0.8, 0.9, 0.95, 0.99, 0.999] {
        let effort = index.effort_for(target, 10);
        sweep(&index, rows, &data, &tenths, effort, &format!("r{target}"), options.rounds)?;
    }
    Ok(())
}

fn sweep(
    index: &GraphIndex,
    rows: Rows<'_>,
    data: &DataSet,
    tenths: &[f32],
    effort: Effort,
    name: &str,
    rounds: usize,
) -> Outcome<()> {
    let stride = data.schema.stride();
    let (mut scratch, mut out) = (Scratch::default(), Vec::new());
    let (mut best_wall, mut best_cpu) = (f64::MAX, f64::MAX);
    let (mut hits, mut hops, mut compared, mut reranked) = (0usize, 0usize, 0usize, 0usize);
    for round in 0..rounds {
        let (clock, cpu) = (Instant::now(), user_seconds());
        for (bytes, tenth) in data.queries.chunks_exact(stride).zip(tenths) {
            let stats = index.search(rows, bytes, 10, effort, None, &mut scratch, &mut out)?;
            if round == 0 {
                let limit = tenth * (1.0 + 1e-5) + 2e-6;
                hits += out.iter().filter(|(_, distance)| *distance <= limit).count();
                hops += stats.hops;
                compared += stats.compared;
                reranked += stats.reranked;
            }
        }
        best_wall = best_wall.min(clock.elapsed().as_secs_f64());
        best_cpu = best_cpu.min(user_seconds() - cpu);
    }
    let count = data.query_count as f64;
    println!(
        "{name:>10} {:>8.4} {:>9.0} {:>9.0} {:>7.1} {:>8.0} {:>8.1}",
        hits as f64 / (count * 10.0),
        count / best_cpu,
        count / best_wall,
        hops as f64 / count,
        compared as f64 / count,
        reranked as f64 / count
    );
    Ok(())
}
