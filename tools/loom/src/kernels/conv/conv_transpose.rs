//! Transposed convolution, described.

use tileloom::conv::{Activation, Bias, Border, Config, Order, TapMask, WeightOrder};
use tileloom::conv_transpose::Problem;
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use super::{
    DIRECT, Pair, Sides, TILED, TILES, activation, axes, bias_given, integers, shown_axes, weight_axes, words,
};
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Access, Arg, Cost, Given, List, Listed, Values, affordable};

use Dtype::{Bf16, F16, F32};
use Order::{Nchw, Nhwc};

/// Of f32: a square kernel and a stride, padded so that y is stride times x where the kernel is not shorter, an odd rest at the
/// end.
pub fn shape(channels: usize, outputs: usize, size: usize, kernel: usize, stride: usize, order: Order) -> Problem {
    let cut = kernel.saturating_sub(stride);
    let padding = [cut.div_ceil(2); 4];
    let output_padding = [cut % 2; 2];
    let (size, kernel, stride) = ([size; 2], [kernel; 2], [stride; 2]);
    Problem { channels, outputs, size, kernel, stride, padding, output_padding, order, ..Problem::default() }
}

/// The same of these dtypes of x, weights and y.
pub fn of(problem: Problem, [x, weight, y]: [Dtype; 3]) -> Problem {
    Problem { x, weight, y, ..problem }
}

/// Each channel has a kernel of its own.
pub fn depthwise(channels: usize, size: usize, kernel: usize, stride: usize, order: Order) -> Problem {
    Problem { groups: channels, ..shape(channels, channels, size, kernel, stride, order) }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    const OPS: &'static [&'static str] = &["conv_transpose2d", "conv_transpose1d"];

    fn list(list: &mut List<Problem>) {
        everywhere(list);
        wide(list);
        benches(list);
        for order in [Nchw, Nhwc] {
            for dtype in Dtype::ALL {
                for (channels, outputs) in [(3, 5), (64, 64)] {
                    let first = of(shape(channels, outputs, 16, 4, 2, order), [dtype; 3]);
                    list.compose(first);
                    list.compose(Problem { add: true, bias: Some(Bias::of(F32)), ..first });
                    list.compose(Problem { snake: Some(0), ..first });
                }
            }
        }
    }

    fn op(&self) -> &'static str {
        "conv_transpose2d"
    }

    fn cost(&self) -> Cost {
        Cost::of(self.flops(), &self.args())
    }

    fn shared() -> &'static [&'static str] {
        &["weight", "bias", "alpha"]
    }

    fn shipped() -> Vec<String> {
        super::shipped(&super::WITHOUT_MATRICES)
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        for (name, pair) in [
            ("stride", &mut self.stride),
            ("dilation", &mut self.dilation),
            ("downsample", &mut self.downsample),
            ("output_padding", &mut self.output_padding),
        ] {
            let mut value = Pair(*pair);
            options.value(name, &mut value)?;
            *pair = value.0;
        }
        let mut padding = Sides(Some(self.padding.into()));
        options.value("padding", &mut padding)?;
        self.padding = padding.cut(options.op_is("conv_transpose1d"))?;
        options.value("groups", &mut self.groups)?;
        options.word("layout", &mut self.order, &words(Order::ALL, Order::name))?;
        options.word("padding_mode", &mut self.border, &words(Border::ALL, Border::name))?;
        options.word("mask", &mut self.mask, &words(TapMask::ALL, TapMask::name))?;
        activation(options, &mut self.activation, &mut self.slope, &mut self.snake)?;
        options.value("add", &mut self.add)?;
        options.value("out_dtype", &mut self.y)?;
        options.word("weight_order", &mut self.weight_order, &words(WeightOrder::ALL, WeightOrder::name))?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("weight_layout", &mut self.weight_layout)?;
        options.value("y_layout", &mut self.y_layout)?;
        self.bias.as_mut().map_or(Ok(()), |bias| options.value("bias_offset", &mut bias.offset))
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let dims = if reader.op() == "conv_transpose1d" { 1 } else { 2 };
        let expected = if dims == 1 { "[n, c, w]" } else { "[n, c, h, w]" };
        let (x, x_dtype) = reader.values("x", expected)?;
        let (weight, weight_dtype) = reader.values("weight", "[c, o / groups, (kh,) kw]")?;
        let mut problem = Problem { x: x_dtype, weight: weight_dtype, y: x_dtype, ..Problem::default() };
        problem.bias = bias_given(reader)?;
        problem.snake = reader.optional("alpha").map(|_| 0);
        problem.options(&mut Options::Read(reader))?;
        let [batch, channels, height, width] = axes("x", x, dims, problem.order)?;
        (problem.batch, problem.channels, problem.size) = (batch, channels, [height, width]);
        let [c, own, h, w] = weight_axes(weight, dims, problem.weight_order)?;
        let groups = problem.groups;
        let outputs = own.checked_mul(groups).filter(|_| c == channels && channels.checked_rem(groups) == Some(0));
        let Some(outputs) = outputs else {
            return Err(case::bad_shape("weight", weight, format!("{channels} channels, in {groups} groups")));
        };
        (problem.outputs, problem.kernel) = (outputs, [h, w]);
        for (name, pair) in
            [("stride", problem.stride), ("dilation", problem.dilation), ("downsample", problem.downsample)]
        {
            if pair.contains(&0) {
                return Err(Pair(pair).refused(name, "at least 1"));
            }
        }
        if [h, w].contains(&0) {
            return Err(case::bad_shape("weight", weight, "a kernel with taps"));
        }
        affordable(reader, &problem.args())?;
        let args = problem.args();
        let mut values = Values::new();
        for arg in args.iter().filter(|arg| arg.access != Access::Write) {
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

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        shown(self, arg, 2)
    }
}

/// The shape of an argument in a case file.
fn shown(problem: &Problem, arg: &Arg, dims: usize) -> Vec<usize> {
    shown_axes(arg, dims, problem.weight_order, problem.order)
}

/// Problems that share the few pipelines of [`DIRECT`] and [`TILED`].
fn everywhere(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        for (channels, outputs, size, kernel, stride) in
            [(1, 1, 1, 1, 1), (3, 5, 4, 4, 2), (5, 33, 3, 3, 2), (7, 3, 5, 2, 3), (3, 4, 5, 3, 1)]
        {
            let problem = shape(channels, outputs, size, kernel, stride, order);
            integers(list.narrow("sizes", problem).config(DIRECT), 1);
        }
        for (channels, outputs, size, kernel, stride) in [(4, 32, 5, 4, 2), (8, 36, 4, 5, 3)] {
            let problem = shape(channels, outputs, size, kernel, stride, order);
            integers(list.narrow("channels by fours", problem).config(DIRECT), 2);
        }
        let first = shape(3, 5, 6, 3, 2, order);
        for (name, problem) in [
            ("stride, dilation, sides", Problem { stride: [2, 3], padding: [0, 2, 3, 1], ..first }),
            ("stride, dilation, sides", Problem { dilation: [3, 2], padding: [5, 0, 0, 4], ..first }),
            ("stride, dilation, sides", Problem { stride: [3, 1], dilation: [1, 3], ..first }),
            ("k x 1 and 1 x k", Problem { kernel: [5, 1], padding: [2, 2, 0, 0], ..first }),
            ("k x 1 and 1 x k", Problem { kernel: [1, 7], padding: [0, 0, 3, 3], ..first }),
            ("batches", Problem { batch: 3, size: [5, 3], ..first }),
            ("phases without taps", Problem { stride: [5, 4], ..first }),
            ("a y of one pixel", Problem { size: [1, 1], padding: [1; 4], output_padding: [0; 2], ..first }),
            ("output_padding", Problem { output_padding: [1, 4], ..first }),
            (
                "one dimension",
                Problem { size: [1, 9], kernel: [1, 16], stride: [1, 8], padding: [0, 0, 4, 4], ..first },
            ),
            ("places added up", Problem { downsample: [1, 2], output_padding: [0, 1], ..first }),
            (
                "places added up",
                Problem { downsample: [3, 2], stride: [1, 1], output_padding: [0; 2], padding: [1, 1, 0, 0], ..first },
            ),
            ("places added up", Problem { downsample: [2, 3], stride: [4, 2], output_padding: [3, 1], ..first }),
        ] {
            let padded = if name == "one dimension" { Problem { output_padding: [0; 2], ..problem } } else { problem };
            integers(list.narrow(name, padded).config(DIRECT), 3);
        }
        let turned = Problem { kernel: [3, 4], padding: [0, 2, 3, 1], ..shape(3, 5, 6, 3, 1, order) };
        for problem in [
            turned,
            Problem { dilation: [2, 3], batch: 2, ..turned },
            Problem { output_padding: [2, 0], add: true, ..turned },
            Problem { mask: TapMask::A, ..turned },
            Problem { mask: TapMask::B, dilation: [3, 1], ..turned },
            // More is cut off than a window sees: by phases.
            Problem { padding: [3, 0, 0, 4], ..turned },
        ] {
            integers(list.narrow("a stride of 1", problem).config(DIRECT), 6);
        }
        for border in [Border::Reflect, Border::Replicate] {
            for problem in [
                Problem { border, padding: [2, 1, 3, 4], ..first },
                Problem { border, stride: [1, 3], padding: [0, 3, 2, 2], dilation: [2, 1], ..first },
                Problem { border, downsample: [3, 2], padding: [1, 1, 2, 0], output_padding: [1, 1], ..first },
                Problem { border, batch: 2, ..shape(4, 33, 8, 3, 1, order) },
            ] {
                integers(list.narrow("borders", problem).config(DIRECT), 3);
            }
            let packed = of(Problem { border, ..shape(4, 5, 8, 3, 1, order) }, [F16, Bf16, F16]);
            let apart = Problem { stride: [1, 2], padding: [2; 4], output_padding: [0, 1], add: true, ..packed };
            list.narrow("borders, f16", packed).seed(12).config(DIRECT);
            list.narrow("borders, f16", apart).seed(12).config(DIRECT);
        }
        list.narrow("snake", Problem { snake: Some(3), bias: Some(Bias::of(F32)), ..first }).config(DIRECT).seed(4);
        for groups in [2, 6] {
            let problem = Problem { groups, channels: 12, outputs: 18, ..first };
            integers(list.narrow("groups", problem).config(DIRECT), 5);
        }
        for (channels, multiplier) in [(9, 1), (8, 1), (5, 3)] {
            let problem = depthwise(channels, 5, 4, 2, order);
            integers(list.narrow("depthwise", Problem { outputs: channels * multiplier, ..problem }), 6);
        }
        for mask in [TapMask::A, TapMask::B] {
            let entry = list.narrow("masks of PixelCNN", Problem { mask, ..first }).config(DIRECT);
            entry.set(|problem, values| {
                let (taps, all) = (problem.taps(), problem.kernel[0] * problem.kernel[1]);
                let weights = values.get_mut("weight").into_iter().flatten().enumerate();
                weights.filter(|(i, _)| i % all >= taps).for_each(|(i, v)| *v = [f64::NAN, f64::INFINITY][i % 2]);
            });
        }
        for (m, n, size) in [(4, 32, 5), (16, 33, 4), (5, 7, 6)] {
            integers(list.narrow("tiled", shape(m, n, size, 4, 2, order)).config(TILED), 7);
        }
        integers(list.narrow("added", Problem { add: true, ..first }).config(DIRECT), 8);
        list.narrow("as it is chosen", Problem { batch: 2, ..shape(12, 40, 7, 4, 2, order) }).seed(8);
    }
    let last = shape(3, 8, 4, 4, 2, Nhwc);
    for &activation in [Activation::Silu, Activation::LeakyRelu, Activation::Tanh].iter() {
        let bias = Some(Bias { offset: 1, ..Bias::of(F32) });
        list.narrow("activations", Problem { activation, bias, slope: 0.25, ..last }).seed(9).config(DIRECT);
    }
    list.narrow("one arena", last).seed(11).config(DIRECT).arena();
    for order in [Nchw, Nhwc] {
        let packed = of(shape(4, 5, 5, 3, 2, order), [F16, Bf16, F16]);
        list.narrow("f16, neighbours that share words", packed).seed(12).config(DIRECT);
        list.narrow("f16, neighbours that share words", Problem { add: true, ..packed }).seed(12).config(DIRECT);
        let odd = Problem { output_padding: [0; 2], ..packed };
        list.narrow("f16, neighbours that share words", Problem { add: true, ..odd }).seed(12).config(DIRECT);
        let thirds = of(shape(4, 5, 4, 4, 3, order), [F16, F32, Bf16]);
        list.narrow("f16, neighbours that share words", Problem { batch: 2, ..thirds }).seed(12).config(DIRECT);
    }
    list.narrow("nothing", Problem { padding: [9; 4], ..shape(3, 4, 2, 3, 1, Nchw) });
    list.narrow("the same bits twice", shape(8, 36, 6, 4, 2, Nhwc)).seed(13).config(DIRECT).twice();
}

/// Layouts, dtypes, forms with pipelines of their own.
fn wide(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        let first = Problem { batch: 2, ..shape(8, 12, 4, 4, 2, order) };
        for weight_order in [WeightOrder::Ohwi, WeightOrder::Hwio] {
            integers(list.wide("orders of weights", Problem { weight_order, ..first }).config(DIRECT), 1);
        }
        let channels_last = order == Nhwc;
        let strided = |pad: usize, channels: usize, size: usize| {
            let (outer, inner) = if channels_last { (size, channels + pad) } else { (channels, size + pad) };
            Layout::strided(pad, [outer * size * inner + pad, size * inner, inner])
        };
        for pad in [4, 3] {
            let (x_layout, y_layout) = (strided(pad, 8, 4), strided(pad, 12, 8));
            let weight_layout = Layout::strided(pad, [12 * 16 + pad, 16 + pad % 2, 4]);
            let problem = Problem { x_layout, y_layout, weight_layout, ..first };
            for config in [DIRECT, TILED] {
                list.wide("strides and offsets", problem).seed(2).config(config);
                list.wide("strides and offsets", Problem { add: true, ..problem }).seed(2).config(config);
            }
        }
        for (dtypes, bias) in [([F16; 3], F16), ([Bf16; 3], Bf16), ([F16, F16, F32], F32), ([F32, Bf16, F16], F16)] {
            for (kernel, stride) in [(4, 2), (3, 1)] {
                let problem = of(shape(8, 12, 4, kernel, stride, order), dtypes);
                let problem = Problem { bias: Some(Bias::of(bias)), ..problem };
                list.wide("dtypes", problem).seed(3).config(DIRECT);
                list.wide("dtypes", Problem { add: true, ..problem }).seed(3).config(DIRECT);
                list.wide("dtypes", Problem { channels: 3, outputs: 5, ..problem }).seed(3).config(TILED);
            }
        }
        let halves = of(shape(8, 68, 5, 4, 2, order), [F16; 3]);
        for problem in [Problem { batch: 2, ..shape(8, 68, 5, 4, 2, order) }, Problem { channels: 3, ..halves }] {
            list.wide("every candidate", problem).seed(4).every_candidate().twice();
        }
        for problem in [depthwise(20, 5, 4, 2, order), of(depthwise(9, 5, 4, 2, order), [F16; 3])] {
            list.wide("every candidate", problem).seed(4).every_candidate().twice();
        }
        let turned = Problem { kernel: [3, 4], padding: [0, 2, 3, 1], ..depthwise(12, 9, 3, 1, order) };
        for problem in [turned, Problem { add: true, batch: 2, ..turned }, Problem { outputs: 24, ..turned }] {
            list.wide("a stride of 1", problem).seed(4).every_candidate().twice();
        }
        for (seed, problem) in [
            (6, Problem { kernel: [3, 1], padding: [0; 4], mask: TapMask::B, ..turned }),
            (7, Problem { kernel: [3, 1], padding: [0; 4], mask: TapMask::A, ..turned }),
        ] {
            list.wide("a stride of 1", problem).seed(seed).every_candidate();
        }
        for (channels, add, y) in [(32, true, F32), (24, false, F16), (6, true, F16)] {
            let halves = of(shape(channels, 36, 9, 3, 1, order), [F16; 3]);
            let problem = Problem { add, y, bias: Some(Bias::of(F16)), batch: 2, ..halves };
            list.wide("a stride of 1, matrices", problem).seed(5).candidate("algorithm=coop");
        }
        for (tile, thread) in TILES {
            let problem = Problem { batch: 2, ..shape(8, 68, 5, 4, 2, order) };
            list.wide("tiles of other adapters", problem).seed(5).config(Config { tile, thread, ..TILED });
        }
        for border in [Border::Reflect, Border::Replicate] {
            let grouped = Problem { border, groups: 2, activation: Activation::Silu, ..shape(8, 12, 6, 3, 1, order) };
            list.wide("borders, every candidate", grouped).seed(3).every_candidate();
            list.wide("borders, every candidate", Problem { border, ..depthwise(9, 5, 3, 1, order) })
                .seed(3)
                .every_candidate();
            list.wide("borders, masks", Problem { border, mask: TapMask::B, ..shape(4, 5, 6, 3, 1, order) })
                .seed(3)
                .config(DIRECT);
        }
        // All columns are phases, which take turns.
        let narrow = Problem {
            size: [3, 1],
            kernel: [1, 6],
            stride: [1, 8],
            padding: [0, 0, 1, 1],
            ..shape(4, 5, 1, 1, 1, order)
        };
        list.wide("borders, f16", of(Problem { border: Border::Replicate, ..narrow }, [F16; 3])).seed(3).config(DIRECT);
        let grouped = Problem { groups: 4, activation: Activation::Gelu, ..shape(16, 16, 5, 4, 2, order) };
        list.wide("as it is chosen", grouped).seed(6);
        list.wide("as it is chosen", depthwise(20, 5, 4, 2, order)).seed(6);
        list.wide("checked modules give the same", first).seed(7).checked();
        list.wide("pixels of patches", shape(20, 3, 3, 14, 14, order)).seed(8);
    }
    list.wide("no channels", Problem { bias: Some(Bias::of(F32)), ..shape(0, 3, 4, 3, 2, Nchw) }).seed(9);
    let empty = Problem { output_padding: [3, 3], bias: Some(Bias::of(F32)), ..shape(2, 3, 0, 3, 2, Nhwc) };
    list.wide("a y of no pixel", empty).seed(9);
}

fn benches(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        let name = order.name();
        let entry = list.bench(format!("4 x 4 by 2, 64 to 64 at 32 x 32, {name}"), shape(64, 64, 32, 4, 2, order));
        if order == Nhwc {
            entry.quick();
        }
        let halves = of(shape(64, 64, 32, 4, 2, order), [F16; 3]);
        list.bench(format!("4 x 4 by 2, 64 to 64 at 32 x 32, f16, {name}"), halves);
        list.bench(format!("3 x 3, 64 to 64 at 64 x 64, {name}"), shape(64, 64, 64, 3, 1, order));
        list.bench(format!("3 x 3 by 2, 64 to 64 at 32 x 32, {name}"), shape(64, 64, 32, 3, 2, order));
        list.bench(format!("depthwise 7 x 7, 96 at 56 x 56, {name}"), depthwise(96, 56, 7, 1, order));
        list.large(format!("4 x 4 by 2, 256 to 256 at 64 x 64, {name}"), shape(256, 256, 64, 4, 2, order));
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
        let case = |op| Case::new(op).tensor("x", zeros(&[2, 3, 5, 5])).tensor("weight", zeros(&[3, 4, 3, 3]));
        assert_eq!(fault(&case("conv_transpose2d")), "understood");
        assert!(fault(&case("conv_transpose1d")).contains("expected 3 axes"));
        assert!(fault(&case("conv_transpose2d").option("padding", "1,2,3")).contains("one for each side"));
        assert!(fault(&case("conv_transpose2d").option("padding", "same")).contains("one for each side"));
        assert!(fault(&case("conv_transpose2d").option("stride", "0")).contains("at least 1"));
        assert!(fault(&case("conv_transpose2d").option("groups", 2)).contains("in 2 groups"));
        assert!(fault(&case("conv_transpose2d").option("layout", "nhwc")).contains("5 channels"));
        assert!(fault(&case("conv_transpose2d").option("add", "true")).contains("`y`"));
        let one = || Case::new("conv_transpose1d").tensor("x", zeros(&[2, 5, 3])).tensor("weight", zeros(&[3, 4, 3]));
        assert_eq!(fault(&one().option("layout", "nhwc").option("padding", "2,0")), "understood");
        assert!(fault(&one().option("layout", "nhwc").tensor("bias", zeros(&[5]))).contains("expected [4]"));
    }
}
