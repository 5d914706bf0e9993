//! How a call of position_encoding is made and judged.

use super::{positions_of, random_positions, words};
use crate::position_encoding::{Buffers, Encoding, Positions, Problem, Table};
use crate::reference::position_encoding::reference;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::Rows;
use crate::verify::random::Random;
use crate::verify::small;
use crate::{Dtype, Layout};

/// The tables of learned encodings, by the names of their arguments.
pub fn tables(encoding: &Encoding) -> Vec<(&'static str, Table, Dtype)> {
    match encoding {
        Encoding::Waves(_) => Vec::new(),
        Encoding::Learned { dtype, table, row_table } => {
            let row_table = row_table.map(|table| ("row_table", table, *dtype));
            [("table", *table, *dtype)].into_iter().chain(row_table).collect()
        }
    }
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let rows = |layout, dtype| Rows::new(layout, self.sizes(), self.dim, dtype);
        let mut args = vec![Arg::read("x", rows(self.x_layout, self.x))];
        if let Positions::Buffer { signed, layout } = self.positions {
            let sizes = [self.encoding.axes(), self.batch];
            args.push(Arg::read("positions", Rows::new(layout, sizes, self.rows * self.cols, words(signed))));
        }
        for (name, Table { len, offset }, dtype) in tables(&self.encoding) {
            args.push(Arg::read(name, Rows::new(Layout::<1>::at(offset), [len], self.dim, dtype)));
        }
        args.push(Arg::write("y", rows(self.y_layout, self.y)));
        args
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        match name {
            "positions" => {
                let signed = matches!(self.positions, Positions::Buffer { signed: true, .. });
                let rows = tables(&self.encoding).iter().map(|(_, table, _)| table.len).max();
                random_positions(signed, rows, len, random)
            }
            // Tokens with an offset each.
            _ => (0..len).map(|i| [0.0, 3.0, -40.0][i / self.dim % 3] + random.normal()).collect(),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("x"), bound.get("y"));
        bound.with(
            buffers,
            [("positions", Buffers::positions), ("table", Buffers::table), ("row_table", Buffers::row_table)],
        )
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let positions = positions_of(values);
        let tables: Vec<&[f64]> = tables(&self.encoding).iter().map(|(name, ..)| &values[name][..]).collect();
        let oracle = reference::<f64>(self, &values["x"], positions.as_deref(), &tables);
        let low = reference::<f32>(self, &values["x"], positions.as_deref(), &tables);
        vec![("y", Rule::Rows { cols: self.dim, dtype: self.y, oracle: oracle.y, low: low.y, mag: oracle.mag })]
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |batch: usize, rows: usize, cols: usize| {
            let (batch, rows, cols) = (self.batch.min(batch), self.rows.min(rows), small::like(self.cols, cols));
            let positions = match self.positions {
                // One shader reads both kinds.
                Positions::Buffer { signed, layout } => Positions::Buffer {
                    signed: signed ^ (batch == 1),
                    layout: small::laid(layout, [self.encoding.axes(), batch], rows * cols),
                },
                from => from,
            };
            let [x_layout, y_layout] =
                [self.x_layout, self.y_layout].map(|layout| small::laid(layout, [batch, rows, cols], self.dim));
            Problem { batch, rows, cols, x_layout, y_layout, positions, ..self.clone() }
        };
        small::few(
            [small(3, 3, 21), small(1, 1, 200), small(2, 40, 8)]
                .map(|problem| (problem.batch * problem.rows * problem.cols * problem.dim, problem)),
        )
    }
}
