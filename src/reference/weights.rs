//! Packed weights, and the formats of checkpoints, by their definitions.
//!
//! [`decode`] reads the two buffers of a packed matrix as [`Format`] lays them out. [`checkpoint`] reads the tensors of a
//! checkpoint as ggml-quants.c (`dequantize_row_*`), AutoGPTQ, AutoAWQ and bitsandbytes do. Neither knows of the other, nor of the
//! packer. In f64 both are exact; in f32 every step is rounded as the formats have it.

use super::Real;
use crate::weights::{Code, Data, E2M1, Format, IQ4_NL, NF4, Scales, Source};

/// The value of e4m3fn bits (OCP 8-bit Floating Point Specification): 4 bits of exponent, less 7, and 3 of mantissa; no infinity, and
/// NaN is 0x7f and 0xff.
pub fn e4m3(bits: u8) -> f64 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f64::from(bits & 7));
    let magnitude = match (exponent, bits & 7) {
        (15, 7) => f64::NAN,
        (0, _) => mantissa / 8.0 * 2f64.powi(-6),
        _ => (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
    };
    if bits < 128 { magnitude } else { -magnitude }
}

fn f16(bits: u32) -> f64 {
    half::f16::from_bits(bits as u16).to_f64()
}

/// GGML's 6-bit scale and minimum `j` of 8, of the 12 bytes `q` (ggml-quants.c, `get_scale_min_k4`).
fn scale_min(j: usize, q: &[u8]) -> [f64; 2] {
    let [scale, min] = match j {
        0..4 => [q[j] & 63, q[j + 4] & 63],
        _ => [q[j + 4] & 15 | q[j - 4] >> 6 << 4, q[j + 4] >> 4 | q[j] >> 6 << 4],
    };
    [scale, min].map(f64::from)
}

/// A packed matrix of rows of k, element by element.
struct Matrix<'a> {
    format: &'a Format,
    k: usize,
    codes: &'a [u32],
    scales: &'a [u32],
}

impl Matrix<'_> {
    /// Word `w` of row `r` of a buffer of `words` words per row.
    fn word(&self, buffer: &[u32], words: u64, r: usize, w: usize) -> u32 {
        let wide = self.format.interleave as usize;
        buffer[(r / wide * words as usize + w) * wide + r % wide]
    }

    fn scale_word(&self, r: usize, w: usize) -> u32 {
        let rows = &self.scales[self.format.order_words(self.k) as usize..];
        self.word(rows, self.format.scale_words(self.k), r, w)
    }

    /// f16 number `i` of a row's scales, counted from word `w`.
    fn half(&self, r: usize, w: usize, i: usize) -> f64 {
        f16(self.scale_word(r, w + i / 2) >> (16 * (i % 2)))
    }

    fn byte(&self, r: usize, w: usize, i: usize) -> u8 {
        self.scale_word(r, w + i / 4).to_le_bytes()[i % 4]
    }

    /// The bits of packed column `p` of row `r`.
    fn code(&self, r: usize, p: usize) -> u32 {
        let Matrix { format, k, codes, .. } = *self;
        let (words, high) = (format.code_words(k), format.packed_k(k) as usize / 8);
        let word = |w: usize| self.word(codes, words, r, w);
        match format.bits() {
            4 => word(p / 8) >> (4 * (p % 8)) & 15,
            5 => word(p / 8) >> (4 * (p % 8)) & 15 | (word(high + p / 32) >> (p % 32) & 1) << 4,
            6 => word(p / 8) >> (4 * (p % 8)) & 15 | (word(high + p / 16) >> (2 * (p % 16)) & 3) << 4,
            _ => word(p / 4) >> (8 * (p % 4)) & 255,
        }
    }

    /// The number that a code stands for.
    fn number(&self, code: u32) -> f64 {
        match (self.format.table(), self.format.code) {
            (Some(table), _) => f64::from(table[code as usize]),
            (_, Code::Int8) => f64::from(code as u8 as i8),
            (_, Code::E4m3) => e4m3(code as u8),
            _ => f64::from(code),
        }
    }

    /// W[r, c].
    fn value<R: Real>(&self, r: usize, c: usize) -> R {
        let Matrix { format, k, scales, .. } = *self;
        let p = match format.order {
            0 => c,
            _ => scales[format.packed_k(k) as usize + c] as usize,
        };
        let number = self.number(self.code(r, p));
        let g = if format.group == 0 { 0 } else { p / format.group as usize };
        let groups = format.groups(k) as usize;
        let (s, less) = match format.scales {
            Scales::HalfLess8 => (self.half(r, 0, g), 8.0),
            Scales::HalfLess16 => (self.half(r, 0, g), 16.0),
            Scales::Half => (self.half(r, 0, g), 0.0),
            Scales::HalfOffset => {
                let word = self.scale_word(r, g);
                return sub(R::of(f16(word)) * R::of(number), R::of(-f16(word >> 16)));
            }
            Scales::HalfZero => (self.half(r, 0, g), f64::from(self.byte(r, groups.div_ceil(2), g))),
            Scales::Float => (f64::from(f32::from_bits(self.scale_word(r, g))), 0.0),
            Scales::Exponent => (2f64.powi(i32::from(self.byte(r, 0, g)) - 128), 0.0),
            Scales::K => {
                let (block, sub_block) = (p / 256, p / 32 % 8);
                let q: Vec<u8> = (1..4).flat_map(|w| self.scale_word(r, 4 * block + w).to_le_bytes()).collect();
                let [scale, min] = scale_min(sub_block, &q);
                let [d, e] = [0, 1].map(|i| self.half(r, 4 * block, i));
                return sub(R::of(d) * R::of(scale) * R::of(number), R::of(e) * R::of(min));
            }
            Scales::K6 => {
                let (block, of) = (p / 256, p / 16 % 16);
                let scale = self.byte(r, 4 * block, of) as i8;
                let d = self.half(r, 4 * (k / 256), block);
                return R::of(d) * R::of(scale.into()) * R::of(number - 32.0);
            }
            Scales::Block => (f64::from(f32::from_bits(scales[r / 128 * k.div_ceil(128) + c / 128])), 0.0),
            Scales::Flat => (f64::from(f32::from_bits(scales[(r * k + c) / 64])), 0.0),
        };
        R::of(s) * R::of(number - less)
    }
}

fn sub<R: Real>(a: R, b: R) -> R {
    a - b
}

/// W `[n, k]` of its two buffers.
///
/// # Panics
/// If these are too short.
pub fn decode<R: Real>(format: &Format, n: usize, k: usize, codes: &[u32], scales: &[u32]) -> Vec<f64> {
    let matrix = Matrix { format, k, codes, scales };
    (0..n).flat_map(|r| (0..k).map(move |c| (r, c))).map(|(r, c)| matrix.value::<R>(r, c).f64()).collect()
}

/// Row `r` of [`decode`].
///
/// # Panics
/// As there.
pub fn decode_row<R: Real>(format: &Format, k: usize, codes: &[u32], scales: &[u32], r: usize) -> Vec<f64> {
    let matrix = Matrix { format, k, codes, scales };
    (0..k).map(|c| matrix.value::<R>(r, c).f64()).collect()
}

fn u32_at(bytes: &[u8], i: usize) -> u32 {
    u32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]])
}

fn f16_at(bytes: &[u8], i: usize) -> f64 {
    f16(u32::from(bytes[2 * i]) | u32::from(bytes[2 * i + 1]) << 8)
}

fn f32_at(bytes: &[u8], i: usize) -> f64 {
    f64::from(f32::from_bits(u32_at(bytes, i)))
}

/// A block of GGML's type `format`: what `dequantize_row_*` makes of it.
fn ggml_block<R: Real>(format: &Format, block: &[u8]) -> Vec<R> {
    let low = |byte: u8| f64::from(byte & 15);
    let high = |byte: u8| f64::from(byte >> 4);
    let d = f16_at(block, 0);
    // Codes 0 to 15 of 32 are low nibbles, 16 to 31 high ones.
    let halves = |qs: &[u8]| -> Vec<f64> { qs.iter().map(|&b| low(b)).chain(qs.iter().map(|&b| high(b))).collect() };
    let times = |s: f64, codes: Vec<f64>| codes.into_iter().map(|c| R::of(s) * R::of(c)).collect();
    match (format.code, format.scales) {
        (Code::Bits4, Scales::HalfLess8) => times(d, halves(&block[2..]).iter().map(|c| c - 8.0).collect()),
        (Code::Bits4, Scales::HalfOffset) => {
            let m = f16_at(block, 1);
            halves(&block[4..]).iter().map(|&c| sub(R::of(d) * R::of(c), R::of(-m))).collect()
        }
        (Code::Bits5, Scales::HalfLess16 | Scales::HalfOffset) => {
            let less = format.scales == Scales::HalfLess16;
            let at = if less { 2 } else { 4 };
            let qh = u32_at(&block[at..], 0);
            let fifth = |(i, c): (usize, &f64)| c + 16.0 * f64::from(qh >> i & 1);
            let codes: Vec<f64> = halves(&block[at + 4..]).iter().enumerate().map(fifth).collect();
            match less {
                true => times(d, codes.iter().map(|c| c - 16.0).collect()),
                false => codes.iter().map(|&c| sub(R::of(d) * R::of(c), R::of(-f16_at(block, 1)))).collect(),
            }
        }
        (Code::Int8, _) => times(d, block[2..].iter().map(|&b| f64::from(b as i8)).collect()),
        (Code::Iq4Nl, _) => times(d, halves(&block[2..]).iter().map(|&c| f64::from(IQ4_NL[c as usize])).collect()),
        (Code::E2m1, _) => {
            let e = 2f64.powi(i32::from(block[0]) - 128);
            times(e, halves(&block[1..]).iter().map(|&c| f64::from(E2M1[c as usize])).collect())
        }
        (Code::Bits4 | Code::Bits5, _) => {
            let (min, five) = (f16_at(block, 1), format.code == Code::Bits5);
            let (qh, qs) = block[16..].split_at(if five { 32 } else { 0 });
            let mut out = Vec::new();
            for j in 0..8 {
                let [scale, m] = scale_min(j, &block[4..16]);
                for l in 0..32 {
                    let byte = qs[32 * (j / 2) + l];
                    let nibble = if j % 2 == 0 { low(byte) } else { high(byte) };
                    let fifth = if five { 16.0 * f64::from(qh[l] >> j & 1) } else { 0.0 };
                    out.push(sub(R::of(d) * R::of(scale) * R::of(nibble + fifth), R::of(min) * R::of(m)));
                }
            }
            out
        }
        _ => {
            let d = f16_at(&block[208..], 0);
            let mut out = Vec::new();
            for half in 0..2 {
                let (ql, qh, sc) = (&block[64 * half..], &block[128 + 32 * half..], &block[192 + 8 * half..]);
                for q in 0..4 {
                    for l in 0..32 {
                        let byte = ql[32 * (q % 2) + l];
                        let nibble = if q < 2 { low(byte) } else { high(byte) };
                        let code = nibble + 16.0 * f64::from(qh[l] >> (2 * q) & 3);
                        let scale = f64::from(sc[2 * q + l / 16] as i8);
                        out.push(R::of(d) * R::of(scale) * R::of(code - 32.0));
                    }
                }
            }
            out
        }
    }
}

/// W `[n, k]` of the tensors of a checkpoint. `format` tells GGML's type, and the group of GPTQ and AWQ.
///
/// # Panics
/// If the tensors do not hold n rows of k, are read from a reader, or the format is none of GGML's that should be.
pub fn checkpoint<R: Real>(format: &Format, n: usize, k: usize, source: &Source) -> Vec<f64> {
    let bytes = |data: &Data| match data {
        Data::Bytes(bytes) => bytes.to_vec(),
        Data::Read(_) => panic!("a checkpoint is decoded from memory"),
    };
    let all = (0..n).flat_map(|r| (0..k).map(move |c| (r, c)));
    // Of GPTQ and AWQ: columns that share a scale, where `g_idx` does not tell.
    let group = |groups: usize| if format.order == 0 { format.group as usize } else { k.div_ceil(groups) };
    let scaled = |s: f64, number: f64| (R::of(s) * R::of(number)).f64();
    match source {
        Source::Ggml(weight) => {
            let (len, _) = format.ggml_block().expect("a type of GGML");
            bytes(weight).chunks_exact(len).flat_map(|block| ggml_block::<R>(format, block)).map(R::f64).collect()
        }
        Source::Int8 { weight, scale, dtype } => {
            let (weight, scale) = (bytes(weight), dtype.decode(scale));
            all.map(|(r, c)| scaled(scale[r], f64::from(weight[r * k + c] as i8))).collect()
        }
        Source::Fp8 { weight, scale } => {
            let weight = bytes(weight);
            let block = |r: usize, c: usize| f32_at(scale, r / 128 * k.div_ceil(128) + c / 128);
            all.map(|(r, c)| scaled(block(r, c), e4m3(weight[r * k + c]))).collect()
        }
        Source::Gptq { qweight, qzeros, scales, g_idx, zero_offset } => {
            let (qweight, groups) = (bytes(qweight), scales.len() / 2 / n);
            let value = |(r, c): (usize, usize)| {
                let g = g_idx.map_or(c / group(groups), |g_idx| u32_at(g_idx, c) as usize);
                let code = u32_at(&qweight, c / 8 * n + r) >> (4 * (c % 8)) & 15;
                let zero = u32_at(qzeros, g * n.div_ceil(8) + r / 8) >> (4 * (r % 8)) & 15;
                scaled(f16_at(scales, g * n + r), f64::from(code) - f64::from(zero + zero_offset))
            };
            all.map(value).collect()
        }
        Source::Awq { qweight, qzeros, scales } => {
            let (qweight, groups) = (bytes(qweight), scales.len() / 2 / n);
            // Nibble i of a word is this column of its eight.
            let order = [0, 2, 4, 6, 1, 3, 5, 7];
            let nibble = |r: usize| order.iter().position(|&column| column == r % 8).expect("one of eight");
            let value = |(r, c): (usize, usize)| {
                let g = c / group(groups);
                let code = u32_at(&qweight, c * n.div_ceil(8) + r / 8) >> (4 * nibble(r)) & 15;
                let zero = u32_at(qzeros, g * n.div_ceil(8) + r / 8) >> (4 * nibble(r)) & 15;
                scaled(f16_at(scales, g * n + r), f64::from(code) - f64::from(zero))
            };
            all.map(value).collect()
        }
        Source::Nf4 { weight, absmax } => {
            let weight = bytes(weight);
            let value = |i: usize| {
                let byte = weight[i / 2];
                let code = if i.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
                scaled(f32_at(absmax, i / 64), f64::from(NF4[usize::from(code)]))
            };
            (0..n * k).map(value).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What both precisions make of a block of GGML, at these places.
    fn ggml(format: Format, bytes: &[u8], expected: &[(usize, f64)]) {
        let (len, codes) = format.ggml_block().expect("a type of GGML");
        let mut block = bytes.to_vec();
        block.resize(len, 0);
        let source = Source::Ggml(Data::Bytes(&block));
        for found in [checkpoint::<f64>(&format, 1, codes, &source), checkpoint::<f32>(&format, 1, codes, &source)] {
            assert_eq!(found.len(), codes);
            for &(at, value) in expected {
                assert_eq!(found[at], value, "{format:?} [{at}]");
            }
        }
    }

    // 0.5 in f16 is 0x3800, 0.25 0x3400, -2 0xc000. The nibbles of 0xf0 are codes 0 (low) and 15 (high), of 0x18 8 and 1;
    // the low nibble of byte j is code j, the high one code j + 16.
    #[test]
    fn blocks_of_32() {
        // 0.5 (0 - 8), 0.5 (8 - 8), 0.5 (15 - 8), 0.5 (1 - 8); what follows is code 0.
        ggml(Format::Q4_0, &[0, 0x38, 0xf0, 0x18], &[(0, -4.0), (1, 0.0), (2, -4.0), (16, 3.5), (17, -3.5)]);
        // 0.5 * 0 - 2, 0.5 * 8 - 2, 0.5 * 15 - 2, 0.5 * 1 - 2.
        ggml(Format::Q4_1, &[0, 0x38, 0, 0xc0, 0xf0, 0x18], &[(0, -2.0), (1, 2.0), (16, 5.5), (17, -1.5)]);
        // Fifth bits of codes 0 and 17: codes 16, 8, 15, 17; 0.5 (c - 16).
        let fifth = [1, 0, 2, 0];
        let q5_0 = [&[0, 0x38], &fifth[..], &[0xf0, 0x18]].concat();
        ggml(Format::Q5_0, &q5_0, &[(0, 0.0), (1, -4.0), (16, -0.5), (17, 0.5)]);
        // 0.5 c - 2.
        let q5_1 = [&[0, 0x38, 0, 0xc0], &fifth[..], &[0xf0, 0x18]].concat();
        ggml(Format::Q5_1, &q5_1, &[(0, 6.0), (1, 2.0), (16, 5.5), (17, 6.5)]);
        // 0.25 * -128, 0.25 * 127, 0.25 * 1.
        ggml(Format::Q8_0, &[0, 0x34, 0x80, 0x7f, 1], &[(0, -32.0), (1, 31.75), (2, 0.25), (31, 0.0)]);
        // 0.5 times the table's -127, 1, 113, -104.
        ggml(Format::IQ4_NL, &[0, 0x38, 0xf0, 0x18], &[(0, -63.5), (1, 0.5), (16, 56.5), (17, -52.0)]);
        // 2^(127 - 127) times e2m1's 0, -0, -6, 0.5; of exponent 0 2^-127 of them, of 255 2^128.
        ggml(Format::MXFP4, &[127, 0xf0, 0x18], &[(0, 0.0), (1, 0.0), (16, -6.0), (17, 0.5)]);
        ggml(Format::MXFP4, &[0, 0xf0, 0x18], &[(16, -6.0 * 2f64.powi(-127)), (17, 2f64.powi(-128))]);
        ggml(Format::MXFP4, &[255, 0, 0x18], &[(17, 2f64.powi(127))]);
    }

    #[test]
    fn blocks_of_256() {
        // d 0.5, dmin 0.25. Scale and minimum of codes 0 to 31: 0x43 & 63 = 3, 0x85 & 63 = 5; of 32 to 63: 2, 1; of 128 to 159
        // 0x21 & 15 | 0x43 >> 6 << 4 = 17, 0x21 >> 4 | 0x85 >> 6 << 4 = 34.
        let head = [0, 0x38, 0, 0x34, 0x43, 2, 0, 0, 0x85, 1, 0, 0, 0x21, 0, 0, 0];
        let mut qs = [0; 128];
        (qs[0], qs[64]) = (0x2f, 0x07);
        // 0.5 * 3 * 15 - 0.25 * 5, 0.5 * 2 * 2 - 0.25 * 1, 0.5 * 17 * 7 - 0.25 * 34.
        ggml(Format::Q4_K, &[&head[..], &qs].concat(), &[(0, 21.25), (1, -1.25), (32, 1.75), (128, 51.0), (255, 0.0)]);
        // Fifth bits of codes 0 and 128: 31 and 23 in place of 15 and 7.
        let mut qh = [0; 32];
        qh[0] = 0x11;
        ggml(Format::Q5_K, &[&head[..], &qh, &qs].concat(), &[(0, 45.25), (1, -1.25), (32, 1.75), (128, 187.0)]);

        // Codes 0, 32, 64, 96: low nibbles 10 and 1, high ones 5 and 0, upper bits 0 1 2 3 of 0xe4: 10, 17, 37, 48.
        let mut block = [0u8; 210];
        (block[0], block[32], block[128]) = (0x5a, 0x01, 0xe4);
        // Code 128: 15 + 16 * 3.
        (block[64], block[160]) = (0x0f, 3);
        // Scales of 0, 32, 64, 96, 128: 2, -3, 1, -128, 5.
        for (i, scale) in [(0, 2i8), (2, -3), (4, 1), (6, -128), (8, 5)] {
            block[192 + i] = scale as u8;
        }
        block[209] = 0x38;
        // 0.5 * 2 (10 - 32), 0.5 * -3 (17 - 32), 0.5 * 1 (37 - 32), 0.5 * -128 (48 - 32), 0.5 * 5 (63 - 32).
        let expected = [(0, -22.0), (1, -32.0), (32, 22.5), (64, 2.5), (96, -1024.0), (128, 77.5), (16, 0.0)];
        ggml(Format::Q6_K, &block, &expected);
    }

    #[test]
    fn e4m3_by_hand() {
        // 2^0 1.0, 2^8 1.75, 2^-6 1/8, 2^-6 1.0.
        let expected = [(0x38, 1.0), (0x7e, 448.0), (0x01, 0.001953125), (0x08, 0.015625), (0x00, 0.0), (0xb8, -1.0)];
        for (bits, value) in expected {
            assert_eq!(e4m3(bits), value, "{bits:x}");
        }
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan() && e4m3(0x80).is_sign_negative());
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn words(values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn rows_and_blocks() {
        let scale = floats(&[0.5, 2.0]);
        let source =
            Source::Int8 { weight: Data::Bytes(&[0xff, 0x80, 3, 127]), scale: &scale, dtype: crate::Dtype::F32 };
        // 0.5 * -1, 0.5 * -128, 2 * 3, 2 * 127.
        assert_eq!(checkpoint::<f32>(&Format::INT8, 2, 2, &source), [-0.5, -64.0, 6.0, 254.0]);
        // Rows 0 and 128, columns 0 and 128: four blocks of scales 2, 3, 5, 7 of 1.0.
        let (weight, scale) = ([0x38; 129 * 129], floats(&[2.0, 3.0, 5.0, 7.0]));
        let source = Source::Fp8 { weight: Data::Bytes(&weight), scale: &scale };
        let found = checkpoint::<f64>(&Format::FP8, 129, 129, &source);
        assert_eq!([found[0], found[128], found[128 * 129], found[128 * 129 + 128]], [2.0, 3.0, 5.0, 7.0]);
        // Three rows of 43: code 64 is (1, 21), of the second absmax. Table: -1 of 0, 1 of 15, 0 of 7.
        let mut weight = [0x77; 65];
        (weight[0], weight[32]) = (0x0f, 0xf0);
        let absmax = floats(&[2.0, 3.0, 5.0]);
        let source = Source::Nf4 { weight: Data::Bytes(&weight), absmax: &absmax };
        let found = checkpoint::<f64>(&Format::NF4_FLAT, 3, 43, &source);
        assert_eq!([found[0], found[1], found[2], found[64], found[65]], [-2.0, 2.0, 0.0, 3.0, -3.0]);
    }

    #[test]
    fn gptq_and_awq() {
        // Codes 0 to 7 down the column of output 0, all 15 for output 1; zeros 15 + 1 and 2 + 1, scales 0.5 and 2.
        let (qweight, qzeros) = (words(&[0x7654_3210, 0xffff_ffff]), words(&[0x2f]));
        let scales = [0, 0x38, 0, 0x40];
        let source =
            Source::Gptq { qweight: (&qweight).into(), qzeros: &qzeros, scales: &scales, g_idx: None, zero_offset: 1 };
        let format = Format { group: 8, ..Format::GPTQ };
        let expected: Vec<f64> = (0..8).map(|c| 0.5 * f64::from(c - 16)).chain([24.0; 8]).collect();
        assert_eq!(checkpoint::<f32>(&format, 2, 8, &source), expected);
        // Columns of two groups by turns: scale 0.5 of group 0, 2 of group 1, zeros 0 and 1; one output.
        let g_idx = words(&[0, 1, 0, 1, 0, 1, 0, 1]);
        let (qweight, qzeros) = (words(&[0x7654_3210]), words(&[0, 1]));
        let source = Source::Gptq {
            qweight: (&qweight).into(),
            qzeros: &qzeros,
            scales: &scales,
            g_idx: Some(&g_idx),
            zero_offset: 0,
        };
        let found = checkpoint::<f64>(&format, 1, 8, &source);
        assert_eq!(found, [0.0, 0.0, 1.0, 4.0, 2.0, 8.0, 3.0, 12.0]);
        // Nibbles 0 to 7 are outputs 0 2 4 6 1 3 5 7; the zero of output 2 is 3, by nibble 1.
        let (qweight, qzeros) = (words(&[0x7654_3210]), words(&[0x30]));
        let scales = [0, 0x3c].repeat(8);
        let source = Source::Awq { qweight: (&qweight).into(), qzeros: &qzeros, scales: &scales };
        let found = checkpoint::<f64>(&format, 8, 1, &source);
        assert_eq!(found, [0.0, 4.0, 1.0 - 3.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
    }

    #[test]
    fn a_packed_matrix_by_hand() {
        // q4_1, nine rows of 32 by eights: words 0 to 3 of rows 0 to 7, then of row 8 and seven rows of padding. Row 1 has code 9
        // in column 8, row 8 code 5 in column 31; scale 0.5 and offset -2 of row 1, 2 and 0 of row 8.
        let (mut codes, mut scales) = ([0u32; 64], [0u32; 16]);
        (codes[8 + 1], codes[32 + 3 * 8]) = (9, 5 << 28);
        (scales[1], scales[8]) = (0xc000_3800, 0x4000);
        let found = decode::<f64>(&Format::Q4_1, 9, 32, &codes, &scales);
        assert_eq!([found[32 + 8], found[32], found[8 * 32 + 31], found[0]], [0.5 * 9.0 - 2.0, -2.0, 10.0, 0.0]);
        // Fifth bits lie behind the nibbles of a row: code 16 + 9 in column 8.
        let mut codes = [0u32; 5];
        (codes[1], codes[4]) = (9, 1 << 8);
        let format = Format { interleave: 1, ..Format::Q5_1 };
        assert_eq!(decode::<f64>(&format, 1, 32, &codes, &[0xc000_3800])[8], 0.5 * 25.0 - 2.0);
        // Bits 4 and 5 of code 16 are bits 0 and 1 of the second word behind the nibbles; its i8 scale is byte 1, d behind all of these.
        let (mut codes, mut scales) = ([0u32; 48], [0u32; 5]);
        (codes[2], codes[32 + 1]) = (9, 3);
        (scales[0], scales[4]) = (0xfd00, 0x3800);
        let format = Format { interleave: 1, ..Format::Q6_K };
        assert_eq!(decode::<f64>(&format, 1, 256, &codes, &scales)[16], 0.5 * -3.0 * (57.0 - 32.0));
        // Act-order: two groups of 8 in 32 packed columns; column 1 is packed as 8. Perm, places, then scales 0.5 and 2, zeros 1 and 3.
        let format = Format { group: 8, order: 2, interleave: 1, ..Format::GPTQ };
        let mut scales = vec![u32::MAX; 32 + 2 + 6];
        (scales[32], scales[33]) = (0, 8);
        scales.extend([0x4000_3800, 0x0301]);
        let found = decode::<f64>(&format, 1, 2, &[7, 9, 0, 0], &scales);
        assert_eq!(found, [0.5 * 6.0, 2.0 * 6.0]);
    }
}
