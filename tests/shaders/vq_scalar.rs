//! The Configs of vq_scalar, composed.

use std::collections::HashSet;

use tileloom::Dtype;
use tileloom::caps::presets;
use tileloom::vq_scalar::{Direction, Problem};

pub const STEMS: [&str; 2] = ["vq_scalar_decode", "vq_scalar_encode"];

#[test]
fn configs_compose_on_every_preset() {
    for caps in presets() {
        let mut seen = HashSet::new();
        for dtype in Dtype::ALL {
            for (direction, levels) in [(Direction::Encode, &[8, 5, 5][..]), (Direction::Decode, &[8, 5])] {
                let problem = Problem { n: 9, levels, direction, x: dtype, y: dtype, ..Problem::default() };
                assert_eq!(super::compose(&caps, &problem, &mut seen).len(), 1);
            }
        }
    }
}
