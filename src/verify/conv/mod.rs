//! How a call of conv is made and judged.

mod group_norm;
mod resize;

pub mod conv_backward;
pub mod conv_transpose;
pub mod group_norm_backward;

use crate::Layout;
use crate::conv::{Activation, Algorithm, Bias, Buffers, Config, Padding, Problem, Residual};
use crate::reference::conv::{Inputs, Output, reference};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::small::{self, laid, like};

/// Multiply-adds of a small call, at most.
const WORK: f64 = 2e6;

/// The Problem of these sizes; what is a parameter to shaders may differ.
fn smaller(problem: &Problem, batch: usize, groups: usize, channels: [usize; 2], size: [usize; 2]) -> Problem {
    let [channels, outputs] = channels.map(|own| own * groups);
    let mut own = Problem { batch, channels, outputs, groups, size, ..*problem };
    if let Padding::Sides(sides) = problem.padding {
        let places = own.places();
        own.padding = Padding::Sides(std::array::from_fn(|i| sides[i].min(places[i / 2].saturating_sub(1))));
    }
    let spread = |layout: Layout<3>, (sizes, cols): ([usize; 3], usize)| laid(layout, sizes, cols);
    own.x_layout = spread(problem.x_layout, own.x_sizes());
    own.weight_layout = spread(problem.weight_layout, own.weight_sizes());
    own.y_layout = spread(problem.y_layout, own.y_sizes());
    own.bias = problem.bias.map(|bias| Bias { offset: bias.offset % 8, ..bias });
    own.residual =
        problem.residual.map(|residual| Residual { layout: spread(residual.layout, own.y_sizes()), ..residual });
    own
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

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let view = |layout, (sizes, cols), dtype| Rows::new::<3>(layout, sizes, cols, dtype);
        let inputs = [
            Some(("x", view(self.x_layout, self.x_sizes(), self.x))),
            Some(("weight", view(self.weight_layout, self.weight_sizes(), self.weight))),
            self.bias.map(|bias| ("bias", Rows::flat(bias.offset, self.outputs, bias.dtype))),
            self.residual.map(|residual| ("residual", view(residual.layout, self.y_sizes(), residual.dtype))),
        ];
        let inputs = inputs.into_iter().flatten().map(|(name, view)| Arg::read(name, view));
        inputs.chain([Arg::write("y", view(self.y_layout, self.y_sizes(), self.y))]).collect()
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("x"), bound.get("weight"), bound.get("y"));
        bound.with(buffers, [("bias", Buffers::bias), ("residual", Buffers::residual), ("scratch", Buffers::scratch)])
    }

    fn flushed(&self) -> Option<Problem> {
        self.slope.is_subnormal().then_some(Problem { slope: 0.0, ..*self })
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let [bias, residual] = ["bias", "residual"].map(|name| values.get(name).map(Vec::as_slice));
        let inputs = Inputs { x: &values["x"], weight: &values["weight"], bias, residual };
        let Output { y: oracle, mag } = reference::<f64>(self, &inputs);
        let low = reference::<f32>(self, &inputs).y;
        vec![("y", Rule::Rows { cols: self.y_sizes().1, dtype: self.y, oracle, low, mag })]
    }

    fn telling(&self, config: &Config) -> Vec<Telling<Problem>> {
        let [first, others @ ..] = shapes(self, config.algorithm, config.tile);
        let silu = Problem { activation: Activation::Silu, ..others[3] };
        let all = [first, others[0], others[1], others[2], silu].into_iter();
        let mut all = small::and_own(all.filter(|own| own.flops() / 2.0 <= WORK), self, self.flops() / 2.0);
        all.iter_mut().for_each(|telling| telling.set = Some(loud));
        all
    }
}

/// Problems of small sizes that run the same shaders by tiles of this size.
fn shapes(problem: &Problem, algorithm: Algorithm, tile: [u32; 3]) -> [Problem; 5] {
    let [rows, columns, _] = tile.map(|size| size as usize);
    let depthwise = algorithm == Algorithm::Depthwise;
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
        let (of_x, of_y) = if depthwise { (of_x, of_y) } else { (like(of_x, channels), like(of_y, outputs)) };
        smaller(problem, problem.batch.min(batch), groups, [of_x, of_y], [side(0, height), side(1, width)])
    };
    let wide = rows.div_ceil(3) + 1;
    [
        of(2, 9, columns + 1, [2, wide]),
        of(1, 9, 9, [3, wide]),
        of(2, 33, 9, [2, 3]),
        of(1, 9, 9, [5, 5]),
        of(2, 9, 9, [2, 9]),
    ]
}
