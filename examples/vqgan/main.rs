//! The decoder of a VQGAN (Esser et al., "Taming Transformers", 2021) of f16-16384's shape: codes to pixels, 16 x 16 of these for each.
//!
//! ```sh
//! cargo run --example vqgan                                              # random weights and 4 x 4 codes, beside f64 on the host
//! cargo run --example vqgan -- --size 16 16                              # 256 x 256 pixels
//! cargo run --example vqgan -- --weights last.safetensors --codes codes.txt --size 16 16 --out picture.png
//! ```
//!
//! A file of weights has taming-transformers' names (`decoder.up.4.block.0.conv1.weight`), in f32, f16 or bf16; codes are numbers with spaces
//! between them, row by row. `--no-check` leaves out the host.
//!
//! ```text
//! 16384 x 256 codes -> 1 x 1 -> 3 x 3 to 512 channels -> block, attention, block
//! 4 x 4       3 (block, attention)         512
//! 8 x 8       enlarged, 3 x 3, 3 blocks    512 to 256
//! 16 x 16     enlarged, 3 x 3, 3 blocks    256
//! 32 x 32     enlarged, 3 x 3, 3 blocks    256 to 128
//! 64 x 64     enlarged, 3 x 3, 3 blocks    128 -> norm, silu, 3 x 3 to 3
//! ```
//!
//! | step | op |
//! |---|---|
//! | vectors of codes | `vq_lookup` |
//! | group norm in 32 groups with silu | `group_norm` |
//! | 3 x 3, with the bias, the sum of a block and the enlargement in front | `conv` |
//! | 1 x 1, with the bias and the sum | `gemm` |
//! | attention of one head as wide as the channels | `attention` |
//!
//! Channels are last throughout, so that a picture is a matrix of pixels for products and attention. Three buffers are enough for all but q, k and v.

// A test has this file as a module, beside that of the networks, and uses what it needs of it.
#![allow(dead_code, clippy::duplicate_mod)]

use std::error::Error;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;
use std::time::Instant;

use tileloom::Context;
use tileloom::verify::random::Random;

use weights::Weights;

pub mod decoder;
#[path = "../networks/host.rs"]
pub mod host;
pub mod oracle;
#[path = "../networks/weights.rs"]
pub mod weights;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Sizes of a VQGAN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Vectors of the codebook.
    pub codes: usize,
    /// Their elements.
    pub code_dim: usize,
    /// Channels behind the 1 x 1 convolution.
    pub z: usize,
    /// Channels of the finest level.
    pub channels: usize,
    /// How often as many each level has, from the finest on.
    pub multiples: [usize; 5],
    /// Blocks of a level.
    pub blocks: usize,
    /// Groups of a norm.
    pub groups: usize,
}

/// Ratio 16, 16384 codes.
pub const F16_16384: Shape =
    Shape { codes: 16384, code_dim: 256, z: 256, channels: 128, multiples: [1, 1, 2, 2, 4], blocks: 3, groups: 32 };

/// Few of everything.
pub const NARROW: Shape = Shape { codes: 64, code_dim: 48, z: 40, channels: 32, ..F16_16384 };

/// Added to variances.
pub const EPS: f32 = 1e-6;

/// Pixels of a code along each axis.
pub const RATIO: usize = 16;

/// The coarsest level, which has attention.
pub const COARSEST: usize = 4;

impl Shape {
    /// Channels of a level.
    pub fn level(&self, level: usize) -> usize {
        self.channels * self.multiples[level]
    }

    /// Channels that go into a block and come out of it, of the levels from the coarsest on.
    pub fn block(&self, level: usize, block: usize) -> [usize; 2] {
        let from = if block == 0 { (level + 1).min(COARSEST) } else { level };
        [self.level(from), self.level(level)]
    }

    /// Names and shapes of all weights.
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut all = vec![("quantize.embedding.weight".into(), vec![self.codes, self.code_dim])];
        let conv = |all: &mut Vec<(String, Vec<usize>)>, name: &str, from: usize, to: usize, taps: usize| {
            all.push((format!("{name}.weight"), vec![to, from, taps, taps]));
            all.push((format!("{name}.bias"), vec![to]));
        };
        let norm = |all: &mut Vec<(String, Vec<usize>)>, name: &str, channels: usize| {
            all.extend(["weight", "bias"].map(|part| (format!("{name}.{part}"), vec![channels])));
        };
        let wide = self.level(COARSEST);
        conv(&mut all, "post_quant_conv", self.code_dim, self.z, 1);
        conv(&mut all, "decoder.conv_in", self.z, wide, 3);
        let mut blocks = vec![("mid.block_1".to_string(), [wide; 2]), ("mid.block_2".into(), [wide; 2])];
        let mut attentions = vec!["mid.attn_1".to_string()];
        for level in (0..=COARSEST).rev() {
            for block in 0..self.blocks {
                blocks.push((format!("up.{level}.block.{block}"), self.block(level, block)));
                if level == COARSEST {
                    attentions.push(format!("up.{level}.attn.{block}"));
                }
            }
            if level > 0 {
                conv(&mut all, &format!("decoder.up.{level}.upsample.conv"), self.level(level), self.level(level), 3);
            }
        }
        for (name, [from, to]) in blocks {
            norm(&mut all, &format!("decoder.{name}.norm1"), from);
            conv(&mut all, &format!("decoder.{name}.conv1"), from, to, 3);
            norm(&mut all, &format!("decoder.{name}.norm2"), to);
            conv(&mut all, &format!("decoder.{name}.conv2"), to, to, 3);
            if from != to {
                conv(&mut all, &format!("decoder.{name}.nin_shortcut"), from, to, 1);
            }
        }
        for name in attentions {
            norm(&mut all, &format!("decoder.{name}.norm"), wide);
            for part in ["q", "k", "v", "proj_out"] {
                conv(&mut all, &format!("decoder.{name}.{part}"), wide, wide, 1);
            }
        }
        norm(&mut all, "decoder.norm_out", self.level(0));
        conv(&mut all, "decoder.conv_out", self.level(0), 3, 3);
        all
    }

    /// Random weights that neither grow nor vanish on the way.
    pub fn random(&self, seed: u64) -> Weights {
        let mut random = Random::new(seed);
        let mut weights = Weights::default();
        for (name, shape) in self.tensors() {
            let inputs: usize = shape[1..].iter().product();
            // Of a uniform distribution with this deviation.
            let [deviation, mean] = match (shape.len(), name.ends_with("weight")) {
                (1, true) => [0.2, 1.0],
                (1, false) => [0.1, 0.0],
                (2, _) => [1.0, 0.0],
                _ => [0.7 / (inputs as f64).sqrt(), 0.0],
            };
            let width = 12f64.sqrt() * deviation;
            let values = (0..shape.iter().product()).map(|_| (mean + width * (random.uniform() - 0.5)) as f32);
            weights.insert(&name, &shape, values.collect());
        }
        weights
    }
}

/// Random codes.
pub fn drawn(shape: &Shape, [height, width]: [usize; 2]) -> Vec<u32> {
    let mut random = Random::new(16);
    (0..height * width).map(|_| random.below(shape.codes) as u32).collect()
}

/// How a picture of these codes by kernels agrees with that in f64.
#[derive(Debug)]
pub struct Agreement {
    /// The smallest and the largest value of f64.
    pub range: [f64; 2],
    /// The largest distance.
    pub error: f64,
}

/// The most that [`Agreement::error`] may be.
pub const TOLERANCE: f64 = 1e-4;

/// Pixels `[height, width, 3]` that the kernels gave, beside f64.
pub fn compare(found: &[f32], weights: &Weights, shape: &Shape, codes: &[u32], size: [usize; 2]) -> Result<Agreement> {
    let picture = oracle::decode(weights, shape, codes, size)?;
    let (height, width) = (picture.height, picture.width);
    let last = |i: usize| picture.at(i % 3, i / 3 / width, i / 3 % width);
    let expected: Vec<f64> = (0..3 * height * width).map(last).collect();
    let range = expected.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], &x| [a.min(x), b.max(x)]);
    Ok(Agreement { range, error: host::distance(&host::exact(found), &expected) })
}

/// Random codes of this size, beside f64.
///
/// # Errors
/// Those of the kernels, and weights that are not there.
pub fn check(context: &Context, shape: Shape, weights: &Weights, size: [usize; 2]) -> Result<Agreement> {
    let codes = drawn(&shape, size);
    let found = decoder::Decoder::new(context, weights, shape, size)?.decode(&codes)?;
    compare(&found, weights, &shape, &codes, size)
}

/// A PNG file of pixels from -1 to 1.
fn write(path: &str, pixels: &[f32], [height, width]: [usize; 2]) -> Result<()> {
    if let Some(folder) = Path::new(path).parent() {
        fs::create_dir_all(folder)?;
    }
    let bytes: Vec<u8> = pixels.iter().map(|x| ((x.clamp(-1.0, 1.0) + 1.0) * 127.5).round() as u8).collect();
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(path)?), width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&bytes)?;
    writer.finish()?;
    Ok(())
}

fn main() -> Result<()> {
    let (mut weights, mut codes, mut out, mut size, mut check) = (None, None, None, [4, 4], true);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut next = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--weights" => weights = Some(next()?),
            "--codes" => codes = Some(next()?),
            "--out" => out = Some(next()?),
            "--size" => size = [next()?.parse()?, next()?.parse()?],
            "--no-check" => check = false,
            other => return Err(format!("{other} is unknown: see the head of examples/vqgan/main.rs").into()),
        }
    }
    let shape = F16_16384;
    let weights = weights.map_or_else(|| Ok(shape.random(1)), |path| Weights::safetensors(Path::new(&path)))?;
    let codes = match codes {
        Some(path) => {
            fs::read_to_string(path)?.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?
        }
        None => drawn(&shape, size),
    };

    let context = pollster::block_on(Context::new())?;
    let decoder = decoder::Decoder::new(&context, &weights, shape, size)?;
    decoder.decode(&codes)?; // once for the driver
    let start = Instant::now();
    let found = decoder.decode(&codes)?;
    let pixels = size.map(|codes| codes * RATIO);
    println!("{} codes to {} x {} pixels: {:.0?}", codes.len(), pixels[1], pixels[0], start.elapsed());
    if let Some(out) = out {
        write(&out, &found, pixels)?;
    }
    if check {
        let start = Instant::now();
        let Agreement { range: [least, most], error } = compare(&found, &weights, &shape, &codes, size)?;
        println!(
            "f64 on the host: {:.0?}; values from {least:.3} to {most:.3}, at most {error:.1e} apart",
            start.elapsed()
        );
        if error > TOLERANCE {
            return Err(format!("{error:.1e} is more than {TOLERANCE:.1e}").into());
        }
    }
    Ok(())
}
