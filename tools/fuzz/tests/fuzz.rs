//! Calls on devices of wgpu's noop backend, which validates and runs nothing.

use std::process::ExitCode;

use fuzz::gpu::{DEVICES, Gpu};

fn main() -> ExitCode {
    fuzz::session::run(|| DEVICES.into_iter().map(Gpu::open).collect())
}
