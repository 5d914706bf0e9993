//! The gradient of routing on tensors.

use super::moe_route::RouteOptions;
use crate::moe_route_backward::{self, Buffers, Problem};
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "moe_route_backward";

impl<T: Element> Tensor<T> {
    /// The gradient of the logits `[n, experts]` that [`moe_route`](Tensor::moe_route) had, by the experts `[n, top_k]` that it gave
    /// and the gradient of their weights `[n, top_k]`. Bias and groups of the options are not looked at.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`moe_route_backward::prepare`](crate::moe_route_backward::prepare) and [`Batch::submit`].
    pub fn moe_route_backward(
        &self,
        experts: &Tensor<u32>,
        dweights: &Tensor<f32>,
        options: &RouteOptions,
    ) -> Result<Tensor<f32>> {
        self.at_once(|batch| batch.moe_route_backward(self, experts, dweights, options))
    }
}

impl Batch {
    /// [`Tensor::moe_route_backward`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn moe_route_backward<T: Element>(
        &mut self,
        logits: &Tensor<T>,
        chosen: &Tensor<u32>,
        dweights: &Tensor<f32>,
        options: &RouteOptions,
    ) -> Result<Tensor<f32>> {
        self.own(OP, "logits", logits)?;
        self.own(OP, "chosen", chosen)?;
        self.own(OP, "dweights", dweights)?;
        let &[n, experts] = logits.shape() else {
            return Err(ErrorKind::shape("logits", logits.shape(), "[n, experts]").of(OP));
        };
        let RouteOptions { top_k, score, normalize, scale, .. } = *options;
        for (arg, shape) in [("chosen", chosen.shape()), ("dweights", dweights.shape())] {
            if *shape != [n, top_k] {
                return Err(ErrorKind::shape(arg, shape, format!("[{n}, {top_k}]")).of(OP));
            }
        }
        let problem = Problem { n, experts, top_k, logits: T::DTYPE, score, normalize, scale, ..Problem::default() };
        let dlogits = self.context().allocate(OP, &[n, experts], None)?;
        let buffers = Buffers::new(logits.buffer(), chosen.buffer(), dweights.buffer(), dlogits.buffer());
        let dispatch = moe_route_backward::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(dlogits)
    }
}
