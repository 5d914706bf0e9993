//! Vector quantisation.

pub(super) mod vq_assign;
pub(super) mod vq_lookup;
