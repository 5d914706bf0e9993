//! Ops on elements and columns.

mod activation;
mod activation_backward;
mod axpby;
mod column_sums;
mod dropout;
