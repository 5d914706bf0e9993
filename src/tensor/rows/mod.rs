//! Ops on rows.

mod norm;
mod norm_backward;
mod softmax;
mod softmax_backward;

pub use norm::{NormInput, NormOptions};
pub use norm_backward::NormGradients;
pub use softmax::{SoftmaxMask, SoftmaxOptions};
