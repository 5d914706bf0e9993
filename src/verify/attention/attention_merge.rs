//! How a call of attention_merge is made and judged.

use super::{statistics, statistics_rule};
use crate::Dtype;
use crate::attention_merge::{Buffers, Problem};
use crate::layout::split_rows;
use crate::reference::attention_merge::{Output, reference};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
use crate::verify::small;

impl Describe for Problem {
    /// `o` and `lse` are the results, as in case files.
    fn args(&self) -> Vec<Arg> {
        let parts = Rows::new(self.o_layout, [self.splits, self.rows], self.dim, self.x);
        let mut args = vec![Arg::read("parts", parts)];
        args.push(Arg::read("lse_parts", Rows::flat(self.lse, self.splits * self.rows, Dtype::F32)));
        args.extend(self.sum.map(|at| Arg::read("sum_parts", Rows::flat(at, self.splits * self.rows, Dtype::F32))));
        args.push(Arg::write("o", Rows::new(self.out_layout, self.sizes(), self.dim, self.y)));
        args.extend(self.lse_out.map(|offset| Arg::write("lse", statistics(offset, self.sum_out, self.rows))));
        args
    }

    /// LSEs some of which are minus infinity, for one row all of them.
    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        let mut lse = |i: usize| match i % self.rows == 4 || random.below(5) == 0 {
            true => f64::NEG_INFINITY,
            false => 3.0 * random.normal() - 20.0 * (i % 2) as f64,
        };
        match name {
            "lse_parts" => (0..len).map(&mut lse).collect(),
            "sum_parts" => {
                (0..len).map(|_| if random.below(7) == 0 { 0.0 } else { 1.0 + 300.0 * random.uniform() }).collect()
            }
            _ => random.outliers(len).into_iter().map(|v| 0.5 + v).collect(),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("parts"), bound.get("lse_parts"), bound.get("o"));
        bound.with(buffers, [("lse", Buffers::lse_out), ("sum_parts", Buffers::sum)])
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let Problem { splits, rows, dim: cols, y: dtype, .. } = *self;
        let (parts, lse) = (&values["parts"], &values["lse_parts"]);
        let sum = values.get("sum_parts").map(Vec::as_slice);
        let oracle: Output = reference::<f64>([splits, rows, cols], parts, lse, sum);
        let low: Output = reference::<f32>([splits, rows, cols], parts, lse, sum);
        let mut rules = vec![("o", Rule::Rows { cols, dtype, oracle: oracle.o, low: low.o, mag: oracle.mag })];
        if self.lse_out.is_some() {
            let (own, other) = ([oracle.lse, oracle.max, oracle.sum], [low.lse, low.max, low.sum]);
            rules.push(("lse", statistics_rule(own, other, [oracle.lse_mag, oracle.sum_mag], self.sum_out)));
        }
        rules
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |splits: usize, most: usize| {
            let (splits, (rows, dims)) = (self.splits.min(splits), small::rows(self.rows, self.dims, most));
            let lse_out = self.lse_out.map(|at| at % 8);
            Problem {
                splits,
                rows,
                dims,
                o_layout: small::laid(self.o_layout, [splits, rows], self.dim),
                out_layout: small::laid(self.out_layout, split_rows(rows, dims), self.dim),
                lse: self.lse % 8,
                sum: self.sum.map(|_| self.lse % 8 + splits * rows),
                lse_out,
                sum_out: self.sum_out.map(|_| lse_out.unwrap_or(0) + rows),
                ..*self
            }
        };
        let mut all = small::few(
            [small(5, 21), small(70, 3), small(2, 300)]
                .map(|problem| (problem.splits * problem.rows * problem.dim, problem)),
        );
        // A maximum that starts from 0 loses these.
        let far = |_: &Problem, values: &mut Values| {
            values.get_mut("lse_parts").into_iter().flatten().for_each(|lse| *lse -= 300.0);
        };
        all.first_mut().into_iter().for_each(|telling| telling.set = Some(far));
        all
    }
}
