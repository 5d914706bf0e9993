//! How a call of speculative_tree is made and judged.

use std::rc::Rc;

use crate::Dtype;
use crate::reference::Verdict;
use crate::reference::Worst;
use crate::reference::sample::MOVE;
use crate::reference::speculative_tree::{self as definition, compared, entropy, path_to, place, row};
use crate::speculative_tree::{Accept, Buffers, Problem, Typical};
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::random::Random;
use crate::verify::small;

/// A call's inputs.
struct Inputs {
    problem: Problem,
    parents: Vec<i64>,
    proposed: Vec<i64>,
    drawn: Vec<i64>,
    target: Option<Vec<f64>>,
}

impl Inputs {
    fn of(problem: &Problem, values: &Values) -> Inputs {
        let integers = |name: &str| values[name].iter().map(|&v| v as i64).collect();
        Inputs {
            problem: *problem,
            parents: integers("parents"),
            proposed: integers("proposed"),
            drawn: integers("drawn"),
            target: values.get("target").cloned(),
        }
    }

    fn borrowed(&self) -> definition::Inputs<'_> {
        let Inputs { parents, proposed, drawn, target, .. } = self;
        definition::Inputs { parents, proposed, drawn, target: target.as_deref() }
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
            let target = inputs.target.unwrap_or_default();
            // Each probability moves the entropy by p (1 + |ln p|), and that the threshold by as much of itself.
            let near = MOVE * (3.0 + entropy::<f64>(row(&self.problem, typical, target, batch, place)));
            (p, [p > threshold * (1.0 - near), p <= threshold * (1.0 + near) || p == 0.0])
        };
        (0..self.problem.len).map(of).collect()
    }

    /// Whether this path is right.
    fn fits(&self, batch: usize, path: &[usize]) -> bool {
        let Problem { len, depth, accept, .. } = self.problem;
        let Accept::Typical(typical) = accept else {
            return definition::path::<f64>(&self.problem, &self.borrowed(), batch) == path;
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
        if let Accept::Typical(Typical { vocab, target, .. }) = self.accept {
            args.push(Arg::read("target", Rows::new(target, [batch, len + 1], vocab, Dtype::F32)));
        }
        args.extend([
            Arg::read("drawn", Rows::flat(self.drawn, of(len.saturating_add(1)), Number::U32)),
            Arg::read("proposed", Rows::flat(self.proposed, of(len), Number::I32)),
            Arg::write("path", Rows::flat(self.path, of(depth), Number::I32)),
            Arg::write("accepted", Rows::flat(self.accepted, batch, Number::U32)),
            Arg::write("tokens", Rows::flat(self.tokens, of(depth.saturating_add(1)), Number::I32)),
        ]);
        args
    }

    /// A random tree, deep as often as wide; tokens of which half are those drawn, or likely ones.
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
            ("target", Accept::Typical(Typical { vocab, .. })) => {
                let logits: Vec<f64> = (0..len).map(|_| 3.0 * random.normal()).collect();
                let sums = logits.chunks(vocab).map(|row| row.iter().map(|z| z.exp()).sum::<f64>());
                let sums: Vec<f64> = sums.collect();
                logits.iter().enumerate().map(|(i, z)| z.exp() / sums[i / vocab]).collect()
            }
            ("proposed", Accept::Typical(typical)) => {
                let (parents, target) = (before.get("parents"), before.get("target"));
                let likely = |i: usize| {
                    let (batch, node) = (i / self.len, i % self.len);
                    let parents: Vec<i64> = parents?.iter().map(|&v| v as i64).collect();
                    let row = row(self, &typical, target?, batch, place(self, &parents, batch, node));
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
        let [parents, proposed, drawn, accepted, tokens, path] =
            ["parents", "proposed", "drawn", "accepted", "tokens", "path"].map(|name| bound.get(name));
        let buffers = Buffers::new(parents, proposed, drawn, accepted, tokens, path);
        bound.with(buffers, [("target", Buffers::target), ("scratch", Buffers::scratch)])
    }

    /// The path with what is compared moved by 1e-6; what follows from the path, exactly.
    fn rules(&self, values: &Values, given: &Values) -> Vec<(&'static str, Rule)> {
        let Problem { batch, depth, .. } = *self;
        let inputs = Rc::new(Inputs::of(self, values));
        let right = definition::reference::<f64>(self, &inputs.borrowed());
        let row = move |path: &[f64], b: usize| path[b * depth..][..depth].to_vec();
        let given = given.get("path").filter(|path| path.len() == batch * depth);
        let paths: Option<Vec<Vec<usize>>> =
            given.and_then(|path| (0..batch).map(|b| inputs.named(b, &row(path, b))).collect());
        let out = match paths {
            Some(paths) => definition::output(self, &inputs.borrowed(), &paths),
            None => definition::reference::<f64>(self, &inputs.borrowed()),
        };
        let judge = move |path: &[f64], _: Option<&[f64]>| {
            let mut verdict = Verdict { checked: path.len(), ..Verdict::default() };
            for b in 0..batch {
                let own = row(path, b);
                if inputs.named(b, &own).is_some_and(|path| inputs.fits(b, &path)) {
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
        let numbers = |all: Vec<i64>| Rule::Exact(all.into_iter().map(|v| v as f64).collect());
        vec![("path", Rule::By(Box::new(judge))), ("accepted", numbers(out.accepted)), ("tokens", numbers(out.tokens))]
    }

    fn telling(&self, _: &Self::Config) -> Vec<Telling<Problem>> {
        let small = |batch: usize, len: usize, vocab: usize| {
            let (batch, len) = (self.batch.min(batch), self.len.min(len));
            let accept = match self.accept {
                Accept::Match => Accept::Match,
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
            Accept::Typical(typical) => problem.batch * (problem.len + 1) * typical.vocab,
        };
        small::few(all.map(|problem| (elements(&problem), problem)))
    }
}
