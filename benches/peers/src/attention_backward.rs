//! The gradient of attention on contiguous `[1, 8, seq, dim]`, behind the forward call: burn's autodiff through its own attention,
//! of the sum of o times do.

use burn::tensor::Tensor;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use loom::harness::bench;
use tileloom::Dtype;
use tileloom::attention::Problem;

use crate::burn_side::{Set, burn_all};
use crate::duel::{Duel, known};

const HEADS: usize = 8;

pub fn duels() -> Vec<Duel> {
    let shapes = [(512, 64), (512, 128), (2048, 64), (2048, 128)];
    shapes.into_iter().flat_map(|(seq, dim)| [false, true].map(|causal| duel(seq, dim, causal))).collect()
}

fn duel(seq: usize, dim: usize, causal: bool) -> Duel {
    let options = AttentionModuleOptions { is_causal: causal, ..Default::default() };
    let shape = format!("{HEADS}x{seq}x{dim} f32{}", if causal { " causal" } else { "" });
    let upload = move |set: &Set| {
        let tensor = |name| set.upload::<4>(name, Dtype::F32, [1, HEADS, seq, dim]);
        let leaf = |name| Ok::<_, String>(tensor(name)?.autodiff().require_grad());
        Ok([leaf("q")?, leaf("k")?, leaf("v")?, tensor("do")?.autodiff()])
    };
    let op = move |[q, k, v, d_o]: [Tensor<4>; 4]| {
        let o = attention(q.clone(), k.clone(), v.clone(), None, None, options);
        let gradients = (o * d_o).sum().backward();
        [q, k, v].map(|leaf| leaf.grad(&gradients).expect("a leaf has its gradient"))
    };
    // As attention_backward's bench has it made.
    let forward = Problem { seq_q: seq, seq_kv: seq, causal, lse: Some(0), ..Problem::new(1, HEADS, HEADS, dim) };
    Duel {
        before: Some(bench("forward", forward)),
        ..Duel::new(known("attention_backward", &shape), vec![burn_all(upload, op, ["dq", "dk", "dv"], 0.0)])
    }
}
