//! Attention's Configs, composed.

use std::collections::HashSet;

use tileloom::attention::{Algorithm, Alibi, Config, Load, Packed, Params, Problem, Reduce, Tree, candidates, choose};
use tileloom::attention_merge;
use tileloom::caps::{Class, presets};
use tileloom::kernels::Pipeline;
use tileloom::softmax::{Mask, MaskKind};
use tileloom::{Caps, Dtype, Layout};

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

fn compose(caps: &Caps, config: &Config, seen: &mut HashSet<(String, Config)>) {
    if seen.insert((caps.name.clone(), *config)) {
        super::check::<Params>(caps, &config.pass().shader(), &format!("{config} on {}", caps.name));
    }
}

#[test]
fn candidates_compose_on_every_preset() {
    let mut seen = HashSet::new();
    for caps in presets() {
        for problem in forms() {
            let configs = candidates(&caps, &problem).unwrap();
            assert_eq!(configs.first(), Some(&choose(&caps, &problem).unwrap()));
            for config in &configs {
                config.fits(&caps, &problem).unwrap();
                compose(&caps, config, &mut seen);
            }
        }
    }
    let configs: HashSet<Config> = seen.into_iter().map(|(_, config)| config).collect();
    for algorithm in [Algorithm::Tiled, Algorithm::Decode] {
        assert!(configs.iter().any(|c| c.algorithm == algorithm), "{algorithm:?}");
    }
    for reduce in [Reduce::None, Reduce::Shuffle, Reduce::Memory] {
        assert!(configs.iter().any(|c| c.reduce == reduce), "{reduce:?}");
    }
    assert!(configs.iter().any(|c| matches!(c.load, Load::Staged(_))));
    assert!(configs.iter().any(|c| matches!(c.load, Load::Broadcast(_))));
}

#[test]
fn shared_buffers_compose() {
    for caps in presets() {
        let problem = Problem { seq_q: 100, seq_kv: 100, lse: Some(0), ..Problem::new(1, 8, 2, 64) };
        let mut config = choose(&caps, &problem).unwrap();
        (config.form.q_writable, config.form.k_writable, config.form.v_writable) = (true, true, true);
        compose(&caps, &config, &mut HashSet::new());
    }
}

#[test]
fn merges_compose() {
    for caps in presets() {
        for (x, y) in [(Dtype::F32, Dtype::F16), (Dtype::F16, Dtype::F16), (Dtype::Bf16, Dtype::F32)] {
            for (dim, lse_out) in [(64, None), (59, Some(0))] {
                let problem =
                    attention_merge::Problem { splits: 4, rows: 33, dim, x, y, lse_out, ..Default::default() };
                let config = attention_merge::choose(&caps, &problem).unwrap();
                let what = format!("{config} on {}", caps.name);
                super::check::<attention_merge::Params>(&caps, &config.pass().shader(), &what);
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
                let held = (prefill.form.k_chunks + prefill.form.v_chunks) / prefill.lanes;
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
