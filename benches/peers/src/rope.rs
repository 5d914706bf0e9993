//! RoPE on contiguous `[batch, heads, seq, head_dim]`, all of it rotated: `interleaved` by burn's own module,
//! `half` as it is written in burn's tensor operations; both by candle's own.

use burn::nn::RotaryEncodingConfig;
use burn::tensor::{Tensor, TensorData};
use tileloom::Dtype;

use crate::burn_side::{Set, burn};
use crate::candle_side::{Input, candle};
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
    let by_candle = |op| {
        let half = |f| table(f).chunks(head_dim).flat_map(|row| row[..head_dim / 2].to_vec()).collect();
        let angles = |name, f: fn(f64) -> f64| Input::Table(name, half(f), vec![seq, head_dim / 2]);
        let x = Input::Tensor("x", Dtype::F32, SHAPE.into());
        candle(op, "", vec![x, angles("cos", f64::cos), angles("sin", f64::sin)], "y")
    };
    vec![
        Duel::new(known("rope", "4x32x512x128 f32"), vec![half, by_candle("rope")]),
        Duel::new(known("rope", "4x32x512x128 f32 interleaved"), vec![interleaved, by_candle("rope_interleaved")]),
    ]
}

/// cos and sin `[1, 1, seq, head_dim]`.
fn tables(device: &burn::tensor::Device) -> [Tensor<4>; 2] {
    let [_, _, seq, head_dim] = SHAPE;
    [f64::cos, f64::sin].map(|f| Tensor::from_data(TensorData::new(table(f), [1, 1, seq, head_dim]), device))
}

/// f of the angles `[seq, head_dim]`, each half of a row with all of them.
fn table(f: fn(f64) -> f64) -> Vec<f32> {
    let [_, _, seq, head_dim] = SHAPE;
    let half = head_dim / 2;
    let angle = |i: usize| {
        let (s, pair) = (i / head_dim, i % half);
        s as f64 * BASE.powf(-(pair as f64) / half as f64)
    };
    (0..seq * head_dim).map(|i| f(angle(i)) as f32).collect()
}
