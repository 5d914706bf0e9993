//! Gradients of slopes and tables of attention biases as tensors.

use crate::attention_bias::Buckets;
use crate::attention_bias_backward::{self, Buffers, Kind, Problem};
use crate::{Batch, Element, ErrorKind, Layout, Result, Tensor};

const OP: &str = "attention_bias_backward";

impl<T: Element> Tensor<T> {
    /// The gradient of the slopes `[heads]` of [`alibi_bias`](Tensor::alibi_bias) by that of the bias, `[heads, seq_q, seq_kv]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`attention_bias_backward::prepare`](crate::attention_bias_backward::prepare) and
    /// [`Batch::submit`].
    pub fn alibi_bias_backward(&self) -> Result<Tensor<f32>> {
        self.at_once(|batch| batch.alibi_bias_backward(self))
    }

    /// The gradient of the table `[num_buckets, heads]` of [`t5_bias`](Tensor::t5_bias) by that of the bias, `[heads, seq_q, seq_kv]`.
    ///
    /// # Errors
    /// As [`alibi_bias_backward`](Self::alibi_bias_backward).
    pub fn t5_bias_backward(&self, buckets: Buckets) -> Result<Tensor<f32>> {
        self.at_once(|batch| batch.t5_bias_backward(self, buckets))
    }
}

impl Batch {
    /// [`Tensor::alibi_bias_backward`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn alibi_bias_backward<T: Element>(&mut self, dbias: &Tensor<T>) -> Result<Tensor<f32>> {
        self.record_bias_backward(dbias, None)
    }

    /// [`Tensor::t5_bias_backward`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn t5_bias_backward<T: Element>(&mut self, dbias: &Tensor<T>, buckets: Buckets) -> Result<Tensor<f32>> {
        self.record_bias_backward(dbias, Some(buckets))
    }

    fn record_bias_backward<T: Element>(&mut self, dbias: &Tensor<T>, buckets: Option<Buckets>) -> Result<Tensor<f32>> {
        self.own(OP, "dbias", dbias)?;
        let &[heads, seq_q, seq_kv] = dbias.shape() else {
            return Err(ErrorKind::shape("dbias", dbias.shape(), "[heads, seq_q, seq_kv]").of(OP));
        };
        let problem = Problem { heads, seq_q, seq_kv, dbias: T::DTYPE, ..Problem::default() };
        let (problem, out) = match buckets {
            None => (problem, self.context().allocate(OP, &[heads], None)?),
            Some(buckets) => {
                let kind = Kind::T5 { buckets, layout: Layout::default() };
                (Problem { kind, ..problem }, self.context().allocate(OP, &[buckets.num_buckets, heads], None)?)
            }
        };
        let buffers = match buckets {
            None => Buffers::alibi(dbias.buffer(), out.buffer()),
            Some(_) => Buffers::t5(dbias.buffer(), out.buffer()),
        };
        let dispatch = attention_bias_backward::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(out)
    }
}
