//! Training of a codebook: gradients through it ([`prepare_gradient`]), exponential moving averages of what its
//! codes stand for (van den Oord et al., "Neural Discrete Representation Learning", 2017), with replacement of
//! codes that nothing uses, and k-means.
//!
//! ```text
//! vq_assign  -> indices          of the batch
//! vq_scatter -> counts, sums     of the batch, per code
//! prepare    -> moves the running counts and sums, and the codes
//! ```
//!
//! The gradient of a codebook that is learnt by descent is [`vq_scatter`](crate::vq_scatter) of the `dq` that
//! [`prepare_gradient`] writes. Replacements are drawn by a counter-based generator, so that a step is the same
//! wherever it runs: [`reference::vq_train`](crate::reference::vq_train) draws the same.

use super::index::check_books;
use crate::ops::pointwise::clear;
use crate::ops::prelude::*;
use crate::ops::{Op, named, plan};
use crate::{vq_assign, vq_scatter};

pub use crate::ops::pointwise::Config;

defaults! {
    /// A step of moving averages. Codebook, running sums and counts are f32, contiguous.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Vectors of the batch.
        pub n: usize = 1,
        /// Books, each with codes of its own.
        pub books: usize = 1,
        /// Codes of each book.
        pub num_codes: usize = 1,
        /// Elements of a code.
        pub code_dim: usize = 1,
        /// Dtype of the batch.
        pub x: Dtype = Dtype::F32,
        /// Strides of vector and book.
        pub x_layout: Layout<2> = Layout::default(),
        /// How much of the running average stays: `N = decay N + (1 - decay) count`.
        pub decay: f32 = 0.99,
        /// Laplace smoothing of counts; 0: none.
        pub epsilon: f32 = 1e-5,
        /// A code of a lower running count becomes a vector of the batch; 0: never.
        pub least: f32 = 0.0,
        /// Seed of the draw of such vectors: another one for each step.
        pub seed: u32 = 0,
    }
}

/// Gradients of a layer `q` that replaces `x`: `dx = dy + commit (x - q)`, straight through (Bengio et al., 2013) and
/// of the commitment loss; `dq = pull (q - x)`, of the codebook loss. For means over all elements of weights
/// `w`, `commit` and `pull` are `2 w / elements`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gradient {
    /// Elements of `x`, `q`, `dy` and `dx`, contiguous from the start of their bindings.
    pub elements: usize,
    /// Dtype of `x`, `q`, `dy` and `dx`.
    pub dtype: Dtype,
    /// Weight of `x - q` in `dx`.
    pub commit: f32,
    /// Weight of `q - x` in `dq`, which is f32 and asked for by this.
    pub pull: Option<f32>,
}

crate::params! {
    /// What a step of moving averages tells the shader.
    pub struct Params;
    fn of(p: &Problem, x: &View<2>, grid: [u32; 3]) {
        x: Strides = x.params(),
        n: u32 = p.n as u32,
        books: u32 = p.books as u32,
        num_codes: u32 = p.num_codes as u32,
        cols: u32 = p.code_dim as u32,
        grid_x: u32 = grid[0],
        seed: u32 = p.seed,
        decay: f32 = p.decay,
        gain: f32 = 1.0 - p.decay,
        epsilon: f32 = p.epsilon,
        least: f32 = p.least,
    }
}

crate::params! {
    /// What the gradients tell the shader.
    pub struct GradientParams;
    fn of(p: &Gradient, grid: [u32; 3]) {
        cols: u32 = p.elements as u32,
        grid_x: u32 = grid[0],
        commit: f32 = p.commit,
        pull: f32 = p.pull.unwrap_or(0.0),
    }
}

/// What follows from a [`Gradient`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct GradientForm {
    storage: Storage,
    /// Elements per chunk.
    vec: u32,
    dq: bool,
}

slots!(COUNTS, SUMS, EMA_COUNTS, EMA_SUMS, CODEBOOK, X, STATS);

/// A step of moving averages; its form is how it holds the batch, where it reads it.
impl Pipeline for Pass<Config, Option<Storage>> {
    fn shader(&self) -> Shader {
        let wg_size = self.config.wg_size;
        match self.form {
            None => self.begin(wg_size, counts_bytes(wg_size), 1).reads(COUNTS, "counts", "u32"),
            Some(x) => self
                .begin(wg_size, 0, 1)
                .reads(SUMS, "sums", "f32")
                .writes(EMA_SUMS, "ema_sums", "f32")
                .writes(CODEBOOK, "codebook", "f32")
                .input(X, "x", x),
        }
        .params::<Params>()
        .writes(EMA_COUNTS, "ema_counts", "f32")
        .writes(STATS, "stats", "f32")
    }
}

/// Workgroup memory of the step that counts: a vec3, which takes the room of a vec4, per invocation.
fn counts_bytes(wg_size: u32) -> u32 {
    wg_size.saturating_mul(16)
}

slots!(GRADIENT_X, Q, DY, DX, DQ);

impl Pipeline for Pass<Config, GradientForm> {
    fn shader(&self) -> Shader {
        let GradientForm { storage, vec, dq } = self.form;
        let (element, file) = match vec {
            4 => ("vec4<f32>", "vq_dq"),
            2 => ("f32", "vq_dq2"),
            _ => ("f32", "vq_dq"),
        };
        self.begin(self.config.wg_size, 0, vec)
            .params::<GradientParams>()
            .flag("HAS_DQ", dq)
            .input(GRADIENT_X, "x", storage)
            .input(Q, "q", storage)
            .input(DY, "dy", storage)
            .output(DX, "dx", storage, vec == 2)
            .writes_if(dq, DQ, "dq", element, file)
    }
}

/// Which memory a step of moving averages goes by.
#[derive(Debug, Clone, Copy)]
pub struct Buffers<'a> {
    /// u32 `[books, num_codes]`: how often the batch uses each code.
    pub counts: Binding<'a>,
    /// f32 `[books, num_codes, code_dim]`: what it sums up to.
    pub sums: Binding<'a>,
    /// The batch.
    pub x: Binding<'a>,
    /// f32 `[books, num_codes]`, moved.
    pub ema_counts: Binding<'a>,
    /// f32 `[books, num_codes, code_dim]`, moved.
    pub ema_sums: Binding<'a>,
    /// f32 `[books, num_codes, code_dim]`, moved.
    pub codebook: Binding<'a>,
    /// f32 `[books, 2]`: the sum of the running counts, the perplexity of the batch.
    pub stats: Binding<'a>,
}

/// Which memory gradients go by.
#[derive(Debug, Clone, Copy)]
pub struct GradientBuffers<'a> {
    /// The layer's input.
    pub x: Binding<'a>,
    /// What replaced it.
    pub q: Binding<'a>,
    /// The gradient of `q` from behind.
    pub dy: Binding<'a>,
    /// The gradient of `x`, written.
    pub dx: Binding<'a>,
    /// The gradient of the codes' vectors, f32, written where the Gradient has `pull`.
    pub dq: Option<Binding<'a>>,
}

functions!("vq_train");
op!("vq_train_gradient", Gradient, GradientBuffers);

impl Problem {
    /// The two steps.
    fn passes(&self, config: &Config, writable: Slots) -> [Pass<Config, Option<Storage>>; 2] {
        let form = Some(Storage::held(self.x, config.native_f16));
        let counting = Config { native_f16: false, ..*config };
        [
            Pass { stem: "vq_train_counts", config: counting, form: None, writable },
            Pass { stem: "vq_train_update", config: *config, form, writable },
        ]
    }
}

impl Plan for Problem {
    /// Of the batch.
    type Views = View<2>;

    fn resolve(&self) -> Checked<View<2>> {
        check_books(self.books, self.num_codes, self.code_dim)?;
        sizes_fit([("n", self.n)])?;
        if !(0.0..=1.0).contains(&self.decay) {
            return Err(ErrorKind::invalid("decay", format!("{} is not 0 to 1", self.decay)));
        }
        for (arg, value) in [("epsilon", self.epsilon), ("least", self.least)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(ErrorKind::invalid(arg, format!("{value} is not a finite number of at least 0")));
            }
        }
        Layout::<2>::default().view("codebook", [self.books, self.num_codes], self.code_dim)?;
        self.x_layout.view("x", [self.n, self.books], self.code_dim)
    }

    fn list(&self, _x: &View<2>, caps: &Caps) -> Vec<Config> {
        vec![Config::of(caps, self.x == Dtype::F16)]
    }

    fn check(&self, _x: &View<2>, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        config.check(caps, self.x == Dtype::F16)?;
        let bytes = counts_bytes(config.wg_size);
        Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)?;
        // Of an invocation that has its share of the counts, and of one that has a code, replaced or not.
        let wg_size = u64::from(config.wg_size);
        caps.check_rounds(Rounds::plain((self.num_codes as u64).div_ceil(wg_size)) + Rounds::plain(wg_size))?;
        caps.check_rounds(Rounds::plain(self.code_dim as u64).times(2))
    }

    fn compose(&self, _x: &View<2>, config: &Config, writable: Slots) -> Vec<Shader> {
        self.passes(config, writable).iter().map(Pipeline::shader).collect()
    }

    fn bind(&self, x: &View<2>, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let books = self.books as u64;
        let codes = product!(books, self.num_codes);
        let [each, all, stats] = [codes, product!(codes, self.code_dim), 2 * books].map(|words| Reach::to(words, WORD));
        let mut args = Args::new(kernels);
        args.read(COUNTS, "counts", buffers.counts, each.clone())?;
        args.read(SUMS, "sums", buffers.sums, all.clone())?;
        args.write(EMA_COUNTS, "ema_counts", buffers.ema_counts, each)?;
        args.write(EMA_SUMS, "ema_sums", buffers.ema_sums, all.clone())?;
        args.write(CODEBOOK, "codebook", buffers.codebook, all)?;
        args.write(STATS, "stats", buffers.stats, stats)?;
        args.read(X, "x", buffers.x, x.of(self.x))?;
        args.check()?;

        let workgroups = [books, codes.div_ceil(config.wg_size.into())];
        let steps = self.passes(config, args.writable()).into_iter().zip(workgroups).map(|(pass, workgroups)| {
            let grid = args.fold(workgroups)?;
            args.step(&pass, &Params::of(self, x, grid), grid)
        });
        Ok(Dispatch::of(steps.collect::<Checked<_>>()?))
    }
}

impl Gradient {
    fn pass(&self, config: &Config, writable: Slots) -> Pass<Config, GradientForm> {
        let storage = Storage::held(self.dtype, config.native_f16);
        let vec = if self.elements.is_multiple_of(4) { 4 } else { 1 + u32::from(storage.packed()) };
        let form = GradientForm { storage, vec, dq: self.pull.is_some() };
        Pass { stem: "vq_train_gradient", config: *config, form, writable }
    }
}

impl Plan for Gradient {
    /// Of all tensors.
    type Views = View<1>;

    fn resolve(&self) -> Checked<View<1>> {
        sizes_fit([("elements", self.elements)])?;
        Layout::default().view("x", [1], self.elements)
    }

    fn list(&self, _view: &View<1>, caps: &Caps) -> Vec<Config> {
        vec![Config::of(caps, self.dtype == Dtype::F16)]
    }

    fn check(&self, _view: &View<1>, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        config.check(caps, self.dtype == Dtype::F16)
    }

    fn compose(&self, _view: &View<1>, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![self.pass(config, writable).shader()]
    }

    fn bind(&self, view: &View<1>, config: &Config, kernels: &Kernels, buffers: &GradientBuffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(GRADIENT_X, "x", buffers.x, view.of(self.dtype))?;
        args.read(Q, "q", buffers.q, view.of(self.dtype))?;
        args.read(DY, "dy", buffers.dy, view.of(self.dtype))?;
        args.write(DX, "dx", buffers.dx, view.of(self.dtype))?;
        args.write(DQ, "dq", buffers.dq, self.pull.map(|_| view.of(WORD)))?;
        if self.elements == 0 {
            return Ok(Dispatch::default());
        }
        args.check()?;
        let pass = self.pass(config, args.writable());
        let grid = args.fold((self.elements as u64).div_ceil(product!(pass.form.vec, config.wg_size)))?;
        args.dispatch(&[pass], &GradientParams::of(self, grid), grid)
    }
}

/// Gradients through a quantised layer.
///
/// # Errors
/// What is wrong with the Buffers, naming the argument and the numbers.
pub fn prepare_gradient(kernels: &Kernels, problem: &Gradient, buffers: GradientBuffers) -> Result<Dispatch> {
    problem.prepare(kernels, buffers)
}

/// Which memory k-means goes by; all but `x` and `codebook` is overwritten.
#[derive(Debug, Clone, Copy)]
pub struct KMeansBuffers<'a> {
    /// u32 `[n, books]`.
    pub indices: Binding<'a>,
    /// As in a step of moving averages.
    pub step: Buffers<'a>,
}

/// Iterations of k-means in one sequence: each has steps of its own.
const MOST_ITERATIONS: usize = 1 << 14;

/// k-means in one recorded sequence: codes are drawn from the batch, each from a share of its own, then moved
/// `iterations` times to the mean of what is nearest; one that nothing is nearest to is drawn again. The rates of
/// the Problem are ignored; counts and sums are left as of the last iteration, a fit start for moving averages. An empty
/// batch leaves counts and sums of 0, and the codebook as it is.
///
/// # Errors
/// As [`prepare`], [`vq_assign::prepare`] and [`vq_scatter::prepare`].
pub fn prepare_kmeans(
    kernels: &Kernels,
    problem: &Problem,
    iterations: usize,
    buffers: KMeansBuffers,
) -> Result<Dispatch> {
    kernels.now(Problem::NAME, || named::<Problem, _>(|| kmeans(kernels, problem, iterations, &buffers)))
}

fn kmeans(kernels: &Kernels, problem: &Problem, iterations: usize, buffers: &KMeansBuffers) -> Checked<Dispatch> {
    kernels.caps().check_device()?;
    problem.resolve()?;
    let Problem { n, books, num_codes, code_dim, x, x_layout, seed, .. } = *problem;
    if iterations > MOST_ITERATIONS {
        return Err(ErrorKind::invalid("iterations", format!("{iterations} are more than {MOST_ITERATIONS}")));
    }
    let KMeansBuffers { indices, step } = *buffers;
    let row = match x_layout.strides {
        Some([_, apart]) if books > 1 && apart != code_dim => {
            let reason = format!("books of a vector must lie side by side, not {apart} elements apart");
            return Err(ErrorKind::invalid("x", reason));
        }
        Some([row, _]) => row,
        None => books.saturating_mul(code_dim),
    };
    // Nothing of the running averages stays; without any count each code is replaced.
    let moved = |seed| {
        let plain = Problem { decay: 0.0, epsilon: 0.0, least: 1.0, seed, ..*problem };
        plan(kernels, &plain, None, &step).map(Dispatch::into_steps)
    };
    let assign = vq_assign::Problem { n, books, num_codes, code_dim, x, x_layout, ..Default::default() };
    let scatter = vq_scatter::Problem { spatial: n, books, num_codes, code_dim, ..Default::default() };
    let x_layout = Layout::strided(x_layout.offset, [0, row]);
    let scatter = vq_scatter::Problem { x, x_layout, counts: Some(0), ..scatter };
    let nearest = vq_assign::Buffers::new(step.x, step.codebook, indices);
    let summed = vq_scatter::Buffers::new(indices, step.x, step.sums).counts(step.counts);

    // Without a batch nothing is drawn or moved: counts and sums are 0, the codebook is what it was.
    if n == 0 {
        let mut steps = plan(kernels, &scatter, None, &summed)?.into_steps();
        steps.extend(moved(seed)?);
        return Ok(Dispatch::of(steps).named(Problem::NAME, kernels.number()));
    }
    let counts = Layout::default().view("counts", [books, num_codes], 1)?;
    let mut args = Args::new(kernels);
    args.write(COUNTS, "counts", step.counts, counts.of(WORD))?;
    args.check()?;
    let mut steps = vec![clear(&args, COUNTS, &counts)?];
    steps.extend(moved(seed)?);
    for iteration in 0..iterations {
        steps.extend(plan(kernels, &assign, None, &nearest)?.into_steps());
        steps.extend(plan(kernels, &scatter, None, &summed)?.into_steps());
        steps.extend(moved(seed.wrapping_add(1 + iteration as u32))?);
    }
    Ok(Dispatch::of(steps).named(Problem::NAME, kernels.number()))
}
