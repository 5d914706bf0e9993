//! The gradients of RMS norm and layer norm on a GPU: what is more than to run a Problem and judge.

use loom::harness::Call;
use loom::kernels::rows::norm_backward::{all, shape};
use loom::kernels::rows::tile;
use tileloom::norm::{Kind, Vector};
use tileloom::norm_backward::{self, Algorithm, Buffers, Problem, Reduce};
use tileloom::{Context, Dtype, Error, ErrorKind, Layout, NormOptions};

use crate::{Depth, Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("norm_backward", cases);

pub fn cases(suite: &mut Suite) {
    errors(suite);
    suite.case("tensors", tensors);
    if suite.depth >= Depth::Wide {
        suite.case("pooled scratch, in turns", |gpu| {
            // The sums over columns read x before dx takes its place.
            let problem = all(shape(Kind::Layer, 3, 20_004));
            let call = Call::random(problem, 1);
            let config = tile(Algorithm::Split, 8, 8, 4, Reduce::Tree);
            let buffer = |name: &str| gpu.buffer(&Dtype::F32.encode(&call.values[name]));
            let (x, dy, weight) = (buffer("x"), buffer("dy"), buffer("weight"));
            let (dweight, dbias) = (gpu.buffer(&vec![0xff; 80_032]), gpu.buffer(&vec![0xff; 80_032]));
            let buffers = Buffers::new(&x, &dy).weight(&weight).dx(&x).dweight(&dweight).dbias(&dbias);
            let dispatch = norm_backward::prepare_with(&gpu.kernels, &problem, &config, buffers);
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            dispatch.map_err(|error| error.to_string())?.record(&mut encoder);
            gpu.queue.submit([encoder.finish()]);
            let read = |buffer: &_, at: usize, len| -> Result<Vec<f64>, String> {
                Ok(Dtype::F32.decode(&gpu.read(buffer)?)[at..at + len].to_vec())
            };
            let (dx, dweight) = (read(&x, 0, 3 * 20_004)?, read(&dweight, 1, 20_004)?);
            let values = [("dx", dx), ("dweight", dweight), ("dbias", read(&dbias, 2, 20_004)?)].into();
            let verdict = call.judge(&loom::harness::Output { values, steps: Vec::new() });
            if verdict.ok() { Ok(()) } else { Err(verdict.to_string()) }
        });
    }
}

fn tensors(gpu: &loom::Gpu) -> Result<(), String> {
    let run = async {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let mut batch = context.batch();
        let x = context.upload(&[1.0f32, 7.0, 7.0, -1.0], &[2, 2])?;
        let dy = context.upload(&[5.0f32, 5.0, 10.0, 5.0], &[2, 2])?;
        let weight = context.upload(&[1.0f32, 2.0], &[2])?;
        let options = NormOptions { weight: Some((&weight).into()), eps: Some(0.0), ..Default::default() };
        let rms = batch.rms_norm_backward(&x, &dy, &options)?;
        let layer = batch.layer_norm_backward(&x, &dy, &NormOptions { bias: Some((&weight).into()), ..options })?;
        batch.submit()?;
        assert!(rms.dbias.is_none());
        let flat = context.upload(&[1.0f32; 4], &[4])?;
        let refused = x.rms_norm_backward(&flat, &options).map(drop);
        assert!(matches!(refused, Err(Error { kind: ErrorKind::Shape { arg: "dy", .. }, .. })), "{refused:?}");
        let mut read = Vec::new();
        for tensor in [Some(rms.dx), rms.dweight, layer.dweight, layer.dbias].into_iter().flatten() {
            read.push(tensor.read().await?);
        }
        Ok(read)
    };
    let read = pollster::block_on(run).map_err(|error: Error| error.to_string())?;
    // Root mean squares of 5: n is [1/5, 7/5] and [7/5, -1/5]; g is [5, 10] and [10, 10]. Normalised by mean and
    // deviation, n is [-1, 1] and [1, -1].
    let want: [&[f32]; 4] = [
        &[(5.0 - 1.5) / 5.0, (10.0 - 10.5) / 5.0, (10.0 - 8.4) / 5.0, (10.0 + 1.2) / 5.0],
        &[15.0, 6.0],
        &[5.0, 0.0],
        &[15.0, 10.0],
    ];
    let near = |(have, want): (&Vec<f32>, &[f32])| have.iter().zip(want).all(|(have, want)| (have - want).abs() < 1e-5);
    match read.iter().zip(want).all(near) {
        true => Ok(()),
        false => Err(format!("{read:?}")),
    }
}

/// Every way to be refused that is not norm's; nothing reaches the device's handlers.
fn errors(suite: &mut Suite) {
    suite.case("errors", |gpu| {
        let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
        let (x, dy, dx, weight) = (buffer(64), buffer(64), buffer(64), buffer(16));
        let prepare = |problem: &Problem, buffers: Buffers| norm_backward::prepare(&gpu.kernels, problem, buffers);
        let bare = Problem { rows: 4, cols: 16, ..Problem::default() };
        for (problem, arg) in [
            (Problem { dims: [1, 3], ..bare }, "rows"),
            (Problem { eps: f32::INFINITY, ..bare }, "eps"),
            (Problem { dims: [1, 4], dx_layout: Layout::strided(0, [0, 0, 15]), ..bare }, "dx_layout"),
        ] {
            invalid(arg, prepare(&problem, Buffers::new(&x, &dy).dx(&dx)))?;
        }
        refused("no dx", prepare(&bare, Buffers::new(&x, &dy)), |e| {
            matches!(e, Error { op: "norm_backward", kind: ErrorKind::MissingBuffer { buffer: "dx" } })
        })?;
        let none = Problem { dx: None, ..bare };
        refused("a dx too many", prepare(&none, Buffers::new(&x, &dy).dx(&dx)), |e| {
            matches!(e.kind, ErrorKind::UnusedBuffer { buffer: "dx" })
        })?;
        let weighted = Problem { weight: Some(Vector::of(Dtype::F32)), ..bare };
        refused("no weight", prepare(&weighted, Buffers::new(&x, &dy).dx(&dx)), |e| {
            matches!(e.kind, ErrorKind::MissingBuffer { buffer: "weight" })
        })?;
        let shifted = Problem { dweight: Some(1), ..bare };
        refused("a short dweight", prepare(&shifted, Buffers::new(&x, &dy).dx(&dx).dweight(&weight)), |e| {
            matches!(e.kind, ErrorKind::BufferTooSmall { buffer: "dweight", need: 68, have: 64 })
        })?;
        let both = Problem { dweight: Some(0), dbias: Some(0), ..bare };
        let buffers = Buffers::new(&x, &dy).dx(&dx).dweight(&weight).dbias(&weight);
        refused("dweight in dbias", prepare(&both, buffers), |e| {
            matches!(e.kind, ErrorKind::Aliased { first: "dweight", second: "dbias", .. })
        })?;
        let scratch = buffer(16);
        let buffers = Buffers::new(&x, &dy).dx(&dx).dweight(&weight).scratch(&scratch);
        refused("short scratch", prepare(&Problem { dbias: None, ..both }, buffers), |e| {
            matches!(e.kind, ErrorKind::BufferTooSmall { buffer: "scratch", .. })
        })?;
        let large = buffer(256);
        let apart = Problem { dx_layout: Layout::at(8), ..bare };
        refused("views that overlap in part", prepare(&apart, Buffers::new(&x, &large).dx(&large)), |e| {
            matches!(e.kind, ErrorKind::Aliased { first: "dy", second: "dx", .. })
        })?;
        gpu.read(&dx).map(drop)
    });
}
