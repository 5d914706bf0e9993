//! VQ lookup on tensors.

use crate::vq_lookup::{self, Buffers, Combine, Index, Problem};
use crate::{Batch, Element, ErrorKind, Result, Scalar, Tensor};

const OP: &str = "vq_lookup";

/// A type that holds code indices.
pub trait VqIndices: Scalar {
    /// The type of indices.
    const INDEX: Index;
}

impl VqIndices for u32 {
    const INDEX: Index = Index::U32;
}

impl VqIndices for i32 {
    const INDEX: Index = Index::I32;
}

impl VqIndices for u16 {
    const INDEX: Index = Index::U16;
}

impl<T: Element> Tensor<T> {
    /// The vectors that `indices` name in this codebook: `[.., code_dim]` of a codebook `[num_codes, code_dim]`;
    /// of `[books, num_codes, code_dim]`, whose indices are `[.., books]`, their vectors side by side or added up.
    /// An index that is not in the book gives zeros.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] for a codebook or indices of another shape, and those of
    /// [`vq_lookup::prepare`](crate::vq_lookup::prepare) and [`Batch::submit`].
    pub fn vq_lookup<I: VqIndices>(&self, indices: &Tensor<I>, combine: Combine) -> Result<Tensor<T>> {
        let mut batch = self.context().batch();
        let y = batch.vq_lookup(self, indices, combine)?;
        batch.submit()?;
        Ok(y)
    }
}

impl Batch {
    /// [`Tensor::vq_lookup`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn vq_lookup<T: Element, I: VqIndices>(
        &mut self,
        codebook: &Tensor<T>,
        indices: &Tensor<I>,
        combine: Combine,
    ) -> Result<Tensor<T>> {
        self.own(OP, "codebook", codebook)?;
        self.own(OP, "indices", indices)?;
        let [books, num_codes, code_dim] = codebook_shape(OP, codebook.shape())?;
        let mut shape = indices.shape().to_vec();
        if codebook.shape().len() == 3 && shape.pop() != Some(books) {
            let expected = format!("[.., {books}]");
            return Err(ErrorKind::Shape { arg: "indices", have: indices.shape().to_vec(), expected }.of(OP));
        }
        let problem = Problem {
            spatial: indices.len() / books.max(1),
            books,
            num_codes,
            code_dim,
            combine,
            index: I::INDEX,
            x: T::DTYPE,
            y: T::DTYPE,
            ..Problem::default()
        };
        shape.push(problem.channels());
        let y: Tensor<T> = self.context().allocate(OP, &shape, None)?;
        let buffers = Buffers::new(indices.buffer(), codebook.buffer(), y.buffer());
        let dispatch = vq_lookup::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(y)
    }
}

/// `[num_codes, code_dim]` or `[books, num_codes, code_dim]`.
pub(super) fn codebook_shape(op: &'static str, shape: &[usize]) -> Result<[usize; 3]> {
    match *shape {
        [num_codes, code_dim] => Ok([1, num_codes, code_dim]),
        [books, num_codes, code_dim] => Ok([books, num_codes, code_dim]),
        _ => {
            let expected = "[num_codes, code_dim] or [books, num_codes, code_dim]".into();
            Err(ErrorKind::Shape { arg: "codebook", have: shape.to_vec(), expected }.of(op))
        }
    }
}
