//! Kernels that go over rows.

pub mod softmax;
