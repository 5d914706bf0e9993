//! Sums of two tensors, and casts.

use crate::axpby::{Buffers, Factor, Problem, prepare};
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "axpby";

impl<T: Element> Tensor<T> {
    /// `a x + b z`, `x` being this tensor. What is multiplied by 0 does not show.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] for a `z` of another shape, and those of [`axpby::prepare`](crate::axpby::prepare) and [`Batch::submit`].
    pub fn axpby(&self, a: f32, z: &Tensor<T>, b: f32) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.axpby(self, a, z, b))
    }

    /// The same values in another dtype, rounded to the nearest.
    ///
    /// # Errors
    /// Those of [`axpby::prepare`](crate::axpby::prepare) and [`Batch::submit`].
    pub fn cast<U: Element>(&self) -> Result<Tensor<U>> {
        self.at_once(|batch| batch.cast(self))
    }
}

impl Batch {
    /// [`Tensor::axpby`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn axpby<T: Element>(&mut self, x: &Tensor<T>, a: f32, z: &Tensor<T>, b: f32) -> Result<Tensor<T>> {
        self.own(OP, "x", x)?;
        self.own(OP, "z", z)?;
        if z.shape() != x.shape() {
            return Err(ErrorKind::shape("z", z.shape(), format!("{:?}, as x", x.shape())).of(OP));
        }
        let y = self.context().allocate(OP, x.shape(), None)?;
        let (a, b) = (Factor::Value(a), Factor::Value(b));
        let problem = Problem { a, b, z: Some(T::DTYPE), ..Problem::cast(1, x.len(), T::DTYPE, T::DTYPE) };
        let buffers = Buffers::new(x.buffer(), y.buffer()).z(z.buffer());
        let dispatch = prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(y)
    }

    /// [`Tensor::cast`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn cast<T: Element, U: Element>(&mut self, x: &Tensor<T>) -> Result<Tensor<U>> {
        self.own(OP, "x", x)?;
        let y = self.context().allocate(OP, x.shape(), None)?;
        let problem = Problem::cast(1, x.len(), T::DTYPE, U::DTYPE);
        let dispatch = prepare(self.context().kernels(), &problem, Buffers::new(x.buffer(), y.buffer()))?;
        self.push(dispatch);
        Ok(y)
    }
}
