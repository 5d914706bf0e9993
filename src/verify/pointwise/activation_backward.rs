//! How a call of activation_backward is made and judged.

use super::activation::inputs;
use super::{Area, rows, smaller, smaller_columns};
use crate::activation_backward::{Buffers, Problem};
use crate::norm::Vector;
use crate::reference::activation_backward::reference;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
use crate::verify::small;
use crate::{Dtype, Layout};

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let rows = |layout, dtype: Dtype| Rows::new(layout, self.sizes(), self.cols, dtype);
        let column = |bias: Vector| Rows::flat(bias.offset, self.cols, bias.dtype);
        let mut args = vec![Arg::read("x", rows(self.x_layout, self.x))];
        args.extend(self.up.map(|dtype| Arg::read("up", rows(self.up_layout, dtype))));
        args.extend(self.bias.map(|bias| Arg::read("bias", column(bias))));
        args.extend(self.up_bias.map(|bias| Arg::read("up_bias", column(bias))));
        args.push(Arg::read("dy", rows(self.dy_layout, self.dy)));
        args.push(Arg::write("dx", rows(self.dx_layout, self.dx)));
        args.extend(self.up.map(|_| Arg::write("dup", rows(self.dup_layout, self.dup))));
        for (name, at) in [("dbias", self.dbias), ("dup_bias", self.dup_bias)] {
            let sums = |at| Rows::flat(at, self.cols, Dtype::F32);
            let arg = |at| if self.add { Arg::update(name, sums(at)) } else { Arg::write(name, sums(at)) };
            args.extend(at.map(arg));
        }
        args
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        if name.ends_with("bias") { random.outliers(len) } else { rows(len, self.cols, random) }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        bound.with(
            Buffers::new(bound.get("x"), bound.get("dy"), bound.get("dx")),
            [
                ("up", Buffers::up),
                ("dup", Buffers::dup),
                ("bias", Buffers::bias),
                ("up_bias", Buffers::up_bias),
                ("dbias", Buffers::dbias),
                ("dup_bias", Buffers::dup_bias),
                ("scratch", Buffers::scratch),
            ],
        )
    }

    fn flushed(&self) -> Option<Problem> {
        self.slope.is_subnormal().then_some(Problem { slope: 0.0, ..*self })
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let before = ["dbias", "dup_bias"].map(|name| values.get(name).filter(|_| self.add).map(Vec::as_slice));
        let oracle = reference::<f64>(self, &inputs(values), &values["dy"], before);
        let low = reference::<f32>(self, &inputs(values), &values["dy"], before);
        let rule = |dtype, oracle, low, mag| Rule::Rows { cols: self.cols, dtype, oracle, low, mag };
        let ([dx_mag, dup_mag], [sum, up_sum], [low_sum, low_up_sum]) = (oracle.mag, oracle.sums, low.sums);
        let [sum_mag, up_sum_mag] = oracle.sums_mag.map(|mag| vec![mag]);
        let mut rules = vec![("dx", rule(self.dx, oracle.dx, low.dx, dx_mag))];
        rules.extend(self.up.map(|_| ("dup", rule(self.dup, oracle.dup, low.dup, dup_mag))));
        rules.extend(self.dbias.map(|_| ("dbias", rule(Dtype::F32, sum, low_sum, sum_mag))));
        rules.extend(self.dup_bias.map(|_| ("dup_bias", rule(Dtype::F32, up_sum, low_up_sum, up_sum_mag))));
        rules
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let bias = |bias: Option<Vector>| bias.map(|bias| Vector { offset: bias.offset % 8, ..bias });
        let one = self.in_a_row();
        let by_columns =
            [self.bias, self.up_bias].iter().any(Option::is_some) || self.dbias.or(self.dup_bias).is_some();
        let layouts = [self.x_layout, self.up_layout, self.dy_layout, self.dup_layout, self.dx_layout];
        let own = Area { rows: self.rows, cols: self.cols, dims: self.dims };
        let small = |most: usize, cols: usize, add: bool| {
            let problem = |own: Area, layouts: [Layout<3>; 5]| {
                let [x_layout, up_layout, dy_layout, dup_layout, dx_layout] = layouts;
                let Area { rows, cols, dims } = own;
                Problem {
                    rows,
                    cols,
                    dims,
                    x_layout,
                    up_layout,
                    dy_layout,
                    dup_layout,
                    dx_layout,
                    bias: bias(self.bias),
                    up_bias: bias(self.up_bias),
                    dbias: self.dbias.map(|at| at % 8),
                    dup_bias: self.dup_bias.map(|at| at % 8),
                    add,
                    ..*self
                }
            };
            let found = match by_columns {
                true => smaller_columns(own, layouts, [most, cols], problem),
                false => smaller(own, layouts, one, [most, cols], problem, Problem::in_a_row),
            };
            (found.rows * found.cols, found)
        };
        // Whether sums are added is a parameter.
        let add = self.add;
        small::few([small(70, 40, add), small(3, 1100, !add), small(2, 9000, add), small(1300, 9, add)])
    }
}
