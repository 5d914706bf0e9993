//! SmolLM2, and other llama-shaped models, by tileloom's kernels: from a GGUF file to words. The README tells what it does and how fast.

pub mod adapter;
pub mod bench;
pub mod cache;
pub mod chat;
pub mod gguf;
pub mod gpu;
pub mod model;
pub mod session;
pub mod speculate;
pub mod step;
pub mod tokens;

pub type Error = Box<dyn std::error::Error>;
pub type Result<T> = std::result::Result<T, Error>;
