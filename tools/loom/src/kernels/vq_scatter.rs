//! VQ scatter: calls with their oracle.

use tileloom::reference::{self, Judge, Verdict};
use tileloom::vq_lookup::{Combine, Index, Order};
use tileloom::vq_scatter::{self, Buffers, Config, Problem};
use tileloom::{Dtype, Kernels, Layout};

use super::vq::vq_lookup::index_number;
use super::{Bench, Check, Kernel, Replay};
use crate::Gpu;
use crate::case::{Case, Fault};
use crate::memory::{Image, POISON, Rows};
use crate::pool::{Pool, Prepared};
use crate::random::Random;

/// VQ scatter, for the commands; case files have no op of it.
pub struct VqScatter;

pub const KERNEL: VqScatter = VqScatter;

fn index_bytes(index: Index, words: &[u32]) -> Vec<u8> {
    let mut bytes = index_number(index).encode(&words.iter().map(|&w| f64::from(w)).collect::<Vec<_>>());
    bytes.resize(bytes.len().next_multiple_of(4), 0xff);
    bytes
}

/// One call: the Problem, and what its buffers hold.
#[derive(Debug, Clone)]
pub struct Call {
    pub problem: Problem,
    /// Contiguous `[positions, books]`.
    pub indices: Vec<i64>,
    /// Contiguous by the Problem's order, as stored.
    pub x: Vec<f64>,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    pub sums: Vec<f64>,
    pub counts: Option<Vec<u32>>,
    /// What ran: shader and Config.
    pub steps: Vec<String>,
}

impl Call {
    /// Random vectors; one index in 13 is out of range. Codes past the middle of the book are rare.
    pub fn random(problem: Problem, seed: u64) -> Call {
        let mut random = Random::new(seed);
        let ([a, b], cols) = problem.x_shape();
        let x = (0..a * b * cols).map(|_| problem.x.round(5.0 + 3.0 * random.normal())).collect();
        let most = problem.num_codes;
        let index = |random: &mut Random| match random.below(13) {
            0 if problem.index == Index::U16 => 65535,
            0 => u32::MAX as i64,
            1 => random.below(most) as i64,
            _ => random.below(most.div_ceil(2)) as i64,
        };
        let indices = (0..problem.positions() * problem.books).map(|_| index(&mut random)).collect();
        Call { problem, indices, x }
    }

    /// `x` as the reference takes it: `[positions, books, code_dim]`.
    fn rows(&self) -> Vec<f64> {
        let Problem { books, code_dim, spatial, combine, order, .. } = self.problem;
        let ([_, b], cols) = self.problem.x_shape();
        let channels = if order == Order::ChannelsLast { cols } else { b };
        let at = |i: usize, book: usize, d: usize| {
            let channel = if combine == Combine::Concat { book * code_dim + d } else { d };
            match order {
                Order::ChannelsLast => self.x[i * channels + channel],
                Order::ChannelsFirst => self.x[(i / spatial * channels + channel) * spatial + i % spatial],
            }
        };
        let positions = 0..self.problem.positions();
        positions
            .flat_map(|i| (0..books).flat_map(move |k| (0..code_dim).map(move |d| (i, k, d))))
            .map(|(i, k, d)| at(i, k, d))
            .collect()
    }

    /// Runs the call: outputs are poisoned before, and bytes outside of them must come back as they were.
    ///
    /// # Errors
    /// What `prepare` says, a lost device, or what spilled where.
    pub fn run(&self, gpu: &Gpu, kernels: &Kernels, config: Option<&Config>) -> Result<Output, String> {
        let p = &self.problem;
        let sizes = [p.positions(), p.books];
        let start = |row| p.indices.row_start(sizes, 1, row);
        let mut words = vec![u32::MAX; (0..self.indices.len()).map(|row| start(row) + 1).max().unwrap_or(0)];
        self.indices.iter().enumerate().for_each(|(row, &index)| words[start(row)] = index as u32);
        let indices = Image::of(&index_bytes(p.index, &words));
        let ([a, b], cols) = p.x_shape();
        let layout = Layout { offset: p.x_layout.offset, strides: p.x_layout.strides.map(|[s, t]| [0, s, t]) };
        let x_view = Rows { layout, sizes: [1, a, b], cols, dtype: p.x };
        let mut x = Image::with_room(&[x_view]);
        x.scatter(&x_view, &self.x);
        let flat = |offset, cols| Rows { layout: Layout::at(offset), sizes: [1, 1, 1], cols, dtype: Dtype::F32 };
        let sums_view = flat(p.sums, p.books * p.num_codes * p.code_dim);
        let counts_view = flat(p.counts.unwrap_or(0), p.counts.map_or(0, |_| p.books * p.num_codes));
        let (sums, counts) = (Image::with_room(&[sums_view]), Image::with_room(&[counts_view]));
        let buffers = [&indices, &x, &sums, &counts].map(|image| gpu.buffer(&image.bytes));
        let mut bound = Buffers::new(indices.binding(&buffers[0]), x.binding(&buffers[1]), sums.binding(&buffers[2]));
        if p.counts.is_some() {
            bound = bound.counts(counts.binding(&buffers[3]));
        }
        let dispatch = match config {
            Some(config) => vq_scatter::prepare_with(kernels, p, config, bound),
            None => vq_scatter::prepare(kernels, p, bound),
        }
        .map_err(|error| error.to_string())?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);

        let after = [&buffers[2], &buffers[3]].map(|buffer| gpu.read(buffer).map(|bytes| Image { bytes }));
        let [after, counted] = after;
        let (after, counted) = (after?, counted?);
        if let Some(byte) = after.spilled(&sums, &sums_view).or(counted.spilled(&counts, &counts_view)) {
            return Err(format!("byte {byte} outside the outputs was written"));
        }
        let whole = counted.gather(&counts_view).iter().map(|&v| (v as f32).to_bits()).collect();
        let steps = dispatch.steps().map(|(label, grid)| format!("{label} on {grid:?}")).collect();
        Ok(Output { sums: after.gather(&sums_view), counts: p.counts.map(|_| whole), steps })
    }

    /// Holds an output against the oracle: sums by the numerics rule, counts exactly.
    pub fn judge(&self, output: &Output) -> Verdict {
        let p = &self.problem;
        let rows = self.rows();
        let oracle = reference::vq_scatter::reference::<f64>(p, &self.indices, &rows);
        let low = reference::vq_scatter::reference::<f32>(p, &self.indices, &rows);
        let judge = Judge {
            cols: p.code_dim,
            dtype: Dtype::F32,
            oracle: &oracle.sums,
            low: &low.sums,
            mag: &oracle.mag,
            widen: (0.0, 0.0),
        };
        let mut verdict = judge.judge(&output.sums);
        if let Some(counts) = &output.counts {
            let of = |counts: &[u32]| counts.iter().map(|&n| f64::from(n)).collect::<Vec<_>>();
            verdict.merge(crate::kernel::exact(&of(counts), &of(&oracle.counts)));
        }
        verdict
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

impl Kernel for VqScatter {
    fn name(&self) -> &'static str {
        "vq_scatter"
    }

    fn ops(&self) -> &'static [&'static str] {
        &[]
    }

    fn checks(&self) -> Vec<Check> {
        let base =
            Problem { batch: 2, spatial: 90, num_codes: 30, code_dim: 32, counts: Some(0), ..Problem::default() };
        let cases = [
            ("f32", base),
            ("two books", Problem { books: 2, ..base }),
            ("f16, odd", Problem { code_dim: 7, x: Dtype::F16, ..base }),
            ("channels first", Problem { order: Order::ChannelsFirst, books: 2, ..base }),
        ];
        let check = |(name, problem): (&'static str, Problem)| {
            Check::new(name, move |gpu| {
                let call = Call::random(problem, 1);
                Ok(call.judge(&call.run(gpu, &gpu.kernels, None)?))
            })
        };
        cases.into_iter().map(check).collect()
    }

    fn replay(&self, _: &Case) -> Result<Replay, Fault> {
        Err(Fault::NoOp { known: self.ops().to_vec() })
    }

    fn benches(&self) -> Vec<Bench> {
        let of = |spatial, num_codes, code_dim| Problem { spatial, num_codes, code_dim, ..Problem::default() };
        vec![bench("4096 to 8192x64 f32", of(4096, 8192, 64)), bench("65536 to 1024x64 f32", of(65_536, 1024, 64))]
    }
}

fn bench(shape: &str, problem: Problem) -> Bench {
    let n = problem.positions();
    let (elements, codes) = (n * problem.code_dim, problem.num_codes * problem.code_dim);
    Bench {
        shape: shape.into(),
        quick: shape.starts_with("4096"),
        flops: elements as f64,
        bytes: 4.0 * (elements + codes + n) as f64,
        prepare: Box::new(move |gpu: &Gpu, pool: &Pool, sets: usize| {
            let caps = gpu.kernels.caps();
            let config = vq_scatter::choose(&caps, &problem).map_err(|error| error.to_string())?;
            let mut dispatches = Vec::with_capacity(sets);
            let mut first = None;
            for set in 0..sets {
                let mut random = Random::new(set as u64);
                let words: Vec<u32> = (0..n).map(|_| random.below(problem.num_codes) as u32).collect();
                let indices = gpu.buffer(&index_bytes(problem.index, &words));
                let x = gpu.buffer(&pool.bytes(problem.x, elements, set));
                let sums = gpu.buffer(&vec![POISON; 4 * codes]);
                let buffers = Buffers::new(&indices, &x, &sums);
                let dispatch = vq_scatter::prepare_with(&gpu.kernels, &problem, &config, buffers);
                dispatches.push(dispatch.map_err(|error| error.to_string())?);
                first.get_or_insert((words, sums));
            }
            let (words, sums) = first.ok_or("no input set was asked for")?;
            let x = pool.values(problem.x, elements, 0);
            let check = move |gpu: &Gpu| {
                let indices = words.iter().map(|&w| i64::from(w)).collect();
                let call = Call { problem, indices, x: x.clone() };
                let sums = Dtype::F32.decode(&gpu.read(&sums)?);
                Ok(call.judge(&Output { sums, counts: None, steps: Vec::new() }))
            };
            Ok(Prepared { dispatches, config: config.to_string(), check: Box::new(check) })
        }),
    }
}
