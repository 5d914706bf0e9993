//! The pipelines of vq_train, composed.

use tileloom::Dtype;
use tileloom::caps::presets;
use tileloom::kernels::Pipeline;
use tileloom::vq_train::{GradientParams, Params, choose};

pub const STEMS: [&str; 3] = ["vq_train_counts", "vq_train_gradient", "vq_train_update"];

#[test]
fn pipelines_compose_on_every_preset() {
    for caps in presets() {
        let config = choose(&caps);
        config.fits(&caps).unwrap();
        for dtype in Dtype::ALL {
            for pass in config.passes(&caps, dtype) {
                super::check::<Params>(&caps, &pass.shader(), &format!("{pass:?} on {}", caps.name));
            }
            for (elements, dq) in [(64, true), (7, true), (7, false)] {
                let pass = config.gradient_pass(&caps, dtype, elements, dq);
                super::check::<GradientParams>(&caps, &pass.shader(), &format!("{pass:?} on {}", caps.name));
            }
        }
    }
}
