//! RoPE on contiguous `[batch, heads, seq, head_dim]`, all of it rotated: `interleaved` by burn's own module,
//! `half` as it is written in burn's tensor operations.

use burn::nn::RotaryEncodingConfig;
use burn::tensor::{Device, Tensor, TensorData};
use loom::bench::Pool;
use loom::kernels::rope::bench;
use tileloom::Dtype;
use tileloom::reference::rope::reference;
use tileloom::reference::{Judge, Verdict};
use tileloom::rope::{Angles, Frequencies, Heads, Problem, Style};

use crate::burn_side::{burn, upload};
use crate::duel::Duel;

const SHAPE: [usize; 4] = [4, 32, 512, 128];
const BASE: f64 = 10_000.0;

pub fn duels() -> Vec<Duel> {
    let [batch, heads, seq, head_dim] = SHAPE;
    let problem = |style| Problem {
        batch,
        seq,
        head_dim,
        rotary_dim: head_dim,
        q: Heads::new(heads),
        style,
        x: Dtype::F32,
        y: Dtype::F32,
        angles: Angles::Frequencies(Frequencies::new(head_dim, BASE).expect("an even number")),
        ..Problem::default()
    };
    let x = |device: &Device, pool: &Pool, set| upload(device, pool, Dtype::F32, SHAPE, set);

    let (half, interleaved) = (problem(Style::Half), problem(Style::Interleaved));
    vec![
        Duel {
            bench: bench("4x32x512x128 f32", half.clone()),
            peers: vec![burn(
                move |device, pool, set| (x(device, pool, set), tables(device)),
                |(x, [cos, sin])| {
                    let [a, b]: [Tensor<4>; 2] = x.clone().chunk(2, 3).try_into().expect("two halves");
                    x * cos + Tensor::cat(vec![b.neg(), a], 3) * sin
                },
                move |pool, y| judge(&half, pool, y, 0.0),
            )],
        },
        Duel {
            bench: bench("4x32x512x128 f32 interleaved", interleaved.clone()),
            peers: vec![burn(
                move |device, pool, set| (x(device, pool, set), RotaryEncodingConfig::new(seq, head_dim).init(device)),
                |(x, rotary)| rotary.forward(x),
                // Its angles are f32.
                move |pool, y| judge(&interleaved, pool, y, 2e-3),
            )],
        },
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

/// By the rule, widened by `widen`.
fn judge(problem: &Problem, pool: &Pool, y: &[f64], widen: f64) -> Verdict {
    let [_, heads, _, cols] = SHAPE;
    let x = pool.values(Dtype::F32, y.len(), 0);
    let oracle = reference::<f64>(problem, heads, &x, None, None);
    let low = reference::<f32>(problem, heads, &x, None, None);
    let widen = (widen, 0.0);
    Judge { cols, dtype: Dtype::F32, oracle: &oracle.y, low: &low.y, mag: &oracle.mag, widen }.judge(y)
}
