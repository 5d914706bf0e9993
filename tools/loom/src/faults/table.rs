//! The faults. What public bugs they are modelled on: the numbers are those of wgpu, cubecl, mesa, ncnn and others.

use super::Edit::{All, Calls, Cut, Each};
use super::Fault;

/// All of them. Shaders that nothing of a fault is found in have no part in it.
pub static FAULTS: &[Fault] = &[
    Fault {
        name: "the offset of a tile is ignored",
        after: "Intel Xe3: cooperative loads from workgroup memory all give tile 0 (mesa#15932, cubecl#1444)",
        edits: &[
            All("gemm_coop", "&tiles[x0 + i * SIZE * K_ROW + k]", "&tiles[x0 + k]"),
            All("gemm_coop", "&tiles[w0 + j * SIZE * K_ROW + k]", "&tiles[w0 + k]"),
            All("attention_coop", "&tile[t * SIZE * K_ROW + (slot * K_MATRICES + c) * SIZE]", "&tile[0]"),
            All("attention_coop", "&tile[(slot * V_MATRICES + c) * SIZE * V_ROW + t * SIZE]", "&tile[0]"),
        ],
    },
    Fault {
        name: "rows 4 to 7 of a matrix are zeros",
        after: "Apple: 8 x 8 matrices in workgroups that are bounded to 32 invocations (cubecl#1636, cubek#645)",
        edits: &[
            All(
                "gemm_coop",
                "to.y, 4u, patch_four(p), gate_sum)",
                "to.y, 4u, select(patch_four(p), vec4<f32>(0.0), row % 8u > 3u), gate_sum)",
            ),
            All(
                "attention_coop",
                "var x = factors[number] *",
                "var x = select(factors[number], 0.0, line % 8u > 3u) *",
            ),
        ],
    },
    Fault {
        name: "a is transposed",
        after: "a cooperative load with the majority of rows and columns exchanged",
        edits: &[
            All("gemm_coop", "coopLoadT<LEFT>", "coopLoad<LEFT>"),
            All("attention_coop", "q[c] = coopLoadT<LEFT>", "q[c] = coopLoad<LEFT>"),
            All("attention_coop", "x[t] = coopLoadT<LEFT>", "x[t] = coopLoad<LEFT>"),
            All("gemm", "base + row_of(row) * params.a.w + k,", "base + k * params.a.w + row_of(row) / 4u * 4u,"),
        ],
    },
    Fault {
        name: "b a for a b",
        after: "cooperative matrices whose factors are exchanged, unseen on symmetric data",
        edits: &[All(
            "gemm_coop",
            "let w = coopLoad<RIGHT>(&tiles[w0 + j * SIZE * K_ROW + k], K_ROW);",
            "let w = coopLoadT<RIGHT>(&tiles[w0 + j * SIZE * K_ROW + k], K_ROW);",
        )],
    },
    Fault {
        name: "a barrier is dropped",
        after: "Metal and WARP: barriers that do not hold (wgpu#4500, wgpu#7904)",
        edits: &[Each("", "workgroupBarrier();", "")],
    },
    Fault {
        name: "a stage is read before it is written",
        after: "a race, by reordering",
        edits: &[
            All("gemm_tiled", "load_tiles(at, k0, 0u, local); }\n    workgroupBarrier();", "workgroupBarrier(); }"),
            All(
                "gemm_coop",
                "fill_tiles(at, loads, k0, local);\n      workgroupBarrier();",
                "workgroupBarrier(); if k0 > at.k_first { fill_tiles(at, loads, k0 - TILE_K, local); }",
            ),
            All(
                "attention",
                "k_tile[e] = key_chunk(place(s, min(first",
                "k_tile[e] = key_chunk(place(s, min(max(first, TILE) - TILE",
            ),
            All(
                "vq_assign",
                "staged[i] = codebook_chunk(codes + min(tile +",
                "staged[i] = codebook_chunk(codes + min(max(tile, TILE) - TILE +",
            ),
        ],
    },
    Fault {
        name: "a subgroup's width is misreported",
        after: "AMD and Intel: other widths than those that are told (ggml#1619, IGCIT#1402)",
        edits: &[
            All("", "min(ids.num_subgroups, MAX_SUBGROUPS)", "min(max(ids.num_subgroups / 2u, 1u), MAX_SUBGROUPS)"),
            All("", "ids.subgroup_lane == 0u", "ids.subgroup_lane == 1u"),
            All("gemm_coop", "clamp(num_subgroups, 1u, BLOCKS)", "clamp(2u * num_subgroups, 1u, BLOCKS)"),
            All("attention_coop", "clamp(num_subgroups, 1u, BLOCKS)", "clamp(2u * num_subgroups, 1u, BLOCKS)"),
        ],
    },
    Fault {
        name: "a shuffle is off by one lane",
        after: "AMD: shuffles that take another lane's value (llama.cpp#19921)",
        edits: &[
            All("", "subgroupShuffleXor(r, step)", "subgroupShuffleXor(r, step ^ 1u)"),
            All("", "subgroupShuffleXor(v, step)", "subgroupShuffleXor(v, step ^ 1u)"),
            All("attention", ", c % LOAD_LANES)", ", (c + 1u) % LOAD_LANES)"),
            All("gemm", "r % LANES)", "(r + 1u) % LANES)"),
            All("gemm", ", i % LANES)", ", (i + 1u) % LANES)"),
        ],
    },
    Fault {
        name: "a reduction misses lanes",
        after: "Intel UHD 630 on Metal: sums over a subgroup (MoltenVK#2757)",
        edits: &[
            All("", "for (var step = 1u; step < LANES;", "for (var step = 2u; step < LANES;"),
            Each("", "half > 0u;", "half > 1u;"),
            All("", "subgroupAdd(v)", "subgroupShuffleXor(v, 1u)"),
            All("", "subgroupMax(v)", "subgroupShuffleXor(v, 1u)"),
            All("gemm_vector", "for (var o = 1u; o < LANES; o++)", "for (var o = 2u; o < LANES; o++)"),
            All("attention", "for (var lane = 0u; lane < LANES; lane++)", "for (var lane = 1u; lane < LANES; lane++)"),
            All(
                "vq_train",
                "for (var i = 0u; i < WG_SIZE; i++) { sum +=",
                "for (var i = 1u; i < WG_SIZE; i++) { sum +=",
            ),
        ],
    },
    Fault {
        name: "what is past the end takes part",
        after: "reductions that include inactive lanes",
        edits: &[
            All("", "return c < cols; }", "return true; }"),
            All("", "return (j >= vec2<i32>(0)) & (j < vec2<i32>(i32(cols)));", "return vec2<bool>(true);"),
            All(
                "",
                "+ vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(cols);",
                "+ vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(cols + 4u);",
            ),
            All("attention", "< (*rows).span[i / KEYS]);", "< (*rows).span[i / KEYS] + 1u);"),
            All("attention_coop", "- own.from_key < own.span;", "- own.from_key < own.span + 1u;"),
            All("vq_assign", "return min(code, end - 1u);", "return min(code, end);"),
        ],
    },
    Fault {
        name: "loops are cut short",
        after: "old llvmpipe ends loops after 65,535 rounds; here after 15",
        edits: &[Cut("", 15)],
    },
    Fault {
        name: "tanh overflows",
        after: "Metal: tanh of a large value is NaN (gpuweb#4458)",
        edits: &[
            All(
                "attention",
                "let z = x * x;\n  let near",
                "let big = exp(2.0 * x);\n  if big >= 0.0 { return (big - 1.0) / (big + 1.0); }\n  let z = x * x;\n  let near",
            ),
            All("gemm", "return 1.0 / (1.0 + own_exp(-x)); }", "let e = exp(x); return e / (1.0 + e); }"),
        ],
    },
    Fault {
        name: "small exponentials are flushed",
        after: "exponentials that give 0 long before f32 does",
        edits: &[
            Calls("", "exp2", "(sign(floor({} * 4096.0)) * {})"),
            Calls("", "own_exp", "(sign(floor({} * 4096.0)) * {})"),
        ],
    },
    Fault {
        name: "min for max",
        after: "a slip",
        edits: &[
            All("", "r = max(r,", "r = min(r,"),
            All("", "max(tree[ids.invocation],", "min(tree[ids.invocation],"),
            All("", "return max(v.x, v.y); }", "return min(v.x, v.y); }"),
            All("", "return max(max(v.x, v.y), max(v.z, v.w)); }", "return min(min(v.x, v.y), min(v.z, v.w)); }"),
            Each("softmax", "row_max = max(", "row_max = min("),
            Each("softmax", "max_own = max(", "max_own = min("),
            All("attention", "top = max(top, (*s)", "top = min(top, (*s)"),
            All("attention_coop", "top = max(top, s[i])", "top = min(top, s[i])"),
            All("attention_merge", "row_max = max(row_max,", "row_max = min(row_max,"),
            All("gemm", "return max(x, vec4<f32>(0.0)); }", "return min(x, vec4<f32>(0.0)); }"),
            Each("vq_assign", "largest = max(largest,", "largest = min(largest,"),
        ],
    },
    Fault {
        name: "< for <= at the causal edge",
        after: "a slip",
        edits: &[
            All(
                "",
                "min(params.cols, i + params.cols + 1u - params.n2)",
                "min(params.cols, i + params.cols - params.n2)",
            ),
            All("attention", "i + walk.shift + params.right + 1,", "i + walk.shift + params.right,"),
        ],
    },
    Fault {
        name: "a window sees a key too many",
        after: "a slip",
        edits: &[All("attention", "i + walk.shift - params.left,", "i + walk.shift - params.left - 1,")],
    },
    Fault {
        name: "the last query does not stand at the last key",
        after: "a causal mask that is aligned to the top left",
        edits: &[
            All("attention", "walk.shift = i32(walk.seq.kv_len) - i32(walk.seq.q_len);", "walk.shift = 0;"),
            All("softmax", "min(params.cols, i + params.cols + 1u - params.n2)", "min(params.cols, i + 1u)"),
        ],
    },
    Fault {
        name: "a guard of the last rows is dropped",
        after: "a slip",
        edits: &[
            Each("", "if row < params.rows {", "{"),
            All("gemm", "if row >= params.m || col >= params.n { return; }", ""),
            All("", "if row >= params.rows { return; }", ""),
            All("", "if row >= params.n { return; }", ""),
            All("", "if row >= params.n { break; }", ""),
            All("attention_bias", "if head >= params.heads { return; }", ""),
            All("position_encoding", "if group >= params.groups { return; }", ""),
            All("rope", "if group >= params.groups { return; }", ""),
            All("vq_assign", "if i >= params.n * params.books { return; }", ""),
            All("vq_assign", "if row < params.n {", "{"),
            All("vq_train", "if c >= chunk_count(params.cols, 0u) { return; }", ""),
            All("attention", "if walk.tile + lane.row + r * ROW_LANES < walk.rows {", "{"),
            All("attention_coop", "&& e < FOURS && walk.tile + number < rows {", "&& e < FOURS {"),
            All("clear", "if i < params.count {", "{"),
        ],
    },
    Fault {
        name: "the last column or key is dropped",
        after: "a slip",
        edits: &[
            All(
                "",
                "fn chunk_count(cols: u32, phase: u32) -> u32 { return cols; }",
                "fn chunk_count(cols: u32, phase: u32) -> u32 { return max(cols, 1u) - 1u; }",
            ),
            All("", "return (cols + phase + 1u) / 2u; }", "return (max(cols, 1u) + phase) / 2u; }"),
            All("", "return (cols + 3u) / 4u; }", "return max((cols + 3u) / 4u, 1u) - 1u; }"),
            All(
                "attention",
                "params.right + 1, 0, i32(walk.seq.kv_len))",
                "params.right + 1, 0, max(i32(walk.seq.kv_len) - 1, 0))",
            ),
            All(
                "gemm",
                "at.k_end = min(at.k_first + params.part_k, params.k);",
                "at.k_end = min(at.k_first + params.part_k, max(params.k, 1u) - 1u);",
            ),
            All(
                "gemm",
                "let cols = (params.n + TILE_N - 1u) / TILE_N;",
                "let cols = max((params.n + TILE_N - 1u) / TILE_N, 2u) - 1u;",
            ),
            All(
                "vq_assign",
                "min(begin + params.per_part, params.num_codes)",
                "min(begin + params.per_part, params.num_codes - 1u)",
            ),
            All("vq_scalar", "d < params.cols;", "d + 1u < params.cols;"),
            All("vq_train", "d < params.cols;", "d + 1u < params.cols;"),
        ],
    },
    Fault {
        name: "the maximum starts from 0",
        after: "a slip, unseen where some score is positive",
        edits: &[All("", "const LOWEST: f32 = -0x1.fffffep+127;", "const LOWEST: f32 = 0.0;")],
    },
    Fault {
        name: "the bias of another column",
        after: "a slip",
        edits: &[
            All(
                "gemm",
                "return view_at(view, product, row, 0u) + view.w * cols;",
                "return view_at(view, product, row, 0u) + view.w * (cols / 4u * 4u);",
            ),
            All("norm", "bias_chunk(params.bias_at, c,", "bias_chunk(params.bias_at, 0u * c,"),
            All("norm", "weight_chunk(params.weight_at, c,", "weight_chunk(params.weight_at, 0u * c,"),
        ],
    },
    Fault {
        name: "memory is taken for zeros",
        after: "AMD: workgroup memory that is not zeroed (wgpu#4591); scratch of another call",
        edits: &[
            All("clear", "words[params.offset + i] = 0u;", ""),
            All("gemm", "d[i >> 1u], 0xffff0000u >> shift)", "d[i >> 1u], 0xffffffffu)"),
            All(
                "attention",
                "if !HAS_INDICES { return vec2<u32>(0u, 0u); }",
                "if HAS_INDICES { return vec2<u32>(0u, total); }",
            ),
        ],
    },
    Fault {
        name: "another batch or head",
        after: "a slip; compilers that lose a component of a vector (quadrants#835)",
        edits: &[
            All("", "i0 * view.y + i1 * view.z", "i1 * view.z"),
            All("", "i0 * view.y + i1 * view.z", "i0 * view.y"),
            All("attention", "params.k.x + kv_head * params.k.z", "params.k.x"),
            All("attention", "params.v.x + kv_head * params.v.z", "params.v.x"),
            All("attention", "s.k += b * params.k.y +", "s.k +="),
            All("attention", "walk.kv_head * params.group + n % params.group", "walk.kv_head * params.group"),
            All("attention", "params.alibi + walk.b * params.alibi_s0 + h", "params.alibi + walk.b * params.alibi_s0"),
            All("attention", "tables_load(params.sinks + h)", "tables_load(params.sinks)"),
            All("attention_merge", "+ s * params.o.z + row", "+ row"),
            All("attention_bias", "params.bias.x + head * params.bias.z", "params.bias.x"),
            All("attention_bias", "slopes[params.table.x + head]", "slopes[params.table.x]"),
            All("gemm", "at.b1 = at.batch % params.batch1;", "at.b1 = 0u;"),
            All("gemm", "at.b0 = at.batch / params.batch1;", "at.b0 = 0u;"),
            All("rope", "x += read.z;", ""),
            All("rope", "params.first_position + b * params.positions_step + s", "params.first_position + s"),
            All("position_encoding", "x += params.x.y;", ""),
            All("vq_lookup", "params.codebook.z + found.code", "0u + found.code"),
            All("vq_lookup", "segment * params.codebook.z", "segment * 0u"),
            All("vq_assign", "params.codebook.x + book * params.codebook.z", "params.codebook.x"),
            All("vq_train", "let at = book * params.num_codes;", "let at = 0u * book;"),
        ],
    },
    Fault {
        name: "the second dimension of the grid is ignored",
        after: "u32 that wraps at 2^16 rows",
        edits: &[All("", "wg.y * params.grid_x + wg.x", "wg.x")],
    },
    Fault {
        name: "sums of f16",
        after: "f16 accumulation",
        edits: &[
            All("softmax", "sum_own += ", "sum_own = quantizeToF16(sum_own) + "),
            All("softmax", "o.exp_sum += ", "o.exp_sum = quantizeToF16(o.exp_sum) + "),
            All("", "r += subgroupShuffleXor(r, step)", "r = quantizeToF16(r + subgroupShuffleXor(r, step))"),
            All(
                "",
                "tree[ids.invocation] = tree[ids.invocation] + tree[ids.invocation + half];",
                "tree[ids.invocation] = quantizeToF16(tree[ids.invocation] + tree[ids.invocation + half]);",
            ),
            All("", "r += partial[i]; }", "r = quantizeToF16(r + partial[i]); }"),
            All("attention", "add += (*s)[i];", "add = quantizeToF16(add + (*s)[i]);"),
            All(
                "attention",
                "for (var i = 0u; i < SCORES; i++) { s[i] += run[i]; }",
                "for (var i = 0u; i < SCORES; i++) { s[i] = quantizeToF16(s[i] + run[i]); }",
            ),
            All("attention_coop", "sum += (*w)[i];", "sum = quantizeToF16(sum + (*w)[i]);"),
            All("attention_merge", "exp_sum += weight;", "exp_sum = quantizeToF16(exp_sum + weight);"),
            All("gemm_direct", "return fma(vec4<f32>(x.w), w[3],", "return fma(vec4<f32>(quantizeToF16(x.w)), w[3],"),
            All(
                "gemm_tiled",
                "fma(vec4<f32>(a_tile[a0 + r]), w, acc[r * VECS + v]);",
                "quantizeToF16(fma(vec4<f32>(a_tile[a0 + r]), w, acc[r * VECS + v]));",
            ),
            All("gemm_vector", "return fma(w[3], vec4<f32>(x.w),", "return fma(w[3], vec4<f32>(quantizeToF16(x.w)),"),
            All("gemm_vector", "{ return acc + vec4<f32>(", "{ return quantizeToF16(acc) + vec4<f32>("),
            All("gemm_split_k", "sum += scratch[at];", "sum = quantizeToF16(sum + scratch[at]);"),
            All("norm", "let scaled = params.scale * t;", "let scaled = quantizeToF16(params.scale * t);"),
            All("norm_backward_columns", "dbias[k] += dy;", "dbias[k] = quantizeToF16(dbias[k] + dy);"),
            All("norm_backward_sum", "dbias += sums_chunk(", "dbias = quantizeToF16(dbias) + sums_chunk("),
            All(
                "vq_assign",
                "return fma(difference, difference, sum);",
                "return quantizeToF16(fma(difference, difference, sum));",
            ),
            All("vq_train_update", "let moved = kept +", "let moved = quantizeToF16(kept) +"),
        ],
    },
    Fault {
        name: "results are rounded to zero",
        after: "drivers that leave open how pack2x16float rounds",
        edits: &[
            All(
                "",
                "(u + vec2<u32>(0xc8000fffu) + ((u >> vec2<u32>(13u)) & vec2<u32>(1u)))",
                "(u + vec2<u32>(0xc8000000u))",
            ),
            All(
                "",
                "let rounded = b + vec2<u32>(0x7fffu) + ((b >> vec2<u32>(16u)) & vec2<u32>(1u));",
                "let rounded = b;",
            ),
        ],
    },
    Fault {
        name: "the scratch of another part",
        after: "stale scratch, or an index of another part",
        edits: &[
            Each("softmax", "scratch[row * params.parts + p]", "scratch[row * params.parts]"),
            Each("norm_split", "scratch[all + p]", "scratch[all]"),
            All("norm_backward", "let at = all + 6u * p;", "let at = all;"),
            All("norm_backward_sum", "2u * block * params.cols", "0u * block * params.cols"),
            All("gemm_split_k", "let at = p * per_part + i;", "let at = 0u * p * per_part + i;"),
            All(
                "vq_assign_finish",
                "let start = 2u * i * params.parts * TOP;",
                "let start = 0u * i * params.parts * TOP;",
            ),
        ],
    },
    Fault {
        name: "the page table is off by one",
        after: "a slip",
        edits: &[All("attention", "s.table + key / params.page_size", "s.table + (key + 1u) / params.page_size")],
    },
    Fault {
        name: "lengths are not looked at",
        after: "a slip, unseen where all sequences are as long",
        edits: &[
            All("attention", "s.kv_len = min(indices_load(params.lengths + b), s.kv_len);", ""),
            All("attention", "s.q_len = min(q.y, params.seq_q);", ""),
        ],
    },
    Fault {
        name: "a sink is counted twice",
        after: "a slip",
        edits: &[
            All("attention", "= sink.y;", "= 2.0 * sink.y;"),
            All("attention_coop", "select(0.0, sink.y, part == 0u)", "select(0.0, 2.0 * sink.y, part == 0u)"),
        ],
    },
    Fault {
        name: "the LSE lacks the sink",
        after: "a slip",
        edits: &[
            All(
                "attention",
                "lse_store(at, select(row_max + log(total),",
                "let sink = sink_of((*rows).head[r]);\n lse_store(at, select(row_max + log(max(total - sink.y * exp2((sink.x - row_max) * LOG2_E), 1e-9)),",
            ),
            All(
                "attention_coop",
                "lse_store(at, select(highest + log(select(exp_sum, 1.0, dead)),",
                "let sink = sink_of(own.head);\n lse_store(at, select(highest + log(max(select(exp_sum, 1.0, dead) - sink.y * exp2((sink.x - highest) * LOG2_E), 1e-9)),",
            ),
        ],
    },
    Fault {
        name: "hidden values are weighed",
        after: "NaN in the unused tail of a page",
        edits: &[
            All("attention", "if hidden { y = select(x, vec4<f32>(0.0), weight == 0.0); }", ""),
            All("attention", "if weight != 0.0 {", "{"),
            All("attention_coop", "bad |= is_not_finite(v_staged[i]);", ""),
            All("attention_merge", "if bitcast<u32>(most) != NEG_INF_BITS && weight != 0.0 {", "{"),
            All("softmax_backward", "select(dy, V(0.0), hidden)", "dy"),
            All("gemm", "|| params.beta == 0.0 {", "{"),
        ],
    },
    Fault {
        name: "a mask is ignored or taken the other way",
        after: "a slip",
        edits: &[
            All("", "& 0xffu) == 0u); }", "& 0xffu) != 0u); }"),
            All("", "& 1u) == 0u); }", "& 1u) != 0u); }"),
            All("softmax", "t + params.mask_factor * mask", "t"),
            All("attention", "finite(s + value)", "finite(s)"),
            All("attention", "min(key, walk.end - 1u) * params.mask_step", "0u * key"),
        ],
    },
    Fault {
        name: "softcap, ALiBi and scale in another order",
        after: "a slip",
        edits: &[
            All("attention", "params.softcap * tanh_safe(s / params.softcap)", "tanh_safe(s / params.softcap)"),
            All("attention", "abs(f32(i32(query) + walk.shift - i32(key)))", "abs(f32(i32(query) - i32(key)))"),
            All("attention", "= params.scale * q4(", "= q4("),
            All("attention_coop", "own.scale = params.scale;", "own.scale = 1.0;"),
            All("softmax", "params.x_factor * x_chunk(", "x_chunk("),
            All("gemm", "return params.alpha * values(", "return values("),
            All("gemm", "return params.beta * values(", "return values("),
            All("position_encoding", "params.scale * x_chunk(", "x_chunk("),
        ],
    },
    Fault {
        name: "another ancestor of the tree",
        after: "a slip",
        edits: &[
            All(
                "attention",
                "if t >= 0 && t < count { bits |= 1u << u32(t); }",
                "if t > 0 && t < count { bits |= 1u << u32(t); }",
            ),
            All("attention", "indices_load(parents + at)", "indices_load(parents + max(at, 1u) - 1u)"),
        ],
    },
    Fault {
        name: "a segment is seen where it is not",
        after: "a slip",
        edits: &[
            All("attention", "i32(j) <= t;", "i32(j) <= t + 1;"),
            All("attention", "&& (b & PRIVATE) == 0u, own,", ", own,"),
            All("attention", "let own = (a & FULL) != 0u || ", "let own = "),
            All("attention", "let of_all = w.segment == last >> 2u || (first & PRIVATE) == 0u;", "let of_all = true;"),
            All("attention", "w.own_full = segment_end(w.seq, first, t_first);", "w.own_full = w.end;"),
        ],
    },
    Fault {
        name: "angles lose their lower words",
        after: "positions beyond 100,000 in f32",
        edits: &[
            All("rope", " + multiply_high(lower, position)", ""),
            All("position_encoding", " + multiply_high(lower, at)", ""),
            All("", "(F(rest) + F(lower) * 0x1p-32)", "F(rest)"),
            All(
                "",
                "return a1 * b1 + (p01 >> half) + (p10 >> half) + (middle >> half);",
                "return a1 * b1 + (p01 >> half) + (p10 >> half);",
            ),
        ],
    },
    Fault {
        name: "a negative position is taken for a large one",
        after: "a slip",
        edits: &[
            All("rope", "(position >= U(0x80000000u)) & (U(params.flags & SIGNED) != U(0u))", "(position != position)"),
            All("position_encoding", "at >= 0x80000000u && params.signed != 0u", "at != at"),
        ],
    },
    Fault {
        name: "sin for cos",
        after: "a slip",
        edits: &[
            All("", "let swap = (quarter & U(1u)) != U(0u);", "let swap = (quarter & U(1u)) == U(0u);"),
            All("rope", "p.b * turn.cos + p.a * turn.sin", "p.b * turn.cos - p.a * turn.sin"),
            All("", "((quarter + U(1u)) & U(2u))", "(quarter & U(2u))"),
        ],
    },
    Fault {
        name: "ties go to the highest",
        after: "a slip",
        edits: &[
            All("vq_assign", "let nearer = d < best[r];", "let nearer = d <= best[r];"),
            All("vq_assign", "moved = moved || d < best[t];", "moved = moved || d <= best[t];"),
            All("vq_assign", "a.code < b.code)", "a.code > b.code)"),
            All("vq_scalar", "v > bitcast<f32>(", "v >= bitcast<f32>("),
        ],
    },
    Fault {
        name: "an index out of range is used",
        after: "a slip",
        edits: &[
            All("vq", "if code < params.num_codes {", "if code <= params.num_codes {"),
            All("vq", "let bad = named >= params.num_codes;", "let bad = named > params.num_codes;"),
            All("attention_bias", "min(buckets[at], params.num_buckets - 1u)", "min(buckets[at], params.num_buckets)"),
            All("position_encoding", "min(at, count - 1u)", "min(at, count)"),
            All("rope", "U(params.max_pos - 1u)", "U(params.max_pos)"),
        ],
    },
    Fault {
        name: "the mean or eps is left out",
        after: "a slip",
        edits: &[
            All("norm", "y = (t - s.mean) * s.rstd;", "y = t * s.rstd;"),
            All("norm", " + params.eps, SMALLEST", ", SMALLEST"),
            All("norm", "m2 / f32(params.cols)", "m2 / f32(params.cols + 1u)"),
            All("norm", "weight + params.weight_offset", "weight"),
            All("softmax_backward", "(e.dy - sum)", "e.dy"),
            All("softmax_backward", "e.weight * sum)", "e.weight)"),
            All("vq_train_gradient", "fma(V(params.commit), gap,", "fma(V(params.commit), -gap,"),
        ],
    },
    Fault {
        name: "the epilogue in another order",
        after: "a slip",
        edits: &[
            All(
                "gemm",
                "activate(params.activation, factor * sum + c_and_bias(at, row, cols));",
                "activate(params.activation, factor * sum) + c_and_bias(at, row, cols);",
            ),
            All(
                "gemm",
                "if GATED { v *= factor * gate_sum + gate_bias(row, cols); }",
                "if GATED { v *= factor * gate_sum; }",
            ),
            All("gemm", "v += residual_of(at, row, cols);", ""),
        ],
    },
    Fault {
        name: "the parts are joined by another maximum",
        after: "an LSE of f32 that has lost its sum",
        edits: &[
            All(
                "softmax",
                "fn rescale(before: V, after: V) -> V { return exp2((before - after) * params.unit_log2); }",
                "fn rescale(before: V, after: V) -> V { return V(1.0); }",
            ),
            All("attention", "w.rescale[r] = exp2(((*rows).row_max[r] - top) * LOG2_E);", "w.rescale[r] = 1.0;"),
            All("attention_coop", "let factor = power(m - raised);", "let factor = 1.0;"),
            All("attention_merge", "if HAS_SUM { weight *= sum_load(", "if HAS_SUM { weight += 0.0 * sum_load("),
            All("norm", "a.mean + d * share", "a.mean"),
            All("norm", " + square(d) * (a.count * share)", ""),
        ],
    },
    Fault {
        name: "a counter or a usage is lost",
        after: "a slip",
        edits: &[
            All("vq_assign_finish", "if HAS_USAGE { count_use(", "if HAS_USAGE && i > 0u { count_use("),
            All("vq_lookup", "if count { note_bad(); }", ""),
            All("vq_lookup", "if bad && count { note_bad(); }", ""),
            All(
                "vq_train",
                "own += vec3<f32>(moved, c, c * log(max(c, 1.0)));",
                "own = vec3<f32>(moved, c, c * log(max(c, 1.0)));",
            ),
        ],
    },
    Fault {
        name: "a wide vector is cut",
        after: "sums over one chunk too few of a long vector",
        edits: &[
            All("vq_assign", "j < min(run + RUN, params.chunks)", "j + 1u < min(run + RUN, params.chunks)"),
            All(
                "attention",
                "for (var c = 0u; c < V_CHUNKS; c++) {\n    for (var r = 0u; r < ROWS; r++) { (*rows).o",
                "for (var c = 1u; c < V_CHUNKS; c++) {\n    for (var r = 0u; r < ROWS; r++) { (*rows).o",
            ),
            All("vq_lookup", "if EVEN || c < chunks {", "if EVEN || c + 1u < chunks {"),
        ],
    },
];

const LAST_STEP: &str = "the rule allows twice the eps of the output's dtype";
const LAST_WORD: &str = "some of its places: less than 2^-32 of a turn";
const SHORT: &str =
    "some of its places: loops over what an invocation holds have fewer rounds, and are compiled otherwise";
const SHIFT: &str = "some of its places: the maximum only moves the reference of exponentials, which cancels";
const SMALL: &str = "some of its places: what is lost is beside larger terms of the same sum";

/// Kernels in which a fault changes results, yet in some place never beyond the rule, and why.
pub static WITHIN: &[(&str, &str, &str)] = &[
    ("results are rounded to zero", "", LAST_STEP),
    ("angles lose their lower words", "rope", LAST_WORD),
    ("angles lose their lower words", "position_encoding", LAST_WORD),
    ("loops are cut short", "norm", SHORT),
    ("loops are cut short", "norm_backward", SHORT),
    ("loops are cut short", "softmax", SHORT),
    ("loops are cut short", "vq_assign", SHORT),
    ("min for max", "softmax", SHIFT),
    ("the scratch of another part", "softmax", SHIFT),
    ("small exponentials are flushed", "softmax", SMALL),
    ("small exponentials are flushed", "lora", SMALL),
    ("sums of f16", "lora", SMALL),
];
