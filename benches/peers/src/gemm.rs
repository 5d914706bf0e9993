//! d `[m, n]` = a `[m, k]` b `[k, n]`, row-major; `NT`: b is `[n, k]`.

use std::cell::RefCell;
use std::rc::Rc;

use burn::tensor::Tensor;
use gemm::Parallelism;
use tileloom::Dtype;

use crate::burn_side::{Set, burn};
use crate::candle_side::{Input, candle};
use crate::duel::{Duel, Inputs, Machine, Peer, Side, known};

pub fn duels() -> Vec<Duel> {
    let square = |n, dtype| duel([n, n, n], dtype, false);
    vec![
        square(256, Dtype::F32),
        square(512, Dtype::F32),
        square(1024, Dtype::F32),
        square(512, Dtype::F16),
        square(1024, Dtype::F16),
        duel([1, 2048, 2048], Dtype::F32, false),
        duel([1, 2048, 2048], Dtype::F32, true),
        duel([1, 4096, 4096], Dtype::F16, true),
    ]
}

fn duel([m, n, k]: [usize; 3], dtype: Dtype, transposed: bool) -> Duel {
    let [rows, cols] = if transposed { [n, k] } else { [k, n] };
    let upload =
        move |set: &Set| Ok((set.upload::<2>("a", dtype, [m, k])?, set.upload::<2>("b", dtype, [rows, cols])?));
    let op = move |(a, b): (Tensor<2>, Tensor<2>)| a.matmul(if transposed { b.transpose() } else { b });
    let mut peers = vec![burn(upload, op, "d", 0.0)];
    if dtype == Dtype::F32 {
        let tensor = |name, shape: [usize; 2]| Input::Tensor(name, dtype, shape.into());
        let op = if transposed { "matmul_transposed" } else { "matmul" };
        peers.push(candle(op, "", vec![tensor("a", [m, k]), tensor("b", [rows, cols])], "d"));
    }
    if m == n && dtype == Dtype::F32 {
        peers.push(cpu(n));
    }
    let name = if transposed { " NT" } else { "" };
    Duel::new(known("gemm", &format!("{m}x{n}x{k} {dtype}{name}")), peers)
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
