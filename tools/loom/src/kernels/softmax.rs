//! Softmax: calls with their oracle.

use tileloom::reference::{self, Judge, Verdict};
use tileloom::softmax::{self, Buffers, Config, MaskKind, Problem};
use tileloom::{Dtype, Kernels};

use crate::Gpu;
use crate::memory::{FRONT, Image, POISON, Rows};
use crate::random::Random;

mod command;

pub use command::{KERNEL, Softmax, bench};

/// Where `x` and `y` lie relative to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    Separate,
    /// `y` takes the place of `x`: equal dtypes and layouts.
    InPlace,
    /// One buffer, one binding start, layouts that do not overlap.
    OneBuffer,
}

/// One call: the Problem, and what its buffers hold.
#[derive(Debug, Clone)]
pub struct Call {
    pub problem: Problem,
    /// Contiguous `[rows, cols]`, as stored in the dtype of `x`.
    pub x: Vec<f64>,
    /// The mask's elements in the order of its memory: additive values, or 0 and 1.
    pub mask: Option<Vec<f64>>,
    pub memory: Memory,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Contiguous.
    pub y: Vec<f64>,
    pub lse: Option<Vec<f64>>,
    /// What ran: shader and Config per step.
    pub steps: Vec<String>,
}

impl Call {
    /// A call on `x` in separate, contiguous memory; `x` is rounded to its dtype.
    pub fn new(problem: Problem, x: Vec<f64>) -> Call {
        let x = x.into_iter().map(|v| problem.x.round(v)).collect();
        Call { problem, x, mask: None, memory: Memory::Separate }
    }

    /// Normal values with outliers, an offset per row, rows of negative values and rows of large ones.
    pub fn random(problem: Problem, seed: u64) -> Call {
        let mut random = Random::new(seed);
        let mut x = Vec::with_capacity(problem.rows * problem.cols);
        for row in 0..problem.rows {
            let (spread, shift) = match row % 5 {
                0 => (1.0, 0.0),
                1 => (4.0, 30.0),
                2 => (1.0, -200.0),
                3 => (40.0, 0.0),
                _ => (0.01, 3.0),
            };
            for _ in 0..problem.cols {
                let outlier = if random.below(97) == 0 { 8.0 } else { 1.0 };
                x.push(shift + spread * outlier * random.normal());
            }
        }
        Call::new(problem, x)
    }

    /// The mask that the Problem asks for, random: a third is hidden (additive: minus infinity), and each
    /// seventh row of the mask is hidden whole.
    pub fn with_random_mask(mut self, seed: u64) -> Call {
        let mask = self.problem.mask.expect("the problem has a mask");
        let mut random = Random::new(seed);
        let end = (0..self.problem.rows)
            .map(|row| self.problem.mask_index(row, self.problem.cols - 1) + 1)
            .max()
            .unwrap_or(0);
        let mut values = vec![f64::NAN; end];
        for row in 0..self.problem.rows {
            for col in 0..self.problem.cols {
                let at = self.problem.mask_index(row, col);
                if !values[at].is_nan() {
                    continue; // broadcast: told by an earlier row
                }
                let hidden = row % 7 == 6 || random.below(3) == 0;
                values[at] = match mask.kind {
                    MaskKind::Additive(dtype) if !hidden => dtype.round(random.normal()),
                    MaskKind::Additive(_) => f64::NEG_INFINITY,
                    // Any byte but 0 shows.
                    MaskKind::Bytes if !hidden => f64::from(1u8 << (at % 8)),
                    _ => f64::from(!hidden),
                };
            }
        }
        self.mask = Some(values);
        self
    }

    pub fn in_memory(mut self, memory: Memory) -> Call {
        self.memory = memory;
        self
    }

    fn x_view(&self) -> Rows {
        let p = &self.problem;
        Rows { layout: p.x_layout, sizes: p.sizes(), cols: p.cols, dtype: p.x }
    }

    fn y_view(&self) -> Rows {
        let p = &self.problem;
        Rows { layout: p.y_layout, sizes: p.sizes(), cols: p.cols, dtype: p.y }
    }

    /// The mask as a bias `[rows, cols]`, minus infinity where it hides.
    fn bias(&self) -> Option<Vec<f64>> {
        let values = self.mask.as_ref()?;
        let boolean = !matches!(self.problem.mask?.kind, MaskKind::Additive(_));
        let Problem { rows, cols, .. } = self.problem;
        let at = |i: usize| values[self.problem.mask_index(i / cols, i % cols)];
        let bias = |v: f64| match (boolean, v == 0.0) {
            (true, true) => f64::NEG_INFINITY,
            (true, false) => 0.0,
            (false, _) => v,
        };
        Some((0..rows * cols).map(|i| bias(at(i))).collect())
    }

    fn mask_bytes(&self, values: &[f64]) -> Vec<u8> {
        match self.problem.mask.map(|mask| mask.kind) {
            Some(MaskKind::Additive(dtype)) => dtype.encode(values),
            // Any byte but 0 shows, as in C.
            Some(MaskKind::Bytes) => values.iter().map(|&v| v as u8).collect(),
            _ => {
                let mut bytes = vec![0u8; values.len().div_ceil(32) * 4];
                for (i, &v) in values.iter().enumerate() {
                    bytes[i / 8] |= u8::from(v != 0.0) << (i % 8);
                }
                bytes
            }
        }
    }

    /// Runs the call, with the caller's Config or the chosen one: everything that is written is poisoned
    /// before, and bytes outside the views must come back as they were.
    ///
    /// # Errors
    /// What `prepare` says, a lost device, or what spilled where.
    pub fn run(&self, gpu: &Gpu, kernels: &Kernels, config: Option<&Config>) -> Result<Output, String> {
        let p = &self.problem;
        let (x_view, y_view) = (self.x_view(), self.y_view());
        let mut x_image = match self.memory {
            Memory::OneBuffer => Image::with_room(&[x_view, y_view]),
            _ => Image::with_room(&[x_view]),
        };
        x_image.scatter(&x_view, &self.x);
        let y_image = match self.memory {
            Memory::Separate => Image::with_room(&[y_view]),
            _ => x_image.clone(),
        };
        let x_buffer = gpu.buffer(&x_image.bytes);
        let y_buffer = match self.memory {
            Memory::Separate => gpu.buffer(&y_image.bytes),
            _ => x_buffer.clone(),
        };
        let mask_image = self.mask.as_ref().map(|values| Image::of(&self.mask_bytes(values)));
        let mask_buffer = mask_image.as_ref().map(|image| gpu.buffer(&image.bytes));
        let lse_image = p.lse.map(|offset| Image::poison(offset + p.rows, 4));
        let lse_buffer = lse_image.as_ref().map(|image| gpu.buffer(&image.bytes));
        let config = match config {
            Some(config) => *config,
            None => softmax::choose(&kernels.caps(), p).map_err(|error| error.to_string())?,
        };
        let scratch_bytes = softmax::scratch_bytes(p, &config).map_err(|error| error.to_string())?;
        let scratch_image = Image::poison(scratch_bytes as usize, 1);
        let scratch_buffer = gpu.buffer(&scratch_image.bytes);

        let mut buffers = Buffers::new(x_image.binding(&x_buffer), y_image.binding(&y_buffer));
        if let (Some(image), Some(buffer)) = (&mask_image, &mask_buffer) {
            buffers = buffers.mask(image.binding(buffer));
        }
        if let (Some(image), Some(buffer)) = (&lse_image, &lse_buffer) {
            buffers = buffers.lse(image.binding(buffer));
        }
        if scratch_bytes > 0 {
            buffers = buffers.scratch(scratch_image.binding(&scratch_buffer));
        }
        let dispatch = softmax::prepare_with(kernels, p, &config, buffers).map_err(|error| error.to_string())?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);

        let after = Image { bytes: gpu.read(&y_buffer)? };
        if let Some(byte) = after.spilled(&y_image, &y_view) {
            return Err(format!("byte {byte} outside y was written"));
        }
        let mut lse = None;
        if let (Some(before), Some(buffer), Some(offset)) = (&lse_image, &lse_buffer, p.lse) {
            let after = Image { bytes: gpu.read(buffer)? };
            let view = Rows { layout: tileloom::Layout::at(offset), sizes: [1, 1, 1], cols: p.rows, dtype: Dtype::F32 };
            if let Some(byte) = after.spilled(before, &view) {
                return Err(format!("byte {byte} outside lse was written"));
            }
            lse = Some(after.gather(&view));
        }
        if scratch_bytes > 0 {
            let after = gpu.read(&scratch_buffer)?;
            let end = FRONT as usize + scratch_bytes as usize;
            if after[end..].iter().chain(&after[..FRONT as usize]).any(|&b| b != POISON) {
                return Err("bytes outside scratch were written".into());
            }
        }
        let steps = dispatch.steps().map(|(label, grid)| format!("{label} on {grid:?}")).collect();
        Ok(Output { y: after.gather(&y_view), lse, steps })
    }

    /// The formula in f64 and in f32.
    fn references(&self) -> (reference::softmax::Output, reference::softmax::Output) {
        let (p, bias) = (&self.problem, self.bias());
        let oracle = reference::softmax::reference::<f64>(p, &self.x, bias.as_deref());
        (oracle, reference::softmax::reference::<f32>(p, &self.x, bias.as_deref()))
    }

    /// Holds an output against the oracle by the numerics rule.
    pub fn judge(&self, output: &Output) -> Verdict {
        let p = &self.problem;
        let (oracle, low) = self.references();
        let mut verdict =
            Judge { cols: p.cols, dtype: p.y, oracle: &oracle.y, low: &low.y, mag: &oracle.mag, widen: (0.0, 0.0) }
                .judge(&output.y);
        if let Some(lse) = &output.lse {
            verdict.merge(
                Judge {
                    cols: 1,
                    dtype: Dtype::F32,
                    oracle: &oracle.lse,
                    low: &low.lse,
                    mag: &oracle.lse_mag,
                    widen: (0.0, 0.0),
                }
                .judge(lse),
            );
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
