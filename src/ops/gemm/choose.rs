//! Which Config: tables of tiles by class of adapter, what fits, what is best.

use super::{Algorithm, Config, Precision, Problem, Views};
use crate::caps::{Adapters, Class, Vendor};
use crate::layout::product;
use crate::rounds::Rounds;
use crate::{Caps, Dtype, Misfit};

/// Rows or columns that [`Algorithm::Vector`] takes at most.
pub(super) const FEW: usize = 8;

/// A row of the table: the tiles of one class of adapters.
struct Row {
    adapters: Adapters,
    tiles: &'static [Tile],
    /// `Direct`: the subgroup hands rows of a round, where it has one trusted width of at least this.
    shuffle: u32,
    coop: &'static [CoopTile],
    vector: Few,
    /// Workgroups that fill the adapter; below, a long k is split.
    fill: u64,
}

/// What a subgroup has of cooperative matrices; a workgroup has two by two subgroups.
struct CoopTile {
    /// Rows and columns.
    matrices: [u32; 2],
    /// Matrices along k of a tile.
    depth: u32,
    /// Time per product, as of a tile.
    cost: f64,
}

const fn coop_tile(matrices: [u32; 2], depth: u32, cost: f64) -> CoopTile {
    CoopTile { matrices, depth, cost }
}

/// Tile sizes of `Vector`.
struct Few {
    wg_size: u32,
    along: AlongK,
    across: AcrossK,
}

/// Weights that are stored along k: each row costs a sum over the lanes.
struct AlongK {
    lanes_of_one_row: u32,
    lanes_of_several: u32,
    /// vec4 of columns.
    vecs: u32,
    most_rows: u32,
}

/// Weights that are stored across k.
struct AcrossK {
    lanes: u32,
    /// So many where fewer leave the adapter idle.
    most_lanes: u32,
    /// vec4 of columns.
    vecs: u32,
    /// Sums of vec4.
    most_sums: u32,
}

/// A Config of `Direct` or `Tiled`.
struct Tile {
    algorithm: Algorithm,
    tile: [u32; 3],
    thread: [u32; 2],
    stages: u32,
    /// Time per product, of which only ratios count.
    cost: f64,
}

const fn direct(rows: u32, columns: u32, thread: [u32; 2], cost: f64) -> Tile {
    Tile { algorithm: Algorithm::Direct, tile: [rows, columns, 4], thread, stages: 1, cost }
}

const fn tiled(tile: [u32; 3], thread: [u32; 2], stages: u32, cost: f64) -> Tile {
    Tile { algorithm: Algorithm::Tiled, tile, thread, stages, cost }
}

/// Of a software adapter, where all else is faster.
const SOFTWARE_COOP: &[CoopTile] = &[coop_tile([2, 2], 2, 20.0)];

/// AMD and NVIDIA, by their compilers. The instructions of the main loop leave of the matrix peak at most, b stored [n, k] and
/// [k, n], on navi31 for 4 x 4 matrices 94 and 93 %, 4 x 2 94 %, 2 x 2 89 and 84 %; gfx1201 93 and 91, 87 and 86, 86 and 84 %;
/// on Ada all of it, by 12, 10 and 14 instructions per multiply. A smaller tile reads more of a and b per product.
const COOP: &[CoopTile] = &[coop_tile([4, 4], 2, 0.3), coop_tile([4, 2], 2, 0.33), coop_tile([2, 2], 2, 0.4)];

/// Matrices of 8 x 8, of which four along k give each of 128 invocations a load of eight. Neither measured nor compiled.
const APPLE_COOP: &[CoopTile] = &[coop_tile([4, 4], 4, 0.3), coop_tile([4, 2], 4, 0.33), coop_tile([2, 2], 4, 0.4)];

/// By the compilers of Honeykrisp (M1) and Turnip (Adreno 740): 64 x 64 by 8 x 4 spills nowhere (111 and 32 registers); on the M1 it
/// takes 832 ALU instructions for 512 FMA, by 4 x 4 792 for 256. Not measured.
const INTEGRATED: Row = Row {
    adapters: Class::Integrated.any(),
    tiles: &[tiled([64, 64, 16], [8, 4], 1, 1.0), tiled([32, 32, 16], [4, 4], 2, 1.5), direct(32, 32, [4, 4], 2.0)],
    shuffle: u32::MAX,
    coop: COOP,
    vector: Few {
        wg_size: 128,
        along: AlongK { lanes_of_one_row: 32, lanes_of_several: 32, vecs: 1, most_rows: 8 },
        across: AcrossK { lanes: 4, most_lanes: 16, vecs: 1, most_sums: 8 },
    },
    fill: 32,
};

/// By the compilers of RADV (navi31, gfx1201) and NVK (Ampere, Ada, Blackwell): nothing spills to memory. 64 x 64 by 8 x 4 leaves 59
/// and 57 % of the f32 peak (navi31, Ada), by 4 x 4 44 %, 128 x 128 78 and 66 %. navi31 holds 192 workgroups of 4 x 4
/// matrices at a time, an Ada of 128 processors 256. Across k, 128 workgroups instead of 32 read 4096 columns of weights, 64
/// bytes of a row each. Not measured.
const DISCRETE: Row = Row {
    adapters: Class::Discrete.any(),
    tiles: &[
        tiled([128, 128, 8], [8, 8], 1, 1.0),
        tiled([64, 64, 16], [8, 4], 1, 1.2),
        tiled([32, 32, 16], [4, 4], 2, 2.0),
        direct(32, 32, [4, 4], 3.0),
    ],
    shuffle: u32::MAX,
    coop: COOP,
    vector: Few {
        wg_size: 256,
        along: AlongK { lanes_of_one_row: 32, lanes_of_several: 32, vecs: 1, most_rows: 8 },
        across: AcrossK { lanes: 8, most_lanes: 32, vecs: 1, most_sums: 8 },
    },
    fill: 256,
};

/// Measured on: Software, Mesa 26.2 lavapipe on 2 shared cores, GFLOP/s, columns across 8 invocations. f32 512^3: 16
/// rows by 4, 2, 1 vec4 of columns each 38.8, 32.7, 26.9 (1024^3: 37.8, 33.9, 26.6; f16 37.2, 32.7, 26.6), 8 rows by 4
/// vec4 31.7, 32 rows by 2 34.3; in a run of a quieter minute 16 rows by 1 vec4 50, 8 rows 41, 4 rows 29, single columns
/// 13 to 29, invocations along the rows 21 to 34. Rows of a handed round by 8 invocations: the time of 512^3 falls to 0.90
/// (f32) and 0.95 (f16), by 4 it grows to 2.4. One row of 4096 x 4096 weights, f32 GB/s: along k 8, 4, 1 lanes 13.8,
/// 13.7, 9.1; across k 16, 4, 1 vec4 7.6, 3.3, 2.6.
const TABLE: [Row; 4] = [
    Row {
        adapters: Class::Software.any(),
        tiles: &[
            direct(16, 128, [16, 16], 1.0),
            direct(16, 64, [16, 8], 1.15),
            direct(16, 32, [16, 4], 1.45),
            direct(8, 32, [8, 4], 1.7),
            tiled([64, 64, 16], [4, 4], 1, 5.0),
        ],
        shuffle: 8,
        coop: SOFTWARE_COOP,
        vector: Few {
            wg_size: 8,
            along: AlongK { lanes_of_one_row: 8, lanes_of_several: 4, vecs: 2, most_rows: 4 },
            across: AcrossK { lanes: 1, most_lanes: 1, vecs: 16, most_sums: 64 },
        },
        fill: 4,
    },
    Row { adapters: Class::Integrated.of(Vendor::Apple), coop: APPLE_COOP, ..INTEGRATED },
    INTEGRATED,
    DISCRETE,
];

/// Where loops count ([`Caps::loop_rounds`]): not unrolled, those over more than one vec4 of columns cost twice as much.
/// Mesa 22.3, 128 x 512 x 512 f32: 16 rows by 1 vec4 of columns 5.6 GFLOP/s, 8 rows 5.2, 16 rows by 4 vec4 3.1.
const OLD_MESA: Row = Row {
    adapters: Class::Software.any(),
    tiles: &[direct(16, 32, [16, 4], 1.0), direct(8, 32, [8, 4], 1.15), tiled([64, 64, 16], [4, 4], 1, 5.0)],
    shuffle: u32::MAX,
    coop: SOFTWARE_COOP,
    vector: Few {
        wg_size: 8,
        along: AlongK { lanes_of_one_row: 8, lanes_of_several: 4, vecs: 2, most_rows: 4 },
        across: AcrossK { lanes: 1, most_lanes: 1, vecs: 16, most_sums: 16 },
    },
    fill: 4,
};

/// k below which a part does not pay.
const PART: u64 = 512;
/// Parts that k is split in to fill the adapter, at most.
const FILLING: u32 = 32;
/// Parts at most; so many only where the driver cuts long loops short.
const MAX_PARTS: u32 = 256;

/// Matrices of sums that a subgroup has at most: 16 of 16 x 16 take 64 VGPRs of wave64 on RDNA3, 128 registers on NVIDIA.
const MATRICES: u64 = 16;
/// Time of cooperative matrices where loads are guarded, as of those by eights: by the compilers of RADV (navi31) and NVK
/// (Ada) 23 and 28 instructions per multiply of 4 x 2 matrices instead of 7 and 10.
const GUARDED: f64 = 1.5;
/// k of cooperative matrices that takes the time of storing and adding the sums of one more part: 8 bytes per sum, where
/// a GPU does some 100 operations on matrices per byte.
const SPLIT_K: f64 = 400.0;

/// Every Config of the table, the best first.
pub(super) fn candidates(problem: &Problem, views: &Views, caps: &Caps) -> Vec<Config> {
    let row = match caps.loop_rounds() {
        Some(_) => &OLD_MESA,
        None => caps.row(&TABLE, |row| row.adapters),
    };
    let native_f16 = caps.prefers_native_f16(problem.has_f16());
    let of =
        |algorithm, tile, thread, stages| Config { algorithm, tile, thread, lanes: 1, stages, parts: 1, native_f16 };
    let mut all = Vec::new();
    let (few, many) = (problem.m.min(problem.n), problem.m.max(problem.n));
    // Few rows are added up in another order, and rows that are more than the columns in a third one.
    if few <= FEW && views.packed.is_none() && !caps.batch_invariant {
        let few = few.max(1).next_power_of_two() as u32;
        let Few { wg_size, along, across } = &row.vector;
        let along_k = views.weights_along_k(problem.m > problem.n);
        let (mut lanes, mut vecs) = match (along_k, few) {
            (true, 1) => (along.lanes_of_one_row, along.vecs),
            (true, _) => (along.lanes_of_several, along.vecs),
            (false, _) => (across.lanes, across.vecs.min(across.most_sums / few)),
        };
        // Not all columns to one workgroup.
        while vecs > 1 && many <= (wg_size / lanes * 4 * vecs) as usize {
            vecs /= 2;
        }
        // Across k, columns are few: more workgroups have fewer each.
        let fills = |lanes: u32| many.div_ceil((wg_size / lanes * 4 * vecs) as usize) as u64 >= row.fill;
        while !along_k && lanes < across.most_lanes && !fills(lanes) {
            lanes *= 2;
        }
        let cost = if along_k && few > along.most_rows { 2.0 } else { 0.0 };
        let config = of(Algorithm::Vector, [few, wg_size / lanes * 4 * vecs, 4], [few, 4 * vecs], 1);
        all.push((cost, Config { lanes, ..config }));
    }
    if let Some((size, width)) = caps.coop_f16() {
        for &CoopTile { matrices: [rows, columns], depth, cost } in row.coop {
            let (tile, thread) = ([2 * rows * size, 2 * columns * size, depth * size], [rows * size, columns * size]);
            let config = Config { lanes: width, native_f16: true, ..of(Algorithm::Coop, tile, thread, size) };
            let cost = if views.by_eights && views.packed.is_none() { cost } else { cost * GUARDED };
            all.push((cost, config));
        }
    }
    for &Tile { algorithm, tile: [tile_m, tile_n, tile_k], thread: [thread_m, thread_n], stages, cost } in row.tiles {
        // A gated product has twice the sums. Where weights are decoded, it costs more to decode them for fewer rows: 128 x 1536 x 576 of q4_1
        // takes lavapipe 47 ms by 16 rows, 92 by 8.
        let decodes = views.packed.is_some() && caps.class() == Class::Software && caps.loop_rounds().is_none();
        let halved = problem.products() > 1 && thread_m > 4 && algorithm == Algorithm::Direct && !decodes;
        let by = if halved { 2 } else { 1 };
        let config = of(algorithm, [tile_m / by, tile_n, tile_k], [thread_m / by, thread_n], stages);
        let shuffles = |width: &u32| {
            algorithm == Algorithm::Direct
                && tile_m == thread_m
                && *width >= row.shuffle
                && config.wg_size().is_multiple_of(*width)
        };
        let lanes = caps.trusted_subgroup_size().filter(shuffles).unwrap_or(1);
        all.push((cost, Config { lanes, ..config }));
    }
    // What is computed, past the ends of d included, by its cost, as far as it fills the adapter.
    let score = |cost: f64, config: &Config| {
        let parts = if config.parts > 1 && config.algorithm == Algorithm::Coop { config.parts } else { 0 };
        let cost = cost * (1.0 + SPLIT_K * f64::from(parts) / problem.k as f64);
        let [m, n, _] = config.tile.map(u64::from);
        let workgroups = config.workgroups(problem);
        let idle = row.fill as f64 / workgroups.clamp(1, row.fill) as f64;
        cost * idle * product!(workgroups / u64::from(config.parts), m, n) as f64
    };
    let mut found: Vec<(f64, Config)> = Vec::new();
    for (cost, config) in all {
        let few = row.fill / config.workgroups(problem).max(1);
        let least = few.min(problem.k as u64 / PART).min(FILLING.into()) as u32;
        let split = |parts| Config { parts, ..config };
        let parts = caps.parts(least, MAX_PARTS, |parts| split(parts).rounds(problem));
        for config in [split(split(parts).parts(problem).0), config] {
            found.push((score(cost, &config), config));
        }
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    found.into_iter().map(|(_, config)| config).collect()
}

/// The first thing that does not fit.
pub(super) fn check(problem: &Problem, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
    let Config { algorithm, tile: [m, n, k], thread: [tm, tn], lanes, stages, parts, native_f16 } = *config;
    let sizes = [m, n, k, tm, tn];
    let few = problem.m.min(problem.n) as u64;
    caps.check_native_f16(native_f16, problem.has_f16() || algorithm == Algorithm::Coop)?;
    for size in sizes.into_iter().chain([lanes, stages, parts]) {
        Misfit::unless(size > 0, "sizes must be at least 1", size)?;
    }
    for size in sizes {
        Misfit::at_most("a size of a tile", size, 512u32)?;
    }
    Misfit::unless(m.is_multiple_of(tm), "thread must divide the rows of the tile", tm)?;
    Misfit::unless(n.is_multiple_of(tn), "thread must divide the columns of the tile", tn)?;
    Misfit::at_most("parts", parts, MAX_PARTS)?;
    Misfit::unless(parts == config.parts(problem).0, "every part must have some of k", parts)?;
    if algorithm != Algorithm::Coop {
        Misfit::unless(tn.is_multiple_of(4), "columns of a thread must be fours", tn)?;
        Misfit::at_most("sums of a thread", tm * tn, 256u32)?;
    }
    match algorithm {
        Algorithm::Direct | Algorithm::Tiled => {
            Misfit::unless(tm.is_multiple_of(4), "rows of a thread must be fours", tm)?;
            let shuffles = algorithm == Algorithm::Direct
                && caps.trusted_subgroup_size() == Some(lanes)
                && config.wg_size().is_multiple_of(lanes);
            Misfit::unless(lanes == 1 || shuffles, "lanes must be 1, of direct 1 or the trusted subgroup", lanes)?;
            Misfit::unless(lanes == 1 || m == tm, "rows that are handed round must be those of all", m)?;
        }
        Algorithm::Vector => {
            Misfit::at_most("rows of d, or columns if they are fewer", few, u64::from(tm).min(FEW as u64))?;
            Misfit::unless(m == tm, "few rows must be one tile", m)?;
            Misfit::unless(lanes.is_power_of_two(), "lanes must be a power of two", lanes)?;
            Misfit::unless(parts == 1, "few rows must be one part", parts)?;
        }
        Algorithm::Coop => {
            let f16 = problem.inputs == Precision::F16
                || [problem.a, problem.b].iter().all(|matrix| matrix.dtype == Dtype::F16);
            let [rows, columns] = [tm, tn].map(|size| size / stages);
            let matrices = product!(rows, columns, problem.products());
            Misfit::unless(caps.coop_f16() == Some((stages, lanes)), "the size and lanes must be probed ones", stages)?;
            Misfit::unless(f16 && native_f16, "matrices need a and b of native f16, or rounded to f16", native_f16)?;
            Misfit::unless(views.by_fours || views.by_eights, "matrices need a and b that are read by fours", 1u32)?;
            Misfit::unless(tm.is_multiple_of(stages), "rows of a subgroup must be whole matrices", tm)?;
            Misfit::unless(tn.is_multiple_of(2 * stages), "columns of a subgroup must be pairs of matrices", tn)?;
            Misfit::at_most("matrices of a subgroup", matrices, MATRICES)?;
        }
    }
    let (whole_k, most_stages) = match algorithm {
        Algorithm::Direct | Algorithm::Vector => (k == 4, 1),
        Algorithm::Tiled => (k.is_multiple_of(4), 2),
        Algorithm::Coop => (k.is_multiple_of(stages), stages),
    };
    Misfit::unless(whole_k, "k of a tile must be 4, of tiled fours, of coop whole matrices", k)?;
    Misfit::at_most("stages", stages, most_stages)?;
    caps.check_wg_size(config.wg_size())?;
    let bytes = config.wg_bytes(problem.products() as u32) + views.packed.map_or(0, |packed| packed.wg_bytes());
    Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)?;
    caps.check_rounds(config.rounds(problem))
}

impl Views {
    /// `Vector`: whether the weights, which are b, or a where the columns of d are few, are stored along k.
    pub(super) fn weights_along_k(&self, few_columns: bool) -> bool {
        if few_columns { !self.trans_a } else { self.trans_b }
    }
}

impl Config {
    /// Invocations per workgroup.
    pub fn wg_size(&self) -> u32 {
        let [m, n] = [0, 1].map(|i| self.tile[i].checked_div(self.thread[i]).unwrap_or(0));
        let lanes = if self.algorithm == Algorithm::Direct { 1 } else { self.lanes };
        m.saturating_mul(n).saturating_mul(lanes)
    }

    /// Bytes of workgroup memory for one product, or for two of a gated one.
    pub(super) fn wg_bytes(&self, products: u32) -> u32 {
        let [m, n, k] = self.tile;
        match self.algorithm {
            Algorithm::Direct => 0,
            Algorithm::Tiled => 4 * self.stages * k * (m + 4 + products * (n + 4)) + 4 * (2 - products),
            Algorithm::Vector => self.wg_size().saturating_mul(16),
            // Tiles as f16, rows padded by 8, and per subgroup a patch of two matrices as f32, padded by 4.
            Algorithm::Coop => {
                let patches = self.wg_size() / self.lanes.max(1);
                2 * (m + products * n) * (k + 8) + 4 * self.stages * (2 * self.stages + 4) * patches
            }
        }
    }

    /// `Vector`: the columns of d are few, not the rows.
    pub(super) fn few_columns(&self, problem: &Problem) -> bool {
        self.algorithm == Algorithm::Vector && problem.m > problem.n
    }

    /// Rows and columns of d that a workgroup has.
    pub(super) fn tile_of_d(&self, problem: &Problem) -> [u32; 2] {
        let [m, n, _] = self.tile;
        if self.few_columns(problem) { [n, m] } else { [m, n] }
    }

    /// Workgroups of the first step.
    pub(super) fn workgroups(&self, problem: &Problem) -> u64 {
        let [m, n] = self.tile_of_d(problem).map(|size| size as usize);
        product!(self.parts, problem.m.div_ceil(m), problem.n.div_ceil(n), problem.batch[0], problem.batch[1])
    }

    /// Parts of k, and k of each: as many as are asked for, where each has some.
    pub(super) fn parts(&self, problem: &Problem) -> (u32, u32) {
        let (k, step) = (problem.k as u32, self.tile[2].max(4));
        let part = k.div_ceil(self.parts.max(1)).checked_next_multiple_of(step).unwrap_or(u32::MAX).max(step);
        (k.div_ceil(part).max(1), part)
    }

    /// Rounds of the loops of an invocation, at most.
    pub(super) fn rounds(&self, problem: &Problem) -> Rounds {
        let k = u64::from(self.parts(problem).1.min(problem.k as u32));
        let [tile_m, tile_n, tile_k] = self.tile.map(|size| u64::from(size.max(1)));
        let [rows, columns] = self.thread.map(u64::from);
        let (vecs, lanes) = (columns / 4, u64::from(self.lanes.max(1)));
        let products = problem.products() as u64;
        let (sums, each) = (Rounds::plain(rows * vecs), Rounds::plain(rows));
        // A row of a that is handed round may be put together from four.
        let row =
            if self.algorithm == Algorithm::Direct && lanes > 1 { Rounds::plain(4u32) } else { Rounds::default() };
        // The products of one or four k: those of two matrices where they are gated.
        let step = Rounds::nest(vecs, Rounds::nest(rows, row).times(products));
        // What is left of k, one by one.
        let rest = Rounds::nest(3u32, Rounds::nest(vecs, each));
        match self.algorithm {
            Algorithm::Direct => {
                sums + Rounds::nest(k / 4, each + step) + rest + Rounds::nest(rows, Rounds::plain(vecs))
            }
            Algorithm::Vector => {
                let over_lanes = Rounds::plain(lanes).times(products) + Rounds::plain(4u32);
                sums + Rounds::nest(k.div_ceil(4 * lanes), each + step) + rest + Rounds::nest(rows * vecs, over_lanes)
            }
            // The tiles are fetched, and once more ahead of the first product; the epilogue finds its sums.
            Algorithm::Tiled | Algorithm::Coop => {
                let load = |size: u64| (size * tile_k).div_ceil(4 * u64::from(self.wg_size().max(1)));
                let fetch =
                    Rounds::nest(load(tile_m), Rounds::plain(4u32)) + Rounds::nest(load(tile_n), Rounds::plain(4u32));
                let tile = fetch + Rounds::nest(tile_k, step);
                sums + fetch + Rounds::nest(k.div_ceil(tile_k), tile) + Rounds::nest(rows * vecs, sums)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_k_in_whole_steps() {
        let caps = crate::caps::presets().pop().unwrap();
        let problem = Problem::new(4, 64, 5000, Dtype::F32);
        let found = super::super::candidates(&caps, &problem).unwrap();
        let config = Config { parts: 7, ..*found.iter().find(|c| c.algorithm == Algorithm::Tiled).unwrap() };
        let (parts, part) = config.parts(&problem);
        assert!(part.is_multiple_of(config.tile[2]) && parts * part >= 5000 && (parts - 1) * part < 5000);
    }
}
