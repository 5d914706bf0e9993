//! Gradients of activations on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::kernels::pointwise::activation_backward::shape;
use tileloom::activation::Activation;
use tileloom::activation_backward::{self, Buffers, Problem};
use tileloom::norm::Vector;
use tileloom::{ActivationOptions, Context, Dtype, Error, ErrorKind, Layout};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("activation_backward", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
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
        let gradients = x.activation_backward(&dy, &options)?;
        assert!(gradients.dup_bias.is_none());
        let mut read = vec![gradients.dx.read().await?];
        for tensor in [gradients.dup, gradients.dbias].into_iter().flatten() {
            read.push(tensor.read().await?);
        }
        Ok::<_, Error>(read)
    };
    let read = pollster::block_on(run).map_err(|error| error.to_string())?;
    // x + bias is [1.5, 1; 3.5, -1].
    let want: [&[f32]; 3] = [&[2.0, 3.0, 40.0, 0.0], &[1.5, 1.0, 35.0, 0.0], &[42.0, 3.0]];
    if read == want { Ok(()) } else { Err(format!("{read:?}")) }
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
    let (x, dy, dx, dbias) = (buffer(64), buffer(64), buffer(64), buffer(16));
    let prepare = |problem: &Problem, buffers: Buffers| activation_backward::prepare(&gpu.kernels, problem, buffers);
    let good = shape(Activation::Gelu, 4, 16);
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
