//! How calls of the family `vq` are made and judged.

pub mod vq_assign;
pub mod vq_lookup;
pub mod vq_scalar;
pub mod vq_scatter;
pub mod vq_train;
pub mod vq_train_gradient;
