//! The Configs of attention biases, composed.

use tileloom::attention_bias::{Buckets, Kind, Params, Problem, choose};
use tileloom::caps::presets;
use tileloom::kernels::Pipeline;
use tileloom::{Dtype, Layout};

pub const STEMS: [&str; 1] = ["attention_bias"];

#[test]
fn choices_compose_on_every_preset() {
    for caps in presets() {
        let table = |dtype| Kind::T5 { buckets: Buckets::t5(true), dtype, layout: Layout::default() };
        for kind in [Kind::Alibi { offset: 0 }, table(Dtype::F32), table(Dtype::F16), table(Dtype::Bf16)] {
            for (bias, seq_kv) in Dtype::ALL.into_iter().flat_map(|dtype| [(dtype, 64), (dtype, 6), (dtype, 7)]) {
                let problem = Problem { heads: 8, seq_q: 9, seq_kv, bias, kind, ..Problem::default() };
                let mut config = choose(&caps, &problem).unwrap();
                config.fits(&caps, &problem).unwrap();
                for table_writable in [false, true] {
                    config.form.table_writable = table_writable;
                    super::check::<Params>(&caps, &config.pass().shader(), &format!("{config} on {}", caps.name));
                }
            }
        }
    }
}
