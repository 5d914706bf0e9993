//! Softmax on tensors.

use crate::softmax::{self, Buffers, MaskKind, Problem};
use crate::{Batch, Element, Error, ErrorKind, Result, Tensor};

const OP: &str = "softmax";

/// Options of [`Tensor::softmax`].
#[derive(Debug, Clone, Copy)]
pub struct SoftmaxOptions<'a> {
    /// Multiplies `x` before the mask is added.
    pub scale: f32,
    /// Log-softmax.
    pub log: bool,
    /// On the last two axes, aligned to the bottom right.
    pub causal: bool,
    /// Broadcast to `x` by NumPy's rules.
    pub mask: Option<SoftmaxMask<'a>>,
}

impl Default for SoftmaxOptions<'_> {
    fn default() -> Self {
        SoftmaxOptions { scale: 1.0, log: false, causal: false, mask: None }
    }
}

/// A mask: additive in any value type, or bytes of which 0 hides. Made by `(&tensor).into()`.
#[derive(Debug, Clone, Copy)]
pub struct SoftmaxMask<'a> {
    pub(in crate::tensor) kind: MaskKind,
    pub(in crate::tensor) shape: &'a [usize],
    pub(in crate::tensor) buffer: &'a wgpu::Buffer,
    pub(in crate::tensor) context: &'a crate::Context,
}

impl<'a, T: Element> From<&'a Tensor<T>> for SoftmaxMask<'a> {
    fn from(t: &'a Tensor<T>) -> Self {
        let kind = MaskKind::Additive(T::DTYPE);
        SoftmaxMask { kind, shape: t.shape(), buffer: t.buffer(), context: t.context() }
    }
}

impl<'a> From<&'a Tensor<u8>> for SoftmaxMask<'a> {
    fn from(t: &'a Tensor<u8>) -> Self {
        SoftmaxMask { kind: MaskKind::Bytes, shape: t.shape(), buffer: t.buffer(), context: t.context() }
    }
}

impl<T: Element> Tensor<T> {
    /// Softmax over the last axis.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] for a mask that does not broadcast, and those of
    /// [`softmax::prepare`](crate::softmax::prepare) and [`Batch::submit`].
    pub fn softmax(&self, options: &SoftmaxOptions) -> Result<Tensor<T>> {
        let mut batch = self.context().batch();
        let y = batch.softmax(self, options)?;
        batch.submit()?;
        Ok(y)
    }

    /// Softmax over the last axis, and the log-sum-exp of each row (without the last axis).
    ///
    /// # Errors
    /// As [`softmax`](Self::softmax).
    pub fn softmax_with_lse(&self, options: &SoftmaxOptions) -> Result<(Tensor<T>, Tensor<f32>)> {
        let mut batch = self.context().batch();
        let result = batch.softmax_with_lse(self, options)?;
        batch.submit()?;
        Ok(result)
    }
}

impl Batch {
    /// [`Tensor::softmax`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn softmax<T: Element>(&mut self, x: &Tensor<T>, options: &SoftmaxOptions) -> Result<Tensor<T>> {
        let y = self.context().allocate(OP, x.shape(), None)?;
        self.record_softmax(x, &y, None, options)?;
        Ok(y)
    }

    /// [`Tensor::softmax_with_lse`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn softmax_with_lse<T: Element>(
        &mut self,
        x: &Tensor<T>,
        options: &SoftmaxOptions,
    ) -> Result<(Tensor<T>, Tensor<f32>)> {
        let y = self.context().allocate(OP, x.shape(), None)?;
        let rows = x.shape().split_last().map_or(&[][..], |(_, rows)| rows);
        let lse = self.context().allocate(OP, rows, None)?;
        self.record_softmax(x, &y, Some(&lse), options)?;
        Ok((y, lse))
    }

    fn record_softmax<T: Element>(
        &mut self,
        x: &Tensor<T>,
        y: &Tensor<T>,
        lse: Option<&Tensor<f32>>,
        options: &SoftmaxOptions,
    ) -> Result<()> {
        self.own(OP, "x", x)?;
        let Some((&cols, outer)) = x.shape().split_last() else {
            return Err(Error {
                op: OP,
                kind: ErrorKind::Shape { arg: "x", have: Vec::new(), expected: "at least one axis".into() },
            });
        };
        let seq = outer.last().copied().unwrap_or(1).max(1);
        let mut problem = Problem {
            rows: outer.iter().fold(1usize, |n, &size| n.saturating_mul(size)),
            cols,
            dims: [1, seq],
            x: T::DTYPE,
            y: T::DTYPE,
            scale: options.scale,
            log: options.log,
            causal: options.causal,
            lse: lse.map(|_| 0),
            ..Problem::default()
        };
        let mut buffers = Buffers::new(x.buffer(), y.buffer());
        if let Some(lse) = lse {
            buffers = buffers.lse(lse.buffer());
        }
        if let Some(mask) = options.mask {
            if !self.context().same(mask.context) {
                return Err(Error { op: OP, kind: ErrorKind::ForeignTensor { arg: "mask" } });
            }
            let shape = || Error {
                op: OP,
                kind: ErrorKind::Shape {
                    arg: "mask",
                    have: mask.shape.to_vec(),
                    expected: format!(
                        "a shape that broadcasts to {:?}, by at most two runs of its outer axes",
                        x.shape()
                    ),
                },
            };
            let (dims, mask_layout) = softmax::broadcast(mask.kind, mask.shape, x.shape()).ok_or_else(shape)?;
            problem.dims = dims.map(|n| n.max(1));
            problem.mask = Some(mask_layout);
            buffers = buffers.mask(mask.buffer);
        }
        let dispatch = softmax::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(())
    }
}
