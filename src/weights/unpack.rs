//! From the two buffers of a packed matrix back to the tensors of a checkpoint.

use super::pack::Named;
use super::{Code, Format, Packed, Scales};
use crate::error::{Checked, ErrorKind, Result};

/// What the elements of a tensor are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Bytes, of blocks or of 8-bit floats.
    U8,
    /// 8-bit integers.
    I8,
    /// 32-bit integers.
    I32,
    /// 16-bit floats.
    F16,
    /// 32-bit floats.
    F32,
}

/// A tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// As checkpoints and case files call it.
    pub name: &'static str,
    /// What its elements are.
    pub stored: Stored,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements, little-endian.
    pub bytes: Vec<u8>,
}

/// The tensors of a checkpoint that give the packed matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// As [`Source`](super::Source) names them.
    pub tensors: Vec<Tensor>,
    /// Of GPTQ: what stored zeros are less than those that are meant.
    pub zero_offset: u32,
}

impl Packed {
    /// The tensors of a checkpoint that pack to this: those of [`Format::name`]. GPTQ's zeros are stored less 1 unless one of them
    /// is 0; columns that are sorted have a `g_idx`.
    ///
    /// # Errors
    /// [`ErrorKind::Tensor`] for a format that no checkpoint has, buffers of other sizes, and an order of columns that is none.
    pub fn unpack(&self, name: &str) -> Result<Unpacked> {
        unpack(self, Named(name)).map_err(|kind: ErrorKind| kind.of("weights"))
    }
}

/// One row's words.
struct Row<'a> {
    packed: &'a Packed,
    r: usize,
}

impl Row<'_> {
    fn at(&self, buffer: &[u32], words: u64, w: usize) -> u32 {
        let wide = self.packed.format.interleave as usize;
        buffer[(self.r / wide * words as usize + w) * wide + self.r % wide]
    }

    fn code_word(&self, w: usize) -> u32 {
        self.at(&self.packed.codes, self.packed.format.code_words(self.packed.k), w)
    }

    fn scale_word(&self, w: usize) -> u32 {
        let Packed { format, k, scales, .. } = self.packed;
        self.at(&scales[format.order_words(*k) as usize..], format.scale_words(*k), w)
    }

    fn half(&self, w: usize, i: usize) -> [u8; 2] {
        ((self.scale_word(w + i / 2) >> (16 * (i % 2))) as u16).to_le_bytes()
    }

    fn nibble(&self, i: usize) -> u8 {
        (self.code_word(i / 8) >> (4 * (i % 8)) & 15) as u8
    }

    /// Bit `bit` of the high bits of code `i`, of which there are `of`.
    fn high(&self, i: usize, of: usize) -> u8 {
        let per = 32 / of;
        let words = self.packed.format.packed_k(self.packed.k) as usize / 8;
        (self.code_word(words + i / per) >> (of * (i % per)) & ((1 << of) - 1)) as u8
    }

    fn byte(&self, i: usize) -> u8 {
        self.code_word(i / 4).to_le_bytes()[i % 4]
    }
}

fn unpack(packed: &Packed, name: Named) -> Checked<Unpacked> {
    let Packed { format, n, k, codes, scales } = packed;
    let (n, k) = (*n, *k);
    let need = format.words(name.0, n, k).map_err(|error| error.kind)?;
    if let Some((_, of)) = format.ggml_block().filter(|(_, of)| !k.is_multiple_of(*of)) {
        return name.fault(format!("k of {k} is no multiple of {of}, the codes of a block"));
    }
    if [codes.len(), scales.len()] != need {
        return name.fault(format!("codes and scales have {} and {} words, not {need:?}", codes.len(), scales.len()));
    }
    let rows = || (0..n).map(|r| Row { packed, r });
    let tensor = |name, stored, shape: &[usize], bytes| Tensor { name, stored, shape: shape.to_vec(), bytes };
    let floats = |words: &mut dyn Iterator<Item = u32>| words.flat_map(u32::to_le_bytes).collect::<Vec<u8>>();
    let mut zero_offset = 0;
    let tensors = match (format.name(), format.ggml_block()) {
        (_, Some((bytes, of))) => {
            let blocks: Vec<u8> =
                rows().flat_map(|row| (0..k / of).flat_map(move |b| ggml(format, k, &row, b))).collect();
            vec![tensor("weight", Stored::U8, &[n, k / of * bytes], blocks)]
        }
        (Some("int8"), _) => vec![
            tensor("weight", Stored::I8, &[n, k], rows().flat_map(|row| (0..k).map(move |i| row.byte(i))).collect()),
            tensor("scale", Stored::F32, &[n], floats(&mut rows().map(|row| row.scale_word(0)))),
        ],
        (Some("fp8"), _) => vec![
            tensor("weight", Stored::U8, &[n, k], rows().flat_map(|row| (0..k).map(move |i| row.byte(i))).collect()),
            tensor("scale", Stored::F32, &[n.div_ceil(128), k.div_ceil(128)], floats(&mut scales.iter().copied())),
        ],
        (Some("nf4"), _) => {
            let nibbles: Vec<u8> = rows().flat_map(|row| (0..k).map(move |i| row.nibble(i))).collect();
            let bytes: Vec<u8> = nibbles.chunks(2).map(|two| two[0] << 4 | two.get(1).copied().unwrap_or(0)).collect();
            let absmax = match format.scales {
                Scales::Flat => floats(&mut scales.iter().copied()),
                _ => floats(&mut rows().flat_map(|row| (0..k / 64).map(move |g| row.scale_word(g)))),
            };
            vec![
                tensor("weight", Stored::U8, &[bytes.len()], bytes),
                tensor("absmax", Stored::F32, &[absmax.len() / 4], absmax),
            ]
        }
        (Some("gptq"), _) => {
            let groups = format.groups(k) as usize;
            let zero = |row: &Row, g: usize| row.scale_word(groups.div_ceil(2) + g / 4).to_le_bytes()[g % 4];
            let none = (0..groups).any(|g| rows().any(|row| zero(&row, g) == 0));
            zero_offset = u32::from(!none);
            if none && (0..groups).any(|g| rows().any(|row| zero(&row, g) > 15)) {
                return name.fault("its zeros are 0 and 16 at once, which 4 bits do not hold".into());
            }
            let place = |c: usize| match format.order {
                0 => Some(c),
                _ => Some(scales[format.packed_k(k) as usize + c] as usize)
                    .filter(|&p| p < groups * format.group as usize),
            };
            if let Some(c) = (0..k).find(|&c| place(c).is_none()) {
                return name.fault(format!("column {c} is packed nowhere"));
            }
            let place = |c: usize| place(c).unwrap_or(0);
            let mut qweight = vec![0u32; k.div_ceil(8) * n];
            let mut qzeros = vec![0u32; groups * n.div_ceil(8)];
            let mut halves = vec![0; 2 * groups * n];
            for row in rows() {
                for c in 0..k {
                    qweight[c / 8 * n + row.r] |= u32::from(row.nibble(place(c))) << (4 * (c % 8));
                }
                for g in 0..groups {
                    let stored = u32::from(zero(&row, g)).saturating_sub(zero_offset) & 15;
                    qzeros[g * n.div_ceil(8) + row.r / 8] |= stored << (4 * (row.r % 8));
                    halves[2 * (g * n + row.r)..][..2].copy_from_slice(&row.half(0, g));
                }
            }
            let mut tensors = vec![
                tensor("qweight", Stored::I32, &[k.div_ceil(8), n], floats(&mut qweight.into_iter())),
                tensor("qzeros", Stored::I32, &[groups, n.div_ceil(8)], floats(&mut qzeros.into_iter())),
                tensor("scales", Stored::F16, &[groups, n], halves),
            ];
            if format.order > 0 {
                let g_idx = floats(&mut (0..k).map(|c| place(c) as u32 / format.group));
                tensors.push(tensor("g_idx", Stored::I32, &[k], g_idx));
            }
            tensors
        }
        _ => return name.fault(format!("no checkpoint has {format:?}")),
    };
    Ok(Unpacked { tensors, zero_offset })
}

/// Block `b` of a row as GGML has it.
fn ggml(format: &Format, k: usize, row: &Row, b: usize) -> Vec<u8> {
    let of = if matches!(format.scales, Scales::K | Scales::K6) { 256 } else { 32 };
    let code = |i: usize| row.nibble(of * b + i);
    // Codes i and i + `apart` share a byte.
    let pairs = |first: usize, apart: usize| (0..apart).map(move |i| code(first + i) | code(first + apart + i) << 4);
    let quads = || (0..4).flat_map(|i| pairs(64 * i, 32)).collect::<Vec<u8>>();
    let word = |w: usize| row.scale_word(w).to_le_bytes().to_vec();
    let k_scales = || (0..4).flat_map(|w| word(4 * b + w)).collect::<Vec<u8>>();
    let nibbles = |head: Vec<u8>| head.into_iter().chain(pairs(0, 16)).collect();
    let fifth = || row.code_word(format.packed_k(k) as usize / 8 + b).to_le_bytes();
    match (format.code, format.scales) {
        (Code::Bits4, Scales::HalfOffset) => nibbles(word(b)),
        (Code::Bits4, Scales::K) => [k_scales(), quads()].concat(),
        (Code::Bits4 | Code::Iq4Nl, _) => nibbles(row.half(0, b).to_vec()),
        (Code::E2m1, _) => nibbles(vec![row.scale_word(b / 4).to_le_bytes()[b % 4]]),
        (Code::Bits5, Scales::HalfLess16) => nibbles([&row.half(0, b)[..], &fifth()].concat()),
        (Code::Bits5, Scales::HalfOffset) => nibbles([word(b), fifth().to_vec()].concat()),
        (Code::Bits5, _) => {
            let bits = |l: usize| (0..8).fold(0, |byte, s| byte | row.high(256 * b + 32 * s + l, 1) << s);
            [k_scales(), (0..32).map(bits).collect(), quads()].concat()
        }
        (Code::Bits6, _) => {
            let ql = (0..2).flat_map(|half| pairs(128 * half, 64));
            let upper = |half: usize, l: usize| {
                (0..4).fold(0, |byte, q| byte | row.high(256 * b + 128 * half + 32 * q + l, 2) << (2 * q))
            };
            let qh = (0..2).flat_map(|half| (0..32).map(move |l| upper(half, l)));
            ql.chain(qh).chain(k_scales()).chain(row.half(4 * (k / 256), b)).collect()
        }
        _ => row.half(0, b).into_iter().chain((0..32).map(|i| row.byte(32 * b + i))).collect(),
    }
}
