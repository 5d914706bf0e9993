//! Softmax by its definition.

use crate::reference::Real;
use crate::softmax::Problem;

/// What softmax gives, contiguous: `y [rows, cols]`, `lse [rows]`; and `mag`, one per row, for the numerics rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[rows, cols]`.
    pub y: Vec<f64>,
    /// `[rows]`.
    pub lse: Vec<f64>,
    /// Of `y`.
    pub mag: Vec<f64>,
    /// Of `lse`.
    pub lse_mag: Vec<f64>,
}

/// `y[r, j] = exp(s[r, j] - max) / sum` or `s[r, j] - lse`, over the visible `j`, where
/// `s = scale * x + bias`. `x` and `bias` are contiguous `[rows, cols]`; a bias of minus infinity hides.
/// Layouts and dtypes of the Problem are ignored.
///
/// With `D` the largest distance, over the elements that carry weight, of `scale * x` from its mean over the visible ones,
/// `mag` is `(1 + D) * max y`, or `1 + D` with `log`; that of the lse is 1 and the largest `|s|` that carries weight.
///
/// # Panics
/// If `x` or `bias` has fewer than `rows * cols` values, or `dims` a size of 0.
pub fn reference<R: Real>(problem: &Problem, x: &[f64], bias: Option<&[f64]>) -> Output {
    let Problem { rows, cols, dims: [_, seq_q], scale, .. } = *problem;
    let mut out = Output { y: Vec::new(), lse: Vec::new(), mag: Vec::new(), lse_mag: Vec::new() };
    for row in 0..rows {
        let i = row % seq_q;
        let bias = |j: usize| bias.map_or(0.0, |bias| bias[row * cols + j]);
        let scaled = |j: usize| f64::from(scale) * x[row * cols + j];
        let shown = |j: usize| {
            let causal = problem.causal && j + seq_q > i + cols;
            !causal && bias(j) != f64::NEG_INFINITY && scaled(j) != f64::NEG_INFINITY
        };
        let score = |j: usize| shown(j).then(|| R::of(scale.into()) * R::of(x[row * cols + j]) + R::of(bias(j)));
        let scores: Vec<Option<R>> = (0..cols).map(score).collect();
        let visible = || scores.iter().flatten().copied();
        let max = visible().fold(R::NEG_INFINITY, R::max);
        let mut sum = R::ZERO;
        for s in visible() {
            sum += (s - max).exp();
        }
        let dead = visible().next().is_none();
        let lse = if dead { R::NEG_INFINITY } else { max + sum.ln() };
        out.y.extend(scores.iter().map(|s| match (problem.log, s) {
            (true, None) => f64::NEG_INFINITY,
            (false, None) => 0.0,
            (true, Some(s)) => (*s - max - sum.ln()).f64(),
            (false, Some(s)) => ((*s - max).exp() / sum).f64(),
        }));
        out.lse.push(lse.f64());
        // Scores far below the maximum have no weight, and no error: exp(-120) is below every f32 ULP.
        let weighs = |j: &usize| scores[*j].is_some_and(|s| s.f64() > max.f64() - 120.0);
        let farthest =
            |of: &dyn Fn(usize) -> f64| (0..cols).filter(weighs).fold(0.0, |most: f64, j| most.max(of(j).abs()));
        let count = visible().count() as f64;
        let mean = (0..cols).filter(|&j| shown(j)).map(|j| scaled(j) / count).sum::<f64>();
        let peak = if problem.log || dead { 1.0 } else { 1.0 / sum.f64() };
        out.mag.push(peak * (1.0 + farthest(&|j| scaled(j) - mean)));
        out.lse_mag.push(1.0 + farthest(&|j| scores[j].map_or(0.0, R::f64)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    fn problem(rows: usize, cols: usize) -> Problem {
        Problem { rows, cols, ..Default::default() }
    }

    #[test]
    fn by_hand() {
        // e^0 : e^ln2 : e^ln5 = 1 : 2 : 5.
        let x = [0.0, 2f64.ln(), 5f64.ln()];
        let out = reference::<f64>(&problem(1, 3), &x, None);
        for (y, want) in out.y.iter().zip([0.125, 0.25, 0.625]) {
            assert_relative_eq!(*y, want, max_relative = 1e-14);
        }
        assert_relative_eq!(out.lse[0], 8f64.ln(), max_relative = 1e-14);
        let log = reference::<f64>(&Problem { log: true, ..problem(1, 3) }, &x, None);
        assert_relative_eq!(log.y[0], -(8f64.ln()), max_relative = 1e-14);
        // A shift changes nothing but the lse, however large.
        let far: Vec<f64> = x.iter().map(|v| v - 2e5).collect();
        let out = reference::<f64>(&problem(1, 3), &far, None);
        assert_relative_eq!(out.y[2], 0.625, max_relative = 1e-9);
        assert_relative_eq!(out.lse[0], 8f64.ln() - 2e5, max_relative = 1e-14);
    }

    #[test]
    fn published() {
        // Wikipedia, "Softmax function": [1, 2, 3, 4, 1, 2, 3].
        let out = reference::<f64>(&problem(1, 7), &[1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0], None);
        for (y, want) in
            out.y.iter().zip([0.02364054, 0.06426166, 0.1746813, 0.474833, 0.02364054, 0.06426166, 0.1746813])
        {
            assert_relative_eq!(*y, want, max_relative = 1e-6);
        }
    }

    #[test]
    fn masks_and_dead_rows() {
        let inf = f64::INFINITY;
        // Bottom-right causal on 3 queries and 2 keys: the first query sees nothing.
        let causal = Problem { dims: [1, 3], causal: true, ..problem(3, 2) };
        let out = reference::<f64>(&causal, &[7.0, 8.0, 7.0, 8.0, 0.0, 3f64.ln()], None);
        assert_eq!(&out.y[..4], &[0.0, 0.0, 1.0, 0.0]);
        assert_relative_eq!(out.y[5], 0.75, max_relative = 1e-14);
        assert_eq!(&out.lse[..2], &[-inf, 7.0]);
        // A finite mask value stays a number: the row is uniform, not dead.
        let out = reference::<f64>(&problem(1, 2), &[1.0, 1.0], Some(&[-1e9, -1e9]));
        assert_eq!(out.y, [0.5, 0.5]);
        let dead = reference::<f64>(&Problem { log: true, ..problem(1, 2) }, &[1.0, 1.0], Some(&[-inf, -inf]));
        assert_eq!(dead.y, [-inf, -inf]);
        assert_eq!(dead.lse, [-inf]);
    }
    #[test]
    fn scores_beyond_f32() {
        let twice = Problem { scale: 2.0, ..problem(3, 2) };
        let x = [-3e38, -3e38, 3e38, 3e38, 3e38, 0.0];
        let out = reference::<f64>(&twice, &x, None);
        assert_eq!(out.y, [0.5, 0.5, 0.5, 0.5, 1.0, 0.0]);
        assert_eq!(out.lse[0], -6e38);
        // The textbook formula has nothing to say of them, rather than that nothing is visible.
        assert!(reference::<f32>(&twice, &x, None).y.iter().all(|y| y.is_nan()));
    }

    #[test]
    fn magnitudes_are_distances_from_the_mean() {
        // Scores 1000, 1002, 1004; the last two weigh e^-2 and 1 beside the mask's -1e9, which takes the first out.
        let of = |bias: &[f64]| {
            reference::<f64>(&Problem { scale: 2.0, ..problem(1, 3) }, &[500.0, 501.0, 502.0], Some(bias))
        };
        let (plain, masked) = (of(&[0.0; 3]), of(&[-1e9, 0.0, 0.0]));
        assert_relative_eq!(plain.mag[0], 3.0 * plain.y[2], max_relative = 1e-12);
        assert_relative_eq!(masked.mag[0], 3.0 * masked.y[2], max_relative = 1e-12);
        assert_eq!(plain.lse_mag, [1005.0]);
        // What is hidden does not count in the mean.
        let hidden = of(&[f64::NEG_INFINITY, 0.0, 0.0]);
        assert_relative_eq!(hidden.mag[0], 2.0 * hidden.y[2], max_relative = 1e-12);
    }
}
