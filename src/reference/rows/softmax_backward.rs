//! The gradient of softmax by its definition.

use crate::reference::Real;
use crate::softmax_backward::Problem;

/// What it gives, contiguous `[rows, cols]`; and `mag`, one per row.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[rows, cols]`.
    pub dx: Vec<f64>,
    /// One per row.
    pub mag: Vec<f64>,
}

/// `dx = scale * y * (dy - sum(y * dy))`, or with `log` `dx = scale * (dy - exp(y) * sum(dy))`, over the visible
/// columns of each row; 0 elsewhere. A column is hidden by `causal`, by a `y` of minus infinity with `log` or of 0
/// without. `y` and `dy` are contiguous `[rows, cols]`; layouts and dtypes of the Problem are ignored.
///
/// # Panics
/// If `y` or `dy` has fewer than `rows * cols` values, or `dims` a size of 0.
pub fn reference<R: Real>(problem: &Problem, y: &[f64], dy: &[f64]) -> Output {
    let Problem { rows, cols, dims: [_, seq_q], scale, log, causal, .. } = *problem;
    let mut out = Output { dx: vec![0.0; rows * cols], mag: Vec::with_capacity(rows) };
    for row in 0..rows {
        let (i, range) = (row % seq_q, row * cols..(row + 1) * cols);
        let (y, dy, dx) = (&y[range.clone()], &dy[range.clone()], &mut out.dx[range]);
        let hidden = if log { f64::NEG_INFINITY } else { 0.0 };
        let visible = || (0..cols).filter(|&j| y[j] != hidden && !(causal && j + seq_q > i + cols));
        let weight = |j: usize| if log { R::of(y[j]).exp() } else { R::of(y[j]) };
        let term = |j: usize| if log { R::of(dy[j]) } else { R::of(y[j]) * R::of(dy[j]) };
        let (mut sum, mut sum_mag, mut mag) = (R::ZERO, 0.0, 0f64);
        for j in visible() {
            sum += term(j);
            sum_mag += term(j).f64().abs();
        }
        let scale_of = R::of(scale as f64);
        for j in visible() {
            let (weight, own) = (weight(j), R::of(dy[j]));
            let value = if log { own - weight * sum } else { weight * (own - sum) };
            dx[j] = (scale_of * value).f64();
            let (w, d) = (weight.f64().abs(), dy[j].abs());
            // An error of y's exponent counts by its size, as a score's does.
            let size = if log { d + w * (1.0 + y[j].abs()) * sum_mag } else { w * (d + sum_mag) };
            mag = mag.max(size * f64::from(scale).abs());
        }
        out.mag.push(mag);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::numerics::differences::{Input, hold, product, values};
    use crate::reference::softmax;
    use approx::assert_relative_eq;

    #[test]
    fn by_hand() {
        // y = [1/8, 1/4, 5/8], dy = [8, 4, -8]: the sum is 1 + 1 - 5 = -3.
        let problem = Problem { rows: 1, cols: 3, ..Problem::default() };
        let dx = reference::<f64>(&problem, &[0.125, 0.25, 0.625], &[8.0, 4.0, -8.0]).dx;
        assert_eq!(dx, [11.0 / 8.0, 7.0 / 4.0, -25.0 / 8.0]);
        // Of the logarithms of the same: the sum is 4; a scale of 2 doubles.
        let log = Problem { log: true, scale: 2.0, ..problem };
        let y = [0.125f64.ln(), 0.25f64.ln(), 0.625f64.ln()];
        let dx = reference::<f64>(&log, &y, &[8.0, 4.0, -8.0]).dx;
        for (dx, want) in dx.iter().zip([15.0, 6.0, -21.0]) {
            assert_relative_eq!(*dx, want, max_relative = 1e-14);
        }
    }

    #[test]
    fn hidden_columns_do_not_count() {
        // Two visible columns of 1/2, whatever stands in the dy of the others.
        let problem = Problem { rows: 1, cols: 4, ..Problem::default() };
        let dy = [f64::NAN, 1.0, f64::INFINITY, -1.0];
        let dx = reference::<f64>(&problem, &[0.0, 0.5, 0.0, 0.5], &dy).dx;
        assert_eq!(dx, [0.0, 0.5, 0.0, -0.5]);
        let (inf, half) = (f64::NEG_INFINITY, 0.5f64.ln());
        let log = Problem { log: true, ..problem };
        let dx = reference::<f64>(&log, &[inf, half, inf, half], &dy).dx;
        assert_eq!(dx, [0.0, 1.0, 0.0, -1.0]);
        // A dead row, and a causal one: query 0 of 2 sees 1 of 2 columns.
        assert_eq!(reference::<f64>(&log, &[inf; 4], &dy).dx, [0.0; 4]);
        let causal = Problem { rows: 2, cols: 2, dims: [1, 2], causal: true, ..problem };
        let dx = reference::<f64>(&causal, &[1.0, 9.0, 0.5, 0.5], &[7.0, f64::NAN, 1.0, 0.0]).dx;
        assert_eq!(dx, [0.0, 0.0, 0.25, -0.25]);
    }

    #[test]
    fn gradients_are_slopes() {
        let (rows, cols, dims) = (6, 5, [1, 3]);
        let n = rows * cols;
        let (x, dy) = (values(n, 1), values(n, 2));
        // Every third is shifted, every fourth hidden; row 2 sees nothing.
        let bias = |i: usize| match i {
            i if i % 4 == 1 || i / cols == 2 => f64::NEG_INFINITY,
            i => f64::from(i % 3 == 0) * 0.7,
        };
        let bias: Vec<f64> = (0..n).map(bias).collect();
        for option in 0..24 {
            let (log, causal, masked) = (option & 1 > 0, option & 2 > 0, option & 4 > 0);
            let scale = [0.375, -1.25, 0.0][option / 8];
            let forward = crate::softmax::Problem { rows, cols, dims, scale, log, causal, ..Default::default() };
            let bias = masked.then_some(&bias[..]);
            let run = |x: &[f64]| softmax::reference::<f64>(&forward, x, bias).y;
            let problem = Problem { rows, cols, dims, scale, log, causal, ..Problem::default() };
            let dx = reference::<f64>(&problem, &run(&x), &dy).dx;
            let what = format!("softmax, log {log}, causal {causal}, masked {masked}, scale {scale}");
            hold(&what, &[Input { name: "x", values: &x, gradient: &dx }], |inputs| product(&run(&inputs[0]), &dy));
        }
        // The gradient of an additive mask is dx for a scale of 1.
        let shown: Vec<f64> = bias.iter().map(|b| b.max(-3.0)).collect();
        let forward = crate::softmax::Problem { rows, cols, scale: 0.375, ..Default::default() };
        let run = |bias: &[f64]| softmax::reference::<f64>(&forward, &x, Some(bias)).y;
        let dbias = reference::<f64>(&Problem { rows, cols, ..Problem::default() }, &run(&shown), &dy).dx;
        let input = Input { name: "mask", values: &shown, gradient: &dbias };
        hold("softmax", &[input], |inputs| product(&run(&inputs[0]), &dy));
    }
}
