//! What `loom` and the tests share: kernels described once, the harness that runs them, case files, benchmarks.
//!
//! Each kernel has one file of its stem in `kernels/<family>/`; each command one of its own name in `commands/`.

pub mod case;
pub mod commands;
pub mod faults;
pub mod figures;
pub mod gguf;
pub mod gpu;
pub mod harness;
pub mod isa;
pub mod kernel;
pub mod kernels;
pub mod layer;
pub mod models;
pub mod packed;
pub mod pool;
pub mod registry;
pub mod report;
pub mod roofline;
pub mod runner;
pub mod stats;
pub mod table;
pub mod timer;
pub mod tune;
pub mod weights;

mod progress;

pub use gpu::Gpu;
pub use tileloom::verify::{flush, image, random};
