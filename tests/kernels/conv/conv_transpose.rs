//! Transposed convolution on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use loom::kernels::conv::conv_transpose::{of, shape};
use tileloom::conv::{Activation, Bias, Border, Order};
use tileloom::conv_transpose::{self, Buffers, Problem};
use tileloom::{Context, ConvTransposeOptions, Dtype, Error, ErrorKind, Layout, gemm};

use crate::{Depth, Suite, invalid, refused};

use Dtype::F32;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("conv_transpose", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", tensors);
    suite.case("weights that are kept", kept);
    suite.case("nothing to compute takes no step", nothing);
    if suite.depth >= Depth::Full && suite.gpu.is_software() {
        suite.case("against the product of its size", speed);
    }
}

/// 4 x 4 by 2, 64 to 64 at 32 x 32: each of the 4096 pixels of y has 4 taps of 64 channels. Against gemm of 4096 x 64 x 256, in turns.
fn speed(gpu: &Gpu) -> Result<(), String> {
    for dtype in [F32, Dtype::F16] {
        let told = |error: Error| error.to_string();
        let product = gemm::Problem::new(4096, 64, 256, dtype);
        let [a, b, d] = [4096 * 256, 64 * 1024, 4096 * 64].map(|words| gpu.buffer(&vec![0x3c; words * 4]));
        let mut all = vec![gemm::prepare(&gpu.kernels, &product, gemm::Buffers::new(&a, &b, &d)).map_err(told)?];
        for order in [Order::Nchw, Order::Nhwc] {
            let problem = of(shape(64, 64, 32, 4, 2, order), [dtype; 3]);
            all.push(conv_transpose::prepare(&gpu.kernels, &problem, Buffers::new(&a, &b, &d)).map_err(told)?);
        }
        let best: Vec<f64> = super::best(gpu, &all, 60)?;
        let rates: Vec<f64> = best.iter().map(|seconds| 2.0 * 4096.0 * 64.0 * 256.0 / seconds / 1e9).collect();
        super::told_by(gpu, &format!("{dtype}: gemm, conv_transpose NCHW, NHWC: {rates:.1?} GFLOP/s"));
        if rates[1].min(rates[2]) < 0.4 * rates[0] {
            return Err(format!("{dtype}: gemm, conv_transpose NCHW, NHWC: {rates:.1?} GFLOP/s"));
        }
    }
    Ok(())
}

/// By phases, and by a stride of 1.
fn kept(gpu: &Gpu) -> Result<(), String> {
    for problem in [shape(8, 12, 5, 4, 2, Order::Nhwc), shape(3, 4, 5, 3, 1, Order::Nchw)] {
        let kept = Problem { kept_weights: true, ..problem };
        super::kept_alike(gpu, [&problem, &kept], |problem, config, [x, w, y, scratch]| {
            conv_transpose::prepare_with(&gpu.kernels, problem, config, Buffers::new(x, w, y).scratch(scratch))
        })?;
    }
    Ok(())
}

fn nothing(gpu: &Gpu) -> Result<(), String> {
    let first = shape(3, 4, 5, 4, 2, Order::Nchw);
    for problem in [
        Problem { batch: 0, ..first },
        Problem { outputs: 0, ..first },
        Problem { size: [1, 1], padding: [2; 4], ..first },
        Problem { size: [0, 0], padding: [0; 4], kernel: [1, 1], ..first },
    ] {
        let output = Call::random(problem, 1).run(gpu, &gpu.kernels, None)?;
        if !output.steps.is_empty() {
            return Err(format!("{:?} ran", output.steps));
        }
    }
    Ok(())
}

/// [1 2; 3 4] by a kernel of 2 x 2; in one dimension; channels last.
fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let read = |t: &tileloom::Tensor<f32>| pollster::block_on(t.read());
        let x = context.upload(&[1f32, 2.0, 3.0, 4.0], &[1, 1, 2, 2])?;
        let w = context.upload(&[1f32, 10.0, 100.0, 1000.0], &[1, 1, 2, 2])?;
        let y = x.conv_transpose2d(&w, &ConvTransposeOptions::default())?;
        let want = vec![1.0, 12.0, 20.0, 103.0, 1234.0, 2040.0, 300.0, 3400.0, 4000.0];
        assert_eq!((y.shape(), read(&y)?), (&[1, 1, 3, 3][..], want));
        let bias = context.upload(&[-20f32], &[1])?;
        let apart = ConvTransposeOptions {
            stride: [2, 2],
            padding: [0, 2, 0, 0],
            bias: Some(&bias),
            activation: Activation::Relu,
            ..Default::default()
        };
        let y = x.conv_transpose2d(&w, &apart)?;
        assert_eq!((y.shape(), read(&y)?), (&[1, 1, 2, 4][..], vec![0.0, 0.0, 0.0, 0.0, 80.0, 980.0, 180.0, 1980.0]));
        // One channel to two, channels last.
        let two = context.upload(&[1f32, 10.0], &[1, 2, 1])?;
        let sound = context.upload(&[1f32, 2.0, 3.0], &[1, 3, 1])?;
        let last = ConvTransposeOptions {
            order: Order::Nhwc,
            stride: [9, 2],
            padding: [7, 7, 1, 0],
            output_padding: [5, 1],
            ..Default::default()
        };
        let y = sound.conv_transpose1d(&two, &last)?;
        let want = vec![0.0, 0.0, 2.0, 20.0, 0.0, 0.0, 3.0, 30.0, 0.0, 0.0];
        assert_eq!((y.shape(), read(&y)?), (&[1, 5, 2][..], want));
        for (x, w) in [(&x, &two), (&sound, &w), (&sound, &sound)] {
            let error = x.conv_transpose2d(w, &ConvTransposeOptions::default()).unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Shape { .. }), "{error}");
        }
        let wrong = x.conv_transpose2d(&w, &ConvTransposeOptions { bias: Some(&x), ..Default::default() }).unwrap_err();
        assert!(matches!(wrong.kind, ErrorKind::Shape { arg: "bias", .. }));
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [x, weight, y] = [2 * 75, 12 * 16, 2 * 400].map(|words| gpu.buffer(&vec![0; words * 4]));
    let good = Problem { batch: 2, ..shape(3, 4, 5, 4, 2, Order::Nchw) };
    let buffers = Buffers::new(&x, &weight, &y);
    let prepare = |problem: &Problem| conv_transpose::prepare(&gpu.kernels, problem, buffers);
    prepare(&good).map_err(|error| error.to_string())?;
    for (arg, problem) in [
        ("groups", Problem { groups: 0, ..good }),
        ("channels", Problem { groups: 2, ..good }),
        ("outputs", Problem { groups: 3, ..good }),
        ("kernel", Problem { kernel: [0, 3], ..good }),
        ("kernel", Problem { kernel: [1 << 17, 3], ..good }),
        ("stride", Problem { stride: [1, 0], ..good }),
        ("stride", Problem { stride: [128, 128], ..good }),
        ("dilation", Problem { dilation: [0, 1], ..good }),
        ("downsample", Problem { downsample: [1, 0], ..good }),
        ("downsample", Problem { downsample: [1, 3], ..good }),
        ("size", Problem { output_padding: [1 << 30, 0], ..good }),
        ("size", Problem { dilation: [1 << 29, 1], ..good }),
        ("padding", Problem { padding: [0, 0, 0, 1 << 31], ..good }),
        ("padding", Problem { border: Border::Reflect, padding: [0, 0, 0, 7], ..good }),
        ("padding", Problem { border: Border::Replicate, padding: [12, 0, 0, 0], ..good }),
        (
            "kernel",
            Problem { border: Border::Replicate, size: [1, 1], kernel: [1, 300], padding: [0, 0, 150, 149], ..good },
        ),
        ("slope", Problem { slope: f32::NAN, ..good }),
        ("y", Problem { y_layout: Layout::strided(0, [400, 100, 9]), ..good }),
    ] {
        invalid(arg, prepare(&problem))?;
    }
    refused("many pictures", prepare(&Problem { batch: 3, ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "x", need: 900, have: 600 })
    })?;
    refused("many outputs", prepare(&Problem { outputs: 5, ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "weight", need: 960, have: 768 })
    })?;
    refused("no bias", prepare(&Problem { bias: Some(Bias::of(F32)), ..good }), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "bias" })
    })?;
    refused("a bias", conv_transpose::prepare(&gpu.kernels, &good, buffers.bias(&x)), |error| {
        matches!(error.kind, ErrorKind::UnusedBuffer { buffer: "bias" })
    })?;
    refused("in place", conv_transpose::prepare(&gpu.kernels, &good, Buffers::new(&y, &weight, &y)), |error| {
        matches!(error.kind, ErrorKind::Aliased { .. })
    })?;
    refused("little scratch", conv_transpose::prepare(&gpu.kernels, &good, buffers.scratch(&weight)), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "scratch", .. })
    })?;
    // 225 taps are packed of 9: more than may be bound.
    let mut caps = (*gpu.kernels.caps()).clone();
    caps.limits.max_storage_buffer_binding_size = 1 << 20;
    let small = gpu.kernels.with_caps(caps);
    let mirrored = Problem { border: Border::Reflect, ..shape(64, 64, 8, 3, 1, Order::Nchw) };
    let [x, weight, y] = [64 * 64, 9 * 64 * 64, 64 * 64].map(|words| gpu.buffer(&vec![0; words * 4]));
    refused("much scratch", conv_transpose::prepare(&small, &mirrored, Buffers::new(&x, &weight, &y)), |error| {
        matches!(error.kind, ErrorKind::BindingTooLarge { buffer: "scratch", limit: 1_048_576, .. })
    })
}
