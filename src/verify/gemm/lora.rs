//! How a call of lora is made and judged.

use crate::lora::{Buffers, Problem, Residual};
use crate::norm::Vector;
use crate::reference::gemm::Output;
use crate::reference::lora::{Inputs, reference};
use crate::reference::weights::decode;
use crate::verify::call::{Arg, Bound, Describe, Rule, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::packed;
use crate::verify::random::Random;
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
}
