//! How a call of norm is made and judged.

use crate::layout::split_rows;
use crate::norm::{Buffers, Kind, Problem, Vector};
use crate::reference::norm::{Inputs, reference};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
use crate::verify::small;
use crate::{Dtype, Layout};

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let rows = |layout, dtype: Dtype| Rows::new(layout, self.sizes(), self.cols, dtype);
        let columns = |vector: Vector| Rows::flat(vector.offset, self.cols, vector.dtype);
        let planes = if self.kind == Kind::Layer { 2 } else { 1 };
        let stats = |at| Rows::new(Layout::<1>::at(at), [planes], self.rows, Dtype::F32);
        let mut args = vec![Arg::read("x", rows(self.x_layout, self.x))];
        args.extend(self.residual.map(|dtype| Arg::read("residual", rows(self.residual_layout, dtype))));
        args.extend(self.weight.map(|vector| Arg::read("weight", columns(vector))));
        args.extend(self.bias.map(|vector| Arg::read("bias", columns(vector))));
        args.push(Arg::write("y", rows(self.y_layout, self.y)));
        args.extend(self.sum.map(|layout| Arg::write("sum", rows(layout, self.x))));
        args.extend(self.stats.map(|at| Arg::write("stats", stats(at))));
        args
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        match name {
            "x" => (0..self.rows)
                .flat_map(|row| {
                    let (spread, shift) = [(1.0, 0.0), (4.0, 30.0), (1.0, -200.0), (40.0, 0.0), (0.01, 3.0)][row % 5];
                    let values = random.outliers(self.cols);
                    values.into_iter().map(move |v| shift + spread * v)
                })
                .collect(),
            "weight" => random.outliers(len).into_iter().map(|v| 1.0 + 0.5 * v).collect(),
            _ => random.outliers(len),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        bound.with(
            Buffers::new(bound.get("x"), bound.get("y")),
            [
                ("residual", Buffers::residual),
                ("sum", Buffers::sum),
                ("weight", Buffers::weight),
                ("bias", Buffers::bias),
                ("stats", Buffers::stats),
                ("scratch", Buffers::scratch),
            ],
        )
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let inputs = Inputs {
            x: &values["x"],
            residual: values.get("residual").map(Vec::as_slice),
            weight: values.get("weight").map(Vec::as_slice),
            bias: values.get("bias").map(Vec::as_slice),
        };
        let (oracle, low) = (reference::<f64>(self, &inputs), reference::<f32>(self, &inputs));
        let Problem { cols, x, y, .. } = *self;
        let mut rules = vec![("y", Rule::Rows { cols, dtype: y, oracle: oracle.y, low: low.y, mag: oracle.mag })];
        if self.sum.is_some() {
            let (oracle, low, mag) = (oracle.sum, low.sum, oracle.sum_mag);
            rules.push(("sum", Rule::Rows { cols, dtype: x, oracle, low, mag }));
        }
        if self.stats.is_some() {
            let all = |mean: Vec<f64>, rstd: &[f64]| match self.kind {
                Kind::Layer => [&mean, rstd].concat(),
                Kind::Rms => rstd.to_vec(),
            };
            let mag = all(oracle.mean_mag, &oracle.rstd);
            let (oracle, low) = (all(oracle.mean, &oracle.rstd), all(low.mean, &low.rstd));
            rules.push(("stats", Rule::Rows { cols: 1, dtype: Dtype::F32, oracle, low, mag }));
        }
        rules
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let vector = |vector: Vector| Vector { offset: vector.offset % 8, ..vector };
        let small = |most: usize, cols: usize| {
            let (rows, dims) = small::rows(self.rows, self.dims, most);
            let (sizes, cols) = (split_rows(rows, dims), small::like(self.cols, cols));
            let [x_layout, y_layout, residual_layout] =
                [self.x_layout, self.y_layout, self.residual_layout].map(|layout| small::laid(layout, sizes, cols));
            Problem {
                rows,
                cols,
                dims,
                x_layout,
                y_layout,
                residual_layout,
                sum: self.sum.map(|layout| small::laid(layout, sizes, cols)),
                weight: self.weight.map(vector),
                bias: self.bias.map(vector),
                stats: self.stats.map(|at| at % 8),
                ..*self
            }
        };
        small::few(
            [small(11, 40), small(11, 250), small(11, 1200), small(2, 66_000), small(70_000, 8)]
                .map(|problem| (problem.rows * problem.cols, problem)),
        )
    }
}
