//! Activations on tensors, and their gradients.

use crate::activation::{self, Activation};
use crate::norm::Vector;
use crate::{Batch, Element, ErrorKind, Result, Tensor, activation_backward};

const OP: &str = "activation";
const BACKWARD: &str = "activation_backward";

/// Options of [`Tensor::activation`], and of its gradients.
#[derive(Debug, Clone, Copy)]
pub struct ActivationOptions<'a, T> {
    /// What is done to each element.
    pub activation: Activation,
    /// That of [`Activation::LeakyRelu`] below 0; the factor of [`Activation::Elu`].
    pub slope: f32,
    /// `[cols]`, added to each column of `x` first.
    pub bias: Option<&'a Tensor<T>>,
    /// Of the shape of `x`: what the activation is multiplied by.
    pub up: Option<&'a Tensor<T>>,
    /// `[cols]`, added to each column of `up` first.
    pub up_bias: Option<&'a Tensor<T>>,
}

impl<T> Default for ActivationOptions<'_, T> {
    fn default() -> Self {
        let activation::Problem { activation, slope, .. } = Default::default();
        ActivationOptions { activation, slope, bias: None, up: None, up_bias: None }
    }
}

impl<T> From<Activation> for ActivationOptions<'_, T> {
    fn from(activation: Activation) -> Self {
        ActivationOptions { activation, ..Default::default() }
    }
}

/// Gradients of [`Tensor::activation`].
#[derive(Debug, Clone)]
pub struct ActivationGradients<T> {
    /// Of `x`.
    pub dx: Tensor<T>,
    /// Of `up`, where there was one.
    pub dup: Option<Tensor<T>>,
    /// Of the bias, where there was one: `[cols]`.
    pub dbias: Option<Tensor<f32>>,
    /// Of the bias of `up`, where there was one: `[cols]`.
    pub dup_bias: Option<Tensor<f32>>,
}

impl<T: Element> Tensor<T> {
    /// `act(x + bias)`, or with `up` that times `up + up_bias`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`activation::prepare`](crate::activation::prepare) and [`Batch::submit`].
    pub fn activation(&self, options: &ActivationOptions<T>) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.activation(self, options))
    }

    /// The gradients of [`activation`](Self::activation) with these options, of `x`; `dy` is that of its result.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`activation_backward::prepare`](crate::activation_backward::prepare) and
    /// [`Batch::submit`].
    pub fn activation_backward(
        &self,
        dy: &Tensor<T>,
        options: &ActivationOptions<T>,
    ) -> Result<ActivationGradients<T>> {
        self.at_once(|batch| batch.activation_backward(self, dy, options))
    }
}

impl Batch {
    /// [`Tensor::activation`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn activation<T: Element>(&mut self, x: &Tensor<T>, options: &ActivationOptions<T>) -> Result<Tensor<T>> {
        let (rows, cols) = self.activated(OP, x, options)?;
        let y = self.context().allocate(OP, x.shape(), None)?;
        let problem = activation::Problem {
            rows,
            cols,
            activation: options.activation,
            slope: options.slope,
            x: T::DTYPE,
            bias: options.bias.map(|_| Vector::of(T::DTYPE)),
            up: options.up.map(|_| T::DTYPE),
            up_bias: options.up_bias.map(|_| Vector::of(T::DTYPE)),
            y: T::DTYPE,
            ..Default::default()
        };
        let mut buffers = activation::Buffers::new(x.buffer(), y.buffer());
        if let Some(up) = options.up {
            buffers = buffers.up(up.buffer());
        }
        if let Some(bias) = options.bias {
            buffers = buffers.bias(bias.buffer());
        }
        if let Some(bias) = options.up_bias {
            buffers = buffers.up_bias(bias.buffer());
        }
        let dispatch = activation::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(y)
    }

    /// [`Tensor::activation_backward`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn activation_backward<T: Element>(
        &mut self,
        x: &Tensor<T>,
        dy: &Tensor<T>,
        options: &ActivationOptions<T>,
    ) -> Result<ActivationGradients<T>> {
        let (rows, cols) = self.activated(BACKWARD, x, options)?;
        self.own(BACKWARD, "dy", dy)?;
        if dy.shape() != x.shape() {
            return Err(ErrorKind::shape("dy", dy.shape(), format!("{:?}, as x", x.shape())).of(BACKWARD));
        }
        let dx = self.context().allocate(BACKWARD, x.shape(), None)?;
        let dup = options.up.map(|_| self.context().allocate(BACKWARD, x.shape(), None)).transpose()?;
        let column = |bias: Option<&Tensor<T>>| {
            bias.map(|_| self.context().allocate::<f32>(BACKWARD, &[cols], None)).transpose()
        };
        let (dbias, dup_bias) = (column(options.bias)?, column(options.up_bias)?);
        let problem = activation_backward::Problem {
            rows,
            cols,
            activation: options.activation,
            slope: options.slope,
            x: T::DTYPE,
            bias: options.bias.map(|_| Vector::of(T::DTYPE)),
            up: options.up.map(|_| T::DTYPE),
            up_bias: options.up_bias.map(|_| Vector::of(T::DTYPE)),
            dy: T::DTYPE,
            dx: T::DTYPE,
            dup: T::DTYPE,
            dbias: options.bias.map(|_| 0),
            dup_bias: options.up_bias.map(|_| 0),
            ..Default::default()
        };
        let mut buffers = activation_backward::Buffers::new(x.buffer(), dy.buffer(), dx.buffer());
        if let (Some(up), Some(dup)) = (options.up, &dup) {
            buffers = buffers.up(up.buffer()).dup(dup.buffer());
        }
        if let (Some(bias), Some(dbias)) = (options.bias, &dbias) {
            buffers = buffers.bias(bias.buffer()).dbias(dbias.buffer());
        }
        if let (Some(bias), Some(dup_bias)) = (options.up_bias, &dup_bias) {
            buffers = buffers.up_bias(bias.buffer()).dup_bias(dup_bias.buffer());
        }
        let dispatch = activation_backward::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(ActivationGradients { dx, dup, dbias, dup_bias })
    }

    /// Rows and columns of `x`, after what goes with it has been checked.
    fn activated<T: Element>(
        &self,
        op: &'static str,
        x: &Tensor<T>,
        options: &ActivationOptions<T>,
    ) -> Result<(usize, usize)> {
        self.own(op, "x", x)?;
        let Some((&cols, outer)) = x.shape().split_last() else {
            return Err(ErrorKind::shape("x", x.shape(), "at least one axis").of(op));
        };
        let same: [(&'static str, _, &[usize]); 3] =
            [("up", options.up, x.shape()), ("bias", options.bias, &[cols]), ("up_bias", options.up_bias, &[cols])];
        for (arg, tensor, shape) in same {
            let Some(tensor) = tensor else { continue };
            self.own(op, arg, tensor)?;
            if tensor.shape() != shape {
                return Err(ErrorKind::shape(arg, tensor.shape(), format!("{shape:?}")).of(op));
            }
        }
        Ok((outer.iter().fold(1usize, |n, &size| n.saturating_mul(size)), cols))
    }
}
