//! Softmax over the last axis.

use burn::tensor::activation;
use loom::harness::bench;
use tileloom::Dtype;
use tileloom::softmax::Problem;

use crate::burn_side::burn;
use crate::candle_side::{Input, candle};
use crate::duel::{Duel, Peer, known};

pub fn duels() -> Vec<Duel> {
    let listed = [(4096, 4096, Dtype::F32), (8192, 1000, Dtype::F32), (4096, 4096, Dtype::F16)];
    let listed = listed.map(|(rows, cols, dtype)| {
        let bench = known("softmax", &format!("{rows}x{cols} {dtype}"));
        Duel::new(bench, peers(rows, cols, dtype))
    });
    let more = [(1024, 1024), (512, 32_768)].map(|(rows, cols)| {
        let bench = bench(&format!("{rows}x{cols} f32"), Problem { rows, cols, ..Default::default() });
        Duel::new(bench, peers(rows, cols, Dtype::F32))
    });
    listed.into_iter().chain(more).collect()
}

fn peers(rows: usize, cols: usize, dtype: Dtype) -> Vec<Peer> {
    let by_burn = burn(move |set| set.upload("x", dtype, [rows, cols]), |x| activation::softmax(x, 1), "y", 0.0);
    let by_candle = || candle("softmax", "", vec![Input::Tensor("x", dtype, vec![rows, cols])], "y");
    // candle adds f16 in f16.
    [by_burn].into_iter().chain((dtype == Dtype::F32).then(by_candle)).collect()
}
