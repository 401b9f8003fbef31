//! Reads the JSON spelling.

use super::MAX_DEPTH;
use super::ast::{Budget, Expr, Fault, Order, Path, Scalar, Test, Text, continues_name};
use super::number::Num;
use super::pattern::{Like, Pattern};
use crate::error::{Error, Result};
use serde_json::{Map, Value};

/// Reads a filter from a JSON object.
pub(crate) fn parse(value: &Value) -> Result<Expr> {
    let mut parser = Parser { budget: Budget::default(), place: Vec::new() };
    parser.object(value, 0).map_err(|fault| {
        let what = format!("filter at {}: {}", parser.place(), fault.what);
        if fault.limit { Error::LimitExceeded(what) } else { Error::InvalidInput(what) }
    })
}

const FIELD_OPERATORS: &str =
    "$eq $ne $gt $gte $lt $lte $in $nin $exists $contains $startswith $like $ilike $regex $not";

enum Step {
    Key(String),
    Index(usize),
}

/// `place` is where the parser stands; after an error it stays there.
struct Parser {
    budget: Budget,
    place: Vec<Step>,
}

impl Parser {
    fn place(&self) -> String {
        let mut out = String::new();
        for step in &self.place {
            match step {
                Step::Index(i) => out.push_str(&format!("[{i}]")),
                Step::Key(key) => {
                    let plain = !key.is_empty() && key.chars().all(|c| continues_name(c) || c == '.' || c == '$');
                    if !out.is_empty() {
                        out.push('.');
                    }
                    match plain {
                        true => out.push_str(&shorten(key)),
                        false => out.push_str(&format!("{:?}", shorten(key))),
                    }
                }
            }
        }
        if out.is_empty() { "the top".to_owned() } else { out }
    }

    fn at<T>(&mut self, step: Step, read: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.place.push(step);
        let value = read(self)?;
        self.place.pop();
        Ok(value)
    }

    /// `{"field": condition, "$or": [...], ...}`: all of them.
    fn object(&mut self, value: &Value, depth: usize) -> Result<Expr, Fault> {
        let Value::Object(map) = value else {
            return Err(expected("an object such as {\"lang\": \"en\"}", value));
        };
        let mut parts = Vec::with_capacity(map.len());
        for (key, value) in map {
            let part = self.at(Step::Key(key.clone()), |p| match key.as_str() {
                "$and" => p.list(value, depth).map(Expr::and),
                "$or" => p.list(value, depth).map(Expr::or),
                "$not" => p.group(depth, |p, depth| p.object(value, depth)).map(Expr::negate),
                _ if key.starts_with('$') => Err(unknown_operator(key)),
                _ => p.field(key, value, depth),
            })?;
            parts.push(part);
        }
        Ok(Expr::and(parts))
    }

    /// One level down, and one node more.
    fn group<T>(&mut self, depth: usize, read: impl FnOnce(&mut Self, usize) -> Result<T, Fault>) -> Result<T, Fault> {
        if depth >= MAX_DEPTH {
            return Err(Fault::limit(format!("the filter is nested deeper than {MAX_DEPTH} levels")));
        }
        self.budget.node()?;
        read(self, depth + 1)
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<Vec<Expr>, Fault> {
        match value {
            Value::Array(items) if !items.is_empty() => self.group(depth, |p, depth| {
                let read = |(i, item)| p.at(Step::Index(i), |p| p.object(item, depth));
                items.iter().enumerate().map(read).collect()
            }),
            other => Err(expected("a list of one or more filters", other)),
        }
    }

    fn field(&mut self, key: &str, value: &Value, depth: usize) -> Result<Expr, Fault> {
        let path = Path::new(split_path(key)?)?;
        match value {
            Value::Object(map) => self.operators(&path, map, depth),
            Value::Array(_) => Err(Fault::invalid(format!(
                "expected one value, found the list {}: use $in for any of several values, or $contains for a member",
                show(value)
            ))),
            _ => {
                let scalar = self.scalar(value)?;
                self.test(&path, Test::Equal(scalar))
            }
        }
    }

    fn test(&mut self, path: &Path, test: Test) -> Result<Expr, Fault> {
        self.budget.node()?;
        self.budget.operand(path.bytes())?;
        Ok(Expr::Test(path.clone(), test))
    }

    /// `{"$gte": 1, "$lt": 5}`: all of them.
    fn operators(&mut self, path: &Path, map: &Map<String, Value>, depth: usize) -> Result<Expr, Fault> {
        if map.is_empty() {
            return Err(Fault::invalid(format!(
                "expected an operator in {{}}, such as {{\"$gte\": 2020}}; known are {FIELD_OPERATORS}"
            )));
        }
        let mut parts = Vec::with_capacity(map.len());
        for (operator, operand) in map {
            let part = self.at(Step::Key(operator.clone()), |p| p.operator(path, operator, operand, depth))?;
            parts.push(part);
        }
        Ok(Expr::and(parts))
    }

    fn operator(&mut self, path: &Path, operator: &str, operand: &Value, depth: usize) -> Result<Expr, Fault> {
        let test = match operator {
            "$eq" | "$ne" => Test::Equal(self.scalar(operand)?),
            "$gt" => self.order(Order::Greater, operand)?,
            "$gte" => self.order(Order::GreaterEqual, operand)?,
            "$lt" => self.order(Order::Less, operand)?,
            "$lte" => self.order(Order::LessEqual, operand)?,
            "$in" | "$nin" => Test::In(self.scalars(operand)?),
            "$exists" => match operand {
                Value::Bool(_) => Test::Exists,
                other => return Err(expected("true or false", other)),
            },
            "$contains" => match self.scalar(operand)? {
                Scalar::Null => return Err(expected("a string, a number or a boolean", operand)),
                scalar => Test::Contains(scalar),
            },
            "$startswith" => Test::StartsWith(self.string(operand)?.to_owned()),
            "$like" => Test::Like(Like::parse(self.string(operand)?, '\\', false).map_err(Fault::invalid)?),
            "$ilike" => Test::Like(Like::parse(self.string(operand)?, '\\', true).map_err(Fault::invalid)?),
            "$regex" => Test::Regex(Pattern::parse(self.string(operand)?).map_err(Fault::invalid)?),
            "$not" => {
                let Value::Object(map) = operand else {
                    return Err(expected("an object of operators such as {\"$gt\": 5} (for a value use $ne)", operand));
                };
                return self.group(depth, |p, depth| p.operators(path, map, depth)).map(Expr::negate);
            }
            _ if operator.starts_with('$') => return Err(unknown_operator(operator)),
            _ => {
                return Err(Fault::invalid(format!(
                    "expected an operator ({FIELD_OPERATORS}), found the key {:?}; a nested field is written {:?}",
                    shorten(operator),
                    shorten(&format!("{}.{operator}", path.keys().join(".")))
                )));
            }
        };
        let negated = matches!(operator, "$ne" | "$nin") || (operator == "$exists" && *operand == Value::Bool(false));
        let test = self.test(path, test)?;
        Ok(if negated { test.negate() } else { test })
    }

    fn order(&mut self, order: Order, operand: &Value) -> Result<Test, Fault> {
        match self.scalar(operand) {
            Ok(scalar @ (Scalar::Number(_) | Scalar::Text(_))) => Ok(Test::Order(order, scalar)),
            Err(fault) if fault.limit => Err(fault),
            _ => Err(expected("a number or a string (a date is an ISO-8601 string)", operand)),
        }
    }

    fn string<'v>(&mut self, value: &'v Value) -> Result<&'v str, Fault> {
        let Value::String(s) = value else { return Err(expected("a string", value)) };
        self.budget.operand(s.len())?;
        Ok(s)
    }

    fn scalars(&mut self, value: &Value) -> Result<Vec<Scalar>, Fault> {
        let Value::Array(items) = value else { return Err(expected("a list of values", value)) };
        items.iter().enumerate().map(|(i, item)| self.at(Step::Index(i), |p| p.scalar(item))).collect()
    }

    fn scalar(&mut self, value: &Value) -> Result<Scalar, Fault> {
        const WANTED: &str = "a string, a number, a boolean or null";
        let scalar = match value {
            Value::Null => Scalar::Null,
            Value::Bool(b) => Scalar::Bool(*b),
            Value::Number(n) => Scalar::Number(Num::from_json(n).ok_or_else(|| expected(WANTED, value))?),
            Value::String(s) => Scalar::Text(Text::new(s)),
            Value::Array(_) | Value::Object(_) => return Err(expected(WANTED, value)),
        };
        self.budget.scalar(&scalar)?;
        Ok(scalar)
    }
}

/// `author.name` is two keys; `\.`, `\$` and `\\` are the characters themselves.
pub(super) fn split_path(text: &str) -> Result<Vec<String>, Fault> {
    let mut keys = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '.' => {
                keys.push(String::new());
                continue;
            }
            '\\' => match chars.next() {
                Some(c @ ('.' | '$' | '\\')) => c,
                _ => {
                    return Err(Fault::invalid(
                        "in a field's name a backslash takes a . $ or \\ after it literally; write it twice for itself",
                    ));
                }
            },
            c => c,
        };
        if let Some(key) = keys.last_mut() {
            key.push(c);
        }
    }
    Ok(keys)
}

fn unknown_operator(name: &str) -> Fault {
    let hint = match name {
        "$and" | "$or" => "it stands outside of a field: {\"$or\": [{\"year\": 1}, {\"year\": 2}]}".to_owned(),
        "$nor" => "write {\"$not\": {\"$or\": [...]}}".to_owned(),
        _ => format!(
            "known are $and $or $not, and for a field {FIELD_OPERATORS}; a field of that name is written \\{}",
            shorten(name)
        ),
    };
    Fault::invalid(format!("the operator {} is not known here: {hint}", shorten(name)))
}

fn expected(what: &str, found: &Value) -> Fault {
    Fault::invalid(format!("expected {what}, found {}", show(found)))
}

/// A value for a message.
fn show(value: &Value) -> String {
    match value {
        Value::Array(items) if items.len() > 8 => format!("a list of {} values", items.len()),
        Value::Object(map) if map.len() > 8 => format!("an object of {} keys", map.len()),
        other => shorten(&other.to_string()),
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
