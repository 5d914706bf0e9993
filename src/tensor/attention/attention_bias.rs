//! Attention biases as tensors.

use crate::attention_bias::{self, Buckets, Buffers, Kind, Problem};
use crate::{Batch, Element, ErrorKind, Layout, Result, Tensor};

const OP: &str = "attention_bias";

impl Tensor<f32> {
    /// ALiBi's bias `[heads, seq_q, seq_kv]` of these slopes `[heads]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] for slopes of another shape, and those of
    /// [`attention_bias::prepare`](crate::attention_bias::prepare) and [`Batch::submit`].
    pub fn alibi_bias<T: Element>(&self, seq_q: usize, seq_kv: usize) -> Result<Tensor<T>> {
        let mut batch = self.context().batch();
        let bias = batch.alibi_bias(self, seq_q, seq_kv)?;
        batch.submit()?;
        Ok(bias)
    }
}

impl<T: Element> Tensor<T> {
    /// T5's bias `[heads, seq_q, seq_kv]` of this table `[num_buckets, heads]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] for a table of another shape, and those of
    /// [`attention_bias::prepare`](crate::attention_bias::prepare) and [`Batch::submit`].
    pub fn t5_bias(&self, buckets: Buckets, seq_q: usize, seq_kv: usize) -> Result<Tensor<T>> {
        let mut batch = self.context().batch();
        let bias = batch.t5_bias(self, buckets, seq_q, seq_kv)?;
        batch.submit()?;
        Ok(bias)
    }
}

impl Batch {
    /// [`Tensor::alibi_bias`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn alibi_bias<T: Element>(&mut self, slopes: &Tensor<f32>, seq_q: usize, seq_kv: usize) -> Result<Tensor<T>> {
        self.own(OP, "slopes", slopes)?;
        let &[heads] = slopes.shape() else {
            return Err(ErrorKind::shape("slopes", slopes.shape(), "one axis, [heads]").of(OP));
        };
        let bias = self.context().allocate(OP, &[heads, seq_q, seq_kv], None)?;
        let problem = Problem { heads, seq_q, seq_kv, bias: T::DTYPE, ..Problem::default() };
        let buffers = Buffers::alibi(slopes.buffer(), bias.buffer());
        let dispatch = attention_bias::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(bias)
    }

    /// [`Tensor::t5_bias`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn t5_bias<T: Element>(
        &mut self,
        table: &Tensor<T>,
        buckets: Buckets,
        seq_q: usize,
        seq_kv: usize,
    ) -> Result<Tensor<T>> {
        self.own(OP, "table", table)?;
        let heads = match *table.shape() {
            [num_buckets, heads] if num_buckets == buckets.num_buckets => heads,
            ref have => {
                let expected = format!("[{}, heads]", buckets.num_buckets);
                return Err(ErrorKind::shape("table", have, expected).of(OP));
            }
        };
        let bias = self.context().allocate(OP, &[heads, seq_q, seq_kv], None)?;
        let kind = Kind::T5 { buckets, dtype: T::DTYPE, layout: Layout::default() };
        let problem = Problem { heads, seq_q, seq_kv, bias: T::DTYPE, kind, ..Problem::default() };
        let buffers = Buffers::t5(table.buffer(), bias.buffer());
        let dispatch = attention_bias::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(bias)
    }
}
