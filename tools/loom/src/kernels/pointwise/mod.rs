//! Ops on elements and columns, and what their descriptions have in common.

pub mod activation;
pub mod activation_backward;
pub mod axpby;
pub mod column_sums;
pub mod dropout;

use tileloom::axpby::Config;
use tileloom::{Dtype, Layout};

use super::rows::{axes, sample};
use crate::case::{self, Fault, Reader, Tensor};
use crate::kernel::{List, Listed, Values};

/// A chunk of a row at a time, in small workgroups: needs no feature.
pub fn plain() -> Config {
    Config { wg_size: 8, columns: 1, adjacent: false, rows: 2, native_f16: false }
}

/// Both Configs of a table, f16 held both ways.
fn shipped() -> Vec<String> {
    ["columns=1", "columns=4", "adjacent=true", "adjacent=false", "native_f16=true", "native_f16=false"]
        .map(String::from)
        .into()
}

/// An invocation's chunks next to each other, and those of its neighbours: each driver sees both, whatever is chosen there.
fn adjacent_and_apart<P: Listed + Clone, const N: usize>(list: &mut List<P>, problems: [P; N]) {
    for word in ["adjacent=true", "adjacent=false"] {
        for problem in problems.clone() {
            list.narrow(format!("chunks, {word}"), problem).candidate(word).seed(8);
        }
    }
}

/// Three layouts of rows `[n0, 2, 5]` of `cols` elements with gaps between, of which `i` is which.
fn strided(i: usize, cols: usize) -> Layout<3> {
    let step = cols + [6, 1, 2, 3, 4][i % 5];
    Layout::strided([5, 0, 7, 1, 2][i % 5], [10 * step + 3 * i, 5 * step, step])
}

/// Rows and columns, a 16-bit dtype, and the strides of an output whose rows share words.
fn sharing_words() -> impl Iterator<Item = (usize, usize, Dtype, [usize; 3])> {
    [(23, 1), (23, 7), (20, 33)].into_iter().flat_map(|(rows, cols)| {
        let strides = [rows * (cols + 2), rows * (cols + 2), cols + 2];
        [Dtype::F16, Dtype::Bf16].map(|dtype| (rows, cols, dtype, strides))
    })
}

/// Some of the rows of a call, as one of its own; arguments that are `whole` are the same for all rows.
fn some_rows<P>(
    [rows, cols]: [usize; 2],
    whole: &[&str],
    [values, outputs]: [Values; 2],
    problem: impl FnOnce(usize, [usize; 2]) -> P,
) -> Vec<(P, Values, Values)> {
    let (rows, dims, take) = sample(rows, [1, 1], cols);
    let some = |(name, all): (&'static str, Vec<f64>)| (name, if whole.contains(&name) { all } else { take(&all) });
    vec![(problem(rows, dims), values.into_iter().map(some).collect(), outputs.into_iter().map(some).collect())]
}

/// `x` of a case, and the values of the arguments so far.
struct X<'a> {
    tensor: &'a Tensor,
    dtype: Dtype,
    rows: usize,
    cols: usize,
    dims: [usize; 2],
    values: Values,
}

impl<'a> X<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<X<'a>, Fault> {
        let (tensor, dtype) = reader.values("x", "[.., cols]")?;
        let (outer, dims, cols) = axes("x", tensor)?;
        let values = [("x", tensor.numbers().unwrap_or_default())].into();
        Ok(X { tensor, dtype, rows: outer.iter().product(), cols, dims: dims.map(|n| n.max(1)), values })
    }

    /// Another input of the shape of `x`, or of `[cols]`.
    fn with(&mut self, reader: &mut Reader, name: &'static str, shape: &[usize]) -> Result<Option<Dtype>, Fault> {
        match reader.optional(name) {
            Some(tensor) if tensor.shape != shape => Err(case::bad_shape(name, tensor, format!("{shape:?}"))),
            Some(tensor) => {
                self.values.insert(name, tensor.numbers().unwrap_or_default());
                case::float(name, tensor).map(Some)
            }
            None => Ok(None),
        }
    }

    fn like(&mut self, reader: &mut Reader, name: &'static str) -> Result<Option<Dtype>, Fault> {
        self.with(reader, name, &self.tensor.shape)
    }
}
