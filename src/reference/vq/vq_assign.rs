//! Nearest codes by their definition.

use crate::reference::Real;
use crate::vq_assign::{Metric, Problem};

/// The distance of a vector and a code: `|x - c|^2`, `1 - xc / |x||c|` (1 where either is zero), or `-xc`.
pub fn distance<R: Real>(metric: Metric, x: &[f64], code: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| {
        let mut sum = R::ZERO;
        for (&a, &b) in a.iter().zip(b) {
            sum += R::of(a) * R::of(b);
        }
        sum
    };
    match metric {
        Metric::L2 => {
            let mut sum = R::ZERO;
            for (&x, &c) in x.iter().zip(code) {
                let t = R::of(x) - R::of(c);
                sum += t * t;
            }
            sum.f64()
        }
        Metric::Cosine => {
            let lengths = R::of(dot(x, x).f64().sqrt()) * R::of(dot(code, code).f64().sqrt());
            if lengths > R::ZERO { (R::of(1.0) - dot(x, code) / lengths).f64() } else { 1.0 }
        }
        Metric::Dot => -dot(x, code).f64(),
    }
}

/// What the distances of a Problem are measured by, for its regret: themselves for L2, `|x||c|` for dot products,
/// 1 for cosines.
pub fn unit(metric: Metric, x: &[f64], code: &[f64], distance: f64) -> f64 {
    let length = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
    match metric {
        Metric::L2 => distance,
        Metric::Cosine => 1.0,
        Metric::Dot => length(x) * length(code),
    }
}

/// The `top` nearest codes of a vector among `codes`, `[num_codes, code_dim]`: by distance, then by index.
pub fn nearest<R: Real>(metric: Metric, x: &[f64], codes: &[f64], top: usize) -> Vec<usize> {
    let distances: Vec<f64> = codes.chunks(x.len()).map(|code| distance::<R>(metric, x, code)).collect();
    let mut order: Vec<usize> = (0..distances.len()).collect();
    order.sort_by(|&a, &b| distances[a].total_cmp(&distances[b]).then(a.cmp(&b)));
    order.truncate(top);
    order
}

/// What vq_assign gives, contiguous.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[n, books, top]`.
    pub indices: Vec<u32>,
    /// In the same places.
    pub distance: Vec<f64>,
    /// `[n, books, code_dim]`, or `[n, code_dim]` of residual books.
    pub quantized: Vec<f64>,
    /// `[books, num_codes]`.
    pub usage: Vec<u32>,
    /// Sum of the squared distances to the nearest codes.
    pub loss: f64,
    /// What each book was given: `[n, books, code_dim]`.
    pub given: Vec<f64>,
}

/// The nearest codes of each vector and book. Where `residual`, a book is given what is left of the vector in
/// `R`.
///
/// `x` is contiguous `[n, books, code_dim]` (`[n, code_dim]` where `residual`), `codebook`
/// `[books, num_codes, code_dim]`. With `indices` of `[n, books, top]` those are taken, whatever is nearest.
pub fn reference<R: Real>(problem: &Problem, x: &[f64], codebook: &[f64], indices: Option<&[u32]>) -> Output {
    let Problem { n, books, num_codes, code_dim, metric, residual, top, .. } = *problem;
    let mut out = Output {
        indices: Vec::with_capacity(n * books * top),
        distance: Vec::with_capacity(n * books * top),
        quantized: Vec::new(),
        usage: vec![0; books * num_codes],
        loss: 0.0,
        given: Vec::with_capacity(n * books * code_dim),
    };
    let mut loss = R::ZERO;
    for i in 0..n {
        let mut rest: Vec<f64> = x[if residual { i } else { i * books } * code_dim..][..code_dim].to_vec();
        let mut sum = vec![R::ZERO; code_dim];
        for book in 0..books {
            if !residual {
                rest.copy_from_slice(&x[(i * books + book) * code_dim..][..code_dim]);
            }
            out.given.extend(&rest);
            let codes = &codebook[book * num_codes * code_dim..][..num_codes * code_dim];
            let found = match indices {
                Some(all) => all[(i * books + book) * top..][..top].iter().map(|&k| k as usize).collect(),
                None => nearest::<R>(metric, &rest, codes, top),
            };
            let code = |k: usize| &codes[k * code_dim..][..code_dim];
            for &k in &found {
                out.indices.push(k as u32);
                out.distance.push(distance::<R>(metric, &rest, code(k)));
            }
            out.usage[book * num_codes + found[0]] += 1;
            loss += R::of(distance::<R>(Metric::L2, &rest, code(found[0])));
            for (d, &c) in code(found[0]).iter().enumerate() {
                if residual {
                    rest[d] = (R::of(rest[d]) - R::of(c)).f64();
                    sum[d] += R::of(c);
                } else {
                    out.quantized.push(c);
                }
            }
        }
        if residual {
            out.quantized.extend(sum.iter().map(|v| v.f64()));
        }
    }
    out.loss = loss.f64();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // (3, 4) to (0, 0): 25; to (3, 0): 16; to (6, 8): 25.
        let codes = [0.0, 0.0, 3.0, 0.0, 6.0, 8.0];
        assert_eq!(nearest::<f64>(Metric::L2, &[3.0, 4.0], &codes, 3), [1, 0, 2]);
        assert_eq!(nearest::<f64>(Metric::Cosine, &[3.0, 4.0], &codes, 2), [2, 1]);
        assert_eq!(nearest::<f64>(Metric::Dot, &[3.0, 4.0], &codes, 3), [2, 1, 0]);
        assert_eq!(distance::<f64>(Metric::Cosine, &[3.0, 4.0], &codes[2..4]), 0.4);
        assert_eq!(distance::<f64>(Metric::Cosine, &[0.0, 0.0], &codes[2..4]), 1.0);
        // Residual: 5 is nearest to 4, which leaves 1, nearest to 1.
        let problem = Problem { books: 2, num_codes: 2, residual: true, ..Problem::default() };
        let out = reference::<f64>(&problem, &[5.0], &[4.0, 9.0, 3.0, 1.0], None);
        assert_eq!((out.indices, out.distance, out.quantized), (vec![0, 1], vec![1.0, 0.0], vec![5.0]));
        assert_eq!((out.usage, out.loss, out.given), (vec![1, 0, 0, 1], 1.0, vec![5.0, 1.0]));
    }
}
