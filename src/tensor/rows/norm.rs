//! RMS norm and layer norm on tensors.

use crate::norm::{self, Buffers, Kind, Problem, Vector};
use crate::{Batch, Context, Dtype, Element, Error, ErrorKind, Result, Tensor};

const OP: &str = "norm";

/// Options of [`Tensor::rms_norm`] and [`Tensor::layer_norm`], and of their gradients.
#[derive(Debug, Clone, Copy, Default)]
pub struct NormOptions<'a> {
    /// Of the shape of `x`, added to it first.
    pub residual: Option<NormInput<'a>>,
    /// `[cols]`, multiplies each column.
    pub weight: Option<NormInput<'a>>,
    /// Added to the weight, of 1 where there is none.
    pub weight_offset: f32,
    /// `[cols]`, added to each column.
    pub bias: Option<NormInput<'a>>,
    /// Added to the mean square or the variance; 1e-6 for RMS norm, 1e-5 for layer norm.
    pub eps: Option<f32>,
}

/// A tensor of values of any dtype. Made by `(&tensor).into()`.
#[derive(Debug, Clone, Copy)]
pub struct NormInput<'a> {
    pub(super) dtype: Dtype,
    shape: &'a [usize],
    pub(in crate::tensor) buffer: &'a wgpu::Buffer,
    context: &'a Context,
}

impl<'a, T: Element> From<&'a Tensor<T>> for NormInput<'a> {
    fn from(t: &'a Tensor<T>) -> Self {
        NormInput { dtype: T::DTYPE, shape: t.shape(), buffer: t.buffer(), context: t.context() }
    }
}

impl NormInput<'_> {
    /// Refuses another shape, and a tensor of another context.
    pub(in crate::tensor) fn check(
        &self,
        op: &'static str,
        arg: &'static str,
        batch: &Batch,
        shape: &[usize],
    ) -> Result<()> {
        if !batch.context().same(self.context) {
            return Err(Error { op, kind: ErrorKind::ForeignTensor { arg } });
        }
        match self.shape == shape {
            true => Ok(()),
            false => {
                let (have, expected) = (self.shape.to_vec(), format!("{shape:?}"));
                Err(Error { op, kind: ErrorKind::Shape { arg, have, expected } })
            }
        }
    }

    pub(in crate::tensor) fn vector(&self) -> Vector {
        Vector::of(self.dtype)
    }
}

/// Rows and columns of `x`.
pub(super) fn sizes(op: &'static str, x: &[usize]) -> Result<(usize, usize)> {
    match x.split_last() {
        Some((&cols, outer)) => Ok((outer.iter().fold(1usize, |n, &size| n.saturating_mul(size)), cols)),
        None => Err(Error {
            op,
            kind: ErrorKind::Shape { arg: "x", have: Vec::new(), expected: "at least one axis".into() },
        }),
    }
}

impl<T: Element> Tensor<T> {
    /// RMS norm over the last axis.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`norm::prepare`](crate::norm::prepare) and [`Batch::submit`].
    pub fn rms_norm(&self, options: &NormOptions) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.rms_norm(self, options))
    }

    /// RMS norm over the last axis, and what was normalised: `x + residual`.
    ///
    /// # Errors
    /// As [`rms_norm`](Self::rms_norm).
    pub fn rms_norm_with_sum(&self, options: &NormOptions) -> Result<(Tensor<T>, Tensor<T>)> {
        self.at_once(|batch| batch.rms_norm_with_sum(self, options))
    }

    /// Layer norm over the last axis.
    ///
    /// # Errors
    /// As [`rms_norm`](Self::rms_norm).
    pub fn layer_norm(&self, options: &NormOptions) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.layer_norm(self, options))
    }

    /// Layer norm over the last axis, and what was normalised: `x + residual`.
    ///
    /// # Errors
    /// As [`rms_norm`](Self::rms_norm).
    pub fn layer_norm_with_sum(&self, options: &NormOptions) -> Result<(Tensor<T>, Tensor<T>)> {
        self.at_once(|batch| batch.layer_norm_with_sum(self, options))
    }
}

impl Batch {
    /// [`Tensor::rms_norm`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn rms_norm<T: Element>(&mut self, x: &Tensor<T>, options: &NormOptions) -> Result<Tensor<T>> {
        self.record_norm(Kind::Rms, x, None, options)
    }

    /// [`Tensor::rms_norm_with_sum`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn rms_norm_with_sum<T: Element>(
        &mut self,
        x: &Tensor<T>,
        options: &NormOptions,
    ) -> Result<(Tensor<T>, Tensor<T>)> {
        let sum = self.context().allocate(OP, x.shape(), None)?;
        Ok((self.record_norm(Kind::Rms, x, Some(&sum), options)?, sum))
    }

    /// [`Tensor::layer_norm`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn layer_norm<T: Element>(&mut self, x: &Tensor<T>, options: &NormOptions) -> Result<Tensor<T>> {
        self.record_norm(Kind::Layer, x, None, options)
    }

    /// [`Tensor::layer_norm_with_sum`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn layer_norm_with_sum<T: Element>(
        &mut self,
        x: &Tensor<T>,
        options: &NormOptions,
    ) -> Result<(Tensor<T>, Tensor<T>)> {
        let sum = self.context().allocate(OP, x.shape(), None)?;
        Ok((self.record_norm(Kind::Layer, x, Some(&sum), options)?, sum))
    }

    fn record_norm<T: Element>(
        &mut self,
        kind: Kind,
        x: &Tensor<T>,
        sum: Option<&Tensor<T>>,
        options: &NormOptions,
    ) -> Result<Tensor<T>> {
        self.own(OP, "x", x)?;
        let (rows, cols) = sizes(OP, x.shape())?;
        let y = self.context().allocate(OP, x.shape(), None)?;
        let NormOptions { residual, weight, weight_offset, bias, eps } = *options;
        let problem = Problem {
            rows,
            cols,
            x: T::DTYPE,
            y: T::DTYPE,
            residual: residual.map(|residual| residual.dtype),
            sum: sum.map(|_| crate::Layout::default()),
            weight: weight.map(|weight| weight.vector()),
            weight_offset,
            bias: bias.map(|bias| bias.vector()),
            eps: eps.unwrap_or(kind.eps()),
            ..Problem::of(kind)
        };
        let mut buffers = Buffers::new(x.buffer(), y.buffer());
        if let Some(residual) = residual {
            residual.check(OP, "residual", self, x.shape())?;
            buffers = buffers.residual(residual.buffer);
        }
        if let Some(sum) = sum {
            buffers = buffers.sum(sum.buffer());
        }
        if let Some(weight) = weight {
            weight.check(OP, "weight", self, &[cols])?;
            buffers = buffers.weight(weight.buffer);
        }
        if let Some(bias) = bias {
            bias.check(OP, "bias", self, &[cols])?;
            buffers = buffers.bias(bias.buffer);
        }
        let dispatch = norm::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(y)
    }
}
