//! How a call of moe_route_backward is made and judged.

use crate::Dtype;
use crate::moe_route_backward::{Buffers, Problem};
use crate::reference::moe_route_backward::reference;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small;

/// NaN in the gradients of experts that do not exist.
pub fn hidden(problem: &Problem, values: &mut Values) {
    let none: Vec<bool> = values["chosen"].iter().map(|&e| e >= problem.experts as f64).collect();
    let all = values.get_mut("dweights").expect("there are gradients");
    all.iter_mut().zip(none).filter(|(_, none)| *none).for_each(|(g, _)| *g = f64::NAN);
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let Problem { n, experts, top_k, .. } = *self;
        let pairs = n.saturating_mul(top_k);
        let dlogits = Rows::new(self.dlogits, [n], experts, Dtype::F32);
        vec![
            Arg::read("logits", Rows::new(self.logits_layout, [n], experts, self.logits)),
            Arg::read("chosen", Rows::flat(self.chosen, pairs, Number::U32)),
            Arg::read("dweights", Rows::flat(self.dweights, pairs, Dtype::F32)),
            if self.add { Arg::update("dlogits", dlogits) } else { Arg::write("dlogits", dlogits) },
        ]
    }

    /// Experts of which some are named twice, and one in 23 does not exist.
    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        match name {
            "chosen" => {
                let one = |word: u64| if word.is_multiple_of(23) { f64::from(u32::MAX) } else { 0.0 };
                (0..len).map(|_| one(random.word()).max(random.below(self.experts) as f64)).collect()
            }
            _ => random.outliers(len),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let [logits, chosen, dweights, dlogits] =
            ["logits", "chosen", "dweights", "dlogits"].map(|name| bound.get(name));
        Buffers::new(logits, chosen, dweights, dlogits)
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let [logits, chosen, dweights] = ["logits", "chosen", "dweights"].map(|name| &values[name][..]);
        let before = values.get("dlogits").filter(|_| self.add).map(Vec::as_slice);
        let oracle = reference::<f64>(self, logits, chosen, dweights, before);
        let low = reference::<f32>(self, logits, chosen, dweights, before).dlogits;
        let rule = Rule::Rows { cols: self.experts, dtype: Dtype::F32, oracle: oracle.dlogits, low, mag: oracle.mag };
        vec![("dlogits", rule)]
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |n: usize, add: bool, normalize: bool| {
            let n = self.n.min(n);
            let laid = |layout| small::laid(layout, [n], self.experts);
            let [logits_layout, dlogits] = [self.logits_layout, self.dlogits].map(laid);
            let [chosen, dweights] = [self.chosen, self.dweights].map(|at| at % 8);
            (n * self.experts, Problem { n, logits_layout, chosen, dweights, dlogits, add, normalize, ..*self })
        };
        // Parameters tell what is normalised, and what is added to.
        let mut all = small::few([small(3, self.add, self.normalize), small(67, !self.add, !self.normalize)]);
        all.iter_mut().for_each(|telling| telling.set = Some(hidden));
        all
    }
}
