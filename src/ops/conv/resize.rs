//! A picture in another size, `[batch, channels, height, width]` or channels last: nearest, bilinear, bicubic, with and without
//! antialiasing; average pooling; and their gradients.
//!
//! Each axis is resampled by weights of its own: `y[i, j] = sum a[i, u] b[j, v] x[u, v]`, of which few are not 0. They are computed in f64 on
//! the host, and read from a table. The gradient has the same form with turned weights ([`Problem::adjoint`]).
//!
//! # Algorithms
//! * [`Algorithm::Direct`]: both axes in one step.
//! * [`Algorithm::Separable`]: the width first, into scratch of f32, then the height: fewer products, where windows are large.
//!
//! # Sources
//! ONNX's Resize; Keys, "Cubic convolution interpolation for digital image processing", 1981. PyTorch's `interpolate`: `nearest` is
//! [`Rounding::Floor`] with [`Coordinates::Asymmetric`], `nearest-exact` [`Rounding::HalfUp`], `bicubic` `Cubic(-0.75)`; antialiased (as Pillow)
//! it excludes what is outside, and `bicubic` is `Cubic(-0.5)`.

use super::Order;
use super::planes::{Area, Row, Walk, planes_params};
pub use super::taps::Span;
use super::taps::spans;
use crate::config::words;
use crate::layout::chunking;
use crate::ops::prelude::*;

defaults! {
    /// What is computed. Pairs are of height and width.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Pictures.
        pub batch: usize = 1,
        /// Channels.
        pub channels: usize = 1,
        /// Height and width of what is resized.
        pub size: [usize; 2] = [1, 1],
        /// Height and width of the result.
        pub out: [usize; 2] = [1, 1],
        /// How places of the result come from those of x.
        pub rule: Rule = Rule::Linear,
        /// The filter is widened where the result is smaller. Of [`Rule::Linear`] and [`Rule::Cubic`].
        pub antialias: bool = false,
        /// Places outside of x have no part, and the weights of the others are divided by their sum; else the edges are repeated. As
        /// `antialias`.
        pub exclude_outside: bool = false,
        /// Where a place of the result lies on x.
        pub coordinates: Coordinates = Coordinates::HalfPixel,
        /// Places of the result for one of x, where coordinates go by these numbers; without, `out / size`.
        pub scale: Option<[f64; 2]> = None,
        /// The gradient: `x` is that of the result, of its size, and `y` that of what was resized.
        pub adjoint: bool = false,
        /// The order of the axes of x and y.
        pub order: Order = Order::Nchw,
        /// Dtype of x.
        pub x: Dtype = Dtype::F32,
        /// Strides of the three outer axes of x.
        pub x_layout: Layout<3> = Layout::default(),
        /// Dtype of y.
        pub y: Dtype = Dtype::F32,
        /// Strides of the three outer axes of y. Rows must not overlap.
        pub y_layout: Layout<3> = Layout::default(),
    }
}

/// How places of the result come from those of x, along each axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// The nearest place, unchanged.
    Nearest(Rounding),
    /// Of two neighbours, by distance.
    Linear,
    /// Of four neighbours, by a cubic with this slope, -0.75 or -0.5.
    Cubic(f32),
    /// Means of windows: average pooling. `out` is [`Windows::out`].
    Average(Windows),
    /// Means of windows that divide the axis: place `i` has those from `floor(i size / out)` to `ceil((i + 1) size / out)`. With an `out` of 1
    /// the mean of all.
    AdaptiveAverage,
}

words! {
    /// Which place is the nearest.
    #[derive(Default)]
    pub enum Rounding {
        /// The one before.
        #[default]
        Floor = "floor",
        /// The one behind.
        Ceil = "ceil",
        /// The nearest, of two the first.
        HalfDown = "round_prefer_floor",
        /// The nearest, of two the second.
        HalfUp = "round_prefer_ceil",
    }
}

words! {
    /// Where place `i` of the result lies on x.
    #[derive(Default)]
    pub enum Coordinates {
        /// `(i + 1/2) size / out - 1/2`.
        #[default]
        HalfPixel = "half_pixel",
        /// The same, but 0 for an `out` of 1.
        HalfPixelOrZero = "pytorch_half_pixel",
        /// `i (size - 1) / (out - 1)`.
        AlignCorners = "align_corners",
        /// `i size / out`.
        Asymmetric = "asymmetric",
    }
}

defaults! {
    /// Windows of a pooling.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Windows {
        /// Height and width of a window.
        pub kernel: [usize; 2] = [1, 1],
        /// Distance of neighbours.
        pub stride: [usize; 2] = [1, 1],
        /// Top, bottom, left and right.
        pub padding: [usize; 4] = [0; 4],
        /// The last window may reach past the padding, but must start in x or in the padding before it.
        pub ceil: bool = false,
        /// Places in the padding count as zeros; else they do not count.
        pub count_padding: bool = false,
    }
}

impl Windows {
    /// Windows of a picture of this height and width.
    pub fn out(&self, size: [usize; 2]) -> [usize; 2] {
        std::array::from_fn(|axis| {
            let [before, after] = [self.padding[2 * axis], self.padding[2 * axis + 1]];
            let stride = self.stride[axis].max(1);
            let places = size[axis].saturating_add(before);
            let Some(rest) = places.saturating_add(after).checked_sub(self.kernel[axis]) else { return 0 };
            match self.ceil {
                false => rest / stride + 1,
                true => {
                    let all = rest.div_ceil(stride);
                    all + usize::from(all.saturating_mul(stride) < places)
                }
            }
        })
    }

    fn check(&self) -> Checked {
        for (arg, [y, x]) in [("kernel", self.kernel), ("stride", self.stride)] {
            if y.min(x) == 0 || y.max(x) > MOST {
                return Err(ErrorKind::invalid(arg, format!("{y}, {x}: from 1 to {MOST}")));
            }
        }
        match self.padding.iter().find(|&&side| side > MOST) {
            Some(side) => Err(ErrorKind::invalid("padding", format!("{side}: at most {MOST}"))),
            None => Ok(()),
        }
    }
}

/// Sizes of an axis, at most.
const MOST: usize = 1 << 30;

config! {
    /// How it is computed.
    pub struct Config {
        /// The algorithm.
        pub algorithm: Algorithm,
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// Planes that an invocation takes, one after the other: channels, or where these are last pictures.
        pub planes: u32,
        /// f16 tensors are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

words! {
    /// The algorithm.
    pub enum Algorithm {
        /// Both axes at once.
        Direct = "direct",
        /// The width, then the height.
        Separable = "separable",
    }
}

/// A step of scratch costs as much as so many products for each of its places.
const STEP: f64 = 4.0;

/// What a Problem's layouts and sizes resolve to.
#[derive(Debug, Clone)]
pub(crate) struct Views {
    x: View<3>,
    y: View<3>,
    /// Between the steps of a separable resampling: the height of x, and the width of y.
    middle: View<3>,
    /// Of rows and columns.
    spans: [Vec<Span>; 2],
}

impl Views {
    /// The most weights of a place, of rows and columns.
    fn most(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.spans[axis].iter().map(|span| span.weights.len()).max().unwrap_or(0))
    }
}

/// Which of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    /// Both axes.
    Whole,
    /// The width, into scratch.
    Width,
    /// The height, from there.
    Height,
}

impl Step {
    fn of(algorithm: Algorithm) -> &'static [Step] {
        match algorithm {
            Algorithm::Direct => &[Step::Whole],
            Algorithm::Separable => &[Step::Width, Step::Height],
        }
    }
}

/// What follows from the Problem and the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    step: Step,
    /// Elements per chunk.
    vec: u32,
    x: Storage,
    y: Storage,
    /// Words of a packed y are shared by rows.
    edge: bool,
    channels_last: bool,
}

planes_params! {
    fn of(pane: &Pane);
    [x = pane.x.params(), y = pane.y.params()]
    rows: u32 = pane.area.size[0] as u32,
}

/// What a step goes over.
struct Pane {
    form: Form,
    x: View<3>,
    y: View<3>,
    /// That of y.
    area: Area,
}

impl Problem {
    /// Average pooling of these pictures.
    pub fn average(batch: usize, channels: usize, size: [usize; 2], windows: Windows) -> Problem {
        let out = windows.out(size);
        Problem { batch, channels, size, out, rule: Rule::Average(windows), ..Problem::default() }
    }

    /// Height and width of `x`, and of `y`.
    pub fn from_to(&self) -> [[usize; 2]; 2] {
        if self.adjoint { [self.out, self.size] } else { [self.size, self.out] }
    }

    /// Outer sizes and inner size of `x`.
    pub fn x_sizes(&self) -> ([usize; 3], usize) {
        self.ordered(self.from_to()[0])
    }

    /// Outer sizes and inner size of `y`.
    pub fn y_sizes(&self) -> ([usize; 3], usize) {
        self.ordered(self.from_to()[1])
    }

    /// Which places of x, with what weights, make each row (`axis` 0) or column (1) of y.
    ///
    /// # Errors
    /// Those of the Problem's sizes and options, which may have too many weights.
    pub fn spans(&self, axis: usize) -> Result<Vec<Span>> {
        crate::ops::named::<Self, _>(|| {
            self.check_sizes()?;
            spans(self, axis)
        })
    }

    fn check_sizes(&self) -> Checked {
        sizes_fit([("batch", self.batch), ("channels", self.channels)])?;
        for (arg, [y, x]) in [("size", self.size), ("out", self.out)] {
            if y.max(x) > MOST {
                return Err(ErrorKind::invalid(arg, format!("{y}, {x}: at most {MOST}")));
            }
        }
        if let Some(scale) = self.scale.filter(|scale| scale.iter().any(|&s| !(1e-6..=1e6).contains(&s))) {
            return Err(ErrorKind::invalid("scale", format!("{scale:?}: from 1e-6 to 1e6")));
        }
        let filter = matches!(self.rule, Rule::Linear | Rule::Cubic(_));
        for (arg, option) in [("antialias", self.antialias), ("exclude_outside", self.exclude_outside)] {
            ErrorKind::unless(filter || !option, arg, format_args!("{:?} has no filter", self.rule))?;
        }
        match self.rule {
            Rule::Cubic(a) if !(-4.0..=4.0).contains(&a) => {
                return Err(ErrorKind::invalid("rule", format!("a slope of {a}: from -4 to 4")));
            }
            Rule::Average(windows) => {
                windows.check()?;
                let out = windows.out(self.size);
                ErrorKind::unless(out == self.out, "out", format_args!("{:?}, its windows make {out:?}", self.out))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn ordered(&self, [height, width]: [usize; 2]) -> ([usize; 3], usize) {
        match self.order {
            Order::Nchw => ([self.batch, self.channels, height], width),
            Order::Nhwc => ([self.batch, height, width], self.channels),
        }
    }

    fn has_f16(&self) -> bool {
        [self.x, self.y].contains(&Dtype::F16)
    }

    fn is_empty(&self) -> bool {
        self.batch == 0 || self.channels == 0 || self.from_to()[1].contains(&0)
    }

    fn pane(&self, views: &Views, config: &Config, step: Step) -> Pane {
        let [[from_h, _], to] = self.from_to();
        let held = |dtype| Storage::held(dtype, config.native_f16);
        let (x, from) = match step {
            Step::Height => (views.middle, Storage::F32),
            Step::Whole | Step::Width => (views.x, held(self.x)),
        };
        let (y, stored, out) = match step {
            Step::Width => (views.middle, Storage::F32, [from_h, to[1]]),
            Step::Whole | Step::Height => (views.y, held(self.y), to),
        };
        let channels_last = self.order == Order::Nhwc;
        // Columns have weights of their own.
        let (vec, edge) = match channels_last {
            true => chunking(&[&x, &y], &y, stored),
            false if stored.packed() => (2, !y.multiple_of(2)),
            false => (1, false),
        };
        let area = Area { order: self.order, batch: self.batch, channels: self.channels, size: out, vec };
        Pane { form: Form { step, vec, x: from, y: stored, edge, channels_last }, x, y, area }
    }

    fn panes(&self, views: &Views, config: &Config) -> Vec<Pane> {
        Step::of(config.algorithm).iter().map(|&step| self.pane(views, config, step)).collect()
    }

    /// The table of a step: where each row and column starts, how many, and their weights.
    fn table(&self, views: &Views, step: Step) -> Vec<u32> {
        let [[from_h, _], [to_h, _]] = self.from_to();
        let same = |size: usize| (0..size).map(|first| Span { first, weights: vec![1.0] }).collect::<Vec<_>>();
        let (rows, columns) = match step {
            Step::Whole => (views.spans[0].clone(), views.spans[1].clone()),
            Step::Width => (same(from_h), views.spans[1].clone()),
            Step::Height => (views.spans[0].clone(), same(self.from_to()[1][1])),
        };
        debug_assert_eq!(rows.len(), if step == Step::Width { from_h } else { to_h });
        let all: Vec<&Span> = rows.iter().chain(&columns).collect();
        let mut at = 3 * all.len();
        let mut words = Vec::new();
        for span in &all {
            words.extend([span.first as u32, span.weights.len() as u32, at as u32]);
            at += span.weights.len();
        }
        words.extend(all.iter().flat_map(|span| &span.weights).map(|&weight| (weight as f32).to_bits()));
        words
    }

    /// Products of an algorithm, for each plane.
    fn work(&self, views: &Views, algorithm: Algorithm) -> f64 {
        let [[from_h, _], [to_h, to_w]] = self.from_to().map(|size| size.map(|n| n as f64));
        let [rows, columns] = views.most().map(|n| n as f64);
        match algorithm {
            Algorithm::Direct => to_h * to_w * rows * columns,
            Algorithm::Separable => from_h * to_w * (columns + STEP) + to_h * to_w * rows,
        }
    }
}

slots!(X, Y, SCRATCH, TAPS, TAPS_HEIGHT);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { step, vec, x, y, edge, channels_last } = self.form;
        let (from, to, taps) = match step {
            Step::Whole => (X, Y, TAPS),
            Step::Width => (X, SCRATCH, TAPS),
            Step::Height => (SCRATCH, Y, TAPS_HEIGHT),
        };
        let shader = self
            .begin(self.config.wg_size, 0, vec)
            .params::<Params>()
            .input(from, "x", x)
            .output(to, "y", y, edge)
            .reads(taps, "taps", "u32");
        match channels_last {
            true => shader.import("resize_pixels"),
            false => shader.gather("column").import("resize_planes"),
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x` is read, `y` is written.
        x, y;
        /// The caller's scratch of [`scratch_bytes`], of a separable resampling; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("resize");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let [[from_h, _], [_, to_w]] = self.from_to();
        self.check_sizes()?;
        let ((x_sizes, x_inner), (y_sizes, y_inner)) = (self.x_sizes(), self.y_sizes());
        let x = self.x_layout.view("x", x_sizes, x_inner)?;
        let y = self.y_layout.view("y", y_sizes, y_inner)?.apart("y")?;
        let (sizes, inner) = self.ordered([from_h, to_w]);
        let middle = Layout::default().view("scratch", sizes, inner)?;
        let spans = [spans(self, 0)?, spans(self, 1)?];
        Ok(Views { x, y, middle, spans })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let native_f16 = caps.prefers_native_f16(self.has_f16());
        let mut algorithms = [Algorithm::Direct, Algorithm::Separable];
        algorithms.sort_by(|&a, &b| self.work(views, a).total_cmp(&self.work(views, b)));
        let of = |algorithm| {
            let first = Config { algorithm, wg_size: 1, planes: 1, native_f16 };
            let last = *Step::of(algorithm).last().expect("a step");
            let (wg_size, planes) = Row::of(caps).tile(caps, &self.pane(views, &first, last).area);
            let best = Config { wg_size, planes, ..first };
            [best, Config { planes: 1, ..best }]
        };
        algorithms.into_iter().flat_map(of).collect()
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        caps.check_native_f16(config.native_f16, self.has_f16())?;
        let lines = self.from_to()[0][0] as u64;
        Misfit::unless(config.algorithm == Algorithm::Direct || lines > 0, "separable needs rows of x", lines)?;
        let [rows, columns] = views.most().map(|n| n as u64);
        for pane in self.panes(views, config) {
            let [rows, columns] = match pane.form.step {
                Step::Whole => [rows, columns],
                Step::Width => [1, columns],
                Step::Height => [rows, 1],
            };
            // An output in chunks of two goes through both.
            let each = Rounds::nest(rows, Rounds::plain(columns)).times(u64::from(pane.form.vec.min(2)));
            pane.area.check(caps, [config.wg_size, config.planes], each)?;
        }
        Ok(())
    }

    /// What the first of two steps leaves.
    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        let of_two = config.algorithm == Algorithm::Separable && !self.is_empty();
        if of_two { product!(4u32, views.middle.end) } else { 0 }
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        self.panes(views, config).iter().map(|pane| pass(config, pane.form, writable).shader()).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(X, "x", buffers.x, views.x.of(self.x))?;
        args.write(Y, "y", buffers.y, views.y.of(self.y))?;
        args.scratch(SCRATCH, buffers.scratch, self.scratch(views, config))?;
        args.check()?;
        if self.is_empty() {
            return Ok(Dispatch::default());
        }
        let mut writable = args.writable();
        if args.shares(SCRATCH) {
            writable = writable.with(SCRATCH);
        }
        for &step in Step::of(config.algorithm) {
            let slot = if step == Step::Height { TAPS_HEIGHT } else { TAPS };
            args.table(slot, "taps", &self.table(views, step))?;
        }
        let steps = self.panes(views, config).into_iter().map(|pane| {
            let grid = args.fold(pane.area.invocations(config.planes).div_ceil(config.wg_size.into()))?;
            let params = Params::of(&pane, pane.area.walk(config.planes), grid[0]);
            args.step(&pass(config, pane.form, writable), &params, grid)
        });
        Ok(Dispatch::of(steps.collect::<Checked<_>>()?))
    }
}

/// The pipeline of a step: its key knows no planes, which are a parameter.
fn pass(config: &Config, form: Form, writable: Slots) -> Pass<Config, Form> {
    let config = Config { planes: 1, ..*config };
    Pass { stem: "resize", config, form, writable }
}
