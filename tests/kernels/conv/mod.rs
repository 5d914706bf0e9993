//! Convolution on a GPU: what is more than a Problem of the list.

mod group_norm;
mod group_norm_backward;
mod max_pool;
mod max_pool_backward;
mod resize;
mod snake_backward;
mod space_to_depth;

mod conv_backward;
mod conv_transpose;

use loom::Gpu;
use loom::harness::Call;
use loom::kernel::{Describe, Values};
use loom::kernels::conv::{DIRECT, depthwise, line, of, shape};
use tileloom::conv::{
    self, Activation, Algorithm, Bias, Border, Buffers, Config, Order, Padding, Problem, Residual, WeightOrder,
};
use tileloom::weights::Format;
use tileloom::{Context, ConvOptions, Dispatch, Dtype, Error, ErrorKind, Layout, Op, caps, gemm};

use crate::{Depth, Suite, invalid, refused};

use Dtype::F32;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("conv", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", tensors);
    suite.case("functions over their range", functions);
    suite.case("nothing to compute takes no step", nothing);
    suite.case("snake over its range", snake);
    suite.case("weights that are kept", kept);
    if suite.depth >= Depth::Full && suite.gpu.is_software() {
        suite.case("weights that are kept, against packing", kept_speed);
        suite.case("against the product of its size", speed);
    }
}

/// 3 x 3, 64 to 64 channels at 64 x 64, and gemm of 4096 x 64 x 576, in turns: the best of each is compared.
fn speed(gpu: &Gpu) -> Result<(), String> {
    for dtype in [Dtype::F32, Dtype::F16] {
        let product = gemm::Problem::new(4096, 64, 576, dtype);
        let [a, b, d] = [4096 * 576, 64 * 576, 4096 * 64].map(|words| gpu.buffer(&vec![0x3c; words * 4]));
        let told = |error: Error| error.to_string();
        let mut all = vec![gemm::prepare(&gpu.kernels, &product, gemm::Buffers::new(&a, &b, &d)).map_err(told)?];
        for order in [Order::Nchw, Order::Nhwc] {
            let problem = of(shape(64, 64, 64, 3, order), [dtype; 3]);
            all.push(conv::prepare(&gpu.kernels, &problem, Buffers::new(&a, &b, &d)).map_err(told)?);
        }
        let best = best(gpu, &all, 60)?;
        let rates: Vec<f64> = best.iter().map(|seconds| 2.0 * 4096.0 * 64.0 * 576.0 / seconds / 1e9).collect();
        told_by(gpu, &format!("{dtype}: gemm, conv NCHW, NHWC: {rates:.1?} GFLOP/s"));
        if rates[1].min(rates[2]) < 0.4 * rates[0] {
            return Err(format!("{dtype}: gemm, conv NCHW, NHWC: {rates:.1?} GFLOP/s"));
        }
    }
    Ok(())
}

/// The best of so many times of each, in turns, in seconds.
fn best(gpu: &Gpu, all: &[Dispatch], times: usize) -> Result<Vec<f64>, String> {
    let mut best = vec![f64::INFINITY; all.len()];
    for _ in 0..times {
        for (best, dispatch) in best.iter_mut().zip(all) {
            let start = std::time::Instant::now();
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            dispatch.record(&mut encoder);
            gpu.queue.submit([encoder.finish()]);
            gpu.wait()?;
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    Ok(best)
}

/// Prints a line, where that is asked for.
fn told_by(gpu: &Gpu, line: &str) {
    if std::env::var_os("TILELOOM_PRINT_TABLE").is_some() {
        println!("{} {line}", gpu.slug);
    }
}

fn nothing(gpu: &Gpu) -> Result<(), String> {
    let first = shape(3, 4, 5, 3, Order::Nchw);
    for problem in [
        Problem { batch: 0, ..first },
        Problem { outputs: 0, ..first },
        Problem { size: [5, 0], padding: Padding::Sides([0; 4]), ..first },
        Problem { size: [2, 2], padding: Padding::Sides([0; 4]), ..first },
    ] {
        let output = Call::random(problem, 1).run(gpu, &gpu.kernels, None)?;
        if !output.steps.is_empty() {
            return Err(format!("{:?} ran", output.steps));
        }
    }
    Ok(())
}

/// [1 2; 3 4] by kernels of 1 and of 2 x 2; in one dimension causal; channels last.
fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let read = |t: &tileloom::Tensor<f32>| pollster::block_on(t.read());
        let x = context.upload(&[1f32, 2.0, 3.0, 4.0], &[1, 1, 2, 2])?;
        let w = context.upload(&[1f32, 0.0, 0.0, 10.0], &[1, 1, 2, 2])?;
        let y = x.conv2d(&w, &ConvOptions::default())?;
        assert_eq!((y.shape(), read(&y)?), (&[1, 1, 1, 1][..], vec![41.0]));
        let bias = context.upload(&[-20f32], &[1])?;
        let same = ConvOptions {
            padding: Padding::Same,
            bias: Some(&bias),
            activation: Activation::Relu,
            ..Default::default()
        };
        let y = x.conv2d(&w, &same)?;
        assert_eq!((y.shape(), read(&y)?), (&[1, 1, 2, 2][..], vec![21.0, 0.0, 0.0, 0.0]));
        // Of two outputs, channels last, with itself as residual.
        let two = context.upload(&[1f32, 10.0], &[2, 1, 1, 1])?;
        let x_last = context.upload(&[1f32, 2.0, 3.0, 4.0], &[1, 2, 2, 1])?;
        let last = ConvOptions { order: Order::Nhwc, ..Default::default() };
        let y = x_last.conv2d(&two, &last)?;
        assert_eq!((y.shape(), read(&y)?), (&[1, 2, 2, 2][..], vec![1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 4.0, 40.0]));
        let doubled = x_last.conv2d(&two, &ConvOptions { residual: Some(&y), ..last })?;
        assert_eq!(read(&doubled)?[6..], [8.0, 80.0]);
        let sound = context.upload(&[1f32, 2.0, 3.0], &[1, 1, 3])?;
        let kernel = context.upload(&[1f32, 10.0], &[1, 1, 2])?;
        let causal = ConvOptions { padding: Padding::Sides([7, 7, 1, 0]), stride: [9, 1], ..Default::default() };
        let y = sound.conv1d(&kernel, &causal)?;
        assert_eq!((y.shape(), read(&y)?), (&[1, 1, 3][..], vec![10.0, 21.0, 32.0]));
        let alpha = context.upload(&[std::f32::consts::FRAC_PI_2], &[1])?;
        let snake = ConvOptions { snake: Some(&alpha), ..Default::default() };
        let of_snake = sound.conv1d(&context.upload(&[1f32], &[1, 1, 1])?, &snake)?;
        let quarter = 1.0 / std::f32::consts::FRAC_PI_2;
        let near =
            read(&of_snake)?.into_iter().zip([1.0 + quarter, 2.0, 3.0 + quarter]).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near);
        for (x, w) in [(&x, &kernel), (&sound, &w), (&x_last, &w)] {
            let error = x.conv2d(w, &ConvOptions::default()).unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Shape { .. }), "{error}");
        }
        let wrong = x.conv2d(&w, &ConvOptions { residual: Some(&x), ..Default::default() }).unwrap_err();
        assert!(matches!(wrong.kind, ErrorKind::Shape { arg: "residual", .. }));
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// Activations of every magnitude; against f64.
fn functions(gpu: &Gpu) -> Result<(), String> {
    let n = 4096;
    for &activation in Activation::ALL {
        let residual = Some(Residual::of(F32));
        let problem = Problem { batch: 5, residual, activation, slope: 0.25, ..line(1, 1, n, 1, Order::Nchw) };
        // Every scale up to 1e20, both signs; around 0 densely.
        let at = |i: usize, j: usize| match i {
            0 => (j as f64 / n as f64 - 0.5) * 24.0,
            1 => (j as f64 / n as f64 - 0.5) * 250.0,
            2 => 10f64.powf(j as f64 / n as f64 * 60.0 - 40.0),
            3 => -10f64.powf(j as f64 / n as f64 * 60.0 - 40.0),
            _ => (j as f64 / n as f64 - 0.5) * 1e-3,
        };
        let residual = (0..5 * n).map(|i| at(i / n, i % n)).collect();
        let call = Call::random(problem, 1).with("x", vec![0.0; 5 * n]).with("residual", residual);
        let output = call.run(gpu, &gpu.kernels, Some(&DIRECT))?;
        let rules = call.problem.rules(&call.values, &Values::new());
        let oracle = rules[0].1.oracle().expect("one answer");
        let (mut worst, mut place) = (0f64, 0.0);
        for ((&have, want), &x) in output.values["y"].iter().zip(oracle).zip(&call.values["residual"]) {
            // Of the value; below 1e-3 of x, where the function all but vanishes, of that.
            let error = (have - want).abs() / want.abs().max(1e-3 * x.abs()).max(1e-30);
            if error > worst || error.is_nan() {
                (worst, place) = (error, x);
            }
        }
        if std::env::var_os("TILELOOM_PRINT_TABLE").is_some() {
            println!("{} {activation:?}: {:.2} ULP (2^-24) at {place}", gpu.slug, worst * 2f64.powi(24));
        }
        if worst.is_nan() || worst > 24.0 * 2f64.powi(-24) {
            return Err(format!("{activation:?}: {worst:e} at {place}"));
        }
    }
    Ok(())
}

/// What a call gives that finds its weights kept, and NaN in their place, is what the call before gave. Buffers: x, weights, y, scratch.
fn kept_alike<P: Op>(
    gpu: &Gpu,
    [whole, kept]: [&P; 2],
    prepare: impl Fn(&P, &P::Config, [&wgpu::Buffer; 4]) -> Result<Dispatch, Error>,
) -> Result<(), String> {
    let told = |error: Error| error.to_string();
    let config = whole.chosen(&gpu.kernels).map_err(told)?;
    assert_eq!(kept.chosen(&gpu.kernels).map_err(told)?, config);
    let scratch = gpu.buffer(&vec![0xff; whole.scratch_bytes(&config).map_err(told)? as usize]);
    let x = gpu.buffer(&vec![0x3c; 65536]);
    let [weights, nans] = [0x3c, 0xff].map(|byte| gpu.buffer(&vec![byte; 65536]));
    let run = |problem, weights| {
        let y = gpu.buffer(&vec![0; 65536]);
        let dispatch = prepare(problem, &config, [&x, weights, &y, &scratch]).map_err(told)?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        gpu.read(&y)
    };
    let first = run(whole, &weights)?;
    if run(kept, &nans)? != first || first.iter().all(|&byte| byte == 0) {
        return Err(format!("{kept:?} gives something else"));
    }
    if run(whole, &nans)? == first { Err(format!("{whole:?} does not read its weights")) } else { Ok(()) }
}

/// Of products, depthwise, matrices.
fn kept(gpu: &Gpu) -> Result<(), String> {
    let bias = gpu.buffer(&vec![0x3c; 512]);
    let first = Problem { batch: 2, ..shape(8, 20, 7, 3, Order::Nhwc) };
    let halves = of(Problem { channels: 32, outputs: 36, ..first }, [Dtype::F16; 3]);
    for problem in [first, depthwise(12, 9, 3, Order::Nchw), halves, shape(3, 5, 6, 3, Order::Nchw)] {
        let problem = Problem { bias: Some(Bias::of(F32)), ..problem };
        kept_alike(
            gpu,
            [&problem, &Problem { kept_weights: true, ..problem }],
            |problem, config, [x, w, y, scratch]| {
                conv::prepare_with(&gpu.kernels, problem, config, Buffers::new(x, w, y).bias(&bias).scratch(scratch))
            },
        )?;
    }
    Ok(())
}

/// Late layers, whose weights are more than their pixels.
fn kept_speed(gpu: &Gpu) -> Result<(), String> {
    let told = |error: Error| error.to_string();
    let [x, y, weight] = [1 << 20, 1 << 20, 512 * 512 * 9].map(|words| gpu.buffer(&vec![0x3c; words * 4]));
    for size in [7, 16] {
        let problem = shape(512, 512, size, 3, Order::Nchw);
        let config = problem.chosen(&gpu.kernels).map_err(told)?;
        let scratch = gpu.buffer(&vec![0; problem.scratch_bytes(&config).map_err(told)? as usize]);
        let buffers = Buffers::new(&x, &weight, &y).scratch(&scratch);
        let call =
            |kept_weights| conv::prepare_with(&gpu.kernels, &Problem { kept_weights, ..problem }, &config, buffers);
        let dispatches = [call(false).map_err(told)?, call(true).map_err(told)?];
        // What else runs on the machine comes and goes: the median of neighbours in time.
        let mut times = Vec::new();
        for _ in 0..40 {
            times.push(best(gpu, &dispatches, 1)?);
        }
        times.sort_by(|a, b| (a[1] / a[0]).total_cmp(&(b[1] / b[0])));
        let [packed, kept] = [0, 1].map(|i| 1e3 * times[times.len() / 2][i]);
        told_by(gpu, &format!("3 x 3, 512 to 512 at {size} x {size}: {packed:.2} ms, with kept weights {kept:.2}"));
        if kept > packed {
            return Err(format!("{kept} ms with kept weights, {packed} without"));
        }
    }
    Ok(())
}

/// Snake of every magnitude of its argument, within 2^-21 of x (`snake.wgsl`); an alpha of 0 gives x.
fn snake(gpu: &Gpu) -> Result<(), String> {
    let (n, alphas) = (4096, [0.0, 1e-4, -0.03, 1.0, 2.0, 37.5, 1e3, -1e6]);
    let outputs = alphas.len();
    let residual = Some(Residual::of(F32));
    let problem = Problem { residual, snake: Some(0), ..line(1, outputs, n, 1, Order::Nchw) };
    // Every scale from 1e-12 to 1e18, both signs; a third around 0 densely.
    let at = |j: usize| match j % 3 {
        0 => (j as f64 / n as f64 - 0.5) * 24.0,
        sign => 10f64.powf(j as f64 / n as f64 * 30.0 - 12.0) * (3.0 - 2.0 * sign as f64),
    };
    let call = Call::random(problem, 1)
        .with("x", vec![0.0; n])
        .with("residual", (0..outputs * n).map(|i| at(i % n)).collect())
        .with("alpha", alphas.to_vec());
    let output = call.run(gpu, &gpu.kernels, Some(&DIRECT))?;
    let (mut worst, mut place) = (0f64, (0.0, 0.0));
    for (i, (&have, &x)) in output.values["y"].iter().zip(&call.values["residual"]).enumerate() {
        let alpha = call.values["alpha"][i / n];
        let want = tileloom::reference::conv::snake(x, alpha);
        let error = (have - want).abs() / x.abs().max(1e-30);
        if error > worst || error.is_nan() {
            (worst, place) = (error, (x, alpha));
        }
        if alpha == 0.0 && have != x {
            return Err(format!("{have} of {x} with an alpha of 0"));
        }
    }
    told_by(gpu, &format!("snake: {:.2} * 2^-24 of x at x, alpha = {place:?}", worst * 2f64.powi(24)));
    if worst.is_nan() || worst > 2f64.powi(-21) {
        return Err(format!("{worst:e} of x at x, alpha = {place:?}"));
    }
    Ok(())
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [x, weight, y] = [2 * 75, 4 * 27, 2 * 100].map(|words| gpu.buffer(&vec![0; words * 4]));
    let good = Problem { batch: 2, ..shape(3, 4, 5, 3, Order::Nchw) };
    let buffers = Buffers::new(&x, &weight, &y);
    let prepare = |problem: &Problem| conv::prepare(&gpu.kernels, problem, buffers);
    prepare(&good).map_err(|error| error.to_string())?;
    let reflect = Problem { border: Border::Reflect, ..good };
    for (arg, problem) in [
        ("groups", Problem { groups: 0, ..good }),
        ("channels", Problem { groups: 2, ..good }),
        ("outputs", Problem { groups: 3, ..good }),
        ("kernel", Problem { kernel: [0, 3], ..good }),
        ("stride", Problem { stride: [1, 0], ..good }),
        ("dilation", Problem { dilation: [0, 1], ..good }),
        ("upsample", Problem { upsample: [1, 0], ..good }),
        ("size", Problem { padding: Padding::Sides([1 << 30, 0, 0, 0]), ..good }),
        ("size", Problem { dilation: [1 << 30, 1], ..good }),
        ("size", Problem { upsample: [1 << 29, 1], ..good }),
        ("padding", Problem { padding: Padding::Sides([0, 5, 0, 0]), ..reflect }),
        ("padding", Problem { border: Border::Replicate, size: [0, 5], ..good }),
        ("slope", Problem { slope: f32::NAN, ..good }),
        ("snake", Problem { snake: Some(0), activation: Activation::Relu, ..good }),
        ("weight_order", Problem { format: Some(Format::Q8_0), weight_order: WeightOrder::Hwio, ..good }),
        ("format", Problem { format: Some(Format::Q4_K), ..good }),
        ("weight", Problem { format: Some(Format::Q8_0), weight_layout: Layout::at(8), ..good }),
        ("y", Problem { y_layout: Layout::strided(0, [100, 25, 4]), ..good }),
    ] {
        invalid(arg, prepare(&problem))?;
    }
    refused("many pictures", prepare(&Problem { batch: 3, ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "x", need: 900, have: 600 })
    })?;
    refused("many outputs", prepare(&Problem { outputs: 5, ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "weight", need: 540, have: 432 })
    })?;
    refused("no bias", prepare(&Problem { bias: Some(Bias::of(F32)), ..good }), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "bias" })
    })?;
    // Matrices take x and weights of f16, not packed, by tiles of two matrices of k.
    let halves = of(good, [Dtype::F16; 3]);
    let mut found = 0;
    for caps in caps::presets() {
        let all = halves.candidates(&caps).map_err(|error| error.to_string())?;
        let Some(&matrices) = all.iter().find(|config| config.algorithm == Algorithm::Coop) else { continue };
        found += 1;
        let [m, n, k] = matrices.tile;
        for (problem, config) in [
            (good, matrices),
            (Problem { format: Some(Format::Q8_0), ..halves }, matrices),
            (halves, Config { tile: [m, n, k + 1], ..matrices }),
        ] {
            refused("matrices", problem.fits(&caps, &config), |error| {
                matches!(error.kind, ErrorKind::ConfigUnfit { .. })
            })?;
        }
    }
    if found == 0 {
        return Err("no preset has matrices".into());
    }
    refused("no scales", prepare(&Problem { format: Some(Format::Q8_0), ..good }), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "scales" })
    })?;
    refused("no scratch", prepare(&Problem { kept_weights: true, ..good }), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "scratch" })
    })?;
    refused("no alpha", prepare(&Problem { snake: Some(0), ..good }), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "alpha" })
    })?;
    refused("a residual", conv::prepare(&gpu.kernels, &good, buffers.residual(&y)), |error| {
        matches!(error.kind, ErrorKind::UnusedBuffer { buffer: "residual" })
    })?;
    refused("in place", conv::prepare(&gpu.kernels, &good, Buffers::new(&y, &weight, &y)), |error| {
        matches!(error.kind, ErrorKind::Aliased { .. })
    })?;
    refused("little scratch", conv::prepare(&gpu.kernels, &good, buffers.scratch(&weight)), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "scratch", .. })
    })
}
