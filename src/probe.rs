//! The probe of cooperative matrices: drivers list shapes that they get wrong.

use crate::caps::{CoopScalar, CoopShape};
use crate::compose::Shader;
use crate::dispatch::Arg;
use crate::kernels::Pipeline;
use crate::{Binding, Caps, Dispatch, Dtype, Kernels, Result};

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
            .buffer(LHS, "lhs", &ab, false)
            .buffer(RHS, "rhs", &ab, false)
            .buffer(ZEROS, "zeros", &acc, false)
            .buffer(PRODUCT, "product", &acc, true)
    }
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
                Err(
                    error @ (crate::Error { kind: crate::ErrorKind::DeviceLost { .. }, .. }
                    | crate::Error { kind: crate::ErrorKind::OutOfMemory { .. }, .. }),
                ) => return Err(error),
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
        let ab = dtype(shape.ab);
        let acc = dtype(shape.acc);
        let device = self.device();
        let (dispatch, out) = self
            .later(OP, || {
                let buffer = |bytes: &[u8]| {
                    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
                        label: Some(OP),
                        size: bytes.len() as u64,
                        usage: wgpu::BufferUsages::STORAGE
                            | wgpu::BufferUsages::COPY_DST
                            | wgpu::BufferUsages::COPY_SRC,
                        mapped_at_creation: false,
                    });
                    queue.write_buffer(&buffer, 0, bytes);
                    buffer
                };
                let (lhs, rhs) = (buffer(&ab.encode(&lhs)), buffer(&ab.encode(&rhs)));
                let zeros = buffer(&acc.encode(&vec![0.0; size * size]));
                let out = buffer(&acc.encode(&vec![f64::NAN; size * size]));
                let arg = |slot, name, buffer, dtype: Dtype, writes| Arg {
                    slot,
                    name,
                    binding: Binding::from(buffer),
                    element_bits: 8 * dtype.bytes(),
                    elements: 0..(size * size) as u64,
                    writes,
                };
                let args = [
                    arg(LHS, "lhs", &lhs, ab, false),
                    arg(RHS, "rhs", &rhs, ab, false),
                    arg(ZEROS, "zeros", &zeros, acc, false),
                    arg(PRODUCT, "product", &out, acc, true),
                ];
                // Whole subgroups, whatever their size.
                let wg_size = caps.subgroup.map_or(32, |s| s.max);
                let pipeline = self.pipeline(OP, &Probe { shape, wg_size })?;
                Ok((Dispatch::new(OP, self, &args, &NoParams {}, vec![(pipeline, [1, 1, 1])]), out))
            })
            .await?;
        self.later(OP, || {
            let mut encoder = device.create_command_encoder(&Default::default());
            dispatch.record(&mut encoder);
            queue.submit([encoder.finish()]);
            Ok(())
        })
        .await?;
        let bytes = self.read(OP, queue, &out, (size * size) as u64 * acc.bytes()).await?;
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
            for &shape in &caps.coop {
                let source = Probe { shape, wg_size: 64 }.shader().source(true);
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
