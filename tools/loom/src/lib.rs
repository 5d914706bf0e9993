//! What `loom` and the tests share: adapters, kernel calls with their oracles, case files, benchmarks.
//!
//! Each kernel has one file of its stem in `kernels/`.

pub mod gpu;
pub mod kernels;
pub mod memory;
pub mod random;
pub mod report;

pub use gpu::Gpu;
