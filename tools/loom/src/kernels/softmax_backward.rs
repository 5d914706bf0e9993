//! The gradient of softmax: calls with their oracle.

use tileloom::reference::{self, Judge, Verdict};
use tileloom::softmax_backward::{self, Buffers, Config, Problem};
use tileloom::{Dtype, Kernels, Layout, softmax};

use crate::Gpu;
use crate::memory::{FRONT, Image, POISON, Rows};
use crate::random::Random;

mod command;

pub use command::{KERNEL, SoftmaxBackward};

/// Where `dx` lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    Separate,
    /// In the place of `y`: equal dtypes and layouts.
    OverY,
    OverDy,
}

/// One call: the Problem, and what its buffers hold.
#[derive(Debug, Clone)]
pub struct Call {
    pub problem: Problem,
    /// Contiguous `[rows, cols]`, as stored.
    pub y: Vec<f64>,
    pub dy: Vec<f64>,
    pub memory: Memory,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Contiguous.
    pub dx: Vec<f64>,
    /// What ran: shader and Config per step.
    pub steps: Vec<String>,
}

impl Call {
    /// A call in separate memory; `y` and `dy` are rounded to their dtypes.
    pub fn new(problem: Problem, y: Vec<f64>, dy: Vec<f64>) -> Call {
        let round = |dtype: Dtype, values: Vec<f64>| values.into_iter().map(|v| dtype.round(v)).collect();
        Call { problem, y: round(problem.y, y), dy: round(problem.dy, dy), memory: Memory::Separate }
    }

    /// `y` of random scores, by the oracle of softmax; `dy` with outliers, an offset per row and large rows. Where
    /// `masked`, a third of `y` is hidden, each seventh row whole, and the `dy` of all that is hidden is NaN.
    pub fn random(problem: Problem, seed: u64, masked: bool) -> Call {
        let Problem { rows, cols, dims, log, causal, .. } = problem;
        let mut random = Random::new(seed);
        let forward = softmax::Problem { rows, cols, dims, log, causal, ..Default::default() };
        let mut x = Vec::with_capacity(rows * cols);
        let mut dy = Vec::with_capacity(rows * cols);
        let mut bias = Vec::with_capacity(rows * cols);
        for row in 0..rows {
            let (spread, shift) = [(1.0, 0.0), (0.01, 3.0), (100.0, 0.0), (3.0, -40.0)][row % 4];
            for _ in 0..cols {
                let outlier = if random.below(97) == 0 { 8.0 } else { 1.0 };
                x.push([1.0, 4.0][row % 2] * outlier * random.normal());
                dy.push(shift + spread * outlier * random.normal());
                let hidden = masked && (row % 7 == 6 || random.below(3) == 0);
                bias.push(if hidden { f64::NEG_INFINITY } else { 0.0 });
            }
        }
        let y = reference::softmax::reference::<f64>(&forward, &x, Some(&bias)).y;
        let mut call = Call::new(problem, y, dy);
        // As stored: what rounds to 0 is hidden, too.
        let hidden = if log { f64::NEG_INFINITY } else { 0.0 };
        call.dy.iter_mut().zip(&call.y).filter(|(_, y)| **y == hidden).for_each(|(dy, _)| *dy = f64::NAN);
        call
    }

    pub fn in_memory(mut self, memory: Memory) -> Call {
        self.memory = memory;
        self
    }

    fn view(&self, layout: Layout<3>, dtype: Dtype) -> Rows {
        Rows { layout, sizes: self.problem.sizes(), cols: self.problem.cols, dtype }
    }

    /// Runs the call, with the caller's Config or the chosen one: everything that is written is poisoned
    /// before, and bytes outside the views must come back as they were.
    ///
    /// # Errors
    /// What `prepare` says, a lost device, or what spilled where.
    pub fn run(&self, gpu: &Gpu, kernels: &Kernels, config: Option<&Config>) -> Result<Output, String> {
        let p = &self.problem;
        let (y_view, dy_view, dx_view) =
            (self.view(p.y_layout, p.y), self.view(p.dy_layout, p.dy), self.view(p.dx_layout, p.dx));
        let mut y = Image::with_room(&[y_view]);
        y.scatter(&y_view, &self.y);
        let mut dy = Image::with_room(&[dy_view]);
        dy.scatter(&dy_view, &self.dy);
        let (y_buffer, dy_buffer) = (gpu.buffer(&y.bytes), gpu.buffer(&dy.bytes));
        let (dx, dx_buffer) = match self.memory {
            Memory::Separate => {
                let image = Image::with_room(&[dx_view]);
                let buffer = gpu.buffer(&image.bytes);
                (image, buffer)
            }
            Memory::OverY => (y.clone(), y_buffer.clone()),
            Memory::OverDy => (dy.clone(), dy_buffer.clone()),
        };
        let config = match config {
            Some(config) => *config,
            None => softmax_backward::choose(&kernels.caps(), p).map_err(|error| error.to_string())?,
        };
        let scratch_bytes = softmax_backward::scratch_bytes(p, &config).map_err(|error| error.to_string())?;
        let scratch = Image::poison(scratch_bytes as usize, 1);
        let scratch_buffer = gpu.buffer(&scratch.bytes);
        let mut buffers = Buffers::new(y.binding(&y_buffer), dy.binding(&dy_buffer), dx.binding(&dx_buffer));
        if scratch_bytes > 0 {
            buffers = buffers.scratch(scratch.binding(&scratch_buffer));
        }
        let dispatch =
            softmax_backward::prepare_with(kernels, p, &config, buffers).map_err(|error| error.to_string())?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);

        let after = Image { bytes: gpu.read(&dx_buffer)? };
        if let Some(byte) = after.spilled(&dx, &dx_view) {
            return Err(format!("byte {byte} outside dx was written"));
        }
        if scratch_bytes > 0 {
            let after = gpu.read(&scratch_buffer)?;
            let end = FRONT as usize + scratch_bytes as usize;
            if after[end..].iter().chain(&after[..FRONT as usize]).any(|&b| b != POISON) {
                return Err("bytes outside scratch were written".into());
            }
        }
        let steps = dispatch.steps().map(|(label, grid)| format!("{label} on {grid:?}")).collect();
        Ok(Output { dx: after.gather(&dx_view), steps })
    }

    /// Holds an output against the oracle by the numerics rule.
    pub fn judge(&self, output: &Output) -> Verdict {
        let p = &self.problem;
        let oracle = reference::softmax_backward::reference::<f64>(p, &self.y, &self.dy);
        let low = reference::softmax_backward::reference::<f32>(p, &self.y, &self.dy);
        Judge { cols: p.cols, dtype: p.dx, oracle: &oracle.dx, low: &low.dx, mag: &oracle.mag, widen: (0.0, 0.0) }
            .judge(&output.dx)
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
