//! One pass of the model over some tokens, as dispatches that are prepared once and recorded any number of times. All that changes from
//! one token to the next lies in buffers.
//!
//! A layer is eight dispatches: norm; queries, keys and values in one product; rotation of q and k and the way into the cache;
//! attention; the product after it, added to x; norm; gate and up with the activation; the product after them, added to x.

use tileloom::gemm::{Activation, Matrix as Rowwise, Precision};
use tileloom::kv_append::{Query, Rotation};
use tileloom::norm::Vector;
use tileloom::rope::{Angles, Axes, Frequencies, Style};
use tileloom::sample::{Settings, Uniform};
use tileloom::wgpu::Buffer;
use tileloom::{
    Dtype, Kernels, Layout, Op, Sequence, advance, attention, gemm_quant, kv_append, lora, norm, sample, vq_lookup,
};

use crate::Result;
use crate::adapter::Factors;
use crate::cache::{Cache, Layer};
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
    /// Keys that attention has room for, of a sequence: by few of them it goes another way than by many.
    pub keys: usize,
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
    pub fn next(batch: usize, keys: usize) -> Rows {
        Rows { batch, total: batch, longest: 1, keys, heads: Heads::All }
    }

    /// Tokens of one sequence.
    pub fn of(total: usize, keys: usize, heads: Heads) -> Rows {
        Rows { batch: 1, total, longest: total, keys, heads }
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

/// Whole numbers that kernels read, in one buffer of u32, from these elements on. What stands first stays as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct State {
    /// Tokens that end an answer, [`STOPS`].
    pub stops: usize,
    /// The pages of each sequence.
    pub table: usize,
    /// Tokens of each sequence in the cache, with those of this pass.
    pub lengths: usize,
    /// The row where each sequence starts, and their end.
    pub starts: usize,
    /// The row of each sequence's last token.
    pub last: usize,
    /// Which sequences have ended.
    pub done: usize,
    /// The number of the draw.
    pub draw: usize,
    /// The place of each row in its sequence.
    pub positions: usize,
    /// Its place in the cache.
    pub slots: usize,
    /// All of it.
    pub words: usize,
}

/// Tokens that may end an answer.
pub const STOPS: usize = 8;

/// How much memory passes have.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Sequences.
    pub batch: usize,
    /// Tokens of a pass.
    pub rows: usize,
    /// Rows of logits.
    pub logits: usize,
    /// Rows of probabilities.
    pub probs: usize,
    /// Tokens of a sequence.
    pub context: usize,
}

/// The memory of passes.
pub struct Memory {
    pub room: Room,
    /// Where `state` holds what.
    pub at: State,
    pub state: Buffer,
    /// Tokens that go in, and those that were sampled.
    pub tokens: Buffer,
    /// Those that were sampled, by sequence and place.
    pub history: Buffer,
    pub logits: Buffer,
    pub probs: Buffer,
    x: Buffer,
    h: Buffer,
    qkv: Buffer,
    attended: Buffer,
    hidden: Buffer,
}

impl Memory {
    /// All of it, zeros.
    pub fn new(gpu: &Gpu, sizes: &Sizes, cache: &Cache, room: Room) -> Result<Memory> {
        let Room { batch, rows, logits, probs, context } = room;
        let mut words = 0;
        let mut of = |more: usize| {
            words += more;
            words - more
        };
        let at = State {
            stops: of(STOPS),
            table: of(cache.pages),
            lengths: of(batch),
            starts: of(batch + 1),
            last: of(batch),
            done: of(batch),
            draw: of(1),
            positions: of(rows),
            slots: of(rows),
            words: of(0),
        };
        Ok(Memory {
            room,
            at,
            state: gpu.zeros(at.words)?,
            tokens: gpu.zeros(rows)?,
            history: gpu.zeros(batch * context)?,
            logits: gpu.zeros(logits * sizes.vocab)?,
            probs: gpu.zeros(probs * sizes.vocab)?,
            x: gpu.zeros(rows * sizes.width)?,
            h: gpu.zeros(rows * sizes.width)?,
            qkv: gpu.zeros(rows * sizes.qkv_width())?,
            attended: gpu.zeros(rows * sizes.q_width())?,
            hidden: gpu.zeros(rows * sizes.hidden)?,
        })
    }
}

/// Prepares a pass over `rows`. With `matrices` products may round activations to f16.
pub fn prepare(
    gpu: &Gpu,
    model: &Model,
    cache: &Cache,
    memory: &Memory,
    rows: Rows,
    pick: Pick,
    matrices: bool,
) -> Result<Sequence> {
    let (kernels, inputs) = (gpu.kernels(), if matrices { Precision::F16 } else { Precision::Exact });
    let mut builder = Builder { kernels, model, cache, memory, rows, inputs, calls: Sequence::new(kernels) };
    builder.embed()?;
    for i in 0..model.layers.len() {
        builder.layer(i)?;
    }
    if rows.heads != Heads::None {
        builder.logits()?;
        builder.pick(pick)?;
    }
    Ok(builder.calls)
}

struct Builder<'a> {
    kernels: &'a Kernels,
    model: &'a Model,
    cache: &'a Cache,
    memory: &'a Memory,
    rows: Rows,
    inputs: Precision,
    calls: Sequence,
}

impl Builder<'_> {
    /// One call more.
    fn call<P: Op>(&mut self, problem: P, buffers: P::Buffers<'_>) -> Result<()> {
        Ok(self.calls.push(problem.prepare(self.kernels, buffers)?)?)
    }

    /// Tokens become rows of x.
    fn embed(&mut self) -> Result<()> {
        let Matrix { format, n, k, codes, scales } = &self.model.embedding;
        let problem = vq_lookup::Problem {
            spatial: self.rows.total,
            num_codes: *n,
            code_dim: *k,
            format: Some(*format),
            ..Default::default()
        };
        self.call(problem, vq_lookup::Buffers::new(&self.memory.tokens, codes, &self.memory.x).scales(scales))
    }

    /// What a layer adds to x.
    fn layer(&mut self, i: usize) -> Result<()> {
        let Memory { x, h, qkv, attended, hidden, .. } = self.memory;
        let layer = &self.model.layers[i];
        self.norm(self.rows.total, x, &layer.attention_norm, h)?;
        for product in &layer.qkv {
            self.product(product, h, qkv, Some(self.model.sizes.qkv_width()), self.cache.kind.x())?;
        }
        self.append(&self.cache.layers[i])?;
        self.attention(&self.cache.layers[i])?;
        self.product(&layer.out, attended, x, None, Dtype::F32)?;
        self.norm(self.rows.total, x, &layer.ffn_norm, h)?;
        self.gate_up(&layer.gate_up, h, hidden)?;
        self.product(&layer.down, hidden, x, None, Dtype::F32)
    }

    fn norm(&mut self, rows: usize, x: &Buffer, weight: &Buffer, y: &Buffer) -> Result<()> {
        let Sizes { width: cols, eps, .. } = self.model.sizes;
        let problem = norm::Problem { rows, cols, weight: Some(Vector::of(Dtype::F32)), eps, ..Default::default() };
        self.call(problem, norm::Buffers::new(x, y).weight(weight))
    }

    /// A product into rows of `width`; without it, it is added to what its result holds.
    fn product(&mut self, linear: &Linear, a: &Buffer, d: &Buffer, width: Option<usize>, dtype: Dtype) -> Result<()> {
        let Linear { matrix, adapter, at } = linear;
        let Matrix { format, n, k, codes, scales } = matrix;
        let (m, n, k, stride) = (self.rows.total, *n, *k, width.unwrap_or(*n));
        let residual = width.is_none();
        match adapter {
            None => {
                let to = Rowwise::strided(dtype, *at, [0, 0, stride]);
                let problem = gemm_quant::Problem {
                    m,
                    n,
                    k,
                    format: *format,
                    d: to,
                    residual: residual.then_some(to),
                    inputs: self.inputs,
                    ..Default::default()
                };
                let buffers = gemm_quant::Buffers::new(a, codes, scales, d);
                self.call(problem, if residual { buffers.residual(d) } else { buffers })
            }
            Some(Factors { rank, scale, a: down, b: up }) => {
                let layout = Layout::strided(*at, [stride]);
                let problem = lora::Problem {
                    m,
                    n,
                    k,
                    rank: *rank,
                    scale: *scale,
                    format: Some(*format),
                    y: dtype,
                    y_layout: layout,
                    residual: residual.then_some(lora::Residual { dtype, layout }),
                    ..Default::default()
                };
                let buffers = lora::Buffers::new(a, codes, down, up, d).scales(scales);
                self.call(problem, if residual { buffers.residual(d) } else { buffers })
            }
        }
    }

    /// Keys and values into the cache, keys and queries rotated, in place. Rows of q and k are permuted in GGUF files so that neighbours
    /// are a pair.
    fn append(&mut self, layer: &Layer) -> Result<()> {
        let (sizes, Memory { qkv, state, at, .. }) = (&self.model.sizes, self.memory);
        let Sizes { heads, kv_heads, head_dim, .. } = *sizes;
        let vectors = |first: usize| Layout::strided(first, [sizes.qkv_width(), head_dim]);
        let rotation = Rotation {
            rotary_dim: head_dim,
            style: Style::Interleaved,
            signed: false,
            positions: Layout::at(at.positions),
            axes: Axes::One,
            angles: Angles::Frequencies(Frequencies::new(head_dim, sizes.base)?),
        };
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
            slots: at.slots,
            q: Some(Query { heads, from: vectors(0), to: vectors(0) }),
            rotation: Some(rotation),
            ..Default::default()
        };
        let buffers = kv_append::Buffers::new(qkv, qkv, &layer.k, &layer.v, state).q(qkv).q_out(qkv).positions(state);
        let scaled = |scales| buffers.k_scale(scales).v_scale(scales);
        self.call(problem, layer.scales.as_ref().map_or(buffers, scaled))
    }

    /// One sequence reads its cache as it lies; several find theirs by pages, and prompts of different lengths are packed.
    fn attention(&mut self, layer: &Layer) -> Result<()> {
        let (sizes, cache, at) = (&self.model.sizes, self.cache, &self.memory.at);
        let Sizes { heads, kv_heads, head_dim, .. } = *sizes;
        let Rows { batch, total, longest, keys, .. } = self.rows;
        let packed = attention::Packed { cu_q: at.starts, cu_kv: 0, total_q: total, total_kv: 0 };
        let max_pages = cache.pages / batch;
        let paged =
            attention::Paged { pages: cache.pages, page_size: cache.page_size, block_table: at.table, max_pages };
        let problem = attention::Problem {
            seq_q: longest,
            seq_kv: keys,
            x: cache.kind.x(),
            codes: cache.codes(sizes),
            q_layout: attention::fused(0, longest, head_dim, sizes.qkv_width()),
            k_layout: cache.layout(sizes, head_dim, 0),
            v_layout: cache.layout(sizes, head_dim, 0),
            o_layout: attention::bshd(heads, longest, head_dim),
            causal: longest > 1,
            packed: (batch > 1 && total > batch).then_some(packed),
            paged: (batch > 1).then_some(paged),
            lengths: Some(at.lengths),
            ..attention::Problem::new(batch, heads, kv_heads, head_dim)
        };
        let Memory { qkv, attended, state, .. } = self.memory;
        let buffers = attention::Buffers::new(qkv, &layer.k, &layer.v, attended).indices(state);
        let scaled = |scales| buffers.tables(scales);
        self.call(problem, layer.scales.as_ref().map_or(buffers, scaled))
    }

    /// `silu(a gate^T) * (a up^T)`.
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
        self.call(problem, gemm_quant::Buffers::new(a, codes, scales, d))
    }

    /// The rows that are wanted, normed, times the head.
    fn logits(&mut self) -> Result<()> {
        let Memory { x, h, state, at, logits, .. } = self.memory;
        let (rows, width) = (self.rows.logits(), self.model.sizes.width);
        let gathered = rows < self.rows.total;
        if gathered {
            let problem = vq_lookup::Problem {
                spatial: rows,
                num_codes: self.rows.total,
                code_dim: width,
                indices: Layout::at(at.last),
                ..Default::default()
            };
            self.call(problem, vq_lookup::Buffers::new(state, x, h))?;
        }
        self.norm(rows, if gathered { h } else { x }, &self.model.norm, h)?;
        let Matrix { format, n, k, codes, scales } = self.model.head();
        let (m, n, k) = (rows, *n, *k);
        let problem = gemm_quant::Problem { m, n, k, format: *format, inputs: self.inputs, ..Default::default() };
        self.call(problem, gemm_quant::Buffers::new(h, codes, scales, logits))
    }

    fn pick(&mut self, pick: Pick) -> Result<()> {
        let Memory { logits, probs, tokens, state, at, .. } = self.memory;
        let problem = sample::Problem { rows: self.rows.logits(), vocab: self.model.sizes.vocab, ..Default::default() };
        let buffers = sample::Buffers::new(logits);
        match pick {
            Pick::Logits => Ok(()),
            Pick::Token(settings, seed) => {
                let uniform = Uniform::Philox { seed, step: sample::Step::Buffer(at.draw) };
                let problem = sample::Problem { settings, uniform, ..problem };
                self.call(problem, buffers.step(state).token(tokens))?;
                if self.rows == Rows::next(self.rows.batch, self.rows.keys) { self.advance() } else { Ok(()) }
            }
            Pick::Probs(settings) => {
                let probs_layout = Some(Layout::default());
                let problem = sample::Problem { settings, probs: probs_layout, token: None, ..problem };
                self.call(problem, buffers.probs(probs))
            }
        }
    }

    /// The device makes itself ready for the token after this one, so that the pass may be recorded again, as it is.
    fn advance(&mut self) -> Result<()> {
        let (Memory { room, at, state, tokens, history, .. }, cache) = (self.memory, self.cache);
        let problem = advance::Problem {
            batch: room.batch,
            most: room.context,
            lengths: at.lengths,
            positions: Some(at.positions),
            slots: Some(at.slots),
            pages: cache.pages,
            page_size: cache.page_size,
            table: Some(at.table),
            max_pages: cache.pages / room.batch,
            step: Some(at.draw),
            stops: Some(at.stops),
            num_stops: STOPS,
            done: Some(at.done),
            history: Some(Layout::default()),
            ..Default::default()
        };
        self.call(problem, advance::Buffers::new(state, tokens).history(history))
    }
}
