//! The gradients of group norm and its kin on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::kernels::conv::group_norm_backward::{all, given};
use tileloom::conv::Order;
use tileloom::group_norm::{self, Over};
use tileloom::group_norm_backward::{self, Buffers, Problem};
use tileloom::{Context, Error, ErrorKind, GroupNormOptions};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("group_norm_backward", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", tensors);
}

/// [1, 3, 1, 3] has mean 2 and deviation 1: n = [-1, 1, -1, 1].
fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let read = |t: &tileloom::Tensor<f32>| pollster::block_on(t.read());
        let x = context.upload(&[1f32, 3.0, 1.0, 3.0], &[1, 2, 2])?;
        let dy = context.upload(&[4f32, 0.0, 0.0, 0.0], &[1, 2, 2])?;
        let weight = context.upload(&[1f32, 1.0], &[2])?;
        let of = GroupNormOptions { eps: 1e-30, ..GroupNormOptions::of(Over::Group(1)) };
        let options = GroupNormOptions { weight: Some((&weight).into()), bias: Some((&weight).into()), ..of };
        let (_, stats) = x.group_norm_with_stats(&options)?;
        let out = x.group_norm_backward(&dy, Some(&stats), &options)?;
        let near = |have: Vec<f32>, want: &[f32]| {
            assert!(have.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5) && have.len() == want.len(), "{have:?}");
        };
        assert_eq!(out.dx.shape(), x.shape());
        near(read(&out.dx)?, &[2.0, 0.0, -2.0, 0.0]);
        near(read(&out.dweight.expect("asked for"))?, &[-4.0, 0.0]);
        near(read(&out.dbias.expect("asked for"))?, &[4.0, 0.0]);
        // Inference: dx is dy over the deviation.
        let (mean, variance) = (context.upload(&[0f32, 1.0], &[2])?, context.upload(&[4f32, 1.0], &[2])?);
        let batch = GroupNormOptions { over: Over::Batch, running: Some([&mean, &variance]), ..of };
        let out = x.group_norm_backward(&dy, None, &batch)?;
        near(read(&out.dx)?, &[2.0, 0.0, 0.0, 0.0]);
        assert!(out.dweight.is_none() && out.dbias.is_none());
        let error = x.group_norm_backward(&dy, Some(&mean), &of).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "stats", .. }), "{error}");
        let error = x.group_norm_backward(&mean, Some(&stats), &of).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "dy", .. }), "{error}");
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// Every way to be refused that is not group_norm's; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
    let (x, dy, dx, vector, stats) = (buffer(48), buffer(48), buffer(48), buffer(4), buffer(7));
    let forward = group_norm::Problem {
        channels: 4,
        size: [3, 4],
        over: Over::Group(2),
        order: Order::Nhwc,
        ..group_norm::Problem::default()
    };
    let good = Problem { dweight: None, dbias: None, ..all(forward) };
    let buffers = Buffers::new(&x, &dy).dx(&dx).stats(&stats);
    let prepare = |problem: &Problem| group_norm_backward::prepare(&gpu.kernels, problem, buffers);
    prepare(&good).map_err(|error| error.to_string())?;
    invalid("stats", prepare(&Problem { forward, ..good }))?;
    invalid("over", prepare(&Problem { forward: group_norm::Problem { over: Over::Group(3), ..forward }, ..good }))?;
    invalid("statistics", prepare(&given(good)))?;
    refused("no dx", group_norm_backward::prepare(&gpu.kernels, &good, Buffers::new(&x, &dy).stats(&stats)), |e| {
        matches!(e, Error { op: "group_norm_backward", kind: ErrorKind::MissingBuffer { buffer: "dx" } })
    })?;
    let shifted = Problem { dweight: Some(1), ..good };
    refused("a short dweight", group_norm_backward::prepare(&gpu.kernels, &shifted, buffers.dweight(&vector)), |e| {
        matches!(e.kind, ErrorKind::BufferTooSmall { buffer: "dweight", need: 20, have: 16 })
    })?;
    refused(
        "a bias without an activation",
        group_norm_backward::prepare(&gpu.kernels, &good, buffers.bias(&vector)),
        |e| matches!(e.kind, ErrorKind::UnusedBuffer { buffer: "bias" }),
    )?;
    refused("little scratch", group_norm_backward::prepare(&gpu.kernels, &good, buffers.scratch(&vector)), |e| {
        matches!(e.kind, ErrorKind::BufferTooSmall { buffer: "scratch", .. })
    })?;
    gpu.read(&dx).map(drop)
}
