//! Rotary position embedding (Su et al., "RoFormer", 2021) of q, and of k in the same dispatch.
//!
//! Each pair `(a, b)` of a head vector at position `p` becomes `(a cos t - b sin t, b cos t + a sin t)` with
//! `t = p * frequency`. Pairs, positions, scalings and axes as the models have them: [`Style`], [`Positions`],
//! [`Scaling`], [`Axes`]; or the caller's own cos and sin ([`Angles::Tables`]).
//!
//! # Exact far out
//! WGSL's `sin` is good to 2^-11 and only in [-pi, pi], and an angle in f32 is 0.05 rad off at position 1,048,576. So the
//! host computes frequencies in f64 and hands them over as 64-bit fractions of a turn. A position times such a fraction,
//! modulo one turn, is integer arithmetic: exact for every 32-bit position. The nearest quarter turn, and a polynomial on
//! an eighth of a turn either way, give sin and cos (`shaders/position/rope_turn.wgsl`). No driver's `sin` is used. An
//! invocation computes an angle once and turns several heads by it.
//!
//! Largest error of a turned unit vector in ULP of 1 (2^-24), 128 dimensions, base 10,000, 16 positions from each on;
//! beside it angles `position * frequency` in f32 with an exact sin and cos. The same on every driver measured: Mesa 26.2
//! lavapipe with 4, 8 and 16 lanes, Mesa 22.3 lavapipe, its GL, and SwiftShader. The test `error against position` allows
//! 4, and prints every power of two with `TILELOOM_PRINT_TABLE=1`.
//!
//! | position | tileloom | f32 angles |
//! |---|---|---|
//! | 1 | 1.42 | 13.2 |
//! | 4,096 | 1.34 | 2,531.1 |
//! | 1,048,561 | 1.30 | 868,502.1 |

use super::frequencies::turns;
use super::tile;
use crate::compose::lanes_of;
use crate::ops::prelude::*;

pub use super::frequencies::{Frequencies, Scaling, Yarn};
pub use super::tile::Config;

defaults! {
    /// What is computed. `q` and `k` are `[batch, heads, seq, head_dim]`, whatever the order in memory; packed
    /// tokens `[total, heads, head_dim]` are one batch with their positions from a buffer.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Problem {
        /// Sequences.
        pub batch: usize = 1,
        /// Tokens per sequence.
        pub seq: usize = 1,
        /// Elements per head vector.
        pub head_dim: usize = 2,
        /// The first so many elements are rotated, the rest is copied; even.
        pub rotary_dim: usize = 2,
        /// The heads of q.
        pub q: Heads = Heads::new(1),
        /// The heads of k: rotated in the same dispatch, by the same angles.
        pub k: Option<Heads> = None,
        /// Dtype of `q` and `k`.
        pub x: Dtype = Dtype::F32,
        /// Dtype of their outputs.
        pub y: Dtype = Dtype::F32,
        /// Which elements make a pair.
        pub style: Style = Style::Half,
        /// Turn the other way: the transpose, which takes gradients back. An attention factor multiplies here, too.
        pub inverse: bool = false,
        /// Where the tokens are.
        pub positions: Positions = Positions::Offset(0),
        /// By which of a token's positions a pair turns.
        pub axes: Axes = Axes::One,
        /// Where cos and sin come from.
        pub angles: Angles = Angles::Frequencies(Frequencies { per_pair: vec![1.0], attention_factor: 1.0 }),
    }
}

/// The heads of q or of k, and where they lie: strides of `batch`, `head`, `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Heads {
    /// How many.
    pub heads: usize,
    /// Where the input lies.
    pub from: Layout<3>,
    /// Where the output lies. Head vectors must not overlap.
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
        Self::fused(0, heads, seq, head_dim, heads.saturating_mul(head_dim))
    }

    /// Heads `first..first + heads` of tokens of `width` elements each, such as a fused `[q | k | v]`; read and
    /// written there.
    pub const fn fused(first: usize, heads: usize, seq: usize, head_dim: usize, width: usize) -> Heads {
        let layout = Layout::strided(first.saturating_mul(head_dim), [seq.saturating_mul(width), head_dim, width]);
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
    /// Read from a buffer `[axes, batch, seq]`.
    Buffer {
        /// Of i32 rather than u32.
        signed: bool,
        /// Strides of axis and batch.
        layout: Layout<2>,
    },
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
    /// Computed from a frequency per pair.
    Frequencies(Frequencies),
    /// The caller's tables, f32 `[max_pos, rotary_dim / 2]`. Positions below and beyond take the first and the last row.
    Tables {
        /// Rows of each table.
        max_pos: usize,
        /// The element of its binding at which the table of cosines starts.
        cos: usize,
        /// The element of its binding at which the table of sines starts.
        sin: usize,
    },
}

crate::params! {
    /// What one run tells the shader: 128 bytes, the most that immediates hold. In place, an input is read through the
    /// binding of its output.
    pub struct Params;
    fn of(problem: &Problem, views: &Views, config: &Config, form: &Form, grid_x: u32) {
        q: Strides = views.q[usize::from(form.in_place[0])].params(),
        q_out: Strides = views.q[1].params(),
        k: Strides = views.k.map_or([0; 4], |k| k[usize::from(form.in_place[1])].params()),
        k_out: Strides = views.k.map_or([0; 4], |k| k[1].params()),
        seq: u32 = problem.seq as u32,
        tokens: u32 = product!(problem.batch, problem.seq) as u32,
        groups: u32 = problem.groups(config).iter().sum(),
        q_groups: u32 = problem.groups(config)[0],
        q_heads: u32 = problem.q.heads as u32,
        k_heads: u32 = problem.k.map_or(0, |k| k.heads as u32),
        heads_per: u32 = config.share,
        pair_items: u32 = problem.items(form)[0],
        items: u32 = problem.items(form)[1],
        flags: u32 = problem.flags(),
        grid_x: u32 = grid_x,
        max_pos: u32 = views.rows(),
        first_position: u32 = views.positions.map_or(problem.counted(0) as u32, |view| view.offset as u32),
        positions_step: u32 = views.positions.map_or(0, |view| view.stride(1)),
        cos_factor: f32 = problem.factor(),
        sin_factor: f32 = if problem.inverse { -problem.factor() } else { problem.factor() },
    }
}

/// Bits of `flags`.
pub(in crate::ops) const FLAGS: [(&str, u32); 3] = [("INTERLEAVED", 1), ("SIGNED", 2), ("SEVERAL_AXES", 4)];

/// What follows from the Problem, the device and the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Pairs per item: 4, 2 (whole words of a packed output) or 1.
    pairs: u32,
    x: Storage,
    y: Storage,
    k: bool,
    /// Positions come from a buffer.
    positions: bool,
    /// cos and sin come from the caller's tables.
    tables: bool,
    /// Words of a packed output are shared by pairs, or with what lies beside them.
    edge: bool,
    /// q, k are read from the bindings of their outputs.
    in_place: [bool; 2],
}

/// The views that a Problem's layouts resolve to; of q and of k, input and output.
pub(crate) struct Views {
    q: [View<3>; 2],
    k: Option<[View<3>; 2]>,
    positions: Option<View<2>>,
    tables: Option<[View<1>; 2]>,
}

impl Views {
    fn multiple_of(&self, n: usize) -> bool {
        self.q.iter().chain(self.k.iter().flatten()).all(|view| view.multiple_of(n))
    }

    /// Where the first position is.
    pub(in crate::ops) fn first_position(&self) -> u32 {
        self.positions.map_or(0, |view| view.offset as u32)
    }

    pub(in crate::ops) fn positions(&self) -> Option<Reach> {
        self.positions.map(|view| view.of(WORD))
    }

    pub(in crate::ops) fn has_tables(&self) -> bool {
        self.tables.is_some()
    }

    /// The table of cosines, then that of sines.
    pub(in crate::ops) fn table(&self, which: usize) -> Option<View<1>> {
        self.tables.map(|tables| tables[which])
    }

    /// Rows of each.
    pub(in crate::ops) fn rows(&self) -> u32 {
        self.tables.map_or(1, |tables| tables[0].sizes[0] as u32)
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

    /// The bits of [`FLAGS`] that are set.
    pub(in crate::ops) fn flags(&self) -> u32 {
        let signed = match self.positions {
            Positions::Offset(offset) => offset < 0,
            Positions::Buffer { signed, .. } => signed,
        };
        let set = [self.style == Style::Interleaved, signed, self.axes != Axes::One];
        FLAGS.iter().zip(set).filter(|(_, set)| *set).map(|((_, bit), _)| bit).sum()
    }

    /// What multiplies cos and sin.
    pub(in crate::ops) fn factor(&self) -> f32 {
        match &self.angles {
            Angles::Frequencies(frequencies) => frequencies.attention_factor as f32,
            Angles::Tables { .. } => 1.0,
        }
    }

    /// Input and output of `heads`.
    fn in_out(&self, heads: Heads, [from, to]: [&'static str; 2]) -> Checked<[View<3>; 2]> {
        if heads.heads == 0 || heads.heads > 1 << 24 {
            return Err(ErrorKind::invalid(from, format!("{} heads are not 1 to 2^24", heads.heads)));
        }
        let sizes = self.sizes(heads.heads);
        Ok([heads.from.view(from, sizes, self.head_dim)?, heads.to.view(to, sizes, self.head_dim)?.apart(to)?])
    }

    fn has_f16(&self) -> bool {
        [self.x, self.y].contains(&Dtype::F16)
    }

    fn form(&self, views: &Views, config: &Config) -> Form {
        let [x, y] = [self.x, self.y].map(|dtype| Storage::held(dtype, config.native_f16));
        let half = self.rotary_dim / 2;
        let pairs = match y {
            _ if half.is_multiple_of(4) && views.multiple_of(4) => 4,
            y if y.packed() && half.is_multiple_of(2) && views.multiple_of(2) => 2,
            _ => 1,
        };
        Form {
            pairs,
            x,
            y,
            k: self.k.is_some(),
            positions: views.positions.is_some(),
            tables: views.tables.is_some(),
            edge: y.packed() && pairs == 1,
            in_place: [false; 2],
        }
    }

    /// The pipeline: its key knows no share, which is a parameter.
    fn pass(&self, views: &Views, config: &Config, writable: Slots, in_place: [bool; 2]) -> Pass<Config, Form> {
        let form = Form { in_place, ..self.form(views, config) };
        Pass { stem: "rope", config: Config { share: 1, ..*config }, form, writable }
    }

    /// Items per token: those of pairs, and all of them.
    fn items(&self, form: &Form) -> [u32; 2] {
        let pair_items = self.rotary_dim as u32 / 2 / form.pairs;
        let tail = (self.head_dim - self.rotary_dim) as u32 / form.pairs;
        let in_place = form.in_place == [true, form.k];
        [pair_items, pair_items + if in_place { 0 } else { tail }]
    }

    /// Groups of heads of q and of k that share an angle.
    fn groups(&self, config: &Config) -> [u32; 2] {
        [Some(self.q), self.k].map(|of| of.map_or(0, |of| (of.heads as u32).div_ceil(config.share)))
    }

    fn invocations(&self, form: &Form, config: &Config) -> u64 {
        let [q, k] = self.groups(config);
        product!(self.batch, self.seq, self.items(form)[1], q + k)
    }

    /// The table of `pairs` in the shader: per item of `n` pairs, upper words, lower words and axis steps.
    pub(in crate::ops) fn pair_table(&self, views: &Views, n: u32) -> Vec<u32> {
        let words: Vec<[u32; 3]> = (0..self.rotary_dim / 2)
            .map(|pair| {
                let step = views.positions.map_or(0, |view| self.axis(pair) as u32 * view.stride(0));
                match &self.angles {
                    Angles::Frequencies(f) => {
                        let turns = turns(f.per_pair[pair]);
                        [(turns >> 32) as u32, turns as u32, step]
                    }
                    Angles::Tables { cos, sin, .. } => [(cos + pair) as u32, (sin + pair) as u32, step],
                }
            })
            .collect();
        let items = words.chunks(n as usize);
        items.flat_map(|item| (0..3).flat_map(move |word| item.iter().map(move |w| w[word]))).collect()
    }
}

slots!(Q, Q_OUT, K, K_OUT, POSITIONS, PAIRS, COS, SIN);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { pairs, x, y, k, positions, tables, edge, in_place } = self.form;
        let shader = self.begin(self.config.wg_size, 0, if edge { 2 } else { pairs }).params::<Params>();
        let shader = shader.constants(FLAGS).constant("PAIRS", pairs).lanes(pairs).import(match pairs {
            4 => "rope_pairs4",
            2 => "rope_pairs2",
            _ => "rope_pairs1",
        });
        let shader = shader.import(if edge { "rope_halves" } else { "rope_chunks" });
        let shader = tile::in_out(shader, (Q, "q", x), (Q_OUT, "q_out", y), edge, in_place[0]).flag("HAS_K", k);
        let shader = match k {
            true => tile::in_out(shader, (K, "k", x), (K_OUT, "k_out", y), edge, in_place[1]),
            false => shader.no_input("k", "0.0").no_output("k_out"),
        };
        let shader = shader.table(POSITIONS, "positions", "u32", positions).each("positions_load", "U", pairs);
        let shader = shader.table(COS, "cos_table", "f32", tables).each("cos_table_load", "F", pairs);
        let shader = shader.table(SIN, "sin_table", "f32", tables).each("sin_table_load", "F", pairs);
        shader.reads(PAIRS, "pairs", &lanes_of(pairs, "u32"))
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `q` is read, `q_out` written; they may be the same view, where dtypes and layouts are equal.
        q, q_out;
        /// The k that the Problem asks for; it may be the view of `k_out`, and share buffers with q.
        k,
        /// The output of `k`.
        k_out,
        /// The positions that the Problem asks for.
        positions,
        /// The table of cosines that the Problem asks for.
        cos,
        /// The table of sines that the Problem asks for.
        sin,
    }
}

impl<'a> Buffers<'a> {
    /// The result takes the place of `q`.
    pub fn in_place(q: impl Into<Binding<'a>>) -> Self {
        let q = q.into();
        Self::new(q, q)
    }

    /// [`k`](Self::k), whose result takes its place.
    pub fn k_in_place(self, k: impl Into<Binding<'a>>) -> Self {
        let k = k.into();
        self.k(k).k_out(k)
    }
}

functions!("rope");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let Problem { batch, seq, head_dim, rotary_dim, .. } = *self;
        let refuse = |arg, reason| Err(ErrorKind::InvalidProblem { arg, reason });
        if rotary_dim < 2 || !rotary_dim.is_multiple_of(2) || rotary_dim > head_dim {
            return refuse("rotary_dim", format!("{rotary_dim} is not an even number from 2 to head_dim, {head_dim}"));
        }
        let half = rotary_dim / 2;
        sizes_fit([("batch", batch), ("seq", seq), ("head_dim", head_dim)])?;
        match self.axes {
            Axes::Sections(sections) if sections.iter().try_fold(0usize, |n, &s| n.checked_add(s)) != Some(half) => {
                return refuse("axes", format!("sections {sections:?} do not add up to {half} pairs"));
            }
            Axes::Axial if !half.is_multiple_of(2) => {
                return refuse("axes", format!("two axes need an even number of pairs, not {half}"));
            }
            _ => {}
        }
        let tables = match &self.angles {
            Angles::Frequencies(frequencies) => {
                frequencies.check()?;
                let have = frequencies.per_pair.len();
                if have != half {
                    return refuse("frequencies", format!("{have} for {half} pairs"));
                }
                None
            }
            Angles::Tables { max_pos: 0, .. } => return refuse("max_pos", "tables have no rows".into()),
            Angles::Tables { max_pos, cos, sin } => {
                let rows = |arg, offset: &usize| Layout::<1>::at(*offset).view(arg, [*max_pos], half);
                Some([rows("cos", cos)?, rows("sin", sin)?])
            }
        };
        let positions = match self.positions {
            Positions::Offset(offset) => {
                tile::check_counted(&[(offset, seq)])?;
                None
            }
            Positions::Buffer { layout, .. } => Some(layout.view("positions", [self.axes.count(), batch], seq)?),
        };
        let q = self.in_out(self.q, ["q", "q_out"])?;
        let k = self.k.map(|k| self.in_out(k, ["k", "k_out"])).transpose()?;
        Ok(Views { q, k, positions, tables })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        tile::candidates(caps, self.has_f16(), |config| self.invocations(&self.form(views, config), config))
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        config.check(caps, self.has_f16(), |config| self.invocations(&self.form(views, config), config))
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![self.pass(views, config, writable, [false; 2]).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        let [k, k_out] = [0, 1].map(|i| views.k.map(|k| k[i]));
        let [cos, sin] = [0, 1].map(|i| views.tables.map(|tables| tables[i].of(WORD)));
        args.read(Q, "q", buffers.q, views.q[0].of(self.x))?;
        args.write(Q_OUT, "q_out", buffers.q_out, views.q[1].of(self.y))?;
        args.read(K, "k", buffers.k, k.map(|k| k.of(self.x)))?;
        args.write(K_OUT, "k_out", buffers.k_out, k_out.map(|k| k.of(self.y)))?;
        args.read(POSITIONS, "positions", buffers.positions, views.positions.map(|view| view.of(WORD)))?;
        args.read(COS, "cos", buffers.cos, cos)?;
        args.read(SIN, "sin", buffers.sin, sin)?;
        if self.batch == 0 || self.seq == 0 {
            return Ok(Dispatch::default());
        }
        let in_place = [args.in_place(Q, Q_OUT), args.in_place(K, K_OUT)];
        for [a, b] in [[Q, Q_OUT], [Q, K], [Q, K_OUT], [Q_OUT, K], [Q_OUT, K_OUT], [K, K_OUT]] {
            args.interleave(a, b);
        }
        args.check()?;

        let pass = self.pass(views, config, args.writable(), in_place);
        args.table(PAIRS, "pairs", &self.pair_table(views, pass.form.pairs))?;
        let grid = args.fold(self.invocations(&pass.form, config).div_ceil(config.wg_size.into()))?;
        args.dispatch(&[pass], &Params::of(self, views, config, &pass.form, grid[0]), grid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let views = problem.resolve().unwrap();
        let (high, low) = (0x28be_60db, 0x9391_054a);
        assert_eq!(problem.pair_table(&views, 4), [0, high, 0, high, 0, low, 0, low, 0, 6, 0, 6]);
        assert_eq!(problem.pair_table(&views, 2), [0, high, 0, low, 0, 6, 0, high, 0, low, 0, 6]);
    }
}
