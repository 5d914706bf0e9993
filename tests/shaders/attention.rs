//! Attention's Configs, composed.

use std::collections::HashSet;

use tileloom::attention::{Algorithm, Alibi, Config, Load, Packed, Problem, Reduce, Tree, choose};
use tileloom::attention_merge;
use tileloom::caps::{Class, presets};
use tileloom::softmax::{Mask, MaskKind};
use tileloom::{Dtype, Layout};

pub const STEMS: [&str; 3] = ["attention_tiled", "attention_decode", "attention_merge"];

/// Dtypes, head dims, what is bound, odd layouts; few queries and many.
fn forms() -> Vec<Problem> {
    let mut problems = Vec::new();
    for (x, o) in
        [(Dtype::F32, Dtype::F32), (Dtype::F16, Dtype::F16), (Dtype::Bf16, Dtype::Bf16), (Dtype::F16, Dtype::F32)]
    {
        for (d, value_dim) in [(64, 64), (40, 40), (59, 59), (128, 128), (256, 256), (576, 512)] {
            for (seq_q, seq_kv) in [(300, 300), (1, 5000)] {
                let base = Problem { seq_q, seq_kv, value_dim, x, o, ..Problem::new(2, 8, 2, d) };
                problems.push(base);
                problems.push(Problem { o_layout: Layout::at(1), lse: Some(0), ..base });
                problems.push(Problem {
                    mask: Some(Mask::new(if x == Dtype::F32 { MaskKind::Bits } else { MaskKind::Additive(x) })),
                    alibi: Some(Alibi { slopes: 0, per_batch: true }),
                    tree: Some(Tree { parents: 6, per_batch: false }),
                    packed: Some(Packed { cu_q: 0, cu_kv: 3, total_q: 400, total_kv: 6000 }),
                    lse: Some(0),
                    ..base
                });
            }
        }
    }
    problems
}

#[test]
fn candidates_compose_on_every_preset() {
    let mut configs: HashSet<Config> = HashSet::new();
    for caps in presets() {
        let mut seen = HashSet::new();
        for problem in forms() {
            configs.extend(super::compose(&caps, &problem, &mut seen));
        }
    }
    for &algorithm in Algorithm::ALL {
        assert!(configs.iter().any(|c| c.algorithm == algorithm), "{algorithm:?}");
    }
    for &reduce in Reduce::ALL {
        assert!(configs.iter().any(|c| c.reduce == reduce), "{reduce:?}");
    }
    assert!(configs.iter().any(|c| matches!(c.load, Load::Staged(_))));
    assert!(configs.iter().any(|c| matches!(c.load, Load::Broadcast(_))));
}

#[test]
fn merges_compose() {
    for caps in presets() {
        let mut seen = HashSet::new();
        for (x, y) in [(Dtype::F32, Dtype::F16), (Dtype::F16, Dtype::F16), (Dtype::Bf16, Dtype::F32)] {
            for (dim, lse_out) in [(64, None), (59, Some(0))] {
                let problem =
                    attention_merge::Problem { splits: 4, rows: 33, dim, x, y, lse_out, ..Default::default() };
                assert!(!super::compose(&caps, &problem, &mut seen).is_empty());
            }
        }
    }
}

#[test]
fn choices_are_what_the_tables_say() {
    for caps in presets() {
        let of = |seq_q, seq_kv, d| choose(&caps, &Problem { seq_q, seq_kv, ..Problem::new(1, 32, 8, d) }).unwrap();
        let (prefill, decode) = (of(512, 512, 128), of(1, 65_536, 128));
        assert_eq!(prefill.algorithm, Algorithm::Tiled, "{}", caps.name);
        assert_eq!(decode.algorithm, Algorithm::Decode, "{}", caps.name);
        // The four heads of a group are in one workgroup: k and v are read once.
        assert!(decode.wg_size / decode.lanes / decode.slots * decode.rows >= 4, "{}: {decode}", caps.name);
        match caps.class() {
            // On a CPU nothing waits at a barrier, where a subgroup's size is known.
            Class::Software if caps.trusted_subgroup_size().is_some() && caps.loop_rounds().is_none() => {
                assert!(matches!(prefill.load, Load::Broadcast(_)), "{}: {prefill}", caps.name);
            }
            Class::Software => {}
            // An invocation holds at most 16 chunks of q and o, and few keys fill a GPU.
            _ => {
                let held = 2 * (128 / 4) / prefill.lanes;
                assert!(held <= 16 && matches!(prefill.load, Load::Staged(_)), "{}: {prefill}", caps.name);
                assert!(decode.splits > 4, "{}: {decode}", caps.name);
            }
        }
    }
}

#[test]
fn long_walks_are_split_where_the_driver_cuts_loops_short() {
    for caps in presets() {
        let of = |seq_q, seq_kv, d| choose(&caps, &Problem { seq_q, seq_kv, ..Problem::new(1, 32, 8, d) }).unwrap();
        let short = caps.loop_rounds().is_some();
        assert!(!short || of(1, 65_536, 128).splits >= 16, "{}", caps.name);
        let long = of(64, 65_536, 256);
        assert_eq!(long.algorithm == Algorithm::Decode, short, "{}: {long}", caps.name);
    }
}
