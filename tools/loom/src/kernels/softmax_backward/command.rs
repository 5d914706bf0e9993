//! What the gradient of softmax brings to the commands: checks and benchmarks.

use tileloom::Dtype;
use tileloom::reference::Verdict;
use tileloom::softmax_backward::{self, Buffers, Problem};

use super::{Call, Memory, Output};
use crate::Gpu;
use crate::case::{Case, Fault};
use crate::kernels::{Bench, Check, Kernel, Replay};
use crate::memory::POISON;
use crate::pool::{Pool, Prepared};

/// The gradient of softmax, for the commands.
pub struct SoftmaxBackward;

pub const KERNEL: SoftmaxBackward = SoftmaxBackward;

fn typed(dtype: Dtype, problem: Problem) -> Problem {
    Problem { y: dtype, dy: dtype, dx: dtype, ..problem }
}

impl Kernel for SoftmaxBackward {
    fn name(&self) -> &'static str {
        "softmax_backward"
    }

    /// Case files know no gradients.
    fn ops(&self) -> &'static [&'static str] {
        &[]
    }

    fn checks(&self) -> Vec<Check> {
        let rows = |rows, cols| Problem { rows, cols, ..Problem::default() };
        let causal = Problem { dims: [3, 24], causal: true, ..rows(2 * 72, 40) };
        let cases = [
            ("short rows", rows(33, 8), Memory::Separate),
            ("odd cols, masked", rows(37, 111), Memory::Separate),
            ("log, odd cols, masked", Problem { log: true, scale: 0.125, ..rows(37, 111) }, Memory::Separate),
            ("4096 cols", rows(9, 4096), Memory::Separate),
            ("long row, split", rows(2, 100_003), Memory::Separate),
            ("f16, odd cols", typed(Dtype::F16, rows(37, 111)), Memory::Separate),
            ("bf16, odd cols", typed(Dtype::Bf16, rows(37, 111)), Memory::Separate),
            ("causal", causal, Memory::Separate),
            ("in place", rows(37, 111), Memory::OverDy),
            ("70,001 rows", rows(70_001, 8), Memory::Separate),
        ];
        let check = |(name, problem, memory): (&'static str, Problem, Memory)| {
            Check::new(name, move |gpu| {
                let call = Call::random(problem, 1, name.contains("masked")).in_memory(memory);
                Ok(call.judge(&call.run(gpu, &gpu.kernels, None)?))
            })
        };
        cases.into_iter().map(check).collect()
    }

    fn replay(&self, case: &Case) -> Result<Replay, Fault> {
        Err(Fault::UnknownOp { op: case.metadata.get("op").cloned().unwrap_or_default(), known: Vec::new() })
    }

    fn benches(&self) -> Vec<Bench> {
        let rows = |rows, cols| Problem { rows, cols, ..Problem::default() };
        [
            ("4096x4096 f32", rows(4096, 4096)),
            ("4096x4096 f16", typed(Dtype::F16, rows(4096, 4096))),
            ("4096x4096 f32 log", Problem { log: true, ..rows(4096, 4096) }),
            ("65536x64 f32", rows(65_536, 64)),
            ("8192x1000 f32", rows(8192, 1000)),
            ("16x50257 f32", rows(16, 50_257)),
        ]
        .map(|(shape, problem)| bench(shape, problem))
        .into()
    }
}

/// Rows that a benchmark's check looks at, evenly from the first to the last.
const SAMPLE: usize = 16;

fn bench(shape: &str, problem: Problem) -> Bench {
    let Problem { rows, cols, .. } = problem;
    let elements = rows * cols;
    let width = |dtype: Dtype| dtype.bytes() as usize;
    Bench {
        shape: shape.into(),
        quick: shape == "4096x4096 f32",
        // Product and sum, difference, two products; or sum, exponential, product, difference, product.
        flops: 5.0 * elements as f64,
        bytes: (elements * (width(problem.y) + width(problem.dy) + width(problem.dx))) as f64,
        prepare: Box::new(move |gpu: &Gpu, pool: &Pool, sets: usize| {
            let config = softmax_backward::choose(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())?;
            let mut dispatches = Vec::with_capacity(sets);
            let mut first = None;
            for set in 0..sets {
                // y is any row of numbers, of either sign: the formula is the same, and exponentials stay small.
                let y = gpu.buffer(&pool.bytes(problem.y, elements, 2 * set));
                let dy = gpu.buffer(&pool.bytes(problem.dy, elements, 2 * set + 1));
                let dx = gpu.buffer(&vec![POISON; (elements * width(problem.dx)).next_multiple_of(4)]);
                let buffers = Buffers::new(&y, &dy, &dx);
                let dispatch = softmax_backward::prepare_with(&gpu.kernels, &problem, &config, buffers);
                dispatches.push(dispatch.map_err(|error| error.to_string())?);
                first.get_or_insert((y, dy, dx));
            }
            let (y, dy, dx) = first.ok_or("no input set was asked for")?;
            let check = move |gpu: &Gpu| -> Result<Verdict, String> {
                let few = SAMPLE.min(rows);
                let picked = |bytes: &[u8], dtype: Dtype| -> Vec<f64> {
                    let row = |at: usize| dtype.decode(&bytes[at * cols * width(dtype)..][..cols * width(dtype)]);
                    (0..few).flat_map(|i| row(if few == 1 { 0 } else { i * (rows - 1) / (few - 1) })).collect()
                };
                let (y, dy) = (picked(&gpu.read(&y)?, problem.y), picked(&gpu.read(&dy)?, problem.dy));
                let dx = picked(&gpu.read(&dx)?, problem.dx);
                let call = Call::new(Problem { rows: few, ..problem }, y, dy);
                Ok(call.judge(&Output { dx, steps: Vec::new() }))
            };
            Ok(Prepared { dispatches, config: format!("{config:?}"), check: Box::new(check) })
        }),
    }
}
