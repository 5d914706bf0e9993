//! Attention biases: calls with their oracle.

use tileloom::attention_bias::{self, Buffers, Config, Kind, Problem, alibi_slopes};
use tileloom::reference::{self, Judge, Verdict};
use tileloom::{Dtype, Kernels, Layout};

use crate::Gpu;
use crate::memory::{Image, Rows};
use crate::random::Random;

mod command;

pub use command::{AttentionBias, KERNEL};

/// One call: the Problem, and what its table holds.
#[derive(Debug, Clone)]
pub struct Call {
    pub problem: Problem,
    /// Slopes `[heads]`, or `[num_buckets, heads]`, contiguous, as stored.
    pub table: Vec<f64>,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Contiguous.
    pub bias: Vec<f64>,
    /// What ran: shader and Config.
    pub steps: Vec<String>,
}

impl Call {
    /// ALiBi's own slopes, or normal values.
    pub fn random(problem: Problem, seed: u64) -> Call {
        let mut random = Random::new(seed);
        let table = match problem.kind {
            Kind::Alibi { .. } => alibi_slopes(problem.heads).into_iter().map(f64::from).collect(),
            Kind::T5 { buckets, dtype, .. } => {
                (0..buckets.num_buckets * problem.heads).map(|_| dtype.round(3.0 * random.normal())).collect()
            }
        };
        Call { problem, table }
    }

    /// The table by its layout, poison between.
    fn table_image(&self) -> Image {
        let p = &self.problem;
        let (rows, dtype, sizes, layout) = match p.kind {
            Kind::Alibi { offset } => (1, Dtype::F32, [1, p.heads], Layout::at(offset)),
            Kind::T5 { buckets, dtype, layout } => (buckets.num_buckets, dtype, [buckets.num_buckets, p.heads], layout),
        };
        let at = |i| layout.row_start(sizes, 1, i);
        let mut values = vec![f64::NAN; (0..rows * p.heads).map(|i| at(i) + 1).max().unwrap_or(0)];
        self.table.iter().enumerate().for_each(|(i, &value)| values[at(i)] = value);
        Image::of(&dtype.encode(&values))
    }

    /// Runs the call, with the caller's Config or the chosen one: everything that is written is poisoned
    /// before, and bytes outside the view must come back as they were.
    ///
    /// # Errors
    /// What `prepare` says, a lost device, or what spilled where.
    pub fn run(&self, gpu: &Gpu, kernels: &Kernels, config: Option<&Config>) -> Result<Output, String> {
        let p = &self.problem;
        let Layout { offset, strides } = p.bias_layout;
        let layout = Layout { offset, strides: strides.map(|[head, query]| [0, head, query]) };
        let view = Rows { layout, sizes: [1, p.heads, p.seq_q], cols: p.seq_kv, dtype: p.bias };
        let (bias, table) = (Image::with_room(&[view]), self.table_image());
        let (bias_buffer, table_buffer) = (gpu.buffer(&bias.bytes), gpu.buffer(&table.bytes));
        let buffers = match p.kind {
            Kind::Alibi { .. } => Buffers::alibi(table.binding(&table_buffer), bias.binding(&bias_buffer)),
            Kind::T5 { .. } => Buffers::t5(table.binding(&table_buffer), bias.binding(&bias_buffer)),
        };
        let dispatch = match config {
            Some(config) => attention_bias::prepare_with(kernels, p, config, buffers),
            None => attention_bias::prepare(kernels, p, buffers),
        }
        .map_err(|error| error.to_string())?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        let after = Image { bytes: gpu.read(&bias_buffer)? };
        if let Some(byte) = after.spilled(&bias, &view) {
            return Err(format!("byte {byte} outside the bias was written"));
        }
        let steps = dispatch.steps().map(|(label, grid)| format!("{label} on {grid:?}")).collect();
        Ok(Output { bias: after.gather(&view), steps })
    }

    /// Holds an output against the oracle by the numerics rule.
    pub fn judge(&self, output: &Output) -> Verdict {
        let p = &self.problem;
        let oracle = reference::attention_bias::reference::<f64>(p, &self.table);
        let low = reference::attention_bias::reference::<f32>(p, &self.table);
        let (mag, widen) = (&oracle.mag[..], (0.0, 0.0));
        Judge { cols: p.seq_kv, dtype: p.bias, oracle: &oracle.bias, low: &low.bias, mag, widen }.judge(&output.bias)
    }

    /// Runs and judges.
    ///
    /// # Errors
    /// As [`run`](Self::run), and the verdict if anything is wrong.
    pub fn check(&self, gpu: &Gpu, kernels: &Kernels, config: Option<&Config>) -> Result<(Output, Verdict), String> {
        let output = self.run(gpu, kernels, config)?;
        let verdict = self.judge(&output);
        match verdict.ok() {
            true => Ok((output, verdict)),
            false => Err(format!("{verdict}\n  {:?}\n  {}", self.problem, output.steps.join("\n  "))),
        }
    }
}
