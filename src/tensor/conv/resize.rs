//! Pictures in another size, on tensors.

use crate::conv::Order;
use crate::resize::{self, Buffers, Coordinates, Problem, Rounding, Rule, Windows};
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "resize";

/// Options of [`Tensor::resize`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResizeOptions {
    /// How places of the result come from those of the picture.
    pub rule: Rule,
    /// The filter is widened where the result is smaller.
    pub antialias: bool,
    /// Places outside of the picture have no part; else its edges are repeated.
    pub exclude_outside: bool,
    /// Where a place of the result lies on the picture.
    pub coordinates: Coordinates,
    /// Places of the result for one of the picture, where coordinates go by these numbers.
    pub scale: Option<[f64; 2]>,
    /// The order of the axes.
    pub order: Order,
}

impl Default for ResizeOptions {
    fn default() -> Self {
        let Problem { rule, antialias, exclude_outside, coordinates, scale, order, .. } = Problem::default();
        ResizeOptions { rule, antialias, exclude_outside, coordinates, scale, order }
    }
}

impl ResizeOptions {
    /// Repeats each place, or leaves some out: PyTorch's `nearest`.
    pub fn nearest() -> ResizeOptions {
        let (rule, coordinates) = (Rule::Nearest(Rounding::Floor), Coordinates::Asymmetric);
        ResizeOptions { rule, coordinates, ..ResizeOptions::default() }
    }

    /// Antialiased by the filter of this rule, as Pillow and PyTorch have it.
    pub fn antialiased(rule: Rule) -> ResizeOptions {
        ResizeOptions { rule, antialias: true, exclude_outside: true, ..ResizeOptions::default() }
    }
}

impl<T: Element> Tensor<T> {
    /// Pictures `[n, c, h, w]`, or by [`ResizeOptions::order`] `[n, h, w, c]`, in another height and width.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`resize::prepare`](crate::resize::prepare) and [`Batch::submit`].
    pub fn resize(&self, out: [usize; 2], options: &ResizeOptions) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.resize(self, out, options))
    }

    /// The gradient of pictures of height and width `size` that [`resize`](Self::resize) has resized with these options; `self` is that of
    /// its result.
    ///
    /// # Errors
    /// As there.
    pub fn resize_backward(&self, size: [usize; 2], options: &ResizeOptions) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.resize_backward(self, size, options))
    }

    /// Means of windows of pictures `[n, c, h, w]`, or by `order` `[n, h, w, c]`.
    ///
    /// # Errors
    /// As [`resize`](Self::resize).
    pub fn average_pool2d(&self, windows: Windows, order: Order) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.average_pool2d(self, windows, order))
    }
}

impl Batch {
    /// [`Tensor::resize`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn resize<T: Element>(&mut self, x: &Tensor<T>, out: [usize; 2], options: &ResizeOptions) -> Result<Tensor<T>> {
        self.resampled(x, options, |size| Problem { size, out, ..Problem::default() })
    }

    /// [`Tensor::resize_backward`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn resize_backward<T: Element>(
        &mut self,
        dy: &Tensor<T>,
        size: [usize; 2],
        options: &ResizeOptions,
    ) -> Result<Tensor<T>> {
        self.resampled(dy, options, |out| Problem { size, out, adjoint: true, ..Problem::default() })
    }

    /// [`Tensor::average_pool2d`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn average_pool2d<T: Element>(&mut self, x: &Tensor<T>, windows: Windows, order: Order) -> Result<Tensor<T>> {
        let options = ResizeOptions { rule: Rule::Average(windows), order, ..ResizeOptions::default() };
        self.resampled(x, &options, |size| Problem { size, out: windows.out(size), ..Problem::default() })
    }

    fn resampled<T: Element>(
        &mut self,
        x: &Tensor<T>,
        options: &ResizeOptions,
        sizes: impl FnOnce([usize; 2]) -> Problem,
    ) -> Result<Tensor<T>> {
        self.own(OP, "x", x)?;
        let ResizeOptions { rule, antialias, exclude_outside, coordinates, scale, order } = *options;
        let &[batch, a, b, c] = x.shape() else {
            return Err(ErrorKind::shape("x", x.shape(), "four axes").of(OP));
        };
        let (channels, from) = if order == Order::Nhwc { (c, [a, b]) } else { (a, [b, c]) };
        let problem = Problem {
            batch,
            channels,
            rule,
            antialias,
            exclude_outside,
            coordinates,
            scale,
            order,
            x: T::DTYPE,
            y: T::DTYPE,
            ..sizes(from)
        };
        let [_, [height, width]] = problem.from_to();
        let shape = match order {
            Order::Nchw => [batch, channels, height, width],
            Order::Nhwc => [batch, height, width, channels],
        };
        let y = self.context().allocate(OP, &shape, None)?;
        let dispatch = resize::prepare(self.context().kernels(), &problem, Buffers::new(x.buffer(), y.buffer()))?;
        self.push(dispatch);
        Ok(y)
    }
}
