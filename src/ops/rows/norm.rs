//! RMS norm and layer norm over the last axis, fused: residual, weight, bias, the statistics of each row.
//!
//! With `s = x + residual`, per row of `cols` elements:
//! * [`Kind::Rms`]: `y = s / sqrt(mean(s^2) + eps) * (weight + weight_offset) + bias` (Zhang and Sennrich, 2019);
//! * [`Kind::Layer`]: `y = (s - mean(s)) / sqrt(variance(s) + eps) * (weight + weight_offset) + bias` (Ba, Kiros and
//!   Hinton, 2016); the variance divides by `cols`.
//!
//! An absent weight is 1, an absent bias 0. `sum` is `s` in the dtype of `x`, for the next layer; `y` goes by the sum
//! before it is rounded. Sums are f32 whatever the dtypes.
//!
//! # What holds
//! * The variance is that of distances: from the row's first element, then from their mean. A row with a mean of 1e4
//!   and a deviation of 1e-2 loses only what its own f32 values have lost.
//! * Squares are scaled by a power of two that follows from `eps`, so that they neither overflow nor vanish: with the
//!   usual eps of 1e-6 for magnitudes up to about `2e31 / sqrt(cols)`, with an eps of 0 up to `2e19 / sqrt(cols)`. What
//!   is larger gets a scale that is off, but no NaN.
//! * A row of equal elements has a variance of 0, and gives the bias.
//!
//! # Algorithms
//! * [`Algorithm::Registers`]: the row stays in registers, `x` is read once and `y` written once.
//! * [`Algorithm::Online`]: rows too long for that; one pass for the moments, one that writes.
//! * [`Algorithm::Split`]: few, very long rows; several workgroups per row, two steps, scratch.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 cores, against a vec4 copy in the same run (`loom bench`; softmax of 4096 x 4096 f32 was at
//! 64 % there): RMS norm of 4096 x 4096 f32 14 ms, 95 % of the copy, f16 20 ms, 42 %, with residual and sum 30 ms, as
//! fast as the copy; layer norm of 4096 x 4096 f32 23 ms, 72 %, 8192 x 1024 12 ms, 53 %.

use super::tile::{self, Rows};
use crate::layout::{chunking, chunks, rows_divide, split_rows};
use crate::ops::prelude::*;

pub use super::tile::{Algorithm, Config, Reduce};

words! {
    /// Which norm.
    pub enum Kind {
        /// By the root of the mean square.
        Rms = "rms",
        /// By mean and variance.
        Layer = "layer",
    }
}

impl Kind {
    /// The eps that is usual: 1e-6 and 1e-5.
    pub const fn eps(self) -> f32 {
        match self {
            Kind::Rms => 1e-6,
            Kind::Layer => 1e-5,
        }
    }
}

/// One value per column, contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vector {
    /// Its dtype.
    pub dtype: Dtype,
    /// The element at which it starts in its binding.
    pub offset: usize,
}

impl Vector {
    /// From the start of its binding.
    pub const fn of(dtype: Dtype) -> Vector {
        Vector { dtype, offset: 0 }
    }

    pub(crate) fn view(&self, arg: &'static str, cols: usize) -> Checked<View<1>> {
        Layout::<1>::at(self.offset).view(arg, [1], cols)
    }
}

defaults! {
    /// What is computed. `x`, `residual`, `y` and `sum` are `[n0, n1, n2, cols]` with `rows = n0 * n1 * n2` and
    /// `dims = [n1, n2]`; the default dims of `[1, 1]` make it `[rows, cols]`.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Which norm.
        pub kind: Kind = Kind::Rms,
        /// Rows, all outer axes together.
        pub rows: usize = 1,
        /// Elements per row.
        pub cols: usize = 1,
        /// Sizes of the two innermost row axes, for strided layouts.
        pub dims: [usize; 2] = [1, 1],
        /// Dtype of `x`, and of `sum`.
        pub x: Dtype = Dtype::F32,
        /// Dtype of `y`.
        pub y: Dtype = Dtype::F32,
        /// Where the rows of `x` lie: strides of `n0, n1, n2`.
        pub x_layout: Layout<3> = Layout::default(),
        /// Where the rows of `y` lie. Rows must not overlap.
        pub y_layout: Layout<3> = Layout::default(),
        /// Added to `x`: its dtype.
        pub residual: Option<Dtype> = None,
        /// Where the rows of `residual` lie.
        pub residual_layout: Layout<3> = Layout::default(),
        /// Write `x + residual`, there. Rows must not overlap.
        pub sum: Option<Layout<3>> = None,
        /// Multiplies each column.
        pub weight: Option<Vector> = None,
        /// Added to the weight (Gemma's 1), of 1 where there is none.
        pub weight_offset: f32 = 0.0,
        /// Added to each column.
        pub bias: Option<Vector> = None,
        /// Added to the mean square or the variance; at least 0.
        pub eps: f32 = Kind::Rms.eps(),
        /// Write the statistics, from this element of their binding: f32 `[rows]`, 1 / deviation of each row (with
        /// eps); with `Layer` `[2, rows]`, the means first.
        pub stats: Option<usize> = None,
    }
}

impl Problem {
    /// One row of one f32, without weight: sizes are yours to set. `eps` is the usual one.
    pub fn of(kind: Kind) -> Problem {
        Problem { kind, eps: kind.eps(), ..Problem::default() }
    }
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, inputs: [Strides; 2], grid: [u32; 3], parts: (u32, u32)) {
        x: Strides = inputs[0],
        y: Strides = views.y.params(),
        residual: Strides = inputs[1],
        sum: Strides = strides(&views.sum),
        rows: u32 = p.rows as u32,
        cols: u32 = p.cols as u32,
        n1: u32 = p.dims[0] as u32,
        n2: u32 = p.dims[1] as u32,
        weight_at: u32 = p.weight.map_or(0, |weight| weight.offset as u32),
        bias_at: u32 = p.bias.map_or(0, |bias| bias.offset as u32),
        stats_at: u32 = p.stats.unwrap_or(0) as u32,
        grid_x: u32 = grid[0],
        parts: u32 = parts.0,
        part_chunks: u32 = parts.1,
        weight_offset: f32 = p.weight_offset,
        scale: f32 = scale(p.eps),
        eps: f32 = p.eps * scale(p.eps) * scale(p.eps),
    }
}

/// The parameter of a view that may be absent.
pub(super) fn strides(view: &Option<View<3>>) -> Strides {
    view.map_or([0; 4], |view| view.params())
}

/// What follows from the Problem, the device and the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    kind: Kind,
    /// Elements per chunk: 4, 2 (a word of a packed 16-bit output) or 1.
    vec: u32,
    x: Storage,
    y: Storage,
    residual: Option<Storage>,
    sum: bool,
    weight: Option<Storage>,
    bias: Option<Storage>,
    stats: bool,
    /// Chunks follow the words of `sum`, since those of `y` are not packed.
    by_sum: bool,
    /// Words of the packed output that chunks follow are shared by rows, or with what lies beside them.
    edge: bool,
    /// From which output's binding `x` and `residual` are read.
    over: [Option<Over>; 2],
}

/// An output that an input shares its view with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Over {
    Y,
    Sum,
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    x: View<3>,
    y: View<3>,
    residual: Option<View<3>>,
    sum: Option<View<3>>,
    weight: Option<View<1>>,
    bias: Option<View<1>>,
    stats: Option<View<1>>,
}

/// A power of two, at most 1, whose square brings squares of 2^-25 eps to the smallest normal f32: what vanishes of the
/// squares of scaled values does not show beside eps.
pub(in crate::ops) fn scale(eps: f32) -> f32 {
    let exponent = (-101.0 - eps.max(f32::MIN_POSITIVE).log2()) / 2.0;
    exponent.ceil().clamp(-60.0, 0.0).exp2()
}

/// Refuses what is no eps, or no weight_offset.
pub(in crate::ops) fn check_options(eps: f32, weight_offset: f32) -> Checked {
    if !(eps.is_finite() && eps >= 0.0) {
        return Err(ErrorKind::invalid("eps", format!("{eps} is not a finite number of at least 0")));
    }
    match weight_offset.is_finite() {
        true => Ok(()),
        false => Err(ErrorKind::invalid("weight_offset", format!("{weight_offset} is not finite"))),
    }
}

impl Problem {
    /// `[n0, n1, n2]`, whose product is `rows`.
    pub fn sizes(&self) -> [usize; 3] {
        split_rows(self.rows, self.dims)
    }

    fn form(&self, views: &Views, native_f16: bool) -> Form {
        let held = |dtype| Storage::held(dtype, native_f16);
        let (x, y) = (held(self.x), held(self.y));
        let lead = views.sum.as_ref().filter(|_| x.packed() && !y.packed());
        let all: Vec<View<3>> = [views.x, views.y]
            .into_iter()
            .chain(views.residual)
            .chain(views.sum)
            .chain([views.weight, views.bias].into_iter().flatten().map(|view| view.padded()))
            .collect();
        let all: Vec<&View<3>> = all.iter().collect();
        let (vec, edge) = match lead {
            Some(sum) => chunking(&all, sum, x),
            None => chunking(&all, &views.y, y),
        };
        Form {
            kind: self.kind,
            vec,
            x,
            y,
            residual: self.residual.map(held),
            sum: self.sum.is_some(),
            weight: self.weight.map(|weight| held(weight.dtype)),
            bias: self.bias.map(|bias| held(bias.dtype)),
            stats: self.stats.is_some(),
            by_sum: lead.is_some(),
            edge,
            over: [None; 2],
        }
    }

    /// What tiles go by.
    fn rows_of(&self, views: &Views, native_f16: bool) -> Rows {
        let of_columns = [self.weight, self.bias].map(|vector| vector.map(|vector| vector.dtype));
        let dtypes = [Some(self.x), Some(self.y), self.residual, of_columns[0], of_columns[1]];
        let more = [self.residual.is_some(), self.sum.is_some(), self.weight.is_some(), self.bias.is_some()];
        Rows {
            rows: self.rows,
            chunks: chunks(self.cols, self.form(views, native_f16).vec),
            arrays: 1,
            buffers: 2 + more.into_iter().chain([self.stats.is_some()]).map(u32::from).sum::<u32>(),
            f16: dtypes.contains(&Some(Dtype::F16)),
        }
    }

    fn passes(&self, form: Form, config: &Config, writable: Slots) -> Vec<Pass<Config, Form>> {
        let steps: &[_] = match config.algorithm {
            Algorithm::Registers => &["norm_registers"],
            Algorithm::Online => &["norm_online"],
            Algorithm::Split => &["norm_split_reduce", "norm_split_write"],
        };
        steps.iter().map(|&stem| Pass { stem, config: *config, form, writable }).collect()
    }
}

slots!(X, Y, RESIDUAL, SUM, WEIGHT, BIAS, STATS, SCRATCH);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let form = self.form;
        let Form { x, y, edge, .. } = form;
        let writes = self.stem != "norm_split_reduce";
        let mut shader = self
            .tile(form.vec)
            .params::<Params>()
            .flag("LAYER", form.kind == Kind::Layer)
            .flag("HIDES", edge)
            .flag("BY_SUM", form.by_sum)
            .flag("HAS_RESIDUAL", form.residual.is_some())
            .flag("HAS_WEIGHT", form.weight.is_some())
            .flag("HAS_BIAS", form.bias.is_some());
        // The step that only sums binds an output where an input is read from it.
        let binds = |over| writes || form.over.contains(&Some(over));
        shader = match binds(Over::Y) {
            true if form.by_sum => shader.output_apart(Y, "y", y),
            true => shader.output(Y, "y", y, edge),
            false => shader.no_output("y"),
        };
        shader = match form.sum && binds(Over::Sum) {
            true if form.by_sum => shader.output(SUM, "sum", x, edge),
            true => shader.output_apart(SUM, "sum", x),
            false => shader.no_output("sum"),
        };
        // Whether words of an output are atomics.
        let atomic = |storage: Storage, lead: bool| form.vec == 2 && storage.packed() && (edge || !lead);
        for (slot, name, storage, over) in
            [(X, "x", Some(x), form.over[0]), (RESIDUAL, "residual", form.residual, form.over[1])]
        {
            shader = match (storage, over) {
                (None, _) => shader.no_input(name, "0.0"),
                (Some(storage), None) => shader.input(slot, name, storage),
                (Some(_), Some(Over::Y)) => shader.in_place(name, "y", y, atomic(y, !form.by_sum)),
                (Some(_), Some(Over::Sum)) => shader.in_place(name, "sum", x, atomic(x, form.by_sum)),
            };
        }
        for (slot, name, storage) in [(WEIGHT, "weight", form.weight), (BIAS, "bias", form.bias)] {
            shader = match storage.filter(|_| writes) {
                Some(storage) => shader.input(slot, name, storage),
                None => shader.no_input(name, "0.0"),
            };
        }
        shader = shader.writes_if(form.stats && writes, STATS, "stats", "f32", "norm_stats");
        match self.config.algorithm {
            Algorithm::Split => shader.writes(SCRATCH, "scratch", "vec4<f32>"),
            _ => shader,
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x` is read, `y` written; they may be the same view, where dtypes and layouts are equal.
        x, y;
        /// What the Problem adds to `x`; `y` or `sum` may take its place.
        residual,
        /// `x + residual`, which the Problem asks for; it may take the place of either.
        sum,
        /// The weight of each column that the Problem asks for.
        weight,
        /// The bias of each column that the Problem asks for.
        bias,
        /// The statistics that the Problem asks for.
        stats,
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

impl<'a> Buffers<'a> {
    /// The result takes the place of `x`.
    pub fn in_place(x: impl Into<Binding<'a>>) -> Self {
        let x = x.into();
        Self::new(x, x)
    }
}

functions!("norm");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        rows_divide(self.rows, self.dims)?;
        sizes_fit([("rows", self.rows), ("cols", self.cols)])?;
        if self.cols == 0 && self.stats.is_some() && self.rows > 0 {
            return Err(ErrorKind::invalid("stats", "asked for rows without columns"));
        }
        check_options(self.eps, self.weight_offset)?;
        let sizes = self.sizes();
        let planes = if self.kind == Kind::Layer { 2 } else { 1 };
        let vector = |arg, vector: Option<Vector>| vector.map(|vector| vector.view(arg, self.cols)).transpose();
        Ok(Views {
            x: self.x_layout.view("x", sizes, self.cols)?,
            y: self.y_layout.view("y", sizes, self.cols)?.apart("y_layout")?,
            residual: self.residual.map(|_| self.residual_layout.view("residual", sizes, self.cols)).transpose()?,
            sum: self.sum.map(|layout| layout.view("sum", sizes, self.cols)?.apart("sum")).transpose()?,
            weight: vector("weight", self.weight)?,
            bias: vector("bias", self.bias)?,
            stats: self.stats.map(|at| Layout::<1>::at(at).view("stats", [planes], self.rows)).transpose()?,
        })
    }

    fn without_batch(&self) -> Problem {
        Problem { rows: BATCH, dims: [1; 2], ..*self }
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let of = self.rows_of(views, false);
        tile::candidates(caps, &self.rows_of(views, caps.prefers_native_f16(of.f16)))
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        config.check(caps, &self.rows_of(views, config.native_f16))
    }

    /// Pivot, count, mean and sum of squares per part.
    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        config.scratch(&self.rows_of(views, config.native_f16), 16)
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let form = self.form(views, config.native_f16);
        self.passes(form, config, writable).iter().map(Pipeline::shader).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let of = |view: Option<View<1>>, vector: Option<Vector>| Some(view?.of(vector?.dtype));
        let mut args = Args::new(kernels);
        args.read(X, "x", buffers.x, views.x.of(self.x))?;
        args.write(Y, "y", buffers.y, views.y.of(self.y))?;
        let residual = views.residual.zip(self.residual);
        args.read(RESIDUAL, "residual", buffers.residual, residual.map(|(view, dtype)| view.of(dtype)))?;
        args.write(SUM, "sum", buffers.sum, views.sum.map(|view| view.of(self.x)))?;
        args.read(WEIGHT, "weight", buffers.weight, of(views.weight, self.weight))?;
        args.read(BIAS, "bias", buffers.bias, of(views.bias, self.bias))?;
        args.write(STATS, "stats", buffers.stats, views.stats.map(|view| view.of(WORD)))?;
        if self.rows == 0 || self.cols == 0 {
            return Ok(Dispatch::default());
        }
        args.scratch(SCRATCH, buffers.scratch, self.scratch(views, config))?;
        let over = [X, RESIDUAL].map(|input| {
            let places = [(Y, Over::Y), (SUM, Over::Sum)].into_iter();
            let found: Vec<Over> = places.filter(|&(out, _)| args.in_place(input, out)).map(|(_, over)| over).collect();
            found.first().copied()
        });
        for input in [X, RESIDUAL] {
            args.interleave(input, Y);
            args.interleave(input, SUM);
        }
        args.check()?;

        let tiled = self.rows_of(views, config.native_f16);
        let grid = args.fold(config.workgroups(&tiled))?;
        // In place, an input is read through the binding of an output.
        let input = |view: &Option<View<3>>, over: Option<Over>| match over {
            Some(Over::Y) => views.y.params(),
            Some(Over::Sum) => strides(&views.sum),
            None => strides(view),
        };
        let inputs = [input(&Some(views.x), over[0]), input(&views.residual, over[1])];
        let params = Params::of(self, views, inputs, grid, config.parts(&tiled));
        let form = Form { over, ..self.form(views, config.native_f16) };
        args.dispatch(&self.passes(form, config, args.writable()), &params, grid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_that_matter_neither_vanish_nor_overflow() {
        for eps in [0.0f32, 1e-30, 1e-12, 1e-8, 1e-6, 1e-5, 1e-3, 1.0, 1e6] {
            let scale = scale(eps);
            assert_eq!(scale.log2().fract(), 0.0, "{eps}");
            assert!(
                scale <= 1.0 && (scale == 1.0 || scale * scale * eps / 2f32.powi(25) >= f32::MIN_POSITIVE),
                "{eps}"
            );
        }
        assert_eq!(scale(1e-6), 2f32.powi(-40));
        assert_eq!(scale(0.0), 1.0);
    }
}
