//! Sums of two tensors on a GPU: what is more than a Problem of the list.

use tileloom::axpby::{self, Buffers, Factor, Problem};
use tileloom::{Context, Dtype, Error, ErrorKind, Layout};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("axpby", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", |gpu| {
        let run = async {
            let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
            let x = context.upload(&[1.0f32, 2.0, 3.0, 70_000.0], &[2, 2])?;
            let z = context.upload(&[4.0f32, 5.0, 6.0, 7.0], &[2, 2])?;
            let sum = x.axpby(2.0, &z, -1.0)?;
            let halves = x.cast::<half::f16>()?;
            let flat = context.upload(&[1.0f32; 4], &[4])?;
            let refused = x.axpby(1.0, &flat, 1.0).map(drop);
            assert!(matches!(refused, Err(Error { kind: ErrorKind::Shape { arg: "z", .. }, .. })), "{refused:?}");
            Ok::<_, Error>((sum.read().await?, halves.read().await?))
        };
        let (sum, halves) = pollster::block_on(run).map_err(|error| error.to_string())?;
        let halves: Vec<f32> = halves.into_iter().map(f32::from).collect();
        match sum == [-2.0, -1.0, 0.0, 139_993.0] && halves == [1.0, 2.0, 3.0, f32::INFINITY] {
            true => Ok(()),
            false => Err(format!("{sum:?} {halves:?}")),
        }
    });
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &loom::Gpu) -> Result<(), String> {
    let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
    let (x, z, y) = (buffer(64), buffer(64), buffer(64));
    let prepare = |problem: &Problem, buffers: Buffers| axpby::prepare(&gpu.kernels, problem, buffers);
    let both = Problem { rows: 4, cols: 16, z: Some(Dtype::F32), ..Problem::default() };
    for (problem, arg) in [
        (Problem { dims: [1, 3], ..both }, "rows"),
        (Problem { a: Factor::Value(f32::NAN), ..both }, "a"),
        (Problem { b: Factor::Value(f32::INFINITY), ..both }, "b"),
        (Problem { cols: 1 << 33, ..both }, "cols"),
        (Problem { dims: [1, 4], y_layout: Layout::strided(0, [0, 0, 15]), ..both }, "y_layout"),
    ] {
        invalid(arg, prepare(&problem, Buffers::new(&x, &y).z(&z)))?;
    }
    refused("no z", prepare(&both, Buffers::new(&x, &y)), |e| {
        matches!(e, Error { op: "axpby", kind: ErrorKind::MissingBuffer { buffer: "z" } })
    })?;
    refused("a z too many", prepare(&Problem { z: None, ..both }, Buffers::new(&x, &y).z(&z)), |e| {
        matches!(e.kind, ErrorKind::UnusedBuffer { buffer: "z" })
    })?;
    refused("factors too many", prepare(&both, Buffers::new(&x, &y).z(&z).factors(&z)), |e| {
        matches!(e.kind, ErrorKind::UnusedBuffer { buffer: "factors" })
    })?;
    let read = Problem { a: Factor::Buffer(64), ..both };
    refused("few factors", prepare(&read, Buffers::new(&x, &y).z(&z).factors(&buffer(64))), |e| {
        matches!(e.kind, ErrorKind::BufferTooSmall { buffer: "factors", need: 260, have: 256 })
    })?;
    refused("a short x", prepare(&both, Buffers::new(&buffer(63), &y).z(&z)), |e| {
        matches!(e.kind, ErrorKind::BufferTooSmall { buffer: "x", need: 256, have: 252 })
    })?;
    let large = buffer(256);
    let apart = Problem { y_layout: Layout::at(8), ..both };
    refused("views that overlap in part", prepare(&apart, Buffers::new(&large, &large).z(&z)), |e| {
        matches!(e.kind, ErrorKind::Aliased { first: "x", second: "y", .. })
    })?;
    gpu.read(&y).map(drop)
}
