//! Sums of columns.

use crate::column_sums::{Buffers, Problem, prepare};
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "column_sums";

impl<T: Element> Tensor<T> {
    /// The sums over all axes but the last: `[cols]`, f32.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] for a tensor without axes, and those of [`column_sums::prepare`](crate::column_sums::prepare) and
    /// [`Batch::submit`].
    pub fn column_sums(&self) -> Result<Tensor<f32>> {
        self.at_once(|batch| batch.column_sums(self))
    }
}

impl Batch {
    /// [`Tensor::column_sums`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn column_sums<T: Element>(&mut self, x: &Tensor<T>) -> Result<Tensor<f32>> {
        self.own(OP, "x", x)?;
        let Some((&cols, outer)) = x.shape().split_last() else {
            return Err(ErrorKind::shape("x", x.shape(), "at least one axis").of(OP));
        };
        let rows = outer.iter().fold(1usize, |n, &size| n.saturating_mul(size));
        let y = self.context().allocate(OP, &[cols], None)?;
        let problem = Problem { rows, cols, x: T::DTYPE, ..Problem::default() };
        let dispatch = prepare(self.context().kernels(), &problem, Buffers::new(x.buffer(), y.buffer()))?;
        self.push(dispatch);
        Ok(y)
    }
}
