//! Attention on contiguous `[1, 8, seq, 64]`.

use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use tileloom::Dtype;

use crate::burn_side::{Set, burn};
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
    let upload = move |set: &Set| {
        let tensor = |name| set.upload::<4>(name, Dtype::F32, [1, HEADS, seq, DIM]);
        Ok([tensor("q")?, tensor("k")?, tensor("v")?])
    };
    let op = move |[q, k, v]: [_; 3]| attention(q, k, v, None, None, options);
    Duel::new(known("attention", &shape), vec![burn(upload, op, "o", 0.0)])
}
