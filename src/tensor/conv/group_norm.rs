//! Group norm, layer norm over channels and batch norm on tensors.

use crate::activation::Activation;
use crate::conv::Order;
use crate::group_norm::{self, Buffers, Over, Problem, Running, Statistics};
use crate::{Batch, Element, ErrorKind, NormInput, Result, Tensor};

const OP: &str = "group_norm";

/// Options of [`Tensor::group_norm`] and of its gradient.
#[derive(Debug, Clone, Copy)]
pub struct GroupNormOptions<'a> {
    /// What statistics are of.
    pub over: Over,
    /// `[c]`, multiplies each channel.
    pub weight: Option<NormInput<'a>>,
    /// `[c]`, added to each channel.
    pub bias: Option<NormInput<'a>>,
    /// Applied last.
    pub activation: Activation,
    /// Of the activation.
    pub slope: f32,
    /// Added to the variance.
    pub eps: f32,
    /// The order of the axes.
    pub order: Order,
    /// Running means and variances, `[c]` each, of [`Over::Batch`]: x is normalised by them, or with a momentum they are changed.
    pub running: Option<[&'a Tensor<f32>; 2]>,
    /// Training: running statistics are moved towards those of x by this share.
    pub momentum: Option<f32>,
}

impl GroupNormOptions<'_> {
    /// Without weight and bias.
    pub fn of(over: Over) -> Self {
        let Problem { activation, slope, eps, order, .. } = Problem::default();
        GroupNormOptions {
            over,
            weight: None,
            bias: None,
            activation,
            slope,
            eps,
            order,
            running: None,
            momentum: None,
        }
    }
}

/// Pictures, channels, and places as a height and a width, of `[n, c, ..]` or `[n, .., c]`.
pub(super) fn sizes(op: &'static str, shape: &[usize], order: Order) -> Result<(usize, usize, [usize; 2])> {
    let (n, c, places) = match (shape, order) {
        (&[n, c, ref places @ ..], Order::Nchw) => (n, c, places),
        (&[n, ref places @ .., c], Order::Nhwc) => (n, c, places),
        _ => return Err(ErrorKind::shape("x", shape, "at least two axes").of(op)),
    };
    let size = match places.split_last() {
        None => [1, 1],
        Some((&width, outer)) => [outer.iter().fold(1usize, |all, &n| all.saturating_mul(n)), width],
    };
    Ok((n, c, size))
}

impl<T: Element> Tensor<T> {
    /// Group norm, instance norm, layer norm over channels or batch norm of `[n, c, ..]`, or by [`GroupNormOptions::order`] `[n, .., c]`; with
    /// an activation.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`group_norm::prepare`](crate::group_norm::prepare) and [`Batch::submit`].
    pub fn group_norm(&self, options: &GroupNormOptions) -> Result<Tensor<T>> {
        self.at_once(|batch| batch.group_norm(self, options))
    }

    /// The same, and the statistics `[3, sets]` that its gradient takes.
    ///
    /// # Errors
    /// As [`group_norm`](Self::group_norm).
    pub fn group_norm_with_stats(&self, options: &GroupNormOptions) -> Result<(Tensor<T>, Tensor<f32>)> {
        self.at_once(|batch| batch.group_norm_with_stats(self, options))
    }
}

impl Batch {
    /// [`Tensor::group_norm`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn group_norm<T: Element>(&mut self, x: &Tensor<T>, options: &GroupNormOptions) -> Result<Tensor<T>> {
        Ok(self.record_group_norm(x, options, false)?.0)
    }

    /// [`Tensor::group_norm_with_stats`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn group_norm_with_stats<T: Element>(
        &mut self,
        x: &Tensor<T>,
        options: &GroupNormOptions,
    ) -> Result<(Tensor<T>, Tensor<f32>)> {
        let (y, stats) = self.record_group_norm(x, options, true)?;
        Ok((y, stats.expect("they were asked for")))
    }

    fn record_group_norm<T: Element>(
        &mut self,
        x: &Tensor<T>,
        options: &GroupNormOptions,
        with_stats: bool,
    ) -> Result<(Tensor<T>, Option<Tensor<f32>>)> {
        self.own(OP, "x", x)?;
        let GroupNormOptions { over, weight, bias, activation, slope, eps, order, running, momentum } = *options;
        let (batch, channels, size) = sizes(OP, x.shape(), order)?;
        let statistics = match (running, momentum) {
            (None, _) => Statistics::Own,
            (Some(_), None) => Statistics::Given(Running::default()),
            (Some(_), Some(momentum)) => Statistics::Update { running: Running::default(), momentum },
        };
        let problem = Problem {
            batch,
            channels,
            size,
            over,
            statistics,
            order,
            x: T::DTYPE,
            y: T::DTYPE,
            weight: weight.map(|weight| weight.vector()),
            bias: bias.map(|bias| bias.vector()),
            activation,
            slope,
            eps,
            stats: with_stats.then_some(0),
            ..Problem::default()
        };
        let y = self.context().allocate(OP, x.shape(), None)?;
        let mut buffers = Buffers::new(x.buffer(), y.buffer());
        if let Some(weight) = weight {
            weight.check(OP, "weight", self, &[channels])?;
            buffers = buffers.weight(weight.buffer);
        }
        if let Some(bias) = bias {
            bias.check(OP, "bias", self, &[channels])?;
            buffers = buffers.bias(bias.buffer);
        }
        if let Some([mean, variance]) = running {
            for (arg, tensor) in [("running_mean", mean), ("running_variance", variance)] {
                self.own(OP, arg, tensor)?;
                if tensor.shape() != [channels] {
                    return Err(ErrorKind::shape(arg, tensor.shape(), format!("[{channels}]")).of(OP));
                }
            }
            buffers = buffers.running_mean(mean.buffer()).running_variance(variance.buffer());
        }
        let stats = with_stats.then(|| self.context().allocate(OP, &[3, problem.sets()], None)).transpose()?;
        if let Some(stats) = &stats {
            buffers = buffers.stats(stats.buffer());
        }
        let dispatch = group_norm::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok((y, stats))
    }
}
