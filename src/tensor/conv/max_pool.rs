//! Max pooling on tensors.

use super::{picture, shown};
use crate::conv::Order;
use crate::max_pool::{self, Problem};
use crate::{Batch, Element, ErrorKind, Layout, Result, Tensor, max_pool_backward};

/// Options of [`Tensor::max_pool`]. Pairs are of height and width; of one dimension only the width counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPoolOptions {
    /// Size of a window.
    pub kernel: [usize; 2],
    /// Distance of neighbouring windows.
    pub stride: [usize; 2],
    /// Distance of neighbouring places of a window.
    pub dilation: [usize; 2],
    /// Top, bottom, left and right.
    pub padding: [usize; 4],
    /// The last window may reach past the padding, but must start in x or in the padding before it.
    pub ceil: bool,
    /// The order of the axes.
    pub order: Order,
}

impl Default for MaxPoolOptions {
    fn default() -> Self {
        let Problem { kernel, stride, dilation, padding, ceil, order, .. } = Problem::default();
        MaxPoolOptions { kernel, stride, dilation, padding, ceil, order }
    }
}

impl MaxPoolOptions {
    /// Square windows side by side.
    pub fn by(kernel: usize) -> MaxPoolOptions {
        MaxPoolOptions { kernel: [kernel; 2], stride: [kernel; 2], ..MaxPoolOptions::default() }
    }

    /// The Problem of a tensor of this shape, and its dimensions.
    fn problem<T: Element>(&self, arg: &'static str, shape: &[usize]) -> Result<(Problem, usize), ErrorKind> {
        let MaxPoolOptions { mut kernel, mut stride, mut dilation, mut padding, ceil, order } = *self;
        let dims = shape.len().saturating_sub(2);
        let Some((batch, channels, size)) = (1..=2).contains(&dims).then(|| picture(shape, dims, order)).flatten()
        else {
            return Err(ErrorKind::shape(arg, shape, "three axes or four"));
        };
        if dims == 1 {
            (kernel[0], stride[0], dilation[0]) = (1, 1, 1);
            padding[..2].fill(0);
        }
        let (x, y) = (T::DTYPE, T::DTYPE);
        let own = Problem {
            batch,
            channels,
            size,
            kernel,
            stride,
            dilation,
            padding,
            ceil,
            order,
            x,
            y,
            ..Problem::default()
        };
        Ok((own, dims))
    }
}

impl<T: Element> Tensor<T> {
    /// The largest element of each window of `[n, c, h, w]`, `[n, c, w]`, or by [`MaxPoolOptions::order`] with the channels last.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`max_pool::prepare`](crate::max_pool::prepare) and [`Batch::submit`].
    pub fn max_pool(&self, options: &MaxPoolOptions) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.max_pool(self, options))
    }

    /// [`max_pool`](Self::max_pool), and the place of each element in its plane, `row * width + column`.
    ///
    /// # Errors
    /// As there.
    pub fn max_pool_indices(&self, options: &MaxPoolOptions) -> Result<(Tensor<T>, Tensor<u32>)> {
        self.at_once(|batch| batch.max_pool_indices(self, options))
    }

    /// The gradient of what [`max_pool`](Self::max_pool) has pooled, of shape `shape`, with these options; `self` is that of the result.
    ///
    /// # Errors
    /// As there.
    pub fn max_pool_backward(
        &self,
        indices: &Tensor<u32>,
        shape: &[usize],
        options: &MaxPoolOptions,
    ) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.max_pool_backward(self, indices, shape, options))
    }
}

impl Batch {
    /// [`Tensor::max_pool`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn max_pool<T: Element>(&mut self, x: &Tensor<T>, options: &MaxPoolOptions) -> Result<Tensor<T>> {
        self.pooled(x, options, false).map(|(y, _)| y)
    }

    /// [`Tensor::max_pool_indices`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn max_pool_indices<T: Element>(
        &mut self,
        x: &Tensor<T>,
        options: &MaxPoolOptions,
    ) -> Result<(Tensor<T>, Tensor<u32>)> {
        let (y, indices) = self.pooled(x, options, true)?;
        Ok((y, indices.expect("they were asked for")))
    }

    fn pooled<T: Element>(
        &mut self,
        x: &Tensor<T>,
        options: &MaxPoolOptions,
        places: bool,
    ) -> Result<(Tensor<T>, Option<Tensor<u32>>)> {
        const OP: &str = "max_pool";
        self.own(OP, "x", x)?;
        let (mut problem, dims) = options.problem::<T>("x", x.shape()).map_err(|kind| kind.of(OP))?;
        problem.indices = places.then(Layout::default);
        let shape = shown(dims, problem.order, problem.batch, problem.channels, problem.out());
        let context = self.context();
        let y = context.allocate(OP, &shape, None)?;
        let indices = places.then(|| context.allocate(OP, &shape, None)).transpose()?;
        let mut buffers = max_pool::Buffers::new(x.buffer(), y.buffer());
        if let Some(indices) = &indices {
            buffers = buffers.indices(indices.buffer());
        }
        let dispatch = max_pool::prepare(context.kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok((y, indices))
    }

    /// [`Tensor::max_pool_backward`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn max_pool_backward<T: Element>(
        &mut self,
        dy: &Tensor<T>,
        indices: &Tensor<u32>,
        shape: &[usize],
        options: &MaxPoolOptions,
    ) -> Result<Tensor<T>> {
        const OP: &str = "max_pool_backward";
        self.own(OP, "dy", dy)?;
        self.own(OP, "indices", indices)?;
        let (mut forward, dims) = options.problem::<T>("dx", shape).map_err(|kind| kind.of(OP))?;
        forward.indices = Some(Layout::default());
        let want = shown(dims, forward.order, forward.batch, forward.channels, forward.out());
        for (arg, have) in [("dy", dy.shape()), ("indices", indices.shape())] {
            if have != want {
                return Err(ErrorKind::shape(arg, have, format!("{want:?}")).of(OP));
            }
        }
        let dx = self.context().allocate(OP, shape, None)?;
        let problem = max_pool_backward::Problem { forward, dx: T::DTYPE, ..Default::default() };
        let buffers = max_pool_backward::Buffers::new(dy.buffer(), indices.buffer(), dx.buffer());
        let dispatch = max_pool_backward::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(dx)
    }
}
