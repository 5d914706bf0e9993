//! How a call of group_norm is made and judged.

use crate::conv::Order;
use crate::group_norm::{Buffers, Over, Problem, Running, Statistics};
use crate::norm::Vector;
use crate::reference::group_norm::{Inputs, reference};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
use crate::verify::small::{self, laid, like};
use crate::{Dtype, Layout};

/// Values of `len` elements of which those of a channel have a spread and a shift of their own.
pub fn spread(order: Order, channels: usize, places: usize, len: usize, random: &mut Random) -> Vec<f64> {
    let channel = |i: usize| if order == Order::Nhwc { i % channels } else { i / places.max(1) % channels };
    let values = random.outliers(len).into_iter().enumerate();
    values
        .map(|(i, v)| {
            let (spread, shift) = [(1.0, 0.0), (4.0, 30.0), (1.0, -200.0), (40.0, 0.0), (0.01, 3.0)][channel(i) % 5];
            shift + spread * v
        })
        .collect()
}

/// Groups, channels and places of a small Problem like one of these.
pub fn smaller(
    over: Over,
    channels: usize,
    size: [usize; 2],
    small: [usize; 3],
    places: usize,
) -> (Over, usize, [usize; 2]) {
    let [groups, own, all] = small;
    let (over, channels) = match over {
        Over::Group(have) => {
            let (groups, own) = (have.min(groups), like(channels / have, own));
            (Over::Group(groups), groups * own)
        }
        over => (over, like(channels, all)),
    };
    let height = like(size[0], if size[0] > 1 { 3 } else { 1 });
    (over, channels, [height, like(size[1], places.div_ceil(height))])
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let (sizes, cols) = self.sizes();
        let channels = |at, dtype: Dtype| Rows::flat(at, self.channels, dtype);
        let mut args = vec![Arg::read("x", Rows::new(self.x_layout, sizes, cols, self.x))];
        args.extend(self.weight.map(|vector| Arg::read("weight", channels(vector.offset, vector.dtype))));
        args.extend(self.bias.map(|vector| Arg::read("bias", channels(vector.offset, vector.dtype))));
        if let Some(Running { mean, variance }) = self.statistics.running() {
            let given = matches!(self.statistics, Statistics::Given(_));
            let arg = if given { Arg::read } else { Arg::update };
            args.push(arg("running_mean", channels(mean, Dtype::F32)));
            args.push(arg("running_variance", channels(variance, Dtype::F32)));
        }
        args.push(Arg::write("y", Rows::new(self.y_layout, sizes, cols, self.y)));
        let stats = |at| Rows::new(Layout::<1>::at(at), [3], self.sets(), Dtype::F32);
        args.extend(self.stats.map(|at| Arg::write("stats", stats(at))));
        args
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        match name {
            "x" => spread(self.order, self.channels, self.size[0] * self.size[1], len, random),
            "weight" => random.outliers(len).into_iter().map(|v| 1.0 + 0.5 * v).collect(),
            "running_variance" => random.outliers(len).into_iter().map(|v| 0.1 + v * v).collect(),
            _ => random.outliers(len),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        bound.with(
            Buffers::new(bound.get("x"), bound.get("y")),
            [
                ("weight", Buffers::weight),
                ("bias", Buffers::bias),
                ("stats", Buffers::stats),
                ("running_mean", Buffers::running_mean),
                ("running_variance", Buffers::running_variance),
                ("scratch", Buffers::scratch),
            ],
        )
    }

    fn flushed(&self) -> Option<Problem> {
        self.slope.is_subnormal().then_some(Problem { slope: 0.0, ..*self })
    }

    fn rules(&self, values: &Values, given: &Values) -> Vec<(&'static str, Rule)> {
        let find = |name| values.get(name).map(Vec::as_slice);
        let inputs = Inputs {
            x: &values["x"],
            weight: find("weight"),
            bias: find("bias"),
            running: find("running_mean").zip(find("running_variance")).map(|(mean, variance)| [mean, variance]),
        };
        let (oracle, low) = (reference::<f64>(self, &inputs), reference::<f32>(self, &inputs));
        let f32s = |cols, oracle, low, mag| Rule::Rows { cols, dtype: Dtype::F32, oracle, low, mag };
        let mut rules = Vec::new();
        if self.stats.is_some() {
            // What is lost of a mean follows from how it was rounded.
            let sets = self.sets();
            let rounded = given
                .get("stats")
                .map_or_else(|| oracle.mean.iter().map(|&v| Dtype::F32.round(v)).collect(), |all| all[..sets].to_vec());
            let lost =
                |means: &[f64]| -> Vec<f64> { means.iter().zip(&rounded).map(|(mean, have)| mean - have).collect() };
            let all = [oracle.mean.clone(), oracle.rstd.clone(), lost(&oracle.mean)].concat();
            let all_low = [low.mean.iter().map(|&v| Dtype::F32.round(v)).collect(), low.rstd, lost(&low.mean)].concat();
            let mag = [oracle.mean_mag, oracle.rstd, oracle.reach].concat();
            rules.push(("stats", f32s(1, all, all_low, mag)));
        }
        if matches!(self.statistics, Statistics::Update { .. }) {
            let ([mean, variance], [low_mean, low_variance]) = (oracle.running, low.running);
            let [mean_mag, variance_mag] = oracle.running_mag;
            rules.push(("running_mean", f32s(1, mean, low_mean, mean_mag)));
            rules.push(("running_variance", f32s(1, variance, low_variance, variance_mag)));
        }
        let (cols, dtype) = (self.sizes().1, self.y);
        rules.push(("y", Rule::Rows { cols, dtype, oracle: oracle.y, low: low.y, mag: oracle.mag }));
        rules
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let of = self.merged();
        let vector = |vector: Vector| Vector { offset: vector.offset % 8, ..vector };
        let start = |Running { mean, variance }| Running { mean: mean % 8, variance: variance % 8 };
        let statistics = match self.statistics {
            Statistics::Own => Statistics::Own,
            Statistics::Given(running) => Statistics::Given(start(running)),
            Statistics::Update { running, .. } => Statistics::Update { running: start(running), momentum: 0.25 },
        };
        let small = |batch: usize, channels, places| {
            let batch = self.batch.min(batch);
            let (over, channels, size) = smaller(of.over, of.channels, of.size, channels, places);
            let own = Problem { batch, channels, size, over, statistics, ..of };
            let (sizes, cols) = own.sizes();
            let own = Problem {
                x_layout: laid(of.x_layout, sizes, cols),
                y_layout: laid(of.y_layout, sizes, cols),
                weight: self.weight.map(vector),
                bias: self.bias.map(vector),
                stats: self.stats.map(|at| at % 8),
                ..own
            };
            (batch * channels * size[0] * size[1], own)
        };
        small::few([
            small(3, [2, 9, 33], 40),
            small(2, [3, 3, 9], 700),
            small(2, [2, 17, 250], 9),
            small(1, [2, 5, 9], 9000),
            small(2, [70, 3, 40], 3),
        ])
    }
}
