//! Networks agree with f64: those of examples/networks, whose weights `tools/networks` fetches, and examples/vqgan.

use std::path::Path;

use loom::Gpu;
use tileloom::Context;

use crate::{Depth, Suite};

#[path = "../../examples/networks/main.rs"]
mod shipped;
#[path = "../../examples/vqgan/main.rs"]
mod vqgan;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("networks", cases);

type Check = fn(&Context, &Path) -> shipped::Result<shipped::Agreement>;

fn cases(suite: &mut Suite) {
    let folder = Path::new("target/networks");
    // Name, whether it needs fetched weights, check. The narrow suite has the first only.
    let checks: [(&str, bool, Check); 3] = [
        ("silero_vad", true, shipped::silero_vad::check),
        ("esrgan_slim", true, shipped::esrgan::check),
        ("gcn", false, shipped::gcn::check),
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
    let sizes: &[[usize; 2]] = match suite.depth {
        Depth::Narrow => &[],
        Depth::Wide => &[[4, 4]],
        Depth::Full => &[[4, 4], [16, 16]],
    };
    for &size in sizes {
        let [height, width] = size.map(|codes| codes * vqgan::RATIO);
        suite.case(format!("vqgan of f16-16384's shape, {width} x {height} pixels"), move |gpu| {
            let shape = vqgan::F16_16384;
            decoded(gpu, shape, &shape.random(1), size)
        });
    }
    if suite.depth != Depth::Narrow {
        suite.case("vqgan of few channels, from a file of safetensors in f16", |gpu| {
            let path = std::env::temp_dir().join(format!("tileloom-vqgan-{}.safetensors", std::process::id()));
            let read = vqgan::NARROW.random(2).save(&path).and_then(|()| vqgan::weights::Weights::safetensors(&path));
            let removed = std::fs::remove_file(&path);
            let weights = read.map_err(|error| error.to_string())?;
            removed.map_err(|error| error.to_string())?;
            decoded(gpu, vqgan::NARROW, &weights, [2, 3])
        });
    }
}

fn decoded(gpu: &Gpu, shape: vqgan::Shape, weights: &vqgan::weights::Weights, size: [usize; 2]) -> Result<(), String> {
    let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
    let agreement = vqgan::check(&context, shape, weights, size).map_err(|error| error.to_string())?;
    if agreement.error > vqgan::TOLERANCE { Err(format!("{agreement:?}")) } else { Ok(()) }
}
