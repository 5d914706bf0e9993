//! Group norm and SiLU of one picture `[1, channels, size, size]`: tileloom in one call, the others by their module and SiLU.

use burn::module::Param;
use burn::nn::{GroupNorm, GroupNormConfig};
use burn::tensor::{Tensor, activation};
use tileloom::Dtype;

use crate::burn_side::{Set, burn};
use crate::candle_side::{Input, candle};
use crate::duel::{Duel, known};

const GROUPS: usize = 32;
const EPS: f64 = 1e-5;

pub fn duels() -> Vec<Duel> {
    [(128, 256), (512, 16)].map(duel).into()
}

fn duel((channels, size): (usize, usize)) -> Duel {
    let upload = move |set: &Set| {
        let vector =
            |name| set.upload::<1>(name, Dtype::F32, [channels]).map(|tensor| Some(Param::from_tensor(tensor)));
        let config = GroupNormConfig::new(GROUPS, channels).with_epsilon(EPS);
        let norm = GroupNorm { gamma: vector("weight")?, beta: vector("bias")?, ..config.init(set.device) };
        Ok((set.upload::<4>("x", Dtype::F32, [1, channels, size, size])?, norm))
    };
    let op = |(x, norm): (Tensor<4>, GroupNorm)| activation::silu(norm.forward(x));
    let by_burn = burn(upload, op, "y", 0.0);
    let vector = |name| Input::Tensor(name, Dtype::F32, vec![channels]);
    let inputs = vec![Input::Tensor("x", Dtype::F32, vec![1, channels, size, size]), vector("weight"), vector("bias")];
    let by_candle = candle("group_norm_silu", &format!("{GROUPS} {EPS}"), inputs, "y");
    Duel::new(known("group_norm", &format!("group 32, silu, {channels} at {size}, nchw")), vec![by_burn, by_candle])
}
