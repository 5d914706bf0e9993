//! Ops on elements and columns.

mod activation;
mod axpby;
mod column_sums;
mod dropout;
