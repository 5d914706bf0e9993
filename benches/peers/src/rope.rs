//! RoPE on contiguous `[batch, heads, seq, head_dim]`, all of it rotated: `interleaved` by burn's own module,
//! `half` as it is written in burn's tensor operations.

use burn::nn::RotaryEncodingConfig;
use burn::tensor::{Device, Tensor, TensorData};
use tileloom::Dtype;

use crate::burn_side::{Set, burn};
use crate::duel::{Duel, known};

const SHAPE: [usize; 4] = [4, 32, 512, 128];
const BASE: f64 = 10_000.0;

pub fn duels() -> Vec<Duel> {
    let [_, _, seq, head_dim] = SHAPE;
    let x = |set: &Set| set.upload::<4>("x", Dtype::F32, SHAPE);
    let half = burn(
        move |set| Ok((x(set)?, tables(set.device))),
        |(x, [cos, sin])| {
            let [a, b]: [Tensor<4>; 2] = x.clone().chunk(2, 3).try_into().expect("two halves");
            x * cos + Tensor::cat(vec![b.neg(), a], 3) * sin
        },
        "y",
        0.0,
    );
    let interleaved = burn(
        move |set| Ok((x(set)?, RotaryEncodingConfig::new(seq, head_dim).init(set.device))),
        |(x, rotary)| rotary.forward(x),
        "y",
        // Its angles are f32.
        2e-3,
    );
    vec![
        Duel::new(known("rope", "4x32x512x128 f32"), vec![half]),
        Duel::new(known("rope", "4x32x512x128 f32 interleaved"), vec![interleaved]),
    ]
}

/// cos and sin `[1, 1, seq, head_dim]`, each half of a row with all angles.
fn tables(device: &Device) -> [Tensor<4>; 2] {
    let [_, _, seq, head_dim] = SHAPE;
    let half = head_dim / 2;
    let angle = |i: usize| {
        let (s, pair) = (i / head_dim, i % half);
        s as f64 * BASE.powf(-(pair as f64) / half as f64)
    };
    let table = |f: fn(f64) -> f64| {
        let values: Vec<f32> = (0..seq * head_dim).map(|i| f(angle(i)) as f32).collect();
        Tensor::from_data(TensorData::new(values, [1, 1, seq, head_dim]), device)
    };
    [table(f64::cos), table(f64::sin)]
}
