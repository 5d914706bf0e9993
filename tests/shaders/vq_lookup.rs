//! What vq_lookup chooses.

use tileloom::caps::presets;
use tileloom::compose::Slots;
use tileloom::vq_lookup::{Problem, choose};
use tileloom::{Dtype, Op};

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
