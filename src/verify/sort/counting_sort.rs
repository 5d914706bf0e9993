//! How a call of counting_sort is made and judged.

use crate::counting_sort::{Buffers, Problem};
use crate::reference::counting_sort::reference;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small;
use crate::verify::vq::vq_lookup::{index_number, random_indices};

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let Problem { n, segments, num_keys, .. } = *self;
        let (total, codes) = (segments.saturating_mul(n), segments.saturating_mul(num_keys));
        let mut args = vec![Arg::read("keys", Rows::new(self.keys, [n, segments], 1, index_number(self.index)))];
        args.push(Arg::write("order", Rows::flat(self.order, total, Number::U32)));
        args.push(Arg::write("offsets", Rows::flat(self.offsets, codes.saturating_add(1), Number::U32)));
        args.extend(self.counts.map(|offset| Arg::write("counts", Rows::flat(offset, codes, Number::U32))));
        args
    }

    fn fill(&self, _: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        random_indices(self.index, self.num_keys, len, random)
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("keys"), bound.get("order"), bound.get("offsets"));
        bound.with(buffers, [("counts", Buffers::counts), ("scratch", Buffers::scratch)])
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let keys: Vec<i64> = values["keys"].iter().map(|&v| v as i64).collect();
        let out = reference(self, &keys);
        let exact = |all: Vec<u32>| Rule::Exact(all.into_iter().map(f64::from).collect());
        let counts = self.counts.map(|_| ("counts", exact(out.counts)));
        [("order", exact(out.order)), ("offsets", exact(out.offsets))].into_iter().chain(counts).collect()
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |n: usize, num_keys: usize| {
            let (n, segments) = (self.n.min(n), self.segments.min(3));
            Problem {
                n,
                segments,
                num_keys: self.num_keys.min(num_keys),
                keys: small::laid(self.keys, [n, segments], 1),
                order: self.order % 8,
                offsets: self.offsets % 8,
                counts: self.counts.map(|at| at % 8),
                ..*self
            }
        };
        small::few(
            [small(50, 7), small(3000, 300), small(70_000, 70_000)]
                .map(|problem| (problem.n * problem.segments + problem.num_keys, problem)),
        )
    }
}
