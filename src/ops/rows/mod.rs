//! Ops that reduce each row to a few numbers and then write it.

pub mod norm;
pub mod norm_backward;
pub mod quantize;
pub mod softmax;
pub mod softmax_backward;
mod tile;
