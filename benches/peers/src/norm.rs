//! RMS norm and layer norm over the last axis, with weights, of burn's and candle's own modules. tileloom's layer norm also
//! gives the statistics of each row.

use burn::module::Param;
use burn::nn::RmsNorm;
use burn::tensor::Tensor;
use burn::tensor::module::layer_norm;
use tileloom::Dtype;
use tileloom::norm::Kind;

use crate::burn_side::{Set, burn};
use crate::candle_side::{Input, candle};
use crate::duel::{Duel, known};

pub fn duels() -> Vec<Duel> {
    vec![rms(4096, 4096), rms(1, 4096), layer(4096, 4096), layer(8192, 1024)]
}

fn rms(rows: usize, cols: usize) -> Duel {
    let epsilon = f64::from(Kind::Rms.eps());
    let upload = move |set: &Set| {
        let gamma = Param::from_tensor(set.upload::<1>("weight", Dtype::F32, [cols])?);
        Ok((set.upload::<2>("x", Dtype::F32, [rows, cols])?, RmsNorm { gamma, epsilon }))
    };
    let by_burn = burn(upload, |(x, norm): (Tensor<2>, RmsNorm)| norm.forward(x), "y", 0.0);
    let inputs =
        vec![Input::Tensor("x", Dtype::F32, vec![rows, cols]), Input::Tensor("weight", Dtype::F32, vec![cols])];
    let by_candle = candle("rms_norm", &Kind::Rms.eps().to_string(), inputs, "y");
    Duel::new(known("norm", &format!("rms {rows}x{cols} f32")), vec![by_burn, by_candle])
}

fn layer(rows: usize, cols: usize) -> Duel {
    let upload = move |set: &Set| {
        let vector = |name| set.upload::<1>(name, Dtype::F32, [cols]);
        Ok((set.upload::<2>("x", Dtype::F32, [rows, cols])?, vector("weight")?, vector("bias")?))
    };
    let op = |(x, weight, bias)| layer_norm::<2>(x, weight, Some(bias), f64::from(Kind::Layer.eps()));
    let by_burn = burn(upload, op, "y", 0.0);
    let vector = |name| Input::Tensor(name, Dtype::F32, vec![cols]);
    let inputs = vec![Input::Tensor("x", Dtype::F32, vec![rows, cols]), vector("weight"), vector("bias")];
    let by_candle = candle("layer_norm", &Kind::Layer.eps().to_string(), inputs, "y");
    Duel::new(known("norm", &format!("layer {rows}x{cols} f32")), vec![by_burn, by_candle])
}
