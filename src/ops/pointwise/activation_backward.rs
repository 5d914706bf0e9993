//! The gradients of [`activation`](crate::activation): `dx = dy * act'(x + bias)`; gated, with `up`,
//! `dx = dy * (up + up_bias) * act'(x + bias)` and `dup = dy * act(x + bias)`. `x` and `up` are what the forward pass read.
//!
//! `dbias` and `dup_bias`, f32 `[cols]`, are the sums of these over all rows, of what was not rounded yet; they are written, or added
//! to what is there (micro-batches). Rows are added up in blocks, and these in their order, without atomics: the same input gives the
//! same bits.
//!
//! At corners the derivative is that which [`Activation`] tells. `dx` and `dup` may take the place of `x`, `up` or
//! `dy`: what takes two steps reads all of them first.

use super::activation::{Activation, bias, biases, check_slope, reach};
use super::join;
use super::pair::Column;
use super::tile::{self, Area, Walk, walk_params};
use crate::layout::chunking;
use crate::norm::Vector;
use crate::ops::prelude::*;

pub use super::tile::Config;

defaults! {
    /// What is computed. `x`, `up`, `dy`, `dx` and `dup` are `[n0, n1, n2, cols]` with `rows = n0 * n1 * n2` and
    /// `dims = [n1, n2]`; the default dims of `[1, 1]` make it `[rows, cols]`.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Rows, all outer axes together.
        pub rows: usize = 1,
        /// Elements per row.
        pub cols: usize = 1,
        /// Sizes of the two innermost row axes, for strided layouts.
        pub dims: [usize; 2] = [1, 1],
        /// What was done to `x`.
        pub activation: Activation = Activation::Silu,
        /// That of [`Activation::LeakyRelu`] below 0; the factor of [`Activation::Elu`].
        pub slope: f32 = 0.01,
        /// Dtype of `x`.
        pub x: Dtype = Dtype::F32,
        /// Where the rows of `x` lie: strides of `n0, n1, n2`.
        pub x_layout: Layout<3> = Layout::default(),
        /// What was added to each column of `x` first.
        pub bias: Option<Vector> = None,
        /// Gated: dtype of what the activation was multiplied by.
        pub up: Option<Dtype> = None,
        /// Where the rows of `up` lie.
        pub up_layout: Layout<3> = Layout::default(),
        /// What was added to each column of `up` first.
        pub up_bias: Option<Vector> = None,
        /// Dtype of `dy`.
        pub dy: Dtype = Dtype::F32,
        /// Where the rows of `dy` lie.
        pub dy_layout: Layout<3> = Layout::default(),
        /// Dtype of `dx`.
        pub dx: Dtype = Dtype::F32,
        /// Where the rows of `dx` lie. Rows must not overlap.
        pub dx_layout: Layout<3> = Layout::default(),
        /// Dtype of `dup`, which is written where the Problem is gated.
        pub dup: Dtype = Dtype::F32,
        /// Where the rows of `dup` lie. Rows must not overlap.
        pub dup_layout: Layout<3> = Layout::default(),
        /// The gradient of the bias of `x`, from this element of its binding, whether there was a bias or not.
        pub dbias: Option<usize> = None,
        /// The gradient of the bias of `up`, from this element of its binding.
        pub dup_bias: Option<usize> = None,
        /// `dbias` and `dup_bias` are added to what is there.
        pub add: bool = false,
    }
}

walk_params! {
    fn of(p: &Problem, inputs: [Strides; 3], outputs: [Strides; 2]);
    [x = inputs[0], up = inputs[1], dy = inputs[2], dx = outputs[0], dup = outputs[1]]
    bias_at: u32 = p.bias.map_or(0, |bias| bias.offset as u32),
    up_bias_at: u32 = p.up_bias.map_or(0, |bias| bias.offset as u32),
    slope: f32 = p.slope,
}

/// What follows from the Problem, the device and the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Elements per chunk: 4, 2 (a word of packed 16-bit output) or 1.
    vec: u32,
    /// There is no other row.
    one_row: bool,
    activation: Activation,
    x: Storage,
    up: Option<Storage>,
    dy: Storage,
    bias: Option<Storage>,
    up_bias: Option<Storage>,
    /// `dx` and `dup`.
    outputs: [Storage; 2],
    /// Chunks follow the words of `dup`.
    by_up: bool,
    /// Words of the packed output that chunks follow are shared by rows, or with what lies beside them.
    edge: bool,
    /// The output through whose binding `x`, `up`, `dy` are read.
    over: [Option<usize>; 3],
    /// Gradients are written.
    writes: bool,
    /// Their sums over blocks of rows are.
    sums: bool,
}

/// The views that a Problem's layouts resolve to: where all are contiguous, and nothing goes by columns, as one row.
pub(crate) struct Views {
    x: View<3>,
    up: Option<View<3>>,
    dy: View<3>,
    bias: Option<Column>,
    up_bias: Option<Column>,
    dx: View<3>,
    dup: Option<View<3>>,
    dbias: Option<View<1>>,
    dup_bias: Option<View<1>>,
    rows: usize,
}

impl Views {
    fn all(&self) -> impl Iterator<Item = &View<3>> {
        [&self.x, &self.dy, &self.dx].into_iter().chain(&self.up).chain(&self.dup)
    }
}

/// The names of the outputs.
const OUTPUTS: [&str; 2] = ["dx", "dup"];

impl Problem {
    /// `[n0, n1, n2]`, whose product is `rows`.
    pub fn sizes(&self) -> [usize; 3] {
        crate::layout::split_rows(self.rows, self.dims)
    }

    fn by_columns(&self) -> bool {
        self.bias.or(self.up_bias).is_some() || self.has_sums()
    }

    fn has_sums(&self) -> bool {
        self.dbias.or(self.dup_bias).is_some()
    }

    /// Whether all tensors are gone through as one row.
    pub(crate) fn in_a_row(&self) -> bool {
        !self.by_columns() && self.resolve().is_ok_and(|views| views.rows == 1)
    }

    fn has_f16(&self) -> bool {
        let bias = |bias: Option<Vector>| bias.map(|bias| bias.dtype);
        let dup = self.up.map(|_| self.dup);
        let all = [Some(self.x), self.up, Some(self.dy), bias(self.bias), bias(self.up_bias), Some(self.dx), dup];
        all.contains(&Some(Dtype::F16))
    }

    /// Of a step that writes, and sums where it can.
    fn form(&self, views: &Views, native_f16: bool) -> Form {
        let held = |dtype| Storage::held(dtype, native_f16);
        let outputs = [held(self.dx), held(self.dup)];
        let by_up = views.dup.filter(|_| outputs[1].packed() && !outputs[0].packed());
        let biases = [views.bias, views.up_bias].into_iter().flatten().map(|(view, _)| view.padded());
        let all: Vec<View<3>> = views.all().copied().chain(biases).collect();
        let all: Vec<&View<3>> = all.iter().collect();
        let (vec, edge) = match &by_up {
            Some(dup) => chunking(&all, dup, outputs[1]),
            None => chunking(&all, &views.dx, outputs[0]),
        };
        Form {
            vec,
            one_row: views.rows == 1,
            activation: self.activation,
            x: held(self.x),
            up: self.up.map(held),
            dy: held(self.dy),
            bias: self.bias.map(|bias| held(bias.dtype)),
            up_bias: self.up_bias.map(|bias| held(bias.dtype)),
            outputs,
            by_up: by_up.is_some(),
            edge,
            over: [None; 3],
            writes: true,
            sums: self.has_sums(),
        }
    }

    /// The steps over all rows: where rows share words, sums are a step of their own, by single elements, in front.
    fn forms(&self, views: &Views, native_f16: bool) -> Vec<Form> {
        let form = self.form(views, native_f16);
        match form.edge && form.sums {
            true => {
                vec![Form { vec: 1, by_up: false, edge: false, writes: false, ..form }, Form { sums: false, ..form }]
            }
            false => vec![form],
        }
    }

    fn area(&self, views: &Views, vec: u32) -> Area {
        let outputs = if self.up.is_some() { 2 } else { 1 };
        let sums = if self.has_sums() { outputs } else { 0 };
        Area { rows: views.rows, cols: views.dx.inner, vec, sums, f16: self.has_f16() }
    }

    fn pass(&self, form: Form, config: &Config, writable: Slots) -> Pass<Config, Form> {
        Pass { stem: "activation_backward", config: config.key(), form, writable }
    }

    fn join(&self, views: &Views) -> (Vec<join::Output>, join::Form) {
        let mut outputs = vec![views.dbias.map(|view| (DBIAS, view))];
        if self.up.is_some() {
            outputs.push(views.dup_bias.map(|view| (DUP_BIAS, view)));
        }
        let form = join::Form::of(SUMS, self.cols, &outputs);
        (outputs, form)
    }
}

slots!(X, UP, DY, DX, DUP, BIAS, UP_BIAS, DBIAS, DUP_BIAS, SUMS);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { vec, one_row, activation, x, up, dy, outputs, by_up, edge, over, writes, sums, .. } = self.form;
        let shader = self.begin(self.config.wg_size, 0, vec).params::<Params>();
        let mut shader = activation
            .declare(self.config.declare(shader, one_row), vec)
            .constant("OUTPUTS", if up.is_some() { 2 } else { 1 })
            .flag("GATED", up.is_some())
            .flag("BY_UP", by_up)
            .flag("WRITES", writes)
            .flag("SUMS", sums);
        // Chunks follow the words of one output. Those of the other are written as they come.
        let leads = [!by_up, by_up];
        let given = [writes, writes && up.is_some()];
        for (i, slot) in [DX, DUP].into_iter().enumerate() {
            shader = match (given[i], leads[i]) {
                (false, _) => shader.no_output(OUTPUTS[i]),
                (true, true) => shader.output(slot, OUTPUTS[i], outputs[i], edge),
                (true, false) => shader.output_apart(slot, OUTPUTS[i], outputs[i]),
            };
        }
        let of =
            |i: Option<usize>| i.map(|i| (OUTPUTS[i], if leads[i] { edge } else { vec == 2 && outputs[i].packed() }));
        shader = tile::input(shader, (X, "x", x), of(over[0]));
        shader = match up {
            Some(up) => tile::input(shader, (UP, "up", up), of(over[1])),
            None => shader.no_input("up", "0.0"),
        };
        shader = tile::input(shader, (DY, "dy", dy), of(over[2]));
        shader = bias(shader, BIAS, ("bias", "HAS_BIAS"), self.form.bias);
        shader = bias(shader, UP_BIAS, ("up_bias", "HAS_UP_BIAS"), self.form.up_bias);
        match sums {
            true => shader.output_apart(SUMS, "sums", Storage::F32),
            false => shader.no_output("sums"),
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x` and `dy` are read, `dx` written; it may be the view of either, or of `up`, where dtypes and layouts are equal.
        x, dy, dx;
        /// What the activation was multiplied by, where the Problem is gated.
        up,
        /// The gradient of `up`, where the Problem is gated; it may be the view of `up`, `x` or `dy`.
        dup,
        /// The bias of `x` that the Problem has.
        bias,
        /// The bias of `up` that the Problem has.
        up_bias,
        /// The gradient of the bias of `x` that the Problem asks for.
        dbias,
        /// The gradient of the bias of `up` that the Problem asks for.
        dup_bias,
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("activation_backward");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let (sizes, cols) = (tile::check_sizes(self.rows, self.cols, self.dims)?, self.cols);
        check_slope(self.slope)?;
        let gated = self.up.is_some();
        let [bias, up_bias] = biases([self.bias, self.up_bias], gated, cols)?;
        if self.dup_bias.is_some() && !gated {
            return Err(ErrorKind::invalid("dup_bias", "there is no `up` that had a bias"));
        }
        let x = self.x_layout.view("x", sizes, cols)?;
        let up = self.up.map(|_| self.up_layout.view("up", sizes, cols)).transpose()?;
        let dy = self.dy_layout.view("dy", sizes, cols)?;
        let dx = self.dx_layout.view("dx", sizes, cols)?.apart("dx_layout")?;
        let dup = self.up.map(|_| self.dup_layout.view("dup", sizes, cols)?.apart("dup_layout")).transpose()?;
        let column = |arg, at: Option<usize>| at.map(|at| Layout::<1>::at(at).view(arg, [1], cols)).transpose();
        let (dbias, dup_bias) = (column("dbias", self.dbias)?, column("dup_bias", self.dup_bias)?);
        let rows = self.rows;
        let views = Views { x, up, dy, bias, up_bias, dx, dup, dbias, dup_bias, rows };
        if self.by_columns() || !tile::in_a_row(views.all()) {
            return Ok(views);
        }
        let [x, dy, dx] = [&views.x, &views.dy, &views.dx].map(tile::flat);
        let [up, dup] = [&views.up, &views.dup].map(|view| view.as_ref().map(tile::flat));
        Ok(Views { x, up, dy, dx, dup, rows: 1, ..views })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let native_f16 = caps.prefers_native_f16(self.has_f16());
        tile::candidates(caps, &self.area(views, self.form(views, native_f16).vec))
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let forms = self.forms(views, config.native_f16);
        forms.iter().try_for_each(|form| config.check(caps, &self.area(views, form.vec)))
    }

    /// Sums of each block of rows.
    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        config.sums_bytes(&self.area(views, 1))
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let forms = self.forms(views, config.native_f16);
        let steps = forms.into_iter().map(|form| self.pass(form, config, writable).shader());
        let join = self.has_sums().then(|| join::pass(config, self.join(views).1).shader());
        steps.chain(join).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        let rows = |view: Option<View<3>>, dtype: Dtype| view.map(|view| view.of(dtype));
        args.read(X, "x", buffers.x, views.x.of(self.x))?;
        args.read(UP, "up", buffers.up, rows(views.up, self.up.unwrap_or_default()))?;
        args.read(DY, "dy", buffers.dy, views.dy.of(self.dy))?;
        args.read(BIAS, "bias", buffers.bias, reach(views.bias))?;
        args.read(UP_BIAS, "up_bias", buffers.up_bias, reach(views.up_bias))?;
        args.write(DX, "dx", buffers.dx, views.dx.of(self.dx))?;
        args.write(DUP, "dup", buffers.dup, rows(views.dup, self.dup))?;
        args.write(DBIAS, "dbias", buffers.dbias, views.dbias.map(|view| view.of(WORD)))?;
        args.write(DUP_BIAS, "dup_bias", buffers.dup_bias, views.dup_bias.map(|view| view.of(WORD)))?;
        if self.cols == 0 || (self.rows == 0 && !self.has_sums()) {
            return Ok(Dispatch::default());
        }
        if self.has_sums() {
            join::scratch(&mut args, SUMS, buffers.scratch, self.scratch(views, config))?;
        }
        let (inputs, outputs) = ([X, UP, DY], [DX, DUP]);
        let over = inputs.map(|input| (0..2).find(|&i| args.in_place(input, outputs[i])));
        for input in inputs {
            outputs.iter().for_each(|&output| args.interleave(input, output));
        }
        args.interleave(DX, DUP);
        args.check()?;

        let mut steps = Vec::new();
        let own = [Some(views.x), views.up, Some(views.dy)].map(|view| view.map_or([0; 4], |view| view.params()));
        let to = [Some(views.dx), views.dup].map(|view| view.map_or([0; 4], |view| view.params()));
        for form in self.forms(views, config.native_f16).into_iter().filter(|_| self.rows > 0) {
            // What writes nothing reads inputs where they lie.
            let over = if form.writes { over } else { [None; 3] };
            let walk = config.walk(&self.area(views, form.vec));
            let grid = args.fold(walk.workgroups)?;
            let inputs = [0, 1, 2].map(|i| over[i].map_or(own[i], |output| to[output]));
            let params = Params::of(self, inputs, to, self.dims, walk, grid[0]);
            steps.push(args.step(&self.pass(Form { over, ..form }, config, args.writable()), &params, grid)?);
        }
        if self.has_sums() {
            let (outputs, form) = self.join(views);
            let blocks = config.walk(&self.area(views, 1)).blocks;
            steps.push(join::step(&args, config, form, (self.cols, blocks), &outputs, self.add)?);
        }
        Ok(Dispatch::of(steps))
    }
}
