//! The gradient of routing, described.

use tileloom::moe_route_backward::{Config, Problem, Score};
use tileloom::softmax::Reduce;
use tileloom::verify::Describe;
use tileloom::verify::routing::moe_route_backward::hidden;
use tileloom::{Dtype, Layout};

use super::moe_route::SCORE;
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Access, Arg, Cost, Given, List, Listed, Values, affordable};

/// Of f32, contiguous.
pub fn shape(n: usize, experts: usize, top_k: usize) -> Problem {
    Problem { n, experts, top_k, ..Problem::default() }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    fn list(list: &mut List<Problem>) {
        for (_, score) in SCORE {
            for normalize in [true, false] {
                let of = |n, experts, top_k| Problem { score, normalize, scale: 2.5, ..shape(n, experts, top_k) };
                for (n, experts, top_k) in [(1, 1, 1), (5, 8, 2), (37, 60, 4), (9, 256, 8)] {
                    list.narrow("sizes, some experts that do not exist", of(n, experts, top_k)).set(hidden);
                }
                let added = Problem { add: true, ..of(21, 33, 5) };
                list.narrow("added; minus infinity, infinity, NaN", added).seed(2).set(|problem, values| {
                    let logits = values.get_mut("logits").expect("there are logits");
                    logits.iter_mut().step_by(7).for_each(|x| *x = f64::NEG_INFINITY);
                    logits.iter_mut().skip(3).step_by(19).for_each(|x| *x = f64::NAN);
                    logits[problem.experts + 1] = f64::INFINITY;
                    logits[..problem.experts].fill(f64::NEG_INFINITY);
                });
                list.narrow("none of the chosen counts", of(5, 8, 2)).seed(8).set(|problem, values| {
                    let chosen = values.get_mut("chosen").expect("there are choices");
                    chosen[..problem.top_k].fill(f64::from(u32::MAX));
                    chosen[problem.top_k..2 * problem.top_k].fill(3.0);
                    values.get_mut("logits").expect("there are logits")[problem.experts + 3] = f64::NEG_INFINITY;
                    hidden(problem, values);
                });
                list.wide("every candidate", of(70, 96, 6)).seed(3).every_candidate().twice();
                let shared = Config { wg_size: 32, lanes: 8, reduce: Reduce::Tree, native_f16: false };
                list.narrow("several tokens in a workgroup", of(37, 60, 4)).seed(9).config(shared).set(hidden);
            }
        }
        for logits in [Dtype::F16, Dtype::Bf16] {
            let strided = Problem {
                logits,
                logits_layout: Layout::strided(3, [101]),
                chosen: 1,
                dweights: 2,
                dlogits: Layout::strided(5, [99]),
                add: true,
                ..shape(40, 96, 3)
            };
            list.wide("f16 and bf16, strided, offsets", strided).seed(4);
        }
        list.wide("no tokens", shape(0, 8, 2));
        list.wide("sigmoids that vanish", Problem { score: Score::Sigmoid, ..shape(5, 8, 2) }).set(|_, values| {
            values.entry("logits").and_modify(|all| all.iter_mut().for_each(|x| *x -= 200.0));
        });
        list.wide("one buffer for all", Problem { add: true, ..shape(21, 40, 4) }).arena();
        list.wide("checked modules give the same", shape(50, 24, 2)).seed(6).checked();
        list.bench("8192 tokens, 8 of 256 experts", shape(8192, 256, 8)).quick();
        for logits in Dtype::ALL {
            for (n, experts) in [(64, 64), (33, 37)] {
                list.compose(Problem { logits, normalize: experts == 64, ..shape(n, experts, 4) });
            }
        }
    }

    fn cost(&self) -> Cost {
        Cost::of(0.0, &self.args())
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.word("score", &mut self.score, &SCORE)?;
        options.value("normalize", &mut self.normalize)?;
        options.value("scale", &mut self.scale)?;
        options.value("add", &mut self.add)?;
        options.value("logits_layout", &mut self.logits_layout)?;
        options.value("chosen_offset", &mut self.chosen)?;
        options.value("dweights_offset", &mut self.dweights)?;
        options.value("dlogits_layout", &mut self.dlogits)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (logits, dtype) = reader.values("logits", "[n, experts]")?;
        let &[n, experts] = &logits.shape[..] else {
            return Err(case::bad_shape("logits", logits, "[n, experts]"));
        };
        let chosen = reader.tensor("chosen", "[n, top_k]")?;
        let top_k = match chosen.shape[..] {
            [rows, top_k] if rows == n && (1..=experts).contains(&top_k) => top_k,
            _ => return Err(case::bad_shape("chosen", chosen, format!("[{n}, top_k], of at most {experts}"))),
        };
        let mut problem = Problem { logits: dtype, ..shape(n, experts, top_k) };
        problem.options(&mut Options::Read(reader))?;
        affordable(reader, &problem.args())?;
        let word = |v: i64| u32::try_from(v).unwrap_or(u32::MAX).into();
        let numbers = case::integers("chosen", chosen)?.into_iter().map(word).collect();
        let mut values = Values::from([("chosen", numbers)]);
        for arg in problem.args().iter().filter(|arg| arg.access != Access::Write && arg.name != "chosen") {
            let tensor = reader.tensor(arg.name, "")?;
            let want = problem.shape(arg);
            if tensor.shape != want {
                return Err(case::bad_shape(arg.name, tensor, format!("{want:?}")));
            }
            values.insert(arg.name, tensor.numbers().unwrap_or_default());
        }
        Ok(Given { problem, values, outputs: vec![Shown::new("dlogits", [n, experts])], known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "logits" | "dlogits" => vec![self.n, self.experts],
            _ => vec![self.n, self.top_k],
        }
    }
}
