//! Gradients of a convolution, described.

use tileloom::conv::{self, Activation, Algorithm, Border, Order, Padding, TapMask, WeightOrder};
use tileloom::conv_backward::{Config, Problem};
use tileloom::verify::Describe;
use tileloom::{Dtype, Layout};

use super::{TILES, axes, depthwise, integers, line, of, shape, shown_axes, weight_axes, words};
use crate::case::{self, Fault, Options, Reader, Shown};
use crate::kernel::{Access, Arg, Cost, Given, List, Listed, Values, affordable};

use Dtype::{Bf16, F16, F32};
use Order::{Nchw, Nhwc};

/// A small tile of packed f16, for problems that share pipelines: needs no feature.
pub const DIRECT: Config =
    Config { algorithm: Algorithm::Direct, tile: [8, 32, 4], thread: [8, 4], lanes: 1, parts: 1, native_f16: false };

/// A tile in workgroup memory.
pub const TILED: Config = Config { algorithm: Algorithm::Tiled, tile: [32, 32, 16], thread: [4, 4], ..DIRECT };

/// Groups of one channel, pixels by several invocations.
pub const DEPTHWISE: Config = Config { algorithm: Algorithm::Depthwise, tile: [32, 4, 4], thread: [4, 4], ..DIRECT };

/// The same by blocks of pixels.
const STRIPS: Config = Config { algorithm: Algorithm::Strips, tile: [32, 16, 8], thread: [32, 1], ..DIRECT };

/// All gradients; dx in the dtype of x.
pub fn all(forward: conv::Problem) -> Problem {
    Problem { forward, dx: Some(forward.x), dweight: Some(0), dbias: Some(0), ..Problem::default() }
}

/// Those by the weights and the bias.
pub fn sums(forward: conv::Problem) -> Problem {
    Problem { dx: None, ..all(forward) }
}

/// All, through this activation.
pub fn through(activation: Activation, forward: conv::Problem) -> Problem {
    let forward = conv::Problem { activation, slope: 0.25, ..forward };
    Problem { dz: Some(forward.y), z: forward.y, ..all(forward) }
}

/// All are added to what is there.
pub fn added(problem: Problem) -> Problem {
    Problem { add_dx: true, add_dweight: true, add_dbias: true, ..problem }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    const OPS: &'static [&'static str] = &["conv2d_backward", "conv1d_backward"];
    const RUNTIME: &'static [&'static str] = &["parts"];

    fn list(list: &mut List<Problem>) {
        everywhere(list);
        wide(list);
        benches(list);
        for order in [Nchw, Nhwc] {
            for dtype in Dtype::ALL {
                for (channels, outputs) in [(3, 5), (64, 64)] {
                    let first = of(shape(channels, outputs, 32, 3, order), [dtype; 3]);
                    list.compose(all(first));
                    list.compose(sums(conv::Problem { border: Border::Replicate, ..first }));
                }
            }
        }
    }

    fn op(&self) -> &'static str {
        "conv2d_backward"
    }

    fn cost(&self) -> Cost {
        Cost::of(self.flops(), &self.args())
    }

    fn shared() -> &'static [&'static str] {
        &["weight"]
    }

    fn shipped() -> Vec<String> {
        super::shipped(&super::WITHOUT_MATRICES)
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        super::geometry(&mut self.forward, options, "conv1d_backward")?;
        options.value("dy_layout", &mut self.forward.y_layout)?;
        if let Some(dtype) = &mut self.dz {
            options.word("activation", &mut self.forward.activation, &words(Activation::ALL, Activation::name))?;
            options.value("slope", &mut self.forward.slope)?;
            options.value("dz_dtype", dtype)?;
            options.value("dz_layout", &mut self.dz_layout)?;
            options.value("z_layout", &mut self.z_layout)?;
        }
        options.value("out_dtype", &mut self.dx)?;
        options.value("dx_layout", &mut self.dx_layout)?;
        options.value("add_dx", &mut self.add_dx)?;
        options.value("add_dweight", &mut self.add_dweight)?;
        options.value("add_dbias", &mut self.add_dbias)?;
        options.value("dweight_start", &mut self.dweight)?;
        options.value("dbias_start", &mut self.dbias)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let dims = if reader.op() == "conv1d_backward" { 1 } else { 2 };
        let expected = if dims == 1 { "[n, c, w]" } else { "[n, c, h, w]" };
        let (x, x_dtype) = reader.values("x", expected)?;
        let (weight, weight_dtype) = reader.values("weight", "[o, c / groups, (kh,) kw]")?;
        let (dy, dy_dtype) = reader.values("dy", expected)?;
        let forward = conv::Problem { x: x_dtype, weight: weight_dtype, y: dy_dtype, ..conv::Problem::default() };
        let mut problem = all(forward);
        if let Some(z) = reader.optional("z") {
            (problem.z, problem.dz) = (case::float("z", z)?, Some(dy_dtype));
        }
        problem.options(&mut Options::Read(reader))?;
        let of = &mut problem.forward;
        let [batch, channels, height, width] = axes("x", x, dims, of.order)?;
        (of.batch, of.channels, of.size) = (batch, channels, [height, width]);
        let [o, i, h, w] = weight_axes(weight, dims, of.weight_order)?;
        (of.outputs, of.kernel) = (o, [h, w]);
        super::check_read(of, i, weight)?;
        let [dy_batch, dy_channels, dy_height, dy_width] = axes("dy", dy, dims, of.order)?;
        if (dy_batch, dy_channels, [dy_height, dy_width]) != (batch, o, of.out()) {
            return Err(case::bad_shape(
                "dy",
                dy,
                format!("{batch} pictures of {o} channels and {:?} pixels", of.out()),
            ));
        }
        let args = problem.args();
        affordable(reader, &args)?;
        let mut values = Values::new();
        for arg in args.iter().filter(|arg| arg.access != Access::Write) {
            let tensor = reader.tensor(arg.name, "")?;
            let want = shown(&problem, arg, dims);
            if tensor.shape != want {
                return Err(case::bad_shape(arg.name, tensor, format!("{want:?}")));
            }
            values.insert(arg.name, tensor.numbers().unwrap_or_default());
        }
        let written = args.iter().filter(|arg| arg.access != Access::Read);
        let outputs = written.map(|arg| Shown::new(arg.name, shown(&problem, arg, dims))).collect();
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        shown(self, arg, 2)
    }
}

/// The shape of an argument in a case file.
fn shown(problem: &Problem, arg: &Arg, dims: usize) -> Vec<usize> {
    shown_axes(arg, dims, problem.forward.weight_order, problem.forward.order)
}

/// Problems that share the few pipelines of [`DIRECT`] and [`TILED`].
fn everywhere(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        for (channels, outputs, size, kernel) in [(1, 1, 1, 1), (3, 5, 7, 3), (5, 33, 6, 1), (4, 8, 5, 3), (7, 3, 5, 5)]
        {
            let problem = all(shape(channels, outputs, size, kernel, order));
            integers(list.narrow("sizes", problem).config(DIRECT), 1);
        }
        let first = shape(3, 5, 9, 3, order);
        let sides = |sides| Padding::Sides(sides);
        for (name, forward) in [
            ("stride, dilation, sides", conv::Problem { stride: [2, 3], padding: sides([0, 2, 3, 1]), ..first }),
            ("stride, dilation, sides", conv::Problem { dilation: [3, 2], padding: sides([5, 0, 0, 4]), ..first }),
            ("same", conv::Problem { padding: Padding::Same, stride: [2, 2], kernel: [4, 3], ..first }),
            ("k x 1 and 1 x k", conv::Problem { kernel: [5, 1], padding: sides([2, 2, 0, 0]), ..first }),
            ("k x 1 and 1 x k", conv::Problem { kernel: [1, 7], padding: sides([0, 0, 3, 3]), ..first }),
            ("batches", conv::Problem { batch: 3, size: [5, 3], ..first }),
            ("padding alone", conv::Problem { size: [1, 1], padding: sides([4; 4]), ..first }),
            ("places that no window sees", conv::Problem { stride: [4, 5], padding: sides([0; 4]), ..first }),
            ("one dimension, causal", conv::Problem { padding: sides([0, 0, 6, 0]), ..line(3, 4, 19, 7, order) }),
            ("enlarged", conv::Problem { upsample: [2, 3], ..first }),
            ("enlarged", conv::Problem { upsample: [3, 2], stride: [2, 2], ..first }),
        ] {
            integers(list.narrow(name, all(forward)).config(DIRECT), 3);
        }
        for border in [Border::Reflect, Border::Replicate] {
            for forward in [
                conv::Problem { border, padding: sides([2, 1, 3, 4]), ..first },
                conv::Problem { border, padding: sides([1, 2, 0, 5]), stride: [2, 3], upsample: [2, 1], ..first },
            ] {
                integers(list.narrow("borders", all(forward)).config(DIRECT), 4);
                integers(list.narrow("borders", added(all(forward))).config(DIRECT), 4);
            }
        }
        for groups in [2, 6] {
            let forward = conv::Problem { groups, channels: 12, outputs: 18, ..first };
            integers(list.narrow("groups", all(forward)).config(DIRECT), 5);
        }
        for (channels, multiplier) in [(9, 1), (8, 1), (5, 3)] {
            let forward = conv::Problem { outputs: channels * multiplier, ..depthwise(channels, 7, 3, order) };
            integers(list.narrow("depthwise", all(forward)).candidate("algorithm=depthwise"), 6);
            integers(list.narrow("depthwise", all(forward)).config(Config { parts: 3, ..DEPTHWISE }), 6);
            if order == Nchw || multiplier == 1 && channels % 4 == 0 {
                let fours = Config { tile: [16, 64, 8], thread: [16, 4], ..STRIPS };
                for config in if order == Nchw { vec![STRIPS] } else { vec![STRIPS, fours] } {
                    integers(list.narrow("strips", all(forward)).config(config), 6);
                    integers(list.narrow("strips", added(all(forward))).config(Config { parts: 3, ..config }), 6);
                    list.narrow("strips, f16", all(of(forward, [F16; 3]))).config(config).seed(7);
                }
            }
        }
        // Behind the last window stands what is no number.
        let unseen = conv::Problem { stride: [2, 2], padding: sides([0; 4]), ..depthwise(8, 8, 3, order) };
        list.narrow("strips, places that no window sees", sums(unseen)).config(STRIPS).set(move |_, values| {
            let x = values.get_mut("x").into_iter().flatten().enumerate();
            let last =
                |i: usize| if order == Nchw { i % 8 == 7 || i / 8 % 8 == 7 } else { i / 8 % 8 == 7 || i / 64 % 8 == 7 };
            x.filter(|(i, _)| last(*i)).for_each(|(i, v)| *v = [f64::NAN, f64::INFINITY][i % 2]);
        });
        for mask in [TapMask::A, TapMask::B] {
            let entry = list.narrow("masks of PixelCNN", all(conv::Problem { mask, ..first })).config(DIRECT);
            entry.set(|problem, values| {
                let (taps, all) = (problem.forward.taps(), 9);
                let weights = values.get_mut("weight").into_iter().flatten().enumerate();
                weights.filter(|(i, _)| i % all >= taps).for_each(|(i, v)| *v = [f64::NAN, f64::INFINITY][i % 2]);
            });
        }
        for (m, n, size) in [(4, 32, 8), (16, 33, 6), (5, 7, 9)] {
            integers(list.narrow("tiled", all(shape(m, n, size, 3, order))).config(TILED), 7);
        }
        for config in [DIRECT, TILED] {
            let split = Config { parts: 3, ..config };
            integers(list.narrow("parts", all(first)).config(split), 8);
            integers(list.narrow("parts, added", added(all(first))).config(split), 8);
            integers(list.narrow("added", added(all(first))).config(config), 8);
        }
        list.narrow("as it is chosen", all(conv::Problem { batch: 2, ..shape(12, 40, 11, 3, order) })).seed(8);
        let packed = of(shape(4, 5, 5, 3, order), [F16, Bf16, F16]);
        list.narrow("f16", all(packed)).seed(12).config(DIRECT);
    }
    let last = shape(3, 8, 6, 3, Nhwc);
    list.narrow("of the weights alone", Problem { dbias: None, ..sums(last) }).seed(9).config(DIRECT);
    list.narrow("of the bias alone", Problem { dweight: None, ..sums(last) }).seed(9).config(DIRECT);
    list.narrow("one arena", all(last)).seed(11).config(DIRECT).arena();
    list.narrow("the same bits twice", all(shape(8, 36, 9, 3, Nhwc))).seed(13).twice();
    let none = conv::Problem { size: [2, 2], padding: Padding::Sides([0; 4]), ..shape(3, 4, 2, 3, Nchw) };
    list.narrow("windows that do not fit: zeros", all(none)).config(DIRECT);
    list.narrow("windows that do not fit: zeros", added(all(none))).config(DIRECT);
    for order in [Nchw, Nhwc] {
        for [height, width] in [[2, 2], [2, 5], [5, 2]] {
            let none =
                conv::Problem { size: [height, width], padding: Padding::Sides([0; 4]), ..shape(3, 4, 2, 3, order) };
            list.narrow("through an activation, windows that do not fit", through(Activation::Silu, none))
                .config(DIRECT);
        }
    }
    for (order, activation) in [(Nchw, Activation::Silu), (Nhwc, Activation::LeakyRelu)] {
        let problem = through(activation, conv::Problem { batch: 2, stride: [2, 1], ..shape(3, 5, 7, 3, order) });
        list.narrow("through an activation", problem).seed(14).config(DIRECT);
        for names in [["dy", "dz"], ["z", "dz"]] {
            list.narrow(format!("dz in place of {}", names[0]), problem).seed(15).config(DIRECT).memory(&[&names]);
        }
    }
}

/// Layouts, dtypes, forms with pipelines of their own.
fn wide(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        let first = conv::Problem { batch: 2, ..shape(8, 12, 8, 3, order) };
        for weight_order in [WeightOrder::Ohwi, WeightOrder::Hwio] {
            integers(list.wide("orders of weights", all(conv::Problem { weight_order, ..first })).config(DIRECT), 1);
        }
        let strided = |pad: usize, channels: usize| {
            let (outer, inner) = if order == Nhwc { (8, channels + pad) } else { (channels, 8 + pad) };
            Layout::strided(pad, [outer * 8 * inner + pad, 8 * inner, inner])
        };
        for pad in [4, 3] {
            let weight_layout = Layout::strided(pad, [8 * 9 + pad, 9 + pad % 2, 3]);
            let forward =
                conv::Problem { x_layout: strided(pad, 8), y_layout: strided(pad, 12), weight_layout, ..first };
            let problem = Problem { dx_layout: strided(pad, 8), dweight: Some(pad), dbias: Some(1), ..all(forward) };
            for config in [DIRECT, TILED] {
                list.wide("strides and offsets", problem).seed(2).config(config);
            }
        }
        for dtypes in [[F16; 3], [Bf16; 3], [F16, F16, F32], [F32, Bf16, F16]] {
            for size in [8, 7] {
                let forward = of(shape(8, 12, size, 3, order), dtypes);
                list.wide("dtypes", all(forward)).seed(3).config(DIRECT);
                list.wide("dtypes", added(all(conv::Problem { channels: 3, outputs: 5, ..forward })))
                    .seed(3)
                    .config(TILED);
            }
        }
        let halves = of(shape(8, 68, 9, 3, order), [F16; 3]);
        for forward in
            [conv::Problem { batch: 2, ..shape(8, 68, 9, 3, order) }, conv::Problem { channels: 3, ..halves }]
        {
            list.wide("every candidate", all(forward)).seed(4).every_candidate().twice();
        }
        list.wide("every candidate", all(depthwise(20, 9, 5, order))).seed(4).every_candidate().twice();
        for (tile, thread) in TILES {
            let problem = all(conv::Problem { batch: 2, ..shape(8, 68, 9, 3, order) });
            list.wide("tiles of other adapters", problem).seed(5).config(Config { tile, thread, ..TILED });
        }
        for (seed, forward) in [
            (1, conv::Problem { stride: [2, 2], batch: 2, ..depthwise(8, 9, 3, order) }),
            (2, conv::Problem { stride: [1, 2], padding: Padding::Sides([0, 3, 2, 0]), ..depthwise(12, 11, 5, order) }),
            (3, conv::Problem { kernel: [1, 4], padding: Padding::Sides([0, 0, 3, 0]), ..depthwise(8, 37, 3, order) }),
            (
                4,
                conv::Problem {
                    kernel: [9, 1],
                    padding: Padding::Sides([4, 4, 0, 0]),
                    size: [5, 3],
                    ..depthwise(8, 5, 9, order)
                },
            ),
            (5, depthwise(68, 17, 7, order)),
            (6, of(depthwise(8, 8, 3, order), [F16; 3])),
            (7, of(conv::Problem { batch: 2, ..depthwise(8, 7, 3, order) }, [Bf16, F32, F16])),
            (8, conv::Problem { y_layout: strided(3, 8), ..depthwise(8, 8, 3, order) }),
            (
                9,
                conv::Problem { x_layout: strided(4, 8), weight_order: WeightOrder::Hwio, ..depthwise(8, 8, 3, order) },
            ),
        ] {
            list.wide("strips", all(forward)).seed(seed).candidate("algorithm=strips");
        }
        for [lines, pixels, channels, places] in [[2, 8, 1, 64], [1, 8, 1, 64], [1, 4, 1, 5], [4, 16, 1, 16]] {
            let (tile, thread) = ([lines * pixels, channels * places, pixels], [lines * pixels, channels]);
            for parts in [1, 3] {
                let config = Config { tile, thread, parts, ..STRIPS };
                let problem = all(conv::Problem { batch: 2, ..depthwise(68, 9, 3, order) });
                list.wide("strips, tiles of other adapters", problem).seed(17).config(config);
            }
        }
        for tile in [[16, 64, 4], [256, 4, 4]] {
            let problem = all(depthwise(20, 9, 5, order));
            list.wide("tiles of other adapters", problem).seed(5).config(Config { tile, ..DEPTHWISE });
        }
        list.wide("as it is chosen", all(conv::Problem { groups: 4, ..shape(16, 16, 9, 3, order) })).seed(6);
        list.wide("checked modules give the same", all(first)).seed(7).checked();
        let layouts =
            Problem { dz_layout: strided(4, 12), z_layout: strided(3, 12), ..through(Activation::Gelu, first) };
        list.wide("through an activation", layouts).seed(8).config(TILED);
        let half = Problem { dz: Some(F16), z: Bf16, ..through(Activation::Tanh, of(first, [F16; 3])) };
        list.wide("through an activation", Problem { dbias: None, ..half }).seed(8).config(DIRECT);
        list.wide("through an activation", Problem { dx: None, ..half }).seed(8).config(DIRECT);
        list.wide("a patch embedding", all(conv::Problem { stride: [14, 14], ..shape(3, 20, 28, 14, order) })).seed(8);
        list.wide("few rows and columns, many pixels", sums(shape(3, 4, 64, 1, order))).seed(9);
    }
    list.wide("no channels", all(shape(0, 3, 4, 3, Nchw))).seed(9);
    list.wide("an empty picture in padding", all(shape(2, 3, 0, 3, Nhwc))).seed(9);
}

fn benches(list: &mut List<Problem>) {
    for order in [Nchw, Nhwc] {
        let name = order.name();
        let plain = shape(64, 64, 64, 3, order);
        let entry = list.bench(format!("dweight, 3 x 3, 64 to 64 at 64 x 64, {name}"), sums(plain));
        if order == Nhwc {
            entry.quick();
        }
        list.bench(format!("dweight, 3 x 3, 64 to 64 at 64 x 64, f16, {name}"), sums(of(plain, [F16; 3])));
        list.bench(format!("dweight, depthwise 7 x 7, 96 at 56 x 56, {name}"), sums(depthwise(96, 56, 7, order)));
        let stem = conv::Problem { stride: [2, 2], ..shape(3, 64, 224, 7, order) };
        list.bench(format!("dweight, 7 x 7 by 2, 3 to 64 at 224 x 224, {name}"), sums(stem));
        list.bench(
            format!("all, 3 x 3 by 2, 64 to 64 at 64 x 64, {name}"),
            all(conv::Problem { stride: [2, 2], ..plain }),
        );
        list.large(format!("dweight, 3 x 3, 256 to 256 at 128 x 128, {name}"), sums(shape(256, 256, 128, 3, order)));
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
        let case = |op, dy: &[usize]| {
            let case = Case::new(op).tensor("x", zeros(&[2, 3, 5, 5])).tensor("weight", zeros(&[4, 3, 3, 3]));
            case.tensor("dy", zeros(dy))
        };
        assert_eq!(fault(&case("conv2d_backward", &[2, 4, 3, 3])), "understood");
        assert_eq!(
            fault(&case("conv2d_backward", &[2, 4, 2, 5]).option("padding", "0,1").option("stride", "2,1")),
            "understood"
        );
        assert!(fault(&case("conv2d_backward", &[2, 4, 3, 2])).contains("[3, 3] pixels"));
        assert!(fault(&case("conv1d_backward", &[2, 4, 3, 3])).contains("expected 3 axes"));
        assert!(fault(&case("conv2d_backward", &[2, 4, 3, 3]).option("add_dx", "true")).contains("`dx`"));
    }
}
