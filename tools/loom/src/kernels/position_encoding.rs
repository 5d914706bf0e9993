//! Position encodings: calls with their oracle.

use tileloom::position_encoding::{self, Buffers, Config, Encoding, Positions, Problem};
use tileloom::reference::{self, Judge, Verdict};
use tileloom::{Dtype, Kernels, Layout};

use crate::Gpu;
use crate::memory::{Image, Rows};
use crate::random::Random;

mod command;

pub use command::{KERNEL, PositionEncoding};

/// One call: the Problem, and what its buffers hold.
#[derive(Debug, Clone)]
pub struct Call {
    pub problem: Problem,
    /// Contiguous `[batch, rows, cols, dim]`, as stored.
    pub x: Vec<f64>,
    /// Contiguous `[axes, batch, rows * cols]`, where the Problem reads them.
    pub positions: Option<Vec<i64>>,
    /// None, one or two, `[len, dim]`, as stored.
    pub tables: Vec<Vec<f64>>,
    /// `y` takes the place of `x`: equal dtypes and layouts.
    pub in_place: bool,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Contiguous.
    pub y: Vec<f64>,
    /// What ran: shader and Config.
    pub steps: Vec<String>,
}

impl Call {
    /// Normal values with an offset per token; positions, where they are read, are random up to `reach`.
    pub fn random(problem: Problem, seed: u64, reach: usize) -> Call {
        let mut random = Random::new(seed);
        let mut values = |n: usize, dtype: Dtype| -> Vec<f64> {
            let shift = |i: usize| [0.0, 3.0, -40.0][i / problem.dim.max(1) % 3];
            (0..n).map(|i| dtype.round(shift(i) + random.normal())).collect()
        };
        let tokens = problem.batch * problem.rows * problem.cols;
        let x = values(tokens * problem.dim, problem.x);
        let tables = match &problem.encoding {
            Encoding::Waves(_) => Vec::new(),
            Encoding::Learned { dtype, table, row_table } => {
                std::iter::once(table).chain(row_table).map(|table| values(table.len * problem.dim, *dtype)).collect()
            }
        };
        let positions = match problem.positions {
            Positions::From { .. } => None,
            Positions::Buffer { signed, .. } => {
                let shift = if signed { reach as i64 / 2 } else { 0 };
                Some((0..problem.encoding.axes() * tokens).map(|_| random.below(reach) as i64 - shift).collect())
            }
        };
        Call { problem, x, positions, tables, in_place: false }
    }

    /// The positions as words by the Problem's layout, poison between.
    fn position_image(&self, values: &[i64], layout: Layout<2>) -> Image {
        let p = &self.problem;
        let (sizes, tokens) = ([p.encoding.axes(), p.batch], p.rows * p.cols);
        let start = |row| layout.row_start(sizes, tokens, row);
        let end = (0..sizes[0] * sizes[1]).map(|row| start(row) + tokens).max().unwrap_or(0);
        let mut words = vec![u32::MAX; end];
        for (row, values) in values.chunks(tokens.max(1)).enumerate() {
            words[start(row)..][..tokens].iter_mut().zip(values).for_each(|(word, &value)| *word = value as u32);
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
        let view = |layout, dtype| Rows { layout, sizes: p.sizes(), cols: p.dim, dtype };
        let (x_view, y_view) = (view(p.x_layout, p.x), view(p.y_layout, p.y));
        let mut x = Image::with_room(&[x_view]);
        x.scatter(&x_view, &self.x);
        let x_buffer = gpu.buffer(&x.bytes);
        let (y, y_buffer) = match self.in_place {
            true => (x.clone(), x_buffer.clone()),
            false => {
                let image = Image::with_room(&[y_view]);
                let buffer = gpu.buffer(&image.bytes);
                (image, buffer)
            }
        };
        let mut buffers = Buffers::new(x.binding(&x_buffer), y.binding(&y_buffer));
        let positions = match (&self.positions, p.positions) {
            (Some(values), Positions::Buffer { layout, .. }) => Some(self.position_image(values, layout)),
            _ => None,
        };
        let position_buffer = positions.as_ref().map(|image| gpu.buffer(&image.bytes));
        if let (Some(image), Some(buffer)) = (&positions, &position_buffer) {
            buffers = buffers.positions(image.binding(buffer));
        }
        let tables: Vec<Image> = match &p.encoding {
            Encoding::Waves(_) => Vec::new(),
            Encoding::Learned { dtype, table, row_table } => {
                let places = std::iter::once(table).chain(row_table);
                let image = |(place, values): (&position_encoding::Table, &Vec<f64>)| {
                    Image::of(&dtype.encode(&[&vec![f64::NAN; place.offset][..], values].concat()))
                };
                places.zip(&self.tables).map(image).collect()
            }
        };
        let table_buffers: Vec<_> = tables.iter().map(|image| gpu.buffer(&image.bytes)).collect();
        for (i, (image, buffer)) in tables.iter().zip(&table_buffers).enumerate() {
            let binding = image.binding(buffer);
            buffers = if i == 0 { buffers.table(binding) } else { buffers.row_table(binding) };
        }
        let dispatch = match config {
            Some(config) => position_encoding::prepare_with(kernels, p, config, buffers),
            None => position_encoding::prepare(kernels, p, buffers),
        }
        .map_err(|error| error.to_string())?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        let after = Image { bytes: gpu.read(&y_buffer)? };
        if let Some(byte) = after.spilled(&y, &y_view) {
            return Err(format!("byte {byte} outside y was written"));
        }
        let steps = dispatch.steps().map(|(label, grid)| format!("{label} on {grid:?}")).collect();
        Ok(Output { y: after.gather(&y_view), steps })
    }

    /// Holds an output against the oracle by the numerics rule.
    pub fn judge(&self, output: &Output) -> Verdict {
        let p = &self.problem;
        let tables: Vec<&[f64]> = self.tables.iter().map(Vec::as_slice).collect();
        let positions = self.positions.as_deref();
        let oracle = reference::position_encoding::reference::<f64>(p, &self.x, positions, &tables);
        let low = reference::position_encoding::reference::<f32>(p, &self.x, positions, &tables);
        Judge { cols: p.dim, dtype: p.y, oracle: &oracle.y, low: &low.y, mag: &oracle.mag, widen: (0.0, 0.0) }
            .judge(&output.y)
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
