//! Activations and their gradients on a GPU: what is more than a Problem of the lists.

use loom::Gpu;
use loom::kernels::pointwise::{activation as forward, activation_backward as backward};
use tileloom::activation::{self, Activation};
use tileloom::norm::Vector;
use tileloom::{ActivationOptions, Context, Dtype, Error, ErrorKind, Layout, activation_backward};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("activation", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("errors, backward", errors_backward);
    suite.case("tensors", tensors);
}

fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = async {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let x = context.upload(&[1.0f32, -2.0, 3.0, -4.0], &[2, 2])?;
        let up = context.upload(&[2.0f32, 3.0, 4.0, 5.0], &[2, 2])?;
        let dy = context.upload(&[1.0f32, 1.0, 10.0, 10.0], &[2, 2])?;
        let bias = context.upload(&[0.5f32, 3.0], &[2])?;
        let options = ActivationOptions { bias: Some(&bias), up: Some(&up), ..Activation::Relu.into() };
        let y = x.activation(&options)?;
        let gradients = x.activation_backward(&dy, &options)?;
        assert!(gradients.dup_bias.is_none());
        let refused = x.activation(&ActivationOptions { bias: Some(&up), ..options }).map(drop);
        assert!(matches!(refused, Err(Error { kind: ErrorKind::Shape { arg: "bias", .. }, .. })), "{refused:?}");
        let mut read = vec![y.read().await?, gradients.dx.read().await?];
        for tensor in [gradients.dup, gradients.dbias].into_iter().flatten() {
            read.push(tensor.read().await?);
        }
        Ok::<_, Error>(read)
    };
    let read = pollster::block_on(run).map_err(|error| error.to_string())?;
    // x + bias is [1.5, 1; 3.5, -1].
    let want: [&[f32]; 4] = [&[3.0, 3.0, 14.0, 0.0], &[2.0, 3.0, 40.0, 0.0], &[1.5, 1.0, 35.0, 0.0], &[42.0, 3.0]];
    if read == want { Ok(()) } else { Err(format!("{read:?}")) }
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    use activation::{Buffers, Problem};
    let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
    let (x, y, up) = (buffer(64), buffer(64), buffer(64));
    let prepare = |problem: &Problem, buffers: Buffers| activation::prepare(&gpu.kernels, problem, buffers);
    let good = forward::shape(Activation::Silu, 4, 16);
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

/// The same of gradients.
fn errors_backward(gpu: &Gpu) -> Result<(), String> {
    use activation_backward::{Buffers, Problem};
    let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
    let (x, dy, dx, dbias) = (buffer(64), buffer(64), buffer(64), buffer(16));
    let prepare = |problem: &Problem, buffers: Buffers| activation_backward::prepare(&gpu.kernels, problem, buffers);
    let good = backward::shape(Activation::Gelu, 4, 16);
    for (problem, arg) in [
        (Problem { dims: [1, 3], ..good }, "rows"),
        (Problem { slope: f32::NAN, ..good }, "slope"),
        (Problem { dup_bias: Some(0), ..good }, "dup_bias"),
        (Problem { up_bias: Some(Vector::of(Dtype::F32)), ..good }, "up_bias"),
        (Problem { dims: [1, 4], dx_layout: Layout::strided(0, [0, 0, 15]), ..good }, "dx_layout"),
    ] {
        invalid(arg, prepare(&problem, Buffers::new(&x, &dy, &dx)))?;
    }
    let summed = Problem { dbias: Some(0), ..good };
    refused("no dbias", prepare(&summed, Buffers::new(&x, &dy, &dx)), |e| {
        matches!(e, Error { op: "activation_backward", kind: ErrorKind::MissingBuffer { buffer: "dbias" } })
    })?;
    refused("short scratch", prepare(&summed, Buffers::new(&x, &dy, &dx).dbias(&dbias).scratch(&buffer(15))), |e| {
        matches!(e.kind, ErrorKind::BufferTooSmall { buffer: "scratch", need: 64, have: 60 })
    })?;
    let gated = Problem { up: Some(Dtype::F32), ..good };
    let up = buffer(64);
    refused("dx and dup in one place", prepare(&gated, Buffers::new(&x, &dy, &dx).up(&up).dup(&dx)), |e| {
        matches!(e.kind, ErrorKind::Aliased { first: "dx", second: "dup", .. })
    })?;
    gpu.read(&dx).map(drop)
}
