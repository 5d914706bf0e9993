//! Speculative decoding of trees on tensors.

use crate::attention::Tree;
use crate::speculative_tree::{self, Accept, Buffers, Problem, Typical};
use crate::{Batch, ErrorKind, Layout, Result, Tensor};

const OP: &str = "speculative_tree";

/// Options of [`Tensor::speculative_tree`].
#[derive(Debug, Clone, Copy, Default)]
pub struct TreeOptions<'a> {
    /// Nodes of a path at most; all of a tree if `None`.
    pub depth: Option<usize>,
    /// Medusa's typical acceptance: `epsilon` and `delta`, and the target's probabilities `[batch, len + 1, vocab]`. Without it the
    /// path is that of the tokens that the target has drawn.
    pub typical: Option<(f32, f32, &'a Tensor<f32>)>,
}

/// The path that stands in each batch, and the token behind it; see [`speculative_tree`](mod@crate::speculative_tree).
#[derive(Debug, Clone)]
pub struct TreeVerified {
    /// Nodes of the path, `[batch]`.
    pub accepted: Tensor<u32>,
    /// Their tokens, one more, then -1: `[batch, depth + 1]`.
    pub tokens: Tensor<i32>,
    /// Their numbers, then -1: `[batch, depth]`.
    pub path: Tensor<i32>,
}

impl Tensor<i32> {
    /// Which path stands of trees of the tokens `self`, `[batch, len]`, with `parents` `[len]` or `[batch, len]`, and the target's own tokens at each
    /// place, `[batch, len + 1]`, as [`Tensor::sample`] gives them.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`speculative_tree::prepare`](crate::speculative_tree::prepare) and [`Batch::submit`].
    pub fn speculative_tree(
        &self,
        parents: &Tensor<i32>,
        drawn: &Tensor<u32>,
        options: &TreeOptions,
    ) -> Result<TreeVerified> {
        self.at_once(|batch| batch.speculative_tree(self, parents, drawn, options))
    }
}

impl Batch {
    /// [`Tensor::speculative_tree`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn speculative_tree(
        &mut self,
        proposed: &Tensor<i32>,
        parents: &Tensor<i32>,
        drawn: &Tensor<u32>,
        options: &TreeOptions,
    ) -> Result<TreeVerified> {
        let shape = |arg, have: &[usize], want: String| Err(ErrorKind::shape(arg, have, want).of(OP));
        self.own(OP, "proposed", proposed)?;
        self.own(OP, "parents", parents)?;
        self.own(OP, "drawn", drawn)?;
        let &[batch, len] = proposed.shape() else {
            return shape("proposed", proposed.shape(), "[batch, len]".into());
        };
        let per_batch = match parents.shape() {
            [n] if *n == len => false,
            [b, n] if [*b, *n] == [batch, len] => true,
            have => return shape("parents", have, format!("[{len}] or [{batch}, {len}]")),
        };
        let places = len.saturating_add(1);
        if *drawn.shape() != [batch, places] {
            return shape("drawn", drawn.shape(), format!("[{batch}, {places}]"));
        }
        let mut accept = Accept::Match;
        if let Some((epsilon, delta, target)) = options.typical {
            self.own(OP, "target", target)?;
            let vocab = match target.shape() {
                [b, n, vocab] if [*b, *n] == [batch, places] => *vocab,
                have => return shape("target", have, format!("[{batch}, {places}, vocab]")),
            };
            accept = Accept::Typical(Typical { vocab, epsilon, delta, target: Layout::default() });
        }
        let depth = options.depth.unwrap_or(len);
        let tree = Tree { parents: 0, per_batch };
        let problem = Problem { batch, len, depth, tree, accept, ..Problem::default() };
        let context = self.context().clone();
        let out = TreeVerified {
            accepted: context.allocate(OP, &[batch], None)?,
            tokens: context.allocate(OP, &[batch, depth.saturating_add(1)], None)?,
            path: context.allocate(OP, &[batch, depth], None)?,
        };
        let [a, b, c] = [out.accepted.buffer(), out.tokens.buffer(), out.path.buffer()];
        let mut buffers = Buffers::new(parents.buffer(), proposed.buffer(), a, b, c).drawn(drawn.buffer());
        if let Some((_, _, target)) = options.typical {
            buffers = buffers.target(target.buffer());
        }
        self.push(speculative_tree::prepare(context.kernels(), &problem, buffers)?);
        Ok(out)
    }
}
