//! Speculative decoding of a chain, described.

use tileloom::speculative_verify::{Config, Problem};
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use crate::case::{self, Case, Fault, Options, Reader, Shown, Tensor};
use crate::kernel::{Access, Arg, Cost, Given, List, Listed, Values};

fn shape(batch: usize, len: usize, vocab: usize) -> Problem {
    Problem { batch, len, vocab, ..Problem::default() }
}

/// Tokens that do not exist, draws at both ends, draft and target alike, no probability at all, values that are none.
fn hostile(problem: &Problem, values: &mut Values) {
    let Problem { len, vocab, .. } = *problem;
    let draft = values["draft"].clone();
    let first = values["proposed"][len] as usize;
    values.entry("draft").and_modify(|draft| draft[len * vocab + first] = 1e-30);
    values.entry("proposed").and_modify(|proposed| {
        proposed[0] = -1.0;
        proposed[len + 1] = vocab as f64;
        proposed[2 * len] = -5.0;
        proposed[4 * len] = -1.0;
    });
    values.entry("uniform").and_modify(|uniform| {
        uniform[len] = 0.0;
        uniform[len + 1] = 1e-9;
        uniform[2 * len + 1] = 1.0 - 2f64.powi(-24);
        uniform[4 * (len + 1) + len] = f64::NAN;
        // All stand in batch 3.
        uniform[3 * (len + 1)..4 * (len + 1) - 1].fill(0.0);
    });
    values.entry("target").and_modify(|target| {
        // Batch 2: nothing is left at its first place; batch 4: no probability.
        target[2 * (len + 1) * vocab..][..vocab].copy_from_slice(&draft[2 * len * vocab..][..vocab]);
        target[4 * (len + 1) * vocab..][..vocab].fill(0.0);
        // Batch 1: neither has the first token, whose product with uniform is too small for f32.
        target[(len + 1) * vocab..][..vocab].fill(0.0);
        target[5 * (len + 1) * vocab] = f64::NAN;
        target[5 * (len + 1) * vocab + 1] = -1.0;
    });
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    // Params of all pipelines; the step that accepts has invocations of its own.
    const RUNTIME: &'static [&'static str] = &["part"];

    fn list(list: &mut List<Problem>) {
        for (batch, len, vocab) in [(1, 1, 1), (40, 4, 50), (3, 0, 33), (70, 3, 257), (2, 5, 9000)] {
            list.narrow("sizes", shape(batch, len, vocab)).twice();
        }
        list.narrow("tokens that do not exist, ends of uniform, nothing left", shape(6, 3, 120)).seed(2).set(hostile);
        let strided = Problem {
            draft: Layout::strided(3, [311, 103]),
            target: Layout::strided(1, [1000, 110]),
            proposed: 2,
            uniform: 1,
            accepted: 3,
            tokens: 5,
            ..shape(9, 3, 100)
        };
        list.narrow("strided", strided).seed(3);
        list.narrow("many small parts", shape(5, 2, 1000)).seed(4).config(Config { wg_size: 16, part: 64 });
        list.wide("checked modules give the same", shape(4, 3, 600)).seed(5).checked();
        list.bench("1x4x152064", shape(1, 4, 152_064));
        list.bench("16x4x32000", shape(16, 4, 32_000)).quick();
        list.large("64x4x152064", shape(64, 4, 152_064));
        for vocab in [64, 7] {
            list.compose(shape(2, 3, vocab));
        }
    }

    /// Of draft and target one place of each batch is read.
    fn cost(&self) -> Cost {
        let Problem { batch, len, vocab, .. } = *self;
        let rows = batch * vocab * (1 + usize::from(len > 0));
        Cost { flops: 0.0, bytes: (4 * (rows + batch * (4 * len + 3))) as f64 }
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("draft_layout", &mut self.draft)?;
        options.value("target_layout", &mut self.target)?;
        options.value("proposed_offset", &mut self.proposed)?;
        options.value("uniform_offset", &mut self.uniform)?;
        options.value("accepted_offset", &mut self.accepted)?;
        options.value("tokens_offset", &mut self.tokens)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let draft = probabilities(reader, "draft", "[b, g, vocab]")?;
        let &[batch, len, vocab] = &draft.shape[..] else {
            return Err(case::bad_shape("draft", draft, "[b, g, vocab]"));
        };
        let target = probabilities(reader, "target", "[b, g + 1, vocab]")?;
        let uniform = probabilities(reader, "uniform", "[b, g + 1]")?;
        let tokens = reader.tensor("tokens", "[b, g]")?;
        for (name, tensor, shape) in [
            ("target", target, vec![batch, len + 1, vocab]),
            ("uniform", uniform, vec![batch, len + 1]),
            ("tokens", tokens, vec![batch, len]),
        ] {
            if tensor.shape != shape {
                return Err(case::bad_shape(name, tensor, format!("{shape:?}")));
            }
        }
        if vocab == 0 {
            return Err(case::bad_shape("draft", draft, "[b, g, vocab] with a token at least"));
        }
        let mut problem = shape(batch, len, vocab);
        problem.options(&mut Options::Read(reader))?;
        // What does not fit in 32 bits does not exist either.
        let token = |t: i64| if i32::try_from(t).is_ok() { t as f64 } else { -1.0 };
        let proposed = case::integers("tokens", tokens)?.into_iter().map(token).collect();
        let values = [("draft", draft), ("target", target), ("uniform", uniform)];
        let mut values: Values = values.map(|(name, t)| (name, t.numbers().unwrap_or_default())).into();
        values.insert("proposed", proposed);
        let outputs = vec![Shown::new("accepted", [batch]), Shown::new("tokens", [batch, len + 1])];
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
        let Problem { batch, len, vocab, .. } = *self;
        match arg.name {
            "draft" => vec![batch, len, vocab],
            "target" => vec![batch, len + 1, vocab],
            "proposed" => vec![batch, len],
            "accepted" => vec![batch],
            _ => vec![batch, len + 1],
        }
    }
}

/// A tensor of F32.
fn probabilities<'a>(reader: &mut Reader<'a>, name: &'static str, shape: &'static str) -> Result<&'a Tensor, Fault> {
    match reader.values(name, shape)? {
        (tensor, Dtype::F32) => Ok(tensor),
        (_, have) => Err(Fault::BadDtype { name: name.into(), have: have.to_string(), expected: "F32" }),
    }
}
