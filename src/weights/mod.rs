//! Weights as models ship them: packed codes of 4 to 8 bits, and the scales that decode them.
//!
//! A matrix `W [n, k]`, whose rows are outputs, lies in two buffers of u32 words: `codes` and `scales`. A [`Format`] says what
//! a code means and how both buffers are laid out; every product and gather that reads weights reads these buffers.
//!
//! # Layout
//! With `R` the [`interleave`](Format::interleave), word `w` of row `r` of a buffer that has `S` words per row lies at
//! `((r / R) * S + w) * R + r % R`: with 8, one load of four words has the same word of four neighbouring rows. n is padded to
//! a multiple of R by zeros. A row has [`packed_k`](Format::packed_k) codes, K in all, a multiple of 32:
//!
//! | bits | words of a row | code i |
//! |---|---|---|
//! | 4 | K/8 | bits `4 (i % 8)` and up of word `i / 8` |
//! | 5 | K/8, then K/32 | as of 4 bits; bit 4 is bit `i % 32` of word `K/8 + i / 32` |
//! | 6 | K/8, then K/16 | as of 4 bits; bits 4 and 5 are bits `2 (i % 16)` and up of word `K/8 + i / 16` |
//! | 8 | K/4 | byte `i % 4` of word `i / 4` |
//!
//! The scales of a row, and what a code is worth, are those of [`Scales`].
//!
//! Where the [`order`](Format::order) of columns is not that of the checkpoint (GPTQ's act-order), the scales are preceded by K words
//! `perm`, the column of W that each packed column holds (k or more: none), and k words `place`, the packed column of each
//! column of W; both together are padded to a multiple of 8 words.

mod pack;
mod quantize;
#[cfg(test)]
mod tests;
mod unpack;

pub use pack::{Data, Packed, Source, nested_absmax};
pub use quantize::Loss;
pub use unpack::{Stored, Tensor, Unpacked};

use crate::ErrorKind;
use crate::config::words;
use crate::error::Checked;
use crate::layout::{padded, product};

mod shader;

pub(crate) use shader::{ANY_BYTES, Any, Coded, Place, any};

words! {
    /// What the bits of a code are.
    #[derive(Default)]
    pub enum Code {
        /// Numbers from 0 to 15.
        #[default]
        Bits4 = "bits4",
        /// Numbers from 0 to 31.
        Bits5 = "bits5",
        /// Numbers from 0 to 63.
        Bits6 = "bits6",
        /// Numbers from -128 to 127.
        Int8 = "int8",
        /// 8-bit floats, e4m3fn: 0x7f and 0xff are NaN.
        E4m3 = "e4m3",
        /// Places in [`IQ4_NL`].
        Iq4Nl = "iq4_nl",
        /// Places in [`E2M1`].
        E2m1 = "e2m1",
        /// Places in [`NF4`].
        Nf4 = "nf4",
    }
}

/// GGML's table of `iq4_nl`.
pub const IQ4_NL: [f32; 16] =
    [-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0];

/// The values of e2m1 (OCP Microscaling Formats 1.0), twice as large: whole numbers.
pub const E2M1: [f32; 16] = [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

/// The table of NF4 (QLoRA, appendix E; bitsandbytes).
pub const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

words! {
    /// How scales are held, and what a code `c` is worth: `s` and `o` are those of its group, which is [`Format::group`] codes.
    #[derive(Default)]
    pub enum Scales {
        /// `s (c - 8)`; f16, two groups a word, the lower half first.
        #[default]
        HalfLess8 = "half_less_8",
        /// `s (c - 16)`; as above.
        HalfLess16 = "half_less_16",
        /// `s c`; as above. c is the number, or the value of its table.
        Half = "half",
        /// `s c + o`; f16 `s` in the lower half of a word per group, f16 `o` in the upper one.
        HalfOffset = "half_offset",
        /// `s (c - z)`; f16 `s`, two groups a word, then `z` as bytes, four groups a word.
        HalfZero = "half_zero",
        /// `s c`; f32, a word per group.
        Float = "float",
        /// `2^(e - 128) c`; bytes `e`, four groups a word.
        Exponent = "exponent",
        /// GGML's `q4_k` and `q5_k`: `d s c - e m`; per 256 codes f16 `d` and `e` in a word, then 12 bytes of eight 6-bit `s` and `m`.
        K = "k",
        /// GGML's `q6_k`: `(d s) (c - 32)`; per 256 codes four words of sixteen i8 `s`; behind those of the row the f16 `d`, two a word.
        K6 = "k6",
        /// `s c`; f32 `[ceil(n / 128), ceil(k / 128)]`, one for 128 x 128 codes, whatever the interleave.
        Block = "block",
        /// `s c`; f32, that of code j of row i is `(i k + j) / 64`, whatever the interleave.
        Flat = "flat",
    }
}

/// How a packed matrix lies in its two buffers, and what its codes are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Format {
    /// What the bits of a code are.
    pub code: Code,
    /// How its scales are held.
    pub scales: Scales,
    /// Codes of a row that share a scale, a multiple of 8 (of `Block` 128, of `Flat` 64); 0: the whole row.
    pub group: u32,
    /// Rows whose words lie side by side: 1 or 8.
    pub interleave: u32,
    /// Groups into which the columns are sorted, each of `group` codes; 0: columns are in their order.
    pub order: u32,
}

impl Default for Format {
    fn default() -> Self {
        Format::Q4_0
    }
}

impl Format {
    /// GGML's `q4_0`.
    pub const Q4_0: Format = Format::new(Code::Bits4, Scales::HalfLess8, 32);
    /// GGML's `q4_1`.
    pub const Q4_1: Format = Format::new(Code::Bits4, Scales::HalfOffset, 32);
    /// GGML's `q5_0`.
    pub const Q5_0: Format = Format::new(Code::Bits5, Scales::HalfLess16, 32);
    /// GGML's `q5_1`.
    pub const Q5_1: Format = Format::new(Code::Bits5, Scales::HalfOffset, 32);
    /// GGML's `q8_0`.
    pub const Q8_0: Format = Format::new(Code::Int8, Scales::Half, 32);
    /// GGML's `iq4_nl`.
    pub const IQ4_NL: Format = Format::new(Code::Iq4Nl, Scales::Half, 32);
    /// MXFP4, as GGML and OCP have it.
    pub const MXFP4: Format = Format::new(Code::E2m1, Scales::Exponent, 32);
    /// GGML's `q4_k`.
    pub const Q4_K: Format = Format::new(Code::Bits4, Scales::K, 32);
    /// GGML's `q5_k`.
    pub const Q5_K: Format = Format::new(Code::Bits5, Scales::K, 32);
    /// GGML's `q6_k`.
    pub const Q6_K: Format = Format::new(Code::Bits6, Scales::K6, 16);
    /// Those of GGML.
    pub const GGML: [Format; 10] = [
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q8_0,
        Format::IQ4_NL,
        Format::MXFP4,
        Format::Q4_K,
        Format::Q5_K,
        Format::Q6_K,
    ];
    /// int8 with a scale per row.
    pub const INT8: Format = Format::new(Code::Int8, Scales::Float, 0);
    /// DeepSeek-V3's FP8: e4m3 in blocks of 128 x 128.
    pub const FP8: Format = Format::new(Code::E4m3, Scales::Block, 128);
    /// GPTQ and AWQ by groups of 128.
    pub const GPTQ: Format = Format::new(Code::Bits4, Scales::HalfZero, 128);
    /// bitsandbytes' NF4 where k is a multiple of 64.
    pub const NF4: Format = Format::new(Code::Nf4, Scales::Float, 64);
    /// bitsandbytes' NF4 of any k.
    pub const NF4_FLAT: Format = Format::new(Code::Nf4, Scales::Flat, 64);

    /// Columns in their order, words of eight rows side by side.
    pub const fn new(code: Code, scales: Scales, group: u32) -> Format {
        Format { code, scales, group, interleave: 8, order: 0 }
    }

    /// Bits of a code.
    pub const fn bits(&self) -> u32 {
        match self.code {
            Code::Bits5 => 5,
            Code::Bits6 => 6,
            Code::Int8 | Code::E4m3 => 8,
            _ => 4,
        }
    }

    /// The values of the codes where they are places in a table.
    pub const fn table(&self) -> Option<&'static [f32; 16]> {
        match self.code {
            Code::Iq4Nl => Some(&IQ4_NL),
            Code::E2m1 => Some(&E2M1),
            Code::Nf4 => Some(&NF4),
            _ => None,
        }
    }

    /// Whether the scales are found by the place in the matrix rather than in their row.
    pub const fn by_matrix(&self) -> bool {
        matches!(self.scales, Scales::Block | Scales::Flat)
    }

    /// Codes of a row as it is packed, in whole groups where columns are sorted; a multiple of 32.
    pub fn packed_k(&self, k: usize) -> u64 {
        match self.order {
            0 => padded(k, 32),
            groups => padded(product!(groups, self.group), 32),
        }
    }

    /// Groups of a row.
    pub fn groups(&self, k: usize) -> u64 {
        match (self.order, self.group) {
            (0, 0) => 1,
            (0, group) => (k as u64).div_ceil(group.into()),
            (groups, _) => groups.into(),
        }
    }

    /// Words of a row of codes.
    pub fn code_words(&self, k: usize) -> u64 {
        product!(self.packed_k(k) / 32, self.bits())
    }

    /// Words of a row of scales; 0 where these are found [by the matrix](Self::by_matrix).
    pub fn scale_words(&self, k: usize) -> u64 {
        let groups = self.groups(k);
        let blocks = (k as u64).div_ceil(256);
        match self.scales {
            Scales::HalfLess8 | Scales::HalfLess16 | Scales::Half => groups.div_ceil(2),
            Scales::HalfOffset | Scales::Float => groups,
            Scales::HalfZero => groups.div_ceil(2) + groups.div_ceil(4),
            Scales::Exponent => groups.div_ceil(4),
            Scales::K => product!(blocks, 4u32),
            Scales::K6 => product!(blocks, 4u32) + blocks.div_ceil(2),
            Scales::Block | Scales::Flat => 0,
        }
    }

    /// Words in front of the scales: the order of the columns.
    pub fn order_words(&self, k: usize) -> u64 {
        match self.order {
            0 => 0,
            _ => padded(self.packed_k(k).saturating_add(k as u64), 8),
        }
    }

    /// Rows as they are packed.
    pub fn rows(&self, n: usize) -> u64 {
        padded(n, self.interleave.max(1).into())
    }

    /// Bytes of the codes of `[n, k]`.
    pub fn code_bytes(&self, n: usize, k: usize) -> u64 {
        product!(self.rows(n), self.code_words(k), 4u32)
    }

    /// Bytes of the scales of `[n, k]`.
    pub fn scale_bytes(&self, n: usize, k: usize) -> u64 {
        let words = match self.scales {
            Scales::Block => product!(n.div_ceil(128), k.div_ceil(128)),
            Scales::Flat => product!(n, k).div_ceil(64),
            _ => product!(self.rows(n), self.scale_words(k)),
        };
        product!(self.order_words(k).saturating_add(words), 4u32)
    }

    /// What makes no format, or does not fit rows of k.
    pub(crate) fn check(&self, k: usize) -> Checked<()> {
        let invalid = |reason: String| Err(ErrorKind::invalid("format", reason));
        let Format { code, scales, group, interleave, order } = *self;
        if ![1, 8].contains(&interleave) {
            return invalid(format!("words of 1 or 8 rows lie side by side, not of {interleave}"));
        }
        let groups_fit = match scales {
            Scales::K => group == 32 && matches!(code, Code::Bits4 | Code::Bits5),
            Scales::K6 => group == 16 && code == Code::Bits6,
            Scales::Block => group == 128,
            Scales::Flat => group == 64,
            Scales::Float => group.is_multiple_of(8),
            _ => group > 0 && group.is_multiple_of(8),
        };
        if !groups_fit {
            return invalid(format!(
                "{} codes in groups of {group} do not go with scales {}",
                code.name(),
                scales.name()
            ));
        }
        // Shaders find the group of a column by f32.
        if self.packed_k(k) >= 1 << 22 {
            return Err(ErrorKind::invalid("k", format!("{k}, packed {}, is more than 2^22 - 1", self.packed_k(k))));
        }
        if matches!(scales, Scales::K | Scales::K6) && !k.is_multiple_of(256) {
            return invalid(format!("k of {k} is no multiple of 256, as scales {} have it", scales.name()));
        }
        if order > 0 && (group == 0 || scales != Scales::HalfZero || product!(order, group) < k as u64) {
            return invalid(format!("{order} groups of {group} columns do not hold k of {k}"));
        }
        Ok(())
    }
}
