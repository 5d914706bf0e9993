//! The gradient of attention by its definition.

use super::finite;
use crate::attention_backward::Problem;
use crate::reference::{Real, attention};

/// What one call reads, contiguous; see [`reference()`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Inputs<'a> {
    /// What the forward call read.
    pub forward: attention::Inputs<'a>,
    /// `[batch, heads, seq_q, value_dim]`.
    pub d_o: &'a [f64],
    /// `[batch, heads, seq_q]`.
    pub dlse: Option<&'a [f64]>,
}

/// A gradient, and its `mag`, one per row of the last axis.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gradient {
    /// Of the shape of what it is the gradient of.
    pub values: Vec<f64>,
    /// One per row.
    pub mag: Vec<f64>,
}

impl Gradient {
    fn zeros(rows: usize, cols: usize) -> Gradient {
        Gradient { values: vec![0.0; rows * cols], mag: vec![0.0; rows] }
    }
}

/// What it gives: 0 for what no query sees, and for queries that are not there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// `[batch, heads, seq_q, head_dim]`.
    pub dq: Gradient,
    /// `[batch, kv_heads, seq_kv, head_dim]`.
    pub dk: Gradient,
    /// `[batch, kv_heads, seq_kv, value_dim]`.
    pub dv: Gradient,
    /// [`Problem::mask_sizes`], or nothing.
    pub dmask: Gradient,
    /// `[heads]`, or nothing.
    pub dsinks: Gradient,
}

/// A sum, and that of absolute values.
#[derive(Clone, Copy)]
struct Sum<R> {
    value: R,
    mag: f64,
}

fn sums<R: Real>(n: usize) -> Vec<Sum<R>> {
    vec![Sum { value: R::ZERO, mag: 0.0 }; n]
}

fn gradient<R: Real>(all: &[Sum<R>], cols: usize) -> Gradient {
    let mag = all.chunks(cols.max(1)).map(|row| row.iter().map(|sum| sum.mag).fold(0.0, f64::max)).collect();
    Gradient { values: all.iter().map(|sum| sum.value.f64()).collect(), mag }
}

/// A key that a query sees.
struct Seen<R> {
    j: usize,
    score: R,
    /// `scale * q.k`.
    product: f64,
    /// The derivative of the score by that.
    slope: R,
}

/// With scores `s`, weights `p` and o of [`attention`], and `dp = do v^T`, per row
/// `delta = sum(do * o) - dlse` and `ds = p (dp - delta)`; `dv = p^T do`, `dmask = ds`, summed over what is broadcast,
/// `dsinks = -sum p_sink delta`; with a softcap `ds` times `1 - tanh^2`, then `dq = scale ds k` and `dk = scale ds^T q`.
///
/// `round` is applied to o, p and ds: for `low`, the dtypes of o, and of q, k and v. Layouts and dtypes of the Problem are ignored.
///
/// # Panics
/// If an input is shorter than its shape.
pub fn reference<R: Real>(problem: &Problem, x: &Inputs, round: [&dyn Fn(f64) -> f64; 2]) -> Output {
    let p = &problem.forward;
    let (d, dv, x, d_o, dlse) = (p.head_dim, p.value_dim, &x.forward, x.d_o, x.dlse);
    let [round_o, round] = round;
    let (rows, keys) = (p.batch * p.heads * p.seq_q, p.batch * p.kv_heads * p.seq_kv);
    let mut out = Output { dq: Gradient::zeros(rows, d), ..Output::default() };
    let (mut dk, mut dvs) = (sums::<R>(keys * d), sums::<R>(keys * dv));
    let mask_sizes = problem.dmask.map_or([0; 4], |_| problem.mask_sizes());
    let mut dmask = sums::<R>(mask_sizes.iter().product());
    let mut dsinks = sums::<R>(if x.sinks.is_some() { p.heads } else { 0 });
    let scale = R::of(p.scale.into());
    for row in 0..rows {
        let (i, h, b) = (row % p.seq_q, row / p.seq_q % p.heads, row / p.seq_q / p.heads);
        let [n_q, n_kv] = x.lengths.map_or([p.seq_q, p.seq_kv], |lengths| lengths[b]);
        if i >= n_q {
            continue;
        }
        let kv = (b * p.kv_heads + h / (p.heads / p.kv_heads)) * p.seq_kv;
        let (q, d_o) = (&x.q[row * d..][..d], &d_o[row * dv..][..dv]);
        let k = |j: usize| &x.k[(kv + j) * d..][..d];
        let v = |j: usize| &x.v[(kv + j) * dv..][..dv];
        let t = i as i64 + n_kv as i64 - n_q as i64;
        let numbers = x.segments.map(|all| &all[b * p.seq_kv..][..n_kv]);
        let seen: Vec<Seen<R>> = (0..n_kv)
            .filter(|&j| sees(p, t, j as i64))
            .filter(|&j| numbers.is_none_or(|numbers| attention::sees(numbers, x.segment_flags, t, j)))
            .filter(|&j| x.bias.is_none_or(|bias| bias[row * p.seq_kv + j] > f64::NEG_INFINITY))
            .map(|j| {
                let mut score = scale * dot::<R>(q, k(j)).0;
                let (product, mut slope) = (score.f64(), R::of(1.0));
                if p.softcap > 0.0 {
                    let cap = R::of(p.softcap.into());
                    let tanh = (score / cap).tanh();
                    (score, slope) = (cap * tanh, slope - tanh * tanh);
                }
                if let Some(slopes) = x.slopes {
                    score = score - R::of(finite(slopes[b * p.heads + h])) * R::of((t - j as i64).abs() as f64);
                }
                if let Some(bias) = x.bias {
                    score += R::of(bias[row * p.seq_kv + j]);
                }
                Seen { j, score: R::of(finite(score.f64())), product, slope }
            })
            .collect();
        let sink = x.sinks.map(|sinks| sinks[h]).filter(|&sink| sink > f64::NEG_INFINITY).map(|s| R::of(finite(s)));
        if seen.is_empty() && sink.is_none() {
            continue;
        }
        let max = seen.iter().map(|one| one.score).chain(sink).fold(R::NEG_INFINITY, R::max);
        let mut sum = sink.map_or(R::ZERO, |sink| (sink - max).exp());
        seen.iter().for_each(|one| sum += (one.score - max).exp());
        let weights: Vec<R> = seen.iter().map(|one| (one.score - max).exp() / sum).collect();
        // How much an error of a score counts, as in attention; and that of a log-sum-exp.
        let mean = seen.iter().map(|one| one.product).sum::<f64>() / seen.len() as f64;
        let near = || seen.iter().filter(|one| one.score.f64() > max.f64() - 120.0);
        let distance = near().map(|one| (one.product - mean).abs()).fold(0.0, f64::max);
        let largest = near().map(|one| one.score.f64().abs()).chain(sink.map(|s| s.f64().abs())).fold(0.0, f64::max);
        let error = 1.0 + distance + if p.sum.is_some() { 0.0 } else { largest };

        let mut o = vec![R::ZERO; dv];
        for (one, &weight) in seen.iter().zip(&weights) {
            o.iter_mut().zip(v(one.j)).for_each(|(o, v)| *o += weight * R::of(*v));
        }
        let o: Vec<f64> = o.iter().map(|o| round_o(o.f64())).collect();
        let (mut delta, mut delta_mag) = dot::<R>(d_o, &o);
        if let Some(dlse) = dlse {
            delta = delta - R::of(dlse[row]);
            delta_mag += dlse[row].abs();
        }
        if let Some(sink) = sink {
            let weight = (sink - max).exp() / sum;
            dsinks[h].value = dsinks[h].value - weight * delta;
            dsinks[h].mag += weight.f64() * delta_mag * error;
        }
        let mut dq = sums::<R>(d);
        for (one, &weight) in seen.iter().zip(&weights) {
            let (dp, dp_mag) = dot::<R>(d_o, v(one.j));
            let ds = weight * (dp - delta);
            let mag = weight.f64() * (dp_mag + delta_mag) * error;
            if problem.dmask.is_some() {
                let sum = &mut dmask[place(mask_sizes, [b, h, i, one.j])];
                sum.value += ds;
                sum.mag += mag;
            }
            let weight = R::of(round(weight.f64()));
            for (sum, d_o) in dvs[(kv + one.j) * dv..].iter_mut().zip(d_o) {
                sum.value += weight * R::of(*d_o);
                sum.mag += weight.f64() * d_o.abs() * error;
            }
            let ds = R::of(round((ds * one.slope).f64()));
            let size = f64::from(p.scale).abs() * mag;
            for (sum, k) in dq.iter_mut().zip(k(one.j)) {
                sum.value += ds * R::of(*k);
                sum.mag += size * k.abs();
            }
            for (sum, q) in dk[(kv + one.j) * d..].iter_mut().zip(q) {
                sum.value += ds * R::of(*q);
                sum.mag += size * q.abs();
            }
        }
        dq.iter_mut().for_each(|sum| sum.value = scale * sum.value);
        let dq = gradient(&dq, d);
        out.dq.values[row * d..][..d].copy_from_slice(&dq.values);
        out.dq.mag[row] = dq.mag[0];
    }
    dk.iter_mut().for_each(|sum| sum.value = scale * sum.value);
    let [.., cols] = mask_sizes;
    (out.dk, out.dv) = (gradient(&dk, d), gradient(&dvs, dv));
    (out.dmask, out.dsinks) = (gradient(&dmask, cols), gradient(&dsinks, p.heads));
    out
}

/// A product, and that of absolute values.
fn dot<R: Real>(x: &[f64], y: &[f64]) -> (R, f64) {
    let mut sum = (R::ZERO, 0.0);
    for (x, y) in x.iter().zip(y) {
        sum.0 += R::of(*x) * R::of(*y);
        sum.1 += (x * y).abs();
    }
    sum
}

/// Whether a query that stands at key `t` sees key `j` by its position.
fn sees(p: &crate::attention::Problem, t: i64, j: i64) -> bool {
    let keys = |keys: usize| (keys as u64).min(1 << 40) as i64;
    let right = if p.causal { Some(0) } else { p.window[1] };
    p.window[0].is_none_or(|left| j >= t - keys(left)) && right.is_none_or(|right| j <= t + keys(right))
}

/// The element of a mask of these sizes, of which those of 1 are broadcast.
fn place(sizes: [usize; 4], at: [usize; 4]) -> usize {
    sizes.iter().zip(at).fold(0, |place, (&size, at)| place * size + if size == 1 { 0 } else { at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::Problem as Forward;
    use crate::reference::numerics::differences::{Input, hold, values};
    use crate::softmax::{Mask, MaskKind};
    use crate::{Dtype, Layout};
    use approx::assert_relative_eq;

    fn exact(v: f64) -> f64 {
        v
    }

    fn run(problem: &Problem, x: &Inputs) -> Output {
        reference::<f64>(problem, x, [&exact, &exact])
    }

    #[track_caller]
    fn near(have: &[f64], want: &[f64]) {
        assert_eq!(have.len(), want.len());
        for (have, want) in have.iter().zip(want) {
            assert_relative_eq!(*have, *want, max_relative = 1e-12, epsilon = 1e-14);
        }
    }

    #[test]
    fn by_hand() {
        // Weights 1 : 2 : 5 of 8, so o = 20; do = 2, so dp = 16, 32, 48 and delta = 40.
        let k = [0.0, 2f64.ln(), 5f64.ln()];
        let forward = attention::Inputs { q: &[1.0], k: &k, v: &[8.0, 16.0, 24.0], ..Default::default() };
        let x = Inputs { forward, d_o: &[2.0], dlse: None };
        let shape = Forward { seq_q: 1, seq_kv: 3, scale: 1.0, ..Forward::new(1, 1, 1, 1) };
        let out = run(&Problem::new(shape), &x);
        near(&out.dv.values, &[0.25, 0.5, 1.25]);
        near(&out.dk.values, &[-3.0, -2.0, 5.0]);
        near(&out.dq.values, &[-2.0 * 2f64.ln() + 5.0 * 5f64.ln()]);
        // The LSE moves by the weights.
        let dlse = run(&Problem::new(shape), &Inputs { dlse: Some(&[8.0]), ..x });
        near(&dlse.dk.values, &[-2.0, 0.0, 10.0]);
        near(&dlse.dv.values, &out.dv.values);
        // A sink of ln 8 takes half: o = 10, delta = 20.
        let sinks = [8f64.ln()];
        let forward = attention::Inputs { sinks: Some(&sinks), ..forward };
        let out = run(&Problem::new(Forward { sinks: Some(0), ..shape }), &Inputs { forward, ..x });
        near(&out.dsinks.values, &[-10.0]);
        near(&out.dk.values, &[-0.25, 1.5, 8.75]);
        // Nothing to see.
        let forward = attention::Inputs { q: &[f64::NAN], k: &[], v: &[], ..Default::default() };
        let x = Inputs { forward, d_o: &[f64::NAN], dlse: None };
        let out = run(&Problem::new(Forward { seq_kv: 0, ..shape }), &x);
        assert_eq!((out.dq.values, out.dk.values), (vec![0.0], vec![]));
    }

    #[test]
    fn gradients_are_those_of_the_forward_call() {
        let base = Forward { batch: 2, seq_q: 3, seq_kv: 4, value_dim: 2, scale: 0.7, ..Forward::new(2, 4, 2, 3) };
        let kind = MaskKind::Additive(Dtype::F32);
        let of = |strides| Some(Mask { layout: Layout::strided(0, strides), ..Mask::new(kind) });
        // Of each batch: a full one, one that only itself sees, and others.
        let segments = attention::Segments { numbers: 3, per_batch: true, flags: 0, count: 3, ordered: true };
        let (numbers, flags) = ([0, 0, 1, 2, 0, 1, 1, 2], [attention::Segments::FULL, attention::Segments::PRIVATE, 0]);
        let cases = [
            ("plain", base),
            ("causal", Forward { causal: true, ..base }),
            ("more queries than keys", Forward { causal: true, seq_q: 4, seq_kv: 3, ..base }),
            ("a window", Forward { window: [Some(1), Some(1)], ..base }),
            ("a softcap", Forward { softcap: 1.5, ..base }),
            ("a mask", Forward { mask: Some(Mask::new(kind)), softcap: 2.0, ..base }),
            ("a mask of batches", Forward { mask: of([4, 0, 0]), ..base }),
            ("a mask of heads and queries", Forward { mask: of([0, 12, 4]), causal: true, ..base }),
            ("segments", Forward { segments: Some(segments), ..base }),
            ("segments and a window", Forward { segments: Some(segments), window: [Some(2), None], ..base }),
        ];
        for (i, (what, forward)) in cases.into_iter().enumerate() {
            let Forward { batch, heads, kv_heads, seq_q, seq_kv, head_dim, value_dim, .. } = forward;
            let dmask = forward.mask.map(|_| Layout::default());
            let problem = Problem { dmask, ..Problem::new(forward) };
            let mask_sizes = dmask.map_or([0; 4], |_| problem.mask_sizes());
            let (rows, keys) = (batch * heads * seq_q, batch * kv_heads * seq_kv);
            let small = |len, seed| values(len, seed + i).iter().map(|v| 0.5 * v).collect::<Vec<_>>();
            let [q, k, v, d_o] = [rows * head_dim, keys * head_dim, keys * value_dim, rows * value_dim]
                .into_iter()
                .enumerate()
                .map(|(seed, len)| small(len, seed))
                .collect::<Vec<_>>()
                .try_into()
                .unwrap();
            let (dlse, slopes, sinks) = (small(rows, 5), small(batch * heads, 6), small(heads, 7));
            let mask = small(mask_sizes.iter().product(), 8);
            let lengths = [[seq_q, seq_kv], [seq_q - 1, seq_kv - 1]];
            let bias = |mask: &[f64]| {
                let all = (0..rows * seq_kv).map(|at| {
                    let row = at / seq_kv;
                    let [b, h, i] = [row / seq_q / heads, row / seq_q % heads, row % seq_q];
                    mask[place(mask_sizes, [b, h, i, at % seq_kv])]
                });
                dmask.map(|_| all.collect::<Vec<_>>())
            };
            let loss = |all: &[Vec<f64>]| {
                let bias = bias(&all[4]);
                let x = attention::Inputs {
                    q: &all[0],
                    k: &all[1],
                    v: &all[2],
                    sinks: Some(&all[3]),
                    bias: bias.as_deref(),
                    slopes: Some(&slopes),
                    lengths: Some(&lengths),
                    segments: forward.segments.map(|_| &numbers[..]),
                    segment_flags: &flags,
                    ..Default::default()
                };
                let out = attention::reference::<f64>(&forward, &x, |v| v);
                let product = |y: &[f64], dy: &[f64]| -> f64 {
                    y.iter().zip(dy).filter(|(y, _)| y.is_finite()).map(|(y, dy)| y * dy).sum()
                };
                product(&out.o, &d_o) + product(&out.lse, &dlse)
            };
            let own_bias = bias(&mask);
            let x = attention::Inputs {
                q: &q,
                k: &k,
                v: &v,
                sinks: Some(&sinks),
                bias: own_bias.as_deref(),
                slopes: Some(&slopes),
                lengths: Some(&lengths),
                segments: forward.segments.map(|_| &numbers[..]),
                segment_flags: &flags,
                ..Default::default()
            };
            let out = run(&problem, &Inputs { forward: x, d_o: &d_o, dlse: Some(&dlse) });
            let input = |name, values, gradient| Input { name, values, gradient };
            let all = [
                input("q", &q, &out.dq.values),
                input("k", &k, &out.dk.values),
                input("v", &v, &out.dv.values),
                input("sinks", &sinks, &out.dsinks.values),
                input("mask", &mask, &out.dmask.values),
            ];
            hold(what, &all, loss);
        }
    }
}
