//! Routing of tokens to experts, described.

use tileloom::moe_route::{Problem, Score};
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};
use crate::models;

pub const SCORE: [(&str, Score); 2] = [("softmax", Score::Softmax), ("sigmoid", Score::Sigmoid)];

fn shape(n: usize, experts: usize, top_k: usize) -> Problem {
    Problem { n, experts, top_k, counts: Some(0), ..Problem::default() }
}

/// As DeepSeek-V3 routes.
fn deepseek(n: usize) -> Problem {
    let groups = Problem { groups: 8, top_groups: 4, ..shape(n, 256, 8) };
    Problem { score: Score::Sigmoid, bias: Some(0), scale: 2.5, ..groups }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
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
        for (problem, seed) in [(deepseek(19), 4), (Problem { bias: None, ..deepseek(70) }, 5), (shape(9, 33, 32), 6)] {
            list.wide("every candidate", problem).seed(seed).every_candidate().twice();
        }
        for way in ["reduce=tree", "reduce=none"] {
            list.narrow(format!("256 experts, {way}"), deepseek(19)).candidate(way).seed(4);
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
        for (name, tokens) in models::routed() {
            list.model(name, deepseek(tokens));
        }
        for n in [1, 16, 256, 4096, 65_536] {
            list.sweep("n tokens, 256 experts in 8 groups", n, deepseek(n));
        }
        list.large("16384 tokens, 256 experts in 8 groups, biased", deepseek(16_384));
        for logits in Dtype::ALL {
            list.compose(Problem { logits, ..deepseek(9) });
            list.compose(Problem { logits, ..shape(9, 60, 4) });
        }
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
        let bad =
            |name, value: usize, expected: String| Err(Fault::BadOption { name, value: value.to_string(), expected });
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
}
