//! Nearest codes: per vector and book the code of least squared distance, of greatest cosine or of greatest dot
//! product, in one pass over the codebook without a matrix of distances; ties go to the lowest index. Several
//! books code parts of a vector of their own (product quantisation, Jégou et al., 2011), or each codes what the
//! one before left of it (residual quantisation; Zeghidour et al., "SoundStream", 2021).
//!
//! A distance is the f32 sum of squared differences, not `|c|^2 - 2xc`: it keeps its digits however far the data
//! lie from the origin, so that a near tie needs no second look. Where differences (for dot products: elements) are all
//! below 1e-15 or above 1e18, f32 does not hold their squares: such a vector is held against all codes again by one
//! invocation, each difference (or vector and code) scaled by a power of two of its own, which is right from 1e-30 to
//! 1e37. That is done where `top` times the chunks of a book are at most 2^22, and of all vectors 2^36 (a chunk is of
//! four elements, or of one where strides and sizes are no multiples of four); others, and what llvmpipe cuts short,
//! must lie within. For cosines the codes must.
//!
//! Measured on Mesa 26.2 lavapipe, 2 cores, 4096 vectors of 64 elements to 8192 codes (seconds): each invocation
//! with 1 vector in registers and 1, 2, 4 codes at a time 0.297, 0.256, 0.263; 2 vectors and 2 codes 0.148; 4 vectors
//! and 1, 2 codes 0.104, 0.157; vectors read again, 1 or 2 of them and 8 codes 0.487, 0.340. A code that all
//! invocations read costs one load, a vector of their own one per invocation. In turns with our own product of the same
//! matrices, which stores all of it: 0.138 to 0.279.
//!
//! By the compilers of RADV (RDNA2 to 4, Vega, RDNA3.5), NVK (Turing to Blackwell), Honeykrisp (M1) and Turnip (Adreno 740)
//! nothing spills. Two vectors of 64 elements per invocation take 192 VGPRs on RDNA3 and 168 registers on Ada, and reach at most
//! 43 and 40 % of the f32 peak by `loom isa`, where one reaches 23 (96, 96).

use super::index::check_books;
use crate::caps::{LEAST_INVOCATIONS, Vendor};
use crate::ops::plan;
use crate::ops::pointwise::{Clear, clear};
use crate::ops::prelude::*;
use crate::vq_lookup::{self, Combine};

defaults! {
    /// What is computed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Problem {
        /// Vectors.
        pub n: usize = 1,
        /// Books, each with codes of its own.
        pub books: usize = 1,
        /// Codes of each book.
        pub num_codes: usize = 1,
        /// Elements of a code.
        pub code_dim: usize = 1,
        /// What is nearest.
        pub metric: Metric = Metric::L2,
        /// Each book codes what the one before left of the vector; otherwise each has a part of its own.
        pub residual: bool = false,
        /// Codes per vector and book, the nearest first; all outputs but indices and distances go by the first.
        pub top: usize = 1,
        /// Dtype of the vectors.
        pub x: Dtype = Dtype::F32,
        /// Strides of vector and book; `[n, 1]` vectors where `residual`.
        pub x_layout: Layout<2> = Layout::default(),
        /// Dtype of the codes.
        pub codebook: Dtype = Dtype::F32,
        /// Strides of book and code; a book stride of 0 shares one book.
        pub codebook_layout: Layout<2> = Layout::default(),
        /// The first element of u32 indices `[n, books, top]`.
        pub indices: usize = 0,
        /// The first element of f32 distances in the same places: squared, `1 - cos`, or `-dot`.
        pub distance: Option<usize> = None,
        /// The vectors of the codes, `[n, books, code_dim]`, or their sum `[n, code_dim]` where `residual`.
        pub quantized: Option<Quantized> = None,
        /// The first element of u32 counts of use, `[books, num_codes]`.
        pub usage: Option<usize> = None,
        /// The element where the f32 sum over vectors and books of the squared distance to the code is written.
        pub loss: Option<usize> = None,
    }
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

impl Metric {
    /// As shaders call them.
    const CODES: [(&str, u32); 3] = [
        ("METRIC_L2", Metric::L2 as u32),
        ("METRIC_COSINE", Metric::Cosine as u32),
        ("METRIC_DOT", Metric::Dot as u32),
    ];
}

/// How quantised vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quantized {
    /// Their dtype.
    pub dtype: Dtype,
    /// The first element.
    pub offset: usize,
}

config! {
    /// How it is computed.
    pub struct Config {
        /// Where vectors and codes are while they are compared.
        pub algorithm: Algorithm,
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// Vectors per invocation.
        pub rows: u32,
        /// Codes that are compared at a time.
        pub codes: u32,
        /// `Staged`: codes in workgroup memory, a multiple of `codes`; else 1.
        pub tile: u32,
        /// Parts that a book is searched in side by side.
        pub parts: u32,
        /// f16 tensors are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

words! {
    /// Where vectors and codes are while they are compared.
    pub enum Algorithm {
        /// Vectors stay in registers; all invocations read the same code from memory.
        Registers = "registers",
        /// Vectors stay in registers; codes are read from workgroup memory.
        Staged = "staged",
        /// Vectors are read again for every `codes` codes: they are too long for registers.
        Reread = "reread",
    }
}

/// What follows from the Problem and its views, for the search and for the step that finishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Elements per chunk.
    vec: u32,
    x: Storage,
    codebook: Storage,
    metric: Metric,
    top: u32,
    /// Chunks of a vector that the search has in registers, 0 where vectors are read again.
    keep: u32,
    /// What the finish writes beside indices: `DISTANCE`, `USAGE`, squared distances for `LOSS`, and in `REST` what the
    /// code leaves of the vector, for the next book.
    asked: Slots,
}

crate::params! {
    /// What a step of the search of book `book`, or of all books, tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, config: &Config, x: Strides, book: usize, again: bool, grid: [u32; 3]) {
        x: Strides = x,
        codebook: Strides = views.codebook.params_from(0, book),
        indices: Strides = views.indices.params_from(1, book),
        n: u32 = p.n as u32,
        books: u32 = p.at_once() as u32,
        parts: u32 = config.parts,
        per_part: u32 = (p.num_codes as u32).div_ceil(config.parts),
        num_codes: u32 = p.num_codes as u32,
        cols: u32 = p.code_dim as u32,
        chunks: u32 = views.chunks,
        blocks: u32 = p.blocks(config) as u32,
        grid_x: u32 = grid[0],
        loss_offset: u32 = (p.sections(config.parts)[0] / 4).saturating_add(product!(book, p.n)) as u32,
        distance_offset: u32 = (p.distance.unwrap_or(0) + book * p.top) as u32,
        usage_offset: u32 = (p.usage.unwrap_or(0) + book * p.num_codes) as u32,
        again: u32 = u32::from(again),
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

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    x: View<2>,
    codebook: View<2>,
    indices: View<2>,
    distance: Option<View<2>>,
    quantized: Option<Reach>,
    usage: Option<View<2>>,
    loss: Option<View<1>>,
    /// Elements per chunk.
    vec: u32,
    /// Chunks of a vector.
    chunks: u32,
}

impl Problem {
    /// Vectors that books see: of the whole, or a part for each.
    fn x_sizes(&self) -> [usize; 2] {
        [self.n, if self.residual { 1 } else { self.books }]
    }

    /// Books that are searched at once.
    fn at_once(&self) -> usize {
        self.x_sizes()[1]
    }

    /// Searches, one after the other.
    fn searches(&self) -> usize {
        if self.residual { self.books } else { 1 }
    }

    fn has_f16(&self) -> bool {
        [self.x, self.codebook].contains(&Dtype::F16)
    }

    /// Search and finish of all books, or, where `residual`, of book `book`.
    fn passes(&self, views: &Views, config: &Config, writable: Slots, book: usize) -> [Pass<Config, Form>; 2] {
        let [x, codebook] = [self.x, self.codebook].map(|dtype| Storage::held(dtype, config.native_f16));
        let search = Form {
            vec: views.vec,
            // What a book left is f32.
            x: if book > 0 { Storage::F32 } else { x },
            codebook,
            metric: self.metric,
            top: self.top as u32,
            keep: if config.algorithm == Algorithm::Reread { 0 } else { views.chunks },
            asked: Slots::NONE,
        };
        let outputs = [
            (DISTANCE, self.distance.is_some()),
            (USAGE, self.usage.is_some()),
            (LOSS, self.loss.is_some()),
            (REST, self.residual && book + 1 < self.books),
        ];
        let asked = outputs.iter().filter(|(_, asked)| *asked).fold(Slots::NONE, |all, &(slot, _)| all.with(slot));
        let finish = Form { keep: 0, asked, ..search };
        // The number of parts is a parameter, and the finish has no tiles.
        let searching = Config { parts: 1, ..*config };
        let (algorithm, wg_size) = (Algorithm::Reread, finish_size(config.wg_size));
        let finishing = Config { algorithm, wg_size, rows: 1, codes: 1, tile: 1, ..searching };
        [
            Pass { stem: "vq_assign", config: searching, form: search, writable },
            Pass { stem: "vq_assign_finish", config: finishing, form: finish, writable },
        ]
    }

    /// Workgroups that search a part of a book.
    fn blocks(&self, config: &Config) -> u64 {
        (self.n as u64).div_ceil(product!(config.wg_size, config.rows).max(1))
    }

    /// The lookup of what was found.
    pub(crate) fn lookup(&self, quantized: Quantized) -> vq_lookup::Problem {
        let Problem { n, books, num_codes, code_dim, top, .. } = *self;
        vq_lookup::Problem {
            spatial: n,
            books,
            num_codes,
            code_dim,
            combine: if self.residual { Combine::Sum } else { Combine::Concat },
            indices: Layout::strided(self.indices, [books.saturating_mul(top), top]),
            x: self.codebook,
            codebook: self.codebook_layout,
            y: quantized.dtype,
            y_layout: Layout::at(quantized.offset),
            ..Default::default()
        }
    }

    /// Rounds of the loops of an invocation that searches a part, at most.
    fn search_rounds(&self, views: &Views, config: &Config) -> Rounds {
        let Config { algorithm, wg_size, rows, codes, tile, parts, .. } = *config;
        let num_codes = (self.num_codes as u64).div_ceil(parts.into());
        let (vectors, top) = (Rounds::plain(rows), Rounds::plain(self.top as u64));
        let each = Rounds::nest(codes, vectors);
        let sums = Rounds::plain(rows * codes);
        let (keep, runs) = match algorithm {
            Algorithm::Reread => (0, views.chunks.div_ceil(RUN)),
            Algorithm::Registers | Algorithm::Staged => (views.chunks, 0),
        };
        let run = sums.times(2) + Rounds::nest(views.chunks.min(RUN), vectors + each);
        let measured = Rounds::nest(codes, Rounds::nest(rows, top));
        let compared = sums + Rounds::plain(codes) + Rounds::nest(keep, each) + Rounds::nest(runs, run) + measured;
        let groups = |num_codes: u64| Rounds::nest(num_codes.div_ceil(codes.into()), compared);
        let searched = match algorithm {
            Algorithm::Registers | Algorithm::Reread => Rounds::nest(1u32, groups(num_codes)),
            Algorithm::Staged => {
                let staged = Rounds::plain((u64::from(tile) * u64::from(keep)).div_ceil(wg_size.into()));
                Rounds::nest(num_codes.div_ceil(tile.into()), staged + groups(tile.into()))
            }
        };
        let held = Rounds::nest(rows, Rounds::plain(keep));
        Rounds::nest(rows, top).times(2) + held + searched
    }

    /// Rounds of the loops of an invocation that joins the parts, and may search all codes again, at most.
    fn finish_rounds(&self, views: &Views, config: &Config, again: bool) -> Rounds {
        let (top, vector) = (self.top as u64, Rounds::plain(views.chunks));
        // The loops of a scaled distance, gone through once where it is not taken.
        let idle = Rounds::plain(0u32).times(2);
        let first = Rounds::nest(u64::from(config.parts) * top, idle);
        let (unsure, second) = match again {
            true => (vector, Rounds::nest(top, Rounds::nest(self.num_codes as u64, vector.times(2)))),
            false => (Rounds::plain(0u32), Rounds::nest(0u32, Rounds::nest(0u32, idle))),
        };
        // Its length, the writing of what was found, the loss and the rest.
        Rounds::nest(top, first + unsure) + second + vector.times(4) + Rounds::plain(top)
    }

    /// Whether an invocation may hold a vector against all codes again.
    fn again(&self, views: &Views, config: &Config, caps: &Caps) -> bool {
        let chunks = product!(self.num_codes, self.top, views.chunks);
        chunks <= AGAIN
            && product!(chunks, self.n, self.at_once()) <= AGAIN_OF_ALL
            && caps.check_rounds(self.finish_rounds(views, config, true)).is_ok()
    }

    /// Rounds of the loops of an invocation that adds up the loss, at most.
    fn loss_rounds(&self) -> Rounds {
        let size = u64::from(LOSS_SIZE);
        Rounds::plain(product!(self.n, self.books).div_ceil(size)) + Rounds::plain(size)
    }

    /// Where the sections of scratch memory lie, in bytes: behind the best codes of each part the loss, what books leave
    /// of the vectors, by turns in two places, and the end. Each starts where any device can bind.
    fn sections(&self, parts: u32) -> [u64; 4] {
        let align = |bytes: u64| bytes.min(u64::MAX / 8).next_multiple_of(256);
        let Problem { n, books, top, code_dim, .. } = *self;
        let loss = align(product!(n, self.at_once(), top, parts, 8u32));
        let rest = loss + if self.loss.is_some() { align(product!(n, books, 4u32)) } else { 0 };
        let rests = if self.residual { books.min(3) as u64 - 1 } else { 0 };
        let bytes = align(product!(n, code_dim, 4u32));
        [loss, rest, rest + bytes, rest + rests * bytes]
    }
}

/// Chunks of a vector that registers hold, at most.
const KEEP: u32 = 16;

/// Books that may be searched one after the other: each has steps of its own.
const MOST_SEARCHES: usize = 1 << 10;

/// Chunks of codes that an invocation goes through again by itself, at most: a fraction of a second.
const AGAIN: u64 = 1 << 22;

/// Those of all invocations of a step: a second or two of a GPU.
const AGAIN_OF_ALL: u64 = 1 << 36;

/// Chunks that are added up before they join a sum, where vectors are read again: keeps rounding small.
const RUN: u32 = 32;

/// A row of the table: the tiles of some adapters.
struct Tiles {
    adapters: Adapters,
    wg_size: u32,
    /// Chunks of its vectors that an invocation holds, at most, where one alone may be longer.
    hold: u32,
    /// Vectors per invocation, at most.
    rows: u32,
    /// Codes at a time.
    codes: u32,
    /// Where vectors are read again: vectors and codes.
    reread: [u32; 2],
    /// Codes in workgroup memory, where that is what pays.
    staged: Option<u32>,
    /// Workgroups to reach by searching a book in parts.
    fill: u64,
}

/// Software is measured (see the module), GPUs are not. By the compilers of RADV (navi31) and NVK (Ada), and an estimate of issue
/// slots and workgroup memory, vectors of 64 elements in f32 reach at most, of the f32 peak, by vectors and codes per
/// invocation: 1 and 4: 25, 25 % (bound by workgroup memory; 96 VGPRs, 96 GPRs); 2 and 2: 46, 42 (192, 168); 2 and 4: 46, 42 (192,
/// 184, four warps less); 3 and 2: 46, 44 (252, 240); 4 and 1 spill. Of 32 elements: 1 and 4: 25, 25; 2 and 4: 41, 39 (120, 120).
/// Where vectors are read again, of the instructions of a turn are products and sums: 1 and 8: 19, 9 %; 4 and 4: 32, 19 (192, 176);
/// 4 and 8 spill. Honeykrisp (M1) keeps 64 elements of two vectors in scratch memory, 32 of them in 249 registers, and spills
/// where more than one vector is read again.
const TABLE: [Tiles; 4] = [
    Tiles {
        adapters: Class::Software.any(),
        wg_size: 8,
        hold: 64,
        rows: 4,
        codes: 1,
        reread: [4, 8],
        staged: None,
        fill: 4,
    },
    Tiles {
        adapters: Class::Integrated.of(Vendor::Amd),
        wg_size: 64,
        hold: 32,
        rows: 2,
        codes: 2,
        reread: [4, 4],
        staged: Some(16),
        fill: 64,
    },
    Tiles {
        adapters: Class::Integrated.any(),
        wg_size: 64,
        hold: 16,
        rows: 2,
        codes: 4,
        reread: [1, 8],
        staged: Some(16),
        fill: 64,
    },
    Tiles {
        adapters: Class::Discrete.any(),
        wg_size: 128,
        hold: 32,
        rows: 2,
        codes: 2,
        reread: [4, 4],
        staged: Some(32),
        fill: 256,
    },
];

/// Invocations of a workgroup that finishes a search by `wg_size`.
fn finish_size(wg_size: u32) -> u32 {
    wg_size.max(LEAST_INVOCATIONS)
}

// The lookup writes `QUANTIZED`, no shader here.
slots!(X, CODEBOOK, SCRATCH, INDICES, DISTANCE, USAGE, REST, LOSS, QUANTIZED);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Config { algorithm, wg_size, rows, codes, tile, .. } = self.config;
        let Form { vec, x, codebook, metric, top, keep, asked } = self.form;
        let wg_bytes = if algorithm == Algorithm::Staged { tile * keep * vec * 4 } else { 0 };
        let shader = self
            .begin(wg_size, wg_bytes, vec)
            .params::<Params>()
            .constants(Metric::CODES)
            .constants([("METRIC", metric as u32), ("TOP", top)])
            .input(X, "x", x)
            .input(CODEBOOK, "codebook", codebook)
            .writes(SCRATCH, "scratch", "u32");
        if self.stem == "vq_assign" {
            let kept = (rows * keep).max(1);
            let sizes = [("ROWS", rows), ("CODES", codes), ("KEEP", keep), ("KEPT", kept), ("RUN", RUN)];
            let shader = shader.constants(sizes).constants([("SUMS", rows * codes), ("BESTS", rows * top)]);
            return match algorithm {
                Algorithm::Staged => {
                    shader.constants([("TILE", tile), ("STAGED", tile * keep)]).import("vq_codes_staged")
                }
                Algorithm::Registers | Algorithm::Reread => shader.import("vq_codes"),
            };
        }
        let flags = [("HAS_DISTANCE", DISTANCE), ("HAS_USAGE", USAGE), ("HAS_LOSS", LOSS), ("HAS_REST", REST)];
        let shader = flags
            .into_iter()
            .fold(shader, |shader, (name, slot)| shader.flag(name, asked.has(slot)))
            .writes(INDICES, "indices", "u32")
            .writes_if(asked.has(DISTANCE), DISTANCE, "distance", "f32", "vq_distance")
            .writes_if(asked.has(USAGE), USAGE, "usage", "atomic<u32>", "vq_usage");
        match asked.has(REST) {
            true => shader.output(REST, "rest", Storage::F32, false),
            false => shader.no_output("rest"),
        }
    }
}

/// Invocations that add up the loss.
const LOSS_SIZE: u32 = LEAST_INVOCATIONS;

/// The pipeline that adds up the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Loss;

impl Pipeline for Loss {
    fn shader(&self) -> Shader {
        Shader::new("vq_assign_loss", LOSS_SIZE, LOSS_SIZE * 4, 1)
            .params::<LossParams>()
            .writes(SCRATCH, "scratch", "u32")
            .writes(LOSS, "loss", "f32")
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x` and `codebook` are read, `indices` is written.
        x, codebook, indices;
        /// The distances that the Problem asks for.
        distance,
        /// The quantised vectors that the Problem asks for; they may take the place of `x`.
        quantized,
        /// The counts of use that the Problem asks for.
        usage,
        /// The sum of squared distances that the Problem asks for.
        loss,
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("vq_assign");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        check_books(self.books, self.num_codes, self.code_dim)?;
        sizes_fit([("n", self.n)])?;
        if self.residual && self.books > MOST_SEARCHES {
            let reason = format!("{} are searched one after the other, at most {MOST_SEARCHES}", self.books);
            return Err(ErrorKind::invalid("books", reason));
        }
        if self.top == 0 || self.top > self.num_codes.min(16) {
            let reason = format!("{} is not 1 to 16, and at most {} codes", self.top, self.num_codes);
            return Err(ErrorKind::invalid("top", reason));
        }
        let codes = [self.books, self.num_codes];
        let each = |arg, offset| Layout::at(offset).view(arg, [self.n, self.books], self.top);
        let quantized = |Quantized { dtype, offset }| {
            Layout::at(offset).view("quantized", self.x_sizes(), self.code_dim).map(|view| view.of(dtype))
        };
        let x = self.x_layout.view("x", self.x_sizes(), self.code_dim)?;
        let codebook = self.codebook_layout.view("codebook", codes, self.code_dim)?;
        let vec = if x.multiple_of(4) && codebook.multiple_of(4) { 4 } else { 1 };
        Ok(Views {
            x,
            codebook,
            vec,
            chunks: self.code_dim as u32 / vec,
            indices: each("indices", self.indices)?,
            distance: self.distance.map(|offset| each("distance", offset)).transpose()?,
            quantized: self.quantized.map(quantized).transpose()?,
            usage: self.usage.map(|offset| Layout::at(offset).view("usage", codes, 1)).transpose()?,
            loss: self.loss.map(|offset| Layout::at(offset).view("loss", [1], 1)).transpose()?,
        })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let &Tiles { wg_size, hold, rows, codes, reread, staged, fill, .. } = caps.row(&TABLE, |row| row.adapters);
        let wg_size = wg_size.min(caps.most_invocations());
        // GCN, whose subgroups all have 64: one wave of two such vectors fills a SIMD's registers.
        let hold = if caps.trusted_subgroup_size() == Some(64) { hold.min(16) } else { hold };
        let (algorithm, rows, codes) = match views.chunks <= KEEP {
            true => (Algorithm::Registers, rows.min(hold / views.chunks.max(1)).max(1), codes),
            false => (Algorithm::Reread, reread[0], reread[1]),
        };
        // Few vectors do not fill the invocations of a GPU.
        let most_rows = match caps.class() {
            Class::Software => rows,
            _ => 1 << (self.n as u32).div_ceil(wg_size).max(1).ilog2(),
        };
        let rows = rows.min(most_rows);
        let native_f16 = caps.prefers_native_f16(self.has_f16());
        let whole = Config { algorithm, wg_size, rows, codes, tile: 1, parts: 1, native_f16 };
        // Parts of at least 64 codes; more where the driver cuts long loops short.
        let blocks = product!(self.blocks(&whole).max(1), self.at_once());
        let parts = fill.div_ceil(blocks).min((self.num_codes as u64).div_ceil(64)) as u32;
        let split = |whole: Config| {
            let rounds = |parts| self.search_rounds(views, &Config { parts, ..whole });
            Config { parts: caps.parts(parts, self.num_codes as u32, rounds), ..whole }
        };
        let direct = split(whole);
        let staged = staged.filter(|_| algorithm == Algorithm::Registers);
        let staged = staged.map(|tile| Config { algorithm: Algorithm::Staged, tile, ..direct });
        // The fewest rounds of a vector: where they count, the longest ones can be searched for in no other way.
        let single = caps.loop_rounds().map(|_| split(Config { rows: 1, codes: 1, ..whole }));
        staged.into_iter().chain([direct]).chain(single).collect()
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let Config { algorithm, wg_size, rows, codes, tile, parts, native_f16 } = *config;
        let chunks = u64::from(views.chunks);
        caps.check_wg_size(wg_size)?;
        caps.check_wg_size(finish_size(wg_size))?;
        caps.check_native_f16(native_f16, self.has_f16())?;
        Misfit::unless(rows.min(codes).min(parts) > 0, "rows, codes and parts must be at least 1", 0u32)?;
        Misfit::at_most("rows", rows, 64u32)?;
        Misfit::at_most("codes", codes, 64u32)?;
        Misfit::at_most("rows * codes", rows * codes, 256u32)?;
        Misfit::at_most("parts of a book of so few codes", parts, self.num_codes as u64)?;
        if algorithm != Algorithm::Reread {
            Misfit::at_most("chunks that stay in registers", u64::from(rows) * chunks, 4096u32)?;
        }
        match algorithm {
            Algorithm::Staged => {
                let whole = tile > 0 && tile.is_multiple_of(codes);
                Misfit::unless(whole, "tile must be a multiple of codes", tile)?;
                let bytes = u64::from(tile) * u64::from(views.vec) * chunks * 4;
                Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)?;
            }
            Algorithm::Registers | Algorithm::Reread => {
                Misfit::unless(tile == 1, "tile must be 1 where codes are not staged", tile)?;
            }
        }
        Misfit::at_most("words of scratch", self.scratch(views, config) / 4, u32::MAX)?;
        caps.check_rounds(self.search_rounds(views, config))?;
        caps.check_rounds(self.finish_rounds(views, config, false))?;
        self.loss.map_or(Ok(()), |_| caps.check_rounds(self.loss_rounds()))
    }

    /// Some words per vector and part, whose number does not grow with the codes but where the driver cuts long loops
    /// short; where `residual`, up to two f32 copies of the vectors, too.
    fn scratch(&self, _views: &Views, config: &Config) -> u64 {
        self.sections(config.parts)[3]
    }

    /// Without the steps of the lookup, which has Configs of its own.
    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let cleared = self.usage.map(|_| Clear { slot: USAGE }.shader());
        let searched = (0..self.searches()).flat_map(|book| self.passes(views, config, writable, book));
        let searched = searched.map(|pass| pass.shader());
        cleared.into_iter().chain(searched).chain(self.loss.map(|_| Loss.shader())).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let Problem { n, books, code_dim, .. } = *self;
        let mut common = Args::new(kernels);
        common.read(CODEBOOK, "codebook", buffers.codebook, views.codebook.of(self.codebook))?;
        common.write(INDICES, "indices", buffers.indices, views.indices.of(WORD))?;
        common.write(DISTANCE, "distance", buffers.distance, views.distance.map(|view| view.of(WORD)))?;
        common.write(USAGE, "usage", buffers.usage, views.usage.map(|view| view.of(WORD)))?;
        common.write(LOSS, "loss", buffers.loss, views.loss.map(|view| view.of(WORD)))?;
        let [loss, first_rest, other_rest, end] = self.sections(config.parts);
        let scratch = common.scratch_memory(buffers.scratch, end)?;
        let section = |at: u64, bytes: u64| (scratch.part(at, bytes), Reach::to(bytes / 4, WORD));

        let mut whole = common.clone();
        let (memory, reach) = section(0, end);
        whole.read(X, "x", buffers.x, views.x.of(self.x))?;
        whole.write(SCRATCH, "scratch", memory, reach)?;
        whole.check()?;
        // The lookup writes them last: x and scratch have been read by then.
        let mut last = common.clone();
        last.write(QUANTIZED, "quantized", buffers.quantized, views.quantized.clone())?;
        last.check()?;

        let mut steps = Vec::new();
        if let Some(view) = &views.usage {
            steps.push(clear(&whole, USAGE, view)?);
        }
        let at_once = self.at_once();
        let again = self.again(views, config, &common.caps);
        for book in (0..self.searches()).filter(|_| n > 0) {
            let mut args = common.clone();
            let (memory, reach) = section(0, first_rest);
            args.write(SCRATCH, "scratch", memory, reach)?;
            let left_by = |book: usize| section([first_rest, other_rest][book % 2], product!(4u32, n, code_dim));
            let ((memory, reach), x) = match book {
                0 => ((buffers.x.into(), views.x.of(self.x)), views.x.params()),
                _ => (left_by(book - 1), [0, 0, code_dim as u32, 0]),
            };
            args.read(X, "x", memory, reach)?;
            if self.residual && book + 1 < books {
                let (memory, reach) = left_by(book);
                args.write(REST, "rest", memory, reach)?;
            }
            let [search, finish] = self.passes(views, config, args.writable(), book);
            let finishers = product!(n, at_once).div_ceil(finish.config.wg_size.into());
            let searchers = product!(self.blocks(config), at_once, config.parts);
            for (pass, workgroups) in [(search, searchers), (finish, finishers)] {
                let grid = args.fold(workgroups)?;
                steps.push(args.step(&pass, &Params::of(self, views, config, x, book, again, grid), grid)?);
            }
        }
        if let Some(at) = self.loss {
            let count = product!(n, books) as u32;
            let params = LossParams { count, loss_offset: (loss / 4) as u32, to: at as u32 };
            steps.push(whole.step(&Loss, &params, [1, 1, 1])?);
        }
        if let (Some(quantized), Some(binding)) = (self.quantized, buffers.quantized) {
            let found = vq_lookup::Buffers::new(buffers.indices, buffers.codebook, binding);
            steps.extend(plan(kernels, &self.lookup(quantized), None, &found)?.into_steps());
        }
        Ok(Dispatch::of(steps))
    }
}
