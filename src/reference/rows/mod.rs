//! Ops on rows.

pub mod softmax;
pub mod softmax_backward;
