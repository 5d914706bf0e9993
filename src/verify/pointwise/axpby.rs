//! How a call of axpby is made and judged.

use super::{Area, rows, smaller};
use crate::axpby::{Buffers, Factor, Problem};
use crate::reference::axpby::reference;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
use crate::verify::small;
use crate::{Dtype, Layout};

impl Problem {
    /// Elements of `factors`, if any is read.
    fn factors(&self) -> Option<usize> {
        let at = |factor| if let Factor::Buffer(at) = factor { Some(at + 1) } else { None };
        at(self.a).max(at(self.b).filter(|_| self.z.is_some()))
    }
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let rows = |layout, dtype| Rows::new(layout, self.sizes(), self.cols, dtype);
        let mut args = vec![Arg::read("x", rows(self.x_layout, self.x))];
        args.extend(self.z.map(|dtype| Arg::read("z", rows(self.z_layout, dtype))));
        args.extend(self.factors().map(|len| Arg::read("factors", Rows::flat(0, len, Dtype::F32))));
        args.push(Arg::write("y", rows(self.y_layout, self.y)));
        args
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        if name == "factors" { random.outliers(len) } else { rows(len, self.cols, random) }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("x"), bound.get("y"));
        bound.with(buffers, [("z", Buffers::z), ("factors", Buffers::factors)])
    }

    fn flushed(&self) -> Option<Problem> {
        let flushed = |factor| match factor {
            Factor::Value(value) if value.is_subnormal() => Factor::Value(0.0),
            factor => factor,
        };
        let problem = Problem { a: flushed(self.a), b: flushed(self.b), ..*self };
        (problem != *self).then_some(problem)
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let (x, z) = (&values["x"], values.get("z").map(Vec::as_slice));
        let factors = values.get("factors").map_or(&[][..], Vec::as_slice);
        let oracle = reference::<f64>(self, x, z, factors);
        let low = reference::<f32>(self, x, z, factors).y;
        vec![("y", Rule::Rows { cols: self.cols, dtype: self.y, oracle: oracle.y, low, mag: oracle.mag })]
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let factor = |factor| if let Factor::Buffer(at) = factor { Factor::Buffer(at % 8) } else { factor };
        let one = self.in_a_row();
        let layouts = [self.x_layout, self.z_layout, self.y_layout];
        let own = Area { rows: self.rows, cols: self.cols, dims: self.dims };
        let small = |most: usize, cols: usize| {
            let problem = |own: Area, [x_layout, z_layout, y_layout]: [Layout<3>; 3]| {
                let Area { rows, cols, dims } = own;
                let (a, b) = (factor(self.a), factor(self.b));
                Problem { rows, cols, dims, x_layout, z_layout, y_layout, a, b, ..*self }
            };
            let found = smaller(own, layouts, one, [most, cols], problem, Problem::in_a_row);
            (found.rows * found.cols, found)
        };
        small::few([small(21, 40), small(3, 1100), small(2, 9000), small(130, 9)])
    }
}
