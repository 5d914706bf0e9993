//! Choosing tokens.

pub mod philox;
pub mod sample;
