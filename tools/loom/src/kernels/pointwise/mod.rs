//! Ops on elements and columns, and what their descriptions have in common.

pub mod activation;
pub mod activation_backward;
pub mod axpby;
pub mod column_sums;
pub mod dropout;

use tileloom::Layout;
use tileloom::axpby::Config;

use super::rows::{axes, sample};
use crate::case::{self, Fault, Reader, Tensor};

/// A chunk of a row at a time, in small workgroups: needs no feature.
pub fn plain() -> Config {
    Config { wg_size: 8, columns: 1, rows: 2, native_f16: false }
}

/// Both Configs of a table, f16 held both ways.
fn shipped() -> Vec<String> {
    ["columns=1", "columns=4", "native_f16=true", "native_f16=false"].map(String::from).into()
}

/// Three layouts of rows `[n0, 2, 5]` of `cols` elements with gaps between, of which `i` is which.
fn strided(i: usize, cols: usize) -> Layout<3> {
    let step = cols + [6, 1, 2, 3, 4][i % 5];
    Layout::strided([5, 0, 7, 1, 2][i % 5], [10 * step + 3 * i, 5 * step, step])
}

/// Another input of the shape of `x`.
fn like<'a>(
    reader: &mut Reader<'a>,
    name: &'static str,
    x: &Tensor,
) -> Result<Option<(&'a Tensor, tileloom::Dtype)>, Fault> {
    match reader.optional(name) {
        Some(tensor) if tensor.shape != x.shape => Err(case::bad_shape(name, tensor, format!("{:?}, as x", x.shape))),
        Some(tensor) => Ok(Some((tensor, case::float(name, tensor)?))),
        None => Ok(None),
    }
}
