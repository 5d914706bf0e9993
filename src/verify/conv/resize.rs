//! How a call of resize is made and judged.

use crate::reference::resize::reference;
use crate::resize::{Buffers, Problem, Rule};
use crate::verify::call::{Arg, Bound, Describe, Rule as Judged, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::small::{self, laid, like};

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let ((x, x_cols), (y, y_cols)) = (self.x_sizes(), self.y_sizes());
        let x = Rows::new(self.x_layout, x, x_cols, self.x);
        vec![Arg::read("x", x), Arg::write("y", Rows::new(self.y_layout, y, y_cols, self.y))]
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        bound.with(Buffers::new(bound.get("x"), bound.get("y")), [("scratch", Buffers::scratch)])
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Judged)> {
        let oracle = reference::<f64>(self, &values["x"]);
        let low = reference::<f32>(self, &values["x"]).y;
        vec![("y", Judged::Rows { cols: self.y_sizes().1, dtype: self.y, oracle: oracle.y, low, mag: oracle.mag })]
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let of = |batch: usize, channels: usize, places: [usize; 2]| {
            // Both sizes shrink alike, so that as many weights make a place.
            let (mut size, mut out) = (self.size, self.out);
            for axis in 0..2 {
                let large = size[axis].max(out[axis]);
                if large > places[axis] {
                    let smaller = |n: usize| (n * places[axis]).div_ceil(large);
                    (size[axis], out[axis]) = (smaller(size[axis]), smaller(out[axis]));
                }
            }
            if let Rule::Average(windows) = self.rule {
                out = windows.out(size);
            }
            let mut own =
                Problem { batch: self.batch.min(batch), channels: like(self.channels, channels), size, out, ..*self };
            let ((x, x_cols), (y, y_cols)) = (own.x_sizes(), own.y_sizes());
            own.x_layout = laid(self.x_layout, x, x_cols);
            own.y_layout = laid(self.y_layout, y, y_cols);
            let [from, to] = own.from_to().map(|[height, width]| height * width);
            (own.batch * own.channels * from.max(to), own)
        };
        small::few([of(2, 9, [19, 33]), of(3, 33, [7, 9]), of(1, 9, [120, 50]), of(1, 2, [3, 2])])
    }
}
