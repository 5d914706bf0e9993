//! Gradients of what attention biases are made of, by their definition.

use crate::attention_bias_backward::{Kind, Problem};
use crate::reference::Real;

/// What it gives: slopes `[heads]`, or the table `[num_buckets, heads]`; and `mag`, one per row of the table, of slopes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The gradient.
    pub out: Vec<f64>,
    /// The largest sum of magnitudes of each row.
    pub mag: Vec<f64>,
}

/// With the distance `d = j - (i + seq_kv - seq_q)` of key `j` and query `i`: sums of `-|d| dbias[head, i, j]` over all pairs, or of
/// `dbias[head, i, j]` over those whose distance falls into the bucket; on top of `before`.
///
/// `dbias` is contiguous.
pub fn reference<R: Real>(problem: &Problem, dbias: &[f64], before: Option<&[f64]>) -> Output {
    let Problem { heads, seq_q, seq_kv, kind, .. } = *problem;
    let rows = match kind {
        Kind::Alibi { .. } => 1,
        Kind::T5 { buckets, .. } => buckets.num_buckets,
    };
    let mut sums = vec![(R::ZERO, 0f64); rows * heads];
    for (at, &gradient) in dbias.iter().enumerate() {
        let (head, i, j) = (at / seq_kv / seq_q, at / seq_kv % seq_q, at % seq_kv);
        let distance = j as i64 + seq_q as i64 - seq_kv as i64 - i as i64;
        let (row, factor) = match kind {
            Kind::Alibi { .. } => (0, -(distance.unsigned_abs() as f64)),
            Kind::T5 { buckets, .. } => (buckets.bucket(distance), 1.0),
        };
        let (sum, mag) = &mut sums[row * heads + head];
        let value = R::of(factor) * R::of(gradient);
        *sum += value;
        *mag += value.f64().abs();
    }
    for ((sum, mag), &before) in sums.iter_mut().zip(before.into_iter().flatten()) {
        *sum += R::of(before);
        *mag += before.abs();
    }
    let largest = |row: &[(R, f64)]| row.iter().fold(0f64, |most, (_, mag)| most.max(*mag));
    let mag = if heads == 0 { Vec::new() } else { sums.chunks(heads).map(largest).collect() };
    Output { out: sums.into_iter().map(|(sum, _)| sum.f64()).collect(), mag }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention_bias::{self, Buckets};
    use crate::reference::attention_bias as forward;
    use crate::reference::numerics::differences::{Input, hold, product, values};
    use crate::{Dtype, Layout};

    #[test]
    fn by_hand() {
        // Two queries at the last two of three keys: distances -1, 0, 1 and -2, -1, 0.
        let alibi = Problem { heads: 1, seq_q: 2, seq_kv: 3, ..Problem::default() };
        let dbias = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
        assert_eq!(reference::<f64>(&alibi, &dbias, None).out, [-(1.0 + 4.0 + 16.0 + 16.0)]);
        assert_eq!(reference::<f64>(&alibi, &dbias, Some(&[7.0])).out, [-30.0]);
        // Four buckets, 0, 1 behind or more, 0 again ahead, 1 ahead or more.
        let buckets = Buckets { num_buckets: 4, max_distance: 8, bidirectional: true };
        let t5 = Problem { kind: Kind::T5 { buckets, layout: Layout::default() }, ..alibi };
        assert_eq!(reference::<f64>(&t5, &dbias, None).out, [34.0, 25.0, 0.0, 4.0]);
    }

    #[test]
    fn gradients_are_slopes() {
        let few = Buckets { num_buckets: 6, max_distance: 20, bidirectional: true };
        let t5 = |buckets| attention_bias::Kind::T5 { buckets, dtype: Dtype::F32, layout: Layout::default() };
        for kind in [attention_bias::Kind::Alibi { offset: 0 }, t5(few), t5(Buckets { bidirectional: false, ..few })] {
            for (seq_q, seq_kv) in [(5, 9), (9, 5)] {
                let problem = attention_bias::Problem { heads: 2, seq_q, seq_kv, kind, ..Default::default() };
                let own = attention_bias::backward(&problem);
                let len = if matches!(own.kind, Kind::Alibi { .. }) { 2 } else { 12 };
                let (table, dbias) = (values(len, 1), values(2 * seq_q * seq_kv, 3));
                let gradient = reference::<f64>(&own, &dbias, None).out;
                let input = Input { name: "table", values: &table, gradient: &gradient };
                hold("attention_bias", &[input], |all| {
                    product(&forward::reference::<f64>(&problem, &all[0]).bias, &dbias)
                });
            }
        }
    }
}
