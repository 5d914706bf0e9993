//! One module per kernel: Problem, Config + choose, Params, Buffers, prepare.

pub mod gemm;
pub mod rope;
pub mod softmax;
