//! Activations on a GPU: what is more than a Problem of the lists.

use loom::Gpu;
use loom::kernels::pointwise::activation::shape;
use tileloom::activation::{self, Activation, Buffers, Problem};
use tileloom::norm::Vector;
use tileloom::{ActivationOptions, Context, Dtype, Error, ErrorKind, Layout};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("activation", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", tensors);
}

fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = async {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let x = context.upload(&[1.0f32, -2.0, 3.0, -4.0], &[2, 2])?;
        let up = context.upload(&[2.0f32, 3.0, 4.0, 5.0], &[2, 2])?;
        let bias = context.upload(&[0.5f32, 3.0], &[2])?;
        let options = ActivationOptions { bias: Some(&bias), up: Some(&up), ..Activation::Relu.into() };
        let y = x.activation(&options)?;
        let refused = x.activation(&ActivationOptions { bias: Some(&up), ..options }).map(drop);
        assert!(matches!(refused, Err(Error { kind: ErrorKind::Shape { arg: "bias", .. }, .. })), "{refused:?}");
        y.read().await
    };
    let y = pollster::block_on(run).map_err(|error: Error| error.to_string())?;
    // x + bias is [1.5, 1; 3.5, -1].
    if y == [3.0, 3.0, 14.0, 0.0] { Ok(()) } else { Err(format!("{y:?}")) }
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
    let (x, y, up) = (buffer(64), buffer(64), buffer(64));
    let prepare = |problem: &Problem, buffers: Buffers| activation::prepare(&gpu.kernels, problem, buffers);
    let good = shape(Activation::Silu, 4, 16);
    for (problem, arg) in [
        (Problem { dims: [1, 3], ..good }, "rows"),
        (Problem { slope: f32::NAN, ..good }, "slope"),
        (Problem { activation: Activation::LeakyRelu, slope: f32::INFINITY, ..good }, "slope"),
        (Problem { up_bias: Some(Vector::of(Dtype::F32)), ..good }, "up_bias"),
        (Problem { dims: [1, 4], y_layout: Layout::strided(0, [0, 0, 15]), ..good }, "y_layout"),
    ] {
        invalid(arg, prepare(&problem, Buffers::new(&x, &y)))?;
    }
    let gated = Problem { up: Some(Dtype::F32), ..good };
    refused("no up", prepare(&gated, Buffers::new(&x, &y)), |e| {
        matches!(e, Error { op: "activation", kind: ErrorKind::MissingBuffer { buffer: "up" } })
    })?;
    refused("an up too many", prepare(&good, Buffers::new(&x, &y).up(&up)), |e| {
        matches!(e.kind, ErrorKind::UnusedBuffer { buffer: "up" })
    })?;
    let biased = Problem { bias: Some(Vector::of(Dtype::F32)), ..good };
    refused("a short bias", prepare(&biased, Buffers::new(&x, &y).bias(&buffer(15))), |e| {
        matches!(e.kind, ErrorKind::BufferTooSmall { buffer: "bias", need: 64, have: 60 })
    })?;
    gpu.read(&y).map(drop)
}
