//! One pass of the model over some tokens, as dispatches that are prepared once and recorded any number of times. All that changes from
//! one token to the next lies in buffers.
//!
//! A layer is eight dispatches: norm; queries, keys and values in one product; rotation of q and k and the way into the cache;
//! attention; the product after it, which adds the residual; norm; gate and up with the activation; the product that adds the residual.

use tileloom::gemm::{Activation, Matrix as At, Precision};
use tileloom::kv_append::{Query, Rotation};
use tileloom::norm::Vector;
use tileloom::rope::{Angles, Axes, Frequencies, Style};
use tileloom::sample::{Settings, Uniform};
use tileloom::wgpu::{Buffer, CommandEncoder};
use tileloom::{Dispatch, Dtype, Kernels, Layout, attention, gemm_quant, kv_append, lora, norm, sample, vq_lookup};

use crate::Result;
use crate::cache::Cache;
use crate::gpu::Gpu;
use crate::model::{Linear, Matrix, Model, Sizes};

/// The rows of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rows {
    /// Sequences.
    pub batch: usize,
    /// Tokens of all sequences, one after the other.
    pub total: usize,
    /// Tokens of the longest one.
    pub longest: usize,
    /// Whose logits are made.
    pub heads: Heads,
}

/// The rows whose logits are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Heads {
    /// None: the beginning of a long prompt.
    None,
    /// The last one of each sequence.
    Last,
    /// All of them.
    All,
}

impl Rows {
    /// The next token of each sequence.
    pub fn next(batch: usize) -> Rows {
        Rows { batch, total: batch, longest: 1, heads: Heads::All }
    }

    /// Tokens of one sequence.
    pub fn of(total: usize, heads: Heads) -> Rows {
        Rows { batch: 1, total, longest: total, heads }
    }

    /// Rows of logits.
    pub fn logits(&self) -> usize {
        match self.heads {
            Heads::None => 0,
            Heads::Last => self.batch,
            Heads::All => self.total,
        }
    }
}

/// What becomes of logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pick {
    /// They are read as they are.
    Logits,
    /// A token of each row, which is the next one's input.
    Token(Settings, u64),
    /// The probabilities of each row.
    Probs(Settings),
}

/// The memory of passes of up to so many rows.
pub struct Memory {
    /// Tokens that go in, and those that were sampled.
    pub tokens: Buffer,
    /// The place of each token in its sequence.
    pub positions: Buffer,
    /// Its place in the cache.
    pub slots: Buffer,
    /// Of each sequence: tokens in the cache with these; then where each starts among the rows; then its pages.
    pub indices: Buffer,
    /// The row of each sequence's last token.
    pub last: Buffer,
    /// The number of the draw.
    pub draw: Buffer,
    pub logits: Buffer,
    pub probs: Buffer,
    x: Buffer,
    h: Buffer,
    qkv: Buffer,
    attended: Buffer,
    hidden: Buffer,
    /// The pages of a sequence.
    pub pages_each: usize,
    batch: usize,
}

impl Memory {
    /// For `rows` in a pass, `logits` of them with logits.
    pub fn new(
        gpu: &Gpu,
        sizes: &Sizes,
        cache: &Cache,
        batch: usize,
        rows: usize,
        logits: usize,
        probs: bool,
    ) -> Result<Memory> {
        let pages_each = cache.pages / batch;
        Ok(Memory {
            tokens: gpu.zeros(rows)?,
            positions: gpu.zeros(rows)?,
            slots: gpu.zeros(rows)?,
            indices: gpu.zeros(2 * batch + 1 + cache.pages)?,
            last: gpu.zeros(batch)?,
            draw: gpu.zeros(1)?,
            logits: gpu.zeros(logits * sizes.vocab)?,
            probs: gpu.zeros(if probs { logits * sizes.vocab } else { 0 })?,
            x: gpu.zeros(rows * sizes.width)?,
            h: gpu.zeros(rows * sizes.width)?,
            qkv: gpu.zeros(rows * sizes.qkv_width())?,
            attended: gpu.zeros(rows * sizes.q_width())?,
            hidden: gpu.zeros(rows * sizes.hidden)?,
            pages_each,
            batch,
        })
    }

    /// The element of `indices` where starts begin.
    pub fn starts_at(&self) -> usize {
        self.batch
    }

    /// The element of `indices` where pages begin.
    pub fn pages_at(&self) -> usize {
        2 * self.batch + 1
    }
}

/// A pass that is ready.
pub struct Step {
    dispatches: Vec<Dispatch>,
}

impl Step {
    /// Prepares a pass over `rows`.
    pub fn new(
        gpu: &Gpu,
        model: &Model,
        cache: &Cache,
        memory: &Memory,
        rows: Rows,
        pick: Pick,
        matrices: bool,
    ) -> Result<Step> {
        let inputs = if matrices { Precision::F16 } else { Precision::Exact };
        Builder { kernels: gpu.kernels(), model, cache, memory, rows, inputs, dispatches: Vec::new() }.build(pick)
    }

    /// Records it: nothing fails, nothing is allocated.
    pub fn record(&self, encoder: &mut CommandEncoder) {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        self.dispatches.iter().for_each(|dispatch| dispatch.record_in(&mut pass));
    }

    /// What it calls, one after the other.
    pub fn dispatches(&self) -> &[Dispatch] {
        &self.dispatches
    }

    /// Calls of `dispatch_workgroups`.
    pub fn calls(&self) -> usize {
        self.dispatches.iter().map(|dispatch| dispatch.steps().count()).sum()
    }
}

struct Builder<'a> {
    kernels: &'a Kernels,
    model: &'a Model,
    cache: &'a Cache,
    memory: &'a Memory,
    rows: Rows,
    inputs: Precision,
    dispatches: Vec<Dispatch>,
}

impl Builder<'_> {
    fn build(mut self, pick: Pick) -> Result<Step> {
        self.embed()?;
        for i in 0..self.model.layers.len() {
            self.layer(i)?;
        }
        if self.rows.heads != Heads::None {
            self.logits()?;
            self.pick(pick)?;
        }
        Ok(Step { dispatches: self.dispatches })
    }

    fn embed(&mut self) -> Result<()> {
        let Matrix { format, n, k, codes, scales } = &self.model.embedding;
        let problem = vq_lookup::Problem {
            spatial: self.rows.total,
            num_codes: *n,
            code_dim: *k,
            format: Some(*format),
            ..Default::default()
        };
        let buffers = vq_lookup::Buffers::new(&self.memory.tokens, codes, &self.memory.x).scales(scales);
        self.dispatches.push(vq_lookup::prepare(self.kernels, &problem, buffers)?);
        Ok(())
    }

    fn layer(&mut self, i: usize) -> Result<()> {
        let Memory { x, h, qkv, attended, hidden, .. } = self.memory;
        let layer = &self.model.layers[i];
        self.norm(self.rows.total, x, &layer.attention_norm, h)?;
        for product in &layer.qkv {
            self.product(product, h, qkv, Some(self.model.sizes.qkv_width()), self.cache.kind.x())?;
        }
        self.append(i)?;
        self.attention(i)?;
        self.product(&layer.out, attended, x, None, Dtype::F32)?;
        self.norm(self.rows.total, x, &layer.ffn_norm, h)?;
        self.gate_up(&layer.gate_up, h, hidden)?;
        self.product(&layer.down, hidden, x, None, Dtype::F32)
    }

    fn norm(&mut self, rows: usize, x: &Buffer, weight: &Buffer, y: &Buffer) -> Result<()> {
        let problem = norm::Problem {
            rows,
            cols: self.model.sizes.width,
            weight: Some(Vector::of(Dtype::F32)),
            eps: self.model.sizes.eps,
            ..Default::default()
        };
        self.dispatches.push(norm::prepare(self.kernels, &problem, norm::Buffers::new(x, y).weight(weight))?);
        Ok(())
    }

    /// A product into rows of `width`; without it, it is added to what its result holds.
    fn product(&mut self, linear: &Linear, a: &Buffer, d: &Buffer, width: Option<usize>, dtype: Dtype) -> Result<()> {
        let (m, matrix) = (self.rows.total, &linear.matrix);
        let Matrix { format, n, k, codes, scales } = matrix;
        let (n, k) = (*n, *k);
        let stride = width.unwrap_or(n);
        self.dispatches.push(match &linear.adapter {
            None => {
                let at = At::strided(dtype, linear.at, [0, 0, stride]);
                let residual = width.is_none().then_some(at);
                let problem = gemm_quant::Problem {
                    m,
                    n,
                    k,
                    format: *format,
                    d: at,
                    residual,
                    inputs: self.inputs,
                    ..Default::default()
                };
                let buffers = gemm_quant::Buffers::new(a, codes, scales, d);
                let buffers = if residual.is_some() { buffers.residual(d) } else { buffers };
                gemm_quant::prepare(self.kernels, &problem, buffers)?
            }
            Some(factors) => {
                let layout = Layout::strided(linear.at, [stride]);
                let problem = lora::Problem {
                    m,
                    n,
                    k,
                    rank: factors.rank,
                    scale: factors.scale,
                    format: Some(*format),
                    y: dtype,
                    y_layout: layout,
                    residual: width.is_none().then_some(lora::Residual { dtype, layout }),
                    ..Default::default()
                };
                let buffers = lora::Buffers::new(a, codes, &factors.a, &factors.b, d).scales(scales);
                let buffers = if width.is_none() { buffers.residual(d) } else { buffers };
                lora::prepare(self.kernels, &problem, buffers)?
            }
        });
        Ok(())
    }

    /// Keys and values into the cache, keys and queries rotated. Rows of q and k in GGUF files are permuted so that neighbours
    /// are a pair.
    fn append(&mut self, i: usize) -> Result<()> {
        let sizes = &self.model.sizes;
        let Sizes { heads, kv_heads, head_dim, .. } = *sizes;
        let vectors = |first: usize| Layout::strided(first, [sizes.qkv_width(), head_dim]);
        let problem = kv_append::Problem {
            tokens: self.rows.total,
            kv_heads,
            head_dim,
            value_dim: head_dim,
            pages: self.cache.pages,
            page_size: self.cache.page_size,
            x: self.cache.kind.x(),
            k: vectors(sizes.q_width()),
            v: vectors(sizes.q_width() + sizes.kv_width()),
            cache: self.cache.kind.cache(),
            v_scale: self.cache.v_scale(sizes),
            q: Some(Query { heads, from: vectors(0), to: vectors(0) }),
            rotation: Some(Rotation {
                rotary_dim: head_dim,
                style: Style::Interleaved,
                signed: false,
                positions: Layout::default(),
                axes: Axes::One,
                angles: Angles::Frequencies(Frequencies::new(head_dim, sizes.base)?),
            }),
            ..Default::default()
        };
        let (Memory { qkv, slots, positions, .. }, layer) = (self.memory, &self.cache.layers[i]);
        let buffers =
            kv_append::Buffers::new(qkv, qkv, &layer.k, &layer.v, slots).q(qkv).q_out(qkv).positions(positions);
        let buffers = match &layer.scales {
            Some(scales) => buffers.k_scale(scales).v_scale(scales),
            None => buffers,
        };
        self.dispatches.push(kv_append::prepare(self.kernels, &problem, buffers)?);
        Ok(())
    }

    /// One sequence reads its cache as it lies; several find theirs by pages, and prompts of different lengths are packed.
    fn attention(&mut self, i: usize) -> Result<()> {
        let (sizes, cache, Rows { batch, total, longest, .. }) = (&self.model.sizes, self.cache, self.rows);
        let Sizes { heads, kv_heads, head_dim, .. } = *sizes;
        let kv_layout = cache.layout(sizes, head_dim, 0);
        let max_pages = self.memory.pages_each;
        let packed = (batch > 1 && total > batch).then_some(attention::Packed {
            cu_q: self.memory.starts_at(),
            cu_kv: 0,
            total_q: total,
            total_kv: 0,
        });
        let paged = (batch > 1).then_some(attention::Paged {
            pages: cache.pages,
            page_size: cache.page_size,
            block_table: self.memory.pages_at(),
            max_pages,
        });
        let problem = attention::Problem {
            seq_q: longest,
            seq_kv: max_pages * cache.page_size,
            x: cache.kind.x(),
            codes: cache.codes(sizes),
            q_layout: attention::fused(0, longest, head_dim, sizes.qkv_width()),
            k_layout: kv_layout,
            v_layout: kv_layout,
            o_layout: attention::bshd(heads, longest, head_dim),
            causal: longest > 1,
            packed,
            paged,
            lengths: Some(0),
            ..attention::Problem::new(batch, heads, kv_heads, head_dim)
        };
        let (Memory { qkv, attended, indices, .. }, layer) = (self.memory, &cache.layers[i]);
        let buffers = attention::Buffers::new(qkv, &layer.k, &layer.v, attended).indices(indices);
        let buffers = match &layer.scales {
            Some(scales) => buffers.tables(scales),
            None => buffers,
        };
        self.dispatches.push(attention::prepare(self.kernels, &problem, buffers)?);
        Ok(())
    }

    fn gate_up(&mut self, matrix: &Matrix, a: &Buffer, d: &Buffer) -> Result<()> {
        let Matrix { format, n, k, codes, scales } = matrix;
        let problem = gemm_quant::Problem {
            m: self.rows.total,
            n: n / 2,
            k: *k,
            format: *format,
            gated: true,
            activation: Activation::Silu,
            inputs: self.inputs,
            ..Default::default()
        };
        let buffers = gemm_quant::Buffers::new(a, codes, scales, d);
        self.dispatches.push(gemm_quant::prepare(self.kernels, &problem, buffers)?);
        Ok(())
    }

    /// The rows that are wanted, normed, times the head.
    fn logits(&mut self) -> Result<()> {
        let Memory { x, h, last, logits, .. } = self.memory;
        let (rows, width) = (self.rows.logits(), self.model.sizes.width);
        let mut from = x;
        if self.rows.heads == Heads::Last && self.rows.total > self.rows.batch {
            let problem =
                vq_lookup::Problem { spatial: rows, num_codes: self.rows.total, code_dim: width, ..Default::default() };
            let buffers = vq_lookup::Buffers::new(last, x, h);
            self.dispatches.push(vq_lookup::prepare(self.kernels, &problem, buffers)?);
            from = h;
        }
        self.norm(rows, from, &self.model.norm, h)?;
        let Matrix { format, n, k, codes, scales } = self.model.head();
        let problem =
            gemm_quant::Problem { m: rows, n: *n, k: *k, format: *format, inputs: self.inputs, ..Default::default() };
        let buffers = gemm_quant::Buffers::new(h, codes, scales, logits);
        self.dispatches.push(gemm_quant::prepare(self.kernels, &problem, buffers)?);
        Ok(())
    }

    fn pick(&mut self, pick: Pick) -> Result<()> {
        let Memory { logits, probs, tokens, draw, .. } = self.memory;
        let (rows, vocab) = (self.rows.logits(), self.model.sizes.vocab);
        let problem = sample::Problem { rows, vocab, ..Default::default() };
        let buffers = sample::Buffers::new(logits);
        self.dispatches.push(match pick {
            Pick::Logits => return Ok(()),
            Pick::Token(settings, seed) => {
                let uniform = Uniform::Philox { seed, step: sample::Step::Buffer(0) };
                let problem = sample::Problem { settings, uniform, ..problem };
                sample::prepare(self.kernels, &problem, buffers.step(draw).token(tokens))?
            }
            Pick::Probs(settings) => {
                let problem = sample::Problem { settings, probs: Some(Layout::default()), token: None, ..problem };
                sample::prepare(self.kernels, &problem, buffers.probs(probs))?
            }
        });
        Ok(())
    }
}
