//! Ops on rows.

pub mod norm;
pub mod softmax;
pub mod softmax_backward;
