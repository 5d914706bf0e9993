//! How a call of vq_scatter is made and judged.

use super::vq_lookup::{index_number, random_indices};
use crate::Dtype;
use crate::reference::vq_scatter::{Output, reference};
use crate::verify::call::{Arg, Bound, Describe, Rule, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::vq_lookup::{Combine, Order};
use crate::vq_scatter::{Buffers, Problem};

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

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let indices = Rows::new(self.indices, [self.positions(), self.books], 1, index_number(self.index));
        let (sizes, cols) = self.x_shape();
        let codes = self.books.saturating_mul(self.num_codes);
        let mut args = vec![Arg::read("indices", indices)];
        args.push(Arg::read("x", Rows::new(self.x_layout, sizes, cols, self.x)));
        args.push(Arg::write("sums", Rows::flat(self.sums, codes.saturating_mul(self.code_dim), Dtype::F32)));
        args.extend(self.counts.map(|offset| Arg::write("counts", Rows::flat(offset, codes, Number::U32))));
        args
    }

    /// Codes past the middle of the book are rare.
    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        if name == "x" {
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
        let Output { sums: oracle, mag, counts } = reference::<f64>(self, &indices, &x);
        let low = reference::<f32>(self, &indices, &x).sums;
        let sums = Rule::Rows { cols: self.code_dim, dtype: Dtype::F32, oracle, low, mag };
        let counts = self.counts.map(|_| Rule::Exact(counts.into_iter().map(f64::from).collect()));
        [("sums", sums)].into_iter().chain(counts.map(|rule| ("counts", rule))).collect()
    }
}
