//! Group norm, layer norm over channels and batch norm by their definition.

use super::place;
use crate::group_norm::{Over, Problem, Running, Statistics};
use crate::norm::Kind;
use crate::reference::Real;
use crate::reference::activation::value;
use crate::reference::rows::norm::row;

/// What it reads, contiguous in the order of the Problem, as stored; layouts and dtypes have no say here.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inputs<'a> {
    /// What is normalised.
    pub x: &'a [f64],
    /// `[channels]`.
    pub weight: Option<&'a [f64]>,
    /// `[channels]`.
    pub bias: Option<&'a [f64]>,
    /// Running means and variances, `[channels]` each: as they were before.
    pub running: Option<[&'a [f64]; 2]>,
}

/// What it gives, contiguous, and magnitudes for the numerics rule.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// As x.
    pub y: Vec<f64>,
    /// One per row of the last axis of y.
    pub mag: Vec<f64>,
    /// The mean of each set, not rounded where a pivot carries it.
    pub mean: Vec<f64>,
    /// 1 / deviation.
    pub rstd: Vec<f64>,
    /// The largest `|x|` of each set.
    pub mean_mag: Vec<f64>,
    /// The largest distance from the mean.
    pub reach: Vec<f64>,
    /// Running means and variances afterwards, where they are moved.
    pub running: [Vec<f64>; 2],
    /// Of these, one per channel.
    pub running_mag: [Vec<f64>; 2],
}

/// The set and the channel of each element, in the order of the Problem.
pub(super) fn places(problem: &Problem) -> Vec<(usize, usize)> {
    let Problem { batch, channels, size: [height, width], order, over, .. } = *problem;
    let mut all = vec![(0, 0); batch * channels * height * width];
    for n in 0..batch {
        for c in 0..channels {
            for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                let set = match over {
                    Over::Group(groups) => n * groups + c / (channels / groups),
                    Over::Channels => (n * height + y) * width + x,
                    Over::Batch => c,
                };
                all[place(order, [channels, height, width], [n, c, y, x])] = (set, c);
            }
        }
    }
    all
}

/// The statistics of a set: those of its values, or given ones.
pub(super) struct Set<R> {
    /// Distances from the mean.
    pub from_mean: Vec<R>,
    /// In f64: pivot and mean of distances from there, each of R.
    pub mean: f64,
    pub rstd: R,
    /// The largest distance from a mean of their own; 0 of given statistics.
    pub reach: f64,
}

/// The statistics of each set, in the order of its elements.
pub(super) fn sets<R: Real>(problem: &Problem, x: &[f64], running: Option<[&[f64]; 2]>) -> Vec<Set<R>> {
    let mut values: Vec<Vec<R>> = vec![Vec::new(); problem.sets()];
    for (&(set, _), &x) in places(problem).iter().zip(x) {
        values[set].push(R::of(x));
    }
    let own = |(s, values): (usize, Vec<R>)| match (problem.statistics, running) {
        (Statistics::Given(Running { .. }), Some([mean, variance])) => Set {
            from_mean: values.iter().map(|&v| v - R::of(mean[s])).collect(),
            mean: mean[s],
            rstd: R::of(1.0) / (R::of(variance[s]) + R::of(problem.eps.into())).sqrt(),
            reach: 0.0,
        },
        _ if values.is_empty() => Set { from_mean: values, mean: 0.0, rstd: R::ZERO, reach: 0.0 },
        _ => {
            let row = row(Kind::Layer, problem.eps, &values);
            // The first value is the pivot.
            let mean = values[0].f64() - row.from_mean[0].f64();
            Set { from_mean: row.from_mean, mean, rstd: row.rstd, reach: row.reach }
        }
    };
    values.into_iter().enumerate().map(own).collect()
}

/// `act(weight * (x - mean) * rstd + bias)`.
///
/// The magnitude of an element is `d * rstd * |weight| + |bias|`, d being the largest distance of any element of its set from their mean, of given
/// statistics its own; no activation grows a difference by more than a seventh or by more than the slope.
///
/// # Panics
/// If an input has fewer values than its shape.
pub fn reference<R: Real>(problem: &Problem, inputs: &Inputs) -> Output {
    let Problem { activation, slope, .. } = *problem;
    let sets = sets::<R>(problem, inputs.x, inputs.running);
    let cols = problem.sizes().1;
    let factor = 1f64.max(slope.abs().into());
    let mut next = vec![0; sets.len()];
    let mut out = Output { mean_mag: vec![0.0; sets.len()], ..Output::default() };
    for (i, (s, c)) in places(problem).into_iter().enumerate() {
        let set = &sets[s];
        let d = set.from_mean[next[s]];
        next[s] += 1;
        let [weight, bias] = [inputs.weight, inputs.bias].map(|vector| vector.map(|vector| vector[c]));
        let mut z = d * set.rstd;
        if let Some(weight) = weight {
            z = z * R::of(weight);
        }
        z += R::of(bias.unwrap_or(0.0));
        out.y.push(R::of(value(activation, slope, z.f64()).value).f64());
        let reach = set.reach.max(d.f64().abs());
        let mag = factor * (reach * set.rstd.f64() * weight.unwrap_or(1.0).abs() + bias.unwrap_or(0.0).abs());
        if i % cols == 0 {
            out.mag.push(0.0);
        }
        let row = out.mag.last_mut().expect("a row");
        *row = row.max(if mag.is_finite() { mag } else { 0.0 });
        out.mean_mag[s] = out.mean_mag[s].max(inputs.x[i].abs());
    }
    if let (Statistics::Update { momentum, .. }, Some(before)) = (problem.statistics, inputs.running) {
        let momentum = f64::from(momentum);
        for (s, set) in sets.iter().enumerate() {
            let squares = set.from_mean.iter().fold(R::ZERO, |sum, &d| sum + d * d);
            let variance = squares / R::of(set.from_mean.len() as f64 - 1.0);
            for (which, now) in [R::of(set.mean), variance].into_iter().enumerate() {
                let before = before[which][s];
                out.running[which].push((R::of(1.0 - momentum) * R::of(before) + R::of(momentum) * now).f64());
                let now = if which == 0 { out.mean_mag[s] } else { now.f64() };
                out.running_mag[which].push(before.abs() + momentum * now);
            }
        }
    }
    out.mean = sets.iter().map(|set| set.mean).collect();
    out.rstd = sets.iter().map(|set| set.rstd.f64()).collect();
    out.reach = sets.iter().map(|set| set.reach).collect();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::conv::Order;
    use approx::assert_relative_eq;

    fn y(problem: Problem, x: &[f64]) -> Vec<f64> {
        reference::<f64>(&problem, &Inputs { x, ..Inputs::default() }).y
    }

    fn close(have: &[f64], want: &[f64]) {
        assert_eq!(have.len(), want.len());
        for (have, want) in have.iter().zip(want) {
            assert_relative_eq!(*have, *want, max_relative = 1e-12, epsilon = 1e-12);
        }
    }

    /// Two pictures of four channels at two places; a set's mean and deviation are seen at once.
    #[test]
    fn by_hand() {
        let x = [1.0, 3.0, 1.0, 3.0, 0.0, 4.0, 4.0, 0.0, 5.0, 5.0, 7.0, 7.0, 2.0, 2.0, 2.0, 2.0];
        let of = Problem { batch: 2, channels: 4, size: [1, 2], eps: 0.0, ..Problem::default() };
        let grouped = Problem { over: Over::Group(2), eps: 1e-30, ..of };
        let want = [-1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0, -1.0, -1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        close(&y(grouped, &x), &want);
        // The same, channels last.
        let last = |v: &[f64]| -> Vec<f64> { (0..16).map(|i| v[i / 8 * 8 + i % 4 * 2 + i / 4 % 2]).collect() };
        close(&y(Problem { order: Order::Nhwc, ..grouped }, &last(&x)), &last(&want));
        // Instance norm: each channel of a picture.
        close(&y(Problem { over: Over::Group(4), ..grouped }, &x)[..8], &[-1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0]);
        // Channels [1, 1, 0, 4] of the first place: mean 1.5, squares of distances 0.25 + 0.25 + 2.25 + 6.25 = 9, of 4.
        let over = y(Problem { over: Over::Channels, ..of }, &x);
        close(&[over[0], over[2], over[4], over[6]], &[-1.0 / 3.0, -1.0 / 3.0, -1.0, 5.0 / 3.0]);
        // Channel 0 of both: [1, 3, 5, 5], mean 3.5, 6.25 + 0.25 + 2.25 + 2.25 = 11, of 4.
        let root = (11f64 / 4.0).sqrt();
        let over = y(Problem { over: Over::Batch, ..of }, &x);
        close(&[over[0], over[1], over[8], over[9]], &[-2.5 / root, -0.5 / root, 1.5 / root, 1.5 / root]);
    }

    #[test]
    fn batch_norm_by_hand() {
        let of = Problem { batch: 2, size: [1, 2], over: Over::Batch, eps: 0.0, ..Problem::default() };
        let x = [1.0, 3.0, 5.0, 5.0];
        let update = Statistics::Update { running: Running::default(), momentum: 0.25 };
        let inputs = Inputs { x: &x, running: Some([&[1.0], &[2.0]]), ..Inputs::default() };
        let out = reference::<f64>(&Problem { statistics: update, ..of }, &inputs);
        // Mean 3.5, variance without bias 11 / 3.
        close(&out.running[0], &[0.75 + 0.25 * 3.5]);
        close(&out.running[1], &[1.5 + 0.25 * 11.0 / 3.0]);
        let given = Problem { statistics: Statistics::Given(Running::default()), eps: 2.0, ..of };
        let inputs = Inputs { weight: Some(&[4.0]), bias: Some(&[1.0]), ..inputs };
        close(&reference::<f64>(&given, &inputs).y, &[1.0, 5.0, 9.0, 9.0]);
        let silu = Problem { activation: Activation::Silu, ..given };
        close(&reference::<f64>(&silu, &inputs).y[..1], &[1.0 / (1.0 + (-1f64).exp())]);
    }
}
