//! The gradients of RMS norm and layer norm on tensors.

use super::norm::{NormOptions, sizes};
use crate::norm::Kind;
use crate::norm_backward::{self, Buffers, Problem};
use crate::{Batch, Element, Error, ErrorKind, Result, Tensor};

const OP: &str = "norm_backward";

/// Gradients of [`Tensor::rms_norm`] and [`Tensor::layer_norm`].
#[derive(Debug, Clone)]
pub struct NormGradients<T> {
    /// Of `x`, and of the residual that was added to it.
    pub dx: Tensor<T>,
    /// `[cols]`: of the weight, where the options have one.
    pub dweight: Option<Tensor<f32>>,
    /// `[cols]`: of the bias, where the options have one.
    pub dbias: Option<Tensor<f32>>,
}

impl<T: Element> Tensor<T> {
    /// The gradients of [`rms_norm`](Tensor::rms_norm) with these options: `self` is what it normalised, the sum of `x`
    /// and residual; `dy` is the gradient of its result. The residual of the options is not looked at.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`norm_backward::prepare`](crate::norm_backward::prepare) and
    /// [`Batch::submit`].
    pub fn rms_norm_backward(&self, dy: &Tensor<T>, options: &NormOptions) -> Result<NormGradients<T>> {
        self.at_once(|batch| batch.rms_norm_backward(self, dy, options))
    }

    /// As [`rms_norm_backward`](Self::rms_norm_backward), of [`layer_norm`](Tensor::layer_norm).
    ///
    /// # Errors
    /// As there.
    pub fn layer_norm_backward(&self, dy: &Tensor<T>, options: &NormOptions) -> Result<NormGradients<T>> {
        self.at_once(|batch| batch.layer_norm_backward(self, dy, options))
    }
}

impl Batch {
    /// [`Tensor::rms_norm_backward`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn rms_norm_backward<T: Element>(
        &mut self,
        x: &Tensor<T>,
        dy: &Tensor<T>,
        options: &NormOptions,
    ) -> Result<NormGradients<T>> {
        self.record_norm_backward(Kind::Rms, x, dy, options)
    }

    /// [`Tensor::layer_norm_backward`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn layer_norm_backward<T: Element>(
        &mut self,
        x: &Tensor<T>,
        dy: &Tensor<T>,
        options: &NormOptions,
    ) -> Result<NormGradients<T>> {
        self.record_norm_backward(Kind::Layer, x, dy, options)
    }

    fn record_norm_backward<T: Element>(
        &mut self,
        kind: Kind,
        x: &Tensor<T>,
        dy: &Tensor<T>,
        options: &NormOptions,
    ) -> Result<NormGradients<T>> {
        self.own(OP, "x", x)?;
        self.own(OP, "dy", dy)?;
        let (rows, cols) = sizes(OP, x.shape())?;
        if dy.shape() != x.shape() {
            let (have, expected) = (dy.shape().to_vec(), format!("{:?}, as x", x.shape()));
            return Err(Error { op: OP, kind: ErrorKind::Shape { arg: "dy", have, expected } });
        }
        let NormOptions { weight, weight_offset, bias, eps, .. } = *options;
        let dx = self.context().allocate(OP, x.shape(), None)?;
        let column = |asked: bool| asked.then(|| self.context().allocate(OP, &[cols], None)).transpose();
        let (dweight, dbias) = (column(weight.is_some())?, column(bias.is_some())?);
        let problem = Problem {
            rows,
            cols,
            x: T::DTYPE,
            dy: T::DTYPE,
            dx: Some(T::DTYPE),
            weight: weight.map(|weight| weight.vector()),
            weight_offset,
            eps: eps.unwrap_or(kind.eps()),
            dweight: dweight.as_ref().map(|_| 0),
            dbias: dbias.as_ref().map(|_| 0),
            ..Problem::of(kind)
        };
        let mut buffers = Buffers::new(x.buffer(), dy.buffer()).dx(dx.buffer());
        if let Some(weight) = weight {
            weight.check(OP, "weight", self, &[cols])?;
            buffers = buffers.weight(weight.buffer);
        }
        if let Some(dweight) = &dweight {
            buffers = buffers.dweight(dweight.buffer());
        }
        if let Some(dbias) = &dbias {
            buffers = buffers.dbias(dbias.buffer());
        }
        let dispatch = norm_backward::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(NormGradients { dx, dweight, dbias })
    }
}
