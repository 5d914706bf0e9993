//! RoPE: calls with their oracle.

use tileloom::reference::{self, Judge, Verdict};
use tileloom::rope::{self, Angles, Buffers, Config, Heads, Positions, Problem};
use tileloom::{Dtype, Kernels, Layout};

use crate::Gpu;
use crate::memory::{Image, Rows};
use crate::random::Random;

mod command;

pub use command::{KERNEL, Rope, bench};

/// Where q, k and their outputs lie relative to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    Separate,
    /// Outputs take the place of inputs: equal dtypes and layouts.
    InPlace,
    /// In place, q and k in one buffer by layouts that do not overlap.
    OneBuffer,
}

/// One call: the Problem, and what its buffers hold.
#[derive(Debug, Clone)]
pub struct Call {
    pub problem: Problem,
    /// Contiguous `[batch, heads, seq, head_dim]`, as stored in the dtype of the inputs.
    pub q: Vec<f64>,
    pub k: Option<Vec<f64>>,
    /// Contiguous `[axes, batch, seq]`, where the Problem reads them.
    pub positions: Option<Vec<i64>>,
    /// cos and sin, contiguous, as f32.
    pub tables: Option<[Vec<f64>; 2]>,
    pub memory: Memory,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Contiguous.
    pub q: Vec<f64>,
    pub k: Option<Vec<f64>>,
    /// What ran: shader and Config.
    pub steps: Vec<String>,
}

impl Call {
    /// A call on `q` in separate memory; `q` is rounded to its dtype.
    pub fn new(problem: Problem, q: Vec<f64>) -> Call {
        let q = q.into_iter().map(|v| problem.x.round(v)).collect();
        Call { problem, q, k: None, positions: None, tables: None, memory: Memory::Separate }
    }

    /// Normal values with outliers and an offset per head vector; positions, where they are read, are random
    /// up to `reach`; tables hold cosines and sines.
    pub fn random(problem: Problem, seed: u64, reach: usize) -> Call {
        let mut random = Random::new(seed);
        let mut vectors = |heads: usize| -> Vec<f64> {
            let mut values = Vec::new();
            for row in 0..problem.batch * heads * problem.seq {
                let (spread, shift) = [(1.0, 0.0), (4.0, 30.0), (0.01, 3.0), (100.0, 0.0)][row % 4];
                for _ in 0..problem.head_dim {
                    let outlier = if random.below(97) == 0 { 8.0 } else { 1.0 };
                    values.push(problem.x.round(shift + spread * outlier * random.normal()));
                }
            }
            values
        };
        let q = vectors(problem.q.heads);
        let k = problem.k.map(|k| vectors(k.heads));
        let positions = match problem.positions {
            Positions::Offset(_) => None,
            Positions::Buffer { signed, .. } => {
                let shift = if signed { reach as i64 / 2 } else { 0 };
                let n = problem.axes.count() * problem.batch * problem.seq;
                Some((0..n).map(|_| random.below(reach) as i64 - shift).collect())
            }
        };
        let tables = match problem.angles {
            Angles::Frequencies(_) => None,
            Angles::Tables { max_pos, .. } => {
                let angles: Vec<f64> = (0..max_pos * problem.rotary_dim / 2).map(|_| 7.0 * random.normal()).collect();
                let of = |f: fn(f64) -> f64| angles.iter().map(|&a| Dtype::F32.round(f(a))).collect();
                Some([of(f64::cos), of(f64::sin)])
            }
        };
        Call { problem, q, k, positions, tables, memory: Memory::Separate }
    }

    pub fn in_memory(mut self, memory: Memory) -> Call {
        self.memory = memory;
        self
    }

    fn views(&self, heads: Heads) -> [Rows; 2] {
        let p = &self.problem;
        let (sizes, cols) = (p.sizes(heads.heads), p.head_dim);
        [(heads.from, p.x), (heads.to, p.y)].map(|(layout, dtype)| Rows { layout, sizes, cols, dtype })
    }

    /// The positions as words by the Problem's layout, poison between.
    fn position_image(&self, values: &[i64], layout: Layout<2>) -> Image {
        let p = &self.problem;
        let sizes = [p.axes.count(), p.batch];
        let start = |row| layout.row_start(sizes, p.seq, row);
        let rows = sizes[0] * sizes[1];
        let end = (0..rows).map(|row| start(row) + p.seq).max().unwrap_or(0);
        let mut words = vec![u32::MAX; end];
        for (row, values) in values.chunks(p.seq.max(1)).enumerate() {
            let words = &mut words[start(row)..][..p.seq];
            words.iter_mut().zip(values).for_each(|(word, &value)| *word = value as u32);
        }
        Image::of(&words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>())
    }

    /// Runs the call, with the caller's Config or the chosen one: everything that is written is poisoned
    /// before, and bytes outside the views must come back as they were.
    ///
    /// # Errors
    /// What `prepare` says, a lost device, or what spilled where.
    pub fn run(&self, gpu: &Gpu, kernels: &Kernels, config: Option<&Config>) -> Result<Output, String> {
        let p = &self.problem;
        let values = [Some(&self.q), self.k.as_ref()];
        let parts: Vec<([Rows; 2], &Vec<f64>)> = [Some(p.q), p.k]
            .into_iter()
            .zip(values)
            .filter_map(|(heads, values)| Some((self.views(heads?), values?)))
            .collect();
        let one = self.memory == Memory::OneBuffer;
        let all: Vec<Rows> = parts.iter().flat_map(|(views, _)| *views).collect();
        let mut images: Vec<Image> = Vec::new();
        for (i, (views, values)) in parts.iter().enumerate() {
            if !(one && i > 0) {
                images.push(Image::with_room(if one { &all } else { &views[..1] }));
            }
            if let Some(image) = images.last_mut() {
                image.scatter(&views[0], values);
            }
        }
        let at = |i: usize| if one { 0 } else { i };
        let inputs: Vec<_> = images.iter().map(|image| gpu.buffer(&image.bytes)).collect();
        let outs: Vec<Image> = match self.memory {
            Memory::Separate => parts.iter().map(|(views, _)| Image::with_room(&views[1..])).collect(),
            _ => images.clone(),
        };
        let outputs: Vec<_> = match self.memory {
            Memory::Separate => outs.iter().map(|image| gpu.buffer(&image.bytes)).collect(),
            _ => inputs.clone(),
        };
        let mut buffers = Buffers::new(images[0].binding(&inputs[0]), outs[0].binding(&outputs[0]));
        if parts.len() > 1 {
            let i = at(1);
            buffers = buffers.k(images[i].binding(&inputs[i])).k_out(outs[i].binding(&outputs[i]));
        }
        let positions = match (&self.positions, p.positions) {
            (Some(values), Positions::Buffer { layout, .. }) => Some(self.position_image(values, layout)),
            _ => None,
        };
        let position_buffer = positions.as_ref().map(|image| gpu.buffer(&image.bytes));
        if let (Some(image), Some(buffer)) = (&positions, &position_buffer) {
            buffers = buffers.positions(image.binding(buffer));
        }
        let tables = match (&self.tables, &p.angles) {
            (Some([c, s]), Angles::Tables { cos, sin, .. }) => Some([(c, *cos), (s, *sin)].map(|(values, offset)| {
                let mut shifted = vec![f64::NAN; offset];
                shifted.extend(values);
                Image::of(&Dtype::F32.encode(&shifted))
            })),
            _ => None,
        };
        let table_buffers = tables.as_ref().map(|images| images.each_ref().map(|image| gpu.buffer(&image.bytes)));
        if let (Some([cos, sin]), Some([c, s])) = (&tables, &table_buffers) {
            buffers = buffers.cos(cos.binding(c)).sin(sin.binding(s));
        }
        let dispatch = match config {
            Some(config) => rope::prepare_with(kernels, p, config, buffers),
            None => rope::prepare(kernels, p, buffers),
        }
        .map_err(|error| error.to_string())?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);

        let mut given = Vec::new();
        for (i, (views, _)) in parts.iter().enumerate() {
            let mut after = Image { bytes: gpu.read(&outputs[at(i)])? };
            given.push(after.gather(&views[1]));
            if one {
                // What the other one wrote is not spilled.
                for (j, (views, _)) in parts.iter().enumerate().filter(|&(j, _)| j != i) {
                    after.scatter(&views[1], parts[j].1);
                }
            }
            if let Some(byte) = after.spilled(&outs[at(i)], &views[1]) {
                return Err(format!("byte {byte} outside the output of {} was written", ["q", "k"][i]));
            }
        }
        let steps = dispatch.steps().map(|(label, grid)| format!("{label} on {grid:?}")).collect();
        let mut given = given.into_iter();
        Ok(Output { q: given.next().unwrap_or_default(), k: given.next(), steps })
    }

    /// The formula in f64 and in f32, of q and of k.
    fn references(&self) -> Vec<[reference::rope::Output; 2]> {
        let p = &self.problem;
        let tables = || self.tables.as_ref().map(|[cos, sin]| [&cos[..], &sin[..]]);
        let both = |heads: Heads, x: &[f64]| {
            let positions = self.positions.as_deref();
            let oracle = reference::rope::reference::<f64>(p, heads.heads, x, positions, tables());
            [oracle, reference::rope::reference::<f32>(p, heads.heads, x, positions, tables())]
        };
        let k = p.k.zip(self.k.as_ref());
        std::iter::once(both(p.q, &self.q)).chain(k.map(|(heads, k)| both(heads, k))).collect()
    }

    /// Holds an output against the oracle by the numerics rule.
    pub fn judge(&self, output: &Output) -> Verdict {
        let p = &self.problem;
        let mut verdict = Verdict::default();
        let outputs = std::iter::once(&output.q).chain(&output.k);
        for ([oracle, low], out) in self.references().iter().zip(outputs) {
            let judge = Judge {
                cols: p.head_dim,
                dtype: p.y,
                oracle: &oracle.y,
                low: &low.y,
                mag: &oracle.mag,
                widen: (0.0, 0.0),
            };
            verdict.merge(judge.judge(out));
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
