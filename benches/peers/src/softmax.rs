//! Softmax over the last axis.

use burn::tensor::activation;
use loom::kernels::softmax::{Call, Output, bench};
use tileloom::Dtype;
use tileloom::softmax::Problem;

use crate::burn_side::{burn, upload};
use crate::duel::Duel;

pub fn duels() -> Vec<Duel> {
    [
        (4096, 4096, Dtype::F32),
        (1024, 1024, Dtype::F32),
        (512, 32_768, Dtype::F32),
        (8192, 1000, Dtype::F32),
        (4096, 4096, Dtype::F16),
    ]
    .map(|(rows, cols, dtype)| duel(Problem { rows, cols, x: dtype, y: dtype, ..Default::default() }))
    .into()
}

fn duel(problem: Problem) -> Duel {
    let Problem { rows, cols, x: dtype, .. } = problem;
    let judge = move |pool: &loom::bench::Pool, y: &[f64]| {
        let call = Call::new(problem, pool.values(dtype, rows * cols, 0));
        call.judge(&Output { y: y.to_vec(), lse: None, steps: Vec::new() })
    };
    Duel {
        bench: bench(&format!("{rows}x{cols} {dtype}"), problem),
        peers: vec![burn(
            move |device, pool, set| upload(device, pool, dtype, [rows, cols], set),
            |x| activation::softmax(x, 1),
            judge,
        )],
    }
}
