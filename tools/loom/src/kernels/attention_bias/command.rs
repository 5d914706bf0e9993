//! What attention biases bring to the commands: checks and benchmarks.

use tileloom::attention_bias::{self, Buckets, Buffers, Kind, Problem};
use tileloom::reference::Verdict;
use tileloom::{Dtype, Layout};

use super::{Call, Output};
use crate::Gpu;
use crate::case::{Case, Fault};
use crate::kernels::{Bench, Check, Kernel, Replay};
use crate::memory::POISON;
use crate::pool::{Pool, Prepared};

/// Attention biases, for the commands.
pub struct AttentionBias;

pub const KERNEL: AttentionBias = AttentionBias;

fn t5(dtype: Dtype, bidirectional: bool) -> Kind {
    Kind::T5 { buckets: Buckets::t5(bidirectional), dtype, layout: Layout::default() }
}

impl Kernel for AttentionBias {
    fn name(&self) -> &'static str {
        "attention_bias"
    }

    /// Case files know none.
    fn ops(&self) -> &'static [&'static str] {
        &[]
    }

    fn checks(&self) -> Vec<Check> {
        let of = |heads, seq_q, seq_kv, kind, bias| Problem { heads, seq_q, seq_kv, bias, kind, ..Problem::default() };
        let alibi = Kind::Alibi { offset: 0 };
        let cases = [
            ("alibi", of(12, 40, 40, alibi, Dtype::F32)),
            ("alibi, decode", of(12, 1, 300, alibi, Dtype::F32)),
            ("alibi, odd f16", of(5, 7, 33, alibi, Dtype::F16)),
            ("t5 encoder", of(8, 150, 300, t5(Dtype::F32, true), Dtype::F32)),
            ("t5 decoder", of(8, 300, 300, t5(Dtype::F32, false), Dtype::F32)),
            ("t5, more queries than keys, odd bf16", of(8, 40, 7, t5(Dtype::Bf16, true), Dtype::Bf16)),
        ];
        let check = |(name, problem): (&'static str, Problem)| {
            Check::new(name, move |gpu| {
                let call = Call::random(problem, 1);
                Ok(call.judge(&call.run(gpu, &gpu.kernels, None)?))
            })
        };
        cases.into_iter().map(check).collect()
    }

    fn replay(&self, case: &Case) -> Result<Replay, Fault> {
        Err(Fault::UnknownOp { op: case.metadata.get("op").cloned().unwrap_or_default(), known: Vec::new() })
    }

    fn benches(&self) -> Vec<Bench> {
        let of = |kind, bias| Problem { heads: 16, seq_q: 1024, seq_kv: 1024, bias, kind, ..Problem::default() };
        let alibi = Kind::Alibi { offset: 0 };
        vec![
            bench("16x1024x1024 f32 alibi", of(alibi, Dtype::F32)),
            bench("16x1024x1024 f16 alibi", of(alibi, Dtype::F16)),
            bench("16x1024x1024 f32 t5", of(t5(Dtype::F32, true), Dtype::F32)),
        ]
    }
}

fn bench(shape: &str, problem: Problem) -> Bench {
    let row = problem.seq_kv * problem.bias.bytes() as usize;
    let elements = problem.heads * problem.seq_q * problem.seq_kv;
    Bench {
        shape: shape.into(),
        quick: shape == "16x1024x1024 f32 alibi",
        flops: elements as f64,
        // It only writes: a copy's share is at most 2.
        bytes: (problem.heads * problem.seq_q * row) as f64,
        prepare: Box::new(move |gpu: &Gpu, _: &Pool, sets: usize| {
            let config = attention_bias::choose(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())?;
            let call = Call::random(problem, 1);
            let table_dtype = match problem.kind {
                Kind::Alibi { .. } => Dtype::F32,
                Kind::T5 { dtype, .. } => dtype,
            };
            let table = gpu.buffer(&table_dtype.encode(&call.table));
            let mut dispatches = Vec::with_capacity(sets);
            let mut first = None;
            for _ in 0..sets {
                let bias = gpu.buffer(&vec![POISON; (problem.heads * problem.seq_q * row).next_multiple_of(4)]);
                let buffers = match problem.kind {
                    Kind::Alibi { .. } => Buffers::alibi(&table, &bias),
                    Kind::T5 { .. } => Buffers::t5(&table, &bias),
                };
                let dispatch = attention_bias::prepare_with(&gpu.kernels, &problem, &config, buffers);
                dispatches.push(dispatch.map_err(|error| error.to_string())?);
                first.get_or_insert(bias);
            }
            let bias = first.ok_or("no set was asked for")?;
            let check = move |gpu: &Gpu| -> Result<Verdict, String> {
                let bias = problem.bias.decode(&gpu.read(&bias)?);
                Ok(call.judge(&Output { bias, steps: Vec::new() }))
            };
            Ok(Prepared { dispatches, config: format!("{config:?}"), check: Box::new(check) })
        }),
    }
}
