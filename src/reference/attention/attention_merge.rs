//! The merge of attention's partial results by its definition.

use crate::reference::Real;

/// `o [rows, dim]`, `lse [rows]`; and `mag`, one per row, of each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// `[rows, dim]`.
    pub o: Vec<f64>,
    /// `[rows]`.
    pub lse: Vec<f64>,
    /// Of `o`, one per row.
    pub mag: Vec<f64>,
    /// Of `lse`, one per row.
    pub lse_mag: Vec<f64>,
}

/// `o = sum_s w_s o_s / sum w`, `lse = max + ln(sum w)`, where `w_s = exp(lse_s - max lse)`. A part with an LSE of
/// minus infinity counts nothing, whatever its `o`. `o` is contiguous `[splits, rows, dim]`, `lse` `[splits, rows]`.
///
/// # Panics
/// If `o` or `lse` is shorter than that.
pub fn reference<R: Real>(splits: usize, rows: usize, dim: usize, o: &[f64], lse: &[f64]) -> Output {
    let mut out = Output::default();
    for row in 0..rows {
        let parts = (0..splits).map(|s| s * rows + row).filter(|&at| lse[at] != f64::NEG_INFINITY);
        let max = parts.clone().map(|at| R::of(lse[at])).fold(R::NEG_INFINITY, R::max);
        let weights: Vec<(usize, R)> = parts.map(|at| (at, (R::of(lse[at]) - max).exp())).collect();
        let mut sum = R::ZERO;
        weights.iter().for_each(|(_, w)| sum += *w);
        let norm = if weights.is_empty() { R::of(1.0) } else { sum };
        let reach =
            1.0 + weights.iter().filter(|(_, w)| w.f64() > 0.0).map(|(at, _)| lse[*at].abs()).fold(0.0, f64::max);
        let mut peak = 0f64;
        for c in 0..dim {
            let (mut value, mut mag) = (R::ZERO, 0.0);
            for (at, w) in &weights {
                value += *w * R::of(o[at * dim + c]);
                mag += w.f64() * o[at * dim + c].abs();
            }
            out.o.push((value / norm).f64());
            peak = peak.max(mag / norm.f64());
        }
        out.lse.push(if weights.is_empty() { f64::NEG_INFINITY } else { (max + sum.ln()).f64() });
        out.mag.push(peak * reach);
        out.lse_mag.push(reach);
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
        let out = reference::<f64>(2, 3, 1, &[8.0, f64::NAN, 7.0, 16.0, 5.0, f64::NAN], &lse);
        assert_relative_eq!(out.o[0], 14.0, max_relative = 1e-14);
        assert_relative_eq!(out.lse[0], 8f64.ln(), max_relative = 1e-14);
        assert_eq!(out.o[1..], [5.0, 0.0]);
        assert_eq!(out.lse[1..], [1.0, -inf]);
    }
}
