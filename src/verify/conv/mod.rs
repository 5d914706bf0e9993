//! How a call of conv is made and judged.

mod group_norm;
pub mod max_pool;
mod max_pool_backward;
mod resize;
mod space_to_depth;

pub mod conv_backward;
pub mod conv_transpose;
pub mod group_norm_backward;
pub mod snake_backward;

use crate::conv::{Activation, Algorithm, Bias, Buffers, Config, Padding, Problem, Residual};
use crate::reference::conv::{Inputs, Output, reference};
use crate::reference::weights::decode;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::packed;
use crate::verify::random::Random;
use crate::verify::small::{self, laid, like, like_by};
use crate::weights::{Format, Scales};
use crate::{Dtype, Layout};

/// Multiply-adds of a small call, at most.
const WORK: f64 = 2e6;

/// The Problem of these sizes; what is a parameter to shaders may differ.
fn smaller(problem: &Problem, batch: usize, groups: usize, channels: [usize; 2], size: [usize; 2]) -> Problem {
    let [channels, outputs] = channels.map(|own| own * groups);
    let mut own = Problem { batch, channels, outputs, groups, size, ..*problem };
    if let Padding::Sides(sides) = problem.padding {
        let places = own.places();
        // Where rows begin in their fours may be a constant.
        let least = |side: usize, most: usize| match side <= most {
            true => side,
            false => most.checked_sub((most + 4 - side % 4) % 4).unwrap_or(most),
        };
        own.padding = Padding::Sides(std::array::from_fn(|i| least(sides[i], places[i / 2].saturating_sub(1))));
    }
    let spread = |layout: Layout<3>, (sizes, cols): ([usize; 3], usize)| laid(layout, sizes, cols);
    if let Some((format, _, k)) = own.packed_matrix().filter(|(format, ..)| format.order > 0) {
        own.format = Some(Format { order: k.div_ceil(format.group.max(1) as usize) as u32, ..format });
    }
    own.x_layout = spread(problem.x_layout, own.x_sizes());
    own.weight_layout = spread(problem.weight_layout, own.weight_sizes());
    own.y_layout = spread(problem.y_layout, own.y_sizes());
    own.bias = problem.bias.map(|bias| Bias { offset: bias.offset % 8, ..bias });
    own.snake = problem.snake.map(|at| at % 8);
    own.kept_weights = false;
    own.residual =
        problem.residual.map(|residual| Residual { layout: spread(residual.layout, own.y_sizes()), ..residual });
    own
}

/// Of every magnitude, and 0.
fn alphas(len: usize, random: &mut Random) -> Vec<f64> {
    let one =
        |i: usize, random: &mut Random| if i % 5 == 3 { 0.0 } else { random.normal() * 8f64.powi(i as i32 % 7 - 4) };
    (0..len).map(|i| one(i, random)).collect()
}

/// The last pixels of x are large, where there is an activation: its exponentials overflow.
fn loud(problem: &Problem, values: &mut Values) {
    loud_x(problem.activation, values);
}

fn loud_x(activation: Activation, values: &mut Values) {
    if activation != Activation::None {
        let x = values.get_mut("x").into_iter().flatten();
        x.rev().step_by(3).take(8).for_each(|v| *v *= 16.0);
    }
}

impl Problem {
    /// The matrix of packed weights: format, n and k.
    pub fn packed_matrix(&self) -> Option<(Format, usize, usize)> {
        let k =
            [self.group_channels(), self.kernel[0], self.kernel[1]].iter().fold(1usize, |k, &n| k.saturating_mul(n));
        self.format.map(|format| (format, self.outputs, k))
    }
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let view = |layout, (sizes, cols), dtype| Rows::new::<3>(layout, sizes, cols, dtype);
        let [codes, scales] = match self.packed_matrix() {
            Some((format, n, k)) => packed::args(&format, n, k).map(|arg| Some((arg.name, arg.view))),
            None => [Some(("weight", view(self.weight_layout, self.weight_sizes(), self.weight))), None],
        };
        let inputs = [
            Some(("x", view(self.x_layout, self.x_sizes(), self.x))),
            codes,
            scales,
            self.bias.map(|bias| ("bias", Rows::flat(bias.offset, self.outputs, bias.dtype))),
            self.residual.map(|residual| ("residual", view(residual.layout, self.y_sizes(), residual.dtype))),
            self.snake.map(|at| ("alpha", Rows::flat(at, self.outputs, Dtype::F32))),
        ];
        let inputs = inputs.into_iter().flatten().map(|(name, view)| Arg::read(name, view));
        inputs.chain([Arg::write("y", view(self.y_layout, self.y_sizes(), self.y))]).collect()
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let weight = if self.format.is_some() { "codes" } else { "weight" };
        let buffers = Buffers::new(bound.get("x"), bound.get(weight), bound.get("y"));
        bound.with(
            buffers,
            [
                ("bias", Buffers::bias),
                ("residual", Buffers::residual),
                ("alpha", Buffers::alpha),
                ("scales", Buffers::scales),
                ("scratch", Buffers::scratch),
            ],
        )
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        match (name, self.packed_matrix()) {
            ("alpha", _) => alphas(len, random),
            ("codes", Some((format, ..))) => packed::codes(&format, len, random),
            ("scales", Some((format, n, k))) => packed::scales(&format, n, k, random),
            _ => random.outliers(len),
        }
    }

    fn flushed(&self) -> Option<Problem> {
        self.slope.is_subnormal().then_some(Problem { slope: 0.0, ..*self })
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let [bias, residual, alpha] = ["bias", "residual", "alpha"].map(|name| values.get(name).map(Vec::as_slice));
        let [weight, low] = match self.packed_matrix() {
            None => [values["weight"].clone(), values["weight"].clone()],
            Some((format, n, k)) => {
                let [codes, scales] = ["codes", "scales"].map(|name| packed::words(&values[name]));
                [decode::<f64>(&format, n, k, &codes, &scales), decode::<f32>(&format, n, k, &codes, &scales)]
            }
        };
        let inputs = Inputs { x: &values["x"], weight: &weight, bias, residual, alpha };
        let Output { y: oracle, mag } = reference::<f64>(self, &inputs);
        let low = reference::<f32>(self, &Inputs { weight: &low, ..inputs }).y;
        vec![("y", Rule::Rows { cols: self.y_sizes().1, dtype: self.y, oracle, low, mag })]
    }

    fn telling(&self, config: &Config) -> Vec<Telling<Problem>> {
        // Scratch is poisoned.
        let own = Problem { kept_weights: false, ..*self };
        let [first, others @ ..] = shapes(self, config.algorithm, config.tile);
        let silu = if self.snake.is_some() { others[3] } else { Problem { activation: Activation::Silu, ..others[3] } };
        let all = [first, others[0], others[1], others[2], silu].into_iter();
        let mut all = small::and_own(all.filter(|own| own.flops() / 2.0 <= WORK), &own, self.flops() / 2.0);
        all.iter_mut().for_each(|telling| telling.set = Some(loud));
        all
    }
}

/// Problems of small sizes that run the same shaders by tiles of this size.
fn shapes(problem: &Problem, algorithm: Algorithm, tile: [u32; 3]) -> [Problem; 5] {
    let [rows, columns, depth] = tile.map(|size| size as usize);
    // Matrices of channels that a step of k divides have a shader of their own.
    let by = if algorithm == Algorithm::Coop { depth.next_multiple_of(8) } else { 8 };
    let depthwise = matches!(algorithm, Algorithm::Depthwise | Algorithm::Strips);
    // Windows, and more lines than a tile has pixels; y has the remainder by 8 of the Problem's.
    let side = |axis: usize, places: usize| {
        let span = problem.dilation[axis] * (problem.kernel[axis] - 1) + 1;
        let wanted = (span + problem.stride[axis] * places).div_ceil(problem.upsample[axis]);
        let mut size = like(problem.size[axis], wanted);
        while size < problem.size[axis] {
            let mut own = *problem;
            own.size[axis] = size;
            if own.out()[axis] % 8 == problem.out()[axis] % 8 {
                break;
            }
            size += 8;
        }
        size.min(problem.size[axis])
    };
    let of = |batch: usize, channels, outputs, [height, width]: [usize; 2]| {
        let groups = if depthwise { like(problem.groups, outputs) } else { problem.groups.min(2) };
        let [of_x, of_y] = [problem.group_channels(), problem.group_outputs()];
        let (mut of_x, of_y) =
            if depthwise { (of_x, of_y) } else { (like_by(by, of_x, channels), like(of_y, outputs)) };
        // Rows of whole blocks of scales.
        let whole = problem.format.is_some_and(|format| matches!(format.scales, Scales::K | Scales::K6));
        let blocks = |of_x: usize| (of_x * problem.kernel[0] * problem.kernel[1]).is_multiple_of(256);
        while whole && of_x < problem.group_channels() && !blocks(of_x) {
            of_x += 8;
        }
        smaller(problem, problem.batch.min(batch), groups, [of_x, of_y], [side(0, height), side(1, width)])
    };
    let wide = rows.div_ceil(3) + 1;
    let [batch, lines] = if by > 8 { [1, 1] } else { [2, 2] };
    [
        of(batch, 9, columns + 1, [lines, wide]),
        of(1, 9, 9, [3, wide]),
        of(2, 33, 9, [2, 3]),
        of(1, 9, 9, [5, 5]),
        of(2, 9, 9, [2, 9]),
    ]
}
