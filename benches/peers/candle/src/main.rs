//! `peers-candle FOLDER`: computes by candle on the CPU what `peers` asks for, line by line on its standard input.
//!
//! | line | what |
//! |---|---|
//! | `input SET NAME KIND SIZE ..` | FOLDER/input holds this tensor: f32, f16 or u32, or blocks of q4_0 or q8_0 |
//! | `op NAME OPTION ..` | what is computed; the answer is what its result may be off by because candle rounds an input |
//! | `run FIRST END` | computes these input sets, counted modulo their number |
//! | `output` | writes what set 0 gave to FOLDER/output, as f64 |
//!
//! Each answer is a line, `ok ..` or `error ..`.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use candle_core::quantized::{GgmlDType, QMatMul, ggml_file::qtensor_from_ggml};
use candle_core::{D, DType, Device, Error, Module, Result, Tensor, bail};
use candle_nn::attention::{AttnMask, flash_attn};
use candle_nn::{GroupNorm, ops, rotary_emb};
use half::f16;

fn main() {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    let mut peer = Peer { folder: folder.into(), ..Peer::default() };
    for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
        let answer = match peer.answer(&line) {
            Ok(answer) => format!("ok {answer}"),
            Err(error) => format!("error {}", error.to_string().lines().next().unwrap_or_default()),
        };
        println!("{answer}");
        let _ = std::io::stdout().flush();
    }
}

/// Inputs by name; packed weights are apart.
#[derive(Default)]
struct Set {
    tensors: BTreeMap<String, Tensor>,
    weights: Option<(QMatMul, GgmlDType)>,
}

#[derive(Default)]
struct Peer {
    folder: PathBuf,
    sets: Vec<Set>,
    op: String,
    options: Vec<String>,
    /// What set 0 gave.
    first: Option<Tensor>,
}

impl Peer {
    fn answer(&mut self, line: &str) -> Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["input", set, name, kind, ref sizes @ ..] => {
                let shape = sizes.iter().map(|size| number(size)).collect::<Result<Vec<usize>>>()?;
                self.input(number(set)?, name, kind, shape)?;
            }
            ["op", op, ref options @ ..] => {
                (self.op, self.options) = (op.into(), options.iter().map(|word| word.to_string()).collect());
                self.sets.iter_mut().try_for_each(|set| laid_out(op, set))?;
                let widen = if op == "quantized_matmul" { rounding(&self.sets[0])? } else { 0.0 };
                return Ok(widen.to_string());
            }
            ["run", first, end] => {
                for i in number(first)?..number::<usize>(end)? {
                    let output = self.compute(&self.sets[i % self.sets.len()])?;
                    if i == 0 {
                        self.first = Some(output);
                    }
                }
            }
            ["output"] => {
                let Some(output) = self.first.take() else { bail!("input set 0 was not run") };
                let values = output.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
                let bytes: Vec<u8> = values.into_iter().flat_map(f64::to_le_bytes).collect();
                std::fs::write(self.folder.join("output"), bytes)?;
            }
            _ => bail!("`{line}` is not understood"),
        }
        Ok(String::new())
    }

    fn input(&mut self, set: usize, name: &str, kind: &str, shape: Vec<usize>) -> Result<()> {
        let bytes = std::fs::read(Path::new(&self.folder).join("input"))?;
        if self.sets.len() <= set {
            self.sets.resize_with(set + 1, Set::default);
        }
        let set = &mut self.sets[set];
        let dtype = match kind {
            "f32" => DType::F32,
            "f16" => DType::F16,
            "u32" => DType::U32,
            "q4_0" | "q8_0" => {
                let dtype = if kind == "q8_0" { GgmlDType::Q8_0 } else { GgmlDType::Q4_0 };
                let weights = qtensor_from_ggml(dtype, &bytes, shape, &Device::Cpu)?;
                set.weights = Some((QMatMul::from_qtensor(weights)?, dtype));
                return Ok(());
            }
            _ => bail!("tensors of {kind} are not known"),
        };
        set.tensors.insert(name.into(), Tensor::from_raw_buffer(&bytes, dtype, &shape, &Device::Cpu)?);
        Ok(())
    }

    fn option<T: std::str::FromStr>(&self, i: usize) -> Result<T> {
        number(self.options.get(i).map_or("", String::as_str))
    }

    fn compute(&self, set: &Set) -> Result<Tensor> {
        let of = |name: &str| set.tensors.get(name).ok_or_else(|| Error::msg(format!("no input `{name}`")));
        match self.op.as_str() {
            "matmul" => of("a")?.matmul(of("b")?),
            "matmul_transposed" => of("a")?.matmul(&of("b")?.t()?),
            "quantized_matmul" => set.weights.as_ref().ok_or_else(|| Error::msg("no weights"))?.0.forward(of("a")?),
            "softmax" => ops::softmax_last_dim(of("x")?),
            "rms_norm" => ops::rms_norm(of("x")?, of("weight")?, self.option(0)?),
            "layer_norm" => ops::layer_norm(of("x")?, of("weight")?, of("bias")?, self.option(0)?),
            "group_norm_silu" => {
                let (weight, bias) = (of("weight")?.clone(), of("bias")?.clone());
                let channels = weight.elem_count();
                GroupNorm::new(weight, bias, channels, self.option(0)?, self.option(1)?)?.forward(of("x")?)?.silu()
            }
            "embedding" => of("codebook")?.embedding(of("indices")?),
            "rope" => rotary_emb::rope(of("x")?, of("cos")?, of("sin")?),
            "rope_interleaved" => rotary_emb::rope_i(of("x")?, of("cos")?, of("sin")?),
            "conv2d" => {
                let (x, weight, enlarge) = (of("x")?, of("weight")?, self.option::<usize>(3)?);
                let (_, _, height, width) = x.dims4()?;
                let x = if enlarge == 1 { x.clone() } else { x.upsample_nearest2d(enlarge * height, enlarge * width)? };
                x.conv2d(weight, self.option(0)?, self.option(1)?, 1, self.option(2)?)
            }
            "attention" => {
                let (q, k, v) = (of("q")?, of("k")?, of("v")?);
                let causal = self.options.first().is_some_and(|word| word == "causal");
                let mask = if causal { AttnMask::causal() } else { AttnMask::None };
                let scale = (q.dim(D::Minus1)? as f32).sqrt().recip();
                match q.dtype() {
                    DType::F16 => flash_attn::<f16>(q, k, v, scale, mask, None, None),
                    _ => flash_attn::<f32>(q, k, v, scale, mask, None, None),
                }
            }
            op => bail!("`{op}` is not known"),
        }
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T> {
    word.parse().map_err(|_| Error::msg(format!("`{word}` is no number")))
}

/// candle's attention takes `[batch, places, heads, head_dim]`.
fn laid_out(op: &str, set: &mut Set) -> Result<()> {
    if op == "attention" {
        for tensor in set.tensors.values_mut() {
            *tensor = tensor.transpose(1, 2)?.contiguous()?;
        }
    }
    Ok(())
}

/// Six deviations of d `[m, n]`, where each element of a is off by up to half a step of its block: candle rounds a to int8, by
/// blocks of 256 beside q8_0 and of 32 beside q4_0.
fn rounding(set: &Set) -> Result<f64> {
    let (Some(a), Some((weights, kind))) = (set.tensors.get("a"), &set.weights) else { bail!("no a, or no weights") };
    let (m, k) = a.dims2()?;
    let block = if *kind == GgmlDType::Q8_0 { 256.min(k) } else { 32 };
    let steps = (a.reshape((m, k / block, block))?.abs()?.max_keepdim(D::Minus1)? / 127.0)?;
    let variances = (steps.sqr()?.broadcast_as((m, k / block, block))?.contiguous()?.reshape((m, k))? / 12.0)?;
    let weights = weights.dequantize_f16()?.to_dtype(DType::F32)?;
    let variances = variances.matmul(&weights.sqr()?.t()?)?;
    Ok(6.0 * f64::from(variances.flatten_all()?.max(0)?.to_scalar::<f32>()?).sqrt())
}
