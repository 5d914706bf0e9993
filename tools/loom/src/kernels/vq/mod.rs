//! Kernels of vector quantisation.

pub mod vq_lookup;
pub mod vq_scalar;
