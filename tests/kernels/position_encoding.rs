//! Position encodings on a GPU. Cases share few pipelines: shapes, orders and tables' sizes are parameters.

use loom::Gpu;
use loom::kernels::position_encoding::{Call, Output};
use tileloom::position_encoding::{self, Axis, Buffers, Encoding, Order, Positions, Problem, Table};
use tileloom::rope::Frequencies;
use tileloom::{Context, Dtype, Error, ErrorKind, Layout, PositionEncoding, PositionOptions};

use crate::{Depth, Suite};

const FAR: usize = 1 << 20;

fn frequencies(dim: usize) -> Vec<f64> {
    Frequencies::new(dim, 10_000.0).unwrap().per_pair
}

fn read(signed: bool) -> Positions {
    Positions::Buffer { signed, layout: Layout::default() }
}

fn sequence(batch: usize, cols: usize, dim: usize) -> Problem {
    let encoding = Encoding::sequence(&frequencies(dim), Order::Interleaved);
    Problem { batch, cols, dim, scale: 1.5, encoding, ..Problem::default() }
}

fn learned(dtype: Dtype, len: usize, rows: Option<usize>, offset: usize) -> Encoding {
    let table = |len| Table { len, offset };
    Encoding::Learned { dtype, table: table(len), row_table: rows.map(table) }
}

fn typed(dtype: Dtype, problem: Problem) -> Problem {
    Problem { x: dtype, y: dtype, ..problem }
}

/// Runs and judges; the step must say all of `words`.
fn check(gpu: &Gpu, call: &Call, words: &[&str]) -> Result<Output, String> {
    let (output, _) = call.check(gpu, &gpu.kernels, None)?;
    match words.iter().all(|word| output.steps[0].contains(word)) {
        true => Ok(output),
        false => Err(format!("meant to run {words:?}, ran {}", output.steps[0])),
    }
}

pub fn cases(suite: &mut Suite) {
    everywhere(suite);
    errors(suite);
    if suite.depth >= Depth::Wide {
        wide(suite);
    }
    if suite.depth == Depth::Full {
        full(suite);
    }
}

/// About eight pipelines.
fn everywhere(suite: &mut Suite) {
    suite.case("sequences and pictures, counted", |gpu| {
        for (batch, cols, dim) in [(1, 1, 4), (3, 7, 64), (37, 5, 16), (2, 130, 40)] {
            for order in [Order::Interleaved, Order::Halves] {
                let encoding = Encoding::sequence(&frequencies(dim), order);
                let positions = Positions::From { col: 1_000_000, row: 0 };
                let problem = Problem { encoding, positions, ..sequence(batch, cols, dim) };
                check(gpu, &Call::random(problem, 7, 1), &["vec: 4, x: F32, y: F32", "table: None"])?;
                for first in [Axis::Col, Axis::Row] {
                    let encoding = Encoding::picture(&frequencies(dim / 2), order, first);
                    let positions = Positions::From { col: -3, row: 70_000 };
                    let problem = Problem { rows: 6, encoding, positions, ..sequence(batch, cols, dim) };
                    check(gpu, &Call::random(problem, 9, 1), &["vec: 4, x: F32, y: F32", "table: None"])?;
                }
            }
        }
        Ok(())
    });
    suite.case("positions of every size and sign", |gpu| {
        for (signed, reach) in [(false, FAR), (false, u32::MAX as usize), (true, FAR), (true, u32::MAX as usize)] {
            let problem = Problem { positions: read(signed), ..sequence(3, 65, 64) };
            check(gpu, &Call::random(problem, 5, reach), &["table: None", "positions: true"])?;
            // By two axes, batches in the other order; all batches at one position.
            let encoding = Encoding::picture(&frequencies(32), Order::Halves, Axis::Col);
            for layout in [Layout::strided(5, [20, 40]), Layout::strided(1, [20, 0])] {
                let positions = Positions::Buffer { signed, layout };
                let problem = Problem { rows: 2, positions, encoding: encoding.clone(), ..sequence(3, 9, 64) };
                let mut call = Call::random(problem, 5, reach);
                if layout.strides == Some([20, 0]) {
                    let values = call.positions.as_mut().unwrap();
                    (0..values.len()).for_each(|i| values[i] = values[i / 54 * 54 + i % 18]);
                }
                check(gpu, &call, &["table: None", "positions: true"])?;
            }
        }
        Ok(())
    });
    suite.case("learned, hostile positions", |gpu| {
        for rows in [None, Some(5)] {
            for signed in [false, true] {
                let encoding = learned(Dtype::F32, 9, rows, 8);
                let problem = Problem { rows: 3, encoding, positions: read(signed), ..sequence(2, 11, 64) };
                let mut call = Call::random(problem, 8, 24);
                for (i, p) in call.positions.iter_mut().flatten().enumerate() {
                    match i % 5 {
                        0 if signed => *p = i64::from(i32::MIN),
                        1 => *p = if signed { i64::from(i32::MAX) } else { i64::from(u32::MAX) },
                        _ => {}
                    }
                }
                check(
                    gpu,
                    &call,
                    if rows.is_some() { &["table: Some(F32)", "rows: true"] } else { &["table: Some(F32)"] },
                )?;
            }
        }
        Ok(())
    });
    suite.case("odd sizes and offsets", |gpu| {
        for (dim, offset) in [(2, 0), (6, 0), (64, 1), (10, 3)] {
            let base = sequence(3, 5, dim);
            let problem = Problem { x_layout: Layout::at(offset), y_layout: Layout::at(2 * offset), ..base };
            check(gpu, &Call::random(problem, 3, 1), &["vec: 1, x: F32, y: F32", "table: None"])?;
        }
        Ok(())
    });
    suite.case("f16, in place", |gpu| {
        let call = Call::random(typed(Dtype::F16, sequence(3, 17, 72)), 8, 1);
        check(gpu, &Call { in_place: true, ..call }, &["in_place: true", "table: None"]).map(drop)
    });
    suite.case("bf16 tokens that share words", |gpu| {
        // Seven elements per token: by batch a token starts in either half of a word.
        let problem = Problem { dim: 7, encoding: learned(Dtype::Bf16, 9, None, 1), ..sequence(5, 9, 8) };
        let call = Call::random(typed(Dtype::Bf16, problem), 3, 1);
        for in_place in [false, true] {
            let call = Call { in_place, ..call.clone() };
            check(
                gpu,
                &call,
                if in_place { &["edge: true", "in_place: true"] } else { &["edge: true", "table: Some(Bf16Packed)"] },
            )?;
        }
        Ok(())
    });
    suite.case("nothing to compute", |gpu| {
        for (batch, cols) in [(0, 8), (8, 0)] {
            let output = Call::random(sequence(batch, cols, 8), 1, 1).run(gpu, &gpu.kernels, None)?;
            if !output.steps.is_empty() {
                return Err(format!("dispatched {:?}", output.steps));
            }
        }
        Ok(())
    });
}

fn wide(suite: &mut Suite) {
    suite.case("checked modules give the same", |gpu| {
        let encoding = learned(Dtype::F32, 4, Some(2), 0);
        for problem in [sequence(3, 17, 64), Problem { rows: 3, positions: read(true), encoding, ..sequence(2, 5, 64) }]
        {
            let call = Call::random(problem, 1, FAR);
            let (unchecked, _) = call.check(gpu, &gpu.kernels, None)?;
            let (checked, _) = call.check(gpu, gpu.checked(), None)?;
            if gpu.is_software() && unchecked.y != checked.y {
                return Err("bits differ".into());
            }
        }
        Ok(())
    });
    suite.case("strided views, dtypes of their own", |gpu| {
        for (x, y, dim) in [(Dtype::F16, Dtype::F32, 12), (Dtype::F32, Dtype::Bf16, 6), (Dtype::Bf16, Dtype::F16, 9)] {
            // Tokens within rows of 20, batches innermost.
            let (x_layout, y_layout) = (Layout::strided(4, [20, 500, 100]), Layout::strided(8, [24, 600, 120]));
            let encoding = learned(x, 30, Some(30), 0);
            let problem = Problem { rows: 3, dim, x, y, x_layout, y_layout, encoding, ..sequence(4, 4, 8) };
            check(gpu, &Call::random(problem, 6, 1), &["rows: true"])?;
        }
        Ok(())
    });
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

/// Forms by dtypes.
fn full(suite: &mut Suite) {
    for x in Dtype::ALL {
        for y in Dtype::ALL {
            suite.case(format!("{x} to {y}"), move |gpu| {
                for (dim, offset) in [(64, 0), (10, 2), (6, 1)] {
                    for encoding in [sequence(1, 1, dim).encoding, learned(x, 40, None, 0), learned(y, 40, Some(2), 0)]
                    {
                        for positions in [Positions::default(), read(true)] {
                            let y_layout = Layout::at(offset);
                            let base = Problem { rows: 3, x, y, y_layout, positions, ..sequence(5, 7, dim) };
                            let problem = Problem { encoding: encoding.clone(), ..base };
                            check(gpu, &Call::random(problem, 2, FAR), &[])?;
                        }
                    }
                }
                Ok(())
            });
        }
    }
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
            match prepare(&problem, Buffers::new(&x, &y)) {
                Err(Error { kind: ErrorKind::InvalidProblem { arg: have, .. }, .. }) if have == arg => {}
                other => return Err(format!("{arg}: {:?}", other.err())),
            }
        }
        let expect = |what: &str, result: Result<_, Error>, ok: fn(&Error) -> bool| match result {
            Err(error) if ok(&error) => Ok(()),
            Err(error) => Err(format!("{what}: {error:?}")),
            Ok(_) => Err(format!("{what} was accepted")),
        };
        let table = Problem { encoding: learned(Dtype::F32, 9, None, 0), ..of() };
        expect("no table", prepare(&table, Buffers::new(&x, &y)), |e| {
            matches!(e, Error { kind: ErrorKind::MissingBuffer { buffer: "table", .. }, .. })
        })?;
        expect("a short table", prepare(&table, Buffers::new(&x, &y).table(&buffer(71))), |e| {
            matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "table", need: 288, have: 284, .. }, .. })
        })?;
        expect("a table too many", prepare(&good, Buffers::new(&x, &y).row_table(&x)), |e| {
            matches!(e, Error { kind: ErrorKind::UnusedBuffer { buffer: "row_table", .. }, .. })
        })?;
        let few = Problem { positions: read(false), ..of() };
        expect("few positions", prepare(&few, Buffers::new(&x, &y).positions(&buffer(7))), |e| {
            matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "positions", need: 32, have: 28, .. }, .. })
        })?;
        let large = buffer(256);
        let shifted = Problem { y_layout: Layout::at(4), ..of() };
        expect("views that overlap in part", prepare(&shifted, Buffers::in_place(&large)), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { first: "x", second: "y", .. }, .. })
        })?;
        gpu.read(&x).map(drop)
    });
}
