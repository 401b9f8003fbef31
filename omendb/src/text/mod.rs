//! Full text: how is stored text turned into terms, indexed, queried and shown?
//!
//! Each segment and each block of a memtable has an inverted index of its texts. All of it is derived: the stored text
//! is the one source of truth, and an index that is missing or damaged is made again from it.

pub(crate) mod analyzer;
mod exclude;
pub(crate) mod expand;
pub(crate) mod file;
pub(crate) mod index;
pub(crate) mod merge;
pub(crate) mod parse;
pub(crate) mod search;
pub(crate) mod snippet;

pub use analyzer::{Analyzer, Language};
pub use snippet::Snippet;
