//! How a call of conv_transpose is made and judged.

use super::{alphas, loud_x};
use crate::Dtype;
use crate::conv::{Activation, Algorithm, Bias, Border, Config};
use crate::conv_transpose::{Buffers, Problem};
use crate::reference::conv_transpose::{Inputs, Output, reference};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
use crate::verify::small::{self, laid, like, like_by};

/// Multiply-adds of a small call, at most.
const WORK: f64 = 2e6;

/// The Problem of these sizes.
fn smaller(problem: &Problem, batch: usize, groups: usize, channels: [usize; 2], size: [usize; 2]) -> Problem {
    let [channels, outputs] = channels.map(|own| own * groups);
    let mut own = Problem { batch, channels, outputs, groups, size, ..*problem };
    own.x_layout = laid(problem.x_layout, own.x_sizes().0, own.x_sizes().1);
    own.weight_layout = laid(problem.weight_layout, own.weight_sizes().0, own.weight_sizes().1);
    own.y_layout = laid(problem.y_layout, own.y_sizes().0, own.y_sizes().1);
    own.snake = problem.snake.map(|at| at % 8);
    own.kept_weights = false;
    own.bias = problem.bias.map(|bias| Bias { offset: bias.offset % 8, ..bias });
    own
}

/// The last pixels of x are large, where there is an activation: its exponentials overflow.
fn loud(problem: &Problem, values: &mut Values) {
    loud_x(problem.activation, values);
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let view = |layout, (sizes, cols), dtype| Rows::new::<3>(layout, sizes, cols, dtype);
        let inputs = [
            Some(("x", view(self.x_layout, self.x_sizes(), self.x))),
            Some(("weight", view(self.weight_layout, self.weight_sizes(), self.weight))),
            self.bias.map(|bias| ("bias", Rows::flat(bias.offset, self.outputs, bias.dtype))),
            self.snake.map(|at| ("alpha", Rows::flat(at, self.outputs, Dtype::F32))),
        ];
        let inputs = inputs.into_iter().flatten().map(|(name, view)| Arg::read(name, view));
        let y = view(self.y_layout, self.y_sizes(), self.y);
        inputs.chain([if self.add { Arg::update("y", y) } else { Arg::write("y", y) }]).collect()
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("x"), bound.get("weight"), bound.get("y"));
        bound.with(buffers, [("bias", Buffers::bias), ("alpha", Buffers::alpha), ("scratch", Buffers::scratch)])
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        if name == "alpha" { alphas(len, random) } else { random.outliers(len) }
    }

    fn flushed(&self) -> Option<Problem> {
        self.slope.is_subnormal().then_some(Problem { slope: 0.0, ..*self })
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let [bias, alpha, y] = ["bias", "alpha", "y"].map(|name| values.get(name).map(Vec::as_slice));
        let inputs = Inputs { x: &values["x"], weight: &values["weight"], bias, alpha, y: y.filter(|_| self.add) };
        let Output { y: oracle, mag } = reference::<f64>(self, &inputs);
        let low = reference::<f32>(self, &inputs).y;
        vec![("y", Rule::Rows { cols: self.y_sizes().1, dtype: self.y, oracle, low, mag })]
    }

    fn telling(&self, config: &Config) -> Vec<Telling<Problem>> {
        // Scratch is poisoned.
        let own = Problem { kept_weights: false, ..*self };
        let [rows, columns, depth] = config.tile.map(|size| size as usize);
        // Matrices of channels that a step of k divides have a shader of their own.
        let by = if config.algorithm == Algorithm::Coop { depth.next_multiple_of(8) } else { 8 };
        let depthwise = matches!(config.algorithm, Algorithm::Depthwise | Algorithm::Strips);
        // So many places of a phase, at least; y has the remainder by 8 of the Problem's.
        let side = |axis: usize, places: usize| {
            let [before, after] = [self.padding[2 * axis], self.padding[2 * axis + 1]];
            // What comes back from behind an edge needs places to come to.
            let edge = if self.border == Border::Zero { 0 } else { before.max(after) + 1 };
            let cut = (before + after + edge) / self.stride[axis];
            let mut size = like(self.size[axis], cut + places * self.downsample[axis]);
            while size < self.size[axis] {
                let mut own = *self;
                own.size[axis] = size;
                let whole = own.places()[axis].is_multiple_of(self.downsample[axis]);
                if whole && own.out()[axis] % 8 == self.out()[axis] % 8 {
                    break;
                }
                size += 1;
            }
            size.min(self.size[axis])
        };
        let of = |batch: usize, channels, outputs, [height, width]: [usize; 2]| {
            let groups = if depthwise { like(self.groups, outputs) } else { self.groups.min(2) };
            let [of_x, of_y] = [self.group_channels(), self.group_outputs()];
            let (of_x, of_y) =
                if depthwise { (of_x, of_y) } else { (like_by(by, of_x, channels), like(of_y, outputs)) };
            smaller(self, self.batch.min(batch), groups, [of_x, of_y], [side(0, height), side(1, width)])
        };
        let wide = rows.div_ceil(3) + 1;
        let silu = if self.snake.is_some() { Activation::None } else { Activation::Silu };
        let all = [
            of(2, 9, columns + 1, [2, wide]),
            of(1, 9, 9, [3, wide]),
            of(2, 33, 9, [2, 3]),
            of(1, 9, 9, [5, 5]),
            Problem { activation: silu, ..of(2, 9, 9, [2, 9]) },
        ];
        let mut all = small::and_own(all.into_iter().filter(|own| own.flops() / 2.0 <= WORK), &own, self.flops() / 2.0);
        all.iter_mut().for_each(|telling| telling.set = Some(loud));
        all
    }
}
