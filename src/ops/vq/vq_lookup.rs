//! Vectors of codes: `y[i] = codebook[indices[i]]`, of one book or of several, side by side (product
//! quantisation, Jégou et al., 2011) or added up (residual quantisation). Also the embedding of tokens; the
//! gradient is [`vq_scatter`](crate::vq_scatter).
//!
//! A book may be a matrix of packed weights: the rows that indices name are decoded.
//!
//! Elements are moved bit by bit, unless books are added up (f32, rounded once) or the dtype changes. An
//! index that is not in the book never reads outside of it: it gives zeros, or the code that [`OutOfRange`] tells, and can be counted.

use super::index::check_books;
use crate::ops::pointwise::{Clear, clear};
use crate::ops::prelude::*;
use crate::weights::Format;

pub use super::index::{Combine, Index, Order, OutOfRange};

defaults! {
    /// What is computed. A position has one index per book.
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
        /// What several books make.
        pub combine: Combine = Combine::Concat,
        /// Where the channels of `y` stand.
        pub order: Order = Order::ChannelsLast,
        /// What an index that is not in the book gives.
        pub out_of_range: OutOfRange = OutOfRange::Zero,
        /// The type of indices.
        pub index: Index = Index::U32,
        /// Strides of position (over all batches) and book.
        pub indices: Layout<2> = Layout::default(),
        /// Dtype of the codebook; of no meaning to packed weights.
        pub x: Dtype = Dtype::F32,
        /// The codebook is packed weights `[num_codes, code_dim]`: one book, channels last, without a layout of its own. Its
        /// scales are [`Buffers::scales`].
        pub format: Option<Format> = None,
        /// Strides of book and code; a book stride of 0 shares one book.
        pub codebook: Layout<2> = Layout::default(),
        /// Dtype of `y`.
        pub y: Dtype = Dtype::F32,
        /// Strides of batch and position, or of batch and channel where channels come first. Rows must not overlap.
        pub y_layout: Layout<2> = Layout::default(),
        /// The element of its binding where the number of indices out of range is written, u32.
        pub bad: Option<usize> = None,
    }
}

config! {
    /// How it is computed.
    pub struct Config {
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// Invocations that share a row, a divisor of `wg_size`; channels first: channels per invocation.
        pub lanes: u32,
        /// Rows that they take one after the other; channels first: 1. Where `lanes` is `wg_size` and vectors are only
        /// moved or converted: vectors that a workgroup takes.
        pub rows: u32,
        /// f16 tensors are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

/// What follows from the Problem and its views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Elements per chunk.
    vec: u32,
    x: Storage,
    y: Storage,
    /// Books are added up.
    sum: bool,
    /// Channels first.
    planes: bool,
    /// Indices have 16 bits.
    short: bool,
    /// Indices out of range are counted.
    count: bool,
    /// Words of a packed output are shared by rows, or with what lies beside them.
    edge: bool,
    /// The chunks of a row are a multiple of those that its invocations move in a turn.
    even: bool,
    /// A whole workgroup moves one vector after the other.
    shared: Option<Shared>,
}

/// Chunks of a vector per invocation: `parts` rounds of `turns`. `flat`: one book, batches that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shared {
    turns: u32,
    parts: u32,
    flat: bool,
}

impl Shared {
    /// Vectors that are written out, without a loop.
    fn round(&self) -> u32 {
        (TURNS / self.turns).clamp(1, 4)
    }
}

impl Form {
    /// Whether every vector is moved by itself, in chunks that are its own.
    fn moves(&self) -> bool {
        !self.sum && !self.planes && !self.edge
    }
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, config: &Config, groups: u32, blocks: u64, grid: [u32; 3]) {
        indices: Strides = views.indices.params(),
        codebook: Strides = views.codebook.params().map(|elements| elements / views.unit),
        y: Strides = views.y.params().map(|elements| elements / views.unit),
        n: u32 = p.positions() as u32,
        batch: u32 = p.batch as u32,
        spatial: u32 = if views.one_batch { p.positions() } else { p.spatial } as u32,
        rows: u32 = config.rows,
        segments: u32 = if p.sums() { 1 } else { p.books as u32 },
        terms: u32 = if p.sums() { p.books as u32 } else { 1 },
        cols: u32 = views.cols,
        num_codes: u32 = p.num_codes as u32,
        out_of_range: u32 = p.out_of_range.code(p.index),
        groups: u32 = groups,
        blocks: u32 = blocks as u32,
        grid_x: u32 = grid[0],
        bad_offset: u32 = p.bad.unwrap_or(0) as u32,
    }
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    pub(super) indices: View<2>,
    /// Of packed weights: their words.
    pub(super) codebook: View<2>,
    pub(super) y: View<2>,
    pub(super) bad: Option<View<1>>,
    /// Elements are only moved.
    moves: bool,
    /// Elements that move as one: 2 where pairs of 16-bit elements are only moved, which are words then.
    unit: u32,
    /// Elements of a code, those that move as one counted once.
    cols: u32,
    /// Batches of `y` follow each other, channels last: they are one.
    one_batch: bool,
}

impl Problem {
    /// Positions of all batches.
    pub fn positions(&self) -> usize {
        self.batch.saturating_mul(self.spatial)
    }

    /// Channels of `y`.
    pub fn channels(&self) -> usize {
        match self.combine {
            Combine::Concat => self.books.saturating_mul(self.code_dim),
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

    /// Refuses sizes that a shader's u32 could not count past.
    pub(super) fn check_sizes(&self) -> Checked {
        check_books(self.books, self.num_codes, self.code_dim)?;
        for (arg, a, b) in [("spatial", self.batch, self.spatial), ("code_dim", self.books, self.code_dim)] {
            if product!(a, b) > u64::from(u32::MAX) / 2 {
                return Err(ErrorKind::invalid(arg, format!("{a} times {b} is more than 2^31 - 1")));
            }
        }
        Ok(())
    }

    pub(super) fn empty(&self) -> bool {
        self.batch == 0 || self.spatial == 0
    }

    fn sums(&self) -> bool {
        self.combine == Combine::Sum && self.books > 1
    }

    /// Whether some tensor is f16 and not only moved.
    fn has_f16(&self, views: &Views) -> bool {
        let x = if self.format.is_some() { self.y } else { self.x };
        !views.moves && [x, self.y].contains(&Dtype::F16)
    }

    /// The form but for what the tiles decide of it.
    fn form(&self, views: &Views, native_f16: bool) -> Form {
        let planes = self.order == Order::ChannelsFirst;
        let [x, y] = match views.moves {
            false => [self.x, self.y].map(|dtype| Storage::held(dtype, native_f16)),
            // Words, or halves of words that keep their bits, whatever they mean.
            true if views.unit == 1 && self.x.bytes() == 2 => [Storage::Halves; 2],
            true => [Storage::F32; 2],
        };
        let wide = 4 * views.unit as usize;
        let vec = match views.codebook.multiple_of(wide) && views.y.multiple_of(wide) && !planes {
            true => 4,
            false => 1 + u32::from(y.packed()),
        };
        let apart = views.y.multiple_of(2) && (planes || self.code_dim.is_multiple_of(2));
        Form {
            vec,
            x,
            y,
            sum: self.sums(),
            planes,
            short: self.index == Index::U16,
            count: self.bad.is_some(),
            edge: vec == 2 && !apart,
            even: false,
            shared: None,
        }
    }

    fn pass(&self, views: &Views, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let form = self.form(views, config.native_f16);
        let Config { wg_size, lanes, .. } = *config;
        let cols = views.cols;
        let chunks = cols / form.vec;
        let shared = (form.moves() && lanes == wg_size).then(|| {
            let turns = chunks.div_ceil(wg_size.max(1)).max(1);
            let parts = turns.div_ceil(TURNS);
            Shared { turns: turns.div_ceil(parts), parts, flat: self.books == 1 && views.one_batch }
        });
        let whole = chunks * form.vec == cols;
        let even = match shared {
            Some(Shared { turns, parts, .. }) => product!(turns, parts, wg_size) == u64::from(chunks),
            None => chunks.is_multiple_of(lanes),
        };
        // Vectors that share a workgroup are counted by a parameter.
        let (stem, rows) = match shared {
            Some(_) => ("vq_lookup_rows", 1),
            None if form.planes => ("vq_lookup_planes", config.rows),
            None => ("vq_lookup", config.rows),
        };
        let form = Form { even: form.moves() && whole && even, shared, ..form };
        Pass { stem, config: Config { rows, ..*config }, form, writable }
    }

    /// Rounds of the loops of an invocation, at most.
    fn rounds(&self, views: &Views, config: &Config) -> Rounds {
        let Pass { form, .. } = self.pass(views, config, Slots::NONE);
        let (lanes, rows, books) = (config.lanes, config.rows, self.books as u64);
        // A row that starts within a word has a chunk more.
        let chunks = Rounds::plain((views.cols / form.vec + 1).div_ceil(lanes));
        match form {
            Form { shared: Some(shared), .. } => {
                let vector = Rounds::nest(shared.parts, Rounds::plain(shared.turns));
                Rounds::nest(rows.div_ceil(shared.round()), Rounds::nest(shared.round(), vector))
            }
            // An invocation has some channels of one chunk of positions, whose indices it may count.
            Form { planes: true, vec, .. } => {
                let books = Rounds::plain(books);
                Rounds::nest(lanes, books.times(vec.into())) + Rounds::nest(vec, books)
            }
            Form { sum: true, .. } => {
                let chunks = Rounds::nest((views.cols / form.vec + 1).div_ceil(lanes), Rounds::plain(books));
                Rounds::nest(rows, Rounds::nest(1u32, chunks))
            }
            // The chunks of a code, or of none.
            _ => Rounds::nest(rows, Rounds::nest(books, chunks.times(2))),
        }
    }
}

/// The tiles of a class of adapters.
///
/// Measured on: Software, Mesa 26.2 lavapipe on 2 cores, 65,536 rows of 64 f32 from 8192, where a copy takes 3.2 ms: an
/// invocation per row, which follows its index once, 5.1 ms; a row shared by `lanes` of a larger workgroup 6 to 11; by
/// a workgroup of one subgroup 6, and 4.1 with its chunks written out (vq_lookup_rows). More rows for a workgroup than
/// 64 KiB gain nothing; each workgroup costs a microsecond. Discrete and Integrated are not measured yet: neighbours read
/// and write side by side.
/// Compiled for GPUs that are not here, nothing spills: 12 VGPRs on RADV (navi31, gfx1201), 24 registers and 48 warps per
/// SM on NVK (Ampere, Ada), channels last or first.
struct Tiles {
    wg_size: u32,
    /// Invocations per row, at most.
    lanes: u32,
    /// Channels per invocation, where channels come first.
    channels: u32,
}

const fn tiles(class: Class) -> Tiles {
    match class {
        Class::Software => Tiles { wg_size: 64, lanes: 1, channels: 16 },
        Class::Integrated => Tiles { wg_size: 128, lanes: 32, channels: 4 },
        Class::Discrete => Tiles { wg_size: 256, lanes: 32, channels: 4 },
    }
}

/// Invocations that share a row of packed weights, at most: neighbours read the words of neighbouring columns. Not measured on a GPU.
const PACKED_LANES: u32 = 32;

/// Chunks that an invocation moves without a loop.
const TURNS: u32 = 16;

slots!(pub(super) INDICES, CODEBOOK, Y, BAD, SCALES);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Config { wg_size, lanes, rows, .. } = self.config;
        let form = self.form;
        let shader = self
            .begin(wg_size, 0, form.vec)
            .params::<Params>()
            .code_indices(INDICES, form.short)
            .input(CODEBOOK, "codebook", form.x)
            .output(Y, "y", form.y, form.edge)
            .writes_if(form.count, BAD, "bad", "atomic<u32>", "vq_bad")
            .import("vq_find");
        match form.shared {
            Some(shared) => shader
                .constants([("TURNS", shared.turns), ("PARTS", shared.parts), ("ROUND", shared.round())])
                .flag("EVEN", form.even)
                .flag("FLAT", shared.flat),
            None if form.planes => shader.constant("CHANNELS", lanes).gather("value"),
            None => shader.constants([("LANES", lanes), ("ROWS", rows)]).flag("SUM", form.sum).flag("EVEN", form.even),
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `indices` and `codebook` are read, `y` is written.
        indices, codebook, y;
        /// Where the number of indices out of range is written, one u32.
        bad,
        /// The scales of packed weights.
        scales,
    }
}

functions!("vq_lookup");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        self.check_sizes()?;
        let codebook = match &self.format {
            Some(format) => self.packed_codes(format)?,
            None => self.codebook.view("codebook", [self.books, self.num_codes], self.code_dim)?,
        };
        let (sizes, inner) = self.y_shape();
        let y = self.y_layout.view("y", sizes, inner)?.apart("y_layout")?;
        let channels_last = self.order == Order::ChannelsLast;
        let moves = self.format.is_none() && self.x == self.y && !self.sums();
        let even = channels_last && codebook.multiple_of(2) && y.multiple_of(2);
        let unit = if moves && self.x.bytes() == 2 && even { 2 } else { 1 };
        let batch = self.spatial as u128 * u128::from(y.stride(1));
        Ok(Views {
            indices: self.indices.view("indices", [self.positions(), self.books], 1)?,
            codebook,
            y,
            bad: self.bad.map(|offset| Layout::<1>::at(offset).view("bad", [1], 1)).transpose()?,
            moves,
            unit,
            cols: self.code_dim as u32 / unit,
            one_batch: channels_last && (self.batch == 1 || u128::from(y.stride(0)) == batch),
        })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let native_f16 = caps.prefers_native_f16(self.has_f16(views));
        if self.format.is_some() {
            let Tiles { wg_size, .. } = tiles(caps.class());
            let lanes = PACKED_LANES.min(self.packed_chunks(views, native_f16).max(1).next_power_of_two());
            return vec![Config { wg_size: wg_size.min(caps.most_invocations()), lanes, rows: 1, native_f16 }];
        }
        let form = self.form(views, native_f16);
        let Tiles { wg_size, lanes, channels } = tiles(caps.class());
        let most = caps.most_invocations();
        let chunks = views.cols / form.vec;
        let lanes = if form.planes { channels } else { lanes.min(chunks.max(1).next_power_of_two()) };
        let mut found = vec![Config { wg_size: wg_size.min(most), lanes, rows: 1, native_f16 }];
        if caps.class() == Class::Software && form.moves() {
            let width = caps.trusted_subgroup_size().unwrap_or(8).min(most).max(1);
            let turns = chunks.div_ceil(width);
            // Most invocations must have a chunk in each turn, and most cores a workgroup.
            if 4 * u64::from(chunks) >= 3 * u64::from(turns) * u64::from(width) {
                let vectors = product!(self.positions(), self.books).div_ceil(64).min(4096 / u64::from(chunks));
                let rows = (vectors as u32).clamp(1, 128).next_multiple_of(4);
                found.insert(0, Config { wg_size: width, lanes: width, rows, native_f16 });
            }
        }
        found
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let Config { wg_size, lanes, rows, native_f16 } = *config;
        caps.check_wg_size(wg_size)?;
        caps.check_native_f16(native_f16, self.has_f16(views))?;
        Misfit::unless(lanes.min(rows) > 0, "lanes and rows must be at least 1", 0u32)?;
        Misfit::at_most("rows", rows, 1024u32)?;
        let planes = self.order == Order::ChannelsFirst;
        Misfit::unless(!planes || rows == 1, "channels first needs rows to be 1", rows)?;
        Misfit::unless(planes || wg_size.is_multiple_of(lanes), "lanes must divide wg_size", lanes)?;
        let packed = self.format.is_some();
        caps.check_rounds(if packed { self.packed_rounds(views, config) } else { self.rounds(views, config) })
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let cleared = views.bad.map(|_| Clear { slot: BAD }.shader());
        let looked_up = match self.format {
            Some(_) => self.packed_pass(views, config, writable).shader(),
            None => self.pass(views, config, writable).shader(),
        };
        cleared.into_iter().chain([looked_up]).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        if let Some(format) = &self.format {
            let Buffers { indices, codebook, y, bad, scales } = *buffers;
            return self.bind_packed(format, views, config, kernels, [indices, codebook, y], [bad, scales]);
        }
        let mut args = Args::new(kernels);
        args.read(SCALES, "scales", buffers.scales, None)?;
        args.write(BAD, "bad", buffers.bad, views.bad.map(|bad| bad.of(WORD)))?;
        if !self.empty() {
            args.read(INDICES, "indices", buffers.indices, views.indices.of(self.index))?;
            args.read(CODEBOOK, "codebook", buffers.codebook, views.codebook.of(self.x))?;
            args.write(Y, "y", buffers.y, views.y.of(self.y))?;
        }
        args.check()?;
        let cleared = views.bad.map(|bad| clear(&args, BAD, &bad)).transpose()?;
        if self.empty() {
            return Ok(Dispatch::of(cleared.into_iter().collect()));
        }

        let pass = self.pass(views, config, args.writable());
        let n = self.positions();
        let groups = self.channels().div_ceil(config.lanes as usize) as u32;
        // A row of phase 1 has a chunk more.
        let chunks = (self.spatial as u64).div_ceil(pass.form.vec.into()) + u64::from(pass.form.edge);
        let blocks = chunks.div_ceil(config.wg_size.into());
        let workgroups = match pass.form.shared {
            Some(_) => product!(n, self.books).div_ceil(config.rows.into()),
            None if pass.form.planes => product!(self.batch, groups, blocks),
            None => (n as u64).div_ceil(product!(config.wg_size / config.lanes, config.rows)),
        };
        let grid = args.fold(workgroups)?;
        let params = Params::of(self, views, config, groups, blocks, grid);
        let looked_up = args.step(&pass, &params, grid)?;
        Ok(Dispatch::of(cleared.into_iter().chain([looked_up]).collect()))
    }
}
