//! Attention by its definition.

pub mod attention_backward;
pub mod attention_bias;
pub mod attention_bias_backward;
pub mod attention_merge;
pub mod attention_merge_backward;
pub mod kv_append;
pub mod kv_move;

use crate::attention::{Problem, Segments};
use crate::reference::Real;

/// What one call reads, contiguous; see [`reference()`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Inputs<'a> {
    /// `[batch, heads, seq_q, head_dim]`.
    pub q: &'a [f64],
    /// `[batch, kv_heads, seq_kv, head_dim]`.
    pub k: &'a [f64],
    /// `[batch, kv_heads, seq_kv, value_dim]`.
    pub v: &'a [f64],
    /// `[batch, heads, seq_q, seq_kv]`; minus infinity hides.
    pub bias: Option<&'a [f64]>,
    /// `[batch, heads]`.
    pub slopes: Option<&'a [f64]>,
    /// `[heads]`.
    pub sinks: Option<&'a [f64]>,
    /// `[batch, seq_q]`: the parent of each of the last `seq_q` keys, itself or a later one where it is a root.
    pub parents: Option<&'a [u32]>,
    /// The number of each key's segment, `[batch, seq_kv]`.
    pub segments: Option<&'a [u32]>,
    /// Flags of each segment, where there are segments.
    pub segment_flags: &'a [u32],
    /// Queries and keys that each batch has, at most `seq_q` and `seq_kv`; all of them if `None`.
    pub lengths: Option<&'a [[usize; 2]]>,
}

/// `o [batch, heads, seq_q, value_dim]`, and `[batch, heads, seq_q]` of `lse`, `max` and `sum`, NaN where a batch has no
/// such query; and `mag`, one per row, of o and LSE.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// `[batch, heads, seq_q, value_dim]`.
    pub o: Vec<f64>,
    /// `[batch, heads, seq_q]`.
    pub lse: Vec<f64>,
    /// `[batch, heads, seq_q]`: the largest score.
    pub max: Vec<f64>,
    /// `[batch, heads, seq_q]`: of `exp(s - max)`.
    pub sum: Vec<f64>,
    /// Of `o`, one per row.
    pub mag: Vec<f64>,
    /// Of `lse` and `max`, one per row.
    pub lse_mag: Vec<f64>,
    /// Of `sum`, one per row.
    pub sum_mag: Vec<f64>,
}

/// `o[i] = sum_j p[j] v[j]`, `p[j] = exp(s[j] - max s) / sum exp(s - max s)`, over the visible keys `j` and, in the
/// sum, the sink. With `t = i + n_kv - n_q`, the key that query `i` stands at:
/// `s = scale * q.k`; `softcap * tanh(s / softcap)`; `- slope * |t - j|`; `+ bias`. Scores, slopes and sinks
/// beyond the largest f32 count as that.
/// Visible are keys from `t - left` to `t + right` (`causal`: to `t`), less what the bias, the segments ([`sees`]) and the tree hide.
/// `round` is applied to `exp(s - max s)`, after it went into the sum: for `low`, the dtype of v.
/// Layouts and dtypes of the Problem are ignored.
///
/// # Panics
/// If an input is shorter than its shape.
pub fn reference<R: Real>(p: &Problem, x: &Inputs, round: impl Fn(f64) -> f64) -> Output {
    let (d, dv) = (p.head_dim, p.value_dim);
    let mut out = Output::default();
    for row in 0..p.batch * p.heads * p.seq_q {
        let (i, h, b) = (row % p.seq_q, row / p.seq_q % p.heads, row / p.seq_q / p.heads);
        let [n_q, n_kv] = x.lengths.map_or([p.seq_q, p.seq_kv], |lengths| lengths[b]);
        if i >= n_q {
            out.o.extend(vec![f64::NAN; dv]);
            for all in [&mut out.lse, &mut out.max, &mut out.sum] {
                all.push(f64::NAN);
            }
            out.mag.push(0.0);
            out.lse_mag.push(0.0);
            out.sum_mag.push(0.0);
            continue;
        }
        let kv = (b * p.kv_heads + h / (p.heads / p.kv_heads)) * p.seq_kv;
        let q = &x.q[row * d..][..d];
        let t = i as i64 + n_kv as i64 - n_q as i64;
        let ancestors = x.parents.map(|parents| ancestors(&parents[b * p.seq_q..][..n_q], i));
        // The score, and scale q.k alone.
        let score = |j: usize| -> Option<(R, f64)> {
            let k = &x.k[(kv + j) * d..][..d];
            let mut dot = R::ZERO;
            for (a, b) in q.iter().zip(k) {
                dot += R::of(*a) * R::of(*b);
            }
            let mut s = R::of(p.scale as f64) * dot;
            let product = finite(s.f64());
            if p.softcap > 0.0 {
                let cap = R::of(p.softcap as f64);
                s = cap * (s / cap).tanh();
            }
            if let Some(slopes) = x.slopes {
                s = s - R::of(finite(slopes[b * p.heads + h])) * R::of((t - j as i64).abs() as f64);
            }
            let bias = x.bias.map_or(0.0, |bias| bias[row * p.seq_kv + j]);
            if x.bias.is_some() {
                s += R::of(bias);
            }
            let after = p.window[0].is_none_or(|left| j as i64 >= t - (left as u64).min(1 << 40) as i64);
            let right = if p.causal { Some(0) } else { p.window[1] };
            let before = right.is_none_or(|right| j as i64 <= t + (right as u64).min(1 << 40) as i64);
            let in_tree = ancestors.as_ref().is_none_or(|ancestors| j + n_q < n_kv || ancestors[j + n_q - n_kv]);
            let numbers = x.segments.map(|all| &all[b * p.seq_kv..][..n_kv]);
            let of_segment = numbers.is_none_or(|numbers| sees(numbers, x.segment_flags, t, j));
            let hidden = bias == f64::NEG_INFINITY;
            (after && before && in_tree && of_segment && !hidden).then_some((R::of(finite(s.f64())), product))
        };
        let visible: Vec<(usize, (R, f64))> = (0..n_kv).filter_map(|j| Some((j, score(j)?))).collect();
        let products = || visible.iter().map(|(_, (_, product))| product);
        let mean = products().sum::<f64>() / products().count() as f64;
        let scores: Vec<(usize, R, f64)> =
            visible.into_iter().map(|(j, (s, product))| (j, s, (product - mean).abs())).collect();
        let sink =
            x.sinks.map(|sinks| sinks[h]).filter(|&sink| sink > f64::NEG_INFINITY).map(|sink| R::of(finite(sink)));
        let max = scores.iter().map(|(_, s, _)| *s).chain(sink).fold(R::NEG_INFINITY, R::max);
        let mut sum = sink.map_or(R::ZERO, |sink| (sink - max).exp());
        let mut o = vec![R::ZERO; dv];
        let (mut mag, mut distance, mut largest) = (vec![0f64; dv], 0f64, sink.map_or(0.0, |sink| sink.f64().abs()));
        for (j, s, own) in &scores {
            let weight = (*s - max).exp();
            sum += weight;
            let weight = R::of(round(weight.f64()));
            // Scores far below the maximum have no weight, and no error: exp(-120) is below every f32 ULP.
            if s.f64() > max.f64() - 120.0 {
                distance = distance.max(*own);
                largest = largest.max(s.f64().abs());
            }
            let size = weight.f64();
            for ((o, mag), v) in o.iter_mut().zip(&mut mag).zip(&x.v[(kv + j) * dv..][..dv]) {
                *o += weight * R::of(*v);
                *mag += if v.is_finite() { size * v.abs() } else { 0.0 };
            }
        }
        let dead = scores.is_empty() && sink.is_none();
        let norm = if dead { R::of(1.0) } else { sum };
        out.o.extend(o.iter().map(|o| (*o / norm).f64()));
        out.lse.push(if dead { f64::NEG_INFINITY } else { (max + sum.ln()).f64() });
        out.max.push(if dead { f64::NEG_INFINITY } else { max.f64() });
        out.sum.push(sum.f64());
        out.mag.push(mag.iter().fold(0.0, |peak: f64, v| peak.max(v / norm.f64())) * (1.0 + distance));
        out.lse_mag.push(1.0 + largest);
        out.sum_mag.push(sum.f64() * (1.0 + distance));
    }
    out
}

fn finite(value: f64) -> f64 {
    value.clamp(f32::MIN.into(), f32::MAX.into())
}

/// Whether a query at key `t` sees key `j`, by the numbers of the keys and the flags of the segments: with `a` and `b` the
/// segments of `t` and `j`, where `a = b` and (`j <= t` or `a` is full), or `b < a` and `b` is not private. A number past the last
/// counts as the last.
pub fn sees(numbers: &[u32], flags: &[u32], t: i64, j: usize) -> bool {
    let Some(&own) = usize::try_from(t).ok().and_then(|t| numbers.get(t)) else { return false };
    let [a, b] = [own, numbers[j]].map(|number| (number as usize).min(flags.len() - 1));
    (a == b && (j as i64 <= t || flags[a] & Segments::FULL != 0)) || (b < a && flags[b] & Segments::PRIVATE == 0)
}

/// Which tokens of a tree `token` sees: itself, and up the chain of parents, each before its child.
fn ancestors(parents: &[u32], token: usize) -> Vec<bool> {
    let mut seen = vec![false; parents.len()];
    let mut at = token;
    loop {
        seen[at] = true;
        match parents[at] as usize {
            parent if parent < at => at = parent,
            _ => return seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    fn shape(seq_q: usize, seq_kv: usize) -> Problem {
        Problem { seq_q, seq_kv, scale: 1.0, ..Problem::new(1, 1, 1, 1) }
    }

    fn run(p: &Problem, x: &Inputs) -> Output {
        reference::<f64>(p, x, |v| v)
    }

    #[track_caller]
    fn near(have: &[f64], want: &[f64]) {
        assert_eq!(have.len(), want.len());
        for (have, want) in have.iter().zip(want) {
            assert_relative_eq!(*have, *want, max_relative = 1e-12);
        }
    }

    #[test]
    fn by_hand() {
        // Weights 1 : 2 : 5 of values 8, 16, 24.
        let k = [0.0, 2f64.ln(), 5f64.ln()];
        let x = Inputs { q: &[1.0], k: &k, v: &[8.0, 16.0, 24.0], ..Default::default() };
        let out = run(&shape(1, 3), &x);
        near(&out.o, &[(8.0 + 32.0 + 120.0) / 8.0]);
        near(&out.lse, &[8f64.ln()]);
        // A sink of ln 8 takes half, and is in the LSE.
        let out = run(&shape(1, 3), &Inputs { sinks: Some(&[8f64.ln()]), ..x });
        near(&out.o, &[10.0]);
        near(&out.lse, &[16f64.ln()]);
        near(&[out.max[0], out.sum[0]], &[8f64.ln(), 2.0]);
        // Slope ln 2 at position 2: distances 2, 1, 0 make the weights 1/4 : 1 : 5.
        let out = run(&shape(1, 3), &Inputs { slopes: Some(&[2f64.ln()]), ..x });
        near(&out.o, &[(2.0 + 16.0 + 120.0) / 6.25]);
        // Softcap 1 of a score of atanh(1/2) = ln(3) / 2.
        let k = [0.0, 3f64.ln() / 2.0];
        let out = run(&Problem { softcap: 1.0, ..shape(1, 2) }, &Inputs { k: &k, v: &[0.0, 1.0], ..x });
        near(&out.o, &[0.5f64.exp() / (1.0 + 0.5f64.exp())]);
    }

    #[test]
    fn what_is_visible() {
        let inf = f64::INFINITY;
        let x = Inputs { q: &[0.0; 4], k: &[0.0; 4], v: &[1.0, 2.0, 4.0, 8.0], ..Default::default() };
        // Bottom-right: the last query sees all; more queries than keys leave the first dead.
        near(&run(&Problem { causal: true, ..shape(2, 4) }, &x).o, &[7.0 / 3.0, 15.0 / 4.0]);
        let out = run(&Problem { causal: true, ..shape(4, 2) }, &x);
        near(&out.o, &[0.0, 0.0, 1.0, 1.5]);
        assert_eq!(&out.lse[..2], &[-inf, -inf]);
        // A window of one to the left, and of one to the right.
        let window = [Some(1), Some(0)];
        near(&run(&Problem { window, ..shape(4, 4) }, &x).o, &[1.0, 1.5, 3.0, 6.0]);
        let window = [Some(0), Some(1)];
        near(&run(&Problem { window, ..shape(4, 4) }, &x).o, &[1.5, 3.0, 6.0, 8.0]);
        // One key before a tree of a root, its child, and a second root; a parent past its child is none.
        let parents = [9, 0, u32::MAX];
        near(&run(&shape(3, 4), &Inputs { parents: Some(&parents), ..x }).o, &[1.5, 7.0 / 3.0, 4.5]);
        // A prompt of two that sees all of itself, and what follows: 3 / 2, 3 / 2, 7 / 3, 15 / 4.
        let of =
            |numbers, flags, x| run(&shape(4, 4), &Inputs { segments: Some(numbers), segment_flags: flags, ..x }).o;
        near(&of(&[0, 0, 1, 1], &[1, 0], x), &[1.5, 1.5, 7.0 / 3.0, 3.75]);
        // Two documents; a noised picture that the text behind it does not see; numbers in no order, and past the last.
        near(&of(&[0, 0, 1, 1], &[2, 2], x), &[1.0, 1.5, 4.0, 6.0]);
        near(&of(&[0, 1, 1, 2], &[0, 3, 0], x), &[1.0, 7.0 / 3.0, 7.0 / 3.0, 4.5]);
        near(&of(&[2, 0, 9, 1], &[0, 0, 0], x), &[11.0 / 3.0, 2.0, 3.75, 5.0]);
        // What is hidden may hold anything.
        let (nan, bias) = (f64::NAN, [0.0, -inf, -inf, 0.0]);
        let v = [1.0, nan, inf, 8.0];
        near(&run(&shape(1, 4), &Inputs { v: &v, k: &[0.0, nan, nan, 0.0], bias: Some(&bias), ..x }).o, &[4.5]);
        // An infinite score below, an infinite value, and scores beyond f32.
        near(&run(&shape(1, 2), &Inputs { q: &[1.0], k: &[0.0, -inf], v: &[5.0, 7.0], ..x }).o, &[5.0]);
        assert_eq!(run(&shape(1, 2), &Inputs { v: &[5.0, inf], ..x }).o, [inf]);
        let far = Inputs { q: &[1e20], k: &[-3e38, -3e38, -3.1e38], v: &[1.0, 3.0, 7.0], ..x };
        near(&run(&shape(1, 3), &far).o, &[11.0 / 3.0]);
        near(&run(&shape(1, 2), &Inputs { q: &[1.0], k: &[inf, 0.0], v: &[5.0, 7.0], ..x }).o, &[5.0]);
        // A slope and a sink of infinity.
        let x1 = Inputs { q: &[0.0], slopes: Some(&[inf]), ..x };
        near(&run(&shape(1, 2), &x1).o, &[2.0]);
        near(&run(&shape(1, 2), &Inputs { slopes: None, sinks: Some(&[inf]), ..x1 }).o, &[0.0]);
        // A batch of fewer queries and keys than there is room for.
        let lengths = [[1, 2]];
        let out = run(&Problem { causal: true, ..shape(2, 4) }, &Inputs { lengths: Some(&lengths), ..x });
        near(&out.o[..1], &[1.5]);
        assert!(out.o[1].is_nan());
    }
}
