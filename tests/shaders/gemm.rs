//! Gemm's Configs, composed.

use std::collections::HashSet;

use tileloom::Dtype;
use tileloom::caps::presets;
use tileloom::gemm::{Algorithm, Along, Epilogue, Matrix, Problem, Vector, choose};

pub const STEMS: [&str; 5] = ["gemm_coop", "gemm_direct", "gemm_split_k", "gemm_tiled", "gemm_vector"];

/// Dtypes, transposes, alignments, epilogues; few rows, few columns, a long k.
fn forms() -> Vec<Problem> {
    let bias = Some(Vector { dtype: Dtype::F16, along: Along::Columns, offset: 1 });
    let extras = Epilogue { bias, ..Epilogue::default() };
    let gated = Epilogue { gate: Some(0), ..Epilogue::default() };
    let dtypes = [
        [Dtype::F32, Dtype::F32, Dtype::F32],
        [Dtype::F16, Dtype::F16, Dtype::F16],
        [Dtype::F16, Dtype::Bf16, Dtype::F32],
        [Dtype::F32, Dtype::F16, Dtype::Bf16],
    ];
    let mut problems = Vec::new();
    for (m, n, k) in [(512, 512, 512), (129, 127, 65), (1, 2048, 2048), (2048, 3, 64)] {
        for (trans_a, trans_b) in [(false, false), (false, true), (true, false), (true, true)] {
            for epilogue in [Epilogue::default(), extras, gated] {
                // Dtypes in turns.
                let [a, b, d] = dtypes[(problems.len() * 7 / 5) % 4].map(Matrix::new);
                problems.push(Problem { m, n, k, trans_a, trans_b, a, b, d, epilogue, ..Problem::default() });
            }
        }
    }
    let [f16, f32] = [Dtype::F16, Dtype::F32].map(Matrix::new);
    problems.push(Problem { m: 512, n: 512, k: 512, a: f16, b: f16, d: f32, ..Problem::default() });
    problems.push(Problem { m: 16, n: 16, k: 8192, a: f16, b: f16, d: f16, ..Problem::default() });
    problems
}

#[test]
fn candidates_compose_on_every_preset() {
    for caps in presets() {
        let mut seen = HashSet::new();
        let mut algorithms = HashSet::new();
        for problem in forms() {
            let configs = super::compose(&caps, &problem, &mut seen);
            algorithms.extend(configs.iter().map(|config| config.algorithm));
        }
        for algorithm in [Algorithm::Direct, Algorithm::Tiled, Algorithm::Vector] {
            assert!(algorithms.contains(&algorithm), "{algorithm:?} on {}", caps.name);
        }
        let coop = !caps.coop.is_empty();
        assert_eq!(algorithms.contains(&Algorithm::Coop), coop, "{}", caps.name);
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
fn a_long_k_is_split_where_the_driver_cuts_loops_short() {
    for caps in presets() {
        for k in [1 << 18, 261_850, 392_700, 392_772, 392_800, 392_932, 1 << 20] {
            let config = choose(&caps, &Problem::new(4096, 4096, k, Dtype::F32)).unwrap();
            assert_eq!(config.parts > 1, caps.loop_rounds().is_some(), "{}: {config}", caps.name);
        }
    }
}
