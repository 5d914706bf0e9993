//! The Configs of attention biases, composed.

use std::collections::HashSet;

use tileloom::attention_bias::{Buckets, Kind, Problem};
use tileloom::caps::presets;
use tileloom::{Dtype, Layout};

pub const STEMS: [&str; 1] = ["attention_bias"];

#[test]
fn choices_compose_on_every_preset() {
    for caps in presets() {
        let mut seen = HashSet::new();
        let table = |dtype| Kind::T5 { buckets: Buckets::t5(true), dtype, layout: Layout::default() };
        for kind in [Kind::Alibi { offset: 0 }, table(Dtype::F32), table(Dtype::F16), table(Dtype::Bf16)] {
            for (bias, seq_kv) in Dtype::ALL.into_iter().flat_map(|dtype| [(dtype, 64), (dtype, 6), (dtype, 7)]) {
                let problem = Problem { heads: 8, seq_q: 9, seq_kv, bias, kind, ..Problem::default() };
                assert!(!super::compose(&caps, &problem, &mut seen).is_empty());
            }
        }
    }
}
