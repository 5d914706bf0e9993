//! What the compilers of GPUs make of a shader, without the GPU: Mesa's drivers compile for a GPU that is not there, and
//! tell. [`targets`] has the GPUs, [`compile`] asks a driver, [`aco`], [`nak`], [`agx`] and [`ir3`] read what it prints,
//! [`loops`] finds and counts the main loop, [`model`] estimates, [`report`] tells.

pub mod aco;
pub mod agx;
#[cfg(target_os = "linux")]
pub mod compile;
pub mod ir3;
pub mod loops;
pub mod model;
pub mod nak;
pub mod program;
pub mod report;
pub mod targets;
