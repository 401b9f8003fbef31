//! The syntax tree both spellings are read into, in a normal form, and its way back to SQL.

use super::date::{self, Instant};
use super::number::Num;
use super::pattern::{Like, Pattern};
use super::{MAX_NODES, MAX_OPERAND_BYTES, MAX_PATH_KEYS};
use std::cmp::Ordering;
use std::fmt;

/// A condition. Normal form: `And` in no `And`, `Or` in no `Or`, `Not` in no `Not`, and neither `And` nor `Or` of one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    /// All of them; of none: always.
    And(Vec<Expr>),
    /// One of them at least; of none: never.
    Or(Vec<Expr>),
    /// The opposite.
    Not(Box<Expr>),
    /// Some value reached by the path passes.
    Test(Path, Test),
}

impl Expr {
    pub fn and(parts: Vec<Expr>) -> Expr {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Expr::And(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.remove(0) } else { Expr::And(flat) }
    }

    pub fn or(parts: Vec<Expr>) -> Expr {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Expr::Or(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.remove(0) } else { Expr::Or(flat) }
    }

    pub fn negate(self) -> Expr {
        match self {
            Expr::Not(inner) => *inner,
            other => Expr::Not(Box::new(other)),
        }
    }
}

/// The keys from the metadata's top to a field; at least one, none empty.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Path(Vec<String>);

impl Path {
    pub fn new(keys: Vec<String>) -> Result<Path, Fault> {
        if keys.is_empty() || keys.iter().any(String::is_empty) {
            return Err(Fault::invalid("a field's name is empty; expected a name such as year or author.name"));
        }
        if keys.len() > MAX_PATH_KEYS {
            return Err(Fault::limit(format!("a path of {} keys was given; the limit is {MAX_PATH_KEYS}", keys.len())));
        }
        Ok(Path(keys))
    }

    pub fn keys(&self) -> &[String] {
        &self.0
    }

    pub fn bytes(&self) -> usize {
        self.0.iter().map(String::len).sum()
    }
}

/// What a value must be like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    Equal(Scalar),
    /// Stands so to a number or text.
    Order(Order, Scalar),
    In(Vec<Scalar>),
    Exists,
    /// Never of null.
    Contains(Scalar),
    StartsWith(String),
    Like(Like),
    Regex(Pattern),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Order {
    /// Whether a value that compares so to the operand passes.
    pub fn accepts(self, ordering: Ordering) -> bool {
        match self {
            Order::Less => ordering.is_lt(),
            Order::LessEqual => ordering.is_le(),
            Order::Greater => ordering.is_gt(),
            Order::GreaterEqual => ordering.is_ge(),
        }
    }

    pub fn symbol(self) -> &'static str {
        match self {
            Order::Less => "<",
            Order::LessEqual => "<=",
            Order::Greater => ">",
            Order::GreaterEqual => ">=",
        }
    }
}

/// An operand.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Number(Num),
    Text(Text),
}

/// A text operand, and the moment it names if it is a date.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Text {
    pub value: String,
    pub instant: Option<Instant>,
}

impl Text {
    pub fn new(value: impl Into<String>) -> Text {
        let value = value.into();
        Text { instant: date::parse(&value), value }
    }

    /// A record's text against this one: as instants if both are dates, by code points otherwise.
    pub fn compare(&self, record: &str) -> Ordering {
        if let Some(mine) = self.instant
            && let Some(theirs) = date::parse(record)
        {
            return theirs.cmp(&mine);
        }
        // The order of UTF-8 bytes is the order of code points.
        record.cmp(&self.value)
    }
}

/// What is wrong with a filter; the parser that meets it adds where.
#[derive(Debug)]
pub(crate) struct Fault {
    pub what: String,
    /// A documented limit, not a malformed filter.
    pub limit: bool,
}

impl Fault {
    pub fn invalid(what: impl Into<String>) -> Fault {
        Fault { what: what.into(), limit: false }
    }

    pub fn limit(what: impl Into<String>) -> Fault {
        Fault { what: what.into(), limit: true }
    }
}

/// Counts what a filter is made of, and refuses it past a limit.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    nodes: usize,
    bytes: usize,
}

impl Budget {
    pub fn node(&mut self) -> Result<(), Fault> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Fault::limit(format!(
                "the filter has more than {MAX_NODES} conditions; put many values of one field into one $in"
            )));
        }
        Ok(())
    }

    pub fn operand(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MAX_OPERAND_BYTES {
            return Err(Fault::limit(format!(
                "the filter's names and values are larger than {MAX_OPERAND_BYTES} bytes"
            )));
        }
        Ok(())
    }

    pub fn scalar(&mut self, scalar: &Scalar) -> Result<(), Fault> {
        self.operand(match scalar {
            Scalar::Text(text) => text.value.len().max(8),
            _ => 8,
        })
    }
}

/// The words that SQL does not read as a field's name unless they are quoted.
pub(crate) const KEYWORDS: [&str; 16] = [
    "AND",
    "OR",
    "NOT",
    "IN",
    "BETWEEN",
    "LIKE",
    "ILIKE",
    "IS",
    "NULL",
    "CONTAINS",
    "STARTSWITH",
    "REGEXP",
    "EXISTS",
    "TRUE",
    "FALSE",
    "ESCAPE",
];

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::And(parts) if parts.is_empty() => f.write_str("TRUE"),
            Expr::Or(parts) if parts.is_empty() => f.write_str("FALSE"),
            Expr::And(parts) => {
                for (i, part) in parts.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { " AND " })?;
                    match part {
                        Expr::Or(inner) if !inner.is_empty() => write!(f, "({part})")?,
                        _ => part.fmt(f)?,
                    }
                }
                Ok(())
            }
            Expr::Or(parts) => {
                for (i, part) in parts.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { " OR " })?;
                    part.fmt(f)?;
                }
                Ok(())
            }
            Expr::Not(inner) => match &**inner {
                Expr::Test(path, test) => write_test(f, path, test, true),
                other => write!(f, "NOT ({other})"),
            },
            Expr::Test(path, test) => write_test(f, path, test, false),
        }
    }
}

fn write_test(f: &mut fmt::Formatter<'_>, path: &Path, test: &Test, negated: bool) -> fmt::Result {
    let not = if negated { "NOT " } else { "" };
    match test {
        Test::Equal(Scalar::Null) => write!(f, "{path} IS {not}NULL"),
        Test::Equal(scalar) => write!(f, "{path} {} {scalar}", if negated { "!=" } else { "=" }),
        Test::Order(order, scalar) => write!(f, "{not}{path} {} {scalar}", order.symbol()),
        Test::In(list) => {
            write!(f, "{path} {not}IN (")?;
            for (i, scalar) in list.iter().enumerate() {
                write!(f, "{}{scalar}", if i == 0 { "" } else { ", " })?;
            }
            f.write_str(")")
        }
        Test::Exists => write!(f, "{path} {not}EXISTS"),
        Test::Contains(scalar) => write!(f, "{path} {not}CONTAINS {scalar}"),
        Test::StartsWith(prefix) => write!(f, "{path} {not}STARTSWITH {}", Quoted(prefix, '\'')),
        Test::Like(like) => {
            let word = if like.ignores_case() { "ILIKE" } else { "LIKE" };
            write!(f, "{path} {not}{word} {}", Quoted(&like.to_string(), '\''))
        }
        Test::Regex(pattern) => write!(f, "{path} {not}REGEXP {}", Quoted(pattern.source(), '\'')),
    }
}

/// A text between quotation marks, each one inside doubled.
struct Quoted<'a>(&'a str, char);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        f.write_char(self.1)?;
        for c in self.0.chars() {
            if c == self.1 {
                f.write_char(c)?;
            }
            f.write_char(c)?;
        }
        f.write_char(self.1)
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Null => f.write_str("NULL"),
            Scalar::Bool(true) => f.write_str("TRUE"),
            Scalar::Bool(false) => f.write_str("FALSE"),
            Scalar::Number(number) => number.fmt(f),
            Scalar::Text(text) => Quoted(&text.value, '\'').fmt(f),
        }
    }
}

pub(crate) fn starts_name(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

pub(crate) fn continues_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, key) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "." })?;
            let plain = key.starts_with(starts_name) && key.chars().all(continues_name);
            if plain && !KEYWORDS.iter().any(|word| key.eq_ignore_ascii_case(word)) {
                f.write_str(key)?;
            } else {
                Quoted(key, '"').fmt(f)?;
            }
        }
        Ok(())
    }
}
