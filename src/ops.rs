//! One module per kernel: Problem, Config + choose, Params, Buffers, prepare.

pub mod attention;
pub mod attention_merge;
pub mod rope;
pub mod softmax;
