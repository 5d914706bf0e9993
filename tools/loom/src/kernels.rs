//! The kernels, described, a folder per family.

pub mod attention;
pub mod conv;
pub mod gemm;
pub mod mask;
pub mod pointwise;
pub mod position;
pub mod routing;
pub mod rows;
mod sampling;
pub mod sort;
pub mod vq;
