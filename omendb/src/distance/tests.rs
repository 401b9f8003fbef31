//! Every level against the portable kernels, and those against plain f64 arithmetic.

use super::*;
use half::f16;
use std::borrow::Cow;

/// A small generator of numbers that repeat from run to run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in [-1, 1).
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// What the elements of a test vector look like.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Random,
    Zero,
    /// The largest and smallest values, mixed.
    Extreme,
    /// Subnormal floats; ones for bytes.
    Tiny,
    /// One element set, the last one.
    Last,
}

const SHAPES: [Shape; 5] = [Shape::Random, Shape::Zero, Shape::Extreme, Shape::Tiny, Shape::Last];

fn dims() -> Vec<usize> {
    (1..=130).chain([255, 256, 257, 768, 1000, 65_536]).collect()
}

/// One vector's stored bytes.
fn vector(element: Element, dim: usize, shape: Shape, numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = Vec::new();
    let elements = if element == Element::Bits { dim.div_ceil(8) } else { dim };
    for i in 0..elements {
        let random = numbers.next();
        let float = match shape {
            Shape::Random => numbers.float(),
            Shape::Zero => 0.0,
            Shape::Extreme => [1e15, -1e15, 1e-15, 1.0][random as usize % 4],
            Shape::Tiny => f32::from_bits(random as u32 & 0x807f_ffff),
            Shape::Last => (i + 1 == elements) as u8 as f32,
        };
        let byte = match shape {
            Shape::Random => random as u8,
            Shape::Zero => 0,
            Shape::Extreme if element == Element::I8 => [0x80, 0x7f][random.is_multiple_of(8) as usize],
            Shape::Extreme => [255, 0][random.is_multiple_of(8) as usize],
            Shape::Tiny => 1,
            Shape::Last => (i + 1 == elements) as u8,
        };
        match element {
            Element::F32 => bytes.extend(float.to_le_bytes()),
            Element::F16 => {
                let half = match shape {
                    Shape::Extreme => f16::from_f32([65504.0, -65504.0, 6e-8, 1.0][random as usize % 4]),
                    Shape::Tiny => f16::from_bits(random as u16 & 0x83ff),
                    _ => f16::from_f32(float),
                };
                bytes.extend(half.to_le_bytes());
            }
            Element::I8 | Element::U8 | Element::Bits => bytes.push(byte),
        }
    }
    if element == Element::Bits
        && !dim.is_multiple_of(8)
        && let Some(last) = bytes.last_mut()
    {
        *last &= (1 << (dim % 8)) - 1;
    }
    bytes
}

fn vectors(element: Element, bytes: &[u8]) -> Vectors<'static> {
    match element {
        Element::F32 => Vectors::F32(bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect()),
        Element::F16 => Vectors::F16(bytes.as_chunks().0.iter().map(|x| f16::from_le_bytes(*x)).collect()),
        Element::I8 => Vectors::I8(bytes.iter().map(|x| *x as i8).collect()),
        Element::U8 => Vectors::U8(Cow::Owned(bytes.to_vec())),
        Element::Bits => Vectors::Bits(Cow::Owned(bytes.to_vec())),
    }
}

fn as_f64(element: Element, bytes: &[u8]) -> Vec<f64> {
    match vectors(element, bytes) {
        Vectors::F32(v) => v.iter().map(|x| (*x).into()).collect(),
        Vectors::F16(v) => v.iter().map(|x| (*x).into()).collect(),
        Vectors::I8(v) => v.iter().map(|x| (*x).into()).collect(),
        Vectors::U8(v) => v.iter().map(|x| (*x).into()).collect(),
        Vectors::Bits(v) => v.iter().flat_map(|b| (0..8).map(move |i| f64::from(b >> i & 1))).collect(),
    }
}

/// The exact key (squared for L2), and how far a kernel may be off.
fn reference(schema: &Schema, query: &[u8], row: &[u8]) -> (f64, f64) {
    let (q, x) = (as_f64(schema.element, query), as_f64(schema.element, row));
    let sum = |f: &dyn Fn(f64, f64) -> f64| q.iter().zip(&x).map(|(q, x)| f(*q, *x)).sum::<f64>();
    // The documented bound of a sum's error, for terms whose sizes add up to `size`; and products may underflow.
    let relative = (schema.dim as f64 / 8.0 + 8.0) * f64::from(f32::EPSILON) / 2.0;
    let bound = |size: f64| relative * size + schema.dim as f64 * f64::from(f32::MIN_POSITIVE);
    let exact = matches!(schema.element, Element::I8 | Element::U8 | Element::Bits);
    match schema.metric {
        Metric::Dot if exact => (-sum(&|q, x| q * x), 0.0),
        Metric::L2 if exact => (sum(&|q, x| (q - x) * (q - x)), 0.0),
        Metric::Hamming => (sum(&|q, x| (q - x).abs()), 0.0),
        Metric::Dot => (-sum(&|q, x| q * x), bound(sum(&|q, x| (q * x).abs()))),
        // A difference is rounded before it is squared.
        Metric::L2 => {
            let squared = sum(&|q, x| (q - x) * (q - x));
            (squared, bound(squared) + 2.0 * f64::from(f32::EPSILON) * squared)
        }
        Metric::Cosine => {
            let norms = (sum(&|q, _| q * q) * sum(&|_, x| x * x)).sqrt();
            let cosine = 1.0 - sum(&|q, x| q * x) / norms;
            let size = sum(&|q, x| (q * x).abs()) / norms;
            (cosine, if exact { 1e-6 } else { relative * (size + 2.0) + 1e-6 })
        }
    }
}

fn schemas(dim: usize) -> Vec<Schema> {
    let mut schemas = vec![Schema::new(dim, Metric::Hamming).with_element(Element::Bits)];
    for element in [Element::F32, Element::F16, Element::I8, Element::U8] {
        for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
            schemas.push(Schema::new(dim, metric).with_element(element));
        }
    }
    schemas
}

/// Cosine is defined for vectors that a collection accepts: the squared norm is a normal number.
fn has_direction(schema: &Schema, bytes: &[u8]) -> bool {
    schema.metric != Metric::Cosine || as_f64(schema.element, bytes).iter().map(|x| x * x).sum::<f64>() >= 1e-30
}

/// Rows of all shapes behind `offset` bytes of nothing.
fn unaligned_rows(schema: &Schema, offset: usize, numbers: &mut Numbers) -> (Vec<Vec<u8>>, Vec<u8>) {
    let rows: Vec<Vec<u8>> = SHAPES
        .iter()
        .cycle()
        .take(13)
        .map(|shape| vector(schema.element, schema.dim, *shape, numbers))
        .filter(|row| has_direction(schema, row))
        .collect();
    let mut bytes = vec![0xff; offset];
    bytes.extend(rows.concat());
    (rows, bytes)
}

#[test]
fn every_level_is_within_the_documented_bound_of_exact_arithmetic() {
    let mut numbers = Numbers(1);
    for dim in dims() {
        for schema in schemas(dim) {
            let offset = dim % 5;
            let (rows, bytes) = unaligned_rows(&schema, offset, &mut numbers);
            for shape in SHAPES {
                let query = vector(schema.element, dim, shape, &mut numbers);
                if !has_direction(&schema, &query) {
                    continue;
                }
                let expected: Vec<(f64, f64)> = rows.iter().map(|row| reference(&schema, &query, row)).collect();
                for level in Level::available() {
                    let prepared = Prepared::with_level(&schema, &vectors(schema.element, &query), 0, level);
                    let mut keys = vec![f32::NAN; rows.len()];
                    prepared.keys(&bytes[offset..], &mut keys);
                    for (key, (exact, bound)) in keys.iter().zip(&expected) {
                        // Rounding the result itself to f32, too.
                        let bound = bound + exact.abs() * f64::from(f32::EPSILON);
                        let off = (f64::from(*key) - exact).abs();
                        assert!(off <= bound, "{level:?} {schema:?} {shape:?}: {key} for {exact}, {off} > {bound}");
                    }
                }
            }
        }
    }
}

#[test]
fn bytes_and_bits_give_the_same_bits_on_every_level() {
    let mut numbers = Numbers(2);
    for dim in dims() {
        for schema in schemas(dim).iter().filter(|s| !matches!(s.element, Element::F32 | Element::F16)) {
            let (rows, bytes) = unaligned_rows(schema, 1, &mut numbers);
            let query = vector(schema.element, dim, Shape::Extreme, &mut numbers);
            if !has_direction(schema, &query) {
                continue;
            }
            let of = |level| {
                let prepared = Prepared::with_level(schema, &vectors(schema.element, &query), 0, level);
                let mut distances = vec![f32::NAN; rows.len()];
                prepared.distances(&bytes[1..], &mut distances);
                distances.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            };
            let portable = of(Level::Portable);
            for level in Level::available() {
                assert_eq!(of(level), portable, "{level:?} {schema:?}");
            }
        }
    }
}

#[test]
fn a_distance_does_not_depend_on_the_row_s_neighbours() {
    let mut numbers = Numbers(3);
    for dim in dims().into_iter().filter(|dim| *dim < 10_000) {
        for schema in schemas(dim) {
            let rows: Vec<Vec<u8>> =
                (0..11).map(|_| vector(schema.element, dim, Shape::Random, &mut numbers)).collect();
            let bytes = rows.concat();
            let query = loop {
                let query = vector(schema.element, dim, Shape::Random, &mut numbers);
                if has_direction(&schema, &query) {
                    break query;
                }
            };
            for level in Level::available() {
                let prepared = Prepared::with_level(&schema, &vectors(schema.element, &query), 0, level);
                let alone: Vec<u32> = rows.iter().map(|row| prepared.distance(row).to_bits()).collect();
                let mut block = vec![f32::NAN; rows.len()];
                prepared.distances(&bytes, &mut block);
                assert_eq!(block.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), alone, "{level:?} {schema:?}");
                let ordinals = [10, 0, 3, 3, 7, 1, 9, 2, 5];
                let mut named = [f32::NAN; 9];
                prepared.distances_of(&bytes, &ordinals, &mut named);
                for (distance, ordinal) in named.iter().zip(ordinals) {
                    assert_eq!(distance.to_bits(), alone[ordinal as usize], "{level:?} {schema:?}");
                }
                let mut keys = vec![f32::NAN; rows.len()];
                prepared.keys(&bytes, &mut keys);
                for (key, distance) in keys.iter().zip(&alone) {
                    assert_eq!(prepared.key_to_distance(*key).to_bits(), *distance, "{level:?} {schema:?}");
                }
            }
        }
    }
}

#[test]
fn equal_vectors_are_at_exactly_zero_and_opposite_ones_at_two() {
    let mut numbers = Numbers(4);
    for dim in dims() {
        for schema in schemas(dim).iter().filter(|s| s.metric != Metric::Dot) {
            for shape in [Shape::Random, Shape::Extreme, Shape::Last] {
                let query = vector(schema.element, dim, shape, &mut numbers);
                if !has_direction(schema, &query) {
                    continue;
                }
                for level in Level::available() {
                    let query_vectors = vectors(schema.element, &query);
                    let prepared = Prepared::with_level(schema, &query_vectors, 0, level);
                    assert_eq!(prepared.distance(&query).to_bits(), 0, "{level:?} {schema:?} {shape:?}");
                    if let (Vectors::F32(v), Metric::Cosine) = (&query_vectors, schema.metric) {
                        let opposite: Vec<u8> = v.iter().flat_map(|x| (-x).to_le_bytes()).collect();
                        assert_eq!(prepared.distance(&opposite), 2.0, "{level:?} {schema:?} {shape:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_dot_product_of_zero_has_one_sign_and_a_zero_row_comes_last_under_cosine() {
    for element in [Element::F32, Element::F16, Element::I8, Element::U8] {
        for level in Level::available() {
            let query = vectors(element, &vector(element, 20, Shape::Random, &mut Numbers(5)));
            let zero = vec![0; element.stride(20)];
            let dot = Schema::new(20, Metric::Dot).with_element(element);
            assert_eq!(Prepared::with_level(&dot, &query, 0, level).distance(&zero).to_bits(), 0);
            let cosine = Schema::new(20, Metric::Cosine).with_element(element);
            assert_eq!(Prepared::with_level(&cosine, &query, 0, level).distance(&zero), 2.0);
        }
    }
}

#[test]
fn any_row_of_the_query_vectors_can_be_prepared() {
    let schema = Schema::new(3, Metric::Dot);
    let queries = Vectors::from(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let row: Vec<u8> = [1f32, 10.0, 100.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(Prepared::new(&schema, &queries, 0).distance(&row), -321.0);
    assert_eq!(Prepared::new(&schema, &queries, 1).distance(&row), -654.0);
}
