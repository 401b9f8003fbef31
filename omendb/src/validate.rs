//! Do vectors fit a schema? They are brought into its element type, and wrong sizes and values are refused.

use crate::error::{Error, Result};
use crate::ids::IdColumn;
use crate::record::Vectors;
use crate::schema::{Element, Metric, Schema};
use half::f16;
use std::borrow::Cow;

/// Brings `vectors` into the schema's element type and refuses wrong sizes and values.
/// `rows` is the expected number, `ids` names the record in an error.
pub(crate) fn check_vectors(
    vectors: &mut Vectors<'_>,
    schema: &Schema,
    rows: Option<usize>,
    ids: &IdColumn,
) -> Result<()> {
    convert(vectors, schema)?;
    let per_row = schema.elements_per_row();
    let given = vectors.elements();
    let wrong = match rows {
        Some(rows) => rows.checked_mul(per_row) != Some(given),
        None => !given.is_multiple_of(per_row),
    };
    if wrong {
        let each = rows.filter(|r| *r > 0 && given.is_multiple_of(*r)).map(|r| given / r);
        let given = match each {
            Some(n) => format!("{n} elements a vector were given"),
            None => {
                format!("{given} elements were given for {} vectors", rows.map_or("whole".into(), |r| r.to_string()))
            }
        };
        return Err(Error::invalid(format!("wrong dimension: {given}; the collection's vectors have {per_row}")));
    }
    let bad = |row: usize, what: &str, fix: &str| {
        let name = ids.get(row).map_or(String::new(), |id| format!(" (id {id})"));
        Err(Error::invalid(format!("vector {row}{name} {what}; {fix}")))
    };
    let finite = "every element must be finite: drop or repair the record";
    match vectors {
        Vectors::F32(v) => {
            if all_usable(v, per_row, schema.metric) {
                return Ok(());
            }
            if let Some(i) = v.iter().position(|x| x.is_nan() || x.abs() > MAX_ABS) {
                return match v[i].is_finite() {
                    true => bad(
                        i / per_row,
                        &format!("holds {}", v[i]),
                        "beyond 1e15 distances overflow: scale the vectors",
                    ),
                    false => bad(i / per_row, "holds NaN or infinity", finite),
                };
            }
        }
        Vectors::F16(v) => {
            for (row, x) in v.chunks_exact(per_row).enumerate() {
                if x.iter().any(|x| !x.is_finite()) {
                    return bad(row, "holds NaN or infinity", finite);
                }
            }
        }
        Vectors::Bits(v) => {
            let spare = schema.dim % 8;
            if spare != 0 {
                for (row, x) in v.chunks_exact(per_row).enumerate() {
                    if x[per_row - 1] >> spare != 0 {
                        return bad(
                            row,
                            "has bits set beyond its dimensions",
                            "the unused bits of the last byte must be 0",
                        );
                    }
                }
            }
        }
        Vectors::I8(_) | Vectors::U8(_) => {}
    }
    if schema.metric == Metric::Cosine {
        let fix = "cosine has no direction for it: drop the record or use l2 or dot";
        let zero = match vectors {
            Vectors::F32(v) => v.chunks_exact(per_row).position(is_zero),
            Vectors::F16(v) => v.chunks_exact(per_row).position(|x| x.iter().all(|x| x.to_f32() == 0.0)),
            Vectors::I8(v) => v.chunks_exact(per_row).position(|x| x.iter().all(|x| *x == 0)),
            Vectors::U8(v) | Vectors::Bits(v) => v.chunks_exact(per_row).position(|x| x.iter().all(|x| *x == 0)),
        };
        if let Some(row) = zero {
            return bad(row, "is zero (its norm is below 1e-15)", fix);
        }
    }
    Ok(())
}

/// Largest magnitude of an f32 element: 65,536 squares of twice this still sum to a finite f32.
pub(crate) const MAX_ABS: f32 = 1e15;
/// Elements of a batch from which two threads check them.
const CHECK_IN_PARALLEL: usize = 1 << 20;
/// Rows that are checked while they are in the cache.
const CHECK_ROWS: usize = 64;

fn convert(vectors: &mut Vectors<'_>, schema: &Schema) -> Result<()> {
    let from = vectors.element();
    let to = schema.element;
    if from == to {
        return Ok(());
    }
    if from == Element::Bits || to == Element::Bits {
        return Err(Error::invalid(format!(
            "{} vectors were given; the collection stores {}: pack bits eight to a byte, least significant first",
            from.name(),
            to.name()
        )));
    }
    let wide: Vec<f32> = match vectors {
        Vectors::F32(v) => v.to_vec(),
        Vectors::F16(v) => v.iter().map(|x| x.to_f32()).collect(),
        Vectors::I8(v) => v.iter().map(|x| f32::from(*x)).collect(),
        Vectors::U8(v) | Vectors::Bits(v) => v.iter().map(|x| f32::from(*x)).collect(),
    };
    let misfit = |x: f32| {
        Error::invalid(format!(
            "{} vectors were given to a collection that stores {}, and {x} has no exact place there: use element type \
                f32, or scale and round the vectors",
            from.name(),
            to.name()
        ))
    };
    *vectors = match to {
        Element::F32 => Vectors::F32(Cow::Owned(wide)),
        Element::F16 => {
            let narrow: Vec<f16> = wide.iter().map(|x| f16::from_f32(*x)).collect();
            if let Some(i) = narrow.iter().position(|x| !x.is_finite()) {
                return Err(misfit(wide[i]));
            }
            Vectors::F16(Cow::Owned(narrow))
        }
        Element::I8 => {
            if let Some(x) = wide.iter().find(|x| f32::from(**x as i8) != **x) {
                return Err(misfit(*x));
            }
            Vectors::I8(Cow::Owned(wide.iter().map(|x| *x as i8).collect()))
        }
        Element::U8 => {
            if let Some(x) = wide.iter().find(|x| f32::from(**x as u8) != **x) {
                return Err(misfit(*x));
            }
            Vectors::U8(Cow::Owned(wide.iter().map(|x| *x as u8).collect()))
        }
        Element::Bits => return Ok(()),
    };
    Ok(())
}

/// Whether every element is a number that distances can be computed of and, under cosine, no row is zero.
fn all_usable(v: &[f32], per_row: usize, metric: Metric) -> bool {
    // A NaN compares false too, so one vectorised pass finds every element that is not.
    let finite = |rows: &[f32]| rows.iter().fold(true, |all, x| all & (x.abs() <= MAX_ABS));
    let directed = |rows: &[f32]| metric != Metric::Cosine || !rows.chunks_exact(per_row).any(is_zero);
    let usable = |v: &[f32]| v.chunks(CHECK_ROWS * per_row).all(|rows| finite(rows) && directed(rows));
    if v.len() < CHECK_IN_PARALLEL {
        return usable(v);
    }
    // Bound by what one core can read of the memory.
    let (front, back) = v.split_at(v.len() / per_row / 2 * per_row);
    std::thread::scope(|scope| {
        let front = scope.spawn(|| usable(front));
        usable(back) & front.join().unwrap_or(false)
    })
}

/// Whether a vector has no direction: its squared norm must be a normal number, or the cosine is not one.
fn is_zero(x: &[f32]) -> bool {
    !x.iter().any(|x| x.abs() > 1e-15) && !x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().ge(&1e-30)
}
