//! Kernels that compare vectors.

pub mod codes;
pub mod fastscan;
pub mod gemm;
