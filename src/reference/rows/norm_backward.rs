//! The gradients of RMS norm and layer norm by their definition.

use super::norm::row;
use crate::norm::Kind;
use crate::norm_backward::Problem;
use crate::reference::Real;

/// What they give, contiguous; and magnitudes for the numerics rule: one per row of `dx`, one each for the rows that
/// `dweight` and `dbias` are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// `[rows, cols]`.
    pub dx: Vec<f64>,
    /// `[cols]`.
    pub dweight: Vec<f64>,
    /// `[cols]`.
    pub dbias: Vec<f64>,
    /// Of `dx`.
    pub mag: Vec<f64>,
    /// Of `dweight`.
    pub dweight_mag: f64,
    /// Of `dbias`.
    pub dbias_mag: f64,
}

/// With `n` the normalised `x` and `g = dy * (weight + weight_offset)`, per row
/// `dx = (g - mean(g) - n * mean(g * n)) * rstd`, without `mean(g)` for RMS norm; over the rows `dweight = sum(dy * n)`
/// and `dbias = sum(dy)`. `x` and `dy` are contiguous `[rows, cols]`, `weight` is `[cols]`; layouts and dtypes of the
/// Problem have no say here.
///
/// Magnitudes are those of the formula on absolute values, where `|n|` is with `Layer` the largest of its row: an error
/// of the mean counts by the distances that it was taken from.
///
/// # Panics
/// If an input has fewer values than its shape.
pub fn reference<R: Real>(problem: &Problem, x: &[f64], weight: Option<&[f64]>, dy: &[f64]) -> Output {
    let Problem { kind, rows, cols, eps, weight_offset, .. } = *problem;
    let offset = f64::from(weight_offset);
    let weight = |j: usize| weight.map_or(1.0, |weight| weight[j]);
    let count = R::of(cols as f64);
    let mut out = Output::default();
    let (mut dweight, mut dbias) = (vec![R::ZERO; cols], vec![R::ZERO; cols]);
    let (mut dweight_mag, mut dbias_mag) = (vec![0f64; cols], vec![0f64; cols]);
    for r in 0..rows {
        if cols == 0 {
            continue;
        }
        let values: Vec<R> = x[r * cols..(r + 1) * cols].iter().map(|&v| R::of(v)).collect();
        let dy = &dy[r * cols..(r + 1) * cols];
        let row = row(kind, eps, &values);
        let n: Vec<R> = row.from_mean.iter().map(|&d| d * row.rstd).collect();
        let g: Vec<R> = (0..cols).map(|j| R::of(dy[j]) * (R::of(weight(j)) + R::of(offset))).collect();
        let n_abs = |j: usize| match kind {
            Kind::Layer => row.reach * row.rstd.f64(),
            Kind::Rms => n[j].f64().abs(),
        };
        let g_abs = |j: usize| dy[j].abs() * (weight(j).abs() + offset.abs());
        let (mut g_sum, mut slope, mut g_mag, mut slope_mag) = (R::ZERO, R::ZERO, 0.0, 0.0);
        for j in 0..cols {
            g_sum += g[j];
            slope += g[j] * n[j];
            g_mag += g_abs(j) / cols as f64;
            slope_mag += g_abs(j) * n_abs(j) / cols as f64;
        }
        let (g_mean, g_mag) = if kind == Kind::Layer { (g_sum / count, g_mag) } else { (R::ZERO, 0.0) };
        let slope = slope / count;
        let mut mag = 0f64;
        for j in 0..cols {
            out.dx.push(((g[j] - g_mean - n[j] * slope) * row.rstd).f64());
            mag = mag.max((g_abs(j) + g_mag + n_abs(j) * slope_mag) * row.rstd.f64());
            dweight[j] += R::of(dy[j]) * n[j];
            dbias[j] += R::of(dy[j]);
            dweight_mag[j] += dy[j].abs() * n_abs(j);
            dbias_mag[j] += dy[j].abs();
        }
        out.mag.push(mag);
    }
    out.dweight = dweight.into_iter().map(R::f64).collect();
    out.dbias = dbias.into_iter().map(R::f64).collect();
    out.dweight_mag = dweight_mag.into_iter().fold(0.0, f64::max);
    out.dbias_mag = dbias_mag.into_iter().fold(0.0, f64::max);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::norm;
    use crate::reference::numerics::differences::{Input, hold, product, values};
    use approx::assert_relative_eq;

    fn close(have: &[f64], want: &[f64]) {
        assert_eq!(have.len(), want.len());
        for (have, want) in have.iter().zip(want) {
            assert_relative_eq!(*have, *want, max_relative = 1e-13, epsilon = 1e-13);
        }
    }

    #[test]
    fn by_hand() {
        // x = [1, 7] has a root mean square of 5: n = [1/5, 7/5]. g = [5, 10]: the mean of g n is (1 + 14) / 2.
        let rms = Problem { rows: 1, cols: 2, eps: 0.0, ..Problem::of(Kind::Rms) };
        let out = reference::<f64>(&rms, &[1.0, 7.0], Some(&[1.0, 2.0]), &[5.0, 5.0]);
        close(&out.dx, &[(5.0 - 7.5 / 5.0) / 5.0, (10.0 - 7.5 * 7.0 / 5.0) / 5.0]);
        close(&out.dweight, &[1.0, 7.0]);
        close(&out.dbias, &[5.0, 5.0]);
        // x = [1, 3, 1, 3]: mean 2, deviation 1, n = [-1, 1, -1, 1]. dy = [4, 0, 0, 0]: means 1 and -1.
        let layer = Problem { rows: 1, cols: 4, eps: 0.0, ..Problem::of(Kind::Layer) };
        let out = reference::<f64>(&layer, &[1.0, 3.0, 1.0, 3.0], None, &[4.0, 0.0, 0.0, 0.0]);
        close(&out.dx, &[2.0, 0.0, -2.0, 0.0]);
        close(&out.dweight, &[-4.0, 0.0, 0.0, 0.0]);
        // 4 + 1 + 1 * 1.
        close(&out.mag, &[6.0]);
        // Columns add up over the rows; none leave 0.
        let out = reference::<f64>(&Problem { rows: 2, ..rms }, &[1.0, 7.0, 7.0, -1.0], None, &[5.0, 5.0, 10.0, 5.0]);
        close(&out.dweight, &[15.0, 6.0]);
        close(&out.dbias, &[15.0, 10.0]);
        assert_eq!(reference::<f64>(&Problem { rows: 0, ..rms }, &[], None, &[]).dweight, [0.0, 0.0]);
    }

    #[test]
    fn gradients_are_slopes() {
        let (rows, cols) = (4, 5);
        let (x, dy) = (values(rows * cols, 1), values(rows * cols, 2));
        let (weight, bias) = (values(cols, 3), values(cols, 4));
        for (kind, eps, weight_offset) in
            [(Kind::Rms, 1e-6, 0.0), (Kind::Rms, 0.5, 1.0), (Kind::Layer, 1e-5, 0.0), (Kind::Layer, 0.5, -0.25)]
        {
            let problem = Problem { rows, cols, eps, weight_offset, ..Problem::of(kind) };
            let forward = crate::norm::Problem { rows, cols, eps, weight_offset, ..crate::norm::Problem::of(kind) };
            let loss = |x: &[f64], weight: Option<&[f64]>, bias: Option<&[f64]>| {
                product(&norm::reference::<f64>(&forward, &norm::Inputs { x, residual: None, weight, bias }).y, &dy)
            };
            let what = format!("{} norm, eps {eps}, weight_offset {weight_offset}", kind.name());
            let out = reference::<f64>(&problem, &x, Some(&weight), &dy);
            let input = |name, values, gradient| Input { name, values, gradient };
            let inputs =
                [input("x", &x, &out.dx), input("weight", &weight, &out.dweight), input("bias", &bias, &out.dbias)];
            hold(&what, &inputs, |all| loss(&all[0], Some(&all[1]), Some(&all[2])));
            let bare = reference::<f64>(&problem, &x, None, &dy).dx;
            hold(&format!("{what}, no weight"), &[input("x", &x, &bare)], |all| loss(&all[0], None, None));
        }
    }
}
