//! The gradient of softmax on tensors.

use crate::softmax_backward::{self, Buffers, Problem};
use crate::{Batch, Element, Error, ErrorKind, Result, SoftmaxOptions, Tensor};

const OP: &str = "softmax_backward";

impl<T: Element> Tensor<T> {
    /// The gradient of softmax's input: `self` is what [`softmax`](Tensor::softmax) gave with these options, `dy`
    /// the gradient of that. A mask is ignored: what it hid is 0 in `self` already (minus infinity with `log`).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] for a `dy` of another shape, and those of
    /// [`softmax_backward::prepare`](crate::softmax_backward::prepare) and [`Batch::submit`].
    pub fn softmax_backward(&self, dy: &Tensor<T>, options: &SoftmaxOptions) -> Result<Tensor<T>> {
        let mut batch = self.context().batch();
        let dx = batch.softmax_backward(self, dy, options)?;
        batch.submit()?;
        Ok(dx)
    }
}

impl Batch {
    /// [`Tensor::softmax_backward`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn softmax_backward<T: Element>(
        &mut self,
        y: &Tensor<T>,
        dy: &Tensor<T>,
        options: &SoftmaxOptions,
    ) -> Result<Tensor<T>> {
        self.own(OP, "y", y)?;
        self.own(OP, "dy", dy)?;
        let shape = |arg, have: &[usize], expected| Error {
            op: OP,
            kind: ErrorKind::Shape { arg, have: have.to_vec(), expected },
        };
        let Some((&cols, outer)) = y.shape().split_last() else {
            return Err(shape("y", &[], "at least one axis".into()));
        };
        if dy.shape() != y.shape() {
            return Err(shape("dy", dy.shape(), format!("{:?}, as y", y.shape())));
        }
        let dx = self.context().allocate(OP, y.shape(), None)?;
        let problem = Problem {
            rows: outer.iter().fold(1usize, |n, &size| n.saturating_mul(size)),
            cols,
            dims: [1, outer.last().copied().unwrap_or(1).max(1)],
            y: T::DTYPE,
            dy: T::DTYPE,
            dx: T::DTYPE,
            scale: options.scale,
            log: options.log,
            causal: options.causal,
            ..Problem::default()
        };
        let buffers = Buffers::new(y.buffer(), dy.buffer(), dx.buffer());
        let dispatch = softmax_backward::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(dx)
    }
}
