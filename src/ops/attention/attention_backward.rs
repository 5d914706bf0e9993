//! The gradient of [`attention`](super): dq, dk, dv, and where they are asked for those of an additive mask and of sinks, from q, k, v,
//! o, do and what the forward call has written of each row. Nothing of the size of the scores is stored.
//!
//! With the scores `s` of [`attention`](super), `p = exp(s - lse)` and `dp = do v^T`:
//! `delta = sum(do * o) - dlse`, `ds = p * (dp - delta)`, the gradient of what goes into the softmax;
//! `dv = p^T do`; `dmask = ds`, summed over what is broadcast; `dsinks = -sum exp(sink - lse) delta`;
//! with a softcap `ds` times `1 - tanh^2`, then `dq = scale ds k` and `dk = scale ds^T q`. A group's query heads are summed in order.
//!
//! Statistics are log-sum-exps (natural, with the sink), or maxima and sums apart, as [`attention::Problem::sum`] has them written:
//! then rows that all carry -1e9 or 1e8 have their gradient, which an f32 log-sum-exp has lost.
//!
//! # Limits
//! * What is hidden does not show, whatever its q, k, v and do hold; a row with nothing to see gives 0, and o, do and dlse of it may be
//!   anything. What is visible and not finite has no gradient that is specified, nor have scores beyond f32.
//! * Keys that [`attention::Problem::lengths`] cuts off have gradients of 0. dk and dv of packed keys that are of no sequence, and
//!   such rows of dq, are not specified.
//! * Not of keys in pages, in 8 bits, or of a tree.
//! * Segments whose numbers are ordered bound what each tile walks; those in no order are walked whole.
//! * The mask's shape is that of `dmask`: an axis along which its stride is 0, or that has one value per row, has size 1. Elements
//!   that overlap by other strides count as different ones.
//!
//! * [`Algorithm::Coop`] takes q, k, v and do in f16, and rounds weights and gradients of scores to it: of these what is beyond 65504
//!   counts as that, and what is below 6e-8 as 0.
//!
//! # Steps
//! 1. `attention_backward_delta`: delta of each row, and its statistics, to scratch: 16 bytes per row, 32 per sequence;
//!    with segments 16 per key: its segment, and what that bounds.
//! 2. [`Algorithm::Tiled`]: `attention_backward_keys`, a tile of keys per workgroup, which walks the queries that see it: dk and dv; then
//!    `attention_backward_queries`, a tile of queries per workgroup, which walks the keys that it sees: dq. Seven products.
//!    [`Algorithm::Coop`]: `attention_backward_coop` twice, the same two walks by cooperative matrices, where `Kernels::probe` has seen them
//!    work: q, k, v and o of f16, or of bf16 where [`attention::Problem::inputs`] allows it. First on GPUs, for 16 queries of a head of k and v
//!    or more, and 64 keys or more.
//!    [`Algorithm::OneWalk`]: `attention_backward_one_walk`, tiles of keys that walk the queries once; what they give to dq is added to one
//!    of at most 4 copies of it in scratch, each of one workgroup per head of k and v, and `attention_backward_join` sums the copies in
//!    their order. Five products.
//! 3. `attention_backward_mask` and `attention_backward_sinks`, where they are asked for.
//!
//! Sums are f32, without atomics of floats: the same input gives the same bits.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 cores, 8 heads, f32, medians of `loom bench attention attention_backward` beside the forward call of the same run:
//! 512 queries and keys of 64 take 29.1 ms for 8.6 (3.4 times as long), causal 16.5 for 4.9 (3.4); 2048 of 64 451 for 129 (3.5), causal 229
//! for 66 (3.4). Seven products for two: 3.5. With one key, or one query, per invocation the first took 1.2 to 1.5 times as long.
//! One walk with five products and four copies of dq takes 33.6 ms for the first: two walks are chosen.
//!
//! By the compilers of real GPUs the walks by matrices spill nowhere. Instructions of the main loop (16 that are walked, a tile that is masked) per
//! product of matrices of 16 x 16 x 16, on NVIDIA 16 x 8 x 16, and what `loom isa` leaves of the peak at most, for dk and dv; for dq. 32 heads over 8, causal,
//! f16; those of attention are there.
//!
//! | head dim | RDNA3 | RDNA4 | RDNA3.5 | Ampere, Ada, Blackwell |
//! |---|---|---|---|---|
//! | 64 | 30.1, 192 registers, 56 %; 28.8, 156, 56 % | 26.9, 96, 41 %; 27.0, 72, 39 % | 29.0, 208, 58 %; 31.8, 128, 52 % | 22.5, 160; 22.3, 120 |
//! | 128, two slots | 25.7, 192, 62 %; 23.8, 168, 62 % | 22.4, 96, 48 %; 21.5, 84, 45 % | 24.6, 208, 63 %; 28.3, 128, 55 % | 24.2, 184; 23.9, 128 |

mod coop;

use super::choose::{SEARCH, lanes_of};
use super::{Load, Reduce, Segments, statistics};
use crate::args::Reach;
use crate::attention;
use crate::caps::Vendor;
use crate::ops::prelude::*;
use crate::softmax::MaskKind;

defaults! {
    /// What is computed: the gradient of a call of attention.
    ///
    /// The default is that of attention's default.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// The call that has been made. Its `lse` and `sum` say where its statistics lie, and it must have asked for them; do has
        /// the dtype of its `o`, and dq, dk and dv that of q, k and v.
        pub forward: attention::Problem = attention::Problem { lse: Some(0), ..attention::Problem::default() },
        /// Where do lies; as `forward.o_layout`.
        pub do_layout: Layout<3> = Layout::default(),
        /// Where dq lies; as `forward.q_layout`. Rows must not overlap.
        pub dq_layout: Layout<3> = Layout::default(),
        /// Where dk lies; as `forward.k_layout`. Rows must not overlap.
        pub dk_layout: Layout<3> = Layout::default(),
        /// Where dv lies; as `forward.v_layout`. Rows must not overlap.
        pub dv_layout: Layout<3> = Layout::default(),
        /// The gradient of the log-sum-exp, f32 as this, from this element of its binding.
        pub dlse: Option<usize> = None,
        /// Write the gradient of the additive mask, f32 of the shape that the mask has without its broadcast axes: strides of batch,
        /// head and query. Rows must not overlap.
        pub dmask: Option<Layout<3>> = None,
        /// Write the gradient of the sinks, f32 `[heads]`, from this element of its binding.
        pub dsinks: Option<usize> = None,
        /// What is added to what is there.
        pub add: Add = Add::default(),
    }
}

/// Gradients that are added to what their buffers hold, in place of written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Add {
    /// dq.
    pub dq: bool,
    /// dk.
    pub dk: bool,
    /// dv.
    pub dv: bool,
    /// dmask.
    pub dmask: bool,
    /// dsinks.
    pub dsinks: bool,
}

config! {
    /// How it is computed.
    pub struct Config {
        /// The algorithm.
        pub algorithm: Algorithm,
        /// Invocations per workgroup; a power of two.
        pub wg_size: u32,
        /// Invocations that share a query, or a key: lane i holds chunks i, i + lanes, ... of its vectors; a power of two.
        pub lanes: u32,
        /// Queries per invocation, where dq is computed.
        pub queries: u32,
        /// Keys per invocation, where dk and dv are computed.
        pub keys: u32,
        /// 1, but for `Coop`: see there.
        pub slots: u32,
        /// Copies of dq, at most 4, but for `OneWalk` 1: see there.
        pub parts: u32,
        /// What is walked at a time, and has its scores in registers; at most 16. `Coop`: a tile, at most 64.
        pub block: u32,
        /// How what is walked comes to the invocations.
        pub load: Load,
        /// How the invocations that share a vector add up their shares of a score.
        pub reduce: Reduce,
        /// Blocks that hide nothing, as long as they come first, have a loop of their own.
        pub apart: bool,
        /// f16 tensors are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

words! {
    /// The algorithm of the walks.
    pub enum Algorithm {
        /// Products of vectors, in two walks.
        Tiled = "tiled",
        /// Tiles of keys walk the queries, and add what they give to dq to `parts` copies of it in scratch, each of one workgroup per head of
        /// k and v; the copies are summed. By subgroups whose size is trusted.
        OneWalk = "one_walk",
        /// Cooperative matrices of f16 with f32 sums. `slots` subgroups divide the head dims of a query, or of a key, among them,
        /// `lanes * slots` invocations its scores.
        Coop = "coop",
    }
}

/// An option that is a bit of `Params::flags`.
const ALIBI: u32 = 1;
const PACKED: u32 = 2;
const LENGTHS: u32 = 4;
const SUMS: u32 = 8;
const ADD_A: u32 = 16;
const ADD_B: u32 = 32;
const ORDERED: u32 = 64;

/// Flags by their names in shaders.
const FLAGS: [(&str, u32); 9] = [
    ("ALIBI", ALIBI),
    ("PACKED", PACKED),
    ("LENGTHS", LENGTHS),
    ("SUMS", SUMS),
    ("ADD_A", ADD_A),
    ("ADD_B", ADD_B),
    ("ORDERED", ORDERED),
    // Of a segment.
    ("FULL", Segments::FULL),
    ("PRIVATE", Segments::PRIVATE),
];

crate::params! {
    /// What one run tells the shaders.
    pub struct Params;
    fn of(p: &Problem, views: &Views, config: &Config, flags: u32, tiles: u32, grid: [u32; 3]) {
        q: Strides = views.of.q.params(),
        k: Strides = views.of.k.params(),
        v: Strides = views.of.v.params(),
        o: Strides = views.of.o.params(),
        d_o: Strides = views.d_o.params(),
        dq: Strides = views.dq.params(),
        dk: Strides = views.dk.params(),
        dv: Strides = views.dv.params(),
        mask: Strides = views.of.mask.map_or([0; 4], |mask| mask.view.params()),
        dmask: Strides = views.dmask.map_or([0; 4], |dmask| dmask.params()),
        mask_step: u32 = views.of.mask.map_or(0, |mask| mask.step),
        mask_n0: u32 = views.dmask.map_or(0, |dmask| dmask.sizes[0] as u32),
        mask_n1: u32 = views.dmask.map_or(0, |dmask| dmask.sizes[1] as u32),
        mask_n2: u32 = views.dmask.map_or(0, |dmask| dmask.sizes[2] as u32),
        mask_cols: u32 = views.dmask.map_or(0, |dmask| dmask.inner as u32),
        batch: u32 = p.forward.batch as u32,
        kv_heads: u32 = p.forward.kv_heads as u32,
        group: u32 = p.forward.group() as u32,
        seq_q: u32 = p.forward.seq_q as u32,
        seq_kv: u32 = p.forward.seq_kv as u32,
        head_dim: u32 = p.forward.head_dim as u32,
        value_dim: u32 = p.forward.value_dim as u32,
        value_chunks: u32 = p.forward.value_dim as u32 / views.delta_vec(),
        row_items: u32 = p.forward.seq_q.max(1) as u32,
        head_items: u32 = p.forward.heads.max(1) as u32,
        flags: u32 = flags,
        scale: f32 = p.forward.scale,
        softcap: f32 = p.forward.softcap,
        neg_inf: f32 = f32::NEG_INFINITY,
        lowest: f32 = f32::MIN,
        left: i32 = p.forward.reach()[0],
        right: i32 = p.forward.reach()[1],
        tiles: u32 = tiles,
        grid_x: u32 = grid[0],
        rows: u32 = p.rows() as u32,
        stats: u32 = 2 * p.forward.batch as u32,
        lse_offset: u32 = p.forward.lse.unwrap_or(0) as u32,
        sums: u32 = (p.forward.sum.unwrap_or(0) as u32).wrapping_sub(p.forward.lse.unwrap_or(0) as u32),
        lse_s0: u32 = views.of.lse.stride(0),
        lse_s1: u32 = views.of.lse.stride(1),
        dlse: u32 = p.dlse.unwrap_or(0) as u32,
        alibi: u32 = p.forward.alibi.map_or(0, |alibi| alibi.slopes) as u32,
        alibi_s0: u32 = p.forward.alibi.map_or(0, |alibi| u32::from(alibi.per_batch) * p.forward.heads as u32),
        sinks: u32 = p.forward.sinks.unwrap_or(0) as u32,
        dsinks: u32 = p.dsinks.unwrap_or(0) as u32,
        cu_q: u32 = p.forward.packed.map_or(0, |packed| packed.cu_q) as u32,
        cu_kv: u32 = p.forward.packed.map_or(0, |packed| packed.cu_kv) as u32,
        total_q: u32 = p.forward.packed.map_or(0, |packed| packed.total_q) as u32,
        total_kv: u32 = p.forward.packed.map_or(0, |packed| packed.total_kv) as u32,
        lengths: u32 = p.forward.lengths.unwrap_or(0) as u32,
        segments: u32 = p.forward.segments.map_or(0, |segments| segments.numbers) as u32,
        segments_s0: u32 = if p.forward.segment_numbers()[0] > 1 { p.forward.seq_kv as u32 } else { 0 },
        segment_flags: u32 = p.forward.segments.map_or(0, |segments| segments.flags) as u32,
        segment_count: u32 = p.forward.segments.map_or(1, |segments| segments.count) as u32,
        key_items: u32 = p.forward.seq_kv.max(1) as u32,
        places: u32 = p.places_at(config) as u32,
    }
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    of: attention::prepare::Views,
    /// Of log-sum-exps, or of maxima and sums.
    statistics: Option<Reach>,
    d_o: View<3>,
    dq: View<3>,
    dk: View<3>,
    dv: View<3>,
    dlse: Option<View<3>>,
    dmask: Option<View<3>>,
    dsinks: Option<View<1>>,
}

impl Views {
    /// Elements per chunk of the first step.
    fn delta_vec(&self) -> u32 {
        if self.of.o.multiple_of(4) && self.d_o.multiple_of(4) { 4 } else { 1 }
    }
}

/// The steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Delta,
    Keys,
    Queries,
    OneWalk,
    Join,
    Mask,
    Sinks,
}

/// What follows from the Problem for a step; what a step does not use is as in the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    step: Step,
    /// Elements per load: 4 or 1.
    vec: u32,
    /// Chunks of four of a head vector, and of a value vector.
    chunks: [u32; 2],
    /// Vectors do not fill their chunks.
    padded: bool,
    /// `Coop`: q, k, v and do are read by eights.
    eights: bool,
    x: Storage,
    o: Storage,
    softcap: bool,
    mask: Option<MaskKind>,
    /// ALiBi slopes are read.
    tables: bool,
    /// Sequences are read.
    indices: bool,
    segments: bool,
    dlse: bool,
}

/// Bytes of workgroup memory for what is walked.
const STAGE: u32 = 12288;

/// A row of the table.
struct Row {
    adapters: Adapters,
    wg_size: u32,
    /// Chunks of all its vectors, in f32, that an invocation may hold before more of them share one.
    hold: u32,
    /// The same where these add up through workgroup memory.
    hold_apart: u32,
    queries: u32,
    keys: u32,
}

/// Software is measured on Mesa 26.2 lavapipe, 2 cores. What GPUs do is not measured.
const TABLE: [Row; 5] = [
    Row { adapters: Class::Software.any(), wg_size: 8, hold: 1024, hold_apart: 1024, queries: 2, keys: 2 },
    Row { adapters: Class::Integrated.of(Vendor::Arm), wg_size: 128, hold: 8, hold_apart: 8, queries: 1, keys: 1 },
    Row { adapters: Class::Integrated.of(Vendor::Amd), wg_size: 128, hold: 16, hold_apart: 16, queries: 1, keys: 1 },
    // With 16 the compilers of Honeykrisp and Turnip (Adreno 740) spill.
    Row { adapters: Class::Integrated.any(), wg_size: 128, hold: 8, hold_apart: 8, queries: 1, keys: 1 },
    Row { adapters: Class::Discrete.any(), wg_size: 128, hold: 16, hold_apart: 32, queries: 1, keys: 1 },
];

/// Copies of dq in one walk.
const PARTS: u32 = 4;

/// What is walked at a time.
const BLOCK: u32 = 4;

/// Chunks of all that an invocation owns, at most, where it owns more than one vector.
const HELD: u32 = 256;

impl Problem {
    /// Of this call of attention, without options of its own.
    pub fn new(forward: attention::Problem) -> Problem {
        Problem { forward, ..Problem::default() }
    }

    /// The shape of `dmask`: `[batch, heads, seq_q, seq_kv]`, with 1 for an axis along which the mask is broadcast.
    ///
    /// # Panics
    /// Without a mask.
    pub fn mask_sizes(&self) -> [usize; 4] {
        let attention::Problem { batch, heads, seq_q, seq_kv, mask, .. } = self.forward;
        let mask = mask.expect("a mask");
        let strides = mask.layout.strides.unwrap_or([1; 3]);
        let size = |axis: usize, n: usize| if strides[axis] == 0 { n.min(1) } else { n };
        let cols = if mask.broadcast_cols { seq_kv.min(1) } else { seq_kv };
        [size(0, batch), size(1, heads), size(2, seq_q), cols]
    }

    /// Rows of scratch behind those of sequences.
    fn rows(&self) -> u64 {
        let [n0, n1, n2] = self.forward.q_sizes();
        product!(n0, n1, n2)
    }

    /// Where what is told of keys in segments begins, in rows of scratch: behind sequences, rows, and in one walk copies of dq.
    fn places_at(&self, config: &Config) -> u64 {
        let copies =
            if self.in_one(config) { product!(config.parts, self.rows(), self.forward.chunks(1)[0]) } else { 0 };
        product!(2u32, self.forward.batch).saturating_add(self.rows()).saturating_add(copies)
    }

    /// Rows of all sequences as if each were the longest, or keys in segments: the invocations of the first step.
    fn delta_items(&self) -> u64 {
        let forward = &self.forward;
        let rows = product!(forward.batch, forward.heads.max(1), forward.seq_q.max(1));
        let keys = if forward.segments.is_some() { product!(forward.batch, forward.seq_kv) } else { 0 };
        rows.max(keys)
    }

    /// Of the whole scratch. A sequence without keys behind all others has a place of its own.
    fn scratch_bytes(&self, config: &Config) -> u64 {
        let forward = &self.forward;
        let keys = forward.packed.map_or(product!(forward.batch, forward.seq_kv), |packed| packed.total_kv as u64);
        let places = if forward.segments.is_some() { keys + 1 } else { 0 };
        product!(16u32, self.places_at(config).saturating_add(places).max(1))
    }

    /// Whether dq, dk and dv come of one walk.
    fn in_one(&self, config: &Config) -> bool {
        let empty = self.forward.kv_sizes().contains(&0) || self.forward.q_sizes().contains(&0);
        config.algorithm == Algorithm::OneWalk && !empty
    }

    /// The flags of a step, which adds to its first and second output or not.
    fn flags(&self, [a, b]: [bool; 2]) -> u32 {
        let forward = &self.forward;
        let all = [
            (ALIBI, forward.alibi.is_some()),
            (PACKED, forward.packed.is_some()),
            (LENGTHS, forward.lengths.is_some()),
            (SUMS, forward.sum.is_some()),
            (ORDERED, forward.segments.is_some_and(|segments| segments.ordered)),
            (ADD_A, a),
            (ADD_B, b),
        ];
        all.into_iter().filter(|(_, given)| *given).map(|(bit, _)| bit).sum()
    }

    fn pass(&self, step: Step, views: &Views, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let forward = &self.forward;
        let held = |dtype| Storage::held(dtype, config.native_f16);
        let fours = |outputs: &[&View<3>]| {
            let inputs = [&views.of.q, &views.of.k, &views.of.v, &views.d_o];
            if inputs.iter().chain(outputs).all(|view| view.multiple_of(4)) { 4 } else { 1 }
        };
        let bare = Form {
            step,
            vec: 1,
            chunks: [1; 2],
            padded: false,
            eights: false,
            x: Storage::F32,
            o: Storage::F32,
            softcap: false,
            mask: None,
            tables: false,
            indices: forward.has_indices(),
            segments: false,
            dlse: false,
        };
        let segments = forward.segments.is_some();
        let lanes = if step == Step::Mask { 1 } else { config.lanes };
        let chunks = forward.chunks(lanes);
        let padded = chunks.map(|chunks| 4 * chunks as usize) != [forward.head_dim, forward.value_dim];
        let mask = forward.mask.map(|mask| mask.kind);
        let (x, o, softcap) = (held(forward.x), held(forward.o), forward.softcap > 0.0);
        let walk = |vec| Form { vec, chunks, padded, x, o, softcap, mask, segments, ..bare };
        let by_matrices = |outputs: &[&View<3>]| {
            let by = |views: &[&View<3>], n| views.iter().all(|view| view.multiple_of(n));
            let eights = by(&[&views.of.q, &views.of.k, &views.of.v, &views.d_o], 8);
            let chunks = coop::columns(self, config).map(|columns| columns / 4);
            let padded = chunks.map(|chunks| 4 * chunks as usize) != [forward.head_dim, forward.value_dim];
            ("attention_backward_coop", Form { chunks, padded, eights, ..walk(if by(outputs, 4) { 4 } else { 1 }) })
        };
        let coop = config.algorithm == Algorithm::Coop;
        let (stem, form) = match step {
            Step::Keys if coop => by_matrices(&[&views.dk, &views.dv]),
            Step::Queries if coop => by_matrices(&[&views.dq]),
            Step::Delta => {
                let (vec, tables, dlse) = (views.delta_vec(), forward.alibi.is_some(), self.dlse.is_some());
                ("attention_backward_delta", Form { vec, o, tables, segments, dlse, ..bare })
            }
            Step::Keys => ("attention_backward_keys", walk(fours(&[&views.dk, &views.dv]))),
            Step::Queries => ("attention_backward_queries", walk(fours(&[&views.dq]))),
            Step::OneWalk => ("attention_backward_one_walk", walk(fours(&[&views.dk, &views.dv]))),
            Step::Join => {
                let vec = if views.dq.multiple_of(4) { 4 } else { 1 };
                ("attention_backward_join", Form { vec, chunks, padded, x, ..bare })
            }
            Step::Mask => ("attention_backward_mask", walk(fours(&[]))),
            Step::Sinks => ("attention_backward_sinks", bare),
        };
        Pass { stem, config: *config, form, writable }
    }

    /// The steps, in order.
    fn steps(&self, config: &Config) -> impl Iterator<Item = Step> + use<> {
        let kv = !self.forward.kv_sizes().contains(&0);
        let q = !self.forward.q_sizes().contains(&0);
        let one = self.in_one(config);
        let wanted = [
            (Step::Delta, kv || q),
            (Step::Keys, kv && !one),
            (Step::Queries, q && !one),
            (Step::OneWalk, one),
            (Step::Join, one),
            (Step::Mask, self.dmask.is_some() && !self.mask_is_empty()),
            (Step::Sinks, self.dsinks.is_some() && self.forward.heads > 0),
        ];
        wanted.into_iter().filter(|(_, wanted)| *wanted).map(|(step, _)| step)
    }

    fn mask_is_empty(&self) -> bool {
        self.forward.mask.is_none() || self.mask_sizes().contains(&0)
    }
}

slots!(D_O, O, LSE, DLSE, TABLES, INDICES, ROWS, Q, K, V, MASK, DQ, DK, DV, DMASK);

/// 15 may be the binding of Params.
const DSINKS: u32 = DMASK + 2;

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Config { wg_size, lanes, queries, keys, block, load, reduce, apart, .. } = self.config;
        let Form { step, vec, chunks, padded, x, o, softcap, mask, tables, indices, segments, dlse, .. } = self.form;
        let walk = matches!(step, Step::Keys | Step::Queries | Step::OneWalk);
        if walk && self.config.algorithm == Algorithm::Coop {
            return coop::shader(self);
        }
        // Single elements of a packed output are stored half by half of a word.
        let edge = (walk || step == Step::Join) && vec == 1 && x.packed();
        let wg_bytes = match step {
            Step::Sinks => 4 * wg_size,
            Step::Keys => self.config.wg_bytes(chunks, keys),
            Step::Queries => self.config.wg_bytes(chunks, queries),
            Step::OneWalk => 4 * self.config.tile() * wg_size * keys,
            _ => 0,
        };
        let shader = self.begin(wg_size, wg_bytes, if edge { 2 } else { vec }).params::<Params>().constants(FLAGS);
        let shader = shader.flag("SEGMENTS", segments);
        if step == Step::Delta {
            return shader
                .input(D_O, "d_o", o)
                .input(O, "o", o)
                .reads(LSE, "lse", "f32")
                .table(DLSE, "dlse", "f32", dlse)
                .table(TABLES, "tables", "f32", tables)
                .table(INDICES, "indices", "u32", indices)
                .writes(ROWS, "rows", "vec4<u32>");
        }
        let shader = if step == Step::OneWalk {
            shader.writes(ROWS, "rows", "vec4<u32>").constant("PARTS", self.config.parts)
        } else {
            shader
                .reads(ROWS, "rows", "vec4<u32>")
                .constant("PARTS", if step == Step::Join { self.config.parts } else { 0 })
        };
        let shader =
            shader.bounded_by(ROWS, "scratch").flag("HAS_SEQUENCES", indices).flag("SOFTCAP", softcap).mask(MASK, mask);
        if step == Step::Sinks {
            let shader = shader
                .constant("LANES", wg_size)
                .constant("A_CHUNKS", 1)
                .import("reduce_tree")
                .writes(DSINKS, "dsinks", "f32");
            return shader.table(TABLES, "tables", "f32", true);
        }
        let shared = if walk { lanes } else { 1 };
        let shader = shader
            .constant("LANES", shared)
            .constant("A_CHUNKS", chunks[0] / shared)
            .constant("B_CHUNKS", chunks[1] / shared)
            .flag("PADDED", padded)
            .flag("BY_KEYS", matches!(step, Step::Keys | Step::OneWalk));
        let put_a = if vec == 4 { "attention_backward_put_a_chunks" } else { "attention_backward_put_a_elements" };
        if step == Step::Join {
            return shader.output(DQ, "da", x, edge).import(put_a);
        }
        let shader = shader.import(if vec == 4 { "attention_backward_chunks" } else { "attention_backward_elements" });
        let by_queries = |shader: Shader| shader.input(Q, "a", x).input(D_O, "b", o).input(K, "x", x).input(V, "y", x);
        let shader = match step {
            Step::Keys | Step::OneWalk => shader
                .input(K, "a", x)
                .input(V, "b", x)
                .input(Q, "x", x)
                .input(D_O, "y", o)
                .output(DK, "da", x, edge)
                .output(DV, "db", x, edge)
                .import(put_a)
                .import(if vec == 4 { "attention_backward_put_b_chunks" } else { "attention_backward_put_b_elements" })
                .constant("OWN", keys),
            Step::Queries => by_queries(shader).output(DQ, "da", x, edge).import(put_a).constant("OWN", queries),
            _ => return by_queries(shader).writes(DMASK, "dmask", "f32"),
        };
        let shader = shader.import(if step == Step::OneWalk {
            "attention_backward_parts"
        } else {
            "attention_backward_no_parts"
        });
        let shader = shader.constant("BLOCK", block).constant("TILE", self.config.tile()).flag("APART", apart).import(
            match reduce {
                Reduce::None if matches!(load, Load::Broadcast(_)) => "attention_sum_broadcast",
                Reduce::None => "attention_sum_none",
                Reduce::Shuffle => "attention_sum_shuffle",
                Reduce::Memory => "attention_sum_memory",
            },
        );
        match load {
            Load::Direct => shader.import("attention_backward_direct"),
            Load::Staged(_) => shader.import("attention_backward_staged"),
            Load::Broadcast(size) => shader.constant("LOAD_LANES", size).import("attention_backward_broadcast"),
            Load::Matrices(_) => unreachable!("the check leaves them to coop"),
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `q`, `k`, `v`, `o`, the gradient of o and the statistics of the forward call are read (and may be one buffer); `dq`, `dk` and
        /// `dv` are written, and may be one buffer, of views that share no element.
        q, k, v, o, d_o, lse, dq, dk, dv;
        /// The gradient of the log-sum-exp that the Problem has.
        dlse,
        /// The mask that the Problem has.
        mask,
        /// The f32 tables that the Problem has: ALiBi slopes, sinks.
        tables,
        /// The u32 tables that the Problem has: starts, lengths, segments.
        indices,
        /// The gradient of the mask that the Problem asks for.
        dmask,
        /// The gradient of the sinks that the Problem asks for.
        dsinks,
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used. In a browser no output may lie in its buffer.
        scratch,
    }
}

functions!("attention_backward");

impl Config {
    /// What goes through memory at a time.
    fn tile(&self) -> u32 {
        match self.load {
            Load::Staged(n) => n,
            Load::Broadcast(size) if self.algorithm == Algorithm::OneWalk => size,
            _ => self.block,
        }
    }

    /// Bytes of workgroup memory of a walk whose invocations own so many vectors of these chunks.
    fn wg_bytes(&self, chunks: [u32; 2], own: u32) -> u32 {
        let staged = match self.load {
            Load::Staged(n) => n.saturating_mul(chunks[0].saturating_add(chunks[1])).saturating_mul(16),
            _ => 0,
        };
        match self.reduce {
            Reduce::None | Reduce::Shuffle => staged,
            Reduce::Memory => staged.saturating_add((4 * own).saturating_mul(self.block).saturating_mul(self.wg_size)),
        }
    }

    /// Vectors that a workgroup owns, of `own` per invocation.
    fn owned(&self, own: u32) -> u64 {
        u64::from(self.wg_size / self.lanes / self.slots * own)
    }

    /// Rounds of the loops of an invocation of a walk over so many vectors, `times` times, at most.
    fn walk_rounds(&self, chunks: [u32; 2], own: u32, walked: u64, times: u64) -> Rounds {
        let [a, b] = chunks.map(|chunks| chunks / self.lanes);
        let block = Rounds::plain(self.block);
        let scores = Rounds::plain(own * self.block);
        let each = Rounds::plain(own);
        let lanes = match self.reduce {
            Reduce::None => Rounds::default(),
            Reduce::Shuffle => Rounds::nest(own * self.block, Rounds::plain(self.lanes.ilog2())),
            Reduce::Memory => scores + Rounds::nest(own * self.block, Rounds::plain(self.lanes)),
        };
        let product = |chunks: u32| {
            let run = Rounds::nest(chunks, Rounds::nest(self.block, each));
            run + scores.times(2 * u64::from(chunks.div_ceil(8)) + 1) + lanes
        };
        let sum = |chunks: u32| Rounds::nest(chunks, Rounds::nest(self.block, each));
        let fetch = match self.load {
            Load::Broadcast(size) => {
                Rounds::nest(self.block, Rounds::plain(a.div_ceil(size)) + Rounds::plain(b.div_ceil(size)))
            }
            _ => block,
        };
        let body = block.times(3) + fetch + product(a) + product(b) + scores + sum(a) + sum(b);
        let staged = match self.load {
            Load::Staged(n) => {
                let share = |chunks: u32| Rounds::plain((n * chunks).div_ceil(self.wg_size));
                share(chunks[0]) + share(chunks[1])
            }
            _ => Rounds::default(),
        };
        let step = staged + Rounds::nest(self.tile() / self.block, body);
        let turns = walked / u64::from(self.tile()) + 2;
        let walk = Rounds::nest(turns, step) + if self.apart { step.times(2) } else { Rounds::default() };
        let held = Rounds::nest(own, Rounds::plain(a) + Rounds::plain(b)).times(2);
        held + Rounds::nest(times, walk) + Rounds::nest(own, Rounds::plain(4 * a) + Rounds::plain(4 * b))
    }
}

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let forward = &self.forward;
        let of = forward.resolve()?;
        let unless = ErrorKind::unless;
        unless(forward.paged.is_none(), "forward.paged", format_args!("keys in pages have no gradient"))?;
        unless(forward.codes.is_none(), "forward.codes", format_args!("keys in 8 bits have no gradient"))?;
        unless(forward.tree.is_none(), "forward.tree", format_args!("a tree has no gradient"))?;
        let asked = forward.lse.is_some();
        unless(asked, "forward.lse", format_args!("the statistics of rows are read, and no place is given"))?;
        let (q_sizes, kv_sizes) = (forward.q_sizes(), forward.kv_sizes());
        let (d, dv) = (forward.head_dim, forward.value_dim);
        let additive = forward.mask.is_some_and(|mask| matches!(mask.kind, MaskKind::Additive(_)));
        unless(self.dmask.is_none() || additive, "dmask", format_args!("there is no additive mask"))?;
        unless(self.dsinks.is_none() || forward.sinks.is_some(), "dsinks", format_args!("there are no sinks"))?;
        let dmask = |layout: Layout<3>| {
            let [n0, n1, n2, cols] = self.mask_sizes();
            layout.view("dmask", [n0, n1, n2], cols)?.apart("dmask")
        };
        Ok(Views {
            statistics: statistics(["lse", "sum"], q_sizes, forward.lse, forward.sum)?,
            d_o: forward.q_strides(self.do_layout, dv).view("do", q_sizes, dv)?,
            dq: forward.q_strides(self.dq_layout, d).view("dq", q_sizes, d)?.apart("dq_layout")?,
            dk: forward.kv_strides(self.dk_layout, d).view("dk", kv_sizes, d)?.apart("dk_layout")?,
            dv: forward.kv_strides(self.dv_layout, dv).view("dv", kv_sizes, dv)?.apart("dv_layout")?,
            dlse: self.dlse.map(|at| Layout::at(at).view("dlse", q_sizes, 1)).transpose()?,
            dmask: self.dmask.map(dmask).transpose()?,
            dsinks: self.dsinks.map(|at| Layout::at(at).view("dsinks", [1], forward.heads)).transpose()?,
            of,
        })
    }

    fn list(&self, _: &Views, caps: &Caps) -> Vec<Config> {
        let row = caps.row(&TABLE, |row| row.adapters);
        let software = caps.class() == Class::Software;
        let old = software && caps.mesa_before((25, 0));
        let most = 1 << caps.most_invocations().max(1).ilog2();
        let subgroup = caps.trusted_subgroup_size().filter(|size| software && size.is_power_of_two());
        let wg_size = subgroup.unwrap_or(row.wg_size).min(most);
        let forward = &self.forward;
        // Two vectors are owned, and of keys their gradients held beside them.
        let chunks: u32 = forward.chunks(1).iter().sum();
        let least = caps.least_subgroup();
        let hold = if least.is_some() { row.hold } else { row.hold_apart };
        let lanes = lanes_of(2 * chunks, hold, least).min(wg_size);
        let staged = STAGE / (16 * chunks);
        let block = if old { 1 } else { BLOCK.min(staged.max(2)) };
        let load = match subgroup {
            Some(size) if lanes == 1 && !old && size >= block => Load::Broadcast(size),
            _ if software || staged < block => Load::Direct,
            _ => Load::Staged(staged / block * block),
        };
        let own = |most: u32, held: u32| if held * most <= HELD * lanes { most } else { 1 };
        let first = Config {
            algorithm: Algorithm::Tiled,
            wg_size,
            lanes,
            slots: 1,
            parts: 1,
            queries: if old { 1 } else { own(row.queries, chunks) },
            keys: if old { 1 } else { own(row.keys, 2 * chunks) },
            block,
            load,
            reduce: Reduce::None,
            apart: software && !old,
            native_f16: caps.prefers_native_f16(forward.has_f16()),
        };
        let mut found =
            [Reduce::None, Reduce::Shuffle, Reduce::Memory].map(|reduce| Config { reduce, ..first }).to_vec();
        // With one invocation per vector: for devices of small workgroups.
        found.push(Config { lanes: 1, queries: 1, keys: 1, load: Load::Direct, ..first });
        // Where loops are cut short, more invocations share a vector.
        if caps.loop_rounds().is_some() {
            let shared = |log: u32| Config { lanes: 1u32 << log, reduce: Reduce::Memory, ..first };
            found.extend((lanes.ilog2() + 1..=wg_size.ilog2()).map(shared));
        }
        if matches!(load, Load::Broadcast(_)) {
            found.push(Config { algorithm: Algorithm::OneWalk, parts: PARTS, ..first });
        }
        let at = if coop::first(caps, self) { 0 } else { found.len() };
        found.splice(at..at, coop::candidates(caps, self));
        found
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let Config { algorithm, wg_size, lanes, slots, parts, queries, keys, block, load, reduce, native_f16, .. } =
            *config;
        let forward = &self.forward;
        caps.check_wg_size(wg_size)?;
        Misfit::at_most("bytes of scratch", self.scratch_bytes(config), caps.binding_bytes())?;
        Misfit::at_most("rows of scratch", self.scratch_bytes(config) / 16, u32::MAX)?;
        // Invocations past the last are counted, too.
        let room = u32::MAX.saturating_sub(wg_size.saturating_mul(1 << 16));
        Misfit::at_most("invocations", self.delta_items(), room)?;
        Misfit::unless((1..=4).contains(&parts), "parts must be 1 to 4", parts)?;
        let one_walk = algorithm == Algorithm::OneWalk;
        Misfit::unless(one_walk || parts == 1, "two walks have one part", parts)?;
        if algorithm == Algorithm::Coop {
            return coop::check(caps, self, config);
        }
        caps.check_native_f16(native_f16, forward.has_f16())?;
        Misfit::unless(slots == 1, "one slot, but for coop", slots)?;
        Misfit::unless(wg_size.is_power_of_two(), "wg_size must be a power of two", wg_size)?;
        Misfit::unless(lanes.is_power_of_two(), "lanes must be a power of two", lanes)?;
        Misfit::at_most("lanes", lanes, wg_size)?;
        Misfit::unless((1..=16).contains(&queries), "queries must be 1 to 16", queries)?;
        Misfit::unless((1..=16).contains(&keys), "keys must be 1 to 16", keys)?;
        Misfit::unless((1..=16).contains(&block), "block must be 1 to 16", block)?;
        match load {
            Load::Direct => {}
            Load::Staged(n) => {
                Misfit::unless(n > 0 && n.is_multiple_of(block), "what is staged must be a multiple of block", n)?;
            }
            Load::Broadcast(size) => {
                let fits = caps.trusted_subgroup_size() == Some(size) && wg_size.is_multiple_of(size);
                Misfit::unless(fits, "broadcast needs whole subgroups of the trusted size", size)?;
                Misfit::unless(lanes == 1, "broadcast needs one lane", lanes)?;
                Misfit::unless(size >= block, "broadcast needs as many lanes as a block has vectors", size)?;
            }
            Load::Matrices(size) => Misfit::unless(false, "matrices are for coop", size)?,
        }
        Misfit::unless((reduce == Reduce::None) == (lanes == 1), "one lane, and only one, needs no reduction", lanes)?;
        if reduce == Reduce::Shuffle {
            let least = caps.least_subgroup().unwrap_or(0);
            Misfit::at_most("lanes that shuffle in the least trusted subgroup", lanes, least)?;
        }
        if one_walk {
            let fits = load == Load::Broadcast(wg_size) && wg_size.is_multiple_of(block);
            Misfit::unless(fits, "one walk needs load=broadcast of wg_size, and whole blocks of it", wg_size)?;
            Misfit::unless(caps.loop_rounds().is_none(), "loops of one walk are not counted", parts)?;
            let bytes = 4 * wg_size * wg_size * keys;
            Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)?;
        }
        let chunks = forward.chunks(lanes);
        let bytes = config.wg_bytes(chunks, queries.max(keys)).max(4 * wg_size);
        Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)?;
        if caps.loop_rounds().is_none() {
            return Ok(());
        }
        let group = forward.group() as u64;
        let seen = |all: usize| {
            let [left, right] = forward.reach();
            (left as u64 + right as u64 + 1 + config.owned(queries.max(keys))).min(all as u64)
        };
        // The loop of queries_of_all: a round per segment of a tile of keys, at most one per key.
        let ends = Rounds::plain(if forward.segments.is_some() { config.owned(keys) } else { 0 });
        caps.check_rounds(config.walk_rounds(chunks, keys, seen(forward.seq_q), group) + ends)?;
        caps.check_rounds(config.walk_rounds(chunks, queries, seen(forward.seq_kv), 1))?;
        let of_key = |segments: Segments| Rounds::plain(SEARCH).times(3) + Rounds::plain(segments.count as u64);
        let of_key = forward.segments.map_or(Rounds::default(), of_key);
        caps.check_rounds(of_key + Rounds::plain(forward.value_dim as u64))?;
        if self.dsinks.is_some() {
            let rows = Rounds::plain((forward.seq_q as u64).div_ceil(wg_size.into()));
            caps.check_rounds(Rounds::nest(forward.batch as u64, rows) + Rounds::plain(wg_size.ilog2()))?;
        }
        if let Some(dmask) = &views.dmask {
            let times = |own: usize, all: usize| if own == all { 1 } else { all as u64 };
            let [chunks_a, chunks_b] = forward.chunks(1);
            let one = Rounds::plain(chunks_a) + Rounds::plain(chunks_b);
            let keys = Rounds::nest(times(dmask.inner, forward.seq_kv), one);
            let queries = Rounds::nest(times(dmask.sizes[2], forward.seq_q), keys);
            let heads = Rounds::nest(times(dmask.sizes[1], forward.heads), queries);
            caps.check_rounds(Rounds::nest(times(dmask.sizes[0], forward.batch), heads))?;
        }
        Ok(())
    }

    fn scratch(&self, _: &Views, config: &Config) -> u64 {
        if self.steps(config).next().is_some() { self.scratch_bytes(config) } else { 0 }
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        self.steps(config).map(|step| self.pass(step, views, config, writable).shader()).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let forward = &self.forward;
        let (x, o) = (forward.x, forward.o);
        let mut inputs = Args::new(kernels);
        inputs.read(Q, "q", buffers.q, views.of.q.of(x))?;
        inputs.read(K, "k", buffers.k, views.of.k.of(x))?;
        inputs.read(V, "v", buffers.v, views.of.v.of(x))?;
        inputs.read(O, "o", buffers.o, views.of.o.of(o))?;
        inputs.read(D_O, "do", buffers.d_o, views.d_o.of(o))?;
        inputs.read(LSE, "lse", buffers.lse, views.statistics.clone())?;
        inputs.read(DLSE, "dlse", buffers.dlse, views.dlse.map(|view| view.of(WORD)))?;
        inputs.read(MASK, "mask", buffers.mask, views.of.mask.map(|mask| mask.reach()))?;
        inputs.read(TABLES, "tables", buffers.tables, views.of.tables.clone())?;
        inputs.read(INDICES, "indices", buffers.indices, views.of.indices.clone())?;
        let outputs: [(u32, &'static str, Option<Binding>, Option<Reach>); 5] = [
            (DQ, "dq", Some(buffers.dq), Some(views.dq.of(x))),
            (DK, "dk", Some(buffers.dk), Some(views.dk.of(x))),
            (DV, "dv", Some(buffers.dv), Some(views.dv.of(x))),
            (DMASK, "dmask", buffers.dmask, views.dmask.map(|view| view.of(WORD))),
            (DSINKS, "dsinks", buffers.dsinks, views.dsinks.map(|view| view.of(WORD))),
        ];
        let mut call = inputs.clone();
        for (slot, name, memory, reach) in outputs.clone() {
            call.write(slot, name, memory, reach)?;
        }
        if self.steps(config).next().is_none() {
            return Ok(Dispatch::default());
        }
        for (a, b) in [(DQ, DK), (DQ, DV), (DK, DV)] {
            call.interleave(a, b);
        }
        let scratch = call.scratch_memory(buffers.scratch, self.scratch_bytes(config))?;
        let rows = || Reach::to(self.scratch_bytes(config) / 4, WORD);
        call.write(ROWS, "scratch", scratch.clone(), rows())?;
        call.check()?;

        let mut steps = Vec::new();
        for step in self.steps(config) {
            let mut own = inputs.clone();
            let written: &[u32] = match step {
                Step::Delta => &[],
                Step::Keys | Step::OneWalk => &[DK, DV],
                Step::Queries | Step::Join => &[DQ],
                Step::Mask => &[DMASK],
                Step::Sinks => &[DSINKS],
            };
            for (slot, name, memory, reach) in outputs.clone().into_iter().filter(|out| written.contains(&out.0)) {
                own.write(slot, name, memory, reach)?;
            }
            match step {
                Step::Delta | Step::OneWalk => own.write(ROWS, "scratch", scratch.clone(), rows())?,
                _ => own.read(ROWS, "scratch", scratch.clone(), rows())?,
            }
            let add = self.add;
            let (count, tiles, adds) = match step {
                Step::Delta => (self.delta_items().div_ceil(config.wg_size.into()), 1, [false; 2]),
                Step::Keys => {
                    let tiles = (forward.seq_kv as u64).div_ceil(config.owned(config.keys));
                    (product!(tiles, forward.kv_heads, forward.batch), tiles, [add.dk, add.dv])
                }
                Step::OneWalk => (product!(config.parts, forward.kv_heads, forward.batch), 1, [add.dk, add.dv]),
                Step::Join => {
                    let rows = product!(forward.batch, forward.heads.max(1), forward.seq_q.max(1));
                    let chunks = product!(rows, forward.chunks(1)[0]);
                    (chunks.div_ceil(config.wg_size.into()), 1, [add.dq, false])
                }
                Step::Queries => {
                    let tiles = product!(forward.group(), forward.seq_q).div_ceil(config.owned(config.queries));
                    (product!(tiles, forward.kv_heads, forward.batch), tiles, [add.dq, false])
                }
                Step::Mask => {
                    let [n0, n1, n2, cols] = self.mask_sizes();
                    (product!(n0, n1, n2, cols).div_ceil(config.wg_size.into()), 1, [add.dmask, false])
                }
                Step::Sinks => (forward.heads as u64, 1, [add.dsinks, false]),
            };
            let grid = own.fold(count)?;
            let params = Params::of(self, views, config, self.flags(adds), tiles.max(1) as u32, grid);
            steps.push(own.step(&self.pass(step, views, config, own.writable()), &params, grid)?);
        }
        Ok(Dispatch::of(steps))
    }
}
