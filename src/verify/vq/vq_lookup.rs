//! How a call of vq_lookup is made and judged.

use super::laid_batches;
use crate::reference::vq_lookup::{Output, reference};
use crate::reference::weights::decode_row;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::packed;
use crate::verify::random::Random;
use crate::verify::small::{self, laid, like};
use crate::vq_lookup::{Buffers, Combine, Config, Index, Order, OutOfRange, Problem};
use crate::weights::{Format, Scales};

/// How indices are stored.
pub fn index_number(index: Index) -> Number {
    match index {
        Index::U32 => Number::U32,
        Index::I32 => Number::I32,
        Index::U16 => Number::U16,
    }
}

/// Random indices, of which one in 13 is out of range, as far as the type has such.
pub fn random_indices(index: Index, num_codes: usize, len: usize, random: &mut Random) -> Vec<f64> {
    let garbage: &[i64] = match index {
        Index::I32 => &[-1, i32::MIN as i64, i32::MAX as i64],
        Index::U32 => &[u32::MAX as i64, 1 << 31],
        Index::U16 => &[65535],
    };
    let one = |_| match random.below(13) {
        0 => garbage[random.below(garbage.len())] as f64,
        1 => num_codes as f64,
        _ => random.below(num_codes) as f64,
    };
    (0..len).map(one).collect()
}

/// Formats of all codes and scales.
const OTHERS: [Format; 9] = [
    Format::Q5_1,
    Format::IQ4_NL,
    Format::MXFP4,
    Format::Q4_K,
    Format::Q6_K,
    Format::INT8,
    Format::FP8,
    Format::GPTQ,
    Format::NF4_FLAT,
];

/// Elements of a small output, at most.
const ELEMENTS: usize = 1 << 18;

/// The Problem of two batches of at least so many positions, at most so many books, and codes of this length.
fn smaller(problem: &Problem, [positions, books, code_dim]: [usize; 3]) -> Problem {
    let (batch, spatial) = (problem.batch.min(2), like(problem.spatial, positions));
    let by_block = problem.format.is_some_and(|format| format.scales == Scales::Block);
    let num_codes = like(problem.num_codes, if by_block { 129 } else { 17 });
    let mut own = Problem { batch, spatial, books: problem.books.min(books), num_codes, code_dim, ..*problem };
    let (of, (sizes, cols)) = (problem.y_shape().0, own.y_shape());
    own.indices = laid(own.indices, [own.positions(), own.books], 1);
    own.codebook = laid(own.codebook, [own.books, num_codes], code_dim);
    own.y_layout = laid_batches(own.y_layout, of, sizes, cols);
    own.bad = own.bad.map(|offset| offset % 8);
    own
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let (sizes, cols) = self.y_shape();
        let book = Rows::new(self.codebook, [self.books, self.num_codes], self.code_dim, self.x);
        let indices = Rows::new(self.indices, [self.positions(), self.books], 1, index_number(self.index));
        let mut args = vec![Arg::read("indices", indices)];
        match &self.format {
            None => args.push(Arg::read("codebook", book)),
            Some(format) => {
                let words = |bytes: u64| Rows::flat(0, (bytes / 4) as usize, Number::U32);
                let (n, k) = (self.num_codes, self.code_dim);
                args.push(Arg::read("codebook", words(format.code_bytes(n, k))));
                args.push(Arg::read("scales", words(format.scale_bytes(n, k))));
            }
        }
        args.push(Arg::write("y", Rows::new(self.y_layout, sizes, cols, self.y)));
        args.extend(self.bad.map(|offset| Arg::write("bad", Rows::flat(offset, 1, Number::U32))));
        args
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        match name {
            "indices" => random_indices(self.index, self.num_codes, len, random),
            "scales" => {
                let format = self.format.as_ref().expect("packed weights");
                packed::scales(format, self.num_codes, self.code_dim, random)
            }
            "codebook" if self.format.is_some() => {
                packed::codes(self.format.as_ref().expect("packed weights"), len, random)
            }
            _ => random.outliers(len).into_iter().map(|v| 3.0 * v).collect(),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("indices"), bound.get("codebook"), bound.get("y"));
        bound.with(buffers, [("bad", Buffers::bad), ("scales", Buffers::scales)])
    }

    /// Bit by bit where elements are only moved, else by the numerics rule.
    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let mut indices: Vec<i64> = values["indices"].iter().map(|&v| v as i64).collect();
        let (oracle, low): (Output, Output) = match &self.format {
            None => {
                let book = &values["codebook"];
                (reference::<f64>(self, &indices, book), reference::<f32>(self, &indices, book))
            }
            Some(format) => {
                // A book of the rows that are asked for, behind row 0; the others may hold anything.
                let packed =
                    packed::packed(*format, self.num_codes, self.code_dim, &values["codebook"], &values["scales"]);
                let mut rows = vec![0];
                for index in &mut indices {
                    if (0..self.num_codes as i64).contains(index) {
                        rows.push(*index as usize);
                        *index = rows.len() as i64 - 1;
                    } else {
                        *index = -1;
                    }
                }
                let plain = Problem { format: None, num_codes: rows.len(), ..*self };
                let row = |r: &usize| decode_row::<f64>(format, self.code_dim, &packed.codes, &packed.scales, *r);
                let low_row = |r: &usize| decode_row::<f32>(format, self.code_dim, &packed.codes, &packed.scales, *r);
                let [book, low_book] =
                    [rows.iter().flat_map(row).collect::<Vec<_>>(), rows.iter().flat_map(low_row).collect()];
                (reference::<f64>(&plain, &indices, &book), reference::<f32>(&plain, &indices, &low_book))
            }
        };
        let moved = self.format.is_none() && self.x == self.y && (self.combine == Combine::Concat || self.books == 1);
        let y = match moved {
            true => Rule::Exact(oracle.y),
            false => {
                let (cols, dtype) = (self.y_shape().1, self.y);
                Rule::Rows { cols, dtype, oracle: oracle.y, low: low.y, mag: oracle.mag }
            }
        };
        let bad = self.bad.map(|_| ("bad", Rule::Exact(vec![f64::from(oracle.bad)])));
        [("y", y)].into_iter().chain(bad).collect()
    }

    fn telling(&self, config: &Config) -> Vec<Telling<Problem>> {
        let [wg_size, lanes, rows] = [config.wg_size, config.lanes, config.rows].map(|size| size as usize);
        let planes = self.order == Order::ChannelsFirst;
        // Positions of a workgroup.
        let group = match planes {
            true => 2 * wg_size,
            false => rows * wg_size.checked_div(lanes).unwrap_or(1),
        };
        let code_dim = if planes { like(self.code_dim, 2 * lanes + 1) } else { self.code_dim };
        let small = [((2 * group).max(32) + 1, 3), (9, 17), (1, 3)].map(|(positions, books)| {
            let most = (ELEMENTS / (2 * books.min(self.books) * code_dim).max(1)).max(1);
            smaller(self, [positions.min(most), books, code_dim])
        });
        // A parameter.
        let out_of_range = match self.out_of_range {
            OutOfRange::Zero => OutOfRange::First,
            OutOfRange::First | OutOfRange::Nearest => OutOfRange::Zero,
        };
        let other = Problem { out_of_range, ..small[0] };
        // All formats have one shader.
        let formats = OTHERS.iter().filter(|_| self.format.is_some()).filter_map(|&format| {
            let whole = matches!(format.scales, Scales::K | Scales::K6);
            let code_dim = match whole {
                true if code_dim.is_multiple_of(8) => 256,
                true => return None,
                false => like(code_dim, 33),
            };
            Some(smaller(&Problem { format: Some(format), ..*self }, [9, 1, code_dim]))
        });
        let single = small[2..].iter().filter(|_| self.positions() <= 16);
        let small = small[..2].iter().chain(single).copied().chain([other]).chain(formats);
        let elements = self.positions() as f64 * self.channels() as f64 + self.num_codes as f64 * self.code_dim as f64;
        small::and_own(small, self, 16.0 * elements)
    }
}
