//! Dropout: `y = kept(x) / (1 - p) + residual`, with a mask that is drawn anew wherever it is needed, and never stored.
//!
//! Element `e = first + row * cols + column` is kept where `uniform(e) >= p`. `uniform(e)` is `(w >> 8) * 2^-24`, w being word `e % 4` of
//! Philox4x32-10 (Salmon et al., 2011) of the key `seed` (low word, high word) and the counter `(e / 4, offset, 1, 0)`. So the mask
//! depends on `seed`, `offset` and the element's number alone, not on layouts, dtypes or the device; a part of a tensor, with the number of
//! its `first` element, has its part of the mask. The third word keeps it apart from the draws of [`sample`](crate::sample).
//!
//! The gradient of `x` is the same call on `dy`, without residual; that of the residual is `dy`. An `offset` in a buffer lets one
//! recorded step draw another mask each time: [`advance`](crate::advance) counts it.
//!
//! What is dropped does not show, even where it is NaN. With `p = 0` everything is kept, with `p = 1` nothing.

use super::pair::{self, Pair};
use super::tile::{Walk, walk_params};
use crate::ops::prelude::*;
use crate::sample::Step;

pub use super::tile::Config;

defaults! {
    /// What is computed. `x`, `residual` and `y` are `[n0, n1, n2, cols]` with `rows = n0 * n1 * n2` and `dims = [n1, n2]`;
    /// the default dims of `[1, 1]` make it `[rows, cols]`.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Rows, all outer axes together.
        pub rows: usize = 1,
        /// Elements per row.
        pub cols: usize = 1,
        /// Sizes of the two innermost row axes, for strided layouts.
        pub dims: [usize; 2] = [1, 1],
        /// The share of elements that is dropped, from 0 to 1.
        pub p: f32 = 0.5,
        /// The key of the generator.
        pub seed: u64 = 0,
        /// The second word of its counter.
        pub offset: Step = Step::At(0),
        /// The number of the first element. Fours of elements are drawn together where it is a multiple of four.
        pub first: u32 = 0,
        /// Dtype of `x`.
        pub x: Dtype = Dtype::F32,
        /// Where the rows of `x` lie: strides of `n0, n1, n2`.
        pub x_layout: Layout<3> = Layout::default(),
        /// Dtype of what is added, if anything is.
        pub residual: Option<Dtype> = None,
        /// Where the rows of the residual lie.
        pub residual_layout: Layout<3> = Layout::default(),
        /// Dtype of `y`.
        pub y: Dtype = Dtype::F32,
        /// Where the rows of `y` lie. Rows must not overlap.
        pub y_layout: Layout<3> = Layout::default(),
    }
}

walk_params! {
    fn of(p: &Problem, views: [Strides; 3]);
    [x = views[0], other = views[1], y = views[2]]
    seed_low: u32 = p.seed as u32,
    seed_high: u32 = (p.seed >> 32) as u32,
    offset: u32 = match p.offset { Step::At(offset) => offset, Step::Buffer(at) => at as u32 },
    first: u32 = p.first,
    p: f32 = p.p,
    scale: f32 = p.scale(),
}

/// What follows from the Problem, the device and the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    pair: pair::Form,
    /// The offset is read.
    offset: bool,
}

/// What a Problem's layouts resolve to.
pub(crate) struct Views {
    pair: Pair,
    offset: Option<View<1>>,
}

impl Problem {
    /// `[n0, n1, n2]`, whose product is `rows`.
    pub fn sizes(&self) -> [usize; 3] {
        crate::layout::split_rows(self.rows, self.dims)
    }

    /// What is kept is multiplied by it: 1 / (1 - p), rounded once; 0 where nothing is kept.
    pub fn scale(&self) -> f32 {
        if self.p < 1.0 { (1.0 / (1.0 - f64::from(self.p))) as f32 } else { 0.0 }
    }

    /// Whether all tensors are gone through as one row.
    pub(crate) fn in_a_row(&self) -> bool {
        self.resolve().is_ok_and(|views| views.pair.rows == 1)
    }

    fn pass(&self, views: &Views, pair: pair::Form, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let form = Form { pair, offset: views.offset.is_some() };
        Pass { stem: "dropout", config: config.key(), form, writable }
    }
}

const OFFSET: u32 = pair::NEXT;

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { pair, offset } = self.form;
        let shader = self.begin(self.config.wg_size, 0, pair.vec).params::<Params>();
        pair.declare(shader, &self.config).table(OFFSET, "offset", "u32", offset).import(match pair.vec {
            4 => "dropout_kept4",
            2 => "dropout_kept2",
            _ => "dropout_kept1",
        })
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x` is read, `y` written; they may be the same view, where dtypes and layouts are equal.
        x, y;
        /// The residual that the Problem has; it may be the view of `y`, too.
        residual,
        /// The offset of the draw, where it lies in a buffer.
        offset,
    }
}

functions!("dropout");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        if !(0.0..=1.0).contains(&self.p) {
            return Err(ErrorKind::invalid("p", format!("{} is not from 0 to 1", self.p)));
        }
        let residual = self.residual.map(|dtype| (dtype, self.residual_layout));
        let of = (self.rows, self.cols, self.dims);
        let pair = Pair::resolve(of, (self.x, self.x_layout), ("residual", residual), (self.y, self.y_layout), &[])?;
        // The mask, as if it lay somewhere: each element has a number of 32 bits.
        let mask = Layout::<3>::at(self.first as usize).view("first", self.sizes(), self.cols)?;
        let at = if let Step::Buffer(at) = self.offset { Some(at) } else { None };
        let offset = at.map(|at| Layout::<1>::at(at).view("offset", [1], 1)).transpose()?;
        Ok(Views { pair: pair.along(mask), offset })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        views.pair.list(caps)
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let area = views.pair.area(config.native_f16);
        config.check(caps, &area)?;
        // Those of the generator, twice in a chunk of two.
        let draws = Rounds::plain(10u32).times(if area.vec == 2 { 2 } else { 1 });
        caps.check_rounds(Rounds::nest(config.rows, Rounds::nest(config.columns, draws)))
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![self.pass(views, views.pair.form(config.native_f16), config, writable).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        views.pair.args(&mut args, buffers.x, buffers.residual, buffers.y)?;
        args.read(OFFSET, "offset", buffers.offset, views.offset.map(|view| view.of(WORD)))?;
        if views.pair.is_empty() {
            return Ok(Dispatch::default());
        }
        let (form, at) = views.pair.bound(&mut args, config.native_f16)?;
        let (grid, walk) = views.pair.walk(&args, config)?;
        let params = Params::of(self, at, self.dims, walk, grid[0]);
        args.dispatch(&[self.pass(views, form, config, args.writable())], &params, grid)
    }
}
