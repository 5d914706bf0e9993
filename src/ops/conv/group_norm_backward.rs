//! The gradients of [`group_norm`](crate::group_norm), over groups, channels and batches: of its input, of the weight and of the bias.
//!
//! With `n` the normalised x, `g = dy * act'(n * weight + bias)` and means over a set,
//! `dx = (g * weight - mean(g * weight) - n * mean(g * weight * n)) * rstd`; of given statistics, which do not depend on x,
//! `dx = g * weight * rstd`. `dweight = sum(g * n)` and `dbias = sum(g)` of each channel are f32, and are written, or added to what is there.
//!
//! Statistics are those that the forward pass has [written](group_norm::Problem::stats). Sums are f32 whatever the dtypes, without
//! atomics: the same input gives the same bits.
//!
//! # Steps
//! Sums of parts of each channel of a picture, to scratch; these joined in their order, for sets and for channels; then dx. Over channels the sums of sets and
//! those of channels are of other elements: then x and dy are read once more where both are asked for. `dx` may take the place of
//! `x` or of `dy`.

use super::Order;
use super::boxes::{self, Algorithm, Area, Boxes, Over, PARTS, Walk, merge, vector, vectors, walk_params};
use super::group_norm::{self, ALIGN, Statistics, running};
use crate::activation::Activation;
use crate::layout::chunking;
use crate::norm::{Vector, scale};
use crate::ops::prelude::*;
use crate::softmax::Reduce;

pub use super::boxes::Config;

defaults! {
    /// What is computed.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// The normalisation, of which dy has the dtype and the layout of y. Its statistics are read, from where it has written them, or
        /// as they were given.
        pub forward: group_norm::Problem = group_norm::Problem::default(),
        /// The gradient by x, of this dtype.
        pub dx: Option<Dtype> = None,
        /// Strides of the three outer axes of dx. Rows must not overlap.
        pub dx_layout: Layout<3> = Layout::default(),
        /// The first element of the gradient by the weight in its binding: f32 `[channels]`.
        pub dweight: Option<usize> = None,
        /// The first element of the gradient by the bias in its binding: f32 `[channels]`.
        pub dbias: Option<usize> = None,
        /// `dweight` and `dbias` are added to what is there.
        pub add: bool = false,
    }
}

walk_params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: [Strides; 3]);
    [x = views[0], dy = views[1], dx = views[2]]
    weight_at: u32 = p.forward.weight.map_or(0, |weight| weight.offset as u32),
    bias_at: u32 = p.forward.bias.map_or(0, |bias| bias.offset as u32),
    stats_at: u32 = p.forward.stats.unwrap_or(0) as u32,
    mean_at: u32 = p.forward.statistics.running().map_or(0, |running| running.mean as u32),
    variance_at: u32 = p.forward.statistics.running().map_or(0, |running| running.variance as u32),
    slope: f32 = p.forward.slope,
    scale: f32 = scale(p.forward.eps),
    eps: f32 = p.forward.eps * scale(p.forward.eps) * scale(p.forward.eps),
}

crate::params! {
    /// What a run of a step that joins tells the shader.
    pub struct JoinParams;
    fn of(p: &Problem, joined: &Joined, walk: &Walk, grid_x: u32) {
        outputs: u32 = joined.outputs as u32,
        first: u32 = joined.first as u32,
        step: u32 = joined.step as u32,
        each: u32 = joined.each as u32,
        share: f32 = (1.0 / joined.elements as f64) as f32,
        parts: u32 = walk.parts() as u32,
        results: u32 = walk.results as u32,
        channels: u32 = p.forward.channels as u32,
        first_step: u32 = 1,
        weight_at: u32 = p.forward.weight.map_or(0, |weight| weight.offset as u32),
        dweight_at: u32 = p.dweight.unwrap_or(0) as u32,
        dbias_at: u32 = p.dbias.unwrap_or(0) as u32,
        add: u32 = p.add.into(),
        grid_x: u32 = grid_x,
    }
}

/// Which results an output has: from `o * first` on `each`, `step` apart.
pub(super) struct Joined {
    pub outputs: u64,
    pub first: usize,
    pub step: usize,
    pub each: usize,
    /// By which a sum is divided for a mean.
    pub elements: u64,
}

/// What is summed, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    /// Parts of channels of pictures.
    Sums,
    /// Parts of sets.
    SetSums,
    /// Means of sets, from either.
    Sets,
    /// Gradients of channels.
    Channels,
    /// dx.
    Apply,
}

/// What follows from the Problem, the device and the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    step: Step,
    /// Elements per chunk.
    vec: u32,
    x: Storage,
    dy: Storage,
    dx: Storage,
    /// Lines of a packed dx share words.
    edge: bool,
    /// x, dy are read from the binding of dx.
    in_place: [bool; 2],
    weight: Option<Storage>,
    bias: Option<Storage>,
    activation: Activation,
    given: bool,
    columns: bool,
    by_column_set: bool,
    by_column_channel: bool,
}

/// The form of a step that joins sums: of sets, else of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct JoinForm {
    pub sets: bool,
    pub weight: Option<Storage>,
    pub dweight: bool,
    pub dbias: bool,
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    x: View<3>,
    dy: View<3>,
    dx: Option<View<3>>,
    weight: Option<View<1>>,
    bias: Option<View<1>>,
    stats: Option<View<1>>,
    running: Option<[View<1>; 2]>,
    dweight: Option<View<1>>,
    dbias: Option<View<1>>,
}

impl Problem {
    fn has_channels(&self) -> bool {
        self.dweight.or(self.dbias).is_some()
    }

    fn given(&self) -> bool {
        matches!(self.forward.statistics, Statistics::Given(_))
    }

    /// What multiplied each channel, where a gradient depends on it.
    pub(crate) fn weight(&self) -> Option<Vector> {
        self.forward.weight.filter(|_| self.dx.is_some() || self.bent())
    }

    /// What was added to each channel, where a gradient depends on it.
    pub(crate) fn bias(&self) -> Option<Vector> {
        self.forward.bias.filter(|_| self.bent())
    }

    /// Whether there is an activation.
    fn bent(&self) -> bool {
        self.forward.activation != Activation::None
    }

    /// The same with one axis of places, where those of x, dy and dx are one.
    pub(crate) fn merged(&self) -> Problem {
        let Ok(views) = self.resolve() else { return *self };
        let axis = if self.forward.order == Order::Nhwc { 1 } else { 2 };
        if views.x.sizes[axis] != 1 {
            return *self;
        }
        let of = self.forward;
        let [x_layout, y_layout, dx_layout] =
            [of.x_layout, of.y_layout, self.dx_layout].map(|layout| boxes::merged(axis, layout));
        let forward = group_norm::Problem { size: [1, of.size[0] * of.size[1]], x_layout, y_layout, ..of };
        Problem { forward, dx_layout, ..*self }
    }

    fn has_f16(&self) -> bool {
        let vector = |vector: Option<Vector>| vector.map(|vector| vector.dtype);
        let all = [Some(self.forward.x), Some(self.forward.y), self.dx, vector(self.weight()), vector(self.bias())];
        all.contains(&Some(Dtype::F16))
    }

    fn area(&self, views: &Views) -> Area {
        Area::of(self.forward.shape(), &views.x)
    }

    fn steps(&self) -> Vec<Step> {
        let sets = self.dx.is_some() && !self.given();
        let mut steps = Vec::new();
        if self.forward.over == Over::Channels {
            steps.extend(if sets { &[Step::SetSums, Step::Sets][..] } else { &[] });
            steps.extend(if self.has_channels() { &[Step::Sums, Step::Channels][..] } else { &[] });
        } else {
            steps.extend((sets || self.has_channels()).then_some(Step::Sums));
            steps.extend(sets.then_some(Step::Sets));
            steps.extend(self.has_channels().then_some(Step::Channels));
        }
        steps.extend(self.dx.map(|_| Step::Apply));
        steps
    }

    /// Elements per chunk of a step, and whether lines of a packed dx share words.
    fn chunking(&self, views: &Views, native_f16: bool, step: Step) -> (u32, bool) {
        let by_column = [views.weight, views.bias].into_iter().flatten().filter(|_| self.forward.order == Order::Nhwc);
        let vectors: Vec<View<3>> = by_column.map(|view| view.padded()).collect();
        let all = [&views.x, &views.dy].into_iter().chain(&vectors);
        match (step, &views.dx) {
            (Step::Sets | Step::Channels, _) => (1, false),
            (Step::Apply, Some(dx)) => {
                let all: Vec<&View<3>> = all.chain([dx]).collect();
                chunking(&all, dx, Storage::held(self.dx.unwrap_or_default(), native_f16))
            }
            _ => (chunking(&all.collect::<Vec<_>>(), &views.x, Storage::F32).0, false),
        }
    }

    fn boxes(&self, views: &Views, step: Step) -> Boxes {
        let area = self.area(views);
        match step {
            Step::SetSums => area.sets(false),
            Step::Sets if self.forward.over == Over::Channels => area.sets(false),
            Step::Apply => area.elements(),
            _ => area.channels(),
        }
    }

    /// How a step goes over x, or that whose sums it joins.
    fn walk(&self, views: &Views, config: &Config, step: Step) -> Walk {
        let summed = if step == Step::Apply { Step::Apply } else { Step::Sums };
        let vec = self.chunking(views, config.native_f16, summed).0;
        let (lanes, most) = if step == Step::Apply { (config.wg_size, u64::MAX) } else { (config.lanes, PARTS) };
        self.area(views).walk(self.boxes(views, step), vec, lanes, Some(config.run), most)
    }

    fn joined(&self, step: Step) -> Joined {
        let shape = self.forward.shape();
        let (channels, batch) = (shape.channels, shape.batch);
        let of_channels =
            Joined { outputs: channels as u64, first: 1, step: channels, each: batch, elements: shape.elements() };
        match (step, self.forward.over) {
            (Step::Sets, Over::Group(_)) => {
                let own = shape.group_channels();
                Joined { outputs: shape.sets(), first: own, step: 1, each: own, ..of_channels }
            }
            (Step::Sets, Over::Channels) => Joined { outputs: shape.sets(), each: 1, ..of_channels },
            _ => of_channels,
        }
    }

    pub(super) fn join_params(&self, joined: &Joined, walk: &Walk, grid_x: u32) -> JoinParams {
        JoinParams::of(self, joined, walk, grid_x)
    }

    /// Bytes of scratch: of sums of parts, and of means of sets.
    fn regions(&self, views: &Views, config: &Config) -> [u64; 2] {
        let steps = self.steps();
        let bytes = |&step: &Step| match step {
            Step::Sums | Step::SetSums => {
                let walk = self.walk(views, config, step);
                product!(8u32, walk.parts(), walk.results)
            }
            _ => 0,
        };
        let means = if steps.contains(&Step::Sets) { product!(8u32, self.forward.shape().sets()) } else { 0 };
        [steps.iter().map(bytes).max().unwrap_or(0), means]
    }

    fn pass(
        &self,
        views: &Views,
        config: &Config,
        step: Step,
        writable: Slots,
        in_place: [bool; 2],
    ) -> Pass<Config, Form> {
        let held = |dtype| Storage::held(dtype, config.native_f16);
        let (area, (vec, edge)) = (self.area(views), self.chunking(views, config.native_f16, step));
        let storage = |vector: Option<Vector>| vector.map(|vector| held(vector.dtype));
        let (weight, bias) = match step {
            Step::Sums if !self.bent() => (None, None),
            _ => (self.weight(), self.bias()),
        };
        let form = Form {
            step,
            vec,
            x: held(self.forward.x),
            dy: held(self.forward.y),
            dx: if step == Step::Apply { held(self.dx.unwrap_or_default()) } else { Storage::F32 },
            edge,
            in_place: if step == Step::Apply { in_place } else { [false; 2] },
            weight: storage(weight),
            bias: storage(bias),
            activation: self.forward.activation,
            given: self.given(),
            columns: self.boxes(views, step).columns,
            by_column_set: area.by_column_set(),
            by_column_channel: area.by_column_channel(),
        };
        let stem = if step == Step::Apply { "group_norm_backward_apply" } else { "group_norm_backward_sums" };
        Pass { stem, config: config.key(), form, writable }
    }

    /// That of a step that joins.
    fn join(&self, config: &Config, step: Step, writable: Slots) -> Pass<Config, JoinForm> {
        let sets = step == Step::Sets;
        // Sums over channels have their weights.
        let weight = self.forward.weight.filter(|_| sets && self.forward.over != Over::Channels);
        let weight = weight.map(|weight| Storage::held(weight.dtype, config.native_f16));
        let (dweight, dbias) = (!sets && self.dweight.is_some(), !sets && self.dbias.is_some());
        JoinForm { sets, weight, dweight, dbias }.pass(config, writable)
    }
}

impl JoinForm {
    pub fn pass(self, config: &Config, writable: Slots) -> Pass<Config, JoinForm> {
        Pass { stem: "group_norm_backward_join", config: config.key(), form: self, writable }
    }
}

slots!(pub(super) X, DY, WEIGHT, BIAS, STATS, MEAN, VARIANCE, SUMS, MEANS, DX, DWEIGHT, DBIAS);

/// Fields of what a team joins: two chunks.
pub(super) const FIELDS: u32 = 2;

/// With what teams of a step that sums or joins find.
pub(super) fn summing(config: &Config, shader: Shader) -> Shader {
    let shader = config.reduction(shader).writes(SUMS, "sums", "f32");
    if config.reduce == Reduce::Shuffle { shader.import("group_norm_backward_shuffled") } else { shader }
}

impl Pipeline for Pass<Config, JoinForm> {
    fn shader(&self) -> Shader {
        let JoinForm { sets, weight, dweight, dbias } = self.form;
        let shader = self.begin(self.config.wg_size, self.config.wg_bytes(1, FIELDS), 1);
        let shader = summing(&self.config, shader).params::<JoinParams>().flag("SETS", sets);
        vector(shader, WEIGHT, ("weight", "HAS_WEIGHT"), weight, false)
            .writes_if(sets, MEANS, "means_of_sets", "f32", "group_norm_backward_means")
            .writes_if(dweight, DWEIGHT, "dweight", "f32", "group_norm_backward_dweight")
            .writes_if(dbias, DBIAS, "dbias", "f32", "group_norm_backward_dbias")
    }
}

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { step, vec, .. } = self.form;
        let shader = match step {
            Step::Apply => self.begin(self.config.wg_size, 0, vec).constant("LANES", self.config.wg_size),
            _ => {
                let bytes = self.config.wg_bytes(vec, FIELDS);
                summing(&self.config, self.begin(self.config.wg_size, bytes, vec))
            }
        };
        let shader = self.values(shader.params::<Params>());
        let Form { x, dy, dx, edge, in_place, given, .. } = self.form;
        if step != Step::Apply {
            return shader
                .import(if vec == 4 { "group_norm_backward_pick4" } else { "group_norm_backward_pick1" })
                .flag("COLUMNS", self.form.columns)
                .flag("WEIGHTED", step == Step::SetSums)
                .input(X, "x", x)
                .input(DY, "dy", dy);
        }
        let shader = shader.output(DX, "dx", dx, edge);
        let inputs = [(X, "x", x), (DY, "dy", dy)].into_iter().zip(in_place);
        let shader = inputs.fold(shader, |shader, ((slot, name, storage), in_place)| match in_place {
            true => shader.in_place(name, "dx", dx, edge),
            false => shader.input(slot, name, storage),
        });
        let shader = if given { shader } else { shader.writes(MEANS, "means_of_sets", "f32") };
        shader.gather("slope_at").gather("center_at").import_if(!given, "group_norm_backward_of_means")
    }
}

impl Pass<Config, Form> {
    /// Statistics, weight and bias of elements.
    fn values(&self, shader: Shader) -> Shader {
        let Form { vec, weight, bias, activation, given, columns, by_column_set, by_column_channel, .. } = self.form;
        let shader = shader
            .flag("BY_COLUMN_SET", by_column_set)
            .flag("BY_COLUMN_CHANNEL", by_column_channel)
            .flag("ONE_CHUNK", columns)
            .gather("mean_at")
            .gather("rest_at")
            .gather("rstd_at")
            .import(if by_column_channel { "group_norm_by_column" } else { "group_norm_by_line" });
        let shader = activation.declare(shader, vec);
        let shader = vector(shader, WEIGHT, ("weight", "HAS_WEIGHT"), weight, by_column_channel);
        let shader = vector(shader, BIAS, ("bias", "HAS_BIAS"), bias, by_column_channel);
        match given {
            true => shader
                .reads(MEAN, "running_mean", "f32")
                .reads(VARIANCE, "running_variance", "f32")
                .import("group_norm_of_running"),
            false => shader.reads(STATS, "stats", "f32").import("group_norm_of_stats"),
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x` and `dy` are read.
        x, dy;
        /// The weight that the Problem has, where `dx` is asked for or there is an activation.
        weight,
        /// The bias that the Problem has, where there is an activation.
        bias,
        /// The statistics that the forward pass has written.
        stats,
        /// Running means that were given.
        running_mean,
        /// Running variances that were given.
        running_variance,
        /// The gradient of `x` that the Problem asks for; it may be the view of `x` or of `dy`, where dtypes and layouts are equal.
        dx,
        /// The gradient of the weight that the Problem asks for.
        dweight,
        /// The gradient of the bias that the Problem asks for.
        dbias,
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("group_norm_backward");

impl Plan for Problem {
    type Views = Views;

    const PLACES: &'static [&'static str] = &["mean", "variance"];

    fn resolve(&self) -> Checked<Views> {
        let of = &self.forward;
        of.check_options()?;
        if !self.given() && of.stats.is_none() {
            return Err(ErrorKind::invalid("stats", "none: the gradient reads those of the forward pass"));
        }
        let (sizes, inner) = of.sizes();
        let mut x = of.x_layout.view("x", sizes, inner)?;
        let mut dy = of.y_layout.view("dy", sizes, inner)?;
        let mut dx = self.dx.map(|_| self.dx_layout.view("dx", sizes, inner)?.apart("dx_layout")).transpose()?;
        let mut all: Vec<&mut View<3>> = [&mut x, &mut dy].into_iter().chain(&mut dx).collect();
        merge(of.order == Order::Nhwc, &mut all);
        let [weight, bias] = vectors([("weight", self.weight()), ("bias", self.bias())], of.channels)?;
        let column = |arg, at: Option<usize>| at.map(|at| Layout::<1>::at(at).view(arg, [1], of.channels)).transpose();
        Ok(Views {
            x,
            dy,
            dx,
            weight,
            bias,
            stats: of.stats.map(|at| Layout::<1>::at(at).view("stats", [3], of.sets())).transpose()?,
            running: running(of.over, of.statistics.running().filter(|_| self.given()), of.channels)?,
            dweight: column("dweight", self.dweight)?,
            dbias: column("dbias", self.dbias)?,
        })
    }

    fn without_batch(&self) -> Problem {
        Problem { forward: group_norm::Problem { batch: BATCH, ..self.forward }, ..*self }
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let f16 = self.has_f16();
        let vec = self.chunking(views, caps.prefers_native_f16(f16), Step::Sums).0;
        boxes::candidates(caps, &self.area(views), self.boxes(views, Step::Sums), vec, 0, f16, false)
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let vec = self.chunking(views, config.native_f16, Step::Sums).0;
        config.check_tile(caps, vec, FIELDS, self.has_f16())?;
        Misfit::unless(config.algorithm == Algorithm::Split, "algorithm must be split", 0u32)?;
        for step in self.steps() {
            let walk = self.walk(views, config, step);
            let reduced = Rounds::plain(config.lanes.ilog2()) + Rounds::plain(4u32);
            let rounds = match step {
                Step::Sets | Step::Channels => {
                    let all = product!(walk.parts(), self.joined(step).each);
                    Rounds::plain(all.div_ceil(config.lanes.into())) + reduced
                }
                Step::Sums | Step::SetSums | Step::Apply => walk.rounds() + reduced,
            };
            caps.check_rounds(rounds)?;
            config.check_items(&walk)?;
        }
        Misfit::at_most(
            "words of scratch, which shaders must count",
            self.scratch(views, config) / 4,
            u64::from(u32::MAX),
        )
    }

    /// Two sums of each part; two means of each set.
    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        if self.forward.shape().is_empty() {
            return if self.forward.channels > 0 && self.has_channels() { 16 } else { 0 };
        }
        let [sums, means] = self.regions(views, config);
        if means > 0 { padded(sums, ALIGN).saturating_add(means) } else { sums }
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let shader = |step| match step {
            Step::Sets | Step::Channels => self.join(config, step, writable).shader(),
            _ => self.pass(views, config, step, writable, [false; 2]).shader(),
        };
        self.steps().into_iter().map(shader).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        let of = |view: Option<View<1>>, vector: Option<Vector>| Some(view?.of(vector?.dtype));
        let words = |view: Option<View<1>>| view.map(|view| view.of(WORD));
        args.read(X, "x", buffers.x, views.x.of(self.forward.x))?;
        args.read(DY, "dy", buffers.dy, views.dy.of(self.forward.y))?;
        args.read(WEIGHT, "weight", buffers.weight, of(views.weight, self.weight()))?;
        args.read(BIAS, "bias", buffers.bias, of(views.bias, self.bias()))?;
        args.read(STATS, "stats", buffers.stats, words(views.stats))?;
        let [mean, variance] = views.running.map_or([None; 2], |all| all.map(Some)).map(words);
        args.read(MEAN, "running_mean", buffers.running_mean, mean)?;
        args.read(VARIANCE, "running_variance", buffers.running_variance, variance)?;
        args.write(DX, "dx", buffers.dx, views.dx.zip(self.dx).map(|(view, dtype)| view.of(dtype)))?;
        args.write(DWEIGHT, "dweight", buffers.dweight, words(views.dweight))?;
        args.write(DBIAS, "dbias", buffers.dbias, words(views.dbias))?;
        let empty = self.forward.shape().is_empty();
        let steps: Vec<Step> = match empty {
            // Sums over nothing.
            true if self.forward.channels > 0 && self.has_channels() => vec![Step::Channels],
            true => Vec::new(),
            false => self.steps(),
        };
        if steps.is_empty() {
            return Ok(Dispatch::default());
        }
        let [sums, means] = if empty { [16, 0] } else { self.regions(views, config) };
        if sums > 0 {
            let memory = args.scratch_memory(buffers.scratch, self.scratch(views, config))?;
            args.write(SUMS, "scratch", memory.part(0, sums), Reach::to(sums / 4, WORD))?;
            if means > 0 {
                args.write(MEANS, "scratch", memory.part(padded(sums, ALIGN), means), Reach::to(means / 4, WORD))?;
            }
        }
        let in_place = [X, DY].map(|input| args.in_place(input, DX));
        for input in [X, DY] {
            args.interleave(input, DX);
        }
        args.check()?;

        let area = self.area(views);
        let dx = views.dx.map_or([0; 4], |view| view.params());
        let steps = steps.into_iter().map(|step| {
            let walk = self.walk(views, config, step);
            if matches!(step, Step::Sets | Step::Channels) {
                let joined = self.joined(step);
                let joined = if empty { Joined { each: 0, ..joined } } else { joined };
                let grid = args.fold(joined.outputs.div_ceil((config.wg_size / config.lanes).into()))?;
                let pass = self.join(config, step, args.writable());
                return args.step(&pass, &self.join_params(&joined, &walk, grid[0]), grid);
            }
            let pass = self.pass(views, config, step, args.writable(), in_place);
            let input = |view: &View<3>, in_place| if in_place && step == Step::Apply { dx } else { view.params() };
            let inputs = [input(&views.x, in_place[0]), input(&views.dy, in_place[1]), dx];
            let grid = args.fold(walk.workgroups(config.wg_size))?;
            args.step(&pass, &Params::of(self, inputs, &area, &walk, grid[0]), grid)
        });
        Ok(Dispatch::of(steps.collect::<Checked<_>>()?))
    }
}
