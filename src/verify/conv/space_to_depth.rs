//! How a call of space_to_depth is made and judged.

use crate::reference::space_to_depth::reference;
use crate::space_to_depth::{Buffers, Packed, Problem};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small::{self, laid, like};

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let ((x, x_cols), (y, y_cols)) = (self.x_sizes(), self.y_sizes());
        let mut args = vec![Arg::read("x", Rows::new(self.x_layout, x, x_cols, self.x))];
        args.extend(self.packed.map(|Packed { pictures, grids }| {
            Arg::read("grids", Rows::flat(grids, pictures.saturating_mul(2), Number::U32))
        }));
        args.push(Arg::write("y", Rows::new(self.y_layout, y, y_cols, self.x)));
        args
    }

    /// Grids of whole blocks, until no more fit; then one in four that is none, or one that is too large.
    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        if name != "grids" {
            return random.outliers(len);
        }
        let mut blocks = self.deep()[1];
        let mut grids = Vec::new();
        for _ in 0..len / 2 {
            let across = 1 + random.below(4.min(blocks.max(1)));
            let down = 1 + random.below((blocks / across).min(5));
            blocks = blocks.saturating_sub(across * down);
            let odd = usize::from(random.below(4) == 0 && blocks < 8);
            grids.extend([(down * self.block[0] + odd) as f64, (across * self.block[1]) as f64]);
        }
        grids
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        bound.with(Buffers::new(bound.get("x"), bound.get("y")), [("grids", Buffers::grids)])
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let grids: Option<Vec<u32>> = values.get("grids").map(|all| all.iter().map(|&n| n as u32).collect());
        vec![("y", Rule::Exact(reference(self, &values["x"], grids.as_deref())))]
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let of = |batch: usize, channels: usize, places: [usize; 2]| {
            let (deep, block) = (self.deep(), self.block.map(|n| like(n, 3)));
            let packed =
                self.packed.map(|Packed { pictures, grids }| Packed { pictures: pictures.min(5), grids: grids % 8 });
            let size = match packed {
                Some(_) => [self.size[0], like(deep[1], places[0] * places[1]) * block[0] * block[1]],
                None => [0, 1].map(|axis| like(deep[axis], places[axis]) * block[axis]),
            };
            let (batch, channels) = (self.batch.min(batch), like(self.channels, channels));
            let mut own = Problem { batch, channels, size, block, packed, ..*self };
            let ((x, x_cols), (y, y_cols)) = (own.x_sizes(), own.y_sizes());
            own.x_layout = laid(self.x_layout, x, x_cols);
            own.y_layout = laid(self.y_layout, y, y_cols);
            (batch * channels * size[0] * size[1], own)
        };
        small::few([of(2, 9, [5, 9]), of(3, 33, [2, 9]), of(1, 2, [3, 2])])
    }
}
