//! Positions of tokens.

pub(super) mod position_encoding;
pub(super) mod rope;

use crate::{Batch, ErrorKind, Result, Scalar, Tensor};

impl Batch {
    /// Positions `[axes, batch, tokens]`; of one axis, `[batch, tokens]` too.
    fn positions<'t, T: Scalar>(
        &self,
        op: &'static str,
        tensor: &'t Tensor<T>,
        want: [usize; 3],
    ) -> Result<&'t wgpu::Buffer> {
        self.own(op, "positions", tensor)?;
        let short = if want[0] == 1 { &want[1..] } else { &want[..] };
        match tensor.shape() == want || tensor.shape() == short {
            true => Ok(tensor.buffer()),
            false => Err(ErrorKind::shape("positions", tensor.shape(), format!("{short:?}")).of(op)),
        }
    }
}
