//! Products of rows by group, by their definition.

use crate::Dtype;
use crate::gemm::{self, Epilogue, Matrix};
use crate::grouped_gemm::Problem;
use crate::reference::Real;
use crate::reference::gemm::{self as of_gemm, Output};

/// Contiguous inputs: a `[m, k]`, b and b2 as they are stored, bias `[groups, n]`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inputs<'a> {
    /// The rows.
    pub a: &'a [f64],
    /// A matrix per group.
    pub b: &'a [f64],
    /// `groups + 1`.
    pub offsets: &'a [i64],
    /// The second right operand of a gated product.
    pub b2: Option<&'a [f64]>,
    /// A row per group.
    pub bias: Option<&'a [f64]>,
}

/// Where each group's rows begin and end: offsets count as at least 0 and those before them, and as at most m.
pub fn ranges(problem: &Problem, offsets: &[i64]) -> Vec<(usize, usize)> {
    ends(problem.m, offsets)
}

/// The same of m rows.
pub(crate) fn ends(m: usize, offsets: &[i64]) -> Vec<(usize, usize)> {
    let mut last = 0;
    let ends = offsets.iter().map(|&offset| {
        last = last.max(offset.clamp(0, m as i64) as usize);
        last
    });
    let ends: Vec<usize> = ends.collect();
    ends.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

/// `d[i] = act(a[i] b[g]^T + bias[g])` for rows i of group g, 0 for rows of none: group by group what
/// [`gemm`](of_gemm::reference) gives.
pub fn reference<R: Real>(problem: &Problem, inputs: &Inputs) -> Output {
    let Problem { m, n, k, activation, gate, .. } = *problem;
    let mut out = Output { d: vec![0.0; m * n], mag: vec![0.0; m] };
    for (g, (from, to)) in ranges(problem, inputs.offsets).into_iter().enumerate() {
        let c = inputs.bias.map(|bias| bias[g * n..][..n].repeat(to - from));
        let product = gemm::Problem {
            m: to - from,
            n,
            k,
            trans_b: problem.trans_b,
            c: c.as_ref().map(|_| Matrix::new(Dtype::F32)),
            epilogue: Epilogue { activation, gate, ..Epilogue::default() },
            ..gemm::Problem::default()
        };
        let of = |b: &'_ [f64]| b[g * n * k..][..n * k].to_vec();
        let (b, b2) = (of(inputs.b), inputs.b2.map(of));
        let inputs = of_gemm::Inputs {
            a: &inputs.a[from * k..to * k],
            b: &b,
            b2: b2.as_deref(),
            c: c.as_deref(),
            ..of_gemm::Inputs::default()
        };
        let Output { d, mag } = of_gemm::reference::<R>(&product, &inputs);
        out.d[from * n..to * n].copy_from_slice(&d);
        out.mag[from..to].copy_from_slice(&mag);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grouped_gemm::backward;
    use crate::reference::numerics::differences::{Input, hold, product, values};

    #[test]
    fn by_hand() {
        let problem = Problem { m: 5, n: 1, k: 2, groups: 3, ..Problem::default() };
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0];
        let b = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0];
        let of = |offsets: &[i64]| reference::<f64>(&problem, &Inputs { a: &a, b: &b, offsets, ..Inputs::default() }).d;
        // Row 0 is of none, row 1 of group 0, group 1 is empty, rows 2 and 3 are of group 2, row 4 of none.
        assert_eq!(of(&[1, 2, 2, 4]), [0.0, 3.0, 11.0, 15.0, 0.0]);
        // What falls, is negative or beyond m.
        assert_eq!(of(&[-7, 2, 1, 99]), [1.0, 3.0, 11.0, 15.0, 19.0]);
        assert_eq!(of(&[9, 0, 0, 0]), [0.0; 5]);
    }

    #[test]
    fn the_gradient_of_a_is_its_slope() {
        for trans_b in [true, false] {
            let problem = Problem { m: 6, n: 3, k: 4, groups: 2, trans_b, ..Problem::default() };
            let (a, b, dd) = (values(24, 1), values(24, 2), values(18, 3));
            let offsets = [1, 3, 5];
            let of = |problem: &Problem, a: &[f64]| {
                reference::<f64>(problem, &Inputs { a, b: &b, offsets: &offsets, ..Inputs::default() }).d
            };
            let da = of(&backward(&problem).unwrap().da.unwrap(), &dd);
            let inputs = [Input { name: "a", values: &a, gradient: &da }];
            hold("grouped_gemm", &inputs, |all| product(&of(&problem, &all[0]), &dd));
        }
    }
}
