//! The Configs of softmax's gradient, composed.

use std::collections::HashSet;

use tileloom::caps::presets;
use tileloom::softmax_backward::{Algorithm, Problem};
use tileloom::{Dtype, Layout};

pub const STEMS: [&str; 4] = [
    "softmax_backward_registers",
    "softmax_backward_online",
    "softmax_backward_split_reduce",
    "softmax_backward_split_write",
];

#[test]
fn candidates_compose_on_every_preset() {
    let mut algorithms = HashSet::new();
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
                    algorithms.extend(super::compose(&caps, &problem, &mut seen).iter().map(|c| c.algorithm));
                }
            }
        }
    }
    assert_eq!(algorithms.len(), Algorithm::ALL.len());
}
