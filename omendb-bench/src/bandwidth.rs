//! Does the exact scan read memory as fast as one core can?
//!
//! The machine's figure comes from the same buffer in the same run: a sum of all its words. Rounds of the two are
//! interleaved, so that both see the same load of other programs.

use crate::Outcome;
use crate::measure::{Numbers, best, median, print_table, time};
use omendb::bench::{Block, Level, Prepared, TopK, scan, scan_batch};
use omendb::{Element, Metric, Schema, Vectors};
use std::hint::black_box;

/// What to measure.
#[derive(clap::Args)]
pub struct Arguments {
    /// Bytes of the array, in MiB.
    #[arg(long, default_value_t = 1024)]
    mib: usize,
    /// Rounds; each one measures everything once.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// All element types, metrics and levels instead of f32 alone.
    #[arg(long)]
    all: bool,
    /// The share of the read bandwidth, in percent, below which the run fails (0: never).
    #[arg(long, default_value_t = 0.0)]
    require: f64,
}

/// One scan to measure.
struct Case {
    name: String,
    queries: Vec<Prepared>,
    /// Bytes of the array that are whole rows.
    bytes: usize,
    /// The rows to look at, and what share they are.
    live: Option<Vec<u64>>,
    share: f64,
    gigabytes_per_second: Vec<f64>,
    /// The same as shares of the read bandwidth measured just before.
    of_read: Vec<f64>,
}

impl Case {
    fn new(schema: &Schema, queries: usize, level: Level, size: usize) -> Case {
        let mut numbers = Numbers::new(2);
        let per_row = if schema.element == Element::Bits { schema.stride() } else { schema.dim };
        let values = numbers.floats(per_row * queries);
        let bytes = || values.iter().map(|x| (x * 127.0) as i8 as u8).collect::<Vec<u8>>();
        let vectors = match schema.element {
            Element::F32 => Vectors::from(&values),
            Element::F16 => Vectors::F16(values.iter().map(|x| half::f16::from_f32(*x)).collect()),
            Element::I8 => Vectors::I8(values.iter().map(|x| (x * 127.0) as i8).collect()),
            Element::U8 => Vectors::U8(bytes().into()),
            Element::Bits => Vectors::Bits(bytes().into()),
        };
        let many = if queries > 1 { format!(" x {queries} queries") } else { String::new() };
        Case {
            name: format!("{} {}-d {} {level:?}{many}", schema.element.name(), schema.dim, schema.metric.name()),
            queries: (0..queries).map(|row| Prepared::with_level(schema, &vectors, row, level)).collect(),
            bytes: size / schema.stride() * schema.stride(),
            live: None,
            share: 1.0,
            gigabytes_per_second: Vec::new(),
            of_read: Vec::new(),
        }
    }

    /// One row in ten, at random.
    fn tenth(mut self) -> Case {
        let rows = self.bytes / self.queries[0].stride();
        let mut numbers = Numbers::new(3);
        let mut live = vec![0u64; rows.div_ceil(64)];
        for row in (0..rows).filter(|_| numbers.next() >> 32 < (1 << 32) / 10) {
            live[row / 64] |= 1 << (row % 64);
        }
        self.share = live.iter().map(|word| f64::from(word.count_ones())).sum::<f64>() / rows as f64;
        self.live = Some(live);
        self.name += ", one row in ten";
        self
    }

    fn measure(&mut self, array: &[u8], read: f64) {
        let block = Block { rows: &array[..self.bytes], live: self.live.as_deref(), first_row: 0 };
        let mut tops = vec![TopK::new(10); self.queries.len()];
        let elapsed = time(|| match (&*self.queries, &mut *tops) {
            ([query], [top]) => scan(query, block, top),
            (queries, tops) => scan_batch(queries, block, tops),
        });
        black_box(tops);
        let rate = self.bytes as f64 * self.share / elapsed.as_secs_f64() / 1e9;
        self.gigabytes_per_second.push(rate);
        self.of_read.push(rate / read);
    }
}

/// Measures, prints a table and fails if a required share is missed.
pub fn run(arguments: &Arguments) -> Outcome {
    let size = arguments.mib << 20;
    // Floats in [-1, 1) are valid rows for every element type.
    let array: Vec<f32> = {
        let block = Numbers::new(1).floats(1 << 20);
        (0..size / 4).map(|i| block[i % block.len()] + (i / block.len()) as f32 * 1e-3).collect()
    };
    let array: Vec<u8> = array.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut cases = cases(arguments, size);
    let rate = |sum: fn(&[u8]) -> u64| {
        let elapsed = time(|| _ = black_box(sum(black_box(&array))));
        array.len() as f64 / elapsed.as_secs_f64() / 1e9
    };
    let (mut in_one_run, mut four_streams) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        four_streams.push(rate(sum_four_streams));
        for case in &mut cases {
            let read = rate(sum_words);
            in_one_run.push(read);
            case.measure(&array, read);
        }
    }
    println!(
        "One core, array of {} MiB, {} rounds; GB/s = 10^9 bytes of the rows looked at a second.\n\
         'of read, paired': the median share of the read that went just before.",
        arguments.mib, arguments.rounds
    );
    let figures = |name: &str, rates: &[f64], paired: &[f64], queries: usize| {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        vec![
            name.to_owned(),
            format!("{:.2}", best(rates)),
            format!("{:.2}", median(rates)),
            percent(best(rates) / best(&in_one_run)),
            percent(if paired.is_empty() { median(rates) / median(&in_one_run) } else { median(paired) }),
            format!("{:.2}", best(rates) * queries as f64),
        ]
    };
    let mut rows = vec![
        figures("read: sum of u64", &in_one_run, &[], 1),
        figures("read: sum of u64, four streams", &four_streams, &[], 1),
    ];
    rows.extend(cases.iter().map(|c| figures(&c.name, &c.gigabytes_per_second, &c.of_read, c.queries.len())));
    print_table(&["scan", "best GB/s", "median", "of read, best", "of read, paired", "x queries"], &rows);
    let lowest = cases
        .iter()
        .filter(|case| case.queries.len() == 1 && case.live.is_none())
        .map(|case| 100.0 * median(&case.of_read))
        .fold(f64::INFINITY, f64::min);
    if lowest < arguments.require {
        return Err(
            format!("{lowest:.1} % of the read bandwidth is reached; {} % is required", arguments.require).into()
        );
    }
    Ok(())
}

fn cases(arguments: &Arguments, size: usize) -> Vec<Case> {
    let metrics = [Metric::Cosine, Metric::L2, Metric::Dot];
    let mut cases = Vec::new();
    let levels = if arguments.all { Level::available() } else { vec![Level::best()] };
    for level in levels {
        for dim in [128, 768] {
            for metric in metrics {
                cases.push(Case::new(&Schema::new(dim, metric), 1, level, size));
            }
            cases.push(Case::new(&Schema::new(dim, Metric::Cosine), 16, level, size));
            cases.push(Case::new(&Schema::new(dim, Metric::Cosine), 1, level, size).tenth());
            if arguments.all {
                for element in [Element::F16, Element::I8, Element::U8] {
                    for metric in metrics {
                        cases.push(Case::new(&Schema::new(dim, metric).with_element(element), 1, level, size));
                    }
                }
                let bits = Schema::new(dim * 8, Metric::Hamming).with_element(Element::Bits);
                cases.push(Case::new(&bits, 1, level, size));
            }
        }
    }
    cases
}

/// Reads everything once, in one run.
fn sum_words(bytes: &[u8]) -> u64 {
    let mut sums = [0u64; 32];
    for chunk in bytes.as_chunks::<256>().0 {
        for (sum, word) in sums.iter_mut().zip(chunk.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_ne_bytes(*word));
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

/// Reads everything once, in four runs side by side that are four KiB apart.
fn sum_four_streams(bytes: &[u8]) -> u64 {
    const PAGE: usize = 4096;
    let mut sums = [0u64; 32];
    for four in bytes.as_chunks::<{ 4 * PAGE }>().0 {
        for at in (0..PAGE).step_by(64) {
            for page in 0..4 {
                let line = &four[page * PAGE + at..page * PAGE + at + 64];
                for (sum, word) in sums[page * 8..page * 8 + 8].iter_mut().zip(line.as_chunks::<8>().0) {
                    *sum = sum.wrapping_add(u64::from_ne_bytes(*word));
                }
            }
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}
