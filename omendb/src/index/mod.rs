//! How the nearest rows of one block or segment are found.

pub mod flat;
