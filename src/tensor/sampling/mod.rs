//! Ops that choose tokens, on tensors.

mod beam_step;
mod sample;
mod speculative_tree;
mod speculative_verify;

pub use beam_step::{BeamOptions, Beams};
pub use sample::SampleOptions;
pub use speculative_tree::{TreeOptions, TreeVerified};
pub use speculative_verify::Verified;
