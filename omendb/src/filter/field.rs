//! A field by itself: its value in a record, and the conditions that put records with and without it apart.

use super::ast::{Expr, Path, Scalar, Test, Text};
use super::number::Num;
use super::{Filter, parse};
use crate::error::{Error, Result};
use serde_json::Value;
use std::hash::{Hash, Hasher};

/// A path to a field of metadata, written as in JSON filters: `author.name`.
#[derive(Debug, Clone)]
pub(crate) struct Field(Path);

/// A string, number or boolean. Two are equal where a condition finds them equal: 1 and 1.0, and two spellings of one
/// moment, are the same.
#[derive(Debug, Clone)]
pub(crate) struct FieldValue(Scalar);

impl Field {
    pub(crate) fn parse(text: &str) -> Result<Field> {
        let path = parse::split_path(text).and_then(Path::new);
        path.map(Field).map_err(|fault| Error::invalid(format!("the field {text:?} to group by: {}", fault.what)))
    }

    /// The value in a record's metadata; `None` if it is missing, null, a list or an object.
    pub(crate) fn value<'v>(&self, metadata: &'v Value) -> Option<(FieldValue, &'v Value)> {
        let value = self.0.keys().iter().try_fold(metadata, |value, key| value.as_object()?.get(key))?;
        let scalar = match value {
            Value::Bool(flag) => Scalar::Bool(*flag),
            Value::Number(number) => Scalar::Number(Num::from_json(number)?),
            Value::String(text) => Scalar::Text(Text::new(text.as_str())),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some((FieldValue(scalar), value))
    }

    /// Holds where the field is one of `values`.
    pub(crate) fn is_one_of(&self, values: Vec<FieldValue>) -> Expr {
        Expr::Test(self.0.clone(), Test::In(values.into_iter().map(|value| value.0).collect()))
    }

    /// Holds where the field has a value and is none of `values`.
    pub(crate) fn is_none_of(&self, values: Vec<FieldValue>) -> Expr {
        let mut excluded: Vec<Scalar> = values.into_iter().map(|value| value.0).collect();
        excluded.push(Scalar::Null);
        Expr::Test(self.0.clone(), Test::In(excluded)).negate()
    }
}

impl Filter {
    /// Holds where both do.
    pub(crate) fn both(filter: Option<&Filter>, condition: Expr) -> Filter {
        let parts = filter.map(|filter| filter.root.clone()).into_iter().chain([condition]).collect();
        Filter { root: Expr::and(parts) }
    }
}

impl FieldValue {
    /// The same for equal values, and for no others.
    fn canonical(&self) -> (u8, i128, &str) {
        match &self.0 {
            Scalar::Null => (0, 0, ""),
            Scalar::Bool(flag) => (1, i128::from(*flag), ""),
            Scalar::Number(Num::Int(n)) => (2, i128::from(*n), ""),
            Scalar::Number(Num::Big(n)) => (2, i128::from(*n), ""),
            Scalar::Number(Num::Float(x)) => (3, i128::from(x.to_bits()), ""),
            Scalar::Text(Text { instant: Some(instant), .. }) => (4, instant.nanoseconds(), ""),
            Scalar::Text(Text { value, instant: None }) => (5, 0, value),
        }
    }
}

impl PartialEq for FieldValue {
    fn eq(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }
}

impl Eq for FieldValue {}

impl Hash for FieldValue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical().hash(state);
    }
}
