//! Ops on rows.

mod softmax;
mod softmax_backward;

pub use softmax::{SoftmaxMask, SoftmaxOptions};
