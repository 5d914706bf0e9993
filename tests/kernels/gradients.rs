//! The gradients of a transformer's block, joined by hand, agree with finite differences.

use tileloom::Context;

use crate::Suite;

#[path = "../../examples/block_backward.rs"]
mod block_backward;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("gradients", cases);

fn cases(suite: &mut Suite) {
    suite.case("of a block, by the example block_backward", |gpu| {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let agreements = block_backward::check(&context).map_err(|error| error.to_string())?;
        for agreement in &agreements {
            if agreement.error > block_backward::TOLERANCE {
                return Err(format!("{agreement:?}"));
            }
        }
        Ok(())
    });
}
