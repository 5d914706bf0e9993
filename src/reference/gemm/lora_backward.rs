//! Gradients of the factors of adapters, by their definition.

use super::lora::adapter_of;
use crate::lora_backward::Problem;
use crate::reference::Real;

/// Contiguous inputs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inputs<'a> {
    /// `[m, k]`.
    pub x: &'a [f64],
    /// `[m, n]`.
    pub dy: &'a [f64],
    /// `[adapters, rank, k]`.
    pub a: &'a [f64],
    /// `[adapters, n, rank]`.
    pub b: &'a [f64],
    /// The adapter of each row; without them, 0.
    pub adapter: Option<&'a [i64]>,
    /// What gradients of a are added to.
    pub da: Option<&'a [f64]>,
    /// What gradients of b are added to.
    pub db: Option<&'a [f64]>,
}

/// What lora_backward gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[adapters, rank, k]`.
    pub da: Vec<f64>,
    /// `[adapters, n, rank]`.
    pub db: Vec<f64>,
    /// The formula on absolute values: the largest of each row of da, and of db.
    pub mag: [Vec<f64>; 2],
}

/// Over the rows of each adapter, in their order: `da = (scale dy b)^T x`, `db = dy^T (scale x a^T)`.
pub fn reference<R: Real>(problem: &Problem, inputs: &Inputs) -> Output {
    let Problem { m, n, k, rank, adapters, .. } = *problem;
    let scale = R::of(f64::from(problem.scale));
    let mut sums = [vec![R::ZERO; adapters * rank * k], vec![R::ZERO; adapters * n * rank]];
    let mut mags = [vec![0f64; adapters * rank * k], vec![0f64; adapters * n * rank]];
    // A sum of products, and that of their magnitudes.
    let dot = |pairs: &mut dyn Iterator<Item = (f64, f64)>| {
        let (mut sum, mut mag) = (R::ZERO, 0.0);
        for (x, y) in pairs {
            let xy = R::of(x) * R::of(y);
            sum += xy;
            mag += xy.f64().abs();
        }
        (scale * sum, scale.f64().abs() * mag)
    };
    for row in 0..m {
        let Some(one) = adapter_of(inputs.adapter, row, adapters) else { continue };
        let (x, dy) = (&inputs.x[row * k..][..k], &inputs.dy[row * n..][..n]);
        let (a, b) = (&inputs.a[one * rank * k..][..rank * k], &inputs.b[one * n * rank..][..n * rank]);
        for j in 0..rank {
            let (u, u_mag) = dot(&mut dy.iter().enumerate().map(|(c, &dy)| (dy, b[c * rank + j])));
            let (t, t_mag) = dot(&mut x.iter().zip(&a[j * k..]).map(|(&x, &a)| (x, a)));
            for (c, &x) in x.iter().enumerate() {
                let i = (one * rank + j) * k + c;
                sums[0][i] += u * R::of(x);
                mags[0][i] += u_mag * x.abs();
            }
            for (c, &dy) in dy.iter().enumerate() {
                let i = (one * n + c) * rank + j;
                sums[1][i] += t * R::of(dy);
                mags[1][i] += t_mag * dy.abs();
            }
        }
    }
    for ((sums, mags), before) in sums.iter_mut().zip(&mut mags).zip([inputs.da, inputs.db]) {
        for ((sum, mag), &before) in sums.iter_mut().zip(mags).zip(before.into_iter().flatten()) {
            *sum += R::of(before);
            *mag += before.abs();
        }
    }
    let largest = |mags: &[f64], cols: usize| match cols {
        0 => Vec::new(),
        cols => mags.chunks(cols).map(|row| row.iter().fold(0f64, |a, &b| a.max(b))).collect(),
    };
    let mag = [largest(&mags[0], k), largest(&mags[1], rank)];
    let [da, db] = sums.map(|sums| sums.into_iter().map(R::f64).collect());
    Output { da, db, mag }
}
