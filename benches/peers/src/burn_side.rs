//! burn's side: uploads, calls, waits, reads.

use std::cell::RefCell;
use std::rc::Rc;

use burn::tensor::kind::Basic;
use burn::tensor::{DType, Device, Tensor, TensorData};
use tileloom::Dtype;

use crate::duel::{Inputs, Machine, Peer, Side};

/// An input set, and the device that it goes to.
pub struct Set<'a> {
    pub device: &'a Device,
    inputs: &'a Inputs,
    set: usize,
}

impl Set<'_> {
    /// An input of tileloom's as a tensor; what is beyond it is 0.
    ///
    /// # Errors
    /// A lost device.
    pub fn upload<const D: usize>(&self, name: &str, dtype: Dtype, shape: [usize; D]) -> Result<Tensor<D>, String> {
        let mut bytes = self.inputs.bytes(self.set, name)?;
        bytes.resize(shape.iter().product::<usize>() * dtype.bytes() as usize, 0);
        let dtype = match dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::Bf16 => DType::BF16,
        };
        Ok(Tensor::from_data(TensorData::from_bytes_vec(bytes, shape, dtype), (self.device, dtype)))
    }

    /// Words of an input of tileloom's.
    ///
    /// # Errors
    /// A lost device.
    pub fn words(&self, name: &str, len: usize) -> Result<Vec<u32>, String> {
        let bytes = self.inputs.bytes(self.set, name)?;
        Ok(bytes.as_chunks::<4>().0[..len].iter().map(|&word| u32::from_le_bytes(word)).collect())
    }
}

/// burn computes `op` of each input set, which `upload` takes over. The result is tileloom's output `name`, judged by a
/// bound that is wider by `widen`.
pub fn burn<I, const D: usize, K>(
    upload: impl Fn(&Set) -> Result<I, String> + 'static,
    op: impl Fn(I) -> Tensor<D, K> + Copy + 'static,
    name: &'static str,
    widen: f64,
) -> Peer
where
    I: Clone + 'static,
    K: Basic + 'static,
{
    burn_all(upload, move |inputs| [op(inputs)], [name], widen)
}

/// The same of an op that has several outputs of one rank.
pub fn burn_all<I, const N: usize, const D: usize, K>(
    upload: impl Fn(&Set) -> Result<I, String> + 'static,
    op: impl Fn(I) -> [Tensor<D, K>; N] + Copy + 'static,
    names: [&'static str; N],
    widen: f64,
) -> Peer
where
    I: Clone + 'static,
    K: Basic + 'static,
{
    let prepare = move |machine: &Machine, inputs: &Rc<Inputs>| {
        let (device, inputs) = (machine.burn.clone(), inputs.clone());
        let set = |set| upload(&Set { device: &device, inputs: &inputs, set });
        let sets = (0..inputs.sets()).map(set).collect::<Result<Vec<I>, String>>()?;
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
        let check = move || {
            let outputs: [Tensor<D, K>; N] = first.borrow_mut().take().ok_or("input set 0 was not run")?;
            let values = |output: Tensor<D, K>| output.try_into_vec_as::<f64>().map_err(|error| error.to_string());
            let all = names.into_iter().zip(outputs).map(|(name, output)| Ok((name, values(output)?)));
            inputs.judge_all(all.collect::<Result<_, String>>()?, widen)
        };
        Ok(Side { run: Box::new(run), check: Box::new(check), config: String::new() })
    };
    Peer { name: "burn", prepare: Box::new(prepare) }
}
