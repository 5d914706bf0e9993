//! All kernels.

use tileloom::{softmax, vq_assign, vq_lookup, vq_scalar, vq_scatter, vq_train};

use crate::case::{Case, Fault};
use crate::kernel::{Kernel, Of, Replay};
use crate::kernels::Old;

/// What the commands and the tests go through.
pub const ALL: &[&dyn Kernel] = &[
    &Of::<softmax::Problem>::KERNEL,
    &Of::<vq_assign::Problem>::KERNEL,
    &Of::<vq_lookup::Problem>::KERNEL,
    &Of::<vq_scalar::Problem>::KERNEL,
    &Of::<vq_scatter::Problem>::KERNEL,
    &Of::<vq_train::Problem>::KERNEL,
    &Of::<vq_train::Gradient>::KERNEL,
    &Old(0),
    &Old(1),
    &Old(2),
    &Old(3),
    &Old(4),
    &Old(5),
    &Old(6),
];

/// The kernels of these names, all if there are none.
///
/// # Errors
/// The name that is not known.
pub fn named(names: &[String]) -> Result<Vec<&'static dyn Kernel>, String> {
    if names.is_empty() {
        return Ok(ALL.to_vec());
    }
    let known = || ALL.iter().map(|kernel| kernel.name()).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        let found = ALL.iter().find(|kernel| kernel.name() == name).copied();
        found.ok_or_else(|| format!("kernel `{name}` is not known, expected one of: {}", known()))
    };
    names.iter().map(find).collect()
}

/// Understands a case file.
///
/// # Errors
/// What is wrong with it.
pub fn replay(case: &Case) -> Result<Box<dyn Replay>, Fault> {
    let known = || ALL.iter().map(|kernel| kernel.name()).collect();
    let Some(op) = case.metadata.get("op") else {
        return Err(Fault::NoOp { known: known() });
    };
    match ALL.iter().find(|kernel| kernel.name() == op) {
        Some(kernel) => kernel.replay(case),
        None => Err(Fault::UnknownOp { op: op.clone(), known: known() }),
    }
}
