//! Resampling on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::kernels::conv::resize::{PLAIN, shape};
use tileloom::conv::Order;
use tileloom::resize::{self, Algorithm, Buffers, Config, Problem, Rounding, Rule, Windows};
use tileloom::{Context, Error, ErrorKind, ResizeOptions};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("resize", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", tensors);
}

fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let read = |t: &tileloom::Tensor<f32>| pollster::block_on(t.read());
        let x = context.upload(&[1f32, 2.0, 3.0, 4.0], &[1, 1, 2, 2])?;
        let y = x.resize([2, 4], &ResizeOptions::default())?;
        assert_eq!((y.shape(), read(&y)?), (&[1, 1, 2, 4][..], vec![1.0, 1.25, 1.75, 2.0, 3.0, 3.25, 3.75, 4.0]));
        let dx = y.resize_backward([2, 2], &ResizeOptions::default())?;
        assert_eq!((dx.shape(), read(&dx)?), (&[1, 1, 2, 2][..], vec![2.375, 3.625, 6.375, 7.625]));
        let repeated = x.resize([4, 4], &ResizeOptions::nearest())?;
        assert_eq!(read(&repeated)?[..8], [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]);
        let windows = Windows { kernel: [2, 2], ..Windows::default() };
        let mean = x.average_pool2d(windows, Order::Nchw)?;
        assert_eq!((mean.shape(), read(&mean)?), (&[1, 1, 1, 1][..], vec![2.5]));
        let flat = x.reshape(&[4])?;
        let error = flat.resize([1, 1], &ResizeOptions::default()).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "x", .. }), "{error}");
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
    let (x, y) = (buffer(64), buffer(64));
    let prepare = |problem: &Problem| resize::prepare(&gpu.kernels, problem, Buffers::new(&x, &y));
    let good = shape(2, [4, 4], [2, 8], Rule::Linear, Order::Nchw);
    let average = |windows| Problem { rule: Rule::Average(windows), ..good };
    let windows = Windows::default();
    for (problem, arg) in [
        (Problem { size: [0, 4], ..good }, "size"),
        (Problem { out: [1 << 31, 1], ..good }, "out"),
        (Problem { out: [1 << 23, 1], ..good }, "out"),
        (Problem { scale: Some([0.0, 1.0]), ..good }, "scale"),
        (Problem { scale: Some([f64::NAN, 1.0]), ..good }, "scale"),
        (Problem { rule: Rule::Cubic(f32::INFINITY), ..good }, "rule"),
        (Problem { rule: Rule::AdaptiveAverage, antialias: true, ..good }, "antialias"),
        (Problem { rule: Rule::Nearest(Rounding::Floor), exclude_outside: true, ..good }, "exclude_outside"),
        (average(windows), "out"),
        (average(Windows { kernel: [0, 1], ..windows }), "kernel"),
        (average(Windows { stride: [0, 1], ..windows }), "stride"),
        (average(Windows { padding: [1 << 31, 0, 0, 0], ..windows }), "padding"),
        (Problem { channels: 1 << 32, ..good }, "channels"),
    ] {
        invalid(arg, prepare(&problem))?;
    }
    refused("a short y", prepare(&Problem { channels: 5, size: [2, 2], ..good }), |e| {
        matches!(e, Error { op: "resize", kind: ErrorKind::BufferTooSmall { buffer: "y", need: 320, have: 256 } })
    })?;
    refused("y in x", resize::prepare(&gpu.kernels, &good, Buffers::new(&x, &x)), |e| {
        matches!(e.kind, ErrorKind::Aliased { first: "x", second: "y", .. })
    })?;
    let two = Config { algorithm: Algorithm::Separable, ..PLAIN };
    let scratch = buffer(63);
    refused(
        "short scratch",
        resize::prepare_with(&gpu.kernels, &good, &two, Buffers::new(&x, &y).scratch(&scratch)),
        |e| matches!(e.kind, ErrorKind::BufferTooSmall { buffer: "scratch", need: 256, have: 252 }),
    )?;
    gpu.read(&y).map(drop)
}
