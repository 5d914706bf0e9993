//! Transposed convolution by its definition.

use super::{place, source, weight_place};
use crate::conv_transpose::Problem;
use crate::reference::{Real, activation};

pub use super::Output;

/// Contiguous inputs, in the orders of the Problem.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inputs<'a> {
    /// What is spread.
    pub x: &'a [f64],
    /// The kernels.
    pub weight: &'a [f64],
    /// One value per channel of y.
    pub bias: Option<&'a [f64]>,
    /// Of snake, in place of the activation: one value per channel of y.
    pub alpha: Option<&'a [f64]>,
    /// What y holds, where the Problem adds.
    pub y: Option<&'a [f64]>,
}

/// `act(sum of x w + bias)`, and what y holds: each pixel of x gives to the places under the taps of its window.
///
/// `mag` is the formula on absolute values, without the activation, as of [`conv`](super::reference).
pub fn reference<R: Real>(problem: &Problem, inputs: &Inputs) -> Output {
    let Problem { batch, channels, outputs, size, kernel, stride, dilation, downsample, padding, order, .. } = *problem;
    let (out, places) = (problem.out(), problem.places());
    let (group_channels, group_outputs) = (problem.group_channels(), problem.group_outputs());
    let (x_sizes, y_sizes) = ([channels, size[0], size[1]], [outputs, out[0], out[1]]);
    let (count, row) = (batch * outputs * out[0] * out[1], problem.y_sizes().1);
    let (mut sums, mut mags) = (vec![R::ZERO; count], vec![0f64; count]);
    // The place of y that a pixel gives to by a tap.
    let of = |axis: usize, pixel: usize, tap: usize| {
        let at = pixel * stride[axis] + tap * dilation[axis];
        let last = places[axis] + padding[2 * axis] + padding[2 * axis + 1];
        let from = || source(problem.border, at, padding[2 * axis], out[axis], downsample[axis]);
        if at < last { from() } else { None }
    };
    for n in 0..batch {
        for (pixel_y, pixel_x) in (0..size[0]).flat_map(|y| (0..size[1]).map(move |x| (y, x))) {
            for tap in 0..problem.taps() {
                let (tap_y, tap_x) = (tap / kernel[1], tap % kernel[1]);
                let (Some(y), Some(x)) = (of(0, pixel_y, tap_y), of(1, pixel_x, tap_x)) else { continue };
                for c in 0..channels {
                    let value = inputs.x[place(order, x_sizes, [n, c, pixel_y, pixel_x])];
                    for own in 0..group_outputs {
                        let at = weight_place(problem.weight_order, [channels, group_outputs], kernel, [c, own], tap);
                        let product = R::of(value) * R::of(inputs.weight[at]);
                        let i = place(order, y_sizes, [n, c / group_channels * group_outputs + own, y, x]);
                        sums[i] += product;
                        mags[i] += product.f64().abs();
                    }
                }
            }
        }
    }
    let mut result = Output { y: vec![0.0; count], mag: vec![0.0; count / row.max(1)] };
    let factor = if inputs.alpha.is_some() { 2.0 } else { 1f64.max(problem.slope.abs().into()) };
    for n in 0..batch {
        for o in 0..outputs {
            for (y, x) in (0..out[0]).flat_map(|y| (0..out[1]).map(move |x| (y, x))) {
                let i = place(order, y_sizes, [n, o, y, x]);
                let bias = inputs.bias.map_or(0.0, |bias| bias[o]);
                let z = (sums[i] + R::of(bias)).f64();
                let mut value = R::of(match inputs.alpha {
                    Some(alpha) => super::snake(z, alpha[o]),
                    None => activation::value(problem.activation, problem.slope, z).value,
                });
                let mut mag = factor * (mags[i] + bias.abs());
                if let Some(held) = inputs.y {
                    value += R::of(held[i]);
                    mag += held[i].abs();
                }
                result.y[i] = value.f64();
                // What is infinite is judged by its place: it must not widen what the others are allowed.
                let mag = if mag.is_finite() { mag } else { 0.0 };
                result.mag[i / row] = result.mag[i / row].max(mag);
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::{self, Activation, Border, Order, Padding, TapMask, WeightOrder};
    use crate::reference::numerics::differences::{Input, hold, product, values};
    use crate::reference::{activation_backward, conv as forward, conv_backward};
    use crate::{Dtype, conv_transpose};

    fn y(problem: &Problem, x: &[f64], weight: &[f64]) -> Vec<f64> {
        reference::<f64>(problem, &Inputs { x, weight, ..Inputs::default() }).y
    }

    /// [1 2; 3 4] by [1 10; 100 1000].
    #[test]
    fn by_hand() {
        let (x, w) = ([1.0, 2.0, 3.0, 4.0], [1.0, 10.0, 100.0, 1000.0]);
        let plain = Problem { size: [2, 2], kernel: [2, 2], ..Problem::default() };
        assert_eq!(y(&plain, &x, &w), [1.0, 12.0, 20.0, 103.0, 1234.0, 2040.0, 300.0, 3400.0, 4000.0]);
        assert_eq!(y(&Problem { padding: [1, 0, 1, 1], ..plain }, &x, &w), [1234.0, 3400.0]);
        let apart = Problem { stride: [2, 2], ..plain };
        let all = [1.0, 10.0, 2.0, 20.0, 100.0, 1e3, 200.0, 2e3, 3.0, 30.0, 4.0, 40.0, 300.0, 3e3, 400.0, 4e3];
        assert_eq!(y(&apart, &x, &w), all);
        // What is cut off at the top comes to the second row, or to the first.
        let ends = Problem { padding: [1, 0, 0, 0], ..apart };
        let [mirrored, repeated] =
            [Border::Reflect, Border::Replicate].map(|border| y(&Problem { border, ..ends }, &x, &w));
        assert_eq!(mirrored[..4], all[4..8]);
        assert_eq!(mirrored[4..8], [4.0, 40.0, 6.0, 60.0]);
        assert_eq!(repeated[..4], [101.0, 1010.0, 202.0, 2020.0]);
        let longer = y(&Problem { output_padding: [1, 0], ..apart }, &x, &w);
        assert_eq!((&longer[..16], &longer[16..]), (&all[..], &[0.0; 4][..]));
        assert_eq!(y(&Problem { downsample: [2, 4], ..apart }, &x, &w), [1111.0 * 3.0, 1111.0 * 7.0]);
        let wide = y(&Problem { dilation: [1, 2], ..plain }, &x, &w);
        assert_eq!(wide[..4], [1.0, 2.0, 10.0, 20.0]);
        let full = Inputs { x: &x, weight: &w, bias: Some(&[1.0]), y: Some(&[0.5; 9]), ..Inputs::default() };
        assert_eq!(reference::<f64>(&plain, &full).y[..2], [2.5, 13.5]);
        // Two groups of one channel, to two outputs each.
        let grouped = Problem { channels: 2, outputs: 4, groups: 2, size: [1, 2], ..Problem::default() };
        assert_eq!(y(&grouped, &x, &w), [1.0, 2.0, 10.0, 20.0, 300.0, 400.0, 3000.0, 4000.0]);
        let last = Problem { order: Order::Nhwc, ..grouped };
        assert_eq!(y(&last, &[1.0, 3.0, 2.0, 4.0], &w), [1.0, 10.0, 300.0, 3000.0, 2.0, 20.0, 400.0, 4000.0]);
    }

    /// It is the gradient of a convolution by x.
    #[test]
    fn it_is_the_adjoint() {
        let first = conv::Problem {
            batch: 2,
            channels: 4,
            outputs: 6,
            groups: 2,
            size: [7, 6],
            kernel: [3, 4],
            stride: [2, 3],
            dilation: [2, 1],
            padding: Padding::Sides([2, 1, 0, 3]),
            ..conv::Problem::default()
        };
        for of in [
            first,
            conv::Problem { upsample: [2, 3], weight_order: WeightOrder::Hwio, order: Order::Nhwc, ..first },
            conv::Problem { border: Border::Reflect, upsample: [1, 2], ..first },
            conv::Problem { border: Border::Replicate, ..first },
            conv::Problem { upsample: [3, 2], mask: TapMask::B, weight_order: WeightOrder::Ohwi, ..first },
        ] {
            let (out, places) = (of.out(), of.places());
            let [top, bottom, left, right] = of.sides();
            let rest = |axis: usize, padding: usize| {
                let span = of.dilation[axis] * (of.kernel[axis] - 1) + 1;
                places[axis] + padding - span - (out[axis] - 1) * of.stride[axis]
            };
            let problem = Problem {
                batch: of.batch,
                channels: of.outputs,
                outputs: of.channels,
                groups: of.groups,
                size: out,
                kernel: of.kernel,
                stride: of.stride,
                dilation: of.dilation,
                downsample: of.upsample,
                padding: of.sides(),
                border: of.border,
                output_padding: [rest(0, top + bottom), rest(1, left + right)],
                mask: of.mask,
                order: of.order,
                weight_order: of.weight_order,
                ..Problem::default()
            };
            assert_eq!(problem.out(), of.size);
            let count = |(sizes, cols): ([usize; 3], usize)| sizes.iter().product::<usize>() * cols;
            let [x, dy, weight] = [(of.x_sizes(), 1), (of.y_sizes(), 2), (of.weight_sizes(), 3)]
                .map(|(sizes, seed)| values(count(sizes), seed));
            let gradient = y(&problem, &dy, &weight);
            let loss = |all: &[Vec<f64>]| {
                let inputs = forward::Inputs { x: &all[0], weight: &weight, ..forward::Inputs::default() };
                product(&forward::reference::<f64>(&of, &inputs).y, &dy)
            };
            hold("conv", &[Input { name: "x", values: &x, gradient: &gradient }], loss);
        }
    }
    /// The Problems that `backward` gives, by their references, are the slopes of this one.
    #[test]
    fn gradients_are_slopes() {
        let first = Problem {
            batch: 2,
            channels: 4,
            outputs: 6,
            groups: 2,
            size: [3, 4],
            kernel: [4, 3],
            stride: [2, 3],
            dilation: [1, 2],
            padding: [1, 2, 0, 1],
            output_padding: [1, 0],
            bias: Some(conv::Bias::of(Dtype::F32)),
            ..Problem::default()
        };
        for of in [
            first,
            Problem { activation: Activation::Silu, order: Order::Nhwc, ..first },
            Problem { activation: Activation::Gelu, weight_order: WeightOrder::Hwio, ..first },
            Problem { activation: Activation::Tanh, border: Border::Replicate, ..first },
        ] {
            let count = |(sizes, cols): ([usize; 3], usize)| sizes.iter().product::<usize>() * cols;
            let [x, dy, weight] = [(of.x_sizes(), 1), (of.y_sizes(), 2), (of.weight_sizes(), 3)]
                .map(|(sizes, seed)| values(count(sizes), seed));
            let bias = values(of.outputs, 4);
            let run = |of: &Problem, x: &[f64], weight: &[f64], bias: &[f64]| {
                reference::<f64>(of, &Inputs { x, weight, bias: Some(bias), ..Inputs::default() }).y
            };
            let gradients = conv_transpose::backward(&of).unwrap();
            assert_eq!(gradients.dz.is_some(), of.activation != Activation::None);
            let z = run(&Problem { activation: Activation::None, ..of }, &x, &weight, &bias);
            let dz = gradients.dz.map_or(dy.clone(), |problem| {
                let z = activation::Inputs { x: &z, ..activation::Inputs::default() };
                activation_backward::reference::<f64>(&problem, &z, &dy, [None; 2]).dx
            });
            let dx_inputs = forward::Inputs { x: &dz, weight: &weight, ..forward::Inputs::default() };
            let dx = forward::reference::<f64>(&gradients.dx, &dx_inputs).y;
            let sums = conv_backward::Inputs { x: &dz, dy: &x, ..conv_backward::Inputs::default() };
            let dweight = conv_backward::reference::<f64>(&gradients.dweight, &sums).dweight.values;
            let sums = conv_backward::Inputs { dy: &dz, ..conv_backward::Inputs::default() };
            let dbias = conv_backward::reference::<f64>(&gradients.dbias, &sums).dbias.values;
            let inputs = [
                Input { name: "x", values: &x, gradient: &dx },
                Input { name: "weight", values: &weight, gradient: &dweight },
                Input { name: "bias", values: &bias, gradient: &dbias },
            ];
            hold("conv_transpose", &inputs, |all| product(&run(&of, &all[0], &all[1], &all[2]), &dy));
        }
    }
}
