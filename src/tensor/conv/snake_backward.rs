//! The gradients of snake on tensors.

use super::group_norm::sizes;
use crate::conv::Order;
use crate::snake_backward::{self, Buffers, Problem};
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "snake_backward";

/// Gradients of snake.
#[derive(Debug, Clone)]
pub struct SnakeGradients<T> {
    /// Of what it was given: the dy of what stands in front.
    pub dx: Tensor<T>,
    /// `[c]`: of alpha.
    pub dalpha: Tensor<f32>,
}

impl<T: Element> Tensor<T> {
    /// The gradients of [`snake`](crate::ConvOptions::snake): `self` is what it was given, `[n, c, ..]` or with channels last, `dy` the gradient of
    /// its result, `alpha` `[c]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`snake_backward::prepare`](crate::snake_backward::prepare) and [`Batch::submit`].
    pub fn snake_backward(&self, dy: &Tensor<T>, alpha: &Tensor<f32>, order: Order) -> Result<SnakeGradients<T>> {
        self.at_once(|batch| batch.snake_backward(self, dy, alpha, order))
    }
}

impl Batch {
    /// [`Tensor::snake_backward`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn snake_backward<T: Element>(
        &mut self,
        x: &Tensor<T>,
        dy: &Tensor<T>,
        alpha: &Tensor<f32>,
        order: Order,
    ) -> Result<SnakeGradients<T>> {
        self.own(OP, "x", x)?;
        self.own(OP, "dy", dy)?;
        self.own(OP, "alpha", alpha)?;
        let (batch, channels, size) = sizes(OP, x.shape(), order)?;
        if dy.shape() != x.shape() {
            return Err(ErrorKind::shape("dy", dy.shape(), format!("{:?}, as x", x.shape())).of(OP));
        }
        if alpha.shape() != [channels] {
            return Err(ErrorKind::shape("alpha", alpha.shape(), format!("[{channels}]")).of(OP));
        }
        let dx = self.context().allocate(OP, x.shape(), None)?;
        let dalpha = self.context().allocate(OP, &[channels], None)?;
        let (dtype, own) = (T::DTYPE, Problem { batch, channels, size, order, ..Problem::default() });
        let problem = Problem { x: dtype, dy: dtype, dx: Some(dtype), dalpha: Some(0), ..own };
        let buffers = Buffers::new(x.buffer(), dy.buffer(), alpha.buffer()).dx(dx.buffer()).dalpha(dalpha.buffer());
        let dispatch = snake_backward::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(SnakeGradients { dx, dalpha })
    }
}
