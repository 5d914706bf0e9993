//! Kernels that go over rows.

pub mod norm;
pub mod norm_backward;
pub mod softmax;
