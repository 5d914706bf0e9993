//! Speculative decoding by a tree, described.

use tileloom::attention::Tree;
use tileloom::speculative_tree::{Accept, Config, Problem, Sampled, Typical};
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use crate::case::{self, Case, Fault, Options, Reader, Shown};
use crate::kernel::{Access, Arg, Cost, Given, List, Listed, Values};

fn shape(batch: usize, len: usize, depth: usize) -> Problem {
    Problem { batch, len, depth, ..Problem::default() }
}

fn typical(vocab: usize, problem: Problem) -> Problem {
    Problem { accept: Accept::Typical(Typical { vocab, ..Typical::default() }), ..problem }
}

fn sampled(vocab: usize, problem: Problem) -> Problem {
    Problem { accept: Accept::Sampled(Sampled { vocab, ..Sampled::default() }), ..problem }
}

fn per_batch(problem: Problem) -> Problem {
    Problem { tree: Tree { per_batch: true, ..problem.tree }, ..problem }
}

/// Parents that are not before their children, tokens that do not exist; trees that are a chain, and a star.
fn hostile(problem: &Problem, values: &mut Values) {
    let len = problem.len;
    values.entry("parents").and_modify(|parents| {
        for (i, parent) in parents[..len].iter_mut().enumerate() {
            *parent = [i as f64, 1e6, -7.0, f64::from(i32::MIN), (i + 1) as f64][i % 5];
        }
        parents[len..2 * len].iter_mut().enumerate().for_each(|(i, parent)| *parent = i as f64 - 1.0);
        parents[2 * len..3 * len].fill(-1.0);
    });
    values.entry("proposed").and_modify(|proposed| {
        (proposed[0], proposed[3 * len], proposed[3 * len + 2]) = (-1.0, f64::from(i32::MAX), f64::from(i32::MIN));
        // A chain of which all may stand.
        proposed[len..2 * len].fill(1.0);
    });
    values.entry("uniform").and_modify(|uniform| {
        (uniform[len], uniform[len + 1], uniform[2 * len + 1]) = (0.0, 0.0, 1.0 - 2f64.powi(-24));
        (uniform[3 * (len + 1)], uniform[4 * (len + 1) + len]) = (-1.0, f64::NAN);
    });
    values.entry("drawn").and_modify(|drawn| {
        (drawn[0], drawn[3 * (len + 1)]) = (f64::from(u32::MAX), f64::from(i32::MAX));
        drawn[len + 1..2 * (len + 1)].fill(1.0);
    });
    if let Accept::Typical(Typical { vocab, .. }) | Accept::Sampled(Sampled { vocab, .. }) = problem.accept {
        // Batch 2: draft and target alike, a child of whose root leaves nothing.
        let row = (len + 1) * vocab;
        values.entry("draft").and_modify(|draft| draft[2 * row..3 * row].fill(1.0 / vocab as f64));
        values.entry("target").and_modify(|target| {
            // Batch 1: all of it is token 1. Batch 2: alike throughout, so that paths tie. Batch 4: none, and values that are none.
            target[row..2 * row].iter_mut().enumerate().for_each(|(i, p)| *p = f64::from(u8::from(i % vocab == 1)));
            target[2 * row..3 * row].fill(1.0 / vocab as f64);
            let odd = [f64::NAN, -1.0, f64::INFINITY, 0.0, 1e-41];
            target[4 * row..5 * row].iter_mut().enumerate().for_each(|(i, p)| *p = odd[i % 5]);
        });
    }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    // Params of all pipelines.
    const RUNTIME: &'static [&'static str] = &["part"];

    fn list(list: &mut List<Problem>) {
        for (batch, len, depth) in [(1, 1, 1), (1, 0, 3), (3, 5, 0), (40, 26, 4), (70, 7, 7), (2, 300, 40)] {
            list.narrow("sizes", shape(batch, len, depth)).twice();
            list.narrow("sizes", per_batch(shape(batch, len, depth)));
        }
        for (batch, len, depth, vocab) in [(1, 1, 1, 1), (1, 0, 2, 5), (9, 26, 4, 50), (70, 7, 7, 33), (1, 5, 3, 9000)]
        {
            list.narrow("typical, sizes", typical(vocab, shape(batch, len, depth))).twice();
        }
        for (batch, len, depth, vocab) in
            [(1, 1, 1, 1), (3, 0, 2, 33), (40, 26, 4, 50), (9, 7, 7, 257), (1, 5, 3, 9000)]
        {
            list.narrow("sampled, sizes", sampled(vocab, shape(batch, len, depth))).twice();
            list.narrow("sampled, sizes", per_batch(sampled(vocab, shape(batch, len, depth)))).seed(7);
        }
        list.narrow("typical, sizes", per_batch(typical(257, shape(5, 40, 9))));
        for seed in 2..5 {
            list.narrow("hostile", per_batch(shape(5, 9, 9))).seed(seed).set(hostile);
            list.narrow("sampled, hostile", sampled(20, per_batch(shape(5, 9, 9)))).seed(seed).set(hostile);
            list.narrow("typical, hostile", typical(20, per_batch(shape(5, 9, 9)))).seed(seed).set(hostile);
        }
        let strided = Problem {
            tree: Tree { parents: 3, per_batch: true },
            proposed: 2,
            drawn: 1,
            accepted: 3,
            tokens: 5,
            path: 7,
            ..shape(9, 12, 5)
        };
        list.narrow("offsets", strided).seed(3);
        let target = Layout::strided(1, [2000, 110]);
        let options = Typical { vocab: 100, epsilon: 0.2, delta: 0.5, target };
        list.narrow("typical, strided", Problem { accept: Accept::Typical(options), ..strided }).seed(3);
        let draft = Layout::strided(5, [1500, 103]);
        let options = Sampled { vocab: 100, target, draft, uniform: 2 };
        list.narrow("sampled, strided", Problem { accept: Accept::Sampled(options), ..strided }).seed(3);
        for (epsilon, delta) in [(0.0, 0.3), (0.09, 0.0), (5.0, 1.0), (1e-6, 1e-4)] {
            let options = Typical { vocab: 60, epsilon, delta, ..Typical::default() };
            list.narrow("thresholds", Problem { accept: Accept::Typical(options), ..shape(9, 20, 6) }).seed(6);
        }
        let parts = Config { wg_size: 16, part: 64 };
        list.narrow("typical, many small parts", typical(1000, shape(3, 6, 3))).seed(4).config(parts);
        list.wide("checked modules give the same", shape(4, 9, 3)).seed(5).checked();
        list.wide("checked modules give the same", sampled(600, shape(4, 9, 3))).seed(5).checked();
        list.wide("checked modules give the same", typical(600, shape(4, 9, 3))).seed(5).checked();
        list.bench("1x64x5 match", shape(1, 64, 5)).quick();
        list.bench("1x64x5x32000 typical", typical(32_000, shape(1, 64, 5))).quick();
        list.bench("4x16x5x32000 sampled", sampled(32_000, shape(4, 16, 5)));
        list.large("16x64x5x152064 sampled", sampled(152_064, shape(16, 64, 5)));
        list.large("16x64x5x152064 typical", typical(152_064, shape(16, 64, 5)));
        for vocab in [64, 7] {
            list.compose(typical(vocab, shape(2, 3, 2)));
            list.compose(sampled(vocab, shape(2, 3, 2)));
        }
    }

    /// The target is read once.
    fn cost(&self) -> Cost {
        Cost::of(0.0, &self.args())
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("depth", &mut self.depth)?;
        match &mut self.accept {
            Accept::Match => {}
            Accept::Sampled(sampled) => {
                options.value("target_layout", &mut sampled.target)?;
                options.value("draft_layout", &mut sampled.draft)?;
                options.value("uniform_offset", &mut sampled.uniform)?;
            }
            Accept::Typical(typical) => {
                options.value("epsilon", &mut typical.epsilon)?;
                options.value("delta", &mut typical.delta)?;
                options.value("target_layout", &mut typical.target)?;
            }
        }
        options.value("parents_offset", &mut self.tree.parents)?;
        options.value("proposed_offset", &mut self.proposed)?;
        options.value("drawn_offset", &mut self.drawn)?;
        options.value("accepted_offset", &mut self.accepted)?;
        options.value("tokens_offset", &mut self.tokens)?;
        options.value("path_offset", &mut self.path)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let tokens = reader.tensor("tokens", "[b, n]")?;
        let &[batch, len] = &tokens.shape[..] else {
            return Err(case::bad_shape("tokens", tokens, "[b, n]"));
        };
        let parents = reader.tensor("parents", "[n] or [b, n]")?;
        let each = parents.shape == [batch, len];
        if !each && parents.shape != [len] {
            return Err(case::bad_shape("parents", parents, format!("[{len}] or [{batch}, {len}]")));
        }
        let mut problem = Problem { tree: Tree { parents: 0, per_batch: each }, ..shape(batch, len, len) };
        // What does not fit in 32 bits does not exist either.
        let number = |t: i64| if i32::try_from(t).is_ok() { t as f64 } else { -1.0 };
        let token = |t: i64| u32::try_from(t).unwrap_or(u32::MAX).into();
        let mut values = Values::new();
        values.insert("parents", case::integers("parents", parents)?.into_iter().map(number).collect());
        values.insert("proposed", case::integers("tokens", tokens)?.into_iter().map(number).collect());
        if let Some((vocab, target)) = probabilities(reader, "target", [batch, len + 1])? {
            values.insert("target", target);
            problem = typical(vocab, problem);
            if let Some((have, draft)) = probabilities(reader, "draft", [batch, len + 1])? {
                let uniform = reader.tensor("uniform", "[b, n + 1]")?;
                if uniform.shape != [batch, len + 1] || case::float("uniform", uniform)? != Dtype::F32 || have != vocab
                {
                    return Err(case::bad_shape("uniform", uniform, format!("[{batch}, {}], F32", len + 1)));
                }
                values.insert("uniform", uniform.numbers().unwrap_or_default());
                values.insert("draft", draft);
                problem = sampled(vocab, problem);
            }
        }
        if !matches!(problem.accept, Accept::Sampled(_)) {
            let drawn = reader.tensor("drawn", "[b, n + 1]")?;
            if drawn.shape != [batch, len + 1] {
                return Err(case::bad_shape("drawn", drawn, format!("[{batch}, {}]", len + 1)));
            }
            values.insert("drawn", case::integers("drawn", drawn)?.into_iter().map(token).collect());
        }
        problem.options(&mut Options::Read(reader))?;
        let depth = problem.depth;
        let outputs = [("path", vec![batch, depth]), ("accepted", vec![batch]), ("tokens", vec![batch, depth + 1])];
        let outputs = outputs.into_iter().map(|(name, shape)| Shown::new(name, shape)).collect();
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    /// What is proposed is `tokens` in a case, as the result is.
    fn write(&self, values: &Values) -> Case {
        let args = self.args();
        let inputs = args.iter().filter(|arg| arg.access != Access::Write);
        inputs.fold(self.header(), |case, arg| {
            let name = if arg.name == "proposed" { "tokens" } else { arg.name };
            case.tensor(name, self.tensor(arg, &values[arg.name]))
        })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        let Problem { batch, len, depth, tree, .. } = *self;
        match (arg.name, self.accept) {
            ("parents", _) if !tree.per_batch => vec![len],
            ("parents" | "proposed", _) => vec![batch, len],
            ("target" | "draft", Accept::Typical(Typical { vocab, .. }) | Accept::Sampled(Sampled { vocab, .. })) => {
                vec![batch, len + 1, vocab]
            }
            ("drawn" | "uniform", _) => vec![batch, len + 1],
            ("path", _) => vec![batch, depth],
            ("accepted", _) => vec![batch],
            _ => vec![batch, depth + 1],
        }
    }
}

/// Tokens there are, and their probabilities at places of these sizes, where the case has them.
fn probabilities(
    reader: &mut Reader,
    name: &'static str,
    [batch, places]: [usize; 2],
) -> Result<Option<(usize, Vec<f64>)>, Fault> {
    let Some(tensor) = reader.optional(name) else { return Ok(None) };
    match case::float(name, tensor)? {
        Dtype::F32 => {}
        have => return Err(Fault::BadDtype { name: name.into(), have: have.to_string(), expected: "F32" }),
    }
    match tensor.shape[..] {
        [b, n, vocab] if [b, n] == [batch, places] && vocab > 0 => {
            Ok(Some((vocab, tensor.numbers().unwrap_or_default())))
        }
        _ => Err(case::bad_shape(name, tensor, format!("[{batch}, {places}, vocab]"))),
    }
}
