//! How a call of attention_bias is made and judged.

use crate::Dtype;
use crate::attention_bias::{Buffers, Kind, Problem, alibi_slopes};
use crate::reference::attention_bias::{Output, reference};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
use crate::verify::small;

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let table = match self.kind {
            Kind::Alibi { offset } => Arg::read("alibi_slopes", Rows::flat(offset, self.heads, Dtype::F32)),
            Kind::T5 { buckets, dtype, layout } => {
                Arg::read("table", Rows::new(layout, [buckets.num_buckets, self.heads], 1, dtype))
            }
        };
        let bias = Rows::new(self.bias_layout, [self.heads, self.seq_q], self.seq_kv, self.bias);
        vec![table, Arg::write("bias", bias)]
    }

    /// ALiBi's own slopes, or normal values.
    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        match name {
            "alibi_slopes" => alibi_slopes(len).into_iter().map(f64::from).collect(),
            _ => (0..len).map(|_| 3.0 * random.normal()).collect(),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        match self.kind {
            Kind::Alibi { .. } => Buffers::alibi(bound.get("alibi_slopes"), bound.get("bias")),
            Kind::T5 { .. } => Buffers::t5(bound.get("table"), bound.get("bias")),
        }
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let table = values.get("table").unwrap_or_else(|| &values["alibi_slopes"]);
        let Output { bias: oracle, mag } = reference::<f64>(self, table);
        let low = reference::<f32>(self, table).bias;
        vec![("bias", Rule::Rows { cols: self.seq_kv, dtype: self.bias, oracle, low, mag })]
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |heads: usize, seq_q: usize, seq_kv: usize| {
            let (heads, seq_q, seq_kv) =
                (self.heads.min(heads), small::like(self.seq_q, seq_q), small::like(self.seq_kv, seq_kv));
            let kind = match self.kind {
                Kind::Alibi { offset } => Kind::Alibi { offset: offset % 8 },
                Kind::T5 { buckets, dtype, layout } => {
                    Kind::T5 { buckets, dtype, layout: small::laid(layout, [buckets.num_buckets, heads], 1) }
                }
            };
            let bias_layout = small::laid(self.bias_layout, [heads, seq_q], seq_kv);
            Problem { heads, seq_q, seq_kv, bias_layout, kind, ..*self }
        };
        small::few(
            [small(3, 21, 40), small(2, 7, 1200), small(5, 130, 8)]
                .map(|problem| (problem.heads * problem.seq_q * problem.seq_kv, problem)),
        )
    }
}
