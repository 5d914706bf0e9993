//! Rotary position embedding by its definition.

use crate::reference::Real;
use crate::rope::{Angles, Problem, Style};

/// What rope gives, contiguous `[batch, heads, seq, head_dim]`; and `mag`, one per head vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[batch, heads, seq, head_dim]`.
    pub y: Vec<f64>,
    /// One per head vector.
    pub mag: Vec<f64>,
}

/// `(a, b) -> (a cos t - b sin t, b cos t + a sin t)` for each pair of each head vector, where
/// `t = position * frequency`, its cos and sin times the attention factor; the inverse has `-sin t`.
/// Angles are f64, and rotations `R`. A pair of style `half` is `(x[i], x[i + rotary_dim / 2])`, of
/// `interleaved` `(x[2i], x[2i + 1])`; from `rotary_dim` on `y = x`.
///
/// `x` is contiguous `[batch, heads, seq, head_dim]`, of q or of k; `positions` `[axes, batch, seq]`, or
/// `None` where the Problem counts them; `tables` cos and sin `[max_pos, rotary_dim / 2]` where it has tables.
pub fn reference<R: Real>(
    problem: &Problem,
    heads: usize,
    x: &[f64],
    positions: Option<&[i64]>,
    tables: Option<[&[f64]; 2]>,
) -> Output {
    let Problem { batch, seq, head_dim, rotary_dim, .. } = *problem;
    let half = rotary_dim / 2;
    let mut out = Output { y: x.to_vec(), mag: Vec::with_capacity(batch * heads * seq) };
    for row in 0..batch * heads * seq {
        let (b, s) = (row / seq / heads, row % seq);
        let (x, y) = (&x[row * head_dim..][..head_dim], &mut out.y[row * head_dim..][..head_dim]);
        let mut mag = x[rotary_dim..].iter().fold(0f64, |mag, v| mag.max(v.abs()));
        for pair in 0..half {
            let position = match positions {
                Some(all) => all[(problem.axis(pair) * batch + b) * seq + s],
                None => problem.counted(s),
            };
            let (mut sin, cos) = match (&problem.angles, tables) {
                (Angles::Tables { max_pos, .. }, Some([cos, sin])) => {
                    let at = position.clamp(0, *max_pos as i64 - 1) as usize * half + pair;
                    (sin[at], cos[at])
                }
                (Angles::Frequencies(f), _) => {
                    let (sin, cos) = sin_cos(position as f64, f.per_pair[pair]);
                    (sin * f.attention_factor, cos * f.attention_factor)
                }
                (Angles::Tables { .. }, None) => panic!("the problem has tables"),
            };
            if problem.inverse {
                sin = -sin;
            }
            let (i, j) = match problem.style {
                Style::Half => (pair, pair + half),
                Style::Interleaved => (2 * pair, 2 * pair + 1),
            };
            let (a, b, s, c) = (R::of(x[i]), R::of(x[j]), R::of(sin), R::of(cos));
            y[i] = (a * c - b * s).f64();
            y[j] = (b * c + a * s).f64();
            let of = |v: f64, w: f64| v.abs() * cos.abs() + w.abs() * sin.abs();
            mag = mag.max(of(x[i], x[j])).max(of(x[j], x[i]));
        }
        out.mag.push(mag);
    }
    out
}

/// Of the exact product: what its rounding leaves is added back by the angle sum.
pub(super) fn sin_cos(position: f64, frequency: f64) -> (f64, f64) {
    let product = position * frequency;
    let rest = position.mul_add(frequency, -product);
    let (sin, cos) = product.sin_cos();
    (sin + cos * rest, cos - sin * rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rope::{Axes, Frequencies, Heads, Positions};
    use approx::assert_relative_eq;

    fn problem(head_dim: usize) -> Problem {
        let frequencies = Frequencies::new(head_dim, 10_000.0).unwrap();
        Problem { head_dim, rotary_dim: head_dim, angles: Angles::Frequencies(frequencies), ..Problem::default() }
    }

    #[track_caller]
    fn near(have: &[f64], want: &[f64]) {
        assert_eq!(have.len(), want.len());
        for (have, want) in have.iter().zip(want) {
            assert_relative_eq!(*have, *want, epsilon = 1e-9);
        }
    }

    #[test]
    fn by_hand() {
        // Base 10,000, 4 dimensions: frequencies 1 and 0.01. At position 3: cos 3 = -0.9899924966,
        // sin 3 = 0.1411200081, cos 0.03 = 0.9995500337, sin 0.03 = 0.0299955002.
        let at3 = Problem { positions: Positions::Offset(3), ..problem(4) };
        let (c, s, c2, s2) = (-0.989_992_496_6, 0.141_120_008_06, 0.999_550_033_75, 0.029_995_500_2);
        let half = reference::<f64>(&at3, 1, &[1.0, 2.0, 3.0, 4.0], None, None);
        near(&half.y, &[c - 3.0 * s, 2.0 * c2 - 4.0 * s2, 3.0 * c + s, 4.0 * c2 + 2.0 * s2]);
        let interleaved = Problem { style: Style::Interleaved, ..at3.clone() };
        let out = reference::<f64>(&interleaved, 1, &[1.0, 2.0, 3.0, 4.0], None, None);
        near(&out.y, &[c - 2.0 * s, 2.0 * c + s, 3.0 * c2 - 4.0 * s2, 4.0 * c2 + 3.0 * s2]);
        // The inverse takes it back, and 2 of 4 dimensions leave the others.
        let back = reference::<f64>(&Problem { inverse: true, ..at3.clone() }, 1, &half.y, None, None);
        near(&back.y, &[1.0, 2.0, 3.0, 4.0]);
        let partial = Problem { head_dim: 4, positions: Positions::Offset(3), ..problem(2) };
        near(
            &reference::<f64>(&Problem { head_dim: 4, ..partial }, 1, &[1.0, 0.0, 7.0, 8.0], None, None).y,
            &[c, s, 7.0, 8.0],
        );
    }

    #[test]
    fn far_out() {
        // sin and cos of 10^6 radians, published to many digits: -0.3499935021712930, 0.9367521275331447.
        let far = Problem { positions: Positions::Offset(1_000_000), ..problem(2) };
        let out = reference::<f64>(&far, 1, &[1.0, 0.0], None, None);
        assert_relative_eq!(out.y[1], -0.349_993_502_171_293, max_relative = 1e-14);
        assert_relative_eq!(out.y[0], 0.936_752_127_533_144_7, max_relative = 1e-14);
    }

    #[test]
    fn axes_go_by_their_positions() {
        let frequencies = Frequencies { per_pair: vec![1.0; 4], attention_factor: 2.0 };
        let base = Problem { angles: Angles::Frequencies(frequencies), ..problem(8) };
        let x = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        let sections = Problem { axes: Axes::Sections([1, 2, 1]), ..base.clone() };
        let out = reference::<f64>(&sections, 1, &x, Some(&[0, 1, 2]), None);
        let [c0, c1, c2] = [0f64, 1.0, 2.0].map(|t| 2.0 * t.cos());
        near(&out.y[..4], &[c0, c1, c1, c2]);
        let out = reference::<f64>(&Problem { axes: Axes::Axial, ..base }, 1, &x, Some(&[1, 2]), None);
        near(&out.y[..4], &[c1, c2, c1, c2]);
    }

    #[test]
    fn tables_are_clamped() {
        let angles = Angles::Tables { max_pos: 2, cos: 0, sin: 0 };
        let base = Problem { seq: 3, q: Heads::new(1), angles, ..problem(2) };
        let tables: [&[f64]; 2] = [&[1.0, 0.0], &[0.0, 1.0]];
        let x = [5.0, 6.0, 5.0, 6.0, 5.0, 6.0];
        let out = reference::<f64>(&base, 1, &x, Some(&[-1, 1, 9]), Some(tables));
        near(&out.y, &[5.0, 6.0, -6.0, 5.0, -6.0, 5.0]);
    }
}
