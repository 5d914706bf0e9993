//! `y = a x + b z`, element by element: sums of gradients, moving averages, residuals, and, with `x` alone and `a = 1`, casts between
//! f32, f16 and bf16.
//!
//! A [`Factor`] is a number, or an f32 of a buffer, so that a recorded call can have another one each time. What is multiplied by a
//! factor of exactly 0 does not show, even where it is NaN. A cast is exact to rounding: to the nearest, ties to even, beyond the
//! largest number to infinity.
//!
//! Tensors that are all contiguous are gone through as one row.

use super::pair::{self, Pair};
use super::tile::{Walk, walk_params};
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

walk_params! {
    fn of(p: &Problem, views: [Strides; 3]);
    [x = views[0], other = views[1], y = views[2]]
    a_read: u32 = p.a.at().is_some().into(),
    a_at: u32 = p.a.at().unwrap_or(0) as u32,
    // Without z it is not read: its place is not proven.
    b_read: u32 = p.b.at().filter(|_| p.z.is_some()).is_some().into(),
    b_at: u32 = p.b.at().unwrap_or(0) as u32,
    a: f32 = p.a.value(),
    b: f32 = p.b.value(),
}

/// What follows from the Problem, the device and the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    pair: pair::Form,
    factors: bool,
}

/// What a Problem's layouts resolve to.
pub(crate) struct Views {
    pair: Pair,
    factors: Option<View<1>>,
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
        self.resolve().is_ok_and(|views| views.pair.rows == 1)
    }

    /// Factors that are read.
    fn read(&self) -> impl Iterator<Item = usize> {
        self.a.at().into_iter().chain(self.b.at().filter(|_| self.z.is_some()))
    }

    fn pass(&self, views: &Views, pair: pair::Form, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let form = Form { pair, factors: views.factors.is_some() };
        Pass { stem: "axpby", config: config.key(), form, writable }
    }
}

const FACTORS: u32 = pair::NEXT;

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { pair, factors } = self.form;
        let shader = self.begin(self.config.wg_size, 0, pair.vec).params::<Params>();
        pair.declare(shader, &self.config).table(FACTORS, "factors", "f32", factors)
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
        for (arg, factor) in [("a", self.a), ("b", self.b)] {
            if !factor.value().is_finite() {
                return Err(ErrorKind::invalid(arg, format!("{} is not finite", factor.value())));
            }
        }
        let z = self.z.map(|dtype| (dtype, self.z_layout));
        let of = (self.rows, self.cols, self.dims);
        let pair = Pair::resolve(of, (self.x, self.x_layout), ("z", z), (self.y, self.y_layout), &[])?;
        let last = self.read().max();
        let factors = last.map(|last| Layout::<1>::default().view("factors", [1], last.saturating_add(1)));
        Ok(Views { pair, factors: factors.transpose()? })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        views.pair.list(caps)
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        config.check(caps, &views.pair.area(config.native_f16))
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![self.pass(views, views.pair.form(config.native_f16), config, writable).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        views.pair.args(&mut args, buffers.x, buffers.z, buffers.y)?;
        args.read(FACTORS, "factors", buffers.factors, views.factors.map(|view| view.of(WORD)))?;
        if views.pair.is_empty() {
            return Ok(Dispatch::default());
        }
        let (form, at) = views.pair.bound(&mut args, config.native_f16)?;
        let (grid, walk) = views.pair.walk(&args, config)?;
        let params = Params::of(self, at, self.dims, walk, grid[0]);
        args.dispatch(&[self.pass(views, form, config, args.writable())], &params, grid)
    }
}
