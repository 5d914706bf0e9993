//! Kernels of vector quantisation.

pub mod vq_lookup;
