//! How a call of snake_backward is made and judged.

use super::alphas;
use super::group_norm::smaller;
use super::group_norm_backward::calls;
use crate::Dtype;
use crate::group_norm::Over;
use crate::reference::conv::snake_backward::reference;
use crate::snake_backward::{Buffers, Problem};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
use crate::verify::rule::on_top;
use crate::verify::small::laid;

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let (sizes, cols) = self.sizes();
        let rows = |layout, dtype: Dtype| Rows::new(layout, sizes, cols, dtype);
        let channels = |at| Rows::flat(at, self.channels, Dtype::F32);
        let mut args = vec![
            Arg::read("x", rows(self.x_layout, self.x)),
            Arg::read("alpha", channels(self.alpha)),
            Arg::read("dy", rows(self.dy_layout, self.dy)),
        ];
        args.extend(self.dx.map(|dtype| Arg::write("dx", rows(self.dx_layout, dtype))));
        for (name, at) in [("dalpha", self.dalpha), ("dbias", self.dbias)] {
            let arg = |at| if self.add { Arg::update(name, channels(at)) } else { Arg::write(name, channels(at)) };
            args.extend(at.map(arg));
        }
        args
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        if name == "alpha" { alphas(len, random) } else { random.outliers(len) }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        bound.with(
            Buffers::new(bound.get("x"), bound.get("dy"), bound.get("alpha")),
            [
                ("dx", Buffers::dx),
                ("dalpha", Buffers::dalpha),
                ("dbias", Buffers::dbias),
                ("scratch", Buffers::scratch),
            ],
        )
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let [x, dy, alpha] = ["x", "dy", "alpha"].map(|name| &values[name][..]);
        let (mut oracle, mut low) = (reference::<f64>(self, x, dy, alpha), reference::<f32>(self, x, dy, alpha));
        let before = |name| values.get(name).map(Vec::as_slice).filter(|_| self.add);
        let [dalpha_mag, dbias_mag] = [&mut oracle.dalpha_mag, &mut oracle.dbias_mag].map(std::slice::from_mut);
        on_top(before("dalpha"), &mut oracle.dalpha, &mut low.dalpha, dalpha_mag);
        on_top(before("dbias"), &mut oracle.dbias, &mut low.dbias, dbias_mag);
        let rule = |cols, dtype, oracle, low, mag| Rule::Rows { cols, dtype, oracle, low, mag };
        let mut rules = Vec::new();
        rules.extend(self.dx.map(|dtype| ("dx", rule(self.sizes().1, dtype, oracle.dx, low.dx, oracle.mag))));
        let sums = |oracle, low, mag| rule(self.channels, Dtype::F32, oracle, low, vec![mag]);
        rules.extend(self.dalpha.map(|_| ("dalpha", sums(oracle.dalpha, low.dalpha, oracle.dalpha_mag))));
        rules.extend(self.dbias.map(|_| ("dbias", sums(oracle.dbias, low.dbias, oracle.dbias_mag))));
        rules
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let merged = self.merged();
        let small = |batch: usize, channels, places, add: bool| {
            let batch = merged.batch.min(batch);
            let (_, channels, size) = smaller(Over::Batch, merged.channels, merged.size, channels, places);
            let own = Problem { batch, channels, size, ..merged };
            let (sizes, cols) = own.sizes();
            let own = Problem {
                x_layout: laid(merged.x_layout, sizes, cols),
                dy_layout: laid(merged.dy_layout, sizes, cols),
                dx_layout: laid(merged.dx_layout, sizes, cols),
                alpha: self.alpha % 8,
                dalpha: self.dalpha.map(|at| at % 8),
                dbias: self.dbias.map(|at| at % 8),
                add,
                ..own
            };
            (batch * channels * size[0] * size[1], own)
        };
        calls(self.add, small)
    }
}
