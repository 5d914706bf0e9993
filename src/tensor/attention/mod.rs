//! Attention on tensors.

mod attention_backward;
mod attention_bias;
mod attention_bias_backward;
mod attention_merge;
mod attention_merge_backward;
pub(super) mod kv_append;
mod kv_move;

use self::kv_append::Held;
use crate::attention::{self, Alibi, Buffers, Codes, Packed, Paged, Problem, Segments, Tree, bshd};
use crate::error::Checked;
use crate::gemm::Precision;
use crate::kv_append::Cache;
use crate::quantize::Format;
use crate::tensor::SoftmaxMask;
use crate::{Batch, Element, ErrorKind, KvCache, Layout, Result, Tensor};

pub use attention_backward::{AttentionGradients, AttentionResults};

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
    /// What q, k and v of bf16 may be taken as.
    pub inputs: Precision,
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
    /// The number of each key's segment, `[seq_kv]` or `[batch, seq_kv]`, of packed keys `[total_kv]`; and the flags of each segment. See
    /// [`Segments`].
    pub segments: Option<[&'a [u32]; 2]>,
    /// q and o are `[total_q, heads, dim]`, and k and v `[total_kv, kv_heads, dim]` where they are not in pages:
    /// sequence `b` has tokens `cu[b]` up to `cu[b + 1]` of them.
    pub packed: Option<[&'a [u32]; 2]>,
    /// k and v are `[pages, page_size, kv_heads, dim]`: the table of pages, `[batch, max_pages]`.
    pub block_table: Option<&'a [u32]>,
    /// Keys of each sequence.
    pub lengths: Option<&'a [u32]>,
}

/// What tensors and options come to: a Problem but for its dtypes and LSE, and its small tables.
struct Call {
    problem: Problem,
    tables: Vec<f32>,
    indices: Vec<u32>,
}

/// Keys and values: their shapes and memory; of codes what these are, the scales, and where those of values start.
struct Keys<'a> {
    shapes: [&'a [usize]; 2],
    buffers: [&'a wgpu::Buffer; 2],
    codes: Option<(Format, &'a wgpu::Buffer, usize)>,
}

impl<'a> Held<'a> {
    fn codes(&self) -> Option<(Format, &'a wgpu::Buffer, usize)> {
        let format = if self.cache == Cache::E4m3 { Format::E4m3 } else { Format::Int8 };
        self.scales.map(|scales| (format, scales, self.v_scale()))
    }
}

impl AttentionOptions<'_> {
    /// The call on tensors of these shapes.
    fn call(&self, [q, k, v]: [&[usize]; 3]) -> Checked<Call> {
        let wrong = |arg, have: &[usize], expected: &str| Err(ErrorKind::shape(arg, have, expected));
        let fits = |holds: bool, arg, len: usize, expected: &str| match holds {
            true => Ok(()),
            false => Err(ErrorKind::shape(arg, &[len], expected)),
        };
        // Heads and tokens of the two middle axes.
        let first = self.tokens_first;
        let axes = |n1: usize, n2: usize| if first { (n2, n1) } else { (n1, n2) };
        let (batch, (heads, mut seq_q), d) = match (self.packed, q) {
            (Some([cu_q, _]), &[_, heads, d]) if !cu_q.is_empty() => (cu_q.len() - 1, (heads, 0), d),
            (None, &[batch, n1, n2, d]) => (batch, axes(n1, n2), d),
            (Some(_), have) => return wrong("q", have, "[total_q, heads, dim], with starts"),
            (None, have) => return wrong("q", have, "four axes"),
        };
        let (kv_heads, mut seq_kv) = match (self.block_table, self.packed, k) {
            (Some(_), _, &[_, _, kv_heads, k_d]) if k_d == d => (kv_heads, 0),
            (None, Some(_), &[_, kv_heads, k_d]) if k_d == d => (kv_heads, 0),
            (None, None, &[k_batch, n1, n2, k_d]) if k_batch == batch && k_d == d => axes(n1, n2),
            (_, _, have) => return wrong("k", have, "the batch and the head dim of q, by its layout"),
        };
        let dv = v.last().copied().unwrap_or(0);
        if v.len() != k.len() || v[..v.len() - 1] != k[..k.len() - 1] {
            return wrong("v", v, "that of k but for the last axis");
        }

        let mut problem = Problem {
            value_dim: dv,
            causal: self.causal,
            window: self.window,
            softcap: self.softcap,
            inputs: self.inputs,
            ..Problem::new(batch, heads, kv_heads, d)
        };
        problem.scale = self.scale.unwrap_or(problem.scale);
        let mut indices: Vec<u32> = Vec::new();
        let mut put = |words: &[u32]| {
            indices.extend(words);
            indices.len() - words.len()
        };
        let longest =
            |cu: &[u32]| cu.windows(2).map(|pair| pair[1].saturating_sub(pair[0]) as usize).max().unwrap_or(0);
        if let Some([cu_q, cu_kv]) = self.packed {
            seq_q = longest(cu_q).min(q[0]);
            let mut total_kv = 0;
            if self.block_table.is_none() {
                fits(cu_kv.len() == cu_q.len(), "cu_kv", cu_kv.len(), "as many starts as q has")?;
                total_kv = k[0];
                seq_kv = longest(cu_kv).min(total_kv);
            }
            problem.packed = Some(Packed { cu_q: put(cu_q), cu_kv: put(cu_kv), total_q: q[0], total_kv });
        }
        if let Some(table) = self.block_table {
            let whole = batch > 0 && table.len().is_multiple_of(batch);
            fits(whole, "block_table", table.len(), "[batch, max_pages]")?;
            let (pages, page_size, max_pages) = (k[0], k[1], table.len() / batch);
            seq_kv = max_pages.saturating_mul(page_size);
            problem.paged = Some(Paged { pages, page_size, block_table: put(table), max_pages });
        }
        if let Some(lengths) = self.lengths {
            fits(lengths.len() == batch, "lengths", lengths.len(), "[batch]")?;
            problem.lengths = Some(put(lengths));
        }
        (problem.seq_q, problem.seq_kv) = (seq_q, seq_kv);
        if let Some(parents) = self.parents {
            let n = parents.len();
            fits([seq_q, batch.saturating_mul(seq_q)].contains(&n), "parents", n, "[seq_q] or [batch, seq_q]")?;
            problem.tree = Some(Tree { parents: put(parents), per_batch: n != seq_q });
        }
        if let Some([numbers, flags]) = self.segments {
            let n = numbers.len();
            let ordered = match self.packed.filter(|_| self.block_table.is_none()) {
                Some([_, cu_kv]) => {
                    fits(n == k[0], "segments", n, "[total_kv]")?;
                    let rising =
                        |pair: &[u32]| numbers.get(pair[0] as usize..pair[1] as usize).is_none_or(<[u32]>::is_sorted);
                    cu_kv.windows(2).all(rising)
                }
                None => {
                    let shapes = [seq_kv, batch.saturating_mul(seq_kv)];
                    fits(shapes.contains(&n), "segments", n, "[seq_kv] or [batch, seq_kv]")?;
                    numbers.chunks(seq_kv.max(1)).all(<[u32]>::is_sorted)
                }
            };
            fits(!flags.is_empty(), "segments", 0, "flags of a segment or more")?;
            let (numbers, flags, count) = (put(numbers), put(flags), flags.len());
            problem.segments = Some(Segments { numbers, per_batch: n != seq_kv, flags, count, ordered });
        }
        let mut tables: Vec<f32> = Vec::new();
        if let Some(slopes) = self.slopes {
            let n = slopes.len();
            fits([heads, batch.saturating_mul(heads)].contains(&n), "slopes", n, "[heads] or [batch, heads]")?;
            problem.alibi = Some(Alibi { slopes: 0, per_batch: n != heads });
            tables.extend(slopes);
        }
        if let Some(sinks) = self.sinks {
            fits(sinks.len() == heads, "sinks", sinks.len(), "[heads]")?;
            problem.sinks = Some(tables.len());
            tables.extend(sinks);
        }
        if first && self.packed.is_none() {
            (problem.q_layout, problem.o_layout) = (bshd(heads, seq_q, d), bshd(heads, seq_q, dv));
            if self.block_table.is_none() {
                (problem.k_layout, problem.v_layout) = (bshd(kv_heads, seq_kv, d), bshd(kv_heads, seq_kv, dv));
            }
        }
        if let Some(mask) = self.mask {
            problem.mask = attention::broadcast(mask.kind, mask.shape, [batch, heads, seq_q, seq_kv]);
            if problem.mask.is_none() {
                return wrong("mask", mask.shape, "one that broadcasts to [batch, heads, seq_q, seq_kv]");
            }
        }
        Ok(Call { problem, tables, indices })
    }
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
        let keys = self.keys([k, v])?;
        Ok(self.record_attention(q, keys, options, false)?.0)
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
        let keys = self.keys([k, v])?;
        let (o, lse) = self.record_attention(q, keys, options, true)?;
        Ok((o, lse.expect("it was asked for")))
    }

    fn keys<'a, T: Element>(&self, tensors: [&'a Tensor<T>; 2]) -> Result<Keys<'a>> {
        self.own(OP, "k", tensors[0])?;
        self.own(OP, "v", tensors[1])?;
        Ok(Keys { shapes: tensors.map(Tensor::shape), buffers: tensors.map(Tensor::buffer), codes: None })
    }

    /// [`Tensor::attention`] over a cache as [`kv_append`](Self::kv_append) writes it, of values or of codes in 8 bits: in pages with a
    /// [`block_table`](AttentionOptions::block_table), else a sequence per batch, with q and o `[batch, seq, heads, dim]`, too.
    ///
    /// # Errors
    /// As there, and [`ErrorKind::InvalidProblem`] for slopes and sinks beside codes, whose scales have their place.
    pub fn attention_cached<T: Element>(
        &mut self,
        q: &Tensor<T>,
        cache: KvCache<T>,
        options: &AttentionOptions,
    ) -> Result<Tensor<T>> {
        let held = cache.held(OP, self)?;
        let Held { pages, page_size, kv_heads, head_dim, value_dim, .. } = held;
        let tokens_first = options.tokens_first || options.block_table.is_none();
        let options = AttentionOptions { tokens_first, ..*options };
        let shapes = [head_dim, value_dim].map(|dim| [pages, page_size, kv_heads, dim]);
        let of = Keys { shapes: [&shapes[0], &shapes[1]], buffers: [held.k, held.v], codes: held.codes() };
        Ok(self.record_attention(q, of, &options, false)?.0)
    }

    fn record_attention<T: Element>(
        &mut self,
        q: &Tensor<T>,
        keys: Keys,
        options: &AttentionOptions,
        with_lse: bool,
    ) -> Result<(Tensor<T>, Option<Tensor<f32>>)> {
        self.own(OP, "q", q)?;
        if options.mask.is_some_and(|mask| !self.context().same(mask.context)) {
            return Err(ErrorKind::ForeignTensor { arg: "mask" }.of(OP));
        }
        let call = options.call([q.shape(), keys.shapes[0], keys.shapes[1]]).map_err(|kind| kind.of(OP))?;
        let Call { tables, indices, .. } = call;
        let mut problem = Problem { x: T::DTYPE, o: T::DTYPE, lse: with_lse.then_some(0), ..call.problem };
        if let Some((format, _, v_scale)) = keys.codes {
            if !tables.is_empty() {
                return Err(ErrorKind::invalid("codes", "their scales lie where slopes and sinks do").of(OP));
            }
            // In pages they follow each other as k does; of a sequence they lie tokens first.
            let strides = options.block_table.is_none().then(|| bshd(problem.kv_heads, problem.seq_kv, 1).strides);
            let scale = |offset| Layout { offset, strides: strides.flatten() };
            problem.codes = Some(Codes { format, k_scale: scale(0), v_scale: scale(v_scale) });
        }

        let context = self.context().clone();
        let o_shape = [&q.shape()[..q.shape().len() - 1], &[problem.value_dim]].concat();
        let o = context.allocate(OP, &o_shape, None)?;
        // Packed sequences have no axis of batches.
        let lse_shape = &problem.q_sizes()[usize::from(problem.packed.is_some())..];
        let lse: Option<Tensor<f32>> = with_lse.then(|| context.allocate(OP, lse_shape, None)).transpose()?;
        let own_tables = (!tables.is_empty()).then(|| context.upload(&tables, &[tables.len()])).transpose()?;
        let indices = (!indices.is_empty()).then(|| context.upload(&indices, &[indices.len()])).transpose()?;
        let tables = own_tables.as_ref().map(Tensor::buffer).or(keys.codes.map(|(_, scales, _)| scales));
        let mut buffers = Buffers::new(q.buffer(), keys.buffers[0], keys.buffers[1], o.buffer());
        if let Some(mask) = options.mask {
            buffers = buffers.mask(mask.buffer);
        }
        if let Some(tables) = tables {
            buffers = buffers.tables(tables);
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
}
