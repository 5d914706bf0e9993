//! How a call of mask is made and judged.

use crate::softmax::{Mask, MaskKind};
use crate::verify::call::Arg;
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;

/// A Problem whose scores may be masked.
pub trait Masked {
    fn mask(&self) -> Option<Mask>;

    /// Rows and columns of the scores.
    fn scores(&self) -> [usize; 2];

    /// The element of the mask that belongs to a score.
    fn mask_at(&self, row: usize, col: usize) -> usize;

    /// The mask as it lies in memory, in one row.
    fn mask_arg(&self) -> Option<Arg> {
        let number = match self.mask()?.kind {
            MaskKind::Additive(dtype) => Number::F(dtype),
            MaskKind::Bytes => Number::U8,
            MaskKind::Bits => Number::Bit,
        };
        let [rows, cols] = self.scores();
        let end = (0..rows).map(|row| self.mask_at(row, cols.max(1) - 1) + 1).max().unwrap_or(0);
        Some(Arg::read("mask", Rows::flat(0, end, number)))
    }

    /// A third is hidden (additive: minus infinity), and each seventh row of the mask is hidden whole.
    fn fill_mask(&self, len: usize, random: &mut Random) -> Vec<f64> {
        let mut values = vec![f64::NAN; len];
        let [rows, cols] = self.scores();
        for row in 0..rows {
            for col in 0..cols {
                let at = self.mask_at(row, col);
                if !values[at].is_nan() {
                    continue; // broadcast: told by an earlier row
                }
                let hidden = row % 7 == 6 || random.below(3) == 0;
                values[at] = match self.mask().map(|mask| mask.kind) {
                    Some(MaskKind::Additive(_)) if !hidden => random.normal(),
                    Some(MaskKind::Additive(_)) => f64::NEG_INFINITY,
                    // Any byte but 0 shows.
                    Some(MaskKind::Bytes) if !hidden => f64::from(1u8 << (at % 8)),
                    _ => f64::from(!hidden),
                };
            }
        }
        values
    }

    /// The mask as `[rows, cols]`, minus infinity where it hides.
    fn bias(&self, mask: &[f64]) -> Vec<f64> {
        let boolean = !self.mask().is_some_and(|mask| matches!(mask.kind, MaskKind::Additive(_)));
        let bias = |v: f64| match (boolean, v == 0.0) {
            (true, true) => f64::NEG_INFINITY,
            (true, false) => 0.0,
            (false, _) => v,
        };
        let [rows, cols] = self.scores();
        (0..rows * cols).map(|i| bias(mask[self.mask_at(i / cols, i % cols)])).collect()
    }
}
