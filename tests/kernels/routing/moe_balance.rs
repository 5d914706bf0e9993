//! The loss that balances experts on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use tileloom::moe_balance::{self, Buffers, Problem, Score};
use tileloom::{BalanceOptions, Context, Error, ErrorKind, Layout};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("moe_balance", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", tensors);
    suite.case("starts that fall stay in bounds", falling);
    suite.case("no tokens: no loss", no_tokens);
}

fn no_tokens(gpu: &Gpu) -> Result<(), String> {
    let problem = Problem { n: 0, experts: 8, top_k: 2, sequences: 3, starts: Some(0), ..Problem::default() };
    Call::random(Problem { dlogits: Some(Layout::default()), ..problem }, 1).check(gpu, &gpu.kernels, None).map(drop)
}

/// What they give has no meaning, but every loss and gradient is written, and nothing else.
fn falling(gpu: &Gpu) -> Result<(), String> {
    let problem = Problem { n: 40, experts: 8, top_k: 2, sequences: 4, starts: Some(0), ..Problem::default() };
    let call = Call::random(Problem { dlogits: Some(Layout::default()), ..problem }, 1);
    let call = call.with("starts", vec![9.0, 40.0, u32::MAX.into(), 3.0, 1.0]);
    for kernels in [&gpu.kernels, gpu.checked()] {
        let output = call.run(gpu, kernels, None)?;
        if output.values.values().flatten().any(|v| v.is_nan()) {
            return Err(format!("{:?}", output.values));
        }
    }
    Ok(())
}

/// Shares 1/4, 3/4 and 1/2, 1/2; both tokens chose expert 1: f = [0, 2], P = [3/8, 5/8].
fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let logits = context.upload(&[0f32, 3f32.ln(), 7.0, 7.0], &[2, 2])?;
        let chosen = context.upload(&[1u32, 1], &[2, 1])?;
        let starts = context.upload(&[0u32, 2], &[2])?;
        let even = BalanceOptions { score: Score::Softmax, alpha: 0.5, sequences: 1, starts: None };
        for options in [even, BalanceOptions { sequences: 9, starts: Some(&starts), ..even }] {
            let balanced = logits.moe_balance(&chosen, &options)?;
            let loss = pollster::block_on(balanced.loss.read())?;
            assert!(loss.len() == 1 && (loss[0] - 0.625).abs() < 1e-6, "{loss:?}");
            // 1/2 (0.5 * 2) s' (g - sum g s'), g = [0, 1]: -3/32, 3/32, -1/8, 1/8.
            let gradient = pollster::block_on(balanced.dlogits.read())?;
            for (have, want) in gradient.iter().zip([-0.09375f32, 0.09375, -0.125, 0.125]) {
                assert!((have - want).abs() < 1e-6, "{gradient:?}");
            }
        }
        let error = logits.moe_balance(&starts, &even).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "chosen", .. }));
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [logits, chosen, loss] = [24, 12, 2].map(|words| gpu.buffer(&vec![0; words * 4]));
    let good = Problem { n: 6, experts: 4, top_k: 2, sequences: 2, ..Problem::default() };
    let buffers = Buffers::new(&logits, &chosen, &loss);
    let prepare = |problem: &Problem| moe_balance::prepare(&gpu.kernels, problem, buffers);
    prepare(&good).map_err(|error| error.to_string())?;
    for (arg, problem) in [
        ("experts", Problem { experts: 0, ..good }),
        ("top_k", Problem { top_k: 5, ..good }),
        ("sequences", Problem { sequences: 0, ..good }),
        ("n", Problem { sequences: 4, ..good }),
        ("alpha", Problem { alpha: f32::NAN, ..good }),
        ("dlogits", Problem { dlogits: Some(Layout::strided(0, [3])), ..good }),
    ] {
        invalid(arg, prepare(&problem))?;
    }
    refused("many tokens", prepare(&Problem { n: 8, ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "logits", need: 128, have: 96 })
    })?;
    refused("no starts", prepare(&Problem { starts: Some(0), ..good }), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "starts" })
    })?;
    let scratch = gpu.buffer(&[0; 4]);
    refused("little scratch", moe_balance::prepare(&gpu.kernels, &good, buffers.scratch(&scratch)), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "scratch", have: 4, .. })
    })?;
    refused("aliased", moe_balance::prepare(&gpu.kernels, &good, Buffers::new(&logits, &chosen, &chosen)), |error| {
        matches!(error.kind, ErrorKind::Aliased { .. })
    })
}
