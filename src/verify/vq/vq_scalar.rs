//! How a call of vq_scalar is made and judged.

use crate::reference::vq_scalar::{decode, encode};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small::{self, laid, like};
use crate::vq_scalar::{Buffers, Config, Direction, Kind, Problem};

/// Levels of many dimensions: fewer than 2^32 in all.
const LEVELS: [u32; 24] = [40, 3, 2, 2, 3, 2, 2, 2, 3, 2, 2, 2, 2, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2];
const SIGNS: [u32; 24] = [2; 24];

/// Zeros, and values far beyond all levels.
fn extremes(_: &Problem<'static>, values: &mut Values) {
    values.entry("x").and_modify(|x| x.iter_mut().zip([0.0, -0.0, 6e4, -6e4]).for_each(|(x, value)| *x = value));
}

impl Describe for Problem<'static> {
    fn args(&self) -> Vec<Arg> {
        let indices = Rows::flat(self.indices, self.n, Number::U32);
        let y = Arg::write("y", Rows::new(self.y_layout, [self.n], self.levels.len(), self.y));
        match self.direction {
            Direction::Encode => {
                let x = Rows::new(self.x_layout, [self.n], self.levels.len(), self.x);
                vec![Arg::read("x", x), Arg::write("indices", indices), y]
            }
            Direction::Decode => vec![Arg::read("indices", indices), y],
        }
    }

    /// Words of any value: digits past the last dimension are ignored.
    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        let word = |_| if name == "x" { 1.5 * random.normal() } else { f64::from(random.word() as u32) };
        (0..len).map(word).collect()
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("indices"), bound.get("y"));
        bound.with(buffers, [("x", Buffers::x)])
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let exact = |y: Vec<f64>| ("y", Rule::Exact(y.into_iter().map(|v| self.y.round(v)).collect()));
        match self.direction {
            Direction::Encode => {
                let (indices, y) = encode(self, &values["x"]);
                vec![("indices", Rule::Exact(indices.into_iter().map(f64::from).collect())), exact(y)]
            }
            Direction::Decode => {
                let indices: Vec<u32> = values["indices"].iter().map(|&v| v as u32).collect();
                vec![exact(decode(self, &indices))]
            }
        }
    }

    /// Several workgroups; many dimensions, a long one and signs, which are no more than a table.
    fn telling(&self, config: &Config) -> Vec<Telling<Self>> {
        let cols = self.levels.len();
        let many = 16 + (cols + 7) % 8 + 1;
        let kinds = [(self.kind, self.levels), (Kind::Fsq, &LEVELS[..many]), (Kind::Lfq, &SIGNS[..many])];
        let small = kinds.map(|(kind, levels)| {
            let (n, cols) = (like(self.n, 2 * config.wg_size as usize + 1), levels.len());
            let (x_layout, y_layout) = (laid(self.x_layout, [n], cols), laid(self.y_layout, [n], cols));
            Problem { n, kind, levels, x_layout, y_layout, indices: self.indices % 8, ..*self }
        });
        let all = small::and_own(small, self, 16.0 * self.n as f64 * cols as f64);
        all.into_iter().map(|telling| telling.set(extremes)).collect()
    }
}
