//! New keys and values into a cache, on tensors.

use crate::kv_append::{self, Buffers, Cache, Norm, Problem, Query, Rotation};
use crate::norm::Kind;
use crate::rope::{Angles, Axes, Frequencies, Style};
use crate::{Batch, Binding, Element, ErrorKind, Layout, Result, Tensor};

const OP: &str = "kv_append";

/// A cache of keys and values: `[pages, page_size, kv_heads, head_dim]`, or `[batch, seq, kv_heads, head_dim]`.
#[derive(Debug, Clone, Copy)]
pub enum KvCache<'a, T> {
    /// Values.
    Float {
        /// Of keys.
        k: &'a Tensor<T>,
        /// Of values, whose last axis may be another.
        v: &'a Tensor<T>,
    },
    /// Codes of 8 bits, with a scale per place and head.
    Codes {
        /// e4m3; else int8.
        e4m3: bool,
        /// Of keys.
        k: &'a Tensor<u8>,
        /// Of values.
        v: &'a Tensor<u8>,
        /// Scales of keys, then those of values: `[2, pages, page_size, kv_heads]`.
        scales: &'a Tensor<f32>,
    },
}

/// What a cache comes to.
pub(super) struct Held<'a> {
    pub cache: Cache,
    pub pages: usize,
    pub page_size: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub value_dim: usize,
    pub k: &'a wgpu::Buffer,
    pub v: &'a wgpu::Buffer,
    pub scales: Option<&'a wgpu::Buffer>,
}

impl<'a, T: Element> KvCache<'a, T> {
    /// Checks its tensors against each other.
    pub(super) fn held(&self, op: &'static str, batch: &Batch) -> Result<Held<'a>> {
        let shape = |arg, have: &[usize], expected: String| Err(ErrorKind::shape(arg, have, expected).of(op));
        let (cache, [k_shape, v_shape], [k, v]) = match *self {
            KvCache::Float { k, v } => {
                batch.own(op, "k_cache", k)?;
                batch.own(op, "v_cache", v)?;
                (Cache::Float(T::DTYPE), [k.shape(), v.shape()], [k.buffer(), v.buffer()])
            }
            KvCache::Codes { e4m3, k, v, .. } => {
                batch.own(op, "k_cache", k)?;
                batch.own(op, "v_cache", v)?;
                let cache = if e4m3 { Cache::E4m3 } else { Cache::Int8 };
                (cache, [k.shape(), v.shape()], [k.buffer(), v.buffer()])
            }
        };
        let &[pages, page_size, kv_heads, head_dim] = k_shape else {
            return shape("k_cache", k_shape, "[pages, page_size, kv_heads, head_dim]".into());
        };
        let value_dim = match v_shape {
            [first @ .., dim] if *first == k_shape[..3] => *dim,
            _ => return shape("v_cache", v_shape, format!("[{pages}, {page_size}, {kv_heads}, value_dim]")),
        };
        let mut held = Held { cache, pages, page_size, kv_heads, head_dim, value_dim, k, v, scales: None };
        if let KvCache::Codes { scales, .. } = self {
            batch.own(op, "scales", scales)?;
            if *scales.shape() != [2, pages, page_size, kv_heads] {
                return shape("scales", scales.shape(), format!("[2, {pages}, {page_size}, {kv_heads}]"));
            }
            held.scales = Some(scales.buffer());
        }
        Ok(held)
    }
}

impl<'a> Held<'a> {
    /// The first scale of the values.
    pub fn v_scale(&self) -> usize {
        self.pages.saturating_mul(self.page_size).saturating_mul(self.kv_heads)
    }

    /// The scales of keys and of values, and the element at which the latter start in their binding: apart where bindings may start
    /// there, as browsers ask for.
    pub fn bound(&self) -> Option<([Binding<'a>; 2], usize)> {
        let all = Binding::from(self.scales?);
        let at = self.v_scale();
        let bytes = 4 * at as u64;
        Some(if bytes.is_multiple_of(256) { ([all, all.after(bytes)], 0) } else { ([all; 2], at) })
    }
}

/// Options of [`Batch::kv_append`].
#[derive(Debug, Clone, Copy)]
pub struct KvAppendOptions<'a, T> {
    /// Queries `[tokens, heads, head_dim]`, normed and rotated as the keys.
    pub q: Option<&'a Tensor<T>>,
    /// Rotation of k and q.
    pub rope: Option<KvRope<'a>>,
    /// RMS norm of each vector of q and k: its eps, and the weights of q, then those of k, `[2, head_dim]`.
    pub qk_norm: Option<(f32, &'a Tensor<T>)>,
}

impl<T> Default for KvAppendOptions<'_, T> {
    fn default() -> Self {
        KvAppendOptions { q: None, rope: None, qk_norm: None }
    }
}

/// Rotation by position, one per token.
#[derive(Debug, Clone, Copy)]
pub struct KvRope<'a> {
    /// One per pair that is rotated.
    pub frequencies: &'a Frequencies,
    /// Which elements make a pair.
    pub style: Style,
    /// `[tokens]`.
    pub positions: &'a Tensor<i32>,
}

impl Batch {
    /// Writes keys `[tokens, kv_heads, head_dim]` and values `[tokens, kv_heads, value_dim]` into a cache, token t to place
    /// `slots[t]` of all `pages * page_size`; a slot that does not exist is skipped. Gives the queries of the options, normed and rotated.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`], and those of [`kv_append::prepare`](crate::kv_append::prepare).
    pub fn kv_append<T: Element>(
        &mut self,
        k: &Tensor<T>,
        v: &Tensor<T>,
        slots: &Tensor<i32>,
        cache: KvCache<T>,
        options: &KvAppendOptions<T>,
    ) -> Result<Option<Tensor<T>>> {
        self.own(OP, "k", k)?;
        self.own(OP, "v", v)?;
        self.own(OP, "slots", slots)?;
        let shape = |arg, have: &[usize], expected: String| Err(ErrorKind::shape(arg, have, expected).of(OP));
        let &[tokens, kv_heads, head_dim] = k.shape() else {
            return shape("k", k.shape(), "[tokens, kv_heads, head_dim]".into());
        };
        let value_dim = match *v.shape() {
            [t, h, dim] if [t, h] == [tokens, kv_heads] => dim,
            _ => return shape("v", v.shape(), format!("[{tokens}, {kv_heads}, value_dim]")),
        };
        if *slots.shape() != [tokens] {
            return shape("slots", slots.shape(), format!("[{tokens}]"));
        }
        let held = cache.held(OP, self)?;
        let Held { pages, page_size, .. } = held;
        if [held.kv_heads, held.head_dim] != [kv_heads, head_dim] {
            let have = [pages, page_size, held.kv_heads, held.head_dim];
            return shape("k_cache", &have, format!("[pages, page_size, {kv_heads}, {head_dim}]"));
        }
        if held.value_dim != value_dim {
            let have = [pages, page_size, kv_heads, held.value_dim];
            return shape("v_cache", &have, format!("[{pages}, {page_size}, {kv_heads}, {value_dim}]"));
        }
        let mut problem = Problem {
            tokens,
            kv_heads,
            head_dim,
            value_dim,
            pages,
            page_size,
            x: T::DTYPE,
            cache: held.cache,
            ..Problem::default()
        };
        let mut buffers = Buffers::new(k.buffer(), v.buffer(), held.k, held.v, slots.buffer());
        if let Some(([k_scale, v_scale], at)) = held.bound() {
            problem.v_scale = at;
            buffers = buffers.k_scale(k_scale).v_scale(v_scale);
        }
        let KvAppendOptions { q, rope, qk_norm } = *options;
        let q_out = match q {
            Some(q) => {
                self.own(OP, "q", q)?;
                let heads = match *q.shape() {
                    [t, heads, d] if [t, d] == [tokens, head_dim] => heads,
                    _ => return shape("q", q.shape(), format!("[{tokens}, heads, {head_dim}]")),
                };
                problem.q = Some(Query { heads, from: Layout::default(), to: Layout::default() });
                Some(self.context().allocate(OP, q.shape(), None)?)
            }
            None => None,
        };
        if let Some((q, q_out)) = q.zip(q_out.as_ref()) {
            buffers = buffers.q(q.buffer()).q_out(q_out.buffer());
        }
        if let Some(KvRope { frequencies, style, positions }) = rope {
            self.own(OP, "positions", positions)?;
            if *positions.shape() != [tokens] {
                return shape("positions", positions.shape(), format!("[{tokens}]"));
            }
            problem.rotation = Some(Rotation {
                rotary_dim: 2 * frequencies.per_pair.len(),
                style,
                signed: true,
                positions: Layout::default(),
                axes: Axes::One,
                angles: Angles::Frequencies(frequencies.clone()),
            });
            buffers = buffers.positions(positions.buffer());
        }
        if let Some((eps, weights)) = qk_norm {
            self.own(OP, "norms", weights)?;
            if *weights.shape() != [2, head_dim] {
                return shape("norms", weights.shape(), format!("[2, {head_dim}]"));
            }
            let q_weight = q.map(|_| 0);
            let (k_weight, dtype) = (Some(head_dim), T::DTYPE);
            problem.norm = Some(Norm { eps, dtype, q_weight, k_weight, ..Norm::of(Kind::Rms) });
            buffers = buffers.norms(weights.buffer());
        }
        let dispatch = kv_append::prepare(self.context().kernels(), &problem, buffers)?;
        self.push(dispatch);
        Ok(q_out)
    }
}
