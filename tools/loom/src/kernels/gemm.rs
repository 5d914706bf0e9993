//! The matrix product: calls with their oracle.

use tileloom::gemm::{self, Along, Buffers, Config, Matrix, Problem, Vector};
use tileloom::reference::gemm::{Inputs, Output as Reference, reference};
use tileloom::reference::{Judge, Verdict};
use tileloom::{Dtype, Kernels, Layout};

use crate::Gpu;
use crate::memory::{FRONT, Image, POISON, Rows};
use crate::random::Random;

mod command;

pub use command::{Gemm, KERNEL};

/// One call: the Problem, and what its buffers hold.
#[derive(Debug, Clone)]
pub struct Call {
    pub problem: Problem,
    /// As stored, contiguous per batch; what batches share by strides of 0 is repeated.
    pub a: Vec<f64>,
    pub b: Vec<f64>,
    pub b2: Option<Vec<f64>>,
    pub c: Option<Vec<f64>>,
    pub residual: Option<Vec<f64>>,
    pub bias: Option<Vec<f64>>,
    pub scale: Option<Vec<f64>>,
    /// d takes the place of c, or of the residual: equal dtypes and layouts.
    pub in_place: bool,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Contiguous.
    pub d: Vec<f64>,
    /// What ran: shader and Config per step.
    pub steps: Vec<String>,
}

/// A matrix argument as rows of an image.
fn rows(matrix: Matrix, (sizes, cols): ([usize; 3], usize)) -> Rows {
    Rows { layout: matrix.layout, sizes, cols, dtype: matrix.dtype }
}

impl Call {
    /// Everything that the Problem asks for, by `value(random, index)`, rounded to its dtype; batches that share an
    /// operand by strides of 0 have the same.
    pub fn with(problem: Problem, seed: u64, value: impl Fn(&mut Random, usize) -> f64) -> Call {
        let mut random = Random::new(seed);
        let mut matrix = |matrix: Matrix, (sizes, cols): ([usize; 3], usize)| -> Vec<f64> {
            let rows = rows(matrix, (sizes, cols));
            let mut values = Vec::with_capacity(sizes.iter().product::<usize>() * cols);
            let mut seen = std::collections::HashMap::new();
            for row in 0..sizes.iter().product::<usize>() {
                let start = matrix.layout.row_start(rows.sizes, cols, row);
                let first = *seen.entry(start).or_insert(row);
                for j in 0..cols {
                    let v =
                        if first < row { values[first * cols + j] } else { matrix.dtype.round(value(&mut random, j)) };
                    values.push(v);
                }
            }
            values
        };
        let p = &problem;
        let a = matrix(p.a, p.a_sizes());
        let b = matrix(p.b, p.b_sizes());
        let b2 = p.epilogue.gate.map(|_| matrix(p.b, p.b_sizes()));
        let c = p.c.map(|c| matrix(c, p.d_sizes()));
        let residual = p.epilogue.residual.map(|r| matrix(r, p.d_sizes()));
        let mut vector = |v: Vector, times: usize| -> Vec<f64> {
            let len = times * if v.along == Along::Rows { p.m } else { p.n };
            (0..len).map(|i| v.dtype.round(value(&mut random, i))).collect()
        };
        let bias = p.epilogue.bias.map(|v| vector(v, if p.epilogue.gate.is_some() { 2 } else { 1 }));
        let scale = p.epilogue.scale.map(|v| vector(v, 1));
        Call { problem, a, b, b2, c, residual, bias, scale, in_place: false }
    }

    /// Normal values with outliers.
    pub fn random(problem: Problem, seed: u64) -> Call {
        Call::with(problem, seed, |random, _| random.normal() * if random.below(97) == 0 { 8.0 } else { 1.0 })
    }

    /// Small integers, of which three quarters are 0 where `sparse`: products and sums are exact.
    pub fn integers(problem: Problem, seed: u64, sparse: bool) -> Call {
        Call::with(problem, seed, move |random, _| match sparse && random.below(4) > 0 {
            true => 0.0,
            false => random.below(7) as f64 - 3.0,
        })
    }

    pub fn in_place(mut self) -> Call {
        self.in_place = true;
        self
    }

    /// Runs the call, with the caller's Config or the chosen one: everything that is written is poisoned
    /// before, as is what lies between rows, and bytes outside the view of d must come back as they were.
    ///
    /// # Errors
    /// What `prepare` says, a lost device, or what spilled where.
    pub fn run(&self, gpu: &Gpu, kernels: &Kernels, config: Option<&Config>) -> Result<Output, String> {
        let p = &self.problem;
        let image = |rows: Rows, values: &[f64]| {
            let mut image = Image::with_room(&[rows]);
            image.scatter(&rows, values);
            let buffer = gpu.buffer(&image.bytes);
            (image, buffer)
        };
        let b_rows = |offset: usize| rows(Matrix { layout: Layout { offset, ..p.b.layout }, ..p.b }, p.b_sizes());
        let d_rows = rows(p.d, p.d_sizes());
        let a = image(rows(p.a, p.a_sizes()), &self.a);
        let b = image(b_rows(p.b.layout.offset), &self.b);
        let b2 = self.b2.as_ref().zip(p.epilogue.gate).map(|(values, offset)| image(b_rows(offset), values));
        let of = |matrix: Option<Matrix>, values: &Option<Vec<f64>>| {
            matrix.zip(values.as_ref()).map(|(matrix, values)| image(rows(matrix, p.d_sizes()), values))
        };
        let (c, residual) = (of(p.c, &self.c), of(p.epilogue.residual, &self.residual));
        let vector = |v: Option<Vector>, values: &Option<Vec<f64>>| {
            v.zip(values.as_ref()).map(|(v, values)| {
                let layout = Layout::at(v.offset);
                image(Rows { layout, sizes: [1; 3], cols: values.len(), dtype: v.dtype }, values)
            })
        };
        let (bias, scale) = (vector(p.epilogue.bias, &self.bias), vector(p.epilogue.scale, &self.scale));
        let d = match (self.in_place, &c, &residual) {
            (true, Some(c), _) => c.clone(),
            (true, None, Some(residual)) => residual.clone(),
            _ => {
                let image = Image::with_room(&[d_rows]);
                let buffer = gpu.buffer(&image.bytes);
                (image, buffer)
            }
        };
        let config = match config {
            Some(config) => *config,
            None => gemm::choose(&kernels.caps(), p).map_err(|error| error.to_string())?,
        };
        let scratch_bytes = gemm::scratch_bytes(p, &config).map_err(|error| error.to_string())?;
        let scratch = Image::poison(scratch_bytes as usize, 1);
        let scratch_buffer = gpu.buffer(&scratch.bytes);

        let mut buffers = Buffers::new(a.0.binding(&a.1), b.0.binding(&b.1), d.0.binding(&d.1));
        if let Some((image, buffer)) = &b2 {
            buffers = buffers.b2(image.binding(buffer));
        }
        if let Some((image, buffer)) = &c {
            buffers = buffers.c(image.binding(buffer));
        }
        if let Some((image, buffer)) = &residual {
            buffers = buffers.residual(image.binding(buffer));
        }
        if let Some((image, buffer)) = &bias {
            buffers = buffers.bias(image.binding(buffer));
        }
        if let Some((image, buffer)) = &scale {
            buffers = buffers.scale(image.binding(buffer));
        }
        if scratch_bytes > 0 {
            buffers = buffers.scratch(scratch.binding(&scratch_buffer));
        }
        let dispatch = gemm::prepare_with(kernels, p, &config, buffers).map_err(|error| error.to_string())?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);

        let after = Image { bytes: gpu.read(&d.1)? };
        if let Some(byte) = after.spilled(&d.0, &d_rows) {
            return Err(format!("byte {byte} outside d was written"));
        }
        if scratch_bytes > 0 {
            let after = gpu.read(&scratch_buffer)?;
            let end = FRONT as usize + scratch_bytes as usize;
            if after[end..].iter().chain(&after[..FRONT as usize]).any(|&b| b != POISON) {
                return Err("bytes outside scratch were written".into());
            }
        }
        let steps = dispatch.steps().map(|(label, grid)| format!("{label} on {grid:?}")).collect();
        Ok(Output { d: after.gather(&d_rows), steps })
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            a: &self.a,
            b: &self.b,
            b2: self.b2.as_deref(),
            c: self.c.as_deref(),
            residual: self.residual.as_deref(),
            bias: self.bias.as_deref(),
            scale: self.scale.as_deref(),
        }
    }

    /// The formula in f64 and in f32.
    pub fn references(&self) -> [Reference; 2] {
        [reference::<f64>(&self.problem, &self.inputs()), reference::<f32>(&self.problem, &self.inputs())]
    }

    /// Holds an output against the oracle by the numerics rule.
    pub fn judge(&self, output: &Output) -> Verdict {
        let [oracle, low] = self.references();
        let (cols, dtype) = (self.problem.n, self.problem.d.dtype);
        Judge { cols, dtype, oracle: &oracle.d, low: &low.d, mag: &oracle.mag, widen: (0.0, 0.0) }.judge(&output.d)
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

/// `[m, k] x [k, n]` of these dtypes, contiguous.
pub fn plain(m: usize, n: usize, k: usize, [a, b, d]: [Dtype; 3]) -> Problem {
    let [a, b, d] = [a, b, d].map(Matrix::new);
    Problem { m, n, k, a, b, d, ..Problem::default() }
}
