//! Attention by cooperative matrices: its Configs, what fits them, and the shader.

use super::pipeline::{Form, K, O, Q, V};
use super::prepare::Params;
use super::{Algorithm, Config, Hide, Load, Problem, Reduce};
use crate::caps::Class;
use crate::compose::{Shader, Storage};
use crate::gemm::Precision;
use crate::kernels::Pass;
use crate::{Caps, Dtype, Misfit};

/// Rows of a workgroup, times the slots among which head dims are divided.
const ROWS: u32 = 64;

/// Keys per tile, the first that workgroup memory has room for. On a CPU only tests take them: there the fewest, which
/// compile in half of the time.
const KEYS: [u32; 2] = [32, 16];

/// Rows of a head of k and v, and keys, below which matrices are not tried first: tiles would be mostly empty.
const LEAST_ROWS: usize = 16;
const LEAST_KEYS: usize = 64;

/// Head dims up to which one subgroup has all of a row's matrices, and up to which two have: q and o stay in registers, and
/// nothing spills on RADV (navi31, gfx1201, strix1) and NVK (Ampere, Ada, Blackwell).
const ONE_SLOT: u32 = 128;
const TWO_SLOTS: u32 = 256;

/// Value dims from which rows in workgroup memory are not padded: they then fit in 32 KiB.
const WIDE: u32 = 512;

/// Value dims from which the largest element of a row is well above what the rounding of weights does to it.
const MANY: usize = 16;

/// The Configs for a Problem, the best first; none where the device has no matrices.
pub(super) fn candidates(caps: &Caps, problem: &Problem) -> Vec<Config> {
    let Some((size, width)) = caps.coop_f16() else { return Vec::new() };
    if !fits(problem) || width < size {
        return Vec::new();
    }
    let dims = problem.head_dim.max(problem.value_dim) as u32;
    let least = match dims {
        _ if dims <= ONE_SLOT => 1,
        _ if dims <= TWO_SLOTS => 2,
        _ => 4,
    };
    // Few rows: more subgroups share a row.
    let rows = problem.group().saturating_mul(problem.seq_q).clamp(1, ROWS as usize) as u32;
    let blocks = rows.div_ceil(size);
    let slots = least.max((ROWS / 16 / blocks).next_power_of_two().min(4));
    let blocks = blocks.min(ROWS / size / slots).max(1);
    let of = |keys| Config {
        algorithm: Algorithm::Coop,
        wg_size: blocks * slots * width,
        lanes: width / size,
        rows: 1,
        slots,
        keys,
        load: Load::Matrices(size),
        splits: 1,
        reduce: Reduce::Memory,
        hide: Hide::Branch,
        native_f16: true,
    };
    match caps.class() {
        Class::Software => vec![of(KEYS[1])],
        _ => KEYS.map(of).to_vec(),
    }
}

/// Whether these are to be tried before the others. Not measured: by the compilers of GPUs (see the module) they leave 62 to
/// 74 % of the peak of matrices on RDNA3, where the tiles of `Tiled` leave a tenth. On a CPU matrices are slower.
pub(super) fn first(caps: &Caps, problem: &Problem) -> bool {
    let rows = problem.group().saturating_mul(problem.seq_q);
    caps.class() != Class::Software && rows >= LEAST_ROWS && problem.seq_kv >= LEAST_KEYS
}

/// Whether matrices take these dtypes.
fn fits(problem: &Problem) -> bool {
    problem.codes.is_none()
        && (problem.x == Dtype::F16 || (problem.x == Dtype::Bf16 && problem.inputs == Precision::F16))
}

/// The first thing of `config` that does not fit the Problem or the device.
pub(super) fn check(caps: &Caps, problem: &Problem, config: &Config) -> Result<(), Misfit> {
    let Config { wg_size, lanes, rows, slots, keys, splits, reduce, hide, native_f16, .. } = *config;
    let size = config.size();
    caps.check_wg_size(wg_size)?;
    caps.check_native_f16(native_f16, true)?;
    Misfit::unless(size > 0, "coop loads matrices", size)?;
    let (probed, width) = caps.coop_f16().unwrap_or_default();
    Misfit::unless(probed == size, "the size of matrices must be a probed one", size)?;
    Misfit::unless(wg_size >= slots.saturating_mul(width), "each slot needs a subgroup", slots)?;
    Misfit::unless(wg_size.is_multiple_of(width.max(1)), "matrices need whole subgroups", wg_size)?;
    Misfit::unless(
        caps.loop_rounds().is_none(),
        "loops of coop are not counted, and this driver cuts long ones short",
        keys,
    )?;
    Misfit::unless(fits(problem), "matrices need q, k and v of f16, or of bf16 that may be taken as f16", size)?;
    Misfit::unless(native_f16, "matrices need native f16", native_f16)?;
    Misfit::unless(lanes.is_power_of_two() && lanes <= size, "lanes must be a power of two, at most the size", lanes)?;
    Misfit::unless(matches!(slots, 1 | 2 | 4 | 8), "slots must be 1, 2, 4 or 8", slots)?;
    let whole = wg_size.is_multiple_of(lanes * slots * size);
    Misfit::unless(whole, "lanes * slots * size must divide wg_size", wg_size)?;
    Misfit::unless(rows == 1 && splits == 1, "coop needs one row per invocation, and one split", rows)?;
    Misfit::at_most("keys", keys, 128u32)?;
    let owned = keys.is_multiple_of(size) && keys.is_multiple_of(lanes * slots) && keys > 0;
    Misfit::unless(owned, "keys must be whole matrices, and shared by lanes * slots", keys)?;
    Misfit::at_most("keys of an invocation", keys / (lanes * slots), 32u32)?;
    let fixed = reduce == Reduce::Memory && hide == Hide::Branch;
    Misfit::unless(fixed, "coop needs reduce=memory and hide=branch", fixed)?;
    let wg_bytes = config.coop_bytes(problem.columns(config), problem.weight_parts());
    Misfit::at_most("bytes of workgroup memory", wg_bytes, caps.limits.max_compute_workgroup_storage_size)
}

impl Config {
    /// Rows and columns of a matrix; 0 where there are none.
    pub(super) fn size(&self) -> u32 {
        if let Load::Matrices(size) = self.load { size } else { 0 }
    }

    /// Elements between the rows of the tile of v, and of scores. Rows of matrices must start at multiples of 16 bytes.
    fn pad(value: u32) -> u32 {
        if value < WIDE { 8 } else { 0 }
    }

    /// Bytes of workgroup memory for head and value vectors of so many columns.
    pub(super) fn coop_bytes(&self, [head, value]: [u32; 2], parts: u32) -> u32 {
        let Config { slots, keys, .. } = *self;
        let (size, rows) = (self.size(), self.tile_rows());
        let lines = rows * slots;
        let pad = Config::pad(value);
        let tile = (keys * (head + 8)).max(value * (keys + pad)).max(lines * (size + 8));
        // Scores and patches, f32; weights and the tile, f16; factors, what is infinite, flags and extent.
        let infinite = rows * (value / 16);
        let f32s = lines * (keys + size + 2 * pad) + rows + infinite + 8;
        4 * f32s + 2 * (parts * rows * (keys + 8) + tile)
    }
}

impl Problem {
    /// Matrices of f16 that a weight is the sum of: o of f32, and a short one, show how one alone is rounded.
    pub(super) fn weight_parts(&self) -> u32 {
        if self.o == Dtype::F32 || self.value_dim < MANY { 2 } else { 1 }
    }

    /// Columns of head and value vectors, padded to whole matrices in each slot.
    pub(super) fn columns(&self, config: &Config) -> [u32; 2] {
        let whole = (config.size() * config.slots).max(16);
        self.chunks(1).map(|chunks| (4 * chunks).next_multiple_of(whole))
    }
}

/// The shader of a Pass whose `Form::chunks` are those of [`Problem::columns`].
pub(super) fn shader(pass: &Pass<Config, Form>) -> Shader {
    let config = pass.config;
    let Form { vec, chunks, padded, x, o, softcap, eights, parts, .. } = pass.form;
    let columns = chunks.map(|chunks| 4 * chunks);
    let size = config.size();
    let matrix = |scalar: &str, role: &str| format!("coop_mat{size}x{size}<{scalar}, {role}>");
    // Single elements of a packed o are stored half by half of a word.
    let edge = vec == 1 && o.packed();
    let shader = pass
        .begin(config.wg_size, config.coop_bytes(columns, parts), if edge { 2 } else { vec })
        .params::<Params>()
        .constants(super::pipeline::flag_bits())
        .constant("SIZE", size)
        .constant("LANES", config.lanes)
        .constant("SLOTS", config.slots)
        .constant("KEYS", config.keys)
        .constant("PARTS", parts)
        .constant("K_COLS", columns[0])
        .constant("V_COLS", columns[1])
        .constant("PAD", Config::pad(columns[1]))
        .flag("PADDED", padded)
        .flag("EIGHTS", eights)
        .flag("SOFTCAP", softcap)
        .alias("LEFT", &matrix("f16", "A"))
        .alias("RIGHT", &matrix("f16", "B"))
        .alias("PRODUCT", &matrix("f32", "C"))
        .words(Q, "q", eights, padded)
        .words(K, "k", eights, padded)
        .words(V, "v", eights, padded)
        .output(O, "o", o, edge)
        .import(if x == Storage::F16 { "attention_words_f16" } else { "attention_words_bf16" })
        .import(if vec == 4 { "attention_store_chunks" } else { "attention_store_elements" });
    pass.form.options(shader)
}
