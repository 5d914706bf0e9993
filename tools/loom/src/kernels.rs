//! The kernels that `loom` knows, one file each.

pub mod softmax;
