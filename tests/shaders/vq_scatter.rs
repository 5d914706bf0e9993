//! The Configs of vq_scatter, composed.

use std::collections::HashSet;

use tileloom::Dtype;
use tileloom::caps::presets;
use tileloom::vq_lookup::Index;
use tileloom::vq_scatter::Problem;

pub const STEMS: [&str; 1] = ["vq_scatter"];

#[test]
fn candidates_compose_on_every_preset() {
    for caps in presets() {
        let mut seen = HashSet::new();
        for x in Dtype::ALL {
            for (code_dim, index, counts) in [(64, Index::U32, None), (7, Index::U16, Some(0))] {
                let problem = Problem { spatial: 9, num_codes: 5, code_dim, index, counts, x, ..Problem::default() };
                assert_eq!(super::compose(&caps, &problem, &mut seen).len(), 1);
            }
        }
    }
}
