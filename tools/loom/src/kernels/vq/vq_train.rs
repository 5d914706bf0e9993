//! A step of moving averages of a codebook, described.

use tileloom::Dtype;
use tileloom::vq_train::Problem;

use super::vq_lookup::{codebook_shape, read_indices};
use crate::case::{self, Fault, Options, Reader, Shown, Tensor};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
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
    use tileloom::verify::vq::vq_train::after;

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
