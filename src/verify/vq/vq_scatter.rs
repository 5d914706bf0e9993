//! How a call of vq_scatter is made and judged.

use super::laid_batches;
use super::vq_lookup::{index_number, random_indices};
use crate::Dtype;
use crate::reference::vq_scatter::{Output, reference};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::rule::on_top;
use crate::verify::small::{self, laid, like};
use crate::vq_lookup::{Combine, Order, OutOfRange};
use crate::vq_scatter::{Buffers, Config, Problem};

/// `x` as the reference takes it: `[positions, books, code_dim]`.
pub fn vectors(problem: &Problem, x: &[f64]) -> Vec<f64> {
    let Problem { books, code_dim, spatial, combine, order, .. } = *problem;
    let channels = if combine == Combine::Concat { books * code_dim } else { code_dim };
    let at = |i: usize, book: usize, d: usize| {
        let channel = if combine == Combine::Concat { book * code_dim + d } else { d };
        match order {
            Order::ChannelsLast => x[i * channels + channel],
            Order::ChannelsFirst => x[(i / spatial * channels + channel) * spatial + i % spatial],
        }
    };
    let rows = (0..problem.positions()).flat_map(|i| (0..books).map(move |book| (i, book)));
    rows.flat_map(|(i, book)| (0..code_dim).map(move |d| at(i, book, d))).collect()
}

/// Positions of a small call, at most, where no longer runs are asked for.
const POSITIONS: usize = 4096;

/// The Problem of few positions and codes: with as many passes of the sort, and blocks only where it has them.
fn smaller(problem: &Problem, config: &Config) -> Problem {
    let Config { sort, lanes, turns, block_bits, .. } = *config;
    let total = problem.books.saturating_mul(problem.positions());
    let (batch, books) = (problem.batch.min(2), problem.books.min(2));
    let block = 1usize << block_bits.min(30);
    let positions = (2 * sort.part as usize).min(POSITIONS).max(if total > block { block } else { 0 });
    let spatial = like(problem.spatial, positions / (batch * books).max(1) + 1);
    // Bits of the number of codes, of which a pass sorts by some.
    let bits = usize::BITS - problem.books.saturating_mul(problem.num_codes).leading_zeros();
    let before = (bits.div_ceil(sort.digit_bits.max(1)) - 1) * sort.digit_bits;
    let num_codes = like(problem.num_codes, 17.max((1usize << before.min(30)).div_ceil(books.max(1))));
    // Chunks are of four elements or of one.
    let turn = (lanes * turns).max(1) as usize;
    let alike = |&own: &usize| {
        let whole = |by: usize| own.is_multiple_of(by) == problem.code_dim.is_multiple_of(by);
        own % 8 == problem.code_dim % 8 && whole(turn) && whole(4 * turn)
    };
    let code_dim = (4 * turn..problem.code_dim).find(alike).unwrap_or(problem.code_dim);
    let mut own = Problem { batch, spatial, books, num_codes, code_dim, sums: problem.sums % 8, ..*problem };
    let (of, (sizes, cols)) = (problem.x_shape().0, own.x_shape());
    own.indices = laid(own.indices, [own.positions(), books], 1);
    own.x_layout = laid_batches(own.x_layout, of, sizes, cols);
    own.counts = own.counts.map(|offset| offset % 8);
    own
}

/// Ten of eleven vectors are those of the last code.
fn crowded(problem: &Problem, values: &mut Values) {
    let last = problem.num_codes.saturating_sub(1) as f64;
    let indices = values.get_mut("indices").into_iter().flatten().enumerate();
    indices.filter(|(i, _)| i % 11 > 0).for_each(|(_, index)| *index = last);
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let indices = Rows::new(self.indices, [self.positions(), self.books], 1, index_number(self.index));
        let (sizes, cols) = self.x_shape();
        let codes = self.books.saturating_mul(self.num_codes);
        let mut args = vec![Arg::read("indices", indices)];
        args.push(Arg::read("x", Rows::new(self.x_layout, sizes, cols, self.x)));
        let out = |name, view| if self.add { Arg::update(name, view) } else { Arg::write(name, view) };
        args.push(out("sums", Rows::flat(self.sums, codes.saturating_mul(self.code_dim), Dtype::F32)));
        args.extend(self.counts.map(|offset| out("counts", Rows::flat(offset, codes, Number::U32))));
        args
    }

    /// Codes past the middle of the book are rare.
    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        if name == "counts" {
            return (0..len).map(|_| random.below(1000) as f64).collect();
        }
        if name == "x" || name == "sums" {
            return (0..len).map(|_| 5.0 + 3.0 * random.normal()).collect();
        }
        let indices = random_indices(self.index, self.num_codes, len, random);
        let lower = |v: f64| if (0.0..self.num_codes as f64).contains(&v) { (v / 2.0).floor() } else { v };
        indices.into_iter().map(|v| if random.below(13) > 0 { lower(v) } else { v }).collect()
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("indices"), bound.get("x"), bound.get("sums"));
        bound.with(buffers, [("counts", Buffers::counts), ("scratch", Buffers::scratch)])
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let indices: Vec<i64> = values["indices"].iter().map(|&v| v as i64).collect();
        let x = vectors(self, &values["x"]);
        let Output { sums: mut oracle, mut mag, counts } = reference::<f64>(self, &indices, &x);
        let mut low = reference::<f32>(self, &indices, &x).sums;
        let before = |name| values.get(name).filter(|_| self.add).map(Vec::as_slice);
        on_top(before("sums"), &mut oracle, &mut low, &mut mag);
        let before = |code: usize| before("counts").map_or(0.0, |before| before[code]);
        let sums = Rule::Rows { cols: self.code_dim, dtype: Dtype::F32, oracle, low, mag };
        let counts = self
            .counts
            .map(|_| Rule::Exact(counts.iter().enumerate().map(|(code, &n)| f64::from(n) + before(code)).collect()));
        [("sums", sums)].into_iter().chain(counts.map(|rule| ("counts", rule))).collect()
    }

    /// Several parts and passes of the sort, and blocks of a run where there are such; all codes, and nearly all vectors of one.
    fn telling(&self, config: &Config) -> Vec<Telling<Problem>> {
        let elements = self.positions() as f64 * self.books as f64 * self.code_dim as f64;
        let codes = self.books as f64 * self.num_codes as f64 * self.code_dim as f64;
        let small = smaller(self, config);
        // Parameters: this, and whether sums are added.
        let out_of_range = match self.out_of_range {
            OutOfRange::Zero => OutOfRange::First,
            OutOfRange::First | OutOfRange::Nearest => OutOfRange::Zero,
        };
        let crowded = Telling::new(Problem { out_of_range, add: !self.add, ..small }, 7).set(crowded);
        small::and_own([small], self, 16.0 * (elements + codes)).into_iter().chain([crowded]).collect()
    }
}
