//! Ops on rows.

pub(super) mod softmax;
pub(super) mod softmax_backward;
