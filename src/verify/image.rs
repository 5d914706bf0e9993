//! Images of buffers: views scattered into canaries, and gathered from them.

use std::ops::Range;

use crate::{Dtype, Layout};

/// Bindings start at multiples of this, which suits every offset alignment, and after a canary.
const FRONT: usize = 256;
/// The least length of a canary.
const BACK: usize = 64;

/// A NaN in f32, f16 and bf16 alike: what stands where nothing may be read, or has not been written.
pub const POISON: u8 = 0xff;

/// How one number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    F(Dtype),
    U32,
    I32,
    U16,
    /// A byte.
    U8,
    /// A byte with a sign.
    I8,
    /// Two words, the lower one first; values beyond 2^53 are rounded.
    I64,
    /// Bit `i % 32` of word `i / 32`.
    Bit,
}

impl From<Dtype> for Number {
    fn from(dtype: Dtype) -> Number {
        Number::F(dtype)
    }
}

impl Number {
    pub fn bits(self) -> usize {
        match self {
            Number::F(dtype) => 8 * dtype.bytes() as usize,
            Number::U32 | Number::I32 => 32,
            Number::U16 => 16,
            Number::U8 | Number::I8 => 8,
            Number::I64 => 64,
            Number::Bit => 1,
        }
    }

    /// The value that is stored in place of `v`. Integers wrap, as words do.
    pub fn round(self, v: f64) -> f64 {
        match self {
            Number::F(dtype) => dtype.round(v),
            Number::U32 => f64::from(v as i64 as u32),
            Number::I32 => f64::from(v as i64 as i32),
            Number::U16 => f64::from(v as i64 as u16),
            Number::U8 => f64::from(v as i64 as u8),
            Number::I8 => f64::from(v as i64 as i8),
            Number::I64 => v as i64 as f64,
            Number::Bit => f64::from(u8::from(v != 0.0)),
        }
    }

    /// The bytes of `values`; of single bits, whole words.
    pub fn encode(self, values: &[f64]) -> Vec<u8> {
        let words = |values: &[f64]| values.iter().map(|&v| v as i64).collect::<Vec<_>>();
        match self {
            Number::F(dtype) => {
                let mut bytes = dtype.encode(values);
                bytes.truncate(values.len() * dtype.bytes() as usize); // `encode` pads to words
                bytes
            }
            Number::U32 | Number::I32 => words(values).iter().flat_map(|&v| (v as u32).to_le_bytes()).collect(),
            Number::U16 => words(values).iter().flat_map(|&v| (v as u16).to_le_bytes()).collect(),
            Number::U8 | Number::I8 => words(values).iter().map(|&v| v as u8).collect(),
            Number::I64 => words(values).iter().flat_map(|&v| v.to_le_bytes()).collect(),
            Number::Bit => {
                let mut bytes = vec![0; values.len().div_ceil(32) * 4];
                for (i, &v) in values.iter().enumerate() {
                    bytes[i / 8] |= u8::from(v != 0.0) << (i % 8);
                }
                bytes
            }
        }
    }

    /// The values of `bytes`; of single bits, those of all words.
    pub fn decode(self, bytes: &[u8]) -> Vec<f64> {
        let words = || bytes.as_chunks::<4>().0.iter().copied().map(u32::from_le_bytes);
        match self {
            Number::F(dtype) => dtype.decode(bytes),
            Number::U32 => words().map(f64::from).collect(),
            Number::I32 => words().map(|v| f64::from(v as i32)).collect(),
            Number::U16 => bytes.as_chunks::<2>().0.iter().map(|&b| f64::from(u16::from_le_bytes(b))).collect(),
            Number::U8 => bytes.iter().map(|&b| f64::from(b)).collect(),
            Number::I8 => bytes.iter().map(|&b| f64::from(b as i8)).collect(),
            Number::I64 => bytes.as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect(),
            Number::Bit => bytes.iter().flat_map(|b| (0..8).map(move |i| f64::from(b >> i & 1))).collect(),
        }
    }
}

/// Rows of `cols` numbers by a layout. Single bits lie in one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rows {
    pub layout: Layout<3>,
    pub sizes: [usize; 3],
    pub cols: usize,
    pub number: Number,
}

impl Rows {
    /// Rows of outer sizes `sizes`, of which there are at most three.
    pub fn new<const N: usize>(layout: Layout<N>, sizes: [usize; N], cols: usize, number: impl Into<Number>) -> Rows {
        fn last<const N: usize>(values: [usize; N], fill: usize) -> [usize; 3] {
            let mut three = [fill; 3];
            three[3 - N..].copy_from_slice(&values);
            three
        }
        let layout = Layout { offset: layout.offset, strides: layout.strides.map(|strides| last(strides, 0)) };
        Rows { layout, sizes: last(sizes, 1), cols, number: number.into() }
    }

    /// One row of `len` numbers that starts at number `offset`.
    pub fn flat(offset: usize, len: usize, number: impl Into<Number>) -> Rows {
        Rows::new(Layout::<1>::at(offset), [1], len, number)
    }

    fn rows(&self) -> usize {
        self.sizes.iter().fold(1, |all, &size| all.saturating_mul(size))
    }

    /// Numbers in all rows.
    pub fn len(&self) -> usize {
        self.rows().saturating_mul(self.cols)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape, without leading axes of 1.
    pub fn shape(&self) -> Vec<usize> {
        let first = self.sizes.iter().position(|&n| n != 1).unwrap_or(3);
        self.sizes[first..].iter().copied().chain([self.cols]).collect()
    }

    fn start(&self, row: usize) -> usize {
        self.layout.row_start(self.sizes, self.cols, row)
    }

    /// Whether all rows follow each other from the first number on.
    pub fn is_dense(&self) -> bool {
        (0..self.rows()).all(|row| self.start(row) == row * self.cols)
    }

    /// Bytes from the start of the binding to the end of the last row; whole words.
    pub fn bytes(&self) -> usize {
        if self.rows() == 0 {
            return 0;
        }
        let last = match self.layout.strides {
            None => self.len() - self.cols,
            Some(strides) => strides
                .iter()
                .zip(self.sizes)
                .fold(0usize, |at, (stride, size)| at.saturating_add(stride.saturating_mul(size - 1))),
        };
        let end = self.layout.offset.saturating_add(last).saturating_add(self.cols);
        end.saturating_mul(self.number.bits()).div_ceil(32) * 4
    }

    /// The bytes of a row, for a binding that starts at byte `at`.
    fn range(&self, at: usize, row: usize) -> Range<usize> {
        let (start, bits) = (self.start(row), self.number.bits());
        at + start * bits / 8..at + ((start + self.cols) * bits).div_ceil(8)
    }

    /// `[a, b, c, d]` of this view as `[a, c, b, d]`, or back.
    pub fn swapped(&self, back: bool, values: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; values.len()];
        for i in 0..values.len() {
            let j = self.swapped_index(i);
            if back { out[i] = values[j] } else { out[j] = values[i] }
        }
        out
    }

    /// Where number `i` of `[a, b, c, d]` stands in `[a, c, b, d]`.
    pub fn swapped_index(&self, i: usize) -> usize {
        let ([_, b, c], d) = (self.sizes, self.cols);
        let (row, col) = (i / d, i % d);
        ((row / (b * c) * c + row % c) * b + row / c % b) * d + col
    }
}

/// The bytes of one buffer, canaries included.
#[derive(Debug, Clone)]
pub struct Image {
    pub bytes: Vec<u8>,
}

impl Image {
    /// Poison: a canary, then room for one binding after another, of so many bytes each, with canaries between.
    /// Gives the bytes at which they start.
    pub fn with_room(bindings: impl IntoIterator<Item = usize>) -> (Image, Vec<usize>) {
        let (mut starts, mut end) = (Vec::new(), 0usize);
        for bytes in bindings {
            let start = (end + BACK).next_multiple_of(FRONT);
            starts.push(start);
            end = start + bytes.next_multiple_of(4);
        }
        (Image { bytes: vec![POISON; end + BACK] }, starts)
    }

    /// Writes contiguous `values` by `view`, of a binding that starts at byte `at`.
    pub fn scatter(&mut self, at: usize, view: &Rows, values: &[f64]) {
        for row in 0..view.rows() {
            let range = view.range(at, row);
            let bytes = view.number.encode(&values[row * view.cols..(row + 1) * view.cols]);
            let len = range.len();
            self.bytes[range].copy_from_slice(&bytes[..len]);
        }
    }

    /// The values of `view`, contiguous.
    pub fn gather(&self, at: usize, view: &Rows) -> Vec<f64> {
        let row = |row| view.number.decode(&self.bytes[view.range(at, row)]).into_iter().take(view.cols);
        (0..view.rows()).flat_map(row).collect()
    }

    /// The first byte that differs from `before` and that is of none of `views`, which are given with the starts of
    /// their bindings.
    pub fn spilled(&self, before: &Image, views: &[(usize, Rows)]) -> Option<usize> {
        let mut inside = vec![false; self.bytes.len()];
        for (at, view) in views {
            (0..view.rows()).for_each(|row| inside[view.range(*at, row)].fill(true));
        }
        (0..self.bytes.len()).find(|&i| !inside[i] && self.bytes[i] != before.bytes[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_scattered_and_gathered() {
        let view = Rows::new(Layout::strided(1, [10, 4]), [2, 2], 3, Dtype::F16);
        assert_eq!((view.len(), view.shape(), view.bytes()), (12, vec![2, 2, 3], 36));
        let (mut image, at) = Image::with_room([view.bytes(), 5]);
        assert_eq!((&at[..], image.bytes.len()), (&[256, 512][..], 512 + 8 + 64));
        let before = image.clone();
        let values: Vec<f64> = (0..12).map(f64::from).collect();
        image.scatter(at[0], &view, &values);
        assert_eq!(image.gather(at[0], &view), values);
        assert_eq!(image.spilled(&before, &[(at[0], view)]), None);
        image.bytes[256 + 8] = 0; // between the first row and the second
        assert_eq!(image.spilled(&before, &[(at[0], view)]), Some(264));
    }

    #[test]
    fn numbers_come_back() {
        for (number, values) in [
            (Number::F(Dtype::Bf16), [1.5, -2.0, 3.0]),
            (Number::U32, [0.0, 7.0, 4294967295.0]),
            (Number::I32, [0.0, -7.0, 2147483647.0]),
            (Number::U16, [0.0, 7.0, 65535.0]),
            (Number::U8, [0.0, 7.0, 255.0]),
            (Number::I8, [0.0, -128.0, 127.0]),
            (Number::I64, [-1.0, 7.0, 4294967296.0]),
            (Number::Bit, [0.0, 1.0, 1.0]),
        ] {
            assert_eq!(number.decode(&number.encode(&values))[..3], values, "{number:?}");
            assert_eq!(values.map(|v| number.round(v)), values, "{number:?}");
        }
        assert_eq!([Number::U32.round(-1.0), Number::I32.round(4294967295.0)], [4294967295.0, -1.0]);
    }

    #[test]
    fn axes_swap_and_come_back() {
        let view = Rows::new(Layout::default(), [1, 2, 3], 4, Dtype::F32);
        let values: Vec<f64> = (0..24).map(f64::from).collect();
        let swapped = view.swapped(false, &values);
        assert_eq!(&swapped[..8], &[0.0, 1.0, 2.0, 3.0, 12.0, 13.0, 14.0, 15.0]);
        assert_eq!(view.swapped(true, &swapped), values);
    }
}
