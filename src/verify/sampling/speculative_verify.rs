//! How a call of speculative_verify is made and judged.

use std::rc::Rc;

use crate::Dtype;
use crate::reference::sample::{MOVE, drawn};
use crate::reference::speculative_verify::{drawn_from, reference, row, shown};
use crate::reference::{Verdict, Worst};
use crate::speculative_verify::{Buffers, Problem};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small;

/// A call's inputs.
struct Inputs {
    problem: Problem,
    draft: Vec<f64>,
    target: Vec<f64>,
    proposed: Vec<i64>,
    uniform: Vec<f64>,
}

impl Inputs {
    /// Whether a token may stand, and whether it may not, with what is compared moved by so much.
    fn stands(&self, batch: usize, place: usize) -> [bool; 2] {
        let Problem { len, vocab, .. } = self.problem;
        let Some(token) = usize::try_from(self.proposed[batch * len + place]).ok().filter(|&token| token < vocab)
        else {
            return [false, true];
        };
        let draft = shown(row(&self.draft, vocab, len, batch, place)[token]);
        let target = shown(row(&self.target, vocab, len + 1, batch, place)[token]);
        let by = shown(self.uniform[batch * (len + 1) + place]) * draft;
        let near = 3.0 * MOVE;
        [draft > 0.0 && by * (1.0 - near) <= target, draft == 0.0 || by * (1.0 + near) > target]
    }

    /// Whether this token may be drawn at a place.
    fn draws(&self, batch: usize, place: usize, token: usize) -> bool {
        let Problem { len, vocab, .. } = self.problem;
        let exact = drawn_from(&self.problem, &self.draft, &self.target, batch, place);
        let target = row(&self.target, vocab, len + 1, batch, place);
        let residual = place < len && exact.iter().zip(target).any(|(&r, &t)| r != shown(t));
        let weights = |i: usize| {
            if !residual {
                return [exact[i] * (1.0 - MOVE), exact[i] * (1.0 + MOVE)];
            }
            let (t, d) = (shown(target[i]), shown(row(&self.draft, vocab, len, batch, place)[i]));
            [-MOVE, MOVE].map(|by| shown((t - d) + by * (t + d)))
        };
        drawn(vocab, weights, token, shown(self.uniform[batch * (len + 1) + len]).min(1.0))
    }
}

fn verdict(checked: usize, wrong: impl Iterator<Item = Option<Worst>>) -> Verdict {
    let mut verdict = Verdict { checked, ..Verdict::default() };
    for worst in wrong.flatten() {
        verdict.wrong += 1;
        verdict.ratio = f64::INFINITY;
        verdict.worst.get_or_insert(worst);
    }
    verdict
}

impl Describe for Problem {
    /// `tokens` are the results, as in case files.
    fn args(&self) -> Vec<Arg> {
        let Problem { batch, len, vocab, .. } = *self;
        let (proposed, more) = (batch.saturating_mul(len), batch.saturating_mul(len.saturating_add(1)));
        vec![
            Arg::read("draft", Rows::new(self.draft, [batch, len], vocab, Dtype::F32)),
            Arg::read("target", Rows::new(self.target, [batch, len + 1], vocab, Dtype::F32)),
            Arg::read("proposed", Rows::flat(self.proposed, proposed, Number::I32)),
            Arg::read("uniform", Rows::flat(self.uniform, more, Dtype::F32)),
            Arg::write("accepted", Rows::flat(self.accepted, batch, Number::U32)),
            Arg::write("tokens", Rows::flat(self.tokens, more, Number::I32)),
        ]
    }

    /// Probabilities that are alike in draft and target, and tokens that the draft draws.
    fn fill(&self, name: &str, len: usize, before: &Values, random: &mut Random) -> Vec<f64> {
        let softmax = |logits: Vec<f64>| {
            let sums = logits.chunks(self.vocab).map(|row| row.iter().map(|z| z.exp()).sum::<f64>());
            let sums: Vec<f64> = sums.collect();
            logits.iter().enumerate().map(|(i, z)| z.exp() / sums[i / self.vocab]).collect::<Vec<f64>>()
        };
        match name {
            "draft" => softmax((0..len).map(|_| 2.0 * random.normal()).collect()),
            "target" => {
                // A benchmark has its values elsewhere.
                let draft = before.get("draft").map_or(&[][..], Vec::as_slice);
                let of = |i: usize| {
                    let (batch, rest) = (i / ((self.len + 1) * self.vocab), i % ((self.len + 1) * self.vocab));
                    draft.get(batch * self.len * self.vocab + rest).filter(|_| rest < self.len * self.vocab)
                };
                let near = |i: usize, by: f64| of(i).map_or(by, |d| d.max(1e-30).ln() + 0.3 * by);
                softmax((0..len).map(|i| near(i, random.normal())).collect())
            }
            "proposed" => {
                let Some(draft) = before.get("draft") else {
                    return (0..len).map(|_| random.below(self.vocab) as f64).collect();
                };
                let drawn = |place: usize| {
                    let mut left = random.uniform();
                    let row = &draft[place * self.vocab..][..self.vocab];
                    let found = row.iter().position(|p| {
                        left -= p;
                        left < 0.0
                    });
                    found.unwrap_or(0) as f64
                };
                (0..len).map(drawn).collect()
            }
            _ => (0..len).map(|_| random.uniform()).collect(),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let [draft, target, proposed, uniform, accepted, tokens] =
            ["draft", "target", "proposed", "uniform", "accepted", "tokens"].map(|name| bound.get(name));
        bound.with(Buffers::new(draft, target, proposed, uniform, accepted, tokens), [("scratch", Buffers::scratch)])
    }

    /// Each decision with what is compared moved by 1e-6; the token drawn where the kernel says that the tokens before stand.
    fn rules(&self, values: &Values, given: &Values) -> Vec<(&'static str, Rule)> {
        let Problem { batch, len, vocab, .. } = *self;
        let inputs = Rc::new(Inputs {
            problem: *self,
            draft: values["draft"].clone(),
            target: values["target"].clone(),
            proposed: values["proposed"].iter().map(|&v| v as i64).collect(),
            uniform: values["uniform"].clone(),
        });
        let Inputs { draft, target, proposed, uniform, .. } = &*inputs;
        let right = reference::<f64>(self, draft, target, proposed, uniform);
        let counts: Vec<usize> = match given.get("accepted") {
            Some(given) if given.iter().all(|n| (0.0..=len as f64).contains(n)) => {
                given.iter().map(|&n| n as usize).collect()
            }
            _ => right.accepted.iter().map(|&n| n as usize).collect(),
        };
        let (of, accepted) = (inputs.clone(), right.accepted);
        let judge_accepted = move |out: &[f64], _: Option<&[f64]>| {
            let wrong = |b: usize| {
                let n = out[b];
                let fits = (0.0..=len as f64).contains(&n)
                    && (0..n as usize).all(|place| of.stands(b, place)[0])
                    && (n as usize == len || of.stands(b, n as usize)[1]);
                (!fits).then(|| Worst { index: b, out: n, expected: accepted[b].into(), bound: 0.0 })
            };
            verdict(batch, (0..batch).map(wrong))
        };
        let (of, tokens) = (inputs.clone(), right.tokens);
        let judge_tokens = move |out: &[f64], _: Option<&[f64]>| {
            let wrong = |i: usize| {
                let (b, place) = (i / (len + 1), i % (len + 1));
                let fits = match place.cmp(&counts[b]) {
                    std::cmp::Ordering::Less => out[i] == of.proposed[b * len + place] as f64,
                    std::cmp::Ordering::Equal => {
                        (0.0..vocab as f64).contains(&out[i]) && of.draws(b, place, out[i] as usize)
                    }
                    std::cmp::Ordering::Greater => out[i] == -1.0,
                };
                (!fits).then(|| Worst { index: i, out: out[i], expected: tokens[i].into(), bound: 0.0 })
            };
            verdict(out.len(), (0..out.len()).map(wrong))
        };
        vec![("accepted", Rule::By(Box::new(judge_accepted))), ("tokens", Rule::By(Box::new(judge_tokens)))]
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |batch: usize, len: usize, vocab: usize| {
            let (batch, len, vocab) = (self.batch.min(batch), self.len.min(len), small::like(self.vocab, vocab));
            Problem {
                batch,
                len,
                vocab,
                draft: small::laid(self.draft, [batch, len], vocab),
                target: small::laid(self.target, [batch, len + 1], vocab),
                proposed: self.proposed % 8,
                uniform: self.uniform % 8,
                accepted: self.accepted % 8,
                tokens: self.tokens % 8,
            }
        };
        let all = [small(20, 3, 50), small(4, 2, 700), small(2, 2, 9000)];
        small::few(all.map(|problem| (problem.batch * (problem.len + 1) * problem.vocab, problem)))
    }
}
