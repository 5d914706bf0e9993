//! The weights of a model on the device, packed as [`tileloom::weights`] lays them out.

use tileloom::weights::{Format, Source};
use tileloom::wgpu::Buffer;

use crate::Result;
use crate::adapter::{Adapter, Factors};
use crate::gguf::{Gguf, Value};
use crate::gpu::Gpu;

/// The sizes of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    pub layers: usize,
    /// Elements of a token's vector.
    pub width: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Elements between gate and down.
    pub hidden: usize,
    /// Tokens there are.
    pub vocab: usize,
    /// Tokens of a sequence, at most.
    pub context: usize,
    /// Added to the mean square in norms.
    pub eps: f32,
    /// The base of the rotation's frequencies.
    pub base: f64,
}

impl Sizes {
    /// Elements of all queries of a token.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Elements of all keys, or values, of a token.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Elements of queries, keys and values of a token, which lie in one row.
    pub fn qkv_width(&self) -> usize {
        self.q_width() + 2 * self.kv_width()
    }
}

/// A matrix `[n, k]` of packed weights, whose rows are outputs.
pub struct Matrix {
    pub format: Format,
    pub n: usize,
    pub k: usize,
    pub codes: Buffer,
    pub scales: Buffer,
}

/// A product, with the adapter of low rank that is added to it.
pub struct Linear {
    pub matrix: Matrix,
    pub adapter: Option<Factors>,
    /// The first column of its result.
    pub at: usize,
}

/// The weights of a layer.
pub struct Layer {
    pub attention_norm: Buffer,
    /// Queries, keys and values: one product, where the file has them in one format, else up to three.
    pub qkv: Vec<Linear>,
    pub out: Linear,
    pub ffn_norm: Buffer,
    /// The gate above, the other half below.
    pub gate_up: Matrix,
    pub down: Linear,
}

/// A model on the device.
pub struct Model {
    pub sizes: Sizes,
    pub embedding: Matrix,
    pub layers: Vec<Layer>,
    pub norm: Buffer,
    /// Where the file has none, the embedding is the head, too.
    pub head: Option<Matrix>,
}

impl Model {
    /// Packs and uploads the weights of a file.
    ///
    /// # Errors
    /// What the file lacks, or has and is not handled, by name.
    pub fn load(gpu: &Gpu, file: &Gguf, adapter: Option<&Adapter>) -> Result<Model> {
        let sizes = sizes(file)?;
        let Sizes { width, hidden, vocab, .. } = sizes;
        let load = Loader { gpu, file };
        let layer = |i: usize| -> Result<Layer> {
            let name = |stem: &str| format!("blk.{i}.{stem}.weight");
            let linear = |stem: &str, module: &str, n: usize, k: usize| -> Result<Linear> {
                let factors = adapter
                    .map(|adapter| adapter.factors(gpu, i, &[(module, n)], k, sizes.head_dim))
                    .transpose()?
                    .flatten();
                Ok(Linear { matrix: load.matrix(&[(&name(stem), n)], k)?, adapter: factors, at: 0 })
            };
            Ok(Layer {
                attention_norm: load.vector(&name("attn_norm"), width)?,
                qkv: load.qkv(&sizes, i, adapter)?,
                out: linear("attn_output", "self_attn.o_proj", width, sizes.q_width())?,
                ffn_norm: load.vector(&name("ffn_norm"), width)?,
                gate_up: load.matrix(&[(&name("ffn_gate"), hidden), (&name("ffn_up"), hidden)], width)?,
                down: linear("ffn_down", "mlp.down_proj", width, hidden)?,
            })
        };
        let has_head = file.names().any(|name| name == "output.weight");
        let model = Model {
            sizes,
            embedding: load.matrix(&[("token_embd.weight", vocab)], width)?,
            layers: (0..sizes.layers).map(layer).collect::<Result<_>>()?,
            norm: load.vector("output_norm.weight", width)?,
            head: has_head.then(|| load.matrix(&[("output.weight", vocab)], width)).transpose()?,
        };
        if let Some(adapter) = adapter {
            adapter.all_taken()?;
        }
        Ok(model)
    }

    /// The matrix that makes logits.
    pub fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

/// The sizes of a llama-shaped model.
fn sizes(file: &Gguf) -> Result<Sizes> {
    let architecture = file.text("general.architecture");
    if architecture != "llama" {
        return Err(format!("the file is of architecture `{architecture}`, not `llama`").into());
    }
    for key in ["llama.rope.scaling.type", "llama.expert_count", "llama.attention.sliding_window"] {
        match file.get(key) {
            None | Some(Value::Int(0)) => {}
            Some(Value::Text(text)) if text == "none" => {}
            Some(value) => return Err(format!("the file has `{key}` of {value:?}, which is not handled").into()),
        }
    }
    let int = |key: &str| file.int(&format!("llama.{key}"));
    let (width, heads) = (int("embedding_length")?, int("attention.head_count")?);
    let kv_heads = int("attention.head_count_kv").unwrap_or(heads);
    if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(format!("{heads} heads do not share {kv_heads} heads of keys").into());
    }
    let head_dim = int("attention.key_length").unwrap_or(width / heads);
    for key in ["rope.dimension_count", "attention.value_length"] {
        if int(key).unwrap_or(head_dim) != head_dim {
            return Err(format!("`llama.{key}` is {}, not the {head_dim} of a head", int(key)?).into());
        }
    }
    let layers = int("block_count")?;
    let known = |name: &str| {
        let stem = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map(|(_, stem)| stem);
        match stem.and_then(|stem| stem.strip_suffix(".weight")) {
            Some(stem) => {
                ["attn_norm", "ffn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
                    .contains(&stem)
            }
            None => ["token_embd.weight", "output_norm.weight", "output.weight"].contains(&name),
        }
    };
    if let Some(name) = file.names().find(|name| !known(name)) {
        return Err(format!("the file has a tensor `{name}`, which is not handled").into());
    }
    Ok(Sizes {
        layers,
        width,
        heads,
        kv_heads,
        head_dim,
        hidden: int("feed_forward_length")?,
        vocab: file.tensor("token_embd.weight")?.0.rows,
        context: int("context_length")?,
        eps: file.float("llama.attention.layer_norm_rms_epsilon")? as f32,
        base: file.float("llama.rope.freq_base").unwrap_or(1e4),
    })
}

struct Loader<'a> {
    gpu: &'a Gpu,
    file: &'a Gguf,
}

impl Loader<'_> {
    /// Matrices of one format, one below the other: name and rows of each, columns of all.
    fn matrix(&self, parts: &[(&str, usize)], k: usize) -> Result<Matrix> {
        let mut bytes = Vec::new();
        let (first, _) = self.file.tensor(parts[0].0)?;
        for &(name, n) in parts {
            let (tensor, blocks) = self.file.tensor(name)?;
            if [tensor.rows, tensor.cols] != [n, k] {
                return Err(format!("tensor `{name}` is [{}, {}], not [{n}, {k}]", tensor.rows, tensor.cols).into());
            }
            if tensor.kind != first.kind {
                return Err(format!(
                    "tensors `{}` and `{name}` are of two types, {} and {}, which is not handled",
                    parts[0].0, first.kind, tensor.kind
                )
                .into());
            }
            bytes.extend_from_slice(blocks);
        }
        let name = parts[0].0;
        let format = Format::ggml(first.kind);
        let format = format.ok_or_else(|| format!("tensor `{name}` is {}, not packed weights", first.kind))?;
        let n = parts.iter().map(|(_, n)| n).sum();
        let packed = format.pack(name, n, k, Source::Ggml((&bytes).into()))?;
        let (codes, scales) = (self.gpu.upload(&packed.codes)?, self.gpu.upload(&packed.scales)?);
        Ok(Matrix { format, n, k, codes, scales })
    }

    /// Those of queries, keys and values; neighbours of one format are one product.
    fn qkv(&self, sizes: &Sizes, layer: usize, adapter: Option<&Adapter>) -> Result<Vec<Linear>> {
        let (q, kv) = (sizes.q_width(), sizes.kv_width());
        let name = |part: &str| format!("blk.{layer}.attn_{part}.weight");
        let names = [name("q"), name("k"), name("v")];
        let modules = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
        let (mut products, mut at, mut first) = (Vec::new(), 0, 0);
        while first < 3 {
            let kind = |i: usize| Ok::<_, crate::Error>(self.file.tensor(&names[i])?.0.kind);
            let mut end = first + 1;
            while end < 3 && kind(end)? == kind(first)? {
                end += 1;
            }
            let rows = |i: usize| if i == 0 { q } else { kv };
            let parts: Vec<_> = (first..end).map(|i| (names[i].as_str(), rows(i))).collect();
            let adapted: Vec<_> = (first..end).map(|i| (modules[i], rows(i))).collect();
            let adapter =
                adapter.map(|adapter| adapter.factors(self.gpu, layer, &adapted, sizes.width, sizes.head_dim));
            let matrix = self.matrix(&parts, sizes.width)?;
            let n = matrix.n;
            products.push(Linear { matrix, adapter: adapter.transpose()?.flatten(), at });
            (at, first) = (at + n, end);
        }
        Ok(products)
    }

    /// A vector of f32.
    fn vector(&self, name: &str, n: usize) -> Result<Buffer> {
        let (tensor, bytes) = self.file.tensor(name)?;
        if (tensor.kind, tensor.rows * tensor.cols) != ("f32", n) {
            return Err(format!("tensor `{name}` is {} of {}, not f32 of {n}", tensor.kind, tensor.cols).into());
        }
        let values: Vec<f32> =
            bytes.chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().expect("four bytes"))).collect();
        self.gpu.upload(&values)
    }
}
