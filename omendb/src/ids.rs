//! Record ids: a UTF-8 string or a `u64`, and columns of them.
//!
//! One encoding serves memory, log and segments: a kind byte (0 integer, 1 string), then the integer's eight
//! little-endian bytes or the string's bytes. So the integer 5 and the string "5" are two ids.

use crate::error::{Error, Result};
use crate::schema::MAX_ID_BYTES;
use std::fmt;

const KIND_INTEGER: u8 = 0;
const KIND_STRING: u8 = 1;

/// The id of a record, owned.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    /// An integer id.
    U64(u64),
    /// A string id: 1 to [`MAX_ID_BYTES`] bytes of UTF-8.
    Str(String),
}

/// The id of a record, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdRef<'a> {
    /// An integer id.
    U64(u64),
    /// A string id.
    Str(&'a str),
}

impl Id {
    /// Borrows the id.
    pub fn as_ref(&self) -> IdRef<'_> {
        match self {
            Id::U64(n) => IdRef::U64(*n),
            Id::Str(s) => IdRef::Str(s),
        }
    }
}

impl IdRef<'_> {
    /// An owned copy.
    pub fn to_owned(self) -> Id {
        match self {
            IdRef::U64(n) => Id::U64(n),
            IdRef::Str(s) => Id::Str(s.to_owned()),
        }
    }

    /// Refuses empty and overlong ids.
    pub fn validate(self) -> Result<()> {
        match self {
            IdRef::Str("") => {
                Err(Error::invalid("an empty id was given; an id is a string of 1 to 512 bytes or a u64"))
            }
            IdRef::Str(s) if s.len() > MAX_ID_BYTES => Err(Error::LimitExceeded(format!(
                "an id of {} bytes was given (it starts {:?}); the limit is {MAX_ID_BYTES} bytes: shorten or hash it",
                s.len(),
                s.chars().take(32).collect::<String>()
            ))),
            _ => Ok(()),
        }
    }

    /// Appends the encoded id.
    pub(crate) fn encode_into(self, out: &mut Vec<u8>) {
        match self {
            IdRef::U64(n) => {
                out.push(KIND_INTEGER);
                out.extend_from_slice(&n.to_le_bytes());
            }
            IdRef::Str(s) => {
                out.push(KIND_STRING);
                out.extend_from_slice(s.as_bytes());
            }
        }
    }

    /// The encoded id.
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16);
        self.encode_into(&mut out);
        out
    }
}

/// Reads an encoded id; `None` if the bytes are not one.
pub(crate) fn decode(bytes: &[u8]) -> Option<IdRef<'_>> {
    match bytes.split_first()? {
        (&KIND_INTEGER, rest) => Some(IdRef::U64(u64::from_le_bytes(rest.try_into().ok()?))),
        (&KIND_STRING, rest) if !rest.is_empty() && rest.len() <= MAX_ID_BYTES => {
            Some(IdRef::Str(std::str::from_utf8(rest).ok()?))
        }
        _ => None,
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

impl fmt::Display for IdRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdRef::U64(n) => write!(f, "{n}"),
            IdRef::Str(s) => f.write_str(s),
        }
    }
}

impl From<u64> for Id {
    fn from(n: u64) -> Self {
        Id::U64(n)
    }
}
impl From<&str> for Id {
    fn from(s: &str) -> Self {
        Id::Str(s.to_owned())
    }
}
impl From<String> for Id {
    fn from(s: String) -> Self {
        Id::Str(s)
    }
}
impl<'a> From<u64> for IdRef<'a> {
    fn from(n: u64) -> Self {
        IdRef::U64(n)
    }
}
impl<'a> From<&'a str> for IdRef<'a> {
    fn from(s: &'a str) -> Self {
        IdRef::Str(s)
    }
}
impl<'a> From<&'a String> for IdRef<'a> {
    fn from(s: &'a String) -> Self {
        IdRef::Str(s)
    }
}
impl<'a> From<&'a Id> for IdRef<'a> {
    fn from(id: &'a Id) -> Self {
        id.as_ref()
    }
}

/// A column of encoded ids: one buffer, and where each id ends in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdColumn {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<u32>,
}

impl IdColumn {
    /// An empty column with room for `rows` ids.
    pub fn with_capacity(rows: usize) -> Self {
        IdColumn { bytes: Vec::with_capacity(rows * 16), ends: Vec::with_capacity(rows) }
    }

    /// Appends one id. Its length is checked when the batch is handed to a collection.
    pub fn push<'a>(&mut self, id: impl Into<IdRef<'a>>) {
        id.into().encode_into(&mut self.bytes);
        // A column over 4 GiB is refused by the batch limit long before; saturating keeps this total.
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no id.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The encoded bytes of id `row`.
    pub(crate) fn encoded(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.bytes[start..self.ends[row] as usize]
    }

    /// Id `row`, if there is one.
    pub fn get(&self, row: usize) -> Option<IdRef<'_>> {
        if row < self.len() { decode_unchecked_length(self.encoded(row)) } else { None }
    }

    /// The ids in order.
    pub fn iter(&self) -> impl Iterator<Item = IdRef<'_>> {
        (0..self.len()).filter_map(|row| self.get(row))
    }
}

/// As [`decode`], for ids that have not been validated yet.
fn decode_unchecked_length(bytes: &[u8]) -> Option<IdRef<'_>> {
    match bytes.split_first()? {
        (&KIND_INTEGER, rest) => Some(IdRef::U64(u64::from_le_bytes(rest.try_into().ok()?))),
        (_, rest) => Some(IdRef::Str(std::str::from_utf8(rest).ok()?)),
    }
}

impl<'a, T: Into<IdRef<'a>>> FromIterator<T> for IdColumn {
    fn from_iter<I: IntoIterator<Item = T>>(iter: I) -> Self {
        let iter = iter.into_iter();
        let mut column = IdColumn::with_capacity(iter.size_hint().0);
        for id in iter {
            column.push(id);
        }
        column
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_and_integers_differ_from_strings() {
        let ids = [Id::from(5u64), Id::from("5"), Id::from("emoji 🙂 and spaces"), Id::from(u64::MAX)];
        let column: IdColumn = ids.iter().collect();
        assert_eq!(column.iter().map(IdRef::to_owned).collect::<Vec<_>>(), ids);
        assert_ne!(column.encoded(0), column.encoded(1));
        for id in &ids {
            assert_eq!(decode(&id.as_ref().encode()), Some(id.as_ref()));
        }
    }

    #[test]
    fn empty_and_overlong_ids_are_refused() {
        assert!(IdRef::Str("").validate().is_err());
        assert!(IdRef::Str(&"x".repeat(512)).validate().is_ok());
        assert!(IdRef::Str(&"x".repeat(513)).validate().is_err());
        assert_eq!(decode(&[1]), None);
        assert_eq!(decode(&[0, 1, 2]), None);
        assert_eq!(decode(&[1, 0xff]), None);
    }
}
