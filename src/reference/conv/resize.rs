//! Resampling by its definition.

use super::place;
use crate::reference::Real;
use crate::resize::Problem;

/// What resize gives, contiguous in the order of the Problem; and `mag`, one per row of the last axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The result.
    pub y: Vec<f64>,
    /// The largest finite magnitude of each row of y.
    pub mag: Vec<f64>,
}

/// `y[i, j] = sum a[i, u] b[j, v] x[u, v]` of each channel, for the contiguous `x`.
///
/// # Panics
/// If `x` has fewer values than its shape, or the Problem has too many weights.
pub fn reference<R: Real>(problem: &Problem, x: &[f64]) -> Output {
    let Problem { batch, channels, order, .. } = *problem;
    let [from, to] = problem.from_to();
    let [rows, columns] = [0, 1].map(|axis| problem.spans(axis).expect("weights"));
    let (count, row) = (batch * channels * to[0] * to[1], problem.y_sizes().1);
    let mut out = Output { y: vec![0.0; count], mag: vec![0.0; count / row.max(1)] };
    for n in 0..batch {
        for c in 0..channels {
            for (i, row_span) in rows.iter().enumerate() {
                for (j, column_span) in columns.iter().enumerate() {
                    let (mut sum, mut mag) = (R::ZERO, 0f64);
                    for (u, &a) in row_span.weights.iter().enumerate() {
                        let mut line = R::ZERO;
                        for (v, &b) in column_span.weights.iter().enumerate() {
                            let at = [n, c, row_span.first + u, column_span.first + v];
                            let x = x[place(order, [channels, from[0], from[1]], at)];
                            line += R::of(b) * R::of(x);
                            mag += (a * b * x).abs();
                        }
                        sum += R::of(a) * line;
                    }
                    let at = place(order, [channels, to[0], to[1]], [n, c, i, j]);
                    out.y[at] = sum.f64();
                    if mag.is_finite() {
                        out.mag[at / row] = out.mag[at / row].max(mag);
                    }
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;
    use crate::conv::Order;
    use crate::resize::{Coordinates, Rule, Windows};

    /// ONNX's examples of Resize.
    #[test]
    fn as_published() {
        let four: Vec<f64> = (1..=16).map(f64::from).collect();
        let of = |problem: Problem, x: &[f64]| reference::<f64>(&problem, x).y;
        let linear = Problem { size: [2, 2], out: [4, 4], ..Problem::default() };
        let row = [1.0, 1.25, 1.75, 2.0];
        assert_eq!(of(linear, &four[..4])[..4], row);
        assert_eq!(of(linear, &four[..4])[4..8], row.map(|v| v + 0.5));
        let corners = Problem { coordinates: Coordinates::AlignCorners, ..linear };
        assert_relative_eq!(of(corners, &four[..4])[..4], [1.0, 4.0 / 3.0, 5.0 / 3.0, 2.0], max_relative = 1e-12);
        let cubic = Problem { size: [4, 4], out: [8, 8], rule: Rule::Cubic(-0.75), ..Problem::default() };
        let want = [0.47265625, 0.76953125, 1.24609375, 1.875, 2.28125, 2.91015625, 3.38671875, 3.68359375];
        assert_relative_eq!(of(cubic, &four)[..8], want, max_relative = 1e-12);
        let reduced = Problem {
            size: [4, 4],
            out: [2, 2],
            rule: Rule::Cubic(-0.75),
            antialias: true,
            scale: Some([0.6; 2]),
            ..Problem::default()
        };
        let want = [2.518_072_1, 4.285_886_3, 9.589_329, 11.357_142];
        assert_relative_eq!(of(reduced, &four)[..], want, max_relative = 1e-6);
        let smaller = Problem { size: [2, 4], out: [1, 2], rule: Rule::Linear, ..reduced };
        assert_relative_eq!(of(smaller, &four[..8])[..], [2.875, 4.5], max_relative = 1e-12);
    }

    #[test]
    fn average_by_hand() {
        let windows = Windows { kernel: [2, 2], stride: [2, 2], padding: [0, 1, 0, 1], ..Windows::default() };
        let x: Vec<f64> = (1..=9).map(f64::from).collect();
        let problem = Problem::average(1, 1, [3, 3], windows);
        assert_eq!(reference::<f64>(&problem, &x).y, [3.0, 4.5, 7.5, 9.0]);
        let counted = Problem { rule: Rule::Average(Windows { count_padding: true, ..windows }), ..problem };
        assert_eq!(reference::<f64>(&counted, &x).y, [3.0, 2.25, 3.75, 2.25]);
        let mean = Problem { size: [3, 3], out: [1, 1], rule: Rule::AdaptiveAverage, ..Problem::default() };
        assert_relative_eq!(reference::<f64>(&mean, &x).y[0], 5.0, max_relative = 1e-15);
    }

    /// <A x, y> = <x, A^T y>, in both orders.
    #[test]
    fn the_gradient_is_the_transpose() {
        for (rule, antialias) in [(Rule::Linear, false), (Rule::Cubic(-0.5), true), (Rule::AdaptiveAverage, false)] {
            for order in [Order::Nchw, Order::Nhwc] {
                let of =
                    Problem { channels: 2, size: [5, 3], out: [3, 7], rule, antialias, order, ..Problem::default() };
                let x: Vec<f64> = (0..30).map(|i| f64::from(i * 37 % 11) - 5.0).collect();
                let dy: Vec<f64> = (0..42).map(|i| f64::from(i * 29 % 13) - 6.0).collect();
                let y = reference::<f64>(&of, &x).y;
                let dx = reference::<f64>(&Problem { adjoint: true, ..of }, &dy).y;
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                assert_relative_eq!(dot(&y, &dy), dot(&x, &dx), max_relative = 1e-12);
            }
        }
    }
}
