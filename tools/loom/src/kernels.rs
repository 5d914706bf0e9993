//! The kernels that `loom` knows, one file each, and what each brings to the commands.

use tileloom::reference::Verdict;
use tileloom::{Dispatch, Dtype};

use crate::Gpu;
use crate::bench::Pool;
use crate::case::{Case, Expected, Fault, Tensor};

pub mod attention;
pub mod attention_bias;
pub mod attention_merge;
pub mod gemm;
pub mod position_encoding;
pub mod rope;
pub mod softmax;
pub mod softmax_backward;
pub mod vq_assign;
pub mod vq_lookup;
pub mod vq_scalar;
pub mod vq_scatter;
pub mod vq_train;

/// What the commands go by.
pub const ALL: &[&dyn Kernel] = &[
    &attention::KERNEL,
    &attention_bias::KERNEL,
    &attention_merge::KERNEL,
    &gemm::KERNEL,
    &position_encoding::KERNEL,
    &rope::KERNEL,
    &softmax::KERNEL,
    &softmax_backward::KERNEL,
    &vq_assign::KERNEL,
    &vq_lookup::KERNEL,
    &vq_scalar::KERNEL,
    &vq_scatter::KERNEL,
    &vq_train::KERNEL,
];

/// What a kernel brings to `loom`.
pub trait Kernel: Sync {
    /// Its stem.
    fn name(&self) -> &'static str;

    /// The ops of case files that it replays.
    fn ops(&self) -> &'static [&'static str];

    /// Few telling cases that share pipelines.
    fn checks(&self) -> Vec<Check>;

    /// Takes apart a case file of one of its ops; needs no GPU.
    ///
    /// # Errors
    /// What is wrong with the case.
    fn replay(&self, case: &Case) -> Result<Replay, Fault>;

    /// Shapes to measure.
    fn benches(&self) -> Vec<Bench>;
}

/// One case of `loom check`.
pub struct Check {
    pub name: &'static str,
    pub run: Box<dyn Fn(&Gpu) -> Checked>,
}

impl Check {
    /// Of what runs on every adapter.
    pub fn new(name: &'static str, run: impl Fn(&Gpu) -> Result<Verdict, String> + 'static) -> Check {
        Check { name, run: Box::new(move |gpu| run(gpu).map_or_else(Checked::Failed, Checked::Ran)) }
    }
}

/// How a [`Check`] ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Checked {
    /// It ran; the verdict tells whether it is right.
    Ran(Verdict),
    /// The adapter lacks what the case is about.
    Skipped(String),
    /// It did not run, or wrote where it must not.
    Failed(String),
}

/// A case file, understood.
pub struct Replay {
    pub expected: Expected,
    #[allow(clippy::type_complexity)]
    pub run: Box<dyn Fn(&Gpu) -> Result<Outputs, String>>,
    /// By what each output is held against what is expected, by its name.
    #[allow(clippy::type_complexity)]
    pub rules: Box<dyn Fn() -> Vec<(&'static str, Rule)>>,
}

/// What a replay gave.
pub struct Outputs {
    pub tensors: Vec<(&'static str, Tensor)>,
    /// Shaders and Configs that ran.
    pub config: String,
}

/// How an output is judged.
pub enum Rule {
    /// By the numerics rule, row by row: `oracle`, `low` and `mag` as in [`tileloom::reference::Judge`].
    Rows { cols: usize, dtype: Dtype, oracle: Vec<f64>, low: Vec<f64>, mag: Vec<f64> },
    /// Bit by bit.
    Exact,
    /// By the kernel's own words: the output, and what is expected.
    #[allow(clippy::type_complexity)]
    By(Box<dyn Fn(&[f64], &[f64]) -> Verdict>),
}

/// One shape of `loom bench`.
pub struct Bench {
    pub shape: String,
    /// One of the few that `--quick` measures.
    pub quick: bool,
    /// Operations of one call.
    pub flops: f64,
    /// Each input and output byte of one call, once.
    pub bytes: f64,
    #[allow(clippy::type_complexity)]
    pub prepare: Box<dyn Fn(&Gpu, &Pool, usize) -> Result<Prepared, String>>,
}

/// Dispatches on as many input sets as were asked for.
pub struct Prepared {
    pub dispatches: Vec<Dispatch>,
    pub config: String,
    /// Judges what the first dispatch has written.
    #[allow(clippy::type_complexity)]
    pub check: Box<dyn Fn(&Gpu) -> Result<Verdict, String>>,
}

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
pub fn replay(case: &Case) -> Result<Replay, Fault> {
    let known = || ALL.iter().flat_map(|kernel| kernel.ops()).copied().collect();
    let Some(op) = case.metadata.get("op") else {
        return Err(Fault::NoOp { known: known() });
    };
    match ALL.iter().find(|kernel| kernel.ops().contains(&op.as_str())) {
        Some(kernel) => kernel.replay(case),
        None => Err(Fault::UnknownOp { op: op.clone(), known: known() }),
    }
}
