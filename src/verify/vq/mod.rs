//! How calls of the family `vq` are made and judged.

pub mod vq_assign;
pub mod vq_lookup;
pub mod vq_scalar;
pub mod vq_scatter;
pub mod vq_train;
pub mod vq_train_gradient;

use crate::Layout;
use crate::verify::small::laid;

/// [`laid`], of batches of rows: they follow each other only where those of `layout`, of sizes `of`, do.
fn laid_batches(layout: Layout<2>, of: [usize; 2], sizes: [usize; 2], cols: usize) -> Layout<2> {
    let own = laid(layout, sizes, cols);
    let follow = |[batch, row]: [usize; 2], [_, rows]: [usize; 2]| batch == rows.saturating_mul(row);
    match (layout.strides, own.strides) {
        (Some(before), Some([batch, row])) if !follow(before, of) && follow([batch, row], sizes) => {
            Layout::strided(own.offset, [batch + 8, row])
        }
        _ => own,
    }
}
