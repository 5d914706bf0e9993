//! The Configs of vq_scatter, composed.

use tileloom::Dtype;
use tileloom::caps::presets;
use tileloom::kernels::Pipeline;
use tileloom::vq_lookup::Index;
use tileloom::vq_scatter::{Params, Problem, candidates};

pub const STEMS: [&str; 1] = ["vq_scatter"];

#[test]
fn candidates_compose_on_every_preset() {
    for caps in presets() {
        for x in Dtype::ALL {
            for (code_dim, index, counts) in [(64, Index::U32, None), (7, Index::U16, Some(0))] {
                let problem = Problem { spatial: 9, num_codes: 5, code_dim, index, counts, x, ..Problem::default() };
                for config in candidates(&caps, &problem).unwrap() {
                    config.fits(&caps).unwrap();
                    super::check::<Params>(&caps, &config.pass().shader(), &format!("{config} on {}", caps.name));
                }
            }
        }
    }
}
