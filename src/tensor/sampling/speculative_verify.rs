//! Speculative decoding of chains on tensors.

use crate::speculative_verify::{self, Buffers, Problem};
use crate::{Batch, ErrorKind, Result, Tensor};

const OP: &str = "speculative_verify";

/// What stands of the tokens of each batch, and the token behind that; see [`speculative_verify`](mod@crate::speculative_verify).
#[derive(Debug, Clone)]
pub struct Verified {
    /// How many stand, `[batch]`.
    pub accepted: Tensor<u32>,
    /// Those, one more, then -1: `[batch, len + 1]`.
    pub tokens: Tensor<i32>,
}

impl Tensor<f32> {
    /// Which of the tokens `proposed`, `[batch, len]`, stand, `self` being the target's probabilities `[batch, len + 1, vocab]`, `draft` those they
    /// were drawn from, `[batch, len, vocab]`, and `uniform` numbers in `[0, 1)`, `[batch, len + 1]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`speculative_verify::prepare`](crate::speculative_verify::prepare) and [`Batch::submit`].
    pub fn speculative_verify(
        &self,
        draft: &Tensor<f32>,
        proposed: &Tensor<i32>,
        uniform: &Tensor<f32>,
    ) -> Result<Verified> {
        self.at_once(|batch| batch.speculative_verify(self, draft, proposed, uniform))
    }
}

impl Batch {
    /// [`Tensor::speculative_verify`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn speculative_verify(
        &mut self,
        target: &Tensor<f32>,
        draft: &Tensor<f32>,
        proposed: &Tensor<i32>,
        uniform: &Tensor<f32>,
    ) -> Result<Verified> {
        for (arg, tensor) in [("target", target), ("draft", draft), ("uniform", uniform)] {
            self.own(OP, arg, tensor)?;
        }
        self.own(OP, "proposed", proposed)?;
        let &[batch, len, vocab] = draft.shape() else {
            return Err(ErrorKind::shape("draft", draft.shape(), "[batch, len, vocab]").of(OP));
        };
        for (arg, have, want) in [
            ("target", target.shape(), &[batch, len.saturating_add(1), vocab][..]),
            ("proposed", proposed.shape(), &[batch, len]),
            ("uniform", uniform.shape(), &[batch, len.saturating_add(1)]),
        ] {
            if have != want {
                return Err(ErrorKind::shape(arg, have, format!("{want:?}")).of(OP));
            }
        }
        let context = self.context().clone();
        let accepted = context.allocate(OP, &[batch], None)?;
        let tokens = context.allocate(OP, uniform.shape(), None)?;
        let problem = Problem { batch, len, vocab, ..Problem::default() };
        let buffers = Buffers::new(
            draft.buffer(),
            target.buffer(),
            proposed.buffer(),
            uniform.buffer(),
            accepted.buffer(),
            tokens.buffer(),
        );
        self.push(speculative_verify::prepare(context.kernels(), &problem, buffers)?);
        Ok(Verified { accepted, tokens })
    }
}
