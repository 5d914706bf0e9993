//! How a call of vq_scalar is made and judged.

use crate::reference::vq_scalar::{decode, encode};
use crate::verify::call::{Arg, Bound, Describe, Rule, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::vq_scalar::{Buffers, Direction, Problem};

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
}
