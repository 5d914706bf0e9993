//! The numerics rule: one for all kernels.

use crate::Dtype;

/// Judges outputs row by row against the oracle:
///
/// `|out - oracle| <= 2 (E + eps max|oracle|)` with `E = max(max|low - oracle|, 4 * 2^-23 * mag)`.
///
/// `oracle` (f64 formula) and `low` (f32 formula) are rounded to the output dtype here; `mag` is the
/// magnitude of what was added up, per row. Infinities must stand where the oracle has them, except
/// within 2 eps of the dtype's threshold, where either is right. An oracle of NaN judges nothing. No
/// bound is below one subnormal step of the dtype.
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
    /// A case file may widen the bound: absolute, and relative to the oracle's element.
    pub widen: (f64, f64),
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
            let row_bound = (2.0 * (e + eps * peak)).max(self.dtype.subnormal_step());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(dtype: Dtype, oracle: &[f64], out: &[f64]) -> Verdict {
        let mag = vec![1.0; 1];
        Judge { cols: oracle.len(), dtype, oracle, low: oracle, mag: &mag, widen: (0.0, 0.0) }.judge(out)
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
