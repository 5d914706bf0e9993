//! How a call of sample is made and judged.

use std::rc::Rc;

use crate::Dtype;
use crate::reference::sample::{Choices, members, probs, scores, settings, token, uniform_of};
use crate::reference::{Judge, Verdict, Worst};
use crate::sample::{Buffers, History, Problem, Settings, Step, Uniform};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small;

/// Each filter alone, and all together.
pub fn filters() -> Vec<(&'static str, Settings)> {
    let all = Settings::default();
    vec![
        ("nothing filtered", all),
        ("arg-max", Settings { temperature: 0.0, top_k: 3, ..all }),
        ("top-k", Settings { top_k: 5, ..all }),
        ("top-p", Settings { top_p: 0.7, ..all }),
        ("min-p", Settings { min_p: 0.1, ..all }),
        ("all filters", Settings { temperature: 0.7, top_k: 40, top_p: 0.9, min_p: 0.01, ..all }),
    ]
}

/// Settings of the rows of a batch that has some of every kind.
fn row_settings(row: usize) -> Settings {
    let all = filters();
    let penalties =
        Settings { repetition_penalty: 1.2, frequency_penalty: 0.1, presence_penalty: 0.3, ..Settings::default() };
    let extra = [penalties, Settings { repetition_penalty: 0.0, top_p: 1.5, ..penalties }];
    all.iter().map(|(_, settings)| *settings).chain(extra).nth(row % (all.len() + 2)).expect("within")
}

/// What the kernel says that it leaves of each row, where it gives probabilities.
fn left(problem: &Problem, given: &Values) -> Option<Vec<bool>> {
    given.get("probs").filter(|_| problem.probs.is_some()).map(|probs| probs.iter().map(|&p| p > 0.0).collect())
}

/// A row, as the oracle sees it.
struct Row {
    settings: Settings,
    scores: Vec<f64>,
    low: Vec<f32>,
    choices: Choices,
    uniform: f64,
}

fn rows(problem: &Problem, values: &Values) -> Vec<Row> {
    let none = Vec::new();
    let of = |name: &str| values.get(name).unwrap_or(&none);
    let len = problem.history.map_or(0, |history| history.len);
    let tokens: Vec<i64> = of("tokens").iter().map(|&t| t as i64).collect();
    let logits = &values["logits"];
    let row = |row: usize| {
        let settings = settings(problem, of("settings"), row);
        let logits = &logits[row * problem.vocab..(row + 1) * problem.vocab];
        let history = &tokens[row * len..(row + 1) * len];
        let (of64, moves) = scores::<f64>(&settings, logits, history);
        let choices = Choices::new(&settings, &of64, &moves);
        let uniform = match problem.token {
            Some(_) => uniform_of(problem, of("uniform"), of("step"), row),
            None => 0.0,
        };
        Row { settings, low: scores::<f32>(&settings, logits, history).0, scores: of64, choices, uniform }
    };
    (0..problem.rows).map(row).collect()
}

fn wrong(verdict: &mut Verdict, index: usize, out: f64, expected: f64) {
    verdict.wrong += 1;
    verdict.ratio = f64::INFINITY;
    verdict.worst.get_or_insert(Worst { index, out, expected, bound: 0.0 });
}

/// Probabilities: which are there by the choices that are right, and their values by the numerics rule given these.
fn judge_probs(rows: &[Row], vocab: usize, out: &[f64], expected: Option<&[f64]>) -> Verdict {
    let mut verdict = Verdict::default();
    for (r, row) in rows.iter().enumerate() {
        let out = &out[r * vocab..(r + 1) * vocab];
        // What is too small to be told from 0 stays or not.
        let own: Vec<bool> = (0..vocab).map(|i| out[i] > 0.0 || (row.choices.sure[i] && out[i] == 0.0)).collect();
        let oracle = probs::<f64>(&row.settings, &row.scores, &own);
        let low: Vec<f64> = probs::<f32>(&row.settings, &row.low, &own).into_iter().map(f64::from).collect();
        if let Some(i) = row.choices.fits(|i| own[i]) {
            wrong(&mut verdict, r * vocab + i, out[i], oracle[i]);
        }
        let inside = || (0..vocab).filter(|&i| oracle[i] > 0.0).map(|i| row.scores[i]);
        let mean = inside().sum::<f64>() / inside().count().max(1) as f64;
        let temperature = f64::from(row.settings.temperature).max(1e-30);
        let far = inside().map(|z| (z - mean).abs() / temperature).fold(0.0, f64::max);
        let largest = oracle.iter().copied().fold(0.0, f64::max);
        let target = expected.map_or(&oracle[..], |all| &all[r * vocab..(r + 1) * vocab]);
        let mag = [if row.settings.temperature > 0.0 { largest * (1.0 + far) } else { 1.0 }];
        let judge = Judge {
            cols: vocab,
            dtype: Dtype::F32,
            oracle: target,
            low: &low,
            mag: &mag,
            slack: &[1e-37],
            widen: (0.0, 0.0),
        };
        let mut found = judge.judge(out);
        found.worst.iter_mut().for_each(|worst| worst.index += r * vocab);
        verdict.merge(found);
    }
    verdict
}

fn judge_tokens(rows: &[Row], left: Option<&[bool]>, out: &[f64], expected: Option<&[f64]>) -> Verdict {
    let mut verdict = Verdict { checked: out.len(), ..Verdict::default() };
    for (r, row) in rows.iter().enumerate() {
        let vocab = row.scores.len();
        let left = left.map(|all| &all[r * vocab..(r + 1) * vocab]);
        let drawn = out[r] >= 0.0 && out[r] < vocab as f64 && row.choices.draws(left, out[r] as usize, row.uniform);
        if !drawn && expected.is_none_or(|all| all[r] != out[r]) {
            let members = members(&row.settings, &row.scores);
            let right = token(&probs(&row.settings, &row.scores, &members), row.uniform);
            wrong(&mut verdict, r, out[r], right.into());
        }
    }
    verdict
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let Problem { rows, vocab, .. } = *self;
        let mut args = vec![Arg::read("logits", Rows::new(self.logits_layout, [rows], vocab, self.logits))];
        args.extend(self.history.map(|h| Arg::read("tokens", Rows::new(h.layout, [rows], h.len, Number::I32))));
        let words = rows.saturating_mul(Settings::WORDS);
        args.extend(self.per_row.map(|at| Arg::read("settings", Rows::flat(at, words, Dtype::F32))));
        args.extend(self.token.and_then(|_| match self.uniform {
            Uniform::Buffer(at) => Some(Arg::read("uniform", Rows::flat(at, rows, Dtype::F32))),
            Uniform::Philox { step: Step::Buffer(at), .. } => Some(Arg::read("step", Rows::flat(at, 1, Number::U32))),
            Uniform::Philox { .. } => None,
        }));
        args.extend(self.probs.map(|layout| Arg::write("probs", Rows::new(layout, [rows], vocab, Dtype::F32))));
        args.extend(self.token.map(|at| Arg::write("token", Rows::flat(at, rows, Number::U32))));
        args
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        match name {
            "tokens" => (0..len).map(|_| random.below(self.vocab / 4 + 3) as f64 - 2.0).collect(),
            "uniform" => (0..len).map(|_| random.uniform()).collect(),
            "step" => vec![random.below(1 << 20) as f64],
            "settings" => (0..len / Settings::WORDS).flat_map(|row| row_settings(row).words().map(f64::from)).collect(),
            _ => (0..len).map(|_| 3.0 * random.normal()).collect(),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        bound.with(
            Buffers::new(bound.get("logits")),
            [
                ("tokens", Buffers::tokens),
                ("settings", Buffers::settings),
                ("uniform", Buffers::uniform),
                ("step", Buffers::step),
                ("probs", Buffers::probs),
                ("token", Buffers::token),
                ("scratch", Buffers::scratch),
            ],
        )
    }

    fn rules(&self, values: &Values, given: &Values) -> Vec<(&'static str, Rule)> {
        let vocab = self.vocab;
        let rows = Rc::new(rows(self, values));
        let mut rules = Vec::new();
        if self.probs.is_some() {
            let rows = rows.clone();
            let judge = move |out: &[f64], expected: Option<&[f64]>| judge_probs(&rows, vocab, out, expected);
            rules.push(("probs", Rule::By(Box::new(judge))));
        }
        if self.token.is_some() {
            let left = left(self, given).map(|mut left| {
                for (r, row) in rows.iter().enumerate() {
                    (0..vocab).for_each(|i| left[r * vocab + i] |= row.choices.sure[i]);
                }
                left
            });
            let judge =
                move |out: &[f64], expected: Option<&[f64]>| judge_tokens(&rows, left.as_deref(), out, expected);
            rules.push(("token", Rule::By(Box::new(judge))));
        }
        rules
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |rows: usize, vocab: usize| {
            let (rows, vocab) = (self.rows.min(rows), small::like(self.vocab, vocab));
            let searched = (self.settings.top_k as usize) < self.vocab && vocab > 1;
            let top_k = if searched { self.settings.top_k.min(vocab as u32 / 2) } else { self.settings.top_k };
            let history = self.history.map(|history| {
                let len = history.len.min(20);
                History { len, layout: small::laid(history.layout, [rows], len) }
            });
            Problem {
                rows,
                vocab,
                logits_layout: small::laid(self.logits_layout, [rows], vocab),
                history,
                settings: Settings { top_k, ..self.settings },
                per_row: self.per_row.map(|at| at % 8),
                uniform: match self.uniform {
                    Uniform::Buffer(at) => Uniform::Buffer(at % 8),
                    Uniform::Philox { seed, step: Step::Buffer(at) } => {
                        Uniform::Philox { seed, step: Step::Buffer(at % 8) }
                    }
                    other => other,
                },
                probs: self.probs.map(|layout| small::laid(layout, [rows], vocab)),
                token: self.token.map(|at| at % 8),
                ..*self
            }
        };
        small::few(
            [small(9, 70), small(4, 1000), small(2, 9000)].map(|problem| (problem.rows * problem.vocab, problem)),
        )
    }
}
