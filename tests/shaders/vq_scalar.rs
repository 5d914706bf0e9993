//! The Configs of vq_scalar, composed.

use tileloom::Dtype;
use tileloom::caps::presets;
use tileloom::kernels::Pipeline;
use tileloom::vq_scalar::{Direction, Params, Problem, choose};

pub const STEMS: [&str; 2] = ["vq_scalar_decode", "vq_scalar_encode"];

#[test]
fn configs_compose_on_every_preset() {
    for caps in presets() {
        for dtype in Dtype::ALL {
            for (direction, levels) in [(Direction::Encode, &[8, 5, 5][..]), (Direction::Decode, &[8, 5])] {
                let problem = Problem { n: 9, levels, direction, x: dtype, y: dtype, ..Problem::default() };
                let config = choose(&caps, &problem).unwrap();
                config.fits(&caps).unwrap();
                super::check::<Params>(&caps, &config.pass().shader(), &format!("{config} on {}", caps.name));
            }
        }
    }
}
