//! The Configs of position encodings, composed.

use std::collections::HashSet;

use tileloom::caps::presets;
use tileloom::position_encoding::{Axis, Encoding, Order, Positions, Problem, Table, choose};
use tileloom::{Dtype, Layout};

pub const STEMS: [&str; 1] = ["position_encoding"];

#[test]
fn choices_compose_on_every_preset() {
    for caps in presets() {
        let mut seen = HashSet::new();
        for (x, y) in [
            (Dtype::F32, Dtype::F32),
            (Dtype::F16, Dtype::F16),
            (Dtype::Bf16, Dtype::Bf16),
            (Dtype::F16, Dtype::F32),
            (Dtype::F32, Dtype::Bf16),
        ] {
            for (dim, offset) in [(128, 0), (12, 2), (4, 1)] {
                let table = Table { len: 9, offset: 0 };
                for encoding in [
                    Encoding::picture(&vec![1.0; dim / 4], Order::Halves, Axis::Row),
                    Encoding::Learned { dtype: x, table, row_table: None },
                    Encoding::Learned { dtype: x, table, row_table: Some(table) },
                ] {
                    for positions in
                        [Positions::default(), Positions::Buffer { signed: false, layout: Layout::default() }]
                    {
                        let (x_layout, y_layout, encoding) = (Layout::at(offset), Layout::at(offset), encoding.clone());
                        let base = Problem { batch: 8, rows: 3, cols: 100, dim, x, y, ..Problem::default() };
                        let problem = Problem { x_layout, y_layout, positions, encoding, ..base };
                        super::compose(&caps, &problem, &mut seen);
                    }
                }
            }
        }
        // Batches share an encoding only where they share positions.
        let problem = |positions| Problem { batch: 64, cols: 8192, dim: 512, positions, ..Problem::default() };
        let waves = Encoding::sequence(&[1.0; 256], Order::Interleaved);
        let choice = |positions| choose(&caps, &Problem { encoding: waves.clone(), ..problem(positions) }).unwrap();
        assert!(choice(Positions::default()).share > 1, "{}", caps.name);
        assert_eq!(choice(Positions::Buffer { signed: false, layout: Layout::default() }).share, 1, "{}", caps.name);
        let shared = Positions::Buffer { signed: false, layout: Layout::strided(0, [0, 0]) };
        assert!(choice(shared).share > 1, "{}", caps.name);
    }
}
