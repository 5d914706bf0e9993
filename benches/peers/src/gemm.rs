//! d `[m, n]` = a `[m, k]` b `[k, n]`, row-major.

use std::cell::RefCell;
use std::rc::Rc;

use gemm::Parallelism;
use tileloom::Dtype;

use crate::burn_side::{Set, burn};
use crate::duel::{Duel, Inputs, Machine, Peer, Side, known};

pub fn duels() -> Vec<Duel> {
    [(256, Dtype::F32), (512, Dtype::F32), (1024, Dtype::F32), (512, Dtype::F16), (1024, Dtype::F16)].map(duel).into()
}

fn duel((n, dtype): (usize, Dtype)) -> Duel {
    let upload = move |set: &Set| {
        let operand = |name| set.upload::<2>(name, dtype, [n, n]);
        Ok((operand("a")?, operand("b")?))
    };
    let mut peers = vec![burn(upload, |(a, b)| a.matmul(b), "d", 0.0)];
    if dtype == Dtype::F32 {
        peers.push(cpu(n));
    }
    Duel::new(known("gemm", &format!("{n}x{n}x{n} {dtype}")), peers)
}

/// The `gemm` crate on all cores.
fn cpu(n: usize) -> Peer {
    let prepare = move |_: &Machine, inputs: &Rc<Inputs>| {
        let floats = |set, name| -> Result<Vec<f32>, String> {
            Ok(Dtype::F32.decode(&inputs.bytes(set, name)?).into_iter().map(|v| v as f32).collect())
        };
        let operands = (0..inputs.sets()).map(|set| Ok((floats(set, "a")?, floats(set, "b")?)));
        let operands = operands.collect::<Result<Vec<_>, String>>()?;
        let (inputs, first) = (inputs.clone(), Rc::new(RefCell::new(vec![f32::NAN; n * n])));
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
        let check = move || inputs.judge("d", first.borrow().iter().map(|&v| v.into()).collect(), 0.0);
        Ok(Side { run: Box::new(run), check: Box::new(check), config: String::new() })
    };
    Peer { name: "gemm (CPU)", prepare: Box::new(prepare) }
}
