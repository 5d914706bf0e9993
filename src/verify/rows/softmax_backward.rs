//! How a call of softmax_backward is made and judged.

use crate::reference;
use crate::softmax_backward::{Buffers, Problem};
use crate::verify::call::{Arg, Bound, Describe, Rule, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
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
}
