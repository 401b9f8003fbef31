//! Indexes over the rows of a sealed segment.

pub mod graph;
