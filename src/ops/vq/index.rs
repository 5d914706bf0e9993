//! What ops on code indices have in common: the shape of a lookup, the types of indices, those that are out of range, and
//! their access in shaders.

use crate::args::Element;
use crate::compose::Shader;
use crate::error::{Checked, ErrorKind};

/// What several books make of a position's vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Combine {
    /// Vectors side by side.
    #[default]
    Concat,
    /// Their sum.
    Sum,
}

/// Where the channels of a tensor stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Order {
    /// `[batch, spatial, channels]`: NHWC.
    #[default]
    ChannelsLast,
    /// `[batch, channels, spatial]`: NCHW.
    ChannelsFirst,
}

/// What an index that is not in the book stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OutOfRange {
    /// No code: a vector of zeros.
    #[default]
    Zero,
    /// Code 0.
    First,
    /// The last code; where the index is negative, code 0: as [`position_encoding`](crate::position_encoding) reads tables.
    Nearest,
}

/// [`OutOfRange::Nearest`] of signed indices, to shaders.
const NEAREST_SIGNED: u32 = 3;

impl OutOfRange {
    /// As shaders call them.
    const CODES: [(&str, u32); 3] = [
        ("OUT_OF_RANGE_ZERO", OutOfRange::Zero as u32),
        ("OUT_OF_RANGE_NEAREST", OutOfRange::Nearest as u32),
        ("OUT_OF_RANGE_NEAREST_SIGNED", NEAREST_SIGNED),
    ];

    /// What shaders are told, for indices of this type.
    pub(in crate::ops) fn code(self, index: Index) -> u32 {
        if (self, index) == (OutOfRange::Nearest, Index::I32) { NEAREST_SIGNED } else { self as u32 }
    }

    /// The code of an index among so many codes, of which there is at least one.
    pub(crate) fn find(self, index: i64, num_codes: usize) -> Option<usize> {
        match self {
            _ if (0..num_codes as i64).contains(&index) => Some(index as usize),
            OutOfRange::Zero => None,
            OutOfRange::First => Some(0),
            OutOfRange::Nearest => Some(if index < 0 { 0 } else { num_codes.saturating_sub(1) }),
        }
    }
}

/// The type of indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Index {
    /// 32 bits.
    #[default]
    U32,
    /// 32 bits; a negative one is out of range.
    I32,
    /// 16 bits, two in a word.
    U16,
}

impl Index {
    /// Bits of one index.
    pub const fn bits(self) -> u64 {
        match self {
            Index::U32 | Index::I32 => 32,
            Index::U16 => 16,
        }
    }
}

impl From<Index> for Element {
    fn from(index: Index) -> Element {
        Element { bits: index.bits(), dtype: None }
    }
}

/// Refuses books of no codes, codes of no elements, and sizes past 2^30.
pub(super) fn check_books(books: usize, num_codes: usize, code_dim: usize) -> Checked {
    let sizes = [("books", books), ("num_codes", num_codes), ("code_dim", code_dim)];
    match sizes.into_iter().find(|&(_, n)| n == 0 || n > 1 << 30) {
        None => Ok(()),
        Some((arg, n)) => Err(ErrorKind::invalid(arg, format!("{n} is not 1 to 2^30"))),
    }
}

impl Shader {
    /// The code indices of slot `slot`, as `code_index(i) -> u32`; `short` where they have 16 bits.
    pub(in crate::ops) fn code_indices(self, slot: u32, short: bool) -> Shader {
        let file = if short { "vq_index16" } else { "vq_index32" };
        self.constants(OutOfRange::CODES).reads(slot, "indices", "u32").import(file).import("vq_index_instead")
    }
}
