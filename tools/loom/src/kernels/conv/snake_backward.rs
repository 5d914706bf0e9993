//! The gradients of snake, described.

use tileloom::conv::Order;
use tileloom::snake_backward::{Config, Problem};
use tileloom::softmax::Reduce;
use tileloom::verify::Describe;
use tileloom::{Caps, Dtype, Layout};

use super::group_norm::{SPLIT, TEAMS, axes, orders};
use super::group_norm_backward::split;
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Access, Arg, Cost, Given, List, Listed, Values, affordable};

use Dtype::{Bf16, F16, F32};
use Order::{Nchw, Nhwc};

/// All gradients, of two pictures.
pub fn shape(channels: usize, size: [usize; 2], order: Order) -> Problem {
    let sums = Problem { dalpha: Some(0), dbias: Some(0), ..Problem::default() };
    Problem { batch: 2, channels, size, order, dx: Some(F32), ..sums }
}

/// The same where alpha and sums begin behind others.
pub fn behind(problem: Problem) -> Problem {
    Problem { alpha: 1, dalpha: Some(1), dbias: Some(2), ..problem }
}

/// The same of this dtype.
pub fn of(dtype: Dtype, problem: Problem) -> Problem {
    Problem { x: dtype, dy: dtype, dx: problem.dx.map(|_| dtype), ..problem }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    const RUNTIME: &'static [&'static str] = &["run"];

    fn list(list: &mut List<Problem>) {
        everywhere(list);
        wide(list);
        benches(list);
    }

    fn cost(&self) -> Cost {
        let elements = self.batch * self.channels * self.size[0] * self.size[1];
        Cost::of((60 * elements) as f64, &self.args())
    }

    fn shared() -> &'static [&'static str] {
        &["alpha"]
    }

    fn shipped() -> Vec<String> {
        split()
    }

    fn follows() -> bool {
        true
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.word("layout", &mut self.order, &orders())?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("dy_layout", &mut self.dy_layout)?;
        options.value("dx_layout", &mut self.dx_layout)?;
        options.value("out_dtype", &mut self.dx)?;
        options.value("alpha_start", &mut self.alpha)?;
        options.value("dalpha_start", &mut self.dalpha)?;
        options.value("dbias_start", &mut self.dbias)?;
        options.value("add", &mut self.add)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (x, x_dtype) = reader.values("x", "[n, c, ..]")?;
        let (dy, dy_dtype) = reader.values("dy", "as x")?;
        if dy.shape != x.shape {
            return Err(case::bad_shape("dy", dy, format!("{:?}, as x", x.shape)));
        }
        let mut order = Nchw;
        Options::Read(reader).word("layout", &mut order, &orders())?;
        let (batch, channels, size) = axes(x, order)?;
        let own = Problem { batch, channels, size, order, x: x_dtype, dy: dy_dtype, ..Problem::default() };
        let mut problem = Problem { dx: Some(x_dtype), dalpha: Some(0), dbias: Some(0), ..own };
        problem.options(&mut Options::Read(reader))?;
        affordable(reader, &problem.args())?;
        let numbers = |tensor: &case::Tensor| tensor.numbers().unwrap_or_default();
        let mut values: Values = [("x", numbers(x)), ("dy", numbers(dy))].into();
        for arg in problem.args().iter().filter(|arg| arg.access == Access::Update || arg.name == "alpha") {
            let (tensor, _) = reader.values(arg.name, "[c]")?;
            if tensor.shape != [channels] {
                return Err(case::bad_shape(arg.name, tensor, format!("[{channels}]")));
            }
            values.insert(arg.name, numbers(tensor));
        }
        let written = problem.args().into_iter().filter(|arg| arg.access != Access::Read);
        let outputs = written.map(|arg| match arg.name {
            "dx" => Shown::new("dx", x.shape.clone()),
            name => Shown::new(name, [channels]),
        });
        let outputs = outputs.collect();
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "x" | "dy" | "dx" => [&arg.view.sizes[..], &[arg.view.cols]].concat(),
            _ => arg.view.shape(),
        }
    }
}

fn everywhere(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        let first = shape(10, [5, 7], order);
        list.narrow(format!("by parts, {}", order.name()), first).config(SPLIT).seed(2).alone();
        list.narrow("added to what is there", Problem { add: true, ..first }).config(SPLIT).seed(4).alone();
        list.narrow("sums alone", Problem { dx: None, ..first }).config(SPLIT).seed(4).alone();
        list.narrow("dx alone", Problem { dalpha: None, dbias: None, ..first }).config(SPLIT).seed(5).alone();
        list.narrow("dalpha alone", Problem { dbias: None, dx: None, ..first }).config(SPLIT).seed(5).alone();
        for add in [false, true] {
            list.narrow("sums over nothing", Problem { batch: 0, add, ..first }).config(SPLIT).alone();
        }
        let none = Problem { batch: 0, dalpha: None, dbias: None, ..first };
        list.narrow("nothing", none).config(SPLIT).alone();
        for problem in [shape(12, [6, 6], order), behind(shape(12, [6, 6], order))] {
            list.narrow("by teams", problem).config(TEAMS).seed(5).alone();
            list.narrow("by fours", problem).config(SPLIT).seed(6).alone();
        }
    }
    let halves = of(F16, shape(6, [3, 5], Nchw));
    let entry = list.narrow("f16 lines that share words, over dy", halves).config(SPLIT).seed(7);
    entry.memory(&[&["dy", "dx"]]).says(&["edge: true", "in_place: [false, true]"]).alone();
    list.narrow("as it is chosen", shape(32, [1, 1024], Nchw)).seed(8).twice();
}

/// Layouts, dtypes, tiles.
fn wide(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        let strides = if order == Nchw { [10 * 48, 48, 9] } else { [5 * 93, 93, 13] };
        let strided = Problem { x_layout: Layout::strided(3, strides), ..shape(10, [5, 7], order) };
        list.wide("strided views", strided).config(SPLIT).seed(6);
        let dx_layout = Layout::strided(5, strides);
        list.wide("strided views", Problem { dx_layout, ..of(Bf16, strided) }).config(SPLIT).seed(6);
        for (dtype, channels, size) in [(F16, 24, [4, 6]), (Bf16, 7, [3, 5])] {
            list.wide("dtypes", of(dtype, shape(channels, size, order))).seed(1).every_candidate();
        }
        list.wide("every candidate", shape(20, [9, 4], order)).seed(3).every_candidate();
        list.wide("every candidate", behind(of(F16, shape(20, [9, 4], order)))).seed(3).every_candidate();
        let first = shape(16, [8, 8], order);
        list.wide("one arena", first).config(SPLIT).seed(4).arena();
        list.wide("in place", first).config(SPLIT).seed(5).memory(&[&["x", "dx"]]).says(&["in_place: [true, false]"]);
        list.wide("checked modules give the same", first).config(TEAMS).seed(6).checked();
        let lane = |caps: &Caps| caps.least_subgroup().is_none_or(|least| least < 4).then_some("subgroups of four");
        list.wide("shuffled", first).config(Config { reduce: Reduce::Shuffle, ..TEAMS }).unless(lane).seed(9);
    }
}

fn benches(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        let sound = Problem { batch: 1, dbias: None, ..shape(96, [1, 16384], order) };
        let entry = list.bench(format!("96 channels at 16384, {}", order.name()), sound);
        if order == Nchw {
            entry.quick();
        }
        for dtype in Dtype::ALL {
            list.compose(of(dtype, shape(8, [6, 8], order)));
            list.compose(of(dtype, Problem { dbias: None, ..shape(8, [5, 3], order) }));
        }
        list.large(format!("192 channels at 2^18, f16, {}", order.name()), of(F16, shape(192, [1, 1 << 17], order)));
    }
}
