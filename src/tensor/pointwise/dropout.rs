//! Dropout on tensors.

use crate::dropout::{Buffers, Problem, prepare};
use crate::sample::Step;
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "dropout";

/// Options of [`Tensor::dropout`].
#[derive(Debug, Clone, Copy)]
pub struct DropoutOptions<'a, T> {
    /// The share of elements that is dropped, from 0 to 1.
    pub p: f32,
    /// The key of the generator.
    pub seed: u64,
    /// The number of the draw: another one gives another mask.
    pub offset: u32,
    /// The number of the first element: a part of a tensor has its part of the mask.
    pub first: u32,
    /// Of the shape of `x`, added to what is left.
    pub residual: Option<&'a Tensor<T>>,
}

impl<T: Element> Tensor<T> {
    /// Each element over `1 - p`, or 0 for a share `p` of them, plus the residual. The gradient of `x` is the same of `dy`, with the
    /// same seed and offset, without residual.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] for a residual of another shape, and those of [`dropout::prepare`](crate::dropout::prepare) and
    /// [`Batch::submit`].
    pub fn dropout(&self, options: &DropoutOptions<T>) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.dropout(self, options))
    }
}

impl Batch {
    /// [`Tensor::dropout`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn dropout<T: Element>(&mut self, x: &Tensor<T>, options: &DropoutOptions<T>) -> Result<Tensor<T>> {
        self.own(OP, "x", x)?;
        let DropoutOptions { p, seed, offset, first, residual } = *options;
        let y = self.context().allocate(OP, x.shape(), None)?;
        let mut buffers = Buffers::new(x.buffer(), y.buffer());
        if let Some(residual) = residual {
            self.own(OP, "residual", residual)?;
            if residual.shape() != x.shape() {
                let expected = format!("{:?}, as x", x.shape());
                return Err(ErrorKind::shape("residual", residual.shape(), expected).of(OP));
            }
            buffers = buffers.residual(residual.buffer());
        }
        let problem = Problem {
            rows: 1,
            cols: x.len(),
            p,
            seed,
            offset: Step::At(offset),
            first,
            x: T::DTYPE,
            residual: residual.map(|_| T::DTYPE),
            y: T::DTYPE,
            ..Problem::default()
        };
        let dispatch = prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(y)
    }
}
