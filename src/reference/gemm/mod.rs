//! The matrix product by its definition.

pub mod grouped_gemm;
pub mod grouped_gemm_backward;
pub mod lora;
pub mod lora_backward;

use crate::Dtype;
use crate::gemm::{Activation, Along, Precision, Problem, Vector};
use crate::reference::Real;

/// What gemm gives, contiguous `[batch, batch, m, n]`; and `mag`, one per row.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The result.
    pub d: Vec<f64>,
    /// The largest finite magnitude of each row of d.
    pub mag: Vec<f64>,
}

/// Contiguous inputs: a and b as they are stored, one matrix per batch, c and residual `[batch, batch, m, n]`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inputs<'a> {
    /// The left operand.
    pub a: &'a [f64],
    /// The right operand.
    pub b: &'a [f64],
    /// The second right operand of a gated product.
    pub b2: Option<&'a [f64]>,
    /// What `beta` multiplies.
    pub c: Option<&'a [f64]>,
    /// Added last.
    pub residual: Option<&'a [f64]>,
    /// One value per row or column; gated, those of b, then those of b2.
    pub bias: Option<&'a [f64]>,
    /// One value per row or column.
    pub scale: Option<&'a [f64]>,
}

/// `act(alpha scale sum a b + beta c + bias) + residual`; gated, the activated is multiplied by
/// `alpha scale sum a b2 + bias2` first. Where alpha is 0, a, b, b2 and scale have no part, and where beta is 0, c has none.
///
/// `mag` is the formula on absolute values, without the activation: none of them grows a difference by more
/// than a seventh.
pub fn reference<R: Real>(problem: &Problem, inputs: &Inputs) -> Output {
    let Problem { m, n, k, trans_a, trans_b, .. } = *problem;
    let epilogue = &problem.epilogue;
    let mut out = Output { d: Vec::new(), mag: Vec::new() };
    let at = |v: Option<Vector>, values: Option<&[f64]>, i: usize, j: usize, second: bool| {
        let v = v?;
        let (own, len) = if v.along == Along::Rows { (i, m) } else { (j, n) };
        Some(values?[own + if second { len } else { 0 }])
    };
    for batch in 0..problem.batch[0] * problem.batch[1] {
        // op(a) by rows, op(b) by columns.
        let a: Vec<R> =
            (0..m * k).map(|x| R::of(inputs.a[batch * m * k + if trans_a { x % k * m + x / k } else { x }])).collect();
        let columns = |b: &[f64]| -> Vec<R> {
            let of = |x: usize| R::of(b[batch * k * n + if trans_b { x } else { x % k * n + x / k }]);
            (0..n * k).map(of).collect()
        };
        let b = columns(inputs.b);
        let b2 = inputs.b2.map(columns);
        for i in 0..m {
            let mut row_mag = 0f64;
            for j in 0..n {
                let scale = at(epilogue.scale, inputs.scale, i, j, false).unwrap_or(1.0);
                let product = |b: &[R]| {
                    if problem.alpha == 0.0 || k == 0 {
                        return (R::ZERO, 0.0);
                    }
                    let (mut sum, mut mag) = (R::ZERO, 0.0);
                    for (&a, &b) in a[i * k..][..k].iter().zip(&b[j * k..][..k]) {
                        let ab = a * b;
                        sum += ab;
                        mag += ab.f64().abs();
                    }
                    let factor = R::of(f64::from(problem.alpha)) * R::of(scale);
                    (factor * sum, mag * factor.f64().abs())
                };
                let (mut v, mut mag) = product(&b);
                let place = (batch * m + i) * n + j;
                if let Some(c) = inputs.c.filter(|_| problem.beta != 0.0) {
                    let c = R::of(f64::from(problem.beta)) * R::of(c[place]);
                    v += c;
                    mag += c.f64().abs();
                }
                if let Some(bias) = at(epilogue.bias, inputs.bias, i, j, false) {
                    v += R::of(bias);
                    mag += bias.abs();
                }
                v = activate(epilogue.activation, v);
                if let Some(b2) = &b2 {
                    let (mut w, mut w_mag) = product(b2);
                    if let Some(bias) = at(epilogue.bias, inputs.bias, i, j, true) {
                        w += R::of(bias);
                        w_mag += bias.abs();
                    }
                    (v, mag) = (v * w, mag * w_mag);
                }
                if let Some(residual) = inputs.residual {
                    v += R::of(residual[place]);
                    mag += residual[place].abs();
                }
                out.d.push(v.f64());
                // What is infinite is judged by its place: it must not widen what the others are allowed.
                row_mag = row_mag.max(if mag.is_finite() { mag } else { 0.0 });
            }
            out.mag.push(row_mag);
        }
    }
    out
}

/// Values of a, b or b2 as `low` has them: rounded, where the Problem lets them be.
pub fn rounded(problem: &Problem, values: &[f64]) -> Vec<f64> {
    let as_taken = |&value: &f64| match problem.inputs {
        Precision::Exact => value,
        Precision::F16 => Dtype::F16.round(value),
    };
    values.iter().map(as_taken).collect()
}

/// The activation, its transcendental part in f64.
pub fn activate<R: Real>(activation: Activation, x: R) -> R {
    let v = x.f64();
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(R::ZERO),
        Activation::Gelu => x * R::of(normal_below(v)),
        Activation::GeluTanh => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v * v * v);
            x * R::of(1.0 / (1.0 + (-2.0 * u).exp()))
        }
        Activation::Silu => x * R::of(1.0 / (1.0 + (-v).exp())),
    }
}

/// The share of a normal distribution below x: `erfc(-x / sqrt(2)) / 2`.
pub fn normal_below(x: f64) -> f64 {
    let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    if x.abs() < 5.0 {
        // 1/2 + density (x + x^3 / 3 + x^5 / 15 + ..), all of one sign.
        let (mut term, mut sum, mut n) = (x, x, 1.0);
        while term.abs() > 1e-18 * sum.abs() {
            n += 2.0;
            term *= x * x / n;
            sum += term;
        }
        return 0.5 + density * sum;
    }
    // The tail as a continued fraction: density / (z + 1 / (z + 2 / (z + ..))).
    let z = x.abs();
    let tail = density / (1..=60).rev().fold(z, |rest, i| z + f64::from(i) / rest);
    if x > 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::{Epilogue, Matrix, backward};
    use crate::reference::numerics::differences::{Input, hold, product, values};
    use crate::{Dtype, Layout};
    use approx::assert_relative_eq;

    #[test]
    fn by_hand() {
        // [1 2; 3 4; 5 6] x [1 0 -1; 2 1 3] = [5 2 5; 11 4 9; 17 6 13].
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0, 0.0, -1.0, 2.0, 1.0, 3.0];
        let want = [5.0, 2.0, 5.0, 11.0, 4.0, 9.0, 17.0, 6.0, 13.0];
        let problem = Problem::new(3, 3, 2, Dtype::F32);
        let out = reference::<f64>(&problem, &Inputs { a: &a, b: &b, ..Inputs::default() });
        assert_eq!(out.d, want);
        assert_eq!(out.mag, [7.0, 15.0, 23.0]);
        // Both transposed: the same memory by columns.
        let (at, bt) = ([1.0, 3.0, 5.0, 2.0, 4.0, 6.0], [1.0, 2.0, 0.0, 1.0, -1.0, 3.0]);
        let turned = Problem { trans_a: true, trans_b: true, ..problem };
        assert_eq!(reference::<f64>(&turned, &Inputs { a: &at, b: &bt, ..Inputs::default() }).d, want);
        // 2 * scale * ab - c + bias, relu, + residual, in the first row.
        let by = |along| Some(Vector { dtype: Dtype::F32, along, offset: 0 });
        let epilogue = Epilogue {
            scale: by(Along::Rows),
            bias: by(Along::Columns),
            activation: Activation::Relu,
            residual: Some(Matrix::default()),
            ..Epilogue::default()
        };
        let full = Problem { alpha: 2.0, beta: -1.0, c: Some(Matrix::default()), epilogue, ..problem };
        let (c, residual) = ([4.0; 9], [0.25; 9]);
        let more = Inputs {
            c: Some(&c),
            residual: Some(&residual),
            bias: Some(&[0.0, -20.0, 1.0]),
            scale: Some(&[3.0, 1.0, 0.5]),
            a: &a,
            b: &b,
            b2: None,
        };
        assert_eq!(&reference::<f64>(&full, &more).d[..3], &[26.25, 0.25, 27.25]);
    }

    #[test]
    fn activations_as_published() {
        // Phi(1) = 0.8413447460685429, Phi(-6) = 9.865876450376946e-10.
        assert_relative_eq!(normal_below(1.0), 0.841_344_746_068_542_9, max_relative = 1e-14);
        assert_relative_eq!(normal_below(-6.0), 9.865_876_450_376_946e-10, max_relative = 1e-10);
        assert_relative_eq!(normal_below(4.999_999_999), normal_below(5.000_000_001), max_relative = 1e-12);
        assert_relative_eq!(activate(Activation::Silu, 1.0f64), 0.731_058_578_630_004_9, max_relative = 1e-14);
        assert_relative_eq!(activate(Activation::GeluTanh, 1.0f64), 0.841_191_990_6, max_relative = 1e-9);
        assert_eq!(activate(Activation::Relu, -3.0f64), 0.0);
    }
    /// Those of [`backward`]: of a, of b (of its own for each batch, or shared by all), and of a bias per column.
    #[test]
    fn gradients_are_slopes() {
        let (m, n, k) = (3, 4, 2);
        let transposes = [(false, false), (false, true), (true, false), (true, true)];
        for (i, (trans_a, trans_b)) in transposes.into_iter().enumerate() {
            for (batch, shared) in [([1, 1], false), ([2, 3], false), ([2, 3], true)] {
                let batches = batch[0] * batch[1];
                let all_b = if shared { 1 } else { batches };
                let rows = if trans_b { k } else { n };
                let layout = if shared { Layout::strided(0, [0, 0, rows]) } else { Layout::default() };
                let bias = Some(Vector { dtype: Dtype::F32, along: Along::Columns, offset: 0 });
                let epilogue = Epilogue { bias, residual: Some(Matrix::default()), ..Epilogue::default() };
                let alpha = [0.75, -1.5, 2.0, 0.25][i];
                let (b_matrix, c) = (Matrix { dtype: Dtype::F32, layout }, Some(Matrix::default()));
                let problem = Problem {
                    m,
                    n,
                    k,
                    batch,
                    trans_a,
                    trans_b,
                    alpha,
                    beta: -0.5,
                    c,
                    b: b_matrix,
                    epilogue,
                    ..Problem::default()
                };
                let what = format!("gemm, trans_a {trans_a}, trans_b {trans_b}, batch {batch:?}, shared {shared}");
                let gradients = match backward(&problem) {
                    Ok(gradients) => gradients,
                    // Then the rows of all batches are not those of one matrix.
                    Err(_) if shared && trans_a => continue,
                    Err(error) => panic!("{what}: {error}"),
                };
                let (a, b, bias) = (values(batches * m * k, 1), values(all_b * k * n, 2), values(n, 3));
                let (dd, c) = (values(batches * m * n, 4), values(batches * m * n, 5));
                let each = |b: &[f64]| b.repeat(batches / all_b);
                let product_of = |problem: &Problem, a: &[f64], b: &[f64]| {
                    reference::<f64>(problem, &Inputs { a, b, ..Inputs::default() }).d
                };
                let da = match trans_a {
                    false => product_of(&gradients.da, &dd, &each(&b)),
                    true => product_of(&gradients.da, &each(&b), &dd),
                };
                let db = match trans_b {
                    false => product_of(&gradients.db, &a, &dd),
                    true => product_of(&gradients.db, &dd, &a),
                };
                let dbias = product_of(&gradients.dbias, &vec![1.0; batches * m], &dd);
                let input = |name, values, gradient| Input { name, values, gradient };
                let inputs = [input("a", &a, &da), input("b", &b, &db), input("bias", &bias, &dbias)];
                hold(&what, &inputs, |all| {
                    let (b, residual) = (each(&all[1]), Some(&c[..]));
                    let inputs =
                        Inputs { a: &all[0], b: &b, c: residual, residual, bias: Some(&all[2]), ..Inputs::default() };
                    product(&reference::<f64>(&problem, &inputs).d, &dd)
                });
            }
        }
    }

    /// SwiGLU with biases, as [`backward`] tells.
    #[test]
    fn the_gradients_of_a_gated_product_are_slopes() {
        use crate::reference::{activation, activation_backward};
        let (m, n, k) = (5, 3, 4);
        let plain = Problem { m, n, k, alpha: 0.5, trans_b: true, ..Problem::default() };
        let by_column = Some(Vector { dtype: Dtype::F32, along: Along::Columns, offset: 0 });
        let epilogue = Epilogue { gate: Some(0), activation: Activation::Silu, bias: by_column, ..Epilogue::default() };
        let gated = Problem { epilogue, ..plain };
        let (a, b, b2) = (values(m * k, 1), values(n * k, 2), values(n * k, 4));
        let (bias, dd) = (values(2 * n, 5), values(m * n, 3));
        let of = |problem: &Problem, a: &[f64], b: &[f64], c: Option<&[f64]>| {
            reference::<f64>(problem, &Inputs { a, b, c, ..Inputs::default() }).d
        };
        let (x, up) = (of(&plain, &a, &b, None), of(&plain, &a, &b2, None));
        let pointwise = crate::activation_backward::Problem {
            rows: m,
            cols: n,
            activation: crate::activation::Activation::Silu,
            up: Some(Dtype::F32),
            ..Default::default()
        };
        let inputs = activation::Inputs { x: &x, up: Some(&up), bias: Some(&bias[..n]), up_bias: Some(&bias[n..]) };
        let before = activation_backward::reference::<f64>(&pointwise, &inputs, &dd, [None; 2]);
        let gradients = backward(&plain).unwrap();
        let (db, db2) = (of(&gradients.db, &before.dx, &a, None), of(&gradients.db, &before.dup, &a, None));
        let da = of(&gradients.da, &before.dx, &b, None);
        let added = Problem { c: Some(Matrix::new(Dtype::F32)), ..gradients.da };
        let da = of(&added, &before.dup, &b2, Some(&da));
        let dbias = before.sums.concat();
        let inputs = [("a", &a, &da), ("b", &b, &db), ("b2", &b2, &db2), ("bias", &bias, &dbias)];
        let inputs = inputs.map(|(name, values, gradient)| Input { name, values, gradient });
        hold("gated", &inputs, |all| {
            let inputs = Inputs { a: &all[0], b: &all[1], b2: Some(&all[2]), bias: Some(&all[3]), ..Inputs::default() };
            product(&reference::<f64>(&gated, &inputs).d, &dd)
        });
    }
}
