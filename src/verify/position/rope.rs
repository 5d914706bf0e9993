//! How a call of rope is made and judged.

use super::{positions_of, random_positions, words};
use crate::reference::rope::reference;
use crate::rope::{Angles, Buffers, Heads, Positions, Problem};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
use crate::verify::small;
use crate::{Dtype, Layout};

impl Describe for Problem {
    /// As in case files, q and its output are `x` and `y`.
    fn args(&self) -> Vec<Arg> {
        let rows = |heads: Heads, layout, dtype| Rows::new(layout, self.sizes(heads.heads), self.head_dim, dtype);
        let mut args = vec![Arg::read("x", rows(self.q, self.q.from, self.x))];
        args.extend(self.k.map(|k| Arg::read("k", rows(k, k.from, self.x))));
        if let Positions::Buffer { signed, layout } = self.positions {
            let sizes = [self.axes.count(), self.batch];
            args.push(Arg::read("positions", Rows::new(layout, sizes, self.seq, words(signed))));
        }
        if let Angles::Tables { max_pos, cos, sin } = self.angles {
            let table = |at| Rows::new(Layout::<1>::at(at), [max_pos], self.rotary_dim / 2, Dtype::F32);
            args.extend([Arg::read("cos", table(cos)), Arg::read("sin", table(sin))]);
        }
        args.push(Arg::write("y", rows(self.q, self.q.to, self.y)));
        args.extend(self.k.map(|k| Arg::write("k_out", rows(k, k.to, self.y))));
        args
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        match name {
            "positions" => {
                let signed = matches!(self.positions, Positions::Buffer { signed: true, .. });
                let rows = if let Angles::Tables { max_pos, .. } = self.angles { Some(max_pos) } else { None };
                random_positions(signed, rows, len, random)
            }
            "cos" | "sin" => (0..len).map(|_| (7.0 * random.normal()).sin()).collect(),
            // Head vectors of several magnitudes, some with an offset.
            _ => {
                let of = |row: usize| [(1.0, 0.0), (4.0, 30.0), (0.01, 3.0), (100.0, 0.0)][row % 4];
                let values = random.outliers(len).into_iter().enumerate();
                values.map(|(i, v)| (of(i / self.head_dim), v)).map(|((spread, shift), v)| shift + spread * v).collect()
            }
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("x"), bound.get("y"));
        bound.with(
            buffers,
            [
                ("k", Buffers::k),
                ("k_out", Buffers::k_out),
                ("positions", Buffers::positions),
                ("cos", Buffers::cos),
                ("sin", Buffers::sin),
            ],
        )
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let positions = positions_of(values);
        let tables = values.get("cos").zip(values.get("sin")).map(|(cos, sin)| [&cos[..], &sin[..]]);
        let rule = |heads: Heads, x: &[f64]| {
            let oracle = reference::<f64>(self, heads.heads, x, positions.as_deref(), tables);
            let low = reference::<f32>(self, heads.heads, x, positions.as_deref(), tables);
            Rule::Rows { cols: self.head_dim, dtype: self.y, oracle: oracle.y, low: low.y, mag: oracle.mag }
        };
        let k = self.k.map(|k| ("k_out", rule(k, &values["k"])));
        [("y", rule(self.q, &values["x"]))].into_iter().chain(k).collect()
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |batch: usize, seq: usize, heads: usize| {
            let (batch, seq) = (self.batch.min(batch), small::like(self.seq, seq));
            let of = |own: Heads| {
                let heads = own.heads.min(heads);
                let laid = |layout| small::laid(layout, [batch, heads, seq], self.head_dim);
                Heads { heads, from: laid(own.from), to: laid(own.to) }
            };
            let positions = match self.positions {
                // One shader reads both kinds.
                Positions::Buffer { signed, layout } => Positions::Buffer {
                    signed: signed ^ (heads == 1),
                    layout: small::laid(layout, [self.axes.count(), batch], seq),
                },
                offset => offset,
            };
            Problem { batch, seq, q: of(self.q), k: self.k.map(of), positions, ..self.clone() }
        };
        small::few(
            [small(2, 21, 3), small(1, 150, 1), small(1, 5, 40)]
                .map(|problem| (problem.batch * problem.seq * problem.q.heads * problem.head_dim, problem)),
        )
    }
}
