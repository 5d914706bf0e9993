//! Sums of columns by their definition.

use crate::column_sums::Problem;
use crate::reference::Real;

/// What it gives: sums per column, and the largest sum of magnitudes, for the numerics rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[cols]`.
    pub y: Vec<f64>,
    /// One, of the row that `y` is.
    pub mag: f64,
}

/// `y = sum(x)` over the rows of the contiguous `x`, `[rows, cols]`, on top of `before` where there is one.
///
/// # Panics
/// If an input has fewer values than its shape.
pub fn reference<R: Real>(problem: &Problem, x: &[f64], before: Option<&[f64]>) -> Output {
    let Problem { rows, cols, .. } = *problem;
    let mut out = Output { y: Vec::new(), mag: 0.0 };
    for j in 0..cols {
        let (mut sum, mut mag) = (R::ZERO, 0f64);
        for row in 0..rows {
            sum += R::of(x[row * cols + j]);
            mag += x[row * cols + j].abs();
        }
        let before = before.map_or(0.0, |before| before[j]);
        out.y.push((sum + R::of(before)).f64());
        out.mag = out.mag.max(mag + before.abs());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let problem = Problem { rows: 3, cols: 2, ..Problem::default() };
        let x = [1.0, -2.0, 3.0, -4.0, 5.0, 6.0];
        assert_eq!(reference::<f64>(&problem, &x, None), Output { y: vec![9.0, 0.0], mag: 12.0 });
        assert_eq!(reference::<f64>(&problem, &x, Some(&[0.5, -1.0])).y, [9.5, -1.0]);
        assert_eq!(reference::<f64>(&Problem { rows: 0, ..problem }, &[], None).y, [0.0, 0.0]);
    }
}
