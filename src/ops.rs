//! One module per kernel: Problem, Config + choose, Params, Buffers, prepare.

pub mod attention;
pub mod attention_bias;
pub mod attention_merge;
pub mod gemm;
pub mod position_encoding;
pub mod rope;
pub mod softmax;
pub mod softmax_backward;
pub mod vq_assign;
pub mod vq_lookup;
pub mod vq_scalar;
pub mod vq_scatter;
pub mod vq_train;
