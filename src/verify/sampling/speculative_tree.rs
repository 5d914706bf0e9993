//! How a call of speculative_tree is made and judged.

use std::rc::Rc;

use crate::Dtype;
use crate::reference::Verdict;
use crate::reference::Worst;
use crate::reference::sample::{MOVE, drawn};
use crate::reference::speculative_tree::{self as definition, compared, entropy, path_to, place, probability, row};
use crate::speculative_tree::{Accept, Buffers, Problem, Sampled, Typical};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small;

/// A call's inputs.
struct Inputs {
    problem: Problem,
    parents: Vec<i64>,
    proposed: Vec<i64>,
    drawn: Option<Vec<i64>>,
    target: Option<Vec<f64>>,
    draft: Option<Vec<f64>>,
    uniform: Option<Vec<f64>>,
}

/// What is left of a place's target, with each probability moved by so much: once `factor`, of these bounds, times the draft is off.
struct Left<'a> {
    target: &'a [f64],
    draft: &'a [f64],
    factor: [f64; 2],
    /// In all, before the next child.
    all: [f64; 2],
}

impl Left<'_> {
    /// Of a token, at least and at most, for these bounds of the factor.
    fn bounds(&self, token: usize, [least, most]: [f64; 2]) -> [f64; 2] {
        let (p, q) = (probability(self.target[token]), probability(self.draft[token]));
        let left = |by: f64, factor: f64| probability(p * (1.0 + by) - factor * q * (1.0 - by));
        [left(-MOVE, most), left(MOVE, least)]
    }

    fn sum(&self, factor: [f64; 2]) -> [f64; 2] {
        let all = (0..self.target.len()).map(|token| self.bounds(token, factor));
        all.fold([0.0; 2], |sum, of| [sum[0] + of[0], sum[1] + of[1]])
    }

    /// A child has failed.
    fn take_off(&mut self) {
        let [least, most] = self.factor;
        // factor + what is left grows with the factor: its least goes with the least.
        let first = least == 0.0 && most == 0.0;
        let grown = |factor: f64, i: usize| if first { 1.0 } else { factor + self.sum([factor; 2])[i] };
        self.factor = [grown(least, 0), grown(most, 1)];
        self.all = self.sum(self.factor);
    }
}

impl Inputs {
    fn of(problem: &Problem, values: &Values) -> Inputs {
        let integers = |values: &Vec<f64>| values.iter().map(|&v| v as i64).collect();
        let floats = |name: &str| values.get(name).cloned();
        Inputs {
            problem: *problem,
            parents: integers(&values["parents"]),
            proposed: integers(&values["proposed"]),
            drawn: values.get("drawn").map(integers),
            target: floats("target"),
            draft: floats("draft"),
            uniform: floats("uniform"),
        }
    }

    fn borrowed(&self) -> definition::Inputs<'_> {
        let Inputs { parents, proposed, drawn, target, draft, uniform, .. } = self;
        let (drawn, target) = (drawn.as_deref(), target.as_deref());
        definition::Inputs { parents, proposed, drawn, target, draft: draft.as_deref(), uniform: uniform.as_deref() }
    }

    /// The number that a node is compared with, or the last one.
    fn uniform(&self, batch: usize, i: usize) -> f64 {
        self.uniform.as_ref().map_or(0.0, |uniform| probability(uniform[batch * (self.problem.len + 1) + i]))
    }

    /// What is left of the target behind a path, if its nodes may stand, and others may not.
    fn left(&self, vocab: usize, batch: usize, path: &[usize]) -> Option<Left<'_>> {
        let Problem { len, depth, .. } = self.problem;
        let inputs = self.borrowed();
        let at = |place: usize| {
            let of = |all| row(&self.problem, vocab, all, batch, place);
            Left { target: of(inputs.target), draft: of(inputs.draft), factor: [0.0; 2], all: [1.0; 2] }
        };
        let (mut count, mut behind, mut left) = (0, 0, at(0));
        for node in 0..len {
            let token = usize::try_from(self.proposed[batch * len + node]).ok().filter(|&token| token < vocab);
            let child = count < depth && place(&self.problem, &self.parents, batch, node) == behind;
            let taken = path.get(count) == Some(&node);
            let Some(token) = token.filter(|_| child) else { if taken { return None } else { continue } };
            let q = probability(left.draft[token]);
            let by = self.uniform(batch, node) * q;
            let [least, most] = left.bounds(token, left.factor);
            let near = 3.0 * MOVE;
            let may = q > 0.0 && most > 0.0 && by * (1.0 - near) * left.all[0] <= most;
            let may_not = q == 0.0 || by * (1.0 + near) * left.all[1] >= least;
            match taken {
                true if may => (count, behind, left) = (count + 1, node + 1, at(node + 1)),
                false if may_not => left.take_off(),
                _ => return None,
            }
        }
        (count == path.len()).then_some(left)
    }

    /// Whether this token may be drawn behind a path.
    fn draws(&self, vocab: usize, batch: usize, path: &[usize], token: f64) -> bool {
        let Some(mut left) = self.left(vocab, batch, path).filter(|_| (0.0..vocab as f64).contains(&token)) else {
            return false;
        };
        let by = self.uniform(batch, self.problem.len);
        let draws = |left: &Left| drawn(vocab, |i| left.bounds(i, left.factor), token as usize, by);
        let none = left.all[0] == 0.0;
        let own = draws(&left);
        // Where nothing may be left, the target itself.
        left.factor = [0.0; 2];
        own || (none && draws(&left))
    }

    /// The path that a row of an output names, if it names one.
    fn named(&self, batch: usize, row: &[f64]) -> Option<Vec<usize>> {
        let len = row.iter().position(|&v| v == -1.0).unwrap_or(row.len());
        let node = |&v: &f64| (v >= 0.0 && v < self.problem.len as f64 && v.fract() == 0.0).then_some(v as usize);
        let path = row[..len].iter().map(node).collect::<Option<Vec<usize>>>()?;
        let rest = row[len..].iter().all(|&v| v == -1.0);
        let whole = path.last().is_none_or(|&last| path_to(&self.problem, &self.parents, batch, last) == path);
        (rest && whole).then_some(path)
    }

    /// Of each node its probability, whether it may stand and whether it may not, with what is compared moved by so much.
    fn nodes(&self, typical: &Typical, batch: usize) -> Vec<(f64, [bool; 2])> {
        let inputs = self.borrowed();
        let of = |node: usize| {
            let (p, threshold) = compared::<f64>(&self.problem, typical, &inputs, batch, node);
            let place = place(&self.problem, &self.parents, batch, node);
            // Each probability moves the entropy by p (1 + |ln p|), and that the threshold by as much of itself.
            let near = MOVE * (3.0 + entropy::<f64>(row(&self.problem, typical.vocab, inputs.target, batch, place)));
            (p, [p > threshold * (1.0 - near), p <= threshold * (1.0 + near) || p == 0.0])
        };
        (0..self.problem.len).map(of).collect()
    }

    /// Whether this path is right.
    fn fits(&self, batch: usize, path: &[usize]) -> bool {
        let Problem { len, depth, accept, .. } = self.problem;
        let typical = match accept {
            Accept::Match => return definition::found::<f64>(&self.problem, &self.borrowed(), batch).0 == path,
            Accept::Sampled(Sampled { vocab, .. }) => return self.left(vocab, batch, path).is_some(),
            Accept::Typical(typical) => typical,
        };
        let nodes = self.nodes(&typical, batch);
        let likely = |path: &[usize]| path.iter().map(|&node| nodes[node].0.ln()).sum::<f64>();
        let same = |other: &[usize]| path.iter().zip(other).all(|(&a, &b)| nodes[a].0 == nodes[b].0);
        let near = 2.0 * MOVE * (path.len() + 1) as f64;
        let better = |other: &[usize]| {
            let longer = other.len() > path.len();
            let likelier = other.len() == path.len() && likely(other) > likely(path) + near;
            // Exact ties go by the number.
            let first = other.len() == path.len() && same(other) && other.last() < path.last();
            longer || likelier || first
        };
        let must = |node: &usize| !nodes[*node].1[1];
        let others = (0..len).map(|node| path_to(&self.problem, &self.parents, batch, node));
        let mut sure = others.filter(|other| other.len() <= depth && other.iter().all(must));
        path.iter().all(|&node| nodes[node].1[0]) && !sure.any(|other| better(&other))
    }
}

impl Describe for Problem {
    /// `tokens` are the results, as in case files.
    fn args(&self) -> Vec<Arg> {
        let Problem { batch, len, depth, tree, .. } = *self;
        let of = |n: usize| batch.saturating_mul(n);
        let nodes = if tree.per_batch { of(len) } else { len };
        let mut args = vec![Arg::read("parents", Rows::flat(tree.parents, nodes, Number::I32))];
        let places = of(len.saturating_add(1));
        let probabilities =
            |name, layout, vocab| Arg::read(name, Rows::new(layout, [batch, len + 1], vocab, Dtype::F32));
        match self.accept {
            Accept::Match => {}
            Accept::Sampled(Sampled { vocab, target, draft, uniform }) => args.extend([
                probabilities("draft", draft, vocab),
                probabilities("target", target, vocab),
                Arg::read("uniform", Rows::flat(uniform, places, Dtype::F32)),
            ]),
            Accept::Typical(Typical { vocab, target, .. }) => args.push(probabilities("target", target, vocab)),
        }
        if !matches!(self.accept, Accept::Sampled(_)) {
            args.push(Arg::read("drawn", Rows::flat(self.drawn, places, Number::U32)));
        }
        args.extend([
            Arg::read("proposed", Rows::flat(self.proposed, of(len), Number::I32)),
            Arg::write("path", Rows::flat(self.path, of(depth), Number::I32)),
            Arg::write("accepted", Rows::flat(self.accepted, batch, Number::U32)),
            Arg::write("tokens", Rows::flat(self.tokens, of(depth.saturating_add(1)), Number::I32)),
        ]);
        args
    }

    /// A random tree, deep as often as wide; tokens of which half are those drawn, or likely ones; a target near to its draft.
    fn fill(&self, name: &str, len: usize, before: &Values, random: &mut Random) -> Vec<f64> {
        match (name, self.accept) {
            ("parents", _) => (0..len)
                .map(|i| {
                    let node = i % self.len.max(1);
                    let most = 1 + random.below(4);
                    let back = 1 + random.below(most);
                    if back > node { -1.0 } else { (node - back) as f64 }
                })
                .collect(),
            ("target" | "draft", Accept::Typical(Typical { vocab, .. }) | Accept::Sampled(Sampled { vocab, .. })) => {
                // A benchmark has its values elsewhere.
                let draft = before.get("draft").filter(|draft| name == "target" && draft.len() == len);
                let near = |i: usize, by: f64| draft.map_or(3.0 * by, |draft| draft[i].max(1e-30).ln() + 0.5 * by);
                let logits: Vec<f64> = (0..len).map(|i| near(i, random.normal())).collect();
                let sums = logits.chunks(vocab).map(|row| row.iter().map(|z| z.exp()).sum::<f64>());
                let sums: Vec<f64> = sums.collect();
                logits.iter().enumerate().map(|(i, z)| z.exp() / sums[i / vocab]).collect()
            }
            ("uniform", _) => (0..len).map(|_| random.uniform()).collect(),
            // Drawn from the draft at the place that each continues.
            ("proposed", Accept::Sampled(Sampled { vocab, .. })) => {
                let (parents, draft) = (before.get("parents"), before.get("draft"));
                let parents: Option<Vec<i64>> = parents.map(|all| all.iter().map(|&v| v as i64).collect());
                let drawn = |i: usize, mut left: f64| {
                    let (batch, node) = (i / self.len, i % self.len);
                    let place = place(self, parents.as_deref()?, batch, node);
                    row(self, vocab, Some(draft?), batch, place).iter().position(|p| {
                        left -= p;
                        left < 0.0
                    })
                };
                (0..len).map(|i| drawn(i, random.uniform()).unwrap_or(0) as f64).collect()
            }
            ("proposed", Accept::Typical(typical)) => {
                let (parents, target) = (before.get("parents"), before.get("target"));
                let likely = |i: usize| {
                    let (batch, node) = (i / self.len, i % self.len);
                    let parents: Vec<i64> = parents?.iter().map(|&v| v as i64).collect();
                    let row = row(self, typical.vocab, Some(target?), batch, place(self, &parents, batch, node));
                    (0..typical.vocab).max_by(|&a, &b| row[a].total_cmp(&row[b]))
                };
                let of = |i: usize| match random.below(3) {
                    0 => random.below(typical.vocab) as f64,
                    _ => likely(i).unwrap_or(0) as f64,
                };
                (0..len).map(of).collect()
            }
            ("drawn", Accept::Typical(Typical { vocab, .. })) => (0..len).map(|_| random.below(vocab) as f64).collect(),
            // Few tokens, so that many match.
            _ => (0..len).map(|_| random.below(3) as f64).collect(),
        }
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let [parents, proposed, accepted, tokens, path] =
            ["parents", "proposed", "accepted", "tokens", "path"].map(|name| bound.get(name));
        let buffers = Buffers::new(parents, proposed, accepted, tokens, path);
        bound.with(
            buffers,
            [
                ("drawn", Buffers::drawn),
                ("target", Buffers::target),
                ("draft", Buffers::draft),
                ("uniform", Buffers::uniform),
                ("scratch", Buffers::scratch),
            ],
        )
    }

    /// The path with what is compared moved by 1e-6; what follows from the path, exactly.
    fn rules(&self, values: &Values, given: &Values) -> Vec<(&'static str, Rule)> {
        let Problem { batch, len, depth, .. } = *self;
        let inputs = Rc::new(Inputs::of(self, values));
        let right = definition::reference::<f64>(self, &inputs.borrowed());
        let row = move |path: &[f64], b: usize| path[b * depth..][..depth].to_vec();
        let given = given.get("path").filter(|path| path.len() == batch * depth);
        let paths: Option<Vec<Vec<usize>>> =
            given.and_then(|path| (0..batch).map(|b| inputs.named(b, &row(path, b))).collect());
        let found: Vec<_> = (0..batch).map(|b| definition::found::<f64>(self, &inputs.borrowed(), b)).collect();
        let paths = paths.unwrap_or_else(|| found.iter().map(|(path, _)| path.clone()).collect());
        let behind = |b: usize, path: &[usize]| match self.accept {
            Accept::Sampled(_) => found[b].1,
            _ => {
                let place = path.last().map_or(0, |node| node + 1);
                inputs.drawn.as_ref().map_or(0, |drawn| drawn[b * (len + 1) + place])
            }
        };
        let all: Vec<_> = paths.iter().enumerate().map(|(b, path)| (path.clone(), behind(b, path))).collect();
        let out = definition::output(self, &inputs.borrowed(), &all);
        let of = inputs.clone();
        let judge = move |path: &[f64], _: Option<&[f64]>| {
            let mut verdict = Verdict { checked: path.len(), ..Verdict::default() };
            for b in 0..batch {
                let own = row(path, b);
                if of.named(b, &own).is_some_and(|path| of.fits(b, &path)) {
                    continue;
                }
                let index = b * depth + (0..depth).find(|&i| own[i] != right.path[b * depth + i] as f64).unwrap_or(0);
                let (out, expected) = path.get(index).map_or((0.0, 0.0), |&v| (v, right.path[index] as f64));
                verdict.wrong += 1;
                verdict.ratio = f64::INFINITY;
                verdict.worst.get_or_insert(Worst { index, out, expected, bound: 0.0 });
            }
            verdict
        };
        let numbers = |all: Vec<i64>| all.into_iter().map(|v| v as f64).collect::<Vec<f64>>();
        let tokens = numbers(out.tokens);
        let tokens = match self.accept {
            Accept::Sampled(Sampled { vocab, .. }) => Rule::By(Box::new(move |out: &[f64], _: Option<&[f64]>| {
                let mut verdict = Verdict { checked: out.len(), ..Verdict::default() };
                for (index, (&out, &expected)) in out.iter().zip(&tokens).enumerate() {
                    let (b, place) = (index / (depth + 1), index % (depth + 1));
                    let last = place == paths[b].len();
                    if !(if last { inputs.draws(vocab, b, &paths[b], out) } else { out == expected }) {
                        verdict.wrong += 1;
                        verdict.ratio = f64::INFINITY;
                        verdict.worst.get_or_insert(Worst { index, out, expected, bound: 0.0 });
                    }
                }
                verdict
            })),
            _ => Rule::Exact(tokens),
        };
        vec![("path", Rule::By(Box::new(judge))), ("accepted", Rule::Exact(numbers(out.accepted))), ("tokens", tokens)]
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |batch: usize, len: usize, vocab: usize| {
            let (batch, len) = (self.batch.min(batch), self.len.min(len));
            let accept = match self.accept {
                Accept::Match => Accept::Match,
                Accept::Sampled(sampled) => {
                    let vocab = small::like(sampled.vocab, vocab);
                    let laid = |layout| small::laid(layout, [batch, len + 1], vocab);
                    let (target, draft) = (laid(sampled.target), laid(sampled.draft));
                    Accept::Sampled(Sampled { vocab, target, draft, uniform: sampled.uniform % 8 })
                }
                Accept::Typical(typical) => {
                    let vocab = small::like(typical.vocab, vocab);
                    let target = small::laid(typical.target, [batch, len + 1], vocab);
                    Accept::Typical(Typical { vocab, target, ..typical })
                }
            };
            Problem {
                batch,
                len,
                depth: self.depth.min(6),
                tree: crate::attention::Tree { parents: self.tree.parents % 8, ..self.tree },
                accept,
                proposed: self.proposed % 8,
                drawn: self.drawn % 8,
                accepted: self.accepted % 8,
                tokens: self.tokens % 8,
                path: self.path % 8,
            }
        };
        let all = [small(70, 20, 50), small(4, 9, 700), small(2, 3, 9000)];
        let elements = |problem: &Problem| match problem.accept {
            Accept::Match => problem.batch * (problem.len + 1),
            Accept::Typical(Typical { vocab, .. }) | Accept::Sampled(Sampled { vocab, .. }) => {
                problem.batch * (problem.len + 1) * vocab
            }
        };
        small::few(all.map(|problem| (elements(&problem), problem)))
    }
}
