//! From the tensors of a checkpoint to the two buffers of a packed matrix.
//!
//! Tensors are bytes as a file holds them, little-endian: in memory, or read as they are packed. Rows are packed in blocks,
//! which lie in a row in both buffers, so that cores share them without a lock.

use std::io::Read;

use super::{Code, Format, Scales};
use crate::Dtype;
use crate::error::{Checked, Error, ErrorKind, Result};
use crate::layout::product;

const OP: &str = "weights";

/// Bytes that are read at a time, about.
const CHUNK: usize = 4 << 20;

/// Fewer words of codes than this are packed by one core.
#[cfg(not(target_family = "wasm"))]
const WORTH_A_THREAD: usize = 1 << 15;

/// Where nibble `c % 8` of an AWQ word lies: nibble i is column 0 2 4 6 1 3 5 7 of its eight.
pub(super) const AWQ_NIBBLE: [u32; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// What is in no column: of [`Format::order`]'s `perm`.
pub(super) const NO_COLUMN: u32 = u32::MAX;

/// The bytes of a tensor.
pub enum Data<'a> {
    /// In memory.
    Bytes(&'a [u8]),
    /// Read a few MB at a time.
    Read(&'a mut dyn Read),
}

impl<'a> From<&'a [u8]> for Data<'a> {
    fn from(bytes: &'a [u8]) -> Data<'a> {
        Data::Bytes(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Data<'a> {
    fn from(bytes: &'a Vec<u8>) -> Data<'a> {
        Data::Bytes(bytes)
    }
}

impl std::fmt::Debug for Data<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Data::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Data::Read(_) => f.write_str("a reader"),
        }
    }
}

/// What a checkpoint holds of a matrix W `[n, k]`, whose rows are outputs. Shapes are those of the tensors.
#[derive(Debug)]
pub enum Source<'a> {
    /// The blocks of a GGUF file, row after row: `q4_0 q4_1 q5_0 q5_1 q8_0 iq4_nl mxfp4 q4_k q5_k q6_k` (ggml-common.h).
    Ggml(Data<'a>),
    /// int8 by rows.
    Int8 {
        /// i8 `[n, k]`.
        weight: Data<'a>,
        /// `[n]`.
        scale: &'a [u8],
        /// Dtype of `scale`: f32 or f16.
        dtype: Dtype,
    },
    /// DeepSeek-V3's FP8.
    Fp8 {
        /// Bits of e4m3fn, `[n, k]`.
        weight: Data<'a>,
        /// f32 `[ceil(n / 128), ceil(k / 128)]`.
        scale: &'a [u8],
    },
    /// GPTQ of 4 bits (AutoGPTQ, GPTQModel).
    Gptq {
        /// i32 `[ceil(k / 8), n]`; nibble i is row i of its eight.
        qweight: Data<'a>,
        /// i32 `[groups, ceil(n / 8)]`; nibble i is column i of its eight.
        qzeros: &'a [u8],
        /// f16 `[groups, n]`.
        scales: &'a [u8],
        /// i32 `[k]`, the group of each column of W; absent: columns are in the order of their groups.
        g_idx: Option<&'a [u8]>,
        /// What stored zeros are less than those that are meant: 1, as AutoGPTQ writes, or 0 (GPTQ v2).
        zero_offset: u32,
    },
    /// AWQ of 4 bits (AutoAWQ).
    Awq {
        /// i32 `[k, n / 8]`; nibble i is column 0 2 4 6 1 3 5 7 of its eight.
        qweight: Data<'a>,
        /// i32 `[groups, n / 8]`, as `qweight`.
        qzeros: &'a [u8],
        /// f16 `[groups, n]`.
        scales: &'a [u8],
    },
    /// bitsandbytes' NF4.
    Nf4 {
        /// `[ceil(n k / 2)]`, the first of two in the high nibble.
        weight: Data<'a>,
        /// f32 `[ceil(n k / 64)]`; where it is quantised itself, [`nested_absmax`] gives it.
        absmax: &'a [u8],
    },
}

/// A packed matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// How both buffers are laid out.
    pub format: Format,
    /// Rows: outputs.
    pub n: usize,
    /// Columns: inputs.
    pub k: usize,
    /// [`Format::code_bytes`] in words.
    pub codes: Vec<u32>,
    /// [`Format::scale_bytes`] in words.
    pub scales: Vec<u32>,
}

impl Packed {
    /// Bytes of both buffers.
    pub fn bytes(&self) -> u64 {
        4 * (self.codes.len() + self.scales.len()) as u64
    }
}

/// The absmax of NF4 where bitsandbytes has quantised it, too (`bnb_4bit_use_double_quant`): `code[absmax[i]] *
/// nested_absmax[i / 256] + offset`, as the f32 bytes that [`Source::Nf4`] takes. `code` and `nested_absmax` are f32.
///
/// # Errors
/// Lengths that do not fit, with the name of the tensor.
pub fn nested_absmax(name: &str, absmax: &[u8], code: &[u8], nested_absmax: &[u8], offset: f32) -> Result<Vec<u8>> {
    let tensor = Named(name);
    let checked = || {
        tensor.bytes("nested_quant_map", code.len(), 1024)?;
        tensor.bytes("nested_absmax", nested_absmax.len(), 4 * absmax.len().div_ceil(256) as u64)
    };
    checked().map_err(|kind| kind.of(OP))?;
    let value = |(i, &q): (usize, &u8)| f32_at(code, q.into()) * f32_at(nested_absmax, i / 256) + offset;
    Ok(absmax.iter().enumerate().flat_map(|pair| value(pair).to_le_bytes()).collect())
}

/// A tensor's name, for errors.
#[derive(Clone, Copy)]
pub(super) struct Named<'a>(pub &'a str);

impl Named<'_> {
    pub fn fault<T>(&self, reason: String) -> Checked<T> {
        Err(ErrorKind::Tensor { tensor: self.0.into(), reason })
    }

    fn bytes(&self, what: &str, have: usize, need: u64) -> Checked {
        if have as u64 == need {
            Ok(())
        } else {
            self.fault(format!("{what} has {have} bytes, its shape takes {need}"))
        }
    }
}

impl Format {
    /// The format of a GPTQ matrix of `groups` rows of `scales`, each of `group_size` columns (absent: k / groups), whose columns are of
    /// the groups `g_idx` (i32 `[k]`; absent: in order). Columns are sorted by group where they are not yet; a group of more columns
    /// than others then is several.
    ///
    /// # Errors
    /// Groups that are not there, with the name of the tensor.
    pub fn gptq(
        name: &str,
        k: usize,
        groups: usize,
        group_size: Option<usize>,
        g_idx: Option<&[u8]>,
    ) -> Result<Format> {
        let checked = || {
            let tensor = Named(name);
            if groups == 0 || groups > k {
                return tensor.fault(format!("k of {k} is not divided into {groups} groups"));
            }
            let size = group_size.unwrap_or(k.div_ceil(groups)).clamp(1, k);
            let group = size.next_multiple_of(8);
            if let Some(g_idx) = g_idx {
                tensor.bytes("g_idx", g_idx.len(), product!(k, 4u32))?;
            }
            let column = |c: usize| g_idx.map_or(c / size, |g_idx| u32_at(g_idx, c) as usize);
            if k.div_ceil(group) == groups && (0..k).all(|c| column(c) == c / group) {
                return Ok(Format { group: group as u32, ..Format::GPTQ });
            }
            if g_idx.is_none() && size != k.div_ceil(groups) {
                return tensor
                    .fault(format!("groups of {size} of {k} columns, which are no multiple of 8, need a g_idx"));
            }
            let mut counts = vec![0usize; groups];
            for c in 0..k {
                match counts.get_mut(column(c)) {
                    Some(count) => *count += 1,
                    None => {
                        return tensor.fault(format!("g_idx[{c}] is {}, there are {groups} groups", column(c) as i32));
                    }
                }
            }
            let order: usize = counts.iter().map(|count| count.div_ceil(group).max(1)).sum();
            Ok(Format { group: group as u32, order: order as u32, ..Format::GPTQ })
        };
        checked().map_err(|kind| kind.of(OP))
    }

    /// The format of NF4 for rows of k.
    pub const fn nf4(k: usize) -> Format {
        if k.is_multiple_of(64) { Format::NF4 } else { Format::NF4_FLAT }
    }

    /// Packs a matrix W `[n, k]` of the tensor `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Tensor`], which names the tensor and the numbers: data that are truncated or too long, a source of another
    /// format, sizes that the format does not have, a group that does not exist, a reader that fails.
    pub fn pack(&self, name: &str, n: usize, k: usize, source: Source) -> Result<Packed> {
        let [code_words, scale_words] = self.words(name, n, k)?;
        let mut packed = Packed { format: *self, n, k, codes: vec![0; code_words], scales: vec![0; scale_words] };
        pack(self, Named(name), n, k, source, &mut packed.codes, &mut packed.scales).map_err(|kind| kind.of(OP))?;
        Ok(packed)
    }

    /// [`pack`](Self::pack) into memory of the caller: [`code_bytes`](Self::code_bytes) and
    /// [`scale_bytes`](Self::scale_bytes) in words, which are written whole.
    ///
    /// # Errors
    /// As there, and memory of another size.
    pub fn pack_into(
        &self,
        name: &str,
        [n, k]: [usize; 2],
        source: Source,
        codes: &mut [u32],
        scales: &mut [u32],
    ) -> Result<()> {
        let need = self.words(name, n, k)?;
        if [codes.len(), scales.len()] != need {
            let reason = format!("codes and scales have {} and {} words, not {need:?}", codes.len(), scales.len());
            return Err(ErrorKind::Tensor { tensor: name.into(), reason }.of(OP));
        }
        codes.fill(0);
        scales.fill(0);
        pack(self, Named(name), n, k, source, codes, scales).map_err(|kind| kind.of(OP))
    }

    /// Words of codes and scales.
    pub(super) fn words(&self, name: &str, n: usize, k: usize) -> Result<[usize; 2]> {
        let checked = || {
            if n == 0 || k == 0 {
                return Named(name).fault(format!("a matrix of {n} rows of {k} has nothing to pack"));
            }
            self.check(k).or_else(|kind| Named(name).fault(kind.to_string()))?;
            let fit = |bytes: u64| usize::try_from(bytes / 4).ok().filter(|_| bytes / 4 <= u64::from(u32::MAX));
            match [self.code_bytes(n, k), self.scale_bytes(n, k)].map(fit) {
                [Some(codes), Some(scales)] => Ok([codes, scales]),
                _ => Named(name).fault(format!("{n} rows of {k} take more words than a shader can count")),
            }
        };
        checked().map_err(|kind: ErrorKind| -> Error { kind.of(OP) })
    }

    /// Bytes of a GGML block and the codes that it holds, where the format is GGML's.
    pub const fn ggml_block(&self) -> Option<(usize, usize)> {
        match (self.code, self.scales, self.group) {
            (Code::Bits4, Scales::HalfLess8, 32) | (Code::Iq4Nl, Scales::Half, 32) => Some((18, 32)),
            (Code::Bits4, Scales::HalfOffset, 32) => Some((20, 32)),
            (Code::Bits5, Scales::HalfLess16, 32) => Some((22, 32)),
            (Code::Bits5, Scales::HalfOffset, 32) => Some((24, 32)),
            (Code::Int8, Scales::Half, 32) => Some((34, 32)),
            (Code::E2m1, Scales::Exponent, 32) => Some((17, 32)),
            (Code::Bits4, Scales::K, _) => Some((144, 256)),
            (Code::Bits5, Scales::K, _) => Some((176, 256)),
            (Code::Bits6, Scales::K6, _) => Some((210, 256)),
            _ => None,
        }
    }

    /// As case files and GGUF call it, where a checkpoint has such a format; AWQ has that of `gptq`.
    pub const fn name(&self) -> Option<&'static str> {
        match (self.code, self.scales) {
            (Code::Bits4, Scales::HalfZero) => return Some("gptq"),
            (Code::Int8, Scales::Float) if self.group == 0 => return Some("int8"),
            (Code::E4m3, Scales::Block) => return Some("fp8"),
            (Code::Nf4, Scales::Float) if self.group == 64 => return Some("nf4"),
            (Code::Nf4, Scales::Flat) => return Some("nf4"),
            _ => {}
        }
        match (self.ggml_block(), self.code, self.scales) {
            (None, ..) => None,
            (_, Code::Iq4Nl, _) => Some("iq4_nl"),
            (_, Code::E2m1, _) => Some("mxfp4"),
            (_, Code::Int8, _) => Some("q8_0"),
            (_, Code::Bits6, _) => Some("q6_k"),
            (_, Code::Bits4, Scales::HalfLess8) => Some("q4_0"),
            (_, Code::Bits4, Scales::HalfOffset) => Some("q4_1"),
            (_, Code::Bits4, _) => Some("q4_k"),
            (_, Code::Bits5, Scales::HalfLess16) => Some("q5_0"),
            (_, Code::Bits5, Scales::HalfOffset) => Some("q5_1"),
            (_, Code::Bits5, _) => Some("q5_k"),
            _ => None,
        }
    }

    /// The format of GGML's type `name`, as in `q4_k`.
    pub fn ggml(name: &str) -> Option<Format> {
        Format::GGML.into_iter().find(|format| format.name() == Some(name))
    }
}

/// Packs into zeros.
fn pack(
    format: &Format,
    name: Named,
    n: usize,
    k: usize,
    source: Source,
    codes: &mut [u32],
    scales: &mut [u32],
) -> Checked {
    let wrong = |what: &str| name.fault(format!("{what} does not give {format:?}"));
    let is = |expected: &str| format.name() == Some(expected);
    let matrix = Matrix { format, name, n, k };
    match source {
        Source::Ggml(weight) => {
            let Some((bytes, of)) = format.ggml_block() else { return wrong("a GGML block") };
            if !k.is_multiple_of(of) {
                return name.fault(format!("k of {k} is no multiple of {of}, the codes of a block"));
            }
            let row = k / of * bytes;
            matrix.rows(
                weight,
                |rows| product!(rows, row),
                codes,
                scales,
                |from, _, first, count, out| {
                    matrix.ggml(&from[first * row..][..count * row], row, out);
                },
            )
        }
        Source::Int8 { weight, scale, dtype } => {
            if !is("int8") || dtype == Dtype::Bf16 {
                return wrong("int8 with a scale by row");
            }
            name.bytes("scale", scale.len(), product!(n, dtype.bytes()))?;
            let scale = dtype.decode(scale);
            let step = format.interleave as usize;
            for (row, &s) in scale.iter().enumerate() {
                scales[row / step * step + row % step] = (s as f32).to_bits();
            }
            matrix.bytes(weight, codes)
        }
        Source::Fp8 { weight, scale } => {
            if !is("fp8") {
                return wrong("FP8 in blocks");
            }
            name.bytes("scale", scale.len(), 4 * scales.len() as u64)?;
            words_of(scale, scales);
            matrix.bytes(weight, codes)
        }
        Source::Nf4 { weight, absmax } => {
            if !is("nf4") {
                return wrong("NF4");
            }
            let blocks = product!(n, k).div_ceil(64);
            name.bytes("absmax", absmax.len(), product!(blocks, 4u32))?;
            if format.scales == Scales::Flat {
                words_of(absmax, scales);
            } else if !k.is_multiple_of(64) {
                return name.fault(format!("k of {k} is no multiple of 64: its format is NF4_FLAT"));
            } else {
                let (step, row) = (format.interleave as usize, k / 64);
                for r in 0..n {
                    for g in 0..row {
                        scales[(r / step * row + g) * step + r % step] = u32_at(absmax, r * row + g);
                    }
                }
            }
            let halves = |rows: u64| product!(rows, k).div_ceil(2);
            matrix.rows(weight, halves, codes, &mut [], |from, _, first, count, out| nf4(from, first, count, k, out))
        }
        Source::Gptq { qweight, qzeros, scales: of, g_idx, zero_offset } => {
            if !is("gptq") || zero_offset > 1 {
                return wrong(&format!("GPTQ of zeros less {zero_offset}"));
            }
            let groups = matrix.groups(of, g_idx)?;
            let columns = Columns::of(&matrix, groups, g_idx)?;
            matrix.zeros(&columns, qzeros, of, scales, |r| 4 * (r as u32 % 8), zero_offset)?;
            let step = 4 * n;
            matrix.columns(qweight, k.div_ceil(8), step, codes, |first, from, blocks, codes| {
                let words = format.code_words(k) as usize;
                let wide = format.interleave as usize;
                for (w, from) in from.chunks_exact(step).enumerate() {
                    let w = first + w;
                    for (b, out) in blocks.clone().zip(codes.chunks_exact_mut(words * wide)) {
                        for r in 0..wide.min(n - b * wide) {
                            let word = u32_at(from, b * wide + r);
                            match &columns.place {
                                None => {
                                    // The codes past k are nobody's.
                                    let past = 4 * (8 * w + 8).saturating_sub(k);
                                    out[w * wide + r] = word & u32::MAX >> past;
                                }
                                Some(place) => {
                                    for (i, &at) in place[8 * w..k.min(8 * w + 8)].iter().enumerate() {
                                        let code = word >> (4 * i) & 15;
                                        out[at as usize / 8 * wide + r] |= code << (4 * (at % 8));
                                    }
                                }
                            }
                        }
                    }
                }
            })
        }
        Source::Awq { qweight, qzeros, scales: of } => {
            if !is("gptq") || format.order > 0 {
                return wrong("AWQ");
            }
            let groups = matrix.groups(of, None)?;
            let columns = Columns::of(&matrix, groups, None)?;
            matrix.zeros(&columns, qzeros, of, scales, |r| 4 * AWQ_NIBBLE[r % 8], 0)?;
            let step = 4 * n.div_ceil(8);
            matrix.columns(qweight, k, step, codes, |first, from, blocks, codes| {
                let words = format.code_words(k) as usize;
                let wide = format.interleave as usize;
                for (c, from) in from.chunks_exact(step).enumerate() {
                    let c = first + c;
                    for (b, out) in blocks.clone().zip(codes.chunks_exact_mut(words * wide)) {
                        for r in 0..wide.min(n - b * wide) {
                            let row = b * wide + r;
                            let code = u32_at(from, row / 8) >> (4 * AWQ_NIBBLE[row % 8]) & 15;
                            out[c / 8 * wide + r] |= code << (4 * (c % 8));
                        }
                    }
                }
            })
        }
    }
}

/// Which group a column of W is of, and where it is packed.
struct Columns {
    /// The group of `scales` that each packed group has.
    source: Vec<u32>,
    /// The packed column of each column, where they are sorted.
    place: Option<Vec<u32>>,
    /// The column of each packed one.
    perm: Vec<u32>,
}

impl Columns {
    fn of(matrix: &Matrix, groups: usize, g_idx: Option<&[u8]>) -> Checked<Columns> {
        let &Matrix { format, name, k, .. } = matrix;
        let group = format.group as usize;
        let column = |c: usize| g_idx.map_or(c / k.div_ceil(groups.max(1)), |g_idx| u32_at(g_idx, c) as usize);
        if format.order == 0 {
            if groups != k.div_ceil(group) {
                return name.fault(format!("{groups} groups of {group} columns are not those of k {k}"));
            }
            if let Some(c) = (0..k).find(|&c| g_idx.is_some() && column(c) != c / group) {
                let found = column(c) as i32;
                return name.fault(format!("g_idx[{c}] is {found}, not {}: its format has an order", c / group));
            }
            return Ok(Columns { source: (0..groups as u32).collect(), place: None, perm: Vec::new() });
        }
        let mut members = vec![Vec::new(); groups];
        for c in 0..k {
            match members.get_mut(column(c)) {
                Some(members) => members.push(c as u32),
                None => return name.fault(format!("g_idx[{c}] is {}, there are {groups} groups", column(c) as i32)),
            }
        }
        let (mut source, mut place) = (Vec::new(), vec![0; k]);
        let mut perm = vec![NO_COLUMN; format.packed_k(k) as usize];
        for (g, members) in members.iter().enumerate() {
            // A group without columns keeps its place.
            for part in 0..members.len().div_ceil(group).max(1) {
                let first = source.len() * group;
                if first + group > perm.len() {
                    return name.fault(format!("its columns take more than {} groups of {group}", format.order));
                }
                let members = &members[(part * group).min(members.len())..];
                for (i, &c) in members.iter().take(group).enumerate() {
                    perm[first + i] = c;
                    place[c as usize] = (first + i) as u32;
                }
                source.push(g as u32);
            }
        }
        if source.len() != format.order as usize {
            return name.fault(format!("its columns take {} groups of {group}, not {}", source.len(), format.order));
        }
        Ok(Columns { source, place: Some(place), perm })
    }
}

/// What is packed.
pub(super) struct Matrix<'a> {
    pub format: &'a Format,
    pub name: Named<'a>,
    pub n: usize,
    pub k: usize,
}

/// The words of `interleave` rows in both buffers.
pub(super) struct Rows<'a> {
    codes: &'a mut [u32],
    scales: &'a mut [u32],
    /// Rows side by side.
    step: usize,
}

impl Rows<'_> {
    #[inline(always)]
    fn code(&mut self, row: usize, w: usize, word: u32) {
        self.codes[w * self.step + row] = word;
    }

    /// Sets bits of a word.
    #[inline(always)]
    pub fn set(&mut self, row: usize, w: usize, bits: u32) {
        self.codes[w * self.step + row] |= bits;
    }

    #[inline(always)]
    pub fn scale(&mut self, row: usize, w: usize, word: u32) {
        self.scales[w * self.step + row] |= word;
    }

    /// f16 number `i`, counted from word `w`.
    #[inline(always)]
    fn half(&mut self, row: usize, w: usize, i: usize, bytes: &[u8]) {
        self.scale(row, w + i / 2, u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << (16 * (i % 2)));
    }
}

impl Matrix<'_> {
    /// Groups of GPTQ's and AWQ's f16 `scales [groups, n]`.
    fn groups(&self, scales: &[u8], g_idx: Option<&[u8]>) -> Checked<usize> {
        let groups = scales.len() / (2 * self.n);
        self.name.bytes("scales", scales.len(), product!(groups.max(1), self.n, 2u32))?;
        if let Some(g_idx) = g_idx {
            self.name.bytes("g_idx", g_idx.len(), product!(self.k, 4u32))?;
        }
        Ok(groups)
    }

    /// Writes the order of columns, the scales, and the zeros, which lie at bit `shift(row)` of their words.
    fn zeros(
        &self,
        columns: &Columns,
        qzeros: &[u8],
        of: &[u8],
        scales: &mut [u32],
        shift: impl Fn(usize) -> u32,
        zero_offset: u32,
    ) -> Checked {
        let &Matrix { format, name, n, k } = self;
        let groups = of.len() / (2 * n);
        name.bytes("qzeros", qzeros.len(), product!(groups, n.div_ceil(8), 4u32))?;
        let (order, rest) = scales.split_at_mut(format.order_words(k) as usize);
        if let Some(place) = &columns.place {
            order[..columns.perm.len()].copy_from_slice(&columns.perm);
            order[columns.perm.len()..][..k].copy_from_slice(place);
        }
        let (step, row) = (format.interleave as usize, format.scale_words(k) as usize);
        let behind = columns.source.len().div_ceil(2);
        for r in 0..n {
            let out = &mut rest[r / step * row * step..];
            for (p, &g) in columns.source.iter().enumerate() {
                let g = g as usize;
                let scale = u32::from(u16::from_le_bytes([of[2 * (g * n + r)], of[2 * (g * n + r) + 1]]));
                let zero = (u32_at(qzeros, g * n.div_ceil(8) + r / 8) >> shift(r) & 15) + zero_offset;
                out[p / 2 * step + r % step] |= scale << (16 * (p % 2));
                out[(behind + p / 4) * step + r % step] |= zero << (8 * (p % 4));
            }
        }
        Ok(())
    }

    /// Packs a tensor of rows of W: `bytes(rows)` of it are so many rows, `write(from, base, first, rows, out)` packs those from row `first`
    /// of `from` on, whose first row is `base`; they lie side by side.
    pub(super) fn rows(
        &self,
        data: Data,
        bytes: impl Fn(u64) -> u64,
        codes: &mut [u32],
        scales: &mut [u32],
        write: impl Fn(&[u8], usize, usize, usize, &mut Rows) + Sync,
    ) -> Checked {
        let &Matrix { format, n, k, .. } = self;
        let wide = format.interleave as usize;
        let code_words = format.code_words(k) as usize * wide;
        let scale_words = if scales.is_empty() { 0 } else { format.scale_words(k) as usize * wide };
        // Eight rows are whole bytes whatever k is.
        let unit = bytes(8);
        let chunk = (CHUNK as u64).div_ceil(unit.max(1)).max(1) * 8;
        self.chunks(data, n, chunk, &bytes, |first, count, from| {
            let codes = &mut codes[first / wide * code_words..][..count.div_ceil(wide) * code_words];
            let scales = &mut scales[first / wide * scale_words..][..count.div_ceil(wide) * scale_words];
            shared(count.div_ceil(wide), [code_words, scale_words], codes, scales, |blocks, codes, scales| {
                for (i, b) in blocks.enumerate() {
                    let mut out = Rows {
                        codes: &mut codes[i * code_words..][..code_words],
                        scales: &mut scales[i * scale_words..][..scale_words],
                        step: wide,
                    };
                    write(from, first, b * wide, wide.min(count - b * wide), &mut out);
                }
            });
        })
    }

    /// Packs a tensor of `len` rows of so many bytes, each of which holds words of all rows of W:
    /// `write(first, from, blocks, codes)` packs the rows from `first` on into these blocks of rows.
    fn columns(
        &self,
        data: Data,
        len: usize,
        bytes: usize,
        codes: &mut [u32],
        write: impl Fn(usize, &[u8], std::ops::Range<usize>, &mut [u32]) + Sync,
    ) -> Checked {
        let &Matrix { format, n, k, .. } = self;
        let wide = format.interleave as usize;
        let words = format.code_words(k) as usize * wide;
        let chunk = (CHUNK / bytes.max(1)).max(1) as u64;
        self.chunks(data, len, chunk, &|rows| product!(rows, bytes), |first, _, from| {
            shared(n.div_ceil(wide), [words, 0], codes, &mut [], |blocks, codes, _| write(first, from, blocks, codes));
        })
    }

    /// Gives `each` so many of `len` rows at a time: the first, their number, their bytes.
    fn chunks(
        &self,
        data: Data,
        len: usize,
        chunk: u64,
        bytes: &dyn Fn(u64) -> u64,
        mut each: impl FnMut(usize, usize, &[u8]),
    ) -> Checked {
        let need = bytes(len as u64);
        let reader = match data {
            Data::Bytes(from) => {
                self.name.bytes("its data", from.len(), need)?;
                each(0, len, from);
                return Ok(());
            }
            Data::Read(reader) => reader,
        };
        let (mut buffer, mut first, mut have) = (Vec::new(), 0, 0u64);
        while first < len as u64 {
            let count = chunk.min(len as u64 - first);
            let want = bytes(count) as usize;
            buffer.resize(want, 0);
            let mut filled = 0;
            while filled < want {
                match reader.read(&mut buffer[filled..]) {
                    Ok(0) => {
                        let have = have + filled as u64;
                        return self.name.fault(format!("its data end after {have} bytes, its shape takes {need}"));
                    }
                    Ok(more) => filled += more,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        let have = have + filled as u64;
                        return self.name.fault(format!("it cannot be read past {have} of {need} bytes: {error}"));
                    }
                }
            }
            each(first as usize, count as usize, &buffer);
            first += count;
            have += want as u64;
        }
        Ok(())
    }

    /// Packs a tensor of codes of 8 bits, `[n, k]`.
    fn bytes(&self, data: Data, codes: &mut [u32]) -> Checked {
        let k = self.k;
        let write = |from: &[u8], _, first: usize, count: usize, out: &mut Rows| {
            bytes(&from[first * k..][..count * k], k, out);
        };
        self.rows(data, |rows| product!(rows, k), codes, &mut [], write)
    }

    /// Packs rows of GGML blocks that lie side by side.
    fn ggml(&self, from: &[u8], row_bytes: usize, out: &mut Rows) {
        let Matrix { format, k, .. } = *self;
        let high = k / 8;
        match (format.code, format.scales) {
            (Code::Bits4, Scales::HalfOffset) => blocks::<20>(from, row_bytes, |row, b, block| {
                out.scale(row, b, u32_at(block, 0));
                nibbles(&block[4..20], |i, word| out.code(row, 4 * b + i, word));
            }),
            (Code::Bits4, Scales::K) => blocks::<144>(from, row_bytes, |row, b, block| {
                (0..4).for_each(|w| out.scale(row, 4 * b + w, u32_at(block, w)));
                for sub in 0..4 {
                    let qs = &block[16 + 32 * sub..][..32];
                    k_nibbles(qs, |i, word| out.code(row, 32 * b + 8 * sub + i, word));
                }
            }),
            (Code::Bits4 | Code::Iq4Nl, _) => blocks::<18>(from, row_bytes, |row, b, block| {
                out.half(row, 0, b, block);
                nibbles(&block[2..18], |i, word| out.code(row, 4 * b + i, word));
            }),
            (Code::E2m1, _) => blocks::<17>(from, row_bytes, |row, b, block| {
                out.scale(row, b / 4, u32::from(block[0]) << (8 * (b % 4)));
                nibbles(&block[1..17], |i, word| out.code(row, 4 * b + i, word));
            }),
            (Code::Bits5, Scales::HalfLess16) => blocks::<22>(from, row_bytes, |row, b, block| {
                out.half(row, 0, b, block);
                out.code(row, high + b, u32_at(&block[2..], 0));
                nibbles(&block[6..22], |i, word| out.code(row, 4 * b + i, word));
            }),
            (Code::Bits5, Scales::HalfOffset) => blocks::<24>(from, row_bytes, |row, b, block| {
                out.scale(row, b, u32_at(block, 0));
                out.code(row, high + b, u32_at(block, 1));
                nibbles(&block[8..24], |i, word| out.code(row, 4 * b + i, word));
            }),
            (Code::Bits5, _) => blocks::<176>(from, row_bytes, |row, b, block| {
                (0..4).for_each(|w| out.scale(row, 4 * b + w, u32_at(block, w)));
                for sub in 0..4 {
                    let qs = &block[48 + 32 * sub..][..32];
                    k_nibbles(qs, |i, word| out.code(row, 32 * b + 8 * sub + i, word));
                }
                // Bit s of byte l is bit 4 of code l of the 32 codes s.
                let qh = [0, 1, 2, 3].map(|i| u64_at(&block[16..48], i));
                for s in 0..8 {
                    let word = (0..4).fold(0, |word, i| word | bits(qh[i] >> s) << (8 * i));
                    out.code(row, high + 8 * b + s, word);
                }
            }),
            (Code::Bits6, _) => blocks::<210>(from, row_bytes, |row, b, block| {
                (0..4).for_each(|w| out.scale(row, 4 * b + w, u32_at(&block[192..], w)));
                out.half(row, 4 * (k / 256), b, &block[208..]);
                for half in 0..2 {
                    let (ql, qh) = (&block[64 * half..][..64], &block[128 + 32 * half..][..32]);
                    // Of 128 codes: those from 0 and 32 on in low nibbles, those from 64 and 96 on in high ones.
                    for i in 0..8 {
                        let eight = u64_at(ql, i);
                        out.code(row, 32 * b + 16 * half + i, squeeze(eight & LOW));
                        out.code(row, 32 * b + 16 * half + 8 + i, squeeze(eight >> 4 & LOW));
                    }
                    // Bits 2 q and 2 q + 1 of byte l are the upper bits of code 32 q + l.
                    for q in 0..4 {
                        for i in 0..2 {
                            let [a, z] = [2 * i, 2 * i + 1].map(|i| pairs(u64_at(qh, i) >> (2 * q)));
                            out.code(row, high + 16 * b + 8 * half + 2 * q + i, a | z << 16);
                        }
                    }
                }
            }),
            _ => blocks::<34>(from, row_bytes, |row, b, block| {
                out.half(row, 0, b, block);
                (0..8).for_each(|i| out.code(row, 8 * b + i, u32_at(&block[2..], i)));
            }),
        }
    }
}

/// Gives the blocks of rows to the cores, with their words of both buffers.
fn shared(
    blocks: usize,
    [code_words, scale_words]: [usize; 2],
    codes: &mut [u32],
    scales: &mut [u32],
    work: impl Fn(std::ops::Range<usize>, &mut [u32], &mut [u32]) + Sync,
) {
    let cores = cores(codes.len()).min(blocks.max(1));
    if cores == 1 {
        return work(0..blocks, codes, scales);
    }
    std::thread::scope(|scope| {
        let (mut codes, mut scales, work) = (codes, scales, &work);
        for core in 0..cores {
            let range = blocks * core / cores..blocks * (core + 1) / cores;
            let (mine, rest) = codes.split_at_mut(range.len() * code_words);
            codes = rest;
            let (my_scales, rest) = scales.split_at_mut(range.len() * scale_words);
            scales = rest;
            match core + 1 == cores {
                true => work(range, mine, my_scales),
                false => drop(scope.spawn(move || work(range, mine, my_scales))),
            }
        }
    });
}

/// Cores that share so many words.
#[cfg(not(target_family = "wasm"))]
pub(super) fn cores(words: usize) -> usize {
    let there = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    there.min(words / WORTH_A_THREAD).max(1)
}

#[cfg(target_family = "wasm")]
pub(super) fn cores(_: usize) -> usize {
    1
}

pub(super) fn u32_at(bytes: &[u8], i: usize) -> u32 {
    let word = &bytes[4 * i..][..4];
    u32::from_le_bytes([word[0], word[1], word[2], word[3]])
}

pub(super) fn f32_at(bytes: &[u8], i: usize) -> f32 {
    f32::from_bits(u32_at(bytes, i))
}

fn u64_at(bytes: &[u8], i: usize) -> u64 {
    u64::from(u32_at(bytes, 2 * i)) | u64::from(u32_at(bytes, 2 * i + 1)) << 32
}

fn words_of(bytes: &[u8], words: &mut [u32]) {
    words.iter_mut().enumerate().for_each(|(i, word)| *word = u32_at(bytes, i));
}

/// The low nibble of each byte.
const LOW: u64 = 0x0f0f_0f0f_0f0f_0f0f;

/// The low nibbles of eight bytes, side by side.
#[inline(always)]
fn squeeze(x: u64) -> u32 {
    let x = (x | x >> 4) & 0x00ff_00ff_00ff_00ff;
    let x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    (x | x >> 16) as u32
}

/// The two low bits of eight bytes, side by side.
#[inline(always)]
fn pairs(x: u64) -> u32 {
    let x = x & 0x0303_0303_0303_0303;
    let x = (x | x >> 6) & 0x000f_000f_000f_000f;
    let x = (x | x >> 12) & 0x0000_00ff_0000_00ff;
    (x | x >> 24) as u32 & 0xffff
}

/// The lowest bit of eight bytes, side by side: byte i goes to bit 56 + i.
#[inline(always)]
fn bits(x: u64) -> u32 {
    ((x & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
}

/// Four words of codes from 16 bytes of GGML: codes 0 to 15 are low nibbles, 16 to 31 high ones.
#[inline(always)]
fn nibbles(qs: &[u8], mut put: impl FnMut(usize, u32)) {
    for i in 0..2 {
        let eight = u64_at(qs, i);
        put(i, squeeze(eight & LOW));
        put(2 + i, squeeze(eight >> 4 & LOW));
    }
}

/// Eight words of codes from 32 bytes: codes 0 to 31 are low nibbles, 32 to 63 high ones.
#[inline(always)]
fn k_nibbles(qs: &[u8], mut put: impl FnMut(usize, u32)) {
    for i in 0..4 {
        let eight = u64_at(qs, i);
        put(i, squeeze(eight & LOW));
        put(4 + i, squeeze(eight >> 4 & LOW));
    }
}

/// Goes through the blocks of rows side by side: `each(row, block's number, block)`.
#[inline(always)]
fn blocks<const BYTES: usize>(from: &[u8], row_bytes: usize, mut each: impl FnMut(usize, usize, &[u8; BYTES])) {
    for b in 0..row_bytes / BYTES {
        for (row, from) in from.chunks_exact(row_bytes).enumerate() {
            let block = from[b * BYTES..][..BYTES].try_into().expect("a slice of so many bytes");
            each(row, b, block);
        }
    }
}

/// Rows of bytes, side by side.
fn bytes(from: &[u8], k: usize, out: &mut Rows) {
    let whole = k / 4;
    for w in 0..whole {
        for (row, from) in from.chunks_exact(k).enumerate() {
            out.code(row, w, u32_at(&from[4 * w..], 0));
        }
    }
    for (row, from) in from.chunks_exact(k).enumerate().filter(|_| k > 4 * whole) {
        out.code(row, whole, from[4 * whole..].iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte)));
    }
}

/// Rows `first` and following of NF4 from a stream of nibbles.
fn nf4(from: &[u8], first: usize, rows: usize, k: usize, out: &mut Rows) {
    for row in 0..rows {
        let start = (first + row) * k;
        for w in 0..k.div_ceil(8) {
            let at = start + 8 * w;
            let word = if at.is_multiple_of(2) && 8 * w + 8 <= k {
                // The first of two codes is in the high nibble.
                let word = u32_at(&from[at / 2..], 0);
                (word & 0x0f0f_0f0f) << 4 | word >> 4 & 0x0f0f_0f0f
            } else {
                let code = |i: usize| u32::from(from[i / 2] >> (4 * (1 - i % 2))) & 15;
                (at..start + k.min(8 * w + 8)).rev().fold(0, |word, i| word << 4 | code(i))
            };
            out.code(row, w, word);
        }
    }
}
