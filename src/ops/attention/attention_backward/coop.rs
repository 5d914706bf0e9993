//! The walks by cooperative matrices: their Configs, what fits them, and the shader.

use super::{Algorithm, Config, D_O, DK, DQ, DV, FLAGS, Form, K, MASK, Params, Problem, Q, ROWS, Step, V};
use crate::attention::{Load, Reduce};
use crate::caps::Class;
use crate::compose::{Shader, Storage};
use crate::gemm::Precision;
use crate::kernels::Pass;
use crate::{Caps, Dtype, Misfit};

/// Owned vectors of a workgroup, times the slots among which head dims are divided.
const LINES: u32 = 64;

/// What is walked at a time.
const BLOCK: u32 = 16;

/// Queries of a head of k and v, and keys, below which matrices are not tried first: tiles would be mostly empty.
const LEAST_QUERIES: usize = 16;
const LEAST_KEYS: usize = 64;

/// Head dims of a slot, at most: two vectors and two sums of them stay in registers.
const SLOT_DIMS: u32 = 64;

/// The Configs for a Problem, the best first; none where the device has no matrices.
pub(super) fn candidates(caps: &Caps, problem: &Problem) -> Vec<Config> {
    let Some((size, width)) = caps.coop_f16() else { return Vec::new() };
    if !fits(problem) || width < size {
        return Vec::new();
    }
    let dims = problem.forward.head_dim.max(problem.forward.value_dim) as u32;
    let slots = dims.div_ceil(SLOT_DIMS).next_power_of_two().min(LINES / size);
    let of = |lines: u32| Config {
        algorithm: Algorithm::Coop,
        wg_size: lines / size * width,
        lanes: width / size,
        queries: 1,
        keys: 1,
        slots,
        parts: 1,
        block: BLOCK,
        load: Load::Matrices(size),
        reduce: Reduce::Memory,
        apart: false,
        native_f16: true,
    };
    match caps.class() {
        // A CPU compiles the fewest; only tests take them.
        Class::Software => vec![of(2 * slots * size)],
        _ => vec![of(LINES.max(slots * size))],
    }
}

/// Whether these are to be tried before the others: on GPUs, where tiles are not mostly empty. By the compilers of GPUs alone, as
/// [`attention`](crate::attention)'s.
pub(super) fn first(caps: &Caps, problem: &Problem) -> bool {
    let queries = problem.forward.group().saturating_mul(problem.forward.seq_q);
    caps.class() != Class::Software && queries >= LEAST_QUERIES && problem.forward.seq_kv >= LEAST_KEYS
}

/// Whether matrices take these dtypes.
fn fits(problem: &Problem) -> bool {
    let forward = &problem.forward;
    let as_f16 = forward.x == Dtype::Bf16 && forward.inputs == Precision::F16;
    forward.o == forward.x && (forward.x == Dtype::F16 || as_f16)
}

/// The first thing of `config` that does not fit the Problem or the device.
pub(super) fn check(caps: &Caps, problem: &Problem, config: &Config) -> Result<(), Misfit> {
    let Config { wg_size, lanes, queries, keys, slots, block, reduce, apart, native_f16, .. } = *config;
    let size = size(config);
    caps.check_native_f16(native_f16, true)?;
    Misfit::unless(size > 0, "coop loads matrices", size)?;
    let (probed, width) = caps.coop_f16().unwrap_or_default();
    Misfit::unless(probed == size, "the size of matrices must be a probed one", size)?;
    Misfit::unless(wg_size >= slots.saturating_mul(width), "each slot needs a subgroup", slots)?;
    Misfit::unless(wg_size.is_multiple_of(width.max(1)), "matrices need whole subgroups", wg_size)?;
    Misfit::unless(
        caps.loop_rounds().is_none(),
        "loops of coop are not counted, and this driver cuts long ones short",
        block,
    )?;
    let right = "matrices need q, k, v and o of f16, or of bf16 that may be taken as f16";
    Misfit::unless(fits(problem), right, size)?;
    Misfit::unless(native_f16, "matrices need native f16", native_f16)?;
    Misfit::unless(lanes.is_power_of_two() && lanes <= size, "lanes must be a power of two, at most the size", lanes)?;
    Misfit::unless(matches!(slots, 1 | 2 | 4 | 8), "slots must be 1, 2, 4 or 8", slots)?;
    let whole = wg_size.is_multiple_of(lanes * slots * size);
    Misfit::unless(whole, "lanes * slots * size must divide wg_size", wg_size)?;
    Misfit::unless(queries == 1 && keys == 1, "coop needs one query and one key per invocation", queries.max(keys))?;
    Misfit::at_most("block", block, 64u32)?;
    let owned = block.is_multiple_of(size) && block.is_multiple_of(lanes * slots) && block > 0;
    Misfit::unless(owned, "block must be whole matrices, and shared by lanes * slots", block)?;
    let fixed = reduce == Reduce::Memory && !apart;
    Misfit::unless(fixed, "coop needs reduce=memory and apart=false", fixed)?;
    let bytes = wg_bytes(config, columns(problem, config)).max(4 * wg_size);
    Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)
}

/// Rows and columns of a matrix; 0 where there are none.
fn size(config: &Config) -> u32 {
    if let Load::Matrices(size) = config.load { size } else { 0 }
}

/// Columns of head and value vectors, padded to whole matrices in each slot.
pub(super) fn columns(problem: &Problem, config: &Config) -> [u32; 2] {
    let whole = (size(config) * config.slots).max(16);
    problem.forward.chunks(1).map(|chunks| (4 * chunks).next_multiple_of(whole))
}

/// Bytes of workgroup memory for head and value vectors of so many columns.
fn wg_bytes(config: &Config, columns: [u32; 2]) -> u32 {
    let Config { block, slots, .. } = *config;
    let (size, rows) = (size(config), config.owned(1) as u32);
    let lines = rows * slots;
    let walked: u32 = columns.into_iter().map(|cols| (block * (cols + 8)).max(cols * (block + 8))).sum();
    // The tile and weights, f16; scores, f32; statistics of rows, and the extent.
    2 * (walked.max(lines * (size + 8)) + 2 * rows * (block + 8)) + 8 * lines * (block + 8) + 16 * block + 16
}

/// The shader of a walk.
pub(super) fn shader(pass: &Pass<Config, Form>) -> Shader {
    let config = pass.config;
    let Form { step, vec, chunks, padded, eights, x, softcap, mask, indices, segments, .. } = pass.form;
    let columns = chunks.map(|chunks| 4 * chunks);
    let (size, by_keys) = (size(&config), step == Step::Keys);
    let matrix = |scalar: &str, role: &str| format!("coop_mat{size}x{size}<{scalar}, {role}>");
    // Single elements of a packed output are stored half by half of a word.
    let edge = vec == 1 && x.packed();
    let put = |chunks, elements| if vec == 4 { chunks } else { elements };
    let shader = pass
        .begin(config.wg_size, wg_bytes(&config, columns), if edge { 2 } else { vec })
        .params::<Params>()
        .constants(FLAGS)
        .constant("SIZE", size)
        .constant("LANES", config.lanes)
        .constant("SLOTS", config.slots)
        .constant("BLOCK", config.block)
        .constant("A_CHUNKS", chunks[0])
        .constant("PARTS", 0)
        .constant("A_COLS", columns[0])
        .constant("B_COLS", columns[1])
        .flag("PADDED", padded)
        .flag("EIGHTS", eights)
        .flag("BY_KEYS", by_keys)
        .flag("HAS_SEQUENCES", indices)
        .flag("SEGMENTS", segments)
        .flag("SOFTCAP", softcap)
        .alias("LEFT", &matrix("f16", "A"))
        .alias("RIGHT", &matrix("f16", "B"))
        .alias("PRODUCT", &matrix("f32", "C"))
        .reads(ROWS, "rows", "vec4<u32>")
        .mask(MASK, mask)
        .import(if x == Storage::F16 { "attention_words_f16" } else { "attention_words_bf16" })
        .import(put("attention_backward_put_a_chunks", "attention_backward_put_a_elements"));
    let [owned, walked] = if by_keys { [[K, V], [Q, D_O]] } else { [[Q, D_O], [K, V]] };
    let shader = shader
        .words(owned[0], "a", eights, padded)
        .words(owned[1], "b", eights, padded)
        .words(walked[0], "x", eights, padded)
        .words(walked[1], "y", eights, padded);
    if by_keys {
        let shader = shader.output(DK, "da", x, edge).output(DV, "db", x, edge);
        shader.import(put("attention_backward_put_b_chunks", "attention_backward_put_b_elements"))
    } else {
        shader.output(DQ, "da", x, edge).import("attention_backward_put_b_none")
    }
}
