//! Activations: `y = act(x + bias)`, or gated `y = act(x + bias) * (up + up_bias)`, x then being the gate (Shazeer, "GLU Variants
//! Improve Transformer", 2020). [`activation_backward`](crate::activation_backward) is the gradient.
//!
//! | [`Activation`] | act(z) |
//! |---|---|
//! | `None` | z |
//! | `Relu` | max(z, 0) |
//! | `LeakyRelu` | z above 0, else slope z |
//! | `Relu6` | min(max(z, 0), 6) |
//! | `HardSwish` | z min(max(z / 6 + 1 / 2, 0), 1) (Howard et al., 2019) |
//! | `HardSigmoid` | min(max(z / 6 + 1 / 2, 0), 1) |
//! | `Sigmoid` | 1 / (1 + exp(-z)) |
//! | `Tanh` | tanh(z) |
//! | `Elu` | z above 0, else slope (exp(z) - 1) (Clevert et al., 2015) |
//! | `Gelu` | z Phi(z), Phi being the share of a normal distribution below z (Hendrycks and Gimpel, 2016) |
//! | `GeluTanh` | z (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))) / 2 |
//! | `Silu` | z / (1 + exp(-z)) |
//!
//! All is f32, by polynomials of our own: no driver's `exp` or `tanh` has a say. `y` may take the place of `x` or of `up`. Tensors that
//! are all contiguous, without a bias, are gone through as one row.

use super::pair::{self, Column, Pair};
use super::tile::{Walk, walk_params};
use crate::norm::Vector;
use crate::ops::prelude::*;

pub use super::tile::Config;

words! {
    /// A function of one value, of convolutions, too. A new one has its line here, in `reference::activation` and in `activations.wgsl`.
    #[derive(Default)]
    pub enum Activation {
        /// `x`.
        #[default]
        None = "none",
        /// `max(x, 0)`; its derivative at 0 is 0.
        Relu = "relu",
        /// `x` above 0, else `slope x`; its derivative at 0 is `slope`.
        LeakyRelu = "leaky_relu",
        /// `min(max(x, 0), 6)`; its derivative at 0 and 6 is 0.
        Relu6 = "relu6",
        /// `x hard_sigmoid(x)`; its derivative at -3 is 0, at 3 it is 1.
        HardSwish = "hard_swish",
        /// `min(max(x / 6 + 1 / 2, 0), 1)`; its derivative at -3 and 3 is 0.
        HardSigmoid = "hard_sigmoid",
        /// `1 / (1 + exp(-x))`.
        Sigmoid = "sigmoid",
        /// The hyperbolic tangent.
        Tanh = "tanh",
        /// `x` above 0, else `slope (exp(x) - 1)`, with a slope of 1 as a rule; its derivative at 0 is `slope`.
        Elu = "elu",
        /// `x Phi(x)`, by the error function.
        Gelu = "gelu",
        /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`.
        GeluTanh = "gelu_tanh",
        /// `x / (1 + exp(-x))`, swish.
        Silu = "silu",
    }
}

impl Activation {
    /// A constant of a shader for each of them.
    pub(crate) fn constants(shader: Shader) -> Shader {
        Self::ALL.iter().fold(shader, |shader, &one| {
            shader.constant(&format!("ACTIVATION_{}", one.name().to_uppercase()), one as u32)
        })
    }

    /// These, the constant of this one, and functions for chunks of `vec`.
    pub(crate) fn declare(self, shader: Shader, vec: u32) -> Shader {
        Self::constants(shader).constant("ACTIVATION", self as u32).import(match vec {
            4 => "activation_four4",
            2 => "activation_four2",
            _ => "activation_four1",
        })
    }
}

/// Refuses a slope that is no number.
pub(crate) fn check_slope(slope: f32) -> Checked {
    if slope.is_finite() { Ok(()) } else { Err(ErrorKind::invalid("slope", format!("{slope} is not finite"))) }
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
        /// That of [`Activation::LeakyRelu`] below 0; the factor of [`Activation::Elu`].
        pub slope: f32 = 0.01,
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

walk_params! {
    fn of(p: &Problem, views: [Strides; 3]);
    [x = views[0], other = views[1], y = views[2]]
    bias_at: u32 = p.bias.map_or(0, |bias| bias.offset as u32),
    up_bias_at: u32 = p.up_bias.map_or(0, |bias| bias.offset as u32),
    slope: f32 = p.slope,
}

/// What follows from the Problem, the device and the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    pair: pair::Form,
    activation: Activation,
    bias: Option<Storage>,
    up_bias: Option<Storage>,
}

/// What a Problem's layouts resolve to.
pub(crate) struct Views {
    pair: Pair,
    bias: Option<Column>,
    up_bias: Option<Column>,
}

impl Problem {
    /// `[n0, n1, n2]`, whose product is `rows`.
    pub fn sizes(&self) -> [usize; 3] {
        crate::layout::split_rows(self.rows, self.dims)
    }

    /// Whether all tensors are gone through as one row.
    pub(crate) fn in_a_row(&self) -> bool {
        self.bias.or(self.up_bias).is_none() && self.resolve().is_ok_and(|views| views.pair.rows == 1)
    }

    fn pass(&self, views: &Views, pair: pair::Form, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let held = |(_, dtype): Column| Storage::held(dtype, config.native_f16);
        let (bias, up_bias) = (views.bias.map(held), views.up_bias.map(held));
        let form = Form { pair, activation: self.activation, bias, up_bias };
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

const BIAS: u32 = pair::NEXT;
const UP_BIAS: u32 = pair::NEXT + 1;

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { pair, activation, .. } = self.form;
        let shader = self.begin(self.config.wg_size, 0, pair.vec).params::<Params>();
        let shader = activation.declare(pair.declare(shader, &self.config), pair.vec);
        let shader = bias(shader, BIAS, ("bias", "HAS_BIAS"), self.form.bias);
        bias(shader, UP_BIAS, ("up_bias", "HAS_UP_BIAS"), self.form.up_bias)
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
pub(super) fn biases([bias, up_bias]: [Option<Vector>; 2], gated: bool, cols: usize) -> Checked<[Option<Column>; 2]> {
    if up_bias.is_some() && !gated {
        return Err(ErrorKind::invalid("up_bias", "there is no `up` that it could be added to"));
    }
    let column = |arg, bias: Option<Vector>| -> Checked<Option<Column>> {
        bias.map(|bias| Ok((bias.view(arg, cols)?, bias.dtype))).transpose()
    };
    Ok([column("bias", bias)?, column("up_bias", up_bias)?])
}

/// What is read of a bias.
pub(super) fn reach(column: Option<Column>) -> Option<Reach> {
    column.map(|(view, dtype)| view.of(dtype))
}

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        check_slope(self.slope)?;
        let [bias, up_bias] = biases([self.bias, self.up_bias], self.up.is_some(), self.cols)?;
        let columns: Vec<Column> = bias.into_iter().chain(up_bias).collect();
        let up = self.up.map(|dtype| (dtype, self.up_layout));
        let of = (self.rows, self.cols, self.dims);
        let pair = Pair::resolve(of, (self.x, self.x_layout), ("up", up), (self.y, self.y_layout), &columns)?;
        Ok(Views { pair, bias, up_bias })
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
        views.pair.args(&mut args, buffers.x, buffers.up, buffers.y)?;
        args.read(BIAS, "bias", buffers.bias, reach(views.bias))?;
        args.read(UP_BIAS, "up_bias", buffers.up_bias, reach(views.up_bias))?;
        if views.pair.is_empty() {
            return Ok(Dispatch::default());
        }
        let (form, at) = views.pair.bound(&mut args, config.native_f16)?;
        let (grid, walk) = views.pair.walk(&args, config)?;
        let params = Params::of(self, at, self.dims, walk, grid[0]);
        args.dispatch(&[self.pass(views, form, config, args.writable())], &params, grid)
    }
}
