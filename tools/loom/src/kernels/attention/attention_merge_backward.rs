//! The gradient of the merge of attention's partial results, described.

use tileloom::attention_merge_backward::Problem;
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout, attention_merge};

use super::attention_merge::shape;
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Access, Arg, Cost, Given, List, Listed, Values};

/// As attention_merge, without what that writes.
pub fn of(forward: attention_merge::Problem) -> Problem {
    Problem::new(attention_merge::Problem { lse_out: None, sum_out: None, ..forward })
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    fn list(list: &mut List<Problem>) {
        let f16 = |problem| attention_merge::Problem { x: Dtype::F16, y: Dtype::F16, ..problem };
        for (splits, rows, dim) in [(1, 1, 4), (2, 7, 64), (5, 33, 128), (3, 1, 12)] {
            list.narrow("sizes, and parts that saw nothing", of(shape(splits, rows, dim))).seed(3);
        }
        let sums = attention_merge::Problem { sum: Some(3), ..shape(4, 33, 64) };
        list.narrow("maxima and sums, the gradient of the LSE", Problem { dlse: Some(2), ..of(sums) }).seed(4);
        let odd = Problem { d_parts_layout: Layout::at(3), dlse_parts: 5, ..of(f16(shape(3, 7, 5))) };
        list.narrow("f16, odd rows", odd).seed(2);
        let do_layout = Layout::strided(4, [5 * 3 * 8, 8, 3 * 8]);
        let tokens_first = attention_merge::Problem { dims: [3, 5], y: Dtype::Bf16, ..shape(4, 30, 8) };
        list.narrow("a result of another layout", Problem { do_layout, ..of(tokens_first) }).seed(2);
        list.narrow("nothing to compute", of(shape(2, 0, 8)));
        list.bench("8x4096x128 f32", of(shape(8, 4096, 128))).quick();
        for (x, y) in [(Dtype::F32, Dtype::F16), (Dtype::F16, Dtype::F16), (Dtype::Bf16, Dtype::F32)] {
            for dim in [64, 59] {
                list.compose(of(attention_merge::Problem { x, y, ..shape(4, 33, dim) }));
            }
        }
    }

    fn cost(&self) -> Cost {
        let forward = &self.forward;
        Cost::of((forward.splits * forward.rows * (3 * forward.dim + 6)) as f64, &self.args())
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("out_dtype", &mut self.forward.y)?;
        options.value("o_layout", &mut self.forward.o_layout)?;
        options.value("lse_offset", &mut self.forward.lse)?;
        options.value("sum_offset", &mut self.forward.sum)?;
        options.value("do_layout", &mut self.do_layout)?;
        options.value("dlse_offset", &mut self.dlse)?;
        options.value("d_parts_layout", &mut self.d_parts_layout)?;
        options.value("dlse_parts_offset", &mut self.dlse_parts)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (o, x) = reader.values("o", "[splits, .., dv]")?;
        let sum = reader.optional("sum");
        let lse = match sum {
            Some(_) => reader.values("max", "[splits, ..], beside sum")?.0,
            None => reader.values("lse", "[splits, ..], or max and sum")?.0,
        };
        let (d_o, y) = reader.values("do", "[.., dv]")?;
        let dlse = reader.optional("dlse");
        let &[splits, ref outer @ .., dim] = &o.shape[..] else {
            return Err(case::bad_shape("o", o, "[splits, .., dv]"));
        };
        let rows = &o.shape[..o.shape.len() - 1];
        for (name, tensor, shape) in
            [("lse", Some(lse), rows), ("sum", sum, rows), ("do", Some(d_o), &o.shape[1..]), ("dlse", dlse, outer)]
        {
            let Some(tensor) = tensor else { continue };
            case::float(name, tensor)?;
            if tensor.shape != shape {
                return Err(case::bad_shape(name, tensor, format!("{shape:?}")));
            }
        }
        if splits == 0 {
            return Err(case::bad_shape("o", o, "one part or more"));
        }
        let mut forward = attention_merge::Problem { x, y, ..shape(splits, outer.iter().product(), dim) };
        if let (&[_, n1, n2], false) = (outer, o.data.is_empty()) {
            forward.dims = [n1, n2];
        }
        forward.sum = sum.map(|_| 0);
        let mut problem = Problem { dlse: dlse.map(|_| 0), ..of(forward) };
        problem.options(&mut Options::Read(reader))?;
        let tensors =
            [("parts", Some(o)), ("lse_parts", Some(lse)), ("sum_parts", sum), ("do", Some(d_o)), ("dlse", dlse)];
        let values =
            tensors.into_iter().filter_map(|(name, tensor)| Some((name, tensor?.numbers().unwrap_or_default())));
        Ok(Given {
            problem,
            values: values.collect(),
            outputs: vec![Shown::new("d_parts", o.shape.clone()), Shown::new("dlse_parts", rows)],
            known: Values::new(),
        })
    }

    fn write(&self, values: &Values) -> case::Case {
        let args = self.args();
        let inputs = args.iter().filter(|arg| arg.access != Access::Write);
        inputs.fold(self.header(), |case, arg| {
            let name = match (arg.name, self.forward.sum) {
                ("parts", _) => "o",
                ("lse_parts", None) => "lse",
                ("lse_parts", Some(_)) => "max",
                ("sum_parts", _) => "sum",
                (name, _) => name,
            };
            case.tensor(name, self.tensor(arg, &values[arg.name]))
        })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        let [n0, n1, n2] = self.forward.sizes();
        let (splits, dim) = (self.forward.splits, self.forward.dim);
        match arg.name {
            "do" => vec![n0, n1, n2, dim],
            "dlse" => vec![n0, n1, n2],
            "parts" | "d_parts" => vec![splits, n0, n1, n2, dim],
            _ => vec![splits, n0, n1, n2],
        }
    }
}
