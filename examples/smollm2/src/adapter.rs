//! An adapter of low rank (LoRA, as PEFT writes it): factors of a product's own.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tileloom::wgpu::Buffer;

use crate::Result;
use crate::gpu::Gpu;

/// The file of an adapter, f32 or bf16 tensors `..layers.N.MODULE.lora_A.weight` `[rank, k]` and `..lora_B.weight` `[n, rank]`.
pub struct Adapter {
    bytes: Vec<u8>,
    /// `alpha / rank`.
    scale: f32,
    /// Tensors that no product has taken.
    left: RefCell<BTreeSet<String>>,
}

/// `scale (x A^T) B^T` on the device, f32.
pub struct Factors {
    pub rank: usize,
    pub scale: f32,
    pub a: Buffer,
    pub b: Buffer,
}

impl Adapter {
    /// Reads a file of safetensors, and `adapter_config.json` beside it.
    pub fn open(path: &Path) -> Result<Adapter> {
        let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let (bytes, config) = (read(path)?, read(&path.with_file_name("adapter_config.json"))?);
        let config: Value = serde_json::from_slice(&config)?;
        let number = |key: &str| {
            config[key].as_f64().ok_or_else(|| format!("adapter_config.json has `{key}` of {}", config[key]))
        };
        let (alpha, rank) = (number("lora_alpha")?, number("r")?);
        let scale = alpha / if config["use_rslora"] == true { rank.sqrt() } else { rank };
        if config["use_dora"] == true {
            return Err("adapter_config.json has `use_dora`, which is not handled".into());
        }
        Adapter::of(bytes, scale as f32)
    }

    /// The bytes of a file of safetensors; `scale` is `alpha / rank`.
    pub fn of(bytes: Vec<u8>, scale: f32) -> Result<Adapter> {
        let left = SafeTensors::deserialize(&bytes)?.names().into_iter().map(|name| name.to_string()).collect();
        Ok(Adapter { bytes, scale, left: RefCell::new(left) })
    }

    /// The factors of modules whose products are one, name and rows of each: the rows of A below each other, B in blocks. Rows of q and k
    /// are permuted, head by head of `head_dim`, as they are in GGUF files.
    pub fn factors(
        &self,
        gpu: &Gpu,
        layer: usize,
        modules: &[(&str, usize)],
        k: usize,
        head_dim: usize,
    ) -> Result<Option<Factors>> {
        let (mut a, mut found, mut first) = (Vec::new(), Vec::new(), 0);
        for &(module, n) in modules {
            let stem = format!("layers.{layer}.{module}.lora_");
            if let Some((name, rows, cols, values)) = self.take(&format!("{stem}A.weight"))? {
                let Some((b_name, b_rows, rank, b)) = self.take(&format!("{stem}B.weight"))? else {
                    return Err(format!("the adapter has `{name}`, and no B beside it").into());
                };
                if cols != k || b_rows != n || rank != rows {
                    return Err(format!(
                        "`{name}` is [{rows}, {cols}], `{b_name}` [{b_rows}, {rank}], of a product of [{n}, {k}]"
                    )
                    .into());
                }
                a.extend(values);
                let rotated = ["self_attn.q_proj", "self_attn.k_proj"].contains(&module);
                found.push((first, rank, if rotated { permuted(&b, rank, head_dim) } else { b }));
            }
            first += n;
        }
        if found.is_empty() {
            return Ok(None);
        }
        let rank: usize = found.iter().map(|(_, rank, _)| rank).sum();
        let (mut b, mut column) = (vec![0.0; first * rank], 0);
        for (first, own, values) in found {
            for (i, row) in values.chunks_exact(own).enumerate() {
                b[(first + i) * rank + column..][..own].copy_from_slice(row);
            }
            column += own;
        }
        Ok(Some(Factors { rank, scale: self.scale, a: gpu.upload(&a)?, b: gpu.upload(&b)? }))
    }

    /// A tensor whose name ends so: name, rows, columns, values.
    fn take(&self, end: &str) -> Result<Option<(String, usize, usize, Vec<f32>)>> {
        let file = SafeTensors::deserialize(&self.bytes)?;
        let Some(name) =
            file.names().into_iter().find(|name| name.ends_with(end) && name[..name.len() - end.len()].ends_with('.'))
        else {
            return Ok(None);
        };
        let tensor = file.tensor(name)?;
        let &[rows, cols] = tensor.shape() else {
            return Err(format!("`{name}` has {} axes, not two", tensor.shape().len()).into());
        };
        let half = |x: &[u8]| u16::from_le_bytes([x[0], x[1]]);
        let values = match tensor.dtype() {
            Dtype::F32 => tensor.data().chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect(),
            Dtype::BF16 => tensor.data().chunks_exact(2).map(|x| f32::from_bits(u32::from(half(x)) << 16)).collect(),
            other => return Err(format!("`{name}` is {other:?}, not F32 or BF16").into()),
        };
        self.left.borrow_mut().remove(name);
        Ok(Some((name.to_string(), rows, cols, values)))
    }

    /// That every tensor has found its product.
    ///
    /// # Errors
    /// One that has not, such as those of gate and up, which are one gated product here.
    pub fn all_taken(&self) -> Result<()> {
        match self.left.borrow().first() {
            None => Ok(()),
            Some(name) => Err(format!("the adapter has `{name}`, a product that takes none here").into()),
        }
    }
}

/// Rows of each head, the halves of which are pairs, with the pairs side by side.
fn permuted(b: &[f32], rank: usize, head_dim: usize) -> Vec<f32> {
    let rows: Vec<_> = b.chunks_exact(rank).collect();
    let of = |row: usize| {
        let (head, i) = (row / head_dim, row % head_dim);
        rows[head * head_dim + i / 2 + i % 2 * (head_dim / 2)]
    };
    (0..rows.len()).flat_map(of).copied().collect()
}
