//! Transposed convolution on tensors.

use super::{four, picture, shown};
use crate::conv::{Activation, Bias, Order};
use crate::conv_transpose::{self, Buffers, Problem};
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "conv_transpose";

/// Options of [`Tensor::conv_transpose2d`] and [`Tensor::conv_transpose1d`]. Pairs are of height and width; of one dimension only the
/// width counts.
#[derive(Debug, Clone, Copy)]
pub struct ConvTransposeOptions<'a, T> {
    /// Distance in the result of what neighbouring pixels give.
    pub stride: [usize; 2],
    /// Distance of neighbouring taps.
    pub dilation: [usize; 2],
    /// Places that are cut off: top, bottom, left and right.
    pub padding: [usize; 4],
    /// Places that are added at the end of each axis.
    pub output_padding: [usize; 2],
    /// Groups of channels.
    pub groups: usize,
    /// The order of the axes of x and of the result.
    pub order: Order,
    /// `[outputs]`, added before the activation.
    pub bias: Option<&'a Tensor<T>>,
    /// Applied last.
    pub activation: Activation,
    /// Of the activation.
    pub slope: f32,
    /// Snake in place of an activation, as [`conv::Problem::snake`](crate::conv::Problem::snake) tells: alpha, `[outputs]`.
    pub snake: Option<&'a Tensor<f32>>,
}

impl<T> Default for ConvTransposeOptions<'_, T> {
    fn default() -> Self {
        let Problem { stride, dilation, padding, output_padding, groups, order, activation, slope, .. } =
            Problem::default();
        let (bias, snake) = (None, None);
        ConvTransposeOptions {
            stride,
            dilation,
            padding,
            output_padding,
            groups,
            order,
            bias,
            activation,
            slope,
            snake,
        }
    }
}

impl<T: Element> Tensor<T> {
    /// Transposed convolution of `[n, c, h, w]`, or by [`ConvTransposeOptions::order`] `[n, h, w, c]`, with `weight`
    /// `[c, outputs / groups, kernel_h, kernel_w]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`conv_transpose::prepare`](crate::conv_transpose::prepare) and [`Batch::submit`].
    pub fn conv_transpose2d(&self, weight: &Tensor<T>, options: &ConvTransposeOptions<T>) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.conv_transpose2d(self, weight, options))
    }

    /// [`conv_transpose2d`](Self::conv_transpose2d) in one dimension: `[n, c, w]`, or `[n, w, c]`, with `weight`
    /// `[c, outputs / groups, kernel]`.
    ///
    /// # Errors
    /// As there.
    pub fn conv_transpose1d(&self, weight: &Tensor<T>, options: &ConvTransposeOptions<T>) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.conv_transpose1d(self, weight, options))
    }
}

impl Batch {
    /// [`Tensor::conv_transpose2d`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn conv_transpose2d<T: Element>(
        &mut self,
        x: &Tensor<T>,
        weight: &Tensor<T>,
        options: &ConvTransposeOptions<T>,
    ) -> Result<Tensor<T>> {
        self.conv_transpose(x, weight, options, 2)
    }

    /// [`Tensor::conv_transpose1d`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn conv_transpose1d<T: Element>(
        &mut self,
        x: &Tensor<T>,
        weight: &Tensor<T>,
        options: &ConvTransposeOptions<T>,
    ) -> Result<Tensor<T>> {
        self.conv_transpose(x, weight, options, 1)
    }

    fn conv_transpose<T: Element>(
        &mut self,
        x: &Tensor<T>,
        weight: &Tensor<T>,
        options: &ConvTransposeOptions<T>,
        dims: usize,
    ) -> Result<Tensor<T>> {
        self.own(OP, "x", x)?;
        self.own(OP, "weight", weight)?;
        let shape = |arg, have: &[usize], expected: String| Err(ErrorKind::shape(arg, have, expected).of(OP));
        let ConvTransposeOptions { mut stride, mut dilation, mut padding, mut output_padding, groups, order, .. } =
            *options;
        let Some((batch, channels, size)) = picture(x.shape(), dims, order) else {
            return shape("x", x.shape(), format!("{} axes", dims + 2));
        };
        let Some([own, of_group, height, width]) = four(weight.shape(), dims, 2) else {
            return shape("weight", weight.shape(), format!("{} axes", dims + 2));
        };
        let Some(outputs) = of_group.checked_mul(groups).filter(|_| own == channels) else {
            return shape("weight", weight.shape(), format!("[{channels}, outputs / {groups}, ..]"));
        };
        if dims == 1 {
            (stride[0], dilation[0], output_padding[0]) = (1, 1, 0);
            padding[..2].fill(0);
        }
        let ConvTransposeOptions { bias, activation, slope, snake, .. } = *options;
        let problem = Problem {
            batch,
            channels,
            outputs,
            groups,
            size,
            kernel: [height, width],
            stride,
            dilation,
            padding,
            output_padding,
            order,
            x: T::DTYPE,
            weight: T::DTYPE,
            y: T::DTYPE,
            bias: bias.map(|_| Bias::of(T::DTYPE)),
            activation,
            slope,
            snake: snake.map(|_| 0),
            ..Problem::default()
        };
        if let Some(bias) = bias {
            self.own(OP, "bias", bias)?;
            if bias.shape() != [outputs] {
                return shape("bias", bias.shape(), format!("[{outputs}]"));
            }
        }
        self.alpha(OP, snake, outputs)?;
        let y = self.context().allocate(OP, &shown(dims, order, batch, outputs, problem.out()), None)?;
        let mut buffers = Buffers::new(x.buffer(), weight.buffer(), y.buffer());
        if let Some(bias) = bias {
            buffers = buffers.bias(bias.buffer());
        }
        if let Some(alpha) = snake {
            buffers = buffers.alpha(alpha.buffer());
        }
        let dispatch = conv_transpose::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(y)
    }
}
