//! How a call of softmax is made and judged.

use crate::Dtype;
use crate::layout::split_rows;
use crate::reference::softmax::{Output, reference};
use crate::softmax::{Buffers, Mask, Problem};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::mask::Masked;
use crate::verify::random::Random;
use crate::verify::small;

impl Masked for Problem {
    fn mask(&self) -> Option<Mask> {
        self.mask
    }

    fn scores(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    fn mask_at(&self, row: usize, col: usize) -> usize {
        self.mask_index(row, col)
    }
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let mut args = vec![Arg::read("x", Rows::new(self.x_layout, self.sizes(), self.cols, self.x))];
        args.extend(self.mask_arg());
        args.push(Arg::write("y", Rows::new(self.y_layout, self.sizes(), self.cols, self.y)));
        args.extend(self.lse.map(|offset| Arg::write("lse", Rows::flat(offset, self.rows, Dtype::F32))));
        args
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        match name {
            "mask" => self.fill_mask(len, random),
            // Rows of negative values, of large ones, with an offset each; few rows are of other kinds by their length. The
            // last column of some decides.
            _ => (0..self.rows)
                .flat_map(|row| {
                    let kinds = [(1.0, 0.0), (4.0, 30.0), (1.0, -200.0), (40.0, 0.0), (0.01, 3.0)];
                    let (spread, shift) = kinds[(row + self.cols) % 5];
                    let mut values = random.outliers(self.cols);
                    if (row + self.cols) % 3 == 1 {
                        values.iter_mut().last().into_iter().for_each(|last| *last = 12.0);
                    }
                    values.into_iter().map(move |v| shift + spread * v)
                })
                .collect(),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("x"), bound.get("y"));
        bound.with(buffers, [("mask", Buffers::mask), ("lse", Buffers::lse), ("scratch", Buffers::scratch)])
    }

    fn flushed(&self) -> Option<Problem> {
        self.scale.is_subnormal().then_some(Problem { scale: 0.0, ..*self })
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let bias = values.get("mask").map(|mask| self.bias(mask));
        let oracle: Output = reference::<f64>(self, &values["x"], bias.as_deref());
        let low = reference::<f32>(self, &values["x"], bias.as_deref());
        let Problem { cols, y: dtype, .. } = *self;
        let mut rules = vec![("y", Rule::Rows { cols, dtype, oracle: oracle.y, low: low.y, mag: oracle.mag })];
        if self.lse.is_some() {
            let (oracle, low, mag) = (oracle.lse, low.lse, oracle.lse_mag);
            rules.push(("lse", Rule::Rows { cols: 1, dtype: Dtype::F32, oracle, low, mag }));
        }
        rules
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |most: usize, cols: usize| {
            let (rows, dims) = small::rows(self.rows, self.dims, most);
            let (sizes, cols) = (split_rows(rows, dims), small::like(self.cols, cols));
            let x_layout = small::laid(self.x_layout, sizes, cols);
            let y_layout = small::laid(self.y_layout, sizes, cols);
            let mask = self.mask.map(|mask| small::mask(mask, sizes, cols));
            let lse = self.lse.map(|at| at % 8);
            Problem { rows, cols, dims, x_layout, y_layout, mask, lse, ..*self }
        };
        small::few(
            [small(11, 40), small(11, 250), small(11, 1200), small(5, 66_000), small(70_000, 8)]
                .map(|problem| (problem.rows * problem.cols, problem)),
        )
    }
}
