//! The probe of cooperative matrices: drivers list shapes that they get wrong.

use std::ops::ControlFlow;

use crate::verify::flush::Flushes;
use crate::verify::{Progress, Subject, Trials, Verdicts};
use crate::{Caps, Dtype, Kernels, Result, attention, gemm};

/// What a Config says that uses cooperative matrices.
const COOP: &str = "algorithm=coop";

/// Problems of the kernels that use cooperative matrices, each in its own way: tiles of both factors in workgroup memory at
/// several offsets and with padded rows, loads and stores from and to buffers, several subgroups.
fn subjects() -> Vec<Box<dyn Subject>> {
    let matrix = gemm::Matrix::new(Dtype::F16);
    let product = |d| gemm::Problem { m: 4096, n: 4096, k: 4096, a: matrix, b: matrix, d, ..Default::default() };
    let heads = attention::Problem {
        heads: 8,
        kv_heads: 8,
        seq_q: 2048,
        seq_kv: 2048,
        head_dim: 64,
        value_dim: 64,
        x: Dtype::F16,
        o: Dtype::F16,
        ..Default::default()
    };
    vec![Box::new(product(matrix)), Box::new(product(gemm::Matrix::new(Dtype::F32))), Box::new(heads)]
}

impl Kernels {
    /// Runs small calls of each kernel that uses cooperative matrices, with its real tiles, per shape of [`Caps::coop`]; unlocks
    /// the Configs that use shapes by which each of these kernels has one that is right. Wrong Configs are banned, the other
    /// shapes are dropped. Returns the new Caps.
    ///
    /// [`verify`](crate::verify::verify) does this first, and keeps what it finds.
    ///
    /// # Errors
    /// A lost device, or memory for a few small buffers.
    pub async fn probe(&self, queue: &wgpu::Queue) -> Result<Caps> {
        let flushes = Flushes::of(self, queue).await?;
        let (verdicts, progress) = (&mut Verdicts::new(self), &mut |_: Progress<'_>| ControlFlow::Continue(()));
        let mut trials = Trials { kernels: self.clone(), queue, verdicts, flushes, progress, done: 0, total: 0 };
        let _ = self.probe_with(&mut trials).await?;
        Ok((*self.caps()).clone())
    }

    /// The same as a part of other trials.
    pub(crate) async fn probe_with(&self, trials: &mut Trials<'_>) -> Result<ControlFlow<()>> {
        let mut caps = (*self.caps()).clone();
        if caps.coop_probed {
            return Ok(ControlFlow::Continue(()));
        }
        let (mut right, own) = (Vec::new(), trials.kernels.clone());
        for &shape in &caps.coop {
            trials.kernels = self.with_caps(Caps { coop: vec![shape], coop_probed: true, ..caps.clone() });
            let mut fits = true;
            for subject in subjects() {
                let Some(finding) = trials.of(&*subject, |config| config.contains(COOP)).await? else {
                    trials.kernels = own;
                    return Ok(ControlFlow::Break(()));
                };
                // A shape that no kernel uses stays as it is listed.
                if finding.config.is_none() && !finding.banned.is_empty() {
                    log::warn!("{}: {shape:?} is not used: {:?}", caps.label(), finding.banned);
                    fits = false;
                    break;
                }
            }
            right.extend(fits.then_some(shape));
        }
        trials.kernels = own;
        caps.coop = right;
        caps.coop_probed = true;
        self.set_caps(caps);
        Ok(ControlFlow::Continue(()))
    }
}
