//! Nearest codes: per vector and book the code of least squared distance, of greatest cosine or of greatest dot
//! product, in one pass over the codebook without a matrix of distances; ties go to the lowest index. Several
//! books code parts of a vector of their own (product quantisation, Jégou et al., 2011), or each codes what the
//! one before left of it (residual quantisation; Zeghidour et al., "SoundStream", 2021).
//!
//! A distance is the f32 sum of squared differences, not `|c|^2 - 2xc`: it keeps its digits however far the data
//! lie from the origin, so that a near tie needs no second look. Squares must be finite: differences (of cosines
//! and dot products: elements) between 1e-18 and 1e18 count.
//!
//! Measured on Mesa 26.2 lavapipe, 2 cores, 4096 vectors of 64 elements to 8192 codes (seconds): each invocation
//! with 1 vector in registers and 1, 2, 4 codes at a time 0.297, 0.256, 0.263; 2 vectors and 2 codes 0.148; 4 vectors
//! and 1, 2 codes 0.104, 0.157; vectors read again, 1 or 2 of them and 8 codes 0.487, 0.340. A code that all
//! invocations read costs one load, a vector of their own one per invocation. In turns with our own product of the same
//! matrices, which stores all of it: 0.138 to 0.279.
//!
//! Compiled for GPUs that are not here, nothing spills: vectors of 64 elements take 96 VGPRs on RADV (navi31, gfx1201),
//! 96 registers and 20 warps per SM on NVK (Ampere, Ada).

use crate::compose::{Shader, Storage, Tensor, write_flags};
use crate::dispatch::{Arg, check_all, fold, given, read_write};
use crate::kernels::{Pipeline, chosen};
use crate::layout::View;
use crate::vq_lookup::{self, Combine};
use crate::{Binding, Caps, Dispatch, Dtype, Error, ErrorKind, Kernels, Layout, Misfit, Result, caps::Class};

const OP: &str = "vq_assign";

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Problem {
    /// Vectors.
    pub n: usize,
    pub books: usize,
    /// Of each book.
    pub num_codes: usize,
    /// Elements of a code.
    pub code_dim: usize,
    pub metric: Metric,
    /// Each book codes what the one before left of the vector; otherwise each has a part of its own.
    pub residual: bool,
    /// Codes per vector and book, the nearest first; the first alone counts for all that follows from it.
    pub top: usize,
    pub x: Dtype,
    /// Strides of vector and book; `[n, 1]` vectors where `residual`.
    pub x_layout: Layout<2>,
    pub codebook: Dtype,
    /// Strides of book and code; a book stride of 0 shares one book.
    pub codebook_layout: Layout<2>,
    /// The first element of u32 indices `[n, books, top]`.
    pub indices: usize,
    /// The first element of f32 distances in the same places: squared, `1 - cos`, or `-dot`.
    pub distance: Option<usize>,
    /// The vectors of the codes, `[n, books, code_dim]`, or their sum `[n, code_dim]` where `residual`.
    pub quantized: Option<Quantized>,
    /// The first element of u32 counts of use, `[books, num_codes]`.
    pub usage: Option<usize>,
    /// Where the f32 sum over vectors and books of the squared distance to the code is written.
    pub loss: Option<usize>,
}

/// What is nearest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Metric {
    /// The least `|x - c|^2`.
    #[default]
    L2,
    /// The least `1 - xc / |x||c|`; a vector of zeros is at right angles to all.
    Cosine,
    /// The least `-xc`.
    Dot,
}

/// How quantised vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quantized {
    pub dtype: Dtype,
    /// The first element.
    pub offset: usize,
}

impl Default for Problem {
    /// One code of one element: sizes are yours to set.
    fn default() -> Self {
        let layout = Layout { offset: 0, strides: None };
        Problem {
            n: 1,
            books: 1,
            num_codes: 1,
            code_dim: 1,
            metric: Metric::L2,
            residual: false,
            top: 1,
            x: Dtype::F32,
            x_layout: layout,
            codebook: Dtype::F32,
            codebook_layout: layout,
            indices: 0,
            distance: None,
            quantized: None,
            usage: None,
            loss: None,
        }
    }
}

/// How it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    /// Invocations per workgroup.
    pub wg_size: u32,
    /// Vectors per invocation.
    pub rows: u32,
    /// Codes that are compared at a time.
    pub codes: u32,
    /// Chunks of a vector that stay in registers; 0: vectors are read again.
    pub keep: u32,
    /// Codes in workgroup memory, a multiple of `codes`; 0: none.
    pub tile: u32,
    /// Parts that a book is searched in side by side.
    pub parts: u32,
    pub form: Form,
}

/// What the Problem, the device and the buffers decide of a Config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    /// Elements per chunk.
    pub vec: u32,
    pub x: Storage,
    pub codebook: Storage,
    pub metric: Metric,
    pub top: u32,
    pub distance: bool,
    pub usage: bool,
    pub loss: bool,
    /// What a code leaves is written for the next book.
    pub rest: bool,
    /// Inputs that lie in a buffer that is written; set by `prepare`.
    pub x_writable: bool,
    pub codebook_writable: bool,
}

crate::params! {
    /// What one step tells the shader.
    pub struct Params {
        n: u32,
        books: u32,
        parts: u32,
        per_part: u32,
        num_codes: u32,
        cols: u32,
        chunks: u32,
        blocks: u32,
        grid_x: u32,
        x_offset: u32,
        x_s0: u32,
        x_s1: u32,
        codebook_offset: u32,
        codebook_s0: u32,
        codebook_s1: u32,
        best_offset: u32,
        loss_offset: u32,
        indices_offset: u32,
        indices_s0: u32,
        indices_s1: u32,
        distance_offset: u32,
        usage_offset: u32,
    }
}

crate::params! {
    /// What the sum of the loss needs.
    pub struct LossParams {
        count: u32,
        loss_offset: u32,
        to: u32,
    }
}

struct Views {
    x: View<2>,
    codebook: View<2>,
    indices: View<1>,
    distance: Option<View<1>>,
    usage: Option<View<1>>,
}

impl Problem {
    /// Vectors that books see: of the whole, or a part for each.
    fn x_sizes(&self) -> [usize; 2] {
        [self.n, if self.residual { 1 } else { self.books }]
    }

    fn views(&self) -> Result<Views> {
        let invalid = |arg, reason: String| Err(Error { op: OP, kind: ErrorKind::InvalidProblem { arg, reason } });
        let sizes = [("books", self.books), ("num_codes", self.num_codes), ("code_dim", self.code_dim)];
        for (arg, size) in sizes {
            if size == 0 || size > 1 << 30 {
                return invalid(arg, format!("{size} is not 1 to 2^30"));
            }
        }
        if self.top == 0 || self.top > 16 || self.top > self.num_codes {
            return invalid("top", format!("{} is not 1 to 16, and at most {} codes", self.top, self.num_codes));
        }
        if let Some(at) = self.loss.filter(|&at| at > u32::MAX as usize) {
            return Err(Error { op: OP, kind: ErrorKind::IndexOverflow { arg: "loss", last: at as u128 } });
        }
        let flat = |arg, offset, len: Option<usize>| {
            let most = u32::MAX as usize / 2;
            let len = len
                .filter(|&len| len <= most)
                .ok_or(Error { op: OP, kind: ErrorKind::IndexOverflow { arg, last: 1 << 32 } })?;
            Layout::<1>::at(offset).resolve(OP, arg, [len], 1)
        };
        let each = self.n.checked_mul(self.books).and_then(|n| n.checked_mul(self.top));
        let codes = self.books.checked_mul(self.num_codes);
        Ok(Views {
            x: self.x_layout.resolve(OP, "x", self.x_sizes(), self.code_dim)?,
            codebook: self.codebook_layout.resolve(OP, "codebook", [self.books, self.num_codes], self.code_dim)?,
            indices: flat("indices", self.indices, each)?,
            distance: self.distance.map(|at| flat("distance", at, each)).transpose()?,
            usage: self.usage.map(|at| flat("usage", at, codes)).transpose()?,
        })
    }

    fn form(&self, caps: &Caps, views: &Views) -> Form {
        let aligned = views.x.multiple_of(4) && views.codebook.multiple_of(4) && self.code_dim.is_multiple_of(4);
        Form {
            vec: if aligned { 4 } else { 1 },
            x: Storage::of(self.x, caps),
            codebook: Storage::of(self.codebook, caps),
            metric: self.metric,
            top: self.top as u32,
            distance: self.distance.is_some(),
            usage: self.usage.is_some(),
            loss: self.loss.is_some(),
            rest: false,
            x_writable: false,
            codebook_writable: false,
        }
    }

    /// The lookup of what was found.
    fn lookup(&self, quantized: Quantized) -> vq_lookup::Problem {
        let Problem { n, books, num_codes, code_dim, top, .. } = *self;
        vq_lookup::Problem {
            spatial: n,
            books,
            num_codes,
            code_dim,
            combine: if self.residual { Combine::Sum } else { Combine::Concat },
            indices: Layout::strided(self.indices, [books * top, top]),
            x: self.codebook,
            codebook: self.codebook_layout,
            y: quantized.dtype,
            y_layout: Layout::at(quantized.offset),
            ..Default::default()
        }
    }
}

/// A row of the table: the tiles of one class of adapters.
struct Row {
    class: Class,
    wg_size: u32,
    rows: u32,
    codes: u32,
    /// Chunks of a vector that registers hold, at most.
    keep: u32,
    /// Codes at a time where vectors are read again.
    reread_codes: u32,
    tile: u32,
    /// Workgroups to reach by searching a book in parts.
    fill: u64,
}

const TABLE: [Row; 3] = [
    Row { class: Class::Software, wg_size: 8, rows: 4, codes: 1, keep: 16, reread_codes: 8, tile: 0, fill: 4 },
    Row { class: Class::Integrated, wg_size: 64, rows: 1, codes: 4, keep: 16, reread_codes: 8, tile: 16, fill: 64 },
    Row { class: Class::Discrete, wg_size: 128, rows: 1, codes: 4, keep: 16, reread_codes: 8, tile: 32, fill: 256 },
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
    let form = problem.form(caps, &problem.views()?);
    let row = TABLE.iter().find(|row| row.class == caps.class()).unwrap_or(&TABLE[0]);
    let most = caps.most_invocations();
    let wg_size = row.wg_size.min(most);
    let chunks = problem.code_dim as u32 / form.vec;
    let kept = chunks <= row.keep;
    let books = if problem.residual { 1 } else { problem.books as u64 };
    let blocks = (problem.n as u64).div_ceil(u64::from(wg_size * row.rows)).max(1) * books;
    let mut staged = Config {
        wg_size,
        rows: row.rows,
        codes: if kept { row.codes } else { row.reread_codes },
        keep: if kept { chunks } else { 0 },
        tile: if kept { row.tile } else { 0 },
        parts: 1,
        form,
    };
    // Parts of at least 64 codes; more where the driver cuts long loops short.
    let parts = row.fill.div_ceil(blocks).min((problem.num_codes as u64).div_ceil(64)) as u32;
    staged.parts = caps.parts(parts, problem.num_codes as u32, |parts| Config { parts, ..staged }.rounds(problem));
    let found = [staged, Config { tile: 0, ..staged }].into_iter().take(if staged.tile > 0 { 2 } else { 1 });
    let fits = |config: &Config| match config.fits(caps, problem) {
        Ok(()) => true,
        Err(misfit) => {
            log::trace!("vq_assign: dropped {config}: {misfit}");
            false
        }
    };
    Ok(found.filter(fits).collect())
}

/// Invocations that add up the loss.
const LOSS_SIZE: u32 = 64;

/// Where the sections of scratch memory lie, in bytes: each starts where any device can bind.
struct Sections {
    best: u64,
    loss: u64,
    rest: [u64; 2],
    end: u64,
}

impl Sections {
    fn of(problem: &Problem, config: &Config) -> Sections {
        let align = |bytes: u64| bytes.next_multiple_of(256);
        let Problem { n, books, top, code_dim, residual, .. } = *problem;
        let at_once = if residual { 1 } else { books };
        let best = (n * at_once * top) as u64;
        let best = best.saturating_mul(u64::from(config.parts) * 8).min(u64::MAX / 8);
        let best = align(best);
        let loss = align(if problem.loss.is_some() { (n * books) as u64 * 4 } else { 0 });
        let rests = if residual { books.min(3) as u64 - 1 } else { 0 };
        let rest = align((n * code_dim) as u64 * 4);
        let first = best + loss;
        Sections { best: 0, loss: best, rest: [first, first + rest], end: first + rests * rest }
    }
}

/// Bytes of scratch memory: some words per vector and part, whose number does not grow with the codes but where the
/// driver cuts long loops short; where `residual`, up to two
/// f32 copies of the vectors, too.
pub fn scratch_bytes(problem: &Problem, config: &Config) -> u64 {
    Sections::of(problem, config).end
}

/// `wg8 rows1 codes4 keep16 parts1 f32 f32 vec4 l2 top1`: what differs, in a line.
impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config { wg_size, rows, codes, keep, tile, parts, form } = self;
        write!(f, "wg{wg_size} rows{rows} codes{codes} keep{keep} ")?;
        for (name, size) in [("tile", tile), ("parts", parts)] {
            if *size > 0 {
                write!(f, "{name}{size} ")?;
            }
        }
        let storages = format!("{:?} {:?} vec{} {:?} top{}", form.x, form.codebook, form.vec, form.metric, form.top);
        f.write_str(&storages.to_lowercase())?;
        write_flags(
            f,
            &[
                ("distance", form.distance),
                ("usage", form.usage),
                ("loss", form.loss),
                ("rest", form.rest),
                ("x_writable", form.x_writable),
                ("codebook_writable", form.codebook_writable),
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
        let most = caps.most_invocations().min(1024);
        let misfit = |what, have, limit| Err(Misfit::old(what, have, limit));
        let chunks = problem.code_dim as u32 / self.form.vec.max(1);
        let memory = limits.max_compute_workgroup_storage_size;
        match self {
            Config { wg_size, .. } if *wg_size == 0 || *wg_size > most => {
                misfit("wg_size must be at least 1 and at most", *wg_size, most)
            }
            Config { rows, codes, parts, .. } if *rows == 0 || *codes == 0 || *parts == 0 => {
                misfit("rows, codes and parts must be at least", 0, 1)
            }
            Config { rows, codes, .. } if *rows > 64 || *codes > 64 => {
                misfit("rows and codes must be at most", *rows.max(codes), 64)
            }
            Config { rows, codes, .. } if rows * codes > 256 => {
                misfit("rows * codes must be at most", rows * codes, 256)
            }
            Config { tile, .. } if *tile > 1 << 16 => misfit("tile must be at most", *tile, 1 << 16),
            Config { rows, keep, .. } if u64::from(*rows) * u64::from(*keep) > 4096 => {
                misfit("chunks that stay in registers must be at most", *keep, 4096 / rows)
            }
            Config { keep, .. } if *keep != 0 && *keep != chunks => {
                misfit("keep must be 0 or the chunks of a vector", *keep, chunks)
            }
            Config { keep: 0, tile, .. } if *tile > 0 => misfit("a tile needs vectors that are kept", *tile, 0),
            Config { tile, codes, .. } if !tile.is_multiple_of(*codes) => {
                misfit("tile must be a multiple of codes", *tile, *codes)
            }
            Config { parts, .. } if *parts as usize > problem.num_codes => {
                misfit("parts must be at most the codes", *parts, problem.num_codes as u32)
            }
            _ if self.wg_bytes() > memory => misfit("bytes of workgroup memory", self.wg_bytes(), memory),
            _ if scratch_bytes(problem, self) / 4 > u32::MAX.into() => misfit("words of scratch", u32::MAX, u32::MAX),
            _ => caps.check_rounds(self.rounds(problem).max(self.finish_rounds(problem))),
        }
    }

    /// Rounds of the loops of an invocation that searches a part, at most.
    fn rounds(&self, problem: &Problem) -> u64 {
        let chunks = problem.code_dim as u64 / u64::from(self.form.vec.max(1));
        let inner = if self.keep > 0 { chunks * (1 + u64::from(self.rows)) } else { chunks + chunks.div_ceil(32) };
        let codes = problem.num_codes.div_ceil(self.parts.max(1) as usize);
        codes.div_ceil(self.codes.max(1) as usize) as u64 * (2 + inner)
    }

    /// Rounds of one that joins the parts, or adds up the loss.
    fn finish_rounds(&self, problem: &Problem) -> u64 {
        let (top, chunks) = (problem.top as u64, problem.code_dim as u64 / u64::from(self.form.vec.max(1)));
        let joined = top * top * u64::from(self.parts) + (top + 3) * chunks;
        let lost = problem.loss.map_or(0, |_| (problem.n * problem.books) as u64 / u64::from(LOSS_SIZE));
        joined.max(lost + u64::from(LOSS_SIZE))
    }

    fn wg_bytes(&self) -> u32 {
        self.tile.saturating_mul(self.keep).saturating_mul(self.form.vec * 4)
    }

    /// The pipelines that it names.
    pub fn passes(&self) -> Vec<Pass> {
        let steps = [Step::Search, Step::Finish, Step::Loss];
        steps.into_iter().take(if self.form.loss { 3 } else { 2 }).map(|step| self.pass(step)).collect()
    }

    fn pass(&self, step: Step) -> Pass {
        let mut config = Config { parts: 0, ..*self };
        match step {
            // What the search does not know of.
            Step::Search => {
                (config.form.distance, config.form.usage, config.form.loss, config.form.rest) = Default::default();
            }
            Step::Finish => {
                (config.wg_size, config.rows, config.codes) = (config.wg_size.max(32), 1, 1);
                (config.keep, config.tile) = (0, 0);
            }
            Step::Loss => {
                let plain = Form {
                    vec: 1,
                    x: Storage::F32,
                    codebook: Storage::F32,
                    metric: Metric::L2,
                    top: 1,
                    distance: false,
                    usage: false,
                    loss: true,
                    rest: false,
                    x_writable: false,
                    codebook_writable: false,
                };
                config = Config { wg_size: LOSS_SIZE, rows: 1, codes: 1, keep: 0, tile: 0, parts: 0, form: plain };
            }
        }
        Pass { step, config }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Search,
    Finish,
    Loss,
}

/// A pipeline of a Config.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pass {
    step: Step,
    config: Config,
}

impl Pass {
    /// Whether its parameters are [`LossParams`].
    pub fn is_loss(&self) -> bool {
        self.step == Step::Loss
    }
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.config)
    }
}

const X: u32 = 0;
const CODEBOOK: u32 = 1;
const SCRATCH: u32 = 2;
const INDICES: u32 = 3;
const DISTANCE: u32 = 4;
const USAGE: u32 = 5;
const REST: u32 = 6;
const LOSS: u32 = 7;

impl Pipeline for Pass {
    fn shader(&self) -> Shader {
        let Config { wg_size, rows, codes, keep, tile, form, .. } = self.config;
        if self.step == Step::Loss {
            return Shader::new("vq_assign_loss", wg_size, wg_size * 4, 1)
                .params::<LossParams>()
                .buffer(SCRATCH, "scratch", "u32", true)
                .buffer(LOSS, "loss", "f32", true);
        }
        let tensor =
            |binding, name, storage, writable, output| Tensor { binding, name, storage, writable, output, edge: false };
        let search = self.step == Step::Search;
        let (stem, wg_bytes) = match search {
            true => ("vq_assign", self.config.wg_bytes()),
            false => ("vq_assign_finish", 0),
        };
        let shader = Shader::new(stem, wg_size, wg_bytes, form.vec)
            .params::<Params>()
            .constant("METRIC", form.metric as u32)
            .constant("TOP", form.top)
            .tensor(tensor(X, "x", form.x, form.x_writable, false))
            .tensor(tensor(CODEBOOK, "codebook", form.codebook, form.codebook_writable, false))
            .buffer(SCRATCH, "scratch", "u32", true);
        if search {
            let shader = shader
                .constant("ROWS", rows)
                .constant("CODES", codes)
                .constant("KEEP", keep)
                .constant("KEPT", (rows * keep).max(1))
                .constant("SUMS", rows * codes)
                .constant("BESTS", rows * form.top);
            return match tile {
                0 => shader.import("vq_codes"),
                _ => shader.constant("TILE", tile).constant("STAGED", tile * keep).import("vq_codes_staged"),
            };
        }
        let mut shader = shader
            .flag("HAS_DISTANCE", form.distance)
            .flag("HAS_USAGE", form.usage)
            .flag("HAS_LOSS", form.loss)
            .flag("HAS_REST", form.rest)
            .buffer(INDICES, "indices", "u32", true);
        shader = match form.distance {
            true => shader.buffer(DISTANCE, "distance", "f32", true).import("vq_distance"),
            false => shader.import("vq_distance_none"),
        };
        shader = match form.usage {
            true => shader.buffer(USAGE, "usage", "atomic<u32>", true).import("vq_usage"),
            false => shader.import("vq_usage_none"),
        };
        match form.rest {
            true => shader.tensor(tensor(REST, "rest", Storage::F32, true, true)),
            false => shader.import("vq_rest_none"),
        }
    }
}

/// Which memory.
#[derive(Debug, Clone, Copy)]
pub struct Buffers<'a> {
    x: Binding<'a>,
    codebook: Binding<'a>,
    indices: Binding<'a>,
    distance: Option<Binding<'a>>,
    quantized: Option<Binding<'a>>,
    usage: Option<Binding<'a>>,
    loss: Option<Binding<'a>>,
    scratch: Option<Binding<'a>>,
}

impl<'a> Buffers<'a> {
    pub fn new(x: impl Into<Binding<'a>>, codebook: impl Into<Binding<'a>>, indices: impl Into<Binding<'a>>) -> Self {
        Buffers {
            x: x.into(),
            codebook: codebook.into(),
            indices: indices.into(),
            distance: None,
            quantized: None,
            usage: None,
            loss: None,
            scratch: None,
        }
    }

    /// The distances that the Problem asks for.
    pub fn distance(mut self, distance: impl Into<Binding<'a>>) -> Self {
        self.distance = Some(distance.into());
        self
    }

    /// The quantised vectors that the Problem asks for.
    pub fn quantized(mut self, quantized: impl Into<Binding<'a>>) -> Self {
        self.quantized = Some(quantized.into());
        self
    }

    /// The counts of use that the Problem asks for.
    pub fn usage(mut self, usage: impl Into<Binding<'a>>) -> Self {
        self.usage = Some(usage.into());
        self
    }

    /// The sum of squared distances that the Problem asks for.
    pub fn loss(mut self, loss: impl Into<Binding<'a>>) -> Self {
        self.loss = Some(loss.into());
        self
    }

    /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
    pub fn scratch(mut self, scratch: impl Into<Binding<'a>>) -> Self {
        self.scratch = Some(scratch.into());
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
    given(OP, "distance", problem.distance.is_some(), buffers.distance.is_some())?;
    given(OP, "quantized", problem.quantized.is_some(), buffers.quantized.is_some())?;
    given(OP, "usage", problem.usage.is_some(), buffers.usage.is_some())?;
    given(OP, "loss", problem.loss.is_some(), buffers.loss.is_some())?;
    let config = match config {
        Some(config) => Config { form: problem.form(&caps, &views), ..*config },
        None => choose(&caps, problem)?,
    };
    config.fits(&caps, problem).map_err(|misfit| misfit.error(OP))?;

    let need = scratch_bytes(problem, &config);
    let pooled;
    let scratch = match buffers.scratch {
        Some(binding) => binding,
        None => {
            pooled = kernels.scratch(need.max(4)).map_err(|kind| kind.of(OP))?;
            Binding::from(&pooled)
        }
    };
    let bits = |dtype: Dtype| 8 * dtype.bytes();
    let mut args = vec![
        Arg::new(X, "x", buffers.x, bits(problem.x), &views.x, false),
        Arg::new(CODEBOOK, "codebook", buffers.codebook, bits(problem.codebook), &views.codebook, false),
        Arg::scratch(SCRATCH, scratch, need),
        Arg::new(INDICES, "indices", buffers.indices, 32, &views.indices, true),
    ];
    let outputs =
        [(DISTANCE, "distance", buffers.distance, &views.distance), (USAGE, "usage", buffers.usage, &views.usage)];
    for (slot, name, binding, view) in outputs {
        if let (Some(binding), Some(view)) = (binding, view) {
            args.push(Arg::new(slot, name, binding, 32, view, true));
        }
    }
    if let (Some(binding), Some(at)) = (buffers.loss, problem.loss) {
        let elements = at as u64..at as u64 + 1;
        args.push(Arg { slot: LOSS, name: "loss", binding, element_bits: 32, elements, writes: true });
    }
    check_all(OP, &caps, &args, |_, _| false)?;
    // The lookup writes it last: x and scratch have been read by then.
    if let (Some(q), Some(binding)) = (problem.quantized, buffers.quantized) {
        let view = Layout::<2>::at(q.offset).resolve(OP, "quantized", problem.x_sizes(), problem.code_dim)?;
        let quantized = Arg::new(u32::MAX, "quantized", binding, bits(q.dtype), &view, true);
        for arg in args.iter().filter(|arg| ![X, SCRATCH].contains(&arg.slot)) {
            quantized.apart(OP, &caps, arg)?;
        }
    }

    let mut steps = Vec::new();
    if let (Some(binding), Some(at)) = (buffers.usage, problem.usage) {
        let count = problem.books * problem.num_codes;
        steps.push(vq_lookup::clear(OP, kernels, "usage", binding, at, count)?);
    }
    if problem.n > 0 {
        match problem.residual {
            false => steps.extend(search(kernels, problem, &config, &views, &args, None)?),
            true => {
                for book in 0..problem.books {
                    steps.extend(search(kernels, problem, &config, &views, &args, Some(book))?);
                }
            }
        }
    }
    if let Some(at) = problem.loss {
        let count = (problem.n * problem.books) as u32;
        let loss_offset = (Sections::of(problem, &config).loss / 4) as u32;
        let params = LossParams { count, loss_offset, to: at as u32 };
        let pass = kernels.pipeline(OP, &config.pass(Step::Loss))?;
        steps.push(Dispatch::new(OP, kernels, &args, &params, vec![(pass, [1, 1, 1])]));
    }
    if let (Some(quantized), Some(binding)) = (problem.quantized, buffers.quantized) {
        let bound = vq_lookup::Buffers::new(buffers.indices, buffers.codebook, binding);
        steps.push(vq_lookup::plan(kernels, &problem.lookup(quantized), None, &bound)?);
    }
    Ok(Dispatch::sequence(OP, steps))
}

/// The two steps of all books, or of one that codes what those before it left.
fn search(
    kernels: &Kernels,
    problem: &Problem,
    config: &Config,
    views: &Views,
    args: &[Arg],
    book: Option<usize>,
) -> Result<[Dispatch; 2]> {
    let caps = kernels.caps();
    let Problem { n, books, num_codes, code_dim, top, .. } = *problem;
    let sections = Sections::of(problem, config);
    let scratch = args[2].binding;
    let mut args = args.to_vec();
    args[2] = Arg::scratch(SCRATCH, scratch.part(0, sections.rest[0]), sections.rest[0]);
    let mut config = *config;
    let first = book.unwrap_or(0);
    let (mut x_offset, mut x_s0, mut x_s1) = (views.x.offset as u32, views.x.stride(0), views.x.stride(1));
    let copy = |slot, name, which: usize, writes| {
        let elements = (n * code_dim) as u64;
        let binding = scratch.part(sections.rest[which], elements * 4);
        Arg { slot, name, binding, element_bits: 32, elements: 0..elements, writes }
    };
    if book.is_some() && first > 0 {
        args[0] = copy(X, "x", (first - 1) % 2, false);
        config.form.x = Storage::F32;
        (x_offset, x_s0, x_s1) = (0, code_dim as u32, 0);
    }
    config.form.rest = book.is_some() && first + 1 < books;
    if config.form.rest {
        args.push(copy(REST, "rest", first % 2, true));
    }
    // One declaration serves both steps: `x` is read_write wherever it shares a buffer with what either writes.
    config.form.x_writable = read_write(&args, X);
    config.form.codebook_writable = read_write(&args, CODEBOOK);

    let at_once = if book.is_some() { 1 } else { books };
    let blocks = (n as u64).div_ceil((config.wg_size * config.rows).into());
    let mut params = Params {
        n: n as u32,
        books: at_once as u32,
        parts: config.parts,
        per_part: (num_codes as u32).div_ceil(config.parts),
        num_codes: num_codes as u32,
        cols: code_dim as u32,
        chunks: code_dim as u32 / config.form.vec,
        blocks: blocks as u32,
        grid_x: 0,
        x_offset,
        x_s0,
        x_s1,
        codebook_offset: views.codebook.offset as u32 + first as u32 * views.codebook.stride(0),
        codebook_s0: views.codebook.stride(0),
        codebook_s1: views.codebook.stride(1),
        best_offset: (sections.best / 4) as u32,
        loss_offset: (sections.loss / 4) as u32 + (first * n) as u32,
        indices_offset: (problem.indices + first * top) as u32,
        indices_s0: (books * top) as u32,
        indices_s1: top as u32,
        distance_offset: (problem.distance.unwrap_or(0) + first * top) as u32,
        usage_offset: (problem.usage.unwrap_or(0) + first * num_codes) as u32,
    };
    let mut step = |step, workgroups| -> Result<Dispatch> {
        let grid = fold(OP, &caps, workgroups)?;
        params.grid_x = grid[0];
        let pass = kernels.pipeline(OP, &config.pass(step))?;
        Ok(Dispatch::new(OP, kernels, &args, &params, vec![(pass, grid)]))
    };
    let finish_size = config.pass(Step::Finish).config.wg_size;
    Ok([
        step(Step::Search, blocks * at_once as u64 * u64::from(config.parts))?,
        step(Step::Finish, ((n * at_once) as u64).div_ceil(finish_size.into()))?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_grows_with_the_vectors_alone() {
        let caps = crate::caps::presets().pop().unwrap();
        let of = |n, num_codes| {
            let problem = Problem { n, num_codes, code_dim: 64, loss: Some(0), ..Problem::default() };
            scratch_bytes(&problem, &choose(&caps, &problem).unwrap())
        };
        for n in [1usize, 100, 4096, 100_000] {
            // No matrix of distances: n * num_codes * 4 bytes would be 1 MiB per vector.
            assert!(of(n, 262_144) <= 2048 + 64 * 12 * n.max(64) as u64, "{n}: {}", of(n, 262_144));
        }
        assert_eq!(of(100_000, 1024), of(100_000, 262_144));
    }
}
