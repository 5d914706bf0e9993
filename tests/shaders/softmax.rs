//! What softmax chooses.

use tileloom::Caps;
use tileloom::caps::{Class, presets};
use tileloom::softmax::{Algorithm, Problem, Reduce, choose};

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
        let middling = choice(&caps, 10_000, 1024);
        match caps.least_subgroup() {
            None => assert_ne!(middling.reduce, Reduce::Shuffle, "{}", caps.name),
            Some(least) => assert!(middling.reduce != Reduce::Shuffle || middling.lanes <= least, "{}", caps.name),
        }
        // On a CPU nothing waits at a barrier.
        if caps.class() == Class::Software {
            let long = choice(&caps, 4096, 4096);
            assert!(matches!(long.reduce, Reduce::None | Reduce::Shuffle), "{}: {long}", caps.name);
        }
    }
    // Rows that a subgroup holds need no workgroup memory, however wide subgroups may be.
    assert_eq!(choice(&of("AMD"), 4096, 1024).reduce, Reduce::Shuffle);
    assert_eq!(choice(&of("AMD on DX12"), 4096, 1024).reduce, Reduce::Tree);
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
