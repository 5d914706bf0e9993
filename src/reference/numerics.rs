//! The numerics rule: one for all kernels.

use crate::Dtype;

/// Judges outputs row by row against the oracle:
///
/// `|out - oracle| <= 2 (E + eps max|oracle|)` with `E = max(max|low - oracle|, 4 * 2^-23 * mag)`.
///
/// `oracle` (f64 formula) and `low` (f32 formula) are rounded to the output dtype here; `mag` is the
/// magnitude of what was added up, per row. Infinities must stand where the oracle has them, except
/// within 2 eps of the dtype's threshold, where either is right. An oracle of NaN judges nothing. No
/// bound is below one subnormal step of the dtype. A `low` that is not finite counts as an error of 0.
#[derive(Debug, Clone)]
pub struct Judge<'a> {
    /// Elements per row.
    pub cols: usize,
    /// Dtype of the output.
    pub dtype: Dtype,
    /// The formula in f64.
    pub oracle: &'a [f64],
    /// The formula in f32.
    pub low: &'a [f64],
    /// One per row.
    pub mag: &'a [f64],
    /// One per row: what [`flush_slack`] adds to its bound, on a driver that takes subnormal numbers for 0. Empty on one that
    /// keeps them.
    pub slack: &'a [f64],
    /// A case file may widen the bound: absolute, and relative to the oracle's element.
    pub widen: (f64, f64),
}

/// What the bound of each row grows by on a driver that takes numbers below `below` for 0: that number, where the row has
/// some as small, and the largest distance of what the oracle gives, rounded to `dtype`, from what it gives on inputs of which
/// those are 0.
pub fn flush_slack(cols: usize, dtype: Dtype, below: f64, oracle: &[f64], flushed: &[f64]) -> Vec<f64> {
    let apart = |(a, b): (&f64, &f64)| if a == b { 0.0 } else { (dtype.round(*a) - dtype.round(*b)).abs() };
    let small = |value: &f64| *value != 0.0 && value.abs() < 2.0 * below;
    let rows = oracle.chunks(cols.max(1)).zip(flushed.chunks(cols.max(1)));
    let slack = |(oracle, flushed): (&[f64], &[f64])| {
        let moved = oracle.iter().zip(flushed).map(apart).filter(|moved| moved.is_finite()).fold(0.0, f64::max);
        moved + if oracle.iter().any(small) { below } else { 0.0 }
    };
    rows.map(slack).collect()
}

/// The element that came closest to its bound, or went past it furthest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Worst {
    /// Its index.
    pub index: usize,
    /// What the kernel gave.
    pub out: f64,
    /// What the oracle gives, rounded to the dtype.
    pub expected: f64,
    /// What the rule allows there.
    pub bound: f64,
}

/// What [`Judge::judge`] found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdict {
    /// Elements that break the rule.
    pub wrong: usize,
    /// Elements that were judged.
    pub checked: usize,
    /// Largest error over its bound; infinite for a misplaced infinity or NaN.
    pub ratio: f64,
    /// Largest finite absolute error.
    pub max_error: f64,
    /// The element with that ratio.
    pub worst: Option<Worst>,
}

impl Verdict {
    /// Whether no element is wrong.
    pub fn ok(&self) -> bool {
        self.wrong == 0
    }

    /// Joins the verdicts of two outputs.
    pub fn merge(&mut self, other: Verdict) {
        self.wrong += other.wrong;
        self.checked += other.checked;
        self.max_error = self.max_error.max(other.max_error);
        if other.ratio > self.ratio || self.worst.is_none() {
            self.ratio = other.ratio;
            self.worst = other.worst;
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} wrong", self.wrong, self.checked)?;
        if let Some(w) = self.worst {
            write!(
                f,
                ", worst at {}: {:e}, expected {:e} (error {:.2e}, allowed {:.2e})",
                w.index,
                w.out,
                w.expected,
                (w.out - w.expected).abs(),
                w.bound
            )?;
        }
        Ok(())
    }
}

impl Judge<'_> {
    /// Judges `out`, which has the oracle's length.
    pub fn judge(&self, out: &[f64]) -> Verdict {
        assert_eq!(out.len(), self.oracle.len(), "the output has the oracle's length");
        let mut verdict = Verdict { checked: out.len(), ..Verdict::default() };
        let (eps, overflow) = (self.dtype.eps(), self.dtype.overflow());
        for row in 0..self.oracle.len().checked_div(self.cols).unwrap_or(0) {
            let range = row * self.cols..(row + 1) * self.cols;
            let (mut low_error, mut peak) = (0f64, 0f64);
            for i in range.clone() {
                let expected = self.dtype.round(self.oracle[i]);
                let low = self.dtype.round(self.low[i]);
                if expected.is_finite() {
                    peak = peak.max(expected.abs());
                    if low.is_finite() {
                        low_error = low_error.max((low - expected).abs());
                    }
                }
            }
            let e = low_error.max(4.0 * Dtype::F32.eps() * self.mag[row]);
            let slack = self.slack.get(row).copied().unwrap_or(0.0);
            let row_bound = (2.0 * (e + eps * peak)).max(self.dtype.subnormal_step()) + slack;
            for i in range {
                let (out, exact) = (out[i], self.oracle[i]);
                let expected = self.dtype.round(exact);
                if expected.is_nan() {
                    continue;
                }
                let bound =
                    row_bound + self.widen.0 + self.widen.1 * if expected.is_finite() { expected.abs() } else { 0.0 };
                let at_threshold = exact.is_finite() && (exact.abs() / overflow - 1.0).abs() <= 2.0 * eps;
                let ratio = if out == expected
                    || (at_threshold && out.abs() >= overflow * (1.0 - 4.0 * eps) && out * exact > 0.0)
                {
                    0.0
                } else if out.is_finite() && expected.is_finite() {
                    let error = (out - expected).abs();
                    verdict.max_error = verdict.max_error.max(error);
                    error / bound
                } else {
                    f64::INFINITY
                };
                verdict.wrong += usize::from(ratio > 1.0);
                if verdict.worst.is_none() || ratio > verdict.ratio {
                    verdict.ratio = verdict.ratio.max(ratio);
                    verdict.worst = Some(Worst { index: i, out, expected, bound });
                }
            }
        }
        verdict
    }
}

/// Gradients, held against differences of what they are the gradients of.
#[cfg(test)]
pub(super) mod differences {
    /// An input of a loss, and what is said to be the gradient of the loss by it.
    pub(in crate::reference) struct Input<'a> {
        pub name: &'a str,
        pub values: &'a [f64],
        pub gradient: &'a [f64],
    }

    /// How far an input is moved either way, and twice as far.
    const STEP: f64 = 1e-3;

    /// Holds each gradient against central differences of fourth order of `loss`, which takes the values of all inputs in
    /// their order. Both are f64.
    ///
    /// # Panics
    /// Where they differ by more than 1e-8 of their size, or of 1.
    pub(in crate::reference) fn hold(what: &str, inputs: &[Input], loss: impl Fn(&[Vec<f64>]) -> f64) {
        let mut values: Vec<Vec<f64>> = inputs.iter().map(|input| input.values.to_vec()).collect();
        for (of, Input { name, gradient, .. }) in inputs.iter().enumerate() {
            assert_eq!(gradient.len(), values[of].len(), "{what}: elements of the gradient of {name}");
            for (i, &gradient) in gradient.iter().enumerate() {
                let still = values[of][i];
                let mut apart = |by: f64| {
                    let [more, less] = [by, -by].map(|by| {
                        values[of][i] = still + by;
                        loss(&values)
                    });
                    more - less
                };
                let slope = (8.0 * apart(STEP) - apart(2.0 * STEP)) / (12.0 * STEP);
                values[of][i] = still;
                let near = (gradient - slope).abs() <= 1e-8 * slope.abs().max(1.0);
                assert!(near, "{what}: the gradient of {name} at {i} is {gradient}, the slope {slope}");
            }
        }
    }

    /// A loss whose gradient by `y` is `dy`: their product, of what is finite (hidden results do not move).
    pub(in crate::reference) fn product(y: &[f64], dy: &[f64]) -> f64 {
        assert_eq!(y.len(), dy.len());
        y.iter().zip(dy).filter(|(y, _)| y.is_finite()).map(|(y, dy)| y * dy).sum()
    }

    /// Values between about -3 and 3 without a pattern, others by another seed.
    pub(in crate::reference) fn values(len: usize, seed: usize) -> Vec<f64> {
        (0..len).map(|i| ((i * (29 + 8 * seed) + 5 * seed) % 23) as f64 / 4.0 - 2.7).collect()
    }

    #[test]
    fn what_is_wrong_is_found() {
        let x = [0.5, -1.5];
        let square = |x: &[Vec<f64>]| x[0].iter().map(|x| x * x * x).sum();
        let held = |gradient: [f64; 2]| {
            let input = Input { name: "x", values: &x, gradient: &gradient };
            std::panic::catch_unwind(|| hold("cubes", &[input], square)).is_ok()
        };
        assert!(held([0.75, 6.75]));
        assert!(!held([0.75, 6.750_001]) && !held([0.74, 6.75]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(dtype: Dtype, oracle: &[f64], out: &[f64]) -> Verdict {
        let mag = vec![1.0; 1];
        Judge { cols: oracle.len(), dtype, oracle, low: oracle, mag: &mag, slack: &[], widen: (0.0, 0.0) }.judge(out)
    }

    #[test]
    fn what_a_driver_flushes_is_allowed_there() {
        // 2^100 * 2^-130, and a result that is subnormal itself, beside a row that has neither.
        let (dtype, least) = (Dtype::F32, Dtype::F32.smallest_normal());
        let (oracle, flushed, mag) = ([2f64.powi(-30), 6e-39, 1.0, 1.0], [0.0, 6e-39, 1.0, 1.0], [2f64.powi(-30), 1.0]);
        let slack = flush_slack(2, dtype, least, &oracle, &flushed);
        assert_eq!(slack, [least + 2f64.powi(-30), 0.0]);
        let judge = |slack: &[f64], out: &[f64]| {
            let low = &oracle;
            Judge { cols: 2, dtype, oracle: &oracle, low, mag: &mag, slack, widen: (0.0, 0.0) }.judge(out).wrong
        };
        assert_eq!(judge(&slack, &[0.0, 0.0, 1.0, 1.0]), 0);
        assert_eq!(judge(&slack, &[0.0, 0.0, 1.0, 1.00001]), 1);
        assert_eq!(judge(&slack, &[-1e-9, 0.0, 1.0, 1.0]), 1);
        assert_eq!(judge(&[], &[0.0, 6e-39, 1.0, 1.0]), 1);
    }

    #[test]
    fn a_low_without_a_number_widens_nothing() {
        for low in [f64::NAN, f64::INFINITY] {
            let judge = Judge {
                cols: 1,
                dtype: Dtype::F32,
                oracle: &[0.5],
                low: &[low],
                mag: &[0.0],
                slack: &[],
                widen: (0.0, 0.0),
            };
            assert!(judge.judge(&[0.5]).ok() && !judge.judge(&[0.5 + 1e-6]).ok());
        }
    }

    #[test]
    fn bound_is_as_written() {
        // E = 4 * 2^-23, eps * peak = 2^-23: 10 * 2^-23 is allowed.
        let unit = Dtype::F32.eps();
        assert!(judge(Dtype::F32, &[1.0, 0.5], &[1.0 + 9.9 * unit, 0.5]).ok());
        assert_eq!(judge(Dtype::F32, &[1.0, 0.5], &[1.0 + 10.1 * unit, 0.5]).wrong, 1);
    }

    #[test]
    fn infinities_and_nan() {
        let inf = f64::INFINITY;
        assert!(judge(Dtype::F32, &[-inf, 1.0], &[-inf, 1.0]).ok());
        assert!(!judge(Dtype::F32, &[-inf, 1.0], &[-3e38, 1.0]).ok());
        assert!(!judge(Dtype::F32, &[0.0, 1.0], &[0.0, -inf]).ok());
        assert!(!judge(Dtype::F32, &[0.0, 1.0], &[f64::NAN, 1.0]).ok());
        assert!(judge(Dtype::F32, &[f64::NAN, 1.0], &[f64::NAN, 1.0]).ok());
        // Past the largest half is infinite; at the threshold either is right, beyond it neither.
        assert!(judge(Dtype::F16, &[7e4], &[inf]).ok());
        assert!(!judge(Dtype::F16, &[7e4], &[65504.0]).ok());
        assert!(judge(Dtype::F16, &[65519.0], &[inf]).ok());
        assert!(judge(Dtype::F16, &[65521.0], &[65504.0]).ok());
        assert!(!judge(Dtype::F16, &[65519.0], &[-inf]).ok());
    }
}
