//! Words set to 0: a step in front of those that add to them.

use crate::caps::LEAST_INVOCATIONS;
use crate::dispatch::Step;
use crate::ops::prelude::*;

crate::params! {
    /// What one run tells the shader.
    pub struct Params {
        offset: u32,
        count: u32,
        grid_x: u32,
    }
}

/// Invocations per workgroup.
const WG_SIZE: u32 = LEAST_INVOCATIONS;

/// The pipeline that clears the words of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Clear {
    pub slot: u32,
}

impl Pipeline for Clear {
    fn shader(&self) -> Shader {
        Shader::new("clear", WG_SIZE, 0, 1).params::<Params>().writes(self.slot, "words", "u32")
    }
}

/// The step that sets what `view`, which is contiguous, has of the argument `slot` to 0.
pub(crate) fn clear<const N: usize>(args: &Args, slot: u32, view: &View<N>) -> Checked<Step> {
    let count = view.end.saturating_sub(view.offset as u64);
    let grid = args.fold(count.div_ceil(WG_SIZE.into()))?;
    let params = Params { offset: view.offset as u32, count: count as u32, grid_x: grid[0] };
    args.step(&Clear { slot }, &params, grid)
}
