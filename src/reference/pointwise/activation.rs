//! Activations and their derivatives by their definitions.

use crate::activation::{Activation, Problem};
use crate::reference::Real;
use crate::reference::gemm::normal_below;

/// What is left of a magnitude, since WGSL lets any operation take subnormal numbers for 0: `2^-106`, which allows an error of
/// `2^-126`.
pub(super) const LEAST: f64 = 1.0 / (1u128 << 106) as f64;

/// A value, and the magnitude of the formula on absolute values. What vanishes as `exp(-t)` counts times `1 + t` where f32 rounds t, else times
/// `1 + min(t, 1)`; and plus `2^-106`, for what is flushed before it is multiplied by something.
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

/// The factor of an exponential `exp(-t)` with `t > 0`. Half a unit in the last place of t costs t of those of the exponential: `1 + t` where f32
/// rounds t, once in gelu's square, up to seven times in gelu_tanh's cube, of 16 that are allowed; else t is exact, and it is
/// `1 + min(t, 1)`.
fn lost(activation: Activation, t: f64) -> f64 {
    match activation {
        Activation::Gelu | Activation::GeluTanh if t.is_finite() => 1.0 + t.max(0.0),
        _ => 1.0 + t.clamp(0.0, 1.0),
    }
}

/// `z / 6 + 1 / 2`, from 0 to 1.
fn hard_sigmoid(z: f64) -> Valued {
    match z.abs() < 3.0 {
        true => Valued { value: z / 6.0 + 0.5, mag: z.abs() / 6.0 + 0.5 },
        false => Valued { value: f64::from(z > 0.0), mag: f64::from(z > 0.0) },
    }
}

/// `act(z)`; `slope` as the Problem has it.
pub fn value(activation: Activation, slope: f32, z: f64) -> Valued {
    let of = |value: f64| Valued { value, mag: value.abs() };
    let vanishing = |value: f64, t: f64| Valued { value, mag: value.abs() * lost(activation, t) + LEAST };
    let slope = f64::from(slope);
    match activation {
        Activation::None => of(z),
        Activation::Relu => of(z.max(0.0)),
        Activation::LeakyRelu => of(if z > 0.0 { z } else { slope * z }),
        Activation::Relu6 => of(z.clamp(0.0, 6.0)),
        Activation::HardSwish => {
            let Valued { value, mag } = hard_sigmoid(z);
            Valued { value: z * value, mag: z.abs() * mag }
        }
        Activation::HardSigmoid => hard_sigmoid(z),
        Activation::Sigmoid => vanishing(sigmoid(z), -z),
        Activation::Tanh => of(z.tanh()),
        Activation::Elu => of(if z > 0.0 { z } else { slope * z.exp_m1() }),
        Activation::Gelu => vanishing(z * normal_below(z), if z < 0.0 { 0.5 * z * z } else { 0.0 }),
        Activation::GeluTanh | Activation::Silu => {
            let (w, _) = gate(activation, z);
            vanishing(z * sigmoid(w), -w)
        }
    }
}

/// `act'(z)`, at corners as [`Activation`] tells.
pub fn derivative(activation: Activation, slope: f32, z: f64) -> Valued {
    let of = |value: f64, mag: f64| Valued { value, mag };
    let lost = |t| lost(activation, t);
    let step = |height: f64, up: bool| if up { of(height, height) } else { of(0.0, 0.0) };
    let slope = if z > 0.0 { 1.0 } else { f64::from(slope) };
    match activation {
        Activation::None => of(1.0, 1.0),
        Activation::Relu => step(1.0, z > 0.0),
        Activation::LeakyRelu => of(slope, slope.abs()),
        Activation::Relu6 => step(1.0, z > 0.0 && z < 6.0),
        Activation::HardSwish => match z.abs() < 3.0 {
            true => of(z / 3.0 + 0.5, z.abs() / 3.0 + 0.5),
            false => step(1.0, z > 0.0),
        },
        Activation::HardSigmoid => step(1.0 / 6.0, z.abs() < 3.0),
        Activation::Sigmoid => {
            let d = sigmoid(z) * sigmoid(-z);
            of(d, d * lost(z.abs()) + LEAST)
        }
        Activation::Tanh => {
            let d = 4.0 * sigmoid(2.0 * z) * sigmoid(-2.0 * z);
            of(d, d * lost(2.0 * z.abs()) + LEAST)
        }
        Activation::Elu => {
            let d = slope * z.min(0.0).exp();
            of(d, d.abs() * lost(-z) + LEAST)
        }
        Activation::Gelu => {
            let (t, share) = (0.5 * z * z, normal_below(z));
            let bent = if t < 1e3 { z * (-t).exp() / std::f64::consts::TAU.sqrt() } else { 0.0 };
            of(share + bent, share * lost(if z < 0.0 { t } else { 0.0 }) + bent.abs() * lost(t) + LEAST)
        }
        Activation::GeluTanh | Activation::Silu => {
            let (w, v) = gate(activation, z);
            let share = sigmoid(w);
            let bent = if w.abs() < 1e3 { v * share * sigmoid(-w) } else { 0.0 };
            of(share + bent, share * lost(-w) + bent.abs() * lost(w.abs()) + LEAST)
        }
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
    let Problem { rows, cols, activation, slope, .. } = *problem;
    let mut out = Output::default();
    for row in 0..rows {
        let mut most = LEAST;
        for j in 0..cols {
            let i = row * cols + j;
            let Valued { value, mut mag } = value(activation, slope, inputs.pre::<R>(i, j).f64());
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
    use crate::Dtype;
    use crate::reference::Judge;
    use approx::assert_relative_eq;

    #[test]
    fn as_published() {
        // PyTorch 2: torch.nn.functional of 1 and -1 in f64.
        for (activation, slope, at_one, at_minus_one) in [
            (Activation::None, 0.0, 1.0, -1.0),
            (Activation::Relu, 0.0, 1.0, 0.0),
            (Activation::LeakyRelu, 0.125, 1.0, -0.125),
            (Activation::Relu6, 0.0, 1.0, 0.0),
            (Activation::HardSwish, 0.0, 0.666_666_666_666_666_6, -0.333_333_333_333_333_3),
            (Activation::HardSigmoid, 0.0, 0.666_666_666_666_666_6, 0.333_333_333_333_333_3),
            (Activation::Sigmoid, 0.0, 0.731_058_578_630_004_9, 0.268_941_421_369_995_1),
            (Activation::Tanh, 0.0, 0.761_594_155_955_764_9, -0.761_594_155_955_764_9),
            (Activation::Elu, 2.0, 1.0, -1.264_241_117_657_115_4),
            (Activation::Gelu, 0.0, 0.841_344_746_068_543, -0.158_655_253_931_457),
            (Activation::GeluTanh, 0.0, 0.841_191_990_607_9, -0.158_808_009_392_1),
            (Activation::Silu, 0.0, 0.731_058_578_630_004_9, -0.268_941_421_369_995_1),
        ] {
            assert_relative_eq!(value(activation, slope, 1.0).value, at_one, max_relative = 1e-9);
            assert_relative_eq!(value(activation, slope, -1.0).value, at_minus_one, max_relative = 1e-9);
        }
    }

    #[test]
    fn what_is_cut_off() {
        let at = |activation| [-4.0, -3.0, 3.0, 7.0].map(|z| value(activation, 0.0, z).value);
        assert_eq!(at(Activation::Relu6), [0.0, 0.0, 3.0, 6.0]);
        assert_eq!(at(Activation::HardSwish), [0.0, 0.0, 3.0, 7.0]);
        assert_eq!(at(Activation::HardSigmoid), [0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn bounds_at_the_edge() {
        let half = 2f64.powi(-24);
        let allowed = |activation, z, out: &dyn Fn(f64) -> f64| {
            let Valued { value, mag } = value(activation, 0.01, z);
            let (one, mag) = ([value], [mag]);
            let judge =
                Judge { cols: 1, dtype: Dtype::F32, oracle: &one, low: &one, mag: &mag, slack: &[], widen: (0.0, 0.0) };
            judge.judge(&[out(value)]).ok()
        };
        // t = z z / 2, moved by halves of units in its last place.
        for z in [-4.0, -9.0, -11.0] {
            let moved = |halves: f64| move |value: f64| value * (-0.5 * z * z * halves * half).exp();
            assert!(allowed(Activation::Gelu, z, &moved(16.0)) && !allowed(Activation::Gelu, z, &moved(24.0)), "{z}");
        }
        // t is exact: halves of units in the last place of the value.
        for activation in [Activation::Silu, Activation::Sigmoid] {
            for z in [-4.0, -40.0, -50.0] {
                let moved = |halves: f64| move |value: f64| value * (1.0 + halves * half);
                assert!(
                    allowed(activation, z, &moved(34.0)) && !allowed(activation, z, &moved(40.0)),
                    "{activation:?} {z}"
                );
            }
        }
        // What is subnormal may be 0, or as much beside it.
        for (out, right) in [(0.0, true), (2f64.powi(-126), true), (2f64.powi(-124), false)] {
            assert_eq!(allowed(Activation::Sigmoid, -95.0, &|_| out), right, "{out:e}");
        }
    }

    #[test]
    fn far_out() {
        for &activation in Activation::ALL {
            for z in [1e3, 1e30, -1e3, -1e30] {
                let (y, d) = (value(activation, 0.01, z), derivative(activation, 0.01, z));
                assert!(y.value.is_finite() && d.value.is_finite() && y.mag.is_finite() && d.mag.is_finite());
            }
        }
    }
}
