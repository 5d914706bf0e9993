//! Convolution by its definition.

pub mod group_norm;
pub mod group_norm_backward;
pub mod max_pool;
pub mod max_pool_backward;
pub mod resize;
pub mod snake_backward;
pub mod space_to_depth;

pub mod conv_backward;
pub mod conv_transpose;

use crate::conv::{Border, Order, Problem, WeightOrder};
use crate::reference::Real;
use crate::reference::activation::value;

/// What conv gives, contiguous in the order of the Problem; and `mag`, one per row of the last axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The result.
    pub y: Vec<f64>,
    /// The largest finite magnitude of each row of y.
    pub mag: Vec<f64>,
}

/// Contiguous inputs, in the orders of the Problem.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inputs<'a> {
    /// What is convolved.
    pub x: &'a [f64],
    /// The kernels.
    pub weight: &'a [f64],
    /// One value per channel of y.
    pub bias: Option<&'a [f64]>,
    /// Added before the activation, as y.
    pub residual: Option<&'a [f64]>,
    /// Of snake, in place of the activation: one value per channel of y.
    pub alpha: Option<&'a [f64]>,
}

/// Where element (batch, channel, row, column) of a tensor of these sizes lies.
fn place(order: Order, [channels, height, width]: [usize; 3], [n, c, y, x]: [usize; 4]) -> usize {
    match order {
        Order::Nchw => ((n * channels + c) * height + y) * width + x,
        Order::Nhwc => ((n * height + y) * width + x) * channels + c,
    }
}

/// Where a tap of the weights of output `o` for channel `i` of its group lies.
fn weight_place(
    order: WeightOrder,
    [outputs, own]: [usize; 2],
    kernel: [usize; 2],
    [o, i]: [usize; 2],
    tap: usize,
) -> usize {
    let taps = kernel[0] * kernel[1];
    match order {
        WeightOrder::Oihw => (o * own + i) * taps + tap,
        WeightOrder::Ohwi => (o * taps + tap) * own + i,
        WeightOrder::Hwio => (tap * own + i) * outputs + o,
    }
}

/// Which place of an axis of x lies under a place of its padded and enlarged one, `before` of which are padding.
fn source(border: Border, at: usize, before: usize, size: usize, upsample: usize) -> Option<usize> {
    let (places, at) = ((size * upsample) as i64, at as i64 - before as i64);
    let inside = match border {
        Border::Zero if at < 0 || at >= places => return None,
        Border::Zero => at,
        Border::Reflect if at < 0 => -at,
        Border::Reflect if at >= places => 2 * (places - 1) - at,
        Border::Reflect => at,
        Border::Replicate => at.clamp(0, places - 1),
    };
    Some(inside as usize / upsample)
}

/// `z + sin(alpha z)^2 / alpha`, z where alpha is 0.
pub fn snake(z: f64, alpha: f64) -> f64 {
    if alpha == 0.0 { z } else { z + (alpha * z).sin().powi(2) / alpha }
}

/// `act(sum of x w + bias + residual)`. What lies in a padding of zeros has no part.
///
/// `mag` is the formula on absolute values, without the activation, none of which grows a difference by more than a seventh or by
/// more than the slope; snake by no more than two, which `mag` has as a factor.
pub fn reference<R: Real>(problem: &Problem, inputs: &Inputs) -> Output {
    let Problem { batch, channels, outputs, size, kernel, stride, dilation, upsample, border, order, .. } = *problem;
    let ([out_h, out_w], [top, _, left, _]) = (problem.out(), problem.sides());
    let (group_channels, group_outputs) = (problem.group_channels(), problem.group_outputs());
    let sizes = [channels, size[0], size[1]];
    let (count, row) = (batch * outputs * out_h * out_w, if order == Order::Nchw { out_w } else { outputs });
    let mut out = Output { y: vec![0.0; count], mag: vec![0.0; count / row.max(1)] };
    let weight_at = |o: usize, i: usize, tap: usize| {
        weight_place(problem.weight_order, [outputs, group_channels], kernel, [o, i], tap)
    };
    let factor = 1f64.max(problem.slope.abs().into());
    for n in 0..batch {
        for (y, x) in (0..out_h).flat_map(|y| (0..out_w).map(move |x| (y, x))) {
            // Taps that lie in x, and where.
            let taps: Vec<_> = (0..problem.taps())
                .filter_map(|tap| {
                    let (ky, kx) = (tap / kernel[1], tap % kernel[1]);
                    let from_y = source(border, y * stride[0] + ky * dilation[0], top, size[0], upsample[0])?;
                    let from_x = source(border, x * stride[1] + kx * dilation[1], left, size[1], upsample[1])?;
                    Some((tap, (from_y, from_x)))
                })
                .collect();
            for o in 0..outputs {
                let first = o / group_outputs * group_channels;
                let (mut sum, mut mag) = (R::ZERO, 0.0);
                for &(tap, (from_y, from_x)) in &taps {
                    for i in 0..group_channels {
                        let x = R::of(inputs.x[place(order, sizes, [n, first + i, from_y, from_x])]);
                        let product = x * R::of(inputs.weight[weight_at(o, i, tap)]);
                        sum += product;
                        mag += product.f64().abs();
                    }
                }
                let at = place(order, [outputs, out_h, out_w], [n, o, y, x]);
                for added in [inputs.bias.map(|bias| bias[o]), inputs.residual.map(|residual| residual[at])] {
                    let added = added.unwrap_or(0.0);
                    sum += R::of(added);
                    mag += added.abs();
                }
                let (sum, grows) = (sum.f64(), if inputs.alpha.is_some() { 2.0 } else { factor });
                out.y[at] = R::of(match inputs.alpha {
                    Some(alpha) => snake(sum, alpha[o]),
                    None => value(problem.activation, problem.slope, sum).value,
                })
                .f64();
                // What is infinite is judged by its place: it must not widen what the others are allowed.
                let mag = if mag.is_finite() { grows * mag } else { 0.0 };
                out.mag[at / row] = out.mag[at / row].max(mag);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;
    use crate::conv::{Activation, Bias, Padding, Residual, TapMask};

    fn y(problem: &Problem, x: &[f64], weight: &[f64]) -> Vec<f64> {
        reference::<f64>(problem, &Inputs { x, weight, ..Inputs::default() }).y
    }

    /// [1 2 3; 4 5 6; 7 8 9] by [1 2; 3 4], which is not turned round.
    #[test]
    fn by_hand() {
        let x: Vec<f64> = (1..10).map(f64::from).collect();
        let w = [1.0, 2.0, 3.0, 4.0];
        let plain = Problem { size: [3, 3], kernel: [2, 2], ..Problem::default() };
        assert_eq!(y(&plain, &x, &w), [37.0, 47.0, 67.0, 77.0]);
        let out = reference::<f64>(&plain, &Inputs { x: &x, weight: &w, ..Inputs::default() });
        assert_eq!(out.mag, [47.0, 77.0]);
        // A zero above and to the left.
        let padded = Problem { padding: Padding::Sides([1, 0, 1, 0]), ..plain };
        assert_eq!(y(&padded, &x, &w), [4.0, 11.0, 18.0, 18.0, 37.0, 47.0, 36.0, 67.0, 77.0]);
        // Same: the odd one at the end.
        let same = Problem { padding: Padding::Same, ..plain };
        assert_eq!(y(&same, &x, &w), [37.0, 47.0, 21.0, 67.0, 77.0, 33.0, 23.0, 26.0, 9.0]);
        let strided = Problem { stride: [2, 2], ..same };
        assert_eq!(y(&strided, &x, &w), [37.0, 21.0, 23.0, 9.0]);
        assert_eq!(y(&Problem { dilation: [2, 2], ..plain }, &x, &w), [1.0 + 6.0 + 21.0 + 36.0]);
    }

    /// One row, [1 2 3], by [1 10 100].
    #[test]
    fn borders_and_enlargement_by_hand() {
        let (x, w) = ([1.0, 2.0, 3.0], [1.0, 10.0, 100.0]);
        let sides = |left, right| Padding::Sides([0, 0, left, right]);
        let of = |border, padding| Problem { size: [1, 3], kernel: [1, 3], border, padding, ..Problem::default() };
        assert_eq!(y(&of(Border::Zero, sides(1, 1)), &x, &w), [210.0, 321.0, 32.0]);
        assert_eq!(y(&of(Border::Reflect, sides(1, 1)), &x, &w), [212.0, 321.0, 232.0]);
        assert_eq!(y(&of(Border::Reflect, sides(2, 0)), &x, &w), [123.0, 212.0, 321.0]);
        assert_eq!(y(&of(Border::Replicate, sides(2, 1)), &x, &w), [111.0, 211.0, 321.0, 332.0]);
        // 1 1 2 2 3 3.
        let enlarged = Problem { upsample: [1, 2], ..of(Border::Zero, sides(0, 0)) };
        assert_eq!(y(&enlarged, &x, &w), [211.0, 221.0, 322.0, 332.0]);
        // Causal, and PixelCNN's: taps left out.
        assert_eq!(y(&of(Border::Zero, sides(2, 0)), &x, &w), [100.0, 210.0, 321.0]);
        let masked = |mask| Problem { mask, ..of(Border::Zero, sides(1, 1)) };
        assert_eq!(y(&masked(TapMask::A), &x, &w), [0.0, 1.0, 2.0]);
        assert_eq!(y(&masked(TapMask::B), &x, &w), [10.0, 21.0, 32.0]);
    }

    /// Two groups of one channel and two outputs; orders of axes; bias, residual and activation.
    #[test]
    fn groups_and_orders_by_hand() {
        let (x, w) = ([1.0, 2.0, 3.0, 4.0], [1.0, 10.0, -1.0, 100.0]);
        let of = Problem { channels: 2, outputs: 4, groups: 2, size: [1, 2], ..Problem::default() };
        assert_eq!(y(&of, &x, &w), [1.0, 2.0, 10.0, 20.0, -3.0, -4.0, 300.0, 400.0]);
        let last = Problem { order: Order::Nhwc, ..of };
        assert_eq!(y(&last, &[1.0, 3.0, 2.0, 4.0], &w), [1.0, 10.0, -3.0, 300.0, 2.0, 20.0, -4.0, 400.0]);
        // [o, i, h, w] of 2, 1, 1, 2 as [h, w, i, o].
        let turned =
            Problem { size: [1, 2], kernel: [1, 2], outputs: 2, weight_order: WeightOrder::Hwio, ..Problem::default() };
        assert_eq!(y(&turned, &[1.0, 2.0], &[1.0, 3.0, 10.0, 30.0]), [21.0, 63.0]);
        let full = Problem {
            bias: Some(Bias::of(Dtype::F32)),
            residual: Some(Residual::of(Dtype::F32)),
            activation: Activation::LeakyRelu,
            slope: 0.5,
            ..of
        };
        let inputs =
            Inputs { x: &x, weight: &w, bias: Some(&[1.0, 2.0, 0.0, -500.0]), residual: Some(&[0.5; 8]), alpha: None };
        let out = reference::<f64>(&full, &inputs).y;
        assert_eq!(out, [2.5, 3.5, 12.5, 22.5, -1.25, -1.75, -99.75, -49.75]);
        // x + sin^2 of half a turn, of a quarter, and none.
        let quarter = std::f64::consts::FRAC_PI_2;
        assert!((snake(1.0, 2.0 * quarter) - 1.0).abs() < 1e-15 && (snake(-2.0, quarter) + 2.0).abs() < 1e-15);
        assert_eq!((snake(quarter, 1.0), snake(3.0, 0.0)), (quarter + 1.0, 3.0));
        assert_eq!(snake(1.0, -quarter), 1.0 - 1.0 / quarter);
    }
}
