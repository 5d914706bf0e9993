//! The gradient of softmax on a GPU: what is more than a Problem of the list.

use loom::kernels::rows::softmax_backward::shape;
use loom::kernels::rows::tile;
use tileloom::softmax_backward::{self, Algorithm, Buffers, Problem, Reduce};
use tileloom::{Context, Dtype, Error, ErrorKind, Layout, SoftmaxOptions};

use crate::{Depth, Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("softmax_backward", cases);

pub fn cases(suite: &mut Suite) {
    errors(suite);
    if suite.depth >= Depth::Wide {
        tensors(suite);
    }
}

fn tensors(suite: &mut Suite) {
    suite.case("tensors", |gpu| {
        let run = async {
            let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
            let mut batch = context.batch();
            // Scores 0 and 2 ln 3, halved: y = [1/4, 3/4], once more with the second hidden.
            let x = context.upload(&[0.0f32, 2.0 * 3f32.ln(), 0.0, 1.0], &[2, 2])?;
            let mask = context.upload(&[1u8, 1, 1, 0], &[2, 2])?;
            let dy = context.upload(&[4.0f32, 8.0, 5.0, 6.0], &[2, 2])?;
            let options = SoftmaxOptions { scale: 0.5, mask: Some((&mask).into()), ..Default::default() };
            let y = batch.softmax(&x, &options)?;
            let dx = batch.softmax_backward(&y, &dy, &options)?;
            batch.submit()?;
            let flat = context.upload(&[1.0f32; 4], &[4])?;
            let refused = y.softmax_backward(&flat, &options);
            assert!(matches!(refused, Err(Error { kind: ErrorKind::Shape { arg: "dy", .. }, .. })), "{refused:?}");
            dx.read().await
        };
        let dx: Vec<f32> = pollster::block_on(run).map_err(|error: Error| error.to_string())?;
        // sum(y dy) = 7: 1/2 * 1/4 * -3, 1/2 * 3/4 * 1.
        let near = dx.iter().zip([-0.375, 0.375, 0.0, 0.0]).all(|(have, want)| (have - want).abs() < 1e-6);
        if near { Ok(()) } else { Err(format!("{dx:?}")) }
    });
}

/// Every way to be refused that is not softmax's; nothing reaches the device's handlers.
fn errors(suite: &mut Suite) {
    suite.case("errors", |gpu| {
        let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
        let (y, dy, dx) = (buffer(64), buffer(64), buffer(64));
        let prepare = |problem: &Problem, buffers: Buffers| softmax_backward::prepare(&gpu.kernels, problem, buffers);
        let good = shape(4, 16);
        let overlapping = Problem { dims: [1, 4], dx_layout: Layout::strided(0, [0, 0, 15]), ..good };
        for (problem, arg) in [
            (Problem { dims: [0, 1], ..good }, "dims"),
            (Problem { dims: [1, 3], ..good }, "rows"),
            (Problem { cols: 1 << 33, ..good }, "cols"),
            (Problem { scale: f32::INFINITY, ..good }, "scale"),
            (overlapping, "dx_layout"),
        ] {
            invalid(arg, prepare(&problem, Buffers::new(&y, &dy, &dx)))?;
        }
        let short = buffer(63);
        refused("a short dy", prepare(&good, Buffers::new(&y, &short, &dx)), |e| {
            matches!(
                e,
                Error {
                    op: "softmax_backward",
                    kind: ErrorKind::BufferTooSmall { buffer: "dy", need: 256, have: 252 }
                }
            )
        })?;
        let large = buffer(256);
        let shifted = Problem { dx_layout: Layout::at(8), ..good };
        refused("views that overlap in part", prepare(&shifted, Buffers::in_place(&y, &large)), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { first: "dy", second: "dx", .. }, .. })
        })?;
        let narrowed = Problem { dx: Dtype::F16, ..good };
        refused("in place with two dtypes", prepare(&narrowed, Buffers::in_place(&y, &dy)), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { .. }, .. })
        })?;
        let long = tile(Algorithm::Registers, 8, 1, 2, Reduce::None);
        let unfit = softmax_backward::prepare_with(&gpu.kernels, &good, &long, Buffers::new(&y, &dy, &dx));
        refused("a row that the tile does not hold", unfit, |e| {
            matches!(e, Error { kind: ErrorKind::ConfigUnfit { .. }, .. })
        })?;
        gpu.read(&y).map(drop)
    });
}
