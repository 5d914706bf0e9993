//! Gradients of products of rows by group on tensors.

use super::grouped_gemm::RowOffsets;
use crate::grouped_gemm::{self, Backward, Problem};
use crate::norm::Vector;
use crate::{Batch, Dtype, Element, ErrorKind, Result, Tensor, grouped_gemm_backward};

const OP: &str = "grouped_gemm_backward";

/// What [`Tensor::grouped_matmul_backward`] gives.
#[derive(Debug, Clone)]
pub struct GroupedGradients<T> {
    /// `[m, k]`.
    pub a: Tensor<T>,
    /// `[groups, n, k]`.
    pub b: Tensor<f32>,
    /// `[groups, n]`.
    pub bias: Tensor<f32>,
}

impl<T: Element> Tensor<T> {
    /// The gradients of [`grouped_matmul`](Tensor::grouped_matmul) without activation and gate, by that of its result, `dd [m, n]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`grouped_gemm::prepare`](crate::grouped_gemm::prepare),
    /// [`grouped_gemm_backward::prepare`](crate::grouped_gemm_backward::prepare) and [`Batch::submit`].
    pub fn grouped_matmul_backward<I: RowOffsets>(
        &self,
        b: &Tensor<T>,
        offsets: &Tensor<I>,
        dd: &Tensor<T>,
    ) -> Result<GroupedGradients<T>> {
        self.at_once(|batch| batch.grouped_matmul_backward(self, b, offsets, dd))
    }
}

impl Batch {
    /// [`Tensor::grouped_matmul_backward`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn grouped_matmul_backward<T: Element, I: RowOffsets>(
        &mut self,
        a: &Tensor<T>,
        b: &Tensor<T>,
        offsets: &Tensor<I>,
        dd: &Tensor<T>,
    ) -> Result<GroupedGradients<T>> {
        for (arg, tensor) in [("a", a), ("b", b), ("dd", dd)] {
            self.own(OP, arg, tensor)?;
        }
        self.own(OP, "offsets", offsets)?;
        let shape = |arg, have: &[usize], expected: String| Err(ErrorKind::shape(arg, have, expected).of(OP));
        let &[m, k] = a.shape() else { return shape("a", a.shape(), "[m, k]".into()) };
        let (groups, n) = match *b.shape() {
            [groups, n, own] if own == k => (groups, n),
            ref have => return shape("b", have, format!("[groups, n, {k}]")),
        };
        for (arg, have, want) in [("offsets", offsets.shape(), vec![groups + 1]), ("dd", dd.shape(), vec![m, n])] {
            if *have != want[..] {
                return shape(arg, have, format!("{want:?}"));
            }
        }
        let bias = Some(Vector::of(Dtype::F32));
        let dtypes = Problem { a: T::DTYPE, b: T::DTYPE, d: T::DTYPE, signed: I::SIGNED, bias, ..Problem::default() };
        let Backward { da, db } = grouped_gemm::backward(&Problem { m, n, k, groups, ..dtypes })?;
        let context = self.context().clone();
        let gradients = GroupedGradients {
            a: context.allocate(OP, &[m, k], None)?,
            b: context.allocate(OP, &[groups, n, k], None)?,
            bias: context.allocate(OP, &[groups, n], None)?,
        };
        if let Some(da) = da {
            let own = gradients.a.buffer();
            let buffers = grouped_gemm::Buffers::new(dd.buffer(), b.buffer(), offsets.buffer(), own);
            self.push(grouped_gemm::prepare(context.kernels(), &da, buffers)?);
        }
        let own = gradients.b.buffer();
        let buffers = grouped_gemm_backward::Buffers::new(a.buffer(), dd.buffer(), offsets.buffer(), own);
        let buffers = buffers.dbias(gradients.bias.buffer());
        self.push(grouped_gemm_backward::prepare(context.kernels(), &db, buffers)?);
        Ok(gradients)
    }
}
