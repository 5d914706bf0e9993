//! Ops on elements and columns.

mod activation;
mod axpby;
mod column_sums;
mod dropout;

pub use activation::{ActivationGradients, ActivationOptions};
pub use dropout::DropoutOptions;
