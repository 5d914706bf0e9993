//! Scalar quantisation by its definition.

use crate::vq_scalar::{Kind, Problem};

/// The digit of `z` in a dimension of `levels`, and nothing but the papers' formulas: of FSQ (Mentzer et al.,
/// "Finite Scalar Quantization", 2023) `round(tanh(z + shift) half - offset)`, counted from the lowest; of LFQ (Yu et
/// al., "Language Model Beats Diffusion", 2023) whether `z > 0`.
pub fn digit(kind: Kind, levels: u32, z: f64) -> u32 {
    match kind {
        Kind::Fsq => {
            let half = f64::from(levels - 1) * (1.0 + 1e-3) / 2.0;
            let offset = if levels.is_multiple_of(2) { 0.5 } else { 0.0 };
            let shift = (offset / half).atanh();
            let bounded = (z + shift).tanh() * half - offset;
            (bounded.round() + f64::from(levels / 2)) as u32
        }
        Kind::Lfq => u32::from(z > 0.0),
    }
}

/// The value of a digit: of FSQ in [-1, 1), counted in half widths; of LFQ -1 or 1.
pub fn value(kind: Kind, levels: u32, digit: u32) -> f64 {
    match kind {
        Kind::Fsq => {
            let half = f64::from(levels / 2).max(1.0);
            (f64::from(digit) - f64::from(levels / 2)) / half
        }
        Kind::Lfq => 2.0 * f64::from(digit) - 1.0,
    }
}

/// `(indices, y)` of vectors `x`, contiguous `[n, dims]`: the first dimension's digit counts least.
pub fn encode(problem: &Problem, x: &[f64]) -> (Vec<u32>, Vec<f64>) {
    let levels = problem.levels;
    let mut indices = Vec::with_capacity(problem.n);
    for row in x.chunks(levels.len()) {
        let mut weight = 1;
        let mut index = 0;
        for (&levels, &z) in levels.iter().zip(row) {
            index += digit(problem.kind, levels, z) * weight;
            weight = weight.wrapping_mul(levels);
        }
        indices.push(index);
    }
    let y = decode(problem, &indices);
    (indices, y)
}

/// The vectors of `indices`.
pub fn decode(problem: &Problem, indices: &[u32]) -> Vec<f64> {
    let mut y = Vec::with_capacity(indices.len() * problem.levels.len());
    for &index in indices {
        let mut rest = index;
        for &levels in problem.levels {
            y.push(value(problem.kind, levels, rest % levels));
            rest /= levels;
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // 5 levels: -2..2 by tanh z * 2.002; tanh 0.3 = 0.2913, * 2.002 = 0.58, rounds to 1: digit 3, value 0.5.
        let digits = |levels, z: &[f64]| z.iter().map(|&z| digit(Kind::Fsq, levels, z)).collect::<Vec<_>>();
        assert_eq!(digits(5, &[-9.0, -0.3, 0.0, 0.3, 9.0]), [0, 1, 2, 3, 4]);
        assert_eq!(value(Kind::Fsq, 5, 3), 0.5);
        // 4 levels: -2..1, and 0 is 0.
        assert_eq!(digits(4, &[-9.0, 0.0, 9.0]), [0, 2, 3]);
        assert_eq!((value(Kind::Fsq, 4, 0), value(Kind::Fsq, 4, 3)), (-1.0, 0.5));
        let problem = Problem { n: 1, kind: Kind::Lfq, levels: &[2, 2, 2], ..Problem::default() };
        assert_eq!(encode(&problem, &[0.5, -0.0, 3.0]), (vec![5], vec![1.0, -1.0, 1.0]));
    }
}
