//! What gemm chooses.

use tileloom::Dtype;
use tileloom::caps::presets;
use tileloom::gemm::{Algorithm, Matrix, Precision, Problem, candidates, choose};

#[test]
fn every_algorithm_is_a_candidate() {
    let [a, d] = [Dtype::F16, Dtype::F32].map(Matrix::new);
    for caps in presets() {
        let of = |m| candidates(&caps, &Problem { m, n: 512, k: 512, a, b: a, d, ..Problem::default() }).unwrap();
        let found = [of(512), of(1)].concat();
        for &algorithm in Algorithm::ALL {
            let able = algorithm != Algorithm::Coop || !caps.coop.is_empty();
            assert_eq!(
                found.iter().any(|config| config.algorithm == algorithm),
                able,
                "{algorithm:?} on {}",
                caps.name
            );
        }
    }
}

#[test]
fn choices_follow_the_shape() {
    for caps in presets() {
        let choice = |m, n, k| choose(&caps, &Problem::new(m, n, k, Dtype::F32)).unwrap();
        assert_eq!(choice(1, 2048, 2048).algorithm, Algorithm::Vector, "{}", caps.name);
        assert_eq!(choice(2048, 4, 2048).algorithm, Algorithm::Vector, "{}", caps.name);
        assert_ne!(choice(512, 512, 512).algorithm, Algorithm::Vector, "{}", caps.name);
        assert!(choice(16, 16, 1 << 16).parts > 1 && choice(2048, 2048, 2048).parts == 1, "{}", caps.name);
    }
}

#[test]
fn tiles_of_matrices_grow_where_they_fill_the_adapter() {
    for caps in presets().into_iter().filter(|caps| matches!(&caps.name[..], "AMD" | "NVIDIA")) {
        let choice = |m, n, k| choose(&caps, &Problem::new(m, n, k, Dtype::F16)).unwrap();
        for (size, tile) in [(512, [64, 64, 32]), (1024, [64, 64, 32]), (4096, [128, 128, 32])] {
            let config = choice(size, size, size);
            assert_eq!((config.algorithm, config.tile, config.parts), (Algorithm::Coop, tile, 1), "{}", caps.name);
        }
        assert!(choice(64, 64, 1 << 14).parts > 1, "{}", caps.name);
        // f32 goes that way only where the caller lets it.
        let inputs = |inputs| Problem { inputs, ..Problem::new(4096, 4096, 4096, Dtype::F32) };
        assert_eq!(choose(&caps, &inputs(Precision::F16)).unwrap().algorithm, Algorithm::Coop, "{}", caps.name);
        assert_ne!(choose(&caps, &inputs(Precision::Exact)).unwrap().algorithm, Algorithm::Coop, "{}", caps.name);
    }
}

#[test]
fn a_long_k_is_split_where_the_driver_cuts_loops_short() {
    for caps in presets() {
        for k in [1 << 18, 261_850, 392_700, 392_772, 392_800, 392_932, 1 << 20] {
            let config = choose(&caps, &Problem::new(4096, 4096, k, Dtype::F32)).unwrap();
            assert_eq!(config.parts > 1, caps.loop_rounds().is_some(), "{}: {config}", caps.name);
        }
    }
}
