//! d `[m, n]` = a `[m, k]` of f32 by packed weights `[n, k]`. candle's product takes the same blocks, and rounds a to int8 first,
//! by blocks of 32, or beside q8_0 of 256: what that may change, 6 deviations of the sum of k roundings, is allowed to it. `int8` is
//! tileloom's product that rounds, too.

use tileloom::Dtype;
use tileloom::weights::Format;

use crate::candle_side::{Input, candle};
use crate::duel::{Duel, known};

pub fn duels() -> Vec<Duel> {
    [
        (1, 4096, 4096, "q4_0"),
        (1, 4096, 4096, "q4_0 int8"),
        (8, 4096, 4096, "q4_0"),
        (8, 4096, 4096, "q4_0 int8"),
        (1, 4096, 4096, "q8_0"),
        (1, 49_152, 576, "q4_0"),
    ]
    .map(duel)
    .into()
}

fn duel((m, n, k, name): (usize, usize, usize, &str)) -> Duel {
    let format = if name == "q8_0" { Format::Q8_0 } else { Format::Q4_0 };
    let inputs = vec![Input::Tensor("a", Dtype::F32, vec![m, k]), Input::Blocks(format, n, k)];
    Duel::new(known("gemm_quant", &format!("{m}x{n}x{k} {name}")), vec![candle("quantized_matmul", "", inputs, "d")])
}
