//! Filters over metadata: one syntax tree, two spellings, two evaluators that agree.
//!
//! A [`Filter`] is read from a JSON object ([`Filter::from_json`]) or from an SQL-style condition
//! ([`Filter::from_sql`]). [`Filter::matches`] decides one record; [`Columns::eval`] decides every row of a segment.
//!
//! # What a filter means
//! A condition is about a **path**: `author.name` goes through nested objects. Lists are transparent at every depth:
//! a path through a list of objects reaches each of them, and a path that ends in a list reaches its elements.
//! A condition holds if **some** value reached satisfies it, so `tags = 'x'` is membership; two conditions on one list
//! may be satisfied by two different elements (`BETWEEN` is two conditions). In JSON a path is split at dots, and `\.`,
//! `\$` and `\\` stand for the characters themselves; in SQL a quoted name (`"a.b"`) is one key, dots and all.
//!
//! | JSON | SQL | holds if some value reached |
//! |---|---|---|
//! | `{"p": v}`, `$eq` | `p = v` | equals v |
//! | `{"p": null}` | `p IS NULL` | is null, or nothing is reached (the field is missing) |
//! | `$gt $gte $lt $lte` | `> >= < <=` | is of v's type, number or string, and stands so to v |
//! | `$in: [..]` | `p IN (..)` | equals one of them (null as above) |
//! | `$exists: true` | `p EXISTS` | is anything at all, even null or an empty list |
//! | `$contains` | `p CONTAINS v` | is a string outside a list with v as a part, or anything else equal to v |
//! | `$startswith` | `p STARTSWITH 's'` | is a string that starts so |
//! | `$like`, `$ilike` | `p LIKE 's'`, `ILIKE` | is a string of that form (see below) |
//! | `$regex` | `p REGEXP 's'` | is a string in which the [regular expression](regex) is found |
//! | `$ne $nin $not`, `$exists: false` | `!= <>`, `NOT ..` | the exact opposite of the positive form |
//!
//! - Logic has two values. A negation is the complement: `lang != 'en'` also holds where `lang` is missing; add
//!   `lang EXISTS` to leave those out. A comparison with a missing or null field, or with a value of another type, is
//!   false.
//! - Numbers are compared exactly as numbers: `1 = 1.0`, and 9007199254740993 is not 9007199254740992.0.
//! - `true` and `false` are not numbers. Objects are never equal to anything.
//! - Strings are compared by code points, except where **both** sides are ISO-8601 dates or date-times: those are
//!   compared as instants by `=`, `!=`, `IN` and the four orderings. `2020-01-01` is its midnight; a time without an
//!   offset is UTC.
//! - In a `LIKE` pattern `%` stands for any characters, `_` for one, and `\` takes the next literally (in SQL,
//!   `ESCAPE '!'` chooses another character for that); `ILIKE` ignores case. A regular expression is found anywhere in
//!   the string, unless `^` and `$` say otherwise.
//! - An empty filter (`{}`, `TRUE`) holds for every record.
//!
//! # Limits
//! Depth, number of conditions, bytes and the cost of patterns are bounded by the constants of this module.

mod ast;
mod build;
pub(crate) mod cache;
mod columns;
mod date;
mod eval;
mod field;
mod number;
mod parse;
mod pattern;
mod rows;
mod sql;
mod values;

pub use build::ColumnsBuilder;
pub use columns::Columns;
pub(crate) use field::{Field, FieldValue};

use crate::error::{Error, Result};
use serde_json::Value;
use std::fmt;

/// Deepest nesting of `$and`, `$or`, `$not` (in SQL: of parentheses and `NOT`).
pub const MAX_DEPTH: usize = 32;
/// Most conditions, `$and`, `$or` and `$not` of one filter, together.
pub const MAX_NODES: usize = 1_000;
/// Most bytes of all names and values of one filter; a number counts as 8.
pub const MAX_OPERAND_BYTES: usize = 1 << 20;
/// Most bytes of a filter's SQL text.
pub const MAX_SQL_BYTES: usize = 4 << 20;
/// Most keys of one path.
pub const MAX_PATH_KEYS: usize = crate::schema::MAX_METADATA_DEPTH;
/// Most characters of a `LIKE` pattern or regular expression.
pub const MAX_PATTERN_CHARS: usize = 1_000;

/// A condition on a record's metadata, read and checked. Displays as SQL, which reads back as an equal filter.
///
/// ```
/// use omendb::Filter;
/// use serde_json::json;
///
/// let filter = Filter::from_json(&json!({"lang": "en", "year": {"$gte": 2020}}))?;
/// assert_eq!(filter, Filter::from_sql("lang = 'en' AND year >= 2020")?);
/// assert_eq!(filter.to_string(), "lang = 'en' AND year >= 2020");
/// assert!(filter.matches(Some(&json!({"lang": "en", "year": 2021}))));
/// assert!(!filter.matches(None));
/// # Ok::<(), omendb::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    pub(crate) root: ast::Expr,
}

impl Filter {
    /// Reads a JSON object such as `{"lang": "en", "year": {"$gte": 2020}}`. Several keys mean all of them.
    ///
    /// # Errors
    /// `InvalidInput` that names the place (`$and[1].year.$gte`) and what was expected there; `LimitExceeded` past a
    /// limit of [this module](self).
    pub fn from_json(value: &Value) -> Result<Filter> {
        Ok(Filter { root: parse::parse(value)? })
    }

    /// Reads an SQL-style condition such as `lang = 'en' AND year >= 2020`.
    ///
    /// # Errors
    /// `InvalidInput` that names the character (counted from 1), shows it with a caret and says what was expected;
    /// `LimitExceeded` past a limit of [this module](self).
    pub fn from_sql(text: &str) -> Result<Filter> {
        Ok(Filter { root: sql::parse(text)? })
    }

    /// Whether a record with this metadata (`None`: it has none) passes.
    pub fn matches(&self, metadata: Option<&Value>) -> bool {
        eval::matches(&self.root, metadata)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl std::str::FromStr for Filter {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        Filter::from_sql(s)
    }
}
