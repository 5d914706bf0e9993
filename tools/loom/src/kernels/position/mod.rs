//! Kernels of positions, and what their descriptions have in common.

pub mod position_encoding;
pub mod rope;
mod scaling;

use crate::case::{self, Fault, Tensor};
use crate::kernel::{Arg, Values};

/// The output takes the place of the input.
const IN_PLACE: &[&[&str]] = &[&["x", "y"]];

/// Positions of a case file, and whether they are signed.
fn read_positions(tensor: &Tensor) -> Result<(bool, Vec<f64>), Fault> {
    let all = case::integers("positions", tensor)?;
    let signed = tensor.dtype.to_string() == "I32" || all.iter().any(|&p| p < 0);
    let fits = |p: i64| if signed { i32::try_from(p).is_ok() } else { u32::try_from(p).is_ok() };
    match all.iter().find(|&&p| !fits(p)) {
        Some(p) => Err(case::bad_shape("positions", tensor, format!("positions of 32 bits, not {p}"))),
        None => Ok((signed, all.into_iter().map(|p| p as f64).collect())),
    }
}

/// The shape of an argument as a tensor of a case file, where tokens have so many positions.
fn case_shape(arg: &Arg, axes: usize) -> Vec<usize> {
    // Axes of the view that the tensor has not.
    let front = match arg.name {
        "positions" if axes > 1 => 1,
        "positions" | "cos" | "sin" | "table" | "row_table" => 2,
        _ => 0,
    };
    arg.view.sizes[front..].iter().copied().chain([arg.view.cols]).collect()
}

/// The last of `batch` batches: those of `names` have an axis of batches in front, and the others are kept.
fn last_batch(batch: usize, names: &[&str], mut values: Values) -> Values {
    for (name, all) in &mut values {
        if names.contains(name) {
            all.drain(..all.len() - all.len() / batch);
        }
    }
    values
}

/// Bytes of all numbers of these arguments.
fn bytes<'a>(args: impl IntoIterator<Item = &'a Arg>) -> f64 {
    args.into_iter().map(|arg| (arg.view.len() * arg.view.number.bits()) as f64 / 8.0).sum()
}
