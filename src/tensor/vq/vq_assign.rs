//! VQ assign on tensors.

use super::vq_lookup::codebook_shape;
use crate::vq_assign::{self, Buffers, Metric, Problem, Quantized};
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "vq_assign";

/// Options of [`Tensor::vq_assign`].
#[derive(Debug, Clone, Copy, Default)]
pub struct VqAssignOptions {
    /// What is nearest.
    pub metric: Metric,
    /// Each book codes what the one before left of a vector; otherwise each has a part of its own.
    pub residual: bool,
}

/// What [`Tensor::vq_assign`] gives.
#[derive(Debug, Clone)]
pub struct VqAssigned<T> {
    /// `[n]` of one book, else `[n, books]`.
    pub indices: Tensor<u32>,
    /// As `x`: the vectors of the codes, or their sum where `residual`.
    pub quantized: Tensor<T>,
    /// Vectors per code, `[books, num_codes]`.
    pub usage: Tensor<u32>,
    /// `[1]`: the sum of the squared distances to the codes.
    pub loss: Tensor<f32>,
}

impl<T: Element> Tensor<T> {
    /// The nearest codes of these vectors: `[n, code_dim]` to a codebook `[num_codes, code_dim]`, or
    /// `[n, books, code_dim]` (`[n, code_dim]` where `residual`) to `[books, num_codes, code_dim]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] for a codebook or vectors of another shape, and those of
    /// [`vq_assign::prepare`](crate::vq_assign::prepare) and [`Batch::submit`].
    pub fn vq_assign(&self, codebook: &Tensor<T>, options: &VqAssignOptions) -> Result<VqAssigned<T>> {
        let mut batch = self.context().batch();
        let found = batch.vq_assign(self, codebook, options)?;
        batch.submit()?;
        Ok(found)
    }
}

impl Batch {
    /// [`Tensor::vq_assign`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn vq_assign<T: Element>(
        &mut self,
        x: &Tensor<T>,
        codebook: &Tensor<T>,
        options: &VqAssignOptions,
    ) -> Result<VqAssigned<T>> {
        self.own(OP, "x", x)?;
        self.own(OP, "codebook", codebook)?;
        let [books, num_codes, code_dim] = codebook_shape(OP, codebook.shape())?;
        let one = options.residual || codebook.shape().len() == 2;
        let n = match *x.shape() {
            [n, dim] if one && dim == code_dim => n,
            [n, have, dim] if !one && have == books && dim == code_dim => n,
            _ => {
                let expected = if one { format!("[n, {code_dim}]") } else { format!("[n, {books}, {code_dim}]") };
                return Err(ErrorKind::Shape { arg: "x", have: x.shape().to_vec(), expected }.of(OP));
            }
        };
        let each = if codebook.shape().len() == 2 { vec![n] } else { vec![n, books] };
        let context = self.context();
        let found = VqAssigned {
            indices: context.allocate(OP, &each, None)?,
            quantized: context.allocate(OP, x.shape(), None)?,
            usage: context.allocate(OP, &[books, num_codes], None)?,
            loss: context.allocate(OP, &[1], None)?,
        };
        let problem = Problem {
            n,
            books,
            num_codes,
            code_dim,
            metric: options.metric,
            residual: options.residual,
            x: T::DTYPE,
            codebook: T::DTYPE,
            quantized: Some(Quantized { dtype: T::DTYPE, offset: 0 }),
            usage: Some(0),
            loss: Some(0),
            ..Problem::default()
        };
        let buffers = Buffers::new(x.buffer(), codebook.buffer(), found.indices.buffer())
            .quantized(found.quantized.buffer())
            .usage(found.usage.buffer())
            .loss(found.loss.buffer());
        let dispatch = vq_assign::prepare(context.kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(found)
    }
}
