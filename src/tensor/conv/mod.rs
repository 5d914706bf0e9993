//! Convolution on tensors.

mod group_norm;
mod group_norm_backward;
mod max_pool;
mod resize;
mod snake_backward;
mod space_to_depth;

pub use group_norm::GroupNormOptions;
pub use group_norm_backward::GroupNormGradients;
pub use max_pool::MaxPoolOptions;
pub use resize::ResizeOptions;
pub use snake_backward::SnakeGradients;

pub(super) mod conv_backward;
pub(super) mod conv_transpose;

use crate::conv::{self, Activation, Bias, Border, Buffers, Order, Padding, Problem, Residual, TapMask};
use crate::error::Checked;
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "conv";

/// Options of [`Tensor::conv2d`] and [`Tensor::conv1d`]. Pairs are of height and width; of one dimension only the width counts.
#[derive(Debug, Clone, Copy)]
pub struct ConvOptions<'a, T> {
    /// Distance of neighbouring windows.
    pub stride: [usize; 2],
    /// Distance of neighbouring taps.
    pub dilation: [usize; 2],
    /// Each place of x is repeated so often, before padding.
    pub upsample: [usize; 2],
    /// How much is added around x.
    pub padding: Padding,
    /// What is added.
    pub border: Border,
    /// Which taps there are.
    pub mask: TapMask,
    /// Groups of channels.
    pub groups: usize,
    /// The order of the axes of x and of the result.
    pub order: Order,
    /// `[outputs]`, added before the activation.
    pub bias: Option<&'a Tensor<T>>,
    /// Of the result's shape, added before the activation.
    pub residual: Option<&'a Tensor<T>>,
    /// Applied last.
    pub activation: Activation,
    /// Of the activation.
    pub slope: f32,
    /// Snake in place of an activation, as [`Problem::snake`](conv::Problem::snake) tells: alpha, `[outputs]`.
    pub snake: Option<&'a Tensor<f32>>,
}

impl<T> Default for ConvOptions<'_, T> {
    fn default() -> Self {
        let Problem { stride, dilation, upsample, padding, border, mask, groups, order, activation, slope, .. } =
            Problem::default();
        ConvOptions {
            stride,
            dilation,
            upsample,
            padding,
            border,
            mask,
            groups,
            order,
            bias: None,
            residual: None,
            activation,
            slope,
            snake: None,
        }
    }
}

impl<T: Element> Tensor<T> {
    /// Convolution of `[n, c, h, w]`, or by [`ConvOptions::order`] `[n, h, w, c]`, with `weight`
    /// `[outputs, c / groups, kernel_h, kernel_w]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`conv::prepare`](crate::conv::prepare) and [`Batch::submit`].
    pub fn conv2d(&self, weight: &Tensor<T>, options: &ConvOptions<T>) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.conv2d(self, weight, options))
    }

    /// [`conv2d`](Self::conv2d) in one dimension: `[n, c, w]`, or `[n, w, c]`, with `weight` `[outputs, c / groups, kernel]`.
    ///
    /// # Errors
    /// As there.
    pub fn conv1d(&self, weight: &Tensor<T>, options: &ConvOptions<T>) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.conv1d(self, weight, options))
    }
}

impl Batch {
    /// [`Tensor::conv2d`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn conv2d<T: Element>(
        &mut self,
        x: &Tensor<T>,
        weight: &Tensor<T>,
        options: &ConvOptions<T>,
    ) -> Result<Tensor<T>> {
        self.convolve(x, weight, options, 2)
    }

    /// [`Tensor::conv1d`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn conv1d<T: Element>(
        &mut self,
        x: &Tensor<T>,
        weight: &Tensor<T>,
        options: &ConvOptions<T>,
    ) -> Result<Tensor<T>> {
        self.convolve(x, weight, options, 1)
    }

    fn convolve<T: Element>(
        &mut self,
        x: &Tensor<T>,
        weight: &Tensor<T>,
        options: &ConvOptions<T>,
        dims: usize,
    ) -> Result<Tensor<T>> {
        self.own(OP, "x", x)?;
        self.own(OP, "weight", weight)?;
        let problem = problem_of(x, weight, options, dims).map_err(|kind| kind.of(OP))?;
        let Problem { batch, outputs, order, .. } = problem;
        let ConvOptions { bias, residual, snake, .. } = *options;
        let shape = |arg, have: &[usize], expected: String| Err(ErrorKind::shape(arg, have, expected).of(OP));
        let result = shown(dims, order, batch, outputs, problem.out());
        for (arg, tensor, want) in [("bias", bias, &[outputs][..]), ("residual", residual, &result)] {
            if let Some(tensor) = tensor {
                self.own(OP, arg, tensor)?;
                if tensor.shape() != want {
                    return shape(arg, tensor.shape(), format!("{want:?}"));
                }
            }
        }
        self.alpha(OP, snake, outputs)?;
        let y = self.context().allocate(OP, &result, None)?;
        let mut buffers = Buffers::new(x.buffer(), weight.buffer(), y.buffer());
        if let Some(bias) = bias {
            buffers = buffers.bias(bias.buffer());
        }
        if let Some(residual) = residual {
            buffers = buffers.residual(residual.buffer());
        }
        if let Some(alpha) = snake {
            buffers = buffers.alpha(alpha.buffer());
        }
        let dispatch = conv::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(y)
    }
}

impl Batch {
    /// Refuses an alpha of snake of another shape.
    fn alpha(&self, op: &'static str, alpha: Option<&Tensor<f32>>, outputs: usize) -> Result<()> {
        let Some(alpha) = alpha else { return Ok(()) };
        self.own(op, "alpha", alpha)?;
        match alpha.shape() == [outputs] {
            true => Ok(()),
            false => Err(ErrorKind::shape("alpha", alpha.shape(), format!("[{outputs}]")).of(op)),
        }
    }
}

/// The Problem of these tensors.
fn problem_of<T: Element>(
    x: &Tensor<T>,
    weight: &Tensor<T>,
    options: &ConvOptions<T>,
    dims: usize,
) -> Checked<Problem> {
    let shape = |arg, have: &[usize], expected: String| Err(ErrorKind::shape(arg, have, expected));
    let ConvOptions { order, groups, mut stride, mut dilation, mut upsample, mut padding, .. } = *options;
    let Some((batch, channels, size)) = picture(x.shape(), dims, order) else {
        return shape("x", x.shape(), format!("{} axes", dims + 2));
    };
    let Some([outputs, own, height, width]) = four(weight.shape(), dims, 2) else {
        return shape("weight", weight.shape(), format!("{} axes", dims + 2));
    };
    if own.checked_mul(groups) != Some(channels) {
        return shape("weight", weight.shape(), format!("[outputs, {channels} / {groups}, ..]"));
    }
    if dims == 1 {
        (stride[0], dilation[0], upsample[0]) = (1, 1, 1);
        if let Padding::Sides(sides) = &mut padding {
            sides[..2].fill(0);
        }
    }
    let ConvOptions { border, mask, bias, residual, activation, slope, snake, .. } = *options;
    Ok(Problem {
        batch,
        channels,
        outputs,
        groups,
        size,
        kernel: [height, width],
        stride,
        dilation,
        upsample,
        padding,
        border,
        mask,
        order,
        x: T::DTYPE,
        weight: T::DTYPE,
        y: T::DTYPE,
        bias: bias.map(|_| Bias::of(T::DTYPE)),
        residual: residual.map(|_| Residual::of(T::DTYPE)),
        activation,
        slope,
        snake: snake.map(|_| 0),
        ..Problem::default()
    })
}

/// The axes of a tensor of one or two dimensions as of two: one has a height of 1, at axis `height`.
fn four(shape: &[usize], dims: usize, height: usize) -> Option<[usize; 4]> {
    let mut all = shape.to_vec();
    if dims == 1 && all.len() == 3 {
        all.insert(height, 1);
    } else if dims == 1 {
        return None;
    }
    all.try_into().ok()
}

/// Pictures, channels, and height and width.
fn picture(shape: &[usize], dims: usize, order: Order) -> Option<(usize, usize, [usize; 2])> {
    match order {
        Order::Nhwc => four(shape, dims, 1).map(|[n, h, w, c]| (n, c, [h, w])),
        Order::Nchw => four(shape, dims, 2).map(|[n, c, h, w]| (n, c, [h, w])),
    }
}

/// The shape of pictures of one or two dimensions.
fn shown(dims: usize, order: Order, batch: usize, channels: usize, [height, width]: [usize; 2]) -> Vec<usize> {
    let size = if dims == 1 { vec![width] } else { vec![height, width] };
    match order {
        Order::Nhwc => [vec![batch], size, vec![channels]].concat(),
        Order::Nchw => [vec![batch, channels], size].concat(),
    }
}
