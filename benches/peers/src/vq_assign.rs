//! The nearest of 8192 codes to each of 4096 vectors of 64, squared distance: as written in burn's tensor operations,
//! |c|^2 - 2 x c by a matmul, then argmin. Input set `i` is set `i` of the pool for x, and set 7 is the codebook. Beside them tileloom's own product of x
//! and the codebook, which stops where the search begins.

use std::ops::Range;

use burn::tensor::{Int, Tensor};
use loom::bench::Pool;
use loom::kernels::gemm::{self as gemm_call, plain};
use loom::kernels::vq_assign::{Call, KERNEL};
use tileloom::vq_assign::Problem;
use tileloom::{Dtype, gemm};

use crate::burn_side::{burn, upload};
use crate::duel::{Duel, Machine, Peer, Side, known};

const ROWS: usize = 4096;
const CODES: usize = 8192;
const DIM: usize = 64;

pub fn duels() -> Vec<Duel> {
    vec![Duel {
        bench: known(&KERNEL, "4096x64 to 8192"),
        peers: vec![
            burn(
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
            ),
            product(),
        ],
    }]
}

/// x `[ROWS, DIM]` times the codebook transposed, `[ROWS, CODES]` of f32.
fn product() -> Peer {
    let prepare = |machine: &Machine, pool: &Pool, sets: usize| {
        let gpu = machine.gpu.clone();
        let problem = gemm::Problem { trans_b: true, ..plain(ROWS, CODES, DIM, [Dtype::F32; 3]) };
        let codes = gpu.buffer(&pool.bytes(Dtype::F32, CODES * DIM, 7));
        let d = gpu.buffer(&vec![0xff; 4 * ROWS * CODES]);
        let config = gemm::choose(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())?;
        let dispatches = (0..sets)
            .map(|set| {
                let x = gpu.buffer(&pool.bytes(Dtype::F32, ROWS * DIM, set));
                gemm::prepare_with(&gpu.kernels, &problem, &config, gemm::Buffers::new(&x, &codes, &d))
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| error.to_string())?;
        let own = gpu.clone();
        let run = move |range: Range<usize>| {
            let mut encoder = own.device.create_command_encoder(&Default::default());
            range.for_each(|i| dispatches[i % dispatches.len()].record(&mut encoder));
            own.queue.submit([encoder.finish()]);
            own.wait()
        };
        // The last row.
        let check = move |pool: &Pool| {
            let d = Dtype::F32.decode(&gpu.read(&d)?)[(ROWS - 1) * CODES..].to_vec();
            let a = pool.values(Dtype::F32, ROWS * DIM, 0)[(ROWS - 1) * DIM..].to_vec();
            let b = pool.values(Dtype::F32, CODES * DIM, 7);
            let (b2, c, residual, bias, scale) = (None, None, None, None, None);
            let problem = gemm::Problem { m: 1, ..problem };
            let call = gemm_call::Call { problem, a, b, b2, c, residual, bias, scale, in_place: false };
            Ok(call.judge(&gemm_call::Output { d, steps: Vec::new() }))
        };
        Ok(Side { run: Box::new(run), check: Box::new(check), config: config.to_string() })
    };
    Peer { name: "tileloom gemm", prepare: Box::new(prepare) }
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
