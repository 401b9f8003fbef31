//! NumPy arrays as the engine's vectors, borrowed for the length of a call.

use crate::errors::invalid;
use half::f16;
use numpy::{PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use omendb::{Element, Schema, Vector, Vectors};
use pyo3::prelude::*;
use std::borrow::Cow;
use std::ops::Range;

/// A borrowed C-contiguous array of one of the element types. While it lives no Rust code may write to the array.
pub(crate) enum Array<'py> {
    F32(PyReadonlyArrayDyn<'py, f32>),
    F16(PyReadonlyArrayDyn<'py, f16>),
    I8(PyReadonlyArrayDyn<'py, i8>),
    U8(PyReadonlyArrayDyn<'py, u8>),
}

/// The elements of an [`Array`].
#[derive(Clone, Copy)]
pub(crate) enum Elements<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    I8(&'a [i8]),
    U8(&'a [u8]),
    Bits(&'a [u8]),
}

impl<'a> Elements<'a> {
    /// The elements of some positions.
    pub(crate) fn slice(self, range: Range<usize>) -> Self {
        match self {
            Elements::F32(v) => Elements::F32(&v[range]),
            Elements::F16(v) => Elements::F16(&v[range]),
            Elements::I8(v) => Elements::I8(&v[range]),
            Elements::U8(v) => Elements::U8(&v[range]),
            Elements::Bits(v) => Elements::Bits(&v[range]),
        }
    }
}

impl<'a> From<Elements<'a>> for Vectors<'a> {
    fn from(elements: Elements<'a>) -> Self {
        match elements {
            Elements::F32(v) => Vectors::F32(Cow::Borrowed(v)),
            Elements::F16(v) => Vectors::F16(Cow::Borrowed(v)),
            Elements::I8(v) => Vectors::I8(Cow::Borrowed(v)),
            Elements::U8(v) => Vectors::U8(Cow::Borrowed(v)),
            Elements::Bits(v) => Vectors::Bits(Cow::Borrowed(v)),
        }
    }
}

impl<'py> Array<'py> {
    /// Borrows `object`, an aligned array of float32, float16, int8 or uint8.
    pub(crate) fn borrow(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        let py = object.py();
        let taken = |_| invalid(py, "the vectors' array is being written to by another call; pass a copy of it");
        if let Ok(array) = object.cast::<PyArrayDyn<f32>>() {
            Ok(Array::F32(array.try_readonly().map_err(taken)?))
        } else if let Ok(array) = object.cast::<PyArrayDyn<f16>>() {
            Ok(Array::F16(array.try_readonly().map_err(taken)?))
        } else if let Ok(array) = object.cast::<PyArrayDyn<i8>>() {
            Ok(Array::I8(array.try_readonly().map_err(taken)?))
        } else if let Ok(array) = object.cast::<PyArrayDyn<u8>>() {
            Ok(Array::U8(array.try_readonly().map_err(taken)?))
        } else {
            Err(invalid(py, "vectors must be an array of float32, float16, int8 or uint8 by here"))
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Array::F32(a) => a.shape(),
            Array::F16(a) => a.shape(),
            Array::I8(a) => a.shape(),
            Array::U8(a) => a.shape(),
        }
    }

    fn is_c_contiguous(&self) -> bool {
        match self {
            Array::F32(a) => a.is_c_contiguous(),
            Array::F16(a) => a.is_c_contiguous(),
            Array::I8(a) => a.is_c_contiguous(),
            Array::U8(a) => a.is_c_contiguous(),
        }
    }

    /// The elements and the number of rows: one for an array of one axis, `shape[0]` for two.
    /// The last axis must be as long as a vector of `schema`.
    pub(crate) fn rows(&self, py: Python<'_>, schema: &Schema) -> PyResult<(Elements<'_>, usize)> {
        let (rows, width) = match self.shape() {
            [width] => (1, *width),
            [rows, width] => (*rows, *width),
            other => {
                return Err(invalid(py, format!("vectors of shape {other:?} were given; (rows, dim) was expected")));
            }
        };
        let per_row = elements_per_vector(schema);
        if width != per_row && rows > 0 {
            return Err(invalid(
                py,
                format!(
                    "wrong dimension: {width} elements a vector were given; the collection's vectors have {per_row}"
                ),
            ));
        }
        if !self.is_c_contiguous() {
            return Err(invalid(py, "vectors must be C-contiguous by here"));
        }
        let misaligned = |_| invalid(py, "vectors must be contiguous and aligned by here");
        let elements = match self {
            Array::F32(a) => Elements::F32(a.as_slice().map_err(misaligned)?),
            Array::F16(a) => Elements::F16(a.as_slice().map_err(misaligned)?),
            Array::I8(a) => Elements::I8(a.as_slice().map_err(misaligned)?),
            Array::U8(a) if schema.element == Element::Bits => Elements::Bits(a.as_slice().map_err(misaligned)?),
            Array::U8(a) => Elements::U8(a.as_slice().map_err(misaligned)?),
        };
        Ok((elements, rows))
    }
}

/// Array elements of one vector: its dimensions, or the bytes that hold its bits.
pub(crate) fn elements_per_vector(schema: &Schema) -> usize {
    if schema.element == Element::Bits { schema.stride() } else { schema.dim }
}

/// A stored vector as an array of its own element type (bits: packed bytes).
pub(crate) fn to_array<'py>(py: Python<'py>, vector: &Vector) -> Bound<'py, PyAny> {
    match vector {
        Vector::F32(v) => PyArray1::from_slice(py, v).into_any(),
        Vector::F16(v) => PyArray1::from_slice(py, v).into_any(),
        Vector::I8(v) => PyArray1::from_slice(py, v).into_any(),
        Vector::U8(v) | Vector::Bits(v) => PyArray1::from_slice(py, v).into_any(),
    }
}
