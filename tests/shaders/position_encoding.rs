//! What position encodings choose.

use tileloom::Layout;
use tileloom::caps::presets;
use tileloom::position_encoding::{Encoding, Order, Positions, Problem, choose};

/// Batches share an encoding only where they share positions.
#[test]
fn batches_share_where_their_positions_are_the_same() {
    let waves = Encoding::sequence(&[1.0; 256], Order::Interleaved);
    for caps in presets() {
        let share = |positions| {
            let encoding = waves.clone();
            let problem = Problem { batch: 64, cols: 8192, dim: 512, positions, encoding, ..Problem::default() };
            choose(&caps, &problem).unwrap().share
        };
        assert!(share(Positions::default()) > 1, "{}", caps.name);
        assert_eq!(share(Positions::Buffer { signed: false, layout: Layout::default() }), 1, "{}", caps.name);
        let shared = Positions::Buffer { signed: false, layout: Layout::strided(0, [0, 0]) };
        assert!(share(shared) > 1, "{}", caps.name);
    }
}
