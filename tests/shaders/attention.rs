//! What attention chooses.

use tileloom::attention::{Algorithm, Config, Load, Problem, choose};
use tileloom::caps::{Class, presets};
use tileloom::{Caps, Dtype, Op};

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
        // No more parts than the driver needs, and each of them taken whole.
        let problem = Problem { seq_q: 1, seq_kv: 65_536, ..Problem::new(1, 32, 8, 128) };
        let config = of(1, 65_536, 128);
        let halved = problem.fits(&caps, &Config { splits: config.splits / 2, ..config });
        let refused = halved.is_err_and(|error| error.to_string().contains("which this driver cuts short"));
        assert_eq!(refused, short, "{}: {config}", caps.name);
        let long = of(64, 65_536, 256);
        assert_eq!(long.algorithm == Algorithm::Decode, short, "{}: {long}", caps.name);
    }
}

#[test]
fn matrices_come_first_where_they_are_probed() {
    let half = |seq_q, seq_kv, d| {
        let of = Problem { seq_q, seq_kv, ..Problem::new(1, 32, 8, d) };
        Problem { x: Dtype::F16, o: Dtype::F16, ..of }
    };
    for caps in presets() {
        let coop = caps.coop_probed && caps.class() != Class::Software;
        let chosen = |problem: Problem| choose(&caps, &problem).unwrap().algorithm == Algorithm::Coop;
        for d in [32, 40, 64, 80, 128, 192, 256] {
            assert_eq!(chosen(half(512, 512, d)), coop, "{} {d}", caps.name);
        }
        assert_eq!(chosen(Problem { value_dim: 512, ..half(512, 512, 576) }), coop, "{}", caps.name);
        // Heads are rows, too: eight queries of a group of four fill two matrices.
        assert_eq!(chosen(half(8, 512, 128)), coop, "{}", caps.name);
        for other in [half(1, 8192, 128), Problem { x: Dtype::Bf16, o: Dtype::Bf16, ..half(512, 512, 128) }] {
            assert!(!chosen(other), "{}", caps.name);
        }
        let raw = Caps { coop_probed: false, ..caps.clone() };
        assert_ne!(choose(&raw, &half(512, 512, 128)).unwrap().algorithm, Algorithm::Coop, "{}", caps.name);
    }
}

#[test]
fn matrices_fit_in_32_kib_for_every_head_dim() {
    for caps in presets().into_iter().filter(|caps| caps.coop_probed) {
        let limits = tileloom::wgpu::Limits { max_compute_workgroup_storage_size: 32768, ..caps.limits.clone() };
        let caps = Caps { limits, ..caps };
        for (d, value_dim) in (1..=576).map(|d| (d, d)).chain([(192, 128), (576, 512)]) {
            for (rows, o) in [(1, Dtype::F16), (300, Dtype::F16), (300, Dtype::F32)] {
                let of = Problem { seq_q: rows, seq_kv: 300, value_dim, ..Problem::new(1, 1, 1, d) };
                let found = Problem { x: Dtype::F16, o, ..of }.candidates(&caps).unwrap();
                let coop = found.iter().any(|config| config.algorithm == Algorithm::Coop);
                assert!(coop, "{} {d}/{value_dim} {o}", caps.name);
            }
        }
    }
}
