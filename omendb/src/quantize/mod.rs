//! Short codes that stand for vectors.

pub mod bits;
pub mod coder;
pub mod product;
pub mod projection;
pub mod rotation;
pub mod scalar;

pub use scalar::ScalarQuantizer;
