//! Resampling, described.

use tileloom::conv::Order;
use tileloom::resize::{Algorithm, Config, Coordinates, Problem, Rounding, Rule, Windows};
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use super::{Pair, Sides};
use crate::case::{self, Fault, OptionValue, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values, affordable};

use Dtype::{Bf16, F16, F32};
use Order::{Nchw, Nhwc};

/// Needs no feature.
pub const PLAIN: Config = Config { algorithm: Algorithm::Direct, wg_size: 8, planes: 3, native_f16: false };

/// Of f32.
pub fn shape(channels: usize, size: [usize; 2], out: [usize; 2], rule: Rule, order: Order) -> Problem {
    Problem { channels, size, out, rule, order, ..Problem::default() }
}

/// Dtypes of x and y.
pub fn of(problem: Problem, [x, y]: [Dtype; 2]) -> Problem {
    Problem { x, y, ..problem }
}

const NEAREST: Rule = Rule::Nearest(Rounding::Floor);
const CUBIC: Rule = Rule::Cubic(-0.75);

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    const RUNTIME: &'static [&'static str] = &["planes"];

    fn list(list: &mut List<Problem>) {
        for order in [Nchw, Nhwc] {
            let first = |rule| Problem { batch: 2, ..shape(5, [4, 7], [9, 5], rule, order) };
            for &rounding in Rounding::ALL {
                for &coordinates in Coordinates::ALL {
                    let problem = Problem { coordinates, ..first(Rule::Nearest(rounding)) };
                    list.narrow("nearest", problem).config(PLAIN).exact().seed(1);
                }
            }
            for &coordinates in Coordinates::ALL {
                for rule in [Rule::Linear, CUBIC, Rule::Cubic(-0.5)] {
                    list.narrow("filters", Problem { coordinates, ..first(rule) }).config(PLAIN).seed(2);
                }
            }
            for (rule, out) in [(Rule::Linear, [3, 16]), (CUBIC, [2, 3]), (Rule::Linear, [1, 1])] {
                let problem = Problem { antialias: true, ..shape(3, [13, 11], out, rule, order) };
                list.narrow("antialiased", problem).config(PLAIN).seed(3);
                list.narrow("antialiased", Problem { exclude_outside: true, ..problem }).config(PLAIN).seed(3);
                list.narrow("antialiased", Problem { adjoint: true, ..problem }).config(PLAIN).seed(3);
            }
            let scaled = Problem { scale: Some([2.3, 0.6]), ..shape(2, [4, 8], [9, 4], Rule::Linear, order) };
            list.narrow("coordinates by a scale", scaled).config(PLAIN).seed(4);
            for windows in [
                Windows { kernel: [2, 3], stride: [2, 1], ..Windows::default() },
                Windows { kernel: [3, 3], stride: [2, 2], padding: [1, 1, 1, 1], ceil: true, ..Windows::default() },
                Windows {
                    kernel: [4, 2],
                    stride: [3, 2],
                    padding: [1, 2, 0, 1],
                    count_padding: true,
                    ..Windows::default()
                },
                // Windows that lie in the padding give 0.
                Windows { kernel: [1, 2], stride: [1, 2], padding: [2, 0, 3, 0], ..Windows::default() },
            ] {
                let problem = Problem { order, ..Problem::average(2, 5, [7, 6], windows) };
                list.narrow("average pooling", problem).config(PLAIN).seed(5);
                list.narrow("average pooling", Problem { adjoint: true, ..problem }).config(PLAIN).seed(5);
            }
            for out in [[3, 4], [1, 1], [9, 2]] {
                let problem = shape(5, [7, 6], out, Rule::AdaptiveAverage, order);
                list.narrow("adaptive average pooling", problem).config(PLAIN).seed(6);
            }
            for rule in [NEAREST, Rule::Linear, CUBIC] {
                let problem = Problem { adjoint: true, ..first(rule) };
                list.narrow("gradients", problem).config(PLAIN).seed(7);
            }
            let two = Config { algorithm: Algorithm::Separable, ..PLAIN };
            let reduced = Problem { antialias: true, ..shape(6, [33, 40], [5, 7], CUBIC, order) };
            list.narrow("the width, then the height", reduced).config(two).seed(8);
            list.narrow("the width, then the height", Problem { adjoint: true, ..reduced }).config(two).seed(8);
            list.narrow("as it is chosen", reduced).seed(9).says(&["algorithm=separable"]);
            list.narrow("as it is chosen", shape(17, [9, 9], [18, 18], Rule::Linear, order)).seed(9);
            list.narrow("f16, rows that share words", of(first(Rule::Linear), [F16; 2])).config(PLAIN).seed(10);
            list.narrow("one place", shape(3, [1, 1], [1, 1], Rule::Linear, order)).config(PLAIN);
            list.narrow("one place, repeated", shape(3, [1, 1], [4, 3], CUBIC, order)).config(PLAIN);
            list.narrow("nothing", Problem { size: [3, 0], out: [3, 0], ..first(Rule::Linear) });
            list.narrow(
                "a gradient of nothing is 0",
                Problem { size: [3, 2], out: [0, 2], adjoint: true, ..first(NEAREST) },
            )
            .config(PLAIN);
            list.narrow("the same bits twice", first(CUBIC)).twice();
        }
        wide(list);
        benches(list);
    }

    fn cost(&self) -> Cost {
        let [_, [height, width]] = self.from_to();
        let most = |axis| self.spans(axis).unwrap_or_default().iter().map(|span| span.weights.len()).max().unwrap_or(0);
        let sizes = [2, self.batch, self.channels, height, width, most(0), most(1)];
        Cost::of(sizes.iter().map(|&n| n as f64).product(), &self.args())
    }

    fn shipped() -> Vec<String> {
        ["algorithm=direct", "algorithm=separable", "native_f16=true", "native_f16=false"].map(String::from).into()
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        fn words<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<(&'static str, T)> {
            all.iter().map(|&one| (name(one), one)).collect()
        }
        options.value("adjoint", &mut self.adjoint)?;
        self.rule = rule(self.rule, options)?;
        if !matches!(self.rule, Rule::Average(_) | Rule::AdaptiveAverage) {
            options.word("coordinates", &mut self.coordinates, &words(Coordinates::ALL, Coordinates::name))?;
            let mut scale = Scale(self.scale);
            options.value("scale", &mut scale)?;
            self.scale = scale.0;
        }
        if matches!(self.rule, Rule::Linear | Rule::Cubic(_)) {
            options.value("antialias", &mut self.antialias)?;
            options.value("exclude_outside", &mut self.exclude_outside)?;
        }
        options.word("layout", &mut self.order, &words(Order::ALL, Order::name))?;
        options.value("out_dtype", &mut self.y)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("y_layout", &mut self.y_layout)?;
        if let Options::Write(_) = options {
            options.value("size", &mut Pair(self.from_to()[1]))?;
        }
        Ok(())
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (x, x_dtype) = reader.values("x", "[n, c, h, w]")?;
        let mut problem = Problem { x: x_dtype, y: x_dtype, ..Problem::default() };
        problem.options(&mut Options::Read(reader))?;
        let &[batch, a, b, c] = &x.shape[..] else {
            return Err(case::bad_shape("x", x, "four axes"));
        };
        let (channels, from) = if problem.order == Nhwc { (c, [a, b]) } else { (a, [b, c]) };
        (problem.batch, problem.channels) = (batch, channels);
        let to = match (reader.option("size", Size(None))?.0, problem.rule, problem.scale) {
            (Some(to), ..) => to,
            (None, Rule::Average(windows), _) if !problem.adjoint => windows.out(from),
            (None, _, Some(scale)) if !problem.adjoint => [0, 1].map(|axis| (from[axis] as f64 * scale[axis]) as usize),
            _ => {
                let expected = "the height and width of the result".into();
                return Err(Fault::BadOption { name: "size", value: "nothing".into(), expected });
            }
        };
        (problem.size, problem.out) = if problem.adjoint { (to, from) } else { (from, to) };
        for axis in 0..2 {
            if let Err(error) = problem.spans(axis) {
                let (value, expected) = (Pair(to).text(), error.to_string());
                return Err(Fault::BadOption { name: "size", value, expected });
            }
        }
        affordable(reader, &problem.args())?;
        let values: Values = [("x", x.numbers().unwrap_or_default())].into();
        let (outer, inner) = problem.y_sizes();
        let outputs = vec![Shown::new("y", [&outer[..], &[inner]].concat())];
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        [&arg.view.sizes[..], &[arg.view.cols]].concat()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
    Average,
    Adaptive,
}

const MODES: [(&str, Mode); 5] = [
    ("linear", Mode::Linear),
    ("nearest", Mode::Nearest),
    ("cubic", Mode::Cubic),
    ("average", Mode::Average),
    ("adaptive_average", Mode::Adaptive),
];

/// The options that say how places come from places.
fn rule(rule: Rule, options: &mut Options) -> Result<Rule, Fault> {
    let mut mode = match rule {
        Rule::Nearest(_) => Mode::Nearest,
        Rule::Linear => Mode::Linear,
        Rule::Cubic(_) => Mode::Cubic,
        Rule::Average(_) => Mode::Average,
        Rule::AdaptiveAverage => Mode::Adaptive,
    };
    options.word("mode", &mut mode, &MODES)?;
    Ok(match mode {
        Mode::Linear => Rule::Linear,
        Mode::Adaptive => Rule::AdaptiveAverage,
        Mode::Nearest => {
            let mut rounding = if let Rule::Nearest(rounding) = rule { rounding } else { Rounding::default() };
            let all: Vec<_> = Rounding::ALL.iter().map(|&one| (one.name(), one)).collect();
            options.word("rounding", &mut rounding, &all)?;
            Rule::Nearest(rounding)
        }
        Mode::Cubic => {
            let mut a = if let Rule::Cubic(a) = rule { a } else { -0.75 };
            options.value("cubic_a", &mut a)?;
            Rule::Cubic(a)
        }
        Mode::Average => {
            let mut windows = if let Rule::Average(windows) = rule { windows } else { Windows::default() };
            for (name, pair) in [("kernel", &mut windows.kernel), ("stride", &mut windows.stride)] {
                let mut value = Pair(*pair);
                options.value(name, &mut value)?;
                *pair = value.0;
                if pair.contains(&0) {
                    return Err(Fault::BadOption { name, value: value.text(), expected: "at least 1".into() });
                }
            }
            let mut sides = Sides(Some(windows.padding.into()));
            options.value("padding", &mut sides)?;
            let padding = sides.cut(false)?;
            options.value("ceil_mode", &mut windows.ceil)?;
            options.value("count_padding", &mut windows.count_padding)?;
            Rule::Average(Windows { padding, ..windows })
        }
    })
}

/// A height and a width.
#[derive(Clone)]
struct Size(Option<[usize; 2]>);

impl OptionValue for Size {
    const EXPECTED: &'static str = Pair::EXPECTED;
    fn parse(text: &str) -> Option<Size> {
        Pair::parse(text).map(|pair| Size(Some(pair.0)))
    }
    fn text(&self) -> String {
        self.0.map_or_else(String::new, |pair| Pair(pair).text())
    }
}

/// A factor for each axis, or none.
#[derive(Clone)]
struct Scale(Option<[f64; 2]>);

impl OptionValue for Scale {
    const EXPECTED: &'static str = "none, a number, or one for each axis";
    fn parse(text: &str) -> Option<Scale> {
        if text == "none" {
            return Some(Scale(None));
        }
        let numbers: Option<Vec<f64>> = text.split(',').map(f64::parse).collect();
        match numbers?[..] {
            [both] => Some(Scale(Some([both; 2]))),
            [y, x] => Some(Scale(Some([y, x]))),
            _ => None,
        }
    }
    fn text(&self) -> String {
        self.0.map_or("none".into(), |[y, x]| format!("{y},{x}"))
    }
}

/// Layouts, dtypes, tiles.
fn wide(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        for (dtypes, channels) in [([F16; 2], 8), ([Bf16; 2], 7), ([F32, F16], 6), ([F16, F32], 8), ([Bf16, F16], 3)] {
            let problem = of(shape(channels, [6, 8], [9, 12], Rule::Linear, order), dtypes);
            list.wide("dtypes", Problem { batch: 3, ..problem }).seed(1).every_candidate();
            let reduced = Problem { antialias: true, ..of(shape(channels, [30, 31], [4, 5], CUBIC, order), dtypes) };
            list.wide("dtypes", reduced).seed(1).every_candidate();
        }
        let last = order == Nhwc;
        let strided = |pad: usize, [height, width]: [usize; 2]| {
            let (outer, inner) = if last { (width, 5 + pad) } else { (height, width + pad) };
            let first = if last { height } else { 5 };
            Layout::strided(pad, [first * outer * inner + pad, outer * inner, inner])
        };
        for (pad, dtype) in [(4, F32), (3, F32), (3, F16), (2, Bf16)] {
            let problem = of(shape(5, [6, 4], [7, 9], Rule::Linear, order), [dtype; 2]);
            let (x_layout, y_layout) = (strided(pad, [6, 4]), strided(pad + 1, [7, 9]));
            list.wide("strides and offsets", Problem { batch: 2, x_layout, y_layout, ..problem }).seed(2).config(PLAIN);
        }
        let first = shape(8, [9, 7], [5, 16], CUBIC, order);
        list.wide("one arena", first).seed(3).arena();
        let two = Config { algorithm: Algorithm::Separable, ..PLAIN };
        list.wide("one arena", Problem { antialias: true, ..first }).seed(3).config(two).arena();
        list.wide("checked modules give the same", first).seed(4).checked();
    }
}

fn benches(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        let name = order.name();
        let twice = shape(128, [64, 64], [128, 128], Rule::Linear, order);
        let entry = list.bench(format!("bilinear, 128 channels, 64 to 128, {name}"), twice);
        if order == Nhwc {
            entry.quick();
        }
        list.bench(format!("nearest, 256 channels, 32 to 64, {name}"), shape(256, [32, 32], [64, 64], NEAREST, order));
        let reduced = Problem { antialias: true, ..shape(3, [1024, 1024], [224, 224], Rule::Cubic(-0.5), order) };
        list.bench(format!("bicubic, antialiased, 3 channels, 1024 to 224, {name}"), reduced);
        let windows = Windows { kernel: [2, 2], stride: [2, 2], ..Windows::default() };
        let halved = Problem { order, ..Problem::average(1, 64, [112, 112], windows) };
        list.bench(format!("average of 2 x 2, 64 channels at 112, {name}"), halved);
        list.bench(
            format!("mean of 7 x 7, 2048 channels, {name}"),
            shape(2048, [7, 7], [1, 1], Rule::AdaptiveAverage, order),
        );
        for dtype in Dtype::ALL {
            for channels in [8, 7] {
                let problem = of(shape(channels, [6, 8], [9, 12], Rule::Linear, order), [dtype; 2]);
                list.compose(problem);
                list.compose(Problem { antialias: true, out: [2, 2], size: [40, 40], ..problem });
            }
        }
    }
}
