//! How calls of the family `sampling` are made and judged.

pub mod advance;
pub mod beam_step;
pub mod sample;
pub mod speculative_tree;
pub mod speculative_verify;
