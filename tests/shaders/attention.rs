//! What attention chooses.

use tileloom::Op;
use tileloom::attention::{Algorithm, Config, Load, Problem, choose};
use tileloom::caps::{Class, presets};

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
