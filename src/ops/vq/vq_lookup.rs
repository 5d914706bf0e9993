//! Vectors of codes: `y[i] = codebook[indices[i]]`, of one book or of several, side by side (product
//! quantisation, Jégou et al., 2011) or added up (residual quantisation). Also the embedding of tokens; the
//! gradient is [`vq_scatter`](crate::vq_scatter).
//!
//! Elements are moved bit by bit, unless books are added up (f32, rounded once) or the dtype changes. An
//! index that is not in the book never reads outside of it: it gives zeros or code 0, and can be counted.

use crate::compose::{Shader, Storage, Tensor, write_flags};
use crate::dispatch::{Arg, check_all, fold, given, read_write};
use crate::kernels::{Pipeline, chosen};
use crate::layout::View;
use crate::{Binding, Caps, Dispatch, Dtype, Error, ErrorKind, Kernels, Layout, Misfit, Result, caps::Class};

const OP: &str = "vq_lookup";

/// What is computed. A position has one index per book.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Problem {
    pub batch: usize,
    /// Positions of one batch.
    pub spatial: usize,
    pub books: usize,
    /// Of each book.
    pub num_codes: usize,
    /// Elements of a code.
    pub code_dim: usize,
    pub combine: Combine,
    pub order: Order,
    pub out_of_range: OutOfRange,
    pub index: Index,
    /// Strides of position (over all batches) and book.
    pub indices: Layout<2>,
    /// Dtype of the codebook.
    pub x: Dtype,
    /// Strides of book and code; a book stride of 0 shares one book.
    pub codebook: Layout<2>,
    pub y: Dtype,
    /// Strides of batch and position, or of batch and channel where channels come first.
    pub y_layout: Layout<2>,
    /// Where in its buffer the number of indices out of range is written.
    pub bad: Option<usize>,
}

/// What several books make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Combine {
    /// Vectors side by side.
    #[default]
    Concat,
    /// Their sum.
    Sum,
}

/// Where the channels of `y` stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Order {
    /// `[batch, spatial, channels]`: NHWC.
    #[default]
    ChannelsLast,
    /// `[batch, channels, spatial]`: NCHW.
    ChannelsFirst,
}

/// What an index that is not in the book gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OutOfRange {
    #[default]
    Zero,
    /// Code 0.
    First,
}

/// The type of indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Index {
    #[default]
    U32,
    /// A negative one is out of range.
    I32,
    U16,
}

impl Index {
    pub const fn bits(self) -> u64 {
        match self {
            Index::U32 | Index::I32 => 32,
            Index::U16 => 16,
        }
    }
}

impl Default for Problem {
    /// One code of one element: sizes are yours to set.
    fn default() -> Self {
        let layout = Layout { offset: 0, strides: None };
        Problem {
            batch: 1,
            spatial: 1,
            books: 1,
            num_codes: 1,
            code_dim: 1,
            combine: Combine::Concat,
            order: Order::ChannelsLast,
            out_of_range: OutOfRange::Zero,
            index: Index::U32,
            indices: layout,
            x: Dtype::F32,
            codebook: layout,
            y: Dtype::F32,
            y_layout: layout,
            bad: None,
        }
    }
}

/// How it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    /// Invocations per workgroup.
    pub wg_size: u32,
    /// Invocations that share a row, a power of two; channels first: channels per invocation.
    pub lanes: u32,
    /// Rows that they take one after the other; channels first: 1. Where a whole workgroup shares a row that is
    /// only moved or converted, of one book each.
    pub rows: u32,
    pub form: Form,
}

/// What the Problem, the device and the buffers decide of a Config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    /// Elements per chunk.
    pub vec: u32,
    pub x: Storage,
    pub y: Storage,
    /// Books are added up.
    pub sum: bool,
    /// Channels first.
    pub planes: bool,
    /// Indices have 16 bits.
    pub short: bool,
    /// Indices out of range are counted.
    pub count: bool,
    /// Words of a packed output are shared by rows, or with what lies beside them.
    pub edge: bool,
    /// Inputs that lie in a buffer that is written; set by `prepare`.
    pub indices_writable: bool,
    pub codebook_writable: bool,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params {
        n: u32,
        batch: u32,
        spatial: u32,
        rows: u32,
        segments: u32,
        terms: u32,
        cols: u32,
        num_codes: u32,
        first: u32,
        groups: u32,
        blocks: u32,
        grid_x: u32,
        bad_offset: u32,
        indices_offset: u32,
        indices_s0: u32,
        indices_s1: u32,
        codebook_offset: u32,
        codebook_s0: u32,
        codebook_s1: u32,
        y_offset: u32,
        y_s0: u32,
        y_s1: u32,
    }
}

crate::params! {
    /// What a clearing step needs.
    pub struct ClearParams {
        clear_offset: u32,
        clear_count: u32,
        grid_x: u32,
    }
}

struct Views {
    indices: View<2>,
    codebook: View<2>,
    y: View<2>,
}

impl Views {
    /// Whether batches of `y` follow each other.
    fn follow(&self, problem: &Problem) -> bool {
        let batch = problem.spatial as u128 * u128::from(self.y.stride(1));
        problem.batch == 1 || u128::from(self.y.stride(0)) == batch
    }
}

impl Problem {
    /// Positions of all batches.
    pub fn positions(&self) -> usize {
        self.batch * self.spatial
    }

    /// Channels of `y`.
    pub fn channels(&self) -> usize {
        match self.combine {
            Combine::Concat => self.books * self.code_dim,
            Combine::Sum => self.code_dim,
        }
    }

    /// Rows of `y`, and their length.
    pub fn y_shape(&self) -> ([usize; 2], usize) {
        match self.order {
            Order::ChannelsLast => ([self.batch, self.spatial], self.channels()),
            Order::ChannelsFirst => ([self.batch, self.channels()], self.spatial),
        }
    }

    fn empty(&self) -> bool {
        self.batch == 0 || self.spatial == 0
    }

    fn views(&self) -> Result<Views> {
        let invalid = |arg, reason: String| Err(Error { op: OP, kind: ErrorKind::InvalidProblem { arg, reason } });
        for (arg, n) in [("books", self.books), ("num_codes", self.num_codes), ("code_dim", self.code_dim)] {
            if n == 0 || n > 1 << 31 {
                return invalid(arg, format!("{n} is not 1 to 2^31"));
            }
        }
        if self.batch.checked_mul(self.spatial).is_none_or(|n| n > u32::MAX as usize / 2) {
            return invalid("spatial", format!("{} batches of {} are more than 2^31 - 1", self.batch, self.spatial));
        }
        if self.books.checked_mul(self.code_dim).is_none_or(|n| n > u32::MAX as usize / 2) {
            return invalid("code_dim", format!("{} books of {} are more than 2^31 - 1", self.books, self.code_dim));
        }
        if let Some(offset) = self.bad.filter(|&offset| offset > u32::MAX as usize) {
            return Err(Error { op: OP, kind: ErrorKind::IndexOverflow { arg: "bad", last: offset as u128 } });
        }
        let indices = self.indices.resolve(OP, "indices", [self.positions(), self.books], 1)?;
        let codebook = self.codebook.resolve(OP, "codebook", [self.books, self.num_codes], self.code_dim)?;
        let (sizes, inner) = self.y_shape();
        let y = self.y_layout.resolve(OP, "y", sizes, inner)?;
        if !self.empty() && y.overlaps_itself() {
            return invalid("y", format!("rows overlap: strides {:?} for sizes {sizes:?} of {inner}", y.strides));
        }
        Ok(Views { indices, codebook, y })
    }

    /// The form of the Problem, and whether pairs of 16-bit elements move as one.
    fn form(&self, caps: &Caps, views: &Views) -> (Form, bool) {
        let sum = self.combine == Combine::Sum && self.books > 1;
        let planes = self.order == Order::ChannelsFirst;
        let even =
            |n: usize| views.codebook.multiple_of(n) && views.y.multiple_of(n) && self.code_dim.is_multiple_of(n);
        let copies = self.x == self.y && !sum && !planes;
        let pairs = copies && self.x.bytes() == 2 && even(2);
        let (x, y) = match pairs {
            true => (Storage::F32, Storage::F32),
            false => (Storage::of(self.x, caps), Storage::of(self.y, caps)),
        };
        let unit = if pairs { 2 } else { 1 };
        let vec = match planes {
            true => 1 + u32::from(y.packed()),
            false if even(4 * unit) => 4,
            false => 1 + u32::from(y.packed()),
        };
        let edge = y.packed() && vec == 2 && !(views.y.multiple_of(2) && (planes || self.code_dim.is_multiple_of(2)));
        let form = Form {
            vec,
            x,
            y,
            sum,
            planes,
            short: self.index == Index::U16,
            count: self.bad.is_some(),
            edge,
            indices_writable: false,
            codebook_writable: false,
        };
        (form, pairs)
    }
}

/// A row of the table: the tiles of one class of adapters.
struct Row {
    class: Class,
    wg_size: u32,
    /// Invocations per row, at most.
    lanes: u32,
    /// Channels per invocation where channels come first.
    channels: u32,
}

/// Measured on: Software, Mesa 26.2 lavapipe on 2 cores, 65,536 rows of 64 f32 from 8192, where a copy takes 3.2 ms: an
/// invocation per row, which follows its index once, 5.1 ms; a row shared by `lanes` of a larger workgroup 6 to 11; by
/// a workgroup of one subgroup 6, and 4.1 with its chunks written out (vq_lookup_rows). More rows for a workgroup than
/// 64 KiB gain nothing; each workgroup costs a microsecond. Discrete and Integrated are not measured yet: neighbours read
/// and write side by side.
/// Compiled for GPUs that are not here, nothing spills: 12 VGPRs on RADV (navi31, gfx1201), 24 registers and 48 warps per
/// SM on NVK (Ampere, Ada), channels last or first.
const TABLE: [Row; 3] = [
    Row { class: Class::Software, wg_size: 64, lanes: 1, channels: 16 },
    Row { class: Class::Integrated, wg_size: 128, lanes: 32, channels: 4 },
    Row { class: Class::Discrete, wg_size: 256, lanes: 32, channels: 4 },
];

/// The Config for this Problem on this device: the best of [`candidates`].
///
/// # Errors
/// Those of the Problem: sizes and layouts.
pub fn choose(caps: &Caps, problem: &Problem) -> Result<Config> {
    chosen(OP, caps, problem, candidates(caps, problem)?)
}

/// Every Config that fits, the best first.
///
/// # Errors
/// Those of the Problem.
pub fn candidates(caps: &Caps, problem: &Problem) -> Result<Vec<Config>> {
    let (form, pairs) = problem.form(caps, &problem.views()?);
    let row = TABLE.iter().find(|row| row.class == caps.class()).unwrap_or(&TABLE[0]);
    let most = caps.most_invocations();
    let chunks = problem.code_dim as u32 / form.vec / if pairs { 2 } else { 1 };
    let lanes = match form.planes {
        true => row.channels,
        false => row.lanes.min(chunks.max(1).next_power_of_two()),
    };
    let wg_size = row.wg_size.min(most);
    let mut found = vec![Config { wg_size, lanes, rows: 1, form }];
    if caps.class() == Class::Software && form.moves() {
        let width = caps.trusted_subgroup_size().unwrap_or(8).min(most).max(1);
        let turns = chunks.div_ceil(width);
        // Most invocations must have a chunk in each turn, and most cores a workgroup.
        if 4 * u64::from(chunks) >= 3 * u64::from(turns) * u64::from(width) {
            let vectors = (problem.positions() * problem.books).div_ceil(64).min(4096 / chunks as usize);
            let rows = (vectors as u32).clamp(1, 128).next_multiple_of(4);
            found.insert(0, Config { wg_size: width, lanes: width, rows, form });
        }
    }
    let fits = |config: &Config| match config.fits(caps) {
        Ok(()) => true,
        Err(misfit) => {
            log::trace!("vq_lookup: dropped {config}: {misfit}");
            false
        }
    };
    Ok(found.into_iter().filter(fits).collect())
}

impl Form {
    /// Whether every vector is moved by itself, in chunks that are its own.
    fn moves(&self) -> bool {
        !self.sum && !self.planes && !self.edge
    }
}

/// `wg64 lanes8 f32>f32 vec4 sum`: what differs, in a line.
impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config { wg_size, lanes, rows, form } = self;
        let storages = format!("{:?}>{:?}", form.x, form.y).to_lowercase();
        write!(f, "wg{wg_size} lanes{lanes} rows{rows} {storages} vec{}", form.vec)?;
        write_flags(
            f,
            &[
                ("sum", form.sum),
                ("planes", form.planes),
                ("u16", form.short),
                ("count", form.count),
                ("edge", form.edge),
                ("indices_writable", form.indices_writable),
                ("codebook_writable", form.codebook_writable),
            ],
        )
    }
}

impl Config {
    /// Whether the Config can run on this device.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn fits(&self, caps: &Caps) -> Result<(), Misfit> {
        let most = caps.most_invocations().min(1024);
        let misfit = |what, have, limit| Err(Misfit::old(what, have, limit));
        match self {
            Config { wg_size, .. } if *wg_size == 0 || *wg_size > most => {
                misfit("wg_size must be at least 1 and at most", *wg_size, most)
            }
            Config { lanes, rows, .. } if *lanes == 0 || *rows == 0 => misfit("lanes and rows must be at least", 0, 1),
            Config { rows, .. } if *rows > 1024 => misfit("rows must be at most", *rows, 1024),
            Config { lanes, wg_size, form, .. } if !form.planes && !wg_size.is_multiple_of(*lanes) => {
                misfit("lanes must divide the workgroup", *lanes, *wg_size)
            }
            _ => Ok(()),
        }
    }

    /// The pipeline that it names.
    pub fn pass(&self, problem: &Problem) -> Pass {
        let unit = if self.form.x == Storage::F32 && problem.x.bytes() == 2 { 2 } else { 1 };
        let chunks = problem.code_dim as u32 / unit / self.form.vec.max(1);
        let whole = chunks * unit * self.form.vec == problem.code_dim as u32;
        let even = self.form.moves() && whole && chunks.is_multiple_of(self.lanes);
        let shared = self.shared().then(|| {
            let turns = chunks.div_ceil(self.wg_size.max(1)).max(1);
            let parts = turns.div_ceil(TURNS);
            let flat = problem.books == 1 && problem.views().is_ok_and(|views| views.follow(problem));
            Shared { turns: turns.div_ceil(parts), parts, flat }
        });
        let even = even && shared.is_none_or(|s| s.turns * s.parts * self.wg_size == chunks);
        let rows = if shared.is_some() { 1 } else { self.rows };
        Pass { config: Config { rows, ..*self }, even, shared }
    }

    /// Rounds of an invocation's loops, at most.
    fn rounds(&self, problem: &Problem) -> u64 {
        let [lanes, wg_size, rows] = [self.lanes, self.wg_size, self.rows].map(|n| u64::from(n.max(1)));
        let (chunks, books) = (problem.code_dim as u64 / u64::from(self.form.vec.max(1)) + 1, problem.books as u64);
        match self.form {
            _ if self.shared() => rows * (2 + 2 * chunks.div_ceil(wg_size)),
            // An invocation has some channels of one position, or of several in turn.
            Form { planes: true, .. } => (lanes + 1) * (books + 2),
            Form { sum: true, .. } => rows * (2 + chunks.div_ceil(lanes) * (books + 1)),
            _ => rows * (2 + books * (1 + chunks.div_ceil(lanes))),
        }
    }

    /// Whether a whole workgroup moves one vector after the other.
    fn shared(&self) -> bool {
        self.form.moves() && self.lanes == self.wg_size
    }
}

/// Chunks that an invocation moves without a loop.
const TURNS: u32 = 16;

/// The pipeline of a Config.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pass {
    config: Config,
    even: bool,
    /// Of a workgroup that shares its rows, whose number is then a parameter.
    shared: Option<Shared>,
}

/// Chunks of a row per invocation: `parts` rounds of `turns`. `flat`: one book, batches that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shared {
    turns: u32,
    parts: u32,
    flat: bool,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.config)?;
        self.shared.map_or(Ok(()), |Shared { turns, parts, .. }| write!(f, " turns{turns} parts{parts}"))
    }
}

const INDICES: u32 = 0;
const CODEBOOK: u32 = 1;
const Y: u32 = 2;
const BAD: u32 = 3;

impl Pipeline for Pass {
    fn shader(&self) -> Shader {
        let Config { wg_size, lanes, rows, form } = self.config;
        let stem = match self.shared {
            Some(_) => "vq_lookup_rows",
            None if form.planes => "vq_lookup_planes",
            None => "vq_lookup",
        };
        let (storage, writable) = (form.x, form.codebook_writable);
        let book = Tensor { binding: CODEBOOK, name: "codebook", storage, writable, output: false, edge: false };
        let y = Tensor { binding: Y, name: "y", storage: form.y, writable: true, output: true, edge: form.edge };
        let mut shader = Shader::new(stem, wg_size, 0, form.vec)
            .params::<Params>()
            .buffer(INDICES, "indices", "u32", form.indices_writable)
            .tensor(book)
            .tensor(y)
            .import(if form.short { "vq_index16" } else { "vq_index32" })
            .import("vq_find");
        shader = match self.shared {
            Some(Shared { turns, parts, flat }) => shader
                .constant("TURNS", turns)
                .constant("PARTS", parts)
                .constant("ROUND", (TURNS / turns).clamp(1, 4))
                .flag("EVEN", self.even)
                .flag("FLAT", flat),
            None if form.planes => shader.constant("CHANNELS", lanes).gather("value"),
            None => {
                shader.constant("LANES", lanes).constant("ROWS", rows).flag("SUM", form.sum).flag("EVEN", self.even)
            }
        };
        match form.count {
            true => shader.buffer(BAD, "bad", "atomic<u32>", true).import("vq_bad"),
            false => shader.import("vq_bad_none"),
        }
    }
}

/// The pipeline that clears words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClearPass {
    wg_size: u32,
}

const WORDS: u32 = 8;

impl Pipeline for ClearPass {
    fn shader(&self) -> Shader {
        Shader::new("vq_clear", self.wg_size, 0, 1).params::<ClearParams>().buffer(WORDS, "words", "u32", true)
    }
}

impl ClearPass {
    /// For this device.
    pub fn of(caps: &Caps) -> ClearPass {
        ClearPass { wg_size: caps.most_invocations().min(64) }
    }
}

/// Sets words `offset..offset + count` of an output to 0.
pub(crate) fn clear(
    op: &'static str,
    kernels: &Kernels,
    name: &'static str,
    binding: Binding,
    offset: usize,
    count: usize,
) -> Result<Dispatch> {
    let caps = kernels.caps();
    let pass = ClearPass::of(&caps);
    let grid = fold(op, &caps, (count as u64).div_ceil(pass.wg_size.into()))?;
    let elements = offset as u64..(offset + count) as u64;
    let arg = Arg { slot: WORDS, name, binding, element_bits: 32, elements, writes: true };
    arg.check(op, &caps)?;
    let params = ClearParams { clear_offset: offset as u32, clear_count: count as u32, grid_x: grid[0] };
    let pass = kernels.pipeline(op, &pass)?;
    Ok(Dispatch::new(op, kernels, &[arg], &params, vec![(pass, grid)]))
}

/// Which memory.
#[derive(Debug, Clone, Copy)]
pub struct Buffers<'a> {
    indices: Binding<'a>,
    codebook: Binding<'a>,
    y: Binding<'a>,
    bad: Option<Binding<'a>>,
}

impl<'a> Buffers<'a> {
    pub fn new(indices: impl Into<Binding<'a>>, codebook: impl Into<Binding<'a>>, y: impl Into<Binding<'a>>) -> Self {
        Buffers { indices: indices.into(), codebook: codebook.into(), y: y.into(), bad: None }
    }

    /// Where the number of indices out of range is written, one u32.
    pub fn bad(mut self, bad: impl Into<Binding<'a>>) -> Self {
        self.bad = Some(bad.into());
        self
    }
}

prepare_by!(plan);

pub(crate) fn plan(
    kernels: &Kernels,
    problem: &Problem,
    config: Option<&Config>,
    buffers: &Buffers,
) -> Result<Dispatch> {
    let caps = kernels.caps();
    let views = problem.views()?;
    given(OP, "bad", problem.bad.is_some(), buffers.bad.is_some())?;
    let cleared = match (buffers.bad, problem.bad) {
        (Some(binding), Some(offset)) => Some(clear(OP, kernels, "bad", binding, offset, 1)?),
        _ => None,
    };
    if problem.empty() {
        return Ok(cleared.unwrap_or_else(|| Dispatch::nothing(OP)));
    }
    let (form, pairs) = problem.form(&caps, &views);
    let mut config = match config {
        Some(config) => Config { form, ..*config },
        None => choose(&caps, problem)?,
    };
    let looped = caps.check_rounds(config.rounds(problem));
    config.fits(&caps).and(looped).map_err(|misfit| misfit.error(OP))?;

    let bits = |dtype: Dtype| 8 * dtype.bytes();
    let mut args = vec![
        Arg::new(INDICES, "indices", buffers.indices, problem.index.bits(), &views.indices, false),
        Arg::new(CODEBOOK, "codebook", buffers.codebook, bits(problem.x), &views.codebook, false),
        Arg::new(Y, "y", buffers.y, bits(problem.y), &views.y, true),
    ];
    if let (Some(offset), Some(binding)) = (problem.bad, buffers.bad) {
        let elements = offset as u64..offset as u64 + 1;
        args.push(Arg { slot: BAD, name: "bad", binding, element_bits: 32, elements, writes: true });
    }
    check_all(OP, &caps, &args, |_, _| false)?;
    config.form.indices_writable = read_write(&args, INDICES);
    config.form.codebook_writable = read_write(&args, CODEBOOK);

    // Pairs of 16-bit elements are one of 32.
    let unit = if pairs { 2 } else { 1 };
    let Problem { batch, mut spatial, books, code_dim, .. } = *problem;
    let n = batch * spatial;
    let planes = config.form.planes;
    if !planes && views.follow(problem) {
        spatial = n; // batches follow each other
    }
    let channels = problem.channels();
    let groups = channels.div_ceil(config.lanes as usize) as u32;
    // A row of phase 1 has a chunk more.
    let chunks = (spatial as u64).div_ceil(config.form.vec.into()) + u64::from(config.form.edge);
    let blocks = chunks.div_ceil(config.wg_size.into());
    let workgroups = match planes {
        true => batch as u64 * u64::from(groups) * blocks,
        false if config.shared() => (n as u64 * books as u64).div_ceil(config.rows.into()),
        false => (n as u64).div_ceil((config.wg_size / config.lanes * config.rows).into()),
    };
    let grid = fold(OP, &caps, workgroups)?;
    let (segments, terms) = match config.form.sum {
        true => (1, books),
        false => (books, 1),
    };
    let params = Params {
        n: n as u32,
        batch: batch as u32,
        spatial: spatial as u32,
        rows: config.rows,
        segments: segments as u32,
        terms: terms as u32,
        cols: (code_dim / unit) as u32,
        num_codes: problem.num_codes as u32,
        first: u32::from(problem.out_of_range == OutOfRange::First),
        groups,
        blocks: blocks as u32,
        grid_x: grid[0],
        bad_offset: problem.bad.unwrap_or(0) as u32,
        indices_offset: views.indices.offset as u32,
        indices_s0: views.indices.stride(0),
        indices_s1: views.indices.stride(1),
        codebook_offset: (views.codebook.offset / unit) as u32,
        codebook_s0: views.codebook.stride(0) / unit as u32,
        codebook_s1: views.codebook.stride(1) / unit as u32,
        y_offset: (views.y.offset / unit) as u32,
        y_s0: views.y.stride(0) / unit as u32,
        y_s1: views.y.stride(1) / unit as u32,
    };
    let pass = kernels.pipeline(OP, &config.pass(problem))?;
    let looked = Dispatch::new(OP, kernels, &args, &params, vec![(pass, grid)]);
    Ok(Dispatch::sequence(OP, cleared.into_iter().chain([looked])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_halves_move_as_words() {
        let caps = crate::caps::presets().pop().unwrap();
        let of = |code_dim, offset, y| {
            let layout = Layout::at(offset);
            let problem = Problem { code_dim, num_codes: 5, x: Dtype::F16, y, codebook: layout, ..Problem::default() };
            choose(&caps, &problem).unwrap().form
        };
        assert_eq!((of(64, 0, Dtype::F16).x, of(64, 0, Dtype::F16).vec), (Storage::F32, 4));
        assert_eq!((of(6, 0, Dtype::F16).x, of(6, 0, Dtype::F16).vec), (Storage::F32, 1));
        assert!(!of(6, 0, Dtype::F16).edge && of(7, 0, Dtype::F16).edge);
        assert_eq!(of(64, 1, Dtype::F16).x, Storage::F16Packed);
        assert_eq!(of(64, 0, Dtype::F32).x, Storage::F16Packed);
    }
}
