//! The Configs of vq_lookup, composed.

use std::collections::HashSet;

use tileloom::caps::presets;
use tileloom::kernels::Pipeline;
use tileloom::vq_lookup::{ClearParams, ClearPass, Combine, Index, Order, Params, Problem, candidates, choose};
use tileloom::{Dtype, Layout};

pub const STEMS: [&str; 4] = ["vq_clear", "vq_lookup", "vq_lookup_planes", "vq_lookup_rows"];

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
        super::check::<ClearParams>(&caps, &ClearPass::of(&caps).shader(), "vq_clear");
        for problem in forms() {
            let configs = candidates(&caps, &problem).unwrap();
            assert_eq!(configs.first(), Some(&choose(&caps, &problem).unwrap()));
            for mut config in configs {
                config.form.codebook_writable = problem.y == Dtype::F32;
                config.fits(&caps).unwrap();
                if seen.insert(config.pass(&problem)) {
                    super::check::<Params>(
                        &caps,
                        &config.pass(&problem).shader(),
                        &format!("{config} on {}", caps.name),
                    );
                }
            }
        }
        for word in ["vec4", "vec2", "vec1", "sum", "planes", "u16", "count", "edge"] {
            assert!(seen.iter().any(|pass| format!("{pass:?}").contains(word)), "{word} on {}", caps.name);
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
                        Ok(config) => drop(config.pass(&problem)),
                        Err(error) => assert_eq!(code_dim, 0, "{}: {error}", caps.name),
                    }
                }
            }
        }
    }
}
