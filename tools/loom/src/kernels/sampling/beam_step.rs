//! A step of beam search, described.

use tileloom::beam_step::{Config, Problem};
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};

fn shape(batch: usize, beams: usize, vocab: usize) -> Problem {
    Problem { batch, beams, vocab, top: 2 * beams, ..Problem::default() }
}

/// A beam with nothing to see, one that is hidden, equal logits, infinities, NaN.
fn hostile(problem: &Problem, values: &mut Values) {
    let vocab = problem.vocab;
    values.entry("logits").and_modify(|logits| {
        for (row, logits) in logits.chunks_mut(vocab).enumerate() {
            match row {
                0 => logits.fill(f64::NEG_INFINITY),
                2 => logits.fill(1.0),
                3 => logits.iter_mut().step_by(2).for_each(|z| *z = f64::NAN),
                4 => logits[vocab / 2] = f64::INFINITY,
                5 => logits.iter_mut().for_each(|z| *z *= 1e30),
                // No continuation of the last batch but one.
                _ if row >= 8 => logits.fill(f64::NEG_INFINITY),
                _ => {}
            }
        }
        *logits.last_mut().expect("there are some") = 2.0;
    });
    values.entry("scores").and_modify(|scores| {
        scores[1] = f64::NEG_INFINITY;
        scores[6] = f64::NAN;
    });
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    // Params of all pipelines.
    const RUNTIME: &'static [&'static str] = &["part"];

    fn list(list: &mut List<Problem>) {
        for log_softmax in [true, false] {
            for (batch, beams, vocab) in [(1, 1, 1), (2, 3, 5), (3, 4, 257), (1, 5, 9001)] {
                list.narrow("sizes", Problem { log_softmax, ..shape(batch, beams, vocab) }).twice();
            }
            list.narrow("hidden, infinite and equal ones", Problem { log_softmax, ..shape(3, 4, 70) })
                .seed(2)
                .set(hostile);
            // Scores of two beams tell, though logits are far from 0.
            list.narrow("logits of a million", Problem { log_softmax, ..shape(2, 3, 40) }).seed(4).set(|_, values| {
                values.entry("logits").and_modify(|logits| logits.iter_mut().for_each(|z| *z += 1e6));
            });
            let few = Config { wg_size: 16, part: 64 };
            list.narrow("many small parts", Problem { log_softmax, ..shape(2, 3, 1000) }).seed(3).config(few);
        }
        for (logits, strides) in [(Dtype::F16, [912, 304]), (Dtype::Bf16, [1001, 301])] {
            let problem = Problem {
                logits,
                logits_layout: Layout::strided(4, strides),
                top: 17,
                scores: 1,
                out_scores: 2,
                out_beams: 3,
                out_tokens: 4,
                ..shape(2, 3, 300)
            };
            list.narrow("f16 and bf16, strided", problem).seed(4);
        }
        // Ties of 16-bit logits.
        list.wide("ties", Problem { logits: Dtype::Bf16, top: 100, ..shape(1, 2, 8000) }).seed(5);
        list.wide("checked modules give the same", shape(2, 3, 500)).seed(6).checked();
        list.bench("4 beams of 152064", shape(1, 4, 152_064)).quick();
        list.bench("8 x 4 beams of 32000", shape(8, 4, 32_000));
        list.large("64 x 4 beams of 152064", shape(64, 4, 152_064));
        for logits in Dtype::ALL {
            for vocab in [64, 7] {
                list.compose(Problem { logits, ..shape(1, 2, vocab) });
            }
        }
    }

    /// Logits are counted once.
    fn cost(&self) -> Cost {
        Cost::of(0.0, &self.args())
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("top", &mut self.top)?;
        options.value("log_softmax", &mut self.log_softmax)?;
        options.value("logits_layout", &mut self.logits_layout)?;
        options.value("scores_offset", &mut self.scores)?;
        options.value("out_scores_offset", &mut self.out_scores)?;
        options.value("out_beams_offset", &mut self.out_beams)?;
        options.value("out_tokens_offset", &mut self.out_tokens)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (logits, dtype) = reader.values("logits", "[batch, beams, vocab]")?;
        let &[batch, beams, vocab] = &logits.shape[..] else {
            return Err(case::bad_shape("logits", logits, "[batch, beams, vocab]"));
        };
        let (scores, _) = reader.values("scores", "[batch, beams]")?;
        if scores.shape != [batch, beams] {
            return Err(case::bad_shape("scores", scores, format!("[{batch}, {beams}]")));
        }
        let mut problem = Problem { logits: dtype, ..shape(batch, beams, vocab) };
        problem.options(&mut Options::Read(reader))?;
        if beams == 0 || vocab == 0 {
            return Err(case::bad_shape("logits", logits, "[batch, beams, vocab] with a beam and a token at least"));
        }
        let top = problem.top;
        if top == 0 {
            let expected = "a number of at least 1".into();
            return Err(Fault::BadOption { name: "top", value: "0".into(), expected });
        }
        let out = |name| Shown::new(name, [batch, top]);
        let outputs = vec![out("out_scores"), out("out_beams"), out("out_tokens")];
        let values = [("logits", logits), ("scores", scores)].map(|(name, t)| (name, t.numbers().unwrap_or_default()));
        Ok(Given { problem, values: values.into(), outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "logits" => vec![self.batch, self.beams, self.vocab],
            "scores" => vec![self.batch, self.beams],
            _ => vec![self.batch, self.top],
        }
    }
}
