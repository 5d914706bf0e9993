//! Gradients of adapters of low rank, described.

use tileloom::lora_backward::Problem;
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use super::lora::hidden;
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Access, Arg, Cost, Given, List, Listed, Values, affordable};
use crate::kernels::vq::vq_lookup::read_indices;

use Dtype::{Bf16, F16, F32};

/// All inputs of one dtype; rows name their adapters where there are several.
pub fn of(m: usize, n: usize, k: usize, rank: usize, adapters: usize, dtype: Dtype) -> Problem {
    let adapter = (adapters > 1).then_some(0);
    let sizes = Problem { m, n, k, rank, adapters, adapter, scale: 0.75, ..Problem::default() };
    Problem { x: dtype, dy: dtype, a: dtype, b: dtype, ..sizes }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    fn list(list: &mut List<Problem>) {
        for (m, n, k, rank) in [(20, 36, 40, 16), (37, 33, 21, 5), (1, 1, 1, 1)] {
            list.narrow("one adapter", of(m, n, k, rank, 1, F32));
            let mixed = Problem { add: m == 20, ..of(m, n, k, rank, 3, F32) };
            let entry = list.narrow("adapters by rows, some that do not exist, NaN in one", mixed);
            entry.set(|problem, values| hidden(problem.adapters, values));
        }
        list.wide("the same bits again", of(300, 36, 40, 8, 3, F32)).seed(2).twice();
        for (x, dy, a, b) in [(F16, F16, F32, F32), (Bf16, F16, F16, Bf16)] {
            let problem = Problem { x, dy, a, b, add: true, ..of(21, 36, 40, 8, 3, F32) };
            list.wide("dtypes, added", problem).seed(3);
            let strided = Problem {
                x_layout: Layout::strided(3, [43]),
                dy_layout: Layout::strided(1, [41]),
                a_layout: Layout::strided(5, [41 * 9, 41]),
                b_layout: Layout::strided(2, [36 * 11, 11]),
                adapter: Some(2),
                da: 3,
                db: 1,
                ..problem
            };
            list.wide("strides and offsets", strided).seed(4);
        }
        list.wide("one buffer for all", of(21, 36, 40, 8, 3, F32)).arena();
        list.wide("no rows", of(0, 20, 12, 4, 2, F32));
        list.wide("checked modules give the same bits", of(21, 40, 52, 12, 3, F32)).seed(8).checked();
        list.bench("512x4096x4096 f16, rank 16", of(512, 4096, 4096, 16, 1, F16)).quick();
        list.bench("512x4096x4096 f16, rank 16 of 8", of(512, 4096, 4096, 16, 8, F16)).quick();
        for dtype in Dtype::ALL {
            list.compose(of(65, 33, 37, 5, 1, dtype));
            list.compose(of(64, 64, 64, 16, 3, dtype));
        }
    }

    fn cost(&self) -> Cost {
        Cost::of(self.flops(), &self.args())
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("scale", &mut self.scale)?;
        options.value("add", &mut self.add)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("dy_layout", &mut self.dy_layout)?;
        options.value("a_layout", &mut self.a_layout)?;
        options.value("b_layout", &mut self.b_layout)?;
        options.value("da_offset", &mut self.da)?;
        options.value("db_offset", &mut self.db)?;
        self.adapter.as_mut().map_or(Ok(()), |offset| options.value("adapter_offset", offset))
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (x, x_dtype) = reader.values("x", "[m, k]")?;
        let (dy, dy_dtype) = reader.values("dy", "[m, n]")?;
        let (a, a_dtype) = reader.values("a", "[adapters, r, k]")?;
        let (_, b_dtype) = reader.values("b", "[adapters, n, r]")?;
        let mut problem = Problem { x: x_dtype, dy: dy_dtype, a: a_dtype, b: b_dtype, ..Problem::default() };
        let mut values = Values::new();
        if reader.optional("adapter").is_some() {
            problem.adapter = Some(0);
            values.insert("adapter", read_indices(reader, "adapter", "[m]")?.2);
        }
        problem.options(&mut Options::Read(reader))?;
        let &[m, k] = &x.shape[..] else { return Err(case::bad_shape("x", x, "[m, k]")) };
        let &[_, n] = &dy.shape[..] else { return Err(case::bad_shape("dy", dy, "[m, n]")) };
        let &[adapters, rank, _] = &a.shape[..] else { return Err(case::bad_shape("a", a, "[adapters, r, k]")) };
        if adapters == 0 || !(1..=256).contains(&rank) {
            return Err(case::bad_shape("a", a, "at least one adapter, of a rank from 1 to 256"));
        }
        problem = Problem { m, n, k, rank, adapters, ..problem };
        affordable(reader, &problem.args())?;
        for arg in problem.args().iter().filter(|arg| arg.access != Access::Write) {
            let tensor = reader.tensor(arg.name, "")?;
            let want = problem.shape(arg);
            if tensor.shape != want {
                return Err(case::bad_shape(arg.name, tensor, format!("{want:?}")));
            }
            if arg.name != "adapter" {
                values.insert(arg.name, tensor.numbers().unwrap_or_default());
            }
        }
        let outputs = vec![Shown::new("da", [adapters, rank, k]), Shown::new("db", [adapters, n, rank])];
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "adapter" => vec![self.m],
            "x" | "dy" => vec![arg.view.sizes[2], arg.view.cols],
            _ => arg.view.sizes[1..].iter().copied().chain([arg.view.cols]).collect(),
        }
    }
}
