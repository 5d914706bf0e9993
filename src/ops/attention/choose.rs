//! The Config of attention: tables by class of adapters, and what fits a device.

use super::{Algorithm, Config, Hide, Load, Problem, Reduce, attention_merge, coop};
use crate::caps::{Adapters, Class, Vendor};
use crate::rounds::Rounds;
use crate::{Caps, Misfit};

/// Sizes and windows beyond any sequence; sums of three fit in an i32.
pub(super) const FAR: usize = 1 << 28;

/// Chunks of four that vectors are padded to: head dims 32, 64, 96, 128, 192, 256, 512 and 576.
const CHUNKS: [u32; 8] = [8, 16, 24, 32, 48, 64, 128, 144];

/// The largest head dim.
pub(super) const MOST_DIM: usize = 4 * CHUNKS[CHUNKS.len() - 1] as usize;

/// A row of the table: the tiles of some adapters.
struct Row {
    adapters: Adapters,
    /// Invocations of a workgroup; of software adapters a subgroup, in which keys are handed round.
    wg_size: u32,
    tiled: Tiled,
    /// Up to so many rows per head of k and v, they are decoded.
    few: usize,
    decode: Decode,
}

#[derive(Clone, Copy)]
struct Tiled {
    /// Chunks of q and of o that an invocation may hold per row before more of them share a row.
    hold: u32,
    /// The same where these add up through workgroup memory.
    hold_apart: u32,
    /// Rows per invocation, at most.
    rows: u32,
    /// Where it holds at most so many chunks per row; else one.
    held: u32,
}

struct Decode {
    /// Invocations per row, if its subgroup has so many.
    lanes: u32,
    /// Chunks of q and of o, of all its rows, that an invocation may hold.
    hold: u32,
    /// Rows per invocation, at most.
    rows: u32,
    /// Workgroups to reach by splitting keys.
    fill: usize,
}

/// Software is measured on Mesa 26.2 lavapipe, 2 cores (see the module). What GPUs do is not measured. By the compilers of RADV
/// (navi31) and NVK (Ada), and an estimate of issue slots and workgroup memory, a tile of 128 x 128 causal f16 reaches at most,
/// of the f32 peak, by lanes and rows: 4 and 1: 22, 22 % (bound by workgroup memory); 8 and 2: 46, 46 (120 VGPRs, 112 GPRs); 8
/// and 4: 56, 52 (192, 248: a wave or two less, and Honeykrisp and Turnip spill); 16 and 4: 40, 37; 4 and 2: 48, 48 (192, 168,
/// spills on Honeykrisp). Through workgroup memory instead of shuffles 4 and 1 reach 22, 8 and 2 30, 4 and 2 42.
const TABLE: [Row; 6] = [
    Row {
        adapters: Class::Software.any(),
        wg_size: 8,
        tiled: Tiled { hold: 128, hold_apart: 128, rows: 2, held: 32 },
        few: 8,
        decode: Decode { lanes: 4, hold: 128, rows: 4, fill: 4 },
    },
    Row {
        adapters: Class::Integrated.of(Vendor::Arm),
        wg_size: 128,
        // Not compiled: an invocation has 64 registers at most.
        tiled: Tiled { hold: 4, hold_apart: 4, rows: 1, held: 4 },
        few: 16,
        decode: Decode { lanes: 16, hold: 4, rows: 1, fill: 64 },
    },
    Row {
        adapters: Class::Integrated.of(Vendor::Amd),
        wg_size: 128,
        tiled: Tiled { hold: 9, hold_apart: 9, rows: 2, held: 9 },
        few: 16,
        decode: Decode { lanes: 16, hold: 16, rows: 4, fill: 64 },
    },
    Row {
        adapters: Class::Integrated.of(Vendor::Apple),
        wg_size: 128,
        // By the compiler of Honeykrisp, of 255 registers: with 4 chunks 193 to 199, whatever hides and however odd the head dim;
        // with 8 some of these spill.
        tiled: Tiled { hold: 5, hold_apart: 9, rows: 2, held: 8 },
        few: 16,
        // Four rows spill (17 to 29 registers), two take 131 to 209, heads of 256 but one.
        decode: Decode { lanes: 16, hold: 8, rows: 2, fill: 64 },
    },
    Row {
        adapters: Class::Integrated.any(),
        wg_size: 128,
        tiled: Tiled { hold: 9, hold_apart: 9, rows: 2, held: 9 },
        few: 16,
        // By the compiler of Turnip (Adreno 740) four rows take 32 registers, two 19, of which more waves fit;
        // two of 255 elements that are loaded one by one, with a mask, spill.
        decode: Decode { lanes: 16, hold: 8, rows: 2, fill: 64 },
    },
    Row {
        adapters: Class::Discrete.any(),
        wg_size: 128,
        tiled: Tiled { hold: 9, hold_apart: 18, rows: 2, held: 18 },
        few: 16,
        decode: Decode { lanes: 16, hold: 16, rows: 4, fill: 512 },
    },
];

/// Keys per block, and where so many do not fit in workgroup memory.
const KEYS: u32 = 4;
const FEW_KEYS: u32 = 2;

/// Bytes of workgroup memory for keys and values: with the shares of scores they fit the baseline's 16 KiB.
const STAGE: u32 = 12288;

/// Halvings of the most keys, until one is left.
pub(super) const SEARCH: u32 = FAR.ilog2() + 1;

/// Keys below which a split does not pay.
const SPLIT_KEYS: usize = 256;
const MAX_SPLITS: usize = 128;
/// Where the driver cuts long loops short.
const MOST_SPLITS: u32 = 1 << 16;

/// Every Config of the table, the best first.
pub(super) fn candidates(caps: &Caps, problem: &Problem) -> Vec<Config> {
    let row = caps.row(&TABLE, |row| row.adapters);
    let most = caps.most_invocations();
    let software = caps.class() == Class::Software;
    // An old Mesa writes out loads and shuffles lane by lane: what unrolls far compiles for seconds.
    let old = software && caps.mesa_before((25, 0));
    let old_tiled = Tiled { hold: 64, hold_apart: 64, rows: 1, held: 0 };
    let Tiled { hold, hold_apart, rows: most_rows, held } = if old { old_tiled } else { row.tiled };
    let keys = if old { 1 } else { KEYS };
    let subgroup = caps.trusted_subgroup_size().filter(|_| software);
    let wg_size = subgroup.unwrap_or(row.wg_size).min(most);
    let rows = problem.group().saturating_mul(problem.seq_q).clamp(1, FAR);

    // As many lanes as leave an invocation `hold` chunks, and then as many rows as it may hold.
    let chunks: u32 = problem.chunks(1).iter().sum();
    let least = caps.least_subgroup();
    let lanes = lanes_of(chunks, if least.is_some() { hold } else { hold_apart }, least).min(wg_size);
    let want = rows.div_ceil((wg_size / lanes) as usize).min(16) as u32;
    let staged = STAGE / (16 * chunks);
    let block = if software || staged >= keys { keys } else { FEW_KEYS };
    let load = match subgroup {
        Some(size) if lanes == 1 && !old => Load::Broadcast(size),
        _ if software || staged < block => Load::Direct,
        _ => Load::Staged(staged / block * block),
    };
    let tiled = Config {
        algorithm: Algorithm::Tiled,
        wg_size,
        lanes,
        rows: if chunks <= held * lanes { 1 << most_rows.min(want).ilog2() } else { 1 },
        slots: 1,
        keys: block,
        load,
        splits: 1,
        reduce: Reduce::None,
        hide: match software {
            true if old => Hide::Select,
            true => Hide::Apart,
            false => Hide::Branch,
        },
        native_f16: caps.prefers_native_f16(problem.has_f16()),
    };

    // Rows are held by each invocation; the rest of the workgroup takes turns at the keys.
    let hold = if old { 64 } else { row.decode.hold };
    let lanes = least.map_or(row.decode.lanes, |least| least.min(row.decode.lanes));
    let lanes = lanes.max(lanes_of(chunks, hold, least)).min(wg_size);
    let shares = (hold * lanes / chunks).clamp(1, row.decode.rows);
    let held = 1 << (rows.next_power_of_two() as u32).min(shares).ilog2();
    let groups = rows.div_ceil(held as usize).next_power_of_two().min((wg_size / lanes) as usize) as u32;
    let tiles = rows.div_ceil((groups * held) as usize);
    let workgroups = tiles.saturating_mul(problem.kv_heads).saturating_mul(problem.batch).max(1);
    let splits = row.decode.fill.div_ceil(workgroups).min(problem.seq_kv.div_ceil(SPLIT_KEYS)).clamp(1, MAX_SPLITS);
    let slots = wg_size / lanes / groups;
    let decode = Config { lanes, rows: held, slots, keys, load: Load::Direct, splits: splits as u32, ..tiled };

    let each = |config: Config| [Reduce::None, Reduce::Shuffle, Reduce::Memory].map(|r| Config { reduce: r, ..config });
    // More parts where the driver cuts long walks short.
    let split = |config: Config| {
        let rounds = |splits| Config { splits, ..config }.rounds(problem);
        Config { algorithm: Algorithm::Decode, splits: caps.parts(config.splits, MOST_SPLITS, rounds), ..config }
    };
    let mut found = [each(tiled), each(decode).map(split)];
    let decoded = rows <= row.few && problem.seq_kv >= SPLIT_KEYS;
    if decoded {
        found.reverse();
    }
    let mut found = found.concat();
    if caps.loop_rounds().is_some() {
        // Longer blocks take fewer rounds per key, and so fewer parts, for which scratch may have no room otherwise.
        for keys in [keys, KEYS] {
            found.extend(each(Config { keys, ..tiled }).map(split));
        }
    }
    // With one invocation per row: for devices of small workgroups.
    found.push(Config { lanes: 1, rows: 1, load: Load::Direct, ..tiled });
    let at = if coop::first(caps, problem) && !decoded { 0 } else { found.len() };
    found.splice(at..at, coop::candidates(caps, problem));
    found
}

/// Invocations that share a row of so many chunks, of which one may hold `hold`; twice as many where they then lie in a
/// subgroup of the least size.
pub(super) fn lanes_of(chunks: u32, hold: u32, least: Option<u32>) -> u32 {
    let lanes = chunks.div_ceil(hold).next_power_of_two();
    match least {
        Some(least) if chunks <= 2 * hold * least => lanes.min(least),
        _ => lanes,
    }
}

/// The first thing of `config` that does not fit the Problem or the device.
pub(super) fn check(caps: &Caps, problem: &Problem, config: &Config) -> Result<(), Misfit> {
    if config.algorithm == Algorithm::Coop {
        return coop::check(caps, problem, config);
    }
    let limits = &caps.limits;
    let Config { algorithm, wg_size, lanes, rows, slots, keys, load, splits, reduce, hide, native_f16 } = *config;
    let subgroup = caps.trusted_subgroup_size();
    caps.check_wg_size(wg_size)?;
    caps.check_native_f16(native_f16, problem.has_f16())?;
    Misfit::unless(lanes.is_power_of_two(), "lanes must be a power of two", lanes)?;
    let shared = lanes.saturating_mul(slots);
    Misfit::unless(wg_size.is_multiple_of(shared), "lanes * slots must divide wg_size", shared)?;
    Misfit::unless((1..=16).contains(&rows), "rows must be 1 to 16", rows)?;
    Misfit::unless((1..=16).contains(&keys), "keys must be 1 to 16", keys)?;
    Misfit::unless(splits > 0, "splits must be at least 1", splits)?;
    Misfit::at_most("splits", splits, MOST_SPLITS)?;
    let whole = algorithm == Algorithm::Decode || config.parts() == 1;
    Misfit::unless(whole, "tiled needs one split and one slot", config.parts())?;
    match load {
        Load::Direct => {}
        Load::Staged(n) => {
            Misfit::unless(n > 0 && n.is_multiple_of(keys), "staged keys must be a multiple of keys", n)?;
        }
        Load::Broadcast(size) => {
            let fits = subgroup == Some(size) && wg_size.is_multiple_of(size);
            Misfit::unless(fits, "broadcast needs whole subgroups of the trusted size", size)?;
            Misfit::unless(lanes == 1, "broadcast needs one lane", lanes)?;
            Misfit::unless(hide != Hide::Branch, "broadcast shuffles, which hide=branch must not do", size)?;
        }
        Load::Matrices(size) => Misfit::unless(false, "matrices are for coop", size)?,
    }
    Misfit::unless(load == Load::Direct || slots == 1, "staged and broadcast keys need one slot", slots)?;
    Misfit::unless((reduce == Reduce::None) == (lanes == 1), "one lane, and only one, needs no reduction", lanes)?;
    if reduce == Reduce::Shuffle {
        let least = caps.least_subgroup().unwrap_or(0);
        Misfit::at_most("lanes that shuffle in the least trusted subgroup", lanes, least)?;
    }
    let wg_bytes = config.wg_bytes(problem.chunks(lanes));
    Misfit::at_most("bytes of workgroup memory", wg_bytes, limits.max_compute_workgroup_storage_size)?;
    let [o, lse] = config.scratch_parts(problem);
    let limit = caps.binding_bytes();
    Misfit::at_most("bytes of scratch", o.saturating_add(lse), limit)?;
    if algorithm == Algorithm::Decode {
        caps.check_rounds(attention_merge::rounds(config.parts().into()))?;
    }
    caps.check_rounds(config.rounds(problem))
}

impl Problem {
    /// Chunks of four of a head vector and of a value vector, padded to a size of a short list, so that pipelines are
    /// few, and to a multiple of `lanes`.
    pub(super) fn chunks(&self, lanes: u32) -> [u32; 2] {
        [self.head_dim, self.value_dim].map(|n| {
            let need = n.div_ceil(4) as u32;
            CHUNKS.into_iter().find(|&chunks| chunks >= need).unwrap_or(need).next_multiple_of(lanes.max(1))
        })
    }
}

impl Config {
    /// Results of each row, before they are joined.
    pub fn parts(&self) -> u32 {
        self.splits.saturating_mul(self.slots)
    }

    /// Rows of a workgroup.
    pub(super) fn tile_rows(&self) -> u32 {
        self.wg_size / self.lanes / self.slots * self.rows
    }

    /// Keys of a split, whole steps of the walk.
    pub(super) fn split_keys(&self, problem: &Problem) -> u32 {
        let step = self.step();
        let keys = (problem.seq_kv as u32).div_ceil(self.splits);
        keys.checked_next_multiple_of(step).unwrap_or(u32::MAX).max(step)
    }

    /// Keys of a tile.
    pub(super) fn tile(&self) -> u32 {
        if let Load::Staged(keys) = self.load { keys } else { self.keys }
    }

    /// Keys that the slots of a workgroup take at a time.
    fn step(&self) -> u32 {
        self.tile().saturating_mul(self.slots)
    }

    /// Bytes of workgroup memory, for vectors of so many chunks.
    pub(super) fn wg_bytes(&self, [k_chunks, v_chunks]: [u32; 2]) -> u32 {
        let staged = match self.load {
            Load::Staged(keys) => keys.saturating_mul(k_chunks.saturating_add(v_chunks)).saturating_mul(16),
            _ => 0,
        };
        match self.reduce {
            Reduce::None | Reduce::Shuffle => staged,
            Reduce::Memory => {
                staged.saturating_add((4 * self.rows).saturating_mul(self.keys).saturating_mul(self.wg_size))
            }
        }
    }

    /// Bytes of scratch: o of each part and row, padded so that what follows may be bound; and their maxima and sums.
    /// The number of parts grows with the keys only where the driver cuts long walks short.
    pub(super) fn scratch_parts(&self, problem: &Problem) -> [u64; 2] {
        if self.algorithm != Algorithm::Decode {
            return [0; 2];
        }
        let rows = problem.q_sizes().iter().fold(1u64, |n, &size| n.saturating_mul(size as u64));
        let all = rows.saturating_mul(self.parts().into());
        let o = all.saturating_mul(4 * problem.value_dim as u64);
        [o.checked_next_multiple_of(256).unwrap_or(u64::MAX / 2), all.saturating_mul(8)]
    }

    /// Rounds of the loops of an invocation of the walk, at most. Those over few keys and rows, whose bodies load a chunk at
    /// most, are unrolled: NIR does so up to 832 instructions in all.
    fn rounds(&self, problem: &Problem) -> Rounds {
        let Config { lanes, rows, keys, load, .. } = *self;
        let [k_chunks, v_chunks] = problem.chunks(lanes).map(|chunks| chunks / lanes);
        let each =
            |turns: u32, body: Rounds| if turns <= 4 { body.times(turns.into()) } else { Rounds::nest(turns, body) };
        let plain = |turns| each(turns, Rounds::default());
        let scores = plain(rows * keys);
        let fetch = |chunks: u32| match load {
            Load::Broadcast(size) => Rounds::nest(keys, Rounds::plain(chunks.div_ceil(size))),
            _ => plain(keys),
        };
        let sum_lanes = match self.reduce {
            Reduce::None => Rounds::default(),
            Reduce::Shuffle => each(rows * keys, plain(lanes.ilog2())),
            Reduce::Memory => scores + each(rows * keys, plain(lanes)),
        };
        // Runs of at least 8 chunks are added up apart.
        let runs = k_chunks.div_ceil(8);
        let products =
            Rounds::nest(k_chunks, each(keys, plain(rows))) + Rounds::nest(runs, scores.times(2)) + sum_lanes;
        // Each row of a tree walks up from each block of the tree's keys.
        let climb = |in_tree| Rounds::plain(if in_tree { problem.seq_q as u64 } else { 0 });
        // The loops of a tree are there wherever indices are bound, and a loop of loops is not unrolled.
        let in_branch = |in_tree| match problem.has_indices() {
            true => Rounds::nest(rows, climb(in_tree) + plain(keys)),
            false => Rounds::default(),
        };
        let by_segment = if problem.segments.is_some() { each(keys, plain(rows)) } else { Rounds::default() };
        let hide = |in_tree| scores + by_segment + in_branch(in_tree);
        let weigh = each(rows, plain(keys).times(2));
        let accumulate = Rounds::nest(v_chunks, plain(rows) + each(keys, plain(rows)));
        let common = plain(keys) + scores.times(2) + fetch(k_chunks) + products + weigh + fetch(v_chunks) + accumulate;
        let seen = each(rows, Rounds::plain(v_chunks) + each(keys, Rounds::plain(v_chunks)));
        let staged = match load {
            Load::Staged(keys) => {
                let share = |chunks: u32| Rounds::plain((keys * chunks * lanes).div_ceil(self.wg_size));
                share(k_chunks) + share(v_chunks)
            }
            _ => Rounds::default(),
        };
        let step = |block| staged + Rounds::nest(self.tile() / keys, block);
        let turn =
            |in_tree| step(common + hide(in_tree) + if self.hide == Hide::Branch { seen } else { Rounds::default() });
        let right = if problem.causal { Some(0) } else { problem.window[1] };
        let visible = problem.window[0].zip(right).map_or(FAR, |(left, right)| left.saturating_add(right)).min(FAR);
        let walk = (visible as u64 + u64::from(self.tile_rows()) + 1).min(self.split_keys(problem).into());
        let turns = |keys: u64| keys / u64::from(self.step()) + 2;
        let in_tree = problem.tree.map_or(0, |_| turns((problem.seq_q as u64).min(walk)));
        // By segments: searches when the walk begins, and in each span, of which each has a step at its end besides; flags are gone
        // through once.
        let search = |n| Rounds::plain(SEARCH).times(n);
        let (span, bounds, spans) = match problem.segments {
            Some(segments) => {
                let flags = Rounds::plain(0u32).times(2);
                (flags + search(2), search(3) + Rounds::plain(segments.count as u64), 2)
            }
            None => (Rounds::default(), Rounds::default(), 1),
        };
        let turns = |keys: u64| turns(keys) * spans;
        let rows_held = each(rows, Rounds::plain(k_chunks) + Rounds::plain(v_chunks));
        let stored = each(rows, Rounds::nest(v_chunks, Rounds::plain(4u32)));
        // The loop of the steps that are wholly visible, where it is apart, and the turns that two loops have more than one.
        let apart = if self.hide == Hide::Apart { turn(false).times(2) } else { Rounds::default() };
        let apart = bounds + apart;
        rows_held + Rounds::nest(turns(walk), span + turn(false)) + apart + Rounds::nest(in_tree, turn(true)) + stored
    }
}
