//! Short codes that stand for vectors.

pub mod projection;
pub mod rotation;
pub mod scalar;

pub use scalar::ScalarQuantizer;
