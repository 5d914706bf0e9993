//! Group norm, layer norm over channels and batch norm, described.

use tileloom::activation::Activation;
use tileloom::conv::Order;
use tileloom::group_norm::{Algorithm, Config, Over, Problem, Running, Statistics};
use tileloom::norm::Vector;
use tileloom::softmax::Reduce;
use tileloom::verify::Describe;
use tileloom::{Caps, Dtype, Layout};

use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Access, Arg, Cost, Given, List, Listed, Values, affordable};
use crate::models;
use crate::random::Random;

use Dtype::{Bf16, F16, F32};
use Order::{Nchw, Nhwc};

/// In three steps, by parts of a few chunks; needs no feature.
pub const SPLIT: Config =
    Config { algorithm: Algorithm::Split, wg_size: 8, lanes: 1, reduce: Reduce::None, run: 4, native_f16: false };

/// The same by teams.
pub const TEAMS: Config = Config { lanes: 4, reduce: Reduce::Tree, ..SPLIT };

/// A set by a team of four.
pub const WHOLE: Config = Config { algorithm: Algorithm::Whole, ..TEAMS };

/// Two pictures of f32, with a weight, a bias and silu.
pub fn shape(over: Over, channels: usize, size: [usize; 2], order: Order) -> Problem {
    let vector = Some(Vector::of(F32));
    Problem {
        batch: 2,
        channels,
        size,
        over,
        order,
        weight: vector,
        bias: vector,
        activation: Activation::Silu,
        ..Problem::default()
    }
}

/// All of one dtype.
pub fn of(dtype: Dtype, problem: Problem) -> Problem {
    let vector = |vector: Option<Vector>| vector.map(|vector| Vector { dtype, ..vector });
    Problem { x: dtype, y: dtype, weight: vector(problem.weight), bias: vector(problem.bias), ..problem }
}

/// Running statistics that are moved.
pub const UPDATE: Statistics = Statistics::Update { running: Running { mean: 1, variance: 2 }, momentum: 0.1 };

/// Each kind of sets, of ten channels.
pub const OVERS: [Over; 5] = [Over::Group(2), Over::Group(10), Over::Group(1), Over::Channels, Over::Batch];

/// What is made of a number that is normal, and an epsilon.
type Extreme = (fn(f64) -> f64, f32);

/// An eps, and values that are hard with it: of a set's own number and a normal number.
const EXTREMES: [Extreme; 4] =
    [(|z| 1e4 + 1e-2 * z, 1e-5), (|_| 7.5, 1e-5), (|z| 1e15 * z - 1e16, 1e-5), (|z| 1e-3 + 1e-9 * z, 0.0)];

/// `f(normal)` in each element of x.
pub fn values_of(f: fn(f64) -> f64) -> impl Fn(&Problem, &mut Values) {
    move |_, values| {
        let mut random = Random::new(3);
        values.get_mut("x").into_iter().flatten().for_each(|v| *v = f(random.normal()));
    }
}

/// Of n pictures `[n, c, ..]`, or channels last: pictures, channels, places.
pub(super) fn axes(x: &case::Tensor, order: Order) -> Result<(usize, usize, [usize; 2]), Fault> {
    let (&[n, ref places @ .., c], Nhwc) = (&x.shape[..], order) else {
        return match &x.shape[..] {
            &[n, c, ref places @ ..] if order == Nchw => Ok((n, c, two(places))),
            _ => Err(case::bad_shape("x", x, "[n, c, ..], or channels last")),
        };
    };
    Ok((n, c, two(places)))
}

/// Places of any number of axes as a height and a width.
fn two(places: &[usize]) -> [usize; 2] {
    match places.split_last() {
        None => [1, 1],
        Some((&width, outer)) => [outer.iter().product(), width],
    }
}

/// What is normalised over.
pub(super) fn over(options: &mut Options, over: &mut Over, channels: usize) -> Result<(), Fault> {
    let mut groups = if let Over::Group(groups) = *over { groups } else { 1 };
    let mut kind = if let Over::Group(_) = *over { Over::Group(0) } else { *over };
    options.word(
        "over",
        &mut kind,
        &[("group", Over::Group(0)), ("channels", Over::Channels), ("batch", Over::Batch)],
    )?;
    if kind == Over::Group(0) {
        options.value("groups", &mut groups)?;
        if groups == 0 || !channels.is_multiple_of(groups) {
            let expected = format!("a divisor of {channels} channels");
            return Err(Fault::BadOption { name: "groups", value: groups.to_string(), expected });
        }
        kind = Over::Group(groups);
    }
    *over = kind;
    Ok(())
}

pub(super) fn orders() -> [(&'static str, Order); 2] {
    [Nchw, Nhwc].map(|order| (order.name(), order))
}

pub(super) fn activations() -> Vec<(&'static str, Activation)> {
    Activation::ALL.iter().map(|&one| (one.name(), one)).collect()
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
        Cost::of((10 * elements) as f64, &self.args())
    }

    fn shipped() -> Vec<String> {
        let words = ["algorithm=whole", "algorithm=split", "reduce=none", "reduce=tree", "reduce=shuffle"];
        words.into_iter().chain(["native_f16=true", "native_f16=false"]).map(String::from).collect()
    }

    fn shared() -> &'static [&'static str] {
        &["weight", "bias"]
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        over(options, &mut self.over, self.channels)?;
        options.value("eps", &mut self.eps)?;
        options.word("activation", &mut self.activation, &activations())?;
        options.value("slope", &mut self.slope)?;
        options.word("layout", &mut self.order, &orders())?;
        if let Some(mut running) = self.statistics.running() {
            let (mut training, mut momentum) = (false, 0.1);
            if let Statistics::Update { momentum: own, .. } = self.statistics {
                (training, momentum) = (true, own);
            }
            options.value("training", &mut training)?;
            if training {
                options.value("momentum", &mut momentum)?;
            }
            options.value("running_mean_start", &mut running.mean)?;
            options.value("running_variance_start", &mut running.variance)?;
            self.statistics =
                if training { Statistics::Update { running, momentum } } else { Statistics::Given(running) };
        }
        options.value("out_dtype", &mut self.y)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("y_layout", &mut self.y_layout)?;
        options.value("stats_start", &mut self.stats)?;
        crate::kernels::rows::norm::vector_starts(options, &mut self.weight, &mut self.bias)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (x, dtype) = reader.values("x", "[n, c, ..]")?;
        let mut order = Nchw;
        Options::Read(reader).word("layout", &mut order, &orders())?;
        let (batch, channels, size) = axes(x, order)?;
        let mut values: Values = [("x", x.numbers().unwrap_or_default())].into();
        let mut vector = |name| -> Result<Option<Dtype>, Fault> {
            let Some(tensor) = reader.optional(name) else { return Ok(None) };
            if tensor.shape != [channels] {
                return Err(case::bad_shape(name, tensor, format!("[{channels}]")));
            }
            values.insert(name, tensor.numbers().unwrap_or_default());
            case::float(name, tensor).map(Some)
        };
        let (weight, bias) = (vector("weight")?.map(Vector::of), vector("bias")?.map(Vector::of));
        let running = vector("running_mean")?.or(vector("running_variance")?);
        if running.is_some() {
            ["running_mean", "running_variance"]
                .into_iter()
                .try_for_each(|name| reader.tensor(name, "[c]").map(drop))?;
        }
        let statistics = running.map_or(Statistics::Own, |_| Statistics::Given(Running::default()));
        let mut problem = Problem {
            batch,
            channels,
            size,
            x: dtype,
            y: dtype,
            weight,
            bias,
            statistics,
            order,
            ..Problem::default()
        };
        problem.options(&mut Options::Read(reader))?;
        affordable(reader, &problem.args())?;
        let written = problem.args().into_iter().filter(|arg| arg.access != Access::Read);
        let outputs = written.map(|arg| match arg.name {
            "y" => Shown::new("y", x.shape.clone()),
            name => Shown::new(name, arg.view.shape()),
        });
        let outputs = outputs.collect();
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "x" | "y" => [&arg.view.sizes[..], &[arg.view.cols]].concat(),
            _ => arg.view.shape(),
        }
    }
}

/// About twenty pipelines.
fn everywhere(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        let name = order.name();
        for over in OVERS {
            let problem = Problem { stats: Some(1), ..shape(over, 10, [5, 7], order) };
            list.narrow(format!("by parts, {name}"), problem).config(SPLIT).seed(2).alone();
        }
        for (f, eps) in EXTREMES {
            let name = format!("offsets, equal elements, large ones, {name}");
            for over in [Over::Group(2), Over::Channels] {
                let problem = Problem { eps, stats: Some(1), ..shape(over, 10, [5, 7], order) };
                list.narrow(&name, problem).config(SPLIT).set(values_of(f)).alone();
            }
        }
        let batch = |size, statistics| Problem { statistics, ..shape(Over::Batch, 10, size, order) };
        let name = format!("batch norm, {}", order.name());
        list.narrow(&name, batch([5, 7], UPDATE)).config(SPLIT).seed(3).alone();
        list.narrow(&name, batch([5, 7], Statistics::Given(Running { mean: 1, variance: 2 }))).config(SPLIT).seed(3);
        // Half a million elements of one channel.
        let many = Problem { batch: 1, ..shape(Over::Batch, 2, [512, 512], order) };
        list.narrow(name, many).seed(4).twice();
        let name = format!("a set at a time, {}", order.name());
        for over in [Over::Group(3), Over::Channels] {
            list.narrow(&name, Problem { stats: Some(1), ..shape(over, 12, [6, 6], order) })
                .config(WHOLE)
                .seed(5)
                .alone();
        }
        list.narrow("nothing to compute", Problem { batch: 0, ..shape(Over::Group(2), 4, [3, 3], order) });
        list.narrow("nothing to compute", shape(Over::Batch, 4, [3, 0], order));
    }
    let pad = |pad: usize| Layout::strided(pad, [10 * (5 * 9 + 3) + pad, 5 * 9 + 3, 9]);
    let strided = Problem { x_layout: pad(3), y_layout: pad(5), ..shape(Over::Group(2), 10, [5, 7], Nchw) };
    list.narrow("strided views with NaN between", strided).config(SPLIT).seed(6).alone();
    // Lines of odd lengths share words.
    let halves = of(F16, Problem { activation: Activation::None, ..shape(Over::Group(2), 6, [3, 5], Nchw) });
    let entry = list.narrow("f16 lines that share words, in place", halves).config(SPLIT).seed(7);
    entry.memory(&[&["x", "y"]]).says(&["edge: true", "in_place: true"]).alone();
    list.narrow("as it is chosen", Problem { batch: 1, ..shape(Over::Group(8), 32, [32, 32], Nchw) }).seed(8).twice();
}

/// Layouts, dtypes, tiles.
fn wide(list: &mut List<Problem>) {
    for (over, order) in OVERS.into_iter().flat_map(|over| [(over, Nchw), (over, Nhwc)]) {
        let strides = if order == Nchw { [10 * 48, 48, 9] } else { [5 * 93, 93, 13] };
        let x_layout = Layout::strided(3, strides);
        let strided = Problem { x_layout, stats: Some(1), ..shape(over, 10, [5, 7], order) };
        list.wide("strided views", strided).config(SPLIT).seed(6);
    }
    for (order, size) in [(Nchw, [3, 3]), (Nhwc, [5, 9])] {
        let problem = Problem { activation: Activation::None, ..shape(Over::Group(2), 10, size, order) };
        let entry =
            list.wide("workgroups of no power of two, in place", problem).config(Config { wg_size: 24, ..TEAMS });
        entry.seed(5).memory(&[&["x", "y"]]).says(&["in_place: true"]);
    }
    for order in [Nchw, Nhwc] {
        for (dtype, size) in [(F16, [4, 6]), (Bf16, [3, 5])] {
            for (over, channels) in [(Over::Group(2), 24), (Over::Group(7), 14), (Over::Channels, 24), (Over::Batch, 7)]
            {
                let problem = Problem { activation: Activation::None, ..shape(over, channels, size, order) };
                list.wide("dtypes", of(dtype, problem)).seed(1).every_candidate();
            }
        }
        for over in OVERS {
            let problem = Problem { batch: 3, ..shape(over, 20, [9, 4], order) };
            list.wide("by teams", problem).config(TEAMS).seed(2).alone();
            list.wide("every candidate", Problem { stats: Some(0), ..problem }).seed(3).every_candidate();
        }
        let first = shape(Over::Group(4), 16, [8, 8], order);
        list.wide("one arena", first).config(SPLIT).seed(4).arena();
        list.wide("one arena", first).config(WHOLE).seed(4).arena();
        list.wide("in place", first).config(WHOLE).seed(5).memory(&[&["x", "y"]]).says(&["in_place: true"]);
        list.wide("checked modules give the same", first).config(TEAMS).seed(6).checked();
        list.wide("checked modules give the same", first).config(WHOLE).seed(6).checked();
        let bare = Problem { weight: None, bias: None, activation: Activation::None, ..first };
        list.wide("no weight", bare).seed(7).config(SPLIT);
        let mixed = Problem { x: F16, y: F32, weight: Some(Vector { dtype: Bf16, offset: 3 }), ..first };
        list.wide("dtypes of their own", mixed).seed(8);
        let lane = |caps: &Caps| caps.least_subgroup().is_none_or(|least| least < 4).then_some("subgroups of four");
        let shuffled = Config { reduce: Reduce::Shuffle, ..WHOLE };
        list.wide("shuffled", first).config(shuffled).unless(lane).seed(9);
        list.wide("shuffled", first).config(Config { algorithm: Algorithm::Split, ..shuffled }).unless(lane).seed(9);
    }
    for &activation in Activation::ALL {
        list.wide("activations", Problem { activation, ..shape(Over::Group(1), 4, [8, 8], Nchw) })
            .seed(9)
            .config(WHOLE);
    }
}

fn benches(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        let name = order.name();
        let one = |over, channels, size: usize| Problem { batch: 1, ..shape(over, channels, [size; 2], order) };
        let vqgan = one(Over::Group(32), 128, 256);
        let entry = list.bench(format!("group 32, silu, 128 at 256, {name}"), vqgan);
        if order == Nchw {
            entry.quick();
        }
        list.bench(format!("group 32, silu, 128 at 256, {name}, f16"), of(F16, vqgan));
        for (model, channels, size) in models::group_norms() {
            list.model(format!("{model}, {name}"), one(Over::Group(32), channels, size));
        }
        list.bench(format!("group 32, silu, 512 at 16, {name}"), one(Over::Group(32), 512, 16));
        let plain = |problem| Problem { activation: Activation::None, ..problem };
        list.bench(format!("instance, 64 at 128, {name}"), plain(one(Over::Group(64), 64, 128)));
        list.bench(
            format!("channels, 96 at 56, batch 8, {name}"),
            Problem { batch: 8, ..plain(one(Over::Channels, 96, 56)) },
        );
        list.bench(format!("channels, 256 at 64, {name}"), plain(one(Over::Channels, 256, 64)));
        let batch = Problem { batch: 8, ..plain(one(Over::Batch, 64, 112)) };
        list.bench(format!("batch, 64 at 112, batch 8, {name}"), Problem { statistics: UPDATE, ..batch });
        list.bench(
            format!("batch, inference, 64 at 112, batch 8, {name}"),
            Problem { statistics: Statistics::Given(Running::default()), ..batch },
        );
        for dtype in Dtype::ALL {
            for (over, channels) in [(Over::Group(2), 8), (Over::Group(7), 7), (Over::Channels, 8), (Over::Batch, 7)] {
                let problem = of(dtype, shape(over, channels, [6, 8], order));
                list.compose(problem);
                list.compose(Problem { size: [5, 3], stats: Some(0), activation: Activation::None, ..problem });
            }
        }
        list.large(
            format!("group 32, 512 at 64, {name}"),
            Problem { batch: 4, ..of(F16, one(Over::Group(32), 512, 64)) },
        );
    }
}
