//! Kernels that choose tokens.

pub mod sample;
