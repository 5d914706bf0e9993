//! Softmax's Configs, composed.

use std::collections::HashSet;

use tileloom::caps::{Class, presets};
use tileloom::softmax::{Algorithm, Mask, MaskKind, Problem, Reduce, choose};
use tileloom::{Caps, Dtype, Layout};

pub const STEMS: [&str; 4] = ["softmax_registers", "softmax_online", "softmax_split_reduce", "softmax_split_write"];

const SIZES: [(usize, usize); 12] = [
    (1, 1),
    (7, 3),
    (65_536, 16),
    (4096, 64),
    (33, 255),
    (512, 1000),
    (128, 1024),
    (4096, 4096),
    (16, 50_257),
    (1, 152_064),
    (2, 1_000_000),
    (100_000, 8),
];

/// Dtypes, mask, causal, lse and odd layouts.
fn forms(rows: usize, cols: usize) -> Vec<Problem> {
    let base = Problem { rows, cols, ..Default::default() };
    let mut problems = Vec::new();
    for (x, y) in [
        (Dtype::F32, Dtype::F32),
        (Dtype::F16, Dtype::F16),
        (Dtype::Bf16, Dtype::Bf16),
        (Dtype::F16, Dtype::F32),
        (Dtype::F32, Dtype::Bf16),
    ] {
        problems.push(Problem { x, y, ..base });
        for kind in [MaskKind::Bits, MaskKind::Bytes, MaskKind::Additive(x)] {
            problems.push(Problem { x, y, mask: Some(Mask::new(kind)), lse: Some(0), causal: true, ..base });
        }
        problems.push(Problem { x, y, y_layout: Layout::at(1), causal: true, ..base });
    }
    problems
}

#[test]
fn candidates_compose_on_every_preset() {
    let uniform = presets().into_iter().map(|caps| Caps {
        name: format!("{}, no immediates", caps.name),
        immediate_bytes: 0,
        ..caps
    });
    let mut configs = HashSet::new();
    for caps in presets().into_iter().chain(uniform.filter(|caps| caps.f16).take(3)) {
        let mut seen = HashSet::new();
        for (rows, cols) in SIZES {
            for problem in forms(rows, cols) {
                configs.extend(super::compose(&caps, &problem, &mut seen));
            }
        }
    }
    // Each algorithm, each reduction and each way to hold f16 is shipped somewhere.
    for &algorithm in Algorithm::ALL {
        assert!(configs.iter().any(|c| c.algorithm == algorithm), "{algorithm:?}");
    }
    for &reduce in Reduce::ALL {
        assert!(configs.iter().any(|c| c.reduce == reduce), "{reduce:?}");
    }
    assert!(configs.iter().any(|c| c.native_f16) && configs.iter().any(|c| !c.native_f16));
}

#[test]
fn choices_are_what_the_tables_say() {
    let of = |name: &str| presets().into_iter().find(|caps| caps.name == name).unwrap();
    let choice = |caps: &Caps, rows, cols| choose(caps, &Problem { rows, cols, ..Default::default() }).unwrap();
    for caps in presets() {
        // Few very long rows are split everywhere, many are not.
        assert_eq!(choice(&caps, 1, 152_064).algorithm, Algorithm::Split, "{}", caps.name);
        assert_eq!(choice(&caps, 10_000, 152_064).algorithm, Algorithm::Online, "{}", caps.name);
        // Short rows share a workgroup.
        let short = choice(&caps, 10_000, 16);
        assert!(short.algorithm == Algorithm::Registers && short.lanes < short.wg_size, "{}: {short}", caps.name);
        // Without a trusted size no choice depends on one.
        if caps.trusted_subgroup_size().is_none() {
            assert_ne!(choice(&caps, 10_000, 1024).reduce, Reduce::Shuffle, "{}", caps.name);
        }
        // On a CPU nothing waits at a barrier.
        if caps.class() == Class::Software {
            let long = choice(&caps, 4096, 4096);
            assert!(matches!(long.reduce, Reduce::None | Reduce::Shuffle), "{}: {long}", caps.name);
        }
    }
    assert_eq!(choice(&of("NVIDIA"), 4096, 4096).reduce, Reduce::Subgroup);
    assert_eq!(choice(&of("WebGPU baseline"), 4096, 4096).reduce, Reduce::Tree);
}

#[test]
fn long_rows_are_split_where_the_driver_cuts_loops_short() {
    for caps in presets() {
        let config = choose(&caps, &Problem { rows: 1000, cols: 4_000_000, ..Default::default() }).unwrap();
        assert_eq!(config.algorithm == Algorithm::Split, caps.loop_rounds().is_some(), "{}: {config}", caps.name);
    }
}
