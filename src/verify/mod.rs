//! Is this op right on this adapter?

#![allow(missing_docs)]

#[doc(hidden)]
pub mod attention;
#[doc(hidden)]
pub mod call;
#[doc(hidden)]
pub mod flush;
#[doc(hidden)]
pub mod gemm;
#[doc(hidden)]
pub mod image;
#[doc(hidden)]
pub mod mask;
#[doc(hidden)]
pub mod packed;
#[doc(hidden)]
pub mod position;
#[doc(hidden)]
pub mod random;
#[doc(hidden)]
pub mod rows;
#[doc(hidden)]
pub mod rule;
#[doc(hidden)]
pub mod sampling;
#[doc(hidden)]
pub mod sort;
#[doc(hidden)]
pub mod vq;

#[doc(hidden)]
pub use call::Describe;

const OP: &str = "verify";
