//! Exact attention without the matrix of scores: `o = softmax(scale q k^T + bias) v` by an online softmax.
//!
//! In this order (`t = i + n_kv - n_q` is the key at which query `i` of a sequence stands, bottom-right aligned):
//! `s = scale * q.k`; `s = softcap * tanh(s / softcap)`; ALiBi adds `-slope * |t - j|`; the additive mask; then causal,
//! window, boolean mask and tree hide; then the sink, one more logit per head that takes weight and has no value.
//! `lse = max s + ln sum exp(s - max s)`, with the sink. A row with nothing to see gives 0, and an LSE of minus
//! infinity, or of its sink. Sums are f32 whatever the dtypes.
//!
//! Query heads come in groups of `heads / kv_heads` that share a head of k and v (GQA; MQA with one). Sequences are
//! dense, or packed one after the other ([`Packed`]); k and v contiguous, or in pages ([`Paged`]); both with
//! [`Problem::lengths`]. Whatever these buffers hold, nothing outside the tensors is read or written.
//!
//! # Algorithms
//! * [`Algorithm::Tiled`]: a tile of rows per workgroup, which walks the keys that it sees.
//! * [`Algorithm::Decode`]: few rows and many keys; the keys are split, and
//!   [`attention_merge`](crate::attention_merge) joins the parts. Scratch does not depend on the number of keys.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 cores, 8 heads of 64, 512 queries and keys, f32; the roofline's chain of products and sums
//! reaches 36 to 46 GFLOP/s there. What it took:
//! * a chunk of k or v that all rows need, loaded by every invocation, takes 27 cycles however the loop is written: 10
//!   GFLOP/s, 18 with four rows per invocation; through workgroup memory 12 and 23;
//! * loaded once per subgroup, a chunk per invocation, and handed round by shuffles: 25, with two rows 32, with four 35;
//! * products and sums as `fma`: 38 with two rows;
//! * no branch in the walk (softcap is a constant, masks by position are always applied): the whole kernel goes from 33
//!   to 41, with two rows; four rows or eight keys to a block are slower, by spills.
//!
//! Heads of 128 in f16 want one row (24 against 20 and 16 with two and four), whose q and o then stay near.
//! Decode goes the other way: four invocations share a key, so that neighbours read neighbouring chunks, and hold the
//! rows of a group: 32 heads over 8 of 128, 8192 keys in f16, 22 GFLOP/s with four rows, 17 with two. Eight invocations
//! per key are 5 % slower there, and 20 % for 16 heads over 2 of 64, since each computes the exponentials of all its
//! rows. A fifth of the time goes into f16 to f32.
//!
//! Compiled for GPUs that were not there (8 heads over 8 and 2; d 64, 128, 256; f16, f32), nothing spills: RDNA3 and
//! RDNA4 take 120, 120, 108 registers tiled and 96, 108, 108 to decode groups of four; Ampere and Ada 96 tiled and 72,
//! 120, 120; an integrated RDNA3.5, with the Configs for such, at most 136 and 128.

pub mod attention_bias;
pub mod attention_merge;

use crate::compose::{Shader, Storage, Tensor, write_flags};
use crate::dispatch::{Arg, check_all, fold, given, read_write};
use crate::kernels::{Pipeline, chosen};
use crate::layout::View;
use crate::softmax::{Mask, MaskKind};
use crate::{Binding, Caps, Dispatch, Dtype, Error, ErrorKind, Kernels, Layout, Misfit, Result, caps::Class};

const OP: &str = "attention";

/// What is computed. `q` is `[batch, heads, seq_q, head_dim]`, `k` `[batch, kv_heads, seq_kv, head_dim]`, `v`
/// `[batch, kv_heads, seq_kv, value_dim]`, `o` as q with `value_dim`, whatever the order in memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Problem {
    pub batch: usize,
    pub heads: usize,
    /// Divides `heads`.
    pub kv_heads: usize,
    /// Queries per sequence; the most of any, where they are packed.
    pub seq_q: usize,
    /// Keys per sequence; the most of any, where they are packed, in pages, or of [`lengths`](Self::lengths).
    pub seq_kv: usize,
    /// 1 to 576.
    pub head_dim: usize,
    /// 1 to 576.
    pub value_dim: usize,
    /// Dtype of q, k and v.
    pub x: Dtype,
    /// Dtype of `o`.
    pub o: Dtype,
    /// Where q lies: strides of batch, head, query. Packed: that of the batch has no say; without strides
    /// `[total_q, heads, head_dim]`.
    pub q_layout: Layout<3>,
    /// Where k lies: strides of batch, head, key; packed as q. In pages: strides of page, head, key within the page;
    /// without strides `[pages, page_size, kv_heads, head_dim]`.
    pub k_layout: Layout<3>,
    /// As `k_layout`.
    pub v_layout: Layout<3>,
    /// As `q_layout`; rows must not overlap.
    pub o_layout: Layout<3>,
    pub scale: f32,
    /// `softcap * tanh(s / softcap)`; 0 for none.
    pub softcap: f32,
    /// Query `i` sees keys up to `t`.
    pub causal: bool,
    /// Query `i` sees keys from `t - left` and up to `t + right`.
    pub window: [Option<usize>; 2],
    /// Hides or shifts scores; strides of batch, head, query, with keys as columns. Of packed sequences, by the
    /// number within the sequence.
    pub mask: Option<Mask>,
    /// Speculative decoding: the last `seq_q` keys are a tree.
    pub tree: Option<Tree>,
    pub alibi: Option<Alibi>,
    /// One logit per head, f32 `[heads]`, from this element of the tables.
    pub sinks: Option<usize>,
    pub packed: Option<Packed>,
    pub paged: Option<Paged>,
    /// Keys that each sequence has, u32 `[batch]`, from this element of the indices; at most `seq_kv` count. Paged
    /// sequences must have them.
    pub lengths: Option<usize>,
    /// Write the log-sum-exp, f32 `[batch, heads, seq_q]`, packed `[heads, total_q]`, from this element of its binding.
    pub lse: Option<usize>,
}

/// ALiBi (Press et al., 2021): slopes, f32 `[heads]` or `[batch, heads]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Alibi {
    /// The element of the tables at which they start.
    pub slopes: usize,
    pub per_batch: bool,
}

/// Of the last `seq_q` keys, a query sees its own, and those of its ancestors (Medusa, EAGLE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tree {
    /// The element of the indices at which the parents start: of each token the number of one before it; anything
    /// else (such as -1) makes it a root. `[seq_q]`, or `[batch, seq_q]`.
    pub parents: usize,
    pub per_batch: bool,
}

/// Sequences one after the other, without padding: sequence `b` has tokens `cu[b]` up to `cu[b + 1]`. Rows of `o` and
/// `lse` that are of no sequence are not specified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Packed {
    /// The element of the indices at which the starts of queries begin, u32 `[batch + 1]`.
    pub cu_q: usize,
    /// The same for keys; has no say where these are in pages.
    pub cu_kv: usize,
    pub total_q: usize,
    pub total_kv: usize,
}

/// Keys and values in pages: key `j` of sequence `b` is in slot `j % page_size` of page `table[b][j / page_size]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Paged {
    pub pages: usize,
    pub page_size: usize,
    /// The element of the indices at which the table starts, u32 `[batch, max_pages]`.
    pub block_table: usize,
    pub max_pages: usize,
}

impl Problem {
    /// f32, one query and one key, scaled by `1 / sqrt(head_dim)`, all visible.
    pub fn new(batch: usize, heads: usize, kv_heads: usize, head_dim: usize) -> Problem {
        Problem {
            batch,
            heads,
            kv_heads,
            seq_q: 1,
            seq_kv: 1,
            head_dim,
            value_dim: head_dim,
            x: Dtype::F32,
            o: Dtype::F32,
            q_layout: Layout::default(),
            k_layout: Layout::default(),
            v_layout: Layout::default(),
            o_layout: Layout::default(),
            scale: 1.0 / (head_dim.max(1) as f32).sqrt(),
            softcap: 0.0,
            causal: false,
            window: [None; 2],
            mask: None,
            tree: None,
            alibi: None,
            sinks: None,
            packed: None,
            paged: None,
            lengths: None,
            lse: None,
        }
    }
}

/// The strides of `[batch, seq, heads, dim]`, contiguous.
pub const fn bshd(heads: usize, seq: usize, dim: usize) -> Layout<3> {
    Layout::strided(0, [seq * heads * dim, dim, heads * dim])
}

/// Heads from `first` of tokens of `width` elements each, such as a fused `[q | k | v]`.
pub const fn fused(first: usize, seq: usize, dim: usize, width: usize) -> Layout<3> {
    Layout::strided(first * dim, [seq * width, dim, width])
}

/// A contiguous mask of shape `mask`, broadcast to the scores `[batch, heads, seq_q, seq_kv]` by NumPy's rules.
/// `None` if the shapes do not fit.
pub fn broadcast(kind: MaskKind, mask: &[usize], scores: [usize; 4]) -> Option<Mask> {
    let mut own = [1; 4];
    own.get_mut(4usize.checked_sub(mask.len())?..)?.copy_from_slice(mask);
    if !own.iter().zip(&scores).all(|(&m, &n)| m == n || m == 1) {
        return None;
    }
    let mut stride = if kind == MaskKind::Bits { own[3].next_multiple_of(32) } else { own[3] };
    let mut strides = [0; 3];
    for axis in (0..3).rev() {
        strides[axis] = if own[axis] == 1 { 0 } else { stride };
        stride = stride.saturating_mul(own[axis]);
    }
    Some(Mask { kind, layout: Layout::strided(0, strides), broadcast_cols: own[3] == 1 && scores[3] != 1 })
}

/// How it is computed. `splits` is a parameter, the rest names a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    pub algorithm: Algorithm,
    /// Invocations per workgroup.
    pub wg_size: u32,
    /// Invocations that share a row, each with every so-manieth chunk of its vectors; a power of two.
    pub lanes: u32,
    /// Rows per invocation.
    pub rows: u32,
    /// Groups of invocations of a workgroup that take turns at the blocks of keys; 1 for `Tiled`.
    pub slots: u32,
    /// Keys per block, whose scores an invocation holds; at most 16.
    pub keys: u32,
    pub load: Load,
    /// Parts of the keys, each a workgroup's; 1 for `Tiled`.
    pub splits: u32,
    pub reduce: Reduce,
    pub form: Form,
}

/// The algorithm; each has a shader file of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Tiled,
    Decode,
}

/// How keys and values come to the invocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Load {
    /// Each loads what it needs.
    Direct,
    /// So many at a time, a multiple of `Config::keys`, go through workgroup memory.
    Staged(u32),
    /// The invocations of a subgroup of this size, which is trusted, load neighbouring chunks and hand them round;
    /// with one lane and one slot.
    Broadcast(u32),
}

/// How the invocations of a row add up their shares of a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reduce {
    /// One invocation per row.
    None,
    /// Within a subgroup of trusted size; `lanes` is at most that.
    Shuffle,
    /// Through workgroup memory; works everywhere.
    Memory,
}

/// What the Problem, the device and the buffers decide of a Config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    /// Elements per load: 4 or 1.
    pub vec: u32,
    /// Chunks of four of a head vector, and of a value vector: from a short list, so that pipelines are few.
    pub k_chunks: u32,
    pub v_chunks: u32,
    /// Vectors do not fill their chunks.
    pub padded: bool,
    pub x: Storage,
    pub o: Storage,
    pub softcap: bool,
    pub mask: Option<MaskKind>,
    /// ALiBi slopes or sinks are read.
    pub tables: bool,
    /// Sequences, pages or a tree are read.
    pub indices: bool,
    pub lse: bool,
    /// Inputs that lie in a buffer that is written. Set by `prepare`.
    pub q_writable: bool,
    pub k_writable: bool,
    pub v_writable: bool,
    pub mask_writable: bool,
    pub tables_writable: bool,
    pub indices_writable: bool,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params {
        batch: u32,
        kv_heads: u32,
        group: u32,
        seq_q: u32,
        seq_kv: u32,
        head_dim: u32,
        value_dim: u32,
        flags: u32,
        scale: f32,
        softcap: f32,
        neg_inf: f32,
        left: i32,
        right: i32,
        tiles: u32,
        splits: u32,
        split_keys: u32,
        grid_x: u32,
        q_offset: u32,
        q_s0: u32,
        q_s1: u32,
        q_s2: u32,
        k_offset: u32,
        k_s0: u32,
        k_s1: u32,
        k_s2: u32,
        v_offset: u32,
        v_s0: u32,
        v_s1: u32,
        v_s2: u32,
        o_offset: u32,
        o_part: u32,
        o_s0: u32,
        o_s1: u32,
        o_s2: u32,
        lse_offset: u32,
        lse_part: u32,
        lse_s0: u32,
        lse_s1: u32,
        mask_offset: u32,
        mask_s0: u32,
        mask_s1: u32,
        mask_s2: u32,
        mask_step: u32,
        alibi: u32,
        alibi_s0: u32,
        sinks: u32,
        cu_q: u32,
        cu_kv: u32,
        total_q: u32,
        total_kv: u32,
        lengths: u32,
        block_table: u32,
        max_pages: u32,
        pages: u32,
        page_size: u32,
        parents: u32,
        parents_s0: u32,
    }
}

/// Bits of `Params::flags`, as in the shader.
const ALIBI: u32 = 1;
const SINKS: u32 = 2;
const PACKED: u32 = 4;
const PAGED: u32 = 8;
const LENGTHS: u32 = 16;
const TREE: u32 = 32;

/// Sizes and windows beyond any sequence; sums of three fit in an i32.
const FAR: usize = 1 << 28;

/// The views that a Problem's layouts resolve to.
struct Views {
    q: View<3>,
    k: View<3>,
    v: View<3>,
    o: View<3>,
    mask: Option<(MaskKind, View<3>)>,
    /// Elements reached of tables and of indices.
    tables: u64,
    indices: u64,
}

impl Problem {
    /// `[batch, heads, seq]` of q and o; all tokens are one batch where they are packed.
    pub fn q_sizes(&self) -> [usize; 3] {
        match self.packed {
            Some(packed) => [1, self.heads, packed.total_q],
            None => [self.batch, self.heads, self.seq_q],
        }
    }

    /// `[batch, heads, seq]` of k and v; all tokens are one batch where they are packed, pages are batches.
    pub fn kv_sizes(&self) -> [usize; 3] {
        match (self.paged, self.packed) {
            (Some(paged), _) => [paged.pages, self.kv_heads, paged.page_size],
            (None, Some(packed)) => [1, self.kv_heads, packed.total_kv],
            (None, None) => [self.batch, self.kv_heads, self.seq_kv],
        }
    }

    /// A layout of q and o with its strides written out, where tokens come first.
    pub fn q_strides(&self, layout: Layout<3>, dim: usize) -> Layout<3> {
        let [_, heads, seq] = self.q_sizes();
        match self.packed {
            Some(_) => Layout { strides: layout.strides.or(bshd(heads, seq, dim).strides), ..layout },
            None => layout,
        }
    }

    /// The same for k and v.
    pub fn kv_strides(&self, layout: Layout<3>, dim: usize) -> Layout<3> {
        let [_, heads, seq] = self.kv_sizes();
        match self.packed.is_some() || self.paged.is_some() {
            true => Layout { strides: layout.strides.or(bshd(heads, seq, dim).strides), ..layout },
            false => layout,
        }
    }

    /// The mask's layout with its strides written out.
    fn mask_layout(&self, mask: Mask) -> Layout<3> {
        let inner = if mask.broadcast_cols { 1 } else { self.seq_kv };
        // Rows of bits are padded to words.
        let padded = if mask.kind == MaskKind::Bits { inner.div_ceil(32).saturating_mul(32) } else { inner };
        let head = self.seq_q.saturating_mul(padded);
        let contiguous = [self.heads.saturating_mul(head), head, padded];
        Layout::strided(mask.layout.offset, mask.layout.strides.unwrap_or(contiguous))
    }

    /// The element of the mask that belongs to key `j` of row `row` of `[batch, heads, seq_q]`.
    ///
    /// # Panics
    /// Without a mask.
    pub fn mask_index(&self, row: usize, j: usize) -> usize {
        let mask = self.mask.expect("a mask");
        let start = self.mask_layout(mask).row_start([self.batch, self.heads, self.seq_q], self.seq_kv, row);
        start + if mask.broadcast_cols { 0 } else { j }
    }

    /// Query heads that share a head of k and v.
    fn group(&self) -> usize {
        self.heads.checked_div(self.kv_heads).unwrap_or(0)
    }

    /// Whether there is no row to compute.
    fn is_empty(&self) -> bool {
        self.q_sizes().contains(&0) || self.batch == 0 || self.seq_q == 0
    }

    fn views(&self) -> Result<Views> {
        let invalid = |arg, reason: String| Err(Error { op: OP, kind: ErrorKind::InvalidProblem { arg, reason } });
        let Problem { batch, heads, kv_heads, seq_q, seq_kv, head_dim, value_dim, .. } = *self;
        for (arg, n) in [("batch", batch), ("heads", heads), ("seq_q", seq_q), ("seq_kv", seq_kv)] {
            if n > FAR {
                return invalid(arg, format!("{n} is more than 2^28"));
            }
        }
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return invalid("kv_heads", format!("{kv_heads} does not divide {heads} heads"));
        }
        for (arg, n) in [("head_dim", head_dim), ("value_dim", value_dim)] {
            if !(1..=4 * CHUNKS[CHUNKS.len() - 1] as usize).contains(&n) {
                return invalid(arg, format!("{n} is not 1 to {}", 4 * CHUNKS[CHUNKS.len() - 1]));
            }
        }
        for (arg, n) in [("scale", self.scale), ("softcap", self.softcap)] {
            if !n.is_finite() || (arg == "softcap" && n < 0.0) {
                return invalid(arg, format!("{n} is not finite, or negative"));
            }
        }
        let paged = self.paged.map_or([0; 3], |paged| [paged.pages, paged.page_size, paged.max_pages]);
        let packed = self.packed.map_or([0; 2], |packed| [packed.total_q, packed.total_kv]);
        for (arg, sizes) in [("paged", &paged[..]), ("packed", &packed[..])] {
            if let Some(n) = sizes.iter().find(|&&n| n > FAR) {
                return invalid(arg, format!("{n} is more than 2^28"));
            }
        }
        if let Some(Paged { pages, page_size, max_pages, .. }) = self.paged {
            if self.lengths.is_none() {
                return invalid("lengths", "paged sequences need them".into());
            }
            if seq_kv > 0 && pages == 0 {
                return invalid("paged", "there are no pages".into());
            }
            if page_size == 0 || seq_kv > max_pages.saturating_mul(page_size) {
                let reason = format!("{max_pages} pages of {page_size} do not hold {seq_kv} keys");
                return invalid("paged", reason);
            }
        }
        let q = self.q_strides(self.q_layout, head_dim).resolve(OP, "q", self.q_sizes(), head_dim)?;
        let k = self.kv_strides(self.k_layout, head_dim).resolve(OP, "k", self.kv_sizes(), head_dim)?;
        let v = self.kv_strides(self.v_layout, value_dim).resolve(OP, "v", self.kv_sizes(), value_dim)?;
        let o = self.q_strides(self.o_layout, value_dim).resolve(OP, "o", self.q_sizes(), value_dim)?;
        if o.overlaps_itself() && !self.is_empty() {
            return invalid("o_layout", format!("rows overlap: strides {:?} for sizes {:?}", o.strides, o.sizes));
        }
        if let Some(offset) = self.lse {
            Layout::<3>::at(offset).resolve(OP, "lse", self.q_sizes(), 1)?;
        }
        let mask = match self.mask {
            None => None,
            Some(mask) => {
                let inner = if mask.broadcast_cols { 1 } else { seq_kv };
                Some((mask.kind, self.mask_layout(mask).resolve(OP, "mask", [batch, heads, seq_q], inner)?))
            }
        };
        let end = |arg, offset: usize, n: [usize; 2]| Layout::at(offset).resolve(OP, arg, n, 1).map(|view| view.end);
        let per = |per_batch: bool| if per_batch { batch } else { 1 };
        let (mut tables, mut indices) = (0, 0);
        if let Some(Alibi { slopes, per_batch }) = self.alibi {
            tables = end("tables", slopes, [per(per_batch), heads])?;
        }
        if let Some(sinks) = self.sinks {
            tables = tables.max(end("tables", sinks, [1, heads])?);
        }
        if let Some(Packed { cu_q, cu_kv, .. }) = self.packed {
            indices = end("indices", cu_q, [1, batch + 1])?;
            if self.paged.is_none() {
                indices = indices.max(end("indices", cu_kv, [1, batch + 1])?);
            }
        }
        if let Some(lengths) = self.lengths {
            indices = indices.max(end("indices", lengths, [1, batch])?);
        }
        if let Some(Paged { block_table, max_pages, .. }) = self.paged {
            indices = indices.max(end("indices", block_table, [batch, max_pages])?);
        }
        if let Some(Tree { parents, per_batch }) = self.tree {
            indices = indices.max(end("indices", parents, [per(per_batch), seq_q])?);
        }
        Ok(Views { q, k, v, o, mask, tables, indices })
    }

    /// The form of the Problem; `wish` may hold a dtype otherwise than is usual on this device.
    fn form(&self, caps: &Caps, views: &Views, algorithm: Algorithm, lanes: u32, wish: Option<Form>) -> Form {
        let storage = |wish, dtype| Storage::wished(wish, dtype, caps);
        let splits = algorithm == Algorithm::Decode;
        let inputs = [&views.q, &views.k, &views.v].iter().all(|view| view.multiple_of(4));
        let chunks = |n: usize| {
            let need = n.div_ceil(4) as u32;
            CHUNKS.into_iter().find(|&chunks| chunks >= need).unwrap_or(need).next_multiple_of(lanes.max(1))
        };
        let (k_chunks, v_chunks) = (chunks(self.head_dim), chunks(self.value_dim));
        Form {
            vec: if inputs && (splits && self.value_dim.is_multiple_of(4) || views.o.multiple_of(4)) { 4 } else { 1 },
            k_chunks,
            v_chunks,
            padded: k_chunks as usize * 4 != self.head_dim || v_chunks as usize * 4 != self.value_dim,
            x: storage(wish.map(|f| f.x), self.x),
            // Parts are f32.
            o: if splits { Storage::F32 } else { storage(wish.map(|f| f.o), self.o) },
            softcap: self.softcap > 0.0,
            mask: self.mask.map(|mask| mask.kind),
            tables: self.alibi.is_some() || self.sinks.is_some(),
            indices: views.indices > 0,
            lse: splits || self.lse.is_some(),
            q_writable: false,
            k_writable: false,
            v_writable: false,
            mask_writable: false,
            tables_writable: false,
            indices_writable: false,
        }
    }
}

/// Chunks of four that vectors are padded to: head dims 32, 64, 96, 128, 192, 256, 512 and 576.
const CHUNKS: [u32; 8] = [8, 16, 24, 32, 48, 64, 128, 144];

/// A row of the table: the tiles of one class of adapters.
struct Row {
    class: Class,
    /// Invocations of a workgroup; a subgroup where keys are handed round.
    wg_size: u32,
    /// Chunks of q and of o that an invocation may hold before more of them share a row.
    hold: u32,
    /// Rows per invocation, where it holds at most so many chunks of each; else one.
    rows: (u32, u32),
    keys: u32,
    /// Keys and values are handed round in a subgroup; else they are staged.
    broadcast: bool,
    /// Up to so many rows per head of k and v, they are decoded.
    few: usize,
    /// Invocations per row there, and workgroups to reach by splitting keys.
    decode: (u32, usize),
}

/// Bytes of workgroup memory for keys and values: with the shares of scores they fit the baseline's 16 KiB.
const STAGE: u32 = 12288;

/// Measured on: Software, Mesa 26.2 lavapipe on 2 cores (see the module). Discrete and Integrated are not measured
/// yet: 64 chunks (256 registers) of q and o are too many for any GPU, and 16 leave room for two waves.
const TABLE: [Row; 3] = [
    Row {
        class: Class::Software,
        wg_size: 8,
        hold: 128,
        rows: (2, 32),
        keys: 4,
        broadcast: true,
        few: 8,
        decode: (4, 4),
    },
    Row {
        class: Class::Integrated,
        wg_size: 64,
        hold: 16,
        rows: (1, 16),
        keys: 4,
        broadcast: false,
        few: 16,
        decode: (16, 64),
    },
    Row {
        class: Class::Discrete,
        wg_size: 128,
        hold: 16,
        rows: (1, 16),
        keys: 4,
        broadcast: false,
        few: 16,
        decode: (16, 512),
    },
];

/// Keys below which a split does not pay.
const SPLIT_KEYS: usize = 256;
const MAX_SPLITS: usize = 128;
/// Where the driver cuts long loops short.
const MOST_SPLITS: u32 = 1 << 16;

/// The Config for this Problem on this device: the best of [`candidates`].
///
/// # Errors
/// Those of the Problem: sizes, layouts.
pub fn choose(caps: &Caps, problem: &Problem) -> Result<Config> {
    chosen(OP, caps, problem, candidates(caps, problem)?)
}

/// Every Config of the table that fits, the best first.
///
/// # Errors
/// Those of the Problem.
pub fn candidates(caps: &Caps, problem: &Problem) -> Result<Vec<Config>> {
    let views = problem.views()?;
    let row = TABLE.iter().find(|row| row.class == caps.class()).unwrap_or(&TABLE[0]);
    let most = caps.most_invocations();
    // An old Mesa writes out loads and shuffles lane by lane: what unrolls far compiles for seconds.
    let old = row.class == Class::Software && caps.mesa_before((25, 0));
    let (keys, broadcast, hold) = if old { (1, false, 64) } else { (row.keys, row.broadcast, row.hold) };
    let subgroup = caps.trusted_subgroup_size();
    let wg_size = subgroup.filter(|_| row.broadcast).unwrap_or(row.wg_size).min(most);
    let form = |algorithm, lanes| problem.form(caps, &views, algorithm, lanes, None);
    let one = form(Algorithm::Tiled, 1);
    // As many lanes as leave an invocation `hold` chunks, and then as many rows as it may hold.
    let chunks = one.k_chunks + one.v_chunks;
    let lanes = chunks.div_ceil(hold).next_power_of_two().min(wg_size);
    let rows = problem.group().saturating_mul(problem.seq_q).max(1);
    let (most_rows, held) = if old { (1, 0) } else { row.rows };
    let fit = |most: u32, lanes: u32| {
        let want = rows.div_ceil((wg_size / lanes) as usize).min(16) as u32;
        if chunks <= held * lanes { 1 << most.min(want).ilog2() } else { 1 }
    };
    let staged = STAGE / (16 * chunks) / keys * keys;
    let load = match subgroup {
        Some(size) if broadcast && lanes == 1 => Load::Broadcast(size),
        _ if row.class == Class::Software || staged == 0 => Load::Direct,
        _ => Load::Staged(staged),
    };
    let tiled = |reduce| Config {
        algorithm: Algorithm::Tiled,
        wg_size,
        lanes,
        rows: fit(most_rows, lanes),
        slots: 1,
        keys,
        load,
        splits: 1,
        reduce,
        form: form(Algorithm::Tiled, lanes),
    };
    // Rows are held by each invocation; the rest of the workgroup takes turns at the keys.
    let decode_lanes = row.decode.0.max(lanes).min(wg_size);
    let shares = hold * decode_lanes / chunks;
    let decode_rows = 1 << (rows.next_power_of_two().min(4) as u32).min(shares.max(1)).ilog2();
    let groups = rows.div_ceil(decode_rows as usize).next_power_of_two().min((wg_size / decode_lanes) as usize) as u32;
    let slots = wg_size / decode_lanes / groups;
    let tiles = rows.div_ceil((groups * decode_rows) as usize);
    let workgroups = tiles.saturating_mul(problem.kv_heads).saturating_mul(problem.batch).max(1);
    let splits = row.decode.1.div_ceil(workgroups).min(problem.seq_kv.div_ceil(SPLIT_KEYS)).clamp(1, MAX_SPLITS);
    // More where the driver cuts long walks short.
    let split = |config: Config| {
        let config = Config { algorithm: Algorithm::Decode, form: form(Algorithm::Decode, config.lanes), ..config };
        let rounds = |splits| Config { splits, ..config }.rounds(problem);
        Config { splits: caps.parts(config.splits, MOST_SPLITS, rounds), ..config }
    };
    let decode = |reduce| {
        split(Config {
            lanes: decode_lanes,
            rows: decode_rows,
            slots,
            load: Load::Direct,
            splits: splits as u32,
            ..tiled(reduce)
        })
    };
    let all = [Reduce::None, Reduce::Shuffle, Reduce::Memory];
    let mut tiles: Vec<_> = all.map(tiled).into();
    match rows <= row.few && problem.seq_kv >= SPLIT_KEYS {
        true => tiles.splice(0..0, all.map(decode)).for_each(drop),
        false => tiles.extend(all.map(decode)),
    }
    if caps.loop_rounds().is_some() {
        tiles.extend(all.map(|reduce| split(tiled(reduce))));
    }
    // With one invocation per row: for devices of small workgroups.
    tiles.push(Config { lanes: 1, rows: 1, load: Load::Direct, form: one, ..tiled(Reduce::None) });
    let mut found: Vec<Config> = Vec::new();
    for config in tiles {
        match config.fits(caps, problem) {
            Ok(()) if found.contains(&config) => {}
            Ok(()) => found.push(config),
            Err(reason) => log::trace!("{OP}: {config:?} dropped: {reason}"),
        }
    }
    Ok(found)
}

/// Bytes of scratch: o and LSE per part and row for `Decode`; else 0. Their number does not grow with the keys but where
/// the driver cuts long walks short.
pub fn scratch_bytes(problem: &Problem, config: &Config) -> u64 {
    match config.algorithm {
        Algorithm::Tiled => 0,
        Algorithm::Decode => {
            let [o, lse] = scratch_parts(problem, config);
            o.saturating_add(lse)
        }
    }
}

/// Bytes of o, padded so that LSEs may be bound after them, and of LSEs.
fn scratch_parts(problem: &Problem, config: &Config) -> [u64; 2] {
    let rows = problem.q_sizes().iter().fold(1u64, |n, &size| n.saturating_mul(size as u64));
    let all = rows.saturating_mul(u64::from(config.splits) * u64::from(config.slots));
    [
        all.saturating_mul(4 * problem.value_dim as u64).checked_next_multiple_of(256).unwrap_or(u64::MAX / 2),
        all.saturating_mul(4),
    ]
}

/// `tiled wg8 lanes1 rows1 slots1 keys4 broadcast(8) none f32>f32x4 d16:16 mask_bytes`: what differs, in a line.
impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config { algorithm, wg_size, lanes, rows, slots, keys, load, reduce, form, .. } = self;
        let Form { vec, k_chunks, v_chunks, x, o, .. } = form;
        let text = format!(
            "{algorithm:?} wg{wg_size} lanes{lanes} rows{rows} slots{slots} keys{keys} {load:?} {reduce:?} {x:?}>{o:?}x{vec} d{k_chunks}:{v_chunks}",
        );
        f.write_str(&text.to_lowercase())?;
        match form.mask {
            Some(MaskKind::Additive(dtype)) => write!(f, " mask_{dtype}")?,
            Some(MaskKind::Bytes) => f.write_str(" mask_bytes")?,
            Some(MaskKind::Bits) => f.write_str(" mask_bits")?,
            None => {}
        }
        write_flags(
            f,
            &[
                ("padded", form.padded),
                ("softcap", form.softcap),
                ("tables", form.tables),
                ("indices", form.indices),
                ("lse", form.lse),
                ("q_writable", form.q_writable),
                ("k_writable", form.k_writable),
                ("v_writable", form.v_writable),
                ("mask_writable", form.mask_writable),
                ("tables_writable", form.tables_writable),
                ("indices_writable", form.indices_writable),
            ],
        )
    }
}

impl Config {
    /// Whether the Config can run this Problem on this device.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn fits(&self, caps: &Caps, problem: &Problem) -> Result<(), Misfit> {
        let limits = &caps.limits;
        let most = caps.most_invocations();
        let Config { wg_size, lanes, rows, slots, keys, load, splits, .. } = *self;
        let subgroup = caps.trusted_subgroup_size();
        let subgroups = |size: u32| subgroup == Some(size) && wg_size.is_multiple_of(size);
        let misfit = |what, have, limit| Err(Misfit::old(what, have, limit));
        let tiled = self.algorithm == Algorithm::Tiled;
        let scratch = scratch_bytes(problem, self);
        let limit = limits.max_storage_buffer_binding_size.min(u64::from(u32::MAX) * 4);
        match self.reduce {
            _ if wg_size == 0 || wg_size > most => misfit("wg_size must be at least 1 and at most", wg_size, most),
            _ if !lanes.is_power_of_two() => misfit("lanes must be a power of two", lanes, wg_size),
            _ if slots == 0 || !wg_size.is_multiple_of(lanes.saturating_mul(slots)) => {
                misfit("lanes * slots must divide wg_size", lanes.saturating_mul(slots), wg_size)
            }
            _ if rows == 0 || rows > 16 => misfit("rows must be 1 to 16", rows, 16),
            _ if keys == 0 || keys > 16 => misfit("keys must be 1 to 16", keys, 16),
            _ if splits == 0 || splits > MOST_SPLITS || (tiled && (splits > 1 || slots > 1)) => {
                misfit("splits must be 1 to 2^16, tiled has one split and slot", splits, 1)
            }
            _ if matches!(load, Load::Staged(n) if n == 0 || !n.is_multiple_of(keys)) => {
                misfit("staged keys must be a multiple of", 0, keys)
            }
            _ if matches!(load, Load::Broadcast(size) if !subgroups(size) || lanes > 1) => {
                misfit("keys are handed round in trusted subgroups, with lanes of", lanes, 1)
            }
            _ if load != Load::Direct && slots > 1 => misfit("staged keys need slots to be", slots, 1),
            Reduce::None if lanes != 1 => misfit("without a reduction lanes must be", lanes, 1),
            Reduce::Shuffle | Reduce::Memory if lanes == 1 => misfit("a reduction needs lanes of at least", lanes, 2),
            Reduce::Shuffle if subgroup.is_none_or(|size| lanes > size) => {
                misfit("shuffles need lanes of at most the trusted subgroup size", lanes, subgroup.unwrap_or(0))
            }
            _ if self.wg_bytes() > limits.max_compute_workgroup_storage_size => {
                misfit("bytes of workgroup memory", self.wg_bytes(), limits.max_compute_workgroup_storage_size)
            }
            _ if scratch > limit => misfit("MiB of scratch", (scratch >> 20) as u32, (limit >> 20) as u32),
            _ if tiled => caps.check_rounds(self.rounds(problem)),
            _ => caps.check_rounds(self.rounds(problem).max(attention_merge::rounds(self.parts().into()))),
        }
    }

    /// Keys of a split, whole steps of the walk.
    fn split_keys(&self, problem: &Problem) -> u32 {
        let step = self.step();
        let keys = (problem.seq_kv as u32).div_ceil(self.splits.max(1));
        keys.checked_next_multiple_of(step).unwrap_or(u32::MAX).max(step)
    }

    /// Keys that the slots of a workgroup take at a time.
    fn step(&self) -> u32 {
        let tile = if let Load::Staged(keys) = self.load { keys } else { self.keys };
        tile.saturating_mul(self.slots).max(1)
    }

    /// Rounds of an invocation's loops, at most; runs of up to 32 are unrolled wherever they were looked at.
    fn rounds(&self, problem: &Problem) -> u64 {
        let [lanes, rows, keys, slots] = [self.lanes, self.rows, self.keys, self.slots].map(|n| u64::from(n.max(1)));
        let unrolled = |n: u64| if n > 32 { n } else { 0 };
        let chunks = [self.form.k_chunks, self.form.v_chunks].map(u64::from);
        let long: u64 = chunks.iter().map(|chunks| unrolled(chunks / lanes)).sum();
        let sum = match self.reduce {
            Reduce::None => 0,
            Reduce::Shuffle => u64::from(lanes.ilog2()) + 2,
            Reduce::Memory => lanes + 2,
        };
        // Scores start, are capped, biased, masked and cut off at the edges.
        let block = 3 + long + 6 * unrolled(rows * keys) + (rows * keys).saturating_mul(sum);
        let staged = match self.load {
            Load::Staged(keys) => {
                2 + u64::from(keys).saturating_mul(chunks[0] + chunks[1]) / u64::from(self.wg_size.max(1))
            }
            _ => 0,
        };
        let right = if problem.causal { Some(0) } else { problem.window[1] };
        let seen = problem.window[0].zip(right).map_or(FAR, |(left, right)| left.saturating_add(right)).min(FAR);
        let walk = (seen as u64 + u64::from(self.tile_rows()) + 1).min(self.split_keys(problem).into());
        let step = u64::from(self.step());
        let blocks_per_step = (step / slots.saturating_mul(keys)).max(1);
        // Each row of a tree walks up from each block of the tree's keys.
        let nodes = problem.tree.map_or(0, |_| problem.seq_q as u64);
        let climbs = (nodes.min(walk) / keys + 2) * rows * nodes;
        let all = (walk / step + 1).saturating_mul(blocks_per_step.saturating_mul(block).saturating_add(staged));
        all.saturating_add(climbs)
    }

    fn wg_bytes(&self) -> u32 {
        let staged = match self.load {
            Load::Staged(keys) => {
                keys.saturating_mul(self.form.k_chunks.saturating_add(self.form.v_chunks)).saturating_mul(16)
            }
            _ => 0,
        };
        match self.reduce {
            Reduce::None | Reduce::Shuffle => staged,
            Reduce::Memory => staged.saturating_add(4 * self.rows * self.keys * self.wg_size),
        }
    }

    /// Rows of a workgroup.
    fn tile_rows(&self) -> u32 {
        self.wg_size / self.lanes / self.slots * self.rows
    }

    /// Results of each row, before they are joined.
    pub fn parts(&self) -> u32 {
        self.splits.saturating_mul(self.slots)
    }

    /// The pipeline that it names; `Decode` has a second step, that of [`attention_merge`].
    pub fn pass(&self) -> Pass {
        Pass { config: Config { splits: 0, ..*self } }
    }
}

/// The pipeline of a Config.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pass {
    config: Config,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.config)
    }
}

const Q: u32 = 0;
const K: u32 = 1;
const V: u32 = 2;
const O: u32 = 3;
const MASK: u32 = 4;
const TABLES: u32 = 5;
const INDICES: u32 = 6;
const LSE: u32 = 7;

impl Pipeline for Pass {
    fn shader(&self) -> Shader {
        let Config { algorithm, wg_size, lanes, rows, slots, keys, load, reduce, form, .. } = self.config;
        let stem = match algorithm {
            Algorithm::Tiled => "attention_tiled",
            Algorithm::Decode => "attention_decode",
        };
        // Single elements of a packed o are stored half by half of a word.
        let edge = form.vec == 1 && form.o.packed();
        let input =
            |binding, name, writable| Tensor { binding, name, storage: form.x, writable, output: false, edge: false };
        let mut shader = Shader::new(stem, wg_size, self.config.wg_bytes(), if edge { 2 } else { form.vec })
            .params::<Params>()
            .constant("LANES", lanes)
            .constant("ROWS", rows)
            .constant("SLOTS", slots)
            .constant("KEYS", keys)
            .constant("TILE", if let Load::Staged(keys) = load { keys } else { keys })
            .constant("K_CHUNKS", form.k_chunks / lanes)
            .constant("V_CHUNKS", form.v_chunks / lanes)
            .flag("PADDED", form.padded)
            .flag("SOFTCAP", form.softcap)
            .flag("HAS_TABLES", form.tables)
            .flag("HAS_INDICES", form.indices)
            .tensor(input(Q, "q", form.q_writable))
            .tensor(input(K, "k", form.k_writable))
            .tensor(input(V, "v", form.v_writable))
            .tensor(Tensor { binding: O, name: "o", storage: form.o, writable: true, output: true, edge })
            .import(if form.vec == 4 { "attention_chunks" } else { "attention_elements" })
            .import(match reduce {
                Reduce::None if matches!(load, Load::Broadcast(_)) => "attention_sum_broadcast",
                Reduce::None => "attention_sum_none",
                Reduce::Shuffle => "attention_sum_shuffle",
                Reduce::Memory => "attention_sum_memory",
            });
        shader = match load {
            Load::Direct => shader.import("attention_direct"),
            Load::Staged(_) => shader.import("attention_staged"),
            Load::Broadcast(size) => shader.constant("LOAD_LANES", size).import("attention_broadcast"),
        };
        let writable = crate::compose::Slots::NONE;
        shader = shader.writable(if form.mask_writable { writable.with(MASK) } else { writable }).mask(MASK, form.mask);
        shader = match form.tables {
            true => shader.buffer(TABLES, "tables", "f32", form.tables_writable).import("attention_tables"),
            false => shader.import("attention_tables_none"),
        };
        shader = match form.indices {
            true => shader.buffer(INDICES, "indices", "u32", form.indices_writable).import("attention_indices"),
            false => shader.import("attention_indices_none"),
        };
        match form.lse {
            true => shader.buffer(LSE, "lse", "f32", true).import("lse"),
            false => shader.import("lse_none"),
        }
    }
}

/// Which memory.
#[derive(Debug, Clone, Copy)]
pub struct Buffers<'a> {
    q: Binding<'a>,
    k: Binding<'a>,
    v: Binding<'a>,
    o: Binding<'a>,
    mask: Option<Binding<'a>>,
    tables: Option<Binding<'a>>,
    indices: Option<Binding<'a>>,
    lse: Option<Binding<'a>>,
    scratch: Option<Binding<'a>>,
}

impl<'a> Buffers<'a> {
    /// `q`, `k` and `v` are read (and may be one buffer), `o` is written.
    pub fn new(
        q: impl Into<Binding<'a>>,
        k: impl Into<Binding<'a>>,
        v: impl Into<Binding<'a>>,
        o: impl Into<Binding<'a>>,
    ) -> Self {
        let (mask, tables, indices, lse, scratch) = (None, None, None, None, None);
        Buffers { q: q.into(), k: k.into(), v: v.into(), o: o.into(), mask, tables, indices, lse, scratch }
    }

    /// The mask that the Problem asks for.
    pub fn mask(mut self, mask: impl Into<Binding<'a>>) -> Self {
        self.mask = Some(mask.into());
        self
    }

    /// The f32 tables that the Problem asks for: ALiBi slopes, sinks.
    pub fn tables(mut self, tables: impl Into<Binding<'a>>) -> Self {
        self.tables = Some(tables.into());
        self
    }

    /// The u32 tables that the Problem asks for: starts, lengths, pages, parents.
    pub fn indices(mut self, indices: impl Into<Binding<'a>>) -> Self {
        self.indices = Some(indices.into());
        self
    }

    /// The log-sum-exp that the Problem asks for.
    pub fn lse(mut self, lse: impl Into<Binding<'a>>) -> Self {
        self.lse = Some(lse.into());
        self
    }

    /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
    pub fn scratch(mut self, scratch: impl Into<Binding<'a>>) -> Self {
        self.scratch = Some(scratch.into());
        self
    }
}

prepare_by!(plan);

fn plan(kernels: &Kernels, problem: &Problem, config: Option<&Config>, buffers: &Buffers) -> Result<Dispatch> {
    let caps = kernels.caps();
    let views = problem.views()?;
    given(OP, "mask", problem.mask.is_some(), buffers.mask.is_some())?;
    given(OP, "tables", problem.alibi.is_some() || problem.sinks.is_some(), buffers.tables.is_some())?;
    given(OP, "indices", views.indices > 0, buffers.indices.is_some())?;
    given(OP, "lse", problem.lse.is_some(), buffers.lse.is_some())?;
    let mut config = match config {
        Some(config) => {
            let form = problem.form(&caps, &views, config.algorithm, config.lanes, Some(config.form));
            Config { form, ..*config }
        }
        None => choose(&caps, problem)?,
    };
    config.fits(&caps, problem).map_err(|misfit| misfit.error(OP))?;
    if problem.is_empty() {
        return Ok(Dispatch::nothing(OP));
    }

    let bits = |dtype: Dtype| 8 * dtype.bytes();
    // Nothing is read of what has no elements, and its buffer may have none.
    let kv = |binding, view: &View<3>| if view.end == 0 { buffers.q } else { binding };
    let mut args = vec![
        Arg::new(Q, "q", buffers.q, bits(problem.x), &views.q, false),
        Arg::new(K, "k", kv(buffers.k, &views.k), bits(problem.x), &views.k, false),
        Arg::new(V, "v", kv(buffers.v, &views.v), bits(problem.x), &views.v, false),
        Arg::new(O, "o", buffers.o, bits(problem.o), &views.o, true),
    ];
    if let (Some((kind, view)), Some(binding)) = (&views.mask, buffers.mask) {
        args.push(Arg::new(MASK, "mask", kv(binding, view), crate::args::Element::from(*kind).bits, view, false));
    }
    for (slot, name, binding, end) in
        [(TABLES, "tables", buffers.tables, views.tables), (INDICES, "indices", buffers.indices, views.indices)]
    {
        if let Some(binding) = binding {
            args.push(Arg { slot, name, binding, element_bits: 32, elements: 0..end, writes: false });
        }
    }
    let sizes = problem.q_sizes();
    let rows: usize = sizes.iter().product();
    if let (Some(offset), Some(binding)) = (problem.lse, buffers.lse) {
        let elements = offset as u64..(offset + rows) as u64;
        args.push(Arg { slot: LSE, name: "lse", binding, element_bits: 32, elements, writes: true });
    }
    let scratch_need = scratch_bytes(problem, &config);
    let pooled;
    let scratch = match buffers.scratch {
        _ if scratch_need == 0 => None,
        Some(binding) => Some(binding),
        None => {
            pooled = kernels.scratch(scratch_need).map_err(|kind| kind.of(OP))?;
            Some(Binding::from(&pooled))
        }
    };
    args.extend(scratch.map(|binding| Arg::scratch(SCRATCH, binding, scratch_need)));
    check_all(OP, &caps, &args, |_, _| false)?;
    let shared = |args: &[Arg], config: &mut Config| {
        config.form.q_writable = read_write(args, Q);
        config.form.k_writable = read_write(args, K);
        config.form.v_writable = read_write(args, V);
        config.form.mask_writable = read_write(args, MASK);
        config.form.tables_writable = read_write(args, TABLES);
        config.form.indices_writable = read_write(args, INDICES);
    };

    let packed = problem.packed.is_some();
    let tiles = (problem.group() as u64 * problem.seq_q as u64).div_ceil(config.tile_rows().into());
    let heads = problem.kv_heads as u64 * problem.batch as u64;
    let workgroups = tiles.saturating_mul(heads).saturating_mul(config.splits.into());
    let grid = fold(OP, &caps, workgroups)?;
    let far = |window: Option<usize>| window.map_or(FAR, |keys| keys.min(FAR)) as i32;
    let indices = |at: Option<usize>| at.unwrap_or(0) as u32;
    let paged = problem.paged.unwrap_or(Paged { pages: 1, page_size: 1, block_table: 0, max_pages: 0 });
    let starts = problem.packed.unwrap_or(Packed { cu_q: 0, cu_kv: 0, total_q: 0, total_kv: 0 });
    let flag = |on: bool, bit| if on { bit } else { 0 };
    let mask = views.mask.as_ref().map(|(_, view)| view);
    let mut params = Params {
        batch: problem.batch as u32,
        kv_heads: problem.kv_heads as u32,
        group: problem.group() as u32,
        seq_q: problem.seq_q as u32,
        seq_kv: problem.seq_kv as u32,
        head_dim: problem.head_dim as u32,
        value_dim: problem.value_dim as u32,
        flags: flag(problem.alibi.is_some(), ALIBI)
            | flag(problem.sinks.is_some(), SINKS)
            | flag(packed, PACKED)
            | flag(problem.paged.is_some(), PAGED)
            | flag(problem.lengths.is_some(), LENGTHS)
            | flag(problem.tree.is_some(), TREE),
        scale: problem.scale,
        softcap: problem.softcap,
        neg_inf: f32::NEG_INFINITY,
        left: far(problem.window[0]),
        right: if problem.causal { 0 } else { far(problem.window[1]) },
        tiles: tiles as u32,
        splits: config.splits,
        split_keys: config.split_keys(problem),
        grid_x: grid[0],
        q_offset: views.q.offset as u32,
        q_s0: views.q.stride(0),
        q_s1: views.q.stride(1),
        q_s2: views.q.stride(2),
        k_offset: views.k.offset as u32,
        k_s0: views.k.stride(0),
        k_s1: views.k.stride(1),
        k_s2: views.k.stride(2),
        v_offset: views.v.offset as u32,
        v_s0: views.v.stride(0),
        v_s1: views.v.stride(1),
        v_s2: views.v.stride(2),
        o_offset: views.o.offset as u32,
        o_part: 0,
        o_s0: views.o.stride(0),
        o_s1: views.o.stride(1),
        o_s2: views.o.stride(2),
        lse_offset: indices(problem.lse),
        lse_part: 0,
        lse_s0: if packed { 0 } else { (sizes[1] * sizes[2]) as u32 },
        lse_s1: sizes[2] as u32,
        mask_offset: mask.map_or(0, |view| view.offset as u32),
        mask_s0: mask.map_or(0, |view| view.stride(0)),
        mask_s1: mask.map_or(0, |view| view.stride(1)),
        mask_s2: mask.map_or(0, |view| view.stride(2)),
        mask_step: problem.mask.map_or(0, |mask| u32::from(!mask.broadcast_cols)),
        alibi: indices(problem.alibi.map(|alibi| alibi.slopes)),
        alibi_s0: problem.alibi.map_or(0, |alibi| if alibi.per_batch { problem.heads as u32 } else { 0 }),
        sinks: indices(problem.sinks),
        cu_q: starts.cu_q as u32,
        cu_kv: starts.cu_kv as u32,
        total_q: starts.total_q as u32,
        total_kv: starts.total_kv as u32,
        lengths: indices(problem.lengths),
        block_table: paged.block_table as u32,
        max_pages: paged.max_pages as u32,
        pages: paged.pages as u32,
        page_size: paged.page_size as u32,
        parents: indices(problem.tree.map(|tree| tree.parents)),
        parents_s0: problem.tree.map_or(0, |tree| if tree.per_batch { problem.seq_q as u32 } else { 0 }),
    };
    let Some(scratch) = scratch else {
        shared(&args, &mut config);
        let pass = kernels.pipeline(OP, &config.pass())?;
        return Ok(Dispatch::new(OP, kernels, &args, &params, vec![(pass, grid)]));
    };

    // First step: o and LSE of each part go to scratch; second: they are joined.
    let [o_bytes, lse_bytes] = scratch_parts(problem, &config);
    let parts = config.parts() as usize;
    let (o_parts, lse_parts) = (scratch.part(0, o_bytes), scratch.part(o_bytes, lse_bytes));
    args.retain(|arg| ![O, LSE, SCRATCH].contains(&arg.slot));
    let part = |slot, name, binding, elements: usize| Arg {
        slot,
        name,
        binding,
        element_bits: 32,
        elements: 0..elements as u64,
        writes: true,
    };
    args.push(part(O, "scratch", o_parts, parts * rows * problem.value_dim));
    args.push(part(LSE, "scratch", lse_parts, parts * rows));
    let [_, n_heads, seq] = sizes;
    params.o_offset = 0;
    params.o_part = (rows * problem.value_dim) as u32;
    params.o_s0 = if packed { 0 } else { (n_heads * seq * problem.value_dim) as u32 };
    params.o_s1 = (seq * problem.value_dim) as u32;
    params.o_s2 = problem.value_dim as u32;
    params.lse_offset = 0;
    params.lse_part = rows as u32;
    shared(&args, &mut config);
    let pass = kernels.pipeline(OP, &config.pass())?;
    let first = Dispatch::new(OP, kernels, &args, &params, vec![(pass, grid)]);
    let merge = attention_merge::Problem {
        splits: parts,
        rows,
        dim: problem.value_dim,
        dims: [n_heads, seq],
        x: Dtype::F32,
        y: problem.o,
        out_layout: problem.q_strides(problem.o_layout, problem.value_dim),
        lse_out: problem.lse,
        ..Default::default()
    };
    let mut join = attention_merge::Buffers::new(o_parts, lse_parts, buffers.o);
    if let Some(lse) = buffers.lse {
        join = join.lse_out(lse);
    }
    let second = attention_merge::plan(kernels, &merge, None, &join)?;
    Ok(Dispatch::sequence(OP, [first, second]))
}

/// The argument that stands for both parts of scratch while arguments are checked.
const SCRATCH: u32 = 8;
