//! Whether there is speech in a sound: silero-vad at 16 kHz (snakers4/silero-vad, MIT), by the wheel's `tinygrad_model.py`.
//!
//! ```text
//! per chunk of 512 samples, with the 64 before it and 64 mirrored behind:
//! spectrum   a convolution of 256 taps by 128, whose channels are real and imaginary parts   4 x 129 magnitudes
//! encoder    four convolutions of 3 taps with relu, two of them by 2                        128
//! memory     an LSTM cell (Hochreiter and Schmidhuber, 1997; the order of gates is PyTorch's: i, f, g, o)
//! head       sigmoid(w relu(h) + b)
//! ```
//!
//! All chunks of a call go through spectrum, encoder and head together, as overlapping rows of one buffer; only the cell goes from chunk to
//! chunk. Its state stays on the device for the next call. There is no op for a magnitude: with x = (re, im), RMS norm gives
//! y = x sqrt(2) / |x|, so that |x| is the sum of both x y, over sqrt(2); the sum and that factor are put into the weights of the first
//! convolution.

use std::f64::consts::TAU;
use std::path::Path;

use tileloom::activation::{self, Activation};
use tileloom::conv::{self, Bias, Border, Order, Padding};
use tileloom::norm::{self, Kind};
use tileloom::verify::random::Random;
use tileloom::{Context, Dispatch, Dtype, Layout, Tensor, axpby, gemm};

use super::host::{self, Layer, Picture};
use super::weights::Weights;
use super::{Agreement, Result, run};

/// Samples of a chunk.
pub const CHUNK: usize = 512;
/// Samples before a chunk that belong to it.
const CONTEXT: usize = 64;
const TAPS: usize = 256;
const HOP: usize = 128;
const BINS: usize = TAPS / 2 + 1;
const FRAMES: usize = 4;
/// Elements of the state.
const D: usize = 128;

/// Channels in and out and stride of the encoder's convolutions.
const ENCODER: [[usize; 3]; 4] = [[BINS, 128, 1], [128, 64, 2], [64, 64, 2], [64, D, 1]];

/// The network with its state.
pub struct Vad {
    context: Context,
    spectrum: Tensor<f32>,
    /// Weights and biases.
    encoder: Vec<[Tensor<f32>; 2]>,
    inputs: [Tensor<f32>; 2],
    hidden: [Tensor<f32>; 2],
    head: [Tensor<f32>; 2],
    /// The LSTM's h and c.
    h: Tensor<f32>,
    c: Tensor<f32>,
    /// The last samples of the call before.
    before: Vec<f32>,
}

impl Vad {
    /// In silence.
    pub fn new(context: &Context, weights: &Weights) -> Result<Vad> {
        let get = |name: &str, shape: &[usize]| -> Result<Tensor<f32>> {
            Ok(context.upload(weights.of(name, shape)?, shape)?)
        };
        let spectrum = weights.of("stft_conv.weight", &[2 * BINS, 1, TAPS])?;
        // Real and imaginary part of a bin beside each other.
        let pairs: Vec<f32> =
            (0..2 * BINS).flat_map(|row| &spectrum[(row / 2 + row % 2 * BINS) * TAPS..][..TAPS]).copied().collect();
        let mut encoder = Vec::new();
        for (i, [channels, outputs, _]) in ENCODER.into_iter().enumerate() {
            let (name, shape) = (format!("conv{}", i + 1), [outputs, channels, 3]);
            let weight = match i {
                0 => {
                    let twice = |taps: &[f32]| [taps, taps].concat().into_iter().map(|w| w * 0.5f32.sqrt());
                    let values: Vec<f32> = weights.of("conv1.weight", &shape)?.chunks(3).flat_map(twice).collect();
                    context.upload(&values, &[outputs, 2 * channels, 3])?
                }
                _ => get(&format!("{name}.weight"), &shape)?,
            };
            encoder.push([weight, get(&format!("{name}.bias"), &[outputs])?]);
        }
        let gates = |of: &str| -> Result<[Tensor<f32>; 2]> {
            Ok([get(&format!("lstm_cell.weight_{of}"), &[4 * D, D])?, get(&format!("lstm_cell.bias_{of}"), &[4 * D])?])
        };
        Ok(Vad {
            spectrum: context.upload(&pairs, &[2 * BINS, TAPS])?,
            encoder,
            inputs: gates("ih")?,
            hidden: gates("hh")?,
            head: [get("final_conv.weight", &[1, D, 1])?, get("final_conv.bias", &[1])?],
            h: context.zeros(&[D])?,
            c: context.zeros(&[D])?,
            before: vec![0.0; CONTEXT],
            context: context.clone(),
        })
    }

    /// The probability of speech in each chunk of what follows the sound of the calls before.
    pub fn hear(&mut self, sound: &[f32]) -> Result<Vec<f32>> {
        if sound.is_empty() || !sound.len().is_multiple_of(CHUNK) {
            return Err(format!("{} samples are not chunks of {CHUNK}", sound.len()).into());
        }
        let chunks = sound.len() / CHUNK;
        let samples = [&self.before[..], sound].concat();
        self.before = samples[samples.len() - CONTEXT..].to_vec();
        let x = self.context.upload(&samples, &[samples.len()])?;
        let mut steps = Vec::new();

        let features = self.encode(chunks, &x, &mut steps)?;
        let states = self.remember(chunks, &features, &mut steps)?;
        let y = self.decide(chunks, &states, &mut steps)?;

        let row = (D * size_of::<f32>()) as u64;
        let mut encoder = self.context.device().create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(self.h.buffer(), 0, states.buffer(), 0, row);
        run(&mut encoder, &steps);
        encoder.copy_buffer_to_buffer(states.buffer(), chunks as u64 * row, self.h.buffer(), 0, row);
        self.context.queue().submit([encoder.finish()]);
        Ok(pollster::block_on(y.read())?)
    }

    /// What the cell sees of each chunk: `[chunks, D]`. Channels are last on the way.
    fn encode(&self, chunks: usize, x: &Tensor<f32>, steps: &mut Vec<Dispatch>) -> Result<Tensor<f32>> {
        let kernels = self.context.kernels();
        let parts: Tensor<f32> = self.context.zeros(&[chunks, FRAMES, 2 * BINS])?;
        let problem = conv::Problem {
            batch: chunks,
            outputs: 2 * BINS,
            size: [1, CONTEXT + CHUNK],
            kernel: [1, TAPS],
            stride: [1, HOP],
            padding: Padding::Sides([0, 0, 0, CONTEXT]),
            border: Border::Reflect,
            order: Order::Nhwc,
            // One channel: chunks overlap by what lies before them.
            x_layout: Layout::strided(0, [CHUNK, CONTEXT + CHUNK, 1]),
            ..Default::default()
        };
        let buffers = conv::Buffers::new(x.buffer(), self.spectrum.buffer(), parts.buffer());
        steps.push(conv::prepare(kernels, &problem, buffers)?);

        let unit: Tensor<f32> = self.context.zeros(parts.shape())?;
        let problem = norm::Problem { rows: parts.len() / 2, cols: 2, eps: 1e-20, ..norm::Problem::of(Kind::Rms) };
        steps.push(norm::prepare(kernels, &problem, norm::Buffers::new(parts.buffer(), unit.buffer()))?);
        // unit = unit * parts, in place.
        let rows = [1, unit.len()];
        steps.push(self.gate(Activation::None, rows, [(&unit, 0), (&unit, 0)], Some((&parts, 0)))?);

        let (mut x, mut width) = (unit, FRAMES);
        for ([_, outputs, stride], [weight, bias]) in ENCODER.into_iter().zip(&self.encoder) {
            let problem = conv::Problem {
                batch: chunks,
                channels: weight.shape()[1],
                outputs,
                size: [1, width],
                kernel: [1, 3],
                stride: [1, stride],
                padding: Padding::Sides([0, 0, 1, 1]),
                order: Order::Nhwc,
                bias: Some(Bias::of(Dtype::F32)),
                activation: Activation::Relu,
                ..Default::default()
            };
            width = problem.out()[1];
            let y = self.context.zeros(&[chunks, width, outputs])?;
            let buffers = conv::Buffers::new(x.buffer(), weight.buffer(), y.buffer()).bias(bias.buffer());
            steps.push(conv::prepare(kernels, &problem, buffers)?);
            x = y;
        }
        Ok(x)
    }

    /// The cell's h: `[1 + chunks, D]`, of which the first is that of the call before.
    fn remember(&self, chunks: usize, x: &Tensor<f32>, steps: &mut Vec<Dispatch>) -> Result<Tensor<f32>> {
        let kernels = self.context.kernels();
        let states: Tensor<f32> = self.context.zeros(&[1 + chunks, D])?;
        let all: Tensor<f32> = self.context.zeros(&[chunks, 4 * D])?;
        let bias = gemm::Vector { dtype: Dtype::F32, along: gemm::Along::Columns, offset: 0 };
        let epilogue = gemm::Epilogue { bias: Some(bias), ..Default::default() };
        let product =
            |rows| gemm::Problem { trans_b: true, epilogue, ..gemm::Problem::new(rows, 4 * D, D, Dtype::F32) };
        let [weight, bias] = &self.inputs;
        let buffers = gemm::Buffers::new(x.buffer(), weight.buffer(), all.buffer()).bias(bias.buffer());
        steps.push(gemm::prepare(kernels, &product(chunks), buffers)?);

        let [weight, bias] = &self.hidden;
        let gates: Tensor<f32> = self.context.zeros(&[4 * D])?;
        let fresh: Tensor<f32> = self.context.zeros(&[D])?;
        let [i, f, g, o] = [0, 1, 2, 3].map(|gate| (&gates, gate * D));
        let (new, c, row) = ((&fresh, 0), (&self.c, 0), [1, D]);
        for chunk in 0..chunks {
            let at = |offset| gemm::Matrix { layout: Layout::at(offset), ..gemm::Matrix::new(Dtype::F32) };
            let problem = gemm::Problem { a: at(chunk * D), c: Some(at(chunk * 4 * D)), ..product(1) };
            let buffers = gemm::Buffers::new(states.buffer(), weight.buffer(), gates.buffer());
            steps.push(gemm::prepare(kernels, &problem, buffers.bias(bias.buffer()).c(all.buffer()))?);
            // c = sigmoid(f) c + sigmoid(i) tanh(g)
            steps.push(self.gate(Activation::Tanh, row, [g, new], None)?);
            steps.push(self.gate(Activation::Sigmoid, row, [i, new], Some(new))?);
            steps.push(self.gate(Activation::Sigmoid, row, [f, c], Some(c))?);
            let sum = axpby::Problem { cols: D, z: Some(Dtype::F32), ..Default::default() };
            let buffers = axpby::Buffers::new(self.c.buffer(), self.c.buffer()).z(fresh.buffer());
            steps.push(axpby::prepare(kernels, &sum, buffers)?);
            // h = sigmoid(o) tanh(c)
            steps.push(self.gate(Activation::Tanh, row, [c, new], None)?);
            steps.push(self.gate(Activation::Sigmoid, row, [o, (&states, (chunk + 1) * D)], Some(new))?);
        }
        Ok(states)
    }

    /// The probabilities.
    fn decide(&self, chunks: usize, states: &Tensor<f32>, steps: &mut Vec<Dispatch>) -> Result<Tensor<f32>> {
        let [active, y] = [D, 1].map(|cols| self.context.zeros::<f32>(&[chunks, cols]));
        let (active, y) = (active?, y?);
        steps.push(self.gate(Activation::Relu, [chunks, D], [(states, D), (&active, 0)], None)?);
        let problem = conv::Problem {
            channels: D,
            size: [1, chunks],
            order: Order::Nhwc,
            bias: Some(Bias::of(Dtype::F32)),
            activation: Activation::Sigmoid,
            ..Default::default()
        };
        let [weight, bias] = &self.head;
        let buffers = conv::Buffers::new(active.buffer(), weight.buffer(), y.buffer()).bias(bias.buffer());
        steps.push(conv::prepare(self.context.kernels(), &problem, buffers)?);
        Ok(y)
    }

    /// `y = act(x)`, or `act(x) up`; each from this element of a tensor.
    fn gate(
        &self,
        activation: Activation,
        [rows, cols]: [usize; 2],
        [x, y]: [(&Tensor<f32>, usize); 2],
        up: Option<(&Tensor<f32>, usize)>,
    ) -> Result<Dispatch> {
        let problem = activation::Problem {
            rows,
            cols,
            activation,
            x_layout: Layout::at(x.1),
            up: up.map(|_| Dtype::F32),
            up_layout: Layout::at(up.map_or(0, |up| up.1)),
            y_layout: Layout::at(y.1),
            ..Default::default()
        };
        let mut buffers = activation::Buffers::new(x.0.buffer(), y.0.buffer());
        if let Some((up, _)) = up {
            buffers = buffers.up(up.buffer());
        }
        Ok(activation::prepare(self.context.kernels(), &problem, buffers)?)
    }
}

/// The network in f64: the probability of each chunk.
fn heard(weights: &Weights, sound: &[f64]) -> Result<Vec<f64>> {
    let get = |name: &str, shape: &[usize]| weights.of(name, shape).map(host::exact);
    let layer = |name: &str, outputs, channels, taps| -> Result<Layer> {
        let weight = get(&format!("{name}.weight"), &[outputs, channels, taps])?;
        Ok(Layer { outputs, kernel: [1, taps], weight, bias: get(&format!("{name}.bias"), &[outputs])? })
    };
    let weight = get("stft_conv.weight", &[2 * BINS, 1, TAPS])?;
    let spectrum = Layer { outputs: 2 * BINS, kernel: [1, TAPS], weight, bias: vec![0.0; 2 * BINS] };
    let encoder: Vec<Layer> = (1..)
        .zip(ENCODER)
        .map(|(i, [channels, outputs, _])| layer(&format!("conv{i}"), outputs, channels, 3))
        .collect::<Result<_>>()?;
    let head = layer("final_conv", 1, D, 1)?;
    let [ih, hh] = ["weight_ih", "weight_hh"].map(|name| get(&format!("lstm_cell.{name}"), &[4 * D, D]));
    let [bias_ih, bias_hh] = ["bias_ih", "bias_hh"].map(|name| get(&format!("lstm_cell.{name}"), &[4 * D]));
    let (ih, hh, bias_ih, bias_hh) = (ih?, hh?, bias_ih?, bias_hh?);

    let samples = [vec![0.0; CONTEXT], sound.to_vec()].concat();
    let (mut h, mut c) = (vec![0.0; D], vec![0.0; D]);
    let mut probabilities = Vec::new();
    for chunk in 0..sound.len() / CHUNK {
        let x = samples[chunk * CHUNK..][..CONTEXT + CHUNK].to_vec();
        let parts = Picture::new([1, 1, x.len()], x).mirrored(CONTEXT).conv(&spectrum, [1, HOP]);
        let mut x = Picture::of([BINS, 1, FRAMES], |c, _, t| parts.at(c, 0, t).hypot(parts.at(c + BINS, 0, t)));
        for (layer, [_, _, stride]) in encoder.iter().zip(ENCODER) {
            x = x.padded([0, 0, 1, 1]).conv(layer, [1, stride]).map(host::relu);
        }
        let dot = |row: &[f64], x: &[f64]| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
        let gates: Vec<f64> = (0..4 * D)
            .map(|j| bias_ih[j] + bias_hh[j] + dot(&ih[j * D..][..D], &x.values) + dot(&hh[j * D..][..D], &h))
            .collect();
        for (d, (h, c)) in h.iter_mut().zip(&mut c).enumerate() {
            let [i, f, g, o] = [0, 1, 2, 3].map(|gate| gates[gate * D + d]);
            *c = host::sigmoid(f) * *c + host::sigmoid(i) * g.tanh();
            *h = host::sigmoid(o) * c.tanh();
        }
        let active: Vec<f64> = h.iter().map(|&h| host::relu(h)).collect();
        probabilities.push(host::sigmoid(head.bias[0] + dot(&head.weight, &active)));
    }
    Ok(probabilities)
}

/// Sounds, one after the other, of 8 chunks each: silence, a sine, noise, a chirp, vowels, a whisper, silence.
fn generated() -> Vec<f32> {
    let mut random = Random::new(19);
    let (part, rate) = (8 * CHUNK, 16000.0);
    // The states of three resonances, for vowels.
    let mut resonances = [[0.0; 2]; 3];
    let mut sample = |i: usize| -> f64 {
        let (t, noise) = ((i % part) as f64 / rate, random.normal());
        match i / part {
            1 => 0.5 * (TAU * 440.0 * t).sin() + 0.2 * (TAU * 1320.0 * t).sin(),
            2 => 0.1 * noise,
            3 => 0.7 * (TAU * (100.0 * t + 14000.0 * t * t)).sin(),
            4 | 5 => {
                // Pulses of a voice of about 120 Hz, through what mouths do to it: a, then i.
                let pitch = 120.0 + 20.0 * (TAU * 3.0 * t).sin();
                let pulse = if (t * pitch).fract() < pitch / rate { 1.0 } else { 0.02 * noise };
                let formants = if i / part == 4 { [730.0, 1090.0, 2440.0] } else { [270.0, 2290.0, 3010.0] };
                let voice: f64 = formants
                    .iter()
                    .zip(&mut resonances)
                    .map(|(formant, state)| {
                        let radius = 1.0 - 250.0 / rate;
                        let y =
                            pulse + 2.0 * radius * (TAU * formant / rate).cos() * state[0] - radius * radius * state[1];
                        *state = [y, state[0]];
                        y
                    })
                    .sum();
                0.1 * voice * (0.6 + 0.4 * (TAU * 4.0 * t).sin())
            }
            6 => 0.002 * noise,
            _ => 0.0,
        }
    };
    (0..8 * part).map(&mut sample).map(|x| x as f32).collect()
}

/// The network on generated sound, in calls of different lengths, beside f64.
///
/// # Errors
/// Those of the kernels, and weights that are not there.
pub fn check(context: &Context, folder: &Path) -> Result<Agreement> {
    let weights = Weights::safetensors(&folder.join("silero_vad/silero_vad_16k.safetensors"))?;
    let sound = generated();
    let mut vad = Vad::new(context, &weights)?;
    let mut found = Vec::new();
    let (mut rest, mut lengths) = (&sound[..], [1, 2, 3, 10].into_iter().chain(std::iter::repeat(24)));
    while !rest.is_empty() {
        let call = (lengths.next().unwrap_or(1) * CHUNK).min(rest.len());
        found.extend(vad.hear(&rest[..call])?);
        rest = &rest[call..];
    }
    let expected = heard(&weights, &host::exact(&sound))?;
    Ok(Agreement::new("silero_vad: probabilities of speech", &found, &expected, 1e-4))
}
