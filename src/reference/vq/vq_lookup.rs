//! Vectors of codes by their definition.

use crate::reference::Real;
use crate::vq_lookup::{Combine, Order, Problem};

/// What vq_lookup gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Contiguous, by the Problem's order.
    pub y: Vec<f64>,
    /// One per row of `y`: the formula on absolute values.
    pub mag: Vec<f64>,
    /// How many indices were out of range.
    pub bad: u32,
}

/// `y[i] = codebook[indices[i]]`, the books' vectors side by side or added up in their order.
///
/// `indices` is contiguous `[positions, books]`, `codebook` `[books, num_codes, code_dim]`.
pub fn reference<R: Real>(problem: &Problem, indices: &[i64], codebook: &[f64]) -> Output {
    let Problem { books, num_codes, code_dim, .. } = *problem;
    let channels = problem.channels();
    let (sizes, cols) = problem.y_shape();
    let mut out = Output { y: vec![0.0; sizes[0] * sizes[1] * cols], mag: vec![0.0; sizes[0] * sizes[1]], bad: 0 };
    for i in 0..problem.positions() {
        let mut sum = vec![R::ZERO; channels];
        let mut mag = vec![0f64; channels];
        for book in 0..books {
            let index = indices[i * books + book];
            let known = (0..num_codes as i64).contains(&index);
            out.bad += u32::from(!known);
            let Some(code) = problem.out_of_range.find(index, num_codes) else { continue };
            let vector = &codebook[(book * num_codes + code) * code_dim..][..code_dim];
            for (d, &v) in vector.iter().enumerate() {
                let channel = match problem.combine {
                    Combine::Concat => book * code_dim + d,
                    Combine::Sum => d,
                };
                // A single term is the element itself, whatever its sign of zero.
                let single = problem.combine == Combine::Concat || books == 1;
                sum[channel] = if single { R::of(v) } else { sum[channel] + R::of(v) };
                mag[channel] += v.abs();
            }
        }
        for (channel, (sum, mag)) in sum.into_iter().zip(mag).enumerate() {
            let (batch, s) = (i / problem.spatial, i % problem.spatial);
            let at = match problem.order {
                Order::ChannelsLast => i * channels + channel,
                Order::ChannelsFirst => (batch * channels + channel) * problem.spatial + s,
            };
            out.y[at] = sum.f64();
            out.mag[at / cols] = out.mag[at / cols].max(mag);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vq_lookup::OutOfRange;

    #[test]
    fn by_hand() {
        let problem = Problem { batch: 1, spatial: 3, books: 2, num_codes: 2, code_dim: 2, ..Problem::default() };
        let codebook = [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0];
        let indices = [0, 1, 1, 0, -1, 2];
        let out = reference::<f64>(&problem, &indices, &codebook);
        assert_eq!(out.y, [1.0, 2.0, 30.0, 40.0, 3.0, 4.0, 10.0, 20.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(out.bad, 2);
        let first = Problem { out_of_range: OutOfRange::First, order: Order::ChannelsFirst, ..problem };
        let out = reference::<f64>(&first, &indices, &codebook);
        assert_eq!(out.y, [1.0, 3.0, 1.0, 2.0, 4.0, 2.0, 30.0, 10.0, 10.0, 40.0, 20.0, 20.0]);
        let nearest = Problem { out_of_range: OutOfRange::Nearest, ..problem };
        assert_eq!(reference::<f64>(&nearest, &indices, &codebook).y[8..], [1.0, 2.0, 30.0, 40.0]);
        let sum = Problem { combine: Combine::Sum, ..problem };
        assert_eq!(reference::<f64>(&sum, &indices, &codebook).y, [31.0, 42.0, 13.0, 24.0, 0.0, 0.0]);
    }
}
