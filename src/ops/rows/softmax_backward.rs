//! The gradient of softmax and log-softmax over the last axis, from their results.
//!
//! With `s = scale * x + mask`, `y = softmax(s)` and the gradient `dy` of some loss, per row
//! `dx = scale * y * (dy - sum(y * dy))`; with `log`, where `y = log_softmax(s)`,
//! `dx = scale * (dy - exp(y) * sum(dy))` over what is visible. What a mask hid is told by `y`, which is 0 there
//! (minus infinity with `log`): its `dx` is 0 and its `dy` does not count, whatever stands there. So no mask is
//! bound, and `causal` only saves the look at it. The gradient of an additive mask is `dx` for a scale of 1.
//!
//! The algorithms are those of [`softmax`](crate::softmax), by the length of the row:
//! * [`Algorithm::Registers`]: the row stays in registers, `y` and `dy` are read once and `dx` written once.
//! * [`Algorithm::Online`]: one pass for the sum, one that writes.
//! * [`Algorithm::Split`]: few, very long rows; several workgroups per row, two steps, scratch.
//!
//! Sums are f32 whatever the dtypes. `|dy|` up to 1.7e38 is right; with `log`, as long as their sum over a row is at most
//! 3.4e38. What a driver flushes is flushed before `scale` multiplies it: beside a `scale` of magnitude above 1, `dx` is
//! right to within `2^-126 * scale` there.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 cores, against a vec4 copy in the same run (`loom bench`): 4096 x 4096 f32 18 ms, 97 % of
//! the copy, f16 21 ms, 41 %, log 22 ms, 79 %; 65536 x 64 6 ms, 72 %; 16 x 50257 1.2 ms, 71 %.

use super::tile::{self, Rows};
use crate::layout::{chunking, chunks, rows_divide, split_rows};
use crate::ops::prelude::*;

pub use super::tile::{Algorithm, Config, Reduce};

defaults! {
    /// What is computed. `y`, `dy` and `dx` are `[n0, n1, n2, cols]` with `rows = n0 * n1 * n2` and
    /// `dims = [n1, n2]`; the default dims of `[1, 1]` make it `[rows, cols]`.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Rows, all outer axes together.
        pub rows: usize = 1,
        /// Elements per row.
        pub cols: usize = 1,
        /// Sizes of the two innermost row axes, for strided layouts and `causal`.
        pub dims: [usize; 2] = [1, 1],
        /// Dtype of `y`.
        pub y: Dtype = Dtype::F32,
        /// Dtype of `dy`.
        pub dy: Dtype = Dtype::F32,
        /// Dtype of `dx`.
        pub dx: Dtype = Dtype::F32,
        /// Where the rows of `y` lie: strides of `n0, n1, n2`.
        pub y_layout: Layout<3> = Layout::default(),
        /// Where the rows of `dy` lie.
        pub dy_layout: Layout<3> = Layout::default(),
        /// Where the rows of `dx` lie. Rows must not overlap.
        pub dx_layout: Layout<3> = Layout::default(),
        /// What multiplied `x`.
        pub scale: f32 = 1.0,
        /// `y` is log-softmax.
        pub log: bool = false,
        /// Row `i` of axis `n2` saw columns `j <= i + cols - n2`: aligned to the bottom right.
        pub causal: bool = false,
    }
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, inputs: [&View<3>; 2], dx: &View<3>, grid: [u32; 3], parts: (u32, u32)) {
        y: Strides = inputs[0].params(),
        dy: Strides = inputs[1].params(),
        dx: Strides = dx.params(),
        rows: u32 = p.rows as u32,
        cols: u32 = p.cols as u32,
        n1: u32 = p.dims[0] as u32,
        n2: u32 = p.dims[1] as u32,
        causal: u32 = p.causal.into(),
        grid_x: u32 = grid[0],
        parts: u32 = parts.0,
        part_chunks: u32 = parts.1,
        scale: f32 = p.scale,
    }
}

/// What follows from the Problem, the device and the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Elements per chunk: 4, 2 (a word of packed 16-bit output) or 1.
    vec: u32,
    y: Storage,
    dy: Storage,
    dx: Storage,
    log: bool,
    /// Some elements may be hidden: by `causal`, or because they are not of the row.
    hides: bool,
    /// Words of a packed `dx` are shared by rows, or with what lies beside them.
    edge: bool,
    /// `y`, `dy` are read from the binding of `dx`.
    in_place: [bool; 2],
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    y: View<3>,
    dy: View<3>,
    dx: View<3>,
}

impl Problem {
    /// `[n0, n1, n2]`, whose product is `rows`.
    pub fn sizes(&self) -> [usize; 3] {
        split_rows(self.rows, self.dims)
    }

    fn form(&self, views: &Views, native_f16: bool) -> Form {
        let [y, dy, dx] = [self.y, self.dy, self.dx].map(|dtype| Storage::held(dtype, native_f16));
        let (vec, edge) = chunking(&[&views.y, &views.dy, &views.dx], &views.dx, dx);
        Form { vec, y, dy, dx, log: self.log, hides: self.causal || edge, edge, in_place: [false; 2] }
    }

    /// What tiles go by.
    fn rows_of(&self, views: &Views, native_f16: bool) -> Rows {
        let f16 = [self.y, self.dy, self.dx].contains(&Dtype::F16);
        Rows {
            rows: self.rows,
            chunks: chunks(self.cols, self.form(views, native_f16).vec),
            arrays: 2,
            buffers: 3,
            f16,
        }
    }

    fn passes(&self, views: &Views, config: &Config, writable: Slots, in_place: [bool; 2]) -> Vec<Pass<Config, Form>> {
        let steps: &[_] = match config.algorithm {
            Algorithm::Registers => &["softmax_backward_registers"],
            Algorithm::Online => &["softmax_backward_online"],
            Algorithm::Split => &["softmax_backward_split_reduce", "softmax_backward_split_write"],
        };
        let form = Form { in_place, ..self.form(views, config.native_f16) };
        steps.iter().map(|&stem| Pass { stem, config: *config, form, writable }).collect()
    }
}

slots!(Y, DY, DX, SCRATCH);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let form = self.form;
        let writes = self.stem != "softmax_backward_split_reduce";
        let mut shader = self.tile(form.vec).params::<Params>().flag("LOG", form.log).flag("HIDES", form.hides);
        // The step that only sums binds dx where an input is read from it; its sum for log needs no weights, but
        // y tells what is hidden.
        shader = match writes || form.in_place.contains(&true) {
            true => shader.output(DX, "dx", form.dx, form.edge),
            false => shader.no_output("dx"),
        };
        for (binding, name, storage, in_place) in
            [(Y, "y", form.y, form.in_place[0]), (DY, "dy", form.dy, form.in_place[1])]
        {
            shader = match in_place {
                true => shader.in_place(name, "dx", form.dx, form.edge),
                false => shader.input(binding, name, storage),
            };
        }
        match self.config.algorithm {
            Algorithm::Split => shader.writes(SCRATCH, "scratch", "f32"),
            _ => shader,
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `y` and `dy` are read, `dx` written; it may be the view of either, where dtypes and layouts are equal.
        y, dy, dx;
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

impl<'a> Buffers<'a> {
    /// The result takes the place of `dy`.
    pub fn in_place(y: impl Into<Binding<'a>>, dy: impl Into<Binding<'a>>) -> Self {
        let dy = dy.into();
        Self::new(y, dy, dy)
    }
}

functions!("softmax_backward");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        rows_divide(self.rows, self.dims)?;
        sizes_fit([("rows", self.rows), ("cols", self.cols)])?;
        if !self.scale.is_finite() {
            return Err(ErrorKind::invalid("scale", format!("{} is not finite", self.scale)));
        }
        let sizes = self.sizes();
        Ok(Views {
            y: self.y_layout.view("y", sizes, self.cols)?,
            dy: self.dy_layout.view("dy", sizes, self.cols)?,
            dx: self.dx_layout.view("dx", sizes, self.cols)?.apart("dx_layout")?,
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

    /// A sum per part.
    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        config.scratch(&self.rows_of(views, config.native_f16), 4)
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        self.passes(views, config, writable, [false; 2]).iter().map(Pipeline::shader).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        if self.rows == 0 || self.cols == 0 {
            return Ok(Dispatch::default());
        }
        let mut args = Args::new(kernels);
        args.read(Y, "y", buffers.y, views.y.of(self.y))?;
        args.read(DY, "dy", buffers.dy, views.dy.of(self.dy))?;
        args.write(DX, "dx", buffers.dx, views.dx.of(self.dx))?;
        args.scratch(SCRATCH, buffers.scratch, self.scratch(views, config))?;
        let in_place = [Y, DY].map(|input| args.in_place(input, DX));
        for input in [Y, DY] {
            args.interleave(input, DX);
        }
        args.check()?;

        let of = self.rows_of(views, config.native_f16);
        let grid = args.fold(config.workgroups(&of))?;
        // In place, an input is read through the binding of dx.
        let inputs = [0, 1].map(|i| if in_place[i] { &views.dx } else { [&views.y, &views.dy][i] });
        let params = Params::of(self, inputs, &views.dx, grid, config.parts(&of));
        args.dispatch(&self.passes(views, config, args.writable(), in_place), &params, grid)
    }
}
