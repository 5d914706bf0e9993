//! Vectors summed by code, by their definition.

use crate::reference::Real;
use crate::vq_scatter::Problem;

/// What vq_scatter gives, contiguous.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[books, num_codes, code_dim]`.
    pub sums: Vec<f64>,
    /// `[books, num_codes]`: the formula on absolute values.
    pub mag: Vec<f64>,
    /// `[books, num_codes]`.
    pub counts: Vec<u32>,
}

/// `sums[indices[i]] += x[i]`, in the order of `i`.
///
/// `indices` is contiguous `[positions, books]`, `x` `[positions, books, code_dim]`.
pub fn reference<R: Real>(problem: &Problem, indices: &[i64], x: &[f64]) -> Output {
    let Problem { books, num_codes, code_dim, .. } = *problem;
    let mut sums = vec![R::ZERO; books * num_codes * code_dim];
    let mut mags = vec![0f64; books * num_codes * code_dim];
    let mut counts = vec![0; books * num_codes];
    for (row, (&index, x)) in indices.iter().zip(x.chunks(code_dim)).enumerate() {
        let Some(code) = problem.out_of_range.find(index, num_codes) else { continue };
        let at = row % books * num_codes + code;
        counts[at] += 1;
        for (d, &v) in x.iter().enumerate() {
            sums[at * code_dim + d] += R::of(v);
            mags[at * code_dim + d] += v.abs();
        }
    }
    let mag = mags.chunks(code_dim).map(|row| row.iter().fold(0f64, |a, &b| a.max(b))).collect();
    Output { sums: sums.into_iter().map(R::f64).collect(), mag, counts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vq_lookup::OutOfRange;

    #[test]
    fn by_hand() {
        let problem = Problem { spatial: 3, books: 2, num_codes: 2, code_dim: 1, ..Problem::default() };
        let out = reference::<f64>(&problem, &[0, 1, 0, 7, 1, 1], &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]);
        assert_eq!(out.sums, [5.0, 16.0, 0.0, 34.0]);
        assert_eq!(out.counts, [2, 1, 0, 2]);
        let first = Problem { out_of_range: OutOfRange::First, ..problem };
        assert_eq!(reference::<f64>(&first, &[0, 1, 0, 7, 1, 1], &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]).sums[2], 8.0);
        let nearest = Problem { out_of_range: OutOfRange::Nearest, ..problem };
        let out = reference::<f64>(&nearest, &[0, 1, 0, 7, 1, 1], &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]);
        assert_eq!(out.sums, [5.0, 16.0, 0.0, 42.0]);
    }
}
