//! Calls of ops with any Problem, Config and Buffers: on devices of wgpu's noop backend, which validates and runs nothing, and on
//! an adapter, with data of any kind.
//!
//! A call must be refused by an error that can be followed, or end in a dispatch that records and submits without a
//! complaint of wgpu's. Nothing may panic, and nothing may reach the device's handler of uncaptured errors.

pub mod call;
pub mod data;
pub mod dice;
pub mod gpu;
pub mod ops;
pub mod session;
pub mod tensors;
