//! Keys and values of an accepted path, moved together, on tensors.

use super::kv_append::Held;
use crate::kv_move::{self, Buffers, Problem};
use crate::{Batch, Element, ErrorKind, KvCache, Result, Tensor};

const OP: &str = "kv_move";

impl Batch {
    /// Moves what a cache holds at the slots of each batch's `path`, `[batch, depth]`, to the first ones of its `slots`, `[batch, len]`, in place; see
    /// [`kv_move`](crate::kv_move).
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`kv_move::prepare`](crate::kv_move::prepare).
    pub fn kv_move<T: Element>(&mut self, cache: KvCache<T>, slots: &Tensor<i32>, path: &Tensor<i32>) -> Result<()> {
        self.own(OP, "slots", slots)?;
        self.own(OP, "path", path)?;
        let &[batch, len] = slots.shape() else {
            return Err(ErrorKind::shape("slots", slots.shape(), "[batch, len]").of(OP));
        };
        let depth = match path.shape() {
            [b, depth] if *b == batch => *depth,
            have => return Err(ErrorKind::shape("path", have, format!("[{batch}, depth]")).of(OP)),
        };
        let held = cache.held(OP, self)?;
        let Held { cache, pages, page_size, kv_heads, head_dim, value_dim, .. } = held;
        let sizes = Problem { kv_heads, head_dim, value_dim, pages, page_size, cache, ..Problem::default() };
        let mut problem = Problem { batch, len, depth, ..sizes };
        let mut buffers = Buffers::new(held.k, held.v, slots.buffer(), path.buffer());
        if let Some(([k_scale, v_scale], at)) = held.bound() {
            problem.v_scale = at;
            buffers = buffers.k_scale(k_scale).v_scale(v_scale);
        }
        let dispatch = kv_move::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(())
    }
}
