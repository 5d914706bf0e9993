//! d `[m, n]` = a `[m, k]` b `[k, n]`, row-major. Input set `i` is set `i` of the pool for a, and `i + 1000` for b.

use gemm::Parallelism;
use loom::bench::Pool;
use loom::kernels::gemm::{Call, KERNEL, Output, plain};
use tileloom::Dtype;
use tileloom::reference::Verdict;

use crate::burn_side::{burn, upload};
use crate::duel::{Duel, Machine, Peer, Side, known};

pub fn duels() -> Vec<Duel> {
    [(256, Dtype::F32), (512, Dtype::F32), (1024, Dtype::F32), (512, Dtype::F16), (1024, Dtype::F16)].map(duel).into()
}

fn duel((n, dtype): (usize, Dtype)) -> Duel {
    let mut peers = vec![burn(
        move |device, pool, set| {
            let operand = |which| upload::<2>(device, pool, dtype, [n, n], set + which);
            (operand(0), operand(1000))
        },
        |(a, b)| a.matmul(b),
        move |pool, d| judge(pool, n, dtype, d),
    )];
    if dtype == Dtype::F32 {
        peers.push(cpu(n));
    }
    Duel { bench: known(&KERNEL, &format!("{n}x{n}x{n} {dtype}")), peers }
}

/// The `gemm` crate on all cores.
fn cpu(n: usize) -> Peer {
    let prepare = move |_: &Machine, pool: &Pool, sets: usize| {
        let floats = |set| pool.values(Dtype::F32, n * n, set).into_iter().map(|v| v as f32).collect::<Vec<f32>>();
        let operands: Vec<_> = (0..sets).map(|set| (floats(set), floats(set + 1000))).collect();
        let first = std::rc::Rc::new(std::cell::RefCell::new(vec![f32::NAN; n * n]));
        let (out, mut rest) = (first.clone(), vec![f32::NAN; n * n]);
        let run = move |range: std::ops::Range<usize>| {
            let mut first = out.borrow_mut();
            for i in range {
                let (a, b) = &operands[i % operands.len()];
                let d = if i == 0 { first.as_mut_ptr() } else { rest.as_mut_ptr() };
                let (a, b, rs) = (a.as_ptr(), b.as_ptr(), n as isize);
                // SAFETY: three row-major [n, n], d apart from the others.
                unsafe {
                    gemm::gemm(
                        n,
                        n,
                        n,
                        d,
                        1,
                        rs,
                        false,
                        a,
                        1,
                        rs,
                        b,
                        1,
                        rs,
                        0.0,
                        1.0,
                        false,
                        false,
                        false,
                        Parallelism::Rayon(0),
                    );
                }
            }
            Ok(())
        };
        let check = move |pool: &Pool| {
            let d: Vec<f64> = first.borrow().iter().map(|&v| v.into()).collect();
            Ok(judge(pool, n, Dtype::F32, &d))
        };
        Ok(Side { run: Box::new(run), check: Box::new(check), config: String::new() })
    };
    Peer { name: "gemm (CPU)", prepare: Box::new(prepare) }
}

/// Some rows, from the first to the last.
fn judge(pool: &Pool, n: usize, dtype: Dtype, d: &[f64]) -> Verdict {
    const ROWS: usize = 32;
    let pick = |matrix: &[f64]| -> Vec<f64> {
        (0..ROWS).flat_map(|i| matrix[i * (n - 1) / (ROWS - 1) * n..][..n].to_vec()).collect()
    };
    let (a, b) = (pick(&pool.values(dtype, n * n, 0)), pool.values(dtype, n * n, 1000));
    let (b2, c, residual, bias, scale) = (None, None, None, None, None);
    let call = Call { problem: plain(ROWS, n, n, [dtype; 3]), a, b, b2, c, residual, bias, scale, in_place: false };
    call.judge(&Output { d: pick(d), steps: Vec::new() })
}
