//! Activations: `y = act(x + bias)`, or gated `y = act(x + bias) * (up + up_bias)`, x then being the gate (Shazeer, "GLU Variants
//! Improve Transformer", 2020). [`activation_backward`](crate::activation_backward) is the gradient.
//!
//! | [`Activation`] | act(z) |
//! |---|---|
//! | `None` | z |
//! | `Relu` | max(z, 0) |
//! | `LeakyRelu(slope)` | z above 0, else slope z |
//! | `Gelu` | z Phi(z), Phi being the share of a normal distribution below z (Hendrycks and Gimpel, 2016) |
//! | `GeluTanh` | z (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))) / 2 |
//! | `Silu` | z / (1 + exp(-z)) |
//! | `Sigmoid` | 1 / (1 + exp(-z)) |
//! | `Tanh` | tanh(z) |
//! | `Elu(alpha)` | z above 0, else alpha (exp(z) - 1) (Clevert et al., 2015) |
//!
//! All is f32, by polynomials of our own: no driver's `exp` or `tanh` has a say. `y` may take the place of `x` or of `up`. Tensors that
//! are all contiguous, without a bias, are gone through as one row.

use super::tile::{self, Area, Walk};
use crate::norm::Vector;
use crate::ops::prelude::*;

pub use super::tile::Config;

/// What is done to each element.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Activation {
    /// Nothing.
    None,
    /// `max(z, 0)`; its derivative at 0 is 0.
    Relu,
    /// `z` above 0, else so many times `z`; the derivative at 0 is that number.
    LeakyRelu(f32),
    /// By the normal distribution.
    Gelu,
    /// Its approximation by tanh.
    GeluTanh,
    /// `z sigmoid(z)`, also called swish.
    #[default]
    Silu,
    /// The logistic function.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `z` above 0, else so many times `exp(z) - 1`; the derivative at 0 is that number.
    Elu(f32),
}

impl Activation {
    /// One of each, with the usual slope and alpha.
    pub const ALL: [Activation; 9] = [
        Activation::None,
        Activation::Relu,
        Activation::LeakyRelu(0.01),
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Elu(1.0),
    ];

    /// In a word.
    pub const fn name(self) -> &'static str {
        NAMES[self.code().0 as usize]
    }

    /// Slope or alpha, 0 for those that have none.
    pub const fn shape(self) -> f32 {
        match self {
            Activation::LeakyRelu(shape) | Activation::Elu(shape) => shape,
            _ => 0.0,
        }
    }

    pub(super) const fn code(self) -> Code {
        Code(match self {
            Activation::None => 0,
            Activation::Relu => 1,
            Activation::LeakyRelu(_) => 2,
            Activation::Gelu => 3,
            Activation::GeluTanh => 4,
            Activation::Silu => 5,
            Activation::Sigmoid => 6,
            Activation::Tanh => 7,
            Activation::Elu(_) => 8,
        })
    }

    pub(super) fn check(self) -> Checked {
        match self.shape().is_finite() {
            true => Ok(()),
            false => Err(ErrorKind::invalid("activation", format!("{self:?}: {} is not finite", self.shape()))),
        }
    }
}

const NAMES: [&str; 9] = ["none", "relu", "leaky_relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "elu"];

/// The number of an activation: what a pipeline has of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Code(u32);

impl Code {
    /// A shader's constants, and its functions for chunks of `vec`.
    pub fn constants(self, shader: Shader, vec: u32) -> Shader {
        let names = ["RELU", "LEAKY_RELU", "GELU", "GELU_TANH", "SILU", "SIGMOID", "TANH", "ELU"];
        shader.constant("ACTIVATION", self.0).constants(names.into_iter().zip(1..)).import(match vec {
            4 => "activation_four4",
            2 => "activation_four2",
            _ => "activation_four1",
        })
    }
}

defaults! {
    /// What is computed. `x`, `up` and `y` are `[n0, n1, n2, cols]` with `rows = n0 * n1 * n2` and `dims = [n1, n2]`; the
    /// default dims of `[1, 1]` make it `[rows, cols]`.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Rows, all outer axes together.
        pub rows: usize = 1,
        /// Elements per row.
        pub cols: usize = 1,
        /// Sizes of the two innermost row axes, for strided layouts.
        pub dims: [usize; 2] = [1, 1],
        /// What is done to `x`.
        pub activation: Activation = Activation::Silu,
        /// Dtype of `x`.
        pub x: Dtype = Dtype::F32,
        /// Where the rows of `x` lie: strides of `n0, n1, n2`.
        pub x_layout: Layout<3> = Layout::default(),
        /// Added to each column of `x` first.
        pub bias: Option<Vector> = None,
        /// Gated: dtype of what the activation is multiplied by.
        pub up: Option<Dtype> = None,
        /// Where the rows of `up` lie.
        pub up_layout: Layout<3> = Layout::default(),
        /// Added to each column of `up` first.
        pub up_bias: Option<Vector> = None,
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
        up: Strides = inputs[1],
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
        bias_at: u32 = p.bias.map_or(0, |bias| bias.offset as u32),
        up_bias_at: u32 = p.up_bias.map_or(0, |bias| bias.offset as u32),
        shape: f32 = p.activation.shape(),
    }
}

/// What follows from the Problem, the device and the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Elements per chunk: 4, 2 (a word of packed 16-bit output) or 1.
    vec: u32,
    activation: Code,
    x: Storage,
    up: Option<Storage>,
    bias: Option<Storage>,
    up_bias: Option<Storage>,
    y: Storage,
    /// Words of a packed `y` are shared by rows, or with what lies beside them.
    edge: bool,
    /// `x`, `up` are read from the binding of `y`.
    in_place: [bool; 2],
}

/// The views that a Problem's layouts resolve to: where all are contiguous, and without a bias, as one row.
pub(crate) struct Views {
    x: View<3>,
    up: Option<View<3>>,
    bias: Option<View<1>>,
    up_bias: Option<View<1>>,
    y: View<3>,
    rows: usize,
}

impl Problem {
    /// `[n0, n1, n2]`, whose product is `rows`.
    pub fn sizes(&self) -> [usize; 3] {
        crate::layout::split_rows(self.rows, self.dims)
    }

    /// Whether all tensors are gone through as one row.
    pub(crate) fn in_a_row(&self) -> bool {
        self.bias.or(self.up_bias).is_none() && self.resolve().is_ok_and(|views| views.rows == 1)
    }

    fn has_f16(&self) -> bool {
        let bias = |bias: Option<Vector>| bias.map(|bias| bias.dtype);
        let all = [Some(self.x), self.up, bias(self.bias), bias(self.up_bias), Some(self.y)];
        all.contains(&Some(Dtype::F16))
    }

    fn form(&self, views: &Views, native_f16: bool) -> Form {
        let held = |dtype| Storage::held(dtype, native_f16);
        let biases = [views.bias, views.up_bias].into_iter().flatten().map(|view| view.padded());
        let inputs: Vec<View<3>> = [views.x].into_iter().chain(views.up).chain(biases).collect();
        let (vec, edge) = tile::chunks_of(&inputs, &views.y, held(self.y));
        Form {
            vec,
            activation: self.activation.code(),
            x: held(self.x),
            up: self.up.map(held),
            bias: self.bias.map(|bias| held(bias.dtype)),
            up_bias: self.up_bias.map(|bias| held(bias.dtype)),
            y: held(self.y),
            edge,
            in_place: [false; 2],
        }
    }

    fn area(&self, views: &Views, native_f16: bool) -> Area {
        let vec = self.form(views, native_f16).vec;
        Area { rows: views.rows, cols: views.y.inner, vec, sums: 0, f16: self.has_f16() }
    }

    fn pass(&self, form: Form, config: &Config, writable: Slots) -> Pass<Config, Form> {
        Pass { stem: "activation", config: config.key(), form, writable }
    }
}

/// A bias of this name, or none: `HAS_NAME`.
pub(super) fn bias(shader: Shader, slot: u32, (name, has): (&'static str, &str), storage: Option<Storage>) -> Shader {
    let shader = shader.flag(has, storage.is_some());
    match storage {
        Some(storage) => shader.input(slot, name, storage),
        None => shader.no_input(name, "0.0"),
    }
}

slots!(X, UP, Y, BIAS, UP_BIAS);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { vec, activation, x, up, y, edge, in_place: [x_in_place, up_in_place], .. } = self.form;
        let of = |in_place: bool| in_place.then_some(("y", edge));
        let shader = self.begin(self.config.wg_size, 0, vec).params::<Params>();
        let shader = activation
            .constants(shader, vec)
            .constant("COLUMNS", self.config.columns)
            .flag("GATED", up.is_some())
            .output(Y, "y", y, edge);
        let shader = bias(shader, BIAS, ("bias", "HAS_BIAS"), self.form.bias);
        let shader = bias(shader, UP_BIAS, ("up_bias", "HAS_UP_BIAS"), self.form.up_bias);
        let shader = tile::input(shader, (X, "x", x), of(x_in_place));
        match up {
            Some(up) => tile::input(shader, (UP, "up", up), of(up_in_place)),
            None => shader.no_input("up", "0.0"),
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x` is read, `y` written; they may be the same view, where dtypes and layouts are equal.
        x, y;
        /// What the activation is multiplied by, where the Problem is gated; it may be the view of `y`, too.
        up,
        /// The bias of `x` that the Problem has.
        bias,
        /// The bias of `up` that the Problem has.
        up_bias,
    }
}

functions!("activation");

/// Refuses a bias of what is not there, and resolves the two.
pub(super) fn biases([bias, up_bias]: [Option<Vector>; 2], gated: bool, cols: usize) -> Checked<[Option<View<1>>; 2]> {
    if up_bias.is_some() && !gated {
        return Err(ErrorKind::invalid("up_bias", "there is no `up` that it could be added to"));
    }
    let view = |arg, bias: Option<Vector>| bias.map(|bias| bias.view(arg, cols)).transpose();
    Ok([view("bias", bias)?, view("up_bias", up_bias)?])
}

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let sizes = tile::check_sizes(self.rows, self.cols, self.dims)?;
        self.activation.check()?;
        let x = self.x_layout.view("x", sizes, self.cols)?;
        let up = self.up.map(|_| self.up_layout.view("up", sizes, self.cols)).transpose()?;
        let [bias, up_bias] = biases([self.bias, self.up_bias], self.up.is_some(), self.cols)?;
        let y = self.y_layout.view("y", sizes, self.cols)?.apart("y_layout")?;
        Ok(match bias.or(up_bias).is_none() && tile::in_a_row([x, y].iter().chain(&up)) {
            true => {
                let up = up.as_ref().map(tile::flat);
                Views { x: tile::flat(&x), up, bias, up_bias, y: tile::flat(&y), rows: 1 }
            }
            false => Views { x, up, bias, up_bias, y, rows: self.rows },
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
        let of = |view: Option<View<1>>, bias: Option<Vector>| view.zip(bias).map(|(view, bias)| view.of(bias.dtype));
        args.read(X, "x", buffers.x, views.x.of(self.x))?;
        args.read(UP, "up", buffers.up, views.up.zip(self.up).map(|(view, dtype)| view.of(dtype)))?;
        args.read(BIAS, "bias", buffers.bias, of(views.bias, self.bias))?;
        args.read(UP_BIAS, "up_bias", buffers.up_bias, of(views.up_bias, self.up_bias))?;
        args.write(Y, "y", buffers.y, views.y.of(self.y))?;
        if views.y.end == 0 {
            return Ok(Dispatch::default());
        }
        let in_place = [X, UP].map(|input| args.in_place(input, Y));
        for input in [X, UP] {
            args.interleave(input, Y);
        }
        args.check()?;

        let form = Form { in_place, ..self.form(views, config.native_f16) };
        let walk = config.walk(&self.area(views, config.native_f16));
        let grid = args.fold(walk.workgroups)?;
        let own = [Some(views.x), views.up].map(|view| view.map_or([0; 4], |view| view.params()));
        let inputs = [0, 1].map(|i| if in_place[i] { views.y.params() } else { own[i] });
        let params = Params::of(self, views, inputs, walk, grid[0]);
        args.dispatch(&[self.pass(form, config, args.writable())], &params, grid)
    }
}
