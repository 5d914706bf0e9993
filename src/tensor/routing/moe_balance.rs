//! The loss that balances experts on tensors.

use crate::moe_balance::{self, Buffers, Problem, Score};
use crate::{Batch, Element, ErrorKind, Layout, Result, Tensor};

const OP: &str = "moe_balance";

/// Options of [`Tensor::moe_balance`].
#[derive(Debug, Clone, Copy)]
pub struct BalanceOptions<'a> {
    /// What makes scores of logits.
    pub score: Score,
    /// Multiplies the loss.
    pub alpha: f32,
    /// Sequences, all of one length.
    pub sequences: usize,
    /// Where sequences begin, `[sequences + 1]`, in place of that.
    pub starts: Option<&'a Tensor<u32>>,
}

/// What [`Tensor::moe_balance`] gives.
#[derive(Debug, Clone)]
pub struct Balanced {
    /// `[sequences]`.
    pub loss: Tensor<f32>,
    /// `[n, experts]`: the gradient of the mean of all losses.
    pub dlogits: Tensor<f32>,
}

impl<T: Element> Tensor<T> {
    /// The loss by which DeepSeek-V3 balances experts within each sequence, of logits `[n, experts]` and the experts that were
    /// chosen, `[n, top_k]`; and its gradient.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`moe_balance::prepare`](crate::moe_balance::prepare) and [`Batch::submit`].
    pub fn moe_balance(&self, chosen: &Tensor<u32>, options: &BalanceOptions) -> Result<Balanced> {
        self.at_once(|batch| batch.moe_balance(self, chosen, options))
    }
}

impl Batch {
    /// [`Tensor::moe_balance`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn moe_balance<T: Element>(
        &mut self,
        logits: &Tensor<T>,
        chosen: &Tensor<u32>,
        options: &BalanceOptions,
    ) -> Result<Balanced> {
        self.own(OP, "logits", logits)?;
        self.own(OP, "chosen", chosen)?;
        let shape = |arg, have: &[usize], expected: String| Err(ErrorKind::shape(arg, have, expected).of(OP));
        let &[n, experts] = logits.shape() else { return shape("logits", logits.shape(), "[n, experts]".into()) };
        let top_k = match *chosen.shape() {
            [rows, top_k] if rows == n => top_k,
            _ => return shape("chosen", chosen.shape(), format!("[{n}, top_k]")),
        };
        let BalanceOptions { score, alpha, mut sequences, starts } = *options;
        if let Some(starts) = starts {
            self.own(OP, "starts", starts)?;
            sequences = match *starts.shape() {
                [len] if len > 0 => len - 1,
                _ => return shape("starts", starts.shape(), "[sequences + 1]".into()),
            };
        }
        let context = self.context();
        let loss = context.allocate(OP, &[sequences], None)?;
        let dlogits = context.allocate(OP, &[n, experts], None)?;
        let problem = Problem {
            n,
            experts,
            top_k,
            sequences,
            starts: starts.map(|_| 0),
            logits: T::DTYPE,
            score,
            alpha,
            dlogits: Some(Layout::default()),
            ..Problem::default()
        };
        let mut buffers = Buffers::new(logits.buffer(), chosen.buffer(), loss.buffer()).dlogits(dlogits.buffer());
        if let Some(starts) = starts {
            buffers = buffers.starts(starts.buffer());
        }
        let dispatch = moe_balance::prepare(context.kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(Balanced { loss, dlogits })
    }
}
