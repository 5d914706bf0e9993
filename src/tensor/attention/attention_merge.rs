//! The merge of attention's partial results on tensors.

use crate::attention_merge::{self, Buffers, Problem};
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "attention_merge";

impl<T: Element> Tensor<T> {
    /// Joins partial results `[splits, .., dim]` by their log-sum-exps `[splits, ..]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`attention_merge::prepare`] and [`Batch::submit`].
    pub fn attention_merge(&self, lse: &Tensor<f32>) -> Result<(Tensor<T>, Tensor<f32>)> {
        let mut batch = self.context().batch();
        let merged = batch.attention_merge(self, lse)?;
        batch.submit()?;
        Ok(merged)
    }
}

impl Batch {
    /// [`Tensor::attention_merge`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn attention_merge<T: Element>(
        &mut self,
        o: &Tensor<T>,
        lse: &Tensor<f32>,
    ) -> Result<(Tensor<T>, Tensor<f32>)> {
        self.own(OP, "o", o)?;
        self.own(OP, "lse", lse)?;
        let &[splits, ref outer @ .., dim] = o.shape() else {
            return Err(ErrorKind::shape("o", o.shape(), "[splits, .., dim]").of(OP));
        };
        if lse.shape() != &o.shape()[..o.shape().len() - 1] {
            return Err(ErrorKind::shape("lse", lse.shape(), "that of o without its last axis").of(OP));
        }
        let out = self.context().allocate(OP, &[outer, &[dim]].concat(), None)?;
        let lse_out = self.context().allocate(OP, outer, None)?;
        let rows = outer.iter().fold(1usize, |n, &size| n.saturating_mul(size));
        let (x, y, lse_at) = (T::DTYPE, T::DTYPE, Some(0));
        let problem = Problem { splits, rows, dim, x, y, lse_out: lse_at, ..Default::default() };
        let buffers = Buffers::new(o.buffer(), lse.buffer(), out.buffer()).lse_out(lse_out.buffer());
        let dispatch = attention_merge::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok((out, lse_out))
    }
}
