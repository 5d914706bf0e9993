//! The Config of ops that reduce each row to a few numbers and then write it, and the tables it comes from.

use crate::caps::{Adapters, Class};
use crate::compose::Shader;
use crate::config::{config, words};
use crate::kernels::Pass;
use crate::layout::product;
use crate::rounds::Rounds;
use crate::{Caps, Misfit};

config! {
    /// How it is computed.
    pub struct Config {
        /// The algorithm.
        pub algorithm: Algorithm,
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// Invocations per row, a power of two that divides `wg_size`.
        pub lanes: u32,
        /// `Registers`: chunks that an invocation can hold. Else: chunks taken at a time.
        pub keep: u32,
        /// How the invocations of a row combine.
        pub reduce: Reduce,
        /// f16 tensors are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

words! {
    /// The algorithm; each has shader files of its name.
    pub enum Algorithm {
        /// The row stays in registers.
        Registers = "registers",
        /// One pass for the numbers of the row, one that writes.
        Online = "online",
        /// Several workgroups per row, two steps, scratch.
        Split = "split",
    }
}

words! {
    /// How the invocations of a row combine their maxima and sums.
    pub enum Reduce {
        /// One invocation per row.
        None = "none",
        /// Through workgroup memory; works everywhere.
        Tree = "tree",
        /// Within a subgroup; `lanes` is at most the least size of one, which is trusted.
        Shuffle = "shuffle",
        /// Subgroup operations, then workgroup memory; `lanes` is `wg_size`.
        Subgroup = "subgroup",
    }
}

impl Reduce {
    /// The first thing that does not fit where `lanes` of a workgroup combine as one, by a tree or by shuffles.
    pub(crate) fn check_lanes(self, caps: &Caps, wg_size: u32, lanes: u32) -> Result<(), Misfit> {
        Misfit::unless(lanes.is_power_of_two(), "lanes must be a power of two", lanes)?;
        Misfit::unless(wg_size.is_multiple_of(lanes), "lanes must divide wg_size", lanes)?;
        Misfit::unless((self == Reduce::None) == (lanes == 1), "one lane, and only one, needs no reduction", lanes)?;
        match self {
            Reduce::Shuffle => {
                let least = caps.least_subgroup().unwrap_or(0);
                Misfit::at_most("lanes that shuffle in the least trusted subgroup", lanes, least)
            }
            Reduce::Subgroup => Misfit::unless(false, "reduce must be none, tree or shuffle", 0u32),
            Reduce::None | Reduce::Tree => Ok(()),
        }
    }
}

/// What is to be tiled: so many rows of so many chunks, through so many storage buffers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub rows: usize,
    pub chunks: u32,
    /// Arrays of the row that an invocation holds in registers: one or two.
    pub arrays: u32,
    /// Without scratch.
    pub buffers: u32,
    /// Some tensor is f16.
    pub f16: bool,
}

/// The tiles of one class of adapters.
struct Row {
    adapters: Adapters,
    /// Rows that stay in registers: the first that is long enough.
    registers: &'static [Held],
    /// Chunks per row, at most, where two arrays are held.
    two_arrays: u32,
    /// Rows that do not: the first that has as few rows.
    online: &'static [Streamed],
    split: Parted,
}

struct Held {
    /// Chunks per row, at most.
    chunks: u32,
    lanes: u32,
    wg_size: u32,
}

struct Streamed {
    /// Rows, at least.
    rows: usize,
    lanes: u32,
    wg_size: u32,
    /// Chunks at a time.
    keep: u32,
}

struct Parted {
    /// Fewer rows than this, of at least `SPLIT_CHUNKS`, are best split.
    rows: usize,
    wg_size: u32,
    /// Chunks at a time.
    keep: u32,
}

/// The tiles of all ops on rows. Measured with softmax on: Software, Mesa 26.2 lavapipe on 2 cores, where a workgroup is
/// one subgroup and nothing waits (a barrier costs two thirds of the speed), short rows go one per invocation, and half a
/// kilobyte per invocation still stays in registers. Discrete and Integrated are not measured: they keep at most 64
/// f32 of a row per invocation, and neighbours read neighbouring chunks. By the compilers of RADV, NVK and Honeykrisp nothing
/// spills (1024 and 4096 columns: 60 and 48 VGPRs on navi31, 56 and 40 registers on Ada).
const TABLE: [Row; 3] = [
    Row {
        adapters: Class::Software.any(),
        registers: &[Held { chunks: 16, lanes: 1, wg_size: 8 }, Held { chunks: 256, lanes: 8, wg_size: 8 }],
        two_arrays: 256,
        online: &[
            Streamed { rows: 64, lanes: 2, wg_size: 8, keep: 8 },
            Streamed { rows: 0, lanes: 8, wg_size: 8, keep: 8 },
        ],
        split: Parted { rows: 4, wg_size: 8, keep: 8 },
    },
    Row {
        adapters: Class::Integrated.any(),
        registers: &[
            Held { chunks: 1, lanes: 1, wg_size: 128 },
            Held { chunks: 4, lanes: 2, wg_size: 128 },
            Held { chunks: 16, lanes: 8, wg_size: 128 },
            Held { chunks: 64, lanes: 32, wg_size: 128 },
            Held { chunks: 1024, lanes: 128, wg_size: 128 },
            Held { chunks: 4096, lanes: 256, wg_size: 256 },
        ],
        two_arrays: 2048,
        online: &[Streamed { rows: 0, lanes: 256, wg_size: 256, keep: 4 }],
        split: Parted { rows: 64, wg_size: 256, keep: 4 },
    },
    Row {
        adapters: Class::Discrete.any(),
        registers: &[
            Held { chunks: 1, lanes: 1, wg_size: 256 },
            Held { chunks: 4, lanes: 2, wg_size: 256 },
            Held { chunks: 16, lanes: 8, wg_size: 256 },
            Held { chunks: 64, lanes: 32, wg_size: 256 },
            Held { chunks: 256, lanes: 64, wg_size: 256 },
            Held { chunks: 4096, lanes: 256, wg_size: 256 },
        ],
        two_arrays: 2048,
        online: &[Streamed { rows: 0, lanes: 256, wg_size: 256, keep: 4 }],
        split: Parted { rows: 256, wg_size: 256, keep: 4 },
    },
];

/// Chunks that an invocation holds, at most, in order that its row needs no workgroup memory. By the compilers, softmax of 1024
/// columns in f32, instructions per row by 32 lanes that shuffle and by 64 with a tree: RADV (navi31) 441 of 60 VGPRs for 612 of
/// 48, NVK (Ada) 1369 for 1848; of 256 columns by 32 lanes that shuffle or not 161 for 204, 433 for 579. Not measured.
const SHUFFLED: u32 = 8;

/// Chunks below which splitting a row does not pay.
const SPLIT_CHUNKS: u32 = 4096;
const MAX_PARTS: u32 = 256;

/// Every Config of the table, the best first.
pub(super) fn candidates(caps: &Caps, of: &Rows) -> Vec<Config> {
    let row = caps.row(&TABLE, |row| row.adapters);
    let most = caps.most_invocations();

    let tile = |algorithm, wg_size: u32, lanes: u32, keep| {
        let (wg_size, lanes) = (wg_size.min(most), lanes.min(most));
        Config { algorithm, wg_size, lanes, keep, reduce: Reduce::None, native_f16: caps.prefers_native_f16(of.f16) }
    };
    let mut tiles = Vec::new();
    let fits = of.arrays < 2 || of.chunks <= row.two_arrays;
    if let Some(&Held { lanes, wg_size, .. }) = row.registers.iter().find(|held| of.chunks <= held.chunks && fits) {
        // Fewer lanes hold more where they then lie in one subgroup.
        let few = caps
            .least_subgroup()
            .filter(|&few| caps.class() != Class::Software && of.chunks <= few * SHUFFLED / of.arrays);
        let lanes = few.map_or(lanes, |few| few.min(lanes));
        tiles.push(tile(Algorithm::Registers, wg_size, lanes, of.chunks.div_ceil(lanes).next_power_of_two()));
    }
    let online = row.online.iter().filter(|online| of.rows >= online.rows);
    tiles.extend(online.map(|&Streamed { lanes, wg_size, keep, .. }| tile(Algorithm::Online, wg_size, lanes, keep)));
    let few = of.rows < row.split.rows;
    let split = tile(Algorithm::Split, row.split.wg_size, row.split.wg_size, row.split.keep);
    match few && of.chunks >= SPLIT_CHUNKS {
        true => tiles.insert(0, split),
        false => tiles.push(split),
    }
    // The same with one invocation per row: no reduction, no feature.
    let Streamed { wg_size, keep, .. } = row.online[0];
    tiles.push(tile(Algorithm::Online, wg_size, 1, keep));

    let reductions = [Reduce::None, Reduce::Shuffle, Reduce::Subgroup, Reduce::Tree];
    let with = |tile: Config| reductions.map(|reduce| Config { reduce, ..tile });
    let mut found: Vec<Config> = tiles.into_iter().flat_map(with).collect();
    if caps.class() == Class::Software {
        // Whatever waits at a barrier comes last, unless only it keeps more than one core busy.
        found.sort_by_key(|config| !few && matches!(config.reduce, Reduce::Subgroup | Reduce::Tree));
    }
    found
}

impl Config {
    /// The first thing that does not fit this device.
    pub(super) fn check(&self, caps: &Caps, of: &Rows) -> Result<(), Misfit> {
        let limits = &caps.limits;
        let Config { algorithm, wg_size, lanes, keep, reduce, native_f16 } = *self;
        let whole = lanes == wg_size;
        caps.check_wg_size(wg_size)?;
        caps.check_native_f16(native_f16, of.f16)?;
        Misfit::unless(lanes.is_power_of_two(), "lanes must be a power of two", lanes)?;
        Misfit::unless(wg_size.is_multiple_of(lanes), "lanes must divide wg_size", lanes)?;
        Misfit::unless(keep > 0, "keep must be at least 1", keep)?;
        Misfit::at_most("keep", keep, 1024u32)?;
        match algorithm {
            Algorithm::Registers => {
                Misfit::at_most("chunks of a row, which lanes * keep hold", of.chunks, product!(lanes, keep))?;
            }
            Algorithm::Split => {
                let limit = limits.max_storage_buffers_per_shader_stage;
                Misfit::at_most("storage buffers with that of split", of.buffers + 1, limit)?;
                Misfit::unless(whole, "split needs lanes to be wg_size", lanes)?;
            }
            Algorithm::Online => {}
        }
        Misfit::unless((reduce == Reduce::None) == (lanes == 1), "one lane, and only one, needs no reduction", lanes)?;
        match reduce {
            Reduce::Shuffle => {
                let least = caps.least_subgroup().unwrap_or(0);
                Misfit::at_most("lanes that shuffle in the least trusted subgroup", lanes, least)?;
            }
            Reduce::Subgroup => {
                caps.check_reductions()?;
                Misfit::unless(whole, "subgroup reduction needs lanes to be wg_size", lanes)?;
            }
            Reduce::None | Reduce::Tree => {}
        }
        Misfit::at_most("bytes of workgroup memory", self.wg_bytes(), limits.max_compute_workgroup_storage_size)?;
        self.rounds(of).into_iter().try_for_each(|rounds| caps.check_rounds(rounds))
    }

    /// Rounds of the loops of an invocation, at most: of all there is, or of each step of two.
    fn rounds(&self, of: &Rows) -> Vec<Rounds> {
        let (parts, part) = self.parts(of);
        let keep = Rounds::plain(self.keep);
        // Several reductions.
        let reduced = Rounds::plain(match self.reduce {
            Reduce::None => 0,
            Reduce::Tree | Reduce::Shuffle => self.lanes.ilog2(),
            Reduce::Subgroup => self.wg_size.div_ceil(4),
        });
        let joined = reduced.times(5) + Rounds::plain(parts.div_ceil(self.lanes)).times(2);
        // A block has two loops where it is reduced, one where it is written; what is left, and what is hidden, go one by one.
        let blocks = part / self.lanes.saturating_mul(self.keep);
        let reduces = Rounds::nest(blocks, keep.times(2)) + keep + reduced.times(5) + Rounds::plain(4u32);
        // Of rows that run in step, one may be seen to its end and another be hidden from its start.
        let hidden = Rounds::plain(part.div_ceil(self.lanes));
        let writes = Rounds::nest(blocks, keep) + keep.times(2) + hidden + joined;
        match self.algorithm {
            Algorithm::Registers => vec![keep.times(3) + joined],
            Algorithm::Online => vec![reduces + writes],
            Algorithm::Split => vec![reduces, writes],
        }
    }

    fn wg_bytes(&self) -> u32 {
        match self.reduce {
            Reduce::None | Reduce::Shuffle => 0,
            Reduce::Tree => self.wg_size.saturating_mul(4),
            Reduce::Subgroup => self.wg_size.checked_next_multiple_of(4).unwrap_or(u32::MAX),
        }
    }

    /// Parts per row, and chunks per part, of the two-step algorithm.
    pub(super) fn parts(&self, of: &Rows) -> (u32, u32) {
        if self.algorithm != Algorithm::Split {
            return (1, of.chunks);
        }
        // A part is long enough to be worth a workgroup, and there are at most MAX_PARTS.
        let step = self.lanes.saturating_mul(self.keep).clamp(1, 1 << 20);
        let part = of.chunks.div_ceil(MAX_PARTS).max(step * 4).next_multiple_of(step);
        (of.chunks.div_ceil(part), part)
    }

    /// Bytes of scratch, where a part of a row leaves so many.
    pub(super) fn scratch(&self, of: &Rows, part_bytes: u64) -> u64 {
        match self.algorithm {
            Algorithm::Split => product!(of.rows, self.parts(of).0, part_bytes),
            _ => 0,
        }
    }

    pub(super) fn workgroups(&self, of: &Rows) -> u64 {
        match self.algorithm {
            Algorithm::Split => product!(of.rows, self.parts(of).0),
            _ => (of.rows as u64).div_ceil(u64::from(self.wg_size / self.lanes)),
        }
    }
}

impl<F: Copy> Pass<Config, F> {
    /// The beginning of a step's shader, with the tile's constants and its reduction.
    pub(super) fn tile(&self, vec: u32) -> Shader {
        let Config { wg_size, lanes, keep, reduce, .. } = self.config;
        self.begin(wg_size, self.config.wg_bytes(), vec).constant("LANES", lanes).constant("KEEP", keep).import(
            match reduce {
                Reduce::None => "reduce_none",
                Reduce::Tree => "reduce_tree",
                Reduce::Shuffle => "reduce_shuffle",
                Reduce::Subgroup => "reduce_subgroup",
            },
        )
    }
}
