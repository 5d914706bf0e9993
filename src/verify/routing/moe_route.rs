//! How a call of moe_route is made and judged.

use crate::moe_route::{Buffers, Problem};
use crate::reference::moe_route::{best_first, group_scores, keys, merits, reference};
use crate::reference::{Verdict, Worst};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values, exact};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small;
use crate::{Dtype, counting_sort};

/// By how much scores may be off, as a share of them.
const SLACK: f64 = 1e-6;

/// The experts that a kernel or a case file says, if they are such.
fn experts(problem: &Problem, numbers: &[f64]) -> Option<Vec<u32>> {
    let valid = numbers.len() == problem.n * problem.top_k
        && numbers.iter().all(|e| (0.0..problem.experts as f64).contains(e) && e.fract() == 0.0);
    valid.then(|| numbers.iter().map(|&e| e as u32).collect())
}

/// Whether `chosen` are the experts of a token where each score is off by at most [`SLACK`] of it.
fn fits(problem: &Problem, logits: &[f64], bias: Option<&[f64]>, chosen: &[u32]) -> bool {
    let merits = merits::<f64>(problem, logits, bias);
    let by = keys(problem, &merits);
    let slack = |e: usize| match problem.bias {
        // What f32 takes for 0 counts as none.
        Some(_) => SLACK * (merits[e].score + merits[e].bias.abs()) + f64::from(f32::MIN_POSITIVE),
        None => 0.0,
    };
    let near = |a: usize, b: usize| by[a] + slack(a) >= by[b] - slack(b);
    let equal = |a: usize, b: usize| (logits[a], merits[a].bias) == (logits[b], merits[b].bias);
    // Better than b, or as good as far as can be told, and of equals the lowest.
    let before = |a: usize, b: usize| if equal(a, b) { a < b } else { near(a, b) };
    let chosen: Vec<usize> = chosen.iter().map(|&e| e as usize).collect();
    let size = problem.experts / problem.groups;
    let right = |kept: &[usize]| {
        let rest = (0..problem.experts).filter(|e| kept.contains(&(e / size)) && !chosen.contains(e));
        let last = chosen[chosen.len() - 1];
        chosen.iter().all(|e| kept.contains(&(e / size)))
            && chosen.windows(2).all(|pair| before(pair[0], pair[1]))
            && rest.into_iter().all(|e| before(last, e))
    };
    // Groups by the sums of their slacks: those that are in, and those of which any may be.
    let scores = group_scores(problem, &by);
    let slack_of = |g: usize| (g * size..(g + 1) * size).map(slack).fold(0.0, f64::max) * 2.0;
    let order = best_first(&scores);
    let edge = order[problem.top_groups - 1];
    let open = |g: &usize| (scores[*g] - scores[edge]).abs() <= slack_of(*g) + slack_of(edge) && *g != edge;
    let mut open: Vec<usize> = order.iter().copied().filter(open).collect();
    open.truncate(12);
    let sure: Vec<usize> =
        order[..problem.top_groups].iter().copied().filter(|g| !open.contains(g) && *g != edge).collect();
    open.push(edge);
    (0..1usize << open.len()).any(|set| {
        let some = open.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1).map(|(_, &g)| g);
        let kept: Vec<usize> = sure.iter().copied().chain(some).collect();
        kept.len() == problem.top_groups && right(&kept)
    })
}

fn judge(problem: &Problem, logits: &[f64], bias: Option<&[f64]>, out: &[f64]) -> Verdict {
    let oracle = reference::<f64>(problem, logits, bias, None).chosen;
    let mut verdict = Verdict { checked: out.len(), ..Verdict::default() };
    let taken = experts(problem, out);
    for (token, right) in oracle.chunks(problem.top_k).enumerate() {
        let at = token * problem.top_k;
        let own = taken.as_ref().map(|all| &all[at..at + problem.top_k]);
        let distinct = |own: &[u32]| (1..own.len()).all(|i| !own[..i].contains(&own[i]));
        let row = &logits[token * problem.experts..][..problem.experts];
        if own.is_some_and(|own| own == right || (distinct(own) && fits(problem, row, bias, own))) {
            continue;
        }
        let index = (at..at + problem.top_k).find(|&i| out[i] != f64::from(right[i - at])).unwrap_or(at);
        verdict.wrong += 1;
        verdict.ratio = f64::INFINITY;
        let expected = right[index - at].into();
        verdict.worst.get_or_insert(Worst { index, out: out[index], expected, bound: SLACK });
    }
    verdict
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let pairs = self.n.saturating_mul(self.top_k);
        let mut args = vec![Arg::read("logits", Rows::new(self.logits_layout, [self.n], self.experts, self.logits))];
        args.extend(self.bias.map(|at| Arg::read("bias", Rows::flat(at, self.experts, Dtype::F32))));
        args.push(Arg::write("experts", Rows::flat(self.chosen, pairs, Number::U32)));
        args.push(Arg::write("weights", Rows::flat(self.weights, pairs, Dtype::F32)));
        args.push(Arg::write("order", Rows::flat(self.order, pairs, Number::U32)));
        args.push(Arg::write("offsets", Rows::flat(self.offsets, self.experts.saturating_add(1), Number::U32)));
        args.extend(self.counts.map(|at| Arg::write("counts", Rows::flat(at, self.experts, Number::U32))));
        args
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        match name {
            "bias" => (0..len).map(|_| 0.1 * random.normal()).collect(),
            _ => random.outliers(len),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let [logits, chosen, weights, order, offsets] =
            ["logits", "experts", "weights", "order", "offsets"].map(|name| bound.get(name));
        let buffers = Buffers::new(logits, chosen, weights, order, offsets);
        bound.with(buffers, [("bias", Buffers::bias), ("counts", Buffers::counts), ("scratch", Buffers::scratch)])
    }

    /// The choice by scores that may be off by [`SLACK`], what follows from it by the numerics rule, or exactly.
    fn rules(&self, values: &Values, given: &Values) -> Vec<(&'static str, Rule)> {
        let (logits, bias) = (values["logits"].clone(), values.get("bias").cloned());
        let taken = given.get("experts").and_then(|all| experts(self, all));
        let oracle = reference::<f64>(self, &logits, bias.as_deref(), taken.as_deref());
        let low = reference::<f32>(self, &logits, bias.as_deref(), Some(&oracle.chosen));
        let sort = counting_sort::Problem { n: oracle.chosen.len(), num_keys: self.experts, ..Default::default() };
        let pairs: Vec<i64> = oracle.chosen.iter().map(|&e| e.into()).collect();
        let sorted = crate::reference::counting_sort::reference(&sort, &pairs);
        let weights = Rule::Rows {
            cols: self.top_k,
            dtype: Dtype::F32,
            oracle: oracle.weights,
            low: low.weights,
            mag: oracle.mag,
        };
        let problem = *self;
        let chosen = move |out: &[f64], expected: Option<&[f64]>| match expected {
            Some(expected) => exact(out, expected),
            None => judge(&problem, &logits, bias.as_deref(), out),
        };
        let same = |all: Vec<u32>| Rule::Exact(all.into_iter().map(f64::from).collect());
        let mut rules = vec![("experts", Rule::By(Box::new(chosen))), ("weights", weights)];
        rules.extend([("order", same(sorted.order)), ("offsets", same(sorted.offsets))]);
        rules.extend(self.counts.map(|_| ("counts", same(sorted.counts))));
        rules
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |n: usize| {
            let n = self.n.min(n);
            let logits_layout = small::laid(self.logits_layout, [n], self.experts);
            let [bias, counts] = [self.bias, self.counts].map(|at| at.map(|at| at % 8));
            let [chosen, weights, order, offsets] =
                [self.chosen, self.weights, self.order, self.offsets].map(|at| at % 8);
            let problem = Problem { n, logits_layout, bias, chosen, weights, order, offsets, counts, ..*self };
            (n * self.experts, problem)
        };
        small::few([small(3), small(67)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moe_route::Score;

    #[test]
    fn choices_are_judged_by_what_scores_may_be() {
        let problem = Problem { experts: 3, top_k: 2, bias: Some(0), score: Score::Sigmoid, ..Problem::default() };
        let bias = [0.0; 3];
        let of = |logits: [f64; 3], out: [f64; 2]| judge(&problem, &logits, Some(&bias), &out).ok();
        assert!(of([1.0, 1.0 + 1e-7, 0.0], [0.0, 1.0]) && of([1.0, 1.0 + 1e-7, 0.0], [1.0, 0.0]));
        // Ties go to the lowest; no expert twice; none that does not exist.
        assert!(!of([1.0, 1.0, 0.0], [1.0, 0.0]) && !of([1.0, 0.9, 0.0], [1.0, 0.0]));
        assert!(!of([1.0, 0.9, 0.0], [0.0, 2.0]) && !of([1.0, 1.0, 0.0], [0.0, 0.0]));
        assert!(!of([1.0, 0.9, 0.0], [0.0, 3.0]) && !of([1.0, 0.9, 0.0], [0.0, f64::NAN]));
        // Groups of two as good as can be told.
        let grouped = Problem { groups: 2, top_k: 2, experts: 4, ..problem };
        let of = |logits: [f64; 4], out: [f64; 2]| judge(&grouped, &logits, Some(&[0.0; 4]), &out).ok();
        assert!(of([1.0, 0.5, 0.5, 1.0 + 1e-8], [3.0, 2.0]) && of([1.0, 0.5, 0.5, 1.0 + 1e-8], [0.0, 1.0]));
        assert!(!of([1.0, 0.5, 0.5, 1.0 + 1e-8], [3.0, 0.0]) && !of([1.0, 0.5, 0.5, 1.1], [0.0, 1.0]));
    }
}
