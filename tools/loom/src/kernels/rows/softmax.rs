//! Softmax, described.

use tileloom::softmax::{self, Algorithm, Config, Mask, MaskKind, Problem, Reduce};
use tileloom::{Dtype, Layout};

use super::{DTYPES, axes, causal_fits, gpu, plain, sample, software, tile};
use crate::case::{self, Fault, Options, Reader, Shown, Tensor};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};
use crate::kernels::mask;
use crate::models;

/// Odd offsets keep a problem from vec4, whatever its columns.
pub fn odd(problem: Problem) -> Problem {
    Problem { x_layout: Layout::at(1), y_layout: Layout::at(3), ..problem }
}

pub fn shape(rows: usize, cols: usize) -> Problem {
    Problem { rows, cols, ..Problem::default() }
}

fn masked(kind: MaskKind, problem: Problem) -> Problem {
    Problem { mask: Some(Mask::new(kind)), ..problem }
}

fn typed(dtype: Dtype, problem: Problem) -> Problem {
    Problem { x: dtype, y: dtype, ..problem }
}

/// Shows all that the mask could hide.
fn show(_: &Problem, values: &mut Values) {
    values.get_mut("mask").into_iter().flatten().for_each(|v| *v = 1.0);
}

const IN_PLACE: &[&[&str]] = &[&["x", "y"]];
const F32_MASK: MaskKind = MaskKind::Additive(Dtype::F32);

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    fn list(list: &mut List<Problem>) {
        everywhere(list);
        wide(list);
        full(list);
        benches(list);
        composed(list);
    }

    fn cost(&self) -> Cost {
        let (cols, n2) = (self.cols, self.dims[1]);
        let elements = (self.rows * cols) as f64;
        // Of a causal x, only what is visible need be read.
        let visible = || (0..n2).map(|i| (i + 1 + cols).saturating_sub(n2).min(cols)).sum::<usize>();
        let seen = if self.causal { visible() as f64 / (n2 * cols) as f64 } else { 1.0 };
        let mask_bytes = if self.mask.is_some() { (n2 * cols * 4) as f64 } else { 0.0 };
        Cost {
            // Scale, maximum, exponential of a difference, sum, product.
            flops: 5.0 * elements * seen,
            bytes: elements * (seen * self.x.bytes() as f64 + self.y.bytes() as f64) + mask_bytes,
        }
    }

    fn shipped() -> Vec<String> {
        super::shipped()
    }

    fn shared() -> &'static [&'static str] {
        &["mask"]
    }

    fn parts(&self, values: Values, outputs: Values) -> Vec<(Problem, Values, Values)> {
        let (rows, dims, take) = sample(self.rows, self.dims, self.cols);
        let mut own: Values = [("x", take(&values["x"]))].into();
        own.extend(values.get_key_value("mask").map(|(name, mask)| (*name, mask.clone())));
        vec![(Problem { rows, dims, ..*self }, own, [("y", take(&outputs["y"]))].into())]
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("out_dtype", &mut self.y)?;
        options.value("scale", &mut self.scale)?;
        options.value("log", &mut self.log)?;
        options.value("causal", &mut self.causal)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("y_layout", &mut self.y_layout)?;
        options.value("lse_offset", &mut self.lse)?;
        mask::options(&mut self.mask, options)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (x, dtype) = reader.values("x", "[.., cols]")?;
        let (outer, dims, cols) = axes("x", x)?;
        let mut problem = Problem { x: dtype, y: dtype, dims, lse: Some(0), ..shape(outer.iter().product(), cols) };
        problem.options(&mut Options::Read(reader))?;
        causal_fits("x", x, problem.causal)?;
        let mut given = Given {
            problem,
            values: [("x", x.numbers().unwrap_or_default())].into(),
            outputs: vec![Shown::new("y", x.shape.clone()), Shown::new("lse", outer)],
            known: Values::new(),
        };
        if let Some(mask) = reader.optional("mask") {
            read_mask(&mut given, mask, &x.shape)?;
        }
        if x.data.is_empty() {
            // A row without columns has an LSE of minus infinity.
            given.problem.lse = None;
            given.known = [("y", Vec::new()), ("lse", vec![f64::NEG_INFINITY; problem.rows])].into();
        }
        Ok(given)
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "lse" => self.sizes().into(),
            // As it lies in memory.
            "mask" => vec![arg.view.len()],
            _ => self.sizes().into_iter().chain([self.cols]).collect(),
        }
    }
}

/// Gives the case a mask as stored, broadcast to `x` by NumPy's rules, or by the layout that it has.
fn read_mask(given: &mut Given<Problem>, mask: &Tensor, x: &[usize]) -> Result<(), Fault> {
    let laid = given.problem.mask;
    let kind = mask::kind(mask, laid)?;
    let values = mask.numbers().unwrap_or_default();
    if let Some(laid) = laid {
        given.problem.mask = Some(Mask { kind, ..laid });
        mask::check_laid(&given.problem, mask)?;
        given.values.insert("mask", values);
        return Ok(());
    }
    let fits =
        mask.shape.len() <= x.len() && mask.shape.iter().rev().zip(x.iter().rev()).all(|(&m, &n)| m == n || m == 1);
    if !fits {
        return Err(case::bad_shape("mask", mask, format!("one that broadcasts to x, {x:?}")));
    }
    if x.contains(&0) {
        return Ok(());
    }
    let (mask, values) = match softmax::broadcast(kind, &mask.shape, x) {
        Some((dims, broadcast)) => {
            given.problem.dims = dims;
            (broadcast, values)
        }
        // More alternations than strides can say: written out.
        None => (Mask::new(kind), case::expand(&mask.shape, &values, x)),
    };
    given.problem.mask = Some(mask);
    given.values.insert("mask", values);
    Ok(())
}

const MASKS: [MaskKind; 5] =
    [MaskKind::Bytes, F32_MASK, MaskKind::Bits, MaskKind::Additive(Dtype::F16), MaskKind::Additive(Dtype::Bf16)];

/// About ten pipelines.
fn everywhere(list: &mut List<Problem>) {
    // A pipeline per kind of mask: f32, one element per chunk.
    for (i, &kind) in MASKS.iter().enumerate() {
        let name = format!("mask {kind:?}");
        for (rows, cols) in [(1, 1), (21, 7), (9, 33), (14, 63), (7, 64)] {
            for log in [false, true] {
                let problem = odd(Problem { log, lse: Some(2), scale: 0.37, ..masked(kind, shape(rows, cols)) });
                let entry = if i < 2 { list.narrow(&name, problem) } else { list.wide(&name, problem) };
                entry.seed(7 + cols as u64).config(plain());
            }
        }
    }
    for (i, &kind) in MASKS[..3].iter().enumerate() {
        // x [2, 3, 5, 9]; masks [5, 9], [2, 1, 1, 9], [2, 3, 5, 1], [3, 1, 9], [1].
        for mask_shape in [&[5, 9][..], &[2, 1, 1, 9], &[2, 3, 5, 1], &[3, 1, 9], &[1]] {
            let (dims, mask) = softmax::broadcast(kind, mask_shape, &[2, 3, 5, 9]).expect("it broadcasts");
            let problem = odd(Problem { dims, mask: Some(mask), lse: Some(0), ..shape(30, 9) });
            let name = "mask broadcast";
            let entry = if i < 2 { list.narrow(name, problem) } else { list.wide(name, problem) };
            entry.seed(11).config(plain());
        }
    }
    // More queries than keys leaves the first rows dead.
    for (queries, keys) in [(1, 5), (5, 5), (7, 3), (3, 40), (33, 64)] {
        for log in [false, true] {
            let base = Problem { dims: [1, queries], causal: true, log, lse: Some(1), ..shape(2 * queries, keys) };
            let problem = odd(masked(MaskKind::Bytes, base));
            list.narrow("causal is bottom-right aligned", problem).config(plain()).set(show);
        }
    }
    extreme(list);
    beyond_f32(list);
    let mask = Some(Mask::shared(MaskKind::Bytes, 3));
    let many = odd(Problem { dims: [1, 66_001], mask, lse: Some(0), ..shape(66_001, 3) });
    list.narrow("more than 65,535 workgroups", many).config(plain()).says(&["on [33001, 2, 1]"]);
    // [3, 2, 5, 11] within rows of 17 and 13, axes in another order; x broadcast along the first axis.
    let strides = Problem {
        dims: [2, 5],
        mask: Some(Mask::shared(MaskKind::Bytes, 11)),
        lse: Some(0),
        x_layout: Layout::strided(5, [0, 17, 34]),
        y_layout: Layout::strided(7, [130, 13, 26]),
        ..shape(30, 11)
    };
    list.narrow("strided views with NaN between", strides).seed(3).config(plain());
    // A pipeline each.
    list.narrow("chosen for short rows", Problem { lse: Some(0), ..shape(37, 64) })
        .says(&["algorithm=registers"])
        .twice();
    for cols in [4096, 4096 + 36] {
        // The second has a tail behind the full blocks.
        list.narrow("long rows of a CPU", shape(70, cols)).unless(gpu).seed(3).says(&["algorithm=online"]);
        let cols = cols + 65_904;
        list.narrow("long rows of a GPU", shape(70, cols)).unless(software).seed(3).says(&["algorithm=online"]);
    }
    let log = |cols| Problem { log: true, ..shape(65, cols) };
    list.narrow("long rows of a CPU", log(4096)).unless(gpu).seed(4).says(&["algorithm=online"]);
    list.narrow("long rows of a GPU", log(70_000)).unless(software).seed(4).says(&["algorithm=online"]);
    for (rows, cols, log) in [(1, 152_064, false), (3, 20_004, true)] {
        let problem = Problem { log, lse: Some(0), ..shape(rows, cols) };
        list.narrow("chosen for few very long rows", problem).seed(3).says(&["algorithm=split"]);
    }
    let one = tile(Algorithm::Registers, 8, 1, 32, Reduce::None);
    for (cols, offset) in [(1, 0), (7, 0), (7, 1), (16, 1), (33, 3)] {
        for log in [false, true] {
            let (x_layout, y_layout) = (Layout::at(offset + 1), Layout::at(offset));
            let problem = Problem { x_layout, y_layout, log, lse: Some(0), ..typed(Dtype::F16, shape(23, cols)) };
            let entry = list.narrow("f16 rows that share words", problem).seed(5).config(one);
            if cols % 2 == 1 {
                entry.says(&["edge: true"]);
            }
        }
    }
    let online = tile(Algorithm::Online, 8, 1, 4, Reduce::None);
    list.narrow("bf16, long rows", typed(Dtype::Bf16, shape(70, 1200))).seed(6).config(online);
    let registers = tile(Algorithm::Registers, 8, 1, 16, Reduce::None);
    for (rows, cols) in [(5, 64), (70, 60)] {
        let entry = list.narrow("in place", shape(rows, cols)).seed(8).config(registers);
        entry.memory(IN_PLACE).says(&["in_place: true"]);
    }
    for (rows, cols) in [(0, 8), (8, 0)] {
        list.narrow("nothing to compute", shape(rows, cols)).config(plain());
    }
}

fn extreme(list: &mut List<Problem>) {
    const NEG: f64 = f64::NEG_INFINITY;
    const ROWS: [[f64; 4]; 7] = [
        [-2e5, -2e5 - 1.0, -2e5 - 3.0, -2.1e5],
        [1e30, 1e30, -1e30, 0.0],
        [NEG, 1.0, 2.0, NEG],
        [NEG; 4],
        [-3e38, -3e38, -3e38, -3e38],
        [3e38, -3e38, 0.0, 3e38],
        [0.0, -0.0, 1e-40, -1e-40],
    ];
    for log in [false, true] {
        let problem = odd(Problem { log, lse: Some(0), ..masked(F32_MASK, shape(ROWS.len(), 4)) });
        list.narrow("extreme scores", problem).config(plain()).set(|_, values| {
            *values = [("x", ROWS.concat()), ("mask", vec![0.0; 28])].into();
        });
        // A finite mask value is a number, however low: the row is uniform, not dead.
        for low in [-1e9, f64::from(f32::MIN)] {
            list.narrow("a finite mask hides nothing", problem).config(plain()).set(move |_, values| {
                *values = [("x", vec![1.0; 28]), ("mask", vec![low; 28])].into();
            });
        }
    }
}

/// A scale, and rows of two whose scores are beyond f32, or nearly.
const BEYOND: [(f32, &[[f64; 2]]); 7] = [
    (2.0, &[[-3e38, -3e38], [3e38, 3e38], [3e38, 0.0], [-3e38, 3e38]]),
    (-2.0, &[[-3e38, -3e38], [3e38, 3e38], [3e38, 0.0], [-3e38, 3e38]]),
    (1e38, &[[10.0, -10.0], [10.0, 10.0], [-10.0, -10.0]]),
    (-1e38, &[[10.0, -10.0], [10.0, 10.0], [-10.0, -10.0]]),
    (f32::MAX, &[[1.0, 1.0], [1.0, 0.0], [-1.0, -1.0]]),
    (1e-30, &[[3e38, -3e38], [3e30, 2e30]]),
    (0.0, &[[3e38, -3e38], [0.0, 1.0]]),
];

fn beyond_f32(list: &mut List<Problem>) {
    let name = "scores beyond f32";
    for (scale, rows) in BEYOND {
        for log in [false, true] {
            let bare = Problem { scale, log, lse: Some(0), ..shape(rows.len(), 2) };
            let causal = Problem { dims: [1, rows.len()], causal: true, ..bare };
            for problem in [bare, masked(F32_MASK, bare), masked(MaskKind::Bytes, causal)] {
                let shown = if problem.causal { 1.0 } else { 0.0 };
                let entry = list.narrow(name, odd(problem)).config(plain()).within(1e-6);
                entry.set(move |problem, values| {
                    values.insert("x", rows.concat());
                    values.extend(problem.mask.map(|_| ("mask", vec![shown; 2 * rows.len()])));
                });
            }
        }
    }
    // What an adapter may flush: the scale, or x.
    for (scale, x) in [(1e-38, [3e38, -1e38, 0.0, 3e38]), (-1e38, [3e-39, -1e-39, 0.0, 2e-38])] {
        let bare = Problem { scale, lse: Some(0), ..shape(2, 2) };
        for problem in [bare, masked(F32_MASK, bare)] {
            list.narrow("subnormal numbers", odd(problem)).config(plain()).set(move |problem, values| {
                values.insert("x", x.to_vec());
                values.extend(problem.mask.map(|_| ("mask", vec![0.0; 4])));
            });
        }
    }
    // A mask that brings scores back, and one that decides.
    let problem = odd(Problem { scale: 2.0, lse: Some(0), ..masked(F32_MASK, shape(3, 2)) });
    list.narrow(name, problem).config(plain()).within(1e-6).set(|_, values| {
        let x = vec![3e38, 1.5e38, -3e38, -1.5e38, 3e38, 3e38];
        *values = [("x", x), ("mask", vec![-3e38, 0.0, 3e38, 0.0, 3e38, 0.0])].into();
    });
    // The largest scores are far apart, in parts of their own.
    let peaks = |problem: &Problem, values: &mut Values| {
        let cols = problem.cols;
        let x = (0..problem.rows * cols).map(|i| match i % cols {
            7 => 3e38,
            at if at == cols - 9 => 3e38,
            at => -3e38 * (at % 2) as f64,
        });
        values.insert("x", x.collect());
    };
    for (cols, lack) in [(4096 + 36, gpu as fn(&tileloom::Caps) -> _), (70_000, software)] {
        for log in [false, true] {
            let problem = Problem { scale: 2.0, log, ..shape(70, cols) };
            list.narrow(name, problem).unless(lack).says(&["algorithm=online"]).within(1e-6).set(peaks);
        }
    }
    let problem = Problem { scale: 2.0, lse: Some(0), ..shape(1, 152_064) };
    list.narrow(name, problem).says(&["algorithm=split"]).within(1e-6).set(peaks);
}

/// What one driver is enough for.
fn wide(list: &mut List<Problem>) {
    let registers = tile(Algorithm::Registers, 8, 1, 16, Reduce::None);
    let online = tile(Algorithm::Online, 8, 1, 4, Reduce::None);
    let split = tile(Algorithm::Split, 8, 8, 4, Reduce::Tree);
    let name = "checked modules give the same";
    let bias = odd(Problem { lse: Some(0), ..masked(F32_MASK, shape(21, 33)) });
    list.wide(name, bias).config(plain()).checked();
    let short = tile(Algorithm::Registers, 8, 1, 32, Reduce::None);
    list.wide(name, typed(Dtype::F16, shape(9, 7))).seed(5).config(short).checked();
    list.wide(name, shape(2, 20_004)).seed(3).config(split).checked();
    // Each part's maximum is far beyond that of the part before.
    for rising in [600.0, -600.0] {
        let entry = list.wide("parts of a row are far apart", shape(2, 20_004)).config(split);
        entry.set(move |problem, values| {
            let slope = |i: usize| rising * (i % problem.cols) as f64 / problem.cols as f64;
            values.get_mut("x").into_iter().flatten().enumerate().for_each(|(i, x)| *x += slope(i));
        });
    }
    list.wide(name, shape(70, 1100)).seed(3).config(online).checked();
    for (rows, cols) in [(3, 4096), (5, 3000), (2, 1028)] {
        let tile = tile(Algorithm::Registers, 256, 256, 4, Reduce::Tree);
        list.wide("a workgroup per row", shape(rows, cols)).seed(2).config(tile);
    }
    for (cols, offset) in [(64, 0), (7, 1)] {
        let problem = Problem { y_layout: Layout::at(offset), ..typed(Dtype::F16, shape(23, cols)) };
        list.wide("native f16", problem)
            .says(&["x: F16, y: F16,"])
            .seed(5)
            .config(Config { native_f16: true, ..registers });
    }
    for native_f16 in [false, true] {
        let problem = Problem { y: Dtype::F16, log: true, ..shape(4, 8) };
        let entry = list.wide("log-softmax in f16 overflows to infinity", problem);
        entry.config(Config { native_f16, ..registers }).set(|_, values| {
            let score = |i: usize| if i.is_multiple_of(8) { 0.0 } else { -65_500.0 - 10.0 * (i % 8) as f64 };
            values.insert("x", (0..32).map(score).collect());
        });
    }
    let name = "in place by every algorithm and storage";
    for (problem, config) in [
        (shape(9, 1100), online),
        (shape(2, 20_004), split),
        (typed(Dtype::F16, shape(23, 7)), registers),
        (typed(Dtype::F16, shape(9, 1201)), online),
        // The same view, said in two ways: strides of axes of size 1 do not count.
        (Problem { dims: [1, 4], y_layout: Layout::strided(0, [999, 999, 16]), ..shape(4, 16) }, registers),
    ] {
        let entry = list.wide(name, problem).seed(8).config(config).memory(IN_PLACE).says(&["in_place: true"]);
        if problem.cols % 2 == 1 {
            entry.says(&["edge: true"]);
        }
    }
    // The fused QKV layout: rows of 3 * 20, x in the first third, y in the second.
    let strides = [0, 0, 60];
    let fused = Problem {
        dims: [1, 13],
        x_layout: Layout::strided(0, strides),
        y_layout: Layout::strided(20, strides),
        ..shape(13, 20)
    };
    let entry = list.wide("x and y interleaved in one buffer", fused).seed(4).config(registers);
    entry.memory(IN_PLACE).says(&["writable [0]"]);
    let arena = Problem { lse: Some(0), ..masked(MaskKind::Bytes, shape(6, 8)) };
    list.wide("an arena: x, mask, y and lse in one buffer", arena).seed(4).arena();
    list.wide("a million columns", shape(1, 1_000_000)).seed(2).config(split);
}

/// Every form by every tile: what CI samples.
fn full(list: &mut List<Problem>) {
    let dtypes = [
        (Dtype::F32, Dtype::F32),
        (Dtype::F16, Dtype::F16),
        (Dtype::Bf16, Dtype::Bf16),
        (Dtype::F16, Dtype::F32),
        (Dtype::F32, Dtype::Bf16),
        (Dtype::Bf16, Dtype::F16),
    ];
    for (algorithm, wg_size, lanes, keep) in [
        (Algorithm::Registers, 8, 1, 64),
        (Algorithm::Registers, 32, 4, 16),
        (Algorithm::Registers, 64, 64, 4),
        (Algorithm::Registers, 256, 256, 1),
        (Algorithm::Online, 8, 1, 2),
        (Algorithm::Online, 8, 8, 8),
        (Algorithm::Online, 128, 128, 4),
        (Algorithm::Split, 8, 8, 4),
        (Algorithm::Split, 64, 64, 2),
    ] {
        for reduce in [Reduce::None, Reduce::Shuffle, Reduce::Subgroup, Reduce::Tree] {
            // What no device can have is no entry.
            let able = match reduce {
                Reduce::None => lanes == 1,
                Reduce::Subgroup => lanes == wg_size && lanes > 1,
                _ => lanes > 1,
            };
            for (x, y) in dtypes.into_iter().filter(|_| able) {
                product(list, x, y, tile(algorithm, wg_size, lanes, keep, reduce));
            }
        }
    }
    for (rows, cols) in [(1, 3), (70, 16), (33, 64), (17, 250), (9, 1024), (70, 4096), (1, 50_257), (2, 131_072)] {
        let problem = Problem { lse: Some(0), ..shape(rows, cols) };
        list.full("every candidate of the table", problem).seed(cols as u64).every_candidate();
    }
}

fn product(list: &mut List<Problem>, x: Dtype, y: Dtype, config: Config) {
    let Config { algorithm, wg_size, lanes, keep, reduce, .. } = config;
    let name = format!("{algorithm:?} wg{wg_size} lanes{lanes} keep{keep} {reduce:?} {x}>{y}");
    for mask in [None, Some(Mask::new(MaskKind::Bits))] {
        for (cols, offset) in [(1, 0), (63, 0), (59, 1), (40, 1), (60, 0)] {
            for (log, causal) in [(false, false), (true, false), (false, true), (true, true)] {
                let (x_layout, y_layout) = (Layout::at(2 * offset), Layout::at(offset));
                let base = Problem { dims: [2, 5], x, y, x_layout, y_layout, mask, lse: Some(1), ..shape(20, cols) };
                list.full(&name, Problem { log, causal, ..base }).seed(cols as u64).config(config);
            }
        }
    }
}

fn benches(list: &mut List<Problem>) {
    let scores = Problem { dims: [16, 512], ..shape(8 * 16 * 512, 512) };
    let mask = Mask::shared(F32_MASK, 512);
    list.bench("4096x4096 f32", shape(4096, 4096)).quick();
    list.beside("1024x1024 f32", shape(1024, 1024));
    list.bench("4096x4096 f16", typed(Dtype::F16, shape(4096, 4096)));
    list.bench("65536x64 f32", shape(65_536, 64));
    list.bench("8192x1000 f32", shape(8192, 1000)).quick();
    list.bench("1x152064 f32", shape(1, 152_064));
    list.bench("16x50257 f32", shape(16, 50_257)).quick();
    for own in models::softmaxes() {
        list.model(format!("{} {}", own.name, own.dtype), typed(own.dtype, shape(own.rows, own.cols)));
    }
    for n in [64, 256, 1024, 4096, 16_384, 65_536] {
        list.sweep("rows of n, 4194304 f32", n, shape((1 << 22) / n, n));
    }
    list.bench("8x16x512x512 f32 causal", Problem { causal: true, ..scores });
    list.bench("8x16x512x512 f32 masked", Problem { mask: Some(mask), ..scores });
}

/// Each two of: a size of every kind, dtypes, and masks, causal or an odd layout.
fn composed(list: &mut List<Problem>) {
    for (i, (rows, cols)) in
        [(7, 3), (65_536, 16), (33, 255), (512, 1000), (128, 1024), (4096, 4096), (16, 50_257), (2, 1_000_000)]
            .into_iter()
            .enumerate()
    {
        for (j, (x, y)) in DTYPES.into_iter().enumerate() {
            let base = Problem { x, y, ..shape(rows, cols) };
            let masks = [MaskKind::Bits, MaskKind::Bytes, MaskKind::Additive(x)];
            list.compose(match (i + j) % 5 {
                0 => base,
                1 => Problem { y_layout: Layout::at(1), causal: true, ..base },
                mask => Problem { lse: Some(0), causal: true, ..masked(masks[mask - 2], base) },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;
    use crate::flush::Flushes;
    use crate::harness;
    use crate::harness::Call;

    fn x(shape: &[usize]) -> Case {
        let values: Vec<f64> = (0..shape.iter().product()).map(|i: usize| i as f64).collect();
        Case::new("softmax").tensor("x", Tensor::values(Dtype::F32, shape, &values))
    }

    #[test]
    fn faults_name_what_is_wrong() {
        let fault = crate::kernel::fault::<Problem>;
        assert_eq!(fault(&Case::new("softmax")), "tensor `x` is missing, expected [.., cols]");
        let integers = Case::new("softmax").tensor("x", Tensor::indices(&[2], &[1, 2]));
        assert_eq!(fault(&integers), "tensor `x` has dtype U32, expected F32, F16 or BF16");
        assert_eq!(fault(&x(&[])), "tensor `x` has shape [], expected [.., cols]");
        assert_eq!(
            fault(&x(&[3]).option("causal", true)),
            "tensor `x` has shape [3], expected at least two axes, by `causal`"
        );
        assert_eq!(
            fault(&x(&[3]).option("out_dtype", "f64")),
            "option `out_dtype` is \"f64\", expected f32, f16 or bf16"
        );
        assert_eq!(fault(&x(&[3]).option("log", "yes")), "option `log` is \"yes\", expected true or false");
        assert!(fault(&x(&[3]).option("axis", 0)).starts_with("option `axis` is not known, expected one of: causal,"));
        let mask = |shape: &[usize]| Tensor::bools(shape, &vec![true; shape.iter().product()]);
        assert_eq!(
            fault(&x(&[2, 3]).tensor("mask", mask(&[2]))),
            "tensor `mask` has shape [2], expected one that broadcasts to x, [2, 3]"
        );
        assert_eq!(
            fault(&x(&[2, 3]).tensor("mask", Tensor::indices(&[3], &[1, 2, 3]))),
            "tensor `mask` has dtype U32, expected F32, F16, BF16, BOOL or U8"
        );
        assert_eq!(
            fault(&x(&[2, 3]).tensor("bias", mask(&[3]))),
            "tensor `bias` is not used by this op, expected only: mask, x, expected.y, expected.lse"
        );
        assert_eq!(
            fault(&x(&[2, 3]).tensor("expected.lse", mask(&[2, 3]))),
            "tensor `expected.lse` has shape [2, 3], expected [2]"
        );
        assert_eq!(fault(&x(&[2, 3]).tensor("mask", mask(&[1, 3])).option("format", "pt")), "understood");
        assert_eq!(fault(&x(&[2, 0]).tensor("mask", mask(&[2, 0]))), "understood");
    }

    #[test]
    fn flushed_inputs_are_allowed_where_they_are_flushed() {
        // Scores 0.5 and 0, or 0 and 0.
        let call = Call::new(Problem { scale: 1e38, ..shape(1, 2) }, [("x", vec![5e-39, 0.0])].into());
        let [kept, flushed, f16] =
            [(false, false), (true, false), (false, true)].map(|(f32, f16)| Flushes { f32, f16, exp: false });
        let wrong = |y: [f64; 2], flushes| {
            let output = harness::Output { values: [("y", y.to_vec())].into(), steps: Vec::new() };
            call.judge_on(&output, flushes).wrong
        };
        let share = 1.0 / (1.0 + (-0.5f64).exp());
        for flushes in [kept, flushed, f16] {
            assert_eq!(wrong([share, 1.0 - share], flushes), 0);
            assert_eq!(wrong([0.8, 0.2], flushes), 2);
        }
        assert_eq!([kept, flushed, f16].map(|flushes| wrong([0.5, 0.5], flushes)), [2, 0, 2]);
        // A scale counts as an input does.
        let tiny = Call::new(Problem { scale: 1e-38, ..shape(1, 2) }, [("x", vec![1e38, 0.0])].into());
        let output = harness::Output { values: [("y", vec![0.5; 2])].into(), steps: Vec::new() };
        assert_eq!([kept, flushed].map(|flushes| tiny.judge_on(&output, flushes).wrong), [2, 0]);
    }

    #[test]
    fn masks_that_strides_cannot_say_are_written_out() {
        let fault = crate::kernel::fault::<Problem>;
        let shape = [2, 3, 2, 3, 2, 4];
        let from = [2, 1, 2, 1, 2, 1];
        assert!(softmax::broadcast(MaskKind::Bytes, &from, &shape).is_none());
        let values: Vec<f64> = (0..8).map(f64::from).collect();
        let all = case::expand(&from, &values, &shape);
        for (i, &v) in all.iter().enumerate() {
            let at = case::place(&shape, i);
            assert_eq!(v, (at[0] * 4 + at[2] * 2 + at[4]) as f64);
        }
        let call = x(&shape).tensor("mask", Tensor::bools(&from, &[true; 8]));
        assert_eq!(fault(&call), "understood");
    }

    #[test]
    fn a_causal_benchmark_counts_what_is_visible() {
        let problem = Problem { dims: [1, 4], causal: true, ..shape(4, 4) };
        assert_eq!(problem.cost(), Cost { flops: 50.0, bytes: 40.0 + 64.0 });
    }
}
