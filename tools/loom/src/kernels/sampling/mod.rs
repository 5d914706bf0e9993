//! Choosing tokens, described.

mod beam_step;
mod sample;
mod speculative_verify;
