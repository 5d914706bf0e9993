//! How a call of activation is made and judged.

use super::{Area, rows, smaller, smaller_columns};
use crate::activation::{Buffers, Problem};
use crate::norm::Vector;
use crate::reference::activation::{Inputs, reference};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
use crate::verify::small;
use crate::{Dtype, Layout};

/// The inputs among the values.
pub(super) fn inputs(values: &Values) -> Inputs<'_> {
    let get = |name| values.get(name).map(Vec::as_slice);
    Inputs { x: &values["x"], up: get("up"), bias: get("bias"), up_bias: get("up_bias") }
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let rows = |layout, dtype: Dtype| Rows::new(layout, self.sizes(), self.cols, dtype);
        let column = |bias: Vector| Rows::flat(bias.offset, self.cols, bias.dtype);
        let mut args = vec![Arg::read("x", rows(self.x_layout, self.x))];
        args.extend(self.up.map(|dtype| Arg::read("up", rows(self.up_layout, dtype))));
        args.extend(self.bias.map(|bias| Arg::read("bias", column(bias))));
        args.extend(self.up_bias.map(|bias| Arg::read("up_bias", column(bias))));
        args.push(Arg::write("y", rows(self.y_layout, self.y)));
        args
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        if name.ends_with("bias") { random.outliers(len) } else { rows(len, self.cols, random) }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("x"), bound.get("y"));
        bound.with(buffers, [("up", Buffers::up), ("bias", Buffers::bias), ("up_bias", Buffers::up_bias)])
    }

    fn flushed(&self) -> Option<Problem> {
        self.slope.is_subnormal().then_some(Problem { slope: 0.0, ..*self })
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let oracle = reference::<f64>(self, &inputs(values));
        let low = reference::<f32>(self, &inputs(values)).y;
        vec![("y", Rule::Rows { cols: self.cols, dtype: self.y, oracle: oracle.y, low, mag: oracle.mag })]
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let bias = |bias: Option<Vector>| bias.map(|bias| Vector { offset: bias.offset % 8, ..bias });
        let one = self.in_a_row();
        let layouts = [self.x_layout, self.up_layout, self.y_layout];
        let own = Area { rows: self.rows, cols: self.cols, dims: self.dims };
        let small = |most: usize, cols: usize| {
            let problem = |own: Area, [x_layout, up_layout, y_layout]: [Layout<3>; 3]| {
                let Area { rows, cols, dims } = own;
                let (bias, up_bias) = (bias(self.bias), bias(self.up_bias));
                Problem { rows, cols, dims, bias, up_bias, x_layout, up_layout, y_layout, ..*self }
            };
            let found = match self.bias.or(self.up_bias).is_some() {
                true => smaller_columns(own, layouts, [most, cols], problem),
                false => smaller(own, layouts, one, [most, cols], problem, Problem::in_a_row),
            };
            (found.rows * found.cols, found)
        };
        small::few([small(21, 40), small(3, 1100), small(2, 9000), small(130, 9)])
    }
}
