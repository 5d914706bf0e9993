//! The loss that balances experts within sequences, described.

use tileloom::moe_balance::{Problem, Score};
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use super::moe_route::SCORE;
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};

fn shape(sequences: usize, n: usize, experts: usize, top_k: usize) -> Problem {
    Problem { sequences, n, experts, top_k, dlogits: Some(Layout::default()), ..Problem::default() }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    const RUNTIME: &'static [&'static str] = &["parts"];

    fn list(list: &mut List<Problem>) {
        for (_, score) in SCORE {
            for (sequences, n, experts, top_k) in [(1, 1, 1, 1), (2, 34, 60, 4), (1, 65, 256, 8)] {
                list.narrow("sizes", Problem { score, ..shape(sequences, n, experts, top_k) });
            }
            let packed = Problem { score, starts: Some(2), alpha: 0.5, ..shape(6, 90, 33, 3) };
            list.narrow("packed, one sequence without tokens", packed).seed(2);
        }
        let beyond = Problem { starts: Some(0), ..shape(3, 40, 8, 2) };
        list.narrow("starts beyond the tokens", beyond).set(|_, values| {
            values.insert("starts", vec![0.0, 7.0, 1e9, u32::MAX.into()]);
        });
        for (_, score) in SCORE {
            let masked = Problem { score, ..shape(2, 34, 60, 4) };
            list.narrow("experts that are masked, of one token all", masked).seed(7).set(|problem, values| {
                let logits = values.get_mut("logits").expect("there are logits");
                logits.iter_mut().step_by(7).for_each(|x| *x = f64::NEG_INFINITY);
                logits[..problem.experts].fill(f64::NEG_INFINITY);
            });
        }
        list.wide("every candidate", shape(2, 3000, 64, 6)).seed(3).every_candidate().twice();
        for logits in [Dtype::F16, Dtype::Bf16] {
            let strided = Problem {
                logits,
                logits_layout: Layout::strided(3, [101]),
                chosen: 1,
                loss: 2,
                dlogits: Some(Layout::strided(5, [99])),
                ..shape(4, 40, 96, 3)
            };
            list.wide("f16 and bf16, strided, offsets", strided).seed(4);
        }
        list.wide("without a gradient", Problem { dlogits: None, ..shape(3, 30, 16, 2) }).seed(5);
        list.wide("checked modules give the same", Problem { starts: Some(0), ..shape(3, 50, 24, 2) })
            .seed(6)
            .checked();
        list.bench("4 x 2048 tokens, 256 experts", shape(4, 8192, 256, 8));
        for logits in Dtype::ALL {
            list.compose(Problem { logits, starts: Some(0), ..shape(2, 30, 64, 2) });
        }
    }

    fn cost(&self) -> Cost {
        Cost::of(0.0, &self.args())
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.word("score", &mut self.score, &SCORE)?;
        options.value("alpha", &mut self.alpha)?;
        options.value("sequences", &mut self.sequences)?;
        options.value("logits_layout", &mut self.logits_layout)?;
        options.value("chosen_offset", &mut self.chosen)?;
        if let Some(starts) = &mut self.starts {
            options.value("starts_offset", starts)?;
        }
        options.value("loss_offset", &mut self.loss)?;
        options.value("dlogits_layout", &mut self.dlogits)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (logits, dtype) = reader.values("logits", "[n, experts]")?;
        let &[n, experts] = &logits.shape[..] else {
            return Err(case::bad_shape("logits", logits, "[n, experts]"));
        };
        let words = |name, tensor: &case::Tensor| -> Result<Vec<f64>, Fault> {
            let word = |v: i64| u32::try_from(v).unwrap_or(u32::MAX).into();
            Ok(case::integers(name, tensor)?.into_iter().map(word).collect())
        };
        let chosen = reader.tensor("chosen", "[n, top_k]")?;
        let top_k = match chosen.shape[..] {
            [rows, top_k] if rows == n && (1..=experts).contains(&top_k) => top_k,
            _ => return Err(case::bad_shape("chosen", chosen, format!("[{n}, top_k], of at most {experts}"))),
        };
        let mut problem = Problem { logits: dtype, score: Score::Sigmoid, ..shape(1, n, experts, top_k) };
        let mut values = Values::from([("logits", logits.numbers().unwrap_or_default())]);
        values.insert("chosen", words("chosen", chosen)?);
        if let Some(starts) = reader.optional("starts") {
            let Some(&len) = starts.shape.first().filter(|&&len| len > 0 && starts.shape.len() == 1) else {
                return Err(case::bad_shape("starts", starts, "[sequences + 1]"));
            };
            (problem.starts, problem.sequences) = (Some(0), len - 1);
            values.insert("starts", words("starts", starts)?);
        }
        problem.options(&mut Options::Read(reader))?;
        let sequences = problem.sequences;
        let fits = match values.get("starts") {
            Some(starts) => starts.len() == sequences + 1,
            None => n.is_multiple_of(sequences.max(1)),
        };
        if !fits || (sequences == 0 && n > 0) {
            let (value, expected) = (sequences.to_string(), "a divisor of the tokens, or by `starts`".into());
            return Err(Fault::BadOption { name: "sequences", value, expected });
        }
        let mut outputs = vec![Shown::new("loss", [sequences])];
        outputs.extend(problem.dlogits.map(|_| Shown::new("dlogits", [n, experts])));
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "logits" | "dlogits" => vec![self.n, self.experts],
            "chosen" => vec![self.n, self.top_k],
            _ => vec![arg.view.len()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Case, Tensor};

    #[test]
    fn faults_name_what_is_wrong() {
        let fault = crate::kernel::fault::<Problem>;
        let logits = Tensor::values(Dtype::F32, &[4, 3], &[0.0; 12]);
        let case = |shape: &[usize]| {
            let chosen = Tensor::indices(shape, &vec![0; shape.iter().product()]);
            Case::new("moe_balance").tensor("logits", logits.clone()).tensor("chosen", chosen)
        };
        assert_eq!(fault(&case(&[4, 2])), "understood");
        assert!(fault(&case(&[4, 4])).contains("of at most 3"));
        assert!(fault(&case(&[3, 2])).contains("expected [4, top_k]"));
        assert!(fault(&case(&[4, 2]).option("sequences", 3)).contains("a divisor of the tokens"));
        let packed = |len: usize| case(&[4, 2]).tensor("starts", Tensor::indices(&[len], &vec![0; len]));
        assert_eq!(fault(&packed(3)), "understood");
        assert!(fault(&packed(0)).contains("expected [sequences + 1]"));
    }
}
