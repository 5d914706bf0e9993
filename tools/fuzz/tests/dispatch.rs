//! Calls that run on the first adapter, on data of any kind. Where there is no adapter, none does, and that is a failure.

use std::process::ExitCode;

use fuzz::gpu::Gpu;

fn main() -> ExitCode {
    fuzz::session::run(|| vec![Gpu::first().expect("no adapter was found: see tools/drivers")])
}
