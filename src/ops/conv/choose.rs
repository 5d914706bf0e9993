//! Which Config: tables of tiles by class of adapter, what fits, what is best.

use super::gather::{Gather, Packing};
use super::{Algorithm, Config, Order};
use crate::caps::{Adapters, Class};
use crate::layout::product;
use crate::rounds::Rounds;
use crate::{Caps, Dtype, Misfit};

/// A row of the table: the tiles of one class of adapters.
pub(super) struct Row {
    adapters: Adapters,
    tiles: &'static [Tile],
    /// Those of groups of one channel.
    depthwise: &'static [Tile],
    /// What a subgroup has of cooperative matrices, rows and columns, and the time per product, as of a tile.
    coop: &'static [([u32; 2], f64)],
    /// `Direct`: the subgroup hands pixels round, where it has one trusted width of at least this.
    shuffle: u32,
    /// Workgroups that fill the adapter.
    pub fill: u64,
}

impl Row {
    /// The row of these adapters.
    pub fn of(caps: &Caps) -> &'static Row {
        match caps.loop_rounds() {
            Some(_) => &OLD_MESA,
            None => caps.row(&TABLE, |row| row.adapters),
        }
    }

    pub fn tiles(&self) -> impl Iterator<Item = &'static Tile> {
        self.tiles.iter().chain(self.depthwise)
    }

    /// The Config of a tile.
    pub fn config(&self, caps: &Caps, &Tile { algorithm, tile, thread, .. }: &Tile, native_f16: bool) -> Config {
        let config = Config { algorithm, tile, thread, lanes: 1, native_f16 };
        let shuffles = |width: &u32| {
            algorithm == Algorithm::Direct
                && tile[0] == thread[0]
                && *width >= self.shuffle
                && config.wg_size().is_multiple_of(*width)
        };
        Config { lanes: caps.trusted_subgroup_size().filter(shuffles).unwrap_or(1), ..config }
    }
}

/// A Config's tile.
pub(super) struct Tile {
    pub algorithm: Algorithm,
    pub tile: [u32; 3],
    pub thread: [u32; 2],
    /// Time per product, of which only ratios count.
    pub cost: f64,
}

impl Tile {
    /// The cost for this problem.
    pub fn cost_of(&self, problem: &Gather) -> f64 {
        let factor = match (self.algorithm, problem.strips()) {
            // Neighbours have what lies side by side.
            (Algorithm::Depthwise, _) if (problem.order == Order::Nhwc) != (self.tile[1] > 4) => 2.0,
            // Rows of x are each tried on all lines.
            (Algorithm::Strips, Some([[height, _], [down, _]])) => {
                let lines = (self.thread[0] / self.tile[2]) as usize;
                (((lines - 1) * down + height) as f64 / height as f64).powf(0.25)
            }
            _ => 1.0,
        };
        factor * self.cost
    }
}

const fn direct(rows: u32, columns: u32, thread: [u32; 2], cost: f64) -> Tile {
    Tile { algorithm: Algorithm::Direct, tile: [rows, columns, 4], thread, cost }
}

const fn tiled(tile: [u32; 3], thread: [u32; 2], cost: f64) -> Tile {
    Tile { algorithm: Algorithm::Tiled, tile, thread, cost }
}

const fn depthwise(rows: u32, columns: u32, cost: f64) -> Tile {
    Tile { algorithm: Algorithm::Depthwise, tile: [rows, columns, 4], thread: [4, 4], cost }
}

/// Blocks of so many lines of pixels, by places of one channel, or where channels are last of four.
pub(super) const fn strips([blocks, places]: [u32; 2], [lines, pixels, channels]: [u32; 3], cost: f64) -> Tile {
    let size = lines * pixels;
    let (tile, thread) = ([size * blocks, channels * places, pixels], [size, channels]);
    Tile { algorithm: Algorithm::Strips, tile, thread, cost }
}

/// Of groups of one channel. Not measured.
const DEPTHWISE: &[Tile] = &[
    depthwise(16, 64, 0.1),
    depthwise(256, 4, 0.1),
    strips([64, 1], [4, 4, 1], 0.05),
    strips([64, 1], [1, 4, 1], 0.07),
    strips([8, 8], [2, 4, 4], 0.05),
    strips([8, 8], [1, 4, 4], 0.07),
];

/// The same of a CPU.
const SOFTWARE_DEPTHWISE: &[Tile] = &[
    depthwise(4, 32, 0.1),
    depthwise(32, 4, 0.1),
    strips([16, 1], [2, 16, 1], 0.022),
    strips([16, 1], [4, 8, 1], 0.028),
    strips([16, 1], [2, 8, 1], 0.03),
    strips([16, 1], [1, 8, 1], 0.036),
    strips([16, 1], [4, 4, 1], 0.032),
    strips([16, 1], [1, 4, 1], 0.05),
    strips([16, 1], [4, 4, 4], 0.026),
    strips([16, 1], [2, 4, 4], 0.034),
    strips([16, 1], [1, 4, 4], 0.04),
];

/// As gemm's.
const COOP: &[([u32; 2], f64)] = &[([4, 4], 0.3), ([4, 2], 0.33), ([2, 2], 0.4)];

/// A CPU has no matrices of its own.
const SOFTWARE_COOP: &[([u32; 2], f64)] = &[([2, 2], 20.0)];

/// Time of cooperative matrices where x is not read by eights, as of those: by their instructions.
const BY_FOURS: f64 = 1.5;

/// Matrices of a subgroup, at most.
const MATRICES: u32 = 16;

/// Not measured.
const INTEGRATED: Row = Row {
    adapters: Class::Integrated.any(),
    tiles: &[
        tiled([64, 64, 16], [8, 4], 1.0),
        tiled([32, 32, 16], [4, 4], 1.5),
        tiled([128, 16, 16], [8, 4], 1.7),
        tiled([256, 4, 8], [4, 4], 2.5),
        direct(32, 32, [4, 4], 2.5),
    ],
    depthwise: DEPTHWISE,
    coop: COOP,
    shuffle: u32::MAX,
    fill: 32,
};

/// Not measured.
const DISCRETE: Row = Row {
    adapters: Class::Discrete.any(),
    tiles: &[
        tiled([128, 128, 8], [8, 8], 1.0),
        tiled([64, 64, 16], [8, 4], 1.2),
        tiled([32, 32, 16], [4, 4], 2.0),
        tiled([128, 16, 16], [8, 4], 1.9),
        tiled([256, 4, 8], [4, 4], 3.0),
        direct(32, 32, [4, 4], 3.0),
    ],
    depthwise: DEPTHWISE,
    coop: COOP,
    shuffle: u32::MAX,
    fill: 256,
};

/// Costs of software adapters are those of gemm; tiles of few columns have several pixels side by side.
const TABLE: [Row; 3] = [
    Row {
        adapters: Class::Software.any(),
        tiles: &[
            direct(16, 128, [16, 16], 1.0),
            direct(16, 64, [16, 8], 1.15),
            direct(16, 32, [16, 4], 1.45),
            direct(8, 32, [8, 4], 1.7),
            direct(64, 8, [16, 4], 3.0),
            direct(64, 4, [8, 4], 3.5),
            tiled([64, 64, 16], [4, 4], 5.0),
        ],
        depthwise: SOFTWARE_DEPTHWISE,
        coop: SOFTWARE_COOP,
        shuffle: 8,
        fill: 4,
    },
    INTEGRATED,
    DISCRETE,
];

/// Where loops count ([`Caps::loop_rounds`]): not unrolled, those over more than one vec4 of columns cost twice as much. The last takes
/// the longest k.
const OLD_MESA: Row = Row {
    adapters: Class::Software.any(),
    tiles: &[
        direct(16, 32, [16, 4], 1.0),
        direct(8, 32, [8, 4], 1.15),
        direct(64, 4, [8, 4], 3.0),
        direct(4, 32, [4, 4], 2.0),
        tiled([64, 64, 16], [4, 4], 5.0),
    ],
    depthwise: SOFTWARE_DEPTHWISE,
    coop: SOFTWARE_COOP,
    shuffle: u32::MAX,
    fill: 4,
};

/// Every Config of the table, the best first.
pub(super) fn candidates(problem: &Gather, caps: &Caps) -> Vec<Config> {
    let row = Row::of(caps);
    let native_f16 = caps.prefers_native_f16(problem.has_f16());
    let tiles = row.tiles().map(|tile| (tile.cost_of(problem), row.config(caps, tile, native_f16)));
    let coop = caps.coop_f16().into_iter().flat_map(|(size, lanes)| {
        row.coop.iter().map(move |&([rows, columns], cost)| {
            let (tile, thread) = ([2 * rows * size, 2 * columns * size, 2 * size], [rows * size, columns * size]);
            let cost = if problem.by_eights() { cost } else { cost * BY_FOURS };
            (cost, Config { algorithm: Algorithm::Coop, tile, thread, lanes, native_f16: true })
        })
    });
    let mut found: Vec<(f64, Config)> = Vec::new();
    for (cost, config) in coop.chain(tiles) {
        let tile = config.tile;
        let steps = problem.steps().into_iter();
        let workgroups = steps.map(|(parts, rows)| product!(workgroups(problem, &config, rows), parts));
        let workgroups = workgroups.fold(0, u64::saturating_add);
        // What is computed, past the ends of y included, as far as it fills the adapter.
        let idle = row.fill as f64 / workgroups.clamp(1, row.fill) as f64;
        let score = cost * idle * product!(workgroups, tile[0], tile[1]) as f64;
        found.push((score, config));
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    found.into_iter().map(|(_, config)| config).collect()
}

/// The first thing that does not fit.
pub(super) fn check(problem: &Gather, caps: &Caps, config: &Config) -> Result<(), Misfit> {
    caps.check_native_f16(config.native_f16, problem.has_f16())?;
    match config.algorithm {
        Algorithm::Coop => check_coop(problem, caps, config)?,
        Algorithm::Strips => {
            check_strips(problem, caps, config)?;
            let whole = problem.order == Order::Nchw || config.thread[1] == 4;
            Misfit::unless(whole, "strips of channels that are last have four", config.thread[1])?;
        }
        Algorithm::Direct | Algorithm::Tiled | Algorithm::Depthwise => check_tile(problem, caps, config)?,
    }
    let most = caps.limits.max_compute_workgroup_storage_size;
    Misfit::at_most("bytes of workgroup memory", config.wg_bytes(), most)?;
    let rounds = match config.algorithm {
        Algorithm::Strips => {
            let [lines, pixels] = config.block();
            let four = Rounds::plain(pixels * lines / 4 + 4) + Rounds::nest(4u32, Rounds::plain(4u32));
            let last = Rounds::nest(lines, Rounds::nest(pixels / 4, four));
            Rounds::plain(pixels * lines) + block_rounds(problem, config, lines) + last
        }
        _ => config.rounds(problem.most_k()),
    };
    caps.check_rounds(rounds)
}

/// `Strips`: those over the rows of x that a block sees, each of which tries so many lines of pixels.
pub(super) fn block_rounds(problem: &Gather, config: &Config, tried: u64) -> Rounds {
    let Some([[height, width], [down, across]]) = problem.strips() else { return Rounds::default() };
    let [lines, pixels] = config.block();
    let rows = (lines - 1) * down as u64 + height as u64;
    let span = (pixels - 1) * across as u64 + width as u64;
    let line = Rounds::nest(tried, Rounds::nest(width as u64, Rounds::plain(pixels)));
    let places = Rounds::nest(span.div_ceil(4) + 1, Rounds::plain(4u32)) + Rounds::plain(span);
    Rounds::nest(rows, places + line)
}

/// The same of strips.
pub(super) fn check_strips(problem: &Gather, caps: &Caps, config: &Config) -> Result<(), Misfit> {
    let Config { tile: [m, n, k], thread: [tm, tn], lanes, .. } = *config;
    let channels = problem.groups as u64;
    Misfit::unless(
        problem.strips().is_some(),
        "strips need groups of one channel (channels last: of one output, in fours), a kernel of 9, a stride of 2 at most, nothing mapped or dilated",
        channels,
    )?;
    let last = problem.order == Order::Nhwc;
    Misfit::unless(tn == 1 || last && tn == 4, "strips have one channel, or where channels are last four", tn)?;
    Misfit::unless(matches!(k, 4 | 8 | 16), "strips have lines of 4, 8 or 16 pixels", k)?;
    Misfit::unless(tm.is_multiple_of(k) && matches!(tm / k, 1 | 2 | 4), "strips have 1, 2 or 4 lines", tm)?;
    for (size, thread) in [(m, tm), (n, tn)] {
        Misfit::at_most("a size of a tile", size, 1u32 << 14)?;
        Misfit::unless(size > 0 && size.is_multiple_of(thread), "thread must divide the tile", thread)?;
    }
    Misfit::unless(lanes == 1, "lanes must be 1", lanes)?;
    caps.check_wg_size(config.wg_size())
}

/// `Strips`: blocks of a channel, in all batches.
pub(super) fn blocks(problem: &Gather, config: &Config) -> u64 {
    let [lines, pixels] = config.block();
    product!(problem.batch, (problem.out[0] as u64).div_ceil(lines), (problem.out[1] as u64).div_ceil(pixels))
}

/// The same of cooperative matrices.
fn check_coop(problem: &Gather, caps: &Caps, config: &Config) -> Result<(), Misfit> {
    let Config { tile: [m, n, k], thread: [tm, tn], lanes, native_f16, .. } = *config;
    let size = config.size();
    let probed = k == 2 * size && caps.coop_f16() == Some((size, lanes));
    Misfit::unless(probed, "k must be two matrices, lanes a subgroup, as probed", k)?;
    let f16 = problem.format.is_none() && [problem.x.1, problem.weight.1].iter().all(|dtype| *dtype == Dtype::F16);
    Misfit::unless(f16 && native_f16, "matrices need x and weights of native f16", native_f16)?;
    Misfit::unless(problem.phases.is_none(), "matrices need pixels of the same taps", problem.parts() as u64)?;
    Misfit::unless(tm > 0 && tm.is_multiple_of(size), "pixels of a subgroup must be whole matrices", tm)?;
    let pairs = tn > 0 && tn.is_multiple_of(2 * size);
    Misfit::unless(pairs, "channels of a subgroup must be pairs of matrices", tn)?;
    Misfit::at_most("matrices of a subgroup", (tm / size).saturating_mul(tn / size), MATRICES)?;
    for (size, thread) in [(m, tm), (n, tn)] {
        Misfit::at_most("a size of a tile", size, 512u32)?;
        Misfit::unless(size > 0 && size.is_multiple_of(thread), "thread must divide the tile", thread)?;
    }
    Misfit::unless(
        caps.loop_rounds().is_none(),
        "loops of coop are not counted, and this driver cuts long ones short",
        k,
    )?;
    caps.check_wg_size(config.wg_size())
}

/// The same of a tile alone.
pub(super) fn check_tile(problem: &Gather, caps: &Caps, config: &Config) -> Result<(), Misfit> {
    let Config { algorithm, tile: [m, n, k], thread: [tm, tn], lanes, .. } = *config;
    let other = matches!(algorithm, Algorithm::Coop | Algorithm::Strips);
    Misfit::unless(!other, "matrices are of convolutions, not of gradients of weights", lanes)?;
    let sizes = [m, n, k, tm, tn];
    for size in sizes.into_iter().chain([lanes]) {
        Misfit::unless(size > 0, "sizes must be at least 1", size)?;
    }
    for size in sizes {
        Misfit::at_most("a size of a tile", size, 512u32)?;
        Misfit::unless(size.is_multiple_of(4), "sizes of a tile must be fours", size)?;
    }
    Misfit::unless(m.is_multiple_of(tm), "thread must divide the pixels of the tile", tm)?;
    Misfit::unless(n.is_multiple_of(tn), "thread must divide the channels of the tile", tn)?;
    Misfit::at_most("sums of a thread", tm * tn, 256u32)?;
    Misfit::unless(algorithm == Algorithm::Tiled || k == 4, "k of a tile must be 4, of tiled fours", k)?;
    if algorithm == Algorithm::Depthwise {
        let (channels, groups) = (problem.group_channels, problem.groups);
        Misfit::unless(channels == 1 && groups > 1, "depthwise needs groups of one channel of x", channels as u64)?;
        Misfit::unless(tm * tn == 16 && tm == 4, "an invocation of depthwise must have 4 x 4", tm)?;
    }
    let shuffles = algorithm == Algorithm::Direct
        && caps.trusted_subgroup_size() == Some(lanes)
        && config.wg_size().is_multiple_of(lanes);
    Misfit::unless(lanes == 1 || shuffles, "lanes must be 1, of direct 1 or the trusted subgroup", lanes)?;
    Misfit::unless(lanes == 1 || m == tm, "pixels that are handed round must be those of all", m)?;
    caps.check_wg_size(config.wg_size())
}

/// Workgroups of the second step, of a phase of so many pixels.
pub(super) fn workgroups(problem: &Gather, config: &Config, rows: u64) -> u64 {
    let [m, n, _] = config.tile.map(u64::from);
    let Packing { groups, cols, .. } = problem.packing(config.algorithm);
    if config.algorithm == Algorithm::Strips {
        let lanes = m.checked_div(config.thread[0].into()).unwrap_or(0).max(1);
        return product!(blocks(problem, config).div_ceil(lanes), (cols as u64).div_ceil(n.max(1)));
    }
    product!(rows.div_ceil(m.max(1)), (cols as u64).div_ceil(n.max(1)), groups)
}

impl Config {
    /// Invocations per workgroup.
    pub fn wg_size(&self) -> u32 {
        let [m, n] = [0, 1].map(|i| self.tile[i].checked_div(self.thread[i]).unwrap_or(0));
        let each = if self.algorithm == Algorithm::Coop { self.lanes } else { 1 };
        m.saturating_mul(n).saturating_mul(each)
    }

    /// `Strips`: lines of a block, and pixels of a line.
    pub(super) fn block(&self) -> [u64; 2] {
        let pixels = self.tile[2].max(1);
        [(self.thread[0] / pixels).max(1), pixels].map(u64::from)
    }

    /// `Coop`: rows and columns of a matrix.
    pub(super) fn size(&self) -> u32 {
        (self.tile[2] / 2).max(1)
    }

    /// Bytes of workgroup memory.
    pub(super) fn wg_bytes(&self) -> u32 {
        let [m, n, k] = self.tile;
        let size = self.size();
        match self.algorithm {
            Algorithm::Direct | Algorithm::Depthwise | Algorithm::Strips => 0,
            Algorithm::Tiled => 4 * k * (m + 4 + n),
            Algorithm::Coop => 2 * (m + n) * (k + 8) + 4 * (self.wg_size() / self.lanes.max(1)) * size * (2 * size + 4),
        }
    }

    /// Rounds of the loops of an invocation over so many k, at most.
    pub(super) fn rounds(&self, k: u64) -> Rounds {
        let [tile_m, tile_n, tile_k] = self.tile.map(|size| u64::from(size.max(1)));
        let [rows, columns] = self.thread.map(u64::from);
        let vecs = columns / 4;
        let (sums, each) = (Rounds::plain(rows * vecs), Rounds::plain(rows));
        // Columns, or rows, that are not whole fours.
        let four = Rounds::nest(4u32, Rounds::plain(4u32)).times(2);
        match self.algorithm {
            Algorithm::Depthwise => each + Rounds::nest(k, each) + Rounds::plain(1u32) + four,
            Algorithm::Direct => {
                let step = each + Rounds::nest(vecs, each);
                sums + each
                    + Rounds::nest(k / 4, step)
                    + Rounds::nest(rows / 4 * vecs, Rounds::plain(rows / 4 * vecs) + four)
            }
            // Strips are counted by what they see of the kernel.
            Algorithm::Coop | Algorithm::Strips => Rounds::default(),
            Algorithm::Tiled => {
                let loads = |size: u64| Rounds::plain((size * tile_k).div_ceil(4 * u64::from(self.wg_size().max(1))));
                let quad = Rounds::nest(vecs, Rounds::plain(4u32));
                let tile = loads(tile_m) + loads(tile_n) + Rounds::nest(tile_k, Rounds::nest(rows / 4, quad));
                let last = Rounds::plain(rows / 4 * vecs) + four;
                sums + loads(tile_m) + Rounds::nest(k.div_ceil(tile_k), tile) + Rounds::nest(rows / 4 * vecs, last)
            }
        }
    }
}
