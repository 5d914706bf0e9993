//! All kernels.

use linkme::distributed_slice;

use crate::case::{Case, Fault};
use crate::kernel::{Kernel, Replay};

/// What the commands and the tests go through: each description adds its own.
#[distributed_slice]
pub static KERNELS: [&'static dyn Kernel];

/// All of them, by name.
pub fn all() -> Vec<&'static dyn Kernel> {
    let mut all = KERNELS.to_vec();
    all.sort_by_key(|kernel| kernel.name());
    all
}

/// The kernels of these names, all if there are none.
///
/// # Errors
/// The name that is not known.
pub fn named(names: &[String]) -> Result<Vec<&'static dyn Kernel>, String> {
    if names.is_empty() {
        return Ok(all());
    }
    let known = || all().iter().map(|kernel| kernel.name()).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        let found = all().iter().find(|kernel| kernel.name() == name).copied();
        found.ok_or_else(|| format!("kernel `{name}` is not known, expected one of: {}", known()))
    };
    names.iter().map(find).collect()
}

/// Understands a case file.
///
/// # Errors
/// What is wrong with it.
pub fn replay(case: &Case) -> Result<Box<dyn Replay>, Fault> {
    let known = || all().iter().flat_map(|kernel| kernel.ops()).copied().collect();
    let Some(op) = case.metadata.get("op") else {
        return Err(Fault::NoOp { known: known() });
    };
    match all().iter().find(|kernel| kernel.ops().contains(&op.as_str())) {
        Some(kernel) => kernel.replay(case),
        None => Err(Fault::UnknownOp { op: op.clone(), known: known() }),
    }
}
