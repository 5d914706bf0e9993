//! The pipelines of vq_train, composed.

use std::collections::HashSet;

use tileloom::Dtype;
use tileloom::caps::presets;
use tileloom::vq_train::{Gradient, Problem};

pub const STEMS: [&str; 3] = ["vq_train_counts", "vq_train_gradient", "vq_train_update"];

#[test]
fn pipelines_compose_on_every_preset() {
    for caps in presets() {
        let mut seen = HashSet::new();
        for dtype in Dtype::ALL {
            let problem = Problem { n: 9, num_codes: 5, code_dim: 7, x: dtype, ..Problem::default() };
            assert_eq!(super::compose(&caps, &problem, &mut seen).len(), 1);
            for (elements, pull) in [(64, Some(2.0)), (7, Some(2.0)), (7, None)] {
                let problem = Gradient { elements, dtype, commit: 0.5, pull };
                assert_eq!(super::compose(&caps, &problem, &mut seen).len(), 1);
            }
        }
    }
}
