//! The Configs of softmax's gradient, composed.

use std::collections::HashSet;

use tileloom::caps::presets;
use tileloom::compose::Storage;
use tileloom::kernels::Pipeline;
use tileloom::softmax_backward::{Algorithm, Params, Problem, candidates, choose};
use tileloom::{Dtype, Layout};

pub const STEMS: [&str; 4] = [
    "softmax_backward_registers",
    "softmax_backward_online",
    "softmax_backward_split_reduce",
    "softmax_backward_split_write",
];

#[test]
fn candidates_compose_on_every_preset() {
    let (mut algorithms, mut storages) = (HashSet::new(), HashSet::new());
    for caps in presets() {
        let mut seen = HashSet::new();
        for (rows, cols) in [(7, 3), (65_536, 16), (33, 256), (4096, 4096), (16, 50_257), (1, 152_064)] {
            for (input, dx) in [
                (Dtype::F32, Dtype::F32),
                (Dtype::F16, Dtype::F16),
                (Dtype::Bf16, Dtype::Bf16),
                (Dtype::F16, Dtype::F32),
                (Dtype::F32, Dtype::Bf16),
            ] {
                for (log, causal, offset) in [(false, false, 0), (true, false, 0), (false, true, 0), (true, false, 1)] {
                    let dx_layout = Layout::at(offset);
                    let base = Problem { rows, cols, y: input, dy: input, dx, ..Problem::default() };
                    let problem = Problem { log, causal, dx_layout, ..base };
                    let configs = candidates(&caps, &problem).unwrap();
                    assert_eq!(configs.first(), Some(&choose(&caps, &problem).unwrap()));
                    for config in configs {
                        config.fits(&caps, &problem).unwrap();
                        algorithms.insert(config.algorithm);
                        storages.insert(config.form.dx);
                        let mut shared = config;
                        (shared.form.dy_in_place, shared.form.y_writable) = (input == dx, true);
                        for config in [config, shared].into_iter().filter(|&config| seen.insert(config)) {
                            for pass in config.passes() {
                                super::check::<Params>(&caps, &pass.shader(), &format!("{config} on {}", caps.name));
                            }
                        }
                    }
                }
            }
        }
    }
    assert_eq!(algorithms, HashSet::from([Algorithm::Registers, Algorithm::Online, Algorithm::Split]));
    assert_eq!(storages, HashSet::from([Storage::F32, Storage::F16, Storage::F16Packed, Storage::Bf16Packed]));
}
