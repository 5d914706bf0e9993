//! How a call of softmax_backward is made and judged.

use crate::layout::split_rows;
use crate::reference;
use crate::softmax_backward::{Buffers, Problem};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
use crate::verify::small;
use crate::{Dtype, softmax};

/// The `y` of a hidden column.
pub fn hidden(log: bool) -> f64 {
    if log { f64::NEG_INFINITY } else { 0.0 }
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let rows = |layout, dtype: Dtype| Rows::new(layout, self.sizes(), self.cols, dtype);
        vec![
            Arg::read("y", rows(self.y_layout, self.y)),
            Arg::read("dy", rows(self.dy_layout, self.dy)),
            Arg::write("dx", rows(self.dx_layout, self.dx)),
        ]
    }

    /// `y` by the oracle of softmax: a third is hidden, and each seventh row whole. `dy` with an offset per row, and NaN
    /// where `y` hides.
    fn fill(&self, name: &str, len: usize, before: &Values, random: &mut Random) -> Vec<f64> {
        let Problem { rows, cols, dims, log, causal, .. } = *self;
        if name == "y" {
            let mut x = random.outliers(len);
            x.iter_mut().enumerate().for_each(|(i, x)| *x *= [1.0, 4.0][i / cols % 2]);
            let hidden = |i| i / cols % 7 == 6 || random.below(3) == 0;
            let bias: Vec<f64> =
                (0..len).map(hidden).map(|hidden| if hidden { f64::NEG_INFINITY } else { 0.0 }).collect();
            let forward = softmax::Problem { rows, cols, dims, log, causal, ..Default::default() };
            return reference::softmax::reference::<f64>(&forward, &x, Some(&bias)).y;
        }
        let mut dy = random.outliers(len);
        for (i, (dy, y)) in dy.iter_mut().zip(&before["y"]).enumerate() {
            let (spread, shift) = [(1.0, 0.0), (0.01, 3.0), (100.0, 0.0), (3.0, -40.0)][i / cols % 4];
            *dy = if *y == hidden(log) { f64::NAN } else { shift + spread * *dy };
        }
        dy
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("y"), bound.get("dy"), bound.get("dx"));
        bound.with(buffers, [("scratch", Buffers::scratch)])
    }

    fn flushed(&self) -> Option<Problem> {
        self.scale.is_subnormal().then_some(Problem { scale: 0.0, ..*self })
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let oracle = reference::softmax_backward::reference::<f64>(self, &values["y"], &values["dy"]);
        let low = reference::softmax_backward::reference::<f32>(self, &values["y"], &values["dy"]).dx;
        let Problem { cols, dx: dtype, .. } = *self;
        vec![("dx", Rule::Rows { cols, dtype, oracle: oracle.dx, low, mag: oracle.mag })]
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |most: usize, cols: usize| {
            let (rows, dims) = small::rows(self.rows, self.dims, most);
            let (sizes, cols) = (split_rows(rows, dims), small::like(self.cols, cols));
            let [y_layout, dy_layout, dx_layout] =
                [self.y_layout, self.dy_layout, self.dx_layout].map(|layout| small::laid(layout, sizes, cols));
            Problem { rows, cols, dims, y_layout, dy_layout, dx_layout, ..*self }
        };
        small::few(
            [small(11, 40), small(11, 250), small(11, 1200), small(5, 66_000), small(70_000, 8)]
                .map(|problem| (problem.rows * problem.cols, problem)),
        )
    }
}
