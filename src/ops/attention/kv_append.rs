//! New keys and values into a cache, contiguous or in pages, by slots from a buffer: keys normed and rotated on the way
//! where the Problem asks for it, both in 8 bits where the cache is; and queries, normed and rotated in the same dispatch.
//!
//! Token `t` goes to slot `slots[t]`: place `slot % page_size` of page `slot / page_size`. A contiguous cache
//! `[batch, seq, kv_heads, head_dim]` has a page of `seq` places per sequence. A slot that does not exist, in all its bits, is
//! skipped, and counted where `skipped` asks for it; no two tokens may have the same. What no slot names stays as it is.
//!
//! Without a cache that goes on, one page of `tokens` places with slots from 0 on takes what k and v become.
//!
//! In this order:
//! * QK-norm ([`Norm`]): RMS or layer norm of each vector of q and k, as in [`norm`](crate::norm), with the weights of q and of k;
//! * rotation ([`Rotation`]), as in [`rope`](crate::rope), with its exact angles;
//! * k and v are stored, q is written to `q_out`.
//!
//! | [`Cache`] | of a token's head | code |
//! |---|---|---|
//! | `Float` | rounded to its dtype; in the dtype of k and v what is neither normed nor rotated is moved bit by bit | |
//! | `Int8` | scale = max\|x\| / 127 | x / scale to the nearest, ties to even |
//! | `E4m3` | scale = max\|x\| / 448 | x / scale to the nearest e4m3fn, ties to even |
//!
//! Codes are bytes, four in a word of their binding. Scales are f32 `[pages, page_size, kv_heads]`. Zeros have scale 0 and
//! codes 0, as has a vector whose scale would be below 2^-126; one that holds an infinity or NaN has the scale NaN and codes 0. Scales and
//! codes are as exact as those of [`quantize`](crate::quantize).

use crate::args::Element;
use crate::compose::lanes_of;
use crate::norm::{self, Kind};
use crate::ops::pointwise::{Clear, clear};
use crate::ops::prelude::*;
use crate::rope::{self, Angles, Axes, Heads, Positions, Style};
use crate::softmax::Reduce;

defaults! {
    /// What is computed. `k` is `[tokens, kv_heads, head_dim]`, `v` `[tokens, kv_heads, value_dim]`.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Problem {
        /// Tokens.
        pub tokens: usize = 1,
        /// Heads of k and v.
        pub kv_heads: usize = 1,
        /// Elements of a vector of k and q, at most [`MOST_DIM`].
        pub head_dim: usize = 1,
        /// Elements of a vector of v, at most [`MOST_DIM`].
        pub value_dim: usize = 1,
        /// Pages of the cache, or sequences of a contiguous one.
        pub pages: usize = 1,
        /// Places of a page.
        pub page_size: usize = 1,
        /// Dtype of k, v and q.
        pub x: Dtype = Dtype::F32,
        /// Where k lies: strides of token and head.
        pub k: Layout<2> = Layout::default(),
        /// Where v lies.
        pub v: Layout<2> = Layout::default(),
        /// What the cache holds.
        pub cache: Cache = Cache::Float(Dtype::F32),
        /// Where the cache of k lies: strides of page, head, place, in elements; without strides `[pages, page_size, kv_heads, head_dim]`.
        /// Vectors must not overlap.
        pub k_cache: Layout<3> = Layout::default(),
        /// The same of v.
        pub v_cache: Layout<3> = Layout::default(),
        /// The first element of the scales of k in their binding, where the cache has such.
        pub k_scale: usize = 0,
        /// The same of v.
        pub v_scale: usize = 0,
        /// The first slot in its binding.
        pub slots: usize = 0,
        /// Slots are i64; else they are i32 or u32.
        pub wide: bool = false,
        /// The element of its binding where skipped tokens are counted, a u32.
        pub skipped: Option<usize> = None,
        /// Queries `[tokens, heads, head_dim]`, normed and rotated as k.
        pub q: Option<Query> = None,
        /// QK-norm.
        pub norm: Option<Norm> = None,
        /// Rotation of k and q.
        pub rotation: Option<Rotation> = None,
    }
}

/// What a cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cache {
    /// Values.
    Float(Dtype),
    /// Whole numbers from -127 to 127, a scale per token and head.
    Int8,
    /// e4m3fn, a scale per token and head.
    E4m3,
}

/// Queries; their output has their dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Query {
    /// How many heads.
    pub heads: usize,
    /// Where they lie: strides of token and head.
    pub from: Layout<2>,
    /// Where the output lies. Vectors must not overlap.
    pub to: Layout<2>,
}

/// RMS norm or layer norm of each vector of q and k. Weights and biases lie in one binding, `norms`, of one dtype, each from the element that
/// is given on: `[head_dim]`, or with `per_head` `[heads, head_dim]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// Which norm.
    pub kind: Kind,
    /// Added to the mean square or the variance.
    pub eps: f32,
    /// Added to weights, of 1 where there are none.
    pub weight_offset: f32,
    /// Dtype of weights and biases.
    pub dtype: Dtype,
    /// Each head has weights and biases of its own.
    pub per_head: bool,
    /// The weights of q.
    pub q_weight: Option<usize>,
    /// The weights of k.
    pub k_weight: Option<usize>,
    /// The biases of q.
    pub q_bias: Option<usize>,
    /// The biases of k.
    pub k_bias: Option<usize>,
}

impl Norm {
    /// Without weights; `eps` is the usual one.
    pub const fn of(kind: Kind) -> Norm {
        let none = None;
        let (q_weight, k_weight, q_bias, k_bias) = (none, none, none, none);
        let (weight_offset, dtype, per_head) = (0.0, Dtype::F32, false);
        Norm { kind, eps: kind.eps(), weight_offset, dtype, per_head, q_weight, k_weight, q_bias, k_bias }
    }

    /// Weights and biases of q, then those of k.
    fn vectors(&self) -> [Option<usize>; 4] {
        [self.q_weight, self.q_bias, self.k_weight, self.k_bias]
    }
}

/// Rotation by position, as in [`rope::Problem`].
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    /// The first so many elements are rotated; even.
    pub rotary_dim: usize,
    /// Which elements make a pair.
    pub style: Style,
    /// Positions are i32, else u32.
    pub signed: bool,
    /// Positions `[axes, tokens]`: the stride of an axis.
    pub positions: Layout<1>,
    /// By which of a token's positions a pair turns.
    pub axes: Axes,
    /// Where cos and sin come from.
    pub angles: Angles,
}

/// Elements of a vector, at most.
pub const MOST_DIM: usize = 4096;

config! {
    /// How it is computed.
    pub struct Config {
        /// One step has q, k and v; else each has a step of its own, which binds fewer buffers.
        pub together: bool,
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// Invocations that share a vector, a power of two that divides `wg_size`.
        pub lanes: u32,
        /// Pairs of chunks that each holds.
        pub keep: u32,
        /// Vectors of a token that they take one after the other, by the same angles.
        pub share: u32,
        /// How they combine, where a norm or a scale needs it: `none`, `tree` or `shuffle`.
        pub reduce: Reduce,
        /// f16 tensors are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

/// What a step handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Part {
    q: bool,
    k: bool,
    v: bool,
}

/// What follows from the Problem, for one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    part: Part,
    /// Elements of a chunk: 4, 2 (whole words of packed outputs) or 1.
    pairs: u32,
    /// Some output is packed, and is stored element by element.
    edge: bool,
    q: Storage,
    k: Storage,
    v: Storage,
    k_cache: Storage,
    v_cache: Storage,
    /// The cache holds codes, of e4m3 or int8.
    codes: Option<bool>,
    skipped: bool,
    norm: bool,
    norms: Option<Storage>,
    rotates: bool,
    tables: bool,
    in_place: bool,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, config: &Config, form: &Form, grid_x: u32) {
        q: Strides = views.q.map_or([0; 4], |q| q[usize::from(form.in_place)].params()),
        q_out: Strides = views.q.map_or([0; 4], |q| q[1].params()),
        k: Strides = views.k.params(),
        v: Strides = views.v.params(),
        k_cache: Strides = views.k_cache.params(),
        v_cache: Strides = views.v_cache.params(),
        items: u32 = product!(p.tokens, p.groups(config, form.part).iter().sum::<u32>()) as u32,
        groups: u32 = p.groups(config, form.part).iter().sum(),
        q_groups: u32 = p.groups(config, form.part)[0],
        k_groups: u32 = p.groups(config, form.part)[1],
        q_heads: u32 = p.q.map_or(0, |q| q.heads as u32),
        kv_heads: u32 = p.kv_heads as u32,
        heads_per: u32 = config.share,
        pair_items: u32 = p.rotary_dim() as u32 / 2 / form.pairs,
        k_chunks: u32 = p.head_dim as u32 / form.pairs,
        v_chunks: u32 = p.value_dim as u32 / form.pairs,
        places: u32 = product!(p.pages, p.page_size) as u32,
        page_size: u32 = p.page_size as u32,
        flags: u32 = p.flags(views),
        slots_offset: u32 = p.slots as u32,
        skipped_offset: u32 = p.skipped.unwrap_or(0) as u32,
        k_scale_offset: u32 = p.k_scale as u32,
        v_scale_offset: u32 = p.v_scale as u32,
        max_pos: u32 = views.rope.as_ref().map_or(1, |(_, rope)| rope.rows()),
        first_position: u32 = views.rope.as_ref().map_or(0, |(_, rope)| rope.first_position()),
        positions_step: u32 = 0,
        cos_factor: f32 = views.rope.as_ref().map_or(1.0, |(of, _)| of.factor()),
        sin_factor: f32 = views.rope.as_ref().map_or(1.0, |(of, _)| of.factor()),
        cols: u32 = p.head_dim as u32,
        weight_offset: f32 = p.norm.map_or(0.0, |norm| norm.weight_offset),
        scale: f32 = p.norm.map_or(1.0, |norm| norm::scale(norm.eps)),
        eps: f32 = p.norm.map_or(0.0, |norm| norm.eps * norm::scale(norm.eps) * norm::scale(norm.eps)),
        q_weight: u32 = p.norm.and_then(|norm| norm.q_weight).unwrap_or(0) as u32,
        k_weight: u32 = p.norm.and_then(|norm| norm.k_weight).unwrap_or(0) as u32,
        q_bias: u32 = p.norm.and_then(|norm| norm.q_bias).unwrap_or(0) as u32,
        k_bias: u32 = p.norm.and_then(|norm| norm.k_bias).unwrap_or(0) as u32,
        grid_x: u32 = grid_x,
    }
}

/// Bits of `flags`, besides those of rope.
const FLAGS: [(&str, u32); 7] = [
    ("LAYER", 8),
    ("Q_WEIGHT", 16),
    ("Q_BIAS", 32),
    ("K_WEIGHT", 64),
    ("K_BIAS", 128),
    ("PER_HEAD", 256),
    ("WIDE", 512),
];

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    k: View<2>,
    v: View<2>,
    q: Option<[View<2>; 2]>,
    k_cache: View<3>,
    v_cache: View<3>,
    scales: Option<[View<1>; 2]>,
    slots: View<1>,
    skipped: Option<View<1>>,
    /// Of weights and biases, those that there are.
    norms: Vec<View<1>>,
    /// The rotation as rope has it.
    rope: Option<(rope::Problem, rope::Views)>,
}

impl Cache {
    /// Bytes of an element.
    pub const fn bytes(self) -> u64 {
        match self {
            Cache::Float(dtype) => dtype.bytes(),
            Cache::Int8 | Cache::E4m3 => 1,
        }
    }

    fn element(self) -> Element {
        match self {
            Cache::Float(dtype) => dtype.into(),
            _ => Element { bits: 8, dtype: None },
        }
    }

    fn codes(self) -> bool {
        !matches!(self, Cache::Float(_))
    }
}

impl Problem {
    /// `[pages, kv_heads, page_size]`, the sizes that layouts of a cache go by.
    pub fn cache_sizes(&self) -> [usize; 3] {
        [self.pages, self.kv_heads, self.page_size]
    }

    /// The layout of a cache with its strides written out.
    pub fn cache_layout(&self, layout: Layout<3>, dim: usize) -> Layout<3> {
        let place = self.kv_heads.saturating_mul(dim);
        let strides = [self.page_size.saturating_mul(place), dim, place];
        Layout { strides: layout.strides.or(Some(strides)), ..layout }
    }

    fn rotary_dim(&self) -> usize {
        self.rotation.as_ref().map_or(0, |rotation| rotation.rotary_dim)
    }

    /// The rotation as rope has it, of one head.
    pub fn rope(&self) -> Option<rope::Problem> {
        let Rotation { rotary_dim, style, signed, positions, axes, angles } = self.rotation.clone()?;
        let layout = Layout { offset: positions.offset, strides: positions.strides.map(|[axis]| [axis, 0]) };
        Some(rope::Problem {
            seq: self.tokens,
            head_dim: self.head_dim,
            rotary_dim,
            q: Heads::new(1),
            style,
            positions: Positions::Buffer { signed, layout },
            axes,
            angles,
            ..Default::default()
        })
    }

    /// The bits of [`FLAGS`] and of rope's flags that are set.
    fn flags(&self, views: &Views) -> u32 {
        let norm = self.norm.unwrap_or(Norm::of(Kind::Rms));
        let [q_weight, q_bias, k_weight, k_bias] = norm.vectors().map(|at| at.is_some());
        let set = [norm.kind == Kind::Layer, q_weight, q_bias, k_weight, k_bias, norm.per_head, self.wide];
        let own: u32 = FLAGS.iter().zip(set).filter(|(_, set)| *set).map(|((_, bit), _)| bit).sum();
        own | views.rope.as_ref().map_or(0, |(of, _)| of.flags())
    }

    /// Whether vectors are reduced to a number.
    fn reduces(&self) -> bool {
        self.norm.is_some() || self.cache.codes()
    }

    fn has_f16(&self) -> bool {
        let norms = self.norm.map(|norm| norm.dtype);
        self.x == Dtype::F16 || self.cache == Cache::Float(Dtype::F16) || norms == Some(Dtype::F16)
    }

    /// The steps of a Config.
    fn parts(&self, together: bool) -> Vec<Part> {
        let q = self.q.is_some();
        let none = Part { q: false, k: false, v: false };
        match together {
            true => vec![Part { q, k: true, v: true }],
            false => {
                let query = q.then_some(Part { q, ..none });
                query.into_iter().chain([Part { k: true, ..none }, Part { v: true, ..none }]).collect()
            }
        }
    }

    /// Groups of heads of q, k and v that share angles.
    fn groups(&self, config: &Config, part: Part) -> [u32; 3] {
        let of = |has: bool, heads: usize| if has { (heads as u32).div_ceil(config.share.max(1)) } else { 0 };
        let q = self.q.map_or(0, |q| q.heads);
        [of(part.q, q), of(part.k, self.kv_heads), of(part.v, self.kv_heads)]
    }

    fn form(&self, views: &Views, native_f16: bool, part: Part) -> Form {
        let held = |dtype| Storage::held(dtype, native_f16);
        let cache = match self.cache {
            Cache::Float(dtype) => held(dtype),
            _ => Storage::F32,
        };
        let x = held(self.x);
        // What is only moved.
        let moves = |changed: bool| self.cache == Cache::Float(self.x) && self.x != Dtype::F32 && !changed;
        let moved = |changed| if moves(changed) { [Storage::Halves; 2] } else { [x, cache] };
        let [k, k_cache] = moved(self.norm.is_some() || self.rotation.is_some());
        let [v, v_cache] = moved(false);
        let codes = self.cache.codes();
        let outputs =
            [part.q.then_some(x), (part.k && !codes).then_some(k_cache), (part.v && !codes).then_some(v_cache)];
        let packed = outputs.into_iter().flatten().any(Storage::packed);
        let half = self.rotary_dim() / 2;
        let aligned = |n: usize| half.is_multiple_of(n) && views.multiple_of(n);
        let pairs = match outputs.into_iter().flatten().all(Storage::packed) {
            _ if aligned(4) => 4,
            true if packed && !codes && aligned(2) => 2,
            _ => 1,
        };
        Form {
            part,
            pairs,
            edge: packed && pairs == 1,
            q: x,
            k,
            v,
            k_cache,
            v_cache,
            codes: codes.then_some(self.cache == Cache::E4m3),
            skipped: part.v && self.skipped.is_some(),
            norm: self.norm.is_some() && (part.q || part.k),
            norms: self.norm.filter(|_| !views.norms.is_empty()).map(|norm| held(norm.dtype)),
            rotates: self.rotation.is_some() && (part.q || part.k),
            tables: views.rope.as_ref().is_some_and(|(_, rope)| rope.has_tables()),
            in_place: false,
        }
    }

    fn pass(&self, config: &Config, form: Form, writable: Slots) -> Pass<Config, Form> {
        // What Params say makes no pipeline.
        Pass { stem: "kv_append", config: Config { share: 1, together: true, ..*config }, form, writable }
    }

    /// Pairs of chunks of the longest vector.
    fn items(&self, pairs: u32) -> u32 {
        (self.head_dim.max(self.value_dim) as u32).div_ceil(2 * pairs)
    }

    fn invocations(&self, config: &Config, part: Part) -> u64 {
        product!(self.tokens, self.groups(config, part).iter().sum::<u32>(), config.lanes)
    }
}

impl Views {
    fn multiple_of(&self, n: usize) -> bool {
        let q = self.q.iter().flatten().all(|view| view.multiple_of(n));
        let caches = [self.k_cache, self.v_cache].iter().all(|view| view.multiple_of(n));
        q && caches
            && [self.k, self.v].iter().all(|view| view.multiple_of(n))
            && self.norms.iter().all(|view| view.multiple_of(n))
    }
}

/// Of a class of adapters: invocations of a workgroup, those that share a vector at most, vectors that share angles at most, and invocations to
/// reach by sharing less. As rope on lavapipe of Mesa 26.2; the others are not measured.
const fn tiles(class: Class) -> (u32, u32, u32, u64) {
    match class {
        Class::Software => (8, 8, 16, 1 << 8),
        Class::Integrated => (128, 32, 4, 1 << 14),
        Class::Discrete => (256, 32, 4, 1 << 17),
    }
}

/// Pairs of chunks that an invocation holds, at most.
const MOST_KEPT: u32 = 256;

slots!(K, V, K_CACHE, V_CACHE, SLOTS, SKIPPED, K_SCALE, V_SCALE, Q, Q_OUT, POSITIONS, PAIRS, COS, SIN, NORMS);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let form = self.form;
        let Form { part, pairs, edge, codes, rotates, tables, .. } = form;
        let Config { wg_size, lanes, keep, reduce, .. } = self.config;
        let turned = rotates && tables;
        let mut shader = self
            .begin(wg_size, wg_bytes(reduce, wg_size), if edge { 2 } else { pairs })
            .params::<Params>()
            .constants(rope::FLAGS)
            .constants(FLAGS)
            .constant("PAIRS", pairs)
            .constant("LANES", lanes)
            .constant("KEEP", keep)
            .flag("HAS_Q", part.q)
            .flag("HAS_K", part.k)
            .flag("HAS_V", part.v)
            .flag("HAS_SKIPPED", form.skipped)
            .flag("CODES", codes.is_some() && (part.k || part.v))
            .flag("E4M3", codes == Some(true))
            .flag("NORM", form.norm)
            .flag("ROTATES", rotates)
            .lanes(pairs)
            .import(match pairs {
                4 => "rope_pairs4",
                2 => "rope_pairs2",
                _ => "rope_pairs1",
            })
            .import(match pairs {
                4 => "kv_append_lanes4",
                2 => "kv_append_lanes2",
                _ => "kv_append_lanes1",
            })
            .import(if edge { "kv_append_halves" } else { "kv_append_chunks" })
            .import(match reduce {
                Reduce::None => "reduce_none",
                Reduce::Shuffle => "reduce_shuffle",
                _ => "reduce_tree",
            });
        let output = |shader: Shader, has: bool, slot: u32, name: &'static str, storage: Storage| match has {
            true if edge => shader.output_apart(slot, name, storage),
            true => shader.output(slot, name, storage, false),
            false => shader.no_output(name),
        };
        shader = output(shader, part.q, Q_OUT, "q_out", form.q);
        shader = match part.q {
            true if form.in_place => shader.in_place("q", "q_out", form.q, edge && form.q.packed()),
            true => shader.input(Q, "q", form.q),
            false => shader.no_input("q", "0.0"),
        };
        let words = if pairs == 4 { "u32" } else { "atomic<u32>" };
        for (has, input, cache, scale, storages, [x, to, scales], files) in [
            (
                part.k,
                K,
                K_CACHE,
                K_SCALE,
                [form.k, form.k_cache],
                ["k", "k_cache", "k_scale"],
                ["kv_append_k_words", "kv_append_k_bytes"],
            ),
            (
                part.v,
                V,
                V_CACHE,
                V_SCALE,
                [form.v, form.v_cache],
                ["v", "v_cache", "v_scale"],
                ["kv_append_v_words", "kv_append_v_bytes"],
            ),
        ] {
            shader = if has { shader.input(input, x, storages[0]) } else { shader.no_input(x, "0.0") };
            let coded = has && codes.is_some();
            shader = match coded {
                true => shader.writes(cache, to, words).writes(scale, scales, "u32").no_output(to),
                false => output(shader, has, cache, to, storages[1]),
            };
            shader = shader.import_if(coded, files[usize::from(pairs != 4)]);
        }
        let slots = part.k || part.v;
        shader = if slots { shader.reads(SLOTS, "slots", "u32") } else { shader };
        shader = shader.import_if(slots, "kv_append_slots");
        shader = shader.writes_if(form.skipped, SKIPPED, "skipped", "atomic<u32>", "kv_append_skip");
        shader = match form.norms.filter(|_| form.norm) {
            Some(storage) => shader.input(NORMS, "norms", storage),
            None => shader.no_input("norms", "0.0"),
        };
        if rotates {
            shader = shader.table(POSITIONS, "positions", "u32", true).each("positions_load", "U", pairs);
            shader = shader.table(COS, "cos_table", "f32", turned).each("cos_table_load", "F", pairs);
            shader = shader.table(SIN, "sin_table", "f32", turned).each("sin_table_load", "F", pairs);
            shader = shader.reads(PAIRS, "pairs", &lanes_of(pairs, "u32"));
        }
        shader.import_if(rotates, "rope_angle")
    }
}

fn wg_bytes(reduce: Reduce, wg_size: u32) -> u32 {
    if reduce == Reduce::Tree { wg_size.saturating_mul(4) } else { 0 }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `k`, `v` and `slots` are read, the caches are updated.
        k, v, k_cache, v_cache, slots;
        /// The count that the Problem asks for.
        skipped,
        /// The scales of k of a cache of 8 bits.
        k_scale,
        /// The scales of v of a cache of 8 bits.
        v_scale,
        /// The queries that the Problem has.
        q,
        /// Their output; it may be the view of `q`, and share a buffer with k and v.
        q_out,
        /// Weights and biases of the norm, which the Problem has.
        norms,
        /// The positions of the rotation.
        positions,
        /// The table of cosines that the rotation asks for.
        cos,
        /// The table of sines that the rotation asks for.
        sin,
    }
}

functions!("kv_append");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let Problem { tokens, kv_heads, head_dim, value_dim, pages, page_size, .. } = *self;
        sizes_fit([("tokens", tokens), ("pages", pages), ("page_size", page_size)])?;
        let unless = ErrorKind::unless;
        for (arg, dim) in [("head_dim", head_dim), ("value_dim", value_dim)] {
            unless((1..=MOST_DIM).contains(&dim), arg, format_args!("{dim} is not 1 to {MOST_DIM}"))?;
        }
        for (arg, heads) in [("kv_heads", kv_heads), ("q", self.q.map_or(1, |q| q.heads))] {
            unless((1..=1 << 16).contains(&heads), arg, format_args!("{heads} heads are not 1 to 2^16"))?;
        }
        unless(page_size > 0, "page_size", format_args!("pages have no places"))?;
        let places = product!(pages, page_size);
        unless(places < u32::MAX.into(), "pages", format_args!("{places} places in all pages are not below 2^32 - 1"))?;
        let mut norms = Vec::new();
        if let Some(norm) = &self.norm {
            norm::check_options(norm.eps, norm.weight_offset)?;
            let no_q = self.q.is_none() && (norm.q_weight.is_some() || norm.q_bias.is_some());
            unless(!no_q, "norm", format_args!("it has weights of q, but there is no q"))?;
            let heads = [self.q.map_or(1, |q| q.heads), kv_heads];
            for (i, at) in norm.vectors().into_iter().enumerate() {
                let rows = if norm.per_head { heads[i / 2] } else { 1 };
                norms.extend(at.map(|at| Layout::<1>::at(at).view("norms", [rows], head_dim)).transpose()?);
            }
        }
        let rope = self.rope().map(|of| {
            let views = of.resolve()?;
            Ok::<_, ErrorKind>((of, views))
        });
        let vectors = |arg, layout: Layout<2>, heads, dim| layout.view(arg, [tokens, heads], dim);
        let q = |q: Query| -> Checked<_> {
            Ok([vectors("q", q.from, q.heads, head_dim)?, vectors("q_out", q.to, q.heads, head_dim)?.apart("q_out")?])
        };
        let cache = |arg, layout, dim| -> Checked<View<3>> {
            self.cache_layout(layout, dim).view(arg, self.cache_sizes(), dim)?.apart(arg)
        };
        let scale = |arg, at: usize| Layout::<1>::at(at).view(arg, [pages.saturating_mul(page_size)], kv_heads);
        let scales = || Ok::<_, ErrorKind>([scale("k_scale", self.k_scale)?, scale("v_scale", self.v_scale)?]);
        Ok(Views {
            k: vectors("k", self.k, kv_heads, head_dim)?,
            v: vectors("v", self.v, kv_heads, value_dim)?,
            q: self.q.map(q).transpose()?,
            k_cache: cache("k_cache", self.k_cache, head_dim)?,
            v_cache: cache("v_cache", self.v_cache, value_dim)?,
            scales: self.cache.codes().then(scales).transpose()?,
            slots: Layout::<1>::at(self.slots).view("slots", [1], tokens)?,
            skipped: self.skipped.map(|at| Layout::<1>::at(at).view("skipped", [1], 1)).transpose()?,
            norms,
            rope: rope.transpose()?,
        })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let (wg_size, most, most_shared, fill) = tiles(caps.class());
        let wg_size = wg_size.min(caps.most_invocations());
        let native_f16 = caps.prefers_native_f16(self.has_f16());
        let mut found = Vec::new();
        for together in [true, false] {
            let parts = self.parts(together);
            let pairs = parts.iter().map(|&part| self.form(views, native_f16, part).pairs).min().unwrap_or(1);
            let items = self.items(pairs);
            let lanes = items.next_power_of_two().min(most).min(wg_size);
            let share = if self.rotation.is_some() { most_shared } else { 1 };
            let of = |lanes: u32, reduce| {
                let keep = items.div_ceil(lanes);
                let mut config = Config { together, wg_size, lanes, keep, share, reduce, native_f16 };
                while config.share > 1 && self.invocations(&config, parts[0]) < fill {
                    config.share /= 2;
                }
                config
            };
            match self.reduces() && lanes > 1 {
                true => found.extend([of(lanes, Reduce::Shuffle), of(lanes, Reduce::Tree), of(1, Reduce::None)]),
                false => found.push(of(lanes, Reduce::None)),
            }
        }
        found
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let Config { together, wg_size, lanes, keep, share, reduce, native_f16 } = *config;
        caps.check_wg_size(wg_size)?;
        caps.check_native_f16(native_f16, self.has_f16())?;
        Misfit::unless(lanes.is_power_of_two(), "lanes must be a power of two", lanes)?;
        Misfit::unless(wg_size.is_multiple_of(lanes), "lanes must divide wg_size", lanes)?;
        Misfit::unless((1..=1 << 16).contains(&share), "share must be 1 to 65536", share)?;
        Misfit::unless((1..=MOST_KEPT).contains(&keep), "keep must be 1 to 256", keep)?;
        let needed = (reduce == Reduce::None) == (lanes == 1 || !self.reduces());
        Misfit::unless(needed, "what lanes share is reduced, and nothing else", lanes)?;
        match reduce {
            Reduce::Shuffle => {
                let least = caps.least_subgroup().unwrap_or(0);
                Misfit::at_most("lanes that shuffle in the least trusted subgroup", lanes, least)?;
            }
            Reduce::Subgroup => Misfit::unless(false, "reduce must be none, tree or shuffle", 0u32)?,
            Reduce::None | Reduce::Tree => {}
        }
        let bytes = wg_bytes(reduce, wg_size);
        Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)?;
        for part in self.parts(together) {
            let form = self.form(views, native_f16, part);
            let held = product!(keep, lanes);
            Misfit::unless(held >= self.items(form.pairs).into(), "keep times lanes must be whole vectors", held)?;
            let buffers = self.pass(config, form, Slots::NONE).shader().bindings().len() as u32;
            Misfit::at_most("storage buffers", buffers, caps.limits.max_storage_buffers_per_shader_stage)?;
            let room = u64::from(u32::MAX).saturating_sub(u64::from(wg_size) << 16);
            Misfit::at_most("invocations", self.invocations(config, part), room)?;
        }
        let each = Rounds::plain(keep).times(8) + Rounds::plain(lanes.ilog2()).times(4);
        caps.check_rounds(Rounds::plain(keep) + Rounds::nest(share, each))
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let clear = self.skipped.map(|_| Clear { slot: SKIPPED }.shader());
        let parts = self.parts(config.together).into_iter();
        let steps = parts.map(|part| self.pass(config, self.form(views, config.native_f16, part), writable).shader());
        clear.into_iter().chain(steps).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        let element = self.cache.element();
        let slot = Element { bits: if self.wide { 64 } else { 32 }, dtype: None };
        let [q, q_out] = [0, 1].map(|i| views.q.map(|q| q[i].of(self.x)));
        let [k_scale, v_scale] = [0, 1].map(|i| views.scales.map(|scales| scales[i].of(WORD)));
        let norms = views.norms.iter().map(|view| view.of(self.norm.map_or(Dtype::F32, |norm| norm.dtype)));
        let rope = views.rope.as_ref().map(|(_, rope)| rope);
        let [cos, sin] = [0, 1].map(|i| rope.and_then(|rope| rope.table(i)).map(|view| view.of(WORD)));
        args.read(K, "k", buffers.k, views.k.of(self.x))?;
        args.read(V, "v", buffers.v, views.v.of(self.x))?;
        args.write(K_CACHE, "k_cache", buffers.k_cache, views.k_cache.of(element))?;
        args.write(V_CACHE, "v_cache", buffers.v_cache, views.v_cache.of(element))?;
        args.read(SLOTS, "slots", buffers.slots, views.slots.of(slot))?;
        args.write(SKIPPED, "skipped", buffers.skipped, views.skipped.map(|view| view.of(WORD)))?;
        args.write(K_SCALE, "k_scale", buffers.k_scale, k_scale)?;
        args.write(V_SCALE, "v_scale", buffers.v_scale, v_scale)?;
        args.read(Q, "q", buffers.q, q)?;
        args.write(Q_OUT, "q_out", buffers.q_out, q_out)?;
        args.read(NORMS, "norms", buffers.norms, norms.reduce(Reach::and))?;
        args.read(POSITIONS, "positions", buffers.positions, rope.and_then(|rope| rope.positions()))?;
        args.read(COS, "cos", buffers.cos, cos)?;
        args.read(SIN, "sin", buffers.sin, sin)?;
        let in_place = args.in_place(Q, Q_OUT);
        for [a, b] in [[Q, Q_OUT], [K, Q_OUT], [V, Q_OUT]] {
            args.interleave(a, b);
        }
        // Caches may lie side by side in one buffer.
        args.interleave(K_CACHE, V_CACHE);
        args.check()?;

        let mut steps = Vec::new();
        if let Some(view) = &views.skipped {
            steps.push(clear(&args, SKIPPED, view)?);
        }
        if self.tokens == 0 {
            return Ok(Dispatch::of(steps));
        }
        for part in self.parts(config.together) {
            let form = Form { in_place: in_place && part.q, ..self.form(views, config.native_f16, part) };
            let mut args = args.clone();
            if let Some((of, rope)) = &views.rope {
                args.table(PAIRS, "pairs", &of.pair_table(rope, form.pairs))?;
            }
            let grid = args.fold(self.invocations(config, part).div_ceil(config.wg_size.into()))?;
            let pass = self.pass(config, form, args.writable());
            steps.push(args.step(&pass, &Params::of(self, views, config, &form, grid[0]), grid)?);
        }
        Ok(Dispatch::of(steps))
    }
}
