//! Products of rows by group on tensors.

use crate::gemm::Activation;
use crate::grouped_gemm::{self, Buffers, Problem};
use crate::norm::Vector;
use crate::{Batch, Element, ErrorKind, Result, Scalar, Tensor};

const OP: &str = "grouped_gemm";

/// A type that holds offsets of rows.
pub trait RowOffsets: Scalar {
    /// Whether it has a sign.
    const SIGNED: bool;
}

impl RowOffsets for u32 {
    const SIGNED: bool = false;
}

impl RowOffsets for i32 {
    const SIGNED: bool = true;
}

/// Options of [`Tensor::grouped_matmul`].
#[derive(Debug, Clone, Copy)]
pub struct GroupedOptions<'a, T> {
    /// `[groups, n]`, added before the activation; not with a gate.
    pub bias: Option<&'a Tensor<T>>,
    /// Applied to the sum of product and bias.
    pub activation: Activation,
    /// A second right side, of the shape of the first: the activated product of the first is multiplied by its own.
    pub gate: Option<&'a Tensor<T>>,
}

impl<T> Default for GroupedOptions<'_, T> {
    fn default() -> Self {
        GroupedOptions { bias: None, activation: Activation::None, gate: None }
    }
}

impl<T: Element> Tensor<T> {
    /// Rows `[m, k]` that are sorted by group, each times its group's matrix of `b [groups, n, k]`: group g has the rows from
    /// `offsets[g]` to `offsets[g + 1]`. Rows of no group give 0.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`grouped_gemm::prepare`](crate::grouped_gemm::prepare) and [`Batch::submit`].
    pub fn grouped_matmul<I: RowOffsets>(
        &self,
        b: &Tensor<T>,
        offsets: &Tensor<I>,
        options: &GroupedOptions<T>,
    ) -> Result<Tensor<T>> {
        let mut batch = self.context().batch();
        let d = batch.grouped_matmul(self, b, offsets, options)?;
        batch.submit()?;
        Ok(d)
    }
}

impl Batch {
    /// [`Tensor::grouped_matmul`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn grouped_matmul<T: Element, I: RowOffsets>(
        &mut self,
        a: &Tensor<T>,
        b: &Tensor<T>,
        offsets: &Tensor<I>,
        options: &GroupedOptions<T>,
    ) -> Result<Tensor<T>> {
        let GroupedOptions { bias, activation, gate } = *options;
        self.own(OP, "a", a)?;
        self.own(OP, "b", b)?;
        self.own(OP, "offsets", offsets)?;
        let shape = |arg, have: &[usize], expected: String| Err(ErrorKind::shape(arg, have, expected).of(OP));
        let &[m, k] = a.shape() else { return shape("a", a.shape(), "[m, k]".into()) };
        let &[groups, n, b_k] = b.shape() else { return shape("b", b.shape(), format!("[groups, n, {k}]")) };
        if b_k != k {
            return shape("b", b.shape(), format!("[groups, n, {k}]"));
        }
        if *offsets.shape() != [groups + 1] {
            return shape("offsets", offsets.shape(), format!("[{}]", groups + 1));
        }
        for (arg, tensor, want) in [("bias", bias, &[groups, n][..]), ("b2", gate, b.shape())] {
            if let Some(tensor) = tensor {
                self.own(OP, arg, tensor)?;
                if tensor.shape() != want {
                    return shape(arg, tensor.shape(), format!("{want:?}"));
                }
            }
        }
        let problem = Problem {
            m,
            n,
            k,
            groups,
            a: T::DTYPE,
            b: T::DTYPE,
            d: T::DTYPE,
            signed: I::SIGNED,
            bias: bias.map(|_| Vector::of(T::DTYPE)),
            activation,
            gate: gate.map(|_| 0),
            ..Problem::default()
        };
        let d = self.context().allocate(OP, &[m, n], None)?;
        let mut buffers = Buffers::new(a.buffer(), b.buffer(), offsets.buffer(), d.buffer());
        if let Some(bias) = bias {
            buffers = buffers.bias(bias.buffer());
        }
        if let Some(gate) = gate {
            buffers = buffers.b2(gate.buffer());
        }
        let dispatch = grouped_gemm::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(d)
    }
}
