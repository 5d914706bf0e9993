//! A step of moving averages of a codebook, described.

use tileloom::Dtype;
use tileloom::reference::Real;
use tileloom::reference::vq_train::{State, update};
use tileloom::vq_train::{Buffers, Problem};

use super::vq_lookup::{codebook_shape, read_indices};
use crate::case::{self, Fault, Options, Reader, Shown, Tensor};
use crate::image::{Number, Rows};
use crate::kernel::{Arg, Bound, Cost, Describe, Given, List, Rule, Values};
use crate::random::Random;

/// The state after the step, in `R`.
fn after<R: Real>(problem: &Problem, values: &Values) -> State {
    let counts: Vec<u32> = values["counts"].iter().map(|&v| v as u32).collect();
    let [ema_counts, ema_sums, codebook] = ["ema_counts", "ema_sums", "codebook"].map(|name| values[name].clone());
    let mut state = State { ema_counts, ema_sums, codebook, stats: vec![0.0; 2 * problem.books] };
    update::<R>(problem, &counts, &values["sums"], &values["x"], &mut state);
    state
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Describe for Problem {
    fn list(list: &mut List<Problem>) {
        let base = Problem { decay: 0.75, seed: 9, ..Problem::default() };
        for (n, books, num_codes, code_dim, least) in [(50, 1, 40, 8, 0.5), (7, 2, 9, 5, 0.3), (1, 1, 1, 1, 0.0)] {
            let problem = Problem { n, books, num_codes, code_dim, least, x: Dtype::F16, ..base };
            list.narrow("moving averages, dead codes, perplexity", problem).seed(4);
        }
        let base = Problem { n: 50, num_codes: 40, code_dim: 8, least: 0.5, ..base };
        list.narrow("moving averages", base).seed(4);
        list.narrow("two books, f16", Problem { books: 2, x: Dtype::F16, ..base }).seed(4);
        let large = Problem { n: 4096, num_codes: 8192, code_dim: 64, ..Problem::default() };
        list.bench("moving averages 4096 to 8192x64", large).quick();
        for x in Dtype::ALL {
            list.compose(Problem { n: 9, num_codes: 5, code_dim: 7, x, ..Problem::default() });
        }
    }

    fn args(&self) -> Vec<Arg> {
        let Problem { n, books, num_codes, code_dim, .. } = *self;
        let codes = books * num_codes;
        let all = Rows::flat(0, codes * code_dim, Dtype::F32);
        vec![
            Arg::read("x", Rows::new(self.x_layout, [n, books], code_dim, self.x)),
            Arg::read("counts", Rows::flat(0, codes, Number::U32)),
            Arg::read("sums", all),
            Arg::update("ema_counts", Rows::flat(0, codes, Dtype::F32)),
            Arg::update("ema_sums", all),
            Arg::update("codebook", all),
            Arg::write("stats", Rows::flat(0, 2 * books, Dtype::F32)),
        ]
    }

    /// Running counts of 0, 0.5 and 1, the counts of the batch from 0 to 3.
    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        let value = |i: usize| match name {
            "counts" => ((i * 7 + 1) % 4) as f64,
            "ema_counts" => (i % 3) as f64 * 0.5,
            _ => 2.0 + random.normal(),
        };
        (0..len).map(value).collect()
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        Buffers {
            counts: bound.get("counts"),
            sums: bound.get("sums"),
            x: bound.get("x"),
            ema_counts: bound.get("ema_counts"),
            ema_sums: bound.get("ema_sums"),
            codebook: bound.get("codebook"),
            stats: bound.get("stats"),
        }
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let (oracle, low) = (after::<f64>(self, values), after::<f32>(self, values));
        let rows = |cols: usize, oracle: Vec<f64>, low| {
            let mag = oracle.chunks(cols).map(|row| row.iter().fold(0f64, |m, v| m.max(v.abs()))).collect();
            Rule::Rows { cols, dtype: Dtype::F32, oracle, low, mag }
        };
        vec![
            ("ema_counts", rows(1, oracle.ema_counts, low.ema_counts)),
            ("ema_sums", rows(self.code_dim, oracle.ema_sums, low.ema_sums)),
            ("codebook", rows(self.code_dim, oracle.codebook, low.codebook)),
            ("stats", rows(2, oracle.stats, low.stats)),
        ]
    }

    /// Counts, and running ones in and out; sums, running ones in and out, the codebook.
    fn cost(&self) -> Cost {
        let codes = self.books * self.num_codes;
        let elements = codes * self.code_dim;
        Cost { flops: 4.0 * elements as f64, bytes: 4.0 * (3 * codes + 4 * elements) as f64 }
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("decay", &mut self.decay)?;
        options.value("epsilon", &mut self.epsilon)?;
        options.value("least", &mut self.least)?;
        options.value("seed", &mut self.seed)?;
        options.value("x_layout", &mut self.x_layout)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let codebook = reader.tensor("codebook", "[num_codes, dim] or [books, num_codes, dim]")?;
        let [books, num_codes, code_dim] = codebook_shape(codebook)?;
        let (x, dtype) = reader.values("x", "[n, dim] or [n, books, dim]")?;
        let each = &codebook.shape[..codebook.shape.len() - 1];
        let vector = [&each[..each.len() - 1], &[code_dim]].concat();
        let n = match x.shape.split_first() {
            Some((&n, rest)) if rest == vector => n,
            _ => return Err(case::bad_shape("x", x, format!("n and {vector:?}"))),
        };
        let mut problem = Problem { n, books, num_codes, code_dim, x: dtype, ..Problem::default() };
        problem.options(&mut Options::Read(reader))?;
        let (counts, _, numbers) = read_indices(reader, "counts", "the codebook's shape without dim")?;
        check_shape("counts", counts, each)?;
        let mut values: Values = [("x", x.numbers().unwrap_or_default()), ("counts", numbers)].into();
        for (name, shape) in [
            ("codebook", &codebook.shape[..]),
            ("sums", &codebook.shape),
            ("ema_sums", &codebook.shape),
            ("ema_counts", each),
        ] {
            let (tensor, dtype) = reader.values(name, "as the codebook")?;
            check_shape(name, tensor, shape)?;
            if dtype != Dtype::F32 {
                return Err(Fault::BadDtype { name: name.into(), have: tensor.dtype.to_string(), expected: "F32" });
            }
            values.insert(name, tensor.numbers().unwrap_or_default());
        }
        let outputs = vec![
            Shown::new("ema_counts", each),
            Shown::new("ema_sums", &codebook.shape[..]),
            Shown::new("codebook", &codebook.shape[..]),
            Shown::new("stats", [books, 2]),
        ];
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        let Problem { n, books, num_codes, code_dim, .. } = *self;
        match arg.name {
            "x" => vec![n, books, code_dim],
            "counts" | "ema_counts" => vec![books, num_codes],
            "stats" => vec![books, 2],
            _ => vec![books, num_codes, code_dim],
        }
    }
}

fn check_shape(name: &str, tensor: &Tensor, shape: &[usize]) -> Result<(), Fault> {
    match tensor.shape == shape {
        true => Ok(()),
        false => Err(case::bad_shape(name, tensor, format!("{shape:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Use, entries};

    #[test]
    fn some_codes_are_dead_where_codes_may_die() {
        let tested = entries::<Problem>().into_iter().filter(|entry| matches!(entry.what, Use::Test(_)));
        for entry in tested.filter(|entry| entry.problem.least > 0.0) {
            let least = f64::from(entry.problem.least);
            let counts = after::<f64>(&entry.problem, &entry.call().values).ema_counts;
            let dead = counts.iter().filter(|&&count| count == least).count();
            assert!((1..counts.len()).contains(&dead), "{:?}: {dead} are dead", entry.problem);
        }
    }
}
