//! Attention on tensors.

mod attention_bias;

use crate::attention::{self, Alibi, Buffers, Packed, Paged, Problem, Tree, bshd};
use crate::tensor::SoftmaxMask;
use crate::{Batch, Element, Error, ErrorKind, Result, Tensor, attention_merge};

const OP: &str = "attention";

/// Options of [`Tensor::attention`]. Small tables come from the host.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttentionOptions<'a> {
    /// `1 / sqrt(head_dim)` if `None`.
    pub scale: Option<f32>,
    /// Aligned to the bottom right.
    pub causal: bool,
    /// Keys to the left and to the right of a query's own that it sees.
    pub window: [Option<usize>; 2],
    /// 0 for none.
    pub softcap: f32,
    /// Tensors are `[batch, seq, heads, dim]` rather than `[batch, heads, seq, dim]`.
    pub tokens_first: bool,
    /// Broadcast to `[batch, heads, seq_q, seq_kv]` by NumPy's rules.
    pub mask: Option<SoftmaxMask<'a>>,
    /// ALiBi, `[heads]` or `[batch, heads]`.
    pub slopes: Option<&'a [f32]>,
    /// `[heads]`.
    pub sinks: Option<&'a [f32]>,
    /// Of the last `seq_q` keys as a tree, `[seq_q]` or `[batch, seq_q]`; see [`Tree`].
    pub parents: Option<&'a [u32]>,
    /// q and o are `[total_q, heads, dim]`, and k and v `[total_kv, kv_heads, dim]` where they are not in pages:
    /// sequence `b` has tokens `cu[b]` up to `cu[b + 1]` of them.
    pub packed: Option<[&'a [u32]; 2]>,
    /// k and v are `[pages, page_size, kv_heads, dim]`: the table of pages, `[batch, max_pages]`.
    pub block_table: Option<&'a [u32]>,
    /// Keys of each sequence.
    pub lengths: Option<&'a [u32]>,
}

impl<T: Element> Tensor<T> {
    /// Attention of the queries `self` over `k` and `v`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] for tensors and tables that do not fit each other, and those of
    /// [`attention::prepare`](crate::attention::prepare) and [`Batch::submit`].
    pub fn attention(&self, k: &Tensor<T>, v: &Tensor<T>, options: &AttentionOptions) -> Result<Tensor<T>> {
        let mut batch = self.context().batch();
        let o = batch.attention(self, k, v, options)?;
        batch.submit()?;
        Ok(o)
    }

    /// Joins partial results `[splits, .., dim]` by their log-sum-exps `[splits, ..]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`attention_merge::prepare`] and [`Batch::submit`].
    pub fn attention_merge(&self, lse: &Tensor<f32>) -> Result<(Tensor<T>, Tensor<f32>)> {
        let mut batch = self.context().batch();
        let merged = batch.attention_merge(self, lse)?;
        batch.submit()?;
        Ok(merged)
    }
}

impl Batch {
    /// [`Tensor::attention`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn attention<T: Element>(
        &mut self,
        q: &Tensor<T>,
        k: &Tensor<T>,
        v: &Tensor<T>,
        options: &AttentionOptions,
    ) -> Result<Tensor<T>> {
        Ok(self.record_attention([q, k, v], options, false)?.0)
    }

    /// The same with the log-sum-exp, `[batch, heads, seq_q]`, packed `[heads, total_q]`.
    ///
    /// # Errors
    /// As [`Tensor::attention`].
    pub fn attention_with_lse<T: Element>(
        &mut self,
        q: &Tensor<T>,
        k: &Tensor<T>,
        v: &Tensor<T>,
        options: &AttentionOptions,
    ) -> Result<(Tensor<T>, Tensor<f32>)> {
        let (o, lse) = self.record_attention([q, k, v], options, true)?;
        Ok((o, lse.expect("it was asked for")))
    }

    fn record_attention<T: Element>(
        &mut self,
        [q, k, v]: [&Tensor<T>; 3],
        options: &AttentionOptions,
        with_lse: bool,
    ) -> Result<(Tensor<T>, Option<Tensor<f32>>)> {
        let shape = |arg, have: &[usize], expected: &str| {
            Err(Error { op: OP, kind: ErrorKind::Shape { arg, have: have.to_vec(), expected: expected.into() } })
        };
        for (arg, tensor) in [("q", q), ("k", k), ("v", v)] {
            self.own(OP, arg, tensor)?;
        }
        let first = options.tokens_first;
        let (batch, heads, mut seq_q, d) = match (options.packed, q.shape()) {
            (Some([cu_q, _]), &[_, heads, d]) if !cu_q.is_empty() => (cu_q.len() - 1, heads, 0, d),
            (None, &[batch, n1, n2, d]) => (batch, if first { n2 } else { n1 }, if first { n1 } else { n2 }, d),
            (Some(_), have) => return shape("q", have, "[total_q, heads, dim], with starts"),
            (None, have) => return shape("q", have, "four axes"),
        };
        let (kv_heads, mut seq_kv) = match (options.block_table, options.packed, k.shape()) {
            (Some(_), _, &[_, _, kv_heads, k_d]) if k_d == d => (kv_heads, 0),
            (None, Some(_), &[_, kv_heads, k_d]) if k_d == d => (kv_heads, 0),
            (None, None, &[k_batch, n1, n2, k_d]) if k_batch == batch && k_d == d => {
                if first {
                    (n2, n1)
                } else {
                    (n1, n2)
                }
            }
            (_, _, have) => return shape("k", have, "the batch and the head dim of q, by its layout"),
        };
        let dv = v.shape().last().copied().unwrap_or(0);
        if v.shape().len() != k.shape().len() || v.shape()[..v.shape().len() - 1] != k.shape()[..k.shape().len() - 1] {
            return shape("v", v.shape(), "that of k but for the last axis");
        }

        let mut problem = Problem {
            value_dim: dv,
            x: T::DTYPE,
            o: T::DTYPE,
            causal: options.causal,
            window: options.window,
            softcap: options.softcap,
            lse: with_lse.then_some(0),
            ..Problem::new(batch, heads, kv_heads, d)
        };
        problem.scale = options.scale.unwrap_or(problem.scale);
        let mut indices: Vec<u32> = Vec::new();
        let mut put = |words: &[u32]| {
            indices.extend(words);
            indices.len() - words.len()
        };
        let longest =
            |cu: &[u32]| cu.windows(2).map(|pair| pair[1].saturating_sub(pair[0]) as usize).max().unwrap_or(0);
        if let Some([cu_q, cu_kv]) = options.packed {
            seq_q = longest(cu_q).min(q.shape()[0]);
            let mut total_kv = 0;
            if options.block_table.is_none() {
                if cu_kv.len() != cu_q.len() {
                    return shape("cu_kv", &[cu_kv.len()], "as many starts as q has");
                }
                total_kv = k.shape()[0];
                seq_kv = longest(cu_kv).min(total_kv);
            }
            problem.packed = Some(Packed { cu_q: put(cu_q), cu_kv: put(cu_kv), total_q: q.shape()[0], total_kv });
        }
        if let Some(table) = options.block_table {
            if batch == 0 || !table.len().is_multiple_of(batch) {
                return shape("block_table", &[table.len()], "[batch, max_pages]");
            }
            let (pages, page_size, max_pages) = (k.shape()[0], k.shape()[1], table.len() / batch);
            seq_kv = max_pages * page_size;
            problem.paged = Some(Paged { pages, page_size, block_table: put(table), max_pages });
        }
        if let Some(lengths) = options.lengths {
            if lengths.len() != batch {
                return shape("lengths", &[lengths.len()], "[batch]");
            }
            problem.lengths = Some(put(lengths));
        }
        (problem.seq_q, problem.seq_kv) = (seq_q, seq_kv);
        if let Some(parents) = options.parents {
            if parents.len() != seq_q && parents.len() != batch * seq_q {
                return shape("parents", &[parents.len()], "[seq_q] or [batch, seq_q]");
            }
            problem.tree = Some(Tree { parents: put(parents), per_batch: parents.len() != seq_q });
        }
        let mut tables: Vec<f32> = Vec::new();
        if let Some(slopes) = options.slopes {
            if slopes.len() != heads && slopes.len() != batch * heads {
                return shape("slopes", &[slopes.len()], "[heads] or [batch, heads]");
            }
            problem.alibi = Some(Alibi { slopes: 0, per_batch: slopes.len() != heads });
            tables.extend(slopes);
        }
        if let Some(sinks) = options.sinks {
            if sinks.len() != heads {
                return shape("sinks", &[sinks.len()], "[heads]");
            }
            problem.sinks = Some(tables.len());
            tables.extend(sinks);
        }
        let packed = options.packed.is_some();
        if first && !packed {
            (problem.q_layout, problem.o_layout) = (bshd(heads, seq_q, d), bshd(heads, seq_q, dv));
            if options.block_table.is_none() {
                (problem.k_layout, problem.v_layout) = (bshd(kv_heads, seq_kv, d), bshd(kv_heads, seq_kv, dv));
            }
        }
        if let Some(mask) = options.mask {
            if !self.context().same(mask.context) {
                return Err(Error { op: OP, kind: ErrorKind::ForeignTensor { arg: "mask" } });
            }
            problem.mask = attention::broadcast(mask.kind, mask.shape, [batch, heads, seq_q, seq_kv]);
            if problem.mask.is_none() {
                return shape("mask", mask.shape, "one that broadcasts to [batch, heads, seq_q, seq_kv]");
            }
        }

        let context = self.context().clone();
        let o_shape = [&q.shape()[..q.shape().len() - 1], &[dv]].concat();
        let o = context.allocate(OP, &o_shape, None)?;
        let lse_shape = if packed { vec![heads, q.shape()[0]] } else { vec![batch, heads, seq_q] };
        let lse: Option<Tensor<f32>> = with_lse.then(|| context.allocate(OP, &lse_shape, None)).transpose()?;
        let tables = (!tables.is_empty()).then(|| context.upload(&tables, &[tables.len()])).transpose()?;
        let indices = (!indices.is_empty()).then(|| context.upload(&indices, &[indices.len()])).transpose()?;
        let mut buffers = Buffers::new(q.buffer(), k.buffer(), v.buffer(), o.buffer());
        if let Some(mask) = options.mask {
            buffers = buffers.mask(mask.buffer);
        }
        if let Some(tables) = &tables {
            buffers = buffers.tables(tables.buffer());
        }
        if let Some(indices) = &indices {
            buffers = buffers.indices(indices.buffer());
        }
        if let Some(lse) = &lse {
            buffers = buffers.lse(lse.buffer());
        }
        let dispatch = attention::prepare(context.kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok((o, lse))
    }

    /// [`Tensor::attention_merge`], recorded.
    ///
    /// # Errors
    /// As there.
    pub fn attention_merge<T: Element>(
        &mut self,
        o: &Tensor<T>,
        lse: &Tensor<f32>,
    ) -> Result<(Tensor<T>, Tensor<f32>)> {
        const OP: &str = "attention_merge";
        let shape = |arg, have: &[usize], expected: &str| {
            Err(Error { op: OP, kind: ErrorKind::Shape { arg, have: have.to_vec(), expected: expected.into() } })
        };
        self.own(OP, "o", o)?;
        self.own(OP, "lse", lse)?;
        let &[splits, ref outer @ .., dim] = o.shape() else {
            return shape("o", o.shape(), "[splits, .., dim]");
        };
        if lse.shape() != &o.shape()[..o.shape().len() - 1] {
            return shape("lse", lse.shape(), "that of o without its last axis");
        }
        let out = self.context().allocate(OP, &[outer, &[dim]].concat(), None)?;
        let lse_out = self.context().allocate(OP, outer, None)?;
        let rows = outer.iter().fold(1usize, |n, &size| n.saturating_mul(size));
        let (x, y, lse_at) = (T::DTYPE, T::DTYPE, Some(0));
        let problem = attention_merge::Problem { splits, rows, dim, x, y, lse_out: lse_at, ..Default::default() };
        let buffers = attention_merge::Buffers::new(o.buffer(), lse.buffer(), out.buffer()).lse_out(lse_out.buffer());
        let dispatch = attention_merge::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok((out, lse_out))
    }
}
