//! Kernels that go over rows, and what they share.

pub mod norm;
pub mod norm_backward;
pub mod quantize;
pub mod softmax;
pub mod softmax_backward;

use tileloom::caps::Class;
use tileloom::softmax::{Algorithm, Config, Reduce};
use tileloom::{Caps, Dtype};

use crate::case::{Fault, Tensor, bad_shape};

/// A tile of packed f16.
pub fn tile(algorithm: Algorithm, wg_size: u32, lanes: u32, keep: u32, reduce: Reduce) -> Config {
    Config { algorithm, wg_size, lanes, keep, reduce, native_f16: false }
}

/// One element at a time, up to 64 columns, a row per workgroup: needs no feature.
pub fn plain() -> Config {
    tile(Algorithm::Registers, 8, 8, 8, Reduce::Tree)
}

/// Dtypes of input and output that are composed.
const DTYPES: [(Dtype, Dtype); 5] = [
    (Dtype::F32, Dtype::F32),
    (Dtype::F16, Dtype::F16),
    (Dtype::Bf16, Dtype::Bf16),
    (Dtype::F16, Dtype::F32),
    (Dtype::F32, Dtype::Bf16),
];

/// All algorithms, all reductions, f16 held both ways.
fn shipped() -> Vec<String> {
    let algorithms = Algorithm::ALL.iter().map(|algorithm| format!("algorithm={}", algorithm.name()));
    let reductions = Reduce::ALL.iter().map(|reduce| format!("reduce={}", reduce.name()));
    algorithms.chain(reductions).chain(["native_f16=true".into(), "native_f16=false".into()]).collect()
}

/// What a CPU lacks.
pub fn software(caps: &Caps) -> Option<&'static str> {
    (caps.class() == Class::Software).then_some("a GPU")
}

/// What a GPU lacks.
pub fn gpu(caps: &Caps) -> Option<&'static str> {
    (caps.class() != Class::Software).then_some("a CPU")
}

/// Groups of `n2` rows, which a mask and `causal` tell apart, from the first to the last, evenly: how many rows, their
/// `dims`, and how to take them from a tensor `[rows, cols]`.
pub(in crate::kernels) fn sample(
    rows: usize,
    [n1, n2]: [usize; 2],
    cols: usize,
) -> (usize, [usize; 2], impl Fn(&[f64]) -> Vec<f64>) {
    let (group, groups) = (n2 * cols, rows / n2);
    let few = ((1 << 18) / group).clamp(2, groups.max(2)).min(groups);
    let take = move |all: &[f64]| -> Vec<f64> {
        let at = |i: usize| if few == 1 { 0 } else { i * (groups - 1) / (few - 1) };
        (0..few).flat_map(|i| all[at(i) * group..][..group].iter().copied()).collect()
    };
    (few * n2, [if n1 == 1 { 1 } else { few }, n2], take)
}

/// The outer axes of a case's tensor `[.., cols]`, the `dims` of a Problem on it, and `cols`.
pub(in crate::kernels) fn axes<'a>(name: &str, tensor: &'a Tensor) -> Result<(&'a [usize], [usize; 2], usize), Fault> {
    let Some((&cols, outer)) = tensor.shape.split_last() else {
        return Err(bad_shape(name, tensor, "[.., cols]"));
    };
    let n1 = if outer.len() == 3 { outer[1] } else { 1 };
    Ok((outer, [n1, outer.last().copied().unwrap_or(1)], cols))
}

fn causal_fits(name: &str, tensor: &Tensor, causal: bool) -> Result<(), Fault> {
    match causal && tensor.shape.len() < 2 {
        true => Err(bad_shape(name, tensor, "at least two axes, by `causal`")),
        false => Ok(()),
    }
}
