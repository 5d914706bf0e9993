//! How a call of moe_balance is made and judged.

use crate::Dtype;
use crate::moe_balance::{Buffers, Problem};
use crate::reference::moe_balance::reference;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small;

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let Problem { n, experts, top_k, sequences, .. } = *self;
        let mut args = vec![
            Arg::read("logits", Rows::new(self.logits_layout, [n], experts, self.logits)),
            Arg::read("chosen", Rows::flat(self.chosen, n.saturating_mul(top_k), Number::U32)),
        ];
        args.extend(
            self.starts.map(|at| Arg::read("starts", Rows::flat(at, sequences.saturating_add(1), Number::U32))),
        );
        args.push(Arg::write("loss", Rows::flat(self.loss, sequences, Dtype::F32)));
        args.extend(self.dlogits.map(|layout| Arg::write("dlogits", Rows::new(layout, [n], experts, Dtype::F32))));
        args
    }

    /// Sequences of uneven lengths, one of them empty; experts of which one in 23 does not exist.
    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        match name {
            "chosen" => {
                let one = |word: u64| if word.is_multiple_of(23) { f64::from(u32::MAX) } else { 0.0 };
                (0..len).map(|_| one(random.word()).max(random.below(self.experts) as f64)).collect()
            }
            "starts" => {
                let mut starts: Vec<f64> = (0..len).map(|_| random.below(self.n + 1) as f64).collect();
                if len > 3 {
                    starts[2] = starts[1];
                }
                starts.sort_by(f64::total_cmp);
                starts
            }
            _ => random.outliers(len),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("logits"), bound.get("chosen"), bound.get("loss"));
        let setters: [(&str, crate::verify::call::Setter<'a, Buffers<'a>>); 3] =
            [("starts", Buffers::starts), ("dlogits", Buffers::dlogits), ("scratch", Buffers::scratch)];
        bound.with(buffers, setters)
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let [logits, chosen] = ["logits", "chosen"].map(|name| &values[name][..]);
        let starts = values.get("starts").map(|all| &all[..]);
        let oracle = reference::<f64>(self, logits, chosen, starts);
        let low = reference::<f32>(self, logits, chosen, starts);
        let rows = |cols, oracle, low, mag| Rule::Rows { cols, dtype: Dtype::F32, oracle, low, mag };
        let dlogits = rows(self.experts, oracle.dlogits, low.dlogits, oracle.dlogits_mag);
        let loss = ("loss", rows(1, oracle.loss, low.loss, oracle.mag));
        [loss].into_iter().chain(self.dlogits.map(|_| ("dlogits", dlogits))).collect()
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |sequences: usize, len: usize| {
            let sequences = self.sequences.min(sequences);
            let each = (self.n / self.sequences.max(1)).min(len);
            let n = if self.starts.is_some() { self.n.min(sequences * len) } else { sequences * each };
            let laid = |layout| small::laid(layout, [n], self.experts);
            let problem = Problem {
                n,
                sequences,
                starts: self.starts.map(|at| at % 8),
                logits_layout: laid(self.logits_layout),
                chosen: self.chosen % 8,
                loss: self.loss % 8,
                dlogits: self.dlogits.map(laid),
                ..*self
            };
            (n * self.experts, problem)
        };
        small::few([small(2, 9), small(1, 70)])
    }
}
