//! One module per kernel: Problem, Config + choose, Params, Buffers, prepare.

pub mod attention_bias;
pub mod gemm;
pub mod position_encoding;
pub mod rope;
pub mod softmax;
pub mod softmax_backward;
