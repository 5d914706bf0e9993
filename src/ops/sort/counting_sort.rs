//! Positions sorted by small keys, stable: `order` has the positions of key 0 in their order, then those of key 1, and so
//! on; the run of key `k` is `order[offsets[k]..offsets[k + 1]]`. The same input gives the same order, bit by bit.
//!
//! Keys are taken from a buffer as they are: one that is out of range stands behind all others, from
//! `offsets[segments * num_keys]` on, or counts for one ([`OutOfRange`]). How many they are is the number of positions less
//! that offset.
//!
//! Several segments are sorted in one call, each with keys of its own: position `i` of segment `s` is element
//! `s * n + i`, its key is bucket `s * num_keys + key`, and buckets are sorted one after the other.
//!
//! A pass counts the digits of its elements part by part, adds the counts up over digits and parts, and moves each element to
//! its place. Keys of more than `digit_bits` take several passes, the lowest digit first. Inside another op it is
//! planned with order and offsets in that op's scratch.

use std::fmt;

use crate::config::Field;
use crate::ops::pointwise::{Clear, clear};
use crate::ops::prelude::*;

pub use crate::vq_lookup::{Index, OutOfRange};

defaults! {
    /// What is computed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Problem {
        /// Positions of a segment.
        pub n: usize = 1,
        /// Segments, each with keys of its own.
        pub segments: usize = 1,
        /// Keys of a segment: 0 to `num_keys - 1`.
        pub num_keys: usize = 1,
        /// The type of keys.
        pub index: Index = Index::U32,
        /// Strides of position and segment.
        pub keys: Layout<2> = Layout::default(),
        /// Where an element stands whose key is out of range: behind all others, or with a key of its segment.
        pub out_of_range: OutOfRange = OutOfRange::Zero,
        /// The first element of its binding where the sorted elements are written, u32 `[segments * n]`.
        pub order: usize = 0,
        /// The same of where runs begin, u32 `[segments * num_keys + 1]`.
        pub offsets: usize = 0,
        /// The same of the lengths of runs, u32 `[segments * num_keys]`.
        pub counts: Option<usize> = None,
    }
}

words! {
    /// How a part is taken.
    pub enum Algorithm {
        /// An invocation has a part, and takes its elements one after the other.
        Runs = "runs",
        /// A workgroup has a part, and takes `wg_size` elements at a time.
        Tiles = "tiles",
    }
}

config! {
    /// How it is computed.
    pub struct Config {
        /// How a part is taken.
        pub algorithm: Algorithm,
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// Bits of a bucket's number by which a pass sorts.
        pub digit_bits: u32,
        /// Elements of a part.
        pub part: u32,
    }
}

/// As a value in the Config of another op: `tiles/256/8/4096`.
impl Field for Config {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.algorithm.name(), self.wg_size, self.digit_bits, self.part)
    }

    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split('/').collect();
        let [algorithm, wg_size, digit_bits, part] = words[..].try_into().ok()?;
        let number = |text: &str| text.parse().ok();
        let algorithm = Algorithm::parse(algorithm)?;
        Some(Config { algorithm, wg_size: number(wg_size)?, digit_bits: number(digit_bits)?, part: number(part)? })
    }
}

/// What follows from the Problem, for one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Form {
    /// Keys have 16 bits.
    short: bool,
    /// There are several segments.
    segments: bool,
    /// Elements come in the order of the pass before.
    next: bool,
    /// The order is not the last one: it lies in scratch.
    between: bool,
    /// Digits are buckets: offsets are written.
    offsets: bool,
    /// Counts are written.
    count: bool,
}

crate::params! {
    /// What one step tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, config: &Config, pass: u32, grid: [u32; 3]) {
        keys: Strides = views.keys.params(),
        n: u32 = p.n as u32,
        total: u32 = views.total,
        num_keys: u32 = p.num_keys as u32,
        codes: u32 = views.codes,
        out_of_range: u32 = p.out_of_range.code(p.index),
        shift: u32 = pass * config.digit_bits,
        mask: u32 = if pass + 1 == views.passes(config) { u32::MAX } else { (1 << config.digit_bits) - 1 },
        digits: u32 = views.digits(config, pass),
        parts: u32 = views.parts(config),
        part: u32 = config.part,
        blocks: u32 = views.blocks(config, pass).0,
        rows: u32 = views.blocks(config, pass).1,
        order_offset: u32 = if views.between(config, pass) { 0 } else { p.order } as u32,
        from_offset: u32 = if views.between(config, pass) { p.order } else { 0 } as u32,
        offsets_offset: u32 = p.offsets as u32,
        counts_offset: u32 = p.counts.unwrap_or(0) as u32,
        grid_x: u32 = grid[0],
    }
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    keys: View<2>,
    order: View<1>,
    offsets: View<1>,
    counts: Option<View<1>>,
    /// Elements of all segments.
    total: u32,
    /// Keys of all segments: also the bucket of elements out of range.
    codes: u32,
}

impl Views {
    /// Bits of the last bucket.
    fn bits(&self) -> u32 {
        u32::BITS - self.codes.leading_zeros()
    }

    fn passes(&self, config: &Config) -> u32 {
        self.bits().div_ceil(config.digit_bits.max(1))
    }

    /// Values of a pass's digit.
    fn digits(&self, config: &Config, pass: u32) -> u32 {
        match pass + 1 < self.passes(config) {
            true => 1 << config.digit_bits.min(31),
            false => (self.codes >> (pass * config.digit_bits).min(31)) + 1,
        }
    }

    /// Parts, one at least; by runs whole workgroups of them.
    fn parts(&self, config: &Config) -> u32 {
        let parts = self.total.div_ceil(config.part.max(1)).max(1);
        match config.algorithm {
            Algorithm::Runs => parts.checked_next_multiple_of(config.wg_size.max(1)).unwrap_or(u32::MAX),
            Algorithm::Tiles => parts,
        }
    }

    /// Blocks of digits whose counts an invocation adds up, and digits of one: a block is about as long as there are blocks.
    fn blocks(&self, config: &Config, pass: u32) -> (u32, u32) {
        let (digits, parts) = (self.digits(config, pass), self.parts(config));
        let blocks = (product!(digits, parts).isqrt() as u32).clamp(1, digits);
        let rows = digits.div_ceil(blocks);
        (digits.div_ceil(rows), rows)
    }

    /// Whether this pass leaves its order in scratch: passes take turns, and the last one writes the caller's.
    fn between(&self, config: &Config, pass: u32) -> bool {
        (self.passes(config) - 1 - pass.min(self.passes(config) - 1)) % 2 == 1
    }

    /// Words of the table of counts, and of the sums behind it.
    fn table(&self, config: &Config) -> u64 {
        let cells = |pass| {
            let digits = self.digits(config, pass);
            let sums = if config.algorithm == Algorithm::Runs { self.blocks(config, pass).0 } else { digits };
            product!(digits, self.parts(config)).saturating_add(sums.into())
        };
        // The first digit is the longest, unless it is the only one.
        cells(0)
    }
}

impl Config {
    /// Stands in the name of a pipeline that does not depend on it.
    pub(crate) const NONE: Config = Config { algorithm: Algorithm::Runs, wg_size: 0, digit_bits: 0, part: 0 };

    /// Bytes of workgroup memory of the steps that count, add up and place.
    fn wg_bytes(&self) -> [u32; 3] {
        let digits = 4u32.checked_shl(self.digit_bits).unwrap_or(u32::MAX);
        let scan = self.wg_size.saturating_mul(8);
        let masks = digits.saturating_mul(self.wg_size.div_ceil(32));
        match self.algorithm {
            Algorithm::Runs => [0; 3],
            Algorithm::Tiles => [digits, scan, scan.saturating_add(digits).saturating_add(masks)],
        }
    }
}

/// Of a class of adapters.
struct Tiles {
    /// Invocations of a workgroup that takes a tile, at most.
    wg_size: u32,
    /// Bits of a digit, at most.
    digit_bits: u32,
    /// Parts that keep the adapter busy.
    parts: u32,
    /// Elements of a part, at most.
    part: u32,
}

/// By the classes of adapters; not measured. Digits of 8 bits and 256 invocations take 11 KiB.
const fn tiles(class: Class) -> Tiles {
    match class {
        Class::Software => Tiles { wg_size: 64, digit_bits: 8, parts: 8, part: 1 << 16 },
        Class::Integrated => Tiles { wg_size: 256, digit_bits: 8, parts: 64, part: 8192 },
        Class::Discrete => Tiles { wg_size: 256, digit_bits: 8, parts: 512, part: 4096 },
    }
}

/// Bits of a digit by runs, at most: 18 is a table of 2^18 counts per part.
const RUN_BITS: u32 = 18;

/// What an element costs by runs, in cells of the table: it is gathered, counted and moved, a cell cleared and added up. Measured on
/// lavapipe of Mesa 26.2, 2 cores: with 40 in place of 10, 1048576 elements by 32,000 take 1.7 times as long, 4096 by 64 twice.
const ELEMENT: u32 = 10;

const MOST_PARTS: u64 = 1 << 20;

/// Steps by runs that add up, an invocation per block of digits, and their workgroups.
const SUM_RUNS: &str = "counting_sort_sum_runs";
const SCAN_RUNS: &str = "counting_sort_scan_runs";
const BLOCK_INVOCATIONS: u32 = 8;

slots!(KEYS, ORDER, OFFSETS, COUNTS, TABLE, BETWEEN);

impl Problem {
    /// By runs: as many parts as cost as much in counts as they save in turns.
    fn runs(&self, views: &Views, caps: &Caps) -> Config {
        let passes = views.bits().div_ceil(RUN_BITS);
        let digit_bits = views.bits().div_ceil(passes);
        let digits = views.codes.min(1 << digit_bits).max(1);
        let parts = (product!(ELEMENT, views.total) / u64::from(digits)).isqrt().clamp(4, 512) as u32;
        let parts = if parts.next_power_of_two() > parts + parts / 2 {
            parts.next_power_of_two() / 2
        } else {
            parts.next_power_of_two()
        };
        let wg_size = parts.min(8).min(caps.most_invocations());
        // Where the driver cuts long loops short: shorter parts.
        let most = caps.loop_rounds().map_or(u32::MAX, |limit| limit / 2);
        let part = views.total.div_ceil(parts).clamp(1, most);
        Config { algorithm: Algorithm::Runs, wg_size, digit_bits, part }
    }

    fn tiles(&self, views: &Views, caps: &Caps) -> Config {
        let Tiles { wg_size, digit_bits, parts, part } = tiles(caps.class());
        let passes = views.bits().div_ceil(digit_bits);
        let wg_size = wg_size.min(caps.most_invocations());
        let part = views.total.div_ceil(parts).min(part).max(1).next_multiple_of(wg_size);
        Config { algorithm: Algorithm::Tiles, wg_size, digit_bits: views.bits().div_ceil(passes), part }
    }

    /// The step of this stem.
    fn pass(
        &self,
        views: &Views,
        config: &Config,
        stem: &'static str,
        pass: u32,
        writable: Slots,
    ) -> Pass<Config, Form> {
        let single = views.passes(config) == 1;
        let keyed = Form {
            short: self.index == Index::U16,
            segments: self.segments > 1,
            next: pass > 0,
            between: views.between(config, pass),
            ..Form::default()
        };
        let runs = Form { offsets: single, count: single && self.counts.is_some(), ..Form::default() };
        let form = match stem {
            "counting_sort_count_runs" | "counting_sort_count_tiles" => keyed,
            "counting_sort_place_runs" => keyed,
            "counting_sort_place_tiles" => Form { offsets: runs.offsets, count: runs.count, ..keyed },
            SCAN_RUNS => runs,
            "counting_sort_offsets" => Form { next: false, between: false, count: self.counts.is_some(), ..keyed },
            _ => Form::default(),
        };
        // What Params say makes no pipeline.
        let digit_bits = if config.algorithm == Algorithm::Tiles { config.digit_bits } else { 0 };
        Pass { stem, config: Config { digit_bits, part: 0, ..*config }, form, writable }
    }

    /// The steps: each with its pass over the digits, and how many workgroups it takes.
    fn steps(&self, views: &Views, config: &Config) -> Vec<(&'static str, u32, u64)> {
        let mut all = Vec::new();
        let wg = u64::from(config.wg_size);
        let parts = u64::from(views.parts(config));
        for pass in 0..views.passes(config) {
            let digits = u64::from(views.digits(config, pass));
            let blocks = u64::from(views.blocks(config, pass).0).div_ceil(BLOCK_INVOCATIONS.into());
            match config.algorithm {
                Algorithm::Runs => all.extend([
                    ("clear", pass, 0),
                    ("counting_sort_count_runs", pass, parts / wg),
                    (SUM_RUNS, pass, blocks),
                    (SCAN_RUNS, pass, blocks),
                    ("counting_sort_place_runs", pass, parts / wg),
                ]),
                Algorithm::Tiles => all.extend([
                    ("counting_sort_count_tiles", pass, parts),
                    ("counting_sort_scan_tiles", pass, digits),
                    ("counting_sort_place_tiles", pass, parts),
                ]),
            }
        }
        if views.passes(config) > 1 {
            all.push(("counting_sort_offsets", views.passes(config) - 1, (u64::from(views.codes) + 1).div_ceil(wg)));
        }
        all
    }

    /// Bytes of the table, with what stands before the order between passes.
    fn table_bytes(&self, views: &Views, config: &Config) -> u64 {
        padded(product!(views.table(config), 4u32), BINDINGS)
    }
}

/// Bindings start at multiples of this on every device.
pub(crate) const BINDINGS: u64 = 256;

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { short, segments, next, between, offsets, count } = self.form;
        let Config { wg_size, digit_bits, .. } = self.config;
        let [counting, scanning, placing] = self.config.wg_bytes();
        // The parts of a workgroup may be few; blocks of digits are many.
        let size = if matches!(self.stem, SUM_RUNS | SCAN_RUNS) { BLOCK_INVOCATIONS } else { wg_size };
        let begin = |wg_bytes| self.begin(size, wg_bytes, 1).params::<Params>().constant("SIDE", wg_size);
        let keyed = |shader: Shader| shader.flag("SEGMENTS", segments).code_indices(KEYS, short);
        let (to, from) = if between { (BETWEEN, ORDER) } else { (ORDER, BETWEEN) };
        let elements = |shader: Shader| match next {
            true => keyed(shader).writes(from, "from_order", "u32").import("counting_sort_next"),
            false => keyed(shader).import("counting_sort_first"),
        };
        let runs = |shader: Shader| match offsets {
            true => shader
                .writes(OFFSETS, "offsets", "u32")
                .writes_if(count, COUNTS, "counts", "u32", "counting_sort_counts")
                .import("counting_sort_run"),
            false => shader.import("counting_sort_no_run"),
        };
        let table = |shader: Shader| shader.writes(TABLE, "table", "u32");
        let digits = |shader: Shader| shader.constant("DIGITS", 1 << digit_bits);
        match self.stem {
            "counting_sort_count_runs" => table(elements(begin(0))),
            "counting_sort_place_runs" => table(elements(begin(0))).writes(to, "order", "u32"),
            SUM_RUNS => table(begin(0)),
            SCAN_RUNS => runs(table(begin(0))),
            "counting_sort_count_tiles" => digits(table(elements(begin(counting)))),
            "counting_sort_scan_tiles" => table(begin(scanning)),
            "counting_sort_place_tiles" => runs(digits(table(elements(begin(placing))))).writes(to, "order", "u32"),
            _ => keyed(begin(0))
                .flag("COUNT", count)
                .writes(ORDER, "order", "u32")
                .writes(OFFSETS, "offsets", "u32")
                .writes_if(count, COUNTS, "counts", "u32", "counting_sort_counts"),
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `keys` are read, `order` and `offsets` are written.
        keys, order, offsets;
        /// The counts that the Problem asks for.
        counts,
        /// Memory for what stands between the steps, where the caller brings it.
        scratch,
    }
}

functions!("counting_sort");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        for (arg, n) in [("segments", self.segments), ("num_keys", self.num_keys)] {
            if n == 0 {
                return Err(ErrorKind::invalid(arg, "there are none"));
            }
        }
        let total = product!(self.segments, self.n);
        let codes = product!(self.segments, self.num_keys);
        // Elements, buckets, and what a pass adds to their numbers fit in u32.
        for (arg, count) in [("n", total), ("num_keys", codes)] {
            if count > 1 << 30 {
                return Err(ErrorKind::invalid(arg, format!("{count} in all segments are more than 2^30")));
            }
        }
        Ok(Views {
            keys: self.keys.view("keys", [self.n, self.segments], 1)?,
            order: Layout::at(self.order).view("order", [1], total as usize)?,
            offsets: Layout::at(self.offsets).view("offsets", [1], codes as usize + 1)?,
            counts: self.counts.map(|at| Layout::at(at).view("counts", [1], codes as usize)).transpose()?,
            total: total as u32,
            codes: codes as u32,
        })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let (runs, tiles) = (self.runs(views, caps), self.tiles(views, caps));
        // A workgroup of a software adapter is one core's, and waits at barriers.
        if caps.class() == Class::Software { vec![runs, tiles] } else { vec![tiles, runs] }
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let Config { algorithm, wg_size, digit_bits, part } = *config;
        caps.check_wg_size(wg_size)?;
        Misfit::unless((1..=24).contains(&digit_bits), "digit_bits must be 1 to 24", digit_bits)?;
        Misfit::unless((1..=1 << 30).contains(&part), "part must be 1 to 2^30", part)?;
        let parts = views.parts(config);
        Misfit::at_most("parts", parts, MOST_PARTS)?;
        // Each begins at a number that a shader computes.
        Misfit::at_most("parts times their elements", product!(parts, part), u32::MAX)?;
        Misfit::at_most("counts", views.table(config), 1u64 << 31)?;
        let bytes = config.wg_bytes().into_iter().fold(0, u32::max);
        Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)?;
        let buffers = 5 + u32::from(self.counts.is_some());
        Misfit::at_most("storage buffers", buffers, caps.limits.max_storage_buffers_per_shader_stage)?;
        let plain = |n: u32| Rounds::plain(n);
        let searched = plain(32).times(2);
        for pass in 0..views.passes(config) {
            let (digits, (blocks, rows)) = (views.digits(config, pass), views.blocks(config, pass));
            let steps = match algorithm {
                Algorithm::Runs => {
                    let groups = Rounds::nest(parts / wg_size, plain(wg_size));
                    let sum = Rounds::nest(parts / wg_size, Rounds::nest(rows, plain(wg_size)));
                    vec![plain(part), sum, plain(blocks) + Rounds::nest(rows, groups)]
                }
                Algorithm::Tiles => {
                    let each = |n: u32| plain(n.div_ceil(wg_size));
                    let (digits, words) = (each(digits), wg_size.div_ceil(32));
                    let scan = plain(wg_size.ilog2() + 1);
                    let masks = plain((words << digit_bits).div_ceil(wg_size));
                    let tiles = Rounds::nest(part.div_ceil(wg_size), plain(words));
                    vec![
                        digits.times(2) + each(part),
                        each(parts).times(2) + scan,
                        digits.times(2) + scan + masks + tiles,
                    ]
                }
            };
            steps.into_iter().chain([searched]).try_for_each(|rounds| caps.check_rounds(rounds))?;
        }
        Ok(())
    }

    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        // Bound even where there is no element.
        let between = if views.passes(config) > 1 { product!(views.total.max(1), 4u32) } else { 0 };
        self.table_bytes(views, config).saturating_add(between)
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let steps = self.steps(views, config).into_iter().map(|(stem, pass, _)| match stem {
            "clear" => Clear { slot: TABLE }.shader(),
            _ => self.pass(views, config, stem, pass, writable).shader(),
        });
        steps.collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(KEYS, "keys", buffers.keys, views.keys.of(self.index))?;
        args.write(ORDER, "order", buffers.order, views.order.of(WORD))?;
        args.write(OFFSETS, "offsets", buffers.offsets, views.offsets.of(WORD))?;
        args.write(COUNTS, "counts", buffers.counts, views.counts.map(|counts| counts.of(WORD)))?;
        let bytes = self.scratch(views, config);
        let scratch = args.scratch_memory(buffers.scratch, bytes)?;
        let table = self.table_bytes(views, config);
        args.write(TABLE, "scratch", scratch.part(0, table), Reach::to(table / 4, WORD))?;
        if bytes > table {
            args.write(BETWEEN, "scratch", scratch.part(table, bytes - table), Reach::to((bytes - table) / 4, WORD))?;
        }
        args.check()?;

        let writable = args.writable();
        let steps = self.steps(views, config).into_iter().map(|(stem, pass, workgroups)| {
            if stem == "clear" {
                let cells = product!(views.digits(config, pass), views.parts(config)) as usize;
                return clear(&args, TABLE, &Layout::at(0).view("scratch", [1], cells)?);
            }
            let grid = args.fold(workgroups)?;
            let params = Params::of(self, views, config, pass, grid);
            args.step(&self.pass(views, config, stem, pass, writable), &params, grid)
        });
        Ok(Dispatch::of(steps.collect::<Checked<_>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_cover_every_bucket_and_end_in_the_order_of_the_caller() {
        for (n, num_keys) in [(1, 1), (4096, 64), (4096, 8192), (1 << 20, 32_000), (300, 1 << 25), (1 << 30, 255)] {
            let problem = Problem { n, num_keys, ..Problem::default() };
            let views = problem.resolve().unwrap();
            for caps in crate::caps::presets() {
                for config in problem.list(&views, &caps) {
                    let passes = views.passes(&config);
                    assert!(passes * config.digit_bits >= views.bits(), "{config} of {num_keys}");
                    let buckets = (0..passes).map(|pass| u64::from(views.digits(&config, pass))).product::<u64>();
                    assert!(buckets > num_keys as u64, "{config} of {num_keys}");
                    assert!(!views.between(&config, passes - 1));
                    assert!(passes < 2 || views.between(&config, passes - 2));
                    assert!(product!(views.parts(&config), config.part) >= n as u64);
                    let (blocks, rows) = views.blocks(&config, 0);
                    assert!(product!(blocks, rows) >= u64::from(views.digits(&config, 0)));
                }
            }
        }
    }
}
