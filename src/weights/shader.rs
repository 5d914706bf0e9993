//! What shaders are told of packed weights.

use super::{Code, E2M1, Format, IQ4_NL, NF4, Scales};
use crate::ErrorKind;
use crate::compose::{Shader, Strides};
use crate::error::Checked;
use crate::layout::product;

/// What of a [`Format`] is constant in a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Coded {
    code: Code,
    scales: Scales,
    interleave: u32,
    /// Words of four neighbouring rows, the first of which is a multiple of 4, are loaded at once.
    by_fours: bool,
    /// Codes of 4 bits are spread to bytes.
    bytes: bool,
    /// Products take codes less nothing; what they are less, a power of two, is taken from their sum.
    zeroed: bool,
}

/// Fields of Params that say where packed weights lie; see `weights.wgsl`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    /// Words of a row of codes, of scales, words in front of the scales, K / 8. `Flat`: the second is the last scale.
    pub words: Strides,
    /// The bits of 1 / group as f32, words of a row in front of its second kind of scales, rows of a matrix, k.
    pub by: Strides,
    /// The last row of all matrices.
    pub last: u32,
}

/// Fields of Params for shaders that decode any format: see `weights_any.wgsl`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Any {
    /// Words of a row of codes, of scales, words in front of the scales, K / 8.
    pub words: Strides,
    pub code: u32,
    pub scales: u32,
    pub interleave: u32,
    /// Codes that share a scale.
    pub group: u32,
    /// Words of a row in front of its second kind of scales.
    pub second: u32,
    /// Packed columns, where these have an order.
    pub order: u32,
}

/// Bytes of workgroup memory of `weights_any.wgsl`.
pub(crate) const ANY_BYTES: u32 = 48 * 4;

/// Imports `weights_any.wgsl`, with its constants and its buffers.
pub(crate) fn any(shader: Shader, codes: u32, scales: u32) -> Shader {
    shader
        .reads(codes, "codes", "u32")
        .reads(scales, "scales", "u32")
        .constants([
            ("CODE_BITS4", Code::Bits4 as u32),
            ("CODE_BITS5", Code::Bits5 as u32),
            ("CODE_BITS6", Code::Bits6 as u32),
            ("CODE_INT8", Code::Int8 as u32),
            ("CODE_E4M3", Code::E4m3 as u32),
            // The others follow, in the order of the tables.
            ("CODE_IQ4_NL", Code::Iq4Nl as u32),
            ("SCALES_HALF_LESS_8", Scales::HalfLess8 as u32),
            ("SCALES_HALF_LESS_16", Scales::HalfLess16 as u32),
            ("SCALES_HALF", Scales::Half as u32),
            ("SCALES_HALF_OFFSET", Scales::HalfOffset as u32),
            ("SCALES_HALF_ZERO", Scales::HalfZero as u32),
            ("SCALES_FLOAT", Scales::Float as u32),
            ("SCALES_EXPONENT", Scales::Exponent as u32),
            ("SCALES_K", Scales::K as u32),
            ("SCALES_K6", Scales::K6 as u32),
            ("SCALES_BLOCK", Scales::Block as u32),
            ("SCALES_FLAT", Scales::Flat as u32),
        ])
        .floats("TABLES", &[IQ4_NL, E2M1, NF4].concat())
        .import("weights_any")
}

impl Format {
    /// What `weights_any.wgsl` is told of rows of k.
    pub(crate) fn any(&self, k: usize) -> Any {
        let words = [self.code_words(k), self.scale_words(k), self.order_words(k), self.packed_k(k) / 8];
        Any {
            words: words.map(|words| words as u32),
            code: self.code as u32,
            scales: self.scales as u32,
            interleave: self.interleave,
            group: if self.group == 0 { u32::MAX } else { self.group },
            second: match self.scales {
                Scales::HalfZero => self.groups(k).div_ceil(2) as u32,
                Scales::K6 => (k as u64).div_ceil(256) as u32 * 4,
                _ => 0,
            },
            order: if self.order == 0 { 0 } else { self.packed_k(k) as u32 },
        }
    }

    /// Words of the codes and the scales of a matrix `[n, k]`, which shaders must count.
    ///
    /// # Errors
    /// The buffer of these names that is too large, and what makes no format.
    pub(crate) fn countable(&self, n: usize, k: usize, names: [&'static str; 2]) -> Checked<[u64; 2]> {
        self.check(k)?;
        let words = [self.code_bytes(n, k) / 4, self.scale_bytes(n, k) / 4];
        if let Some((arg, words)) = names.into_iter().zip(words).find(|&(_, words)| words > u64::from(u32::MAX)) {
            return Err(ErrorKind::IndexOverflow { arg, last: u128::from(words) - 1 });
        }
        // A scale by the place in the matrix counts elements.
        if self.scales == Scales::Flat && product!(n, k) > u64::from(u32::MAX) {
            return Err(ErrorKind::IndexOverflow { arg: names[0], last: n as u128 * k as u128 - 1 });
        }
        Ok(words)
    }

    /// Its constants; `aligned`: four rows that are read together start at a multiple of 4.
    pub(crate) fn coded(&self, aligned: bool) -> Coded {
        let Format { code, scales, interleave, .. } = *self;
        Coded { code, scales, interleave, by_fours: aligned && interleave == 8, bytes: false, zeroed: false }
    }

    /// Its parameters, of `matrices` of `[n, k]`, one after the other, the scales of which are preceded by `first` words.
    pub(crate) fn place(&self, n: usize, k: usize, matrices: usize, first: u64) -> Place {
        let rows = self.rows(n);
        let groups = self.groups(k);
        let second = match self.scales {
            Scales::HalfZero => groups.div_ceil(2),
            Scales::K6 => (k as u64).div_ceil(256) * 4,
            _ => 0,
        };
        let scale_words = match self.scales {
            Scales::Flat => (self.scale_bytes(n, k) / 4).saturating_sub(1),
            _ => self.scale_words(k),
        };
        let inverse = if self.group == 0 { 0.0 } else { 1.0 / self.group as f32 };
        Place {
            words: [self.code_words(k) as u32, scale_words as u32, first as u32, (self.packed_k(k) / 8) as u32],
            by: [inverse.to_bits(), second as u32, rows as u32, k as u32],
            last: (rows * matrices as u64).saturating_sub(1) as u32,
        }
    }

    /// Codes of a row that share a scale wherever they start at a multiple of so many: 8, 16, 32 or, up to `most`, a multiple of 32.
    pub(crate) fn step(&self, most: u32) -> u32 {
        match (self.scales, self.group) {
            (Scales::Flat, _) => 32,
            (_, 0) => most.max(32),
            (_, group) if group.is_multiple_of(32) && group <= most => group,
            (_, group) => [32, 16].into_iter().find(|&step| group.is_multiple_of(step)).unwrap_or(8),
        }
    }
}

impl Coded {
    /// Whether scales have an offset.
    fn affine(&self) -> bool {
        !matches!(self.scales, Scales::Half | Scales::Float | Scales::Exponent | Scales::Block | Scales::Flat)
    }

    /// What each code is less, where that is the same for all.
    fn zero(&self) -> u32 {
        match self.scales {
            Scales::HalfLess8 => 8,
            Scales::HalfLess16 => 16,
            Scales::K6 => 32,
            _ => 0,
        }
    }

    /// Of invocations, so many lanes of which share k, that multiply so many rows with each weight. With codes less nothing a sum of
    /// a row of a is taken besides: for two rows as many instructions as by offsets, for more rows more.
    pub fn of_few(self, lanes: u32, rows: u32) -> Coded {
        Coded { bytes: self.code == Code::Bits4 && lanes > 1, zeroed: self.zero() > 0 && rows <= 2, ..self }
    }

    /// Whether codes are whole numbers of 4 or 8 bits, of which integer dots are taken.
    pub fn whole(&self) -> bool {
        matches!(self.code, Code::Bits4 | Code::Int8) && self.scales != Scales::Flat
    }

    /// The file that has codes as bytes for integer dots.
    pub fn dots(&self) -> &'static str {
        if self.code == Code::Int8 { "weights_dot_int8" } else { "weights_dot_bits4" }
    }

    /// Bytes of workgroup memory that decoding takes.
    pub fn wg_bytes(&self) -> u32 {
        if matches!(self.code, Code::Iq4Nl | Code::E2m1 | Code::Nf4) { 64 } else { 0 }
    }

    /// Declares `codes` and `scales`, and imports what decodes them: `weights_block` and the like.
    pub fn declare(&self, shader: Shader, codes: u32, scales: u32) -> Shader {
        let element = |fours: bool| if fours { "vec4<u32>" } else { "u32" };
        let by_matrix = matches!(self.scales, Scales::Block | Scales::Flat);
        let shader = shader
            .reads(codes, "codes", element(self.by_fours))
            .reads(scales, "scales", element(self.by_fours && !by_matrix))
            .constant("INTERLEAVE", self.interleave)
            .flag("BY_FOURS", self.by_fours)
            .flag("AFFINE", self.affine())
            .flag("FLAT", self.scales == Scales::Flat)
            .flag("SCALED", !self.affine() && self.scales != Scales::Flat)
            .flag("ZEROED", self.zeroed)
            .constant("ZERO", self.zero())
            .import(match (self.by_fours, by_matrix) {
                (false, _) => "weights_apart",
                (true, false) => "weights_interleaved",
                (true, true) => "weights_interleaved_codes",
            });
        let table = Format::new(self.code, self.scales, 0).table();
        let shader = match table {
            Some(table) => shader.floats("TABLE", table),
            None => shader,
        };
        let shader = shader.import(match self.code {
            Code::Bits4 if self.bytes => "weights_bits4_bytes",
            Code::Bits4 => "weights_bits4",
            Code::Bits5 => "weights_bits5",
            Code::Bits6 => "weights_bits6",
            Code::Int8 => "weights_int8",
            Code::E4m3 => "weights_e4m3",
            Code::Iq4Nl | Code::E2m1 | Code::Nf4 => "weights_table",
        });
        match self.scales {
            Scales::HalfLess8 | Scales::HalfLess16 | Scales::Half => shader.import("weights_half"),
            Scales::HalfOffset => shader.import("weights_half_offset"),
            Scales::HalfZero => shader.import("weights_half_zero"),
            Scales::Float => shader.import("weights_float"),
            Scales::Exponent => shader.import("weights_exponent"),
            Scales::K => shader.import("weights_k"),
            Scales::K6 => shader.import("weights_k6"),
            Scales::Block => shader.import("weights_block"),
            Scales::Flat => shader.import("weights_flat"),
        }
        .import("weights")
    }
}
