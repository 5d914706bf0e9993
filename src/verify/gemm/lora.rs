//! How a call of lora is made and judged.

use super::Tiles;
use super::gemm_quant::Packed;
use crate::caps::LEAST_INVOCATIONS;
use crate::gemm::Activation;
use crate::lora::{Algorithm, Buffers, Config, Problem, Residual};
use crate::norm::Vector;
use crate::reference::gemm::Output;
use crate::reference::lora::{Inputs, reference};
use crate::reference::weights::decode;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::packed;
use crate::verify::random::Random;
use crate::verify::small::{self, laid, like};
use crate::{Dtype, Layout};
use Dtype::{F16, F32};

/// Adapters of rows, of which some do not exist.
pub fn adapters(adapters: usize, len: usize, random: &mut Random) -> Vec<f64> {
    let one = |_| match random.below(7) {
        0 => [-1.0, f64::from(i32::MIN), f64::from(i32::MAX), adapters as f64][random.below(4)],
        _ => random.below(adapters) as f64,
    };
    (0..len).map(one).collect()
}

/// The numbers of a case's adapters.
pub fn numbers(values: &Values) -> Option<Vec<i64>> {
    Some(values.get("adapter")?.iter().map(|&one| one as i64).collect())
}

/// The Problem of these sizes, and of a rank of at least this.
fn smaller(problem: &Problem, rank: usize, [m, n, k]: [usize; 3]) -> Problem {
    // A parameter, with which nothing would be told of the factors.
    let scale = if problem.scale == 0.0 { 0.5 } else { problem.scale };
    let (rank, adapters) = (like(problem.rank, rank), if problem.adapter.is_some() { 3 } else { 1 });
    let mut own =
        Problem { m, n, k, rank, adapters, scale, adapter: problem.adapter.map(|first| first % 8), ..*problem };
    let laid2 = |layout: Layout<2>, (sizes, cols): ([usize; 2], usize)| laid(layout, sizes, cols);
    let (sizes, cols) = own.weight_sizes();
    own.x_layout = laid(own.x_layout, [m], k);
    own.weight_layout = laid(own.weight_layout, sizes, cols);
    own.a_layout = laid2(own.a_layout, own.a_sizes());
    own.b_layout = laid2(own.b_layout, own.b_sizes());
    own.y_layout = laid(own.y_layout, [m], n);
    own.bias = own.bias.map(|bias| Vector { offset: bias.offset % 8, ..bias });
    own.residual = own.residual.map(|of| Residual { layout: laid(of.layout, [m], n), ..of });
    own
}

/// The last row of x is large, where there is an activation: its exponentials overflow.
fn loud(problem: &Problem, values: &mut Values) {
    let last = problem.m.saturating_sub(1) * problem.k;
    let factor = if problem.activation == Activation::None { 1.0 } else { 16.0 };
    values.entry("x").and_modify(|x| x[last..].iter_mut().for_each(|v| *v *= factor));
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let matrix =
            |layout: Layout<2>, (sizes, cols): ([usize; 2], usize), dtype| Rows::new(layout, sizes, cols, dtype);
        let ([rows], cols) = self.weight_sizes();
        let words = self.format.map(|format| packed::args(&format, self.n, self.k).map(|arg| arg.view));
        let inputs = [
            ("adapter", self.adapter.map(|first| Rows::flat(first, self.m, Number::I32))),
            ("x", Some(Rows::new(self.x_layout, [self.m], self.k, self.x))),
            ("weight", words.is_none().then(|| Rows::new(self.weight_layout, [rows], cols, self.weight))),
            ("codes", words.map(|[codes, _]| codes)),
            ("scales", words.map(|[_, scales]| scales)),
            ("a", Some(matrix(self.a_layout, self.a_sizes(), self.a))),
            ("b", Some(matrix(self.b_layout, self.b_sizes(), self.b))),
            ("bias", self.bias.map(|Vector { dtype, offset }| Rows::flat(offset, self.n, dtype))),
            ("residual", self.residual.map(|Residual { dtype, layout }| Rows::new(layout, [self.m], self.n, dtype))),
        ];
        let inputs = inputs.into_iter().filter_map(|(name, view)| Some(Arg::read(name, view?)));
        inputs.chain([Arg::write("y", Rows::new(self.y_layout, [self.m], self.n, self.y))]).collect()
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        match (name, self.format) {
            ("adapter", _) => adapters(self.adapters, len, random),
            ("codes", Some(format)) => packed::codes(&format, len, random),
            ("scales", Some(format)) => packed::scales(&format, self.n, self.k, random),
            _ => random.outliers(len),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let weight = if self.format.is_some() { "codes" } else { "weight" };
        let [x, weight, a, b, y] = ["x", weight, "a", "b", "y"].map(|name| bound.get(name));
        bound.with(
            Buffers::new(x, weight, a, b, y),
            [
                ("scales", Buffers::scales),
                ("adapter", Buffers::adapter),
                ("bias", Buffers::bias),
                ("residual", Buffers::residual),
                ("scratch", Buffers::scratch),
            ],
        )
    }

    fn flushed(&self) -> Option<Problem> {
        self.scale.is_subnormal().then_some(Problem { scale: 0.0, ..*self })
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let [bias, residual] = ["bias", "residual"].map(|name| values.get(name).map(Vec::as_slice));
        let adapter = numbers(values);
        let [x, a, b] = ["x", "a", "b"].map(|name| &values[name][..]);
        let [weight, taken] = match self.format {
            None => [values["weight"].clone(), values["weight"].clone()],
            Some(format) => {
                let [codes, scales] = ["codes", "scales"].map(|name| packed::words(&values[name]));
                let exact = decode::<f64>(&format, self.n, self.k, &codes, &scales);
                // As a matrix unit takes them.
                let halves = self.x != F32;
                let low = decode::<f32>(&format, self.n, self.k, &codes, &scales);
                [exact, low.into_iter().map(|w| if halves { F16.round(w) } else { w }).collect()]
            }
        };
        let inputs = Inputs { x, weight: &weight, a, b, adapter: adapter.as_deref(), bias, residual };
        let Output { d: oracle, mag } = reference::<f64>(self, &inputs);
        let low = reference::<f32>(self, &Inputs { weight: &taken, ..inputs }).d;
        vec![("y", Rule::Rows { cols: self.n, dtype: self.y, oracle, low, mag })]
    }

    fn telling(&self, config: &Config) -> Vec<Telling<Problem>> {
        let [rows, columns, k] = config.tile.map(|size| size as usize);
        let vector = config.algorithm == Algorithm::Vector;
        let sizes = [self.m, self.n, self.k];
        let tiles = match self.format {
            Some(format) => {
                let packed = Packed { format, algorithm: config.algorithm, lanes: config.lanes, int8: false };
                packed.tiles(sizes, config.tile, config.parts, 1)
            }
            None => Tiles {
                sizes,
                tile: if vector && self.m > self.n { [columns, rows, k] } else { [rows, columns, k] },
                whole: k,
                turn: if vector { k * config.lanes as usize } else { k },
                parts: config.parts as usize,
                products: 1,
            },
        };
        let small = (0..).zip(tiles.small()).map(|(i, sizes)| smaller(self, if i == 0 { 17 } else { 65 }, sizes));
        // The first step goes many times along k.
        let long = [like(self.m, 5), like(self.n, 9), tiles.k(15 * 4 * LEAST_INVOCATIONS as usize + 1)];
        // Params tell of the epilogue: calls by these shaders may have another.
        let other = Problem {
            activation: Activation::Silu,
            bias: Some(Vector { dtype: Dtype::Bf16, offset: 1 }),
            residual: Some(Residual { dtype: F16, ..Residual::default() }),
            ..smaller(self, 9, [like(self.m, 9), like(self.n, 9), tiles.k(33)])
        };
        let all = small::and_own(small.chain([smaller(self, 9, long), other]), self, self.flops() / 2.0);
        all.into_iter().map(|telling| telling.set(loud)).collect()
    }
}
