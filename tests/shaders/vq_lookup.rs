//! What vq_lookup chooses.

use tileloom::caps::presets;
use tileloom::compose::Slots;
use tileloom::vq_lookup::{Problem, choose};
use tileloom::{Dtype, Layout, Op};

#[test]
fn every_length_has_a_choice() {
    for caps in presets() {
        for code_dim in 0..70 {
            for (x, y) in [(Dtype::F32, Dtype::F32), (Dtype::F16, Dtype::F16), (Dtype::Bf16, Dtype::F32)] {
                for (spatial, books) in [(0, 1), (1, 1), (33, 3)] {
                    let problem = Problem { spatial, books, num_codes: 5, code_dim, x, y, ..Problem::default() };
                    // A vector without elements may be refused, by an error.
                    match choose(&caps, &problem) {
                        Ok(config) => assert!(!problem.shaders(&config, Slots::NONE).unwrap().is_empty()),
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
    let says = |code_dim, offset, y, word: &str| {
        let codebook = Layout::at(offset);
        let problem = Problem { code_dim, num_codes: 5, x: Dtype::F16, y, codebook, ..Problem::default() };
        let source = problem.shaders(&choose(&caps, &problem).unwrap(), Slots::NONE).unwrap()[0].source(true);
        assert!(source.contains(word), "{word}: {source}");
    };
    says(64, 0, Dtype::F16, "codebook: array<vec4<f32>>");
    says(6, 0, Dtype::F16, "codebook: array<f32>");
    says(6, 0, Dtype::F16, "y: array<f32>");
    says(7, 0, Dtype::F16, "y: array<atomic<u32>>");
    says(64, 1, Dtype::F16, "codebook: array<u32>");
    says(64, 0, Dtype::F32, "codebook: array<vec2<u32>>");
}
