//! The merge of attention's partial results by its definition.

use crate::reference::Real;

/// `o [rows, dim]`, and `[rows]` of `lse`, `max` and `sum`; and `mag`, one per row, of o and LSE.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// `[rows, dim]`.
    pub o: Vec<f64>,
    /// `[rows]`.
    pub lse: Vec<f64>,
    /// `[rows]`: the largest LSE, or maximum.
    pub max: Vec<f64>,
    /// `[rows]`: of the weights.
    pub sum: Vec<f64>,
    /// Of `o`, one per row.
    pub mag: Vec<f64>,
    /// Of `lse` and `max`, one per row.
    pub lse_mag: Vec<f64>,
    /// Of `sum`, one per row.
    pub sum_mag: Vec<f64>,
}

/// `o = sum_s w_s o_s / sum w`, `lse = max + ln(sum w)`, where `w_s = exp(lse_s - max lse)`; times `sum_s`, where parts
/// have maxima, in place of `lse`, and sums. A part with an LSE of minus infinity, or a sum of 0, counts nothing, whatever
/// its `o`. `o` is contiguous `[splits, rows, dim]`, `lse` and `sum` are `[splits, rows]`.
///
/// # Panics
/// If `o`, `lse` or `sum` is shorter than that.
pub fn reference<R: Real>([splits, rows, dim]: [usize; 3], o: &[f64], lse: &[f64], sum: Option<&[f64]>) -> Output {
    let mut out = Output::default();
    for row in 0..rows {
        let sum_of = |at: usize| sum.map_or(1.0, |sum| sum[at]);
        let counts = |&at: &usize| lse[at] != f64::NEG_INFINITY && sum_of(at) != 0.0;
        let parts: Vec<usize> = (0..splits).map(|s| s * rows + row).filter(counts).collect();
        let max = parts.iter().map(|&at| R::of(lse[at])).fold(R::NEG_INFINITY, R::max);
        let weights: Vec<R> = parts.iter().map(|&at| (R::of(lse[at]) - max).exp() * R::of(sum_of(at))).collect();
        let mut sum = R::ZERO;
        weights.iter().for_each(|w| sum += *w);
        let norm = if parts.is_empty() { R::of(1.0) } else { sum };
        let mean = parts.iter().map(|&at| lse[at]).sum::<f64>() / parts.len() as f64;
        let weighty = || parts.iter().zip(&weights).filter(|(_, w)| w.f64() > 0.0).map(|(&at, _)| lse[at]);
        let distance = weighty().map(|lse| (lse - mean).abs()).fold(0.0, f64::max);
        let mut peak = 0f64;
        for c in 0..dim {
            let (mut value, mut mag) = (R::ZERO, 0.0);
            for (at, w) in parts.iter().zip(&weights) {
                value += *w * R::of(o[at * dim + c]);
                mag += w.f64() * o[at * dim + c].abs();
            }
            out.o.push((value / norm).f64());
            peak = peak.max(mag / norm.f64());
        }
        out.lse.push(if parts.is_empty() { f64::NEG_INFINITY } else { (max + sum.ln()).f64() });
        out.max.push(max.f64());
        out.sum.push(sum.f64());
        out.mag.push(peak * (1.0 + distance));
        out.sum_mag.push(sum.f64() * (1.0 + distance));
        out.lse_mag.push(1.0 + weighty().map(f64::abs).fold(0.0, f64::max));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn by_hand() {
        let inf = f64::INFINITY;
        // Weights 1 : 3 of 8 and 16; a part that saw nothing; nothing at all.
        let lse = [2f64.ln(), -inf, -inf, 6f64.ln(), 1.0, -inf];
        let o = [8.0, f64::NAN, 7.0, 16.0, 5.0, f64::NAN];
        let out = reference::<f64>([2, 3, 1], &o, &lse, None);
        assert_relative_eq!(out.o[0], 14.0, max_relative = 1e-14);
        assert_relative_eq!(out.lse[0], 8f64.ln(), max_relative = 1e-14);
        assert_eq!(out.o[1..], [5.0, 0.0]);
        assert_eq!(out.lse[1..], [1.0, -inf]);
        // The same weights as maxima and sums; a sum of 0.
        let sums = [2.0, 1.0, 0.0, 6.0, 1.0, 0.0];
        let out = reference::<f64>([2, 3, 1], &o, &[1e8, -inf, 1.0, 1e8, 1.0, 2.0], Some(&sums));
        assert_relative_eq!(out.o[0], 14.0, max_relative = 1e-14);
        assert_eq!(out.o[1..], [5.0, 0.0]);
        assert_eq!((&out.max[..], &out.sum[..]), (&[1e8, 1.0, -inf][..], &[8.0, 1.0, 0.0][..]));
    }
}
