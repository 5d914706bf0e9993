//! VQ assign: calls with their oracle.

use tileloom::reference::vq_assign::{Output as Reference, distance, nearest, reference, unit};
use tileloom::reference::{Judge, Verdict, Worst};
use tileloom::vq_assign::{self, Buffers, Config, Metric, Problem};
use tileloom::{Dtype, Kernels, Layout};

use crate::Gpu;
use crate::memory::{FRONT, Image, POISON, Rows};
use crate::random::Random;

mod command;

pub use command::{KERNEL, VqAssign};

/// One call: the Problem, and what its buffers hold.
#[derive(Debug, Clone)]
pub struct Call {
    pub problem: Problem,
    /// Contiguous `[n, books, code_dim]`, or `[n, code_dim]` of residual books, as stored.
    pub x: Vec<f64>,
    /// Contiguous `[books, num_codes, code_dim]`, as stored.
    pub codebook: Vec<f64>,
}

/// What a call gave; contiguous, as the reference has them.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    pub indices: Vec<u32>,
    pub distance: Option<Vec<f64>>,
    pub quantized: Option<Vec<f64>>,
    pub usage: Option<Vec<u32>>,
    pub loss: Option<f64>,
    /// What ran: shader and Config.
    pub steps: Vec<String>,
}

/// The most that a choice may be worse than the best.
const REGRET: f64 = 1e-6;

impl Call {
    /// Values of the caller, rounded to their dtypes.
    pub fn new(problem: Problem, x: Vec<f64>, codebook: Vec<f64>) -> Call {
        let x = x.into_iter().map(|v| problem.x.round(v)).collect();
        let codebook = codebook.into_iter().map(|v| problem.codebook.round(v)).collect();
        Call { problem, x, codebook }
    }

    /// Normal values; every seventh code is the one before it again.
    pub fn random(problem: Problem, seed: u64) -> Call {
        let mut random = Random::new(seed);
        let Problem { n, books, num_codes, code_dim, residual, .. } = problem;
        let mut normal = |len: usize| (0..len).map(|_| random.normal()).collect::<Vec<f64>>();
        let x = normal(n * code_dim * if residual { 1 } else { books });
        let mut codebook = normal(books * num_codes * code_dim);
        for code in (7..books * num_codes).step_by(7) {
            let (before, after) = codebook.split_at_mut(code * code_dim);
            after[..code_dim].copy_from_slice(&before[(code - 1) * code_dim..]);
        }
        Call::new(problem, x, codebook)
    }

    /// With everything asked for that it can give.
    pub fn with_everything(mut self) -> Call {
        let quantized = vq_assign::Quantized { dtype: self.problem.codebook, offset: 4 };
        let p = &mut self.problem;
        (p.distance, p.usage, p.loss, p.quantized) = (Some(3), Some(1), Some(2), Some(quantized));
        self
    }

    fn x_view(&self) -> Rows {
        let p = &self.problem;
        let layout = Layout { offset: p.x_layout.offset, strides: p.x_layout.strides.map(|[s, t]| [0, s, t]) };
        let books = if p.residual { 1 } else { p.books };
        Rows { layout, sizes: [1, p.n, books], cols: p.code_dim, dtype: p.x }
    }

    /// Runs the call, with the caller's Config or the chosen one: outputs and scratch are poisoned before, and
    /// bytes outside of them must come back as they were.
    ///
    /// # Errors
    /// What `prepare` says, a lost device, or what spilled where.
    pub fn run(&self, gpu: &Gpu, kernels: &Kernels, config: Option<&Config>) -> Result<Output, String> {
        let p = &self.problem;
        let mut x = Image::with_room(&[self.x_view()]);
        x.scatter(&self.x_view(), &self.x);
        let strides = p.codebook_layout.strides.map(|[s, t]| [0, s, t]);
        let layout = Layout { offset: p.codebook_layout.offset, strides };
        let book_view = Rows { layout, sizes: [1, p.books, p.num_codes], cols: p.code_dim, dtype: p.codebook };
        let mut codebook = Image::with_room(&[book_view]);
        codebook.scatter(&book_view, &self.codebook);
        let flat = |offset: Option<usize>, cols, dtype| Rows {
            layout: Layout::at(offset.unwrap_or(0)),
            sizes: [1, 1, 1],
            cols: if offset.is_some() { cols } else { 0 },
            dtype,
        };
        let each = p.n * p.books * p.top;
        let channels = p.code_dim * if p.residual { 1 } else { p.books };
        let quantized = p.quantized.map_or((None, Dtype::F32), |q| (Some(q.offset), q.dtype));
        let views = [
            flat(Some(p.indices), each, Dtype::F32),
            flat(p.distance, each, Dtype::F32),
            flat(quantized.0, p.n * channels, quantized.1),
            flat(p.usage, p.books * p.num_codes, Dtype::F32),
            flat(p.loss, 1, Dtype::F32),
        ];
        let images = views.map(|view| Image::with_room(&[view]));
        let inputs = [&x, &codebook].map(|image| gpu.buffer(&image.bytes));
        let outputs = images.each_ref().map(|image| gpu.buffer(&image.bytes));
        let config = match config {
            Some(config) => *config,
            None => vq_assign::choose(&kernels.caps(), p).map_err(|error| error.to_string())?,
        };
        let scratch_bytes = vq_assign::scratch_bytes(p, &config).map_err(|error| error.to_string())? as usize;
        let scratch = Image::poison(scratch_bytes, 1);
        let scratch_buffer = gpu.buffer(&scratch.bytes);
        let bound = |i: usize| images[i].binding(&outputs[i]);
        let mut buffers = Buffers::new(x.binding(&inputs[0]), codebook.binding(&inputs[1]), bound(0))
            .scratch(scratch.binding(&scratch_buffer));
        if p.distance.is_some() {
            buffers = buffers.distance(bound(1));
        }
        if p.quantized.is_some() {
            buffers = buffers.quantized(bound(2));
        }
        if p.usage.is_some() {
            buffers = buffers.usage(bound(3));
        }
        if p.loss.is_some() {
            buffers = buffers.loss(bound(4));
        }
        let dispatch = vq_assign::prepare_with(kernels, p, &config, buffers).map_err(|error| error.to_string())?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);

        let mut values = Vec::new();
        for (i, name) in ["indices", "distance", "quantized", "usage", "loss"].into_iter().enumerate() {
            let after = Image { bytes: gpu.read(&outputs[i])? };
            if let Some(byte) = after.spilled(&images[i], &views[i]) {
                return Err(format!("byte {byte} outside {name} was written"));
            }
            values.push(after.gather(&views[i]));
        }
        let after = gpu.read(&scratch_buffer)?;
        let end = FRONT as usize + scratch_bytes;
        if after[end..].iter().chain(&after[..FRONT as usize]).any(|&b| b != POISON) {
            return Err("bytes outside scratch were written".into());
        }
        let words = |values: &[f64]| values.iter().map(|&v| (v as f32).to_bits()).collect::<Vec<u32>>();
        Ok(Output {
            indices: words(&values[0]),
            distance: p.distance.map(|_| values[1].clone()),
            quantized: p.quantized.map(|_| values[2].clone()),
            usage: p.usage.map(|_| words(&values[3])),
            loss: p.loss.map(|_| values[4][0]),
            steps: dispatch.steps().map(|(label, grid)| format!("{label} on {grid:?}")).collect(),
        })
    }

    /// Formulas of the codes that were taken, in f64 and f32.
    fn references(&self, indices: &[u32]) -> [Reference; 2] {
        [reference::<f64>, reference::<f32>].map(|of| of(&self.problem, &self.x, &self.codebook, Some(indices)))
    }

    /// The regret of each choice over what is allowed; what the f32 reference of a book was given is what a
    /// residual book is judged on.
    pub fn judge_indices(&self, indices: &[u32]) -> Verdict {
        let Problem { books, num_codes, code_dim, metric, top, .. } = self.problem;
        let mut verdict = Verdict { checked: indices.len(), ..Verdict::default() };
        let mut fail = |index: usize, out: u32, expected: usize, ratio: f64| {
            verdict.wrong += usize::from(ratio > 1.0);
            if ratio > verdict.ratio || verdict.worst.is_none() {
                verdict.ratio = verdict.ratio.max(ratio);
                verdict.worst = Some(Worst { index, out: f64::from(out), expected: expected as f64, bound: REGRET });
            }
        };
        if let Some(at) = indices.iter().position(|&k| k as usize >= num_codes) {
            fail(at, indices[at], num_codes, f64::INFINITY);
            return verdict;
        }
        let given = self.references(indices)[1].given.clone();
        for (row, x) in given.chunks(code_dim).enumerate() {
            let codes = &self.codebook[row % books * num_codes * code_dim..][..num_codes * code_dim];
            let best = nearest::<f64>(metric, x, codes, top);
            let of = |k: usize| {
                let code = &codes[k * code_dim..][..code_dim];
                let d = distance::<f64>(metric, x, code);
                (d, unit(metric, x, code, d))
            };
            for (t, &want) in best.iter().enumerate() {
                let at = row * top + t;
                let have = indices[at] as usize;
                let ((d, a), (least, b)) = (of(have), of(want));
                let tie = codes[have * code_dim..][..code_dim] == codes[want * code_dim..][..code_dim];
                let ratio = match (d - least).abs() {
                    0.0 if have != want && tie => f64::INFINITY, // not the lowest index
                    0.0 => 0.0,
                    // Orders of the same regret may differ further down.
                    regret => regret / (REGRET * a.max(b).max(f64::MIN_POSITIVE)),
                };
                fail(at, indices[at], want, ratio);
            }
            let row = &indices[row * top..][..top];
            if (1..top).any(|t| row[..t].contains(&row[t])) {
                fail(0, row[0], best[0], f64::INFINITY);
            }
        }
        verdict
    }

    /// Holds choices against those that a case expects: another one must be as near, and where codes are equal
    /// the lower.
    pub fn judge_choices(&self, out: &[f64], expected: &[f64]) -> Verdict {
        let Problem { books, num_codes, code_dim, metric, top, .. } = self.problem;
        let mut verdict = Verdict { checked: out.len(), ..Verdict::default() };
        let most = num_codes as f64;
        let valid = |all: &[f64]| all.iter().all(|&k| (0.0..most).contains(&k));
        if !valid(out) || !valid(expected) {
            return crate::kernel::exact(out, expected);
        }
        let words: Vec<u32> = out.iter().map(|&k| k as u32).collect();
        let given = &self.references(&words)[1].given;
        for (index, (&have, &want)) in out.iter().zip(expected).enumerate() {
            let x = &given[index / top * code_dim..][..code_dim];
            let of = |k: f64| {
                let code = &self.codebook[(index / top % books * num_codes + k as usize) * code_dim..][..code_dim];
                let d = distance::<f64>(metric, x, code);
                (d, unit(metric, x, code, d))
            };
            let ((d, a), (expected_d, b)) = (of(have), of(want));
            let ratio = match (d - expected_d).abs() {
                _ if have == want => 0.0,
                0.0 if have > want => f64::INFINITY,
                apart => apart / (REGRET * a.max(b).max(f64::MIN_POSITIVE)),
            };
            verdict.wrong += usize::from(ratio > 1.0);
            if ratio > verdict.ratio || verdict.worst.is_none() {
                verdict.ratio = verdict.ratio.max(ratio);
                verdict.worst = Some(Worst { index, out: have, expected: want, bound: REGRET });
            }
        }
        verdict
    }

    /// Holds an output against the oracle: choices by their regret, what follows from them by the numerics rule.
    pub fn judge(&self, output: &Output) -> Verdict {
        let p = &self.problem;
        let mut verdict = self.judge_indices(&output.indices);
        if !verdict.ok() {
            return verdict;
        }
        let [oracle, low] = self.references(&output.indices);
        let rule = |cols, dtype, oracle: &[f64], low: &[f64], mag: &[f64], out: &[f64]| {
            Judge { cols, dtype, oracle, low, mag, widen: (0.0, 0.0) }.judge(out)
        };
        if let Some(distance) = &output.distance {
            verdict.merge(rule(1, Dtype::F32, &oracle.distance, &low.distance, &self.mags(&oracle), distance));
        }
        if let Some(quantized) = &output.quantized {
            let dtype = p.quantized.map_or(Dtype::F32, |q| q.dtype);
            let mag: Vec<f64> =
                oracle.quantized.chunks(p.code_dim).map(|row| row.iter().fold(0f64, |m, v| m.max(v.abs()))).collect();
            verdict.merge(rule(p.code_dim, dtype, &oracle.quantized, &low.quantized, &mag, quantized));
        }
        if let Some(usage) = &output.usage {
            let of = |counts: &[u32]| counts.iter().map(|&n| f64::from(n)).collect::<Vec<_>>();
            verdict.merge(crate::kernel::exact(&of(usage), &of(&oracle.usage)));
        }
        if let Some(loss) = output.loss {
            verdict.merge(rule(1, Dtype::F32, &[oracle.loss], &[low.loss], &[oracle.loss], &[loss]));
        }
        verdict
    }

    /// The formula of each distance on absolute values.
    fn mags(&self, oracle: &Reference) -> Vec<f64> {
        let Problem { books, num_codes, code_dim, metric, top, residual, .. } = self.problem;
        let mag = |(i, &k): (usize, &u32)| {
            let row = i / top;
            let x = &oracle.given[row * code_dim..][..code_dim];
            let code = &self.codebook[(row % books * num_codes + k as usize) * code_dim..][..code_dim];
            match metric {
                // A remainder is as exact as the elements that it came from.
                Metric::L2 if residual => x.iter().zip(code).map(|(x, c)| (x.abs() + c.abs()).powi(2)).sum(),
                Metric::L2 => oracle.distance[i],
                Metric::Cosine => 2.0,
                Metric::Dot => x.iter().zip(code).map(|(x, c)| (x * c).abs()).sum(),
            }
        };
        oracle.indices.iter().enumerate().map(mag).collect()
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
