//! Routing on tensors.

use crate::moe_route::{self, Buffers, Problem, Score};
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "moe_route";

/// Options of [`Tensor::moe_route`].
#[derive(Debug, Clone, Copy)]
pub struct RouteOptions<'a> {
    /// Experts that are chosen for a token.
    pub top_k: usize,
    /// What makes scores of logits.
    pub score: Score,
    /// `[experts]`, added to the scores for the choice only.
    pub bias: Option<&'a Tensor<f32>>,
    /// Groups of neighbouring experts.
    pub groups: usize,
    /// Groups whose experts may be chosen.
    pub top_groups: usize,
    /// Weights of a token are divided by their sum.
    pub normalize: bool,
    /// Multiplies the weights.
    pub scale: f32,
}

impl RouteOptions<'_> {
    /// Softmax, normalised, no bias, one group.
    pub const fn new(top_k: usize) -> Self {
        let score = Score::Softmax;
        RouteOptions { top_k, score, bias: None, groups: 1, top_groups: 1, normalize: true, scale: 1.0 }
    }
}

/// What [`Tensor::moe_route`] gives.
#[derive(Debug, Clone)]
pub struct Routed {
    /// `[n, top_k]`, the best first.
    pub experts: Tensor<u32>,
    /// `[n, top_k]`.
    pub weights: Tensor<f32>,
    /// `[n * top_k]`: pairs `token * top_k + choice`, by expert.
    pub order: Tensor<u32>,
    /// `[experts + 1]`: where the pairs of each expert begin in `order`.
    pub offsets: Tensor<u32>,
    /// `[experts]`: how many they are.
    pub counts: Tensor<u32>,
}

impl<T: Element> Tensor<T> {
    /// The experts of each token by its logits, `[n, experts]`, their weights, and all pairs of them sorted by expert.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`moe_route::prepare`](crate::moe_route::prepare) and [`Batch::submit`].
    pub fn moe_route(&self, options: &RouteOptions) -> Result<Routed> {
        self.at_once(|batch| batch.moe_route(self, options))
    }
}

impl Batch {
    /// [`Tensor::moe_route`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn moe_route<T: Element>(&mut self, logits: &Tensor<T>, options: &RouteOptions) -> Result<Routed> {
        self.own(OP, "logits", logits)?;
        let &[n, experts] = logits.shape() else {
            return Err(ErrorKind::shape("logits", logits.shape(), "[n, experts]").of(OP));
        };
        let RouteOptions { top_k, score, bias, groups, top_groups, normalize, scale } = *options;
        let context = self.context();
        let routed = Routed {
            experts: context.allocate(OP, &[n, top_k], None)?,
            weights: context.allocate(OP, &[n, top_k], None)?,
            order: context.allocate(OP, &[n.saturating_mul(top_k)], None)?,
            offsets: context.allocate(OP, &[experts + 1], None)?,
            counts: context.allocate(OP, &[experts], None)?,
        };
        let mut buffers = Buffers::new(
            logits.buffer(),
            routed.experts.buffer(),
            routed.weights.buffer(),
            routed.order.buffer(),
            routed.offsets.buffer(),
        );
        buffers = buffers.counts(routed.counts.buffer());
        if let Some(bias) = bias {
            self.own(OP, "bias", bias)?;
            if *bias.shape() != [experts] {
                return Err(ErrorKind::shape("bias", bias.shape(), format!("[{experts}]")).of(OP));
            }
            buffers = buffers.bias(bias.buffer());
        }
        let problem = Problem {
            n,
            experts,
            top_k,
            logits: T::DTYPE,
            score,
            bias: bias.map(|_| 0),
            groups,
            top_groups,
            normalize,
            scale,
            counts: Some(0),
            ..Problem::default()
        };
        let dispatch = moe_route::prepare(context.kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(routed)
    }
}
