//! Position encodings on a GPU: what is more than a Problem of the list.

use loom::kernels::position::position_encoding::{learned, read, sequence};
use tileloom::position_encoding::{self, Buffers, Encoding, Order, Positions, Problem};
use tileloom::{Context, Dtype, Error, ErrorKind, Layout, PositionEncoding, PositionOptions};

use crate::{Depth, Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("position_encoding", cases);

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
            let x = context.upload(&[0.5f32, 0.5, 0.25, 0.25], &[1, 2, 2])?;
            let Encoding::Waves(waves) = Encoding::sequence(&[1.0], Order::Interleaved) else { unreachable!() };
            let options = PositionOptions { scale: 2.0, ..PositionOptions::new(PositionEncoding::Waves(&waves)) };
            let y = x.add_positions(&options)?;
            let table = context.upload(&[1.0f32, 2.0, 3.0, 4.0], &[2, 2])?;
            let at = context.upload(&[7, -7], &[1, 2])?;
            let by_table = PositionOptions::new(PositionEncoding::Table(&table));
            let z = x.add_positions(&PositionOptions { positions: Some(&at), ..by_table })?;
            let narrow = context.upload(&[1.0f32, 2.0, 3.0], &[3, 1])?;
            let refused = x.add_positions(&PositionOptions::new(PositionEncoding::Tables(&table, &narrow)));
            assert!(
                matches!(refused, Err(Error { kind: ErrorKind::Shape { arg: "row_table", .. }, .. })),
                "{refused:?}"
            );
            Ok::<_, Error>((y.read().await?, z.read().await?))
        };
        let (y, z) = pollster::block_on(run).map_err(|error| error.to_string())?;
        let near = y.iter().zip([1.0, 2.0, 0.5 + 1f32.sin(), 0.5 + 1f32.cos()]).all(|(a, b)| (a - b).abs() < 1e-6);
        if near && z == [3.5, 4.5, 1.25, 2.25] { Ok(()) } else { Err(format!("{y:?} {z:?}")) }
    });
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(suite: &mut Suite) {
    suite.case("errors", |gpu| {
        let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
        let (x, y) = (buffer(64), buffer(64));
        let good = sequence(2, 4, 8);
        let prepare = |problem: &Problem, buffers: Buffers| position_encoding::prepare(&gpu.kernels, problem, buffers);
        let overlapping = Layout::strided(0, [32, 32, 7]);
        let of = || good.clone();
        for (problem, arg) in [
            (Problem { scale: f32::NAN, ..of() }, "scale"),
            (Problem { dim: 1 << 33, ..of() }, "dim"),
            (Problem { dim: 6, ..of() }, "encoding"),
            (Problem { dim: 2, encoding: Encoding::sequence(&[-1.0], Order::Halves), ..of() }, "encoding"),
            (Problem { positions: Positions::From { col: u32::MAX as i64 - 2, row: 0 }, ..of() }, "positions"),
            (Problem { y_layout: overlapping, ..of() }, "y_layout"),
            (Problem { encoding: learned(Dtype::F32, 0, None, 0), ..of() }, "table"),
        ] {
            invalid(arg, prepare(&problem, Buffers::new(&x, &y)))?;
        }
        let table = Problem { encoding: learned(Dtype::F32, 9, None, 0), ..of() };
        refused("no table", prepare(&table, Buffers::new(&x, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::MissingBuffer { buffer: "table", .. }, .. })
        })?;
        refused("a short table", prepare(&table, Buffers::new(&x, &y).table(&buffer(71))), |e| {
            matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "table", need: 288, have: 284, .. }, .. })
        })?;
        refused("a table too many", prepare(&good, Buffers::new(&x, &y).row_table(&x)), |e| {
            matches!(e, Error { kind: ErrorKind::UnusedBuffer { buffer: "row_table", .. }, .. })
        })?;
        let few = Problem { positions: read(false), ..of() };
        refused("few positions", prepare(&few, Buffers::new(&x, &y).positions(&buffer(7))), |e| {
            matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "positions", need: 32, have: 28, .. }, .. })
        })?;
        let large = buffer(256);
        let shifted = Problem { y_layout: Layout::at(4), ..of() };
        refused("views that overlap in part", prepare(&shifted, Buffers::in_place(&large)), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { first: "x", second: "y", .. }, .. })
        })?;
        gpu.read(&x).map(drop)
    });
}
