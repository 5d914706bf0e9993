//! How a call of attention_bias_backward is made and judged.

use crate::Dtype;
use crate::attention_bias_backward::{Buffers, Kind, Problem};
use crate::reference::attention_bias_backward::{Output, reference};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
use crate::verify::small;

impl Problem {
    /// The name of what is written.
    fn output(&self) -> &'static str {
        if matches!(self.kind, Kind::Alibi { .. }) { "dslopes" } else { "dtable" }
    }
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let out = match self.kind {
            Kind::Alibi { offset } => Rows::flat(offset, self.heads, Dtype::F32),
            Kind::T5 { buckets, layout } => Rows::new(layout, [buckets.num_buckets, self.heads], 1, Dtype::F32),
        };
        let dbias = Rows::new(self.dbias_layout, [self.heads, self.seq_q], self.seq_kv, self.dbias);
        let name = self.output();
        vec![Arg::read("dbias", dbias), if self.add { Arg::update(name, out) } else { Arg::write(name, out) }]
    }

    fn fill(&self, _: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        random.outliers(len)
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = match self.kind {
            Kind::Alibi { .. } => Buffers::alibi(bound.get("dbias"), bound.get("dslopes")),
            Kind::T5 { .. } => Buffers::t5(bound.get("dbias"), bound.get("dtable")),
        };
        bound.with(buffers, [("scratch", Buffers::scratch)])
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let before = values.get(self.output()).filter(|_| self.add).map(Vec::as_slice);
        let Output { out: oracle, mag } = reference::<f64>(self, &values["dbias"], before);
        let low = reference::<f32>(self, &values["dbias"], before).out;
        vec![(self.output(), Rule::Rows { cols: self.heads, dtype: Dtype::F32, oracle, low, mag })]
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |heads: usize, seq_q: usize, seq_kv: usize, add: bool| {
            let (heads, seq_q, seq_kv) =
                (self.heads.min(heads), small::like(self.seq_q, seq_q), small::like(self.seq_kv, seq_kv));
            let kind = match self.kind {
                Kind::Alibi { offset } => Kind::Alibi { offset: offset % 8 },
                Kind::T5 { buckets, layout } => {
                    Kind::T5 { buckets, layout: small::laid(layout, [buckets.num_buckets, heads], 1) }
                }
            };
            let dbias_layout = small::laid(self.dbias_layout, [heads, seq_q], seq_kv);
            let problem = Problem { heads, seq_q, seq_kv, dbias_layout, kind, add, ..*self };
            (heads * seq_q * seq_kv, problem)
        };
        // Several blocks of queries, many diagonals.
        small::few([small(3, 21, 40, self.add), small(2, 150, 600, !self.add), small(2, 300, 8, self.add)])
    }
}
