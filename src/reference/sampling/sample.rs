//! Sampling, by its definition, and what of a row's choices is beyond doubt.

use std::collections::HashMap;

use super::philox::uniform;
use crate::reference::Real;
use crate::sample::{Problem, Settings, Step, Uniform};

/// By how much scores, thresholds and `uniform` may be moved, relative to themselves.
pub const MOVE: f64 = 1e-6;

/// What sample gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[rows, vocab]`.
    pub probs: Vec<f64>,
    /// `[rows]`.
    pub token: Vec<u32>,
}

/// The settings of a row, as the kernel takes them; `per_row` is `[rows, 7]`.
pub fn settings(problem: &Problem, per_row: &[f64], row: usize) -> Settings {
    if problem.per_row.is_none() {
        return problem.settings;
    }
    let word = |i: usize| per_row[row * Settings::WORDS + i] as f32;
    Settings {
        repetition_penalty: if word(0) > 0.0 { word(0) } else { 1.0 },
        frequency_penalty: word(1),
        presence_penalty: word(2),
        temperature: word(3),
        top_k: word(4) as u32,
        top_p: word(5),
        min_p: word(6),
    }
}

/// The uniform number of a row: from `uniform`, or of the generator with the step from `step`.
pub fn uniform_of(problem: &Problem, uniforms: &[f64], step: &[f64], row: usize) -> f64 {
    match problem.uniform {
        Uniform::Buffer(_) => uniforms[row].clamp(0.0, 1.0 - f64::EPSILON),
        Uniform::Philox { seed, step: Step::At(at) } => uniform(seed, row as u32, at),
        Uniform::Philox { seed, step: Step::Buffer(_) } => uniform(seed, row as u32, step[0] as u32),
    }
}

/// A row's logits after the penalties, minus infinity where they are hidden, and by how much each moves.
pub fn scores<R: Real>(settings: &Settings, logits: &[f64], history: &[i64]) -> (Vec<R>, Vec<f64>) {
    let shown = |z: f64| if z.is_nan() { f64::NEG_INFINITY } else { z.min(f32::MAX.into()) + 0.0 };
    let mut scores: Vec<R> = logits.iter().map(|&z| R::of(shown(z))).collect();
    let mut moves: Vec<f64> = logits.iter().map(|&z| MOVE * shown(z).abs()).collect();
    let mut counts = HashMap::new();
    for &token in history.iter().filter(|&&token| (0..logits.len() as i64).contains(&token)) {
        *counts.entry(token as usize).or_insert(0u32) += 1;
    }
    for (token, count) in counts.into_iter().filter(|&(token, _)| logits[token] > f64::NEG_INFINITY) {
        let by = R::of(settings.repetition_penalty.into());
        let z = scores[token];
        let repeated = if z > R::ZERO { z / by } else { z * by };
        let [frequency, presence] = [settings.frequency_penalty, settings.presence_penalty].map(f64::from);
        let often = R::of(frequency) * R::of(count.into());
        scores[token] = repeated - often - R::of(presence);
        moves[token] = MOVE * (repeated.f64().abs() + often.f64().abs() + presence.abs());
    }
    (scores, moves)
}

fn greedy(settings: &Settings) -> bool {
    settings.temperature <= 2f32.powi(-100)
}

/// Tokens from the most likely to the least, ties by index, hidden ones left out.
fn order<R: Real>(scores: &[R]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).filter(|&i| scores[i] > R::NEG_INFINITY).collect();
    order.sort_by(|&a, &b| scores[b].f64().total_cmp(&scores[a].f64()).then(a.cmp(&b)));
    order
}

/// Which tokens all filters leave.
pub fn members<R: Real>(settings: &Settings, scores: &[R]) -> Vec<bool> {
    let mut left = order(scores);
    let Some(&best) = left.first() else {
        return vec![false; scores.len()];
    };
    let temperature = R::of(settings.temperature.into());
    let weight = |i: usize| ((scores[i] - scores[best]) / temperature).exp();
    if greedy(settings) {
        left.truncate(1);
    } else {
        let k = settings.top_k as usize;
        if k > 0 && k < left.len() {
            let least = scores[left[k - 1]];
            left.retain(|&i| scores[i] >= least);
        }
        if settings.top_p < 1.0 {
            let mut all = R::ZERO;
            left.iter().for_each(|&i| all += weight(i));
            let (goal, mut sum) = (R::of(settings.top_p.into()) * all, R::ZERO);
            let reached = left.iter().position(|&i| {
                sum += weight(i);
                sum >= goal
            });
            left.truncate(reached.map_or(left.len(), |at| at + 1));
        }
        left.retain(|&i| weight(i) >= R::of(settings.min_p.into()) || i == best);
    }
    let mut members = vec![false; scores.len()];
    left.into_iter().for_each(|i| members[i] = true);
    members
}

/// Probabilities of these tokens.
pub fn probs<R: Real>(settings: &Settings, scores: &[R], members: &[bool]) -> Vec<R> {
    let inside = || (0..scores.len()).filter(|&i| members[i]);
    let Some(top) = inside().map(|i| scores[i]).reduce(R::max) else {
        return vec![R::ZERO; scores.len()];
    };
    let temperature = R::of(settings.temperature.into());
    let weight = |i: usize| match greedy(settings) {
        true => R::of(1.0),
        false => ((scores[i] - top) / temperature).exp(),
    };
    let mut sum = R::ZERO;
    inside().for_each(|i| sum += weight(i));
    (0..scores.len()).map(|i| if members[i] { weight(i) / sum } else { R::ZERO }).collect()
}

/// The first token whose running sum exceeds `uniform`; the last that has a probability where none does, 0 where there is none.
pub fn token<R: Real>(probs: &[R], uniform: f64) -> u32 {
    let mut sum = R::ZERO;
    let reached = probs.iter().position(|&p| {
        sum += p;
        sum > R::of(uniform)
    });
    let last = || probs.iter().rposition(|&p| p > R::ZERO).unwrap_or(0);
    reached.unwrap_or_else(last) as u32
}

/// `logits` is contiguous `[rows, vocab]`, `history` `[rows, len]`, `uniforms` one per row.
pub fn reference<R: Real>(
    problem: &Problem,
    logits: &[f64],
    history: &[i64],
    per_row: &[f64],
    uniforms: &[f64],
) -> Output {
    let len = problem.history.map_or(0, |history| history.len);
    let mut out = Output { probs: Vec::new(), token: Vec::new() };
    for (row, logits) in logits.chunks(problem.vocab).enumerate() {
        let settings = settings(problem, per_row, row);
        let (scores, _) = scores::<R>(&settings, logits, &history[row * len..(row + 1) * len]);
        let probs = probs(&settings, &scores, &members(&settings, &scores));
        out.token.push(token(&probs, uniforms[row]));
        out.probs.extend(probs.into_iter().map(R::f64));
    }
    out
}

/// What may be chosen of a row, where each score is moved by so much at most, thresholds and `uniform` by [`MOVE`].
#[derive(Debug, Clone)]
pub struct Choices {
    /// Tokens that every such choice leaves.
    pub sure: Vec<bool>,
    /// Tokens that none does.
    pub never: Vec<bool>,
    /// Weights at least, at most.
    weights: Vec<[f64; 2]>,
}

/// Scores, largest first, with running counts and sums of weights.
struct Ranked {
    scores: Vec<f64>,
    sums: Vec<f64>,
}

impl Ranked {
    fn new(mut all: Vec<(f64, f64)>) -> Ranked {
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut sum = 0.0;
        let add = |&(_, weight): &(f64, f64)| {
            sum += weight;
            sum
        };
        let sums = [0.0].into_iter().chain(all.iter().map(add)).collect();
        Ranked { scores: all.into_iter().map(|(score, _)| score).collect(), sums }
    }

    /// How many are above `score`, and the sum of their weights.
    fn above(&self, score: f64) -> (usize, f64) {
        let n = self.scores.partition_point(|&have| have > score);
        (n, self.sums[n])
    }
}

impl Choices {
    /// Of scores in f64 and by how much each moves.
    pub fn new(settings: &Settings, scores: &[f64], moves: &[f64]) -> Choices {
        let n = scores.len();
        let shown: Vec<usize> = (0..n).filter(|&i| scores[i] > f64::NEG_INFINITY).collect();
        let (mut sure, mut never) = (vec![false; n], vec![true; n]);
        let low = |i: usize| scores[i] - moves[i];
        let high = |i: usize| scores[i] + moves[i];
        let best = shown.iter().map(|&i| scores[i]).fold(f64::NEG_INFINITY, f64::max);
        let least_best = shown.iter().map(|&i| low(i)).fold(f64::NEG_INFINITY, f64::max);
        let most_best = shown.iter().map(|&i| high(i)).fold(f64::NEG_INFINITY, f64::max);
        let mut weights = vec![[0.0; 2]; n];
        if greedy(settings) {
            let firsts = firsts(scores, &shown);
            for &i in &shown {
                let rivals = shown.iter().filter(|&&j| j != i && scores[j] != scores[i] && high(j) >= low(i)).count();
                sure[i] = firsts.contains(&i) && rivals == 0;
                never[i] = !firsts.contains(&i) || high(i) < least_best;
                weights[i] = [1.0; 2];
            }
            return Choices { sure, never, weights };
        }
        let temperature = f64::from(settings.temperature);
        for &i in &shown {
            weights[i] = [-1.0, 1.0].map(|way| ((scores[i] - best + way * moves[i]) / temperature).exp());
            (sure[i], never[i]) = (true, false);
        }
        let k = settings.top_k as usize;
        if k > 0 && k < n {
            let lows = Ranked::new(shown.iter().map(|&i| (low(i), 1.0)).collect());
            let highs = Ranked::new(shown.iter().map(|&i| (high(i), 1.0)).collect());
            let equals = equals(scores, &shown, |_| 1.0);
            for &i in &shown {
                // Equal ones move together.
                let equal = if moves[i] > 0.0 { equals[&scores[i].to_bits()].1 as usize } else { 0 };
                sure[i] = highs.above(low(i)).0 - equal < k;
                never[i] = lows.above(high(i)).0 >= k;
            }
        }
        let p = f64::from(settings.top_p);
        if p < 1.0 {
            let some = |set: &[bool], is: bool| shown.iter().copied().filter(|&i| set[i] == is).collect::<Vec<_>>();
            let (certain, possible) = (some(&sure, true), some(&never, false));
            let lows = Ranked::new(certain.iter().map(|&i| (low(i), weights[i][0])).collect());
            let highs = Ranked::new(possible.iter().map(|&i| (high(i), weights[i][1])).collect());
            let (least, most) = (lows.sums[certain.len()], highs.sums[possible.len()]);
            let equal_high = equals(scores, &possible, |i| weights[i][1]);
            // Of the equal ones before: how many, and their weights.
            let mut before: HashMap<u64, (usize, [f64; 2])> = HashMap::new();
            for &i in &possible {
                let (ties, tied) = before.entry(scores[i].to_bits()).or_default();
                let equal = if moves[i] > 0.0 { equal_high[&scores[i].to_bits()] } else { (0, 0.0) };
                let (above, most_above) = highs.above(low(i));
                let first = above - equal.0 + *ties == 0;
                let short = most_above - equal.1 + tied[1] < p * (1.0 - MOVE) * least;
                let least_before = lows.above(high(i)).1 + tied[0];
                never[i] |= least_before > 0.0 && least_before >= p * (1.0 + MOVE) * most;
                *ties += 1;
                tied[0] += if sure[i] { weights[i][0] } else { 0.0 };
                tied[1] += weights[i][1];
                sure[i] &= first || short;
            }
        }
        let min_p = f64::from(settings.min_p);
        if min_p > 0.0 {
            let [far, near] = [1.0 - MOVE, 1.0 + MOVE].map(|by| temperature * (min_p * by).ln().min(0.0));
            for &i in &shown {
                never[i] |= high(i) < least_best + far;
                sure[i] &= scores[i] == best || low(i) >= most_best + near;
            }
        }
        Choices { sure, never, weights }
    }

    /// Whether a choice of these tokens is right.
    pub fn fits(&self, member: impl Fn(usize) -> bool) -> Option<usize> {
        (0..self.sure.len()).find(|&i| if member(i) { self.never[i] } else { self.sure[i] })
    }

    /// Whether `token` may be drawn by `uniform`: of `members`, where the choice is known.
    pub fn draws(&self, members: Option<&[bool]>, token: usize, uniform: f64) -> bool {
        let weights = |i: usize| {
            let [certain, possible] = members.map_or([self.sure[i], !self.never[i]], |members| [members[i]; 2]);
            [if certain { self.weights[i][0] } else { 0.0 }, if possible { self.weights[i][1] } else { 0.0 }]
        };
        drawn(self.sure.len(), weights, token, uniform)
    }
}

/// Whether `token` of `n` may be drawn by `uniform`, where each has a weight of at least so much, and at most so much. Where none has any it
/// is 0.
pub fn drawn(n: usize, weights: impl Fn(usize) -> [f64; 2], token: usize, uniform: f64) -> bool {
    let (mut before, mut after) = ([0.0; 2], [0.0; 2]);
    for i in 0..n {
        let side = if i < token { &mut before } else { &mut after };
        let [low, high] = weights(i);
        side[0] += low;
        side[1] += high;
    }
    if before[1] + after[1] == 0.0 {
        return token == 0;
    }
    let own = if token < n { weights(token) } else { [0.0; 2] };
    let share = |part: f64, rest: f64| match part {
        0.0 => 0.0,
        f64::INFINITY => 1.0,
        _ => part / (part + rest.max(0.0)),
    };
    // Whatever `uniform` is, the last one may be drawn: the sum of all may round to less than 1.
    let last = (token + 1..n).all(|i| weights(i)[0] == 0.0);
    let most = share(before[1] + own[1], after[0] - own[0]);
    let least = share(before[0], after[1]);
    own[1] > 0.0 && (last || most > uniform * (1.0 - MOVE)) && least <= uniform * (1.0 + MOVE)
}

/// The first of the tokens of each score.
fn firsts(scores: &[f64], shown: &[usize]) -> Vec<usize> {
    let mut seen = HashMap::new();
    for &i in shown {
        seen.entry(scores[i].to_bits()).or_insert(i);
    }
    let mut firsts: Vec<usize> = seen.into_values().collect();
    firsts.sort_unstable();
    firsts
}

/// How many tokens have each score, and the sum of something of theirs.
fn equals(scores: &[f64], of: &[usize], what: impl Fn(usize) -> f64) -> HashMap<u64, (usize, f64)> {
    let mut all = HashMap::new();
    for &i in of {
        let (n, sum) = all.entry(scores[i].to_bits()).or_insert((0, 0.0));
        *n += 1;
        *sum += what(i);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: Settings, logits: &[f64], history: &[i64], uniform: f64) -> (Vec<f64>, u32) {
        let (scores, _) = scores::<f64>(&settings, logits, history);
        let probs = probs(&settings, &scores, &members(&settings, &scores));
        let token = token(&probs, uniform);
        (probs, token)
    }

    fn near(a: &[f64], b: &[f64]) {
        assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9), "{a:?} {b:?}");
    }

    /// Weights 4, 2, 1, 1 of 8.
    const Z: [f64; 4] = [2.0 * std::f64::consts::LN_2, std::f64::consts::LN_2, 0.0, 0.0];

    #[test]
    fn filters_by_hand() {
        let all = Settings::default();
        near(&of(all, &Z, &[], 0.0).0, &[0.5, 0.25, 0.125, 0.125]);
        near(&of(Settings { top_k: 2, ..all }, &Z, &[], 0.0).0, &[2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        // Both that are as likely as the third.
        near(&of(Settings { top_k: 3, ..all }, &Z, &[], 0.0).0, &[0.5, 0.25, 0.125, 0.125]);
        near(&of(Settings { top_p: 0.8, ..all }, &Z, &[], 0.0).0, &[4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0, 0.0]);
        near(&of(Settings { top_p: 0.0, ..all }, &Z, &[], 0.0).0, &[1.0, 0.0, 0.0, 0.0]);
        // Of the two that top_k leaves, the first has two thirds.
        near(&of(Settings { top_k: 2, top_p: 0.6, ..all }, &Z, &[], 0.0).0, &[1.0, 0.0, 0.0, 0.0]);
        near(&of(Settings { min_p: 0.3, ..all }, &Z, &[], 0.0).0, &[2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        near(&of(Settings { temperature: 0.5, ..all }, &Z, &[], 0.0).0, &[16.0, 4.0, 1.0, 1.0].map(|w| w / 22.0));
        let greedy = Settings { temperature: 0.0, top_k: 3, ..all };
        assert_eq!(of(greedy, &[1.0, 3.0, 3.0], &[], 0.9), (vec![0.0, 1.0, 0.0], 1));
    }

    #[test]
    fn tokens_by_hand() {
        let all = Settings::default();
        let tokens = [0.0, 0.49, 0.51, 0.74, 0.76, 0.874, 0.876].map(|u| of(all, &Z, &[], u).1);
        assert_eq!(tokens, [0, 0, 1, 1, 2, 2, 3]);
        assert_eq!(of(all, &[f64::NEG_INFINITY; 3], &[], 0.5), (vec![0.0; 3], 0));
        assert_eq!(of(all, &[f64::NAN, 1.0], &[], 0.0).1, 1);
    }

    #[test]
    fn penalties_by_hand() {
        let settings =
            Settings { repetition_penalty: 2.0, frequency_penalty: 0.25, presence_penalty: 0.5, ..Settings::default() };
        let (scores, _) = scores::<f64>(&settings, &[3.0, -3.0, 1.0, f64::NEG_INFINITY], &[0, 1, 0, -1, 4, 3]);
        assert_eq!(scores, [1.5 - 0.5 - 0.5, -6.0 - 0.25 - 0.5, 1.0, f64::NEG_INFINITY]);
    }

    #[test]
    fn what_is_right_is_allowed_and_what_is_wrong_is_not() {
        let all = Settings::default();
        let cases = [
            Settings { top_k: 2, ..all },
            Settings { top_k: 3, ..all },
            Settings { top_p: 0.8, ..all },
            Settings { top_p: 0.0, ..all },
            Settings { top_k: 2, top_p: 0.6, ..all },
            Settings { min_p: 0.3, ..all },
            Settings { temperature: 0.0, ..all },
        ];
        for settings in cases {
            let (scores, moves) = scores::<f64>(&settings, &Z, &[]);
            let choices = Choices::new(&settings, &scores, &moves);
            let right = members(&settings, &scores);
            for set in 0..16 {
                let member = |i: usize| set >> i & 1 == 1;
                let same = (0..4).all(|i| member(i) == right[i]);
                assert_eq!(choices.fits(member).is_none(), same, "{settings:?} {set:b}");
            }
            let probs = probs(&settings, &scores, &right);
            for uniform in [0.0, 0.3, 0.6, 0.8, 0.95] {
                let drawn: Vec<usize> = (0..5).filter(|&t| choices.draws(None, t, uniform)).collect();
                assert_eq!(drawn, [token(&probs, uniform) as usize], "{settings:?} {uniform}");
            }
        }
        // Within 1e-6 of the border either is right.
        let settings = Settings { top_p: 0.5, ..all };
        let choices = Choices::new(&settings, &[0.3, 0.3 - 1e-9, -60.0], &[3e-7, 3e-7, 6e-5]);
        assert!(choices.fits(|i| i == 0).is_none() && choices.fits(|i| i == 1).is_none());
        assert!(choices.draws(None, 0, 0.3) && choices.draws(None, 1, 0.3));
    }
}
