//! Gradients of a convolution by their definition.

use super::{place, source, weight_place};
use crate::activation_backward;
use crate::conv_backward::Problem;
use crate::reference::Real;
use crate::reference::activation::Inputs as Given;
use crate::reference::activation_backward::reference as through;

/// A gradient, contiguous, and the largest finite magnitude of each of its rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gradient {
    /// Its elements.
    pub values: Vec<f64>,
    /// One per row of the last axis.
    pub mag: Vec<f64>,
}

/// What conv_backward gives, in the orders of the Problem; empty where it is not asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// By what the activation was given.
    pub dz: Gradient,
    /// By x.
    pub dx: Gradient,
    /// By the weights.
    pub dweight: Gradient,
    /// By the bias, one row.
    pub dbias: Gradient,
}

/// Contiguous inputs, in the orders of the Problem. What is not asked for needs none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inputs<'a> {
    /// What was convolved.
    pub x: &'a [f64],
    /// The kernels.
    pub weight: &'a [f64],
    /// The gradient by y.
    pub dy: &'a [f64],
    /// What the activation was given, where dz is asked for.
    pub z: &'a [f64],
    /// What dx, dweight and dbias hold, where they are added to.
    pub held: [Option<&'a [f64]>; 3],
}

/// The sums of products that each element of a gradient is, and their magnitudes.
struct Sums<R> {
    sums: Vec<R>,
    mags: Vec<f64>,
}

impl<R: Real> Sums<R> {
    fn new(len: usize) -> Sums<R> {
        Sums { sums: vec![R::ZERO; len], mags: vec![0.0; len] }
    }

    fn add(&mut self, at: usize, value: R) {
        self.sums[at] += value;
        self.mags[at] += value.f64().abs();
    }

    fn done(mut self, cols: usize, held: Option<&[f64]>) -> Gradient {
        for (at, &value) in held.into_iter().flatten().enumerate() {
            self.add(at, R::of(value));
        }
        // What is infinite is judged by its place: it must not widen what the others are allowed.
        let finite = |mag: &f64| if mag.is_finite() { *mag } else { 0.0 };
        let mag = self.mags.chunks(cols.max(1)).map(|row| row.iter().map(finite).fold(0f64, f64::max)).collect();
        Gradient { values: self.sums.into_iter().map(R::f64).collect(), mag }
    }
}

/// `dz = dy act'(z)`, where it is asked for; it is dy to the others.
fn dz<R: Real>(problem: &Problem, inputs: &Inputs) -> Gradient {
    let (of, (sizes, cols)) = (&problem.forward, problem.forward.y_sizes());
    let rows = sizes.iter().product();
    let (activation, slope) = (of.activation, of.slope);
    let own = activation_backward::Problem { rows, cols, activation, slope, ..activation_backward::Problem::default() };
    let found = through::<R>(&own, &Given { x: inputs.z, ..Given::default() }, inputs.dy, [None; 2]);
    let [mag, _] = found.mag;
    Gradient { values: found.dx, mag }
}

/// `dx = sum of dy w`, `dweight = sum of dy x`, `dbias = sum of dy`, each over what the convolution takes together, and what they
/// hold. What lies in a padding of zeros has no part. With dz that is first `dy act'(z)`.
pub fn reference<R: Real>(problem: &Problem, inputs: &Inputs) -> Output {
    if problem.dz.is_some() {
        let dz = dz::<R>(problem, inputs);
        let found = reference::<R>(&Problem { dz: None, ..*problem }, &Inputs { dy: &dz.values, ..*inputs });
        return Output { dz, ..found };
    }
    let of = &problem.forward;
    let ([out_h, out_w], [top, _, left, _]) = (of.out(), of.sides());
    let (group_channels, group_outputs) = (of.group_channels(), of.group_outputs());
    let (x_sizes, y_sizes) = ([of.channels, of.size[0], of.size[1]], [of.outputs, out_h, out_w]);
    let [wants_x, wants_weight, wants_bias] =
        [problem.dx.is_some(), problem.dweight.is_some(), problem.dbias.is_some()];
    let len = |wanted: bool, len: usize| if wanted { len } else { 0 };
    let mut dx = Sums::<R>::new(len(wants_x, of.batch * x_sizes.iter().product::<usize>()));
    let mut dweight = Sums::<R>::new(len(wants_weight, of.outputs * group_channels * of.kernel[0] * of.kernel[1]));
    let mut dbias = Sums::<R>::new(len(wants_bias, of.outputs));
    for n in 0..of.batch {
        for (y, x) in (0..out_h).flat_map(|y| (0..out_w).map(move |x| (y, x))) {
            for o in 0..of.outputs {
                let dy = R::of(inputs.dy[place(of.order, y_sizes, [n, o, y, x])]);
                if wants_bias {
                    dbias.add(o, dy);
                }
                for tap in 0..if wants_x || wants_weight { of.taps() } else { 0 } {
                    let [at_y, at_x] = [
                        y * of.stride[0] + tap / of.kernel[1] * of.dilation[0],
                        x * of.stride[1] + tap % of.kernel[1] * of.dilation[1],
                    ];
                    let from_y = source(of.border, at_y, top, of.size[0], of.upsample[0]);
                    let from_x = source(of.border, at_x, left, of.size[1], of.upsample[1]);
                    let (Some(from_y), Some(from_x)) = (from_y, from_x) else { continue };
                    for i in 0..group_channels {
                        let channel = o / group_outputs * group_channels + i;
                        let at = place(of.order, x_sizes, [n, channel, from_y, from_x]);
                        let of_weight =
                            weight_place(of.weight_order, [of.outputs, group_channels], of.kernel, [o, i], tap);
                        if wants_x {
                            dx.add(at, dy * R::of(inputs.weight[of_weight]));
                        }
                        if wants_weight {
                            dweight.add(of_weight, dy * R::of(inputs.x[at]));
                        }
                    }
                }
            }
        }
    }
    let [held_x, held_weight, held_bias] = inputs.held;
    Output {
        dx: dx.done(of.x_sizes().1, held_x),
        dweight: dweight.done(of.weight_sizes().1, held_weight),
        dbias: dbias.done(of.outputs, held_bias),
        ..Output::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;
    use crate::conv::{self, Activation, Border, Order, Padding, TapMask, WeightOrder};
    use crate::reference::conv as forward;
    use crate::reference::numerics::differences::{Input, hold, product, values};

    fn all(forward: conv::Problem) -> Problem {
        Problem { forward, dx: Some(Dtype::F32), dweight: Some(0), dbias: Some(0), ..Problem::default() }
    }

    /// x [1 2 3] by [1 10], dy [1 2].
    #[test]
    fn by_hand() {
        let of = conv::Problem { size: [1, 3], kernel: [1, 2], ..conv::Problem::default() };
        let inputs = Inputs {
            x: &[1.0, 2.0, 3.0],
            weight: &[1.0, 10.0],
            dy: &[1.0, 2.0],
            held: [None, Some(&[0.5; 2]), None],
            ..Inputs::default()
        };
        let Output { dx, dweight, dbias, .. } = reference::<f64>(&all(of), &inputs);
        assert_eq!((dx.values, dx.mag), (vec![1.0, 12.0, 20.0], vec![20.0]));
        assert_eq!((dweight.values, dweight.mag), (vec![5.5, 8.5], vec![8.5]));
        assert_eq!((dbias.values, dbias.mag), (vec![3.0], vec![3.0]));
    }

    #[test]
    fn slopes_are_those_of_the_convolution() {
        let first = conv::Problem {
            batch: 2,
            channels: 4,
            outputs: 6,
            groups: 2,
            size: [5, 6],
            kernel: [3, 2],
            stride: [2, 1],
            dilation: [1, 3],
            padding: Padding::Sides([2, 1, 0, 3]),
            bias: Some(conv::Bias::of(Dtype::F32)),
            residual: Some(conv::Residual::of(Dtype::F32)),
            ..conv::Problem::default()
        };
        for of in [
            first,
            conv::Problem { activation: Activation::Silu, ..first },
            conv::Problem { activation: Activation::Gelu, order: Order::Nhwc, ..first },
            conv::Problem { upsample: [2, 3], weight_order: WeightOrder::Hwio, order: Order::Nhwc, ..first },
            conv::Problem { border: Border::Reflect, mask: TapMask::B, weight_order: WeightOrder::Ohwi, ..first },
            conv::Problem { border: Border::Replicate, padding: Padding::Same, groups: 1, ..first },
        ] {
            let count = |(sizes, cols): ([usize; 3], usize)| sizes.iter().product::<usize>() * cols;
            let [x, dy, weight] = [(of.x_sizes(), 1), (of.y_sizes(), 2), (of.weight_sizes(), 3)]
                .map(|(sizes, seed)| values(count(sizes), seed));
            let bias = values(of.outputs, 4);
            let residual = values(dy.len(), 5);
            let run = |of: &conv::Problem, [x, weight, bias, residual]: [&Vec<f64>; 4]| {
                let (bias, residual) = (Some(&bias[..]), Some(&residual[..]));
                forward::reference::<f64>(of, &forward::Inputs { x, weight, bias, residual, ..Default::default() }).y
            };
            let z = run(&conv::Problem { activation: Activation::None, ..of }, [&x, &weight, &bias, &residual]);
            let inputs = Inputs { x: &x, weight: &weight, dy: &dy, z: &z, ..Inputs::default() };
            let problem = Problem { dz: Some(Dtype::F32), ..all(of) };
            let Output { dz, dx, dweight, dbias } = reference::<f64>(&problem, &inputs);
            let loss = |all: &[Vec<f64>]| product(&run(&of, [&all[0], &all[1], &all[2], &all[3]]), &dy);
            let gradients = [
                Input { name: "x", values: &x, gradient: &dx.values },
                Input { name: "weight", values: &weight, gradient: &dweight.values },
                Input { name: "bias", values: &bias, gradient: &dbias.values },
                Input { name: "residual", values: &residual, gradient: &dz.values },
            ];
            hold("conv", &gradients, loss);
        }
    }
}
