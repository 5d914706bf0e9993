//! The gradients of snake, `y = x + sin(alpha x)^2 / alpha` with an alpha per channel, as [`conv`](crate::conv::Problem::snake) applies it:
//! `dx = dy (1 + sin(2 alpha x))`, and over all pixels of a channel `dalpha = sum(dy (alpha x sin(2 alpha x) - sin(alpha x)^2) / alpha^2)`, x^2 where
//! alpha is 0, and `dbias = sum(dx)`.
//!
//! It stands in front of [`conv_backward`](crate::conv_backward) and of the gradients of [`conv_transpose`](crate::conv_transpose), whose dy its
//! dx is. x is what snake was given. Sums are f32 whatever the dtypes, without atomics: the same input gives the same bits.
//!
//! # Steps
//! Sums of parts of each channel of a picture, to scratch; these joined in their order; then dx, which may take the place of `x` or of `dy`.
//!
//! # Numerics
//! Arguments `t = alpha x` are reduced by multiples of pi in two parts. Their own rounding moves dx by `|dy t| 2^-22`, and dalpha by
//! `|dy| x^2 2^-22`; beyond 2^24 the sine could be anything.

use super::Order;
use super::boxes::{self, Area, Boxes, Over, PARTS, Shape, Walk, merge, vector, walk_params};
use super::group_norm_backward::{
    self, DBIAS, DWEIGHT as DALPHA, DX, DY, FIELDS, JoinForm, Joined, SUMS, WEIGHT as ALPHA, X, summing,
};
use crate::activation::Activation;
use crate::layout::chunking;
use crate::ops::prelude::*;

pub use super::boxes::Config;

defaults! {
    /// What is computed. Pictures as [`conv`](crate::conv) has them; a sound has a height of 1.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Pictures.
        pub batch: usize = 1,
        /// Channels.
        pub channels: usize = 1,
        /// Height and width.
        pub size: [usize; 2] = [1, 1],
        /// The order of the axes of x, dy and dx.
        pub order: Order = Order::Nchw,
        /// Dtype of x.
        pub x: Dtype = Dtype::F32,
        /// Strides of the three outer axes of x.
        pub x_layout: Layout<3> = Layout::default(),
        /// Dtype of dy.
        pub dy: Dtype = Dtype::F32,
        /// Strides of the three outer axes of dy.
        pub dy_layout: Layout<3> = Layout::default(),
        /// The first element of alpha, f32 `[channels]`, in its binding.
        pub alpha: usize = 0,
        /// The gradient by x, of this dtype.
        pub dx: Option<Dtype> = None,
        /// Strides of the three outer axes of dx. Rows must not overlap.
        pub dx_layout: Layout<3> = Layout::default(),
        /// The first element of the gradient by alpha in its binding: f32 `[channels]`.
        pub dalpha: Option<usize> = None,
        /// The first element of the gradient by a bias that was added to x: f32 `[channels]`.
        pub dbias: Option<usize> = None,
        /// `dalpha` and `dbias` are added to what is there.
        pub add: bool = false,
    }
}

walk_params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: [Strides; 3]);
    [x = views[0], dy = views[1], dx = views[2]]
    alpha_at: u32 = p.alpha as u32,
}

/// What is summed, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    /// Parts of channels of pictures.
    Sums,
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
    columns: bool,
    by_column: bool,
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    x: View<3>,
    dy: View<3>,
    dx: Option<View<3>>,
    alpha: View<1>,
    dalpha: Option<View<1>>,
    dbias: Option<View<1>>,
}

impl Problem {
    fn shape(&self) -> Shape {
        let Problem { batch, channels, size, order, .. } = *self;
        Shape { batch, channels, size, order, over: Over::Batch }
    }

    /// Outer sizes and inner size of x.
    pub fn sizes(&self) -> ([usize; 3], usize) {
        self.shape().sizes()
    }

    fn has_sums(&self) -> bool {
        self.dalpha.or(self.dbias).is_some()
    }

    /// The same with one axis of places, where those of x, dy and dx are one.
    pub(crate) fn merged(&self) -> Problem {
        let Ok(views) = self.resolve() else { return *self };
        let axis = if self.order == Order::Nhwc { 1 } else { 2 };
        if views.x.sizes[axis] != 1 {
            return *self;
        }
        let [x_layout, dy_layout, dx_layout] =
            [self.x_layout, self.dy_layout, self.dx_layout].map(|layout| boxes::merged(axis, layout));
        Problem { size: [1, self.size[0] * self.size[1]], x_layout, dy_layout, dx_layout, ..*self }
    }

    fn has_f16(&self) -> bool {
        [Some(self.x), Some(self.dy), self.dx].contains(&Some(Dtype::F16))
    }

    fn area(&self, views: &Views) -> Area {
        Area::of(self.shape(), &views.x)
    }

    fn steps(&self) -> Vec<Step> {
        let sums = if self.has_sums() { &[Step::Sums, Step::Channels][..] } else { &[] };
        sums.iter().copied().chain(self.dx.map(|_| Step::Apply)).collect()
    }

    /// Elements per chunk of a step, and whether lines of a packed dx share words.
    fn chunking(&self, views: &Views, native_f16: bool, step: Step) -> (u32, bool) {
        let alpha = (self.order == Order::Nhwc).then(|| views.alpha.padded());
        let all = [&views.x, &views.dy].into_iter().chain(&alpha);
        match (step, &views.dx) {
            (Step::Channels, _) => (1, false),
            (Step::Apply, Some(dx)) => {
                let all: Vec<&View<3>> = all.chain([dx]).collect();
                chunking(&all, dx, Storage::held(self.dx.unwrap_or_default(), native_f16))
            }
            _ => (chunking(&all.collect::<Vec<_>>(), &views.x, Storage::F32).0, false),
        }
    }

    fn boxes(&self, views: &Views, step: Step) -> Boxes {
        let area = self.area(views);
        if step == Step::Apply { area.elements() } else { area.channels() }
    }

    /// How a step goes over x, or that whose sums it joins.
    fn walk(&self, views: &Views, config: &Config, step: Step) -> Walk {
        let summed = if step == Step::Apply { Step::Apply } else { Step::Sums };
        let vec = self.chunking(views, config.native_f16, summed).0;
        let (lanes, most) = if step == Step::Apply { (config.wg_size, u64::MAX) } else { (config.lanes, PARTS) };
        self.area(views).walk(self.boxes(views, step), vec, lanes, Some(config.run), most)
    }

    fn joined(&self, each: usize) -> Joined {
        Joined { outputs: self.channels as u64, first: 1, step: self.channels, each, elements: 1 }
    }

    /// As the step that joins knows it.
    fn of_join(&self) -> group_norm_backward::Problem {
        let forward = crate::group_norm::Problem { channels: self.channels, ..Default::default() };
        group_norm_backward::Problem {
            forward,
            dweight: self.dalpha,
            dbias: self.dbias,
            add: self.add,
            ..Default::default()
        }
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
        let form = Form {
            step,
            vec,
            x: held(self.x),
            dy: held(self.dy),
            dx: if step == Step::Apply { held(self.dx.unwrap_or_default()) } else { Storage::F32 },
            edge,
            in_place: if step == Step::Apply { in_place } else { [false; 2] },
            columns: self.boxes(views, step).columns,
            by_column: area.by_column_channel(),
        };
        let stem = if step == Step::Apply { "snake_backward_apply" } else { "snake_backward_sums" };
        Pass { stem, config: config.key(), form, writable }
    }

    /// That of the step that joins.
    fn join(&self, config: &Config, writable: Slots) -> Pass<Config, JoinForm> {
        let (dweight, dbias) = (self.dalpha.is_some(), self.dbias.is_some());
        JoinForm { sets: false, weight: None, dweight, dbias }.pass(config, writable)
    }
}

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { step, vec, x, dy, dx, edge, in_place, columns, by_column } = self.form;
        let mut shader = match step {
            Step::Apply => self.begin(self.config.wg_size, 0, vec).constant("LANES", self.config.wg_size),
            _ => {
                let bytes = self.config.wg_bytes(vec, FIELDS);
                summing(&self.config, self.begin(self.config.wg_size, bytes, vec))
            }
        };
        shader = Activation::None.declare(shader.params::<Params>(), vec);
        shader = vector(shader, ALPHA, ("alpha", "HAS_ALPHA"), Some(Storage::F32), by_column);
        shader = shader.import(if by_column { "snake_backward_by_column" } else { "snake_backward_by_line" });
        if step == Step::Sums {
            return shader
                .import(if vec == 4 { "group_norm_backward_pick4" } else { "group_norm_backward_pick1" })
                .flag("COLUMNS", columns)
                .input(X, "x", x)
                .input(DY, "dy", dy);
        }
        let inputs = [(X, "x", x), (DY, "dy", dy)].into_iter().zip(in_place);
        inputs.fold(shader.output(DX, "dx", dx, edge), |shader, ((slot, name, storage), in_place)| match in_place {
            true => shader.in_place(name, "dx", dx, edge),
            false => shader.input(slot, name, storage),
        })
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x`, `dy` and `alpha` are read.
        x, dy, alpha;
        /// The gradient of `x` that the Problem asks for; it may be the view of `x` or of `dy`, where dtypes and layouts are equal.
        dx,
        /// The gradient of alpha that the Problem asks for.
        dalpha,
        /// The gradient of the bias that the Problem asks for.
        dbias,
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("snake_backward");

impl Plan for Problem {
    type Views = Views;

    const PLACES: &'static [&'static str] = &["alpha", "dalpha"];

    fn resolve(&self) -> Checked<Views> {
        self.shape().check()?;
        let (sizes, inner) = self.sizes();
        let mut x = self.x_layout.view("x", sizes, inner)?;
        let mut dy = self.dy_layout.view("dy", sizes, inner)?;
        let mut dx = self.dx.map(|_| self.dx_layout.view("dx", sizes, inner)?.apart("dx_layout")).transpose()?;
        let mut all: Vec<&mut View<3>> = [&mut x, &mut dy].into_iter().chain(&mut dx).collect();
        merge(self.order == Order::Nhwc, &mut all);
        let channels = |arg, at| Layout::<1>::at(at).view(arg, [1], self.channels);
        Ok(Views {
            x,
            dy,
            dx,
            alpha: channels("alpha", self.alpha)?,
            dalpha: self.dalpha.map(|at| channels("dalpha", at)).transpose()?,
            dbias: self.dbias.map(|at| channels("dbias", at)).transpose()?,
        })
    }

    fn without_batch(&self) -> Problem {
        Problem { batch: BATCH, ..*self }
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let f16 = self.has_f16();
        let vec = self.chunking(views, caps.prefers_native_f16(f16), Step::Sums).0;
        boxes::candidates(caps, &self.area(views), self.boxes(views, Step::Sums), vec, 0, f16, false)
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let vec = self.chunking(views, config.native_f16, Step::Sums).0;
        config.check_tile(caps, vec, FIELDS, self.has_f16())?;
        Misfit::unless(config.algorithm == boxes::Algorithm::Split, "algorithm must be split", 0u32)?;
        for step in self.steps() {
            let walk = self.walk(views, config, step);
            let reduced = Rounds::plain(config.lanes.ilog2()) + Rounds::plain(4u32);
            let rounds = match step {
                Step::Channels => Rounds::plain(product!(walk.parts(), self.batch).div_ceil(config.lanes.into())),
                Step::Sums | Step::Apply => walk.rounds(),
            };
            caps.check_rounds(rounds + reduced)?;
            config.check_items(&walk)?;
        }
        let words = self.scratch(views, config) / 4;
        Misfit::at_most("words of scratch, which shaders must count", words, u64::from(u32::MAX))
    }

    /// Two sums of each part.
    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        match self.has_sums() && self.channels > 0 {
            false => 0,
            true if self.shape().is_empty() => 16,
            true => {
                let walk = self.walk(views, config, Step::Sums);
                product!(8u32, walk.parts(), walk.results)
            }
        }
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let shader = |step| match step {
            Step::Channels => self.join(config, writable).shader(),
            _ => self.pass(views, config, step, writable, [false; 2]).shader(),
        };
        self.steps().into_iter().map(shader).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        let words = |view: Option<View<1>>| view.map(|view| view.of(WORD));
        args.read(X, "x", buffers.x, views.x.of(self.x))?;
        args.read(DY, "dy", buffers.dy, views.dy.of(self.dy))?;
        args.read(ALPHA, "alpha", buffers.alpha, views.alpha.of(WORD))?;
        args.write(DX, "dx", buffers.dx, views.dx.zip(self.dx).map(|(view, dtype)| view.of(dtype)))?;
        args.write(DALPHA, "dalpha", buffers.dalpha, words(views.dalpha))?;
        args.write(DBIAS, "dbias", buffers.dbias, words(views.dbias))?;
        let empty = self.shape().is_empty();
        let steps: Vec<Step> = match empty {
            // Sums over nothing.
            true if self.channels > 0 && self.has_sums() => vec![Step::Channels],
            true => Vec::new(),
            false => self.steps(),
        };
        if steps.is_empty() {
            return Ok(Dispatch::default());
        }
        args.scratch(SUMS, buffers.scratch, self.scratch(views, config))?;
        let in_place = [X, DY].map(|input| args.in_place(input, DX));
        for input in [X, DY] {
            args.interleave(input, DX);
        }
        args.check()?;

        let (area, dx) = (self.area(views), views.dx.map_or([0; 4], |view| view.params()));
        let steps = steps.into_iter().map(|step| {
            let walk = self.walk(views, config, step);
            if step == Step::Channels {
                let joined = self.joined(if empty { 0 } else { self.batch });
                let grid = args.fold(joined.outputs.div_ceil((config.wg_size / config.lanes).into()))?;
                let pass = self.join(config, args.writable());
                return args.step(&pass, &self.of_join().join_params(&joined, &walk, grid[0]), grid);
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
