//! Max pooling, described.

use tileloom::conv::Order;
use tileloom::max_pool::{Config, Problem};
use tileloom::verify::Describe;
use tileloom::verify::conv::max_pool::loud;
use tileloom::{Dtype, Layout};

use super::{Pair, Sides, axes, shown_axes, words};
use crate::case::{Fault, OptionValue, Options, Reader, Shown};
use crate::kernel::{Access, Arg, Cost, Given, List, Listed, Values, affordable};

use Dtype::{Bf16, F16, F32};
use Order::{Nchw, Nhwc};

/// Needs no feature.
pub const PLAIN: Config = Config { wg_size: 8, planes: 3, native_f16: false };

/// Of f32, with indices: square windows, padded by half of what they overlap.
pub fn shape(channels: usize, size: [usize; 2], kernel: usize, stride: usize, order: Order) -> Problem {
    let padding = [kernel.saturating_sub(stride) / 2; 4];
    let (kernel, stride, indices) = ([kernel; 2], [stride; 2], Some(Layout::default()));
    Problem { channels, size, kernel, stride, padding, order, indices, ..Problem::default() }
}

/// Problems of windows of every kind, that share few pipelines.
pub(super) fn windows(order: Order) -> Vec<(&'static str, Problem)> {
    let first = Problem { batch: 2, ..shape(5, [9, 7], 3, 2, order) };
    let line = Problem { kernel: [1, 3], stride: [1, 2], padding: [0, 0, 1, 0], ..shape(5, [1, 11], 1, 1, order) };
    vec![
        ("windows", first),
        ("windows", shape(3, [1, 1], 1, 1, order)),
        ("windows", shape(6, [8, 8], 2, 2, order)),
        ("windows", shape(4, [7, 9], 5, 1, order)),
        ("windows", Problem { kernel: [2, 3], stride: [1, 4], padding: [1, 0, 0, 1], ..first }),
        ("windows", Problem { kernel: [9, 7], padding: [0; 4], ..first }),
        ("dilation", Problem { dilation: [2, 3], padding: [2, 1, 3, 0], ..first }),
        ("dilation", Problem { size: [1, 2], dilation: [2, 2], padding: [2; 4], stride: [2, 1], ..first }),
        ("ceil_mode", Problem { ceil: true, padding: [0; 4], size: [8, 6], ..first }),
        ("ceil_mode", Problem { ceil: true, kernel: [2, 2], padding: [1; 4], size: [5, 6], ..first }),
        ("ceil_mode", Problem { ceil: true, kernel: [1, 1], stride: [3, 4], padding: [0; 4], size: [6, 6], ..first }),
        ("one dimension", line),
        ("one dimension", Problem { dilation: [1, 3], stride: [1, 1], ..line }),
        ("no windows", Problem { padding: [0; 4], size: [2, 7], ..first }),
    ]
}

/// Strides of y or x of these channels, height and width, with so much between.
pub(super) fn strided(order: Order, pad: usize, channels: usize, [height, width]: [usize; 2]) -> Layout<3> {
    let (first, outer, inner) =
        if order == Nhwc { (height, width, channels + pad) } else { (channels, height, width + pad) };
    Layout::strided(pad, [first * outer * inner + pad, outer * inner, inner])
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    const RUNTIME: &'static [&'static str] = &["planes"];

    fn list(list: &mut List<Problem>) {
        for order in [Nchw, Nhwc] {
            for (i, (name, problem)) in windows(order).into_iter().enumerate() {
                list.narrow(name, problem).config(PLAIN).seed(i as u64);
            }
            let first = Problem { batch: 2, ..shape(5, [9, 7], 3, 2, order) };
            list.narrow("without places", Problem { indices: None, ..first }).config(PLAIN).seed(1);
            list.narrow("NaN, infinities, equal ones", Problem { size: [13, 15], ..first }).config(PLAIN).set(loud);
            let packed = Problem { x: F16, y: F16, ..first };
            list.narrow("f16, rows that share words", packed).config(PLAIN).seed(2).set(loud);
            list.narrow("as it is chosen", shape(17, [12, 12], 2, 2, order)).seed(3);
            list.narrow("no pictures", Problem { batch: 0, ..first });
            wide(list, order);
        }
        benches(list);
    }

    /// Comparisons.
    fn cost(&self) -> Cost {
        let ([height, width], [kh, kw]) = (self.out(), self.kernel);
        let sizes = [self.batch, self.channels, height, width, kh, kw];
        Cost::of(sizes.iter().map(|&n| n as f64).product(), &self.args())
    }

    fn shipped() -> Vec<String> {
        ["native_f16=true", "native_f16=false"].map(String::from).into()
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        windows_of(self, options)?;
        options.value("out_dtype", &mut self.y)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("y_layout", &mut self.y_layout)?;
        options.value("indices_layout", &mut self.indices)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (x, x_dtype) = reader.values("x", "[n, c, (h,) w]")?;
        let dims = if x.shape.len() == 3 { 1 } else { 2 };
        let mut problem = Problem { x: x_dtype, y: x_dtype, indices: Some(Layout::default()), ..Problem::default() };
        problem.options(&mut Options::Read(reader))?;
        let [batch, channels, height, width] = axes("x", x, dims, problem.order)?;
        (problem.batch, problem.channels, problem.size) = (batch, channels, [height, width]);
        check(&mut problem, dims)?;
        affordable(reader, &problem.args())?;
        let values: Values = [("x", x.numbers().unwrap_or_default())].into();
        let args = problem.args();
        let outputs = args.iter().filter(|arg| arg.access == Access::Write);
        let outputs = outputs.map(|arg| Shown::new(arg.name, shown(&problem, arg, dims))).collect();
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        shown(self, arg, 2)
    }
}

/// The options that tell of windows.
pub(super) fn windows_of(problem: &mut Problem, options: &mut Options) -> Result<(), Fault> {
    for (name, pair) in
        [("kernel", &mut problem.kernel), ("stride", &mut problem.stride), ("dilation", &mut problem.dilation)]
    {
        let mut value = Pair(*pair);
        options.value(name, &mut value)?;
        *pair = value.0;
    }
    let mut sides = Sides(Some(problem.padding.into()));
    options.value("padding", &mut sides)?;
    problem.padding = match sides.0.as_deref() {
        Some(&[y, x]) => [y, y, x, x],
        _ => sides.cut(false)?,
    };
    options.value("ceil_mode", &mut problem.ceil)?;
    options.word("layout", &mut problem.order, &words(Order::ALL, Order::name))
}

/// Refuses windows that are none; in one dimension there is no height.
pub(super) fn check(problem: &mut Problem, dims: usize) -> Result<(), Fault> {
    if dims == 1 {
        (problem.kernel[0], problem.stride[0], problem.dilation[0]) = (1, 1, 1);
        problem.padding[..2].fill(0);
    }
    problem.windows_fit().map_err(|error| Fault::BadOption {
        name: "kernel",
        value: Pair(problem.kernel).text(),
        expected: error.to_string(),
    })
}

/// The shape of an argument in a case file.
pub(super) fn shown(problem: &Problem, arg: &Arg, dims: usize) -> Vec<usize> {
    shown_axes(arg, dims, Default::default(), problem.order)
}

/// Layouts, dtypes, tiles.
fn wide(list: &mut List<Problem>, order: Order) {
    for ((x, y), channels) in [((F16, F16), 8), ((Bf16, Bf16), 7), ((F32, F16), 6), ((F16, F32), 8), ((Bf16, F16), 3)] {
        let problem = Problem { batch: 3, x, y, ..shape(channels, [6, 8], 3, 2, order) };
        list.wide("dtypes", problem).seed(1).every_candidate().set(loud);
    }
    for (pad, dtype) in [(4, F32), (3, F32), (3, F16), (2, Bf16)] {
        let (x_layout, y_layout) = (strided(order, pad, 5, [6, 4]), strided(order, pad + 1, 5, [3, 2]));
        let indices = Some(strided(order, pad + 2, 5, [3, 2]));
        let problem = Problem { batch: 2, x: dtype, y: dtype, ..shape(5, [6, 4], 2, 2, order) };
        let problem = Problem { x_layout, y_layout, indices, ..problem };
        list.wide("strides and offsets", problem).seed(2).config(PLAIN);
    }
    let first = shape(8, [9, 7], 3, 1, order);
    list.wide("one arena", first).seed(3).arena();
    list.wide("checked modules give the same", first).seed(4).checked();
}

fn benches(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        let name = order.name();
        let stem = shape(64, [112, 112], 3, 2, order);
        let entry = list.bench(format!("3 x 3 by 2, 64 channels at 112, {name}"), Problem { indices: None, ..stem });
        if order == Nhwc {
            entry.quick();
        }
        list.bench(format!("3 x 3 by 2, 64 channels at 112, places, {name}"), stem);
        let halved = Problem { indices: None, ..shape(64, [224, 224], 2, 2, order) };
        list.bench(format!("2 x 2 by 2, 64 channels at 224, {name}"), halved);
        for dtype in Dtype::ALL {
            for channels in [8, 7] {
                let problem = Problem { x: dtype, y: dtype, ..shape(channels, [6, 8], 3, 2, order) };
                list.compose(problem);
                list.compose(Problem { indices: None, ..problem });
            }
        }
    }
}
