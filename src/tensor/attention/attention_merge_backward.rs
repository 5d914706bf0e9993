//! The gradient of the merge of attention's partial results on tensors.

use crate::attention_merge;
use crate::attention_merge_backward::{self, Buffers, Problem};
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "attention_merge_backward";

impl<T: Element> Tensor<T> {
    /// The gradient of [`Tensor::attention_merge`] of the parts `self`, `[splits, .., dim]`, and their log-sum-exps, from those of what
    /// it gave, `[.., dim]` and `[..]`: of the parts, and of their log-sum-exps.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`attention_merge_backward::prepare`] and [`Batch::submit`].
    pub fn attention_merge_backward(
        &self,
        lse: &Tensor<f32>,
        d_o: &Tensor<T>,
        dlse: Option<&Tensor<f32>>,
    ) -> Result<(Tensor<T>, Tensor<f32>)> {
        let mut batch = self.context().batch();
        let gradients = batch.attention_merge_backward(self, lse, d_o, dlse)?;
        batch.submit()?;
        Ok(gradients)
    }
}

impl Batch {
    /// [`Tensor::attention_merge_backward`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn attention_merge_backward<T: Element>(
        &mut self,
        o: &Tensor<T>,
        lse: &Tensor<f32>,
        d_o: &Tensor<T>,
        dlse: Option<&Tensor<f32>>,
    ) -> Result<(Tensor<T>, Tensor<f32>)> {
        for (arg, tensor) in [("o", o), ("do", d_o)] {
            self.own(OP, arg, tensor)?;
        }
        for (arg, tensor) in [("lse", Some(lse)), ("dlse", dlse)] {
            tensor.map_or(Ok(()), |tensor| self.own(OP, arg, tensor))?;
        }
        let &[splits, ref outer @ .., dim] = o.shape() else {
            return Err(ErrorKind::shape("o", o.shape(), "[splits, .., dim]").of(OP));
        };
        if lse.shape() != &o.shape()[..o.shape().len() - 1] {
            return Err(ErrorKind::shape("lse", lse.shape(), "that of o without its last axis").of(OP));
        }
        if d_o.shape() != &o.shape()[1..] {
            return Err(ErrorKind::shape("do", d_o.shape(), "that of o without its first axis").of(OP));
        }
        if let Some(dlse) = dlse.filter(|dlse| dlse.shape() != outer) {
            return Err(ErrorKind::shape("dlse", dlse.shape(), "that of lse without its first axis").of(OP));
        }
        let d_parts = self.context().allocate(OP, o.shape(), None)?;
        let dlse_parts = self.context().allocate(OP, lse.shape(), None)?;
        let rows = outer.iter().fold(1usize, |n, &size| n.saturating_mul(size));
        let forward = attention_merge::Problem { splits, rows, dim, x: T::DTYPE, y: T::DTYPE, ..Default::default() };
        let problem = Problem { dlse: dlse.map(|_| 0), ..Problem::new(forward) };
        let mut buffers = Buffers::new(o.buffer(), lse.buffer(), d_o.buffer(), d_parts.buffer(), dlse_parts.buffer());
        if let Some(dlse) = dlse {
            buffers = buffers.dlse(dlse.buffer());
        }
        let dispatch = attention_merge_backward::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok((d_parts, dlse_parts))
    }
}
