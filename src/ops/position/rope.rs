//! Rotary position embedding (Su et al., "RoFormer", 2021) of q, and of k in the same dispatch.
//!
//! Each pair `(a, b)` of a head vector at position `p` becomes `(a cos t - b sin t, b cos t + a sin t)` with
//! `t = p * frequency`. Pairs, positions, scalings and axes as the models have them: [`Style`], [`Positions`],
//! [`Scaling`], [`Axes`]; or the caller's own cos and sin ([`Angles::Tables`]).
//!
//! # Exact far out
//! WGSL's `sin` is good to 2^-11 and only in [-pi, pi], and an angle in f32 is 0.05 rad off at position
//! 1,048,576 before any `sin` is taken. So frequencies are computed in f64 on the host and handed over in
//! turns per position, as 64-bit fractions. A position times such a fraction modulo one turn is integer
//! arithmetic, exact for every 32-bit position; its nearest quarter turn and a polynomial on an eighth of a
//! turn either way give sin and cos (`shaders/shared/rope_turn.wgsl`). No table grows with the positions,
//! and no driver's `sin` has a say. An invocation computes an angle once and turns several heads by it.
//!
//! Largest error of a turned unit vector in ULP of 1 (2^-24), 128 dimensions, base 10,000, 16 positions from each
//! on; beside it textbook angles, `position * frequency` in f32, with an exact sin and cos. The same to the digit on
//! every driver measured: Mesa 26.2 lavapipe with 4, 8 and 16 lanes, Mesa 22.3 lavapipe, its GL, and SwiftShader. The
//! test `error against position` holds every driver to 4, and prints the whole table with `TILELOOM_PRINT_TABLE=1`.
//!
//! | position | tileloom | f32 angles |
//! |---|---|---|
//! | 1 | 1.42 | 13.2 |
//! | 16 | 1.34 | 23.2 |
//! | 256 | 1.41 | 242.6 |
//! | 4,096 | 1.34 | 2531.1 |
//! | 65,536 | 1.42 | 57,571.6 |
//! | 262,144 | 1.33 | 222,656.8 |
//! | 524,288 | 1.26 | 438,081.5 |
//! | 1,048,561 | 1.30 | 868,502.1 |

use crate::compose::{Shader, Storage, Tensor, write_flags};
use crate::dispatch::{Arg, check_all, fold, given, read_write};
use crate::kernels::{Pipeline, chosen};
use crate::layout::{View, check_sizes};
use crate::{Binding, Caps, Dispatch, Dtype, Error, ErrorKind, Kernels, Layout, Misfit, Result, caps::Class};

use super::frequencies::turns;
pub use super::frequencies::{Frequencies, Scaling, Yarn};

const OP: &str = "rope";

/// What is computed. `q` and `k` are `[batch, heads, seq, head_dim]`, whatever the order in memory; packed
/// tokens `[total, heads, head_dim]` are one batch with their positions from a buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    pub batch: usize,
    pub seq: usize,
    pub head_dim: usize,
    /// The first so many elements are rotated, the rest is copied; even.
    pub rotary_dim: usize,
    pub q: Heads,
    /// Rotated in the same dispatch, by the same angles.
    pub k: Option<Heads>,
    /// Dtype of `q` and `k`.
    pub x: Dtype,
    /// Dtype of their outputs.
    pub y: Dtype,
    pub style: Style,
    /// Turn the other way: the transpose, which takes gradients back. An attention factor multiplies here, too.
    pub inverse: bool,
    pub positions: Positions,
    pub axes: Axes,
    pub angles: Angles,
}

/// The heads of q or of k, and where they lie: strides of `batch`, `head`, `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Heads {
    pub heads: usize,
    pub from: Layout<3>,
    /// Head vectors must not overlap.
    pub to: Layout<3>,
}

impl Heads {
    /// `[batch, heads, seq, head_dim]`, contiguous.
    pub const fn new(heads: usize) -> Heads {
        let layout = Layout { offset: 0, strides: None };
        Heads { heads, from: layout, to: layout }
    }

    /// `[batch, seq, heads, head_dim]`, contiguous.
    pub const fn bshd(heads: usize, seq: usize, head_dim: usize) -> Heads {
        let layout = Layout::strided(0, [seq * heads * head_dim, head_dim, heads * head_dim]);
        Heads { heads, from: layout, to: layout }
    }

    /// Heads `first..first + heads` of tokens of `width` elements each, such as a fused `[q | k | v]`; read and
    /// written there.
    pub const fn fused(first: usize, heads: usize, seq: usize, head_dim: usize, width: usize) -> Heads {
        let layout = Layout::strided(first * head_dim, [seq * width, head_dim, width]);
        Heads { heads, from: layout, to: layout }
    }
}

/// Which elements make a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Style {
    /// `i` and `i + rotary_dim / 2` (GPT-NeoX, Llama).
    #[default]
    Half,
    /// `2i` and `2i + 1` (RoFormer, GPT-J).
    Interleaved,
}

/// Where a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Positions {
    /// Token `s` of each sequence is at this position plus `s`: from -2^31, or up to 2^32 - 1.
    Offset(i64),
    /// Read from a buffer of u32, or of i32 where `signed`: `[axes, batch, seq]`, strides of axis and batch.
    Buffer { signed: bool, layout: Layout<2> },
}

/// By which of a token's positions a pair turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Axes {
    /// One position per token.
    #[default]
    One,
    /// Three: the first section of the pairs goes by the first position, and so on (Qwen2-VL's M-RoPE). The
    /// sections together are `rotary_dim / 2`.
    Sections([usize; 3]),
    /// Two: pair `2i` goes by the first, `2i + 1` by the second (Kimi-VL's MoonViT); see [`Frequencies::axial`].
    Axial,
}

impl Axes {
    /// Positions per token.
    pub const fn count(self) -> usize {
        match self {
            Axes::One => 1,
            Axes::Sections(_) => 3,
            Axes::Axial => 2,
        }
    }
}

/// Where cos and sin come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Angles {
    Frequencies(Frequencies),
    /// The caller's tables, f32 `[max_pos, rotary_dim / 2]`, from these elements of their bindings. Positions
    /// below and beyond take the first and the last row.
    Tables {
        max_pos: usize,
        cos: usize,
        sin: usize,
    },
}

impl Default for Problem {
    /// One pair at position 0: sizes and frequencies are yours to set.
    fn default() -> Self {
        Problem {
            batch: 1,
            seq: 1,
            head_dim: 2,
            rotary_dim: 2,
            q: Heads::new(1),
            k: None,
            x: Dtype::F32,
            y: Dtype::F32,
            style: Style::Half,
            inverse: false,
            positions: Positions::Offset(0),
            axes: Axes::One,
            angles: Angles::Frequencies(Frequencies { per_pair: vec![1.0], attention_factor: 1.0 }),
        }
    }
}

/// How it is computed. `heads` is a parameter, the rest names a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    /// Invocations per workgroup.
    pub wg_size: u32,
    /// Heads that an invocation turns by one angle.
    pub heads: u32,
    pub form: Form,
}

/// What the Problem, the device and the buffers decide of a Config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    /// Pairs per item: 4, 2 (whole words of a packed output) or 1.
    pub pairs: u32,
    pub x: Storage,
    pub y: Storage,
    pub k: bool,
    /// Positions come from a buffer.
    pub positions: bool,
    /// cos and sin come from the caller's tables.
    pub tables: bool,
    /// Words of a packed output are shared by pairs, or with what lies beside them.
    pub edge: bool,
    /// q is read from the binding of its output. This and what follows is set by `prepare`.
    pub q_in_place: bool,
    pub k_in_place: bool,
    /// Inputs that lie in a buffer that is written.
    pub q_writable: bool,
    pub k_writable: bool,
    pub positions_writable: bool,
    pub cos_writable: bool,
    pub sin_writable: bool,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params {
        seq: u32,
        tokens: u32,
        groups: u32,
        q_groups: u32,
        q_heads: u32,
        k_heads: u32,
        heads_per: u32,
        pair_items: u32,
        items: u32,
        flags: u32,
        grid_x: u32,
        max_pos: u32,
        first_position: u32,
        positions_s1: u32,
        cos_factor: f32,
        sin_factor: f32,
        q_offset: u32,
        q_s0: u32,
        q_s1: u32,
        q_s2: u32,
        q_out_offset: u32,
        q_out_s0: u32,
        q_out_s1: u32,
        q_out_s2: u32,
        k_offset: u32,
        k_s0: u32,
        k_s1: u32,
        k_s2: u32,
        k_out_offset: u32,
        k_out_s0: u32,
        k_out_s1: u32,
        k_out_s2: u32,
    }
}

/// The views that a Problem's layouts resolve to.
struct Views {
    q: View<3>,
    q_out: View<3>,
    k: Option<[View<3>; 2]>,
    positions: Option<View<2>>,
    cos: Option<View<1>>,
    sin: Option<View<1>>,
}

impl Views {
    fn heads(&self) -> impl Iterator<Item = &View<3>> {
        [&self.q, &self.q_out].into_iter().chain(self.k.iter().flatten())
    }

    fn all_multiple_of(&self, n: usize) -> bool {
        self.heads().all(|view| view.multiple_of(n))
    }
}

impl Problem {
    /// `[batch, heads, seq]`, the sizes that layouts of so many heads go by.
    pub fn sizes(&self, heads: usize) -> [usize; 3] {
        [self.batch, heads, self.seq]
    }

    /// Which of a token's positions pair `pair` turns by.
    pub fn axis(&self, pair: usize) -> usize {
        match self.axes {
            Axes::One => 0,
            Axes::Sections([first, second, _]) => usize::from(pair >= first) + usize::from(pair >= first + second),
            Axes::Axial => pair % 2,
        }
    }

    /// The position of token `s` of a sequence, where no buffer tells.
    pub fn counted(&self, s: usize) -> i64 {
        match self.positions {
            Positions::Offset(offset) => offset.saturating_add(s as i64),
            Positions::Buffer { .. } => 0,
        }
    }

    /// Whether positions have a sign.
    fn signed(&self) -> bool {
        match self.positions {
            Positions::Offset(offset) => offset < 0,
            Positions::Buffer { signed, .. } => signed,
        }
    }

    fn views(&self) -> Result<Views> {
        let invalid = |arg, reason: String| Err(Error { op: OP, kind: ErrorKind::InvalidProblem { arg, reason } });
        let Problem { batch, seq, head_dim, rotary_dim, .. } = *self;
        if rotary_dim < 2 || !rotary_dim.is_multiple_of(2) || rotary_dim > head_dim {
            return invalid("rotary_dim", format!("{rotary_dim} is not an even number from 2 to head_dim, {head_dim}"));
        }
        let half = rotary_dim / 2;
        let all_heads = [Some(self.q), self.k];
        check_sizes(OP, [("batch", batch), ("seq", seq), ("head_dim", head_dim)])?;
        for (arg, heads) in ["q", "k"].into_iter().zip(all_heads) {
            match heads {
                Some(Heads { heads, .. }) if heads == 0 || heads > 1 << 24 => {
                    return invalid(arg, format!("{heads} heads are not 1 to 2^24"));
                }
                _ => {}
            }
        }
        match self.axes {
            Axes::Sections(sections) if sections.iter().try_fold(0usize, |n, &s| n.checked_add(s)) != Some(half) => {
                return invalid("axes", format!("sections {sections:?} do not add up to {half} pairs"));
            }
            Axes::Axial if !half.is_multiple_of(2) => {
                return invalid("axes", format!("two axes need an even number of pairs, not {half}"));
            }
            _ => {}
        }
        let line = |arg, offset: usize| Layout::<1>::at(offset).resolve(OP, arg, [1], 1);
        let (mut cos, mut sin) = (None, None);
        match &self.angles {
            Angles::Frequencies(frequencies) => {
                frequencies.check()?;
                let have = frequencies.per_pair.len();
                if have != half {
                    return invalid("frequencies", format!("{have} for {half} pairs"));
                }
            }
            Angles::Tables { max_pos: 0, .. } => return invalid("max_pos", "tables have no rows".into()),
            Angles::Tables { max_pos, cos: cos_at, sin: sin_at } => {
                let rows = |arg, at| Layout::<1>::at(at).resolve(OP, arg, [*max_pos], half);
                line("cos", *cos_at)?;
                line("sin", *sin_at)?;
                (cos, sin) = (Some(rows("cos", *cos_at)?), Some(rows("sin", *sin_at)?));
            }
        }
        let positions = match self.positions {
            Positions::Offset(offset) => {
                let last = offset.saturating_add(seq.max(1) as i64 - 1);
                let most = if offset < 0 { i32::MAX as i64 } else { u32::MAX as i64 };
                if offset < i32::MIN as i64 || last > most {
                    return invalid("positions", format!("{offset} to {last} do not fit in 32 bits"));
                }
                None
            }
            Positions::Buffer { layout, .. } => {
                Some(layout.resolve(OP, "positions", [self.axes.count(), batch], seq)?)
            }
        };
        let both = |heads: Heads, names: [&'static str; 2]| -> Result<[View<3>; 2]> {
            let sizes = self.sizes(heads.heads);
            let from = heads.from.resolve(OP, names[0], sizes, head_dim)?;
            let to = heads.to.resolve(OP, names[1], sizes, head_dim)?;
            if batch > 0 && seq > 0 && to.overlaps_itself() {
                let reason = format!("head vectors overlap: strides {:?} for sizes {sizes:?}", to.strides);
                return Err(Error { op: OP, kind: ErrorKind::InvalidProblem { arg: names[1], reason } });
            }
            Ok([from, to])
        };
        let [q, q_out] = both(self.q, ["q", "q_out"])?;
        let k = self.k.map(|k| both(k, ["k", "k_out"])).transpose()?;
        Ok(Views { q, q_out, k, positions, cos, sin })
    }

    /// The form of the Problem; `wish` may hold a dtype otherwise than is usual on this device.
    fn form(&self, caps: &Caps, views: &Views, wish: Option<Form>) -> Form {
        let storage = |wish, dtype| Storage::wished(wish, dtype, caps);
        let (x, y) = (storage(wish.map(|f| f.x), self.x), storage(wish.map(|f| f.y), self.y));
        let half = self.rotary_dim / 2;
        let pairs = match y {
            _ if half.is_multiple_of(4) && views.all_multiple_of(4) => 4,
            y if y.packed() && half.is_multiple_of(2) && views.all_multiple_of(2) => 2,
            _ => 1,
        };
        Form {
            pairs,
            x,
            y,
            k: self.k.is_some(),
            positions: matches!(self.positions, Positions::Buffer { .. }),
            tables: matches!(self.angles, Angles::Tables { .. }),
            edge: y.packed() && pairs == 1,
            q_in_place: false,
            k_in_place: false,
            q_writable: false,
            k_writable: false,
            positions_writable: false,
            cos_writable: false,
            sin_writable: false,
        }
    }

    /// Items per token: those of pairs, and all of them.
    fn items(&self, form: &Form) -> [u32; 2] {
        let pair_items = self.rotary_dim as u32 / 2 / form.pairs;
        let tail = (self.head_dim - self.rotary_dim) as u32 / form.pairs;
        let in_place = form.q_in_place && (!form.k || form.k_in_place);
        [pair_items, pair_items + if in_place { 0 } else { tail }]
    }

    /// The table of `pairs` in the shader: per item of `n` pairs, upper words, lower words and axis steps.
    fn pair_table(&self, views: &Views, n: usize) -> Vec<u32> {
        let half = self.rotary_dim / 2;
        let words: Vec<[u32; 3]> = (0..half)
            .map(|pair| {
                let step = views.positions.as_ref().map_or(0, |view| self.axis(pair) as u32 * view.stride(0));
                match &self.angles {
                    Angles::Frequencies(f) => {
                        let turns = turns(f.per_pair[pair]);
                        [(turns >> 32) as u32, turns as u32, step]
                    }
                    Angles::Tables { cos, sin, .. } => [(cos + pair) as u32, (sin + pair) as u32, step],
                }
            })
            .collect();
        words.chunks(n).flat_map(|item| (0..3).flat_map(move |word| item.iter().map(move |w| w[word]))).collect()
    }
}

/// A row of the table: the tiles of one class of adapters.
struct Row {
    class: Class,
    wg_size: u32,
    /// Heads per invocation, at most.
    heads: u32,
    /// Invocations to reach by giving each fewer heads.
    fill: u64,
}

/// Measured on: Software, Mesa 26.2 lavapipe on 2 cores: `[4, 32, 512, 128]` takes 19.1, 16.2, 13.6, 14.9 ms in f32
/// with 4, 8, 16, 32 heads per angle, 14.3, 13.4, 10.7, 15.6 in f16; the workgroup size hardly counts. Discrete and
/// Integrated are not measured yet: they keep four heads per angle, which hides it behind the memory, as long as the
/// GPU is full.
const TABLE: [Row; 3] = [
    Row { class: Class::Software, wg_size: 64, heads: 16, fill: 256 },
    Row { class: Class::Integrated, wg_size: 128, heads: 4, fill: 1 << 14 },
    Row { class: Class::Discrete, wg_size: 256, heads: 4, fill: 1 << 17 },
];

/// The Config for this Problem on this device: the best of [`candidates`].
///
/// # Errors
/// Those of the Problem: sizes, layouts, frequencies.
pub fn choose(caps: &Caps, problem: &Problem) -> Result<Config> {
    chosen(OP, caps, problem, candidates(caps, problem)?)
}

/// Every Config that fits, the best first.
///
/// # Errors
/// Those of the Problem.
pub fn candidates(caps: &Caps, problem: &Problem) -> Result<Vec<Config>> {
    let form = problem.form(caps, &problem.views()?, None);
    let row = TABLE.iter().find(|row| row.class == caps.class()).unwrap_or(&TABLE[0]);
    let most = caps.most_invocations();
    let mut heads = row.heads;
    while heads > 1 && invocations(problem, &form, heads) < row.fill {
        heads /= 2;
    }
    let config = |heads| Config { wg_size: row.wg_size.min(most), heads, form };
    let found = [heads, 1].into_iter().take(if heads == 1 { 1 } else { 2 }).map(config);
    let fits = |config: &Config| match config.fits(caps, problem) {
        Ok(()) => true,
        Err(misfit) => {
            log::trace!("rope: dropped {config}: {misfit}");
            false
        }
    };
    Ok(found.filter(fits).collect())
}

/// Groups of heads of q and of k that share an angle.
fn groups(problem: &Problem, heads: u32) -> [u32; 2] {
    let of = |n: usize| (n as u32).div_ceil(heads);
    [of(problem.q.heads), problem.k.map_or(0, |k| of(k.heads))]
}

fn invocations(problem: &Problem, form: &Form, heads: u32) -> u64 {
    let [q, k] = groups(problem, heads);
    let tokens = problem.batch as u128 * problem.seq as u128;
    let all = tokens * u128::from(problem.items(form)[1]) * u128::from(q + k);
    all.min(u64::MAX.into()) as u64
}

/// `wg64 heads8 f32>f32 pairs4 k positions`: what differs, in a line.
impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config { wg_size, heads, form } = self;
        write!(f, "wg{wg_size} ")?;
        if *heads > 0 {
            write!(f, "heads{heads} ")?;
        }
        f.write_str(&format!("{:?}>{:?} pairs{}", form.x, form.y, form.pairs).to_lowercase())?;
        write_flags(
            f,
            &[
                ("k", form.k),
                ("positions", form.positions),
                ("tables", form.tables),
                ("edge", form.edge),
                ("q_in_place", form.q_in_place),
                ("k_in_place", form.k_in_place),
                ("q_writable", form.q_writable),
                ("k_writable", form.k_writable),
                ("positions_writable", form.positions_writable),
                ("cos_writable", form.cos_writable),
                ("sin_writable", form.sin_writable),
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
        let most = caps.most_invocations();
        let misfit = |what, have, limit| Err(Misfit::old(what, have, limit));
        // Numbers of invocations are u32, those past the end of the grid included.
        let room = u64::from(u32::MAX) - (1 << 26);
        match invocations(problem, &self.form, self.heads.max(1)) {
            _ if self.wg_size == 0 || self.wg_size > most.min(1024) => {
                misfit("wg_size must be at least 1 and at most", self.wg_size, most.min(1024))
            }
            _ if self.heads == 0 => misfit("heads must be at least", 0, 1),
            need if need > room => misfit("invocations", need.min(u32::MAX.into()) as u32, room as u32),
            _ => Ok(()),
        }
    }

    /// The pipeline that it names.
    pub fn pass(&self) -> Pass {
        Pass { config: Config { heads: 0, ..*self } }
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
const Q_OUT: u32 = 1;
const K: u32 = 2;
const K_OUT: u32 = 3;
const POSITIONS: u32 = 4;
const PAIRS: u32 = 5;
const COS: u32 = 6;
const SIN: u32 = 7;

impl Pipeline for Pass {
    fn shader(&self) -> Shader {
        let Config { wg_size, form, .. } = self.config;
        let vec = if form.edge { 2 } else { form.pairs };
        let mut shader = Shader::new("rope", wg_size, 0, vec)
            .params::<Params>()
            .flag("HAS_K", form.k)
            .flag("HAS_POSITIONS", form.positions)
            .flag("HAS_TABLES", form.tables)
            .import(match form.pairs {
                4 => "rope_pairs4",
                2 => "rope_pairs2",
                _ => "rope_pairs1",
            })
            .import(if form.edge { "rope_halves" } else { "rope_chunks" });
        let input =
            |binding, name, writable| Tensor { binding, name, storage: form.x, writable, output: false, edge: false };
        let output =
            |binding, name| Tensor { binding, name, storage: form.y, writable: true, output: true, edge: form.edge };
        let q_out = output(Q_OUT, "q_out");
        shader = match form.q_in_place {
            true => shader.tensor(q_out).tensor_in_place("q", q_out),
            false => shader.tensor(input(Q, "q", form.q_writable)).tensor(q_out),
        };
        let k_out = output(K_OUT, "k_out");
        shader = match (form.k, form.k_in_place) {
            (false, _) => shader.import("rope_k_none"),
            (true, true) => shader.tensor(k_out).tensor_in_place("k", k_out),
            (true, false) => shader.tensor(input(K, "k", form.k_writable)).tensor(k_out),
        };
        shader = match form.positions {
            true => shader.buffer(POSITIONS, "positions", "u32", form.positions_writable).import("positions"),
            false => shader.import("positions_none"),
        };
        let words = match form.pairs {
            4 => "vec4<u32>",
            2 => "vec2<u32>",
            _ => "u32",
        };
        shader = shader.buffer(PAIRS, "pairs", words, false);
        match form.tables {
            true => shader
                .buffer(COS, "cos_table", "f32", form.cos_writable)
                .buffer(SIN, "sin_table", "f32", form.sin_writable)
                .import("rope_tables"),
            false => shader.import("rope_tables_none"),
        }
    }
}

/// Which memory.
#[derive(Debug, Clone, Copy)]
pub struct Buffers<'a> {
    q: [Binding<'a>; 2],
    k: Option<[Binding<'a>; 2]>,
    positions: Option<Binding<'a>>,
    tables: Option<[Binding<'a>; 2]>,
}

impl<'a> Buffers<'a> {
    /// `q` is read, `q_out` written; they may be the same view, where dtypes and layouts are equal.
    pub fn new(q: impl Into<Binding<'a>>, q_out: impl Into<Binding<'a>>) -> Self {
        Buffers { q: [q.into(), q_out.into()], k: None, positions: None, tables: None }
    }

    /// The result takes the place of `q`.
    pub fn in_place(q: impl Into<Binding<'a>>) -> Self {
        let q = q.into();
        Self::new(q, q)
    }

    /// The k that the Problem asks for; both may be the same view, and share buffers with those of q.
    pub fn k(mut self, k: impl Into<Binding<'a>>, k_out: impl Into<Binding<'a>>) -> Self {
        self.k = Some([k.into(), k_out.into()]);
        self
    }

    /// [`k`](Self::k), whose result takes its place.
    pub fn k_in_place(self, k: impl Into<Binding<'a>>) -> Self {
        let k = k.into();
        self.k(k, k)
    }

    /// The positions that the Problem asks for.
    pub fn positions(mut self, positions: impl Into<Binding<'a>>) -> Self {
        self.positions = Some(positions.into());
        self
    }

    /// The tables that the Problem asks for.
    pub fn tables(mut self, cos: impl Into<Binding<'a>>, sin: impl Into<Binding<'a>>) -> Self {
        self.tables = Some([cos.into(), sin.into()]);
        self
    }
}

prepare_by!(plan);

fn plan(kernels: &Kernels, problem: &Problem, config: Option<&Config>, buffers: &Buffers) -> Result<Dispatch> {
    let caps = kernels.caps();
    let views = problem.views()?;
    let needs_positions = views.positions.is_some();
    let needs_tables = views.cos.is_some();
    given(OP, "k", problem.k.is_some(), buffers.k.is_some())?;
    given(OP, "positions", needs_positions, buffers.positions.is_some())?;
    given(OP, "cos", needs_tables, buffers.tables.is_some())?;
    if problem.batch == 0 || problem.seq == 0 {
        return Ok(Dispatch::nothing(OP));
    }
    let mut config = match config {
        Some(config) => Config { form: problem.form(&caps, &views, Some(config.form)), ..*config },
        None => choose(&caps, problem)?,
    };
    config.fits(&caps, problem).map_err(|misfit| misfit.error(OP))?;

    let mut args = Vec::with_capacity(8);
    let mut heads = Vec::with_capacity(4); // the views of args 0..
    let named = [(Q, "q", buffers.q[0], &views.q, false), (Q_OUT, "q_out", buffers.q[1], &views.q_out, true)];
    let k = buffers.k.iter().zip(&views.k);
    let k = k.flat_map(|(b, v)| [(K, "k", b[0], &v[0], false), (K_OUT, "k_out", b[1], &v[1], true)]);
    for (slot, name, binding, view, writes) in named.into_iter().chain(k) {
        let element_bits = 8 * if writes { problem.y } else { problem.x }.bytes();
        args.push(Arg::new(slot, name, binding, element_bits, view, writes));
        heads.push(view);
    }
    let range = |view: &Option<View<1>>| view.as_ref().map(|v| (v.offset, v.end));
    for (slot, name, binding, range) in [
        (POSITIONS, "positions", buffers.positions, views.positions.as_ref().map(|v| (v.offset, v.end))),
        (COS, "cos", buffers.tables.map(|t| t[0]), range(&views.cos)),
        (SIN, "sin", buffers.tables.map(|t| t[1]), range(&views.sin)),
    ] {
        if let (Some(binding), Some((start, end))) = (binding, range) {
            args.push(Arg { slot, name, binding, element_bits: 32, elements: start as u64..end, writes: false });
        }
    }
    let in_place = |i: usize| {
        let equal = problem.x == problem.y && heads[i].same_rows(heads[i + 1]);
        equal && args[i].same_first(&args[i + 1])
    };
    config.form.q_in_place = in_place(0);
    config.form.k_in_place = config.form.k && in_place(2);
    check_all(OP, &caps, &args, |i, j| {
        let same = (i, j) == (0, 1) && config.form.q_in_place || (i, j) == (2, 3) && config.form.k_in_place;
        // Views that interleave share a bound range, which browsers refuse.
        let bound = caps.backend != wgpu::Backend::BrowserWebGpu && args[i].same_start(&args[j]);
        let interleaved = bound && args[i].element_bits == args[j].element_bits;
        same || interleaved && heads.get(i).zip(heads.get(j)).is_some_and(|(a, b)| disjoint(a, b))
    })?;
    config.form.q_writable = !config.form.q_in_place && read_write(&args, Q);
    config.form.k_writable = !config.form.k_in_place && read_write(&args, K);
    config.form.positions_writable = read_write(&args, POSITIONS);
    config.form.cos_writable = read_write(&args, COS);
    config.form.sin_writable = read_write(&args, SIN);

    let form = &config.form;
    let [pair_items, items] = problem.items(form);
    let [q_groups, k_groups] = groups(problem, config.heads);
    let workgroups = invocations(problem, form, config.heads).div_ceil(config.wg_size.into());
    let grid = fold(OP, &caps, workgroups)?;
    let factor = match &problem.angles {
        Angles::Frequencies(f) => f.attention_factor as f32,
        Angles::Tables { .. } => 1.0,
    };
    let [k, k_out] = match &views.k {
        Some([_, k_out]) if form.k_in_place => [numbers(k_out); 2],
        Some([k, k_out]) => [numbers(k), numbers(k_out)],
        None => [[0; 4]; 2],
    };
    // In place, an input is read through the binding of its output.
    let q_out = numbers(&views.q_out);
    let q = if form.q_in_place { q_out } else { numbers(&views.q) };
    let interleaved = u32::from(problem.style == Style::Interleaved);
    let params = Params {
        seq: problem.seq as u32,
        tokens: (problem.batch * problem.seq) as u32,
        groups: q_groups + k_groups,
        q_groups,
        q_heads: problem.q.heads as u32,
        k_heads: problem.k.map_or(0, |k| k.heads as u32),
        heads_per: config.heads,
        pair_items,
        items,
        flags: interleaved | u32::from(problem.signed()) << 1 | u32::from(problem.axes != Axes::One) << 2,
        grid_x: grid[0],
        max_pos: match problem.angles {
            Angles::Tables { max_pos, .. } => max_pos as u32,
            Angles::Frequencies(_) => 1,
        },
        first_position: match (&views.positions, problem.positions) {
            (Some(view), _) => view.offset as u32,
            (None, Positions::Offset(offset)) => offset as u32,
            (None, Positions::Buffer { .. }) => 0,
        },
        positions_s1: views.positions.as_ref().map_or(0, |view| view.stride(1)),
        cos_factor: factor,
        sin_factor: if problem.inverse { -factor } else { factor },
        q_offset: q[0],
        q_s0: q[1],
        q_s1: q[2],
        q_s2: q[3],
        q_out_offset: q_out[0],
        q_out_s0: q_out[1],
        q_out_s1: q_out[2],
        q_out_s2: q_out[3],
        k_offset: k[0],
        k_s0: k[1],
        k_s1: k[2],
        k_s2: k[3],
        k_out_offset: k_out[0],
        k_out_s0: k_out[1],
        k_out_s1: k_out[2],
        k_out_s2: k_out[3],
    };
    let table = problem.pair_table(&views, form.pairs as usize);
    let elements = 0..table.len() as u64;
    let pairs = kernels.table_of(OP, table)?;
    args.push(Arg {
        slot: PAIRS,
        name: "pairs",
        binding: Binding::from(&pairs),
        element_bits: 32,
        elements,
        writes: false,
    });
    let pass = kernels.pipeline(OP, &config.pass())?;
    Ok(Dispatch::new(OP, kernels, &args, &params, vec![(pass, grid)]))
}

/// Offset and strides, as parameters.
fn numbers(view: &View<3>) -> [u32; 4] {
    [view.offset as u32, view.stride(0), view.stride(1), view.stride(2)]
}

/// Whether two views of one binding share no element because, modulo some stride that all their outer axes
/// are multiples of, they keep to ranges of their own: q, k and v of a fused projection.
fn disjoint(a: &View<3>, b: &View<3>) -> bool {
    let long = |view: &View<3>, axis: usize| view.sizes[axis] > 1;
    let steps = (0..3).filter(|&axis| long(a, axis)).map(|axis| a.strides[axis]).filter(|&step| step > 0);
    // The range within a period, if the view keeps to one.
    let range = |view: &View<3>, step: usize| {
        let inner = (0..3).filter(|&axis| long(view, axis) && !view.strides[axis].is_multiple_of(step));
        let reach =
            view.inner as u128 + inner.map(|i| (view.sizes[i] as u128 - 1) * view.strides[i] as u128).sum::<u128>();
        let start = (view.offset % step) as u128;
        (start + reach <= step as u128).then_some(start..start + reach)
    };
    steps.into_iter().any(|step| match (range(a, step), range(b, step)) {
        (Some(a), Some(b)) => a.end <= b.start || b.end <= a.start,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_of_a_fused_projection_are_disjoint() {
        let problem = Problem { batch: 2, seq: 5, head_dim: 8, rotary_dim: 8, ..Problem::default() };
        let view = |heads: Heads| heads.from.resolve(OP, "x", problem.sizes(heads.heads), 8).unwrap();
        // [q: 4 | k: 2 | v: 2] heads per token.
        let (q, k) = (view(Heads::fused(0, 4, 5, 8, 64)), view(Heads::fused(4, 2, 5, 8, 64)));
        assert!(disjoint(&q, &k) && disjoint(&k, &q));
        assert!(!disjoint(&q, &view(Heads::fused(3, 2, 5, 8, 64))));
        assert!(!disjoint(&q, &q));
        // The last heads wrap into the next token: not known to be apart.
        assert!(!disjoint(&q, &view(Heads::fused(7, 2, 5, 8, 64))));
        // [batch, q and k heads, seq, d]: apart within a batch's stride.
        let of = |first: usize, heads| Heads { from: Layout::strided(first * 40, [240, 40, 8]), ..Heads::new(heads) };
        assert!(disjoint(&view(of(0, 4)), &view(of(4, 2))));
    }

    #[test]
    fn the_pair_table_is_by_items() {
        let frequencies = Frequencies { per_pair: vec![0.0, 1.0, 0.0, 1.0], attention_factor: 1.0 };
        let layout = Layout::at(0);
        let problem = Problem {
            batch: 2,
            seq: 3,
            head_dim: 8,
            rotary_dim: 8,
            positions: Positions::Buffer { signed: true, layout },
            axes: Axes::Axial,
            angles: Angles::Frequencies(frequencies),
            ..Problem::default()
        };
        let views = problem.views().unwrap();
        let (high, low) = (0x28be_60db, 0x9391_054a);
        assert_eq!(problem.pair_table(&views, 4), [0, high, 0, high, 0, low, 0, low, 0, 6, 0, 6]);
        assert_eq!(problem.pair_table(&views, 2), [0, high, 0, low, 0, 6, 0, high, 0, low, 0, 6]);
    }
}
