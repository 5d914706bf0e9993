//! Gradients of a convolution on tensors.

use super::{ConvOptions, picture, problem_of, shown};
use crate::conv::Activation;
use crate::conv_backward::{self, Buffers, Problem};
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "conv_backward";

/// What [`Tensor::conv2d_backward`] gives.
#[derive(Debug, Clone)]
pub struct ConvGradients<T> {
    /// Of x's shape.
    pub dx: Tensor<T>,
    /// Of the weights' shape.
    pub dweight: Tensor<f32>,
    /// `[outputs]`, where the convolution has a bias.
    pub dbias: Option<Tensor<f32>>,
}

impl<T: Element> Tensor<T> {
    /// The gradients of [`conv2d`](Self::conv2d) with these options, of which `dy` is the gradient by the result. The gradient by a
    /// residual is `dy`; an activation's derivative is yours to multiply into `dy` before.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], an activation among the options, and those of
    /// [`conv_backward::prepare`](crate::conv_backward::prepare) and [`Batch::submit`].
    pub fn conv2d_backward(
        &self,
        weight: &Tensor<T>,
        dy: &Tensor<T>,
        options: &ConvOptions<T>,
    ) -> Result<ConvGradients<T>> {
        self.at_once(|batch| batch.conv2d_backward(self, weight, dy, options))
    }

    /// [`conv2d_backward`](Self::conv2d_backward) of [`conv1d`](Self::conv1d).
    ///
    /// # Errors
    /// As there.
    pub fn conv1d_backward(
        &self,
        weight: &Tensor<T>,
        dy: &Tensor<T>,
        options: &ConvOptions<T>,
    ) -> Result<ConvGradients<T>> {
        self.at_once(|batch| batch.conv1d_backward(self, weight, dy, options))
    }
}

impl Batch {
    /// [`Tensor::conv2d_backward`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn conv2d_backward<T: Element>(
        &mut self,
        x: &Tensor<T>,
        weight: &Tensor<T>,
        dy: &Tensor<T>,
        options: &ConvOptions<T>,
    ) -> Result<ConvGradients<T>> {
        self.conv_backward((x, weight, dy), options, 2)
    }

    /// [`Tensor::conv1d_backward`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn conv1d_backward<T: Element>(
        &mut self,
        x: &Tensor<T>,
        weight: &Tensor<T>,
        dy: &Tensor<T>,
        options: &ConvOptions<T>,
    ) -> Result<ConvGradients<T>> {
        self.conv_backward((x, weight, dy), options, 1)
    }

    fn conv_backward<T: Element>(
        &mut self,
        (x, weight, dy): (&Tensor<T>, &Tensor<T>, &Tensor<T>),
        options: &ConvOptions<T>,
        dims: usize,
    ) -> Result<ConvGradients<T>> {
        for (arg, tensor) in [("x", x), ("weight", weight), ("dy", dy)] {
            self.own(OP, arg, tensor)?;
        }
        let forward = problem_of(x, weight, options, dims).map_err(|kind| kind.of(OP))?;
        if forward.activation != Activation::None || forward.snake.is_some() {
            let (arg, name) = match forward.snake {
                Some(_) => ("snake", "snake"),
                None => ("activation", forward.activation.name()),
            };
            return Err(ErrorKind::invalid(arg, format!("{name}: its derivative must be in dy")).of(OP));
        }
        let want = shown(dims, forward.order, forward.batch, forward.outputs, forward.out());
        if picture(dy.shape(), dims, forward.order).is_none() || dy.shape() != want {
            return Err(ErrorKind::shape("dy", dy.shape(), format!("{want:?}")).of(OP));
        }
        let dbias = options.bias.map(|_| 0);
        let problem = Problem { forward, dx: Some(T::DTYPE), dweight: Some(0), dbias, ..Problem::default() };
        let gradients = ConvGradients {
            dx: self.context().allocate(OP, x.shape(), None)?,
            dweight: self.context().allocate(OP, weight.shape(), None)?,
            dbias: dbias.map(|_| self.context().allocate(OP, &[forward.outputs], None)).transpose()?,
        };
        let buffers = Buffers::new(dy.buffer()).x(x.buffer()).weight(weight.buffer());
        let mut buffers = buffers.dx(gradients.dx.buffer()).dweight(gradients.dweight.buffer());
        if let Some(dbias) = &gradients.dbias {
            buffers = buffers.dbias(dbias.buffer());
        }
        let dispatch = conv_backward::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(gradients)
    }
}
