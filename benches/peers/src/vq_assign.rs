//! The nearest of 8192 codes to each of 4096 vectors of 64, squared distance: as written in burn's tensor operations,
//! |c|^2 - 2 x c by a matmul, then argmin. Beside them tileloom's own product of as many vectors and codes, which stops
//! where the search begins.

use std::rc::Rc;

use burn::tensor::{Int, Tensor};
use loom::harness::bench;
use loom::pool::Pool;
use tileloom::{Dtype, gemm};

use crate::burn_side::{Set, burn};
use crate::duel::{Duel, Inputs, Machine, Peer, known, tileloom};

const ROWS: usize = 4096;
const CODES: usize = 8192;
const DIM: usize = 64;

pub fn duels() -> Vec<Duel> {
    let upload = |set: &Set| {
        let x = set.upload::<2>("x", Dtype::F32, [ROWS, DIM])?;
        Ok((x, set.upload::<2>("codebook", Dtype::F32, [CODES, DIM])?))
    };
    let op = |(x, codes): (Tensor<2>, Tensor<2>)| -> Tensor<2, Int> {
        let norms = (codes.clone() * codes.clone()).sum_dim(1).transpose(); // [1, CODES]
        (norms - x.matmul(codes.transpose()) * 2.0).argmin(1)
    };
    let peers = vec![burn(upload, op, "indices", 0.0), product()];
    vec![Duel::new(known("vq_assign", "4096x64 to 8192"), peers)]
}

/// x `[ROWS, DIM]` times the codebook transposed, `[ROWS, CODES]` of f32, on inputs of its own.
fn product() -> Peer {
    let prepare = |machine: &Machine, _: &Rc<Inputs>| {
        let problem = gemm::Problem { m: ROWS, n: CODES, k: DIM, trans_b: true, ..Default::default() };
        // Two results are more than caches hold.
        Ok(tileloom(&machine.gpu, None, &*bench("product", problem), &Pool::new(1), 2)?.1)
    };
    Peer { name: "tileloom gemm", prepare: Box::new(prepare) }
}
