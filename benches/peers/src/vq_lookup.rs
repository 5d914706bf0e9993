//! Rows of a table `[codes, dim]` by indices, as an embedding reads them. An index that is out of range gives 0: for the others the table
//! has a row of 0 behind its last.

use burn::tensor::module::embedding;
use burn::tensor::{Int, Tensor, TensorData};
use tileloom::Dtype;

use crate::burn_side::{Set, burn};
use crate::candle_side::{Input, candle};
use crate::duel::{Duel, known};

pub fn duels() -> Vec<Duel> {
    [(65_536, 8192, 64, Dtype::F32), (65_536, 16_384, 256, Dtype::F32), (8192, 32_000, 1024, Dtype::F16)]
        .map(duel)
        .into()
}

fn duel((n, codes, dim, dtype): (usize, usize, usize, Dtype)) -> Duel {
    let upload = move |set: &Set| {
        let indices: Vec<i32> =
            set.words("indices", n)?.into_iter().map(|index| index.min(codes as u32) as i32).collect();
        let indices = Tensor::<2, Int>::from_data(TensorData::new(indices, [1, n]), set.device);
        Ok((set.upload::<2>("codebook", dtype, [codes + 1, dim])?, indices))
    };
    let by_burn = burn(upload, |(table, indices)| embedding(table, indices), "y", 0.0);
    let inputs =
        vec![Input::Tensor("codebook", dtype, vec![codes + 1, dim]), Input::Indices("indices", n, codes as u32)];
    let by_candle = candle("embedding", "", inputs, "y");
    Duel::new(known("vq_lookup", &format!("{n} of {codes}x{dim} {dtype}")), vec![by_burn, by_candle])
}
