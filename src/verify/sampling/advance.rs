//! How a call of advance is made and judged.

use crate::advance::{Buffers, Problem};
use crate::reference::advance::reference;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small;

impl Problem {
    /// Elements of `state` that are reached.
    fn state_len(&self) -> usize {
        self.parts().iter().map(|&(_, at, len, _)| at.saturating_add(len as usize)).max().unwrap_or(0)
    }
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let mut args = vec![
            Arg::update("state", Rows::flat(0, self.state_len(), Number::U32)),
            Arg::read("tokens", Rows::flat(self.tokens, self.batch.saturating_mul(self.width), Number::I32)),
        ];
        args.extend(self.accepted.map(|at| Arg::read("accepted", Rows::flat(at, self.batch, Number::U32))));
        args.extend(
            self.history.map(|layout| Arg::update("history", Rows::new(layout, [self.batch], self.most, Number::I32))),
        );
        args
    }

    /// Lengths of all kinds, some too large; few different tokens, some of which end a sequence; pages that do not exist.
    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        let mut below = |n: usize| (random.word() % n.max(1) as u64) as f64;
        match name {
            "tokens" => (0..len).map(|_| below(30) - 1.0).collect(),
            "accepted" => (0..len).map(|_| below(self.width + 2)).collect(),
            "history" => vec![-1.0; len],
            _ => {
                let mut state = vec![7.0; len];
                for (part, at, len, _) in self.parts() {
                    for value in &mut state[at..at + len as usize] {
                        *value = match part {
                            "lengths" => below(self.most + 3),
                            "table" => below(self.pages + 2),
                            "stops" => below(30),
                            "done" => f64::from(u8::from(below(5) == 0.0)),
                            _ => below(1 << 20),
                        };
                    }
                }
                state
            }
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("state"), bound.get("tokens"));
        bound.with(buffers, [("accepted", Buffers::accepted), ("history", Buffers::history)])
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let words =
            |name: &str| values.get(name).map_or(Vec::new(), |all| all.iter().map(|&v| v as i64 as u32).collect());
        let numbers = |name: &str| words(name).into_iter().map(|v| v as i32).collect::<Vec<_>>();
        let (tokens, history) = (numbers("tokens"), numbers("history"));
        let (state, history) = reference(self, &words("state"), &tokens, &words("accepted"), &history);
        let mut rules = vec![("state", Rule::Exact(state.into_iter().map(f64::from).collect()))];
        if self.history.is_some() {
            rules.push(("history", Rule::Exact(history.into_iter().map(f64::from).collect())));
        }
        rules
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |batch: usize, most: usize| {
            let (batch, most) = (self.batch.min(batch), self.most.min(most.max(self.width)));
            let max_pages = self.max_pages.min(5);
            let mut at = self.lengths % 8;
            let mut next = |there: Option<usize>, len: usize| {
                there?;
                let here = at;
                at += len;
                Some(here)
            };
            let rows = batch * self.width;
            let problem = Problem {
                batch,
                most,
                lengths: next(Some(0), batch).unwrap_or(0),
                positions: next(self.positions, self.axes * rows),
                slots: next(self.slots, rows),
                pages: self.pages.min(batch.max(8)),
                page_size: self.page_size.min(most.max(1)),
                table: next(self.table, batch * max_pages),
                max_pages,
                step: next(self.step, 1),
                stops: next(self.stops, self.num_stops),
                done: next(self.done, batch),
                tokens: self.tokens % 8,
                accepted: self.accepted.map(|at| at % 8),
                history: self.history.map(|layout| small::laid::<1>(layout, [batch], most)),
                ..*self
            };
            (batch * most, problem)
        };
        small::few([small(9, 12), small(70, 40)])
    }
}
