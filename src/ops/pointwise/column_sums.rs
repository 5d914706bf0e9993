//! Sums of columns: `y = sum(x)` over all leading axes, f32 `[cols]`, written or added to what is there. The gradient of a bias, and
//! of whatever was broadcast along rows.
//!
//! Rows are added up in blocks, and these in their order, without atomics: the same input gives the same bits.

use super::join;
use super::tile::{self, Area, Walk, walk_params};
use crate::ops::prelude::*;

pub use super::tile::Config;

defaults! {
    /// What is computed. `x` is `[n0, n1, n2, cols]` with `rows = n0 * n1 * n2` and `dims = [n1, n2]`; the default dims of
    /// `[1, 1]` make it `[rows, cols]`.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Rows, all leading axes together.
        pub rows: usize = 1,
        /// Elements per row.
        pub cols: usize = 1,
        /// Sizes of the two innermost row axes, for strided layouts.
        pub dims: [usize; 2] = [1, 1],
        /// Dtype of `x`.
        pub x: Dtype = Dtype::F32,
        /// Where the rows of `x` lie: strides of `n0, n1, n2`.
        pub x_layout: Layout<3> = Layout::default(),
        /// The first element of `y` in its binding.
        pub y: usize = 0,
        /// Sums are added to what `y` holds.
        pub add: bool = false,
    }
}

walk_params! {
    fn of(views: &Views);
    [x = views.x.params()]
}

/// What follows from the Problem and the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Elements per chunk.
    vec: u32,
    x: Storage,
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    x: View<3>,
    y: View<1>,
}

impl Problem {
    /// `[n0, n1, n2]`, whose product is `rows`.
    pub fn sizes(&self) -> [usize; 3] {
        crate::layout::split_rows(self.rows, self.dims)
    }

    fn area(&self, views: &Views) -> Area {
        let vec = if views.x.multiple_of(4) { 4 } else { 1 };
        Area { rows: self.rows, cols: self.cols, vec, sums: 1, f16: self.x == Dtype::F16 }
    }

    fn pass(&self, views: &Views, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let form = Form { vec: self.area(views).vec, x: Storage::held(self.x, config.native_f16) };
        Pass { stem: "column_sums", config: config.key(), form, writable }
    }

    fn join(&self, views: &Views) -> ([join::Output; 1], join::Form) {
        let outputs = [Some((Y, views.y))];
        (outputs, join::Form::of(SUMS, self.cols, &outputs))
    }
}

slots!(X, Y, SUMS);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let shader = self.begin(self.config.wg_size, 0, self.form.vec).params::<Params>();
        self.config.declare(shader, false).input(X, "x", self.form.x).output(SUMS, "sums", Storage::F32, false)
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x` is read, `y` written, or read and written.
        x, y;
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("column_sums");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let sizes = tile::check_sizes(self.rows, self.cols, self.dims)?;
        Ok(Views {
            x: self.x_layout.view("x", sizes, self.cols)?,
            y: Layout::<1>::at(self.y).view("y", [1], self.cols)?,
        })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        tile::candidates(caps, &self.area(views))
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        config.check(caps, &self.area(views))
    }

    /// Sums of each block of rows.
    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        config.sums_bytes(&self.area(views))
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![self.pass(views, config, writable).shader(), join::pass(config, self.join(views).1).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(X, "x", buffers.x, views.x.of(self.x))?;
        args.write(Y, "y", buffers.y, views.y.of(WORD))?;
        if self.cols == 0 {
            return Ok(Dispatch::default());
        }
        join::scratch(&mut args, SUMS, buffers.scratch, self.scratch(views, config))?;
        args.check()?;
        let walk = config.walk(&self.area(views));
        let mut steps = Vec::new();
        if self.rows > 0 {
            let grid = args.fold(walk.workgroups)?;
            let pass = self.pass(views, config, args.writable());
            steps.push(args.step(&pass, &Params::of(views, self.dims, walk, grid[0]), grid)?);
        }
        let (outputs, form) = self.join(views);
        steps.push(join::step(&args, config, form, (self.cols, walk.blocks), &outputs, self.add)?);
        Ok(Dispatch::of(steps))
    }
}
