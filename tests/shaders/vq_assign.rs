//! What vq_assign chooses.

use tileloom::Op;
use tileloom::caps::presets;
use tileloom::vq_assign::{Problem, choose, scratch_bytes};

#[test]
fn every_size_has_a_choice() {
    for caps in presets() {
        for code_dim in [1, 7, 64, 256, 768, 2048] {
            for num_codes in (1..20_000).step_by(if caps.loop_rounds().is_some() { 37 } else { 1999 }).chain([262_144])
            {
                let problem = Problem { n: 128, num_codes, code_dim, loss: Some(0), ..Problem::default() };
                let config = choose(&caps, &problem).unwrap_or_else(|error| panic!("{}: {error}", caps.name));
                problem.fits(&caps, &config).unwrap();
            }
        }
    }
}

#[test]
fn scratch_grows_with_the_vectors_alone() {
    let caps = presets().pop().unwrap();
    let of = |n, num_codes| {
        let problem = Problem { n, num_codes, code_dim: 64, loss: Some(0), ..Problem::default() };
        scratch_bytes(&problem, &choose(&caps, &problem).unwrap()).unwrap()
    };
    for n in [1usize, 100, 4096, 100_000] {
        // No matrix of distances: n * num_codes * 4 bytes would be 1 MiB per vector.
        assert!(of(n, 262_144) <= 2048 + 64 * 12 * n.max(64) as u64, "{n}: {}", of(n, 262_144));
    }
    assert_eq!(of(100_000, 1024), of(100_000, 262_144));
}
