//! Activations and their derivatives by their definitions.

use crate::activation::{Activation, Problem};
use crate::reference::Real;
use crate::reference::gemm::normal_below;

/// What is left of a magnitude, since WGSL lets any operation take subnormal numbers for 0: `2^-106`, which allows an error of
/// `2^-126`.
pub(super) const LEAST: f64 = 1.0 / (1u128 << 106) as f64;

/// A value, and the magnitude of the formula: on absolute values, with each exponential `exp(-t)` times `1 + t`, since f32 has t to so
/// many digits only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Valued {
    /// The value.
    pub value: f64,
    /// Its magnitude.
    pub mag: f64,
}

fn sigmoid(w: f64) -> f64 {
    1.0 / (1.0 + (-w).exp())
}

/// `w` of `x sigmoid(w)`, and its derivative, times x.
fn gate(activation: Activation, z: f64) -> (f64, f64) {
    match activation {
        Activation::GeluTanh => {
            let root = (8.0 / std::f64::consts::PI).sqrt();
            (root * (z + 0.044715 * z * z * z), root * (z + 3.0 * 0.044715 * z * z * z))
        }
        _ => (z, z),
    }
}

/// How many digits of an exponential are lost: those of t, where there is one.
fn lost(t: f64) -> f64 {
    if t.is_finite() { 1.0 + t.max(0.0) } else { 1.0 }
}

/// `act(z)`.
pub fn value(activation: Activation, z: f64) -> Valued {
    let of = |value: f64, lost: f64| Valued { value, mag: value.abs() * lost };
    match activation {
        Activation::None => of(z, 1.0),
        Activation::Relu => of(z.max(0.0), 1.0),
        Activation::LeakyRelu(slope) => of(if z > 0.0 { z } else { f64::from(slope) * z }, 1.0),
        Activation::Gelu => of(z * normal_below(z), if z < 0.0 { lost(0.5 * z * z) } else { 1.0 }),
        Activation::GeluTanh | Activation::Silu => {
            let (w, _) = gate(activation, z);
            of(z * sigmoid(w), lost(-w))
        }
        Activation::Sigmoid => of(sigmoid(z), lost(-z)),
        Activation::Tanh => of(z.tanh(), 1.0),
        Activation::Elu(alpha) => of(if z > 0.0 { z } else { f64::from(alpha) * z.exp_m1() }, 1.0),
    }
}

/// `act'(z)`, at 0 that of negative numbers.
pub fn slope(activation: Activation, z: f64) -> Valued {
    let of = |value: f64, mag: f64| Valued { value, mag };
    let step = |below: f32| if z > 0.0 { 1.0 } else { f64::from(below) };
    match activation {
        Activation::None => of(1.0, 1.0),
        Activation::Relu => of(step(0.0), step(0.0)),
        Activation::LeakyRelu(below) => of(step(below), step(below).abs()),
        Activation::Gelu => {
            let (t, share) = (0.5 * z * z, normal_below(z));
            let bent = if t < 1e3 { z * (-t).exp() / std::f64::consts::TAU.sqrt() } else { 0.0 };
            of(share + bent, share * if z < 0.0 { lost(t) } else { 1.0 } + bent.abs() * lost(t))
        }
        Activation::GeluTanh | Activation::Silu => {
            let (w, v) = gate(activation, z);
            let share = sigmoid(w);
            let bent = if w.abs() < 1e3 { v * share * sigmoid(-w) } else { 0.0 };
            of(share + bent, share * lost(-w) + bent.abs() * lost(w.abs()))
        }
        Activation::Sigmoid => {
            let d = sigmoid(z) * sigmoid(-z);
            of(d, d * lost(z.abs()))
        }
        Activation::Tanh => {
            let d = 4.0 * sigmoid(2.0 * z) * sigmoid(-2.0 * z);
            of(d, d * lost(2.0 * z.abs()))
        }
        Activation::Elu(alpha) => match z > 0.0 {
            true => of(1.0, 1.0),
            false => of(f64::from(alpha) * z.exp(), f64::from(alpha).abs() * z.exp() * lost(-z)),
        },
    }
}

/// What an activation reads, contiguous, as stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inputs<'a> {
    /// `[rows, cols]`.
    pub x: &'a [f64],
    /// `[rows, cols]`, where it is gated.
    pub up: Option<&'a [f64]>,
    /// `[cols]`.
    pub bias: Option<&'a [f64]>,
    /// `[cols]`.
    pub up_bias: Option<&'a [f64]>,
}

impl Inputs<'_> {
    /// What the activation is of: element `i`, of column `j`.
    pub(super) fn pre<R: Real>(&self, i: usize, j: usize) -> R {
        let z = R::of(self.x[i]);
        self.bias.map_or(z, |bias| z + R::of(bias[j]))
    }

    /// What it is multiplied by, and its magnitude.
    pub(super) fn factor<R: Real>(&self, i: usize, j: usize) -> Option<(R, f64)> {
        let up = self.up?;
        let bias = self.up_bias.map_or(0.0, |bias| bias[j]);
        Some((R::of(up[i]) + R::of(bias), up[i].abs() + bias.abs()))
    }
}

/// What it gives, contiguous.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// `[rows, cols]`.
    pub y: Vec<f64>,
    /// One per row, for the numerics rule.
    pub mag: Vec<f64>,
}

/// `y = act(x + bias)`, gated times `up + up_bias`; the transcendental part in f64.
///
/// # Panics
/// If an input has fewer values than its shape.
pub fn reference<R: Real>(problem: &Problem, inputs: &Inputs) -> Output {
    let Problem { rows, cols, activation, .. } = *problem;
    let mut out = Output::default();
    for row in 0..rows {
        let mut most = LEAST;
        for j in 0..cols {
            let i = row * cols + j;
            let Valued { value, mut mag } = value(activation, inputs.pre::<R>(i, j).f64());
            let mut y = R::of(value);
            if let Some((factor, factor_mag)) = inputs.factor::<R>(i, j) {
                y = y * factor;
                mag *= factor_mag;
            }
            out.y.push(y.f64());
            most = most.max(if mag.is_finite() { mag } else { 0.0 });
        }
        out.mag.push(most);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn as_published() {
        // PyTorch 2: torch.nn.functional of 1 and -1 in f64.
        for (activation, at_one, at_minus_one) in [
            (Activation::None, 1.0, -1.0),
            (Activation::Relu, 1.0, 0.0),
            (Activation::LeakyRelu(0.125), 1.0, -0.125),
            (Activation::Gelu, 0.841_344_746_068_543, -0.158_655_253_931_457),
            (Activation::GeluTanh, 0.841_191_990_607_9, -0.158_808_009_392_1),
            (Activation::Silu, 0.731_058_578_630_004_9, -0.268_941_421_369_995_1),
            (Activation::Sigmoid, 0.731_058_578_630_004_9, 0.268_941_421_369_995_1),
            (Activation::Tanh, 0.761_594_155_955_764_9, -0.761_594_155_955_764_9),
            (Activation::Elu(2.0), 1.0, -1.264_241_117_657_115_4),
        ] {
            assert_relative_eq!(value(activation, 1.0).value, at_one, max_relative = 1e-9);
            assert_relative_eq!(value(activation, -1.0).value, at_minus_one, max_relative = 1e-9);
        }
    }

    #[test]
    fn far_out() {
        for activation in Activation::ALL {
            for z in [1e3, 1e30, -1e3, -1e30] {
                let (y, d) = (value(activation, z), slope(activation, z));
                assert!(y.value.is_finite() && d.value.is_finite() && y.mag.is_finite() && d.mag.is_finite());
            }
        }
    }
}
