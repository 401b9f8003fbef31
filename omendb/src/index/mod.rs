//! How the nearest rows of one block or segment are found.

pub(crate) mod derived;
pub(crate) mod file;
pub mod flat;
pub mod graph;
