//! How calls of the family `rows` are made and judged.

pub mod norm;
pub mod norm_backward;
pub mod quantize;
pub mod softmax;
pub mod softmax_backward;
