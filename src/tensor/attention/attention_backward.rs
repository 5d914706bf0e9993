//! The gradient of attention on tensors.

use super::{AttentionOptions, Call};
use crate::attention;
use crate::attention_backward::{self, Buffers, Problem};
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "attention_backward";

/// What [`Tensor::attention_backward`] gives.
#[derive(Debug, Clone)]
pub struct AttentionGradients<T: Element> {
    /// As q.
    pub dq: Tensor<T>,
    /// As k.
    pub dk: Tensor<T>,
    /// As v.
    pub dv: Tensor<T>,
    /// `[heads]`, where there are sinks.
    pub dsinks: Option<Tensor<f32>>,
}

/// What the forward call gave, and the gradient of its result.
#[derive(Debug)]
pub struct AttentionResults<'a, T: Element> {
    /// Its result.
    pub o: &'a Tensor<T>,
    /// Its log-sum-exp, from [`Batch::attention_with_lse`].
    pub lse: &'a Tensor<f32>,
    /// The gradient of `o`.
    pub d_o: &'a Tensor<T>,
}

impl<T: Element> Tensor<T> {
    /// The gradient of [`Tensor::attention`] of the queries `self` over `k` and `v`, with the same options: not of keys in pages,
    /// nor of a tree.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] for tensors and tables that do not fit each other, and those of [`attention_backward::prepare`] and
    /// [`Batch::submit`].
    pub fn attention_backward(
        &self,
        k: &Tensor<T>,
        v: &Tensor<T>,
        results: &AttentionResults<T>,
        options: &AttentionOptions,
    ) -> Result<AttentionGradients<T>> {
        let mut batch = self.context().batch();
        let gradients = batch.attention_backward(self, k, v, results, options)?;
        batch.submit()?;
        Ok(gradients)
    }
}

impl Batch {
    /// [`Tensor::attention_backward`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn attention_backward<T: Element>(
        &mut self,
        q: &Tensor<T>,
        k: &Tensor<T>,
        v: &Tensor<T>,
        results: &AttentionResults<T>,
        options: &AttentionOptions,
    ) -> Result<AttentionGradients<T>> {
        let AttentionResults { o, lse, d_o } = *results;
        for (arg, tensor) in [("q", q), ("k", k), ("v", v), ("o", o), ("do", d_o)] {
            self.own(OP, arg, tensor)?;
        }
        self.own(OP, "lse", lse)?;
        if options.mask.is_some_and(|mask| !self.context().same(mask.context)) {
            return Err(ErrorKind::ForeignTensor { arg: "mask" }.of(OP));
        }
        let Call { problem, tables, indices } =
            options.call([q, k, v].map(Tensor::shape)).map_err(|kind| kind.of(OP))?;
        let forward = attention::Problem { x: T::DTYPE, o: T::DTYPE, lse: Some(0), ..problem };
        let o_shape = [&q.shape()[..q.shape().len() - 1], &[forward.value_dim]].concat();
        for (arg, tensor) in [("o", o), ("do", d_o)] {
            if tensor.shape() != o_shape {
                return Err(ErrorKind::shape(arg, tensor.shape(), "that of q with the last axis of v").of(OP));
            }
        }
        // Packed sequences have no axis of batches.
        if lse.shape() != &forward.q_sizes()[usize::from(forward.packed.is_some())..] {
            return Err(ErrorKind::shape("lse", lse.shape(), "[batch, heads, seq_q], packed [heads, total_q]").of(OP));
        }
        let problem = Problem {
            do_layout: forward.o_layout,
            dq_layout: forward.q_layout,
            dk_layout: forward.k_layout,
            dv_layout: forward.v_layout,
            dsinks: forward.sinks.map(|_| 0),
            ..Problem::new(forward)
        };

        let context = self.context().clone();
        let [dq, dk, dv] = [q, k, v].map(|tensor| context.allocate(OP, tensor.shape(), None));
        let (dq, dk, dv) = (dq?, dk?, dv?);
        let dsinks: Option<Tensor<f32>> =
            problem.dsinks.map(|_| context.allocate(OP, &[forward.heads], None)).transpose()?;
        let tables = (!tables.is_empty()).then(|| context.upload(&tables, &[tables.len()])).transpose()?;
        let indices = (!indices.is_empty()).then(|| context.upload(&indices, &[indices.len()])).transpose()?;
        let mut buffers = Buffers::new(
            q.buffer(),
            k.buffer(),
            v.buffer(),
            o.buffer(),
            d_o.buffer(),
            lse.buffer(),
            dq.buffer(),
            dk.buffer(),
            dv.buffer(),
        );
        if let Some(mask) = options.mask {
            buffers = buffers.mask(mask.buffer);
        }
        if let Some(tables) = &tables {
            buffers = buffers.tables(tables.buffer());
        }
        if let Some(indices) = &indices {
            buffers = buffers.indices(indices.buffer());
        }
        if let Some(dsinks) = &dsinks {
            buffers = buffers.dsinks(dsinks.buffer());
        }
        let dispatch = attention_backward::prepare(context.kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(AttentionGradients { dq, dk, dv, dsinks })
    }
}
