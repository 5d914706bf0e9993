//! Softmax over the last axis, fused: scale, mask, causal mask, softmax or log-softmax, log-sum-exp.
//!
//! With `s = scale * x + mask`, per row: `y = exp(s - max s) / sum exp(s - max s)`, or
//! `y = s - lse` with `log`, where `lse = max s + ln sum exp(s - max s)`. A score is hidden by an
//! additive mask of minus infinity, by a boolean mask or by `causal`; a row with nothing visible gives
//! 0 (minus infinity with `log`) and an `lse` of minus infinity. Sums are f32 whatever the dtypes.
//!
//! # What holds
//! * Scores beyond f32 are right: scores are held by a unit of their own, and without an additive mask the scale comes
//!   after the maximum is subtracted. An `lse` beyond f32 is infinite.
//! * An infinite `x` hides its element where its score is minus infinity; where the score is infinite or `scale` is 0, the
//!   row is unspecified.
//! * With an additive mask and a `scale` of magnitude above 2^100, mask values of magnitude below `2^-123 * scale` may
//!   count as 0; above 2^122, scores of which `x` alone is above 2^122 are unspecified.
//! * Without one, a `scale` of magnitude above 2.3e38 counts as that in differences of scores.
//! * A driver may take subnormal numbers for 0, and a subnormal `scale` beside an additive mask, too.
//!
//! # Algorithms
//! * [`Algorithm::Registers`]: the row stays in registers, `x` is read once and `y` written once.
//! * [`Algorithm::Online`]: rows too long for that; one pass for the maximum and the sum (Milakov and
//!   Gimelshein, 2018), one that writes.
//! * [`Algorithm::Split`]: few, very long rows; several workgroups per row, two steps, scratch.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 cores, 4096 x 4096 f32 unless said otherwise, against a vec4 copy in the same run
//! (`loom bench`; all figures in `benches/results/`): 50 to 57 % of the copy. What it took, in order:
//! * no barrier: a row by shuffles within one subgroup 40 ms, by a tree in workgroup memory 126 ms;
//! * nothing hidden, no select per element; blocks of `keep` chunks without a check each: 40 to 29 ms;
//! * two lanes per row rather than eight: 29 to 23 ms (four rows stream side by side, and share a workgroup);
//! * rows of a few hundred elements in registers, one lane per row up to 64: 65536 x 64 from 10.9 to 5.6 ms;
//! * f16 packed by integer arithmetic instead of `pack2x16float`: 44 to 26 ms; native f16 took 94 ms there;
//! * the kind of mask as a constant instead of a branch: 128 x 512 x 512 from 71 to 51 ms.
//!
//! Mesa turns f16 and masked rows into arithmetic: they take the time of f32 for half the bytes.

use super::tile::{self, Rows};
use crate::layout::{chunking, chunks, rows_divide, split_rows};
use crate::mask::MaskView;
use crate::ops::prelude::*;

pub use super::tile::{Algorithm, Config, Reduce};
pub use crate::mask::{Mask, MaskKind, broadcast};

defaults! {
    /// What is computed. `x` and `y` are `[n0, n1, n2, cols]` with `rows = n0 * n1 * n2` and
    /// `dims = [n1, n2]`; the default dims of `[1, 1]` make it `[rows, cols]`.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Rows, all outer axes together.
        pub rows: usize = 1,
        /// Elements per row.
        pub cols: usize = 1,
        /// Sizes of the two innermost row axes, for strided layouts, broadcast masks and `causal`.
        pub dims: [usize; 2] = [1, 1],
        /// Dtype of `x`.
        pub x: Dtype = Dtype::F32,
        /// Dtype of `y`.
        pub y: Dtype = Dtype::F32,
        /// Where the rows of `x` lie: strides of `n0, n1, n2`.
        pub x_layout: Layout<3> = Layout::default(),
        /// Where the rows of `y` lie. Rows must not overlap.
        pub y_layout: Layout<3> = Layout::default(),
        /// Multiplies `x` before the mask is added.
        pub scale: f32 = 1.0,
        /// Log-softmax.
        pub log: bool = false,
        /// Row `i` of axis `n2` sees columns `j <= i + cols - n2`: aligned to the bottom right.
        pub causal: bool = false,
        /// Hides or shifts scores.
        pub mask: Option<Mask> = None,
        /// Write the log-sum-exp of each row, f32 `[rows]`, from this element of its binding.
        pub lse: Option<usize> = None,
    }
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, x: &View<3>, grid: [u32; 3], parts: (u32, u32)) {
        x: Strides = x.params(),
        y: Strides = views.y.params(),
        mask: Strides = views.mask.map_or([0; 4], |mask| mask.view.params()),
        mask_step: u32 = views.mask.map_or(0, |mask| mask.step),
        rows: u32 = p.rows as u32,
        cols: u32 = p.cols as u32,
        n1: u32 = p.dims[0] as u32,
        n2: u32 = p.dims[1] as u32,
        lse_offset: u32 = p.lse.unwrap_or(0) as u32,
        causal: u32 = p.causal.into(),
        log: u32 = p.log.into(),
        grid_x: u32 = grid[0],
        parts: u32 = parts.0,
        part_chunks: u32 = parts.1,
        x_factor: f32 = Units::of(p).x_factor as f32,
        mask_factor: f32 = Units::of(p).mask_factor as f32,
        unit: f32 = Units::of(p).unit as f32,
        unit_log2: f32 = Units::of(p).unit_log2(),
        neg_inf: f32 = f32::NEG_INFINITY,
    }
}

/// How scores are held: `scale * x + mask = unit * (x_factor * x + mask_factor * mask)`, where f32 holds what is in
/// parentheses whatever x and mask are. One of `x_factor` and `unit` has the digits of the scale, everything else is a
/// power of two, so that no product is rounded twice.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Units {
    x_factor: f64,
    mask_factor: f64,
    unit: f64,
}

impl Units {
    fn of(p: &Problem) -> Units {
        let scale = f64::from(p.scale);
        if scale == 0.0 {
            return Units { x_factor: 0.0, mask_factor: 1.0, unit: 1.0 };
        }
        // 2^exponent <= |scale| < 2^(exponent + 1)
        let exponent = scale.abs().log2().floor() as i32;
        if let Some(Mask { kind: MaskKind::Additive(_), .. }) = p.mask {
            // Summands of at most a quarter of the largest f32. Beside a very small scale the mask needs no factor, and
            // above 2^126 it would vanish.
            let unit = if exponent < -30 { 1.0 } else { 2f64.powi((exponent + 3).clamp(2, 126)) };
            return Units { x_factor: scale / unit, mask_factor: 1.0 / unit, unit };
        }
        // Differences are taken first and scaled then. Those of a scale below 4 do not overflow, nor does the unit vanish;
        // one that overflows is infinite with its scale, too.
        let x_factor = 2f64.powi(-(2 - exponent).clamp(0, 80));
        Units { x_factor: x_factor.copysign(scale), mask_factor: 1.0, unit: scale.abs() / x_factor }
    }

    /// `unit` for powers of two, at most the largest f32.
    fn unit_log2(&self) -> f32 {
        (self.unit * std::f64::consts::LOG2_E).min(f32::MAX.into()) as f32
    }
}

/// What follows from the Problem, the device and the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Elements per chunk: 4, 2 (a word of packed 16-bit output) or 1.
    vec: u32,
    x: Storage,
    y: Storage,
    mask: Option<MaskKind>,
    /// Some scores may be hidden: by a mask, by `causal`, or because they are not of the row.
    hides: bool,
    lse: bool,
    /// Words of a packed `y` are shared by rows, or with what lies beside them.
    edge: bool,
    /// `x` is read from the binding of `y`.
    in_place: bool,
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    x: View<3>,
    y: View<3>,
    mask: Option<MaskView>,
    lse: Option<View<1>>,
}

impl Problem {
    /// `[n0, n1, n2]`, whose product is `rows`.
    pub fn sizes(&self) -> [usize; 3] {
        split_rows(self.rows, self.dims)
    }

    /// The element of the mask that belongs to column `col` of row `row`.
    ///
    /// # Panics
    /// Without a mask.
    pub fn mask_index(&self, row: usize, col: usize) -> usize {
        self.mask.expect("a mask").index(self.sizes(), self.cols, row, col)
    }

    fn form(&self, views: &Views, native_f16: bool) -> Form {
        let (x, y) = (Storage::held(self.x, native_f16), Storage::held(self.y, native_f16));
        let (vec, edge) = chunking(&[&views.x, &views.y], &views.y, y);
        let hides = self.mask.is_some() || self.causal || edge;
        let mask = self.mask.map(|mask| mask.kind);
        Form { vec, x, y, mask, hides, lse: self.lse.is_some(), edge, in_place: false }
    }

    /// What tiles go by.
    fn rows_of(&self, views: &Views, native_f16: bool) -> Rows {
        Rows {
            rows: self.rows,
            chunks: chunks(self.cols, self.form(views, native_f16).vec),
            arrays: 1,
            buffers: 2 + u32::from(self.mask.is_some()) + u32::from(self.lse.is_some()),
            f16: [self.x, self.y].contains(&Dtype::F16),
        }
    }

    fn passes(&self, views: &Views, config: &Config, writable: Slots, in_place: bool) -> Vec<Pass<Config, Form>> {
        let steps: &[_] = match config.algorithm {
            Algorithm::Registers => &["softmax_registers"],
            Algorithm::Online => &["softmax_online"],
            Algorithm::Split => &["softmax_split_reduce", "softmax_split_write"],
        };
        let form = Form { in_place, ..self.form(views, config.native_f16) };
        steps.iter().map(|&stem| Pass { stem, config: *config, form, writable }).collect()
    }
}

slots!(X, Y, MASK, LSE, SCRATCH);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let form = self.form;
        let writes = self.stem != "softmax_split_reduce";
        let shader = self.tile(form.vec).params::<Params>().flag("HIDES", form.hides);
        // A step declares only what it uses.
        let shader = match (form.in_place, writes) {
            (true, _) => shader.output(Y, "y", form.y, form.edge).in_place("x", "y", form.y, form.edge),
            (false, true) => shader.input(X, "x", form.x).output(Y, "y", form.y, form.edge),
            (false, false) => shader.input(X, "x", form.x).no_output("y"),
        };
        let shader = shader.mask(MASK, form.mask).gather("mask_bias");
        let shader = shader.writes_if(form.lse && writes, LSE, "lse", "f32", "lse");
        match self.config.algorithm {
            Algorithm::Split => shader.writes(SCRATCH, "scratch", "vec2<f32>"),
            _ => shader,
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x` is read, `y` written; they may be the same view, where dtypes and layouts are equal.
        x, y;
        /// The mask that the Problem asks for.
        mask,
        /// The log-sum-exp that the Problem asks for.
        lse,
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

functions!("softmax");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        rows_divide(self.rows, self.dims)?;
        sizes_fit([("rows", self.rows), ("cols", self.cols)])?;
        if self.cols == 0 && self.lse.is_some() && self.rows > 0 {
            return Err(ErrorKind::invalid("lse", "asked for rows without columns"));
        }
        if !self.scale.is_finite() {
            return Err(ErrorKind::invalid("scale", format!("{} is not finite", self.scale)));
        }
        let sizes = self.sizes();
        Ok(Views {
            x: self.x_layout.view("x", sizes, self.cols)?,
            y: self.y_layout.view("y", sizes, self.cols)?.apart("y_layout")?,
            mask: self.mask.map(|mask| mask.view(sizes, self.cols)).transpose()?,
            lse: self.lse.map(|offset| Layout::<1>::at(offset).view("lse", [self.rows], 1)).transpose()?,
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

    /// A maximum and a sum per part.
    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        config.scratch(&self.rows_of(views, config.native_f16), 8)
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        self.passes(views, config, writable, false).iter().map(Pipeline::shader).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(X, "x", buffers.x, views.x.of(self.x))?;
        args.write(Y, "y", buffers.y, views.y.of(self.y))?;
        args.read(MASK, "mask", buffers.mask, views.mask.map(|mask| mask.reach()))?;
        args.write(LSE, "lse", buffers.lse, views.lse.map(|lse| lse.of(WORD)))?;
        if self.rows == 0 || self.cols == 0 {
            return Ok(Dispatch::default());
        }
        args.scratch(SCRATCH, buffers.scratch, self.scratch(views, config))?;
        let in_place = args.in_place(X, Y);
        args.interleave(X, Y);
        args.check()?;

        let of = self.rows_of(views, config.native_f16);
        let grid = args.fold(config.workgroups(&of))?;
        let x = if in_place { &views.y } else { &views.x };
        let params = Params::of(self, views, x, grid, config.parts(&of));
        args.dispatch(&self.passes(views, config, args.writable(), in_place), &params, grid)
    }
}
