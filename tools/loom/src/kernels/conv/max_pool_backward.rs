//! The gradient of max pooling, described.

use tileloom::conv::Order;
use tileloom::max_pool_backward::Problem;
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout, max_pool};

use super::axes;
use super::max_pool::{PLAIN, check, shape, shown, strided, windows, windows_of};
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Access, Arg, Cost, Given, List, Listed, Values, affordable};

use Dtype::{Bf16, F16, F32};
use Order::{Nchw, Nhwc};

/// That of this pooling, in these dtypes of dy and dx.
pub fn of(forward: max_pool::Problem, dy: Dtype, dx: Dtype) -> Problem {
    Problem { forward: max_pool::Problem { x: dx, y: dy, ..forward }, dx, ..Problem::default() }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

/// What no place takes is NaN.
fn hidden(problem: &Problem, values: &mut Values) {
    let places = (problem.forward.size[0] * problem.forward.size[1]) as f64;
    let none: Vec<bool> = values["indices"].iter().map(|&place| place >= places).collect();
    let dy = values.get_mut("dy").expect("there is dy");
    dy.iter_mut().zip(none).filter(|(_, none)| *none).for_each(|(dy, _)| *dy = f64::NAN);
}

impl Listed for Problem {
    const RUNTIME: &'static [&'static str] = &["planes"];

    fn list(list: &mut List<Problem>) {
        for order in [Nchw, Nhwc] {
            for (i, (name, problem)) in windows(order).into_iter().enumerate() {
                let problem = Problem { add: i % 3 == 1, ..of(problem, F32, F32) };
                list.narrow(format!("{name}; places that are none"), problem).config(PLAIN).seed(i as u64).set(hidden);
            }
            let first = max_pool::Problem { batch: 2, ..shape(5, [9, 7], 3, 2, order) };
            for add in [false, true] {
                let packed = Problem { add, ..of(first, F16, F16) };
                list.narrow("f16, rows that share words", packed).config(PLAIN).seed(2);
            }
            list.narrow("as it is chosen", of(shape(17, [12, 12], 2, 2, order), F32, F32)).seed(3);
            list.narrow("no pictures", of(max_pool::Problem { batch: 0, ..first }, F32, F32));
            wide(list, order);
        }
        benches(list);
    }

    /// Comparisons.
    fn cost(&self) -> Cost {
        Cost::of(max_pool_cost(&self.forward), &self.args())
    }

    fn shipped() -> Vec<String> {
        ["native_f16=true", "native_f16=false"].map(String::from).into()
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        windows_of(&mut self.forward, options)?;
        options.value("add", &mut self.add)?;
        options.value("out_dtype", &mut self.dx)?;
        options.value("dy_layout", &mut self.forward.y_layout)?;
        options.value("dx_layout", &mut self.dx_layout)?;
        options.value("indices_layout", &mut self.forward.indices)?;
        if let Options::Write(_) = options {
            options.value("size", &mut super::Pair(self.forward.size))?;
        }
        Ok(())
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (dy, dtype) = reader.values("dy", "[n, c, (h,) w]")?;
        let dims = if dy.shape.len() == 3 { 1 } else { 2 };
        let mut problem =
            of(max_pool::Problem { indices: Some(Layout::default()), ..Default::default() }, dtype, dtype);
        problem.options(&mut Options::Read(reader))?;
        let forward = &mut problem.forward;
        let [batch, channels, ..] = axes("dy", dy, dims, forward.order)?;
        let Some(super::Pair(size)) = reader.option("size", None)? else {
            let expected = "the height and width of dx".into();
            return Err(Fault::BadOption { name: "size", value: "nothing".into(), expected });
        };
        (forward.batch, forward.channels) = (batch, channels);
        forward.size = if dims == 1 { [1, size[1]] } else { size };
        check(forward, dims)?;
        if forward.indices.is_none() {
            let (value, expected) = ("none".into(), "where indices lie".into());
            return Err(Fault::BadOption { name: "indices_layout", value, expected });
        }
        affordable(reader, &problem.args())?;
        let word = |v: i64| u32::try_from(v).unwrap_or(u32::MAX).into();
        let mut values = Values::new();
        for arg in problem.args().iter().filter(|arg| arg.access != Access::Write) {
            let tensor = reader.tensor(arg.name, "")?;
            let want = shown(&problem.forward, arg, dims);
            if tensor.shape != want {
                return Err(case::bad_shape(arg.name, tensor, format!("{want:?}")));
            }
            let numbers = match arg.name {
                "indices" => case::integers("indices", tensor)?.into_iter().map(word).collect(),
                _ => tensor.numbers().unwrap_or_default(),
            };
            values.insert(arg.name, numbers);
        }
        let args = problem.args();
        let dx = args.iter().find(|arg| arg.name == "dx").expect("an output");
        let outputs = vec![Shown::new("dx", shown(&problem.forward, dx, dims))];
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        shown(&self.forward, arg, 2)
    }
}

fn max_pool_cost(forward: &max_pool::Problem) -> f64 {
    Listed::cost(forward).flops
}

/// Layouts, dtypes, tiles.
fn wide(list: &mut List<Problem>, order: Order) {
    for ((dy, dx), channels) in [((F16, F16), 8), ((Bf16, Bf16), 7), ((F32, F16), 6), ((F16, F32), 8), ((Bf16, F16), 3)]
    {
        let forward = max_pool::Problem { batch: 3, ..shape(channels, [6, 8], 3, 2, order) };
        list.wide("dtypes", Problem { add: channels == 7, ..of(forward, dy, dx) }).seed(1).every_candidate();
    }
    for (pad, dtype) in [(4, F32), (3, F32), (3, F16), (2, Bf16)] {
        let y_layout = strided(order, pad + 1, 5, [3, 2]);
        let indices = Some(strided(order, pad + 2, 5, [3, 2]));
        let forward = max_pool::Problem { batch: 2, y_layout, indices, ..shape(5, [6, 4], 2, 2, order) };
        let problem = Problem { dx_layout: strided(order, pad, 5, [6, 4]), add: pad == 3, ..of(forward, dtype, dtype) };
        list.wide("strides and offsets", problem).seed(2).config(PLAIN);
    }
    let first = of(shape(8, [9, 7], 3, 1, order), F32, F32);
    list.wide("one arena", first).seed(3).arena();
    list.wide("checked modules give the same", first).seed(4).checked();
    list.wide("the same bits twice", first).seed(5).twice();
}

fn benches(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        let name = order.name();
        let stem = of(shape(64, [112, 112], 3, 2, order), F32, F32);
        let entry = list.bench(format!("3 x 3 by 2, 64 channels at 112, {name}"), stem);
        if order == Nhwc {
            entry.quick();
        }
        list.bench(format!("2 x 2 by 2, 64 channels at 224, {name}"), of(shape(64, [224, 224], 2, 2, order), F32, F32));
        for dtype in Dtype::ALL {
            for channels in [8, 7] {
                list.compose(of(shape(channels, [6, 8], 3, 2, order), dtype, dtype));
            }
        }
    }
}
