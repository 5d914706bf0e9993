//! Gradients of activations by their definitions.

use super::activation::{Inputs, LEAST, derivative, value};
use crate::activation_backward::Problem;
use crate::reference::Real;

/// What they give, contiguous; and magnitudes for the numerics rule: one per row of `dx` and of `dup`, one each for the rows that
/// `dbias` and `dup_bias` are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// `[rows, cols]`.
    pub dx: Vec<f64>,
    /// `[rows, cols]`, where it is gated.
    pub dup: Vec<f64>,
    /// `[cols]`: sums of `dx`, and of `dup`.
    pub sums: [Vec<f64>; 2],
    /// Of `dx`, and of `dup`.
    pub mag: [Vec<f64>; 2],
    /// Of the sums.
    pub sums_mag: [f64; 2],
}

/// `dx = dy * act'(x + bias)`, gated times `up + up_bias`, and `dup = dy * act(x + bias)`; and their sums over the rows, on top of
/// `before` where there is such. The transcendental part is f64.
///
/// # Panics
/// If an input has fewer values than its shape.
pub fn reference<R: Real>(problem: &Problem, inputs: &Inputs, dy: &[f64], before: [Option<&[f64]>; 2]) -> Output {
    let Problem { rows, cols, activation, slope, .. } = *problem;
    let mut out = Output::default();
    let mut sums = vec![[(R::ZERO, 0f64); 2]; cols];
    for row in 0..rows {
        let mut most = [LEAST; 2];
        for (j, sums) in sums.iter_mut().enumerate() {
            let i = row * cols + j;
            let z = inputs.pre::<R>(i, j).f64();
            let (d, y) = (derivative(activation, slope, z), value(activation, slope, z));
            let g = R::of(dy[i]);
            let mut dx = g * R::of(d.value);
            let mut mags = [dy[i].abs() * d.mag, dy[i].abs() * y.mag];
            let mut dup = R::ZERO;
            if let Some((factor, mag)) = inputs.factor::<R>(i, j) {
                dx = dx * factor;
                mags[0] *= mag;
                dup = g * R::of(y.value);
                out.dup.push(dup.f64());
            }
            out.dx.push(dx.f64());
            for (which, v) in [dx, dup].into_iter().enumerate() {
                let mag = if mags[which].is_finite() { mags[which] } else { 0.0 };
                most[which] = most[which].max(mag);
                sums[which].0 += v;
                sums[which].1 += mag;
            }
        }
        (0..2).for_each(|which| out.mag[which].push(most[which]));
    }
    for (j, sums) in sums.into_iter().enumerate() {
        for (which, (sum, mag)) in sums.into_iter().enumerate() {
            let before = before[which].map_or(0.0, |before| before[j]);
            out.sums[which].push((sum + R::of(before)).f64());
            out.sums_mag[which] = out.sums_mag[which].max(mag + before.abs() + LEAST);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::{self, Activation};
    use crate::reference::activation::reference as forward;
    use crate::reference::numerics::differences::{Input, hold, product, values};

    #[test]
    fn gradients_are_slopes() {
        let (rows, cols) = (3, 5);
        let [x, up, dy] = [1, 2, 3].map(|seed| values(rows * cols, seed));
        let [bias, up_bias] = [4, 5].map(|seed| values(cols, seed));
        for &activation in Activation::ALL {
            let problem = Problem { rows, cols, activation, slope: 0.3, ..Problem::default() };
            let of = activation::Problem { rows, cols, activation, slope: 0.3, ..activation::Problem::default() };
            let loss = |all: &[Vec<f64>], gated: bool| {
                let inputs = Inputs {
                    x: &all[0],
                    bias: Some(&all[1]),
                    up: all.get(2).filter(|_| gated).map(Vec::as_slice),
                    up_bias: all.get(3).filter(|_| gated).map(Vec::as_slice),
                };
                product(&forward::<f64>(&of, &inputs).y, &dy)
            };
            let plain = Inputs { x: &x, bias: Some(&bias), ..Inputs::default() };
            let gated = Inputs { up: Some(&up), up_bias: Some(&up_bias), ..plain };
            let out = reference::<f64>(&problem, &gated, &dy, [None; 2]);
            let input = |name, values, gradient| Input { name, values, gradient };
            hold(
                &format!("{activation:?}, gated"),
                &[
                    input("x", &x, &out.dx),
                    input("bias", &bias, &out.sums[0]),
                    input("up", &up, &out.dup),
                    input("up_bias", &up_bias, &out.sums[1]),
                ],
                |all| loss(all, true),
            );
            let out = reference::<f64>(&problem, &plain, &dy, [None; 2]);
            let inputs = [input("x", &x, &out.dx), input("bias", &bias, &out.sums[0])];
            hold(&format!("{activation:?}"), &inputs, |all| loss(all, false));
            let before = vec![2.0; cols];
            let added = reference::<f64>(&problem, &plain, &dy, [Some(&before), None]);
            assert!(added.sums[0].iter().zip(&out.sums[0]).all(|(a, b)| (a - b - 2.0).abs() < 1e-12));
        }
    }

    #[test]
    fn at_corners() {
        let at = |activation, z| derivative(activation, 0.25, z).value;
        for (activation, z, want) in [
            (Activation::Relu, 0.0, 0.0),
            (Activation::LeakyRelu, 0.0, 0.25),
            (Activation::Elu, 0.0, 0.25),
            (Activation::Gelu, 0.0, 0.5),
            (Activation::Silu, 0.0, 0.5),
            (Activation::Relu6, 0.0, 0.0),
            (Activation::Relu6, 6.0, 0.0),
            (Activation::HardSwish, -3.0, 0.0),
            (Activation::HardSwish, 3.0, 1.0),
            (Activation::HardSigmoid, -3.0, 0.0),
            (Activation::HardSigmoid, 3.0, 0.0),
        ] {
            assert_eq!(at(activation, z), want, "{activation:?} at {z}");
        }
    }
}
