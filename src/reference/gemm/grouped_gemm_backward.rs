//! Gradients of matrices and biases by group, by their definition.

use super::grouped_gemm::ends;
use crate::grouped_gemm_backward::Problem;
use crate::reference::Real;

/// Contiguous inputs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inputs<'a> {
    /// `[m, k]`.
    pub a: &'a [f64],
    /// `[m, n]`.
    pub dd: &'a [f64],
    /// `groups + 1`.
    pub offsets: &'a [i64],
    /// What gradients of b are added to.
    pub db: Option<&'a [f64]>,
    /// What gradients of the bias are added to.
    pub dbias: Option<&'a [f64]>,
}

/// What grouped_gemm_backward gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[groups, n, k]`, or `[groups, k, n]`.
    pub db: Vec<f64>,
    /// `[groups, n]`.
    pub dbias: Vec<f64>,
    /// The formula on absolute values: the largest of each row of db, and of each group of dbias.
    pub mag: [Vec<f64>; 2],
}

/// Over the rows i of each group: `db[g] = sum dd[i]^T a[i]`, `dbias[g] = sum dd[i]`.
pub fn reference<R: Real>(problem: &Problem, inputs: &Inputs) -> Output {
    let Problem { m, n, k, groups, trans_b, .. } = *problem;
    let mut sums = [vec![R::ZERO; groups * n * k], vec![R::ZERO; groups * n]];
    let mut mags = [vec![0f64; groups * n * k], vec![0f64; groups * n]];
    for (g, (from, to)) in ends(m, inputs.offsets).into_iter().enumerate() {
        for row in from..to {
            for (j, &dd) in inputs.dd[row * n..][..n].iter().enumerate() {
                sums[1][g * n + j] += R::of(dd);
                mags[1][g * n + j] += dd.abs();
                for (c, &a) in inputs.a[row * k..][..k].iter().enumerate() {
                    let i = if trans_b { (g * n + j) * k + c } else { (g * k + c) * n + j };
                    sums[0][i] += R::of(dd) * R::of(a);
                    mags[0][i] += (dd * a).abs();
                }
            }
        }
    }
    for ((sums, mags), before) in sums.iter_mut().zip(&mut mags).zip([inputs.db, inputs.dbias]) {
        for ((sum, mag), &before) in sums.iter_mut().zip(mags).zip(before.into_iter().flatten()) {
            *sum += R::of(before);
            *mag += before.abs();
        }
    }
    let largest = |mags: &[f64], cols: usize| match cols {
        0 => Vec::new(),
        cols => mags.chunks(cols).map(|row| row.iter().fold(0f64, |a, &b| a.max(b))).collect(),
    };
    let mag = [largest(&mags[0], if trans_b { k } else { n }), largest(&mags[1], n)];
    let [db, dbias] = sums.map(|sums| sums.into_iter().map(R::f64).collect());
    Output { db, dbias, mag }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::Activation;
    use crate::norm::Vector;
    use crate::reference::numerics::differences::{Input, hold, product, values};
    use crate::reference::{activation as reference_of_activation, activation_backward, grouped_gemm};
    use crate::{Dtype, activation, grouped_gemm as forward};

    #[test]
    fn by_hand() {
        let problem = Problem { m: 4, n: 1, k: 2, groups: 3, ..Problem::default() };
        let (a, dd) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [9.0, 1.0, -1.0, 2.0]);
        let of = |inputs| reference::<f64>(&problem, &Inputs { a: &a, dd: &dd, ..inputs });
        // Row 0 is of none, row 1 of group 0, group 1 is empty, rows 2 and 3 are of group 2.
        let out = of(Inputs { offsets: &[1, 2, 2, 4], ..Inputs::default() });
        assert_eq!((out.db, out.dbias), (vec![3.0, 4.0, 0.0, 0.0, 9.0, 10.0], vec![1.0, 0.0, 1.0]));
        let before = [1.0; 6];
        let added =
            of(Inputs { offsets: &[1, 2, 2, 4], db: Some(&before), dbias: Some(&before[..3]), ..Inputs::default() });
        assert_eq!((added.db, added.dbias), (vec![4.0, 5.0, 1.0, 1.0, 10.0, 11.0], vec![2.0, 1.0, 2.0]));
        // What falls counts as what is before it: no row is of two groups.
        assert_eq!(of(Inputs { offsets: &[-7, 2, 1, 99], ..Inputs::default() }).dbias, [10.0, 0.0, 1.0]);
    }

    #[test]
    fn gradients_are_slopes() {
        let offsets = [1, 3, 5];
        for trans_b in [true, false] {
            let bias = Some(Vector::of(Dtype::F32));
            let problem = forward::Problem { m: 6, n: 3, k: 4, groups: 2, trans_b, bias, ..Default::default() };
            let (a, b, bias, dd) = (values(24, 1), values(24, 2), values(6, 4), values(18, 3));
            let own = forward::backward(&problem).unwrap().db;
            let Output { db, dbias, .. } =
                reference::<f64>(&own, &Inputs { a: &a, dd: &dd, offsets: &offsets, ..Inputs::default() });
            let inputs = [
                Input { name: "b", values: &b, gradient: &db },
                Input { name: "bias", values: &bias, gradient: &dbias },
            ];
            hold("grouped_gemm_backward", &inputs, |all| {
                let inputs = grouped_gemm::Inputs {
                    a: &a,
                    b: &all[0],
                    offsets: &offsets,
                    bias: Some(&all[1]),
                    ..Default::default()
                };
                product(&grouped_gemm::reference::<f64>(&problem, &inputs).d, &dd)
            });
        }
    }

    /// SwiGLU: `activation_backward` of both products, two calls of this op, and two products for a.
    #[test]
    fn the_gradients_of_a_gated_product_are_slopes() {
        let offsets = [1, 3, 5];
        let (m, n, k) = (6, 3, 4);
        let plain = forward::Problem { m, n, k, groups: 2, ..Default::default() };
        let gated = forward::Problem { gate: Some(0), activation: Activation::Silu, ..plain };
        let (a, b, b2, dy) = (values(m * k, 1), values(24, 2), values(24, 4), values(m * n, 3));
        let of = |problem: &forward::Problem, a: &[f64], b: &[f64], b2: Option<&[f64]>| {
            let inputs = grouped_gemm::Inputs { a, b, b2, offsets: &offsets, bias: None };
            grouped_gemm::reference::<f64>(problem, &inputs).d
        };
        let (x, up) = (of(&plain, &a, &b, None), of(&plain, &a, &b2, None));
        let pointwise = crate::activation_backward::Problem {
            rows: m,
            cols: n,
            activation: activation::Activation::Silu,
            up: Some(Dtype::F32),
            ..Default::default()
        };
        let inputs = reference_of_activation::Inputs { x: &x, up: Some(&up), ..Default::default() };
        let before = activation_backward::reference::<f64>(&pointwise, &inputs, &dy, [None; 2]);
        let forward::Backward { da, db } = forward::backward(&plain).unwrap();
        let of_b = |dd: &[f64]| reference::<f64>(&db, &Inputs { a: &a, dd, offsets: &offsets, ..Inputs::default() }).db;
        let of_a = |dd: &[f64], b: &[f64]| of(&da.unwrap(), dd, b, None);
        let (dx, dup) = (&before.dx[..], &before.dup[..]);
        let da: Vec<f64> = of_a(dx, &b).iter().zip(of_a(dup, &b2)).map(|(x, y)| x + y).collect();
        let (db, db2) = (of_b(dx), of_b(dup));
        let inputs = [("a", &a, &da), ("b", &b, &db), ("b2", &b2, &db2)];
        let inputs = inputs.map(|(name, values, gradient)| Input { name, values, gradient });
        hold("gated", &inputs, |all| product(&of(&gated, &all[0], &all[1], Some(&all[2])), &dy));
    }
}
