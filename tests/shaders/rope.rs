//! Rope's Configs, composed.

use std::collections::HashSet;

use tileloom::caps::presets;
use tileloom::compose::Slots;
use tileloom::rope::{Angles, Axes, Frequencies, Heads, Positions, Problem, choose};
use tileloom::{Dtype, Layout, Op};

pub const STEMS: [&str; 1] = ["rope"];

/// Dtypes, k or not, each source of positions and angles, each width of an item.
fn forms() -> Vec<Problem> {
    let mut problems = Vec::new();
    for (x, y) in [
        (Dtype::F32, Dtype::F32),
        (Dtype::F16, Dtype::F16),
        (Dtype::Bf16, Dtype::Bf16),
        (Dtype::F16, Dtype::F32),
        (Dtype::F32, Dtype::Bf16),
    ] {
        for (head_dim, offset) in [(128, 0), (12, 2), (6, 1)] {
            for (k, positions, tables) in [(false, false, false), (true, true, false), (true, true, true)] {
                let angles = match tables {
                    true => Angles::Tables { max_pos: 64, cos: 0, sin: 0 },
                    false => Angles::Frequencies(Frequencies::new(head_dim, 10_000.0).unwrap()),
                };
                let heads = Heads { from: Layout::at(offset), to: Layout::at(offset), ..Heads::new(4) };
                problems.push(Problem {
                    batch: 2,
                    seq: 100,
                    head_dim,
                    rotary_dim: head_dim,
                    q: heads,
                    k: k.then_some(Heads { heads: 2, ..heads }),
                    x,
                    y,
                    positions: match positions {
                        true => Positions::Buffer { signed: false, layout: Layout::default() },
                        false => Positions::Offset(7),
                    },
                    axes: if positions { Axes::Sections([1, 1, head_dim / 2 - 2]) } else { Axes::One },
                    angles,
                    ..Problem::default()
                });
            }
        }
    }
    problems
}

#[test]
fn candidates_compose_on_every_preset() {
    for caps in presets() {
        let mut seen = HashSet::new();
        for problem in forms() {
            super::compose(&caps, &problem, &mut seen);
        }
        for (pairs, edge) in [(4, false), (2, false), (1, true), (1, false)] {
            let found = seen.iter().any(|source| {
                source.0.contains(&format!("const PAIRS: u32 = {pairs}u;")) && source.0.contains("atomic<u32>") == edge
            });
            assert!(found, "pairs {pairs}, edge {edge} on {}", caps.name);
        }
    }
}

#[test]
fn few_invocations_get_fewer_heads_each() {
    for caps in presets() {
        let problem = |batch, seq| Problem {
            batch,
            seq,
            head_dim: 128,
            rotary_dim: 128,
            q: Heads::new(32),
            angles: Angles::Frequencies(Frequencies::new(128, 10_000.0).unwrap()),
            ..Problem::default()
        };
        let problems = [problem(1, 1), problem(4, 512)];
        let [decode, prefill] = problems.each_ref().map(|problem| choose(&caps, problem).unwrap());
        assert!(decode.share < prefill.share, "{}: {decode}, {prefill}", caps.name);
        // One pipeline serves both.
        let [decode, prefill] = [decode, prefill].map(|config| {
            let shaders = problems[0].shaders(&config, Slots::NONE).unwrap();
            shaders.iter().map(|shader| shader.source(true)).collect::<Vec<_>>()
        });
        assert_eq!(decode, prefill, "{}", caps.name);
    }
}
