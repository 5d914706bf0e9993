//! What ACO prints (RADV): `Assembly`, RDNA and Vega.

use super::loops::RARE;
use super::program::{Kind, Program, Reading, Space, starts};

/// The blocks of the text.
pub fn read(text: &str) -> Program {
    let mut reading = Reading::default();
    let mut marker = String::new();
    for line in text.lines() {
        if let Some(label) = line.strip_suffix(':').filter(|label| label.starts_with("BB")) {
            reading.label(label);
            continue;
        }
        let line = line.split(';').next().unwrap_or_default().trim();
        // Two operations that are issued as one.
        for part in line.split(" :: ").filter(|part| !part.is_empty()) {
            let (op, arguments) = part.split_once(' ').unwrap_or((part, ""));
            if starts(op, &["s_code_end", ".long", "v_illegal", "(then"]) {
                continue;
            }
            reading.block().counts.add(kind(op, arguments), 1);
            if op.contains("_cmp") {
                marker = if arguments.contains(&format!("{RARE:#x}")) { op.to_string() } else { String::new() };
            }
            if starts(op, &["s_branch", "s_cbranch"]) {
                reading.block().marked = op != "s_branch" && !std::mem::take(&mut marker).is_empty();
                reading.jump(arguments.trim(), op == "s_branch");
            } else if op == "s_endpgm" {
                reading.end();
            }
        }
    }
    reading.finish()
}

fn kind(op: &str, arguments: &str) -> Kind {
    let op = op.strip_prefix("v_dual_").map_or(op.to_string(), |half| format!("v_{half}"));
    let op = op.as_str();
    if let Some(vector) = op.strip_prefix("v_") {
        let packed = vector.strip_prefix("pk_").unwrap_or(vector);
        let float =
            |word: &str| packed.strip_prefix(word).is_some_and(|rest| rest.contains("_f16") || rest.contains("_f32"));
        return match vector {
            _ if starts(vector, &["wmma", "swmmac", "mfma"]) => Kind::Matrix,
            _ if starts(packed, &["fma", "mac_", "mad_f", "mad_mix", "dot2"]) => {
                let whole = vector == packed && !vector.contains("_f16") && !starts(packed, &["dot2"]);
                if whole { Kind::Fma } else { Kind::Float }
            }
            _ if starts(vector, &["exp", "log", "rcp", "rsq", "sqrt", "sin", "cos"]) => Kind::Special,
            _ if starts(vector, &["cvt"]) => Kind::Convert,
            _ if starts(vector, &["permlane", "readlane", "writelane", "readfirstlane"]) => Kind::Shuffle,
            _ if arguments.contains("row_") || arguments.contains("dpp8:") || arguments.contains("quad_perm") => {
                Kind::Shuffle
            }
            _ if starts(vector, &["mov", "perm_", "pack", "swap", "accvgpr", "nop"]) => Kind::Move,
            _ if ["add", "sub", "mul", "max", "min", "ldexp", "rndne", "floor", "trunc", "ceil", "fract"]
                .into_iter()
                .any(float) =>
            {
                Kind::Float
            }
            _ => Kind::Int,
        };
    }
    if let Some(shared) = op.strip_prefix("ds_") {
        return match shared {
            _ if starts(shared, &["load", "read"]) => Kind::Load(Space::Workgroup, width(shared)),
            _ if starts(shared, &["store", "write"]) => Kind::Store(Space::Workgroup, width(shared)),
            _ if starts(shared, &["bpermute", "permute", "swizzle"]) => Kind::Shuffle,
            _ => Kind::Atomic(Space::Workgroup),
        };
    }
    for (prefix, space) in
        [("scratch_", Space::Scratch), ("global_", Space::Global), ("buffer_", Space::Global), ("flat_", Space::Global)]
    {
        if let Some(access) = op.strip_prefix(prefix) {
            return match access {
                _ if access.starts_with("load") => Kind::Load(space, width(access)),
                _ if access.starts_with("store") => Kind::Store(space, width(access)),
                _ if starts(access, &["gl", "inv", "wb"]) => Kind::Wait,
                _ => Kind::Atomic(space),
            };
        }
    }
    match op {
        _ if starts(op, &["image_load"]) => Kind::Load(Space::Global, 16),
        _ if starts(op, &["s_load", "s_buffer_load"]) => Kind::Constant,
        _ if starts(op, &["s_barrier"]) => Kind::Barrier,
        _ if starts(
            op,
            &[
                "s_wait",
                "s_delay",
                "s_nop",
                "s_clause",
                "s_setprio",
                "s_set_inst_prefetch",
                "s_inst_prefetch",
                "s_sendmsg",
                "s_sleep",
                "s_version",
            ],
        ) =>
        {
            Kind::Wait
        }
        _ if starts(op, &["s_branch", "s_cbranch", "s_endpgm"]) => Kind::Branch,
        _ if starts(op, &["s_"]) => Kind::Scalar,
        _ => Kind::Other,
    }
}

/// Bytes per invocation of `load_b128`, `read2_b64`, `load_dwordx4`, `load_u16`.
fn width(op: &str) -> u32 {
    let twice = if op.contains("2addr") || starts(op, &["read2", "write2"]) { 2 } else { 1 };
    let last = op.rsplit('_').next().unwrap_or_default();
    let bytes = match last {
        "dwordx4" | "b128" => 16,
        "dwordx3" | "b96" => 12,
        "dwordx2" | "b64" => 8,
        _ if op.contains("16") || op.contains("short") => 2,
        _ if op.contains("u8") || op.contains("i8") || op.contains("b8") || op.contains("byte") => 1,
        _ => 4,
    };
    twice * bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_every_generation() {
        let of = |line: &str| {
            let (op, arguments) = line.split_once(' ').unwrap_or((line, ""));
            kind(op, arguments).to_string()
        };
        for (line, expected) in [
            ("v_wmma_f32_16x16x16_f16 v[20:23], v[24:31], v[48:55], v[20:23]", "matrix"),
            ("v_fmac_f32_e32 v4, v12, v10", "fma"),
            ("v_dual_fmac_f32 v4, v12, v10", "fma"),
            ("v_pk_fma_f16 v1, v2, v3, v4", "float"),
            ("v_fma_mix_f32 v1, v2, v3, v4", "fma"),
            ("v_add_f32_e32 v4, v4, v8", "float"),
            ("v_add_f32_dpp v4, v4, v8 row_shr:1", "shuffle"),
            ("v_add_nc_u32_e32 v4, v4, v8", "int"),
            ("v_max3_f32 v4, v4, v8, v9", "float"),
            ("v_exp_f32_e32 v8, v8", "special"),
            ("v_cvt_pk_rtz_f16_f32 v8, v8, v9", "convert"),
            ("v_mov_b32_e32 v2, 0", "move"),
            ("ds_load_2addr_b64 v[2:5], v2 offset1:1", "workgroup load 16"),
            ("ds_read_b128 v[2:5], v2", "workgroup load 16"),
            ("ds_read2_b32 v[2:3], v2 offset1:1", "workgroup load 8"),
            ("ds_load_u16_d16_hi v2, v3", "workgroup load 2"),
            ("ds_write2st64_b64 v2, v[3:4], v[5:6]", "workgroup store 16"),
            ("ds_bpermute_b32 v2, v3, v4", "shuffle"),
            ("buffer_load_dwordx4 v[8:11], v2, s[4:7], 0 offen", "global load 16"),
            ("global_load_d16_b16 v8, v2, s[4:5]", "global load 2"),
            ("buffer_store_short v2, v3, s[4:7], 0 offen", "global store 2"),
            ("buffer_atomic_or v2, v3, s[4:7], 0 offen", "global atomic"),
            ("scratch_load_b32 v2, off, s0", "scratch load 4"),
            ("s_buffer_load_dwordx4 s[0:3], s[4:7], 0x0", "constant"),
            ("s_barrier_wait 0xffff", "barrier"),
            ("s_wait_loadcnt 0x0", "wait"),
            ("s_add_u32 s3, s3, 1", "scalar"),
            ("s_cbranch_scc1 BB7", "branch"),
        ] {
            assert_eq!(of(line), expected, "{line}");
        }
    }

    #[test]
    fn blocks_and_a_marked_branch() {
        let text = "BB0:\n\ts_mov_b32 s3, 0 ; be830080\nBB1:\n\ts_cmp_ge_u32 s3, s1\n\ts_cbranch_scc1 BB7\nBB3:\n\
            \ts_cmp_eq_u32 s4, 0x52415245\n\ts_cbranch_scc0 BB6\nBB4:\n\tv_mul_f32_e32 v1, v2, v3\nBB6:\n\
            \ts_add_u32 s3, s3, 1\n\ts_branch BB1\nBB7:\n\ts_endpgm\n";
        let program = read(text);
        let next: Vec<_> = program.blocks.iter().map(|block| block.next.clone()).collect();
        assert_eq!(next, [vec![1], vec![2, 5], vec![3, 4], vec![4], vec![1], vec![]]);
        assert_eq!(program.blocks.iter().position(|block| block.marked), Some(2));
        assert_eq!(program.counts().total(), 9);
    }
}
