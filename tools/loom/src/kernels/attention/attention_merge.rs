//! The merge of attention's partial results, described.

use tileloom::attention_merge::Problem;
use tileloom::reference::attention_merge::reference;
use tileloom::{Dtype, Layout};

use super::after;
use crate::case::{self, Case, Fault, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};

pub fn shape(splits: usize, rows: usize, dim: usize) -> Problem {
    Problem { splits, rows, dim, lse_out: Some(1), ..Problem::default() }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    fn list(list: &mut List<Problem>) {
        let f16 = |problem| Problem { x: Dtype::F16, y: Dtype::F16, ..problem };
        let name = "sizes, and parts that saw nothing";
        for (splits, rows, dim) in [(1, 1, 4), (2, 7, 64), (5, 33, 128), (3, 1, 12)] {
            list.narrow(name, shape(splits, rows, dim)).seed(3);
        }
        list.narrow("f16, odd rows", Problem { out_layout: Layout::at(3), ..f16(shape(3, 7, 5)) }).seed(2);
        // [2, 3, 5] rows, tokens first.
        let out_layout = Layout::strided(4, [5 * 3 * 8, 8, 3 * 8]);
        let tokens_first = Problem { dims: [3, 5], out_layout, y: Dtype::Bf16, lse_out: None, ..shape(4, 30, 8) };
        list.narrow("a result of another layout", tokens_first).seed(2);
        for (sum, sum_out) in [(Some(3), None), (Some(0), Some(34)), (None, Some(40))] {
            list.narrow("maxima and sums", Problem { sum, sum_out, lse_out: Some(0), ..shape(4, 33, 64) }).seed(4);
        }
        list.narrow("5 parts", Problem { lse_out: Some(0), ..shape(5, 37, 128) });
        list.narrow("f16, odd dim", Problem { lse_out: Some(0), ..f16(shape(3, 37, 59)) });
        list.bench("8x4096x128 f32", Problem { lse_out: None, ..shape(8, 4096, 128) }).quick();
        for (x, y) in [(Dtype::F32, Dtype::F16), (Dtype::F16, Dtype::F16), (Dtype::Bf16, Dtype::F32)] {
            for (dim, lse_out) in [(64, None), (59, Some(0))] {
                list.compose(Problem { x, y, lse_out, ..shape(4, 33, dim) });
            }
        }
    }

    fn cost(&self) -> Cost {
        let (n, out) = (self.splits * self.rows, self.rows * self.dim);
        Cost {
            // A weight per part and row, a product and a sum per element.
            flops: (n * (2 * self.dim + 3)) as f64,
            bytes: ((n * self.dim) as u64 * self.x.bytes() + 4 * n as u64 + out as u64 * self.y.bytes()) as f64,
        }
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("out_dtype", &mut self.y)?;
        options.value("o_layout", &mut self.o_layout)?;
        options.value("lse_offset", &mut self.lse)?;
        options.value("out_layout", &mut self.out_layout)?;
        options.value("sum_offset", &mut self.sum)?;
        options.value("lse_out_offset", &mut self.lse_out)?;
        options.value("sum_out_offset", &mut self.sum_out)?;
        after(self.lse_out, self.sum_out, "sum_out_offset")
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (o, x) = reader.values("o", "[splits, .., dv]")?;
        let sum = reader.optional("sum");
        let lse = match sum {
            Some(_) => reader.values("max", "[splits, ..], beside sum")?.0,
            None => reader.values("lse", "[splits, ..], or max and sum")?.0,
        };
        let &[splits, ref outer @ .., dim] = &o.shape[..] else {
            return Err(case::bad_shape("o", o, "[splits, .., dv]"));
        };
        for (name, tensor) in [(if sum.is_some() { "max" } else { "lse" }, Some(lse)), ("sum", sum)] {
            let Some(tensor) = tensor else { continue };
            case::float(name, tensor)?;
            if tensor.shape != o.shape[..o.shape.len() - 1] {
                return Err(case::bad_shape(name, tensor, "that of o without its last axis"));
            }
        }
        if splits == 0 {
            return Err(case::bad_shape("o", o, "one part or more"));
        }
        let mut problem = Problem { x, y: x, lse_out: Some(0), ..shape(splits, outer.iter().product(), dim) };
        if let (&[_, n1, n2], false) = (outer, o.data.is_empty()) {
            problem.dims = [n1, n2];
        }
        problem.sum = sum.map(|_| 0);
        problem.options(&mut Options::Read(reader))?;
        let tensors = [("parts", Some(o)), ("lse_parts", Some(lse)), ("sum_parts", sum)];
        let values =
            tensors.into_iter().filter_map(|(name, tensor)| Some((name, tensor?.numbers().unwrap_or_default())));
        let mut given = Given {
            problem,
            values: values.collect(),
            outputs: vec![Shown::new("o", [outer, &[dim]].concat()), Shown::new("lse", shape_of_lse(&problem, outer))],
            known: Values::new(),
        };
        if o.data.is_empty() {
            // Without elements there is still an LSE per row.
            let sum = given.values.get("sum_parts").map(Vec::as_slice);
            let out = reference::<f64>([splits, problem.rows, dim], &[], &given.values["lse_parts"], sum);
            let lse = if problem.sum_out.is_some() { [out.max, out.sum].concat() } else { out.lse };
            given.known = [("o", Vec::new()), ("lse", lse)].into();
        }
        Ok(given)
    }

    fn write(&self, values: &Values) -> Case {
        let [n0, n1, n2] = self.sizes();
        let shape = [self.splits, n0, n1, n2, self.dim];
        let tensor = |dtype, shape: &[usize], name| case::Tensor::values(dtype, shape, &values[name]);
        let case = self.header().tensor("o", tensor(self.x, &shape, "parts"));
        let lse = |name| tensor(Dtype::F32, &shape[..4], name);
        match self.sum {
            None => case.tensor("lse", lse("lse_parts")),
            Some(_) => case.tensor("max", lse("lse_parts")).tensor("sum", lse("sum_parts")),
        }
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "o" => [&self.sizes()[..], &[self.dim]].concat(),
            _ => shape_of_lse(self, &self.sizes()),
        }
    }
}

/// That of the rows; two of these where sums are written.
fn shape_of_lse(problem: &Problem, rows: &[usize]) -> Vec<usize> {
    [if problem.sum_out.is_some() { &[2][..] } else { &[] }, rows].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Tensor;

    #[test]
    fn faults_name_what_is_wrong() {
        let values = |shape: &[usize]| Tensor::values(Dtype::F32, shape, &vec![0.5; shape.iter().product()]);
        let fault = |o: &[usize], lse: &[usize]| {
            let case = Case::new("attention_merge").tensor("o", values(o)).tensor("lse", values(lse));
            crate::kernel::fault::<Problem>(&case)
        };
        assert_eq!(fault(&[2, 3, 4, 8], &[2, 3, 4]), "understood");
        assert_eq!(fault(&[2, 8], &[2]), "understood");
        assert_eq!(fault(&[2, 3, 4, 0, 8], &[2, 3, 4, 0]), "understood");
        assert!(fault(&[8], &[]).contains("[splits, .., dv]"));
        assert!(fault(&[2, 3, 8], &[2, 4]).contains("without its last axis"));
        assert!(fault(&[0, 3, 8], &[0, 3]).contains("one part or more"));
    }
}
