//! The gradients of snake by their definition.

use crate::conv::Order;
use crate::reference::Real;
use crate::snake_backward::Problem;

/// What they give, contiguous; and magnitudes for the numerics rule: one per row of the last axis of `dx`, one each for `dalpha` and `dbias`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// As x.
    pub dx: Vec<f64>,
    /// `[channels]`.
    pub dalpha: Vec<f64>,
    /// `[channels]`.
    pub dbias: Vec<f64>,
    /// Of `dx`.
    pub mag: Vec<f64>,
    /// Of `dalpha`.
    pub dalpha_mag: f64,
    /// Of `dbias`.
    pub dbias_mag: f64,
}

/// Derivatives of `x + sin(alpha x)^2 / alpha` by x and by alpha.
pub fn slopes(x: f64, alpha: f64) -> [f64; 2] {
    let t = alpha * x;
    // The difference of two squares of t would leave nothing.
    let of_t = if t.abs() < 1e-3 { 1.0 - t * t } else { (t * (2.0 * t).sin() - t.sin().powi(2)) / (t * t) };
    [1.0 + (2.0 * t).sin(), x * x * of_t]
}

/// With [`slopes`], in f64, `dx = dy` times the first, and over a channel `dalpha = sum(dy` times the second`)`, `dbias = sum(dx)`.
///
/// Magnitudes are `|dy| (1 + |alpha x|)`, by which rounding of the argument moves the sine, at most `|dy| 2^24`; of dalpha sums of `|dy| x^2`.
///
/// # Panics
/// If an input has fewer values than its shape.
pub fn reference<R: Real>(problem: &Problem, x: &[f64], dy: &[f64], alpha: &[f64]) -> Output {
    let Problem { channels, size, order, .. } = *problem;
    let (plane, cols) = (size[0] * size[1], problem.sizes().1);
    let mut out = Output::default();
    let (mut dalpha, mut dbias) = (vec![(R::ZERO, 0.0); channels], vec![(R::ZERO, 0.0); channels]);
    for (i, (&x, &dy)) in x.iter().zip(dy).enumerate() {
        let c = if order == Order::Nchw { i / plane % channels } else { i % channels };
        let [by_x, by_alpha] = slopes(x, alpha[c]);
        let dx = R::of(dy) * R::of(by_x);
        out.dx.push(dx.f64());
        let mag = dy.abs() * (1.0 + (alpha[c] * x).abs().min(16777216.0));
        if i % cols == 0 {
            out.mag.push(0.0);
        }
        let row = out.mag.last_mut().expect("a row");
        *row = row.max(mag);
        dalpha[c].0 += R::of(dy) * R::of(by_alpha);
        dalpha[c].1 += dy.abs() * x * x;
        dbias[c].0 += dx;
        dbias[c].1 += mag;
    }
    for ((dalpha, dalpha_mag), (dbias, dbias_mag)) in dalpha.into_iter().zip(dbias) {
        out.dalpha.push(dalpha.f64());
        out.dbias.push(dbias.f64());
        out.dalpha_mag = out.dalpha_mag.max(dalpha_mag);
        out.dbias_mag = out.dbias_mag.max(dbias_mag);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::conv::snake;
    use crate::reference::numerics::differences::{Input, hold, product, values};

    /// sin(pi / 2) and sin(pi / 4)^2; an alpha of 0.
    #[test]
    fn by_hand() {
        let quarter = std::f64::consts::FRAC_PI_4;
        assert_eq!(slopes(3.0, 0.0), [1.0, 9.0]);
        let [by_x, by_alpha] = slopes(quarter, 1.0);
        assert!((by_x - 2.0).abs() < 1e-15 && (by_alpha - (quarter - 0.5)).abs() < 1e-15);
        assert!((slopes(2.0, 1e-3)[1] - slopes(2.0, 1.0001e-3 / 2.0)[1]).abs() < 2e-5);
        let problem = Problem { channels: 2, size: [1, 2], ..Problem::default() };
        let out = reference::<f64>(&problem, &[3.0, 1.0, 0.0, 2.0], &[1.0, 2.0, 5.0, 1.0], &[0.0, 0.0]);
        assert_eq!((out.dx, out.dalpha, out.dbias), (vec![1.0, 2.0, 5.0, 1.0], vec![11.0, 4.0], vec![3.0, 6.0]));
        assert_eq!((out.mag, out.dalpha_mag, out.dbias_mag), (vec![2.0, 5.0], 11.0, 6.0));
    }

    #[test]
    fn gradients_are_slopes() {
        for order in [Order::Nchw, Order::Nhwc] {
            let problem = Problem { batch: 2, channels: 3, size: [2, 4], order, ..Problem::default() };
            let (x, dy, alpha) = (values(48, 1), values(48, 2), values(3, 3));
            let channel = |i: usize| if order == Order::Nchw { i / 8 % 3 } else { i % 3 };
            let out = reference::<f64>(&problem, &x, &dy, &alpha);
            let held = [
                Input { name: "x", values: &x, gradient: &out.dx },
                Input { name: "alpha", values: &alpha, gradient: &out.dalpha },
            ];
            let run = |all: &[Vec<f64>]| -> Vec<f64> {
                all[0].iter().enumerate().map(|(i, &x)| snake(x, all[1][channel(i)])).collect()
            };
            hold(order.name(), &held, |all| product(&run(all), &dy));
        }
    }
}
