//! The gradients of snake on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use loom::kernels::conv::group_norm::SPLIT;
use loom::kernels::conv::snake_backward::shape;
use tileloom::conv::Order;
use tileloom::reference::conv::snake_backward::slopes;
use tileloom::snake_backward::{self, Buffers, Problem};
use tileloom::{Context, Error, ErrorKind, Layout};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("snake_backward", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", tensors);
    suite.case("functions over their range", functions);
}

/// sin(pi / 2), sin(pi / 4)^2; an alpha of 0.
fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let read = |t: &tileloom::Tensor<f32>| pollster::block_on(t.read());
        let quarter = std::f32::consts::FRAC_PI_4;
        let x = context.upload(&[quarter, 3.0, 1.0, 2.0], &[1, 2, 2])?;
        let dy = context.upload(&[2f32, 0.0, 5.0, 1.0], &[1, 2, 2])?;
        let alpha = context.upload(&[1f32, 0.0], &[2])?;
        let out = x.snake_backward(&dy, &alpha, Order::Nchw)?;
        let near = |have: Vec<f32>, want: &[f32]| {
            assert!(have.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6) && have.len() == want.len(), "{have:?}");
        };
        assert_eq!((out.dx.shape(), out.dalpha.shape()), (x.shape(), alpha.shape()));
        near(read(&out.dx)?, &[4.0, 0.0, 5.0, 1.0]);
        near(read(&out.dalpha)?, &[2.0 * quarter - 1.0, 9.0]);
        for error in [x.snake_backward(&alpha, &alpha, Order::Nchw), x.snake_backward(&dy, &x, Order::Nchw)] {
            let error = error.unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Shape { arg: "dy" | "alpha", .. }), "{error}");
        }
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// Every magnitude of the argument. By x within 2^-22 (1 + |alpha x|) of the exact derivative; by alpha within 2^-20 x^2.
fn functions(gpu: &Gpu) -> Result<(), String> {
    let (n, alphas) = (2048, [0.0, 1e-30, 1e-4, -0.03, 1.0, 2.0, 37.5, 1e3]);
    // A channel each, so that dalpha is that of one element.
    for &alpha in &alphas {
        let problem = Problem { batch: 1, dbias: None, ..shape(n, [1, 1], Order::Nhwc) };
        let x: Vec<f64> = (0..n)
            .map(|j| match j % 3 {
                0 => (j as f64 / n as f64 - 0.5) * 24.0,
                sign => 10f64.powf(j as f64 / n as f64 * 24.0 - 12.0) * (3.0 - 2.0 * sign as f64),
            })
            .map(|x| f64::from(x as f32))
            .collect();
        let alpha = f64::from(alpha as f32);
        let call = Call::random(problem, 1).with("x", x.clone()).with("dy", vec![1.0; n]);
        let output = call.with("alpha", vec![alpha; n]).run(gpu, &gpu.kernels, Some(&SPLIT))?;
        for (i, &x) in x.iter().enumerate() {
            let [by_x, by_alpha] = slopes(x, alpha);
            let t = (alpha * x).abs();
            let (dx, dalpha) = (output.values["dx"][i], output.values["dalpha"][i]);
            let wrong = |error: f64, most: f64| error.is_nan() || error > most;
            let range = 2f64.powi(-22) * (1.0 + t.min(16777216.0));
            if wrong((dx - by_x).abs(), range.max(1e-6)) || wrong((dalpha - by_alpha).abs(), 2f64.powi(-20) * x * x) {
                return Err(format!("x {x:e}, alpha {alpha:e}: {dx}, {dalpha}, not {by_x}, {by_alpha}"));
            }
        }
    }
    Ok(())
}

/// Every way to be refused; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
    let (x, dy, dx, vector) = (buffer(96), buffer(96), buffer(96), buffer(5));
    let (dalpha, short) = (buffer(6), buffer(4));
    let good = Problem { dalpha: Some(1), dbias: None, ..shape(4, [3, 4], Order::Nhwc) };
    let buffers = Buffers::new(&x, &dy, &vector).dx(&dx).dalpha(&dalpha);
    let prepare = |problem: &Problem| snake_backward::prepare(&gpu.kernels, problem, buffers);
    prepare(&good).map_err(|error| error.to_string())?;
    invalid("size", prepare(&Problem { size: [1 << 20, 1 << 20], ..good }))?;
    invalid("dx_layout", prepare(&Problem { dx_layout: Layout::strided(0, [48, 16, 3]), ..good }))?;
    refused("a short alpha", prepare(&Problem { alpha: 2, ..good }), |e| {
        matches!(e.kind, ErrorKind::BufferTooSmall { buffer: "alpha", need: 24, have: 20 })
    })?;
    let bare = Buffers::new(&x, &dy, &vector).dalpha(&dalpha);
    refused("no dx", snake_backward::prepare(&gpu.kernels, &good, bare), |e| {
        matches!(e, Error { op: "snake_backward", kind: ErrorKind::MissingBuffer { buffer: "dx" } })
    })?;
    refused("a short dalpha", snake_backward::prepare(&gpu.kernels, &good, buffers.dalpha(&short)), |e| {
        matches!(e.kind, ErrorKind::BufferTooSmall { buffer: "dalpha", need: 20, have: 16 })
    })?;
    refused("a dbias", snake_backward::prepare(&gpu.kernels, &good, buffers.dbias(&short)), |e| {
        matches!(e.kind, ErrorKind::UnusedBuffer { buffer: "dbias" })
    })?;
    refused("dalpha over alpha", snake_backward::prepare(&gpu.kernels, &good, buffers.dalpha(&vector)), |e| {
        matches!(e.kind, ErrorKind::Aliased { .. })
    })?;
    refused("little scratch", snake_backward::prepare(&gpu.kernels, &good, buffers.scratch(&short)), |e| {
        matches!(e.kind, ErrorKind::BufferTooSmall { buffer: "scratch", .. })
    })?;
    gpu.read(&dx).map(drop)
}
