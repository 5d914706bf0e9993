//! Products with adapters of low rank: `y = act(x W^T + scale (x A^T) B^T + bias) + residual` in one call, for one adapter, or
//! for rows that each name their own; LoRA (Hu et al., 2021).
//!
//! Adapters come from a buffer and may be anything: a row whose adapter does not exist has the product of W only.
//!
//! # Algorithms
//! A first step writes `t = scale x A^T`, f32 `[m, rank]`, to scratch. Then one of [`gemm`](crate::gemm)'s algorithms multiplies x and W, and
//! its epilogue adds `t B^T` by the adapter of each row. No other intermediate is made.
//!
//! # Gradients
//! [`backward`] gives that of x, another call of this op with all matrices transposed, and those of A and B:
//! [`lora_backward`](crate::lora_backward).
//!
//! Where the binding of W is too large for the device, it is refused by name.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 shared cores, 512 x 4096 x 4096 f16, rank 16: 0.85, 0.94, 1.01 and 0.81 of the time of the product alone (four runs
//! in turns, under load); eight adapters mixed 0.99, 1.44, 1.03 and 1.16 of one.

use super::gemm_quant::{self, Weights};
use super::pipeline::{
    A, B, B2, BIAS, C, D, LowRank, LowRankLoad, RESIDUAL, Role, SCALE, SCRATCH, SPLIT_WG, passes_of,
};
use super::prepare::Product;
use super::{Activation, Along, Epilogue, Matrix, Operand, Views as ProductViews, choose as of_gemm};
use crate::caps::LEAST_INVOCATIONS;
use crate::lora_backward;
use crate::norm::Vector;
use crate::ops::prelude::*;
use crate::weights::Format;

pub use super::{Algorithm, Config};

defaults! {
    /// What is computed: `y [m, n]` of `x [m, k]`.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Rows of x and y.
        pub m: usize = 1,
        /// Columns of y.
        pub n: usize = 1,
        /// Columns of x.
        pub k: usize = 1,
        /// Rank of the adapters, 1 to 256.
        pub rank: usize = 1,
        /// Adapters, at least 1.
        pub adapters: usize = 1,
        /// Multiplies the product of low rank.
        pub scale: f32 = 1.0,
        /// The first of m numbers of adapters in their binding, i32 or u32; without it all rows have adapter 0.
        pub adapter: Option<usize> = None,
        /// The matrices are stored `weight [k, n]`, `a [adapters, k, rank]`, `b [adapters, rank, n]`; else `weight [n, k]`,
        /// `a [adapters, rank, k]`, `b [adapters, n, rank]`, as checkpoints have them.
        pub transposed: bool = false,
        /// Dtype of x.
        pub x: Dtype = Dtype::F32,
        /// Where its rows lie.
        pub x_layout: Layout<1> = Layout::default(),
        /// Dtype of the weight.
        pub weight: Dtype = Dtype::F32,
        /// Where its rows lie.
        pub weight_layout: Layout<1> = Layout::default(),
        /// The weight is packed, in this format: its codes are in the buffer of the weight, its scales in that of the scales. Its dtype
        /// and layout have no say then.
        pub format: Option<Format> = None,
        /// Dtype of a.
        pub a: Dtype = Dtype::F32,
        /// Strides of adapters and of rows of a.
        pub a_layout: Layout<2> = Layout::default(),
        /// Dtype of b.
        pub b: Dtype = Dtype::F32,
        /// Strides of adapters and of rows of b.
        pub b_layout: Layout<2> = Layout::default(),
        /// Dtype of y.
        pub y: Dtype = Dtype::F32,
        /// Where its rows lie. They must not overlap.
        pub y_layout: Layout<1> = Layout::default(),
        /// `[n]`, added before the activation.
        pub bias: Option<Vector> = None,
        /// Applied to the sum of both products and the bias.
        pub activation: Activation = Activation::None,
        /// `[m, n]`, added last. May be the view of y.
        pub residual: Option<Residual> = None,
    }
}

/// A residual: its dtype, and where its rows lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Residual {
    /// Dtype of its elements.
    pub dtype: Dtype,
    /// Where its rows lie.
    pub layout: Layout<1>,
}

/// What [`backward`] gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backward {
    /// The gradient of x, in its dtype and layout, of both products; not where the weight is packed. Buffers: (dy, weight, b, a, dx).
    pub dx: Option<Problem>,
    /// The gradients of a and b. Buffers: (x, dy, a, b, da, db).
    pub factors: lora_backward::Problem,
}

/// The gradients of a Problem without activation, where that of y lies as y does.
///
/// # Errors
/// Of a Problem with an activation: multiply its derivative in before; or whose matrices are transposed.
pub fn backward(problem: &Problem) -> Result<Backward> {
    crate::ops::named::<Problem, _>(|| {
        let Problem { m, n, k, rank, adapters, scale, adapter, .. } = *problem;
        if problem.activation != Activation::None {
            return Err(ErrorKind::invalid("activation", "gradients are those of a sum of products"));
        }
        if problem.transposed {
            return Err(ErrorKind::invalid("transposed", "gradients are those of matrices as checkpoints have them"));
        }
        let Problem { x, x_layout, y, y_layout, a, a_layout, b, b_layout, .. } = *problem;
        let turned = Problem { n: k, k: n, transposed: true, bias: None, residual: None, ..*problem };
        let turned = Problem { x: y, x_layout: y_layout, y: x, y_layout: x_layout, ..turned };
        let dx = Problem { a: b, a_layout: b_layout, b: a, b_layout: a_layout, ..turned };
        let factors = lora_backward::Problem { m, n, k, rank, adapters, scale, adapter, ..Default::default() };
        let factors = lora_backward::Problem { x, x_layout, dy: y, dy_layout: y_layout, ..factors };
        let dx = problem.format.is_none().then_some(dx);
        Ok(Backward { dx, factors: lora_backward::Problem { a, a_layout, b, b_layout, ..factors } })
    })
}

/// What follows from the Problem.
pub(crate) struct Views {
    base: super::Problem,
    product: ProductViews,
    down: Down,
    a: View<2>,
    b: View<2>,
    adapter: Option<View<1>>,
}

/// The first step of lora, and of its gradient: `t = scale x L` of the left factor of each row's adapter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Down {
    pub x: View<1>,
    pub left: View<2>,
    pub x_dtype: Dtype,
    pub left_dtype: Dtype,
    /// left is stored along k.
    pub along_k: bool,
    pub m: usize,
    pub k: usize,
    pub rank: usize,
    pub adapters: usize,
    pub scale: f32,
    /// The first element of the adapters.
    pub adapter: Option<usize>,
}

/// What its pipeline depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DownForm {
    vec: u32,
    x: Storage,
    left: Storage,
    along_k: bool,
    adapter: bool,
}

crate::params! {
    /// What one run tells the first step.
    pub struct DownParams;
    fn of(p: &Down, grid: [u32; 3]) {
        x: Strides = p.x.params(),
        left: Strides = left_params(&p.left),
        m: u32 = p.m as u32,
        k: u32 = p.k as u32,
        ranks: u32 = p.rank as u32,
        quads: u32 = p.quads() as u32,
        adapters: u32 = p.adapters as u32,
        adapter: u32 = p.adapter.unwrap_or(0) as u32,
        grid_x: u32 = grid[0],
        scale: f32 = p.scale,
    }
}

/// Offset, strides of adapters, of nothing, and of rows.
fn left_params(view: &View<2>) -> Strides {
    let [offset, _, adapters, rows] = view.params();
    [offset, adapters, 0, rows]
}

/// The slots of the first step.
pub(super) const DOWN: [u32; 4] = [0, 1, 2, 3];
/// Its invocations, which share k, and the rows and ranks of a workgroup. Most loads are those of A, shared by the rows.
const DOWN_WG: u32 = LEAST_INVOCATIONS;
const DOWN_ROWS: u32 = 4;
const DOWN_RANKS: u32 = 8;
const DOWN_BYTES: u32 = DOWN_ROWS * DOWN_RANKS / 4 * DOWN_WG * 16;

impl Down {
    pub fn quads(&self) -> usize {
        self.rank.div_ceil(4)
    }

    /// Bytes of t: for each row its adapter, then quads of ranks.
    pub fn bytes(&self) -> u64 {
        product!(self.m, self.quads() + 1, 16u32)
    }

    pub fn pass(&self, native_f16: bool, writable: Slots) -> Pass<(), DownForm> {
        let fours = self.x.multiple_of(4) && self.left.multiple_of(4) && self.k.is_multiple_of(4);
        let held = |dtype| Storage::held(dtype, native_f16);
        let form = DownForm {
            vec: if fours { 4 } else { 1 },
            x: held(self.x_dtype),
            left: held(self.left_dtype),
            along_k: self.along_k,
            adapter: self.adapter.is_some(),
        };
        Pass { stem: "lora_down", config: (), form, writable }
    }

    /// The arguments of this step: x, left, adapters, and t.
    pub fn args<'k>(
        &self,
        kernels: &'k Kernels,
        names: [&'static str; 2],
        memory: [Binding; 2],
        adapter: Option<Binding>,
        t: crate::args::Memory,
    ) -> Checked<Args<'k>> {
        let mut args = Args::new(kernels);
        args.read(DOWN[0], names[0], memory[0], self.x.of(self.x_dtype))?;
        args.read(DOWN[1], names[1], memory[1], self.left.of(self.left_dtype))?;
        let end = self.adapter.map(|first| first.saturating_add(self.m) as u64);
        args.read(DOWN[2], "adapter", adapter, end.map(|end| Reach::to(end, WORD)))?;
        args.write(DOWN[3], "scratch", t, Reach::to(self.bytes() / 4, WORD))?;
        Ok(args)
    }

    pub fn step(&self, args: &Args, native_f16: bool) -> Checked<crate::dispatch::Step> {
        let blocks = product!(self.m.div_ceil(DOWN_ROWS as usize), self.quads().div_ceil(DOWN_RANKS as usize / 4));
        let grid = args.fold(blocks)?;
        args.step(&self.pass(native_f16, args.writable()), &DownParams::of(self, grid), grid)
    }

    /// Whether the step can run on this device.
    pub fn check(&self, caps: &Caps) -> Result<(), Misfit> {
        caps.check_rounds(self.rounds())?;
        Misfit::at_most("bytes of workgroup memory", DOWN_BYTES, caps.limits.max_compute_workgroup_storage_size)
    }

    fn rounds(&self) -> Rounds {
        let (rows, vecs) = (u64::from(DOWN_ROWS), u64::from(DOWN_RANKS / 4));
        let (each, sums) = (Rounds::plain(rows), Rounds::plain(rows * vecs));
        let over_k = Rounds::nest((self.k as u64).div_ceil(u64::from(4 * DOWN_WG)), each + Rounds::nest(vecs, each));
        let one = each + sums + over_k + Rounds::nest(3u32, Rounds::nest(vecs, each)) + sums;
        let end = Rounds::nest(1u32, Rounds::plain(DOWN_WG));
        each + sums + Rounds::nest(rows, one) + sums + end
    }
}

impl Pipeline for Pass<(), DownForm> {
    fn shader(&self) -> Shader {
        let DownForm { vec, x, left, along_k, adapter } = self.form;
        self.begin(DOWN_WG, DOWN_BYTES, vec)
            .params::<DownParams>()
            .constants([("ROWS", DOWN_ROWS), ("RANKS", DOWN_RANKS)])
            .flag("ALONG_K", along_k)
            .input(DOWN[0], "x", x)
            .input(DOWN[1], "left", left)
            .table(DOWN[2], "adapter", "u32", adapter)
            .writes(DOWN[3], "scratch", "vec4<u32>")
            .import(if vec == 4 { "lora_load4" } else { "lora_load1" })
    }
}

/// The slot of the adapters in the second step, which does not declare them.
const ADAPTER_LATER: u32 = 9;

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x`, `weight`, `a` and `b` are read, `y` is written.
        x, weight, a, b, y;
        /// Scales of a packed weight, whose codes are the weight.
        scales,
        /// The number of each row's adapter.
        adapter,
        /// The bias that the Problem asks for.
        bias,
        /// The residual that the Problem asks for.
        residual,
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("lora");

/// Refuses ranks and numbers of adapters that lora does not have.
pub(super) fn check_sizes(m: usize, n: usize, k: usize, rank: usize, adapters: usize, scale: f32) -> Checked {
    sizes_fit([("m", m), ("n", n), ("k", k), ("adapters", adapters)])?;
    match () {
        () if !(1..=256).contains(&rank) => Err(ErrorKind::invalid("rank", format!("{rank} is not from 1 to 256"))),
        () if adapters == 0 => Err(ErrorKind::invalid("adapters", "there must be at least one")),
        () if !scale.is_finite() => Err(ErrorKind::invalid("scale", format!("{scale} is not finite"))),
        () => Ok(()),
    }
}

impl Problem {
    /// Rows of one adapter's a as they are stored, and their elements.
    pub fn a_sizes(&self) -> ([usize; 2], usize) {
        let (rows, cols) = if self.transposed { (self.k, self.rank) } else { (self.rank, self.k) };
        ([self.adapters, rows], cols)
    }

    /// The same of b.
    pub fn b_sizes(&self) -> ([usize; 2], usize) {
        let (rows, cols) = if self.transposed { (self.rank, self.n) } else { (self.n, self.rank) };
        ([self.adapters, rows], cols)
    }

    /// Rows of the weight as it is stored, and their elements.
    pub fn weight_sizes(&self) -> ([usize; 1], usize) {
        if self.transposed { ([self.k], self.n) } else { ([self.n], self.k) }
    }

    /// Operations.
    pub fn flops(&self) -> f64 {
        let [m, n, k, rank] = [self.m, self.n, self.k, self.rank].map(|size| size as f64);
        2.0 * m * (n * k + rank * (n + k))
    }

    /// How the epilogue reads b.
    fn role(&self, views: &Views, config: &Config) -> Role {
        let fours = views.b.multiple_of(4) && !self.weights(config).1.few_columns(&views.base);
        let load = match self.b {
            _ if !fours => LowRankLoad::Words,
            Dtype::F32 => LowRankLoad::Floats,
            _ => LowRankLoad::Halves,
        };
        Role::LowRank(LowRank { load, along_rank: !self.transposed })
    }

    /// Refuses a packed weight that this op does not have.
    fn check_format(&self, format: &Format) -> Checked {
        format.check(self.k)?;
        if self.transposed || self.weight_layout != Layout::default() {
            return Err(ErrorKind::invalid("format", "a packed weight is [n, k], and has no layout"));
        }
        if format.order > 0 {
            return Err(ErrorKind::invalid("format", "its columns must not be in an order of their own"));
        }
        let words = format.code_bytes(self.n, self.k).max(format.scale_bytes(self.n, self.k)) / 4;
        match product!(self.n, self.k).max(words) {
            last if last > u32::MAX.into() => Err(ErrorKind::IndexOverflow { arg: "weight", last: last.into() }),
            _ => Ok(()),
        }
    }

    /// The product of a packed weight.
    fn quant(&self, views: &Views) -> Option<gemm_quant::Problem> {
        let super::Problem { m, n, k, a, d, .. } = views.base;
        Some(gemm_quant::Problem { m, n, k, format: self.format?, a, d, ..Default::default() })
    }

    /// The packed weight, and the Config as gemm has it.
    fn weights(&self, config: &Config) -> (Option<Weights>, Config) {
        let quant = gemm_quant::Config::within(config);
        let weights = self.format.map(|format| Weights::of(format, self.k, 1, quant));
        (weights, if weights.is_some() { quant.inner() } else { *config })
    }

    /// Bytes of t, up to where sums of parts of k may lie.
    fn t_bytes(&self, views: &Views) -> u64 {
        views.down.bytes().saturating_add(255) / 256 * 256
    }
}

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let Problem { m, n, k, rank, adapters, scale, transposed, activation, .. } = *self;
        check_sizes(m, n, k, rank, adapters, scale)?;
        let rows = |arg, dtype, layout: Layout<1>, rows: usize, cols: usize| {
            let layout = Layout { offset: layout.offset, strides: layout.strides.map(|[row]| [0, 0, row]) };
            Checked::Ok(Operand { view: layout.view(arg, [1, 1, rows], cols)?, dtype })
        };
        let ([w_rows], w_cols) = self.weight_sizes();
        let x = rows("x", self.x, self.x_layout, m, k)?;
        let weight = match self.format {
            None => rows("weight", self.weight, self.weight_layout, w_rows, w_cols)?,
            Some(format) => {
                self.check_format(&format)?;
                rows("weight", Dtype::F32, Layout::strided(0, [0]), 1, 1)?
            }
        };
        let y = rows("y", self.y, self.y_layout, m, n)?;
        y.view.apart("y")?;
        let residual =
            self.residual.map(|Residual { dtype, layout }| rows("residual", dtype, layout, m, n)).transpose()?;
        let bias = self.bias.map(|Vector { dtype, offset }| {
            let layout = Layout::strided(offset, [n, 0, 1]);
            Checked::Ok(Operand { view: layout.view("bias", [1, 1, n], 1)?, dtype })
        });
        let bias = bias.transpose()?;
        let (sizes, inner) = self.a_sizes();
        let a = self.a_layout.view("a", sizes, inner)?;
        let ([_, b_rows], b_cols) = self.b_sizes();
        let b = self.b_layout.view("b", [adapters, b_rows], b_cols)?;
        let packed = self.format.map(|format| format.coded(true));
        let right = Some(weight).filter(|_| packed.is_none());
        let by = |n: usize| k > 0 && [Some(x), right].iter().flatten().all(|operand| operand.view.multiple_of(n));
        let (by_fours, by_eights) = (by(4) && k.is_multiple_of(4), by(8));
        // The pipeline has an epilogue with arguments, of which b is in the place of c.
        let of_b =
            Layout { offset: self.b_layout.offset, strides: self.b_layout.strides.map(|[one, row]| [one, 0, row]) };
        let c = Some(Operand { view: of_b.view("b", [adapters, 1, b_rows], b_cols)?, dtype: self.b });
        let [x_matrix, w_matrix, y_matrix] = [self.x, self.weight, self.y].map(Matrix::new);
        let base = super::Problem {
            m,
            n,
            k,
            trans_b: !transposed,
            a: x_matrix,
            b: w_matrix,
            d: y_matrix,
            epilogue: Epilogue {
                activation,
                bias: self.bias.map(|bias| super::Vector {
                    dtype: bias.dtype,
                    along: Along::Columns,
                    offset: bias.offset,
                }),
                ..Epilogue::default()
            },
            ..super::Problem::default()
        };
        let trans_b = !transposed;
        let (trans_a, b2, scale_of) = (false, None, None);
        let product = ProductViews {
            trans_a,
            trans_b,
            by_fours,
            by_eights,
            packed,
            a: x,
            b: weight,
            d: y,
            b2,
            c,
            residual,
            bias,
            scale: scale_of,
        };
        let down = Down {
            x: self.x_layout.view("x", [m], k)?,
            left: a,
            x_dtype: self.x,
            left_dtype: self.a,
            along_k: !transposed,
            m,
            k,
            rank,
            adapters,
            scale,
            adapter: self.adapter,
        };
        // Every quad of t can be counted.
        Layout::<1>::default().view("scratch", [m], 4 * (down.quads() + 1))?;
        let adapter = self.adapter.map(|first| Layout::<1>::at(first).view("adapter", [1], m)).transpose()?;
        Ok(Views { base, product, down, a, b, adapter })
    }

    fn without_batch(&self) -> Problem {
        Problem { m: BATCH, ..*self }
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let base = super::Problem { m: self.m, ..views.base };
        let quant = self.quant(views).map(|quant| gemm_quant::Problem { m: self.m, ..quant });
        let few = quant.map_or(Vec::new(), |quant| quant.few(caps));
        let few = few.into_iter().map(|config| Config { algorithm: Algorithm::Vector, ..config.inner() });
        few.chain(of_gemm::candidates(&base, &views.product, caps)).collect()
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        match self.quant(views) {
            Some(quant) => quant.check(&views.product, caps, &gemm_quant::Config::within(config))?,
            None => of_gemm::check(&views.base, &views.product, caps, config)?,
        }
        views.down.check(caps)?;
        // Each four of the sums has the ranks.
        let quads = views.down.quads() as u64;
        let [rows, columns] = config.thread.map(u64::from);
        let low_rank = Rounds::nest(rows * columns.div_ceil(4), Rounds::nest(quads, Rounds::plain(4u32)));
        caps.check_rounds(self.weights(config).1.rounds(&views.base) + low_rank)
    }

    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        match views.base.scratch(&views.product, &self.weights(config).1) {
            0 => views.down.bytes(),
            parts => self.t_bytes(views).saturating_add(parts),
        }
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let down = views.down.pass(config.native_f16, writable).shader();
        let (weights, inner) = self.weights(config);
        let (first, second) = passes_of(&views.base, &views.product, &inner, writable, self.role(views, config));
        let first = weights.map_or_else(|| first.shader(), |weights| weights.pass(first).shader());
        [down, first].into_iter().chain(second.map(|pass| pass.shader())).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let Buffers { x, weight, a, b, y, scales, adapter, bias, residual, scratch } = *buffers;
        let (weights, inner) = self.weights(config);
        let Views { base, product, down, .. } = views;
        let mut args = Args::new(kernels);
        let reach = |operand: Operand| operand.view.of(operand.dtype);
        args.read(A, "x", x, reach(product.a))?;
        match weights {
            None => {
                args.read(B, "weight", weight, reach(product.b))?;
                args.read(B2, "scales", scales, None)?;
            }
            Some(weights) => {
                args.read(B, "weight", weight, Reach::to(weights.code_bytes(base) / 4, WORD))?;
                args.read(B2, "scales", scales, Reach::to(weights.scale_bytes(base) / 4, WORD))?;
            }
        }
        args.read(C, "b", b, views.b.of(self.b))?;
        args.read(RESIDUAL, "residual", residual, product.residual.map(reach))?;
        args.read(BIAS, "bias", bias, product.bias.map(reach))?;
        args.write(D, "y", y, reach(product.d))?;
        for (slot, name, given) in [(RESIDUAL, "residual", product.residual), (BIAS, "bias", product.bias)] {
            if given.is_none() {
                args.absent(slot, name)?;
            }
        }
        if args.caps.backend != wgpu::Backend::BrowserWebGpu {
            args.in_place(RESIDUAL, D);
        }
        let memory = args.scratch_memory(scratch, self.scratch(views, config))?;
        let t = memory.part(0, down.bytes());
        // a and the adapters are read before, but they, too, lie apart from y.
        args.read(ADAPTER_LATER, "adapter", adapter, views.adapter.map(|view| view.of(WORD)))?;
        args.read(ADAPTER_LATER + 1, "a", a, views.a.of(self.a))?;
        args.read(SCALE, "scratch", t.clone(), Reach::to(down.bytes() / 4, WORD))?;
        let sums = base.scratch(product, &inner);
        if sums > 0 {
            args.write(SCRATCH, "scratch", memory.part(self.t_bytes(views), sums), Reach::to(sums / 4, WORD))?;
        }
        let before = down.args(kernels, ["x", "a"], [x, a], adapter, t)?;
        args.check_apart()?;
        if self.m == 0 || self.n == 0 {
            return Ok(Dispatch::default());
        }
        args.check()?;
        before.check()?;
        let mut steps = vec![down.step(&before, config.native_f16)?];
        let (first, second) = passes_of(base, product, &inner, args.writable(), self.role(views, config));
        let chunks = product!(self.m, self.n.div_ceil(4));
        if chunks > u64::from(u32::MAX) - (1 << 26) {
            return Err(ErrorKind::TooManyWorkgroups { need: chunks, limit: u32::MAX.into() });
        }
        let of = super::Buffers::new(x, weight, y);
        let product = Product { problem: *base, views: *product, config: inner, buffers: of, weights };
        let params = |grid| {
            let mut params = product.params(1, grid);
            params.scale = [self.rank as u32, down.quads() as u32 + 1, 0, 0];
            params
        };
        let grid = args.fold(inner.workgroups(base))?;
        steps.push(match weights {
            Some(weights) => args.step(&weights.pass(first), &params(grid), grid)?,
            None => args.step(&first, &params(grid), grid)?,
        });
        if let Some(second) = second {
            let grid = args.fold(chunks.div_ceil(SPLIT_WG.into()))?;
            steps.push(args.step(&second, &params(grid), grid)?);
        }
        Ok(Dispatch::of(steps))
    }
}
