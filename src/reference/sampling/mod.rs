//! Choosing tokens.

pub mod advance;
pub mod beam_step;
pub mod philox;
pub mod sample;
pub mod speculative_tree;
pub mod speculative_verify;
