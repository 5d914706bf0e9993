//! Calls that run on the first adapter, on data of any kind. Where there is no adapter, none does, and that is a failure.

use std::process::ExitCode;
use std::sync::Arc;

use fuzz::gpu::Gpu;
use fuzz::session;
use tileloom::kernels::Rewrite;

const NO_ADAPTER: &str = "no adapter was found: see tools/drivers";

/// A bound that lets in one index too many.
fn one_too_many(_: &str, source: String) -> String {
    source.replace("code < params.num_codes {", "code <= params.num_codes {")
}

fn main() -> ExitCode {
    let broken = || vec![Gpu::first(Some(Rewrite(Arc::new(one_too_many)))).expect(NO_ADAPTER)];
    if !session::shows(broken, "vq_lookup", 100) {
        println!("a wrong bound in vq_lookup is not found");
        return ExitCode::FAILURE;
    }
    session::run(|| vec![Gpu::first(None).expect(NO_ADAPTER)])
}
