//! RMS norm and layer norm by their definition.

use crate::norm::{Kind, Problem};
use crate::reference::Real;

/// What a norm reads, contiguous, as stored; layouts and dtypes of the Problem have no say here.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// `[rows, cols]`.
    pub x: &'a [f64],
    /// `[rows, cols]`.
    pub residual: Option<&'a [f64]>,
    /// `[cols]`.
    pub weight: Option<&'a [f64]>,
    /// `[cols]`.
    pub bias: Option<&'a [f64]>,
}

/// What it gives, contiguous.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// `[rows, cols]`.
    pub y: Vec<f64>,
    /// `x + residual`, `[rows, cols]`.
    pub sum: Vec<f64>,
    /// `[rows]`; 0 with RMS norm.
    pub mean: Vec<f64>,
    /// 1 / deviation, `[rows]`.
    pub rstd: Vec<f64>,
    /// Of `y`, one per row, for the numerics rule.
    pub mag: Vec<f64>,
    /// Of `sum`, one per row: the largest `|x| + |residual|`.
    pub sum_mag: Vec<f64>,
    /// Of `mean`, one per row: the largest `|x + residual|`.
    pub mean_mag: Vec<f64>,
}

/// The statistics of one row.
#[derive(Debug, Clone)]
pub(in crate::reference) struct Row<R> {
    /// Distances from the mean, or with RMS norm the values.
    pub from_mean: Vec<R>,
    pub mean: R,
    pub rstd: R,
    /// The largest `|from_mean|`.
    pub reach: f64,
}

/// The mean is that of distances from the first element: a DC offset of the row costs `low` nothing.
pub(in crate::reference) fn row<R: Real>(kind: Kind, eps: f32, values: &[R]) -> Row<R> {
    let count = R::of(values.len() as f64);
    let pivot = if kind == Kind::Layer { values[0] } else { R::ZERO };
    let mut sum = R::ZERO;
    for &v in values {
        sum += v - pivot;
    }
    let mean = if kind == Kind::Layer { sum / count } else { R::ZERO };
    let from_mean: Vec<R> = values.iter().map(|&v| v - pivot - mean).collect();
    let mut squares = R::ZERO;
    for &d in &from_mean {
        squares += d * d;
    }
    // Squares beyond f32 make `low` say nothing of the row, rather than 0.
    let squares = if squares.f64().is_finite() { squares } else { R::of(f64::NAN) };
    let rstd = R::of(1.0) / (squares / count + R::of(eps.into())).sqrt();
    let reach = from_mean.iter().fold(0.0, |most: f64, d| most.max(d.f64().abs()));
    Row { from_mean, mean: pivot + mean, rstd, reach }
}

/// With `s = x + residual`: `y = s * rstd * (weight + weight_offset) + bias`, `rstd = 1 / sqrt(mean(s^2) + eps)`; or
/// with `Layer` the same of `s - mean(s)`.
///
/// The magnitude of a row of `y` is the largest over its columns of `d * rstd * (|weight| + |weight_offset|) + |bias|`,
/// where `d` is `|s|`, and with `Layer` the largest distance of any `s` of the row from their mean.
///
/// # Panics
/// If an input has fewer values than its shape.
pub fn reference<R: Real>(problem: &Problem, inputs: &Inputs) -> Output {
    let Problem { kind, rows, cols, eps, weight_offset, .. } = *problem;
    let offset = f64::from(weight_offset);
    let weight = |j: usize| inputs.weight.map_or(1.0, |weight| weight[j]);
    let bias = |j: usize| inputs.bias.map_or(0.0, |bias| bias[j]);
    let mut out = Output::default();
    for r in 0..rows {
        if cols == 0 {
            continue;
        }
        let x = &inputs.x[r * cols..(r + 1) * cols];
        let residual = |j: usize| inputs.residual.map_or(0.0, |residual| residual[r * cols + j]);
        let values: Vec<R> = (0..cols).map(|j| R::of(x[j]) + R::of(residual(j))).collect();
        let row = row(kind, eps, &values);
        let (mut mag, mut sum_mag) = (0f64, 0f64);
        for j in 0..cols {
            let y = row.from_mean[j] * row.rstd * (R::of(weight(j)) + R::of(offset)) + R::of(bias(j));
            out.y.push(y.f64());
            out.sum.push(values[j].f64());
            let d = if kind == Kind::Layer { row.reach } else { row.from_mean[j].f64().abs() };
            mag = mag.max(d * row.rstd.f64() * (weight(j).abs() + offset.abs()) + bias(j).abs());
            sum_mag = sum_mag.max(x[j].abs() + residual(j).abs());
        }
        out.mean.push(row.mean.f64());
        out.rstd.push(row.rstd.f64());
        out.mag.push(mag);
        out.sum_mag.push(sum_mag);
        out.mean_mag.push(values.iter().fold(0.0, |most: f64, v| most.max(v.f64().abs())));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    fn inputs(x: &[f64]) -> Inputs<'_> {
        Inputs { x, residual: None, weight: None, bias: None }
    }

    fn close(have: &[f64], want: &[f64]) {
        assert_eq!(have.len(), want.len());
        for (have, want) in have.iter().zip(want) {
            assert_relative_eq!(*have, *want, max_relative = 1e-13, epsilon = 1e-13);
        }
    }

    #[test]
    fn rms_by_hand() {
        // The mean square of [1, 7] is 25; with a residual that makes [3, -4] of [1, -1], 12.5.
        let problem = Problem { rows: 1, cols: 2, eps: 0.0, ..Problem::of(Kind::Rms) };
        let out = reference::<f64>(&problem, &inputs(&[1.0, 7.0]));
        close(&out.y, &[0.2, 1.4]);
        close(&out.rstd, &[0.2]);
        let all = Inputs {
            residual: Some(&[2.0, -3.0]),
            weight: Some(&[1.0, 2.0]),
            bias: Some(&[0.5, 0.0]),
            ..inputs(&[1.0, -1.0])
        };
        let out = reference::<f64>(&Problem { eps: 12.5, weight_offset: 1.0, ..problem }, &all);
        close(&out.y, &[3.0 / 5.0 * 2.0 + 0.5, -4.0 / 5.0 * 3.0]);
        close(&out.sum, &[3.0, -4.0]);
        // The largest of 6/5 + 1/2 and 12/5.
        close(&out.mag, &[2.4]);
    }

    #[test]
    fn layer_by_hand() {
        // Mean 5, squares of distances 9 + 1 + 1 + 9 = 20, of 4.
        let problem = Problem { rows: 1, cols: 4, eps: 0.0, ..Problem::of(Kind::Layer) };
        let root = 5f64.sqrt();
        let out = reference::<f64>(&problem, &inputs(&[2.0, 4.0, 6.0, 8.0]));
        close(&out.y, &[-3.0 / root, -1.0 / root, 1.0 / root, 3.0 / root]);
        close(&out.mean, &[5.0]);
        close(&out.rstd, &[1.0 / root]);
        close(&out.mag, &[3.0 / root]);
        // Scale and shift change nothing, even in f32 where the shift costs no digits of x.
        let out = reference::<f64>(&problem, &inputs(&[10002e3, 10004e3, 10006e3, 10008e3]));
        close(&out.y, &[-3.0 / root, -1.0 / root, 1.0 / root, 3.0 / root]);
        let low = reference::<f32>(&problem, &inputs(&[1e4 + 2.0, 1e4 + 4.0, 1e4 + 6.0, 1e4 + 8.0]));
        assert_relative_eq!(low.y[0], -3.0 / root, max_relative = 3e-7);
        // Equal elements: the bias.
        let flat = Inputs { bias: Some(&[1.0, 2.0, 3.0, 4.0]), ..inputs(&[7.0; 4]) };
        close(&reference::<f64>(&Problem { eps: 1e-5, ..problem }, &flat).y, &[1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn usual_eps() {
        // The variance of [1, 2, 3] is 2/3, their mean square 14/3.
        let x = [1.0, 2.0, 3.0, -1.0, -2.0, -3.0];
        let y = 1.0 / (2.0 / 3.0 + f64::from(1e-5f32)).sqrt();
        let problem = Problem { rows: 2, cols: 3, ..Problem::of(Kind::Layer) };
        close(&reference::<f64>(&problem, &inputs(&x)).y, &[-y, 0.0, y, y, 0.0, -y]);
        let y = 1.0 / (14.0 / 3.0 + f64::from(1e-6f32)).sqrt();
        let problem = Problem { rows: 2, cols: 3, ..Problem::of(Kind::Rms) };
        close(&reference::<f64>(&problem, &inputs(&x)).y, &x.map(|x| x * y));
    }
}
