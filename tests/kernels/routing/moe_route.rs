//! Routing of tokens on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use tileloom::moe_route::{self, Buffers, Problem};
use tileloom::{Context, Error, ErrorKind, RouteOptions};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("moe_route", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", tensors);
    suite.case("no tokens: all runs are empty", no_tokens);
}

fn no_tokens(gpu: &Gpu) -> Result<(), String> {
    let problem = Problem { n: 0, experts: 5, top_k: 2, counts: Some(1), ..Problem::default() };
    Call::random(problem, 1).check(gpu, &gpu.kernels, None).map(drop)
}

/// Two tokens, three experts; what is sorted is what grouped products read.
fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let logits = context.upload(&[0f32, 2.0, 1.0, 5.0, 5.0, 0.0], &[2, 3])?;
        let routed = logits.moe_route(&RouteOptions::new(2))?;
        let read = |t: &tileloom::Tensor<u32>| pollster::block_on(t.read());
        assert_eq!(read(&routed.experts)?, [1, 2, 0, 1]);
        assert_eq!(read(&routed.order)?, [2, 0, 3, 1]);
        assert_eq!(read(&routed.offsets)?, [0, 1, 3, 4]);
        assert_eq!(read(&routed.counts)?, [1, 2, 1]);
        let weights = pollster::block_on(routed.weights.read())?;
        assert!(weights[2..] == [0.5, 0.5] && (weights[0] - 0.731_058_6).abs() < 1e-6, "{weights:?}");
        let bias = context.upload(&[9f32, 0.0, 0.0], &[3])?;
        let biased = RouteOptions { bias: Some(&bias), ..RouteOptions::new(1) };
        assert_eq!(read(&logits.moe_route(&biased)?.experts)?, [0, 0]);
        let few = context.upload(&[0f32; 2], &[2])?;
        let error = logits.moe_route(&RouteOptions { bias: Some(&few), ..RouteOptions::new(1) }).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "bias", .. }));
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [logits, chosen, weights, order, offsets] = [32, 8, 8, 8, 9].map(|words| gpu.buffer(&vec![0; words * 4]));
    let good = Problem { n: 4, experts: 8, top_k: 2, ..Problem::default() };
    let buffers = Buffers::new(&logits, &chosen, &weights, &order, &offsets);
    let prepare = |problem: &Problem| moe_route::prepare(&gpu.kernels, problem, buffers);
    prepare(&good).map_err(|error| error.to_string())?;
    for (arg, problem) in [
        ("experts", Problem { experts: 0, ..good }),
        ("experts", Problem { experts: 4097, ..good }),
        ("groups", Problem { groups: 3, ..good }),
        ("groups", Problem { groups: 0, ..good }),
        ("top_groups", Problem { groups: 2, top_groups: 3, ..good }),
        ("top_groups", Problem { top_groups: 0, ..good }),
        ("top_k", Problem { groups: 4, top_k: 3, ..good }),
        ("top_k", Problem { top_k: 0, ..good }),
        ("scale", Problem { scale: f32::NAN, ..good }),
        ("n", Problem { n: 1 << 30, ..good }),
    ] {
        invalid(arg, prepare(&problem))?;
    }
    refused("many tokens", prepare(&Problem { n: 5, ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "logits", need: 160, have: 128 })
    })?;
    refused("many chosen", prepare(&Problem { top_k: 3, ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "chosen", need: 48, have: 32 })
    })?;
    refused("no bias", prepare(&Problem { bias: Some(0), ..good }), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "bias" })
    })?;
    refused("a bias", moe_route::prepare(&gpu.kernels, &good, buffers.bias(&logits)), |error| {
        matches!(error.kind, ErrorKind::UnusedBuffer { buffer: "bias" })
    })?;
    let aliased = Buffers::new(&logits, &chosen, &chosen, &order, &offsets);
    refused("aliased", moe_route::prepare(&gpu.kernels, &good, aliased), |error| {
        matches!(error.kind, ErrorKind::Aliased { .. })
    })
}
