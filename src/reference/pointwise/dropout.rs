//! Dropout by its definition.

use crate::dropout::Problem;
use crate::reference::Real;
use crate::reference::philox::philox;

/// What it gives, contiguous.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// `[rows, cols]`.
    pub y: Vec<f64>,
    /// One per row, for the numerics rule: the largest `|kept(x)| / (1 - p) + |residual|`.
    pub mag: Vec<f64>,
}

/// The uniform number in [0, 1) of element `e`.
pub fn uniform(seed: u64, offset: u32, e: u32) -> f64 {
    let words = philox([e / 4, offset, 1, 0], [seed as u32, (seed >> 32) as u32]);
    f64::from(words[e as usize % 4] >> 8) / f64::from(1 << 24)
}

/// `y = kept(x) / (1 - p) + residual`, element `e = first + row * cols + column` being kept where `uniform(e) >= p`. `x` and `residual` are
/// contiguous `[rows, cols]`; `offset` is that of the Problem, or what its buffer holds.
///
/// # Panics
/// If an input has fewer values than its shape.
pub fn reference<R: Real>(problem: &Problem, x: &[f64], residual: Option<&[f64]>, offset: u32) -> Output {
    let p = f64::from(problem.p);
    let scale = 1.0 / (1.0 - p);
    let mut out = Output::default();
    for row in 0..problem.rows {
        let mut mag = 0f64;
        for e in row * problem.cols..(row + 1) * problem.cols {
            let kept = uniform(problem.seed, offset, problem.first + e as u32) >= p;
            let v = if kept { R::of(x[e]) * R::of(scale) } else { R::ZERO };
            let residual = residual.map_or(0.0, |residual| residual[e]);
            out.y.push((v + R::of(residual)).f64());
            mag = mag.max(v.f64().abs() + residual.abs());
        }
        out.mag.push(if mag.is_finite() { mag } else { 0.0 });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let problem = Problem { rows: 1, cols: 4, p: 0.25, seed: 7, ..Problem::default() };
        let uniforms: Vec<f64> = (0..4).map(|e| uniform(7, 3, e)).collect();
        let words = philox([0, 3, 1, 0], [7, 0]);
        assert_eq!(uniforms, words.map(|word| f64::from(word >> 8) / 16_777_216.0));
        let y = reference::<f64>(&problem, &[3.0, 6.0, 9.0, f64::NAN], Some(&[0.5; 4]), 3).y;
        for e in 0..3 {
            let want = if uniforms[e] >= 0.25 { 4.0 * (e as f64 + 1.0) + 0.5 } else { 0.5 };
            assert!((y[e] - want).abs() < 1e-12);
        }
        let part = Problem { first: 1, cols: 2, ..problem };
        assert_eq!(reference::<f64>(&part, &[6.0, 9.0], Some(&[0.5; 2]), 3).y, y[1..3]);
        assert_eq!(reference::<f64>(&Problem { p: 1.0, ..problem }, &[f64::NAN; 4], None, 3).y, [0.0; 4]);
        assert_eq!(reference::<f64>(&Problem { p: 0.0, ..problem }, &[1.0; 4], None, 3).y, [1.0; 4]);
    }

    #[test]
    fn as_many_are_dropped_as_are_meant() {
        for p in [0.1, 0.5, 0.9] {
            let dropped = (0..40_000).filter(|&e| uniform(0x0123_4567_89ab_cdef, 5, e) < p).count();
            // Four standard deviations.
            let apart = (dropped as f64 - 40_000.0 * p).abs();
            assert!(apart < 4.0 * (40_000.0 * p * (1.0 - p)).sqrt(), "{dropped} of 40000 at {p}");
        }
    }
}
