//! VQ lookup: calls with their oracle.

use tileloom::reference::{self, Judge, Verdict};
use tileloom::vq_lookup::{self, Buffers, Combine, Config, Index, Problem};
use tileloom::{Dtype, Kernels, Layout};

use crate::Gpu;
use crate::memory::{Image, Rows};
use crate::random::Random;

mod command;

pub use command::{KERNEL, VqLookup, codebook_shape};

/// One call: the Problem, and what its buffers hold.
#[derive(Debug, Clone)]
pub struct Call {
    pub problem: Problem,
    /// Contiguous `[positions, books]`.
    pub indices: Vec<i64>,
    /// Contiguous `[books, num_codes, code_dim]`, as stored.
    pub codebook: Vec<f64>,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Contiguous, in the Problem's order.
    pub y: Vec<f64>,
    pub bad: Option<u32>,
    /// What ran: shader and Config.
    pub steps: Vec<String>,
}

/// Words of indices as stored.
pub fn index_bytes(index: Index, values: &[u32]) -> Vec<u8> {
    let mut bytes: Vec<u8> = match index {
        Index::U16 => values.iter().flat_map(|&v| (v as u16).to_le_bytes()).collect(),
        Index::U32 | Index::I32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    bytes.resize(bytes.len().next_multiple_of(4), 0xff);
    bytes
}

impl Call {
    /// Random codes; one index in 13 is out of range, as far as the type of indices has such.
    pub fn random(problem: Problem, seed: u64) -> Call {
        let mut random = Random::new(seed);
        let elements = problem.books * problem.num_codes * problem.code_dim;
        let codebook = (0..elements).map(|_| problem.x.round(3.0 * random.normal())).collect();
        let garbage: &[i64] = match problem.index {
            Index::I32 => &[-1, i32::MIN as i64, i32::MAX as i64],
            Index::U32 => &[u32::MAX as i64, 1 << 31],
            Index::U16 => &[65535],
        };
        let index = |random: &mut Random| match random.below(13) {
            0 => garbage[random.below(garbage.len())],
            1 => problem.num_codes as i64,
            _ => random.below(problem.num_codes) as i64,
        };
        let indices = (0..problem.positions() * problem.books).map(|_| index(&mut random)).collect();
        Call { problem, indices, codebook }
    }

    fn y_view(&self) -> Rows {
        let p = &self.problem;
        let ([a, b], cols) = p.y_shape();
        let layout = Layout { offset: p.y_layout.offset, strides: p.y_layout.strides.map(|[s, t]| [0, s, t]) };
        Rows { layout, sizes: [1, a, b], cols, dtype: p.y }
    }

    /// Runs the call, with the caller's Config or the chosen one: outputs are poisoned before, and bytes
    /// outside of them must come back as they were.
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
        let strides = p.codebook.strides.map(|[s, t]| [0, s, t]);
        let layout = Layout { offset: p.codebook.offset, strides };
        let book_view = Rows { layout, sizes: [1, p.books, p.num_codes], cols: p.code_dim, dtype: p.x };
        let mut codebook = Image::with_room(&[book_view]);
        codebook.scatter(&book_view, &self.codebook);
        let y = Image::with_room(&[self.y_view()]);
        let bad = Image::poison(p.bad.unwrap_or(0) + 1, 4);
        let buffers = [&indices, &codebook, &y, &bad].map(|image| gpu.buffer(&image.bytes));
        let mut bound =
            Buffers::new(indices.binding(&buffers[0]), codebook.binding(&buffers[1]), y.binding(&buffers[2]));
        if p.bad.is_some() {
            bound = bound.bad(bad.binding(&buffers[3]));
        }
        let dispatch = match config {
            Some(config) => vq_lookup::prepare_with(kernels, p, config, bound),
            None => vq_lookup::prepare(kernels, p, bound),
        }
        .map_err(|error| error.to_string())?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);

        let after = Image { bytes: gpu.read(&buffers[2])? };
        if let Some(byte) = after.spilled(&y, &self.y_view()) {
            return Err(format!("byte {byte} outside y was written"));
        }
        let counted = Image { bytes: gpu.read(&buffers[3])? };
        let one = Rows {
            layout: Layout::at(p.bad.unwrap_or(0)),
            sizes: [1, 1, 1],
            cols: usize::from(p.bad.is_some()),
            dtype: Dtype::F32,
        };
        if let Some(byte) = counted.spilled(&bad, &one) {
            return Err(format!("byte {byte} outside bad was written"));
        }
        let count = p.bad.map(|_| (counted.gather(&one)[0] as f32).to_bits());
        let steps = dispatch.steps().map(|(label, grid)| format!("{label} on {grid:?}")).collect();
        Ok(Output { y: after.gather(&self.y_view()), bad: count, steps })
    }

    /// Whether elements are only moved.
    fn moves(&self) -> bool {
        let p = &self.problem;
        p.x == p.y && (p.combine == Combine::Concat || p.books == 1)
    }

    fn references(&self) -> [reference::vq_lookup::Output; 2] {
        let of = [reference::vq_lookup::reference::<f64>, reference::vq_lookup::reference::<f32>];
        of.map(|of| of(&self.problem, &self.indices, &self.codebook))
    }

    /// Holds an output against the oracle: bit by bit where elements are only moved, else by the numerics rule.
    pub fn judge(&self, output: &Output) -> Verdict {
        let [oracle, low] = self.references();
        let mut verdict = match self.moves() {
            true => crate::run::exact(&output.y, &oracle.y),
            false => Judge {
                cols: self.y_view().cols,
                dtype: self.problem.y,
                oracle: &oracle.y,
                low: &low.y,
                mag: &oracle.mag,
                widen: (0.0, 0.0),
            }
            .judge(&output.y),
        };
        if let Some(bad) = output.bad {
            verdict.merge(crate::run::exact(&[f64::from(bad)], &[f64::from(oracle.bad)]));
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
