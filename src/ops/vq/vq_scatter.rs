//! Vectors summed by code: `sums[indices[i]] += x[i]`, and how many there are of each code. The gradient of
//! [`vq_lookup`](crate::vq_lookup) with respect to its codebook, the statistics of an EMA codebook, and the
//! update of k-means.
//!
//! No float atomics: the invocations of a code read all indices of its book and add up what is theirs in
//! order, so that the same input gives the same bits. That is `num_codes * positions` comparisons, a small part
//! of what finding the nearest codes takes. Where a driver cuts long loops short (old llvmpipe), it takes several runs
//! over the positions, one after the other.

use std::ops::Range;

use crate::ops::prelude::*;
use crate::vq_lookup::{self, Combine, Index, Order, OutOfRange};

defaults! {
    /// What is computed; sums are f32 `[books, num_codes, code_dim]`, contiguous.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Problem {
        /// Batches.
        pub batch: usize = 1,
        /// Positions of one batch.
        pub spatial: usize = 1,
        /// Books, each with codes of its own.
        pub books: usize = 1,
        /// Codes of each book.
        pub num_codes: usize = 1,
        /// Elements of a code.
        pub code_dim: usize = 1,
        /// Whether each book has channels of its own, or all have the same.
        pub combine: Combine = Combine::Concat,
        /// Where the channels of `x` stand.
        pub order: Order = Order::ChannelsLast,
        /// Where the vector of an index that is not in the book goes: nowhere, or to code 0.
        pub out_of_range: OutOfRange = OutOfRange::Zero,
        /// The type of indices.
        pub index: Index = Index::U32,
        /// Strides of position (over all batches) and book.
        pub indices: Layout<2> = Layout::default(),
        /// Dtype of the vectors.
        pub x: Dtype = Dtype::F32,
        /// Strides of batch and position, or of batch and channel where channels come first.
        pub x_layout: Layout<2> = Layout::default(),
        /// The first element of the sums in their binding.
        pub sums: usize = 0,
        /// The first element of its binding where the number of vectors of each code is written, u32 `[books, num_codes]`.
        pub counts: Option<usize> = None,
    }
}

config! {
    /// How it is computed.
    pub struct Config {
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// Invocations that share a code, a divisor of `wg_size`.
        pub lanes: u32,
        /// f16 vectors are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

/// What follows from the Problem and its views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Elements per chunk.
    vec: u32,
    x: Storage,
    /// Indices have 16 bits.
    short: bool,
    /// Vectors are counted.
    count: bool,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, run: Range<usize>, blocks: u64, grid: [u32; 3]) {
        indices: Strides = views.indices.params(),
        x: Strides = views.batch_position_book,
        begin: u32 = run.start as u32,
        n: u32 = run.end as u32,
        spatial: u32 = p.spatial as u32,
        books: u32 = p.books as u32,
        num_codes: u32 = p.num_codes as u32,
        cols: u32 = p.code_dim as u32,
        out_of_range: u32 = p.out_of_range as u32,
        blocks: u32 = blocks as u32,
        grid_x: u32 = grid[0],
        x_step: u32 = views.x_step,
        sums_offset: u32 = p.sums as u32,
        counts_offset: u32 = p.counts.unwrap_or(0) as u32,
    }
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    indices: View<2>,
    x: View<2>,
    sums: View<2>,
    counts: Option<View<2>>,
    /// Where `x` begins, and its strides of batch, position and book.
    batch_position_book: Strides,
    /// The stride of an element of `x`.
    x_step: u32,
    /// Elements per chunk.
    vec: u32,
}

impl Problem {
    /// The gradient of this lookup: `x` is that of its output.
    pub fn gradient(of: &vq_lookup::Problem) -> Problem {
        let vq_lookup::Problem { batch, spatial, books, num_codes, code_dim, combine, order, .. } = *of;
        let vq_lookup::Problem { out_of_range, index, indices, y, y_layout, .. } = *of;
        let shape = Problem { batch, spatial, books, num_codes, code_dim, combine, order, ..Default::default() };
        Problem { out_of_range, index, indices, x: y, x_layout: y_layout, ..shape }
    }

    /// The lookup whose output has the shape of `x`.
    fn lookup(&self) -> vq_lookup::Problem {
        let Problem { batch, spatial, books, num_codes, code_dim, combine, order, .. } = *self;
        vq_lookup::Problem { batch, spatial, books, num_codes, code_dim, combine, order, ..Default::default() }
    }

    /// Positions of all batches.
    pub fn positions(&self) -> usize {
        self.batch.saturating_mul(self.spatial)
    }

    /// Rows of `x`, and their length.
    pub fn x_shape(&self) -> ([usize; 2], usize) {
        self.lookup().y_shape()
    }

    fn pass(&self, views: &Views, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let form = Form {
            vec: views.vec,
            x: Storage::held(self.x, config.native_f16),
            short: self.index == Index::U16,
            count: self.counts.is_some(),
        };
        Pass { stem: "vq_scatter", config: *config, form, writable }
    }

    /// Positions of one run: all, or as many as the driver lets an invocation loop over, should all be of one code.
    fn run(&self, views: &Views, caps: &Caps, lanes: u32) -> Result<usize, Misfit> {
        let chunks = Rounds::plain((self.code_dim as u64 / u64::from(views.vec)).div_ceil(lanes.into()));
        // The sums begin, then go on with each quad of positions.
        let rounds = |quads: u64| chunks + Rounds::nest(quads, Rounds::nest(4u32, chunks));
        caps.check_rounds(rounds(1))?;
        let [none, one] = [0, 1].map(|quads| rounds(quads).count());
        let quads = caps.loop_rounds().map_or(u64::MAX, |limit| (u64::from(limit) - none) / (one - none));
        Ok((self.positions() as u64).div_ceil(4).min(quads).max(1) as usize * 4)
    }
}

/// The tiles of a class of adapters. On software adapters each invocation has a code of its own, since an index costs all of
/// them one load.
/// Compiled for GPUs that are not here, nothing goes to memory: 24 VGPRs on RADV (navi31, gfx1201); on NVK (Ampere, Ada)
/// 40 registers, 48 warps per SM, and six predicates kept in registers.
struct Tiles {
    wg_size: u32,
    /// Invocations that share a code, at most.
    lanes: u32,
}

const fn tiles(class: Class) -> Tiles {
    match class {
        Class::Software => Tiles { wg_size: 64, lanes: 1 },
        Class::Integrated => Tiles { wg_size: 64, lanes: 16 },
        Class::Discrete => Tiles { wg_size: 128, lanes: 32 },
    }
}

/// Runs over the positions, one after the other.
const MOST_RUNS: u32 = 1 << 16;

slots!(INDICES, X, SUMS, COUNTS);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let form = self.form;
        self.begin(self.config.wg_size, 0, form.vec)
            .params::<Params>()
            .constant("LANES", self.config.lanes)
            .flag("COUNT", form.count)
            .code_indices(INDICES, form.short)
            .input(X, "x", form.x)
            .output(SUMS, "sums", Storage::F32, false)
            .import(if form.vec == 4 { "vq_part" } else { "vq_part_step" })
            .writes_if(form.count, COUNTS, "counts", "u32", "vq_counts")
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `indices` and `x` are read, `sums` is written.
        indices, x, sums;
        /// The counts that the Problem asks for.
        counts,
    }
}

functions!("vq_scatter");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        self.lookup().check_sizes()?;
        let (sizes, inner) = self.x_shape();
        let codes = [self.books, self.num_codes];
        let x = self.x_layout.view("x", sizes, inner)?;
        let sums = Layout::at(self.sums).view("sums", codes, self.code_dim)?;
        let aligned = x.multiple_of(4) && sums.multiple_of(4) && self.order == Order::ChannelsLast;
        let [offset, _, batch, next] = x.params();
        let (position, x_step) = if self.order == Order::ChannelsLast { (next, 1) } else { (1, next) };
        let book = if self.combine == Combine::Concat { x_step.wrapping_mul(self.code_dim as u32) } else { 0 };
        Ok(Views {
            batch_position_book: [offset, batch, position, book],
            x_step,
            indices: self.indices.view("indices", [self.positions(), self.books], 1)?,
            x,
            sums,
            vec: if aligned { 4 } else { 1 },
            counts: self.counts.map(|offset| Layout::at(offset).view("counts", codes, 1)).transpose()?,
        })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let Tiles { wg_size, lanes } = tiles(caps.class());
        let chunks = (self.code_dim as u32 / views.vec).max(1).next_power_of_two();
        let (wg_size, mut lanes) = (wg_size.min(caps.most_invocations()), lanes.min(chunks));
        // Where the driver cuts long loops short: more lanes, rather than many runs over few positions each.
        let few = |lanes| self.run(views, caps, lanes).map_or(true, |run| run < self.positions().min(256));
        while lanes < wg_size && few(lanes) {
            lanes *= 2;
        }
        vec![Config { wg_size, lanes, native_f16: caps.prefers_native_f16(self.x == Dtype::F16) }]
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let Config { wg_size, lanes, native_f16 } = *config;
        caps.check_wg_size(wg_size)?;
        caps.check_native_f16(native_f16, self.x == Dtype::F16)?;
        Misfit::unless(lanes > 0 && wg_size.is_multiple_of(lanes), "lanes must divide wg_size", lanes)?;
        let runs = self.positions().div_ceil(self.run(views, caps, lanes)?);
        Misfit::at_most("runs over the positions, each a step", runs as u64, MOST_RUNS)
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![self.pass(views, config, writable).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(INDICES, "indices", buffers.indices, views.indices.of(self.index))?;
        args.read(X, "x", buffers.x, views.x.of(self.x))?;
        args.write(SUMS, "sums", buffers.sums, views.sums.of(WORD))?;
        args.write(COUNTS, "counts", buffers.counts, views.counts.map(|counts| counts.of(WORD)))?;
        args.check()?;

        let blocks = (self.num_codes as u64).div_ceil((config.wg_size / config.lanes).into());
        let grid = args.fold(product!(self.books, blocks))?;
        let n = self.positions();
        let run = self.run(views, &args.caps, config.lanes)?;
        let pass = self.pass(views, config, args.writable());
        let runs = (0..n.max(1)).step_by(run).map(|begin| {
            let params = Params::of(self, views, begin..n.min(begin + run), blocks, grid);
            args.step(&pass, &params, grid)
        });
        Ok(Dispatch::of(runs.collect::<Checked<_>>()?))
    }
}
