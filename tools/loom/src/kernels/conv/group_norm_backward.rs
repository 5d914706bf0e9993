//! The gradients of group norm, layer norm over channels and batch norm, described.

use tileloom::activation::Activation;
use tileloom::conv::Order;
use tileloom::group_norm::{self, Over, Running, Statistics};
use tileloom::group_norm_backward::{Config, Problem};
use tileloom::norm::Vector;
use tileloom::softmax::Reduce;
use tileloom::verify::Describe;
use tileloom::verify::conv::group_norm_backward::stats_of;
use tileloom::{Caps, Dtype, Layout};

use super::group_norm::{OVERS, SPLIT, TEAMS, axes, orders};
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Access, Arg, Cost, Given, List, Listed, Values, affordable};

use Dtype::{Bf16, F16, F32};
use Order::{Nchw, Nhwc};

/// What tables have for sums of parts.
pub fn split() -> Vec<String> {
    let words = ["algorithm=split", "reduce=none", "reduce=tree", "reduce=shuffle"];
    words.into_iter().chain(["native_f16=true", "native_f16=false"]).map(String::from).collect()
}

/// All gradients of this, whose statistics are there.
pub fn all(forward: group_norm::Problem) -> Problem {
    let forward = group_norm::Problem { stats: Some(1), ..forward };
    Problem { forward, dx: Some(forward.x), dweight: Some(1), dbias: Some(2), ..Problem::default() }
}

/// Those of [`group_norm`](super::group_norm::shape).
pub fn shape(over: Over, channels: usize, size: [usize; 2], order: Order) -> Problem {
    all(super::group_norm::shape(over, channels, size, order))
}

/// By statistics that were given.
pub fn given(problem: Problem) -> Problem {
    let statistics = Statistics::Given(Running { mean: 1, variance: 2 });
    Problem { forward: group_norm::Problem { statistics, stats: None, ..problem.forward }, ..problem }
}

/// Without an activation.
pub fn plain(problem: Problem) -> Problem {
    Problem { forward: group_norm::Problem { activation: Activation::None, ..problem.forward }, ..problem }
}

fn of(dtype: Dtype, problem: Problem) -> Problem {
    let forward = super::group_norm::of(dtype, problem.forward);
    Problem { forward, dx: problem.dx.map(|_| dtype), ..problem }
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
        let [height, width] = self.forward.size;
        let elements = self.forward.batch * self.forward.channels * height * width;
        Cost::of((20 * elements) as f64, &self.args())
    }

    fn shipped() -> Vec<String> {
        split()
    }

    fn follows() -> bool {
        true
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        let of = &mut self.forward;
        super::group_norm::over(options, &mut of.over, of.channels)?;
        options.value("eps", &mut of.eps)?;
        options.word("activation", &mut of.activation, &super::group_norm::activations())?;
        options.value("slope", &mut of.slope)?;
        options.word("layout", &mut of.order, &orders())?;
        if let Statistics::Given(running) = &mut of.statistics {
            options.value("running_mean_start", &mut running.mean)?;
            options.value("running_variance_start", &mut running.variance)?;
        } else {
            let mut start = of.stats.unwrap_or(0);
            options.value("stats_start", &mut start)?;
            of.stats = Some(start);
        }
        options.value("x_layout", &mut of.x_layout)?;
        options.value("dy_layout", &mut of.y_layout)?;
        options.value("dx_layout", &mut self.dx_layout)?;
        options.value("out_dtype", &mut self.dx)?;
        options.value("dweight_start", &mut self.dweight)?;
        options.value("dbias_start", &mut self.dbias)?;
        options.value("add", &mut self.add)?;
        crate::kernels::rows::norm::vector_starts(options, &mut self.forward.weight, &mut self.forward.bias)
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
        let numbers = |tensor: &case::Tensor| tensor.numbers().unwrap_or_default();
        let mut values: Values = [("x", numbers(x)), ("dy", numbers(dy))].into();
        let mut vector = |name| -> Result<Option<Dtype>, Fault> {
            let Some(tensor) = reader.optional(name) else { return Ok(None) };
            if tensor.shape != [channels] {
                return Err(case::bad_shape(name, tensor, format!("[{channels}]")));
            }
            values.insert(name, numbers(tensor));
            case::float(name, tensor).map(Some)
        };
        let (weight, bias) = (vector("weight")?.map(Vector::of), vector("bias")?.map(Vector::of));
        let running = vector("running_mean")?.or(vector("running_variance")?);
        if running.is_some() {
            ["running_mean", "running_variance"]
                .into_iter()
                .try_for_each(|name| reader.tensor(name, "[c]").map(drop))?;
        }
        let forward = group_norm::Problem {
            batch,
            channels,
            size,
            order,
            x: x_dtype,
            y: dy_dtype,
            weight,
            bias,
            statistics: running.map_or(Statistics::Own, |_| Statistics::Given(Running::default())),
            ..group_norm::Problem::default()
        };
        let mut problem =
            Problem { forward, dx: Some(x_dtype), dweight: Some(0), dbias: Some(0), ..Problem::default() };
        problem.options(&mut Options::Read(reader))?;
        affordable(reader, &problem.args())?;
        for arg in problem.args().iter().filter(|arg| arg.access == Access::Update) {
            let (before, _) = reader.values(arg.name, "[c]")?;
            if before.shape != [channels] {
                return Err(case::bad_shape(arg.name, before, format!("[{channels}]")));
            }
            values.insert(arg.name, numbers(before));
        }
        if problem.forward.stats.is_some() {
            let shape = [3, problem.forward.sets()];
            let stats = match reader.optional("stats") {
                Some(stats) if stats.shape == shape => numbers(stats),
                Some(stats) => return Err(case::bad_shape("stats", stats, format!("{shape:?}"))),
                None => stats_of(&problem.forward, &values["x"]),
            };
            values.insert("stats", stats);
        }
        let args = problem.args();
        values.retain(|name, _| args.iter().any(|arg| arg.name == *name));
        let written = args.into_iter().filter(|arg| arg.access != Access::Read);
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

/// About twenty pipelines.
fn everywhere(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        let name = format!("by parts, {}", order.name());
        for over in OVERS {
            list.narrow(&name, shape(over, 10, [5, 7], order)).config(SPLIT).seed(2).alone();
        }
        let batch = shape(Over::Batch, 10, [5, 7], order);
        list.narrow("given statistics", given(batch)).config(SPLIT).seed(3).alone();
        list.narrow("added to what is there", Problem { add: true, ..batch }).config(SPLIT).seed(4).alone();
        list.narrow("columns alone", Problem { dx: None, add: true, ..batch }).config(SPLIT).seed(4).alone();
        let empty =
            |problem: Problem| Problem { forward: group_norm::Problem { batch: 0, ..problem.forward }, ..problem };
        list.narrow("sums over nothing", empty(batch)).config(SPLIT).alone();
        list.narrow("sums over nothing", empty(Problem { add: true, ..batch })).config(SPLIT).alone();
        list.narrow("nothing", Problem { dweight: None, dbias: None, ..empty(batch) }).config(SPLIT).alone();
        let whole = |over| Problem { add: true, ..plain(shape(over, 12, [6, 6], order)) };
        list.narrow("by teams", whole(Over::Group(3))).config(TEAMS).seed(5).alone();
        list.narrow("by teams", whole(Over::Channels)).config(TEAMS).seed(5).alone();
    }
    let halves = of(F16, plain(shape(Over::Group(2), 6, [3, 5], Nchw)));
    let entry = list.narrow("f16 lines that share words, over dy", halves).config(SPLIT).seed(7);
    entry.memory(&[&["dy", "dx"]]).says(&["edge: true", "in_place: [false, true]"]).alone();
    list.narrow("as it is chosen", shape(Over::Group(8), 32, [32, 32], Nchw)).seed(8).twice();
}

/// Layouts, dtypes, tiles.
fn wide(list: &mut List<Problem>) {
    for (over, order) in OVERS.into_iter().flat_map(|over| [(over, Nchw), (over, Nhwc)]) {
        let strides = if order == Nchw { [10 * 48, 48, 9] } else { [5 * 93, 93, 13] };
        let x_layout = Layout::strided(3, strides);
        let strided = shape(over, 10, [5, 7], order);
        let forward = group_norm::Problem { x_layout, ..strided.forward };
        list.wide("strided views", Problem { forward, ..strided }).config(SPLIT).seed(6);
    }
    for order in [Nchw, Nhwc] {
        for (dtype, size) in [(F16, [4, 6]), (Bf16, [3, 5])] {
            for (over, channels) in [(Over::Group(2), 24), (Over::Channels, 24), (Over::Batch, 7)] {
                let problem = of(dtype, plain(shape(over, channels, size, order)));
                list.wide("dtypes", problem).seed(1).every_candidate();
            }
        }
        for over in OVERS {
            list.wide("every candidate", shape(over, 20, [9, 4], order)).seed(3).every_candidate();
        }
        let first = shape(Over::Group(4), 16, [8, 8], order);
        list.wide("one arena", first).config(SPLIT).seed(4).arena();
        list.wide("in place", first).config(SPLIT).seed(5).memory(&[&["x", "dx"]]).says(&["in_place: [true, false]"]);
        list.wide("checked modules give the same", first).config(TEAMS).seed(6).checked();
        let bare = group_norm::Problem { weight: None, bias: None, ..first.forward };
        list.wide("no weight", Problem { forward: bare, ..first }).seed(7).config(SPLIT);
        let lane = |caps: &Caps| caps.least_subgroup().is_none_or(|least| least < 4).then_some("subgroups of four");
        list.wide("shuffled", first).config(Config { reduce: Reduce::Shuffle, ..TEAMS }).unless(lane).seed(9);
    }
    let pad = |pad: usize| Layout::strided(pad, [10 * (5 * 9 + 3) + pad, 5 * 9 + 3, 9]);
    let strided = shape(Over::Group(2), 10, [5, 7], Nchw);
    let forward = group_norm::Problem { x_layout: pad(3), y_layout: pad(5), ..strided.forward };
    let strided = Problem { forward, dx_layout: pad(7), ..strided };
    list.wide("strided views with NaN between", strided).config(SPLIT).seed(6);
    let given = given(of(F16, shape(Over::Batch, 8, [8, 8], Nhwc)));
    list.wide("given statistics, f16", given).seed(7).every_candidate();
}

fn benches(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        let name = order.name();
        let one = |over, channels, size: usize| {
            let of = super::group_norm::shape(over, channels, [size; 2], order);
            all(group_norm::Problem { batch: 1, ..of })
        };
        let entry = list.bench(format!("group 32, silu, 128 at 128, {name}"), one(Over::Group(32), 128, 128));
        if order == Nchw {
            entry.quick();
        }
        list.bench(format!("channels, 256 at 64, {name}"), plain(one(Over::Channels, 256, 64)));
        list.bench(format!("batch, 256 at 64, {name}"), plain(one(Over::Batch, 256, 64)));
        for dtype in Dtype::ALL {
            for (over, channels) in [(Over::Group(2), 8), (Over::Channels, 8), (Over::Batch, 7)] {
                let problem = of(dtype, shape(over, channels, [6, 8], order));
                list.compose(problem);
                list.compose(Problem { dweight: None, ..plain(of(dtype, shape(over, channels, [5, 3], order))) });
            }
        }
        list.compose(given(of(F32, shape(Over::Batch, 8, [6, 8], order))));
        list.large(format!("group 32, 512 at 64, {name}"), of(F16, one(Over::Group(32), 512, 64)));
    }
}
