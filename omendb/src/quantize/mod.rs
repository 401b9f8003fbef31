//! Short codes that stand for vectors.

pub mod rotation;
pub mod scalar;

pub use scalar::ScalarQuantizer;
