//! Vectors summed by code: `sums[indices[i]] += x[i]`, and how many there are of each code. The gradient of
//! [`vq_lookup`](crate::vq_lookup) with respect to its codebook, the statistics of an EMA codebook, and the
//! update of k-means.
//!
//! No float atomics: the invocations of a code read all indices of its book and add up what is theirs in
//! order, so that the same input gives the same bits. That is `num_codes * positions` comparisons, a small part
//! of what finding the nearest codes takes. Where a driver cuts long loops short (old llvmpipe), it takes several runs
//! over the positions, one after the other.

use crate::compose::{Shader, Storage, Tensor, write_flags};
use crate::dispatch::{Arg, check_all, fold, given, read_write};
use crate::kernels::{Pipeline, chosen};
use crate::layout::View;
use crate::vq_lookup::{Combine, Index, Order, OutOfRange};
use crate::{
    Binding, Caps, Dispatch, Dtype, Error, ErrorKind, Kernels, Layout, Misfit, Result, caps::Class, vq_lookup,
};

const OP: &str = "vq_scatter";

/// What is computed; sums are f32 `[books, num_codes, code_dim]`, contiguous.
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
    /// Whether each book has channels of its own, or all have the same.
    pub combine: Combine,
    pub order: Order,
    /// Where an index that is not in the book goes: nowhere, or to code 0.
    pub out_of_range: OutOfRange,
    pub index: Index,
    /// Strides of position (over all batches) and book.
    pub indices: Layout<2>,
    pub x: Dtype,
    /// Strides of batch and position, or of batch and channel where channels come first.
    pub x_layout: Layout<2>,
    /// The first element of the sums in their binding.
    pub sums: usize,
    /// Where in its buffer the number of vectors of each code is written, u32 `[books, num_codes]`.
    pub counts: Option<usize>,
}

impl Default for Problem {
    /// One code of one element: sizes are yours to set.
    fn default() -> Self {
        Problem::gradient(&vq_lookup::Problem::default())
    }
}

/// How it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    /// Invocations per workgroup.
    pub wg_size: u32,
    /// Invocations that share a code, a power of two.
    pub lanes: u32,
    pub form: Form,
}

/// What the Problem, the device and the buffers decide of a Config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    /// Elements per chunk.
    pub vec: u32,
    pub x: Storage,
    /// Indices have 16 bits.
    pub short: bool,
    /// Vectors are counted.
    pub count: bool,
    /// Inputs that lie in a buffer that is written; set by `prepare`.
    pub indices_writable: bool,
    pub x_writable: bool,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params {
        begin: u32,
        n: u32,
        spatial: u32,
        books: u32,
        num_codes: u32,
        cols: u32,
        first: u32,
        blocks: u32,
        grid_x: u32,
        indices_offset: u32,
        indices_s0: u32,
        indices_s1: u32,
        x_offset: u32,
        x_s0: u32,
        x_s1: u32,
        x_s2: u32,
        x_step: u32,
        sums_offset: u32,
        counts_offset: u32,
    }
}

struct Views {
    indices: View<2>,
    x: View<2>,
    sums: View<2>,
    counts: Option<View<1>>,
}

impl Problem {
    /// The gradient of this lookup: `x` is that of its output.
    pub const fn gradient(of: &vq_lookup::Problem) -> Problem {
        Problem {
            batch: of.batch,
            spatial: of.spatial,
            books: of.books,
            num_codes: of.num_codes,
            code_dim: of.code_dim,
            combine: of.combine,
            order: of.order,
            out_of_range: of.out_of_range,
            index: of.index,
            indices: of.indices,
            x: of.y,
            x_layout: of.y_layout,
            sums: 0,
            counts: None,
        }
    }

    /// The lookup whose output has the shape of `x`.
    fn lookup(&self) -> vq_lookup::Problem {
        let Problem { batch, spatial, books, num_codes, code_dim, combine, order, .. } = *self;
        vq_lookup::Problem { batch, spatial, books, num_codes, code_dim, combine, order, ..Default::default() }
    }

    /// Positions of all batches.
    pub fn positions(&self) -> usize {
        self.batch * self.spatial
    }

    /// Rows of `x`, and their length.
    pub fn x_shape(&self) -> ([usize; 2], usize) {
        self.lookup().y_shape()
    }

    fn views(&self) -> Result<Views> {
        let invalid = |arg, reason: String| Err(Error { op: OP, kind: ErrorKind::InvalidProblem { arg, reason } });
        for (arg, n) in [("books", self.books), ("num_codes", self.num_codes), ("code_dim", self.code_dim)] {
            if n == 0 || n > 1 << 30 {
                return invalid(arg, format!("{n} is not 1 to 2^30"));
            }
        }
        if self.batch.checked_mul(self.spatial).is_none_or(|n| n > u32::MAX as usize / 2) {
            return invalid("spatial", format!("{} batches of {} are more than 2^31 - 1", self.batch, self.spatial));
        }
        if self.books.checked_mul(self.code_dim).is_none_or(|n| n > u32::MAX as usize / 2) {
            return invalid("code_dim", format!("{} books of {} are more than 2^31 - 1", self.books, self.code_dim));
        }
        let (sizes, inner) = self.x_shape();
        let codes = [self.books, self.num_codes];
        let flat = |offset| Layout::<1>::at(offset).resolve(OP, "counts", [self.books * self.num_codes], 1);
        Ok(Views {
            indices: self.indices.resolve(OP, "indices", [self.positions(), self.books], 1)?,
            x: self.x_layout.resolve(OP, "x", sizes, inner)?,
            sums: Layout::<2>::at(self.sums).resolve(OP, "sums", codes, self.code_dim)?,
            counts: self.counts.map(flat).transpose()?,
        })
    }

    fn form(&self, caps: &Caps, views: &Views) -> Form {
        let aligned = views.x.multiple_of(4) && views.sums.multiple_of(4);
        let vec = if aligned && self.order == Order::ChannelsLast { 4 } else { 1 };
        Form {
            vec,
            x: Storage::of(self.x, caps),
            short: self.index == Index::U16,
            count: self.counts.is_some(),
            indices_writable: false,
            x_writable: false,
        }
    }
}

/// A row of the table: the tiles of one class of adapters.
struct Row {
    class: Class,
    wg_size: u32,
    /// Invocations per code, at most.
    lanes: u32,
}

/// On software adapters each lane has a code of its own, since an index costs all of them one load.
/// Compiled for GPUs that are not here, nothing goes to memory: 24 VGPRs on RADV (navi31, gfx1201); on NVK (Ampere, Ada)
/// 40 registers, 48 warps per SM, and six predicates kept in registers.
const TABLE: [Row; 3] = [
    Row { class: Class::Software, wg_size: 64, lanes: 1 },
    Row { class: Class::Integrated, wg_size: 64, lanes: 16 },
    Row { class: Class::Discrete, wg_size: 128, lanes: 32 },
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
    let chunks = (problem.code_dim as u32 / form.vec).max(1).next_power_of_two();
    let mut config = Config { wg_size: row.wg_size.min(most), lanes: row.lanes.min(chunks), form };
    // Where the driver cuts long loops short: more lanes, rather than many runs over few positions each.
    while config.lanes < config.wg_size
        && config.run(caps, problem).map_or(true, |run| run < problem.positions().min(256))
    {
        config.lanes *= 2;
    }
    Ok(Some(config).into_iter().filter(|config| config.fits(caps).is_ok()).collect())
}

/// `wg64 lanes8 f32 vec4 count`: what differs, in a line.
impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config { wg_size, lanes, form } = self;
        let storage = format!("{:?}", form.x).to_lowercase();
        write!(f, "wg{wg_size} lanes{lanes} {storage} vec{}", form.vec)?;
        write_flags(
            f,
            &[
                ("u16", form.short),
                ("count", form.count),
                ("indices_writable", form.indices_writable),
                ("x_writable", form.x_writable),
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
        let Config { wg_size, lanes, .. } = *self;
        if wg_size == 0 || wg_size > most {
            return Err(Misfit::old("wg_size must be at least 1 and at most", wg_size, most));
        }
        if lanes == 0 || !wg_size.is_multiple_of(lanes) {
            return Err(Misfit::old("lanes must divide the workgroup", lanes, wg_size));
        }
        Ok(())
    }

    /// Positions of one run: all, or as many as the driver lets an invocation loop over, should all be of one code.
    fn run(&self, caps: &Caps, problem: &Problem) -> Result<usize, Misfit> {
        let chunks = (problem.code_dim as u64 / u64::from(self.form.vec)).div_ceil(self.lanes.into());
        // To begin with the sums, then of each position its quad, itself, and its chunks.
        let rounds = |positions: u64| chunks + positions * (2 + chunks);
        caps.check_rounds(rounds(4))?;
        let limit = caps
            .loop_rounds()
            .map_or(usize::MAX, |limit| ((u64::from(limit) - chunks) / (2 + chunks) / 4 * 4) as usize);
        Ok(limit.min(problem.positions()).max(1).next_multiple_of(4))
    }

    /// The pipeline that it names.
    pub fn pass(&self) -> Pass {
        Pass { config: *self }
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

const INDICES: u32 = 0;
const X: u32 = 1;
const SUMS: u32 = 2;
const COUNTS: u32 = 3;

impl Pipeline for Pass {
    fn shader(&self) -> Shader {
        let Config { wg_size, lanes, form } = self.config;
        let (storage, writable) = (form.x, form.x_writable);
        let x = Tensor { binding: X, name: "x", storage, writable, output: false, edge: false };
        let storage = Storage::F32;
        let sums = Tensor { binding: SUMS, name: "sums", storage, writable: true, output: true, edge: false };
        let shader = Shader::new("vq_scatter", wg_size, 0, form.vec)
            .params::<Params>()
            .constant("LANES", lanes)
            .flag("COUNT", form.count)
            .buffer(INDICES, "indices", "u32", form.indices_writable)
            .tensor(x)
            .tensor(sums)
            .import(if form.short { "vq_index16" } else { "vq_index32" })
            .import(if form.vec == 4 { "vq_part" } else { "vq_part_step" });
        match form.count {
            true => shader.buffer(COUNTS, "counts", "u32", true).import("vq_counts"),
            false => shader.import("vq_counts_none"),
        }
    }
}

/// Which memory.
#[derive(Debug, Clone, Copy)]
pub struct Buffers<'a> {
    indices: Binding<'a>,
    x: Binding<'a>,
    sums: Binding<'a>,
    counts: Option<Binding<'a>>,
}

impl<'a> Buffers<'a> {
    pub fn new(indices: impl Into<Binding<'a>>, x: impl Into<Binding<'a>>, sums: impl Into<Binding<'a>>) -> Self {
        Buffers { indices: indices.into(), x: x.into(), sums: sums.into(), counts: None }
    }

    /// The counts that the Problem asks for.
    pub fn counts(mut self, counts: impl Into<Binding<'a>>) -> Self {
        self.counts = Some(counts.into());
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
    given(OP, "counts", problem.counts.is_some(), buffers.counts.is_some())?;
    let mut config = match config {
        Some(config) => Config { form: problem.form(&caps, &views), ..*config },
        None => choose(&caps, problem)?,
    };
    config.fits(&caps).map_err(|misfit| misfit.error(OP))?;

    let mut args = vec![
        Arg::new(INDICES, "indices", buffers.indices, problem.index.bits(), &views.indices, false),
        Arg::new(X, "x", buffers.x, 8 * problem.x.bytes(), &views.x, false),
        Arg::new(SUMS, "sums", buffers.sums, 32, &views.sums, true),
    ];
    if let (Some(view), Some(binding)) = (&views.counts, buffers.counts) {
        args.push(Arg::new(COUNTS, "counts", binding, 32, view, true));
    }
    check_all(OP, &caps, &args, |_, _| false)?;
    config.form.indices_writable = read_write(&args, INDICES);
    config.form.x_writable = read_write(&args, X);

    let Problem { books, num_codes, code_dim, .. } = *problem;
    let blocks = (num_codes as u64).div_ceil((config.wg_size / config.lanes).into());
    let grid = fold(OP, &caps, books as u64 * blocks)?;
    let (x_s1, x_step) = match problem.order {
        Order::ChannelsLast => (views.x.stride(1), 1),
        Order::ChannelsFirst => (1, views.x.stride(1)),
    };
    let n = problem.positions();
    let run = config.run(&caps, problem).map_err(|misfit| misfit.error(OP))?;
    let params = |begin: usize| Params {
        begin: begin as u32,
        n: n.min(begin + run) as u32,
        spatial: problem.spatial as u32,
        books: books as u32,
        num_codes: num_codes as u32,
        cols: code_dim as u32,
        first: u32::from(problem.out_of_range == OutOfRange::First),
        blocks: blocks as u32,
        grid_x: grid[0],
        indices_offset: views.indices.offset as u32,
        indices_s0: views.indices.stride(0),
        indices_s1: views.indices.stride(1),
        x_offset: views.x.offset as u32,
        x_s0: views.x.stride(0),
        x_s1,
        x_s2: if problem.combine == Combine::Concat { code_dim as u32 * x_step } else { 0 },
        x_step,
        sums_offset: problem.sums as u32,
        counts_offset: problem.counts.unwrap_or(0) as u32,
    };
    let pass = kernels.pipeline(OP, &config.pass())?;
    let runs = (0..n.max(1)).step_by(run);
    let runs = runs.map(|begin| Dispatch::new(OP, kernels, &args, &params(begin), vec![(pass.clone(), grid)]));
    Ok(Dispatch::sequence(OP, runs))
}
