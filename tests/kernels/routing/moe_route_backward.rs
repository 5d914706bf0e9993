//! The gradient of routing on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use tileloom::moe_route;
use tileloom::moe_route_backward::{Buffers, Problem, Score, prepare};
use tileloom::{Context, Error, ErrorKind, Layout, RouteOptions};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("moe_route_backward", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", tensors);
    suite.case("of what moe_route has chosen", chosen);
}

/// Logits and experts of a forward call; as DeepSeek-V3 routes, and by softmax.
fn chosen(gpu: &Gpu) -> Result<(), String> {
    let softmax = moe_route::Problem { n: 21, experts: 32, top_k: 4, ..Default::default() };
    let grouped = moe_route::Problem { groups: 8, top_groups: 4, bias: Some(0), ..softmax };
    let deepseek = moe_route::Problem { score: Score::Sigmoid, scale: 2.5, ..grouped };
    for forward in [softmax, moe_route::Problem { normalize: false, ..softmax }, deepseek] {
        let call = Call::random(forward, 3);
        let (output, _) = call.check(gpu, &gpu.kernels, None)?;
        let backward = Call::random(moe_route::backward(&forward), 5);
        let backward = backward.with("logits", call.values["logits"].clone());
        backward.with("chosen", output.values["experts"].clone()).check(gpu, &gpu.kernels, None)?;
    }
    Ok(())
}

/// Softmax over the chosen two, 1/4 and 3/4: p (g - sum p g) = 1/4 (4 - 1), 3/4 (0 - 1).
fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let logits = context.upload(&[0f32, 9.0, 3f32.ln()], &[1, 3])?;
        let (experts, dweights) = (context.upload(&[0u32, 2], &[1, 2])?, context.upload(&[4f32, 0.0], &[1, 2])?);
        let dlogits = logits.moe_route_backward(&experts, &dweights, &RouteOptions::new(2))?;
        let dlogits = pollster::block_on(dlogits.read())?;
        let near = dlogits.iter().zip([0.75f32, 0.0, -0.75]).all(|(have, want)| (have - want).abs() < 1e-6);
        assert!(near, "{dlogits:?}");
        let error = logits.moe_route_backward(&experts, &dweights, &RouteOptions::new(1)).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "chosen", .. }));
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// Every way to be refused, once.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [logits, chosen, dweights, dlogits] = [24, 12, 12, 24].map(|words| gpu.buffer(&vec![0; words * 4]));
    let good = Problem { n: 6, experts: 4, top_k: 2, ..Problem::default() };
    let with = Buffers::new(&logits, &chosen, &dweights, &dlogits);
    let tried = |problem: &Problem, buffers| prepare(&gpu.kernels, problem, buffers).map(drop);
    tried(&good, with).map_err(|error| error.to_string())?;
    for (arg, problem) in [
        ("experts", Problem { experts: 0, ..good }),
        ("experts", Problem { experts: 4097, ..good }),
        ("top_k", Problem { top_k: 5, ..good }),
        ("scale", Problem { scale: f32::INFINITY, ..good }),
        ("dlogits", Problem { dlogits: Layout::strided(0, [3]), ..good }),
    ] {
        invalid(arg, prepare(&gpu.kernels, &problem, with))?;
    }
    refused("many tokens", tried(&Problem { n: 8, ..good }, with), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "logits", need: 128, have: 96 })
    })?;
    let over = Buffers::new(&logits, &chosen, &dweights, &logits);
    refused("aliased", tried(&good, over), |error| matches!(error.kind, ErrorKind::Aliased { .. }))
}
