//! Attention on contiguous `[1, 8, seq, 64]`. Input set `i` is sets `3 i`, `3 i + 1`, `3 i + 2` of the pool for q, k, v.

use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use loom::bench::Pool;
use loom::kernels::attention::{Call, KERNEL, Output};
use tileloom::Dtype;
use tileloom::attention::Problem;
use tileloom::reference::Verdict;

use crate::burn_side::{burn, upload};
use crate::duel::{Duel, known};

const HEADS: usize = 8;
const DIM: usize = 64;

pub fn duels() -> Vec<Duel> {
    let causal = |causal| [128, 512, 1024].map(|seq| duel(seq, causal));
    causal(false).into_iter().chain(causal(true)).collect()
}

fn duel(seq: usize, causal: bool) -> Duel {
    let options = AttentionModuleOptions { is_causal: causal, ..Default::default() };
    let shape = format!("{HEADS}x{seq}x{DIM} f32{}", if causal { " causal" } else { "" });
    Duel {
        bench: known(&KERNEL, &shape),
        peers: vec![burn(
            move |device, pool, set| {
                [0, 1, 2].map(|which| upload::<4>(device, pool, Dtype::F32, [1, HEADS, seq, DIM], 3 * set + which))
            },
            move |[q, k, v]| attention(q, k, v, None, None, options),
            move |pool, o| judge(pool, seq, causal, o),
        )],
    }
}

/// The first and the last head.
fn judge(pool: &Pool, seq: usize, causal: bool, o: &[f64]) -> Verdict {
    let problem = Problem { seq_q: seq, seq_kv: seq, causal, ..Problem::new(1, 1, 1, DIM) };
    let inputs = [0, 1, 2].map(|set| pool.values(Dtype::F32, HEADS * seq * DIM, set));
    let mut verdict = Verdict::default();
    for head in [0, HEADS - 1] {
        let own = |values: &[f64]| values[head * seq * DIM..][..seq * DIM].to_vec();
        let [q, k, v] = [0, 1, 2].map(|which: usize| own(&inputs[which]));
        let output = Output { o: own(o), lse: None, steps: Vec::new() };
        verdict.merge(Call::new(problem, q, k, v).judge(&output));
    }
    verdict
}
