//! `a x + b z` by its definition.

use crate::axpby::{Factor, Problem};
use crate::reference::Real;

/// What it gives, contiguous.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// `[rows, cols]`.
    pub y: Vec<f64>,
    /// One per row, for the numerics rule: the largest `|a x| + |b z|`.
    pub mag: Vec<f64>,
}

/// `y = a x + b z`; what is multiplied by 0 does not show. `x` and `z` are contiguous `[rows, cols]`; layouts and dtypes of the
/// Problem have no say here.
///
/// # Panics
/// If an input has fewer values than its shape, or `factors` lacks one that the Problem reads.
pub fn reference<R: Real>(problem: &Problem, x: &[f64], z: Option<&[f64]>, factors: &[f64]) -> Output {
    let of = |factor| match factor {
        Factor::Value(value) => f64::from(value),
        Factor::Buffer(at) => factors[at],
    };
    let times = |a: f64, v: f64| if a == 0.0 { R::ZERO } else { R::of(a) * R::of(v) };
    let a = of(problem.a);
    let b = z.map_or(0.0, |_| of(problem.b));
    let mut out = Output::default();
    for row in 0..problem.rows {
        let mut mag = 0f64;
        for i in row * problem.cols..(row + 1) * problem.cols {
            let (ax, bz) = (times(a, x[i]), times(b, z.map_or(0.0, |z| z[i])));
            out.y.push((ax + bz).f64());
            mag = mag.max(ax.f64().abs() + bz.f64().abs());
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
        let problem = Problem { rows: 2, cols: 2, a: Factor::Value(2.0), b: Factor::Buffer(1), ..Problem::default() };
        let out = reference::<f64>(&problem, &[1.0, 2.0, 3.0, 4.0], Some(&[1.0, -1.0, 0.5, 8.0]), &[9.0, -3.0]);
        assert_eq!(out.y, [-1.0, 7.0, 4.5, -16.0]);
        assert_eq!(out.mag, [7.0, 32.0]);
        let hidden = Problem { rows: 1, a: Factor::Value(0.0), ..problem };
        assert_eq!(reference::<f64>(&hidden, &[f64::NAN; 2], Some(&[1.0, 2.0]), &[0.0, 1.0]).y, [1.0, 2.0]);
        let cast = Problem::cast(1, 2, crate::Dtype::F32, crate::Dtype::F16);
        assert_eq!(reference::<f64>(&cast, &[1.0, f64::INFINITY], None, &[]).y, [1.0, f64::INFINITY]);
    }
}
