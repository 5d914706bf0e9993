//! Gradients of a convolution on tensors.

use super::{ConvOptions, picture, problem_of, shown};
use crate::conv::Activation;
use crate::conv_backward::{self, Buffers, Problem};
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "conv_backward";

/// What [`Tensor::conv2d_backward`] gives.
#[derive(Debug, Clone)]
pub struct ConvGradients<T> {
    /// By what the activation was given, where z was: of the result's shape.
    pub dz: Option<Tensor<T>>,
    /// Of x's shape.
    pub dx: Tensor<T>,
    /// Of the weights' shape.
    pub dweight: Tensor<f32>,
    /// `[outputs]`, where the convolution has a bias.
    pub dbias: Option<Tensor<f32>>,
}

impl<T: Element> Tensor<T> {
    /// The gradients of [`conv2d`](Self::conv2d) with these options, of which `dy` is the gradient by the result; `z` is what its
    /// activation was given, as [`Problem::z`] tells, where there is one. The gradient by a residual is `dz`, or else `dy`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], snake, or an activation without z, and those of
    /// [`conv_backward::prepare`](crate::conv_backward::prepare) and [`Batch::submit`].
    pub fn conv2d_backward(
        &self,
        weight: &Tensor<T>,
        dy: &Tensor<T>,
        z: Option<&Tensor<T>>,
        options: &ConvOptions<T>,
    ) -> Result<ConvGradients<T>> {
        self.at_once(|batch| batch.conv2d_backward(self, weight, dy, z, options))
    }

    /// [`conv2d_backward`](Self::conv2d_backward) of [`conv1d`](Self::conv1d).
    ///
    /// # Errors
    /// As there.
    pub fn conv1d_backward(
        &self,
        weight: &Tensor<T>,
        dy: &Tensor<T>,
        z: Option<&Tensor<T>>,
        options: &ConvOptions<T>,
    ) -> Result<ConvGradients<T>> {
        self.at_once(|batch| batch.conv1d_backward(self, weight, dy, z, options))
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
        z: Option<&Tensor<T>>,
        options: &ConvOptions<T>,
    ) -> Result<ConvGradients<T>> {
        self.conv_backward((x, weight, dy), z, options, 2)
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
        z: Option<&Tensor<T>>,
        options: &ConvOptions<T>,
    ) -> Result<ConvGradients<T>> {
        self.conv_backward((x, weight, dy), z, options, 1)
    }

    fn conv_backward<T: Element>(
        &mut self,
        (x, weight, dy): (&Tensor<T>, &Tensor<T>, &Tensor<T>),
        z: Option<&Tensor<T>>,
        options: &ConvOptions<T>,
        dims: usize,
    ) -> Result<ConvGradients<T>> {
        for (arg, tensor) in [("x", x), ("weight", weight), ("dy", dy)].into_iter().chain(z.map(|z| ("z", z))) {
            self.own(OP, arg, tensor)?;
        }
        let forward = problem_of(x, weight, options, dims).map_err(|kind| kind.of(OP))?;
        if forward.snake.is_some() {
            return Err(ErrorKind::invalid(
                "snake",
                "its gradient is a call of its own, `snake_backward`, whose dx is dy here",
            )
            .of(OP));
        }
        if forward.activation != Activation::None && z.is_none() {
            let reason = format!("{}: without z its derivative must be in dy", forward.activation.name());
            return Err(ErrorKind::invalid("activation", reason).of(OP));
        }
        let want = shown(dims, forward.order, forward.batch, forward.outputs, forward.out());
        for (arg, tensor) in [("dy", dy)].into_iter().chain(z.map(|z| ("z", z))) {
            if picture(tensor.shape(), dims, forward.order).is_none() || tensor.shape() != want {
                return Err(ErrorKind::shape(arg, tensor.shape(), format!("{want:?}")).of(OP));
            }
        }
        let dbias = options.bias.map(|_| 0);
        let dz = z.map(|_| T::DTYPE);
        let problem =
            Problem { forward, dz, z: T::DTYPE, dx: Some(T::DTYPE), dweight: Some(0), dbias, ..Problem::default() };
        let gradients = ConvGradients {
            dz: z.map(|_| self.context().allocate(OP, &want, None)).transpose()?,
            dx: self.context().allocate(OP, x.shape(), None)?,
            dweight: self.context().allocate(OP, weight.shape(), None)?,
            dbias: dbias.map(|_| self.context().allocate(OP, &[forward.outputs], None)).transpose()?,
        };
        let buffers = Buffers::new(dy.buffer()).x(x.buffer()).weight(weight.buffer());
        let mut buffers = buffers.dx(gradients.dx.buffer()).dweight(gradients.dweight.buffer());
        if let Some(dbias) = &gradients.dbias {
            buffers = buffers.dbias(dbias.buffer());
        }
        if let Some((z, dz)) = z.zip(gradients.dz.as_ref()) {
            buffers = buffers.z(z.buffer()).dz(dz.buffer());
        }
        let dispatch = conv_backward::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(gradients)
    }
}
