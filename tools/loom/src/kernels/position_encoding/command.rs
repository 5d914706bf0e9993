//! What position encodings bring to the commands: checks and benchmarks.

use tileloom::position_encoding::{self, Axis, Buffers, Encoding, Order, Positions, Problem, Table};
use tileloom::reference::Verdict;
use tileloom::rope::Frequencies;
use tileloom::{Dtype, Layout};

use super::{Call, Output};
use crate::Gpu;
use crate::case::{Case, Fault};
use crate::kernels::{Bench, Check, Kernel, Replay};
use crate::memory::POISON;
use crate::pool::{Pool, Prepared};

/// Position encodings, for the commands.
pub struct PositionEncoding;

pub const KERNEL: PositionEncoding = PositionEncoding;

/// Of base 10,000.
fn frequencies(dim: usize) -> Vec<f64> {
    Frequencies::new(dim, 10_000.0).expect("an even number").per_pair
}

fn learned(dtype: Dtype, len: usize, rows: Option<usize>) -> Encoding {
    let table = |len| Table { len, offset: 0 };
    Encoding::Learned { dtype, table: table(len), row_table: rows.map(table) }
}

impl Kernel for PositionEncoding {
    fn name(&self) -> &'static str {
        "position_encoding"
    }

    /// Case files know none.
    fn ops(&self) -> &'static [&'static str] {
        &[]
    }

    fn checks(&self) -> Vec<Check> {
        let sequence = |dim| Problem {
            batch: 3,
            cols: 37,
            dim,
            scale: 8.0,
            encoding: Encoding::sequence(&frequencies(dim), Order::Interleaved),
            ..Problem::default()
        };
        let picture = Encoding::picture(&frequencies(32), Order::Halves, Axis::Col);
        let read = |signed| Positions::Buffer { signed, layout: Layout::default() };
        let typed = |dtype, problem| Problem { x: dtype, y: dtype, ..problem };
        let far = 1 << 20;
        let cases = [
            ("sequence", sequence(64), far),
            ("sequence, positions read", Problem { positions: read(true), ..sequence(64) }, far),
            ("every u32 position", Problem { positions: read(false), ..sequence(64) }, u32::MAX as usize),
            ("f16, odd words", typed(Dtype::F16, sequence(6)), far),
            ("picture", Problem { rows: 5, encoding: picture, ..sequence(64) }, far),
            ("learned", Problem { encoding: learned(Dtype::F32, 37, None), ..sequence(64) }, far),
            (
                "learned, hostile positions",
                Problem { rows: 2, positions: read(true), encoding: learned(Dtype::F32, 9, Some(5)), ..sequence(64) },
                u32::MAX as usize,
            ),
            (
                "bf16, odd dim",
                typed(Dtype::Bf16, Problem { dim: 7, encoding: learned(Dtype::Bf16, 37, None), ..sequence(8) }),
                far,
            ),
        ];
        let check = |(name, problem, reach): (&'static str, Problem, usize)| {
            Check::new(name, move |gpu| {
                let call = Call::random(problem.clone(), 1, reach);
                Ok(call.judge(&call.run(gpu, &gpu.kernels, None)?))
            })
        };
        cases.into_iter().map(check).collect()
    }

    fn replay(&self, case: &Case) -> Result<Replay, Fault> {
        Err(Fault::UnknownOp { op: case.metadata.get("op").cloned().unwrap_or_default(), known: Vec::new() })
    }

    fn benches(&self) -> Vec<Bench> {
        let of = |batch, cols, dim, dtype| Problem {
            batch,
            cols,
            dim,
            x: dtype,
            y: dtype,
            encoding: Encoding::sequence(&frequencies(dim), Order::Interleaved),
            ..Problem::default()
        };
        let table = |dtype, problem| Problem { encoding: learned(dtype, 1024, None), ..problem };
        let picture = Encoding::picture(&frequencies(384), Order::Halves, Axis::Col);
        vec![
            bench("8x1024x1024 f32", of(8, 1024, 1024, Dtype::F32)),
            bench("8x1024x1024 f16", of(8, 1024, 1024, Dtype::F16)),
            bench("1x1024x1024 f32", of(1, 1024, 1024, Dtype::F32)),
            bench("8x1024x1024 f32 learned", table(Dtype::F32, of(8, 1024, 1024, Dtype::F32))),
            bench("16x14x14x768 f32 picture", Problem { rows: 14, encoding: picture, ..of(16, 14, 768, Dtype::F32) }),
        ]
    }
}

fn bench(shape: &str, problem: Problem) -> Bench {
    let p = &problem;
    let elements = p.batch * p.rows * p.cols * p.dim;
    let width = |dtype: Dtype| dtype.bytes() as usize;
    let table_bytes = match &p.encoding {
        Encoding::Waves(waves) => 8 * waves.len(),
        Encoding::Learned { dtype, .. } => p.rows * p.cols * p.dim * width(*dtype),
    };
    Bench {
        shape: shape.into(),
        quick: shape == "8x1024x1024 f32",
        // Scale and sum; angles count nothing.
        flops: 2.0 * elements as f64,
        bytes: (elements * (width(p.x) + width(p.y)) + table_bytes) as f64,
        prepare: Box::new(move |gpu: &Gpu, pool: &Pool, sets: usize| {
            let config = position_encoding::choose(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())?;
            let call = Call::random(Problem { batch: 1, ..problem.clone() }, 3, 1);
            let learned = match &problem.encoding {
                Encoding::Waves(_) => None,
                Encoding::Learned { dtype, .. } => call.tables.first().map(|table| gpu.buffer(&dtype.encode(table))),
            };
            let mut dispatches = Vec::with_capacity(sets);
            let mut first = None;
            for set in 0..sets {
                let x = gpu.buffer(&pool.bytes(problem.x, elements, set));
                let y = gpu.buffer(&vec![POISON; (elements * width(problem.y)).next_multiple_of(4)]);
                let mut buffers = Buffers::new(&x, &y);
                if let Some(learned) = &learned {
                    buffers = buffers.table(learned);
                }
                let dispatch = position_encoding::prepare_with(&gpu.kernels, &problem, &config, buffers);
                dispatches.push(dispatch.map_err(|error| error.to_string())?);
                first.get_or_insert((x, y));
            }
            let (x, y) = first.ok_or("no input set was asked for")?;
            let check = move |gpu: &Gpu| -> Result<Verdict, String> {
                // The last batch, all its tokens.
                let last = |bytes: &[u8], dtype: Dtype| {
                    let own = call.x.len();
                    dtype.decode(&bytes[(elements - own) * width(dtype)..][..own * width(dtype)])
                };
                let x = last(&gpu.read(&x)?, call.problem.x);
                let y = last(&gpu.read(&y)?, call.problem.y);
                Ok(Call { x, ..call.clone() }.judge(&Output { y, steps: Vec::new() }))
            };
            Ok(Prepared { dispatches, config: format!("{config:?}"), check: Box::new(check) })
        }),
    }
}
