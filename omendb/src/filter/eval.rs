//! Decides one record from its metadata: the plain reading of the rules, which the columns must agree with.

use super::ast::{Expr, Path, Scalar, Test};
use super::number::Num;
use serde_json::Value;
use std::cmp::Ordering;

/// Whether a record with this metadata passes.
pub(crate) fn matches(expr: &Expr, metadata: Option<&Value>) -> bool {
    match expr {
        Expr::And(parts) => parts.iter().all(|part| matches(part, metadata)),
        Expr::Or(parts) => parts.iter().any(|part| matches(part, metadata)),
        Expr::Not(inner) => !matches(inner, metadata),
        Expr::Test(path, test) => test_matches(path, test, metadata),
    }
}

fn test_matches(path: &Path, test: &Test, metadata: Option<&Value>) -> bool {
    let mut reached = false;
    let passed = metadata.is_some_and(|value| {
        any_value(value, path.keys(), false, &mut |value, in_list| {
            reached = true;
            value_passes(value, test, in_list)
        })
    });
    passed || (!reached && accepts_missing(test))
}

/// Whether the test holds for a field that no value is reached for.
pub(crate) fn accepts_missing(test: &Test) -> bool {
    match test {
        Test::Equal(Scalar::Null) => true,
        Test::In(list) => list.contains(&Scalar::Null),
        _ => false,
    }
}

/// Shows every value the path reaches to `pass`, with whether it stands directly in a list, until one passes.
/// A list at the path's end is shown itself, then its elements.
fn any_value(value: &Value, keys: &[String], in_list: bool, pass: &mut dyn FnMut(&Value, bool) -> bool) -> bool {
    match (keys, value) {
        ([], Value::Array(items)) => pass(value, in_list) || items.iter().any(|item| any_value(item, keys, true, pass)),
        ([], _) => pass(value, in_list),
        ([_, ..], Value::Array(items)) => items.iter().any(|item| any_value(item, keys, false, pass)),
        ([key, rest @ ..], Value::Object(map)) => map.get(key).is_some_and(|value| any_value(value, rest, false, pass)),
        _ => false,
    }
}

fn value_passes(value: &Value, test: &Test, in_list: bool) -> bool {
    match test {
        Test::Exists => true,
        Test::Equal(scalar) => equals(value, scalar),
        Test::In(list) => list.iter().any(|scalar| equals(value, scalar)),
        Test::Order(order, scalar) => compare(value, scalar).is_some_and(|o| order.accepts(o)),
        Test::Contains(scalar) => match (value, scalar) {
            (Value::String(s), Scalar::Text(part)) if !in_list => s.contains(part.value.as_str()),
            _ => equals(value, scalar),
        },
        Test::StartsWith(prefix) => value.as_str().is_some_and(|s| s.starts_with(prefix.as_str())),
        Test::Like(like) => value.as_str().is_some_and(|s| like.matches(s)),
        Test::Regex(pattern) => value.as_str().is_some_and(|s| pattern.matches(s)),
    }
}

fn equals(value: &Value, scalar: &Scalar) -> bool {
    match (value, scalar) {
        (Value::Null, Scalar::Null) => true,
        (Value::Bool(a), Scalar::Bool(b)) => a == b,
        _ => compare(value, scalar) == Some(Ordering::Equal),
    }
}

/// A record's number or text against an operand of the same type.
fn compare(value: &Value, scalar: &Scalar) -> Option<Ordering> {
    match (value, scalar) {
        (Value::Number(a), Scalar::Number(b)) => Num::from_json(a).map(|a| a.cmp(b)),
        (Value::String(a), Scalar::Text(b)) => Some(b.compare(a)),
        _ => None,
    }
}
