//! The probe of cooperative matrices: drivers list shapes that they get wrong.

use crate::caps::CoopShape;
use crate::verify::flush::Flushes;
use crate::verify::{Subject, attempt};
use crate::{Caps, Dtype, Error, ErrorKind, Kernels, Result, attention, gemm};

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
    /// Runs small calls of each kernel that uses cooperative matrices, with its real tiles, per shape of [`Caps::coop`]; drops
    /// the shapes that come out wrong or do not compile, and unlocks the Configs that use the others. Returns the new Caps.
    ///
    /// # Errors
    /// A lost device, or memory for a few small buffers.
    pub async fn probe(&self, queue: &wgpu::Queue) -> Result<Caps> {
        let mut caps = (*self.caps()).clone();
        if caps.coop_probed {
            return Ok(caps);
        }
        let mut right = Vec::new();
        for &shape in &caps.coop {
            match self.probe_shape(queue, &caps, shape).await {
                Ok(None) => right.push(shape),
                Ok(Some(wrong)) => log::warn!("{}: {shape:?} is not used: {wrong}", caps.label()),
                Err(error @ Error { kind: ErrorKind::DeviceLost { .. } | ErrorKind::OutOfMemory { .. }, .. }) => {
                    return Err(error);
                }
                Err(error) => log::warn!("{}: {shape:?} does not compile: {error}", caps.label()),
            }
        }
        caps.coop = right;
        caps.coop_probed = true;
        self.set_caps(caps.clone());
        Ok(caps)
    }

    /// What is wrong with a shape, if anything is. One that no kernel uses is left as it is listed.
    async fn probe_shape(&self, queue: &wgpu::Queue, caps: &Caps, shape: CoopShape) -> Result<Option<String>> {
        let kernels = self.with_caps(Caps { coop: vec![shape], coop_probed: true, ..caps.clone() });
        for subject in subjects() {
            let configs = subject.configs(&kernels.caps())?;
            let Some(config) = configs.iter().find(|config| config.contains(COOP)) else { continue };
            let flushes = Flushes::of(&kernels, queue).await?;
            let wrong = match attempt(&kernels, queue, &*subject, config, flushes).await? {
                (0, None) => "no small call runs by it".into(),
                (_, None) => continue,
                (_, Some(wrong)) => wrong,
            };
            return Ok(Some(format!("{} {config}: {wrong}", subject.op())));
        }
        Ok(None)
    }
}
