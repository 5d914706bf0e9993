//! How a call of beam_step is made and judged.

use std::collections::{HashMap, HashSet};

use crate::Dtype;
use crate::beam_step::{Buffers, Problem};
use crate::reference::beam_step::{continuations, reference};
use crate::reference::{Verdict, Worst};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small;

/// By how much what is added up in a score may be moved, relative to itself.
const MOVE: f64 = 1e-6;

/// The continuation that stands at each place, `Err` where it says one that does not exist.
fn chosen(problem: &Problem, beams: &[f64], tokens: &[f64]) -> Vec<Result<Option<usize>, ()>> {
    let one = |(&beam, &token): (&f64, &f64)| match (beam, token) {
        (0.0, token) if token == f64::from(u32::MAX) => Ok(None),
        (beam, token) => {
            let exists = (0.0..problem.beams as f64).contains(&beam) && (0.0..problem.vocab as f64).contains(&token);
            if exists { Ok(Some(beam as usize * problem.vocab + token as usize)) } else { Err(()) }
        }
    };
    beams.iter().zip(tokens).map(one).collect()
}

/// Holds the choice at each place against the best: its score is as good within what scores may be moved by, none is there twice, and of
/// equal logits of a beam the lower tokens come first.
fn judge(problem: &Problem, logits: &[f64], scores: &[f64], beams: &[f64], tokens: &[f64], out: &[f64]) -> Verdict {
    let (all, magnitudes) = continuations::<f64>(problem, logits, scores);
    let right = reference::<f64>(problem, logits, scores);
    let chosen = chosen(problem, beams, tokens);
    let mut verdict = Verdict { checked: out.len(), ..Verdict::default() };
    let numbers = problem.beams * problem.vocab;
    for batch in 0..problem.batch {
        let base = batch * numbers;
        let (mut taken, mut lower) = (HashSet::new(), HashMap::new());
        // Of each continuation the one before with the same beam and logit.
        let mut last: HashMap<(usize, u64), usize> = HashMap::new();
        for i in 0..numbers {
            if let Some(before) = last.insert((i / problem.vocab, logits[base + i].to_bits()), i) {
                lower.insert(i, before);
            }
        }
        for place in batch * problem.top..(batch + 1) * problem.top {
            let best = right.scores[place];
            let at = right.beams[place] as usize * problem.vocab + right.tokens[place] as usize;
            let ratio = match chosen[place] {
                Err(()) => f64::INFINITY,
                Ok(None) if best == f64::NEG_INFINITY => 0.0,
                Ok(Some(i)) if best > f64::NEG_INFINITY && all[base + i] > f64::NEG_INFINITY => {
                    let in_order = lower.get(&i).is_none_or(|before| taken.contains(before));
                    if !taken.insert(i) || !in_order {
                        f64::INFINITY
                    } else {
                        let bound = MOVE * (magnitudes[base + i] + magnitudes[base + at]);
                        let regret = (all[base + i] - best).abs();
                        if regret == 0.0 { 0.0 } else { regret / bound }
                    }
                }
                Ok(_) => f64::INFINITY,
            };
            verdict.wrong += usize::from(ratio > 1.0);
            if ratio > verdict.ratio || verdict.worst.is_none() {
                verdict.ratio = verdict.ratio.max(ratio);
                let expected = f64::from(right.tokens[place]);
                verdict.worst = Some(Worst { index: place, out: out[place], expected, bound: MOVE });
            }
        }
    }
    verdict
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let Problem { batch, beams, vocab, top, .. } = *self;
        let (rows, out) = (batch.saturating_mul(beams), batch.saturating_mul(top));
        vec![
            Arg::read("logits", Rows::new(self.logits_layout, [batch, beams], vocab, self.logits)),
            Arg::read("scores", Rows::flat(self.scores, rows, Dtype::F32)),
            Arg::write("out_scores", Rows::flat(self.out_scores, out, Dtype::F32)),
            Arg::write("out_beams", Rows::flat(self.out_beams, out, Number::U32)),
            Arg::write("out_tokens", Rows::flat(self.out_tokens, out, Number::U32)),
        ]
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        match name {
            "scores" => (0..len).map(|_| -10.0 * random.uniform()).collect(),
            _ => (0..len).map(|_| 3.0 * random.normal()).collect(),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let out = ["out_scores", "out_beams", "out_tokens"].map(|name| bound.get(name));
        let buffers = Buffers::new(bound.get("logits"), bound.get("scores"), out[0], out[1], out[2]);
        bound.with(buffers, [("scratch", Buffers::scratch)])
    }

    /// Choices by their scores, scores by the numerics rule given the choices.
    fn rules(&self, values: &Values, given: &Values) -> Vec<(&'static str, Rule)> {
        let (logits, scores) = (values["logits"].clone(), values["scores"].clone());
        let right = reference::<f64>(self, &logits, &scores);
        let floats = |all: &[u32]| all.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let find = |name: &str, right: &[u32]| match given.get(name) {
            Some(given) if given.len() == right.len() => given.clone(),
            _ => floats(right),
        };
        let (beams, tokens) = (find("out_beams", &right.beams), find("out_tokens", &right.tokens));
        let (of64, magnitudes) = continuations::<f64>(self, &logits, &scores);
        let (of32, _) = continuations::<f32>(self, &logits, &scores);
        let numbers = self.beams * self.vocab;
        let at = |(place, one): (usize, &Result<Option<usize>, ()>)| {
            one.ok().flatten().map(|i| place / self.top * numbers + i)
        };
        let all: Vec<_> = chosen(self, &beams, &tokens).iter().enumerate().map(at).collect();
        let oracle = all.iter().map(|i| i.map_or(f64::NEG_INFINITY, |i| of64[i])).collect();
        let low = all.iter().map(|i| i.map_or(f64::NEG_INFINITY, |i| of32[i].into())).collect();
        let mag = all.chunks(self.top);
        let mag = mag.map(|row| row.iter().flatten().map(|&i| magnitudes[i]).fold(0.0, f64::max)).collect();
        let scored = Rule::Rows { cols: self.top, dtype: Dtype::F32, oracle, low, mag };
        let problem = *self;
        let judge = std::rc::Rc::new(move |out: &[f64]| judge(&problem, &logits, &scores, &beams, &tokens, out));
        let other = judge.clone();
        vec![
            ("out_tokens", Rule::By(Box::new(move |out, _| judge(out)))),
            ("out_beams", Rule::By(Box::new(move |out, _| other(out)))),
            ("out_scores", scored),
        ]
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |batch: usize, beams: usize, vocab: usize| {
            let (batch, beams) = (self.batch.min(batch), self.beams.min(beams));
            let vocab = small::like(self.vocab, vocab);
            Problem {
                batch,
                beams,
                vocab,
                top: self.top.min(9),
                logits_layout: small::laid(self.logits_layout, [batch, beams], vocab),
                scores: self.scores % 8,
                out_scores: self.out_scores % 8,
                out_beams: self.out_beams % 8,
                out_tokens: self.out_tokens % 8,
                ..*self
            }
        };
        let all = [small(3, 4, 50), small(2, 3, 700), small(2, 2, 9000)];
        small::few(all.map(|problem| (problem.batch * problem.beams * problem.vocab, problem)))
    }
}
