//! Group norm, instance norm, layer norm over channels, and batch norm, of pictures `[batch, channels, height, width]` or channels last:
//! `y = act(weight * (x - mean) / sqrt(variance + eps) + bias)`, with the statistics of what [`Over`] says, and weight and bias
//! of each channel (absent: 1 and 0). One dimension is a height of 1; of more than two the outer ones are one height.
//!
//! The variance divides by the number of elements. Sums are f32 whatever the dtypes.
//!
//! # What holds
//! * Values are taken as distances from one of them before anything is added up, moments are joined by Chan's formula, and what a mean loses where
//!   it is rounded is kept beside it: a set with a mean of 1e4 and a deviation of 1e-2 loses only what its own f32 values have lost.
//! * Squares are scaled by a power of two that follows from `eps`, as those of [`norm`](crate::norm).
//! * A set of equal elements has a variance of 0, and gives `act(bias)`.
//! * No atomics on floats: the same input gives the same bits.
//!
//! # Batch norm
//! In training ([`Statistics::Update`]) running statistics, f32, are moved towards those of the batch by a momentum, the variance without
//! bias, as PyTorch has it. In inference ([`Statistics::Given`]) they are what x is normalised by; [`BatchNorm::fold`] joins them with the
//! convolution in front instead.
//!
//! # Algorithms
//! * [`Algorithm::Whole`]: sets that stay in a cache, several per workgroup where they are short; one step.
//! * [`Algorithm::Split`]: moments of parts of sets, in scratch; these joined in their order; then y. At most 256 parts a set.
//!
//! Neighbouring invocations read neighbouring elements, but in [`Algorithm::Whole`] of groups, channels last: there those of a group. No adapter is
//! measured yet.

use super::Order;
use super::boxes::{self, Area, PARTS, Shape, Walk, merge, vector, vectors, walk_params};
pub use super::boxes::{Algorithm, Config, Over, Running};
use crate::activation::{Activation, check_slope};
use crate::layout::chunking;
use crate::norm::{Vector, check_options, scale};
use crate::ops::prelude::*;
use crate::softmax::Reduce;

defaults! {
    /// What is computed.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Pictures.
        pub batch: usize = 1,
        /// Channels.
        pub channels: usize = 1,
        /// Height and width.
        pub size: [usize; 2] = [1, 1],
        /// What statistics are of.
        pub over: Over = Over::Group(1),
        /// Where they come from.
        pub statistics: Statistics = Statistics::Own,
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
        /// Multiplies each channel.
        pub weight: Option<Vector> = None,
        /// Added to each channel.
        pub bias: Option<Vector> = None,
        /// Applied last.
        pub activation: Activation = Activation::None,
        /// That of [`Activation::LeakyRelu`] below 0; the factor of [`Activation::Elu`].
        pub slope: f32 = 0.01,
        /// Added to the variance; at least 0.
        pub eps: f32 = 1e-5,
        /// Write the statistics, from this element of their binding, for the gradient: f32 `[3, sets]`, means, 1 / deviations, and what the means
        /// have lost where they were rounded. Sets are `[batch, groups]`, `[batch, height, width]` or `[channels]`.
        pub stats: Option<usize> = None,
    }
}

/// Where statistics come from.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Statistics {
    /// From x.
    #[default]
    Own,
    /// From x, and running statistics are moved towards them by `momentum`, from 0 to 1. Of [`Over::Batch`].
    Update {
        /// Those that are moved.
        running: Running,
        /// The share of the batch's.
        momentum: f32,
    },
    /// These are given, as in inference. Of [`Over::Batch`].
    Given(Running),
}

impl Statistics {
    /// Where running ones start, where there are such.
    pub fn running(&self) -> Option<Running> {
        match *self {
            Statistics::Own => None,
            Statistics::Update { running, .. } | Statistics::Given(running) => Some(running),
        }
    }
}

walk_params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: [Strides; 2]);
    [x = views[0], y = views[1]]
    weight_at: u32 = p.weight.map_or(0, |weight| weight.offset as u32),
    bias_at: u32 = p.bias.map_or(0, |bias| bias.offset as u32),
    stats_at: u32 = p.stats.unwrap_or(0) as u32,
    mean_at: u32 = p.statistics.running().map_or(0, |running| running.mean as u32),
    variance_at: u32 = p.statistics.running().map_or(0, |running| running.variance as u32),
    momentum: f32 = p.momentum(),
    slope: f32 = p.slope,
    scale: f32 = scale(p.eps),
    eps: f32 = p.eps * scale(p.eps) * scale(p.eps),
    one: f32 = 1.0,
}

crate::params! {
    /// What a run of the step that joins tells the shader.
    pub struct JoinParams;
    fn of(p: &Problem, area: &Area, walk: &Walk, grid_x: u32) {
        sets: u32 = area.shape.sets() as u32,
        fold: u32 = if walk.boxes.columns { area.set_places().1[1] } else { 1 },
        parts: u32 = walk.parts() as u32,
        results: u32 = walk.results as u32,
        first_step: u32 = 1,
        stats_at: u32 = p.stats.unwrap_or(0) as u32,
        mean_at: u32 = p.statistics.running().map_or(0, |running| running.mean as u32),
        variance_at: u32 = p.statistics.running().map_or(0, |running| running.variance as u32),
        momentum: f32 = p.momentum(),
        scale: f32 = scale(p.eps),
        eps: f32 = p.eps * scale(p.eps) * scale(p.eps),
        one: f32 = 1.0,
        grid_x: u32 = grid_x,
    }
}

/// Which of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Moments,
    Join,
    Apply,
    Whole,
}

/// What follows from the Problem, the device and the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    step: Step,
    /// Elements per chunk.
    vec: u32,
    x: Storage,
    y: Storage,
    /// Lines of a packed y share words.
    edge: bool,
    /// x is read from the binding of y.
    in_place: bool,
    weight: Option<Storage>,
    bias: Option<Storage>,
    activation: Activation,
    /// Statistics are written: `Join` always does.
    stats: bool,
    update: bool,
    given: bool,
    /// Columns of a box are of several sets; of several channels; an invocation has one chunk of each line.
    columns: bool,
    by_column_set: bool,
    by_column_channel: bool,
    one_chunk: bool,
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    x: View<3>,
    y: View<3>,
    weight: Option<View<1>>,
    bias: Option<View<1>>,
    stats: Option<View<1>>,
    running: Option<[View<1>; 2]>,
}

/// Where a region of scratch starts: a multiple of every alignment.
pub(super) const ALIGN: u64 = 256;

impl Problem {
    /// Outer sizes and inner size of x and y.
    pub fn sizes(&self) -> ([usize; 3], usize) {
        self.shape().sizes()
    }

    /// How many have a mean and a variance.
    pub fn sets(&self) -> usize {
        self.shape().sets() as usize
    }

    pub(super) fn shape(&self) -> Shape {
        let Problem { batch, channels, size, order, over, .. } = *self;
        Shape { batch, channels, size, order, over }
    }

    /// Refuses sizes and options that contradict each other.
    pub(super) fn check_options(&self) -> Checked {
        let shape = self.shape();
        shape.check()?;
        check_options(self.eps, 0.0)?;
        check_slope(self.slope)?;
        if self.given() && self.stats.is_some() {
            return Err(ErrorKind::invalid("stats", "asked for, and given"));
        }
        if let Statistics::Update { momentum, .. } = self.statistics {
            ErrorKind::unless((0.0..=1.0).contains(&momentum), "momentum", format_args!("{momentum}: from 0 to 1"))?;
            let count = shape.elements();
            let enough = count > 1 || shape.sets() == 0;
            ErrorKind::unless(enough, "size", format_args!("{count} elements of a channel: a variance needs 2"))?;
        }
        Ok(())
    }

    /// The same with one axis of places, where those of x and y are one.
    pub(crate) fn merged(&self) -> Problem {
        let Ok(views) = self.resolve() else { return *self };
        let axis = if self.order == Order::Nhwc { 1 } else { 2 };
        if views.x.sizes[axis] != 1 {
            return *self;
        }
        let [x_layout, y_layout] = [self.x_layout, self.y_layout].map(|layout| boxes::merged(axis, layout));
        Problem { size: [1, self.size[0] * self.size[1]], x_layout, y_layout, ..*self }
    }

    fn momentum(&self) -> f32 {
        if let Statistics::Update { momentum, .. } = self.statistics { momentum } else { 0.0 }
    }

    fn has_f16(&self) -> bool {
        let dtype = |vector: Option<Vector>| vector.map(|vector| vector.dtype);
        [Some(self.x), Some(self.y), dtype(self.weight), dtype(self.bias)].contains(&Some(Dtype::F16))
    }

    fn given(&self) -> bool {
        matches!(self.statistics, Statistics::Given(_))
    }

    fn area(&self, views: &Views) -> Area {
        Area::of(self.shape(), &views.x)
    }

    /// Elements per chunk of what is written, and whether lines of a packed y share words.
    fn chunking(&self, views: &Views, native_f16: bool) -> (u32, bool) {
        let by_column = [views.weight, views.bias].into_iter().flatten().filter(|_| self.order == Order::Nhwc);
        let vectors: Vec<View<3>> = by_column.map(|view| view.padded()).collect();
        let all: Vec<&View<3>> = [&views.x, &views.y].into_iter().chain(&vectors).collect();
        chunking(&all, &views.y, Storage::held(self.y, native_f16))
    }

    /// Elements per chunk of a step.
    fn vec(&self, views: &Views, config: &Config, step: Step) -> u32 {
        match step {
            Step::Moments => {
                if views.x.multiple_of(4) {
                    4
                } else {
                    1
                }
            }
            Step::Join => 1,
            Step::Apply | Step::Whole => self.chunking(views, config.native_f16).0,
        }
    }

    fn steps(&self, config: &Config) -> &'static [Step] {
        match config.algorithm {
            _ if self.given() => &[Step::Apply],
            Algorithm::Whole => &[Step::Whole],
            Algorithm::Split => &[Step::Moments, Step::Join, Step::Apply],
        }
    }

    /// How a step goes over x.
    fn walk(&self, views: &Views, config: &Config, step: Step) -> Walk {
        let (area, vec) = (self.area(views), self.vec(views, config, step));
        match step {
            Step::Whole => area.walk(area.sets(true), vec, config.lanes, None, PARTS),
            Step::Apply => area.walk(area.elements(), vec, config.wg_size, Some(config.run), u64::MAX),
            Step::Moments => area.walk(area.sets(false), vec, config.lanes, Some(config.run), PARTS),
            Step::Join => self.walk(views, config, Step::Moments),
        }
    }

    /// Bytes of scratch: of moments of parts, and of statistics that the Problem does not ask for.
    fn regions(&self, views: &Views, config: &Config) -> [u64; 2] {
        let walk = self.walk(views, config, Step::Moments);
        let stats = if self.stats.is_none() { product!(12u32, self.shape().sets()) } else { 0 };
        [product!(16u32, walk.parts(), walk.results), stats]
    }

    fn pass(&self, views: &Views, config: &Config, step: Step, writable: Slots, in_place: bool) -> Pass<Config, Form> {
        let held = |dtype| Storage::held(dtype, config.native_f16);
        let (area, walk) = (self.area(views), self.walk(views, config, step));
        let writes = matches!(step, Step::Apply | Step::Whole);
        let edge = writes && self.chunking(views, config.native_f16).1;
        let vector = |vector: Option<Vector>| vector.filter(|_| writes).map(|vector| held(vector.dtype));
        let finishes = matches!(step, Step::Join | Step::Whole);
        let columns = matches!(step, Step::Moments | Step::Whole) && walk.boxes.columns;
        let form = Form {
            step,
            vec: self.vec(views, config, step),
            x: if step == Step::Join { Storage::F32 } else { held(self.x) },
            y: if writes { held(self.y) } else { Storage::F32 },
            edge,
            in_place: in_place && writes,
            weight: vector(self.weight),
            bias: vector(self.bias),
            activation: if writes { self.activation } else { Activation::None },
            stats: step == Step::Join || finishes && self.stats.is_some(),
            update: finishes && matches!(self.statistics, Statistics::Update { .. }),
            given: self.given(),
            columns,
            by_column_set: writes && area.by_column_set(),
            by_column_channel: writes && area.by_column_channel(),
            one_chunk: writes && walk.boxes.columns,
        };
        Pass { stem: stem(step), config: config.key(), form, writable }
    }
}

fn stem(step: Step) -> &'static str {
    match step {
        Step::Moments => "group_norm_moments",
        Step::Join => "group_norm_join",
        Step::Apply => "group_norm_apply",
        Step::Whole => "group_norm_whole",
    }
}

slots!(X, Y, WEIGHT, BIAS, STATS, MEAN, VARIANCE, PARTIALS);

/// Fields of what a team joins: a number, and three chunks.
const FIELDS: u32 = 4;

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { step, vec, x, y, edge, in_place, activation, .. } = self.form;
        let (Config { wg_size, .. }, joins) = (self.config, step != Step::Apply);
        let wg_bytes = if joins { self.config.wg_bytes(vec, FIELDS) } else { 0 };
        let mut shader = self.begin(wg_size, wg_bytes, vec);
        shader = if step == Step::Join { shader.params::<JoinParams>() } else { shader.params::<Params>() };
        shader = match joins {
            false => shader.constant("LANES", self.config.wg_size),
            true if self.config.reduce == Reduce::Shuffle => {
                self.config.reduction(shader).import("group_norm_chan_shuffled")
            }
            true => self.config.reduction(shader),
        };
        if joins {
            shader = shader.import(if vec == 4 { "group_norm_chan4" } else { "group_norm_chan1" });
        }
        if step != Step::Join {
            shader = shader.flag("COLUMNS", self.form.columns);
        }
        if matches!(step, Step::Moments | Step::Whole) {
            shader = shader.constant("BLOCK", boxes::BLOCK as u32);
        }
        if matches!(step, Step::Moments | Step::Join) {
            // Regions of scratch are always declared read_write: they share a buffer.
            shader = shader.writes(PARTIALS, "partials", "vec4<f32>");
        }
        shader = match step {
            Step::Moments => return shader.input(X, "x", x),
            Step::Join => shader,
            Step::Apply | Step::Whole => {
                let shader = shader.output(Y, "y", y, edge);
                match in_place {
                    true => shader.in_place("x", "y", y, edge),
                    false => shader.input(X, "x", x),
                }
            }
        };
        if matches!(step, Step::Apply | Step::Whole) {
            let Form { by_column_set, by_column_channel, one_chunk, weight, bias, .. } = self.form;
            shader = shader
                .flag("BY_COLUMN_SET", by_column_set)
                .flag("BY_COLUMN_CHANNEL", by_column_channel)
                .flag("ONE_CHUNK", one_chunk)
                .flag("OWN_SET", step == Step::Whole)
                .gather("mean_at")
                .gather("rest_at")
                .gather("rstd_at")
                .import(if by_column_channel { "group_norm_by_column" } else { "group_norm_by_line" });
            shader = activation.declare(shader, vec);
            shader = vector(shader, WEIGHT, ("weight", "HAS_WEIGHT"), weight, by_column_channel);
            shader = vector(shader, BIAS, ("bias", "HAS_BIAS"), bias, by_column_channel);
        }
        match step {
            Step::Apply if self.form.given => shader
                .reads(MEAN, "running_mean", "f32")
                .reads(VARIANCE, "running_variance", "f32")
                .import("group_norm_of_running"),
            Step::Apply => shader.writes(STATS, "stats", "f32").import("group_norm_of_stats"),
            _ => {
                let shader = shader.writes_if(self.form.stats, STATS, "stats", "f32", "group_norm_stats");
                let shader = match step {
                    Step::Whole => shader.import_if(false, "group_norm_of_stats"),
                    _ => shader,
                };
                let update = self.form.update;
                let shader = if update { shader.writes(MEAN, "running_mean", "f32") } else { shader };
                shader.writes_if(update, VARIANCE, "running_variance", "f32", "group_norm_running")
            }
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x` is read, `y` written; they may be the same view, where dtypes and layouts are equal.
        x, y;
        /// The weight of each channel that the Problem asks for.
        weight,
        /// The bias of each channel that the Problem asks for.
        bias,
        /// The statistics that the Problem asks for.
        stats,
        /// Running means that the Problem has, f32 `[channels]`.
        running_mean,
        /// Running variances that the Problem has, f32 `[channels]`.
        running_variance,
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

impl<'a> Buffers<'a> {
    /// The result takes the place of `x`.
    pub fn in_place(x: impl Into<Binding<'a>>) -> Self {
        let x = x.into();
        Self::new(x, x)
    }
}

functions!("group_norm");

/// Refuses running statistics of anything but [`Over::Batch`], and resolves them.
pub(super) fn running(over: Over, running: Option<Running>, channels: usize) -> Checked<Option<[View<1>; 2]>> {
    let Some(Running { mean, variance }) = running else { return Ok(None) };
    ErrorKind::unless(over == Over::Batch, "statistics", format_args!("running ones, over {over:?}"))?;
    let view = |arg, at| Layout::<1>::at(at).view(arg, [1], channels);
    Ok(Some([view("running_mean", mean)?, view("running_variance", variance)?]))
}

impl Plan for Problem {
    type Views = Views;

    const PLACES: &'static [&'static str] = &["mean", "variance"];

    fn resolve(&self) -> Checked<Views> {
        self.check_options()?;
        let (shape, (sizes, inner)) = (self.shape(), self.sizes());
        let mut x = self.x_layout.view("x", sizes, inner)?;
        let mut y = self.y_layout.view("y", sizes, inner)?.apart("y_layout")?;
        merge(shape.last(), &mut [&mut x, &mut y]);
        let [weight, bias] = vectors([("weight", self.weight), ("bias", self.bias)], self.channels)?;
        let running = running(self.over, self.statistics.running(), self.channels)?;
        let stats = self.stats.map(|at| Layout::<1>::at(at).view("stats", [3], self.sets())).transpose()?;
        if stats.is_some() && shape.is_empty() && shape.sets() > 0 {
            return Err(ErrorKind::invalid("stats", "asked for sets without elements"));
        }
        Ok(Views { x, y, weight, bias, stats, running })
    }

    fn without_batch(&self) -> Problem {
        Problem { batch: BATCH, ..*self }
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let f16 = self.has_f16();
        let vec = self.chunking(views, caps.prefers_native_f16(f16)).0;
        let area = self.area(views);
        let split = if self.given() { area.elements() } else { area.sets(false) };
        boxes::candidates(caps, &area, split, vec, self.x.bytes() + self.y.bytes(), f16, !self.given())
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let vec = self.chunking(views, config.native_f16).0;
        config.check_tile(caps, vec.max(if views.x.multiple_of(4) { 4 } else { 1 }), FIELDS, self.has_f16())?;
        if self.given() {
            Misfit::unless(config.algorithm == Algorithm::Split, "whole finds statistics", 0u32)?;
        } else if config.algorithm == Algorithm::Whole {
            Misfit::unless(vec != 2, "whole needs chunks that all tensors have", vec)?;
            let own = self.shape().group_channels() as u64;
            let apart = self.order == Order::Nchw || own.is_multiple_of(vec.into());
            Misfit::unless(apart, "whole needs groups of whole chunks", own)?;
        }
        for &step in self.steps(config) {
            let walk = self.walk(views, config, step);
            let reduced = Rounds::plain(config.lanes.ilog2()) + Rounds::plain(4u32);
            let rounds = match step {
                Step::Join => {
                    let fold = if walk.boxes.columns { self.area(views).set_places().1[1] } else { 1 };
                    Rounds::plain(product!(walk.parts(), fold).div_ceil(config.lanes.into())) + reduced
                }
                Step::Whole => walk.moment_rounds() + walk.rounds() + reduced,
                Step::Moments => walk.moment_rounds() + reduced,
                // With what a loop over a chunk's elements stores.
                Step::Apply => walk.rounds() + reduced,
            };
            caps.check_rounds(rounds)?;
            config.check_items(&walk)?;
        }
        Misfit::at_most(
            "bytes of scratch, which shaders must count",
            self.scratch(views, config) / 4,
            u64::from(u32::MAX),
        )
    }

    /// Count, pivot, mean and m2 of each part; statistics of each set.
    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        if config.algorithm == Algorithm::Whole || self.given() || self.shape().is_empty() {
            return 0;
        }
        let [partials, stats] = self.regions(views, config);
        padded(partials, ALIGN).saturating_add(stats)
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let pass = |&step| self.pass(views, config, step, writable, false).shader();
        self.steps(config).iter().map(pass).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        let of = |view: Option<View<1>>, vector: Option<Vector>| Some(view?.of(vector?.dtype));
        args.read(X, "x", buffers.x, views.x.of(self.x))?;
        args.write(Y, "y", buffers.y, views.y.of(self.y))?;
        args.read(WEIGHT, "weight", buffers.weight, of(views.weight, self.weight))?;
        args.read(BIAS, "bias", buffers.bias, of(views.bias, self.bias))?;
        let running = views.running.map(|views| views.map(|view| view.of(WORD)));
        let [mean, variance] = running.map_or([None, None], |all| all.map(Some));
        match self.given() {
            true => {
                args.read(MEAN, "running_mean", buffers.running_mean, mean)?;
                args.read(VARIANCE, "running_variance", buffers.running_variance, variance)?;
            }
            false => {
                args.write(MEAN, "running_mean", buffers.running_mean, mean)?;
                args.write(VARIANCE, "running_variance", buffers.running_variance, variance)?;
            }
        }
        let stats = views.stats.map(|view| view.of(WORD));
        if self.shape().is_empty() {
            args.write(STATS, "stats", buffers.stats, stats)?;
            return Ok(Dispatch::default());
        }
        let scratch = self.scratch(views, config);
        let memory = if scratch > 0 { Some(args.scratch_memory(buffers.scratch, scratch)?) } else { None };
        let regions = self.regions(views, config);
        if let Some(memory) = &memory {
            args.write(PARTIALS, "scratch", memory.part(0, regions[0]), Reach::to(regions[0] / 4, WORD))?;
        }
        match memory.filter(|_| stats.is_none()) {
            Some(memory) => {
                let own = memory.part(padded(regions[0], ALIGN), regions[1]);
                args.write(STATS, "scratch", own, Reach::to(regions[1] / 4, WORD))?;
            }
            None => args.write(STATS, "stats", buffers.stats, stats)?,
        }
        let in_place = args.in_place(X, Y);
        args.interleave(X, Y);
        args.check()?;

        let area = self.area(views);
        let x = if in_place { views.y.params() } else { views.x.params() };
        let steps = self.steps(config).iter().map(|&step| {
            let walk = self.walk(views, config, step);
            let pass = self.pass(views, config, step, args.writable(), in_place);
            match step {
                Step::Join => {
                    let grid = args.fold(area.shape.sets().div_ceil((config.wg_size / config.lanes).into()))?;
                    args.step(&pass, &JoinParams::of(self, &area, &walk, grid[0]), grid)
                }
                _ => {
                    let grid = args.fold(walk.workgroups(config.wg_size))?;
                    args.step(&pass, &Params::of(self, [x, views.y.params()], &area, &walk, grid[0]), grid)
                }
            }
        });
        Ok(Dispatch::of(steps.collect::<Checked<_>>()?))
    }
}

/// A batch norm with running statistics, to be folded into the convolution in front of it.
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm<'a> {
    /// Running means of the channels.
    pub mean: &'a [f32],
    /// Running variances.
    pub variance: &'a [f32],
    /// Its weight; absent: 1.
    pub weight: Option<&'a [f32]>,
    /// Its bias; absent: 0.
    pub bias: Option<&'a [f32]>,
    /// Added to the variance.
    pub eps: f32,
}

impl BatchNorm<'_> {
    /// Weights and bias of a convolution that does what one with `weight` and `bias` (absent: 0) does, followed by this. The weights are in any
    /// order of axes in which the channel of y of element `i` is `i / inner` modulo the channels: `inner` is
    /// `channels_of_a_group * height * width` for OIHW and OHWI, 1 for HWIO, and for a transposed convolution of one group `height * width`.
    /// Computed in f64.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] of what has not as many elements as there are channels, or no whole number of them; an eps that is no number.
    pub fn fold(&self, weight: &[f32], inner: usize, bias: Option<&[f32]>) -> Result<(Vec<f32>, Vec<f32>)> {
        crate::ops::named::<Problem, _>(|| {
            let channels = self.mean.len();
            check_options(self.eps, 0.0)?;
            let vectors = [
                ("running_variance", Some(self.variance)),
                ("weight", self.weight),
                ("bias", self.bias),
                ("bias", bias),
            ];
            for (arg, vector) in vectors {
                if let Some(vector) = vector.filter(|vector| vector.len() != channels) {
                    return Err(ErrorKind::shape(arg, &[vector.len()], format!("[{channels}], as running_mean")));
                }
            }
            let all = product!(inner, channels);
            if inner == 0 || !weight.is_empty() && (all == 0 || !(weight.len() as u64).is_multiple_of(all)) {
                return Err(ErrorKind::shape("weight", &[weight.len()], format!("a multiple of {inner} * {channels}")));
            }
            let value =
                |vector: Option<&[f32]>, c: usize, absent: f64| vector.map_or(absent, |vector| vector[c].into());
            let factor: Vec<f64> = (0..channels)
                .map(|c| value(self.weight, c, 1.0) / (f64::from(self.variance[c]) + f64::from(self.eps)).sqrt())
                .collect();
            let folded = weight.iter().enumerate().map(|(i, &w)| (f64::from(w) * factor[i / inner % channels]) as f32);
            let shifted = (0..channels).map(|c| {
                let before = value(bias, c, 0.0) - f64::from(self.mean[c]);
                (value(self.bias, c, 0.0) + before * factor[c]) as f32
            });
            Ok((folded.collect(), shifted.collect()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3 x + 1 of channel 0 and -2 x of channel 1, in both orders of weights.
    #[test]
    fn folds_into_a_convolution() {
        let norm = BatchNorm {
            mean: &[1.0, -2.0],
            variance: &[3.0, 0.0],
            weight: Some(&[4.0, 2.0]),
            bias: Some(&[0.5, 1.0]),
            eps: 1.0,
        };
        // Factors 4 / 2 and 2 / 1.
        let (weight, bias) = norm.fold(&[3.0, -2.0], 1, Some(&[1.0, 0.0])).unwrap();
        assert_eq!((weight, bias), (vec![6.0, -4.0], vec![0.5, 5.0]));
        let oihw = norm.fold(&[1.0, 2.0, 3.0, 4.0], 2, None).unwrap();
        assert_eq!(oihw, (vec![2.0, 4.0, 6.0, 8.0], vec![-1.5, 5.0]));
        let hwio = norm.fold(&[1.0, 2.0, 3.0, 4.0], 1, None).unwrap();
        assert_eq!(hwio.0, [2.0, 4.0, 6.0, 8.0]);
        for (weight, inner, bias, arg) in [
            (&[1.0; 3][..], 1, None, "weight"),
            (&[1.0; 4][..], 0, None, "weight"),
            (&[1.0; 4][..], 2, Some(&[1.0][..]), "bias"),
        ] {
            let error = norm.fold(weight, inner, bias).unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Shape { arg: have, .. } if have == arg), "{error}");
        }
    }
}
