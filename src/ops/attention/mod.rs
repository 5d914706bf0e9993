//! Exact attention without the matrix of scores: `o = softmax(scale q k^T + bias) v` by an online softmax.
//!
//! In this order (`t = i + n_kv - n_q` is the key at which query `i` of a sequence stands, bottom-right aligned):
//! `s = scale * q.k`; `s = softcap * tanh(s / softcap)`; ALiBi adds `-slope * |t - j|`; the additive mask; then causal,
//! window, segments, boolean mask and tree hide; then the sink, one more logit per head that takes weight and has no value.
//! `lse = max s + ln sum exp(s - max s)`, with the sink. A row with nothing to see gives 0, and an LSE of minus
//! infinity, or of its sink. Sums are f32 whatever the dtypes.
//!
//! # Limits
//! * What is hidden does not show, whatever its k and v hold. NaN in what is visible is not specified.
//! * Scores beyond the largest f32 count as that, infinite ones included; so do ALiBi slopes and sinks.
//! * Scores of [`Algorithm::Coop`] to which nothing is added count as 2.3e38 beyond that.
//! * A key whose weight is less than the smallest f32 counts nothing: its v, if infinite, may show or not.
//! * `scale * q`, partial sums of `q.k`, and sums of the values by their weights must not be beyond f32; with k and v in 8 bits, of their codes, too.
//! * `Coop` rounds weights to f16, as large as 2^8 where their row's largest is 1 in other algorithms. With o of f32 a weight is
//!   the sum of two of them.
//!
//! Query heads come in groups of `heads / kv_heads` that share a head of k and v (GQA; MQA with one). Sequences are
//! dense, or packed one after the other ([`Packed`]); k and v contiguous, or in pages ([`Paged`]); both with
//! [`Problem::lengths`]. k and v may be in 8 bits, with a scale per vector ([`Codes`]). Whatever these buffers hold, nothing outside the tensors is read or written.
//!
//! In a browser `indices` need a buffer that no output lies in.
//!
//! # Algorithms
//! * [`Algorithm::Tiled`]: a tile of rows per workgroup, which walks the keys that it sees.
//! * [`Algorithm::Decode`]: few rows and many keys; the keys are split, and
//!   [`attention_merge`](crate::attention_merge) joins the parts. Scratch does not depend on the number of keys.
//! * [`Algorithm::Coop`]: as tiled, by cooperative matrices, where `Kernels::probe` has seen them work: q, k and v of f16, or of bf16
//!   where [`Problem::inputs`] allows it. First on GPUs, for 16 rows of a head of k and v or more.
//!
//! # Bindings
//! All eight storage buffers of WebGPU's baseline have a place: q, k, v, o, mask, tables, indices, lse. A further small
//! table gets no binding of its own: f32 tables share `tables`, u32 ones share `indices`, each at an element offset that
//! the Problem gives. `tables` holds what is f32 per head (ALiBi slopes, sinks), and the scales of k and v in 8 bits
//! ([`Codes`]), in one buffer.
//! `indices` holds starts of packed sequences, lengths, pages, parents, and segments.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 cores, 8 heads of 64, 512 queries and keys, f32, in GFLOP/s. The roofline's chain of products
//! and sums reaches 36 to 46.
//! * Every invocation loads each chunk of k and v: 10, with four rows per invocation 18; through workgroup memory 12, 23.
//! * Each chunk is loaded once per subgroup and handed round by shuffles: 25, with two rows 32, with four 35.
//! * Products and sums as `fma`: 38 with two rows.
//! * No branch in the walk (softcap is a constant, masks by position are always applied): 41 with two rows. Four rows or
//!   blocks of eight keys are slower: they spill.
//! * Hidden values replaced by 0, scores bounded, the wholly visible steps in a loop apart (`hide=apart`): in turns with the
//!   above, two runs of 10 and 14 pairs, the median takes 1.04 and 0.97 of the time, causal 1.08 and 1.03, decode 1.10 and 1.01.
//!   Nested in the loop of the others, it takes 1.15 when causal, since each turn goes through it; with `hide=select` decode 1.2.
//! * Heads of 128 in f16: 24 with one row, 20 with two, 16 with four.
//! * Decode, 32 heads over 8 of 128, 8192 keys in f16: four invocations share a key, so that neighbours read neighbouring
//!   chunks, and hold the rows of a group: 22 with four rows, 17 with two. With eight invocations per key 5 % less, and for
//!   16 heads over 2 of 64 20 % less, since each computes the exponentials of all its rows. A fifth of the time converts f16.
//!
//! By the compilers of real GPUs (RADV for RDNA2 to 4, Vega, RDNA3.5; NVK for Turing to Blackwell; Honeykrisp for M1; Turnip for
//! Adreno 740) nothing spills at head dims of 32 to 256 and 576, f16, bf16 and f32, masked or not, `hide=branch`. Tiled, d 128 in
//! f16: 120 VGPRs on RDNA3, 112 registers on Ada, 183 on M1; by an estimate of issue slots and workgroup memory a tile that is
//! wholly visible leaves at most 46 % of the f32 peak on both of the first (one row per invocation: 22), 48 at d 64, 42 and 41 at d 256,
//! 29 and 27 at 576 over 512. A mask or the edge of what is causal costs as much again where it runs: `loom isa`, which counts
//! that longer way, says 37 % on RDNA3 and 30 % on Ada at d 64. Decode, 32 heads over 8 of 128: 108 VGPRs and 1896 instructions on RDNA3
//! without workgroup memory, by shuffles of 16 lanes (2476 with it); 120 registers on Ada, 2889 instructions with packed f16, 3499
//! with native. All of it is bound by memory there.
//!
//! Decode with k and v in 8 bits, 32 heads over 8 of 128, instructions of the main loop (a block that is masked): all are bound by memory in that
//! estimate, which has 264 bytes per key for 512 in f16.
//!
//! | keys | RDNA3 | Ada | M1 | Adreno 740 |
//! |---|---|---|---|---|
//! | f16 | 1122 | 1449 | 1998 | 671 |
//! | int8 | 1677 | 1571 | 1488 | 888 |
//! | int8, each chunk multiplied by its scale | 1808 | 1667 | 1629 | 1012 |
//! | int8, a byte in the mantissa of 2^23, less that | 1942 | 1771 | 1584 | 889 |
//! | int8, as unsigned bytes, less 128 | 1762 | 1771 | 1584 | 925 |
//! | e4m3, by the lesser of two | 2749 | 2491 | 2256 | 1161 |
//! | e4m3, by a choice of two, and of NaN, each chunk multiplied by its scale | 4027 | 3387 | 2568 | 1729 |
//! | e4m3, as f16, which devices may flush | 1882 | 1889 | 1496 | 1017 |
//!
//! `Coop` by the same compilers, 64 rows by 32 keys, f16, as chosen for the benchmark; instructions of the main loop (a tile
//! that is masked; without what is rarely gone through) per product of matrices of 16 x 16 x 16, on NVIDIA 16 x 8 x 16. `loom isa`
//! estimates the share of the peak that is left, at most. Nothing spills; no array of matrices lies in memory.
//!
//! | head dim | RDNA3 | RDNA4 | RDNA3.5 | Ampere, Ada | Blackwell |
//! |---|---|---|---|---|---|
//! | 64 | 20.4, 168 registers, 64 % | 17.9, 96, 47 % | 24.8, 128, 57 % | 18.7, 120 | 18.8, 120 |
//! | 128 | 14.9, 256, 74 % | 11.5, 156, 61 % | 15.0, 256, 73 % | 14.0, 168 | 14.0, 168 |
//! | 256, two slots | 16.0, 256, 74 % | 12.8, 156, 60 % | 16.0, 256, 73 % | 19.3, 224 | 19.4, 224 |
//! | 576/512, four slots; NVIDIA 16 keys | 22.4, 256, 62 % | 17.6, 216, 49 % | 22.4, 256, 62 % | 34.8, 224, 64 % | 34.8, 224, 86 % |
//!
//! * Rows of scores padded by 4 instead of 8 elements, which leaves the compiler 192 registers on RDNA3: 17.0 at 128, for moves.
//! * Where each invocation writes its chunks is computed in the loop: kept in registers it takes 14.5 instead of 14.0 on Ada.
//! * Both products go matrix by matrix of the result; key by key it takes 15.0 on RDNA3.

pub mod attention_backward;
pub mod attention_bias;
pub mod attention_bias_backward;
pub mod attention_merge;
pub mod attention_merge_backward;
mod choose;
mod coop;
pub mod kv_append;
pub mod kv_move;
mod pipeline;
mod prepare;

use std::fmt;

use crate::args::{Reach, WORD};
use crate::config::{Field, config, defaults, words};
use crate::error::Checked;
use crate::gemm::Precision;
use crate::ops::Plan;
use crate::quantize::Format;
use crate::softmax::Mask;
use crate::{Binding, Caps, Dispatch, Dtype, ErrorKind, Kernels, Layout, Result};

pub use crate::mask::broadcast_scores as broadcast;
pub use prepare::Params;

defaults! {
    /// What is computed. `q` is `[batch, heads, seq_q, head_dim]`, `k` `[batch, kv_heads, seq_kv, head_dim]`, `v`
    /// `[batch, kv_heads, seq_kv, value_dim]`, `o` as q with `value_dim`, whatever the order in memory.
    ///
    /// The default is f32, one query and one key of one element, all visible.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Sequences.
        pub batch: usize = 1,
        /// Heads of q and o.
        pub heads: usize = 1,
        /// Heads of k and v; divides `heads`.
        pub kv_heads: usize = 1,
        /// Queries per sequence; the most of any, where they are packed.
        pub seq_q: usize = 1,
        /// Keys per sequence; the most of any, where they are packed, in pages, or of [`lengths`](Self::lengths).
        pub seq_kv: usize = 1,
        /// Elements of a vector of q or k, 1 to 576.
        pub head_dim: usize = 1,
        /// Elements of a vector of v or o, 1 to 576.
        pub value_dim: usize = 1,
        /// Dtype of q, and of k and v where these are not in 8 bits.
        pub x: Dtype = Dtype::F32,
        /// k and v in 8 bits, as [`kv_append`] writes them.
        pub codes: Option<Codes> = None,
        /// Dtype of `o`.
        pub o: Dtype = Dtype::F32,
        /// With [`Precision::F16`] q, k and v of bf16 may go by cooperative matrices as f16: what is beyond 65504 then counts as
        /// that, what is below 6e-8 as 0. It says nothing of f16 and f32.
        pub inputs: Precision = Precision::Exact,
        /// Where q lies: strides of batch, head, query. Packed: that of the batch is ignored; without strides
        /// `[total_q, heads, head_dim]`.
        pub q_layout: Layout<3> = Layout::default(),
        /// Where k lies: strides of batch, head, key; packed as q. In pages: strides of page, head, key within the page;
        /// without strides `[pages, page_size, kv_heads, head_dim]`.
        pub k_layout: Layout<3> = Layout::default(),
        /// As `k_layout`.
        pub v_layout: Layout<3> = Layout::default(),
        /// As `q_layout`; rows must not overlap.
        pub o_layout: Layout<3> = Layout::default(),
        /// Multiplies `q.k`.
        pub scale: f32 = 1.0,
        /// `softcap * tanh(s / softcap)`; 0 for none.
        pub softcap: f32 = 0.0,
        /// Query `i` sees keys up to `t`.
        pub causal: bool = false,
        /// Query `i` sees keys from `t - left` and up to `t + right`.
        pub window: [Option<usize>; 2] = [None; 2],
        /// Hides or shifts scores; strides of batch, head, query, with keys as columns. Of packed sequences, by the
        /// number within the sequence.
        pub mask: Option<Mask> = None,
        /// Speculative decoding: the last `seq_q` keys are a tree.
        pub tree: Option<Tree> = None,
        /// Hides by segments of the keys: documents, a prompt, pictures.
        pub segments: Option<Segments> = None,
        /// Adds a bias that falls with the distance.
        pub alibi: Option<Alibi> = None,
        /// One logit per head, f32 `[heads]`, from this element of the tables.
        pub sinks: Option<usize> = None,
        /// Sequences lie one after the other.
        pub packed: Option<Packed> = None,
        /// Keys and values lie in pages.
        pub paged: Option<Paged> = None,
        /// Keys that each sequence has, u32 `[batch]`, from this element of the indices; at most `seq_kv` count. Paged
        /// sequences must have them.
        pub lengths: Option<usize> = None,
        /// Write the log-sum-exp, f32 `[batch, heads, seq_q]`, packed `[heads, total_q]`, from this element of its binding.
        pub lse: Option<usize> = None,
        /// In place of the log-sum-exp, write its parts: `max s` where [`lse`](Self::lse) says, and `sum exp(s - max s)`
        /// from this element of the same binding. Where scores are large, an f32 LSE has lost the sum.
        pub sum: Option<usize> = None,
    }
}

/// k and v in 8 bits, with an f32 scale for each of their vectors in the tables. Not by [`Algorithm::Coop`]. What the codes of NaN of e4m3
/// give is not specified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Codes {
    /// What codes are.
    pub format: Format,
    /// Where the scales of k lie in the tables: strides as those of k, in scales; without strides in the order that k has without.
    pub k_scale: Layout<3>,
    /// The same of v.
    pub v_scale: Layout<3>,
}

/// ALiBi (Press et al., 2021): slopes, f32 `[heads]` or `[batch, heads]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Alibi {
    /// The element of the tables at which they start.
    pub slopes: usize,
    /// `[batch, heads]`.
    pub per_batch: bool,
}

/// Of the last `seq_q` keys, a query sees its own, and those of its ancestors (Medusa, EAGLE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tree {
    /// The element of the indices at which the parents start: of each token the number of one before it; anything
    /// else (such as -1) makes it a root. `[seq_q]`, or `[batch, seq_q]`.
    pub parents: usize,
    /// `[batch, seq_q]`.
    pub per_batch: bool,
}

/// Segments of the keys of a sequence, each with a number. A query is of the segment of key `t`, at which it stands. It sees key `j` of
/// its own segment where `j <= t` or the segment is [`FULL`](Self::FULL), and key `j` of a segment of a lower number where that is not
/// [`PRIVATE`](Self::PRIVATE). A query before the first key sees nothing.
///
/// Documents are private segments. A prompt that sees all of itself is one full segment before one that is not (prefix LM); chunks are full
/// segments. A picture of which only a noised copy sees itself is full and private (BAGEL, Deng et al., 2025).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Segments {
    /// The element of the indices at which the numbers of the keys start, u32 `[seq_kv]`, or `[batch, seq_kv]`. Of packed
    /// keys `[total_kv]`.
    pub numbers: usize,
    /// `[batch, seq_kv]`; ignored where keys are packed.
    pub per_batch: bool,
    /// The element of the indices at which the flags of the segments start, u32 `[count]`; other bits than these two are ignored.
    pub flags: usize,
    /// Segments that have flags, at least 1; a number beyond counts as the last.
    pub count: usize,
    /// Numbers never fall along the keys of a sequence. Then what a tile of rows does not see is passed over; else each key is looked
    /// at. Where it is said and not so, what is visible is not specified.
    pub ordered: bool,
}

impl Segments {
    /// A segment sees all of itself.
    pub const FULL: u32 = 1;
    /// No other segment sees it.
    pub const PRIVATE: u32 = 2;
}

/// Sequences one after the other, without padding: sequence `b` has tokens `cu[b]` up to `cu[b + 1]`, and starts never fall.
/// Rows of `o` and `lse` that are of no sequence are not specified, nor are those of several where starts do fall; nothing
/// outside of the buffers is reached then either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Packed {
    /// The element of the indices at which the starts of queries begin, u32 `[batch + 1]`.
    pub cu_q: usize,
    /// The same for keys; ignored where these are in pages.
    pub cu_kv: usize,
    /// Queries of all sequences.
    pub total_q: usize,
    /// Keys of all sequences; ignored where these are in pages.
    pub total_kv: usize,
}

/// Keys and values in pages: key `j` of sequence `b` is in slot `j % page_size` of page `table[b][j / page_size]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Paged {
    /// Pages of k, and of v.
    pub pages: usize,
    /// Keys per page.
    pub page_size: usize,
    /// The element of the indices at which the table starts, u32 `[batch, max_pages]`.
    pub block_table: usize,
    /// Entries of the table per sequence.
    pub max_pages: usize,
}

impl Problem {
    /// f32, one query and one key, scaled by `1 / sqrt(head_dim)`, all visible.
    pub fn new(batch: usize, heads: usize, kv_heads: usize, head_dim: usize) -> Problem {
        let scale = 1.0 / (head_dim.max(1) as f32).sqrt();
        Problem { batch, heads, kv_heads, head_dim, value_dim: head_dim, scale, ..Problem::default() }
    }
}

/// The strides of `[batch, seq, heads, dim]`, contiguous.
pub const fn bshd(heads: usize, seq: usize, dim: usize) -> Layout<3> {
    let token = heads.saturating_mul(dim);
    Layout::strided(0, [seq.saturating_mul(token), dim, token])
}

/// Heads from `first` of tokens of `width` elements each, such as a fused `[q | k | v]`.
pub const fn fused(first: usize, seq: usize, dim: usize, width: usize) -> Layout<3> {
    Layout::strided(first.saturating_mul(dim), [seq.saturating_mul(width), dim, width])
}

/// What is reached of the binding `arg` of log-sum-exps, or of maxima and sums; `sum_arg` asks for these.
fn statistics<const N: usize>(
    [arg, sum_arg]: [&'static str; 2],
    sizes: [usize; N],
    lse: Option<usize>,
    sum: Option<usize>,
) -> Checked<Option<Reach>> {
    let view = |offset: usize| Layout::at(offset).view(arg, sizes, 1);
    match (lse, sum) {
        (None, None) => Ok(None),
        (None, Some(_)) => {
            Err(ErrorKind::invalid(sum_arg, format!("sums go with maxima, which `{arg}` does not ask for")))
        }
        (Some(lse), None) => Ok(Some(view(lse)?.of(WORD))),
        (Some(lse), Some(sum)) => {
            let (maxima, sums) = (view(lse)?, view(sum)?);
            let rows = maxima.end.saturating_sub(lse as u64);
            let apart = lse.abs_diff(sum) as u64 >= rows;
            ErrorKind::unless(
                apart,
                sum_arg,
                format_args!("{rows} sums from {sum} on overlap the maxima from {lse} on"),
            )?;
            Ok(Some(maxima.of(WORD).and(sums.of(WORD))))
        }
    }
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
        let tokens_first = self.packed.and_then(|_| bshd(heads, seq, dim).strides);
        Layout { strides: layout.strides.or(tokens_first), ..layout }
    }

    /// The same for k and v.
    pub fn kv_strides(&self, layout: Layout<3>, dim: usize) -> Layout<3> {
        let [_, heads, seq] = self.kv_sizes();
        let contiguous = self.packed.is_none() && self.paged.is_none();
        let tokens_first = if contiguous { None } else { bshd(heads, seq, dim).strides };
        Layout { strides: layout.strides.or(tokens_first), ..layout }
    }

    /// The element of the mask that belongs to key `j` of row `row` of `[batch, heads, seq_q]`.
    ///
    /// # Panics
    /// Without a mask.
    pub fn mask_index(&self, row: usize, j: usize) -> usize {
        self.mask.expect("a mask").index([self.batch, self.heads, self.seq_q], self.seq_kv, row, j)
    }

    /// The numbers of segments: so many of so many keys each. Packed keys have one after the other.
    pub(crate) fn segment_numbers(&self) -> [usize; 2] {
        let packed = self.packed.filter(|_| self.paged.is_none());
        match (packed, self.segments) {
            (_, None) => [0; 2],
            (Some(packed), _) => [1, packed.total_kv],
            (None, Some(segments)) => [if segments.per_batch { self.batch } else { 1 }, self.seq_kv],
        }
    }

    /// Query heads that share a head of k and v.
    fn group(&self) -> usize {
        self.heads.checked_div(self.kv_heads).unwrap_or(0)
    }

    /// Keys to the left and to the right that a query sees at most.
    fn reach(&self) -> [i32; 2] {
        let far = |keys: Option<usize>| keys.map_or(choose::FAR, |keys| keys.min(choose::FAR)) as i32;
        [far(self.window[0]), if self.causal { 0 } else { far(self.window[1]) }]
    }

    /// Whether there is no row to compute.
    fn is_empty(&self) -> bool {
        self.q_sizes().contains(&0) || self.batch == 0 || self.seq_q == 0
    }

    /// Whether sequences, pages, segments or a tree are read.
    fn has_indices(&self) -> bool {
        let sequences = self.packed.is_some() || self.paged.is_some() || self.lengths.is_some();
        sequences || self.segments.is_some() || self.tree.is_some()
    }

    /// Whether q, k and v, or o, are f16.
    fn has_f16(&self) -> bool {
        [self.x, self.o].contains(&Dtype::F16)
    }
}

config! {
    /// How it is computed.
    pub struct Config {
        /// The algorithm.
        pub algorithm: Algorithm,
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// Invocations that share a row: lane i holds chunks i, i + lanes, ... of its vectors; a power of two.
        pub lanes: u32,
        /// Rows per invocation.
        pub rows: u32,
        /// Groups of invocations of a workgroup that take turns at the blocks of keys; 1 for `Tiled`. For `Coop` see there.
        pub slots: u32,
        /// Keys per block, whose scores an invocation holds; at most 16. `Coop`: of a tile, at most 128.
        pub keys: u32,
        /// How keys and values come to the invocations.
        pub load: Load,
        /// Parts of the keys, each a workgroup's; 1 for `Tiled`.
        pub splits: u32,
        /// How the invocations of a row add up their shares of a score.
        pub reduce: Reduce,
        /// How the values of hidden keys are kept out of the sums.
        pub hide: Hide,
        /// f16 tensors are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

words! {
    /// The algorithm; each has a shader file of its name.
    pub enum Algorithm {
        /// All keys in one walk.
        Tiled = "tiled",
        /// The keys are split, and the parts joined.
        Decode = "decode",
        /// As tiled, by cooperative matrices of f16 with f32 sums. `slots` subgroups divide the head dims of a row among them,
        /// `lanes * slots` invocations its scores; `keys`, at most 128, are a tile.
        Coop = "coop",
    }
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
    /// A tile of [`Config::keys`] goes through workgroup memory, and on as matrices of this size; `Coop` only.
    Matrices(u32),
}

/// `direct`, `staged(64)`, `broadcast(8)`, `matrices(16)`.
impl Field for Load {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Load::Direct => f.write_str("direct"),
            Load::Staged(keys) => write!(f, "staged({keys})"),
            Load::Broadcast(size) => write!(f, "broadcast({size})"),
            Load::Matrices(size) => write!(f, "matrices({size})"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let number = |word| text.strip_prefix(word)?.strip_prefix('(')?.strip_suffix(')')?.parse().ok();
        match text {
            "direct" => Some(Load::Direct),
            _ => (number("staged").map(Load::Staged))
                .or_else(|| number("broadcast").map(Load::Broadcast))
                .or_else(|| number("matrices").map(Load::Matrices)),
        }
    }
}

words! {
    /// How the values of hidden keys are kept out of the sums.
    pub enum Hide {
        /// By a branch, where a block hides a key; not with `Load::Broadcast`.
        Branch = "branch",
        /// They are replaced by 0; the first blocks, as long as they hide nothing, have a loop of their own.
        Apart = "apart",
        /// They are replaced by 0 in every block: the shortest shader.
        Select = "select",
    }
}

words! {
    /// How the invocations of a row add up their shares of a score.
    pub enum Reduce {
        /// One invocation per row.
        None = "none",
        /// Within a subgroup; `lanes` is at most the least size of one, which is trusted.
        Shuffle = "shuffle",
        /// Through workgroup memory; works everywhere.
        Memory = "memory",
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `q`, `k` and `v` are read (and may be one buffer), `o` is written.
        q, k, v, o;
        /// The mask that the Problem asks for.
        mask,
        /// The f32 tables that the Problem asks for: ALiBi slopes, sinks, scales of k and v.
        tables,
        /// The u32 tables that the Problem asks for: starts, lengths, pages, parents, segments.
        indices,
        /// The log-sum-exp that the Problem asks for.
        lse,
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("attention");
