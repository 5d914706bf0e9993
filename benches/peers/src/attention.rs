//! Attention on contiguous `[1, heads, seq, head_dim]`, and of one query over a cache. candle takes heads behind places; its inputs
//! are laid out so beforehand.

use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use tileloom::Dtype;

use crate::burn_side::{Set, burn};
use crate::candle_side::{Input, candle};
use crate::duel::{Duel, Peer, known};

/// Heads, heads of keys and values, queries, keys, and the size of a head.
#[derive(Clone, Copy)]
struct Shape {
    heads: usize,
    kv_heads: usize,
    seq: usize,
    keys: usize,
    dim: usize,
    dtype: Dtype,
    causal: bool,
}

pub fn duels() -> Vec<Duel> {
    let square = |seq, causal| {
        let shape = Shape { heads: 8, kv_heads: 8, seq, keys: seq, dim: 64, dtype: Dtype::F32, causal };
        duel(&format!("8x{seq}x64 f32{}", if causal { " causal" } else { "" }), shape)
    };
    let decode = |heads, kv_heads, dim| {
        let shape = Shape { heads, kv_heads, seq: 1, keys: 8192, dim, dtype: Dtype::F16, causal: false };
        let name = if heads == kv_heads { heads.to_string() } else { format!("{heads}/{kv_heads}") };
        duel(&format!("{name}x1 over 8192x{dim} f16"), shape)
    };
    let all = [false, true].into_iter().flat_map(|causal| [128, 512, 1024].map(|seq| square(seq, causal)));
    all.chain([decode(8, 8, 64), decode(32, 8, 128), decode(9, 3, 64)]).collect()
}

fn duel(name: &str, shape: Shape) -> Duel {
    Duel::new(known("attention", name), vec![by_burn(shape), by_candle(shape)])
}

/// One query of all heads that share keys is as many queries of one head: burn's attention has a head of keys for each of queries.
fn by_burn(Shape { heads, kv_heads, seq, keys, dim, dtype, causal }: Shape) -> Peer {
    let options = AttentionModuleOptions { is_causal: causal, ..Default::default() };
    let upload = move |set: &Set| {
        let q = set.upload::<4>("q", dtype, [1, kv_heads, heads / kv_heads * seq, dim])?;
        let cache = |name| set.upload::<4>(name, dtype, [1, kv_heads, keys, dim]);
        Ok([q, cache("k")?, cache("v")?])
    };
    // Its scores of f16 inputs are f16.
    let widen = if dtype == Dtype::F16 { 0.1 } else { 0.0 };
    burn(upload, move |[q, k, v]: [_; 3]| attention(q, k, v, None, None, options), "o", widen)
}

fn by_candle(Shape { heads, kv_heads, seq, keys, dim, dtype, causal }: Shape) -> Peer {
    let tensor = |name, heads, rows| Input::Tensor(name, dtype, vec![1, heads, rows, dim]);
    let inputs = vec![tensor("q", heads, seq), tensor("k", kv_heads, keys), tensor("v", kv_heads, keys)];
    candle("attention", if causal { "causal" } else { "all" }, inputs, "o")
}
