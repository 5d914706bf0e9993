//! Dropout: `y = kept(x) / (1 - p) + residual`, with a mask that is drawn anew wherever it is needed, and never stored.
//!
//! Element `e = row * cols + column` is kept where `uniform(e) >= p`. `uniform(e)` is `(w >> 8) * 2^-24`, w being word `e % 4` of
//! Philox4x32-10 (Salmon et al., 2011) of the key `seed` (low word, high word) and the counter `(e / 4, offset, 1, 0)`. So the mask
//! depends on `seed`, `offset` and the element's number alone, not on layouts, dtypes or the device. The third word keeps it apart
//! from the draws of [`sample`](crate::sample).
//!
//! The gradient of `x` is the same call on `dy`, without residual; that of the residual is `dy`. An `offset` in a buffer lets one
//! recorded step draw another mask each time: [`advance`](crate::advance) counts it.
//!
//! What is dropped does not show, even where it is NaN. With `p = 0` everything is kept, with `p = 1` nothing.

use super::tile::{self, Area, Walk};
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

crate::params! {
    /// What one run tells the shader. In place, an input is read through the binding of y.
    pub struct Params;
    fn of(p: &Problem, views: &Views, inputs: [Strides; 2], walk: Walk, grid_x: u32) {
        x: Strides = inputs[0],
        residual: Strides = inputs[1],
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
        seed_low: u32 = p.seed as u32,
        seed_high: u32 = (p.seed >> 32) as u32,
        offset: u32 = match p.offset { Step::At(offset) => offset, Step::Buffer(at) => at as u32 },
        p: f32 = p.p,
        scale: f32 = p.scale(),
    }
}

/// What follows from the Problem, the device and the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Elements per chunk: 4, 2 (a word of packed 16-bit output) or 1.
    vec: u32,
    x: Storage,
    residual: Option<Storage>,
    y: Storage,
    /// The offset is read.
    offset: bool,
    /// Words of a packed `y` are shared by rows, or with what lies beside them.
    edge: bool,
    /// `x`, `residual` are read from the binding of `y`.
    in_place: [bool; 2],
}

/// The views that a Problem's layouts resolve to: where all are contiguous, as one row.
pub(crate) struct Views {
    x: View<3>,
    residual: Option<View<3>>,
    y: View<3>,
    offset: Option<View<1>>,
    rows: usize,
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
        self.resolve().is_ok_and(|views| views.rows == 1)
    }

    fn has_f16(&self) -> bool {
        [Some(self.x), self.residual, Some(self.y)].contains(&Some(Dtype::F16))
    }

    fn form(&self, views: &Views, native_f16: bool) -> Form {
        let held = |dtype| Storage::held(dtype, native_f16);
        let inputs: Vec<View<3>> = [views.x].into_iter().chain(views.residual).collect();
        let (vec, edge) = tile::chunks_of(&inputs, &views.y, held(self.y));
        Form {
            vec,
            x: held(self.x),
            residual: self.residual.map(held),
            y: held(self.y),
            offset: views.offset.is_some(),
            edge,
            in_place: [false; 2],
        }
    }

    fn area(&self, views: &Views, native_f16: bool) -> Area {
        let vec = self.form(views, native_f16).vec;
        Area { rows: views.rows, cols: views.y.inner, vec, sums: 0, f16: self.has_f16() }
    }

    fn pass(&self, form: Form, config: &Config, writable: Slots) -> Pass<Config, Form> {
        Pass { stem: "dropout", config: config.key(), form, writable }
    }
}

slots!(X, RESIDUAL, Y, OFFSET);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { vec, x, residual, y, offset, edge, in_place: [x_in_place, residual_in_place] } = self.form;
        let of = |in_place: bool| in_place.then_some(("y", edge));
        let shader = self
            .begin(self.config.wg_size, 0, vec)
            .params::<Params>()
            .constant("COLUMNS", self.config.columns)
            .flag("HAS_RESIDUAL", residual.is_some())
            .output(Y, "y", y, edge)
            .table(OFFSET, "offset", "u32", offset)
            .import(match vec {
                4 => "dropout_kept4",
                2 => "dropout_kept2",
                _ => "dropout_kept1",
            });
        let shader = tile::input(shader, (X, "x", x), of(x_in_place));
        match residual {
            Some(residual) => tile::input(shader, (RESIDUAL, "residual", residual), of(residual_in_place)),
            None => shader.no_input("residual", "0.0"),
        }
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
        let sizes = tile::check_sizes(self.rows, self.cols, self.dims)?;
        if !(0.0..=1.0).contains(&self.p) {
            return Err(ErrorKind::invalid("p", format!("{} is not from 0 to 1", self.p)));
        }
        let x = self.x_layout.view("x", sizes, self.cols)?;
        let residual = self.residual.map(|_| self.residual_layout.view("residual", sizes, self.cols)).transpose()?;
        let y = self.y_layout.view("y", sizes, self.cols)?.apart("y_layout")?;
        let at = if let Step::Buffer(at) = self.offset { Some(at) } else { None };
        let offset = at.map(|at| Layout::<1>::at(at).view("offset", [1], 1)).transpose()?;
        Ok(match tile::in_a_row([x, y].iter().chain(&residual)) {
            true => {
                let residual = residual.as_ref().map(tile::flat);
                Views { x: tile::flat(&x), residual, y: tile::flat(&y), offset, rows: 1 }
            }
            false => Views { x, residual, y, offset, rows: self.rows },
        })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        tile::candidates(caps, &self.area(views, caps.prefers_native_f16(self.has_f16())))
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let area = self.area(views, config.native_f16);
        config.check(caps, &area)?;
        // Those of the generator, twice in a chunk of two.
        let draws = Rounds::plain(10u32).times(if area.vec == 2 { 2 } else { 1 });
        caps.check_rounds(Rounds::nest(config.rows, Rounds::nest(config.columns, draws)))
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![self.pass(self.form(views, config.native_f16), config, writable).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(X, "x", buffers.x, views.x.of(self.x))?;
        let residual = views.residual.zip(self.residual).map(|(view, dtype)| view.of(dtype));
        args.read(RESIDUAL, "residual", buffers.residual, residual)?;
        args.write(Y, "y", buffers.y, views.y.of(self.y))?;
        args.read(OFFSET, "offset", buffers.offset, views.offset.map(|view| view.of(WORD)))?;
        if views.y.end == 0 {
            return Ok(Dispatch::default());
        }
        let in_place = [X, RESIDUAL].map(|input| args.in_place(input, Y));
        for input in [X, RESIDUAL] {
            args.interleave(input, Y);
        }
        args.check()?;

        let form = Form { in_place, ..self.form(views, config.native_f16) };
        let walk = config.walk(&self.area(views, config.native_f16));
        let grid = args.fold(walk.workgroups)?;
        let own = [Some(views.x), views.residual].map(|view| view.map_or([0; 4], |view| view.params()));
        let inputs = [0, 1].map(|i| if in_place[i] { views.y.params() } else { own[i] });
        let params = Params::of(self, views, inputs, walk, grid[0]);
        args.dispatch(&[self.pass(form, config, args.writable())], &params, grid)
    }
}
