//! The Configs of vq_lookup, composed.

use std::collections::HashSet;

use tileloom::caps::{Class, presets};
use tileloom::compose::Slots;
use tileloom::vq_lookup::{Combine, Index, Order, Problem, choose};
use tileloom::{Dtype, Layout, Op};

pub const STEMS: [&str; 4] = ["clear", "vq_lookup", "vq_lookup_planes", "vq_lookup_rows"];

fn forms() -> Vec<Problem> {
    let mut problems = Vec::new();
    for (x, y) in
        [(Dtype::F32, Dtype::F32), (Dtype::F16, Dtype::F16), (Dtype::Bf16, Dtype::Bf16), (Dtype::F16, Dtype::F32)]
    {
        for (code_dim, offset) in [(64, 0), (6, 2), (7, 1)] {
            for (combine, order) in [
                (Combine::Concat, Order::ChannelsLast),
                (Combine::Sum, Order::ChannelsLast),
                (Combine::Concat, Order::ChannelsFirst),
            ] {
                let layout = Layout::at(offset);
                let (index, bad) = if offset == 0 { (Index::U32, None) } else { (Index::U16, Some(0)) };
                let base = Problem { spatial: 100, books: 2, num_codes: 50, code_dim, ..Problem::default() };
                problems.push(Problem { combine, order, index, bad, x, y, codebook: layout, y_layout: layout, ..base });
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
        for stem in STEMS {
            // Only CPUs have workgroups that share a vector.
            let composed = seen.iter().any(|source| source.contains(&format!("fn {stem}(")));
            assert_eq!(
                composed,
                stem != "vq_lookup_rows" || caps.class() == Class::Software,
                "{stem} on {}",
                caps.name
            );
        }
        for word in
            ["VEC: u32 = 4", "VEC: u32 = 2", "VEC: u32 = 1", "SUM: bool = true", "bad: array<atomic", "y: array<atomic"]
        {
            assert!(seen.iter().any(|source| source.contains(word)), "{word} on {}", caps.name);
        }
    }
}

#[test]
fn every_length_has_a_choice() {
    for caps in presets() {
        for code_dim in 0..70 {
            for (x, y) in [(Dtype::F32, Dtype::F32), (Dtype::F16, Dtype::F16), (Dtype::Bf16, Dtype::F32)] {
                for (spatial, books) in [(0, 1), (1, 1), (33, 3)] {
                    let problem = Problem { spatial, books, num_codes: 5, code_dim, x, y, ..Problem::default() };
                    // A vector without elements may be refused, by an error.
                    match choose(&caps, &problem) {
                        Ok(config) => drop(problem.shaders(&config, Slots::NONE).unwrap()),
                        Err(error) => assert_eq!(code_dim, 0, "{}: {error}", caps.name),
                    }
                }
            }
        }
    }
}

#[test]
fn pairs_of_halves_move_as_words() {
    let caps = presets().into_iter().find(|caps| caps.name == "SwiftShader").unwrap();
    let source = |code_dim, offset, y| {
        let codebook = Layout::at(offset);
        let problem = Problem { code_dim, num_codes: 5, x: Dtype::F16, y, codebook, ..Problem::default() };
        let shaders = problem.shaders(&choose(&caps, &problem).unwrap(), Slots::NONE).unwrap();
        shaders[0].source(true)
    };
    let says = |source: String, word: &str| assert!(source.contains(word), "{word}: {source}");
    says(source(64, 0, Dtype::F16), "codebook: array<vec4<f32>>");
    says(source(6, 0, Dtype::F16), "codebook: array<f32>");
    says(source(6, 0, Dtype::F16), "y: array<f32>");
    says(source(7, 0, Dtype::F16), "y: array<atomic<u32>>");
    says(source(64, 1, Dtype::F16), "codebook: array<u32>");
    says(source(64, 0, Dtype::F32), "codebook: array<vec2<u32>>");
}
