//! Routing of tokens to experts, described.

use tileloom::moe_route::{Buffers, Problem, Score};
use tileloom::reference::moe_route::{best_first, group_scores, keys, merits, reference};
use tileloom::reference::{Verdict, Worst};
use tileloom::{Dtype, Layout, counting_sort};

use crate::case::{self, Fault, Options, Reader, Shown};
use crate::image::{Number, Rows};
use crate::kernel::{Arg, Bound, Cost, Describe, Given, List, Rule, Values};
use crate::random::Random;

const SCORE: [(&str, Score); 2] = [("softmax", Score::Softmax), ("sigmoid", Score::Sigmoid)];

/// By how much scores may be off, as a share of them.
const SLACK: f64 = 1e-6;

fn shape(n: usize, experts: usize, top_k: usize) -> Problem {
    Problem { n, experts, top_k, counts: Some(0), ..Problem::default() }
}

/// As DeepSeek-V3 routes.
fn deepseek(n: usize) -> Problem {
    let groups = Problem { groups: 8, top_groups: 4, ..shape(n, 256, 8) };
    Problem { score: Score::Sigmoid, bias: Some(0), scale: 2.5, ..groups }
}

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

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Describe for Problem {
    const RUNTIME: &'static [&'static str] = &["sort"];

    fn list(list: &mut List<Problem>) {
        for (_, score) in SCORE {
            for (n, experts, top_k) in [(1, 1, 1), (5, 8, 2), (67, 60, 4), (3, 128, 8)] {
                list.narrow("sizes", Problem { score, ..shape(n, experts, top_k) });
            }
        }
        for (name, problem) in [
            ("256 experts in 8 groups, biased", deepseek(37)),
            ("384 experts, biased", Problem { experts: 384, groups: 1, top_groups: 1, ..deepseek(9) }),
            ("softmax of chosen, not normalised", Problem { normalize: false, scale: 16.0, ..shape(9, 160, 6) }),
        ] {
            list.narrow(name, problem).seed(2);
        }
        for (_, score) in SCORE {
            for bias in [None, Some(0)] {
                let problem = Problem { score, bias, groups: 5, top_groups: 2, ..shape(21, 15, 5) };
                list.narrow("ties, minus infinity, NaN", problem).seed(3).set(hostile);
            }
        }
        list.narrow("none", shape(0, 9, 2));
        for (problem, seed) in [(deepseek(19), 4), (Problem { bias: None, ..deepseek(70) }, 5), (shape(9, 33, 32), 6)] {
            list.wide("every candidate", problem).seed(seed).every_candidate().twice();
        }
        for logits in [Dtype::F16, Dtype::Bf16] {
            let strided = Problem {
                logits,
                logits_layout: Layout::strided(3, [101]),
                bias: Some(5),
                chosen: 1,
                weights: 2,
                order: 3,
                offsets: 4,
                counts: Some(5),
                ..shape(40, 96, 3)
            };
            list.wide("f16 and bf16, strided, offsets", strided).seed(7);
        }
        list.wide("many experts", shape(3, 4096, 5)).seed(8);
        list.wide("many groups, without counts", Problem { counts: None, groups: 32, top_groups: 9, ..deepseek(5) });
        let one = Problem { experts: 32, groups: 32, top_groups: 9, top_k: 9, ..deepseek(5) };
        list.wide("groups of one", one).seed(9);
        list.wide("checked modules give the same", deepseek(11)).seed(10).checked();
        list.bench("4096 tokens, 256 experts in 8 groups, biased", deepseek(4096)).quick();
        list.bench("4096 tokens, 128 experts", shape(4096, 128, 8));
        list.bench("1 token, 256 experts in 8 groups, biased", deepseek(1));
        list.large("16384 tokens, 256 experts in 8 groups, biased", deepseek(16_384));
        for logits in Dtype::ALL {
            list.compose(Problem { logits, ..deepseek(9) });
            list.compose(Problem { logits, ..shape(9, 60, 4) });
        }
    }

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
        let sorted = tileloom::reference::counting_sort::reference(&sort, &pairs);
        let weights = Rule::Rows {
            cols: self.top_k,
            dtype: Dtype::F32,
            oracle: oracle.weights,
            low: low.weights,
            mag: oracle.mag,
        };
        let problem = *self;
        let chosen = move |out: &[f64], expected: Option<&[f64]>| match expected {
            Some(expected) => crate::kernel::exact(out, expected),
            None => judge(&problem, &logits, bias.as_deref(), out),
        };
        let exact = |all: Vec<u32>| Rule::Exact(all.into_iter().map(f64::from).collect());
        let mut rules = vec![("experts", Rule::By(Box::new(chosen))), ("weights", weights)];
        rules.extend([("order", exact(sorted.order)), ("offsets", exact(sorted.offsets))]);
        rules.extend(self.counts.map(|_| ("counts", exact(sorted.counts))));
        rules
    }

    fn cost(&self) -> Cost {
        Cost::of(0.0, &self.args())
    }

    fn shared() -> &'static [&'static str] {
        &["bias"]
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.word("score", &mut self.score, &SCORE)?;
        options.value("top_k", &mut self.top_k)?;
        options.value("groups", &mut self.groups)?;
        options.value("top_groups", &mut self.top_groups)?;
        options.value("normalize", &mut self.normalize)?;
        options.value("scale", &mut self.scale)?;
        options.value("logits_layout", &mut self.logits_layout)?;
        if let Some(bias) = &mut self.bias {
            options.value("bias_offset", bias)?;
        }
        options.value("experts_offset", &mut self.chosen)?;
        options.value("weights_offset", &mut self.weights)?;
        options.value("order_offset", &mut self.order)?;
        options.value("offsets_offset", &mut self.offsets)?;
        options.value("counts_offset", &mut self.counts)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (logits, dtype) = reader.values("logits", "[n, experts]")?;
        let &[n, experts] = &logits.shape[..] else {
            return Err(case::bad_shape("logits", logits, "[n, experts]"));
        };
        let mut problem = Problem { logits: dtype, ..shape(n, experts, 0) };
        let mut values = Values::from([("logits", logits.numbers().unwrap_or_default())]);
        if let Some(bias) = reader.optional("bias") {
            if bias.float() != Some(Dtype::F32) || bias.shape != [experts] {
                return Err(case::bad_shape("bias", bias, format!("[{experts}], F32")));
            }
            problem.bias = Some(0);
            values.insert("bias", bias.numbers().unwrap_or_default());
        }
        problem.options(&mut Options::Read(reader))?;
        let bad = |name, value: usize, expected: String| Err(Fault::BadOption { name, value: value.to_string(), expected });
        let Problem { groups, top_groups, top_k, .. } = problem;
        if groups == 0 || !experts.is_multiple_of(groups) {
            return bad("groups", groups, format!("a divisor of {experts}"));
        }
        if top_groups == 0 || top_groups > groups {
            return bad("top_groups", top_groups, format!("1 to {groups}"));
        }
        let open = experts / groups * top_groups;
        if top_k == 0 || top_k > open {
            return bad("top_k", top_k, format!("1 to {open}"));
        }
        let pairs = n.saturating_mul(top_k);
        let mut outputs = vec![Shown::new("experts", [n, top_k]), Shown::new("weights", [n, top_k])];
        outputs.extend([Shown::new("order", [pairs]), Shown::new("offsets", [experts + 1])]);
        outputs.extend(problem.counts.map(|_| Shown::new("counts", [experts])));
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "logits" => vec![self.n, self.experts],
            "experts" | "weights" => vec![self.n, self.top_k],
            _ => vec![arg.view.len()],
        }
    }
}

/// Equal logits, minus infinity, infinity, NaN; all equal, all minus infinity.
fn hostile(problem: &Problem, values: &mut Values) {
    let cols = problem.experts;
    values.entry("logits").and_modify(|logits| {
        logits.iter_mut().for_each(|v| *v = v.round());
        for (row, logits) in logits.chunks_mut(cols).enumerate() {
            match row % 7 {
                0 => logits.fill(1.5),
                1 => logits.fill(f64::NEG_INFINITY),
                2 => logits[row % cols] = f64::NAN,
                3 => logits[row % cols] = f64::INFINITY,
                4 => logits[cols / 2..].fill(f64::NEG_INFINITY),
                5 => logits.iter_mut().for_each(|v| *v = -v.abs() - 40.0),
                _ => {}
            }
        }
    });
    values.entry("bias").and_modify(|bias| bias.iter_mut().for_each(|v| *v = (*v * 20.0).round() / 4.0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Case, Tensor};

    #[test]
    fn faults_name_what_is_wrong() {
        let fault = crate::kernel::fault::<Problem>;
        let zeros = |shape: &[usize]| Tensor::values(Dtype::F32, shape, &vec![0.0; shape.iter().product()]);
        let case = || Case::new("moe_route").tensor("logits", zeros(&[3, 8]));
        assert!(fault(&case()).contains("option `top_k` is \"0\", expected 1 to 8"));
        assert_eq!(fault(&case().option("top_k", 8)), "understood");
        assert!(fault(&case().option("top_k", 2).option("groups", 3)).contains("a divisor of 8"));
        let grouped = || case().option("groups", 4);
        assert!(fault(&grouped().option("top_k", 3)).contains("expected 1 to 2"));
        assert!(fault(&grouped().option("top_k", 3).option("top_groups", 5)).contains("expected 1 to 4"));
        assert!(fault(&case().option("top_k", 1).tensor("bias", zeros(&[7]))).contains("expected [8], F32"));
    }

    #[test]
    fn choices_are_judged_by_what_scores_may_be() {
        let problem = Problem { bias: Some(0), score: Score::Sigmoid, ..shape(1, 3, 2) };
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
