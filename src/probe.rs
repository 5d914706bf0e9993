//! The probe of cooperative matrices: drivers list shapes that they get wrong.

use crate::args::{Args, Memory, Reach};
use crate::caps::{CoopScalar, CoopShape, LEAST_INVOCATIONS};
use crate::compose::Shader;
use crate::error::Checked;
use crate::kernels::Pipeline;
use crate::{Caps, Dispatch, Dtype, Error, ErrorKind, Kernels, Result};

const OP: &str = "probe";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Probe {
    shape: CoopShape,
    wg_size: u32,
}

const LHS: u32 = 0;
const RHS: u32 = 1;
const ZEROS: u32 = 2;
const PRODUCT: u32 = 3;

fn dtype(scalar: CoopScalar) -> Dtype {
    match scalar {
        CoopScalar::F16 => Dtype::F16,
        CoopScalar::F32 => Dtype::F32,
    }
}

impl Pipeline for Probe {
    fn shader(&self) -> Shader {
        let size = self.shape.m;
        let (ab, acc) = (dtype(self.shape.ab).to_string(), dtype(self.shape.acc).to_string());
        let matrix = |scalar: &str, role: &str| format!("coop_mat{size}x{size}<{scalar}, {role}>");
        Shader::new("coop_probe", self.wg_size, 0, 1)
            .constant("SIZE", size)
            .alias("LEFT", &matrix(&ab, "A"))
            .alias("RIGHT", &matrix(&ab, "B"))
            .alias("PRODUCT", &matrix(&acc, "C"))
            .reads(LHS, "lhs", &ab)
            .reads(RHS, "rhs", &ab)
            .reads(ZEROS, "zeros", &acc)
            .writes(PRODUCT, "product", &acc)
    }
}

/// Whole subgroups, whatever their size.
fn wg_size(caps: &Caps) -> u32 {
    caps.subgroup.map_or(LEAST_INVOCATIONS, |subgroup| subgroup.max.max(LEAST_INVOCATIONS))
}

/// Rank-1 factors `u p^T` and `q v^T`: the product is `u v^T (p . q)`, and neither a transpose nor a
/// swap of the factors gives the same. All values are exact in f16.
fn factors(n: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let u = |i: usize| 1.0 + i as f64;
    let v = |j: usize| 2.0 - (j % 5) as f64;
    let p = |k: usize| (k % 3) as f64;
    let q = |k: usize| 0.5 * (1.0 - (k % 2) as f64);
    let dot: f64 = (0..n).map(|k| p(k) * q(k)).sum();
    let grid = |f: &dyn Fn(usize, usize) -> f64| (0..n * n).map(|i| f(i / n, i % n)).collect();
    (grid(&|i, k| u(i) * p(k)), grid(&|k, j| q(k) * v(j)), grid(&|i, j| u(i) * v(j) * dot))
}

impl Kernels {
    /// Computes one product per cooperative-matrix shape of [`Caps::coop`], drops the shapes that come
    /// out wrong or do not compile, and unlocks the Configs that use the others. Returns the new Caps.
    ///
    /// # Errors
    /// A lost device, or memory for a few hundred bytes.
    pub async fn probe(&self, queue: &wgpu::Queue) -> Result<Caps> {
        let mut caps = (*self.caps()).clone();
        if caps.coop_probed {
            return Ok(caps);
        }
        let mut right = Vec::new();
        for &shape in &caps.coop {
            match self.probe_shape(queue, &caps, shape).await {
                Ok(true) => right.push(shape),
                Ok(false) => log::warn!("{}: {shape:?} computes wrong products: not used", caps.label()),
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

    async fn probe_shape(&self, queue: &wgpu::Queue, caps: &Caps, shape: CoopShape) -> Result<bool> {
        let size = shape.m as usize;
        let (lhs, rhs, product) = factors(size);
        let (ab, acc) = (dtype(shape.ab), dtype(shape.acc));
        let buffer = |dtype: Dtype, values: &[f64]| {
            let bytes = dtype.encode(values);
            let buffer = self.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some(OP),
                size: bytes.len() as u64,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            queue.write_buffer(&buffer, 0, &bytes);
            buffer
        };
        let bind = || -> Checked<(Dispatch, wgpu::Buffer)> {
            let out = buffer(acc, &vec![f64::NAN; size * size]);
            let all = |dtype: Dtype| Reach::to((size * size) as u64, dtype);
            let mut args = Args::new(self);
            args.read(LHS, "lhs", Memory::from(buffer(ab, &lhs)), all(ab))?;
            args.read(RHS, "rhs", Memory::from(buffer(ab, &rhs)), all(ab))?;
            args.read(ZEROS, "zeros", Memory::from(buffer(acc, &vec![0.0; size * size])), all(acc))?;
            args.write(PRODUCT, "product", Memory::from(out.clone()), all(acc))?;
            args.check()?;
            let probe = Probe { shape, wg_size: wg_size(caps) };
            Ok((args.dispatch(&[probe], &NoParams {}, [1, 1, 1])?.named(OP), out))
        };
        let (dispatch, out) = self.later(OP, || bind().map_err(|kind| kind.of(OP))).await?;
        self.later(OP, || {
            let mut encoder = self.device().create_command_encoder(&Default::default());
            dispatch.record(&mut encoder);
            queue.submit([encoder.finish()]);
            Ok(())
        })
        .await?;
        let bytes = self.read(queue, &out, (size * size) as u64 * acc.bytes()).await.map_err(|kind| kind.of(OP))?;
        Ok(acc.decode(&bytes) == product)
    }
}

crate::params! {
    /// No parameters.
    pub struct NoParams {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_shape_composes() {
        use naga::valid::{Capabilities, ValidationFlags, Validator};
        for caps in crate::caps::presets() {
            let wg_size = wg_size(&caps);
            caps.check_wg_size(wg_size).unwrap();
            for &shape in &caps.coop {
                let source = Probe { shape, wg_size }.shader().source(true);
                let module =
                    naga::front::wgsl::parse_str(&source).unwrap_or_else(|e| panic!("{shape:?}: {e}\n{source}"));
                Validator::new(ValidationFlags::all(), Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16)
                    .validate(&module)
                    .unwrap_or_else(|e| panic!("{shape:?}: {e:?}\n{source}"));
            }
        }
    }

    #[test]
    fn factors_are_not_symmetric() {
        for n in [8, 16] {
            let (a, b, c) = factors(n);
            let product = |a: &[f64], b: &[f64]| -> Vec<f64> {
                (0..n * n).map(|i| (0..n).map(|k| a[i / n * n + k] * b[k * n + i % n]).sum()).collect()
            };
            let transpose = |a: &[f64]| -> Vec<f64> { (0..n * n).map(|i| a[i % n * n + i / n]).collect() };
            assert_eq!(product(&a, &b), c);
            assert_ne!(product(&b, &a), c);
            assert_ne!(product(&transpose(&a), &transpose(&b)), c);
            assert_ne!(transpose(&c), c);
            assert!(c.iter().all(|v| v.abs() <= 2048.0 && (v * 2.0).fract() == 0.0), "{c:?}");
        }
    }
}
