pub mod softmax;
pub mod softmax_backward;
