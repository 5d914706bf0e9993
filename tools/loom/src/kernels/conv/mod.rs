//! Convolution, described.

pub mod group_norm;
pub mod group_norm_backward;
pub mod max_pool;
pub mod max_pool_backward;
pub mod resize;
pub mod snake_backward;
pub mod space_to_depth;

pub mod conv_backward;
pub mod conv_transpose;

use tileloom::conv::{
    Activation, Algorithm, Bias, Border, Config, Order, Padding, Problem, Residual, TapMask, WeightOrder,
};
use tileloom::verify::Describe;
use tileloom::weights::{Format, Packed, Scales};
use tileloom::{Dtype, Layout};

use crate::case::{self, Case, Fault, OptionValue, Options, Reader, Shown};
use crate::kernel::{Access, Arg, Cost, Entry, Given, List, Listed, Values, affordable};
use crate::models;
use crate::packed::FORMATS;
use crate::random::Random;
use crate::weights;

use Dtype::{Bf16, F16, F32};
use Order::{Nchw, Nhwc};

/// A small tile of packed f16, for problems that share pipelines: needs no feature.
pub const DIRECT: Config =
    Config { algorithm: Algorithm::Direct, tile: [8, 32, 4], thread: [8, 4], lanes: 1, native_f16: false };

/// A tile in workgroup memory.
pub const TILED: Config = Config { algorithm: Algorithm::Tiled, tile: [32, 32, 16], thread: [4, 4], ..DIRECT };

/// Tiles, and those of an invocation, that GPUs take.
const TILES: [([u32; 3], [u32; 2]); 4] =
    [([128, 128, 8], [8, 8]), ([64, 64, 16], [8, 4]), ([128, 16, 16], [8, 4]), ([256, 4, 8], [4, 4])];

/// Of f32: a square kernel on a picture, padded so that a stride of 1 keeps its size.
pub fn shape(channels: usize, outputs: usize, size: usize, kernel: usize, order: Order) -> Problem {
    let padding = Padding::Sides([kernel / 2; 4]);
    let (size, kernel) = ([size; 2], [kernel; 2]);
    Problem { channels, outputs, size, kernel, padding, order, ..Problem::default() }
}

/// The same of these dtypes of x, weights and y.
pub fn of(problem: Problem, [x, weight, y]: [Dtype; 3]) -> Problem {
    Problem { x, weight, y, ..problem }
}

/// Depthwise: each channel has a kernel of its own.
pub fn depthwise(channels: usize, size: usize, kernel: usize, order: Order) -> Problem {
    Problem { groups: channels, ..shape(channels, channels, size, kernel, order) }
}

/// One dimension.
pub fn line(channels: usize, outputs: usize, len: usize, kernel: usize, order: Order) -> Problem {
    let padding = Padding::Sides([0, 0, kernel / 2, kernel / 2]);
    Problem { size: [1, len], kernel: [1, kernel], padding, ..shape(channels, outputs, 1, 1, order) }
}

/// Bias, residual and activation.
pub fn whole(problem: Problem, activation: Activation) -> Problem {
    let (bias, residual) = (Some(Bias { offset: 1, ..Bias::of(F32) }), Some(Residual::of(problem.y)));
    Problem { bias, residual, activation, slope: 0.25, ..problem }
}

/// Packed weights, of as many channels as the format has rows of.
fn coded(format: Format, problem: Problem) -> Problem {
    let whole = matches!(format.scales, Scales::K | Scales::K6);
    let (kernel, padding) =
        if whole { ([2, 2], Padding::Sides([0, 1, 1, 0])) } else { (problem.kernel, problem.padding) };
    let channels = if whole { 64 } else { problem.channels };
    let k = channels * kernel[0] * kernel[1];
    let order = if format.order > 0 { k.div_ceil(format.group as usize) as u32 } else { 0 };
    Problem { format: Some(Format { order, ..format }), channels, kernel, padding, ..problem }
}

/// Bias, residual and snake.
pub fn with_snake(problem: Problem) -> Problem {
    Problem { snake: Some(2), ..whole(problem, Activation::None) }
}

/// The options of an activation: `snake`, where there is an alpha.
fn activation(
    options: &mut Options,
    activation: &mut Activation,
    slope: &mut f32,
    snake: &mut Option<usize>,
) -> Result<(), Fault> {
    match snake {
        Some(at) => {
            options.word("activation", &mut (), &[("snake", ())])?;
            options.value("alpha_offset", at)
        }
        None => {
            options.word("activation", activation, &words(Activation::ALL, Activation::name))?;
            options.value("slope", slope)
        }
    }
}

/// Whole numbers from -3 to 3: their sums are exact.
fn integers<P: tileloom::Op>(entry: &mut Entry<P>, seed: u64) {
    entry.exact().set(move |_, values| {
        let mut random = Random::new(seed);
        values.values_mut().flatten().for_each(|value| *value = random.below(7) as f64 - 3.0);
    });
}

/// What has no part is NaN or infinite: taps that the mask leaves out.
fn hidden_taps(entry: &mut Entry<Problem>) {
    entry.set(|problem, values| {
        let (taps, all) = (problem.taps(), problem.kernel[0] * problem.kernel[1]);
        let weights = values.get_mut("weight").into_iter().flatten().enumerate();
        weights.filter(|(i, _)| i % all >= taps).for_each(|(i, v)| *v = [f64::NAN, f64::INFINITY][i % 2]);
    });
}

/// The first element of x is infinite, and nothing that does not see it.
fn infinite(entry: &mut Entry<Problem>) {
    entry.exact().set(|_, values| {
        for all in values.values_mut() {
            (0..all.len()).for_each(|i| all[i] = [1.0, 2.0, 3.0, 1.0, 2.0][i % 5]);
        }
        values.get_mut("x").into_iter().for_each(|x| x[0] = f64::INFINITY);
    });
}

/// Those of the gradient of weights, and of transposed convolutions.
const WITHOUT_MATRICES: [Algorithm; 3] = [Algorithm::Direct, Algorithm::Tiled, Algorithm::Depthwise];

/// These algorithms, f16 held both ways.
fn shipped(algorithms: &[Algorithm]) -> Vec<String> {
    let algorithms = algorithms.iter().map(|algorithm| format!("algorithm={}", algorithm.name()));
    algorithms.chain(["native_f16=true".into(), "native_f16=false".into()]).collect()
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    const OPS: &'static [&'static str] = &["conv2d", "conv1d"];

    fn list(list: &mut List<Problem>) {
        everywhere(list);
        wide(list);
        coop(list);
        strips(list);
        benches(list);
        composed(list);
    }

    fn op(&self) -> &'static str {
        "conv2d"
    }

    fn cost(&self) -> Cost {
        Cost::of(self.flops(), &self.args())
    }

    fn shared() -> &'static [&'static str] {
        &["weight", "codes", "scales", "bias", "alpha"]
    }

    fn shipped() -> Vec<String> {
        shipped(Algorithm::ALL)
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        geometry(self, options, "conv1d")?;
        activation(options, &mut self.activation, &mut self.slope, &mut self.snake)?;
        options.value("out_dtype", &mut self.y)?;
        options.value("y_layout", &mut self.y_layout)?;
        if let Some(bias) = &mut self.bias {
            options.value("bias_offset", &mut bias.offset)?;
        }
        self.residual.as_mut().map_or(Ok(()), |residual| options.value("residual_layout", &mut residual.layout))
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let dims = if reader.op() == "conv1d" { 1 } else { 2 };
        let expected = if dims == 1 { "[n, c, w]" } else { "[n, c, h, w]" };
        let (x, x_dtype) = reader.values("x", expected)?;
        if weights::given(reader) {
            return read_packed(reader, dims, x, x_dtype);
        }
        let (weight, weight_dtype) = reader.values("weight", "[o, c / groups, (kh,) kw]")?;
        let mut problem = Problem { x: x_dtype, weight: weight_dtype, y: x_dtype, ..Problem::default() };
        problem.bias = bias_given(reader)?;
        problem.snake = reader.optional("alpha").map(|_| 0);
        if let Some(residual) = reader.optional("residual") {
            problem.residual = Some(Residual::of(case::float("residual", residual)?));
        }
        problem.options(&mut Options::Read(reader))?;
        let [batch, channels, height, width] = axes("x", x, dims, problem.order)?;
        (problem.batch, problem.channels, problem.size) = (batch, channels, [height, width]);
        let [o, i, h, w] = weight_axes(weight, dims, problem.weight_order)?;
        (problem.outputs, problem.kernel) = (o, [h, w]);
        check_read(&problem, i, weight)?;
        affordable(reader, &problem.args())?;
        let mut values = Values::new();
        for arg in problem.args().iter().filter(|arg| arg.access == Access::Read) {
            let tensor = reader.tensor(arg.name, "")?;
            if tensor.shape.iter().product::<usize>() != arg.view.len() {
                return Err(case::bad_shape(arg.name, tensor, format!("{:?}", shown(&problem, arg, dims))));
            }
            values.insert(arg.name, tensor.numbers().unwrap_or_default());
        }
        let args = problem.args();
        let y = args.iter().find(|arg| arg.name == "y").expect("an output");
        let outputs = vec![Shown::new("y", shown(&problem, y, dims))];
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        shown(self, arg, 2)
    }

    /// Packed weights as a checkpoint has them.
    fn write(&self, values: &Values) -> Case {
        let args = self.args();
        let packed = |name| self.format.is_some() && ["codes", "scales"].contains(&name);
        let inputs = args.iter().filter(|arg| arg.access != Access::Write && !packed(arg.name));
        let case = inputs.fold(self.header(), |case, arg| case.tensor(arg.name, self.tensor(arg, &values[arg.name])));
        match self.packed_matrix() {
            None => case,
            Some((format, n, k)) => {
                let case = case.option("kernel", Pair(self.kernel).text());
                weights::write(case, &weights::packed(format, n, k, &values["codes"], &values["scales"]))
            }
        }
    }
}

/// A case whose weights are packed.
fn read_packed(reader: &mut Reader, dims: usize, x: &case::Tensor, x_dtype: Dtype) -> Result<Given<Problem>, Fault> {
    let Packed { format, n, k, codes, scales } = weights::read(reader, None)?;
    let mut problem = Problem { x: x_dtype, y: x_dtype, format: Some(format), outputs: n, ..Problem::default() };
    problem.bias = bias_given(reader)?;
    problem.snake = reader.optional("alpha").map(|_| 0);
    if let Some(residual) = reader.optional("residual") {
        problem.residual = Some(Residual::of(case::float("residual", residual)?));
    }
    problem.options(&mut Options::Read(reader))?;
    let [batch, channels, height, width] = axes("x", x, dims, problem.order)?;
    (problem.batch, problem.channels, problem.size) = (batch, channels, [height, width]);
    let kernel = reader.option("kernel", Pair([1, 1]))?;
    problem.kernel = if dims == 1 { [1, kernel.0[1]] } else { kernel.0 };
    let taps = problem.kernel[0].saturating_mul(problem.kernel[1]);
    let own = taps.checked_mul(problem.channels / problem.groups.max(1));
    if taps == 0 || own != Some(k) {
        return Err(
            kernel.refused("kernel", &format!("taps of weights of {k} columns, of {channels} channels in groups"))
        );
    }
    let tensor = case::Tensor { dtype: x.dtype, shape: vec![n, k], data: Vec::new() };
    check_read(&problem, channels / problem.groups, &tensor)?;
    affordable(reader, &problem.args())?;
    let mut values = Values::from([("codes", weights::numbers(&codes)), ("scales", weights::numbers(&scales))]);
    let args = problem.args();
    for arg in args.iter().filter(|arg| arg.access == Access::Read && !["codes", "scales"].contains(&arg.name)) {
        let tensor = reader.tensor(arg.name, "")?;
        let want = shown(&problem, arg, dims);
        if tensor.shape != want {
            return Err(case::bad_shape(arg.name, tensor, format!("{want:?}")));
        }
        values.insert(arg.name, tensor.numbers().unwrap_or_default());
    }
    let y = args.iter().find(|arg| arg.name == "y").expect("an output");
    let outputs = vec![Shown::new("y", shown(&problem, y, dims))];
    Ok(Given { problem, values, outputs, known: Values::new() })
}

/// What options tell of where taps lie, of x and of the weights.
fn geometry(problem: &mut Problem, options: &mut Options, one: &str) -> Result<(), Fault> {
    for (name, pair) in
        [("stride", &mut problem.stride), ("dilation", &mut problem.dilation), ("upsample", &mut problem.upsample)]
    {
        let mut value = Pair(*pair);
        options.value(name, &mut value)?;
        *pair = value.0;
    }
    let mut padding = Sides(match problem.padding {
        Padding::Same => None,
        Padding::Sides(sides) => Some(sides.into()),
    });
    options.value("padding", &mut padding)?;
    problem.padding = padding.of(options.op_is(one))?;
    options.value("groups", &mut problem.groups)?;
    options.word("layout", &mut problem.order, &words(Order::ALL, Order::name))?;
    options.word("padding_mode", &mut problem.border, &words(Border::ALL, Border::name))?;
    options.word("mask", &mut problem.mask, &words(TapMask::ALL, TapMask::name))?;
    options.word("weight_order", &mut problem.weight_order, &words(WeightOrder::ALL, WeightOrder::name))?;
    options.value("x_layout", &mut problem.x_layout)?;
    options.value("weight_layout", &mut problem.weight_layout)
}

/// Refuses sizes that would be divided by, of weights for `own` channels of a group.
fn check_read(problem: &Problem, own: usize, weight: &case::Tensor) -> Result<(), Fault> {
    let Problem { channels, outputs, groups, .. } = *problem;
    if groups == 0 || own.checked_mul(groups) != Some(channels) || outputs % groups != 0 {
        return Err(case::bad_shape(
            "weight",
            weight,
            format!("{channels} / {groups} channels, a multiple of {groups} outputs"),
        ));
    }
    for (name, pair) in [("stride", problem.stride), ("dilation", problem.dilation), ("upsample", problem.upsample)] {
        if pair.contains(&0) {
            return Err(Pair(pair).refused(name, "at least 1"));
        }
    }
    if problem.kernel.contains(&0) {
        return Err(case::bad_shape("weight", weight, "a kernel with taps"));
    }
    Ok(())
}

/// The shape of an argument in a case file.
fn shown(problem: &Problem, arg: &Arg, dims: usize) -> Vec<usize> {
    shown_axes(arg, dims, problem.weight_order, problem.order)
}

/// The same, in these orders of axes.
fn shown_axes(arg: &Arg, dims: usize, weight_order: WeightOrder, order: Order) -> Vec<usize> {
    if ["alpha", "bias", "dbias"].contains(&arg.name) {
        return vec![arg.view.cols];
    }
    let mut shape = [&arg.view.sizes[..], &[arg.view.cols]].concat();
    let height = match (arg.name, weight_order, order) {
        ("weight" | "dweight", order, _) => height_of(order),
        (_, _, Nhwc) => 1,
        (_, _, Nchw) => 2,
    };
    if dims == 1 {
        shape.remove(height);
    }
    shape
}

/// Which axis of the weights is their height.
fn height_of(order: WeightOrder) -> usize {
    match order {
        WeightOrder::Oihw => 2,
        WeightOrder::Ohwi => 1,
        WeightOrder::Hwio => 0,
    }
}

/// The axes of a tensor as of two dimensions: one has a height of 1, at axis `height`.
fn four(name: &'static str, tensor: &case::Tensor, dims: usize, height: usize) -> Result<[usize; 4], Fault> {
    let mut shape = tensor.shape.clone();
    if shape.len() != dims + 2 {
        return Err(case::bad_shape(name, tensor, format!("{} axes", dims + 2)));
    }
    if dims == 1 {
        shape.insert(height, 1);
    }
    Ok([0, 1, 2, 3].map(|axis| shape[axis]))
}

/// Pictures, channels, height and width.
fn axes(name: &'static str, tensor: &case::Tensor, dims: usize, order: Order) -> Result<[usize; 4], Fault> {
    Ok(match order {
        Nchw => four(name, tensor, dims, 2)?,
        Nhwc => {
            let [n, h, w, c] = four(name, tensor, dims, 1)?;
            [n, c, h, w]
        }
    })
}

/// Outputs, channels of a group, height and width of the weights.
fn weight_axes(weight: &case::Tensor, dims: usize, order: WeightOrder) -> Result<[usize; 4], Fault> {
    let [a, b, c, d] = four("weight", weight, dims, height_of(order))?;
    Ok(match order {
        WeightOrder::Oihw => [a, b, c, d],
        WeightOrder::Ohwi => [a, d, b, c],
        WeightOrder::Hwio => [d, c, a, b],
    })
}

/// The bias of a case.
fn bias_given(reader: &mut Reader) -> Result<Option<Bias>, Fault> {
    reader.optional("bias").map(|bias| Ok(Bias::of(case::float("bias", bias)?))).transpose()
}

fn words<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<(&'static str, T)> {
    all.iter().map(|&one| (name(one), one)).collect()
}

/// A number for both axes, or one each.
#[derive(Clone)]
struct Pair([usize; 2]);

impl OptionValue for Pair {
    const EXPECTED: &'static str = "a number, or one for each axis";
    fn parse(text: &str) -> Option<Pair> {
        match Vec::<usize>::parse(text)?[..] {
            [both] => Some(Pair([both; 2])),
            [y, x] => Some(Pair([y, x])),
            _ => None,
        }
    }
    fn text(&self) -> String {
        self.0.text()
    }
}

impl Pair {
    fn refused(&self, name: &'static str, expected: &str) -> Fault {
        Fault::BadOption { name, value: self.text(), expected: expected.into() }
    }
}

/// Padding: `same`, a number, one for each axis or each side.
#[derive(Clone)]
struct Sides(Option<Vec<usize>>);

impl OptionValue for Sides {
    const EXPECTED: &'static str = "same, a number, one for each axis, or one for each side";
    fn parse(text: &str) -> Option<Sides> {
        if text == "same" { Some(Sides(None)) } else { Vec::parse(text).map(|sides| Sides(Some(sides))) }
    }
    fn text(&self) -> String {
        self.0.as_ref().map_or("same".into(), Vec::text)
    }
}

impl Sides {
    /// Padding; of one dimension, of left and right.
    fn of(&self, one: bool) -> Result<Padding, Fault> {
        if self.0.is_none() { Ok(Padding::Same) } else { self.cut(one).map(Padding::Sides) }
    }

    /// Of each side.
    fn cut(&self, one: bool) -> Result<[usize; 4], Fault> {
        Ok(match (self.0.as_deref().unwrap_or_default(), one) {
            (&[top, bottom, left, right], _) => [top, bottom, left, right],
            (&[all], false) => [all; 4],
            (&[y, x], false) => [y, y, x, x],
            (&[all], true) => [0, 0, all, all],
            (&[left, right], true) => [0, 0, left, right],
            _ => {
                let (value, expected) = (self.text(), Sides::EXPECTED.into());
                return Err(Fault::BadOption { name: "padding", value, expected });
            }
        })
    }
}

/// Problems that share the few pipelines of [`DIRECT`] and [`TILED`].
fn everywhere(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        for (channels, outputs, size, kernel) in [(1, 1, 1, 1), (3, 5, 7, 3), (5, 33, 6, 1), (7, 3, 5, 5)] {
            integers(list.narrow("sizes", shape(channels, outputs, size, kernel, order)).config(DIRECT), 1);
        }
        for (channels, outputs, size, kernel) in [(4, 32, 5, 3), (8, 36, 8, 3)] {
            integers(list.narrow("channels by fours", shape(channels, outputs, size, kernel, order)).config(DIRECT), 2);
        }
        let first = shape(3, 5, 9, 3, order);
        for (name, problem) in [
            ("stride, dilation, sides", Problem { stride: [2, 3], padding: Padding::Sides([0, 2, 3, 1]), ..first }),
            ("stride, dilation, sides", Problem { dilation: [3, 2], padding: Padding::Sides([5, 0, 0, 4]), ..first }),
            ("same", Problem { padding: Padding::Same, stride: [2, 2], kernel: [4, 3], ..first }),
            ("same", Problem { padding: Padding::Same, kernel: [2, 5], ..first }),
            ("k x 1 and 1 x k", Problem { kernel: [5, 1], padding: Padding::Sides([2, 2, 0, 0]), ..first }),
            ("k x 1 and 1 x k", Problem { kernel: [1, 7], padding: Padding::Sides([0, 0, 3, 3]), ..first }),
            ("batches", Problem { batch: 3, size: [5, 3], ..first }),
            ("padding alone", Problem { size: [1, 1], padding: Padding::Sides([4, 4, 4, 4]), ..first }),
            ("one dimension, causal", Problem { padding: Padding::Sides([0, 0, 6, 0]), ..line(3, 4, 19, 7, order) }),
        ] {
            integers(list.narrow(name, problem).config(DIRECT), 3);
        }
        for border in [Border::Reflect, Border::Replicate, Border::Zero] {
            let upsample = if border == Border::Replicate { [1, 1] } else { [2, 3] };
            let problem = Problem { border, upsample, padding: Padding::Sides([2, 1, 3, 4]), ..first };
            integers(list.narrow("borders, enlarged", problem).config(DIRECT), 4);
        }
        for groups in [2, 6] {
            let problem = Problem { groups, channels: 12, outputs: 18, ..first };
            integers(list.narrow("groups", problem).config(DIRECT), 5);
        }
        for (channels, multiplier) in [(9, 1), (8, 1), (5, 3)] {
            let problem = depthwise(channels, 7, 3, order);
            integers(list.narrow("depthwise", Problem { outputs: channels * multiplier, ..problem }), 6);
        }
        for mask in [TapMask::A, TapMask::B] {
            hidden_taps(list.narrow("masks of PixelCNN", Problem { mask, ..first }).config(DIRECT));
        }
        infinite(list.narrow("an infinity", first).config(DIRECT));
        for (m, n, size) in [(4, 32, 8), (16, 33, 6), (5, 7, 9)] {
            integers(list.narrow("tiled", shape(m, n, size, 3, order)).config(TILED), 7);
        }
        list.narrow("as it is chosen", Problem { batch: 2, ..shape(12, 40, 11, 3, order) }).seed(8);
    }
    for &activation in Activation::ALL {
        list.narrow("every activation", whole(shape(3, 8, 6, 3, Nhwc), activation)).seed(9).config(DIRECT);
    }
    for problem in [shape(3, 8, 6, 3, Nhwc), shape(3, 5, 5, 3, Nchw), line(6, 5, 31, 7, Nchw)] {
        list.narrow("snake", with_snake(problem)).seed(9).config(DIRECT);
        list.narrow("snake", with_snake(Problem { groups: 3, channels: 6, outputs: 9, ..problem }))
            .seed(9)
            .config(DIRECT);
    }
    list.narrow("snake", with_snake(depthwise(9, 7, 3, Nchw))).seed(10);
    for (_, format) in FORMATS {
        list.narrow("packed weights", coded(format, shape(64, 13, 5, 3, Nchw))).config(DIRECT).seed(11);
    }
    let ohwi = Problem { weight_order: WeightOrder::Ohwi, ..coded(Format::Q8_0, shape(32, 13, 5, 3, Nhwc)) };
    list.narrow("packed weights", ohwi).config(DIRECT).seed(11);
    list.narrow("packed weights", Problem { groups: 2, ..coded(Format::Q4_0, shape(64, 12, 5, 3, Nchw)) })
        .config(DIRECT);
    let last = whole(shape(3, 8, 6, 3, Nhwc), Activation::Relu);
    list.narrow("the residual in place", last)
        .seed(10)
        .config(DIRECT)
        .memory(&[&["residual", "y"]])
        .says(&["writable [4]"]);
    list.narrow("the residual in place", whole(shape(3, 5, 5, 3, Nchw), Activation::Silu))
        .seed(10)
        .config(DIRECT)
        .memory(&[&["residual", "y"]]);
    list.narrow("one arena", last).seed(11).config(DIRECT).arena();
    for (order, size) in [(Nchw, 5), (Nhwc, 5)] {
        let packed = of(shape(4, 5, size, 3, order), [F16, Bf16, F16]);
        list.narrow("f16, neighbours that share words", packed).seed(12).config(DIRECT);
    }
    let empty = Problem { size: [2, 2], padding: Padding::Sides([0; 4]), ..shape(3, 4, 2, 3, Nchw) };
    list.narrow("windows that do not fit: nothing", empty);
    list.narrow("the same bits twice", shape(8, 36, 9, 3, Nhwc)).seed(13).config(DIRECT).twice();
}

/// Layouts, dtypes, forms with pipelines of their own.
fn wide(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        let first = Problem { batch: 2, ..shape(8, 12, 8, 3, order) };
        for weight_order in [WeightOrder::Ohwi, WeightOrder::Hwio] {
            integers(list.wide("orders of weights", Problem { weight_order, ..first }).config(DIRECT), 1);
        }
        let channels_last = order == Nhwc;
        let strided = |pad: usize, channels: usize| {
            let (outer, inner) = if channels_last { (8, channels + pad) } else { (channels, 8 + pad) };
            Layout::strided(pad, [outer * 8 * inner + pad, 8 * inner, inner])
        };
        for pad in [4, 3] {
            let residual = Some(Residual { dtype: Bf16, layout: strided(pad, 12) });
            let (x_layout, y_layout) = (strided(pad, 8), strided(pad, 12));
            let weight_layout = Layout::strided(pad, [8 * 9 + pad, 9 + pad % 2, 3]);
            let problem = Problem { x_layout, y_layout, weight_layout, residual, ..first };
            for config in [DIRECT, TILED] {
                list.wide("strides and offsets", problem).seed(2).config(config);
            }
        }
        for (dtypes, bias) in [([F16; 3], F16), ([Bf16; 3], Bf16), ([F16, F16, F32], F32), ([F32, Bf16, F16], F16)] {
            for size in [8, 7] {
                let problem = Problem { bias: Some(Bias::of(bias)), ..of(shape(8, 12, size, 3, order), dtypes) };
                list.wide("dtypes", problem).seed(3).config(DIRECT);
                list.wide("dtypes", Problem { channels: 3, outputs: 5, ..problem }).seed(3).config(TILED);
            }
        }
        let halves = of(shape(8, 68, 9, 3, order), [F16; 3]);
        for problem in [Problem { batch: 2, ..shape(8, 68, 9, 3, order) }, Problem { channels: 3, ..halves }] {
            list.wide("every candidate", problem).seed(4).every_candidate().twice();
        }
        let mapped = Problem { border: Border::Reflect, upsample: [2, 2], ..shape(8, 36, 5, 3, order) };
        list.wide("as it is chosen", whole(mapped, Activation::Gelu)).seed(5);
        list.wide("as it is chosen", Problem { groups: 4, ..shape(16, 16, 9, 3, order) }).seed(6);
        list.wide("as it is chosen", depthwise(20, 9, 5, order)).seed(6);
        for size in [14, 16] {
            let stride = [size; 2];
            let patches = Problem { stride, padding: Padding::Sides([0; 4]), ..shape(3, 20, 2 * size, size, order) };
            list.wide("a patch embedding", whole(patches, Activation::None)).seed(7);
        }
        for (tile, thread) in TILES {
            let problem = Problem { batch: 2, ..shape(8, 68, 9, 3, order) };
            list.wide("tiles of other adapters", problem).seed(5).config(Config { tile, thread, ..TILED });
        }
        list.wide("checked modules give the same", first).seed(7).checked();
        list.wide("snake, tiled", with_snake(shape(8, 36, 8, 3, order))).seed(9).config(TILED);
    }
    list.wide("no channels", Problem { bias: Some(Bias::of(F32)), ..shape(0, 3, 4, 3, Nchw) }).seed(9);
    list.wide("an empty picture in padding", Problem { bias: Some(Bias::of(F32)), ..shape(2, 3, 0, 3, Nhwc) }).seed(9);
}

/// By cooperative matrices, where there are some.
fn coop(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        let halves = |problem| of(problem, [F16; 3]);
        let name = format!("matrices, {}", order.name());
        let wide = |list: &mut List<Problem>, seed, problem| {
            list.wide(name.clone(), problem).seed(seed).candidate(COOP);
        };
        for (seed, channels, outputs, size, kernel) in
            [(1, 8, 12, 9, 3), (2, 3, 5, 7, 3), (3, 20, 40, 8, 1), (4, 1, 1, 1, 1), (5, 4, 68, 5, 5)]
        {
            wide(list, seed, Problem { batch: 2, ..halves(shape(channels, outputs, size, kernel, order)) });
        }
        let first = halves(shape(8, 36, 9, 3, order));
        wide(list, 6, Problem { stride: [2, 1], dilation: [1, 2], groups: 2, ..first });
        let mapped = Problem { border: Border::Reflect, upsample: [2, 2], size: [5, 4], ..first };
        wide(list, 7, whole(Problem { y: F32, ..mapped }, Activation::Gelu));
        wide(list, 8, halves(line(6, 10, 33, 5, order)));
        let eights = Problem { groups: 2, mask: TapMask::B, ..halves(shape(16, 36, 9, 3, order)) };
        wide(list, 11, with_snake(eights));
        integers(list.wide(name.clone(), Problem { y: F32, ..first }).candidate(COOP), 9);
        list.wide(name.clone(), Problem { batch: 2, ..first }).seed(10).candidate(COOP).twice();
    }
    // A step of k is one tap where it divides the channels of a group: 16 by matrices of 8, 32 by those of 16.
    let halves = |problem| of(problem, [F16; 3]);
    for (seed, channels, groups) in [(12, 32, 1), (13, 96, 1), (14, 64, 2), (15, 24, 1), (16, 40, 1), (17, 16, 1)] {
        let first = Problem { groups, ..halves(shape(channels, 36, 9, 3, Nhwc)) };
        list.wide("matrices, steps of one tap", Problem { batch: 2, ..first }).seed(seed).candidate(COOP);
    }
    let first = halves(shape(32, 36, 7, 3, Nhwc));
    let at = |pad: usize| Layout::strided(pad, [7 * 7 * (32 + pad) + pad, 7 * (32 + pad), 32 + pad]);
    for (seed, problem) in [
        (18, Problem { stride: [2, 1], dilation: [1, 2], x_layout: at(8), ..first }),
        (19, Problem { border: Border::Reflect, upsample: [2, 3], ..first }),
        (20, Problem { border: Border::Replicate, padding: Padding::Sides([3, 0, 1, 4]), ..first }),
        (21, with_snake(Problem { mask: TapMask::B, outputs: 68, ..first })),
        (22, Problem { mask: TapMask::A, kernel: [1, 1], padding: Padding::Sides([0; 4]), ..first }),
        (23, Problem { x_layout: at(4), ..first }),
    ] {
        list.wide("matrices, steps of one tap", problem).seed(seed).candidate(COOP);
    }
}

const COOP: &str = "algorithm=coop";

/// Depthwise by blocks of pixels.
fn strips(list: &mut List<Problem>) {
    let sides = Padding::Sides;
    for order in [Nchw, Nhwc] {
        let first = depthwise(8, 9, 3, order);
        for (seed, problem) in [
            (1, first),
            (2, Problem { stride: [2, 2], batch: 2, ..first }),
            (3, Problem { stride: [1, 2], padding: sides([0, 3, 2, 0]), ..depthwise(12, 11, 5, order) }),
        ] {
            integers(list.narrow("strips", problem).candidate(STRIPS), seed);
        }
        for (seed, problem) in [
            (4, Problem { kernel: [1, 4], padding: sides([0, 0, 3, 0]), size: [1, 37], ..first }),
            (5, Problem { kernel: [9, 1], padding: sides([4, 4, 0, 0]), size: [5, 3], ..first }),
            (6, depthwise(20, 13, 7, order)),
            (7, Problem { size: [2, 70], ..first }),
            (8, Problem { size: [64, 3], padding: sides([0; 4]), ..first }),
            (9, Problem { kernel: [2, 2], padding: sides([0; 4]), stride: [2, 1], ..first }),
            (10, Problem { batch: 3, size: [1, 1], ..first }),
            (11, Problem { padding: sides([7, 0, 0, 6]), ..first }),
        ] {
            list.wide("strips", problem).seed(seed).candidate(STRIPS);
            list.wide("strips", whole(problem, Activation::Silu)).seed(seed).candidate(STRIPS);
        }
        for dtypes in [[F16; 3], [Bf16; 3], [F16, F32, Bf16], [F32, F16, F16]] {
            for size in [8, 7] {
                let problem = of(Problem { size: [5, size], batch: 2, ..first }, dtypes);
                list.wide("strips", with_snake(problem)).seed(12).candidate(STRIPS);
            }
        }
        list.wide("strips", depthwise(68, 17, 3, order)).seed(13).every_candidate().twice();
        // Places side by side, as on GPUs.
        let channels = if order == Nhwc { 4 } else { 1 };
        for [blocks, places, lines, pixels] in [[8, 8, 2, 4], [8, 8, 1, 4], [64, 1, 4, 4], [3, 5, 4, 8]] {
            let (tile, thread) = ([blocks * lines * pixels, places * channels, pixels], [lines * pixels, channels]);
            let config = Config { algorithm: Algorithm::Strips, tile, thread, ..DIRECT };
            for stride in [[1, 1], [2, 2]] {
                let problem = whole(Problem { stride, batch: 2, ..depthwise(68, 17, 3, order) }, Activation::Silu);
                list.narrow("strips, tiles of other adapters", problem).seed(17).config(config);
            }
        }
        list.wide("checked modules give the same", first).seed(14).candidate(STRIPS).checked();
    }
    let twice = Problem { outputs: 15, ..depthwise(5, 7, 3, Nchw) };
    list.wide("strips", twice).seed(15).candidate(STRIPS);
    let strided = |channels: usize| Layout::strided(5, [channels * 7 * 9 + 1, 7 * 9, 9]);
    list.wide("strips", Problem { x_layout: strided(5), y_layout: strided(15), ..twice }).seed(16).candidate(STRIPS);
}

const STRIPS: &str = "algorithm=strips";

fn benches(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        let name = order.name();
        let entry = list.bench(format!("3 x 3, 64 to 64 at 64 x 64, {name}"), shape(64, 64, 64, 3, order));
        if order == Nhwc {
            entry.quick();
        }
        let halves = of(shape(64, 64, 64, 3, order), [F16; 3]);
        list.bench(format!("3 x 3, 64 to 64 at 64 x 64, f16, {name}"), halves);
        list.bench(format!("depthwise 7 x 7, 96 at 56 x 56, {name}"), depthwise(96, 56, 7, order));
        list.bench(format!("depthwise 3 x 3, 144 at 56 x 56, {name}"), depthwise(144, 56, 3, order));
        let by_two = Problem { stride: [2, 2], ..depthwise(96, 112, 3, order) };
        list.bench(format!("depthwise 3 x 3 by 2, 96 at 112 x 112, {name}"), by_two);
        let stem = Problem { stride: [2, 2], ..shape(3, 64, 224, 7, order) };
        if order == Nchw {
            let codec = with_snake(line(96, 96, 4096, 7, order));
            list.bench("1 x 7, 96 to 96 at 4096, bias, residual, snake", codec);
            list.bench("1 x 7, 96 to 96 at 4096, bias, residual", Problem { snake: None, ..codec });
        }
        list.bench(format!("7 x 7 by 2, 3 to 64 at 224 x 224, {name}"), stem);
        let large = shape(256, 256, 128, 3, order);
        list.large(format!("3 x 3, 256 to 256 at 128 x 128, {name}"), large);
        list.large(format!("3 x 3, 256 to 256 at 128 x 128, f16, {name}"), of(large, [F16; 3]));
        for own in models::convolutions() {
            let (padding, size) = (Padding::Sides([own.kernel / 2 * usize::from(own.stride == 1); 4]), [own.size; 2]);
            let first = shape(own.channels, own.outputs, own.size, own.kernel, order);
            let problem = Problem { batch: own.batch, size, padding, upsample: [own.upsample; 2], ..first };
            let problem = of(Problem { stride: [own.stride; 2], ..problem }, [own.dtype; 3]);
            list.model(format!("{} {}, {name}", own.name, own.dtype), problem);
        }
    }
    list.beside("3 x 3, 64 to 64 at 32 x 32, nchw", shape(64, 64, 32, 3, Nchw));
    for n in [8, 16, 32, 64, 128, 256] {
        list.sweep("3 x 3, 64 to 64 at n x n, nhwc", n, shape(64, 64, n, 3, Nhwc));
    }
}

fn composed(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        for dtype in Dtype::ALL {
            for (channels, outputs) in [(3, 5), (64, 64)] {
                let first = of(shape(channels, outputs, 32, 3, order), [dtype; 3]);
                list.compose(first);
                list.compose(whole(Problem { border: Border::Replicate, ..first }, Activation::Silu));
                list.compose(with_snake(first));
                list.compose(Problem { format: Some(Format::Q4_0), ..first });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Case, Tensor};

    #[test]
    fn faults_name_what_is_wrong() {
        let fault = crate::kernel::fault::<Problem>;
        let zeros = |shape: &[usize]| Tensor::values(F32, shape, &vec![0.0; shape.iter().product()]);
        let case = |op| Case::new(op).tensor("x", zeros(&[2, 3, 5, 5])).tensor("weight", zeros(&[4, 3, 3, 3]));
        assert_eq!(fault(&case("conv2d")), "understood");
        assert!(fault(&case("conv1d")).contains("expected 3 axes"));
        assert!(fault(&case("conv2d").option("padding", "1,2,3")).contains("one for each side"));
        assert_eq!(fault(&case("conv2d").option("padding", "same").option("stride", "2,1")), "understood");
        assert!(fault(&case("conv2d").option("stride", "0")).contains("at least 1"));
        assert!(fault(&case("conv2d").option("groups", 3)).contains("3 / 3 channels"));
        assert!(fault(&case("conv2d").option("layout", "nhwc")).contains("5 / 1 channels"));
        let one = || Case::new("conv1d").tensor("x", zeros(&[2, 5, 3])).tensor("weight", zeros(&[4, 3, 3]));
        assert_eq!(fault(&one().option("layout", "nhwc").option("padding", "2,0")), "understood");
        assert!(fault(&one().option("layout", "nhwc").tensor("bias", zeros(&[5]))).contains("expected [4]"));
    }
}
