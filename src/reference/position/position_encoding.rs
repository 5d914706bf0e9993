//! Absolute position encodings by their definition.

use super::rope::sin_cos;
use crate::position_encoding::{Axis, Encoding, Problem};
use crate::reference::Real;

/// What it gives, contiguous `[batch, rows, cols, dim]`; and `mag`, one per token.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[batch, rows, cols, dim]`.
    pub y: Vec<f64>,
    /// One per token.
    pub mag: Vec<f64>,
}

/// `y = scale * x + encoding`, where the encoding of element `e` is `sin(frequency[e] * position)` or its cosine, or
/// `table[position[0], e]`, plus `row_table[position[1], e]` where there is one; positions outside of a table take its
/// first or last row. Angles are f64, and the rest `R`.
///
/// `x` is contiguous `[batch, rows, cols, dim]`; `positions` `[axes, batch, rows * cols]`, or `None` where the Problem
/// counts them; `tables` one or two, `[len, dim]`, where it has them.
pub fn reference<R: Real>(problem: &Problem, x: &[f64], positions: Option<&[i64]>, tables: &[&[f64]]) -> Output {
    let Problem { batch, rows, cols, dim, .. } = *problem;
    let tokens = rows * cols;
    let mut out = Output { y: Vec::with_capacity(x.len()), mag: Vec::with_capacity(batch * tokens) };
    for i in 0..batch * tokens {
        let (b, token) = (i / tokens, i % tokens);
        let place = match positions {
            Some(all) => [0, problem.encoding.axes() - 1].map(|axis| all[(axis * batch + b) * tokens + token]),
            None => problem.counted(token / cols, token % cols),
        };
        let mut mag = 0f64;
        for e in 0..dim {
            let added: Vec<f64> = match &problem.encoding {
                Encoding::Waves(waves) => {
                    let (sin, cos) = sin_cos(place[usize::from(waves[e].axis == Axis::Row)] as f64, waves[e].frequency);
                    vec![if waves[e].cosine { cos } else { sin }]
                }
                Encoding::Learned { .. } => {
                    let row = |at: i64, len: usize| at.clamp(0, len as i64 - 1) as usize;
                    tables.iter().zip(place).map(|(table, at)| table[row(at, table.len() / dim) * dim + e]).collect()
                }
            };
            let x = x[i * dim + e];
            let mut sum = R::ZERO;
            added.iter().for_each(|&v| sum += R::of(v));
            out.y.push((R::of(problem.scale.into()) * R::of(x) + sum).f64());
            mag = mag.max((f64::from(problem.scale) * x).abs() + added.iter().map(|v| v.abs()).sum::<f64>());
        }
        out.mag.push(mag);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;
    use crate::position_encoding::{Order, Positions, Table};
    use crate::reference::numerics::differences::{Input, hold, product, values};
    use crate::vq_lookup::{Index, OutOfRange};
    use crate::vq_scatter;
    use approx::assert_relative_eq;

    #[track_caller]
    fn near(have: &[f64], want: &[f64]) {
        assert_eq!(have.len(), want.len());
        for (have, want) in have.iter().zip(want) {
            assert_relative_eq!(*have, *want, epsilon = 1e-9);
        }
    }

    #[test]
    fn vaswani() {
        // dim 4: sin p, cos p, sin p/100, cos p/100. Position 1: 0.8414709848, 0.5403023059, 0.0099998333,
        // 0.9999500004; position 0: 0, 1, 0, 1.
        let encoding = Encoding::sequence(&[1.0, 0.01], Order::Interleaved);
        let problem = Problem { cols: 2, dim: 4, scale: 2.0, encoding, ..Problem::default() };
        let y = reference::<f64>(&problem, &[1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.5], None, &[]).y;
        near(&y[..4], &[2.0, 5.0, 6.0, 9.0]);
        near(&y[4..], &[0.841_470_984_8, 0.540_302_305_9, 0.009_999_833_3, 1.999_950_000_4]);
    }

    #[test]
    fn pictures() {
        // Row 2, column 1 of a picture that starts at column 0, row 1: MAE's has columns first.
        let encoding = Encoding::picture(&[1.0], Order::Halves, Axis::Col);
        let positions = Positions::From { col: 0, row: 1 };
        let problem = Problem { rows: 2, cols: 2, dim: 4, encoding, positions, ..Problem::default() };
        let y = reference::<f64>(&problem, &[0.0; 16], None, &[]).y;
        near(&y[12..], &[1f64.sin(), 1f64.cos(), 2f64.sin(), 2f64.cos()]);
    }

    /// Each table's gradient is dy summed by position, those outside by the nearest.
    #[test]
    fn gradients_of_tables_are_sums_by_position() {
        let (batch, tokens, dim, lens) = (2, 5, 3, [4, 3]);
        let table = |len| Table { len, offset: 0 };
        let encoding = Encoding::Learned { dtype: Dtype::F32, table: table(lens[0]), row_table: Some(table(lens[1])) };
        let problem = Problem { batch, cols: tokens, dim, encoding, ..Problem::default() };
        let positions = [0, 1, 9, -2, 3, 3, 3, 2, 4, 0, -1, 2, 1, 7, 0, 1, 1, 2, 3, 0];
        let [x, dy] = [1, 2].map(|seed| values(batch * tokens * dim, seed));
        let tables = [values(lens[0] * dim, 3), values(lens[1] * dim, 4)];
        let gradients: Vec<Vec<f64>> = (0..2)
            .map(|axis| {
                let scatter = vq_scatter::Problem {
                    batch,
                    spatial: tokens,
                    num_codes: lens[axis],
                    code_dim: dim,
                    out_of_range: OutOfRange::Nearest,
                    index: Index::I32,
                    ..vq_scatter::Problem::default()
                };
                let own = &positions[axis * batch * tokens..][..batch * tokens];
                crate::reference::vq_scatter::reference::<f64>(&scatter, own, &dy).sums
            })
            .collect();
        let loss =
            |all: &[Vec<f64>]| product(&reference::<f64>(&problem, &x, Some(&positions), &[&all[0], &all[1]]).y, &dy);
        let inputs = [
            Input { name: "table", values: &tables[0], gradient: &gradients[0] },
            Input { name: "row_table", values: &tables[1], gradient: &gradients[1] },
        ];
        hold("position_encoding", &inputs, loss);
    }

    #[test]
    fn learned() {
        let (table, row_table) = (Table { len: 3, offset: 0 }, Some(Table { len: 2, offset: 0 }));
        let encoding = Encoding::Learned { dtype: Dtype::F32, table, row_table };
        let problem = Problem { cols: 3, dim: 2, encoding, ..Problem::default() };
        let (columns, rows) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [10.0, 20.0, 30.0, 40.0]);
        // Columns 1, -5 and 99; rows 0, 1 and 7.
        let y = reference::<f64>(&problem, &[0.5; 6], Some(&[1, -5, 99, 0, 1, 7]), &[&columns, &rows]).y;
        assert_eq!(y, [13.5, 24.5, 31.5, 42.5, 35.5, 46.5]);
    }
}
