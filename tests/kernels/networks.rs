//! Networks agree with f64: those of examples/networks. `tools/networks` fetches the weights.

use std::path::Path;

use tileloom::Context;

use crate::{Depth, Suite};

#[path = "../../examples/networks/main.rs"]
mod networks;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("networks", cases);

type Check = fn(&Context, &Path) -> networks::Result<networks::Agreement>;

fn cases(suite: &mut Suite) {
    let folder = Path::new("target/networks");
    // Whether there are weights to fetch. What each driver must see is the first.
    let checks: [(&str, bool, Check); 3] = [
        ("silero_vad", true, networks::silero_vad::check),
        ("esrgan_slim", true, networks::esrgan::check),
        ("gcn", false, networks::gcn::check),
    ];
    let seen = if suite.depth == Depth::Narrow { 1 } else { checks.len() };
    for (name, fetched, check) in checks.into_iter().take(seen) {
        let lack = (fetched && !folder.join(name).is_dir()).then_some("tools/networks has not fetched its weights");
        suite.case_unless(lack, name, move |gpu| {
            let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
            let agreement = check(&context, folder).map_err(|error| error.to_string())?;
            if agreement.error > agreement.tolerance { Err(format!("{agreement:?}")) } else { Ok(()) }
        });
    }
}
