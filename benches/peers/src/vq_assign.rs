//! The nearest of 8192 codes to each of 4096 vectors of 64, squared distance: as written in burn's tensor operations,
//! |c|^2 - 2 x c by a matmul, then argmin. Input set `i` is set `i` of the pool for x, and set 7 is the codebook.

use burn::tensor::{Int, Tensor};
use loom::bench::Pool;
use loom::kernels::vq_assign::{Call, KERNEL};
use tileloom::Dtype;
use tileloom::vq_assign::Problem;

use crate::burn_side::{burn, upload};
use crate::duel::{Duel, known};

const ROWS: usize = 4096;
const CODES: usize = 8192;
const DIM: usize = 64;

pub fn duels() -> Vec<Duel> {
    vec![Duel {
        bench: known(&KERNEL, "4096x64 to 8192"),
        peers: vec![burn(
            |device, pool, set| {
                let x = upload::<2>(device, pool, Dtype::F32, [ROWS, DIM], set);
                let codes = upload::<2>(device, pool, Dtype::F32, [CODES, DIM], 7);
                (x, codes)
            },
            |(x, codes)| -> Tensor<2, Int> {
                let norms = (codes.clone() * codes.clone()).sum_dim(1).transpose(); // [1, CODES]
                (norms - x.matmul(codes.transpose()) * 2.0).argmin(1)
            },
            judge,
        )],
    }]
}

/// Some vectors, from the first to the last: the oracle goes through all codes of each.
fn judge(pool: &Pool, indices: &[f64]) -> tileloom::reference::Verdict {
    const SOME: usize = 128;
    let rows = || (0..SOME).map(|i| i * (ROWS - 1) / (SOME - 1));
    let (x, codes) = (pool.values(Dtype::F32, ROWS * DIM, 0), pool.values(Dtype::F32, CODES * DIM, 7));
    let problem = Problem { n: SOME, num_codes: CODES, code_dim: DIM, ..Problem::default() };
    let x = rows().flat_map(|row| x[row * DIM..][..DIM].to_vec()).collect();
    let picked: Vec<u32> = rows().map(|row| indices[row] as u32).collect();
    Call::new(problem, x, codes).judge_indices(&picked)
}
