//! Group norm, layer norm over channels and batch norm on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use loom::kernels::conv::group_norm::{SPLIT, UPDATE, WHOLE, shape};
use tileloom::conv::Order;
use tileloom::group_norm::{self, Buffers, Over, Problem, Running, Statistics};
use tileloom::{Context, Error, ErrorKind, GroupNormOptions, Layout, Op};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("group_norm", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", tensors);
    suite.case("statistics of 100352 elements", many);
}

/// However an invocation goes through its elements, rounding does not pile up: the mean to 2^-18 deviations, and 1 / deviation to 2^-20, by every candidate.
fn many(gpu: &Gpu) -> Result<(), String> {
    let (channels, most) = (4, [-18, -20].map(|power| 2f64.powi(power)));
    for order in [Order::Nchw, Order::Nhwc] {
        let own = Problem { batch: 8, channels, size: [112, 112], stats: Some(0), order, ..Problem::default() };
        let problem = Problem { over: Over::Batch, ..own };
        let call = Call::random(problem, 7);
        let channel = |i: usize| if order == Order::Nchw { i / 12_544 % channels } else { i % channels };
        let x = &call.values["x"];
        for config in problem.candidates(&gpu.kernels.caps()).map_err(|error| error.to_string())? {
            let output = call.run(gpu, &gpu.kernels, Some(&config))?;
            let stats = &output.values["stats"];
            for c in 0..channels {
                let own = || x.iter().enumerate().filter(|(i, _)| channel(*i) == c).map(|(_, v)| v);
                let n = own().count() as f64;
                let mean = own().sum::<f64>() / n;
                let variance = own().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
                let rstd = 1.0 / (variance + f64::from(problem.eps)).sqrt();
                let errors = [(stats[c] + stats[2 * channels + c] - mean) * rstd, stats[channels + c] / rstd - 1.0];
                if errors.iter().zip(most).any(|(error, most)| error.is_nan() || error.abs() > most) {
                    return Err(format!("{} {config}, channel {c}: {errors:?}", order.name()));
                }
            }
        }
    }
    Ok(())
}

fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let read = |t: &tileloom::Tensor<f32>| pollster::block_on(t.read());
        let x = context.upload(&[1f32, 3.0, 1.0, 3.0, 0.0, 4.0, 4.0, 0.0], &[1, 4, 2])?;
        let [weight, bias] = [[1f32, 2.0, 3.0, 4.0], [0.0, 0.0, 10.0, 0.0]].map(|v| context.upload(&v, &[4]));
        let (weight, bias) = (weight?, bias?);
        let of = GroupNormOptions { eps: 1e-30, ..GroupNormOptions::of(Over::Group(2)) };
        let options = GroupNormOptions { weight: Some((&weight).into()), bias: Some((&bias).into()), ..of };
        let (y, stats) = x.group_norm_with_stats(&options)?;
        let near = |have: Vec<f32>, want: &[f32]| {
            assert!(have.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5) && have.len() == want.len(), "{have:?}");
        };
        assert_eq!((y.shape(), stats.shape()), (&[1, 4, 2][..], &[3, 2][..]));
        near(read(&y)?, &[-1.0, 1.0, -2.0, 2.0, 7.0, 13.0, 4.0, -4.0]);
        near(read(&stats)?, &[2.0, 2.0, 1.0, 0.5, 0.0, 0.0]);
        // Channels last, over channels: [1, 3] and [0, 4].
        let last = context.upload(&[1f32, 3.0, 0.0, 4.0], &[2, 1, 1, 2])?;
        let channels = GroupNormOptions { over: Over::Channels, order: Order::Nhwc, ..of };
        near(read(&last.group_norm(&channels)?)?, &[-1.0, 1.0, -1.0, 1.0]);
        // Training, then inference: of [1, 0] and [3, 4].
        let running = [[0f32; 2], [1.0; 2]].map(|v| context.upload(&v, &[2]));
        let [mean, variance] = running;
        let (mean, variance) = (mean?, variance?);
        let batch = GroupNormOptions { over: Over::Batch, running: Some([&mean, &variance]), ..channels };
        let y = last.group_norm(&GroupNormOptions { momentum: Some(0.5), ..batch })?;
        near(read(&y)?, &[1.0, -1.0, -1.0, 1.0]);
        near(read(&mean)?, &[0.25, 1.75]);
        near(read(&variance)?, &[0.75, 0.75]);
        let root = 0.75f32.sqrt();
        near(read(&last.group_norm(&batch)?)?, &[0.75 / root, 1.25 / root, -0.25 / root, 2.25 / root]);
        let error = x.group_norm(&GroupNormOptions { order: Order::Nchw, ..batch }).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "running_mean", .. }), "{error}");
        let error = mean.group_norm(&of).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "x", .. }), "{error}");
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
    let (x, y, vector) = (buffer(96), buffer(96), buffer(4));
    let good = Problem { weight: None, bias: None, ..shape(Over::Group(2), 4, [3, 4], Order::Nchw) };
    let buffers = Buffers::new(&x, &y);
    let prepare = |problem: &Problem| group_norm::prepare(&gpu.kernels, problem, buffers);
    prepare(&good).map_err(|error| error.to_string())?;
    let batch = Problem { over: Over::Batch, ..good };
    let moved = |momentum| Statistics::Update { running: Running::default(), momentum };
    for (problem, arg) in [
        (Problem { over: Over::Group(3), ..good }, "over"),
        (Problem { over: Over::Group(0), ..good }, "over"),
        (Problem { eps: -1.0, ..good }, "eps"),
        (Problem { slope: f32::NAN, ..good }, "slope"),
        (Problem { channels: 1 << 32, over: Over::Batch, ..good }, "channels"),
        (Problem { channels: 0, over: Over::Group(1 << 32), order: Order::Nhwc, ..good }, "over"),
        (Problem { size: [1 << 20, 1 << 20], ..good }, "size"),
        (Problem { y_layout: Layout::strided(0, [48, 12, 3]), ..good }, "y_layout"),
        (Problem { statistics: UPDATE, ..good }, "statistics"),
        (Problem { statistics: Statistics::Given(Running::default()), ..good }, "statistics"),
        (Problem { statistics: Statistics::Given(Running::default()), stats: Some(0), ..batch }, "stats"),
        (Problem { statistics: moved(1.5), ..batch }, "momentum"),
        (Problem { statistics: moved(0.5), batch: 1, size: [1, 1], ..batch }, "size"),
        (Problem { size: [0, 1], stats: Some(0), ..good }, "stats"),
    ] {
        invalid(arg, prepare(&problem))?;
    }
    refused("many pictures", prepare(&Problem { batch: 3, ..good }), |e| {
        matches!(e, Error { op: "group_norm", kind: ErrorKind::BufferTooSmall { buffer: "x", need: 576, have: 384 } })
    })?;
    refused("no running statistics", prepare(&Problem { statistics: moved(0.5), ..batch }), |e| {
        matches!(e.kind, ErrorKind::MissingBuffer { buffer: "running_mean" })
    })?;
    refused("a weight", group_norm::prepare(&gpu.kernels, &good, buffers.weight(&vector)), |e| {
        matches!(e.kind, ErrorKind::UnusedBuffer { buffer: "weight" })
    })?;
    let statistics = Problem { stats: Some(1), ..good };
    refused("short stats", group_norm::prepare(&gpu.kernels, &statistics, buffers.stats(&vector)), |e| {
        matches!(e.kind, ErrorKind::BufferTooSmall { buffer: "stats", need: 52, have: 16 })
    })?;
    refused("little scratch", group_norm::prepare_with(&gpu.kernels, &good, &SPLIT, buffers.scratch(&vector)), |e| {
        matches!(e.kind, ErrorKind::BufferTooSmall { buffer: "scratch", .. })
    })?;
    // Groups of three channels, side by side.
    let last = Problem { channels: 12, size: [2, 2], over: Over::Group(4), order: Order::Nhwc, ..good };
    refused("groups of no whole chunks", group_norm::prepare_with(&gpu.kernels, &last, &WHOLE, buffers), |e| {
        matches!(e.kind, ErrorKind::ConfigUnfit { .. })
    })?;
    gpu.read(&y).map(drop)
}
