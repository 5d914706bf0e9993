//! Gradients of adapters on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use loom::kernels::gemm::lora_backward::of;
use tileloom::lora_backward::{Buffers, Config, Problem, prepare, prepare_with};
use tileloom::{Dtype, ErrorKind, lora};

use crate::{Suite, refused};

use Dtype::F32;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("lora_backward", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("those of a product, by every Config", |gpu| {
        for adapters in [1, 3] {
            let product = loom::kernels::gemm::lora::of(20, 12, 36, 5, adapters, F32);
            let factors = lora::backward(&product).map_err(|error| error.to_string())?.factors;
            let call = Call::random(factors, 4);
            for ranks in [4, 8] {
                let config = Config { wg_size: 32, ranks, native_f16: false };
                call.check(gpu, &gpu.kernels, Some(&config))?;
            }
            call.check(gpu, &gpu.kernels, None)?;
        }
        Ok(())
    });
}

fn errors(gpu: &Gpu) -> Result<(), String> {
    let [x, dy, a, b, da, db, adapter] = [64, 64, 64, 64, 64, 64, 8].map(|words| gpu.buffer(&vec![0; words * 4]));
    let good = of(8, 8, 8, 4, 2, F32);
    let with = Buffers::new(&x, &dy, &a, &b, &da, &db).adapter(&adapter);
    let tried = |problem: &Problem, buffers| prepare(&gpu.kernels, problem, buffers).map(drop);
    tried(&good, with).map_err(|error| error.to_string())?;
    for rank in [0, 257] {
        let none = tried(&Problem { rank, ..good }, with);
        refused("rank", none, |error| matches!(error.kind, ErrorKind::InvalidProblem { arg: "rank", .. }))?;
    }
    let none = tried(&Problem { scale: f32::NAN, ..good }, with);
    refused("scale", none, |error| matches!(error.kind, ErrorKind::InvalidProblem { arg: "scale", .. }))?;
    let missing = tried(&good, Buffers::new(&x, &dy, &a, &b, &da, &db));
    refused("missing", missing, |error| matches!(error.kind, ErrorKind::MissingBuffer { buffer: "adapter" }))?;
    let small = tried(&Problem { da: 1, ..good }, with);
    refused("da", small, |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "da", need: 260, have: 256 })
    })?;
    for over in [Buffers::new(&x, &dy, &a, &b, &da, &da), Buffers::new(&x, &dy, &a, &b, &x, &db)] {
        let aliased = tried(&good, over.adapter(&adapter));
        refused("aliased", aliased, |error| matches!(error.kind, ErrorKind::Aliased { .. }))?;
    }
    let unfit = prepare_with(&gpu.kernels, &good, &Config { wg_size: 32, ranks: 6, native_f16: false }, with);
    refused("ranks", unfit.map(drop), |error| matches!(error.kind, ErrorKind::ConfigUnfit { .. }))
}
