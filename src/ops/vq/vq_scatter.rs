//! Vectors summed by code: `sums[indices[i]] += x[i]`, and how many there are of each code. The gradient of
//! [`vq_lookup`](crate::vq_lookup) with respect to its codebook, the statistics of an EMA codebook, and the
//! update of k-means. Sums and counts are written, or added to what is there (`add`).
//!
//! No float atomics: positions are sorted by code ([`counting_sort`]), and those of a code are added up
//! in order, so that the same input gives the same bits. Each index is read once per pass of the sort and step, each vector once. A
//! code of many positions is summed in blocks, and these in order. Vectors that take more than a binding holds are taken in several runs,
//! by batches or positions.

use crate::args::Memory;
use crate::counting_sort;
use crate::dispatch::Step;
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
        /// Where the vector of an index that is not in the book goes: nowhere, or to a code.
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
        /// Sums and counts are added to what is there: the gradients of micro-batches, and of an embedding that is tied to a head.
        pub add: bool = false,
    }
}

config! {
    /// How it is computed.
    pub struct Config {
        /// How positions are sorted.
        pub sort: counting_sort::Config,
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// Invocations that share a code, a divisor of `wg_size`.
        pub lanes: u32,
        /// Chunks of a code that an invocation sums at a time.
        pub turns: u32,
        /// Codes that they take one after the other.
        pub each: u32,
        /// Vectors that are loaded ahead, 0 for none: a multiple of `lanes`, which are then `wg_size`.
        pub ahead: u32,
        /// Four positions of a code are taken at a time: not where codes have few.
        pub fours: bool,
        /// Two to the power of it positions of a code are summed one after the other.
        pub block_bits: u32,
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
    /// There are several books.
    books: bool,
    /// Batches do not follow each other as positions do.
    batches: bool,
    /// Vectors are counted.
    count: bool,
    /// Chunks are a multiple of what is summed at a time.
    even: bool,
    /// Chunks in a line of a CPU's cache.
    line: u32,
    /// Runs may be longer than a block.
    blocks: bool,
}

crate::params! {
    /// What one run tells the shaders.
    pub struct Params;
    fn of(p: &Problem, views: &Views, config: &Config, add: bool, grid: [u32; 3]) {
        x: Strides = views.batch_position_book,
        n: u32 = p.positions() as u32,
        total: u32 = views.total,
        spatial: u32 = p.spatial as u32,
        books: u32 = p.books as u32,
        num_codes: u32 = p.num_codes as u32,
        codes: u32 = views.codes,
        cols: u32 = p.code_dim as u32,
        items: u32 = views.codes + views.joins(config),
        joins: u32 = views.joins(config),
        each: u32 = config.each,
        never: u32 = 0,
        block_bits: u32 = config.block_bits,
        order_offset: u32 = 0,
        offsets_offset: u32 = views.offsets_offset() as u32,
        partial_offset: u32 = views.partial_offset() as u32,
        // Sums and counts go on from what there is.
        add: u32 = add.into(),
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
    sort: counting_sort::Views,
    /// Positions and codes of all books.
    total: u32,
    codes: u32,
    /// Where `x` begins, and its strides of batch, position and book.
    batch_position_book: Strides,
    /// The stride of an element of `x`.
    x_step: u32,
    /// Batches do not follow each other as positions do.
    batches: bool,
    /// Elements per chunk.
    vec: u32,
}

impl Views {
    /// Blocks in which a run may be that began before.
    fn joins(&self, config: &Config) -> u32 {
        self.total.saturating_sub(1) >> config.block_bits.min(31)
    }

    /// Words of scratch before the offsets of runs: the sorted positions, up to where a binding may begin.
    fn offsets_offset(&self) -> u64 {
        padded(self.total, counting_sort::BINDINGS / 4)
    }

    /// Words before the sums of blocks.
    fn partial_offset(&self) -> u64 {
        padded(self.offsets_offset() + u64::from(self.codes) + 1, counting_sort::BINDINGS / 4)
    }

    /// Words of all that.
    fn words(&self, config: &Config, cols: usize) -> u64 {
        product!(self.joins(config), cols).saturating_add(self.partial_offset())
    }
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

    /// The sort of its indices.
    fn sort(&self) -> counting_sort::Problem {
        counting_sort::Problem {
            n: self.positions(),
            segments: self.books,
            num_keys: self.num_codes,
            index: self.index,
            keys: self.indices,
            out_of_range: self.out_of_range,
            ..Default::default()
        }
    }

    /// The step that sums, and where runs may be longer than a block the one that adds these up.
    fn passes(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Pass<Config, Form>> {
        let form = Form {
            vec: views.vec,
            x: Storage::held(self.x, config.native_f16),
            books: self.books > 1,
            batches: views.batches,
            count: self.counts.is_some(),
            even: self.chunks(views).is_multiple_of(product!(config.lanes, config.turns)),
            line: if config.ahead > 0 { self.line(views) } else { 1 },
            blocks: views.joins(config) > 0,
        };
        // What Params say makes no pipeline.
        let config = Config { sort: counting_sort::Config::NONE, block_bits: 0, each: 0, ..*config };
        let sum = Pass { stem: "vq_scatter_sum", config, form, writable };
        let joined = Form {
            x: Storage::F32,
            books: false,
            batches: false,
            count: false,
            even: false,
            line: 1,
            blocks: true,
            ..form
        };
        let config = Config { turns: 0, ahead: 0, fours: false, native_f16: false, ..config };
        let join = Pass { stem: "vq_scatter_join", config, form: joined, writable };
        vec![sum, join]
    }

    /// Chunks of a code.
    fn chunks(&self, views: &Views) -> u64 {
        self.code_dim as u64 / u64::from(views.vec)
    }

    /// Chunks of `x` in a line of a CPU's cache.
    fn line(&self, views: &Views) -> u32 {
        LINE / (self.x.bytes() as u32 * views.vec)
    }

    /// Rounds of the steps that sum and join.
    fn rounds(&self, views: &Views, config: &Config) -> [Rounds; 2] {
        let chunks = |turns: u32| self.chunks(views).div_ceil(product!(config.lanes, turns));
        let (found, turns) = (Rounds::plain(32u32), Rounds::plain(config.turns));
        // By fours, and one by one what is left where a window of vectors ends.
        let positions = 1u32 << config.block_bits;
        let windows = if config.ahead > 0 { positions.div_ceil(config.ahead) + 1 } else { 1 };
        let lines = Rounds::plain(product!(config.lanes, config.turns).div_ceil(self.line(views).into()));
        let seen = Rounds::nest(config.ahead / config.lanes, lines);
        let each = (positions / windows).max(1);
        let ones = if config.fours { each.min(3) } else { each + 1 };
        let window = Rounds::nest(each / 4 + 1, turns) + Rounds::nest(ones, turns) + seen;
        let item = found + Rounds::nest(chunks(config.turns), Rounds::nest(windows, window) + turns.times(3));
        let joined = Rounds::nest(chunks(1), Rounds::plain(views.joins(config)));
        let ahead = if config.fours { Rounds::default() } else { Rounds::nest(8 * config.ahead / config.lanes, lines) };
        [ahead + Rounds::nest(config.each, item), found + joined]
    }

    /// The first half of the batches or positions, and the second, with what moves of `x` and of the indices; nothing where it has
    /// but one, or where halving does not help.
    fn halves<'a>(&self, views: &Views, caps: &Caps, buffers: &Buffers<'a>) -> Option<[(Problem, Buffers<'a>); 2]> {
        let [batch, position] = match self.order {
            Order::ChannelsLast => views.x.strides,
            Order::ChannelsFirst => [views.x.strides[0], 0],
        };
        let (count, stride, positions) = match self.order {
            _ if self.batch > 1 => (self.batch, batch, self.spatial),
            Order::ChannelsLast if self.spatial > 1 => (self.spatial, position, 1),
            _ => return None,
        };
        let align = u64::from(caps.limits.min_storage_buffer_offset_alignment.max(4));
        let part = |from: usize, len: usize| {
            // A binding starts as late as the device allows, the layout at what is left.
            let moved = |layout: usize, by: usize, bits: u64, binding: Binding<'a>| {
                let first = layout + by;
                let bytes = product!(first, bits) / 8 / align * align;
                (first - (bytes * 8 / bits) as usize, binding.after(bytes))
            };
            let bits = 8 * self.x.bytes();
            let (x, x_binding) = moved(views.x.offset, from * stride, bits, buffers.x);
            let by = from * positions * views.indices.strides[0];
            let (indices, indices_binding) = moved(views.indices.offset, by, self.index.bits(), buffers.indices);
            let mut problem = Problem {
                x_layout: Layout::strided(x, views.x.strides),
                indices: Layout::strided(indices, views.indices.strides),
                ..*self
            };
            *(if self.batch > 1 { &mut problem.batch } else { &mut problem.spatial }) = len;
            (problem, Buffers { x: x_binding, indices: indices_binding, ..*buffers })
        };
        let half = count.div_ceil(2);
        Some([part(0, half), part(half, count - half)])
    }

    /// The parts whose vectors and indices a binding holds, in order; the whole, where there are none.
    fn parts<'a>(&self, views: &Views, caps: &Caps, buffers: &Buffers<'a>) -> Option<Vec<(Problem, Buffers<'a>)>> {
        let limit = caps.binding_bytes();
        let large = |views: &Views, problem: &Problem| {
            views.x.of(problem.x).bytes().max(views.indices.of(problem.index).bytes())
        };
        if large(views, self) <= limit {
            return Some(vec![(*self, *buffers)]);
        }
        let mut all = Vec::new();
        for (part, moved) in self.halves(views, caps, buffers)? {
            let resolved = part.resolve().ok()?;
            // What lies between the rows of one does not shrink.
            if large(&resolved, &part) >= large(views, self) {
                return None;
            }
            all.extend(part.parts(&resolved, caps, &moved)?);
        }
        Some(all)
    }

    /// The steps of one part; `add` where another one went before.
    fn run(
        &self,
        views: &Views,
        config: &Config,
        kernels: &Kernels,
        buffers: &Buffers,
        scratch: &Memory,
        add: bool,
    ) -> Checked<Vec<Step>> {
        let mut args = Args::new(kernels);
        let words = views.words(config, self.code_dim);
        let sorted = scratch.part(0, product!(words, 4u32));
        args.read(X, "x", buffers.x, views.x.of(self.x))?;
        args.write(SUMS, "sums", buffers.sums, views.sums.of(WORD))?;
        args.write(COUNTS, "counts", buffers.counts, views.counts.map(|counts| counts.of(WORD)))?;
        args.write(SCRATCH, "scratch", sorted, Reach::to(words, WORD))?;
        args.check()?;

        let at = |words: u64| scratch.part(product!(words, 4u32), u64::MAX);
        let (order, offsets, rest) = (at(0), at(views.offsets_offset()), at(self.sorted_words(views, config)));
        let (order, offsets) =
            (order.part(0, 4 * views.offsets_offset()), offsets.part(0, 4 * (u64::from(views.codes) + 1)));
        let [order, offsets, rest] = [&order, &offsets, &rest].map(Binding::from);
        let sorting = counting_sort::Buffers::new(buffers.indices, order, offsets).scratch(rest);
        let mut steps = self.sort().bind(&views.sort, &config.sort, kernels, &sorting)?.into_steps();

        let groups = u64::from(config.wg_size / config.lanes);
        let joins = u64::from(views.joins(config));
        let items = (u64::from(views.codes) + joins).div_ceil(config.each.into());
        let passes = self.passes(views, config, args.writable()).into_iter();
        for (pass, items) in passes.zip([items, joins]) {
            if items > 0 {
                let grid = args.fold(items.div_ceil(groups))?;
                steps.push(args.step(&pass, &Params::of(self, views, config, add, grid), grid)?);
            }
        }
        Ok(steps)
    }

    /// Words of scratch before that of the sort.
    fn sorted_words(&self, views: &Views, config: &Config) -> u64 {
        let words = views.words(config, self.code_dim);
        padded(words, counting_sort::BINDINGS / 4)
    }
}

/// The tiles of a class of adapters.
struct Tiles {
    wg_size: u32,
    /// Invocations that share a code, at most.
    lanes: u32,
    /// Chunks at a time, at most.
    turns: u32,
    block_bits: u32,
}

/// Measured: Software, lavapipe of Mesa 26.2 on 2 cores, where a workgroup of one subgroup has a code, and each index is
/// followed once. The others are not measured.
const fn tiles(class: Class) -> Tiles {
    match class {
        Class::Software => Tiles { wg_size: 64, lanes: 8, turns: 4, block_bits: 12 },
        Class::Integrated => Tiles { wg_size: 64, lanes: 16, turns: 1, block_bits: 8 },
        Class::Discrete => Tiles { wg_size: 128, lanes: 32, turns: 1, block_bits: 8 },
    }
}

/// Codes of a workgroup of a software adapter, at most, and workgroups of it at least.
const EACH: u32 = 32;
/// Vectors that a software adapter loads ahead. By itself the step that sums takes a third of the time with it on lavapipe of Mesa
/// 26.2 (65536 vectors of 64, from memory): 7.3, 3.3, 2.8, 2.5, 2.5 ms with 0, 8, 16, 32, 64.
const AHEAD: u32 = 32;
/// Positions per code below which a software adapter takes them one by one: it goes through a loop once where it has no turn.
const FEW: u32 = 6;
/// Bytes of a line of a CPU's cache.
const LINE: u32 = 64;
const LEAST_WORKGROUPS: u32 = 64;

slots!(INDICES, X, SUMS, COUNTS, SCRATCH);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let form = self.form;
        let shader = self
            .begin(self.config.wg_size, 0, form.vec)
            .params::<Params>()
            .constant("LANES", self.config.lanes)
            .writes(SCRATCH, "scratch", "u32")
            .import(if form.vec == 4 { "vq_scatter_partial4" } else { "vq_scatter_partial1" })
            .output(SUMS, "sums", Storage::F32, false);
        if self.stem == "vq_scatter_join" {
            return shader;
        }
        shader
            .constant("TURNS", self.config.turns)
            .constant("AHEAD", self.config.ahead)
            .constant("LINE", form.line)
            .flag("FOURS", self.config.fours)
            .flag("BLOCKS", form.blocks)
            .flag("EVEN", form.even)
            .flag("COUNT", form.count)
            .flag("BOOKS", form.books)
            .flag("BATCHES", form.batches)
            .input(X, "x", form.x)
            .import(if form.vec == 4 { "vq_part" } else { "vq_part_step" })
            .writes_if(form.count, COUNTS, "counts", "u32", "vq_counts")
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `indices` and `x` are read, `sums` is written, or read and written.
        indices, x, sums;
        /// The counts that the Problem asks for.
        counts,
        /// Memory for what stands between the steps, where the caller brings it.
        scratch,
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
        // Of all batches at once, where they follow each other.
        let batches = self.batch > 1 && self.spatial > 1 && u64::from(batch) != product!(self.spatial, position);
        let position = if self.spatial <= 1 { batch } else { position };
        let indices = self.indices.view("indices", [self.positions(), self.books], 1)?;
        let sort = self.sort().resolve().map_err(|error| match error {
            ErrorKind::InvalidProblem { arg, reason } => ErrorKind::InvalidProblem { arg: of_sort(arg), reason },
            error => error,
        })?;
        Ok(Views {
            batch_position_book: [offset, batch, position, book],
            x_step,
            indices,
            x,
            sums,
            counts: self.counts.map(|offset| Layout::at(offset).view("counts", codes, 1)).transpose()?,
            total: product!(self.books, self.positions()) as u32,
            codes: product!(self.books, self.num_codes) as u32,
            sort,
            batches,
            vec: if aligned { 4 } else { 1 },
        })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let Tiles { wg_size, lanes, turns, block_bits } = tiles(caps.class());
        let chunks = (self.chunks(views) as u32).max(1);
        let native_f16 = caps.prefers_native_f16(self.x == Dtype::F16);
        let wg_size = wg_size.min(caps.most_invocations());
        let fours = caps.class() != Class::Software || views.total / views.codes >= FEW;
        let mut shared = vec![(wg_size, lanes.min(chunks.next_power_of_two()).min(wg_size), 1, 0)];
        if caps.class() == Class::Software {
            let width = caps.trusted_subgroup_size().unwrap_or(8).clamp(1, wg_size);
            let each = (views.codes / LEAST_WORKGROUPS).clamp(1, EACH);
            // Most invocations must have a chunk.
            let ahead = if self.order == Order::ChannelsLast { AHEAD.next_multiple_of(width) } else { 0 };
            shared.insert(if 2 * chunks > width { 0 } else { 1 }, (width, width, each, ahead));
        }
        let mut found = Vec::new();
        for sort in self.sort().list(&views.sort, caps) {
            // Blocks are about as many as they are long, so that no sum of a code is much longer than another.
            let bits = (u64::from(views.total).max(1).ilog2() / 2).max(block_bits);
            for (wg_size, lanes, each, ahead) in shared.iter().copied() {
                let turns = chunks.div_ceil(lanes).min(turns);
                let config = Config { sort, wg_size, lanes, turns, each, ahead, fours, block_bits: bits, native_f16 };
                found.push(config);
                // Where the driver cuts long loops short, shorter blocks of the first.
                if caps.loop_rounds().is_some() && found.len() == 1 {
                    let all =
                        [9, 6, 4].into_iter().map(|block_bits| Config { each: 1, ahead: 0, block_bits, ..config });
                    found.extend(all.clone());
                    found.extend(all.map(|config| Config { lanes: wg_size, ..config }));
                }
            }
        }
        found
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let Config { sort, wg_size, lanes, turns, each, ahead, block_bits, native_f16, .. } = *config;
        self.sort().check(&views.sort, caps, &sort)?;
        caps.check_wg_size(wg_size)?;
        caps.check_native_f16(native_f16, self.x == Dtype::F16)?;
        Misfit::unless(lanes > 0 && wg_size.is_multiple_of(lanes), "lanes must divide wg_size", lanes)?;
        Misfit::unless((1..=16).contains(&turns), "turns must be 1 to 16", turns)?;
        let whole = ahead == 0 || (lanes == wg_size && ahead.is_multiple_of(lanes) && ahead <= 1 << 10);
        Misfit::unless(whole, "ahead must be a multiple of lanes, which are wg_size, up to 1024", ahead)?;
        Misfit::unless((1..=1 << 16).contains(&each), "each must be 1 to 65536", each)?;
        Misfit::unless(block_bits <= 30, "block_bits must be at most 30", block_bits)?;
        let words = "words of scratch, which shaders must count";
        Misfit::at_most(words, views.words(config, self.code_dim), u64::from(u32::MAX))?;
        self.rounds(views, config).into_iter().try_for_each(|rounds| caps.check_rounds(rounds))
    }

    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        let sorted = product!(self.sorted_words(views, config), 4u32);
        sorted.saturating_add(self.sort().scratch(&views.sort, &config.sort))
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let mut all = self.sort().compose(&views.sort, &config.sort, writable);
        let passes = self.passes(views, config, writable);
        let steps = if views.joins(config) > 0 { 2 } else { 1 };
        all.extend(passes[..steps].iter().map(Pipeline::shader));
        all
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(INDICES, "indices", buffers.indices, views.indices.of(self.index))?;
        args.read(X, "x", buffers.x, views.x.of(self.x))?;
        args.write(SUMS, "sums", buffers.sums, views.sums.of(WORD))?;
        args.write(COUNTS, "counts", buffers.counts, views.counts.map(|counts| counts.of(WORD)))?;
        let scratch = args.scratch_memory(buffers.scratch, self.scratch(views, config))?;
        let bytes = self.scratch(views, config);
        args.write(SCRATCH, "scratch", scratch.clone(), Reach::to(bytes / 4, WORD))?;
        args.check_apart()?;
        let Some(parts) = self.parts(views, &args.caps, buffers) else {
            // By which argument.
            args.check()?;
            return Err(ErrorKind::invalid("x", "no part of it fits in a binding"));
        };
        if let [_] = parts[..] {
            let steps = self.run(views, config, kernels, buffers, &scratch, self.add)?;
            return Ok(Dispatch::of(steps));
        }
        let mut steps = Vec::new();
        for (i, (part, moved)) in parts.iter().enumerate() {
            let views = part.resolve()?;
            steps.extend(part.run(&views, config, kernels, moved, &scratch, self.add || i > 0)?);
        }
        Ok(Dispatch::of(steps))
    }
}

/// What a field of the sort is here.
fn of_sort(arg: &'static str) -> &'static str {
    match arg {
        "n" => "spatial",
        "num_keys" => "num_codes",
        arg => arg,
    }
}
