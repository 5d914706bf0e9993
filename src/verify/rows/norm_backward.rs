//! How a call of norm_backward is made and judged.

use crate::Dtype;
use crate::layout::split_rows;
use crate::norm::Vector;
use crate::norm_backward::{Buffers, Problem};
use crate::reference::norm_backward::reference;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
use crate::verify::rule::on_top;
use crate::verify::small;

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let rows = |layout, dtype: Dtype| Rows::new(layout, self.sizes(), self.cols, dtype);
        let columns = |at, dtype: Dtype| Rows::flat(at, self.cols, dtype);
        let mut args = vec![Arg::read("x", rows(self.x_layout, self.x))];
        args.extend(self.weight.map(|vector| Arg::read("weight", columns(vector.offset, vector.dtype))));
        args.push(Arg::read("dy", rows(self.dy_layout, self.dy)));
        args.extend(self.dx.map(|dtype| Arg::write("dx", rows(self.dx_layout, dtype))));
        for (name, at) in [("dweight", self.dweight), ("dbias", self.dbias)] {
            let sums = |at| columns(at, Dtype::F32);
            let arg = |at| if self.add { Arg::update(name, sums(at)) } else { Arg::write(name, sums(at)) };
            args.extend(at.map(arg));
        }
        args
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        let rows = |table: [(f64, f64); 4], random: &mut Random| {
            let row = |row: usize| {
                let (spread, shift) = table[row % 4];
                let values = random.outliers(self.cols);
                values.into_iter().map(move |v| shift + spread * v)
            };
            (0..self.rows).flat_map(row).collect()
        };
        match name {
            "x" => rows([(1.0, 0.0), (4.0, 30.0), (40.0, 0.0), (0.01, 3.0)], random),
            "dy" => rows([(1.0, 0.3), (0.01, 3.0), (1.0, 0.0), (3.0, -4.0)], random),
            _ => random.outliers(len).into_iter().map(|v| 1.0 + 0.5 * v).collect(),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        bound.with(
            Buffers::new(bound.get("x"), bound.get("dy")),
            [
                ("weight", Buffers::weight),
                ("dx", Buffers::dx),
                ("dweight", Buffers::dweight),
                ("dbias", Buffers::dbias),
                ("scratch", Buffers::scratch),
            ],
        )
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let weight = values.get("weight").map(Vec::as_slice);
        let mut oracle = reference::<f64>(self, &values["x"], weight, &values["dy"]);
        let mut low = reference::<f32>(self, &values["x"], weight, &values["dy"]);
        let before = |name| values.get(name).filter(|_| self.add).map(Vec::as_slice);
        let [dweight_mag, dbias_mag] = [&mut oracle.dweight_mag, &mut oracle.dbias_mag].map(std::slice::from_mut);
        on_top(before("dweight"), &mut oracle.dweight, &mut low.dweight, dweight_mag);
        on_top(before("dbias"), &mut oracle.dbias, &mut low.dbias, dbias_mag);
        let rule = |dtype, oracle, low, mag| Rule::Rows { cols: self.cols, dtype, oracle, low, mag };
        let mut rules = Vec::new();
        if let Some(dtype) = self.dx {
            rules.push(("dx", rule(dtype, oracle.dx, low.dx, oracle.mag)));
        }
        if self.dweight.is_some() {
            rules.push(("dweight", rule(Dtype::F32, oracle.dweight, low.dweight, vec![oracle.dweight_mag])));
        }
        if self.dbias.is_some() {
            rules.push(("dbias", rule(Dtype::F32, oracle.dbias, low.dbias, vec![oracle.dbias_mag])));
        }
        rules
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |most: usize, cols: usize, add: bool| {
            let (rows, dims) = small::rows(self.rows, self.dims, most);
            let (sizes, cols) = (split_rows(rows, dims), small::like(self.cols, cols));
            let [x_layout, dy_layout, dx_layout] =
                [self.x_layout, self.dy_layout, self.dx_layout].map(|layout| small::laid(layout, sizes, cols));
            Problem {
                rows,
                cols,
                dims,
                x_layout,
                dy_layout,
                dx_layout,
                weight: self.weight.map(|vector| Vector { offset: vector.offset % 8, ..vector }),
                dweight: self.dweight.map(|at| at % 8),
                dbias: self.dbias.map(|at| at % 8),
                add,
                ..*self
            }
        };
        small::few(
            [(11, 40), (70, 300), (11, 250), (11, 1200), (2, 66_000)]
                // Whether sums are added is a parameter.
                .map(|(most, cols)| small(most, cols, self.add ^ (most == 70)))
                .map(|problem| (problem.rows * problem.cols, problem)),
        )
    }
}
