//! Attention biases by their definition.

use crate::attention_bias::{Kind, Problem};
use crate::reference::Real;

/// What it gives, contiguous `[heads, seq_q, seq_kv]`; and `mag`, one per row.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[heads, seq_q, seq_kv]`.
    pub bias: Vec<f64>,
    /// One per row.
    pub mag: Vec<f64>,
}

/// With the distance `d = j - (i + seq_kv - seq_q)` of key `j` and query `i`: `-slopes[head] * |d|`, or
/// `table[bucket(d), head]`. `table` is contiguous: slopes `[heads]`, or `[num_buckets, heads]`.
pub fn reference<R: Real>(problem: &Problem, table: &[f64]) -> Output {
    let Problem { heads, seq_q, seq_kv, kind, .. } = *problem;
    let mut out = Output { bias: Vec::with_capacity(heads * seq_q * seq_kv), mag: Vec::with_capacity(heads * seq_q) };
    for (head, i) in (0..heads).flat_map(|head| (0..seq_q).map(move |i| (head, i))) {
        let mut mag = 0f64;
        for j in 0..seq_kv {
            let distance = j as i64 + seq_q as i64 - seq_kv as i64 - i as i64;
            let value = match kind {
                Kind::Alibi { .. } => R::of(-table[head]) * R::of(distance.unsigned_abs() as f64),
                Kind::T5 { buckets, .. } => R::of(table[buckets.bucket(distance) * heads + head]),
            };
            mag = mag.max(value.f64().abs());
            out.bias.push(value.f64());
        }
        out.mag.push(mag);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention_bias::Buckets;
    use crate::{Dtype, Layout};

    #[test]
    fn by_hand() {
        // Two queries at the last two of three keys.
        let alibi = Problem { heads: 2, seq_q: 2, seq_kv: 3, ..Problem::default() };
        let bias = reference::<f64>(&alibi, &[0.5, 2.0]).bias;
        assert_eq!(bias, [-0.5, 0.0, -0.5, -1.0, -0.5, 0.0, -2.0, 0.0, -2.0, -4.0, -2.0, 0.0]);
        // Four buckets, 0, 1 behind or more, 0 again ahead, 1 ahead or more; one head.
        let buckets = Buckets { num_buckets: 4, max_distance: 8, bidirectional: true };
        let kind = Kind::T5 { buckets, dtype: Dtype::F32, layout: Layout::default() };
        let t5 = Problem { heads: 1, seq_q: 1, seq_kv: 2, kind, ..Problem::default() };
        assert_eq!(reference::<f64>(&t5, &[7.0, 8.0, 9.0, 10.0]).bias, [8.0, 7.0]);
        let t5 = Problem { seq_q: 2, seq_kv: 1, ..t5 };
        assert_eq!(reference::<f64>(&t5, &[7.0, 8.0, 9.0, 10.0]).bias, [10.0, 7.0]);
    }
}
