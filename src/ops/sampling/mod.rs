//! Kernels that choose tokens.

pub mod advance;
pub mod beam_step;
pub mod sample;
pub mod speculative_tree;
pub mod speculative_verify;
mod tiles;
