//! Turning raw numbers of a file into vectors of an element type the engine stores.

use crate::failure::{Result, invalid};
use half::f16;
use omendb::{Element, Vectors};
use std::borrow::Cow;
use std::path::Path;

/// A number type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// Floats of 2, 4 or 8 bytes.
    Float(usize),
    /// Signed integers of 1, 2, 4 or 8 bytes.
    Int(usize),
    /// Unsigned integers of 1, 2, 4 or 8 bytes.
    Uint(usize),
}

impl Number {
    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Number::Float(n) | Number::Int(n) | Number::Uint(n) => n,
        }
    }

    /// The element type that holds such numbers: the wider ones become f32.
    pub fn element(self) -> Element {
        match self {
            Number::Float(2) => Element::F16,
            Number::Int(1) => Element::I8,
            Number::Uint(1) => Element::U8,
            _ => Element::F32,
        }
    }
}

/// One number of up to eight bytes, as an f64 or, for the wide integers, exactly as an i128.
enum Wide {
    Float(f64),
    Integer(i128),
}

/// Eight bytes, the first `chunk.len()` of them taken from `chunk` in little-endian order.
fn eight(chunk: &[u8], big_endian: bool) -> [u8; 8] {
    let mut out = [0; 8];
    for (i, b) in chunk.iter().take(8).enumerate() {
        out[if big_endian { chunk.len() - 1 - i } else { i }] = *b;
    }
    out
}

fn wide(number: Number, chunk: &[u8], big_endian: bool) -> Wide {
    let bytes = eight(chunk, big_endian);
    let unsigned = u64::from_le_bytes(bytes);
    match number {
        Number::Float(2) => Wide::Float(f64::from(f16::from_bits(unsigned as u16).to_f32())),
        Number::Float(4) => Wide::Float(f64::from(f32::from_bits(unsigned as u32))),
        Number::Float(_) => Wide::Float(f64::from_bits(unsigned)),
        Number::Uint(_) => Wide::Integer(i128::from(unsigned)),
        Number::Int(size) => {
            let unused = 64 - 8 * size.clamp(1, 8) as u32;
            Wide::Integer(i128::from((unsigned << unused) as i64 >> unused))
        }
    }
}

/// Reads `bytes`, whole numbers one after the other, as vectors of `number.element()`.
/// `first_row` and `dim` serve to name the place of a number that has no exact home in f32.
pub fn decode(
    path: &Path,
    number: Number,
    big_endian: bool,
    bytes: &[u8],
    first_row: u64,
    dim: usize,
) -> Result<Vectors<'static>> {
    let size = number.size();
    Ok(match number {
        Number::Uint(1) => Vectors::U8(Cow::Owned(bytes.to_vec())),
        Number::Int(1) => Vectors::I8(Cow::Owned(bytes.iter().map(|b| *b as i8).collect())),
        Number::Float(2) => {
            let chunks = bytes.as_chunks::<2>().0.iter();
            let from = if big_endian { f16::from_be_bytes } else { f16::from_le_bytes };
            Vectors::F16(Cow::Owned(chunks.map(|c| from(*c)).collect()))
        }
        Number::Float(4) => {
            let chunks = bytes.as_chunks::<4>().0.iter();
            let from = if big_endian { f32::from_be_bytes } else { f32::from_le_bytes };
            Vectors::F32(Cow::Owned(chunks.map(|c| from(*c)).collect()))
        }
        _ => {
            let mut out = Vec::with_capacity(bytes.len() / size);
            for (i, chunk) in bytes.chunks_exact(size).enumerate() {
                out.push(narrow(&wide(number, chunk, big_endian)).ok_or_else(|| {
                    let value = match wide(number, chunk, big_endian) {
                        Wide::Float(x) => x.to_string(),
                        Wide::Integer(n) => n.to_string(),
                    };
                    invalid(format!(
                        "{}: row {}, element {}: {value} does not fit a 32-bit float; scale the vectors",
                        path.display(),
                        first_row + (i / dim.max(1)) as u64,
                        i % dim.max(1)
                    ))
                })?);
            }
            Vectors::F32(Cow::Owned(out))
        }
    })
}

/// The f32 of a number: floats are rounded, integers must have an exact place.
fn narrow(value: &Wide) -> Option<f32> {
    match value {
        Wide::Float(x) => narrow_f64(*x),
        Wide::Integer(n) => Some(*n as f32).filter(|x| *x as i128 == *n),
    }
}

/// The nearest f32, unless a finite number would become infinite.
pub fn narrow_f64(x: f64) -> Option<f32> {
    let narrow = x as f32;
    (narrow.is_finite() || !x.is_finite()).then_some(narrow)
}

/// A number of a file as JSON; NaN and infinity have no JSON and become null.
pub fn json(number: Number, chunk: &[u8], big_endian: bool) -> serde_json::Value {
    match wide(number, chunk, big_endian) {
        Wide::Float(x) => serde_json::json!(x),
        Wide::Integer(n) => match (u64::try_from(n), i64::try_from(n)) {
            (Ok(n), _) => serde_json::json!(n),
            (_, Ok(n)) => serde_json::json!(n),
            _ => serde_json::Value::Null,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_numbers_become_exact_or_are_refused() {
        let path = Path::new("x");
        let good: Vec<u8> = [1i64, -5, 1 << 40].iter().flat_map(|n| n.to_le_bytes()).collect();
        let Ok(Vectors::F32(v)) = decode(path, Number::Int(8), false, &good, 0, 3) else { panic!("i64 is read") };
        assert_eq!(*v, [1.0, -5.0, 1_099_511_627_776.0]);
        let bad = ((1i64 << 40) + 1).to_be_bytes();
        assert!(decode(path, Number::Int(8), true, &bad, 0, 1).is_err());
        assert!(decode(path, Number::Float(8), false, &1e300f64.to_le_bytes(), 0, 1).is_err());
    }
}
