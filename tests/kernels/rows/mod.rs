pub mod mtp;
pub mod norm;
pub mod norm_backward;
pub mod quantize;
pub mod softmax;
pub mod softmax_backward;
