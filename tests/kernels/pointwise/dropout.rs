//! Dropout on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use loom::kernels::pointwise::dropout::shape;
use tileloom::dropout::{self, Buffers, Problem};
use tileloom::sample::Step;
use tileloom::{Context, DropoutOptions, Dtype, Error, ErrorKind, Layout};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("dropout", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", tensors);
    suite.case("one mask, whatever layouts and dtypes", one_mask);
}

/// The mask of f32 in a row is that of f16 rows that share words, and that of gradients.
fn one_mask(gpu: &Gpu) -> Result<(), String> {
    let ones = |problem: Problem| {
        let call = Call::random(problem, 1).with("x", vec![1.0; problem.rows * problem.cols]);
        Ok::<_, String>(call.run(gpu, &gpu.kernels, None)?.values["y"].iter().map(|&y| y != 0.0).collect::<Vec<_>>())
    };
    let first = shape(37, 35);
    let mask = ones(first)?;
    let padded = Layout::strided(1, [0, 0, 37]);
    for other in [
        Problem { x: Dtype::F16, y: Dtype::F16, ..first },
        Problem { dims: [1, 37], y: Dtype::Bf16, y_layout: padded, ..first },
        Problem { rows: 5, cols: 7 * 37, ..first },
    ] {
        if ones(other)? != mask {
            return Err(format!("another mask: {other:?}"));
        }
    }
    let another = Problem { offset: Step::At(8), ..first };
    if ones(another)? == mask { Err("offset 8 has the mask of 7".into()) } else { Ok(()) }
}

fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = async {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let x = context.upload(&[1.0f32; 64], &[8, 8])?;
        let options = DropoutOptions { p: 0.5, seed: 3, offset: 1, first: 0, residual: None };
        let y = x.dropout(&options)?;
        let z = x.dropout(&DropoutOptions { residual: Some(&y), ..options })?;
        let flat = context.upload(&[1.0f32; 64], &[64])?;
        let refused = x.dropout(&DropoutOptions { residual: Some(&flat), ..options }).map(drop);
        assert!(matches!(refused, Err(Error { kind: ErrorKind::Shape { arg: "residual", .. }, .. })), "{refused:?}");
        Ok::<_, Error>((y.read().await?, z.read().await?))
    };
    let (y, z) = pollster::block_on(run).map_err(|error| error.to_string())?;
    let dropped = y.iter().filter(|&&y| y == 0.0).count();
    let right = y.iter().zip(&z).all(|(&y, &z)| (y == 0.0 || y == 2.0) && z == 2.0 * y);
    if right && (8..56).contains(&dropped) { Ok(()) } else { Err(format!("{y:?} {z:?}")) }
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
    let (x, y) = (buffer(64), buffer(64));
    let prepare = |problem: &Problem, buffers: Buffers| dropout::prepare(&gpu.kernels, problem, buffers);
    let good = shape(4, 16);
    for (problem, arg) in [
        (Problem { dims: [1, 3], ..good }, "rows"),
        (Problem { p: 1.5, ..good }, "p"),
        (Problem { p: -0.1, ..good }, "p"),
        (Problem { p: f32::NAN, ..good }, "p"),
        (Problem { dims: [1, 4], y_layout: Layout::strided(0, [0, 0, 15]), ..good }, "y_layout"),
    ] {
        invalid(arg, prepare(&problem, Buffers::new(&x, &y)))?;
    }
    refused("no residual", prepare(&Problem { residual: Some(Dtype::F32), ..good }, Buffers::new(&x, &y)), |e| {
        matches!(e, Error { op: "dropout", kind: ErrorKind::MissingBuffer { buffer: "residual" } })
    })?;
    refused("an offset too many", prepare(&good, Buffers::new(&x, &y).offset(&x)), |e| {
        matches!(e.kind, ErrorKind::UnusedBuffer { buffer: "offset" })
    })?;
    let read = Problem { offset: Step::Buffer(2), ..good };
    refused("a short offset", prepare(&read, Buffers::new(&x, &y).offset(&buffer(2))), |e| {
        matches!(e.kind, ErrorKind::BufferTooSmall { buffer: "offset", need: 12, have: 8 })
    })?;
    gpu.read(&y).map(drop)
}
