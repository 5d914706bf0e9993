//! Products with adapters of low rank, by their definition.

use crate::lora::Problem;
use crate::reference::Real;
use crate::reference::gemm::{Output, activate};

/// Contiguous inputs: x `[m, k]`, the weight and the factors of all adapters as they are stored, residual `[m, n]`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inputs<'a> {
    /// The rows.
    pub x: &'a [f64],
    /// The weight of all rows.
    pub weight: &'a [f64],
    /// The left factors.
    pub a: &'a [f64],
    /// The right factors.
    pub b: &'a [f64],
    /// The adapter of each row; without them, 0.
    pub adapter: Option<&'a [i64]>,
    /// `[n]`.
    pub bias: Option<&'a [f64]>,
    /// Added last.
    pub residual: Option<&'a [f64]>,
}

/// The adapter of a row, where it exists.
pub(super) fn adapter_of(adapter: Option<&[i64]>, row: usize, adapters: usize) -> Option<usize> {
    let one = adapter.map_or(0, |all| all[row]);
    usize::try_from(one).ok().filter(|&one| one < adapters)
}

/// `act(x W^T + scale (x A^T) B^T + bias) + residual`; rows without an adapter have no second product. `mag` is the formula on
/// absolute values, without the activation, one per row.
pub fn reference<R: Real>(problem: &Problem, inputs: &Inputs) -> Output {
    let Problem { m, n, k, rank, transposed, .. } = *problem;
    let mut out = Output { d: Vec::new(), mag: Vec::new() };
    let scale = R::of(f64::from(problem.scale));
    // Element (column of the result, column of the left side) of a matrix with `rows` and `cols` of these.
    let at = |rows: usize, cols: usize, i: usize, j: usize| if transposed { j * rows + i } else { i * cols + j };
    for row in 0..m {
        let x = &inputs.x[row * k..][..k];
        let dot = |matrix: &[f64], rows: usize, i: usize| {
            let (mut sum, mut mag) = (R::ZERO, 0.0);
            for (kk, &x) in x.iter().enumerate() {
                let xw = R::of(x) * R::of(matrix[at(rows, k, i, kk)]);
                sum += xw;
                mag += xw.f64().abs();
            }
            (sum, mag)
        };
        let adapter = adapter_of(inputs.adapter, row, problem.adapters);
        let t: Vec<(R, f64)> = adapter.map_or(Vec::new(), |one| {
            let a = &inputs.a[one * rank * k..][..rank * k];
            (0..rank).map(|j| dot(a, rank, j)).map(|(t, mag)| (scale * t, mag * scale.f64().abs())).collect()
        });
        let mut row_mag = 0f64;
        for col in 0..n {
            let (mut v, mut mag) = dot(inputs.weight, n, col);
            if let Some(one) = adapter {
                let b = &inputs.b[one * n * rank..][..n * rank];
                let mut sum = R::ZERO;
                for (j, &(t, t_mag)) in t.iter().enumerate() {
                    let b = R::of(b[at(n, rank, col, j)]);
                    sum += t * b;
                    mag += t_mag * b.f64().abs();
                }
                v += sum;
            }
            if let Some(bias) = inputs.bias {
                v += R::of(bias[col]);
                mag += bias[col].abs();
            }
            v = activate(problem.activation, v);
            if let Some(residual) = inputs.residual {
                v += R::of(residual[row * n + col]);
                mag += residual[row * n + col].abs();
            }
            out.d.push(v.f64());
            row_mag = row_mag.max(if mag.is_finite() { mag } else { 0.0 });
        }
        out.mag.push(row_mag);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora::backward;
    use crate::reference::lora_backward;
    use crate::reference::numerics::differences::{Input, hold, product, values};

    #[test]
    fn by_hand() {
        // x W^T = [1 2] [3 4]^T = 11; t = 0.5 [1 2] [1 1]^T = 1.5 of adapter 0, 0.5 [1 2] [2 0]^T = 1 of adapter 1.
        let problem =
            Problem { m: 4, n: 1, k: 2, rank: 1, adapters: 2, scale: 0.5, adapter: Some(0), ..Problem::default() };
        let inputs = Inputs {
            x: &[1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0],
            weight: &[3.0, 4.0],
            a: &[1.0, 1.0, 2.0, 0.0],
            b: &[4.0, -1.0],
            adapter: Some(&[0, 1, -1, 2]),
            ..Inputs::default()
        };
        let out = reference::<f64>(&problem, &inputs);
        assert_eq!(out.d, [17.0, 10.0, 11.0, 11.0]);
        assert_eq!(out.mag, [17.0, 12.0, 11.0, 11.0]);
    }

    /// Those of [`backward`], for one adapter and for rows that name their own.
    #[test]
    fn gradients_are_slopes() {
        for adapter in [None, Some([1, 0, -4, 1, 2, 0])] {
            let (m, n, k, rank, adapters) = (6, 3, 4, 2, if adapter.is_some() { 2 } else { 1 });
            let given = adapter.is_some().then_some(0);
            let problem = Problem { m, n, k, rank, adapters, scale: 0.75, adapter: given, ..Problem::default() };
            let (x, weight, dy) = (values(m * k, 1), values(n * k, 2), values(m * n, 3));
            let (a, b) = (values(adapters * rank * k, 4), values(adapters * n * rank, 5));
            let adapter = adapter.as_ref().map(|all| &all[..]);
            let gradients = backward(&problem).unwrap();
            let turned = Inputs { x: &dy, weight: &weight, a: &b, b: &a, adapter, ..Inputs::default() };
            let dx = reference::<f64>(&gradients.dx.unwrap(), &turned).d;
            let given = lora_backward::Inputs { x: &x, dy: &dy, a: &a, b: &b, adapter, ..Default::default() };
            let lora_backward::Output { da, db, .. } = lora_backward::reference::<f64>(&gradients.factors, &given);
            let input = |name, values, gradient| Input { name, values, gradient };
            let inputs = [input("x", &x, &dx), input("a", &a, &da), input("b", &b, &db)];
            hold("lora", &inputs, |all| {
                let inputs =
                    Inputs { x: &all[0], weight: &weight, a: &all[1], b: &all[2], adapter, ..Inputs::default() };
                product(&reference::<f64>(&problem, &inputs).d, &dy)
            });
        }
    }
}
