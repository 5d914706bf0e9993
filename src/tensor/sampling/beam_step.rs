//! A step of beam search on tensors.

use crate::beam_step::{self, Buffers, Problem};
use crate::{Batch, Element, ErrorKind, Result, Tensor};

const OP: &str = "beam_step";

/// Options of [`Tensor::beam_step`].
#[derive(Debug, Clone, Copy)]
pub struct BeamOptions {
    /// Continuations to find; twice the beams if `None`.
    pub top: Option<usize>,
    /// The logits are made log-probabilities first.
    pub log_softmax: bool,
}

impl Default for BeamOptions {
    fn default() -> Self {
        BeamOptions { top: None, log_softmax: true }
    }
}

/// The best continuations of each batch, `[batch, top]`, the best first; see [`beam_step`](mod@crate::beam_step).
#[derive(Debug, Clone)]
pub struct Beams {
    /// Their scores.
    pub scores: Tensor<f32>,
    /// The beams that they continue.
    pub beams: Tensor<u32>,
    /// Their tokens.
    pub tokens: Tensor<u32>,
}

impl<T: Element> Tensor<T> {
    /// The best continuations of beams with these logits, `[batch, beams, vocab]`, and scores, `[batch, beams]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`beam_step::prepare`](crate::beam_step::prepare) and [`Batch::submit`].
    pub fn beam_step(&self, scores: &Tensor<f32>, options: &BeamOptions) -> Result<Beams> {
        self.at_once(|batch| batch.beam_step(self, scores, options))
    }
}

impl Batch {
    /// [`Tensor::beam_step`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn beam_step<T: Element>(
        &mut self,
        logits: &Tensor<T>,
        scores: &Tensor<f32>,
        options: &BeamOptions,
    ) -> Result<Beams> {
        self.own(OP, "logits", logits)?;
        self.own(OP, "scores", scores)?;
        let &[batch, beams, vocab] = logits.shape() else {
            return Err(ErrorKind::shape("logits", logits.shape(), "[batch, beams, vocab]").of(OP));
        };
        if *scores.shape() != [batch, beams] {
            return Err(ErrorKind::shape("scores", scores.shape(), format!("[{batch}, {beams}]")).of(OP));
        }
        let top = options.top.unwrap_or(beams.saturating_mul(2));
        let log_softmax = options.log_softmax;
        let problem = Problem { batch, beams, vocab, top, logits: T::DTYPE, log_softmax, ..Problem::default() };
        let context = self.context().clone();
        let out = Beams {
            scores: context.allocate(OP, &[batch, top], None)?,
            beams: context.allocate(OP, &[batch, top], None)?,
            tokens: context.allocate(OP, &[batch, top], None)?,
        };
        let Beams { scores: out_scores, beams: out_beams, tokens } = &out;
        let [given, a, b, c] = [scores.buffer(), out_scores.buffer(), out_beams.buffer(), tokens.buffer()];
        let buffers = Buffers::new(logits.buffer(), given, a, b, c);
        self.push(beam_step::prepare(context.kernels(), &problem, buffers)?);
        Ok(out)
    }
}
