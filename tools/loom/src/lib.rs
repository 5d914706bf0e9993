//! What `loom` and the tests share: adapters, kernel calls with their oracles, case files, benchmarks.
//!
//! Each kernel has one file of its stem in `kernels/`; each command one of its own name.

pub mod adapters;
pub mod bench;
pub mod case;
pub mod check;
pub mod cli;
pub mod gpu;
pub mod kernels;
pub mod matrix;
pub mod memory;
pub mod random;
pub mod report;
pub mod results;
pub mod roofline;
pub mod run;
pub mod stats;
pub mod table;

mod progress;

pub use gpu::Gpu;
