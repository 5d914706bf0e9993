//! Ops on elements and columns.

pub mod activation;
pub mod activation_backward;
pub mod axpby;
pub mod column_sums;
pub mod dropout;
