//! One module per kernel: Problem, Config + choose, Params, Buffers, prepare.

pub mod rope;
pub mod softmax;
