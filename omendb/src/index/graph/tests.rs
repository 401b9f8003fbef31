//! Graphs over odd shapes, all metrics, damaged bytes; determinism; recall.

use super::*;
use crate::distance::codes;
use crate::quantize::coder::Coding;
use std::sync::atomic::AtomicBool;

struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(17, self.0)
    }

    /// Roughly normal.
    fn normal(&mut self) -> f32 {
        (0..6).map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5).sum()
    }
}

/// Clustered rows of any element type.
fn clustered(seed: u64, count: usize, schema: &Schema) -> Vec<u8> {
    let mut draw = Draw(seed << 32);
    let mut shared = Draw(99);
    let dim = schema.dim;
    let centers: Vec<f32> = (0..16 * dim).map(|_| shared.normal() * 2.0).collect();
    let mut bytes = Vec::new();
    for _ in 0..count {
        let center = &centers[(draw.next() % 16) as usize * dim..][..dim];
        let values: Vec<f32> = center.iter().map(|c| c + draw.normal()).collect();
        store(&values, schema.element, &mut bytes);
    }
    bytes
}

fn store(values: &[f32], element: Element, bytes: &mut Vec<u8>) {
    match element {
        Element::F32 => values.iter().for_each(|v| bytes.extend(v.to_le_bytes())),
        Element::F16 => values.iter().for_each(|v| bytes.extend(half::f16::from_f32(*v).to_le_bytes())),
        Element::I8 => bytes.extend(values.iter().map(|v| (v * 20.0).clamp(-127.0, 127.0) as i8 as u8)),
        Element::U8 => bytes.extend(values.iter().map(|v| (v * 20.0 + 128.0).clamp(0.0, 255.0) as u8)),
        Element::Bits => bytes.extend(
            values
                .chunks(8)
                .map(|eight| eight.iter().enumerate().fold(0u8, |byte, (bit, v)| byte | (u8::from(*v > 0.0) << bit))),
        ),
    }
}

fn quick() -> BuildParams {
    BuildParams { threads: 2, ..BuildParams::first() }
}

fn graph(rows: Rows<'_>, params: &BuildParams) -> GraphIndex {
    build(rows, params, &|_| {}, &AtomicBool::new(false)).unwrap()
}

fn exact(rows: Rows<'_>, query: &[u8], k: usize) -> Vec<(u32, f32)> {
    let one = exact::prepare(&rows, query);
    let mut all: Vec<(u32, f32)> = (0..rows.count).map(|row| (row as u32, one.distance(rows.row(row)))).collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    all.truncate(k);
    all
}

/// A distance and what rounding may add to it.
fn reach(distance: f32) -> f32 {
    distance + distance.abs() * 1e-5 + 1e-6
}

fn recall(index: &GraphIndex, rows: Rows<'_>, queries: &[u8], effort: Effort) -> f64 {
    let stride = rows.element.stride(rows.dim);
    let (mut scratch, mut out, mut hits, mut asked) = (Scratch::default(), Vec::new(), 0, 0);
    for query in queries.chunks_exact(stride) {
        let truth = exact(rows, query, 10);
        index.search(rows, query, 10, effort, None, &mut scratch, &mut out).unwrap();
        assert_eq!(out.len(), 10.min(rows.count));
        hits += out.iter().filter(|hit| hit.1 <= reach(truth[truth.len() - 1].1)).count();
        asked += truth.len();
    }
    hits as f64 / asked as f64
}

#[test]
fn every_metric_and_element_type_is_found() {
    let schemas = [
        (Metric::L2, Element::F32, 40),
        (Metric::L2, Element::U8, 128),
        (Metric::L2, Element::I8, 300),
        (Metric::L2, Element::F16, 96),
        (Metric::Cosine, Element::F32, 100),
        (Metric::Cosine, Element::F32, 400),
        (Metric::Cosine, Element::I8, 64),
        (Metric::Cosine, Element::U8, 257),
        (Metric::Dot, Element::F32, 48),
        (Metric::Dot, Element::I8, 64),
        (Metric::Hamming, Element::Bits, 200),
    ];
    for (metric, element, dim) in schemas {
        let schema = Schema::new(dim, metric).with_element(element);
        let (bytes, queries) = (clustered(1, 3000, &schema), clustered(2, 40, &schema));
        let rows = Rows::new(&bytes, 3000, &schema).unwrap();
        for inline_max_dim in [0, 1024] {
            let index = graph(rows, &BuildParams { inline_max_dim, ..quick() });
            let found = recall(&index, rows, &queries, Effort::beam(200));
            assert!(found > 0.9, "{metric:?} {element:?} x {dim} {index:?}: recall {found}");
            let found = recall(&index, rows, &queries, index.effort_for(0.99, 10));
            assert!(found > 0.9, "{metric:?} {element:?} x {dim} {index:?}: calibrated recall {found}");
        }
    }
}

#[test]
fn the_same_input_gives_the_same_bytes_whatever_the_threads() {
    let schema = Schema::new(32, Metric::L2);
    let bytes = clustered(3, 5000, &schema);
    let rows = Rows::new(&bytes, 5000, &schema).unwrap();
    let one = graph(rows, &BuildParams { threads: 1, ..quick() });
    let five = graph(rows, &BuildParams { threads: 5, ..quick() });
    assert!(one.as_bytes() == five.as_bytes());
    let other = graph(rows, &BuildParams { seed: 1, ..quick() });
    assert!(one.as_bytes() != other.as_bytes());
}

/// Nodes reachable from the entry points.
fn reachable(index: &GraphIndex) -> usize {
    let mut seen = vec![false; index.len()];
    let mut queue = index.entries().to_vec();
    let mut count = 0;
    while let Some(node) = queue.pop() {
        if !std::mem::replace(&mut seen[node as usize], true) {
            count += 1;
            queue.extend(index.neighbours(node).filter(|&other| other != prune::NO_NEIGHBOUR));
        }
    }
    count
}

#[test]
fn every_row_is_reachable_and_finds_itself() {
    let schema = Schema::new(24, Metric::L2);
    let bytes = clustered(4, 4000, &schema);
    let rows = Rows::new(&bytes, 4000, &schema).unwrap();
    let index = graph(rows, &quick());
    assert_eq!(reachable(&index), 4000);
    let (mut scratch, mut out, mut missed) = (Scratch::default(), Vec::new(), 0);
    for row in 0..4000 {
        index.search(rows, rows.row(row), 1, Effort::slack(1.2), None, &mut scratch, &mut out).unwrap();
        missed += usize::from(out[0].1 > 0.0);
    }
    assert_eq!(missed, 0);
}

#[test]
fn hard_shapes_end_and_keep_every_row_reachable() {
    let schema = Schema::new(16, Metric::L2);
    let line = |value: f32| [value; 16].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let shapes: Vec<(&str, Vec<u8>)> = vec![
        ("none", Vec::new()),
        ("one", line(1.0)),
        ("two", [line(1.0), line(2.0)].concat()),
        ("all equal", line(3.0).repeat(3000)),
        ("all zero", line(0.0).repeat(700)),
        ("two heaps of duplicates", [line(1.0).repeat(1500), line(9.0).repeat(1500)].concat()),
        ("a line", (0..3000).flat_map(|i| line(i as f32)).collect()),
        ("an outlier", [clustered(5, 2000, &schema), line(1e30)].concat()),
        ("huge", (0..600).flat_map(|i| line(1e19 * (i as f32))).collect()),
        ("tiny", (0..600).flat_map(|i| line(1e-38 * (i as f32))).collect()),
    ];
    for (name, bytes) in shapes {
        let count = bytes.len() / 64;
        let rows = Rows::new(&bytes, count, &schema).unwrap();
        let index = graph(rows, &quick());
        assert_eq!(reachable(&index), count, "{name}");
        let (mut scratch, mut out) = (Scratch::default(), Vec::new());
        index.search(rows, &line(1.0), 10, Effort::slack(1.1), None, &mut scratch, &mut out).unwrap();
        assert_eq!(out.len(), count.min(10), "{name}");
        index.search(rows, &line(1.0), count * 2, Effort::beam(10), None, &mut scratch, &mut out).unwrap();
        assert_eq!(out.len(), count, "{name}");
        let mut all: Vec<u32> = out.iter().map(|hit| hit.0).collect();
        all.sort_unstable();
        assert!(all.iter().enumerate().all(|(place, &row)| place as u32 == row), "{name}");
    }
}

#[test]
fn the_widest_rows_work() {
    for metric in [Metric::L2, Metric::Dot, Metric::Cosine] {
        let schema = Schema::new(crate::limits::MAX_DIM, metric).with_element(Element::I8);
        let bytes = clustered(6, 40, &schema);
        let rows = Rows::new(&bytes, 40, &schema).unwrap();
        let index = graph(rows, &quick());
        let queries = clustered(7, 2, &schema);
        assert!(recall(&index, rows, &queries, Effort::beam(40)) > 0.9, "{metric:?}");
    }
}

#[test]
fn a_filter_gets_all_that_match() {
    let schema = Schema::new(32, Metric::Cosine);
    let (bytes, queries) = (clustered(8, 3000, &schema), clustered(9, 10, &schema));
    let rows = Rows::new(&bytes, 3000, &schema).unwrap();
    let index = graph(rows, &quick());
    let (mut scratch, mut out) = (Scratch::default(), Vec::new());
    for query in queries.chunks_exact(schema.stride()) {
        let few = |row: u32| row % 500 == 3;
        index.search(rows, query, 10, Effort::slack(1.1), Some(&few), &mut scratch, &mut out).unwrap();
        assert_eq!(out.len(), 6);
        assert!(out.iter().all(|hit| few(hit.0)));
        let none = |_: u32| false;
        index.search(rows, query, 10, Effort::slack(1.1), Some(&none), &mut scratch, &mut out).unwrap();
        assert!(out.is_empty());
    }
}

#[test]
fn bytes_survive_a_round_trip_and_damage_is_refused_or_harmless() {
    let schema = Schema::new(20, Metric::L2);
    let bytes = clustered(10, 1500, &schema);
    let rows = Rows::new(&bytes, 1500, &schema).unwrap();
    let index = graph(rows, &quick());
    let stored = index.as_bytes().to_vec();
    let again = GraphIndex::parse(&stored).unwrap();
    assert!(again.as_bytes() == stored);
    assert_eq!(again.calibration(), index.calibration());
    let (mut scratch, mut out, mut other) = (Scratch::default(), Vec::new(), Vec::new());
    index.search(rows, rows.row(7), 10, Effort::slack(1.1), None, &mut scratch, &mut out).unwrap();
    again.search(rows, rows.row(7), 10, Effort::slack(1.1), None, &mut scratch, &mut other).unwrap();
    assert_eq!(out, other);
    for length in [0, 7, 63, 255, 256, 300, stored.len() / 2, stored.len() - 1] {
        assert!(GraphIndex::parse(&stored[..length]).is_err(), "{length}");
    }
    let mut draw = Draw(5);
    for turn in 0..400 {
        let mut damaged = stored.clone();
        let reach = if turn % 2 == 0 { 80 } else { damaged.len() };
        let place = draw.next() as usize % reach;
        damaged[place] ^= 1 << (draw.next() % 8);
        if let Ok(index) = GraphIndex::parse(&damaged) {
            let _ = index.search(rows, rows.row(3), 10, Effort::slack(1.1), None, &mut scratch, &mut out);
            let _ = index.effort_for(0.9, 10);
        }
    }
}

/// What is stored answers like what was built; what is damaged is refused or harmless.
fn check_stored(index: &GraphIndex, rows: Rows<'_>) {
    let stored = index.as_bytes().to_vec();
    let again = GraphIndex::parse(&stored).unwrap();
    let (mut scratch, mut out, mut other) = (Scratch::default(), Vec::new(), Vec::new());
    for row in [0, 7, rows.count - 1] {
        index.search(rows, rows.row(row), 10, Effort::slack(1.1), None, &mut scratch, &mut out).unwrap();
        again.search(rows, rows.row(row), 10, Effort::slack(1.1), None, &mut scratch, &mut other).unwrap();
        assert_eq!(out, other);
    }
    let mut draw = Draw(6);
    for turn in 0..60 {
        let mut damaged = stored.clone();
        let reach = if turn % 2 == 0 { 80 } else { damaged.len() };
        damaged[draw.next() as usize % reach] ^= 1 << (draw.next() % 8);
        if let Ok(index) = GraphIndex::parse(&damaged) {
            let _ = index.search(rows, rows.row(3), 10, Effort::slack(1.1), None, &mut scratch, &mut out);
        }
    }
}

#[test]
fn every_coding_is_found_and_lasts() {
    let codings = [1, 2, 4, 8].map(Coding::Bits).into_iter().chain([Coding::Product]);
    for (coding, metric) in codings.flat_map(|coding| [(coding, Metric::L2), (coding, Metric::Cosine)]) {
        let schema = Schema::new(90, metric);
        let (bytes, queries) = (clustered(15, 3000, &schema), clustered(16, 40, &schema));
        let rows = Rows::new(&bytes, 3000, &schema).unwrap();
        let index = graph(rows, &BuildParams { coding, ..quick() });
        assert!(index.coder.is_some() && index.inline.is_none(), "{index:?}");
        let found = recall(&index, rows, &queries, index.effort_for(0.95, 10));
        assert!(found > 0.9, "{coding:?} {metric:?} {index:?}: recall {found}");
        check_stored(&index, rows);
        let other = graph(rows, &BuildParams { coding, threads: 1, ..quick() });
        assert!(other.as_bytes() == index.as_bytes(), "{coding:?}");
    }
}

#[test]
fn a_coding_that_rows_cannot_have_becomes_the_plain_one() {
    for (coding, metric) in [(Coding::Bits(4), Metric::Dot), (Coding::Product, Metric::Dot)] {
        let schema = Schema::new(32, metric);
        let bytes = clustered(17, 800, &schema);
        let index = graph(Rows::new(&bytes, 800, &schema).unwrap(), &BuildParams { coding, ..quick() });
        assert!(index.coder.is_none());
    }
}

#[test]
fn rows_that_differ_in_few_directions_are_walked_over_those() {
    let (count, dim, hidden) = (10_000, 320, 24);
    let mut draw = Draw(18);
    let directions: Vec<f32> = (0..hidden * dim).map(|_| draw.normal()).collect();
    let row = |draw: &mut Draw| -> Vec<f32> {
        let mut values: Vec<f32> = (0..dim).map(|_| draw.normal() * 0.05 + 1.0).collect();
        for direction in directions.chunks_exact(dim) {
            let along = draw.normal();
            values.iter_mut().zip(direction).for_each(|(value, part)| *value += along * part);
        }
        values
    };
    let store = |rows: Vec<f32>| rows.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let bytes = store((0..count).flat_map(|_| row(&mut draw)).collect());
    let queries = store((0..50).flat_map(|_| row(&mut draw)).collect());
    for metric in [Metric::L2, Metric::Cosine] {
        let schema = Schema::new(dim, metric);
        let rows = Rows::new(&bytes, count, &schema).unwrap();
        let index = graph(rows, &quick());
        assert!(index.quantizer.projects() && index.width == 64, "{index:?}");
        let found = recall(&index, rows, &queries, index.effort_for(0.95, 10));
        assert!(found > 0.9, "{metric:?}: recall {found}");
        assert_eq!(reachable(&index), count);
        check_stored(&index, rows);
        let one = graph(rows, &BuildParams { threads: 1, ..quick() });
        assert!(one.as_bytes() == index.as_bytes());
    }
}

#[test]
fn bad_input_is_refused_and_a_build_can_be_stopped() {
    let schema = Schema::new(8, Metric::L2);
    let bytes = clustered(11, 600, &schema);
    let rows = Rows::new(&bytes, 600, &schema).unwrap();
    assert!(matches!(Rows::new(&bytes, 601, &schema), Err(Error::InvalidInput(_))));
    for params in [
        BuildParams { degree: 33, ..quick() },
        BuildParams { leaf_max: 4, ..quick() },
        BuildParams { leaf_k: 0, ..quick() },
        BuildParams { fanout: [0, 1], ..quick() },
    ] {
        let refused = build(rows, &params, &|_| {}, &AtomicBool::new(false));
        assert!(matches!(refused, Err(Error::InvalidInput(_))));
    }
    let stopped = build(rows, &quick(), &|_| {}, &AtomicBool::new(true));
    assert!(matches!(stopped, Err(Error::Cancelled(_))));
    let index = graph(rows, &quick());
    let (mut scratch, mut out) = (Scratch::default(), Vec::new());
    let refused = index.search(rows, &bytes[..31], 10, Effort::beam(10), None, &mut scratch, &mut out);
    assert!(matches!(refused, Err(Error::InvalidInput(_))));
    index.search(rows, &bytes[..32], 0, Effort::beam(10), None, &mut scratch, &mut out).unwrap();
    assert!(out.is_empty());
}

#[test]
fn calibration_meets_its_targets_on_fresh_queries() {
    let schema = Schema::new(48, Metric::L2);
    let (bytes, queries) = (clustered(12, 20_000, &schema), clustered(13, 600, &schema));
    let rows = Rows::new(&bytes, 20_000, &schema).unwrap();
    let index = graph(rows, &quick());
    for target in [0.9, 0.95, 0.99] {
        let found = recall(&index, rows, &queries, index.effort_for(target, 10));
        println!("target {target}: {found}");
        assert!(found > f64::from(target) - 0.02, "target {target}: {found}");
    }
}

/// Every row is there twice, almost: rows find their neighbours over their twins, queries have none.
#[test]
fn calibration_is_not_deceived_by_copies() {
    let schema = Schema::new(48, Metric::L2);
    let (bytes, queries) = (clustered(7, 10_000, &schema), clustered(8, 400, &schema));
    let mut draw = Draw(5);
    let moved = |value: &[u8; 4]| (f32::from_le_bytes(*value) + draw.normal() * 0.05).to_le_bytes();
    let copies: Vec<u8> = bytes.as_chunks::<4>().0.iter().flat_map(moved).collect();
    let twice = [bytes, copies].concat();
    let rows = Rows::new(&twice, 20_000, &schema).unwrap();
    let index = graph(rows, &quick());
    for target in [0.9, 0.95, 0.99] {
        let found = recall(&index, rows, &queries, index.effort_for(target, 10));
        println!("target {target}: {found}");
        assert!(found > f64::from(target) - 0.02, "target {target}: {found}");
    }
}

/// Searches among `nodes`: recall@10 with the effort for `asked`, the nodes that one walk looked at, and the share of
/// walks that left it to a comparison of all.
fn filtered(index: &GraphIndex, rows: Rows<'_>, queries: &[u8], nodes: &[u32], asked: f32) -> (f64, usize, f64) {
    let (mut scratch, mut out, mut exact_out) = (Scratch::default(), Vec::new(), Vec::new());
    let passing = Passing::of(rows.count, nodes);
    let effort = index.effort_for(asked, 10);
    let allowed: std::collections::HashSet<u32> = nodes.iter().map(|&node| index.order()[node as usize]).collect();
    let (mut found, mut walks, mut hops, mut given_up) = (0, 0, 0, 0);
    for query in queries.chunks_exact(rows.element.stride(rows.dim)) {
        let prepared = exact::prepare(&rows, query);
        let among = nodes.iter().copied();
        index.search_among(&rows, query, &prepared, 10, among, &mut scratch, &mut exact_out).unwrap();
        let stats =
            index.search_passing(&rows, query, &prepared, 10, effort, &passing, &mut scratch, &mut out).unwrap();
        if stats.gave_up {
            // All that pass are compared.
            out.clone_from(&exact_out);
            given_up += 1;
        }
        assert!(out.iter().all(|(row, _)| allowed.contains(row)));
        found += out.iter().filter(|(_, distance)| *distance <= exact_out[9].1).count();
        (walks, hops) = (walks + 1, hops + stats.hops);
    }
    (found as f64 / f64::from(10 * walks), hops / walks as usize, f64::from(given_up) / f64::from(walks))
}

#[test]
fn filtered_walks_are_measured_and_find_what_is_asked_for() {
    const COUNT: usize = 20_000;
    let schema = Schema::new(48, Metric::L2);
    let (bytes, queries) = (clustered(15, COUNT, &schema), clustered(16, 200, &schema));
    let rows = Rows::new(&bytes, COUNT, &schema).unwrap();
    let index = graph(rows, &BuildParams { last: true, ..quick() });
    assert!(index.farther.is_some());
    assert_eq!(GraphIndex::parse(index.as_bytes()).unwrap().farther, index.farther);
    for share in [0.5, 0.2, 0.1, 0.05] {
        let nodes = detours::random_nodes(COUNT, share, 77);
        assert!((nodes.len() as f32 / COUNT as f32 / share - 1.0).abs() < 0.1, "{} of {share}", nodes.len());
        let (recall, hops, given_up) = filtered(&index, rows, &queries, &nodes, 0.95);
        println!("random {share}: {recall}, {hops} nodes, {given_up} given up");
        assert!(recall > 0.93 && given_up < 0.5, "{share}: {recall}, {given_up} given up");
    }
}

#[test]
fn filtered_walks_find_rows_that_lie_apart_without_searching_all() {
    const COUNT: usize = 20_000;
    let schema = Schema::new(48, Metric::L2);
    let (bytes, queries) = (clustered(15, COUNT, &schema), clustered(16, 200, &schema));
    let rows = Rows::new(&bytes, COUNT, &schema).unwrap();
    let mut index = graph(rows, &BuildParams { last: true, ..quick() });
    assert_eq!(GraphIndex::parse(index.as_bytes()).unwrap().beam_apart, index.beam_apart);
    // The rows around one row: few queries are near them.
    let around: Vec<u32> = exact(rows, rows.row(0), COUNT / 10).into_iter().map(|(row, _)| row).collect();
    let nodes: Vec<u32> = (0..COUNT as u32).filter(|&node| around.contains(&index.order()[node as usize])).collect();
    for (asked, least, most) in [(0.9, 0.88, COUNT / 20), (0.95, 0.93, COUNT / 20), (0.99, 0.97, COUNT / 10)] {
        let (recall, hops, given_up) = filtered(&index, rows, &queries, &nodes, asked);
        println!("apart, {asked} asked: {recall}, {hops} nodes, {given_up} given up");
        assert!(recall > least && hops < most, "{asked}: {recall}, {hops} nodes");
    }
    // Walks with a beam that was not measured are cut off too early.
    index.set_beam_apart(Some(1));
    let (recall, _, given_up) = filtered(&index, rows, &queries, &nodes, 0.95);
    assert!(recall < 0.9 && given_up < 0.1, "{recall}, {given_up} given up");
}

#[test]
fn what_is_gathered_finds_what_comparing_all_finds() {
    let schemas = [
        Schema::new(40, Metric::L2),
        Schema::new(128, Metric::L2).with_element(Element::U8),
        Schema::new(100, Metric::Cosine),
        Schema::new(400, Metric::Cosine).with_element(Element::F16),
    ];
    for schema in schemas {
        let (bytes, queries) = (clustered(1, 6000, &schema), clustered(2, 40, &schema));
        let rows = Rows::new(&bytes, 6000, &schema).unwrap();
        let index = graph(rows, &quick());
        let spread: Vec<u32> = (0..6000).filter(|node| mix(7, (*node).into()).is_multiple_of(12)).collect();
        for nodes in [spread, (2000..2300).collect(), vec![17, 4000]] {
            let gathered = Gathered::new(&index, &Passing::of(6000, &nodes)).unwrap();
            let (mut scratch, mut out, mut all) = (Scratch::default(), Vec::new(), Vec::new());
            let (mut found, mut asked) = (0, 0);
            for (query, k) in queries.chunks_exact(schema.stride()).zip([1, 10, 100, 1000].into_iter().cycle()) {
                let one = exact::prepare(&rows, query);
                let among = nodes.iter().copied();
                index.search_among(&rows, query, &one, k, among, &mut scratch, &mut all).unwrap();
                index.search_gathered(&rows, query, &one, (k, None), &gathered, &mut scratch, &mut out).unwrap();
                assert_eq!(out.len(), all.len());
                assert!(out.iter().all(|(row, _)| nodes.iter().any(|node| index.order()[*node as usize] == *row)));
                found += out.iter().filter(|hit| hit.1 <= reach(all[all.len() - 1].1)).count();
                asked += all.len();
                // The nearest is hidden: all others are found.
                scratch.blind_to = nodes.iter().copied().find(|node| index.order()[*node as usize] == out[0].0);
                let hidden = out[0].0;
                index.search_gathered(&rows, query, &one, (k, None), &gathered, &mut scratch, &mut out).unwrap();
                assert_eq!(out.len(), k.min(nodes.len() - 1));
                assert!(out.iter().all(|(row, _)| *row != hidden));
                scratch.blind_to = None;
            }
            assert!(found as f64 >= 0.98 * asked as f64, "{schema:?}: {found} of {asked}");
        }
        let all: Vec<u32> = (0..6000).collect();
        assert!(Gathered::new(&index, &Passing::of(6000, &all)).is_none(), "that is too large");
        let separate = graph(rows, &BuildParams { inline_max_dim: 0, ..quick() });
        assert!(Gathered::new(&separate, &Passing::of(6000, &[1, 2])).is_none(), "it has no such codes");
    }
}

#[test]
fn searches_among_what_is_gathered_learn_to_stop_early() {
    const COUNT: usize = 20_000;
    let schema = Schema::new(48, Metric::L2);
    let (bytes, queries) = (clustered(15, COUNT, &schema), clustered(16, 1_000, &schema));
    let rows = Rows::new(&bytes, COUNT, &schema).unwrap();
    let index = graph(rows, &quick());
    let nodes: Vec<u32> = (0..COUNT as u32).filter(|node| mix(8, (*node).into()).is_multiple_of(2)).collect();
    let gathered = Gathered::new(&index, &Passing::of(COUNT, &nodes)).unwrap();
    let (mut scratch, mut out, mut all) = (Scratch::default(), Vec::new(), Vec::new());
    for asked in [0.95, 0.99, 0.9] {
        let (mut found, mut compared) = (0, 0);
        for (at, query) in queries.chunks_exact(schema.stride()).enumerate() {
            let one = exact::prepare(&rows, query);
            let effort = (10, Some(asked));
            let stats = index.search_gathered(&rows, query, &one, effort, &gathered, &mut scratch, &mut out).unwrap();
            if at >= 500 {
                index.search_among(&rows, query, &one, 10, nodes.iter().copied(), &mut scratch, &mut all).unwrap();
                found += out.iter().filter(|hit| hit.1 <= reach(all[9].1)).count();
                compared += stats.compared;
            }
        }
        let (recall, compared) = (found as f32 / 5_000.0, compared / 500);
        println!("{asked} asked: {recall}, {compared} compared");
        assert!(recall >= asked - 0.015 && compared < nodes.len() / 2, "{asked}: {recall}, {compared} compared");
    }
}

#[test]
fn equal_rows_are_gathered_and_as_many_found_as_asked_for() {
    let schema = Schema::new(16, Metric::L2);
    let bytes = vec![0u8; 3000 * schema.stride()];
    let rows = Rows::new(&bytes, 3000, &schema).unwrap();
    let index = graph(rows, &quick());
    let nodes: Vec<u32> = (0..500).collect();
    let gathered = Gathered::new(&index, &Passing::of(3000, &nodes)).unwrap();
    let (one, mut out) = (exact::prepare(&rows, rows.row(0)), Vec::new());
    index.search_gathered(&rows, rows.row(0), &one, (20, None), &gathered, &mut Scratch::default(), &mut out).unwrap();
    assert_eq!(out.len(), 20);
    assert!(out.iter().all(|hit| hit.1 == 0.0));
}

#[test]
fn codes_of_equal_rows_are_equal() {
    let schema = Schema::new(100, Metric::Cosine);
    let bytes = clustered(14, 300, &schema);
    let rows = Rows::new(&bytes, 300, &schema).unwrap();
    let quantizer = crate::quantize::ScalarQuantizer::fit(rows, Some(1));
    let (mut values, mut a, mut b) = (Vec::new(), vec![0; quantizer.width()], vec![0; quantizer.width()]);
    quantizer.encode(rows.row(4), &mut values, &mut a);
    quantizer.encode_query(rows.row(4), &mut values, &mut b);
    assert_eq!(codes::squared_l2(&a, &b), 0);
}
