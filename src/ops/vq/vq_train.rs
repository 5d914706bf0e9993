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

use crate::compose::{Shader, Storage, Tensor};
use crate::dispatch::{Arg, check_all, fold, read_write};
use crate::kernels::Pipeline;
use crate::layout::View;
use crate::{Binding, Caps, Dispatch, Dtype, Error, ErrorKind, Kernels, Layout, Misfit, Result, vq_assign, vq_scatter};

const OP: &str = "vq_train";

/// A step of moving averages. Codebook, running sums and counts are f32, contiguous.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Problem {
    /// Vectors of the batch.
    pub n: usize,
    pub books: usize,
    /// Of each book.
    pub num_codes: usize,
    /// Elements of a code.
    pub code_dim: usize,
    /// Dtype of the batch.
    pub x: Dtype,
    /// Strides of vector and book.
    pub x_layout: Layout<2>,
    /// How much of the running average stays: `N = decay N + (1 - decay) count`.
    pub decay: f32,
    /// Laplace smoothing of counts; 0: none.
    pub epsilon: f32,
    /// A code of a lower running count becomes a vector of the batch; 0: never.
    pub least: f32,
    /// Of the draw of such vectors: another one for each step.
    pub seed: u32,
}

impl Default for Problem {
    /// One code of one element, with the usual rates: sizes are yours to set.
    fn default() -> Self {
        Problem {
            n: 1,
            books: 1,
            num_codes: 1,
            code_dim: 1,
            x: Dtype::F32,
            x_layout: Layout { offset: 0, strides: None },
            decay: 0.99,
            epsilon: 1e-5,
            least: 0.0,
            seed: 0,
        }
    }
}

/// Gradients of a layer `q` that replaces `x`: `dx = dy + commit (x - q)`, straight through (Bengio et al., 2013) and
/// of the commitment loss; `dq = pull (q - x)`, of the codebook loss. For means over all elements of weights
/// `w`, `commit` and `pull` are `2 w / elements`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gradient {
    pub elements: usize,
    /// Dtype of `x`, `q`, `dy` and `dx`; contiguous from the start of their bindings.
    pub dtype: Dtype,
    pub commit: f32,
    /// Of `dq`, which is f32; asked for by its buffer.
    pub pull: f32,
}

/// How it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    /// Invocations per workgroup.
    pub wg_size: u32,
}

/// The Config on this device.
pub fn choose(caps: &Caps) -> Config {
    Config { wg_size: caps.most_invocations().min(64) }
}

impl Config {
    /// The pipelines of [`prepare`] on a batch of this dtype.
    pub fn passes(&self, caps: &Caps, x: Dtype) -> [Pass; 2] {
        let kind = Kind::Update { x: Storage::of(x, caps), x_writable: false };
        [Pass { wg_size: self.wg_size, kind: Kind::Counts }, Pass { wg_size: self.wg_size, kind }]
    }

    /// The pipeline of [`prepare_gradient`].
    pub fn gradient_pass(&self, caps: &Caps, dtype: Dtype, elements: usize, dq: bool) -> Pass {
        let storage = Storage::of(dtype, caps);
        let vec = if elements.is_multiple_of(4) { 4 } else { 1 + u32::from(storage.packed()) };
        Pass { wg_size: self.wg_size, kind: Kind::Gradient { storage, vec, dq, writable: [false; 3] } }
    }

    /// Whether the Config can run on this device.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn fits(&self, caps: &Caps) -> Result<(), Misfit> {
        let limit = caps.most_invocations();
        match self.wg_size {
            0 => Err(Misfit::old("wg_size must be at least", 0, 1)),
            have if have > limit => Err(Misfit::old("wg_size must be at most", have, limit)),
            _ => Ok(()),
        }
    }
}

crate::params! {
    /// What a step of moving averages tells the shader.
    pub struct Params {
        n: u32,
        books: u32,
        num_codes: u32,
        cols: u32,
        grid_x: u32,
        seed: u32,
        x_offset: u32,
        x_s0: u32,
        x_s1: u32,
        decay: f32,
        gain: f32,
        epsilon: f32,
        least: f32,
    }
}

crate::params! {
    /// What the gradients tell the shader.
    pub struct GradientParams {
        cols: u32,
        grid_x: u32,
        commit: f32,
        pull: f32,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Counts,
    Update { x: Storage, x_writable: bool },
    Gradient { storage: Storage, vec: u32, dq: bool, writable: [bool; 3] },
}

/// A pipeline of a Config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pass {
    wg_size: u32,
    kind: Kind,
}

const COUNTS: u32 = 0;
const SUMS: u32 = 1;
const EMA_COUNTS: u32 = 2;
const EMA_SUMS: u32 = 3;
const CODEBOOK: u32 = 4;
const X: u32 = 5;
const STATS: u32 = 6;

impl Pipeline for Pass {
    fn shader(&self) -> Shader {
        let tensor =
            |binding, name, storage, writable, output| Tensor { binding, name, storage, writable, output, edge: false };
        match self.kind {
            // A vec3 takes the room of a vec4.
            Kind::Counts => Shader::new("vq_train_counts", self.wg_size, self.wg_size * 16, 1)
                .params::<Params>()
                .buffer(COUNTS, "counts", "u32", true)
                .buffer(EMA_COUNTS, "ema_counts", "f32", true)
                .buffer(STATS, "stats", "f32", true),
            Kind::Update { x, x_writable } => Shader::new("vq_train_update", self.wg_size, 0, 1)
                .params::<Params>()
                .buffer(SUMS, "sums", "f32", true)
                .buffer(EMA_COUNTS, "ema_counts", "f32", true)
                .buffer(EMA_SUMS, "ema_sums", "f32", true)
                .buffer(CODEBOOK, "codebook", "f32", true)
                .tensor(tensor(X, "x", x, x_writable, false))
                .buffer(STATS, "stats", "f32", true),
            Kind::Gradient { storage, vec, dq, writable } => {
                let shader = Shader::new("vq_train_gradient", self.wg_size, 0, vec)
                    .params::<GradientParams>()
                    .flag("HAS_DQ", dq)
                    .tensor(tensor(0, "x", storage, writable[0], false))
                    .tensor(tensor(1, "q", storage, writable[1], false))
                    .tensor(tensor(2, "dy", storage, writable[2], false))
                    .tensor(Tensor { edge: vec == 2, ..tensor(3, "dx", storage, true, true) });
                match (dq, vec) {
                    (false, _) => shader.import("vq_dq_none"),
                    (true, 4) => shader.buffer(4, "dq", "vec4<f32>", true).import("vq_dq"),
                    (true, 2) => shader.buffer(4, "dq", "f32", true).import("vq_dq2"),
                    (true, _) => shader.buffer(4, "dq", "f32", true).import("vq_dq"),
                }
            }
        }
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
    pub x: Binding<'a>,
    pub q: Binding<'a>,
    pub dy: Binding<'a>,
    pub dx: Binding<'a>,
    pub dq: Option<Binding<'a>>,
}

impl Problem {
    fn views(&self) -> Result<View<2>> {
        let invalid = |arg, reason: String| Err(Error { op: OP, kind: ErrorKind::InvalidProblem { arg, reason } });
        for (arg, size) in [("books", self.books), ("num_codes", self.num_codes), ("code_dim", self.code_dim)] {
            if size == 0 || size > 1 << 30 {
                return invalid(arg, format!("{size} is not 1 to 2^30"));
            }
        }
        if self.n > u32::MAX as usize / 2 {
            return invalid("n", format!("{} is more than 2^31 - 1", self.n));
        }
        if !(0.0..=1.0).contains(&self.decay) {
            return invalid("decay", format!("{} is not 0 to 1", self.decay));
        }
        for (arg, value) in [("epsilon", self.epsilon), ("least", self.least)] {
            if !(value >= 0.0 && value.is_finite()) {
                return invalid(arg, format!("{value} is not a finite number of at least 0"));
            }
        }
        Layout::<2>::default().resolve(OP, "codebook", [self.books, self.num_codes], self.code_dim)?;
        self.x_layout.resolve(OP, "x", [self.n, self.books], self.code_dim)
    }
}

/// A step of moving averages: checks, compiles what is not compiled yet, and binds.
///
/// # Errors
/// Everything that is wrong with the Problem or the Buffers, naming the argument and the numbers.
pub fn prepare(kernels: &Kernels, problem: &Problem, buffers: Buffers) -> Result<Dispatch> {
    kernels.now(OP, || plan(kernels, problem, &buffers))
}

/// [`prepare`] that waits for the device's verdict: on the web that comes later.
pub async fn prepare_async(kernels: &Kernels, problem: &Problem, buffers: Buffers<'_>) -> Result<Dispatch> {
    kernels.later(OP, || plan(kernels, problem, &buffers)).await
}

fn plan(kernels: &Kernels, problem: &Problem, buffers: &Buffers) -> Result<Dispatch> {
    let caps = kernels.caps();
    let view = problem.views()?;
    let Problem { n, books, num_codes, code_dim, .. } = *problem;
    let codes = (books * num_codes) as u64;
    let flat =
        |slot, name, binding, len: u64, writes| Arg { slot, name, binding, element_bits: 32, elements: 0..len, writes };
    let all = codes * code_dim as u64;
    let args = [
        // Read only, but declared like the rest: they may lie in one buffer.
        flat(COUNTS, "counts", buffers.counts, codes, true),
        flat(SUMS, "sums", buffers.sums, all, true),
        flat(EMA_COUNTS, "ema_counts", buffers.ema_counts, codes, true),
        flat(EMA_SUMS, "ema_sums", buffers.ema_sums, all, true),
        flat(CODEBOOK, "codebook", buffers.codebook, all, true),
        flat(STATS, "stats", buffers.stats, 2 * books as u64, true),
        Arg::new(X, "x", buffers.x, 8 * problem.x.bytes(), &view, false),
    ];
    check_all(OP, &caps, &args, |_, _| false)?;
    let config = choose(&caps);
    // Of an invocation that has a code, and of one that has its share of the counts.
    let rounds = (2 * code_dim as u64).max(num_codes as u64 / u64::from(config.wg_size) + u64::from(config.wg_size));
    caps.check_rounds(rounds).map_err(|misfit| misfit.error(OP))?;
    let [counts, mut update] = config.passes(&caps, problem.x);
    if let Kind::Update { x_writable, .. } = &mut update.kind {
        *x_writable = read_write(&args, X);
    }
    let grids = [fold(OP, &caps, books as u64)?, fold(OP, &caps, codes.div_ceil(config.wg_size.into()))?];
    let steps = [counts, update].into_iter().zip(grids).map(|(pass, grid)| {
        let params = Params {
            n: n as u32,
            books: books as u32,
            num_codes: num_codes as u32,
            cols: code_dim as u32,
            grid_x: grid[0],
            seed: problem.seed,
            x_offset: view.offset as u32,
            x_s0: view.stride(0),
            x_s1: view.stride(1),
            decay: problem.decay,
            gain: 1.0 - problem.decay,
            epsilon: problem.epsilon,
            least: problem.least,
        };
        let pass = kernels.pipeline(OP, &pass)?;
        Ok(Dispatch::new(OP, kernels, &args, &params, vec![(pass, grid)]))
    });
    Ok(Dispatch::sequence(OP, steps.collect::<Result<Vec<_>>>()?))
}

/// Gradients through a quantised layer.
///
/// # Errors
/// What is wrong with the Buffers, naming the argument and the numbers.
pub fn prepare_gradient(kernels: &Kernels, problem: &Gradient, buffers: GradientBuffers) -> Result<Dispatch> {
    kernels.now(OP, || plan_gradient(kernels, problem, &buffers))
}

fn plan_gradient(kernels: &Kernels, problem: &Gradient, buffers: &GradientBuffers) -> Result<Dispatch> {
    let caps = kernels.caps();
    let Gradient { elements, dtype, .. } = *problem;
    if elements == 0 {
        return Ok(Dispatch::nothing(OP));
    }
    if elements > u32::MAX as usize / 2 {
        return Err(Error { op: OP, kind: ErrorKind::IndexOverflow { arg: "x", last: elements as u128 - 1 } });
    }
    let view = Layout::<1>::default().resolve(OP, "x", [1], elements)?;
    let bits = 8 * dtype.bytes();
    let mut args = vec![
        Arg::new(0, "x", buffers.x, bits, &view, false),
        Arg::new(1, "q", buffers.q, bits, &view, false),
        Arg::new(2, "dy", buffers.dy, bits, &view, false),
        Arg::new(3, "dx", buffers.dx, bits, &view, true),
    ];
    args.extend(buffers.dq.map(|dq| Arg::new(4, "dq", dq, 32, &view, true)));
    check_all(OP, &caps, &args, |_, _| false)?;
    let mut pass = choose(&caps).gradient_pass(&caps, dtype, elements, buffers.dq.is_some());
    let mut vec = 1;
    if let Kind::Gradient { vec: of, writable, .. } = &mut pass.kind {
        *writable = [0, 1, 2].map(|slot| read_write(&args, slot));
        vec = *of;
    }
    let grid = fold(OP, &caps, (elements as u64).div_ceil(u64::from(vec * pass.wg_size)))?;
    let params = GradientParams { cols: elements as u32, grid_x: grid[0], commit: problem.commit, pull: problem.pull };
    let pass = kernels.pipeline(OP, &pass)?;
    Ok(Dispatch::new(OP, kernels, &args, &params, vec![(pass, grid)]))
}

/// Which memory k-means goes by; all but `x` and `codebook` is overwritten.
#[derive(Debug, Clone, Copy)]
pub struct KMeansBuffers<'a> {
    /// u32 `[n, books]`.
    pub indices: Binding<'a>,
    /// As in a step of moving averages.
    pub step: Buffers<'a>,
}

/// k-means in one recorded sequence: codes are drawn from the batch, each from a share of its own, then moved
/// `iterations` times to the mean of what is nearest; one that nothing is nearest to is drawn again. Rates of
/// the Problem have no say; counts and sums are left as of the last iteration, a fit start for moving averages.
///
/// # Errors
/// As [`prepare`], [`vq_assign::prepare`] and [`vq_scatter::prepare`].
pub fn prepare_kmeans(
    kernels: &Kernels,
    problem: &Problem,
    iterations: usize,
    buffers: KMeansBuffers,
) -> Result<Dispatch> {
    kernels.now(OP, || {
        problem.views()?;
        let Problem { n, books, num_codes, code_dim, x, x_layout, seed, .. } = *problem;
        let step = buffers.step;
        if let Some([_, apart]) = x_layout.strides.filter(|&[_, apart]| books > 1 && apart != code_dim) {
            let reason = format!("books of a vector must lie side by side, not {apart} elements apart");
            return Err(Error { op: OP, kind: ErrorKind::InvalidProblem { arg: "x", reason } });
        }
        let plain = |seed| Problem { decay: 0.0, epsilon: 0.0, least: 1.0, seed, ..*problem };
        // Without any count each code is replaced.
        let mut steps = vec![crate::vq_lookup::clear(OP, kernels, "counts", step.counts, 0, books * num_codes)?];
        steps.push(plan(kernels, &plain(seed), &step)?);
        let assign = vq_assign::Problem { n, books, num_codes, code_dim, x, x_layout, ..Default::default() };
        for iteration in 0..iterations {
            let found = vq_assign::Buffers::new(step.x, step.codebook, buffers.indices);
            steps.push(vq_assign::plan(kernels, &assign, None, &found)?);
            let summed = vq_scatter::Buffers::new(buffers.indices, step.x, step.sums).counts(step.counts);
            steps.push(vq_scatter::plan(kernels, &scatter_of(problem), None, &summed)?);
            steps.push(plan(kernels, &plain(seed.wrapping_add(1 + iteration as u32)), &step)?);
        }
        Ok(Dispatch::sequence(OP, steps))
    })
}

/// The statistics that a step goes by, of vectors whose books lie side by side.
fn scatter_of(problem: &Problem) -> vq_scatter::Problem {
    let Problem { n, books, num_codes, code_dim, x, x_layout, .. } = *problem;
    let row = x_layout.strides.map_or(books * code_dim, |[row, _]| row);
    vq_scatter::Problem {
        spatial: n,
        books,
        num_codes,
        code_dim,
        x,
        x_layout: Layout::strided(x_layout.offset, [0, row]),
        counts: Some(0),
        ..Default::default()
    }
}
