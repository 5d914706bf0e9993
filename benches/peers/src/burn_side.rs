//! burn's side: uploads from the pool, calls, waits, reads.

use std::cell::RefCell;
use std::rc::Rc;

use burn::tensor::kind::Basic;
use burn::tensor::{DType, Device, Tensor, TensorData};
use loom::bench::Pool;
use tileloom::Dtype;
use tileloom::reference::Verdict;

use crate::duel::{Machine, Peer, Side};

/// Which burn, and how.
pub fn describe() -> String {
    let version = include_str!("../Cargo.lock")
        .split("[[package]]")
        .find_map(|package| package.trim_start().strip_prefix("name = \"burn\"\nversion = \"")?.split('"').next());
    format!("burn {} (wgpu, WGSL, autotune, fusion)", version.unwrap_or("of no version"))
}

/// Input set `set` of the pool.
pub fn upload<const D: usize>(device: &Device, pool: &Pool, dtype: Dtype, shape: [usize; D], set: usize) -> Tensor<D> {
    let elements: usize = shape.iter().product();
    let mut bytes = pool.bytes(dtype, elements, set);
    bytes.truncate(elements * dtype.bytes() as usize);
    let dtype = match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::Bf16 => DType::BF16,
    };
    Tensor::from_data(TensorData::from_bytes_vec(bytes, shape, dtype), (device, dtype))
}

/// burn computes `op` of each of its input sets. `inputs` makes a set; `judge` gets the values of set 0.
pub fn burn<I, const D: usize, K>(
    inputs: impl Fn(&Device, &Pool, usize) -> I + 'static,
    op: impl Fn(I) -> Tensor<D, K> + Copy + 'static,
    judge: impl Fn(&Pool, &[f64]) -> Verdict + Clone + 'static,
) -> Peer
where
    I: Clone + 'static,
    K: Basic + 'static,
{
    let prepare = move |machine: &Machine, pool: &Pool, sets: usize| {
        let device = machine.burn.clone();
        let sets: Vec<I> = (0..sets).map(|set| inputs(&device, pool, set)).collect();
        let first = Rc::new(RefCell::new(None));
        let kept = first.clone();
        let run = move |range: std::ops::Range<usize>| {
            // Kept until all is done: what nobody holds, fusion need not write.
            let outputs: Vec<_> = range.clone().map(|i| op(sets[i % sets.len()].clone())).collect();
            device.sync().map_err(|error| error.to_string())?;
            if range.contains(&0) {
                *kept.borrow_mut() = outputs.into_iter().next();
            }
            Ok(())
        };
        let judge = judge.clone();
        let check = move |pool: &Pool| {
            let output: Tensor<D, K> = first.borrow_mut().take().ok_or("input set 0 was not run")?;
            let values = output.try_into_vec_as::<f64>().map_err(|error| error.to_string())?;
            Ok(judge(pool, &values))
        };
        Ok(Side { run: Box::new(run), check: Box::new(check), config: String::new() })
    };
    Peer { name: "burn", prepare: Box::new(prepare) }
}
