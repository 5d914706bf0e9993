//! Sums of columns on a GPU: what is more than a Problem of the list.

use tileloom::column_sums::{self, Buffers, Problem};
use tileloom::{Context, Error, ErrorKind};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("column_sums", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", |gpu| {
        let run = async {
            let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
            let x = context.upload(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &[2, 2, 2])?;
            x.column_sums()?.read().await
        };
        let sums = pollster::block_on(run).map_err(|error: Error| error.to_string())?;
        if sums == [16.0, 20.0] { Ok(()) } else { Err(format!("{sums:?}")) }
    });
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &loom::Gpu) -> Result<(), String> {
    let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
    let (x, y) = (buffer(64), buffer(16));
    let prepare = |problem: &Problem, buffers: Buffers| column_sums::prepare(&gpu.kernels, problem, buffers);
    let good = Problem { rows: 4, cols: 16, ..Problem::default() };
    for (problem, arg) in [(Problem { dims: [1, 3], ..good }, "rows"), (Problem { rows: 1 << 33, ..good }, "rows")] {
        invalid(arg, prepare(&problem, Buffers::new(&x, &y)))?;
    }
    refused("a short y", prepare(&Problem { y: 1, ..good }, Buffers::new(&x, &y)), |e| {
        matches!(e, Error { op: "column_sums", kind: ErrorKind::BufferTooSmall { buffer: "y", need: 68, have: 64 } })
    })?;
    refused("short scratch", prepare(&good, Buffers::new(&x, &y).scratch(&buffer(15))), |e| {
        matches!(e.kind, ErrorKind::BufferTooSmall { buffer: "scratch", need: 64, have: 60 })
    })?;
    refused("y in x", prepare(&good, Buffers::new(&x, &x)), |e| {
        matches!(e.kind, ErrorKind::Aliased { first: "x", second: "y", .. })
    })?;
    gpu.read(&y).map(drop)
}
