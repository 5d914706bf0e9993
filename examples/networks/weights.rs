//! Weights as packages hold them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::Result;

/// Tensors by name: shape and values.
#[derive(Debug, Default)]
pub struct Weights(HashMap<String, (Vec<usize>, Vec<f32>)>);

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes"))).collect()
}

fn halves(bytes: &[u8], value: impl Fn(u16) -> f32) -> Vec<f32> {
    bytes.chunks_exact(2).map(|bytes| value(u16::from_le_bytes([bytes[0], bytes[1]]))).collect()
}

impl Weights {
    /// A file of safetensors: its tensors of f32, f16 and bf16.
    pub fn safetensors(path: &Path) -> Result<Weights> {
        let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut all = HashMap::new();
        for (name, view) in SafeTensors::deserialize(&bytes)?.tensors() {
            let values = match view.dtype() {
                Dtype::F32 => floats(view.data()),
                Dtype::F16 => halves(view.data(), |bits| f16::from_bits(bits).into()),
                Dtype::BF16 => halves(view.data(), |bits| bf16::from_bits(bits).into()),
                // Counters and the like.
                _ => continue,
            };
            all.insert(name, (view.shape().to_vec(), values));
        }
        Ok(Weights(all))
    }

    /// Writes them to a file of safetensors, in f16.
    pub fn save(&self, path: &Path) -> Result<()> {
        let halves =
            |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect() };
        let all: Vec<_> = self.0.iter().map(|(name, (shape, values))| (name, shape, halves(values))).collect();
        let mut views = Vec::new();
        for (name, shape, bytes) in &all {
            views.push((name, TensorView::new(Dtype::F16, shape.to_vec(), bytes)?));
        }
        Ok(safetensors::serialize_to_file(views, None, path)?)
    }

    /// A folder of TensorFlow.js: model.json, and files of plain f32 in the order of its manifest.
    pub fn tfjs(folder: &Path) -> Result<Weights> {
        let read =
            |name: &str| fs::read(folder.join(name)).map_err(|e| format!("{}: {e}", folder.join(name).display()));
        let model: Value = serde_json::from_slice(&read("model.json")?)?;
        let mut all = HashMap::new();
        for group in model["weightsManifest"].as_array().ok_or("model.json has no weightsManifest")? {
            let list = |key: &str| group[key].as_array().ok_or(format!("a group of weightsManifest has no {key}"));
            let mut bytes = Vec::new();
            for path in list("paths")? {
                bytes.extend(read(path.as_str().ok_or("a path is no text")?)?);
            }
            let mut rest = floats(&bytes).into_iter();
            for entry in list("weights")? {
                let name = entry["name"].as_str().ok_or("a weight has no name")?;
                if entry["dtype"] != "float32" || !entry["quantization"].is_null() {
                    return Err(format!("{name} is not plain float32").into());
                }
                let shape: Vec<usize> = serde_json::from_value(entry["shape"].clone())?;
                let values: Vec<f32> = rest.by_ref().take(shape.iter().product()).collect();
                all.insert(name.to_string(), (shape, values));
            }
        }
        Ok(Weights(all))
    }

    pub fn insert(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        self.0.insert(name.into(), (shape.to_vec(), values));
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The values of a tensor, and its shape.
    pub fn any(&self, name: &str) -> Result<(&[f32], &[usize])> {
        let (shape, values) = self.0.get(name).ok_or_else(|| format!("there is no weight {name}"))?;
        match values.len() == shape.iter().product::<usize>() {
            true => Ok((values, shape)),
            false => Err(format!("{name}: {} values of {shape:?}", values.len()).into()),
        }
    }

    /// The values of a tensor, which must have this shape.
    pub fn of(&self, name: &str, shape: &[usize]) -> Result<&[f32]> {
        let (values, have) = self.any(name)?;
        if have == shape { Ok(values) } else { Err(format!("{name}: {have:?}, not {shape:?}").into()) }
    }
}
