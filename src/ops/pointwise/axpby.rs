//! `y = a x + b z`, element by element: sums of gradients, moving averages, residuals, and, with `x` alone and `a = 1`, casts between
//! f32, f16 and bf16.
//!
//! A [`Factor`] is a number, or an f32 of a buffer, so that a recorded call can have another one each time. What is multiplied by a
//! factor of exactly 0 does not show, even where it is NaN. A cast is exact to rounding: to the nearest, ties to even, beyond the
//! largest number to infinity.
//!
//! Tensors that are all contiguous are gone through as one row.

use super::tile::{self, Area, Walk};
use crate::ops::prelude::*;

pub use super::tile::Config;

defaults! {
    /// What is computed. `x`, `z` and `y` are `[n0, n1, n2, cols]` with `rows = n0 * n1 * n2` and `dims = [n1, n2]`; the
    /// default dims of `[1, 1]` make it `[rows, cols]`.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Rows, all outer axes together.
        pub rows: usize = 1,
        /// Elements per row.
        pub cols: usize = 1,
        /// Sizes of the two innermost row axes, for strided layouts.
        pub dims: [usize; 2] = [1, 1],
        /// Multiplies `x`.
        pub a: Factor = Factor::Value(1.0),
        /// Multiplies `z`.
        pub b: Factor = Factor::Value(1.0),
        /// Dtype of `x`.
        pub x: Dtype = Dtype::F32,
        /// Where the rows of `x` lie: strides of `n0, n1, n2`.
        pub x_layout: Layout<3> = Layout::default(),
        /// Dtype of `z`; without it `y = a x`.
        pub z: Option<Dtype> = None,
        /// Where the rows of `z` lie.
        pub z_layout: Layout<3> = Layout::default(),
        /// Dtype of `y`.
        pub y: Dtype = Dtype::F32,
        /// Where the rows of `y` lie. Rows must not overlap.
        pub y_layout: Layout<3> = Layout::default(),
    }
}

/// What an input is multiplied by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Factor {
    /// This number, which is finite.
    Value(f32),
    /// An f32: this element of the binding `factors`.
    Buffer(usize),
}

impl Factor {
    /// The number, or 0.
    fn value(self) -> f32 {
        if let Factor::Value(value) = self { value } else { 0.0 }
    }

    /// The element of `factors`.
    fn at(self) -> Option<usize> {
        if let Factor::Buffer(at) = self { Some(at) } else { None }
    }
}

crate::params! {
    /// What one run tells the shader. In place, an input is read through the binding of y.
    pub struct Params;
    fn of(p: &Problem, views: &Views, inputs: [Strides; 2], walk: Walk, grid_x: u32) {
        x: Strides = inputs[0],
        z: Strides = inputs[1],
        y: Strides = views.y.params(),
        rows: u32 = views.rows as u32,
        cols: u32 = views.y.inner as u32,
        n1: u32 = p.dims[0] as u32,
        n2: u32 = p.dims[1] as u32,
        lanes: u32 = walk.lanes,
        groups: u32 = walk.groups,
        blocks: u32 = walk.blocks,
        block_rows: u32 = walk.block_rows,
        grid_x: u32 = grid_x,
        a_read: u32 = p.a.at().is_some().into(),
        a_at: u32 = p.a.at().unwrap_or(0) as u32,
        b_read: u32 = p.b.at().is_some().into(),
        b_at: u32 = p.b.at().unwrap_or(0) as u32,
        a: f32 = p.a.value(),
        b: f32 = p.b.value(),
    }
}

/// What follows from the Problem, the device and the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Elements per chunk: 4, 2 (a word of packed 16-bit output) or 1.
    vec: u32,
    x: Storage,
    z: Option<Storage>,
    y: Storage,
    factors: bool,
    /// Words of a packed `y` are shared by rows, or with what lies beside them.
    edge: bool,
    /// `x`, `z` are read from the binding of `y`.
    in_place: [bool; 2],
}

/// The views that a Problem's layouts resolve to: where all are contiguous, as one row.
pub(crate) struct Views {
    x: View<3>,
    z: Option<View<3>>,
    y: View<3>,
    factors: Option<View<1>>,
    rows: usize,
}

impl Problem {
    /// The cast of `[rows, cols]` from one dtype to another.
    pub fn cast(rows: usize, cols: usize, x: Dtype, y: Dtype) -> Problem {
        Problem { rows, cols, x, y, ..Problem::default() }
    }

    /// `[n0, n1, n2]`, whose product is `rows`.
    pub fn sizes(&self) -> [usize; 3] {
        crate::layout::split_rows(self.rows, self.dims)
    }

    /// Whether all tensors are gone through as one row.
    pub(crate) fn in_a_row(&self) -> bool {
        self.resolve().is_ok_and(|views| views.rows == 1)
    }

    /// Factors that are read.
    fn read(&self) -> impl Iterator<Item = usize> {
        self.a.at().into_iter().chain(self.b.at().filter(|_| self.z.is_some()))
    }

    fn has_f16(&self) -> bool {
        [Some(self.x), self.z, Some(self.y)].contains(&Some(Dtype::F16))
    }

    fn form(&self, views: &Views, native_f16: bool) -> Form {
        let held = |dtype| Storage::held(dtype, native_f16);
        let inputs: Vec<View<3>> = [views.x].into_iter().chain(views.z).collect();
        let (vec, edge) = tile::chunks_of(&inputs, &views.y, held(self.y));
        Form {
            vec,
            x: held(self.x),
            z: self.z.map(held),
            y: held(self.y),
            factors: views.factors.is_some(),
            edge,
            in_place: [false; 2],
        }
    }

    fn area(&self, views: &Views, native_f16: bool) -> Area {
        let vec = self.form(views, native_f16).vec;
        Area { rows: views.rows, cols: views.y.inner, vec, sums: 0, f16: self.has_f16() }
    }

    fn pass(&self, form: Form, config: &Config, writable: Slots) -> Pass<Config, Form> {
        Pass { stem: "axpby", config: config.key(), form, writable }
    }
}

slots!(X, Z, Y, FACTORS);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { vec, x, z, y, factors, edge, in_place: [x_in_place, z_in_place] } = self.form;
        let of = |in_place: bool| in_place.then_some(("y", edge));
        let shader = self
            .begin(self.config.wg_size, 0, vec)
            .params::<Params>()
            .constant("COLUMNS", self.config.columns)
            .flag("HAS_Z", z.is_some())
            .output(Y, "y", y, edge)
            .table(FACTORS, "factors", "f32", factors);
        let shader = tile::input(shader, (X, "x", x), of(x_in_place));
        match z {
            Some(z) => tile::input(shader, (Z, "z", z), of(z_in_place)),
            None => shader.no_input("z", "0.0"),
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x` is read, `y` written; they may be the same view, where dtypes and layouts are equal.
        x, y;
        /// The second input that the Problem has; it may be the view of `y`, too.
        z,
        /// The factors that the Problem reads.
        factors,
    }
}

functions!("axpby");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let sizes = tile::check_sizes(self.rows, self.cols, self.dims)?;
        for (arg, factor) in [("a", self.a), ("b", self.b)] {
            if !factor.value().is_finite() {
                return Err(ErrorKind::invalid(arg, format!("{} is not finite", factor.value())));
            }
        }
        let x = self.x_layout.view("x", sizes, self.cols)?;
        let z = self.z.map(|_| self.z_layout.view("z", sizes, self.cols)).transpose()?;
        let y = self.y_layout.view("y", sizes, self.cols)?.apart("y_layout")?;
        let last = self.read().max();
        let factors = last.map(|last| Layout::<1>::default().view("factors", [1], last.saturating_add(1)));
        let factors = factors.transpose()?;
        Ok(match tile::in_a_row([x, y].iter().chain(&z)) {
            true => Views { x: tile::flat(&x), z: z.as_ref().map(tile::flat), y: tile::flat(&y), factors, rows: 1 },
            false => Views { x, z, y, factors, rows: self.rows },
        })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        tile::candidates(caps, &self.area(views, caps.prefers_native_f16(self.has_f16())))
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        config.check(caps, &self.area(views, config.native_f16))
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![self.pass(self.form(views, config.native_f16), config, writable).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(X, "x", buffers.x, views.x.of(self.x))?;
        args.read(Z, "z", buffers.z, views.z.zip(self.z).map(|(view, dtype)| view.of(dtype)))?;
        args.write(Y, "y", buffers.y, views.y.of(self.y))?;
        args.read(FACTORS, "factors", buffers.factors, views.factors.map(|view| view.of(WORD)))?;
        if views.y.end == 0 {
            return Ok(Dispatch::default());
        }
        let in_place = [X, Z].map(|input| args.in_place(input, Y));
        for input in [X, Z] {
            args.interleave(input, Y);
        }
        args.check()?;

        let form = Form { in_place, ..self.form(views, config.native_f16) };
        let walk = config.walk(&self.area(views, config.native_f16));
        let grid = args.fold(walk.workgroups)?;
        let own = [Some(views.x), views.z].map(|view| view.map_or([0; 4], |view| view.params()));
        let inputs = [0, 1].map(|i| if in_place[i] { views.y.params() } else { own[i] });
        let params = Params::of(self, views, inputs, walk, grid[0]);
        args.dispatch(&[self.pass(form, config, args.writable())], &params, grid)
    }
}
