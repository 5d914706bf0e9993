//! Sampling on tensors.

use crate::sample::{self, Buffers, History, Problem, Settings, Step, Uniform};
use crate::{Batch, Element, ErrorKind, Layout, Result, Tensor};

const OP: &str = "sample";

/// Options of [`Tensor::sample`].
#[derive(Debug, Clone, Copy, Default)]
pub struct SampleOptions<'a> {
    /// Penalties, temperature and filters.
    pub settings: Settings,
    /// The tokens before, `[.., len]` with the outer axes of the logits; those that do not exist are left out.
    pub history: Option<&'a Tensor<i32>>,
    /// The key of the generator.
    pub seed: u64,
    /// Its step: another one gives other numbers.
    pub step: u32,
}

impl<T: Element> Tensor<T> {
    /// A token of each row of logits `[.., vocab]`: `[..]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] for logits without axes and a history of other rows, and those of
    /// [`sample::prepare`](crate::sample::prepare) and [`Batch::submit`].
    pub fn sample(&self, options: &SampleOptions) -> Result<Tensor<u32>> {
        self.at_once(|batch| batch.sample(self, options))
    }

    /// The same with the probabilities of all tokens, as `self`.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn sample_with_probs(&self, options: &SampleOptions) -> Result<(Tensor<u32>, Tensor<f32>)> {
        self.at_once(|batch| batch.sample_with_probs(self, options))
    }
}

impl Batch {
    /// [`Tensor::sample`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn sample<T: Element>(&mut self, logits: &Tensor<T>, options: &SampleOptions) -> Result<Tensor<u32>> {
        self.record_sample(logits, None, options)
    }

    /// [`Tensor::sample_with_probs`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn sample_with_probs<T: Element>(
        &mut self,
        logits: &Tensor<T>,
        options: &SampleOptions,
    ) -> Result<(Tensor<u32>, Tensor<f32>)> {
        let probs = self.context().allocate(OP, logits.shape(), None)?;
        Ok((self.record_sample(logits, Some(&probs), options)?, probs))
    }

    fn record_sample<T: Element>(
        &mut self,
        logits: &Tensor<T>,
        probs: Option<&Tensor<f32>>,
        options: &SampleOptions,
    ) -> Result<Tensor<u32>> {
        self.own(OP, "logits", logits)?;
        let Some((&vocab, outer)) = logits.shape().split_last() else {
            return Err(
                ErrorKind::Shape { arg: "logits", have: Vec::new(), expected: "at least one axis".into() }.of(OP)
            );
        };
        let mut problem = Problem {
            rows: outer.iter().fold(1usize, |n, &size| n.saturating_mul(size)),
            vocab,
            logits: T::DTYPE,
            settings: options.settings,
            uniform: Uniform::Philox { seed: options.seed, step: Step::At(options.step) },
            probs: probs.map(|_| Layout::default()),
            ..Problem::default()
        };
        let token = self.context().allocate(OP, outer, None)?;
        let mut buffers = Buffers::new(logits.buffer()).token(token.buffer());
        if let Some(probs) = probs {
            buffers = buffers.probs(probs.buffer());
        }
        if let Some(history) = options.history {
            self.own(OP, "history", history)?;
            let len = match history.shape().split_last() {
                Some((&len, rows)) if rows == outer => len,
                _ => {
                    let (have, expected) = (history.shape().to_vec(), format!("{outer:?} and an axis of tokens"));
                    return Err(ErrorKind::Shape { arg: "history", have, expected }.of(OP));
                }
            };
            problem.history = Some(History { len, layout: Layout::default() });
            buffers = buffers.tokens(history.buffer());
        }
        let dispatch = sample::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(token)
    }
}
