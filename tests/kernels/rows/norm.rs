//! RMS norm and layer norm on a GPU: what is more than to run a Problem and judge.

use loom::harness::Call;
use loom::kernels::rows::norm::shape;
use loom::kernels::rows::{plain, tile};
use tileloom::norm::{self, Algorithm, Buffers, Kind, Problem, Reduce, Vector};
use tileloom::{Context, Dtype, Error, ErrorKind, Kernels, Layout, NormOptions};

use crate::{Depth, Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("norm", cases);

pub fn cases(suite: &mut Suite) {
    errors(suite);
    suite.case("tensors", tensors);
    suite.case("a DC offset costs no digits", offset);
    if suite.depth >= Depth::Wide {
        suite.case("parameters in a uniform buffer", |gpu| {
            let caps = tileloom::Caps { immediate_bytes: 0, ..(*gpu.kernels.caps()).clone() };
            let kernels = Kernels::new(&gpu.device, caps);
            let call = Call::random(shape(Kind::Layer, 37, 64), 1);
            let (uniform, _) = call.check(gpu, &kernels, None)?;
            match uniform.values == call.run(gpu, &gpu.kernels, None)?.values {
                true => Ok(()),
                false => Err("bits differ".into()),
            }
        });
    }
}

/// The rule goes by what f32 loses of the formula; here the bound of y is absolute, that of statistics relative.
fn offset(gpu: &loom::Gpu) -> Result<(), String> {
    let (rows, cols) = (5, 61);
    // Steps of 2^-10, which f32 holds at 1e4, with a deviation of about 1e-2.
    let x: Vec<f64> = (0..rows * cols).map(|i| 1e4 + ((i * 37 % 43) as f64 - 21.0) / 1024.0).collect();
    for kind in [Kind::Rms, Kind::Layer] {
        let problem = Problem { stats: Some(1), bias: None, weight: None, eps: 1e-12, ..shape(kind, rows, cols) };
        let problem = Problem { x_layout: Layout::at(1), y_layout: Layout::at(3), ..problem };
        let call = Call::random(problem, 1).with("x", x.clone());
        let values = call.run(gpu, &gpu.kernels, Some(&plain()))?.values;
        let inputs = tileloom::reference::norm::Inputs { x: &x, residual: None, weight: None, bias: None };
        let oracle = tileloom::reference::norm::reference::<f64>(&problem, &inputs);
        let means = if kind == Kind::Layer { oracle.mean } else { Vec::new() };
        for (arg, oracle, least) in [("y", oracle.y, 1.0), ("stats", [means, oracle.rstd].concat(), 0.0)] {
            let have = &values[arg];
            assert_eq!(have.len(), oracle.len(), "{arg}");
            let far = |(v, oracle): (&f64, &f64)| (v - oracle).abs() > 2e-6 * oracle.abs().max(least);
            if let Some(i) = have.iter().zip(&oracle).position(far) {
                return Err(format!("{}, {arg} {i}: {}, not {}", kind.name(), have[i], oracle[i]));
            }
        }
    }
    Ok(())
}

fn tensors(gpu: &loom::Gpu) -> Result<(), String> {
    let run = async {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let mut batch = context.batch();
        let x = context.upload(&[1.0f32, 7.0, 4.0, 4.0], &[2, 2])?;
        let residual = context.upload(&[0.0f32, 0.0, -1.0, -8.0], &[2, 2])?;
        let weight = context.upload(&[half::f16::ONE, half::f16::from_f32(2.0)], &[2])?;
        let bias = context.upload(&[0.5f32, -0.5], &[2])?;
        let options = NormOptions {
            residual: Some((&residual).into()),
            weight: Some((&weight).into()),
            eps: Some(0.0),
            ..Default::default()
        };
        let (rms, sum) = batch.rms_norm_with_sum(&x, &options)?;
        let layer = batch.layer_norm(&x, &NormOptions { bias: Some((&bias).into()), ..options })?;
        batch.submit()?;
        let flat = context.upload(&[1.0f32; 4], &[4])?;
        let refused = x.rms_norm(&NormOptions { weight: Some((&flat).into()), ..options });
        assert!(matches!(refused, Err(Error { kind: ErrorKind::Shape { arg: "weight", .. }, .. })), "{refused:?}");
        Ok((rms.read().await?, sum.read().await?, layer.read().await?))
    };
    let (rms, sum, layer) = pollster::block_on(run).map_err(|error: Error| error.to_string())?;
    // Root mean squares 5 and sqrt(12.5); means 4 and -0.5, deviations 3 and 3.5.
    let near = |have: &[f32], want: [f32; 4]| have.iter().zip(want).all(|(have, want)| (have - want).abs() < 1e-6);
    let root = 12.5f32.sqrt();
    let ok = near(&rms, [0.2, 2.8, 3.0 / root, -8.0 / root]) && sum == [1.0, 7.0, 3.0, -4.0];
    match ok && near(&layer, [-0.5, 1.5, 1.5, -2.5]) {
        true => Ok(()),
        false => Err(format!("{rms:?} {sum:?} {layer:?}")),
    }
}

/// Every way to be refused that is not softmax's; nothing reaches the device's handlers.
fn errors(suite: &mut Suite) {
    suite.case("errors", |gpu| {
        let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
        let (x, y, weight) = (buffer(64), buffer(64), buffer(16));
        let prepare = |problem: &Problem, buffers: Buffers| norm::prepare(&gpu.kernels, problem, buffers);
        let bare = Problem { rows: 4, cols: 16, ..Problem::default() };
        let overlapping = Layout::strided(0, [0, 0, 15]);
        for (problem, arg) in [
            (Problem { dims: [0, 1], ..bare }, "dims"),
            (Problem { dims: [1, 3], ..bare }, "rows"),
            (Problem { cols: 1 << 33, ..bare }, "cols"),
            (Problem { eps: -1.0, ..bare }, "eps"),
            (Problem { eps: f32::NAN, ..bare }, "eps"),
            (Problem { weight_offset: f32::INFINITY, ..bare }, "weight_offset"),
            (Problem { dims: [1, 4], y_layout: overlapping, ..bare }, "y_layout"),
            (Problem { dims: [1, 4], sum: Some(overlapping), ..bare }, "sum"),
            (Problem { cols: 0, stats: Some(0), ..bare }, "stats"),
        ] {
            invalid(arg, prepare(&problem, Buffers::new(&x, &y)))?;
        }
        let weighted = Problem { weight: Some(Vector::of(Dtype::F32)), ..bare };
        refused("no weight", prepare(&weighted, Buffers::new(&x, &y)), |e| {
            matches!(e, Error { op: "norm", kind: ErrorKind::MissingBuffer { buffer: "weight" } })
        })?;
        refused("a weight too many", prepare(&bare, Buffers::new(&x, &y).weight(&weight)), |e| {
            matches!(e.kind, ErrorKind::UnusedBuffer { buffer: "weight" })
        })?;
        let shifted = Problem { weight: Some(Vector { dtype: Dtype::F32, offset: 1 }), ..bare };
        refused("a short weight", prepare(&shifted, Buffers::new(&x, &y).weight(&weight)), |e| {
            matches!(e.kind, ErrorKind::BufferTooSmall { buffer: "weight", need: 68, have: 64 })
        })?;
        let summed = Problem { residual: Some(Dtype::F32), sum: Some(Layout::default()), ..bare };
        refused("sum in y", prepare(&summed, Buffers::new(&x, &y).residual(&x).sum(&y)), |e| {
            matches!(e.kind, ErrorKind::Aliased { first: "y", second: "sum", .. })
        })?;
        let large = buffer(256);
        let apart = Problem { sum: Some(Layout::at(8)), ..summed };
        refused(
            "views that overlap in part",
            prepare(&apart, Buffers::new(&large, &y).residual(&x).sum(&large)),
            |e| matches!(e.kind, ErrorKind::Aliased { first: "x", second: "sum", .. }),
        )?;
        let halved = Problem { x: Dtype::F16, ..summed };
        refused(
            "sum of another dtype in residual",
            prepare(&halved, Buffers::new(&x, &y).residual(&large).sum(&large)),
            |e| matches!(e.kind, ErrorKind::Aliased { first: "residual", second: "sum", .. }),
        )?;
        refused("weight in y", prepare(&weighted, Buffers::new(&x, &y).weight(&y)), |e| {
            matches!(e.kind, ErrorKind::Aliased { first: "y", second: "weight", .. })
        })?;
        let long = tile(Algorithm::Registers, 8, 1, 2, Reduce::None);
        let unfit = norm::prepare_with(&gpu.kernels, &bare, &long, Buffers::new(&x, &y));
        refused("a row that the tile does not hold", unfit, |e| matches!(e.kind, ErrorKind::ConfigUnfit { .. }))?;
        gpu.read(&y).map(drop)
    });
}
