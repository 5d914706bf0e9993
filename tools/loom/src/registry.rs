//! All kernels.

use crate::case::{Case, Fault};
use crate::kernel::{Kernel, Of, Replay};

/// What the commands and the tests go through.
pub const ALL: &[&dyn Kernel] = &[
    &Of::<tileloom::attention::Problem>::KERNEL,
    &Of::<tileloom::attention_bias::Problem>::KERNEL,
    &Of::<tileloom::attention_merge::Problem>::KERNEL,
    &Of::<tileloom::gemm::Problem>::KERNEL,
    &Of::<tileloom::norm::Problem>::KERNEL,
    &Of::<tileloom::norm_backward::Problem>::KERNEL,
    &Of::<tileloom::position_encoding::Problem>::KERNEL,
    &Of::<tileloom::rope::Problem>::KERNEL,
    &Of::<tileloom::softmax::Problem>::KERNEL,
    &Of::<tileloom::softmax_backward::Problem>::KERNEL,
    &Of::<tileloom::vq_assign::Problem>::KERNEL,
    &Of::<tileloom::vq_lookup::Problem>::KERNEL,
    &Of::<tileloom::vq_scalar::Problem>::KERNEL,
    &Of::<tileloom::vq_scatter::Problem>::KERNEL,
    &Of::<tileloom::vq_train::Problem>::KERNEL,
    &Of::<tileloom::vq_train::Gradient>::KERNEL,
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
    let known = || ALL.iter().flat_map(|kernel| kernel.ops()).copied().collect();
    let Some(op) = case.metadata.get("op") else {
        return Err(Fault::NoOp { known: known() });
    };
    match ALL.iter().find(|kernel| kernel.ops().contains(&op.as_str())) {
        Some(kernel) => kernel.replay(case),
        None => Err(Fault::UnknownOp { op: op.clone(), known: known() }),
    }
}
