//! The gradient of the merge of attention's partial results by its definition.

use crate::reference::Real;

/// What one call reads, contiguous; see [`reference()`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Inputs<'a> {
    /// `[splits, rows, dim]`.
    pub o: &'a [f64],
    /// `[splits, rows]`: log-sum-exps, or maxima.
    pub lse: &'a [f64],
    /// `[splits, rows]`, beside maxima.
    pub sum: Option<&'a [f64]>,
    /// `[rows, dim]`.
    pub d_o: &'a [f64],
    /// `[rows]`.
    pub dlse: Option<&'a [f64]>,
}

/// `d_parts [splits, rows, dim]` and `dlse_parts [splits, rows]`; and `mag` of both, one per part and row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// `[splits, rows, dim]`.
    pub d_parts: Vec<f64>,
    /// `[splits, rows]`.
    pub dlse_parts: Vec<f64>,
    /// Of `d_parts`.
    pub mag: Vec<f64>,
    /// Of `dlse_parts`.
    pub dlse_mag: Vec<f64>,
}

/// With weights `w_s` as in [`attention_merge`](crate::reference::attention_merge), divided by their sum: `do_s = w_s do`,
/// `dlse_s = w_s (do . o_s - sum_t w_t do . o_t + dlse)`. A part that counts nothing gets 0, whatever its `o`.
///
/// # Panics
/// If an input is shorter than its shape.
pub fn reference<R: Real>([splits, rows, dim]: [usize; 3], x: &Inputs) -> Output {
    let n = splits * rows;
    let zeros = |len| vec![0.0; len];
    let mut out = Output { d_parts: zeros(n * dim), dlse_parts: zeros(n), mag: zeros(n), dlse_mag: zeros(n) };
    for row in 0..rows {
        let sum_of = |at: usize| x.sum.map_or(1.0, |sum| sum[at]);
        let counts = |&at: &usize| x.lse[at] != f64::NEG_INFINITY && sum_of(at) != 0.0;
        let parts: Vec<usize> = (0..splits).map(|s| s * rows + row).filter(counts).collect();
        let max = parts.iter().map(|&at| R::of(x.lse[at])).fold(R::NEG_INFINITY, R::max);
        let weights: Vec<R> = parts.iter().map(|&at| (R::of(x.lse[at]) - max).exp() * R::of(sum_of(at))).collect();
        let mut total = R::ZERO;
        weights.iter().for_each(|w| total += *w);
        let mean = parts.iter().map(|&at| x.lse[at]).sum::<f64>() / parts.len() as f64;
        let weighty = || parts.iter().zip(&weights).filter(|(_, w)| w.f64() > 0.0).map(|(&at, _)| x.lse[at]);
        let error = 1.0 + weighty().map(|lse| (lse - mean).abs()).fold(0.0, f64::max);
        let d_o = &x.d_o[row * dim..][..dim];
        let (mut delta, mut delta_mag) = (R::ZERO, 0.0);
        let mut products = Vec::new();
        for (&at, &weight) in parts.iter().zip(&weights) {
            let (mut g, mut mag) = (R::ZERO, 0.0);
            if weight.f64() != 0.0 {
                for (a, b) in d_o.iter().zip(&x.o[at * dim..][..dim]) {
                    g += R::of(*a) * R::of(*b);
                    mag += (a * b).abs();
                }
            }
            delta += weight / total * g;
            delta_mag += (weight / total).f64() * mag;
            products.push((g, mag));
        }
        let dlse = x.dlse.map_or(0.0, |dlse| dlse[row]);
        for ((&at, &weight), (g, mag)) in parts.iter().zip(&weights).zip(products) {
            let weight = weight / total;
            for (to, d_o) in out.d_parts[at * dim..].iter_mut().zip(d_o) {
                *to = (weight * R::of(*d_o)).f64();
                out.mag[at] = out.mag[at].max(weight.f64() * d_o.abs() * error);
            }
            out.dlse_parts[at] = (weight * (g - delta + R::of(dlse))).f64();
            out.dlse_mag[at] = weight.f64() * (mag + delta_mag + dlse.abs()) * error;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::attention_merge;
    use crate::reference::numerics::differences::{Input, hold, values};

    #[test]
    fn by_hand() {
        let inf = f64::INFINITY;
        // Weights 1/4, 3/4 and none; o of 8, 16 and NaN, do of 2: g = 16, 32, delta 28.
        let x = Inputs {
            o: &[8.0, 16.0, f64::NAN],
            lse: &[0.0, 3f64.ln(), -inf],
            d_o: &[2.0],
            dlse: Some(&[4.0]),
            sum: None,
        };
        let out = reference::<f64>([3, 1, 1], &x);
        for (have, want) in out.d_parts.iter().chain(&out.dlse_parts).zip([0.5, 1.5, 0.0, -2.0, 6.0, 0.0]) {
            approx::assert_relative_eq!(*have, want, max_relative = 1e-14);
        }
    }

    #[test]
    fn gradients_are_those_of_the_forward_call() {
        let (sizes @ [splits, rows, dim], n) = ([3, 4, 5], 12);
        let (o, lse, d_o, dlse) = (values(n * dim, 1), values(n, 2), values(rows * dim, 3), values(rows, 4));
        let sum: Vec<f64> = (0..n).map(|i| 1.0 + (i % 3) as f64).collect();
        for sum in [None, Some(&sum[..])] {
            let x = Inputs { o: &o, lse: &lse, sum, d_o: &d_o, dlse: Some(&dlse) };
            let out = reference::<f64>(sizes, &x);
            let all = [
                Input { name: "o", values: &o, gradient: &out.d_parts },
                Input { name: "lse", values: &lse, gradient: &out.dlse_parts },
            ];
            hold("attention_merge", &all, |all| {
                let out = attention_merge::reference::<f64>([splits, rows, dim], &all[0], &all[1], sum);
                let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                product(&out.o, &d_o) + product(&out.lse, &dlse)
            });
        }
    }
}
