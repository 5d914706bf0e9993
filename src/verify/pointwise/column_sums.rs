//! How a call of column_sums is made and judged.

use super::rows;
use crate::Dtype;
use crate::column_sums::{Buffers, Problem};
use crate::layout::split_rows;
use crate::reference::column_sums::reference;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
use crate::verify::small::{self, laid, like};

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let y = Rows::flat(self.y, self.cols, Dtype::F32);
        let x = Arg::read("x", Rows::new(self.x_layout, self.sizes(), self.cols, self.x));
        vec![x, if self.add { Arg::update("y", y) } else { Arg::write("y", y) }]
    }

    fn fill(&self, _: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        rows(len, self.cols, random)
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        bound.with(Buffers::new(bound.get("x"), bound.get("y")), [("scratch", Buffers::scratch)])
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let before = values.get("y").filter(|_| self.add).map(Vec::as_slice);
        let oracle = reference::<f64>(self, &values["x"], before);
        let low = reference::<f32>(self, &values["x"], before).y;
        let mag = vec![oracle.mag];
        vec![("y", Rule::Rows { cols: self.cols, dtype: Dtype::F32, oracle: oracle.y, low, mag })]
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |most: usize, cols: usize, add: bool| {
            let (rows, dims) = small::rows(self.rows, self.dims, most);
            let (sizes, cols) = (split_rows(rows, dims), like(self.cols, cols));
            let x_layout = laid(self.x_layout, sizes, cols);
            (rows * cols, Problem { rows, cols, dims, x_layout, y: self.y % 8, add, ..*self })
        };
        // Whether sums are added is a parameter.
        small::few([small(70, 40, self.add), small(3, 1100, !self.add), small(9000, 9, self.add)])
    }
}
