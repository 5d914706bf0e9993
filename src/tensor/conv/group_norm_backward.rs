//! The gradients of group norm, layer norm over channels and batch norm on tensors.

use super::group_norm::{GroupNormOptions, sizes};
use crate::activation::Activation;
use crate::group_norm::{self, Running, Statistics};
use crate::group_norm_backward::{self, Buffers, Problem};
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "group_norm_backward";

/// Gradients of [`Tensor::group_norm`].
#[derive(Debug, Clone)]
pub struct GroupNormGradients<T> {
    /// Of `x`.
    pub dx: Tensor<T>,
    /// `[c]`: of the weight, where the options have one.
    pub dweight: Option<Tensor<f32>>,
    /// `[c]`: of the bias, where the options have one.
    pub dbias: Option<Tensor<f32>>,
}

impl<T: Element> Tensor<T> {
    /// The gradients of [`group_norm`](Tensor::group_norm) with these options: `self` is what it normalised, `dy` the gradient of its result,
    /// `stats` what [`group_norm_with_stats`](Tensor::group_norm_with_stats) gave; none where the options have running statistics and no
    /// momentum.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`group_norm_backward::prepare`](crate::group_norm_backward::prepare) and [`Batch::submit`].
    pub fn group_norm_backward(
        &self,
        dy: &Tensor<T>,
        stats: Option<&Tensor<f32>>,
        options: &GroupNormOptions,
    ) -> Result<GroupNormGradients<T>> {
        self.at_once(|batch| batch.group_norm_backward(self, dy, stats, options))
    }
}

impl Batch {
    /// [`Tensor::group_norm_backward`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn group_norm_backward<T: Element>(
        &mut self,
        x: &Tensor<T>,
        dy: &Tensor<T>,
        stats: Option<&Tensor<f32>>,
        options: &GroupNormOptions,
    ) -> Result<GroupNormGradients<T>> {
        self.own(OP, "x", x)?;
        self.own(OP, "dy", dy)?;
        if dy.shape() != x.shape() {
            return Err(ErrorKind::shape("dy", dy.shape(), format!("{:?}, as x", x.shape())).of(OP));
        }
        let GroupNormOptions { over, weight, bias, activation, slope, eps, order, running, momentum } = *options;
        let (batch, channels, size) = sizes(OP, x.shape(), order)?;
        let given = running.filter(|_| momentum.is_none());
        let bent = activation != Activation::None;
        let forward = group_norm::Problem {
            batch,
            channels,
            size,
            over,
            statistics: given.map_or(Statistics::Own, |_| Statistics::Given(Running::default())),
            order,
            x: T::DTYPE,
            y: T::DTYPE,
            weight: weight.map(|weight| weight.vector()),
            bias: bias.map(|bias| bias.vector()),
            activation,
            slope,
            eps,
            stats: stats.map(|_| 0),
            ..group_norm::Problem::default()
        };
        let dx = self.context().allocate(OP, x.shape(), None)?;
        let column = |asked: bool| asked.then(|| self.context().allocate(OP, &[channels], None)).transpose();
        let (dweight, dbias) = (column(weight.is_some())?, column(bias.is_some())?);
        let mut buffers = Buffers::new(x.buffer(), dy.buffer()).dx(dx.buffer());
        if let Some(weight) = weight {
            weight.check(OP, "weight", self, &[channels])?;
            buffers = buffers.weight(weight.buffer);
        }
        if let Some(bias) = bias {
            bias.check(OP, "bias", self, &[channels])?;
            buffers = if bent { buffers.bias(bias.buffer) } else { buffers };
        }
        let sets = [3, forward.sets()];
        let [mean, variance] = given.map_or([None; 2], |all| all.map(Some));
        for (arg, tensor, shape) in [
            ("stats", stats, &sets[..]),
            ("running_mean", mean, &[channels]),
            ("running_variance", variance, &[channels]),
        ] {
            let Some(tensor) = tensor else { continue };
            self.own(OP, arg, tensor)?;
            if tensor.shape() != shape {
                return Err(ErrorKind::shape(arg, tensor.shape(), format!("{shape:?}")).of(OP));
            }
            buffers = match arg {
                "stats" => buffers.stats(tensor.buffer()),
                "running_mean" => buffers.running_mean(tensor.buffer()),
                _ => buffers.running_variance(tensor.buffer()),
            };
        }
        if let Some(dweight) = &dweight {
            buffers = buffers.dweight(dweight.buffer());
        }
        if let Some(dbias) = &dbias {
            buffers = buffers.dbias(dbias.buffer());
        }
        let problem = Problem {
            forward,
            dx: Some(T::DTYPE),
            dweight: dweight.as_ref().map(|_| 0),
            dbias: dbias.as_ref().map(|_| 0),
            ..Problem::default()
        };
        let dispatch = group_norm_backward::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(GroupNormGradients { dx, dweight, dbias })
    }
}
