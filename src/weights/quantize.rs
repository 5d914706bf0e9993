//! From plain weights to int8 and 4 bits, with the error told.

use std::sync::Mutex;

use half::f16;

use super::pack::{Data, Matrix, Named, Rows};
use super::{Code, Format, Packed, Scales};
use crate::Dtype;
use crate::error::{Checked, ErrorKind, Result};
use crate::layout::product;

/// How far decoded weights are from those that they were made of.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Loss {
    /// The largest distance.
    pub max: f64,
    /// The root of the mean square of distances.
    pub rms: f64,
}

/// A group of weights: its scale, its offset, its codes, and the sum of squared errors.
struct Group {
    scale: f32,
    offset: f32,
    codes: Vec<u8>,
    error: f64,
}

impl Format {
    /// Packs plain weights W `[n, k]` of f32, f16 or bf16: into [`INT8`](Format::INT8), or groups of int8 as
    /// [`Q8_0`](Format::Q8_0) or of 4 bits as [`Q4_0`](Format::Q4_0) and [`Q4_1`](Format::Q4_1), of any size of group. int8 has the scale
    /// `max|w| / 127`; of 4 bits that scale, and offset, is taken of a few dozen whose squared error is least.
    ///
    /// # Errors
    /// [`ErrorKind::Tensor`] for another format, data of another length, a weight that is not finite, and a scale that f16 cannot hold.
    pub fn quantize(&self, name: &str, n: usize, k: usize, weights: Data, dtype: Dtype) -> Result<(Packed, Loss)> {
        let [code_words, scale_words] = self.words(name, n, k)?;
        let mut packed = Packed { format: *self, n, k, codes: vec![0; code_words], scales: vec![0; scale_words] };
        let found = quantize(Named(name), weights, dtype, &mut packed);
        let loss = found.map_err(|kind: ErrorKind| kind.of("weights"))?;
        Ok((packed, loss))
    }
}

fn quantize(name: Named, weights: Data, dtype: Dtype, packed: &mut Packed) -> Checked<Loss> {
    let Packed { format, n, k, codes, scales } = packed;
    let (format, n, k) = (&*format, *n, *k);
    let fit: fn(&[f32], bool) -> Group = match (format.code, format.scales) {
        (Code::Int8, Scales::Float | Scales::Half) => int8,
        (Code::Bits4, Scales::HalfLess8) => symmetric,
        (Code::Bits4, Scales::HalfOffset) => affine,
        _ => return name.fault(format!("plain weights are not packed into {format:?}")),
    };
    if format.order > 0 {
        return name.fault("plain weights have no order of columns".into());
    }
    let group = if format.group == 0 { k } else { format.group as usize };
    let bytes = dtype.bytes() as usize;
    // Rows are packed by several cores: the first fault by row, and errors in the order of rows, whatever their number.
    let told = Mutex::new((None::<(usize, String)>, vec![(0f64, 0f64); n]));
    let tell = |row: usize, what: std::result::Result<(f64, f64), String>| {
        let mut told = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match what {
            Ok(errors) => told.1[row] = errors,
            Err(reason) if told.0.as_ref().is_none_or(|(first, _)| row < *first) => told.0 = Some((row, reason)),
            Err(_) => {}
        }
    };
    let matrix = Matrix { format, name, n, k };
    matrix.rows(
        weights,
        |rows| product!(rows, k, bytes),
        codes,
        scales,
        |from, base, first, count, out| {
            for row in 0..count {
                let from = &from[(first + row) * k * bytes..][..k * bytes];
                tell(
                    base + first + row,
                    pack_row(format, group, fit, base + first + row, row, &dtype.decode(from), out),
                );
            }
        },
    )?;
    let (fault, rows) = told.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, reason)) = fault {
        return name.fault(reason);
    }
    let (max, sum) = rows.iter().fold((0f64, 0f64), |(max, sum), &(m, s)| (max.max(m), sum + s));
    Ok(Loss { max, rms: (sum / (n as f64 * k as f64)).sqrt() })
}

/// Packs a row; its largest error, and the sum of its squared errors.
fn pack_row(
    format: &Format,
    group: usize,
    fit: fn(&[f32], bool) -> Group,
    number: usize,
    row: usize,
    weights: &[f64],
    out: &mut Rows,
) -> std::result::Result<(f64, f64), String> {
    if let Some(c) = weights.iter().position(|w| !w.is_finite()) {
        return Err(format!("weight [{number}, {c}] is {}", weights[c]));
    }
    let halves = format.scales != Scales::Float;
    let (mut max, mut sum) = (0f64, 0f64);
    for (g, weights) in weights.chunks(group).enumerate() {
        let values: Vec<f32> = weights.iter().map(|&w| w as f32).collect();
        let Group { scale, offset, codes, .. } = fit(&values, halves);
        if !scale.is_finite() || !offset.is_finite() {
            return Err(format!("weights [{number}, {}..] have a scale that f16 cannot hold", g * group));
        }
        let half = |value: f32| u32::from(f16::from_f32(value).to_bits());
        match format.scales {
            Scales::Float => out.scale(row, g, scale.to_bits()),
            Scales::HalfOffset => out.scale(row, g, half(scale) | half(offset) << 16),
            _ => out.scale(row, g / 2, half(scale) << (16 * (g % 2))),
        }
        for (i, (&code, &weight)) in codes.iter().zip(weights).enumerate() {
            let at = g * group + i;
            let value = match format.code {
                Code::Int8 => f64::from(scale) * f64::from(code as i8),
                _ if format.scales == Scales::HalfLess8 => f64::from(scale) * (f64::from(code) - 8.0),
                _ => f64::from(scale) * f64::from(code) + f64::from(offset),
            };
            match format.code {
                Code::Int8 => out.set(row, at / 4, u32::from(code) << (8 * (at % 4))),
                _ => out.set(row, at / 8, u32::from(code) << (4 * (at % 8))),
            }
            max = max.max((value - weight).abs());
            sum += (value - weight) * (value - weight);
        }
    }
    Ok((max, sum))
}

fn rounded(value: f32, halves: bool) -> f32 {
    if halves { f16::from_f32(value).to_f32() } else { value }
}

/// The code of each weight that `scale` and `offset` take nearest to it, from `least` to `most`.
fn nearest(weights: &[f32], scale: f32, offset: f32, least: f32, most: f32) -> Group {
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let mut error = 0.0;
    let code = |&w: &f32| {
        let code = ((w - offset) * inverse).round_ties_even().clamp(least, most);
        let distance = f64::from(w) - (f64::from(scale) * f64::from(code) + f64::from(offset));
        error += distance * distance;
        (code as i32) as u8
    };
    let codes = weights.iter().map(code).collect();
    Group { scale, offset, codes, error }
}

fn int8(weights: &[f32], halves: bool) -> Group {
    let largest = weights.iter().fold(0f32, |largest, w| largest.max(w.abs()));
    nearest(weights, rounded(largest / 127.0, halves), 0.0, -127.0, 127.0)
}

/// The better of two.
fn better(best: Group, other: Group) -> Group {
    if other.error < best.error || !best.error.is_finite() { other } else { best }
}

/// Codes less 8, from -8 to 7: scales around that which takes the largest weight to -8, or to 7, each fitted to its codes by least squares.
fn symmetric(weights: &[f32], halves: bool) -> Group {
    let largest = weights.iter().fold(0f32, |largest, &w| if w.abs() > largest.abs() { w } else { largest });
    let at = |scale: f32| nearest(weights, rounded(scale, halves), 0.0, -8.0, 7.0);
    let mut best = at(largest / -8.0);
    if !best.scale.is_finite() {
        return best;
    }
    for end in [-8.0, 7.0] {
        for step in -4..=8i8 {
            let tried = at(largest / (end + 0.1 * f32::from(step) * f32::signum(end)));
            let (mut with, mut square) = (0f64, 0f64);
            for (&w, &code) in weights.iter().zip(&tried.codes) {
                let code = f64::from(code as i8);
                (with, square) = (with + f64::from(w) * code, square + code * code);
            }
            let fitted = if square > 0.0 { at((with / square) as f32) } else { at(0.0) };
            best = better(better(best, tried), fitted);
        }
    }
    best.codes.iter_mut().for_each(|code| *code = code.wrapping_add(8));
    best
}

/// Codes from 0 to 15: ranges around that of the weights, scale and offset fitted by least squares.
fn affine(weights: &[f32], halves: bool) -> Group {
    let ends = weights.iter().fold((f32::MAX, f32::MIN), |(least, most), &w| (least.min(w), most.max(w)));
    let (least, range) = (ends.0, ends.1 - ends.0);
    let at = |scale: f32, offset: f32| nearest(weights, rounded(scale, halves), rounded(offset, halves), 0.0, 15.0);
    let mut best = at(range / 15.0, least);
    if !best.scale.is_finite() || !best.offset.is_finite() {
        return best;
    }
    for step in -8..=12i8 {
        let tried = at(range / (15.0 + 0.1 * f32::from(step)), least);
        let count = weights.len() as f64;
        let mut sums = [0f64; 4];
        for (&w, &code) in weights.iter().zip(&tried.codes) {
            let (w, code) = (f64::from(w), f64::from(code));
            sums = [sums[0] + w, sums[1] + code, sums[2] + w * code, sums[3] + code * code];
        }
        let [w, c, wc, cc] = sums;
        let spread = count * cc - c * c;
        if spread > 0.0 {
            let scale = (count * wc - w * c) / spread;
            best = better(best, at(scale as f32, ((w - scale * c) / count) as f32));
        }
        best = better(best, tried);
    }
    best
}
