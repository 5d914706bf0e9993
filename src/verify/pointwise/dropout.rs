//! How a call of dropout is made and judged.

use super::{Area, rows, smaller};
use crate::Layout;
use crate::dropout::{Buffers, Problem};
use crate::reference::dropout::reference;
use crate::sample::Step;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small;

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let rows = |layout, dtype| Rows::new(layout, self.sizes(), self.cols, dtype);
        let mut args = vec![Arg::read("x", rows(self.x_layout, self.x))];
        args.extend(self.residual.map(|dtype| Arg::read("residual", rows(self.residual_layout, dtype))));
        if let Step::Buffer(at) = self.offset {
            args.push(Arg::read("offset", Rows::flat(at, 1, Number::U32)));
        }
        args.push(Arg::write("y", rows(self.y_layout, self.y)));
        args
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        if name == "offset" { vec![random.below(1 << 20) as f64] } else { rows(len, self.cols, random) }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("x"), bound.get("y"));
        bound.with(buffers, [("residual", Buffers::residual), ("offset", Buffers::offset)])
    }

    fn flushed(&self) -> Option<Problem> {
        self.p.is_subnormal().then_some(Problem { p: 0.0, ..*self })
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let (x, residual) = (&values["x"], values.get("residual").map(Vec::as_slice));
        let offset = match self.offset {
            Step::At(offset) => offset,
            Step::Buffer(_) => values["offset"][0] as u32,
        };
        let oracle = reference::<f64>(self, x, residual, offset);
        let low = reference::<f32>(self, x, residual, offset).y;
        vec![("y", Rule::Rows { cols: self.cols, dtype: self.y, oracle: oracle.y, low, mag: oracle.mag })]
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let offset = if let Step::Buffer(at) = self.offset { Step::Buffer(at % 8) } else { self.offset };
        let one = self.in_a_row();
        let layouts = [self.x_layout, self.residual_layout, self.y_layout];
        let own = Area { rows: self.rows, cols: self.cols, dims: self.dims };
        let small = |most: usize, cols: usize, p: f32| {
            let problem = |own: Area, [x_layout, residual_layout, y_layout]: [Layout<3>; 3]| {
                let Area { rows, cols, dims } = own;
                let first = self.first % 8;
                Problem { rows, cols, dims, p, offset, first, x_layout, residual_layout, y_layout, ..*self }
            };
            let found = smaller(own, layouts, one, [most, cols], problem, Problem::in_a_row);
            (found.rows * found.cols, found)
        };
        // A parameter, with which nothing may be told of x.
        let p = if self.p < 0.9 { self.p } else { 0.5 };
        small::few([small(21, 40, p), small(3, 1100, 0.5), small(2, 9000, p), small(130, 9, 0.25)])
    }
}
