//! Methods of tensors: those of small ones, and of empty ones with any other axes.

use tileloom::attention_bias::Buckets;
use tileloom::position_encoding::Wave;
use tileloom::rope::Frequencies;
use tileloom::vq_lookup::Combine;
use tileloom::{
    AttentionOptions, Context, ErrorKind, Kernels, MatmulOptions, NormOptions, PositionEncoding, PositionOptions,
    Result, RopeOptions, RopePositions, Scalar, SoftmaxOptions, Tensor, VqAssignOptions,
};

use crate::call::{End, Tally};
use crate::dice::{Dice, Vary};
use crate::gpu::Gpu;

/// Elements of a tensor that is not empty, at most.
const MOST: usize = 1 << 14;

/// A shape that can be allocated: small, or without elements.
fn shape(dice: &mut Dice, axes: usize) -> Vec<usize> {
    let mut shape: Vec<usize> = (0..axes).map(|_| dice.size()).collect();
    if shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size)).is_none_or(|n| n > MOST) {
        match dice.one_in(4) {
            true => shape.iter_mut().for_each(|size| *size %= 8),
            false => shape[dice.below(axes)] = 0,
        }
    }
    shape
}

/// The same with an axis changed, or not.
fn like(dice: &mut Dice, base: &[usize]) -> Vec<usize> {
    let mut shape = base.to_vec();
    match dice.below(6) {
        _ if shape.is_empty() => {}
        0 => {
            let axis = dice.below(shape.len());
            shape[axis] = [0, 1, 2, 8][dice.below(4)];
        }
        1 if shape.len() > 1 => drop(shape.remove(0)),
        _ => {}
    }
    shape
}

fn zeros<T: Scalar>(context: &Context, shape: &[usize]) -> Result<Tensor<T>> {
    let elements = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
    match shape.contains(&0) || elements.is_some_and(|n| n <= MOST) {
        true => context.zeros(shape),
        false => context.zeros(&[0]),
    }
}

/// Any method of any tensors.
///
/// # Errors
/// What is wrong with it.
pub fn case(dice: &mut Dice, gpu: &Gpu, kernels: &Kernels, tally: &mut Tally) -> std::result::Result<End, String> {
    let context = Context::from_kernels(kernels.clone(), gpu.queue.clone());
    let axes = [1, 2, 3, 4, 4][dice.below(5)];
    let base = shape(dice, axes);
    let mut story = format!("{base:?}");
    let called = call(dice, &context, &base, &mut story);
    tally.prepared += 1;
    let what = match (gpu.heard(), called) {
        (Some(error), _) => format!("nothing caught: {error}"),
        (None, Err(error)) => match error.kind {
            ErrorKind::Gpu { .. } | ErrorKind::DeviceLost { .. } => {
                format!("an error that it should not come to: {error}")
            }
            _ => return Ok(End::Refused),
        },
        (None, Ok(())) => {
            tally.recorded += 1;
            return Ok(End::Recorded);
        }
    };
    Err(format!("{what}\n  {story}\n  on {}, {}", gpu.name, kernels.caps().label()))
}

fn call(dice: &mut Dice, context: &Context, base: &[usize], story: &mut String) -> Result<()> {
    let mut tensor = |dice: &mut Dice| -> Result<Tensor<f32>> {
        let shape = like(dice, base);
        *story += &format!(", {shape:?}");
        zeros(context, &shape)
    };
    let x = zeros::<f32>(context, base)?;
    let last = base[base.len() - 1];
    let mut words = |n: usize| -> Vec<u32> { (0..n).map(|_| Vary::any(dice)).collect() };
    let (starts, more, lengths) = (words(3), words(3), words(2));
    let floats = [0.5f32; 8];
    match dice.below(13) {
        0 => {
            let mask = tensor(dice)?;
            let options = SoftmaxOptions { causal: dice.one_in(2), mask: Some((&mask).into()), ..Default::default() };
            x.softmax_with_lse(&options).map(drop)
        }
        1 => x.softmax_backward(&tensor(dice)?, &SoftmaxOptions::default()).map(drop),
        2 => {
            let (residual, weight) = (tensor(dice)?, zeros::<f32>(context, &[last])?);
            let options = NormOptions {
                residual: Some((&residual).into()),
                weight: Some((&weight).into()),
                ..Default::default()
            };
            x.layer_norm_with_sum(&options).map(drop)
        }
        3 => x.rms_norm_backward(&tensor(dice)?, &NormOptions::default()).map(drop),
        4 => {
            let (b, gate, residual) = (tensor(dice)?, tensor(dice)?, tensor(dice)?);
            let [trans_a, trans_b, gated, added] = Vary::any(dice);
            let options = MatmulOptions {
                trans_a,
                trans_b,
                gate: Some(&gate).filter(|_| gated),
                residual: Some(&residual).filter(|_| added),
                ..Default::default()
            };
            x.matmul(&b, &options).map(drop)
        }
        5 => {
            let (b, dd) = (tensor(dice)?, tensor(dice)?);
            let options = MatmulOptions { trans_a: Vary::any(dice), trans_b: Vary::any(dice), ..Default::default() };
            let mut batch = context.batch();
            batch.matmul_backward(&x, &b, &dd, &options)?;
            batch.submit()
        }
        6 | 7 => {
            let (k, v, mask) = (tensor(dice)?, tensor(dice)?, tensor(dice)?);
            let mut maybe = || dice.one_in(3);
            let options = AttentionOptions {
                causal: maybe(),
                tokens_first: maybe(),
                mask: Some((&mask).into()).filter(|_| maybe()),
                slopes: Some(&floats[..2]).filter(|_| maybe()),
                sinks: Some(&floats[..1]).filter(|_| maybe()),
                parents: Some(&more[..]).filter(|_| maybe()),
                segments: Some([&more[..], &starts[..]]).filter(|_| maybe()),
                packed: Some([&starts[..], &more[..]]).filter(|_| maybe()),
                block_table: Some(&starts[..2]).filter(|_| maybe()),
                lengths: Some(&lengths[..]).filter(|_| maybe()),
                ..Default::default()
            };
            let mut batch = context.batch();
            batch.attention_with_lse(&x, &k, &v, &options)?;
            batch.submit()
        }
        8 => x.attention_merge(&zeros(context, &base[..base.len() - 1])?).map(drop),
        9 => {
            let (seq_q, seq_kv) = (dice.size(), if dice.one_in(2) { 0 } else { dice.size() % 100 });
            let seq_q = if seq_kv == 0 { seq_q } else { seq_q % 100 };
            let _ = x.alibi_bias_backward().and(x.t5_bias_backward(Buckets::t5(false)));
            x.alibi_bias::<f32>(seq_q, seq_kv)?;
            x.t5_bias(Buckets::t5(true), seq_q, seq_kv).map(drop)
        }
        10 => {
            let (table, waves) = (tensor(dice)?, vec![Wave { frequency: 1.0, ..Vary::any(dice) }; last.min(100)]);
            let positions: Tensor<i32> = zeros(context, &like(dice, &base[..base.len() - 1]))?;
            let encoding = match dice.below(3) {
                0 => PositionEncoding::Waves(&waves),
                1 => PositionEncoding::Table(&table),
                _ => PositionEncoding::Tables(&table, &table),
            };
            let positions = Some(&positions).filter(|_| dice.one_in(2));
            x.add_positions(&PositionOptions { positions, ..PositionOptions::new(encoding) }).map(drop)
        }
        11 => {
            let frequencies = Frequencies { per_pair: vec![1.0; (last / 2).min(100)], attention_factor: 1.0 };
            let positions: Tensor<u32> = zeros(context, &base[..base.len() - 1])?;
            let mut options = RopeOptions { tokens_first: Vary::any(dice), ..RopeOptions::new(&frequencies) };
            if dice.one_in(2) {
                options.positions = RopePositions::Unsigned(&positions);
            }
            let mut batch = context.batch();
            batch.rope_qk(&x, &tensor(dice)?, &options)?;
            batch.submit()
        }
        _ => {
            let indices: Tensor<u16> = zeros(context, &like(dice, base))?;
            x.vq_lookup(&indices, Combine::Concat)?;
            let codebook = tensor(dice)?;
            let options = VqAssignOptions { residual: Vary::any(dice), ..Default::default() };
            x.vq_assign(&codebook, &options).map(drop)
        }
    }
}
