//! How a call of moe_bias is made and judged.

use crate::Dtype;
use crate::moe_bias::{Buffers, Problem};
use crate::reference::moe_bias::reference;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small;

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let rows = |layout, number| Rows::new(layout, [self.rows], self.experts, number);
        vec![
            Arg::read("counts", rows(self.counts, Number::U32)),
            Arg::update("bias", rows(self.bias, Number::F(Dtype::F32))),
        ]
    }

    /// Some rows are even, some counts beyond 2^31.
    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        let experts = self.experts;
        match name {
            "counts" => {
                let of = |row: usize, word: u64| [word % 40, word >> 32, 7][row % 3] as f64;
                (0..len).map(|i| of(i / experts, random.word())).collect()
            }
            _ => (0..len).map(|_| 0.1 * random.normal()).collect(),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        Buffers::new(bound.get("counts"), bound.get("bias"))
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let moved = reference(self, &values["counts"], &values["bias"]);
        vec![("bias", Rule::Exact(moved.into_iter().map(|v| Dtype::F32.round(v)).collect()))]
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |rows: usize, experts: usize| {
            let (rows, experts) = (self.rows.min(rows), small::like(self.experts, experts));
            let [counts, bias] = [self.counts, self.bias].map(|layout| small::laid(layout, [rows], experts));
            (rows * experts, Problem { rows, experts, counts, bias, ..*self })
        };
        small::few([small(3, 40), small(2, 400)])
    }
}
