//! How a call of group_norm_backward is made and judged.

use super::group_norm::{smaller, spread};
use crate::group_norm::{self, Running, Statistics};
use crate::group_norm_backward::{Buffers, Problem};
use crate::norm::Vector;
use crate::reference::group_norm as forward;
use crate::reference::group_norm_backward::{Inputs, reference};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
use crate::verify::rule::on_top;
use crate::verify::small::{self, laid};
use crate::{Dtype, Layout};

/// The statistics of x, `[3, sets]`.
pub fn stats_of(of: &group_norm::Problem, x: &[f64]) -> Vec<f64> {
    let own = group_norm::Problem { statistics: Statistics::Own, ..*of };
    let out = forward::reference::<f64>(&own, &forward::Inputs { x, ..forward::Inputs::default() });
    let rounded: Vec<f64> = out.mean.iter().map(|&mean| Dtype::F32.round(mean)).collect();
    let lost = out.mean.iter().zip(&rounded).map(|(mean, rounded)| mean - rounded).collect();
    [rounded, out.rstd, lost].concat()
}

/// Small calls, by pictures, channels (groups, those of one, all), places, and whether sums are added, which is a parameter.
pub(super) fn calls<P: Clone + PartialEq>(
    add: bool,
    small: impl Fn(usize, [usize; 3], usize, bool) -> (usize, P),
) -> Vec<Telling<P>> {
    small::few([
        small(3, [2, 9, 33], 40, add),
        small(2, [3, 3, 9], 700, !add),
        small(2, [2, 17, 250], 9, add),
        small(1, [2, 5, 9], 9000, add),
        small(2, [70, 3, 40], 3, !add),
    ])
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let of = &self.forward;
        let (sizes, cols) = of.sizes();
        let rows = |layout, dtype: Dtype| Rows::new(layout, sizes, cols, dtype);
        let channels = |at, dtype: Dtype| Rows::flat(at, of.channels, dtype);
        let mut args = vec![Arg::read("x", rows(of.x_layout, of.x))];
        args.extend(self.weight().map(|vector| Arg::read("weight", channels(vector.offset, vector.dtype))));
        args.extend(self.bias().map(|vector| Arg::read("bias", channels(vector.offset, vector.dtype))));
        if let Statistics::Given(Running { mean, variance }) = of.statistics {
            args.push(Arg::read("running_mean", channels(mean, Dtype::F32)));
            args.push(Arg::read("running_variance", channels(variance, Dtype::F32)));
        }
        let stats = |at| Rows::new(Layout::<1>::at(at), [3], of.sets(), Dtype::F32);
        args.extend(of.stats.map(|at| Arg::read("stats", stats(at))));
        args.push(Arg::read("dy", rows(of.y_layout, of.y)));
        args.extend(self.dx.map(|dtype| Arg::write("dx", rows(self.dx_layout, dtype))));
        for (name, at) in [("dweight", self.dweight), ("dbias", self.dbias)] {
            let sums = |at| channels(at, Dtype::F32);
            let arg = |at| if self.add { Arg::update(name, sums(at)) } else { Arg::write(name, sums(at)) };
            args.extend(at.map(arg));
        }
        args
    }

    fn fill(&self, name: &str, len: usize, before: &Values, random: &mut Random) -> Vec<f64> {
        let of = &self.forward;
        match name {
            "stats" => stats_of(of, &before["x"]),
            "x" => spread(of.order, of.channels, of.size[0] * of.size[1], len, random),
            "weight" => random.outliers(len).into_iter().map(|v| 1.0 + 0.5 * v).collect(),
            "running_variance" => random.outliers(len).into_iter().map(|v| 0.1 + v * v).collect(),
            _ => random.outliers(len),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        bound.with(
            Buffers::new(bound.get("x"), bound.get("dy")),
            [
                ("weight", Buffers::weight),
                ("bias", Buffers::bias),
                ("stats", Buffers::stats),
                ("running_mean", Buffers::running_mean),
                ("running_variance", Buffers::running_variance),
                ("dx", Buffers::dx),
                ("dweight", Buffers::dweight),
                ("dbias", Buffers::dbias),
                ("scratch", Buffers::scratch),
            ],
        )
    }

    fn flushed(&self) -> Option<Problem> {
        let flushed = Problem { forward: group_norm::Problem { slope: 0.0, ..self.forward }, ..*self };
        self.forward.slope.is_subnormal().then_some(flushed)
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let find = |name| values.get(name).map(Vec::as_slice);
        let inputs = Inputs {
            x: &values["x"],
            dy: &values["dy"],
            weight: find("weight"),
            bias: find("bias"),
            stats: find("stats"),
            running: find("running_mean").zip(find("running_variance")).map(|(mean, variance)| [mean, variance]),
        };
        let (mut oracle, mut low) = (reference::<f64>(self, &inputs), reference::<f32>(self, &inputs));
        let before = |name| find(name).filter(|_| self.add);
        let [dweight_mag, dbias_mag] = [&mut oracle.dweight_mag, &mut oracle.dbias_mag].map(std::slice::from_mut);
        on_top(before("dweight"), &mut oracle.dweight, &mut low.dweight, dweight_mag);
        on_top(before("dbias"), &mut oracle.dbias, &mut low.dbias, dbias_mag);
        let rule = |cols, dtype, oracle, low, mag| Rule::Rows { cols, dtype, oracle, low, mag };
        let (cols, channels) = (self.forward.sizes().1, self.forward.channels);
        let mut rules = Vec::new();
        rules.extend(self.dx.map(|dtype| ("dx", rule(cols, dtype, oracle.dx, low.dx, oracle.mag))));
        let sums = |oracle, low, mag| rule(channels, Dtype::F32, oracle, low, vec![mag]);
        rules.extend(self.dweight.map(|_| ("dweight", sums(oracle.dweight, low.dweight, oracle.dweight_mag))));
        rules.extend(self.dbias.map(|_| ("dbias", sums(oracle.dbias, low.dbias, oracle.dbias_mag))));
        rules
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let merged = self.merged();
        let of = merged.forward;
        let vector = |vector: Vector| Vector { offset: vector.offset % 8, ..vector };
        let statistics = match of.statistics {
            Statistics::Given(Running { mean, variance }) => {
                Statistics::Given(Running { mean: mean % 8, variance: variance % 8 })
            }
            other => other,
        };
        let small = |batch: usize, channels, places, add: bool| {
            let batch = of.batch.min(batch);
            let (over, channels, size) = smaller(of.over, of.channels, of.size, channels, places);
            let forward = group_norm::Problem { batch, channels, size, over, statistics, ..of };
            let (sizes, cols) = forward.sizes();
            let forward = group_norm::Problem {
                x_layout: laid(of.x_layout, sizes, cols),
                y_layout: laid(of.y_layout, sizes, cols),
                weight: of.weight.map(vector),
                bias: of.bias.map(vector),
                stats: of.stats.map(|at| at % 8),
                ..forward
            };
            let own = Problem {
                forward,
                dx_layout: laid(merged.dx_layout, sizes, cols),
                dweight: self.dweight.map(|at| at % 8),
                dbias: self.dbias.map(|at| at % 8),
                add,
                ..*self
            };
            (batch * channels * size[0] * size[1], own)
        };
        calls(self.add, small)
    }
}
