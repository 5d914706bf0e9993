//! The kernels, described, a folder per family; and those that are not described yet.

use tileloom::compose::Shader;
use tileloom::reference::{Judge, Verdict};
use tileloom::{Caps, Dtype};

use crate::Gpu;
use crate::case::{Case, Expected, Fault, Tensor};
use crate::commands::run::Finding;
use crate::harness::Outcome;
use crate::kernel::{self, Cost, Depth, Ran, Run, Use, exact};
use crate::pool::{Pool, Prepared};

pub mod attention;
pub mod gemm;
pub mod mask;
pub mod position;
pub mod rows;
pub mod vq;

pub mod vq_assign;
pub mod vq_scalar;
pub mod vq_scatter;
pub mod vq_train;

/// Those that are not described yet.
pub const OLD: &[&dyn Kernel] = &[&vq_assign::KERNEL, &vq_scalar::KERNEL, &vq_scatter::KERNEL, &vq_train::KERNEL];

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
    pub run: Box<dyn Fn(&Gpu) -> Checked + Send + Sync>,
}

impl Check {
    /// Of what runs on every adapter.
    pub fn new(name: &'static str, run: impl Fn(&Gpu) -> Result<Verdict, String> + Send + Sync + 'static) -> Check {
        Check { name, run: Box::new(move |gpu| run(gpu).map_or_else(Checked::Failed, Checked::Ran)) }
    }
}

/// How a [`Check`] ended.
pub use crate::harness::Outcome as Checked;

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
    pub prepare: Box<dyn Fn(&Gpu, &Pool, usize) -> Result<Prepared, String> + Send + Sync>,
}

/// An undescribed kernel as a [`kernel::Kernel`].
pub struct Old(pub usize);

impl kernel::Kernel for Old {
    fn name(&self) -> &'static str {
        OLD[self.0].name()
    }

    fn ops(&self) -> &'static [&'static str] {
        OLD[self.0].ops()
    }

    fn list(&self) -> Vec<Box<dyn Run>> {
        let checks = OLD[self.0].checks().into_iter().map(|check| Box::new(check) as Box<dyn Run>);
        checks.chain(OLD[self.0].benches().into_iter().map(|bench| Box::new(bench) as Box<dyn Run>)).collect()
    }

    fn replay(&self, case: &Case) -> Result<Box<dyn kernel::Replay>, Fault> {
        Ok(Box::new(OLD[self.0].replay(case)?))
    }
}

impl Run for Check {
    fn name(&self) -> &str {
        self.name
    }
    fn what(&self) -> Use {
        Use::Test(Depth::Narrow)
    }
    fn problem(&self) -> String {
        String::new()
    }
    fn cost(&self) -> Cost {
        Cost { flops: 0.0, bytes: 0.0 }
    }
    fn candidates(&self, _: &Caps) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
    fn lack(&self, _: &Caps) -> Result<Option<String>, String> {
        Ok(None)
    }
    fn shaders(&self, _: &Caps) -> Result<Vec<(String, Shader)>, String> {
        Ok(Vec::new())
    }
    fn test(&self, gpu: &Gpu) -> Outcome {
        (self.run)(gpu)
    }
    fn case(&self) -> Case {
        Case::default()
    }
    fn prepare(&self, _: &Gpu, _: &Pool, _: usize, _: Option<&str>) -> Result<Prepared, String> {
        Err("it is not measured".into())
    }
}

impl Run for Bench {
    fn name(&self) -> &str {
        &self.shape
    }
    fn what(&self) -> Use {
        Use::Bench { quick: self.quick }
    }
    fn problem(&self) -> String {
        String::new()
    }
    fn cost(&self) -> Cost {
        Cost { flops: self.flops, bytes: self.bytes }
    }
    fn candidates(&self, _: &Caps) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
    fn lack(&self, _: &Caps) -> Result<Option<String>, String> {
        Ok(None)
    }
    fn shaders(&self, _: &Caps) -> Result<Vec<(String, Shader)>, String> {
        Ok(Vec::new())
    }
    fn test(&self, _: &Gpu) -> Outcome {
        Outcome::Skipped("it is measured".into())
    }
    fn case(&self) -> Case {
        Case::default()
    }
    fn prepare(&self, gpu: &Gpu, pool: &Pool, sets: usize, _: Option<&str>) -> Result<Prepared, String> {
        (self.prepare)(gpu, pool, sets)
    }
}

impl kernel::Replay for Replay {
    fn case(&self) -> Case {
        Case::default()
    }
    fn expected(&self) -> &Expected {
        &self.expected
    }
    fn outputs(&self) -> Vec<&'static str> {
        (self.rules)().into_iter().map(|(name, _)| name).collect()
    }
    fn run(&self, gpu: &Gpu) -> Result<Ran, String> {
        let Outputs { tensors, config } = (self.run)(gpu)?;
        Ok(Ran { tensors, config })
    }
    fn judge(&self, ran: &Ran) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (output, rule) in (self.rules)() {
            let have = ran.tensors.iter().find(|(name, _)| *name == output);
            let (Some((_, have)), Some(want)) = (have, self.expected.tensors.get(output)) else {
                continue;
            };
            let out = have.numbers().expect("outputs are of known dtypes");
            let target = want.numbers().expect("the reader has checked the dtype");
            let unjudged = target.iter().filter(|v| v.is_nan()).count();
            let verdict = match rule {
                Rule::Rows { cols, dtype, oracle, low, mag } => {
                    let low: Vec<f64> =
                        (0..target.len()).map(|i| target[i] + (dtype.round(low[i]) - dtype.round(oracle[i]))).collect();
                    Judge { cols, dtype, oracle: &target, low: &low, mag: &mag, widen: self.expected.widen }.judge(&out)
                }
                Rule::Exact => exact(&out, &target),
                Rule::By(judge) => judge(&out, &target),
            };
            findings.push(Finding { output, shape: have.shape.clone(), verdict, unjudged });
        }
        findings
    }
}
