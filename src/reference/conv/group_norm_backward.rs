//! The gradients of group norm, layer norm over channels and batch norm by their definition.

use super::group_norm::places;
use crate::group_norm::Statistics;
use crate::group_norm_backward::Problem;
use crate::reference::Real;
use crate::reference::activation::derivative;

/// What they read, contiguous in the order of the Problem, as stored; layouts and dtypes have no say here.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inputs<'a> {
    /// What was normalised.
    pub x: &'a [f64],
    /// The gradient by the result.
    pub dy: &'a [f64],
    /// `[channels]`.
    pub weight: Option<&'a [f64]>,
    /// `[channels]`.
    pub bias: Option<&'a [f64]>,
    /// `[3, sets]`: means, 1 / deviations, and what the means have lost.
    pub stats: Option<&'a [f64]>,
    /// Given means and variances, `[channels]` each.
    pub running: Option<[&'a [f64]; 2]>,
}

/// What they give, contiguous; and magnitudes for the numerics rule: one per row of the last axis of `dx`, one each for `dweight` and `dbias`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// As x.
    pub dx: Vec<f64>,
    /// `[channels]`.
    pub dweight: Vec<f64>,
    /// `[channels]`.
    pub dbias: Vec<f64>,
    /// Of `dx`.
    pub mag: Vec<f64>,
    /// Of `dweight`.
    pub dweight_mag: f64,
    /// Of `dbias`.
    pub dbias_mag: f64,
}

/// Sums of a set or of a channel: of g n and of g, and on absolute values.
#[derive(Clone, Copy)]
struct Sums<R> {
    gn: R,
    g: R,
    gn_mag: f64,
    g_mag: f64,
}

impl<R: Real> Sums<R> {
    const NONE: Sums<R> = Sums { gn: R::ZERO, g: R::ZERO, gn_mag: 0.0, g_mag: 0.0 };

    fn add(&mut self, g: R, n: R, g_mag: f64) {
        self.gn += g * n;
        self.g += g;
        self.gn_mag += g_mag * n.f64().abs();
        self.g_mag += g_mag;
    }
}

/// With `n = (x - mean) * rstd`, `g = dy * act'(n * weight + bias)` and means over a set `dx = (g w - mean(g w) - n mean(g w n)) * rstd`, of
/// given statistics `g w * rstd`; over a channel `dweight = sum(g n)`, `dbias = sum(g)`. The derivative is f64.
///
/// Magnitudes are those of the formula on absolute values, where that of `g` is `|dy|` times the derivative's and `|n weight| + |bias|`, by
/// which rounding moves what it is taken at.
///
/// # Panics
/// If an input has fewer values than its shape, or there are no statistics.
pub fn reference<R: Real>(problem: &Problem, inputs: &Inputs) -> Output {
    let of = &problem.forward;
    let places = places(of);
    let statistics = |set: usize| match (of.statistics, inputs.running, inputs.stats) {
        (Statistics::Given(_), Some([mean, variance]), _) => {
            let rstd = R::of(1.0) / (R::of(variance[set]) + R::of(of.eps.into())).sqrt();
            (R::of(mean[set]), R::ZERO, rstd)
        }
        (_, _, Some(stats)) => {
            let sets = of.sets();
            (R::of(stats[set]), R::of(stats[2 * sets + set]), R::of(stats[sets + set]))
        }
        _ => panic!("statistics"),
    };
    let weight = |c: usize| inputs.weight.map_or(1.0, |weight| weight[c]);
    let bent = of.activation != crate::activation::Activation::None;
    // n, g, its magnitude, and rstd of each element.
    let elements: Vec<(R, R, f64, R)> = (0..places.len())
        .map(|i| {
            let (set, c) = places[i];
            let (mean, rest, rstd) = statistics(set);
            let n = (R::of(inputs.x[i]) - mean - rest) * rstd;
            let dy = inputs.dy[i];
            if !bent {
                return (n, R::of(dy), dy.abs(), rstd);
            }
            let bias = inputs.bias.map_or(0.0, |bias| bias[c]);
            let z = n * R::of(weight(c)) + R::of(bias);
            let d = derivative(of.activation, of.slope, z.f64());
            let mag = dy.abs() * (d.mag + (n.f64() * weight(c)).abs() + bias.abs());
            (n, R::of(dy) * R::of(d.value), mag, rstd)
        })
        .collect();
    let (mut sets, mut channels) = (vec![Sums::<R>::NONE; of.sets()], vec![Sums::<R>::NONE; of.channels]);
    for (&(set, c), &(n, g, mag, _)) in places.iter().zip(&elements) {
        channels[c].add(g, n, mag);
        sets[set].add(g * R::of(weight(c)), n, mag * weight(c).abs());
    }
    let given = matches!(of.statistics, Statistics::Given(_));
    let count = places.len() as f64 / of.sets().max(1) as f64;
    let cols = of.sizes().1;
    let mut out = Output::default();
    for (i, (&(set, c), &(n, g, mag, rstd))) in places.iter().zip(&elements).enumerate() {
        let (mut dx, mut mag) = (g * R::of(weight(c)), mag * weight(c).abs());
        if !given {
            let Sums { gn, g, gn_mag, g_mag } = sets[set];
            dx = dx - g / R::of(count) - n * (gn / R::of(count));
            mag += (g_mag + n.f64().abs() * gn_mag) / count;
        }
        out.dx.push((dx * rstd).f64());
        if i % cols == 0 {
            out.mag.push(0.0);
        }
        let row = out.mag.last_mut().expect("a row");
        *row = row.max(mag * rstd.f64());
    }
    for Sums { gn, g, gn_mag, g_mag } in channels {
        out.dweight.push(gn.f64());
        out.dbias.push(g.f64());
        out.dweight_mag = out.dweight_mag.max(gn_mag);
        out.dbias_mag = out.dbias_mag.max(g_mag);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::conv::Order;
    use crate::group_norm::{self, Over, Running};
    use crate::reference::group_norm as forward;
    use crate::reference::numerics::differences::{Input, hold, product, values};
    use approx::assert_relative_eq;

    /// [1, 3, 1, 3] has mean 2 and deviation 1: n = [-1, 1, -1, 1]. Of dy = [4, 0, 0, 0] means are 1 and -1.
    #[test]
    fn by_hand() {
        let of = group_norm::Problem { channels: 2, size: [1, 2], stats: Some(0), ..Default::default() };
        let inputs = Inputs {
            x: &[1.0, 3.0, 1.0, 3.0],
            dy: &[4.0, 0.0, 0.0, 0.0],
            stats: Some(&[2.0, 1.0, 0.0]),
            ..Inputs::default()
        };
        let out = reference::<f64>(&Problem { forward: of, ..Problem::default() }, &inputs);
        assert_eq!((out.dx, out.dweight, out.dbias), (vec![2.0, 0.0, -2.0, 0.0], vec![-4.0, 0.0], vec![4.0, 0.0]));
        assert_relative_eq!(out.mag[0], 6.0);
    }

    #[test]
    fn gradients_are_slopes() {
        let (batch, channels, size) = (2, 4, [2, 3]);
        let len = batch * channels * 6;
        let (x, dy, weight, bias) = (values(len, 1), values(len, 2), values(channels, 3), values(channels, 4));
        let (mean, variance) =
            (values(channels, 5), values(channels, 6).iter().map(|v| v * v + 0.5).collect::<Vec<_>>());
        let given = Statistics::Given(Running::default());
        for (over, statistics, order, activation) in [
            (Over::Group(2), Statistics::Own, Order::Nchw, Activation::Silu),
            (Over::Group(4), Statistics::Own, Order::Nhwc, Activation::None),
            (Over::Channels, Statistics::Own, Order::Nchw, Activation::None),
            (Over::Channels, Statistics::Own, Order::Nhwc, Activation::Silu),
            (Over::Batch, Statistics::Own, Order::Nchw, Activation::Silu),
            (Over::Batch, given, Order::Nhwc, Activation::Silu),
            (Over::Batch, given, Order::Nchw, Activation::None),
        ] {
            let of = group_norm::Problem {
                batch,
                channels,
                size,
                over,
                statistics,
                order,
                activation,
                eps: 0.1,
                ..group_norm::Problem::default()
            };
            let running = Some([&mean[..], &variance[..]]);
            let run = |all: &[Vec<f64>]| {
                let inputs = forward::Inputs { x: &all[0], weight: Some(&all[1]), bias: Some(&all[2]), running };
                forward::reference::<f64>(&of, &inputs)
            };
            let all = [x.clone(), weight.clone(), bias.clone()];
            let out = run(&all);
            let stats = [out.mean, out.rstd, vec![0.0; of.sets()]].concat();
            let inputs =
                Inputs { x: &x, dy: &dy, weight: Some(&weight), bias: Some(&bias), stats: Some(&stats), running };
            let out = reference::<f64>(&Problem { forward: of, ..Problem::default() }, &inputs);
            let input = |name, values, gradient| Input { name, values, gradient };
            let held =
                [input("x", &x, &out.dx), input("weight", &weight, &out.dweight), input("bias", &bias, &out.dbias)];
            let what = format!("{over:?}, {statistics:?}, {}, {}", order.name(), activation.name());
            hold(&what, &held, |all| product(&run(all).y, &dy));
        }
    }
}
