//! The matrix product: `d = act(alpha * scale * op(a) op(b) + beta * c + bias) + residual`, batched, in f32 sums.
//!
//! `op` transposes or not; the scale is per row or column, as is the bias; with a second right-hand side the
//! product is gated, `act(a b + ..) * (a b2 + ..)`: SwiGLU and GeGLU in one pass. `k = 0` leaves
//! `act(beta * c + bias) + residual`.
//!
//! # Algorithms
//! * [`Algorithm::Direct`]: every invocation has rows by four columns of d and loads from storage, without
//!   workgroup memory. What software adapters want: they run a workgroup on one core, and caches do the rest.
//! * [`Algorithm::Tiled`]: tiles of a and b go through workgroup memory.
//! * [`Algorithm::Vector`]: up to eight rows or columns of d, bound by reading the weights once.
//! * [`Algorithm::Coop`]: cooperative matrices, f16 in and f32 sums; only after [`Kernels::probe`].
//! * `parts > 1` in a Config splits k, for few output tiles and a long k: the parts go to scratch, and a second
//!   step adds them in their order, so that the result is the same run after run.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 shared and busy cores, GFLOP/s; a chain of f32 FMA reached 31 to 37 in the minutes
//! around, 77 on the idle machine. f32 512^3 38.8, 1024^3 37.8; f16 512^3 37.2, with b transposed 36.1. One row of
//! 4096 x 4096 weights in GB/s: f32 along k 13.8, across k 7.6; f16 along k 3.9, bound by unpacking. What it took:
//! * columns across the subgroup, so that a is loaded once for all invocations: 34 to 49;
//! * 16 rows rather than 4 per invocation: 29 to 49; then four vec4 of columns rather than one: 27 to 39 in one run.
//!   Sums beyond the registers cost less than loads: each is touched once per four k;
//! * no barrier: tiles through workgroup memory reached 15 in a first try;
//! * one row, weights across k: 512 columns of a row at a time, and a k that is the same for all: 2.6 to 7.6 GB/s; as
//!   many for several rows: 4 rows of 2048 x 2048 f32 5.7 to 2.5 ms;
//! * weights along k: eight columns share the k of x: one row of 2048 x 8192 f16 4.34 to 3.91 ms, 4 rows of 2048 x 2048
//!   1.88 to 1.50 ms. The same in bf16, which is unpacked by a shift, takes 2.7 ms: the rest is f16's conversion;
//! * a gated row reads both weights in one pass: 2 x 2048 x 2048 f32 3.4 ms along k, where `gemm_direct` took 4.4.
//!
//! Compiled for GPUs that are not here (`tools/drivers compile-for`), none of the 68 pipelines that [`choose`] comes to
//! spills on RADV (navi31, gfx1201) or NVK (Ampere, Ada). Per 32 k of a subgroup `gemm_coop` has 8 `v_wmma` in its main
//! loop on RADV, 96 VGPRs on navi31, 60 on gfx1201, and 16 HMMA on NVK, 64 registers, 32 warps per SM; where it is
//! gated 16 `v_wmma`, 144 and 72 VGPRs, and 96 registers, 20 warps. `gemm_tiled` 128 x 128 has 96 VGPRs on RADV and 88
//! registers on NVK (32 and its 64 sums in local memory, while the loop over the epilogue indexed them).

use crate::compose::{Shader, Storage, Tensor, write_flags};
use crate::dispatch::{Arg, check_all, fold, given};
use crate::kernels::{Pipeline, chosen};
use crate::layout::View;
use crate::{
    Binding, Caps, Dispatch, Dtype, Error, ErrorKind, Kernels, Layout, Misfit, Result, caps::Class, caps::CoopScalar,
};

mod backward;

pub use backward::{Backward, backward};

const OP: &str = "gemm";

/// What is computed: `d [.., m, n]` of `op(a) [.., m, k]` and `op(b) [.., k, n]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Problem {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// Sizes of two batch axes; a stride of 0 broadcasts over one.
    pub batch: [usize; 2],
    /// `a` is stored `[k, m]`.
    pub trans_a: bool,
    /// `b` is stored `[n, k]`.
    pub trans_b: bool,
    pub a: Matrix,
    pub b: Matrix,
    pub d: Matrix,
    pub alpha: f32,
    pub beta: f32,
    /// `beta * c` is added: `[.., m, n]`. May be the view of `d`.
    pub c: Option<Matrix>,
    pub epilogue: Epilogue,
}

/// A matrix argument: strides of two batch axes and of rows; columns have stride 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Matrix {
    pub dtype: Dtype,
    pub layout: Layout<3>,
}

impl Matrix {
    /// Contiguous.
    pub const fn new(dtype: Dtype) -> Matrix {
        Matrix { dtype, layout: Layout { offset: 0, strides: None } }
    }

    /// From element `offset`, with strides of both batch axes and of rows.
    pub const fn strided(dtype: Dtype, offset: usize, strides: [usize; 3]) -> Matrix {
        Matrix { dtype, layout: Layout::strided(offset, strides) }
    }
}

/// A vector argument: one value per row or per column of d.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vector {
    pub dtype: Dtype,
    pub along: Along,
    /// The first element in its binding.
    pub offset: usize,
}

/// What a [`Vector`] has a value for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Along {
    Rows,
    Columns,
}

/// What happens to the product before it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Epilogue {
    /// Multiplies the product, as alpha does.
    pub scale: Option<Vector>,
    /// Added before the activation. Where gated it holds those of b, then those of b2.
    pub bias: Option<Vector>,
    pub activation: Activation,
    /// The second right-hand side, in the dtype and strides of b, from this element of its binding: the
    /// activated product of b is multiplied by the product of b2. Not with c.
    pub gate: Option<usize>,
    /// Added last: `[.., m, n]`. May be the view of `d`.
    pub residual: Option<Matrix>,
}

/// A function of one value. A new one has its line here, in `reference::gemm` and in `gemm_activate.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    #[default]
    None,
    Relu,
    /// `x Phi(x)`, by the error function.
    Gelu,
    /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`.
    GeluTanh,
    /// `x / (1 + exp(-x))`, swish.
    Silu,
}

impl Activation {
    pub const ALL: [Activation; 5] =
        [Activation::None, Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::Silu];

    /// As case files call it.
    pub const fn name(self) -> &'static str {
        match self {
            Activation::None => "none",
            Activation::Relu => "relu",
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_tanh",
            Activation::Silu => "silu",
        }
    }
}

impl Default for Problem {
    /// One product of two f32: sizes are yours to set.
    fn default() -> Self {
        let f32 = Matrix::new(Dtype::F32);
        Problem {
            m: 1,
            n: 1,
            k: 1,
            batch: [1, 1],
            trans_a: false,
            trans_b: false,
            a: f32,
            b: f32,
            d: f32,
            alpha: 1.0,
            beta: 1.0,
            c: None,
            epilogue: Epilogue::default(),
        }
    }
}

impl Problem {
    /// `[m, k] x [k, n]`, contiguous, all of one dtype.
    pub fn new(m: usize, n: usize, k: usize, dtype: Dtype) -> Problem {
        let of = Matrix::new(dtype);
        Problem { m, n, k, a: of, b: of, d: of, ..Problem::default() }
    }
}

/// How it is computed. `parts` is a parameter, the rest names pipelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    pub algorithm: Algorithm,
    /// Rows, columns and k-steps of d that a workgroup works on at a time (`Direct`, `Vector`: no k).
    pub tile: [u32; 3],
    /// Rows and columns of an invocation (`Coop`: of a subgroup).
    pub thread: [u32; 2],
    /// `Vector`: invocations that share a column's k. `Coop`: the subgroup's width. Else 1.
    pub lanes: u32,
    /// `Tiled`: buffers of a tile. `Coop`: the size of a matrix. Else 1.
    pub stages: u32,
    /// Parts that k is split into.
    pub parts: u32,
    pub form: Form,
}

/// The algorithm; each has a shader file of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Direct,
    Tiled,
    Vector,
    Coop,
}

/// What the Problem, the device and the buffers decide of a Config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    /// Offsets, strides and inner sizes of a, b and d are multiples of 4: they are read and written by fours.
    pub vec: bool,
    pub a: Storage,
    pub b: Storage,
    pub d: Storage,
    /// Matter to loads by fours only: single ones go by strides.
    pub trans_a: bool,
    pub trans_b: bool,
    pub gated: bool,
    /// c, residual, bias or scale are there.
    pub extras: bool,
    pub store: Store,
    /// `Vector`: the columns of d are few, not the rows.
    pub swap: bool,
    /// `Vector`: the weights are stored along k.
    pub along_k: bool,
    /// Inputs that lie in a buffer that is written. Set by `prepare`.
    pub a_writable: bool,
    pub b_writable: bool,
    pub extras_writable: bool,
}

/// How d is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Store {
    /// By fours.
    Four,
    /// One by one.
    One,
    /// Packed, where rows may share words: by atomics.
    Halves,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params {
        m: u32,
        n: u32,
        k: u32,
        flags: u32,
        grid_x: u32,
        batches: u32,
        batch1: u32,
        part_k: u32,
        a_offset: u32,
        a_s0: u32,
        a_s1: u32,
        a_ld: u32,
        b_offset: u32,
        b_s0: u32,
        b_s1: u32,
        b_ld: u32,
        d_offset: u32,
        d_s0: u32,
        d_s1: u32,
        d_ld: u32,
        c_offset: u32,
        c_s0: u32,
        c_s1: u32,
        c_ld: u32,
        residual_offset: u32,
        residual_s0: u32,
        residual_s1: u32,
        residual_ld: u32,
        bias_offset: u32,
        scale_offset: u32,
        alpha: f32,
        beta: f32,
    }
}

/// The views that a Problem's layouts resolve to.
struct Views {
    a: View<3>,
    b: View<3>,
    b2: Option<View<3>>,
    c: Option<View<3>>,
    residual: Option<View<3>>,
    d: View<3>,
    bias: Option<View<1>>,
    scale: Option<View<1>>,
}

impl Problem {
    /// `[batch, batch, rows]` of a as it is stored, and the elements of a row.
    pub fn a_sizes(&self) -> ([usize; 3], usize) {
        self.sizes(if self.trans_a { [self.k, self.m] } else { [self.m, self.k] })
    }

    /// `[batch, batch, rows]` of b as it is stored, and the elements of a row.
    pub fn b_sizes(&self) -> ([usize; 3], usize) {
        self.sizes(if self.trans_b { [self.n, self.k] } else { [self.k, self.n] })
    }

    /// `[batch, batch, m]`, and n: of c, residual and d.
    pub fn d_sizes(&self) -> ([usize; 3], usize) {
        self.sizes([self.m, self.n])
    }

    fn sizes(&self, [rows, cols]: [usize; 2]) -> ([usize; 3], usize) {
        ([self.batch[0], self.batch[1], rows], cols)
    }

    fn empty(&self) -> bool {
        self.m == 0 || self.n == 0 || self.batch.contains(&0)
    }

    /// Operations of the product.
    pub fn flops(&self) -> f64 {
        let products = if self.epilogue.gate.is_some() { 2.0 } else { 1.0 };
        2.0 * products
            * [self.m, self.n, self.k, self.batch[0], self.batch[1]].iter().map(|&s| s as f64).product::<f64>()
    }

    fn views(&self) -> Result<Views> {
        let invalid = |arg, reason: String| Err(Error { op: OP, kind: ErrorKind::InvalidProblem { arg, reason } });
        for (arg, n) in
            [("m", self.m), ("n", self.n), ("k", self.k), ("batch", self.batch[0]), ("batch", self.batch[1])]
        {
            if n > u32::MAX as usize / 2 {
                return invalid(arg, format!("{n} is more than 2^31 - 1"));
            }
        }
        for (arg, value) in [("alpha", self.alpha), ("beta", self.beta)] {
            if !value.is_finite() {
                return invalid(arg, format!("{value} is not finite"));
            }
        }
        if self.epilogue.gate.is_some() && self.c.is_some() {
            return invalid("c", "a gated product has none: add the bias or the residual".into());
        }
        let of = |arg, layout: Layout<3>, (sizes, inner): ([usize; 3], usize)| layout.resolve(OP, arg, sizes, inner);
        let a = of("a", self.a.layout, self.a_sizes())?;
        let b = of("b", self.b.layout, self.b_sizes())?;
        // What the layout without strides would be, from another element.
        let b2 = self
            .epilogue
            .gate
            .map(|offset| of("b2", Layout { offset, ..self.b.layout }, self.b_sizes()))
            .transpose()?;
        let d = of("d", self.d.layout, self.d_sizes())?;
        if !self.empty() && d.overlaps_itself() {
            return invalid("d", format!("rows overlap: strides {:?} for {:?} rows of {}", d.strides, d.sizes, self.n));
        }
        let c = self.c.map(|c| of("c", c.layout, self.d_sizes())).transpose()?;
        let residual = self.epilogue.residual.map(|r| of("residual", r.layout, self.d_sizes())).transpose()?;
        let vector = |arg, v: Vector, times: usize| {
            let len = times * if v.along == Along::Rows { self.m } else { self.n };
            Layout::<1>::at(v.offset).resolve(OP, arg, [1], len)
        };
        let products = if self.epilogue.gate.is_some() { 2 } else { 1 };
        let bias = self.epilogue.bias.map(|v| vector("bias", v, products)).transpose()?;
        let scale = self.epilogue.scale.map(|v| vector("scale", v, 1)).transpose()?;
        Ok(Views { a, b, b2, c, residual, d, bias, scale })
    }

    /// The form of the Problem; `wish` may hold a dtype otherwise than is usual on this device.
    fn form(&self, caps: &Caps, views: &Views, algorithm: Algorithm, wish: Option<Form>) -> Form {
        let storage = |wish, dtype| Storage::wished(wish, dtype, caps);
        let native =
            |dtype| if algorithm == Algorithm::Coop && dtype == Dtype::F16 { Some(Storage::F16) } else { None };
        let swap = algorithm == Algorithm::Vector && self.m > self.n;
        let b2 = views.b2.as_ref().is_none_or(|view| view.multiple_of(4));
        // Nothing is read of a and b where k is 0.
        let vec =
            self.k > 0 && self.k.is_multiple_of(4) && b2 && [&views.a, &views.b].iter().all(|view| view.multiple_of(4));
        let d = storage(wish.map(|f| f.d), self.d.dtype);
        Form {
            vec,
            a: storage(native(self.a.dtype).or(wish.map(|f| f.a)), self.a.dtype),
            b: storage(native(self.b.dtype).or(wish.map(|f| f.b)), self.b.dtype),
            d,
            trans_a: vec && self.trans_a,
            trans_b: vec && self.trans_b,
            gated: self.epilogue.gate.is_some(),
            extras: self.c.is_some()
                || self.epilogue.residual.is_some()
                || self.epilogue.bias.is_some()
                || self.epilogue.scale.is_some(),
            store: match d {
                _ if vec && !swap && views.d.multiple_of(4) => Store::Four,
                d if d.packed() => Store::Halves,
                _ => Store::One,
            },
            swap,
            along_k: algorithm == Algorithm::Vector && if swap { !self.trans_a } else { self.trans_b },
            a_writable: false,
            b_writable: false,
            extras_writable: false,
        }
    }

    /// What the shaders' `flags` hold: see `gemm_params.wgsl`.
    fn flags(&self) -> u32 {
        let dtype = |dtype: Dtype| match dtype {
            Dtype::F32 => 0,
            Dtype::F16 => 1,
            Dtype::Bf16 => 2,
        };
        let matrix = |m: Option<Matrix>| m.map_or(0, |m| 1 + dtype(m.dtype));
        let vector = |v: Option<Vector>| v.map_or(0, |v| (1 + dtype(v.dtype)) | u32::from(v.along == Along::Rows) << 2);
        let e = &self.epilogue;
        u32::from(self.trans_a)
            | u32::from(self.trans_b) << 1
            | (e.activation as u32) << 4
            | matrix(self.c) << 8
            | matrix(e.residual) << 10
            | vector(e.bias) << 12
            | vector(e.scale) << 16
    }
}

/// Rows or columns that [`Algorithm::Vector`] takes at most.
const FEW: usize = 8;

/// A row of the table: the tiles of one class of adapters.
struct Row {
    class: Class,
    tiles: &'static [Tile],
    /// Time per product of cooperative matrices, as of a tile.
    coop: f64,
    vector: Few,
    /// Workgroups that fill the adapter; below, a long k is split.
    fill: u64,
}

/// What `Vector` takes. A row where the weights are stored along k costs a sum over the lanes: there, rows have a limit.
struct Few {
    wg_size: u32,
    /// Along k: lanes for one row, lanes for several; vec4 of columns; rows.
    along: ([u32; 2], u32, u32),
    /// Across k: lanes; vec4 of columns; sums of vec4 at most.
    across: (u32, u32, u32),
}

/// Algorithm; tile; thread; stages; time per product, of which only ratios count.
type Tile = (Algorithm, [u32; 3], [u32; 2], u32, f64);

/// Measured on: Software, Mesa 26.2 lavapipe on 2 shared cores, GFLOP/s, columns across 8 invocations. f32 512^3: 16
/// rows by 4, 2, 1 vec4 of columns each 38.8, 32.7, 26.9 (1024^3: 37.8, 33.9, 26.6; f16 37.2, 32.7, 26.6), 8 rows by 4
/// vec4 31.7, 32 rows by 2 34.3; in a run of a quieter minute 16 rows by 1 vec4 50, 8 rows 41, 4 rows 29, single columns
/// 13 to 29, invocations along the rows 21 to 34. One row of 4096 x 4096 weights, f32 GB/s: along k 8, 4, 1 lanes 13.8,
/// 13.7, 9.1; across k 16, 4, 1 vec4 7.6, 3.3, 2.6. Discrete and Integrated are not measured yet; no Config of theirs
/// spills on RADV (navi31, gfx1201) or NVK (Ampere, Ada).
const TABLE: [Row; 3] = [
    Row {
        class: Class::Software,
        tiles: &[
            (Algorithm::Direct, [16, 128, 4], [16, 16], 1, 1.0),
            (Algorithm::Direct, [16, 64, 4], [16, 8], 1, 1.15),
            (Algorithm::Direct, [16, 32, 4], [16, 4], 1, 1.45),
            (Algorithm::Direct, [8, 32, 4], [8, 4], 1, 1.7),
            (Algorithm::Tiled, [64, 64, 16], [4, 4], 1, 5.0),
        ],
        coop: 20.0,
        vector: Few { wg_size: 8, along: ([8, 4], 2, 4), across: (1, 16, 64) },
        fill: 4,
    },
    Row {
        class: Class::Integrated,
        tiles: &[
            (Algorithm::Tiled, [64, 64, 16], [4, 4], 1, 1.0),
            (Algorithm::Tiled, [32, 32, 16], [4, 4], 2, 1.5),
            (Algorithm::Direct, [32, 32, 4], [4, 4], 1, 2.0),
        ],
        coop: 0.3,
        vector: Few { wg_size: 128, along: ([32, 32], 1, 8), across: (4, 1, 8) },
        fill: 32,
    },
    Row {
        class: Class::Discrete,
        tiles: &[
            (Algorithm::Tiled, [128, 128, 8], [8, 8], 1, 1.0),
            (Algorithm::Tiled, [64, 64, 16], [4, 4], 1, 1.3),
            (Algorithm::Tiled, [32, 32, 16], [4, 4], 2, 2.0),
            (Algorithm::Direct, [32, 32, 4], [4, 4], 1, 3.0),
        ],
        coop: 0.3,
        vector: Few { wg_size: 256, along: ([32, 32], 1, 8), across: (8, 1, 8) },
        fill: 256,
    },
];

/// Where loops count ([`Caps::loop_rounds`]): not unrolled, those over more than one vec4 of columns cost twice as much.
/// Mesa 22.3, 128 x 512 x 512 f32: 16 rows by 1 vec4 of columns 5.6 GFLOP/s, 8 rows 5.2, 16 rows by 4 vec4 3.1.
const OLD_MESA: Row = Row {
    class: Class::Software,
    tiles: &[
        (Algorithm::Direct, [16, 32, 4], [16, 4], 1, 1.0),
        (Algorithm::Direct, [8, 32, 4], [8, 4], 1, 1.15),
        (Algorithm::Tiled, [64, 64, 16], [4, 4], 1, 5.0),
    ],
    coop: 20.0,
    vector: Few { wg_size: 8, along: ([8, 4], 2, 4), across: (1, 16, 16) },
    fill: 4,
};

/// k below which a part does not pay.
const PART: u64 = 512;
const MAX_PARTS: u64 = 32;

/// The Config for this Problem on this device: the best of [`candidates`].
///
/// # Errors
/// Those of the Problem: sizes, layouts.
pub fn choose(caps: &Caps, problem: &Problem) -> Result<Config> {
    chosen(OP, caps, problem, candidates(caps, problem)?)
}

/// Every Config of the table that fits, the best first.
///
/// # Errors
/// Those of the Problem.
pub fn candidates(caps: &Caps, problem: &Problem) -> Result<Vec<Config>> {
    let problem = &problem.normal();
    let views = problem.views()?;
    let row = match caps.loop_rounds() {
        Some(_) => &OLD_MESA,
        None => TABLE.iter().find(|row| row.class == caps.class()).unwrap_or(&TABLE[0]),
    };
    let of = |algorithm, tile, thread, lanes, stages| {
        let form = problem.form(caps, &views, algorithm, None);
        Config { algorithm, tile, thread, lanes, stages, parts: 1, form }
    };
    let mut all = Vec::new();
    if problem.m.min(problem.n) <= FEW {
        let form = problem.form(caps, &views, Algorithm::Vector, None);
        let few = problem.m.min(problem.n).max(1).next_power_of_two() as u32;
        let Few { wg_size, along, across } = row.vector;
        let (lanes, mut vecs) = match form.along_k {
            true => (along.0[usize::from(few > 1)], along.1),
            false => (across.0, across.1.min(across.2 / few)),
        };
        // Not all columns to one workgroup.
        while vecs > 1 && problem.m.max(problem.n) <= (wg_size / lanes * 4 * vecs) as usize {
            vecs /= 2;
        }
        let wide = wg_size / lanes * 4 * vecs;
        let tile = if form.swap { [wide, few, 4] } else { [few, wide, 4] };
        let cost = if form.along_k && few > along.2 { 2.0 } else { 0.0 };
        all.push((cost, of(Algorithm::Vector, tile, [few, 4 * vecs], lanes, 1)));
    }
    if let Some((size, width)) = coop(caps) {
        // A workgroup has four subgroups of 2 x 2 matrices.
        let side = 4 * size;
        all.push((row.coop, of(Algorithm::Coop, [side, side, 2 * size], [2 * size, 2 * size], width, size)));
    }
    for &(algorithm, tile, thread, stages, cost) in row.tiles {
        // A gated product has twice the sums.
        let halved = problem.epilogue.gate.is_some() && thread[0] > 4 && algorithm == Algorithm::Direct;
        let [tile_m, thread_m] = if halved { [tile[0] / 2, thread[0] / 2] } else { [tile[0], thread[0]] };
        all.push((cost, of(algorithm, [tile_m, tile[1], tile[2]], [thread_m, thread[1]], 1, stages)));
    }
    // What is computed, past the ends of d included, by its cost, as far as it fills the adapter.
    let score = |cost: f64, config: &Config| {
        let [m, n, _] = config.tile.map(u64::from);
        let idle = row.fill as f64 / config.workgroups(problem).clamp(1, row.fill) as f64;
        cost * idle * (config.workgroups(problem) / u64::from(config.parts.max(1)) * m * n) as f64
    };
    let mut found: Vec<(f64, Config)> = Vec::new();
    for (cost, config) in all {
        let few = row.fill / config.workgroups(problem).max(1);
        let parts = few.min(problem.k as u64 / PART).min(MAX_PARTS) as u32;
        let rounds = |parts| Config { parts, ..config }.rounds(problem);
        let split = Config { parts: caps.parts(parts, MAX_PARTS as u32, rounds), ..config };
        for config in [split, config].into_iter().skip(usize::from(split.parts < 2)) {
            match config.fits(caps, problem) {
                Ok(()) if found.iter().any(|(_, other)| *other == config) => {}
                Ok(()) => found.push((score(cost, &config), config)),
                Err(misfit) => log::trace!("{OP}: dropped {config}: {misfit}"),
            }
        }
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(found.into_iter().map(|(_, config)| config).collect())
}

/// Size of a matrix and the subgroup's width, where cooperative matrices are known to work.
fn coop(caps: &Caps) -> Option<(u32, u32)> {
    let f16 = |s: &&crate::caps::CoopShape| s.ab == CoopScalar::F16 && s.acc == CoopScalar::F32;
    let shape = caps.coop.iter().filter(f16).max_by_key(|s| s.m)?;
    let right = caps.coop_probed && caps.f16;
    // Metal's simdgroups are 32 wide on every GPU that has matrices.
    let width = match caps.backend {
        wgpu::Backend::Metal => Some(32),
        _ => caps.subgroup.map(|subgroup| subgroup.max),
    };
    width.filter(|_| right).map(|width| (shape.m, width))
}

/// `direct 16x32 of 16x4 f32,f16>f32 vec tb`: what differs, in a line.
impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config { algorithm, tile: [m, n, k], thread: [tm, tn], lanes, stages, parts, form } = self;
        let text = format!(
            "{algorithm:?} {m}x{n}x{k} of {tm}x{tn} lanes{lanes} stages{stages} {:?},{:?}>{:?}",
            form.a, form.b, form.d
        );
        f.write_str(&text.to_lowercase())?;
        match parts {
            0 => f.write_str(" split")?,
            1 => {}
            parts => write!(f, " parts{parts}")?,
        }
        write_flags(
            f,
            &[
                ("vec", form.vec),
                ("four", form.store == Store::Four),
                ("halves", form.store == Store::Halves),
                ("trans_a", form.trans_a),
                ("trans_b", form.trans_b),
                ("gated", form.gated),
                ("extras", form.extras),
                ("swap", form.swap),
                ("along_k", form.along_k),
                ("a_writable", form.a_writable),
                ("b_writable", form.b_writable),
                ("extras_writable", form.extras_writable),
            ],
        )
    }
}

impl Config {
    /// Invocations per workgroup.
    pub fn wg_size(&self) -> u32 {
        let [tile_m, tile_n, _] = self.tile;
        let [thread_m, thread_n] = self.thread;
        match self.algorithm {
            Algorithm::Vector => {
                let columns = if self.form.swap { tile_m } else { tile_n };
                columns.checked_div(thread_n).unwrap_or(0).saturating_mul(self.lanes)
            }
            _ => {
                let threads = tile_m.checked_div(thread_m).unwrap_or(0);
                let threads = threads.saturating_mul(tile_n.checked_div(thread_n).unwrap_or(0));
                threads.saturating_mul(self.lanes)
            }
        }
    }

    fn wg_bytes(&self) -> u32 {
        let [m, n, k] = self.tile;
        let products = if self.form.gated { 2 } else { 1 };
        match self.algorithm {
            Algorithm::Direct => 0,
            Algorithm::Tiled => 4 * self.stages * k * (m + 4 + products * (n + 4)) + 4 * (2 - products),
            Algorithm::Vector => self.wg_size().saturating_mul(16),
            // Tiles as f16, rows padded by 8, and a patch of f32 per subgroup and product.
            Algorithm::Coop => {
                let patches = self.wg_size() / self.lanes.max(1) * products;
                2 * (m + products * n) * (k + 8) + 4 * self.stages * self.stages * patches + 6 * (2 - products)
            }
        }
    }

    fn workgroups(&self, problem: &Problem) -> u64 {
        let tiles = |size: usize, tile: u32| size.div_ceil(tile.max(1) as usize) as u64;
        let [m, n, _] = self.tile;
        let all = [tiles(problem.m, m), tiles(problem.n, n), problem.batch[0] as u64, problem.batch[1] as u64];
        all.into_iter().fold(u64::from(self.parts.max(1)), u64::saturating_mul)
    }

    /// Whether the Config can run this Problem on this device.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn fits(&self, caps: &Caps, problem: &Problem) -> Result<(), Misfit> {
        let limits = &caps.limits;
        let Config { algorithm, tile: [m, n, k], thread: [tm, tn], lanes, stages, parts, form } = *self;
        let most = caps.most_invocations();
        let misfit = |what, have, limit| Err(Misfit::old(what, have, limit));
        let pieces = |n: u32| n > 0 && n.is_multiple_of(4);
        let few = if form.swap { problem.n } else { problem.m };
        match algorithm {
            _ if [m, n, k, tm, tn, lanes, stages].contains(&0) => misfit("sizes must be at least", 0, 1),
            _ if [m, n, k, tm, tn].iter().any(|&size| size > 512) => misfit("sizes must be at most", 1024, 512),
            Algorithm::Direct | Algorithm::Tiled if !m.is_multiple_of(tm) => {
                misfit("thread must divide tile rows", tm, m)
            }
            Algorithm::Direct | Algorithm::Tiled if !n.is_multiple_of(tn) => {
                misfit("thread must divide tile columns", tn, n)
            }
            Algorithm::Direct | Algorithm::Tiled if !pieces(tm) => misfit("rows of a thread must be fours", tm, 4),
            _ if !pieces(tn) && algorithm != Algorithm::Coop => misfit("columns of a thread must be fours", tn, 4),
            _ if tm * tn > 256 && algorithm != Algorithm::Coop => misfit("sums of a thread", tm * tn, 256),
            Algorithm::Direct | Algorithm::Tiled if lanes != 1 => misfit("lanes must be", lanes, 1),
            Algorithm::Direct if !k.is_multiple_of(4) => misfit("k in fours", k, 4),
            Algorithm::Tiled if stages > 2 || !k.is_multiple_of(4) => misfit("stages at most, k in fours", stages, 2),
            Algorithm::Vector if !(if form.swap { m } else { n }).is_multiple_of(tn) => {
                misfit("thread must divide tile", tn, n)
            }
            Algorithm::Vector if parts != 1 => misfit("few rows are not split", parts, 1),
            Algorithm::Vector if problem.m.min(problem.n) > FEW || few > tm as usize => {
                misfit("rows or columns must be few", few.min(1 << 20) as u32, tm)
            }
            Algorithm::Vector if !lanes.is_power_of_two() => misfit("lanes must be a power of two", lanes, 1),
            Algorithm::Vector if (if form.swap { n } else { m }) != tm => misfit("few rows are one tile", tm, m),
            Algorithm::Coop if coop(caps) != Some((stages, lanes)) => {
                misfit("no probed matrices of this size", stages, 0)
            }
            Algorithm::Coop if form.a != Storage::F16 || form.b != Storage::F16 => {
                misfit("matrices need f16 inputs", 0, 1)
            }
            Algorithm::Coop if !form.vec => misfit("matrices need aligned inputs", 0, 1),
            Algorithm::Coop if [m, n] != [4 * stages; 2] || [tm, tn] != [2 * stages; 2] => {
                misfit("a tile is four by four matrices", m, 4 * stages)
            }
            Algorithm::Coop if [tm, k].iter().any(|s| !s.is_multiple_of(stages)) => {
                misfit("matrices must fill tiles", stages, tm)
            }
            _ if parts == 0 || u64::from(parts) > MAX_PARTS => {
                misfit("parts must be at least 1 and at most", parts, MAX_PARTS as u32)
            }
            _ if self.wg_size() == 0 || self.wg_size() > most => misfit("invocations", self.wg_size(), most),
            _ if self.wg_bytes() > limits.max_compute_workgroup_storage_size => {
                misfit("bytes of workgroup memory", self.wg_bytes(), limits.max_compute_workgroup_storage_size)
            }
            _ => caps.check_rounds(self.rounds(problem)),
        }
    }

    /// Rounds of an invocation's loops, at most. Where they count, those over up to 32 rows of a thread are unrolled,
    /// those over its vec4 of columns are not: seen in how much of a long k Mesa 22.3 adds up.
    fn rounds(&self, problem: &Problem) -> u64 {
        let k = u64::from(parts(problem, self).1.min(problem.k as u32));
        let [tile_m, tile_n, tile_k] = self.tile.map(|size| u64::from(size.max(1)));
        let [rows, columns] = self.thread.map(u64::from);
        let vecs = columns / 4;
        let long = if rows > 32 { rows } else { 0 };
        let step = if vecs > 1 || long > 0 { vecs * (1 + long) + 2 } else { 1 };
        let sums = rows * vecs;
        let steps = match self.algorithm {
            Algorithm::Direct => (k / 4 + 4) * step,
            Algorithm::Vector => (k / (4 * u64::from(self.lanes.max(1))) + 4) * step,
            // Staging, each load with a loop of four, and the product of each tile; the epilogue finds its sums.
            Algorithm::Tiled | Algorithm::Coop => {
                let load = |size: u64| (size * tile_k).div_ceil(4 * u64::from(self.wg_size().max(1)));
                let tile = 2 + 5 * (load(tile_m) + load(tile_n)) + tile_k * step;
                k.div_ceil(tile_k) * tile + sums * sums
            }
        };
        // What sums start from and where they go.
        steps + (rows * columns).saturating_mul(self.lanes.into())
    }

    /// The pipelines that it names, in the order in which they run.
    pub fn passes(&self) -> Vec<Pass> {
        let stem = match self.algorithm {
            Algorithm::Direct => "gemm_direct",
            Algorithm::Tiled => "gemm_tiled",
            Algorithm::Vector => "gemm_vector",
            Algorithm::Coop => "gemm_coop",
        };
        let one = Pass { stem, config: Config { parts: u32::from(self.parts == 1), ..*self } };
        if self.parts == 1 {
            return vec![one];
        }
        // The sums do not depend on what is done with them, nor the second step on how they came about.
        let plain =
            Form { d: Storage::F32, store: Store::Four, extras: false, extras_writable: false, ..one.config.form };
        let form = Form {
            vec: self.form.store == Store::Four,
            a: Storage::F32,
            b: Storage::F32,
            trans_a: false,
            trans_b: false,
            a_writable: false,
            b_writable: false,
            ..self.form
        };
        let second =
            Config { algorithm: Algorithm::Direct, tile: [0; 3], thread: [0; 2], lanes: 1, stages: 1, parts: 0, form };
        let first = Pass { config: Config { form: plain, ..one.config }, ..one };
        vec![first, Pass { stem: "gemm_split_k", config: second }]
    }
}

/// Bytes of scratch: the parts' sums.
pub fn scratch_bytes(problem: &Problem, config: &Config) -> u64 {
    let parts = parts(problem, config).0;
    let products = if problem.epilogue.gate.is_some() { 2 } else { 1 };
    let rows = [products, problem.batch[0], problem.batch[1], problem.m]
        .iter()
        .fold(u64::from(parts), |n, &s| n.saturating_mul(s as u64));
    if config.parts > 1 { rows.saturating_mul(problem.n.div_ceil(4) as u64).saturating_mul(16) } else { 0 }
}

/// Parts, and k of each.
fn parts(problem: &Problem, config: &Config) -> (u32, u32) {
    let step = config.tile[2].max(4);
    let part = (problem.k as u32).div_ceil(config.parts.max(1));
    let part = part.checked_next_multiple_of(step).unwrap_or(u32::MAX).max(step);
    ((problem.k as u32).div_ceil(part).max(1), part)
}

/// One pipeline of a Config.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pass {
    stem: &'static str,
    config: Config,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.config)
    }
}

const A: u32 = 0;
const B: u32 = 1;
const D: u32 = 2;
const B2: u32 = 3;
const C: u32 = 4;
const RESIDUAL: u32 = 5;
const BIAS: u32 = 6;
const SCALE: u32 = 7;
const SCRATCH: u32 = 8;

/// Invocations of the second step of a split product.
const SPLIT_WG: u32 = 64;

impl Pipeline for Pass {
    fn shader(&self) -> Shader {
        let Config { algorithm, tile, thread, lanes, stages, parts, form } = self.config;
        let second = self.stem == "gemm_split_k";
        let (wg_size, wg_bytes) = if second { (SPLIT_WG, 0) } else { (self.config.wg_size(), self.config.wg_bytes()) };
        let mut shader = Shader::new(self.stem, wg_size, wg_bytes, if form.vec { 4 } else { 1 })
            .params::<Params>()
            .flag("GATED", form.gated)
            .flag("TRANS_A", form.trans_a)
            .flag("TRANS_B", form.trans_b)
            .import("gemm_place");
        for (name, value) in [
            ("TILE_M", tile[0]),
            ("TILE_N", tile[1]),
            ("TILE_K", tile[2]),
            ("THREAD_M", thread[0]),
            ("THREAD_N", thread[1]),
            ("LANES", lanes),
            ("STAGES", stages),
        ] {
            shader = shader.constant(name, value.max(1));
        }
        if algorithm == Algorithm::Coop {
            let matrix = |scalar: &str, role: &str| format!("coop_mat{stages}x{stages}<{scalar}, {role}>");
            shader = shader
                .constant("SIZE", stages)
                .alias("LEFT", &matrix("f16", "A"))
                .alias("RIGHT", &matrix("f16", "B"))
                .alias("PRODUCT", &matrix("f32", "C"));
        }
        if algorithm == Algorithm::Vector {
            shader = shader.flag("SWAP", form.swap).flag("ALONG_K", form.along_k);
        }
        if !second {
            let input = |binding, name, storage, writable| Tensor {
                binding,
                name,
                storage,
                writable,
                output: false,
                edge: false,
            };
            shader =
                shader.tensor(input(A, "a", form.a, form.a_writable)).tensor(input(B, "b", form.b, form.b_writable));
            shader = shader.import(if form.vec { "gemm_load4" } else { "gemm_load1" });
            shader = match (form.gated, form.vec) {
                (false, _) => shader.import("gemm_gate_none"),
                (true, vec) => shader.tensor(input(B2, "b2", form.b, form.b_writable)).import(if vec {
                    "gemm_gate4"
                } else {
                    "gemm_gate1"
                }),
            };
        }
        if parts == 0 {
            shader = shader.buffer(SCRATCH, "scratch", "vec4<f32>", true);
            if !second {
                return shader.import("gemm_partial");
            }
        }
        shader = match (form.store, form.d) {
            (Store::Four, storage) => {
                let d = Tensor { binding: D, name: "d", storage, writable: true, output: true, edge: false };
                shader.tensor(d).import("gemm_store_four")
            }
            (Store::One, storage) => {
                let element = if storage == Storage::F16 { "f16" } else { "f32" };
                shader.alias("D", element).buffer(D, "d", element, true).import("gemm_store_one")
            }
            (Store::Halves, storage) => shader
                .flag("D_BF16", storage == Storage::Bf16Packed)
                .buffer(D, "d", "atomic<u32>", true)
                .import("gemm_store_halves"),
        };
        if form.extras {
            for (binding, name) in [(C, "c"), (RESIDUAL, "residual"), (BIAS, "bias"), (SCALE, "scale")] {
                // A gated product has no c.
                if !(form.gated && binding == C) {
                    shader = shader.buffer(binding, name, "u32", form.extras_writable);
                }
            }
            shader = shader.import(if form.gated { "gemm_c_none" } else { "gemm_c" });
        }
        shader.import(if form.extras { "gemm_extras" } else { "gemm_extras_none" }).import("gemm_epilogue")
    }
}

/// Which memory.
#[derive(Debug, Clone, Copy)]
pub struct Buffers<'a> {
    a: Binding<'a>,
    b: Binding<'a>,
    d: Binding<'a>,
    b2: Option<Binding<'a>>,
    c: Option<Binding<'a>>,
    residual: Option<Binding<'a>>,
    bias: Option<Binding<'a>>,
    scale: Option<Binding<'a>>,
    scratch: Option<Binding<'a>>,
}

impl<'a> Buffers<'a> {
    /// `a` and `b` are read, `d` written.
    pub fn new(a: impl Into<Binding<'a>>, b: impl Into<Binding<'a>>, d: impl Into<Binding<'a>>) -> Self {
        let (a, b, d) = (a.into(), b.into(), d.into());
        Buffers { a, b, d, b2: None, c: None, residual: None, bias: None, scale: None, scratch: None }
    }

    /// The second right-hand side of a gated product; it may lie in the buffer of b.
    pub fn b2(mut self, b2: impl Into<Binding<'a>>) -> Self {
        self.b2 = Some(b2.into());
        self
    }

    /// The c that the Problem asks for.
    pub fn c(mut self, c: impl Into<Binding<'a>>) -> Self {
        self.c = Some(c.into());
        self
    }

    /// The residual that the Problem asks for.
    pub fn residual(mut self, residual: impl Into<Binding<'a>>) -> Self {
        self.residual = Some(residual.into());
        self
    }

    /// The bias that the Problem asks for.
    pub fn bias(mut self, bias: impl Into<Binding<'a>>) -> Self {
        self.bias = Some(bias.into());
        self
    }

    /// The scale that the Problem asks for.
    pub fn scale(mut self, scale: impl Into<Binding<'a>>) -> Self {
        self.scale = Some(scale.into());
        self
    }

    /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
    pub fn scratch(mut self, scratch: impl Into<Binding<'a>>) -> Self {
        self.scratch = Some(scratch.into());
        self
    }
}

prepare_by!(split);

/// Where a binding is too large, halves the batches, the rows or the columns: each half binds what it reaches.
fn split(kernels: &Kernels, problem: &Problem, config: Option<&Config>, buffers: &Buffers) -> Result<Dispatch> {
    let error = match plan(kernels, problem, config, buffers) {
        Err(error @ Error { kind: ErrorKind::BindingTooLarge { .. }, .. }) => error,
        result => return result,
    };
    let caps = kernels.caps();
    for axis in 0..4 {
        let size = [problem.batch[0], problem.batch[1], problem.m, problem.n][axis];
        // Columns in fours, rows in the largest tile.
        let half = (size / 2).next_multiple_of([1, 1, 16, 32][axis]);
        if half == 0 || half >= size {
            continue;
        }
        let parts = [(0, half), (half, size - half)].map(|(from, len)| problem.part(&caps, buffers, axis, from, len));
        let [Ok((first, first_buffers)), Ok((second, second_buffers))] = &parts else { continue };
        // An axis that leaves what a binding must reach as it is does not help.
        let reach = |p: &Problem| Ok::<u64, Error>(p.reach()?.into_iter().max().unwrap_or(0));
        if reach(first)?.max(reach(second)?) >= reach(problem)? {
            continue;
        }
        if let (Ok(first), Ok(second)) =
            (split(kernels, first, config, first_buffers), split(kernels, second, config, second_buffers))
        {
            return Ok(Dispatch::sequence(OP, [first, second]));
        }
    }
    Err(error)
}

impl Problem {
    /// The same, with a column of one element per row told as the row that it is.
    fn normal(&self) -> Problem {
        let mut problem = *self;
        let row = |m: &mut Matrix, len: usize| match &mut m.layout.strides {
            None => true,
            Some(strides) if strides[2] == 1 || len <= 1 => {
                strides[2] = len;
                true
            }
            Some(_) => false,
        };
        if self.m == 1 && self.trans_a && row(&mut problem.a, self.k) {
            problem.trans_a = false;
        }
        if self.n == 1 && !self.trans_b && row(&mut problem.b, self.k) {
            problem.trans_b = true;
        }
        problem
    }

    /// Bytes that each binding must have.
    fn reach(&self) -> Result<Vec<u64>> {
        let views = self.views()?;
        let (a, b, d) = (self.a.dtype, self.b.dtype, self.d.dtype);
        let mut all = vec![views.a.end * a.bytes(), views.b.end * b.bytes(), views.d.end * d.bytes()];
        all.extend(views.b2.iter().map(|view| view.end * b.bytes()));
        for (matrix, view) in [(self.c, views.c), (self.epilogue.residual, views.residual)] {
            all.extend(matrix.zip(view).map(|(matrix, view)| view.end * matrix.dtype.bytes()));
        }
        Ok(all)
    }

    /// `len` from `from` on of a batch axis (0, 1), of the rows (2) or of the columns (3), each binding starting as
    /// late as the device allows.
    fn part<'a>(
        &self,
        caps: &Caps,
        buffers: &Buffers<'a>,
        axis: usize,
        from: usize,
        len: usize,
    ) -> Result<(Problem, Buffers<'a>)> {
        let views = self.views()?;
        let (mut problem, mut buffers) = (*self, *buffers);
        let [b0, b1] = &mut problem.batch;
        *[b0, b1, &mut problem.m, &mut problem.n][axis] = len;
        if axis > 1 && self.epilogue.gate.is_some() && self.epilogue.bias.is_some() {
            let reason = "a gated bias is not split".into();
            return Err(Error { op: OP, kind: ErrorKind::InvalidProblem { arg: "bias", reason } });
        }
        let align = u64::from(caps.limits.min_storage_buffer_offset_alignment.max(4));
        // Moves `steps` elements on, as far as may be in the binding.
        let moved = |dtype: Dtype, offset: usize, binding: &mut Binding<'a>| {
            let bytes = offset as u64 * dtype.bytes() / align * align;
            *binding = binding.after(bytes);
            offset - (bytes / dtype.bytes()) as usize
        };
        // How far an operand moves: by its batch strides, by its rows, by its columns.
        let on = |view: &View<3>, rows: Option<bool>| match (axis, rows) {
            (0 | 1, _) => from * view.strides[axis],
            (_, Some(true)) => from * view.strides[2],
            (_, Some(false)) => from,
            (_, None) => 0,
        };
        let a_on = on(&views.a, (axis == 2).then_some(!self.trans_a));
        let b_rows = (axis == 3).then_some(self.trans_b);
        let d_rows = Some(axis == 2);
        let place = |matrix: &mut Matrix, view: &View<3>, step: usize, binding: &mut Binding<'a>| {
            let offset = moved(matrix.dtype, view.offset + step, binding);
            matrix.layout = Layout::strided(offset, view.strides);
        };
        place(&mut problem.a, &views.a, a_on, &mut buffers.a);
        place(&mut problem.b, &views.b, on(&views.b, b_rows), &mut buffers.b);
        place(&mut problem.d, &views.d, on(&views.d, d_rows), &mut buffers.d);
        if let (Some(view), Some(offset), Some(binding)) = (&views.b2, &mut problem.epilogue.gate, &mut buffers.b2) {
            *offset = moved(self.b.dtype, view.offset + on(&views.b, b_rows), binding);
        }
        if let (Some(view), Some(c), Some(binding)) = (&views.c, &mut problem.c, &mut buffers.c) {
            place(c, view, on(view, d_rows), binding);
        }
        if let (Some(view), Some(r), Some(binding)) =
            (&views.residual, &mut problem.epilogue.residual, &mut buffers.residual)
        {
            place(r, view, on(view, d_rows), binding);
        }
        for vector in [&mut problem.epilogue.bias, &mut problem.epilogue.scale].into_iter().flatten() {
            let own = if vector.along == Along::Rows { 2 } else { 3 };
            vector.offset += if axis == own { from } else { 0 };
        }
        Ok((problem, buffers))
    }
}

fn plan(kernels: &Kernels, problem: &Problem, config: Option<&Config>, buffers: &Buffers) -> Result<Dispatch> {
    let caps = kernels.caps();
    let problem = &problem.normal();
    let views = problem.views()?;
    let epilogue = &problem.epilogue;
    given(OP, "b2", epilogue.gate.is_some(), buffers.b2.is_some())?;
    given(OP, "c", problem.c.is_some(), buffers.c.is_some())?;
    given(OP, "residual", epilogue.residual.is_some(), buffers.residual.is_some())?;
    given(OP, "bias", epilogue.bias.is_some(), buffers.bias.is_some())?;
    given(OP, "scale", epilogue.scale.is_some(), buffers.scale.is_some())?;
    if problem.empty() {
        return Ok(Dispatch::nothing(OP));
    }
    let mut config = match config {
        Some(config) => Config { form: problem.form(&caps, &views, config.algorithm, Some(config.form)), ..*config },
        None => choose(&caps, problem)?,
    };
    config.fits(&caps, problem).map_err(|misfit| misfit.error(OP))?;

    let bits = |dtype: Dtype| 8 * dtype.bytes();
    let mut args = vec![
        Arg::new(A, "a", buffers.a, bits(problem.a.dtype), &views.a, false),
        Arg::new(B, "b", buffers.b, bits(problem.b.dtype), &views.b, false),
        Arg::new(D, "d", buffers.d, bits(problem.d.dtype), &views.d, true),
    ];
    if let (Some(view), Some(binding)) = (&views.b2, buffers.b2) {
        args.push(Arg::new(B2, "b2", binding, bits(problem.b.dtype), view, false));
    }
    for (slot, name, matrix, view, binding) in [
        (C, "c", problem.c, &views.c, buffers.c),
        (RESIDUAL, "residual", epilogue.residual, &views.residual, buffers.residual),
    ] {
        if let (Some(matrix), Some(view), Some(binding)) = (matrix, view, binding) {
            args.push(Arg::new(slot, name, binding, bits(matrix.dtype), view, false));
        }
    }
    for (slot, name, vector, view, binding) in [
        (BIAS, "bias", epilogue.bias, &views.bias, buffers.bias),
        (SCALE, "scale", epilogue.scale, &views.scale, buffers.scale),
    ] {
        if let (Some(vector), Some(view), Some(binding)) = (vector, view, binding) {
            args.push(Arg::new(slot, name, binding, bits(vector.dtype), view, false));
        }
    }
    // An invocation reads of c and of the residual what it writes of d, and nothing else of them.
    let in_place = |arg: &Arg| {
        let of = |m: Option<Matrix>, v: &Option<View<3>>| {
            m.zip(v.as_ref()).is_some_and(|(m, v)| m.dtype == problem.d.dtype && v.same_rows(&views.d))
        };
        let same = match arg.slot {
            C => of(problem.c, &views.c),
            RESIDUAL => of(epilogue.residual, &views.residual),
            _ => false,
        };
        same && caps.backend != wgpu::Backend::BrowserWebGpu
    };
    check_all(OP, &caps, &args, |i, j| {
        let (i, j) = (&args[i], &args[j]);
        i.same_first(j) && ((i.slot == D && in_place(j)) || (j.slot == D && in_place(i)))
    })?;
    // What the pipeline declares and the problem lacks.
    // Each has bytes of its own: a browser refuses to bind the same ones twice for writing.
    let apart = u64::from(caps.limits.min_storage_buffer_offset_alignment.max(16));
    let filler = config.form.extras.then(|| {
        kernels.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("gemm filler"),
            size: 4 * apart,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        })
    });
    if let Some(filler) = &filler {
        let slots = [(C, "c"), (RESIDUAL, "residual"), (BIAS, "bias"), (SCALE, "scale")];
        for (i, (slot, name)) in slots.into_iter().enumerate() {
            if !args.iter().any(|arg| arg.slot == slot) {
                let binding = Binding::from(filler).part(i as u64 * apart, 16);
                args.push(Arg { slot, name, binding, element_bits: 32, elements: 0..4, writes: false });
            }
        }
    }
    let scratch_need = scratch_bytes(problem, &config);
    let pooled;
    if scratch_need > 0 {
        let binding = match buffers.scratch {
            Some(binding) => binding,
            None => {
                pooled = kernels.scratch(scratch_need).map_err(|kind| kind.of(OP))?;
                Binding::from(&pooled)
            }
        };
        let scratch = Arg::scratch(SCRATCH, binding, scratch_need);
        scratch.check(OP, &caps)?;
        for arg in &args {
            scratch.apart(OP, &caps, arg)?;
        }
        args.push(scratch);
    }
    let [a, b, extras] = writable(&args);
    config.form.a_writable = a;
    config.form.b_writable = b;
    config.form.extras_writable = extras;

    let (parts, part_k) = parts(problem, &config);
    config.parts = parts;
    let batches = problem.batch[0] as u64 * problem.batch[1] as u64;
    let chunks = batches * problem.m as u64 * problem.n.div_ceil(4) as u64;
    if batches.max(chunks) > u64::from(u32::MAX) - (1 << 26) {
        return Err(Error { op: OP, kind: ErrorKind::TooManyWorkgroups { need: chunks, limit: u32::MAX.into() } });
    }
    let none = [0; 4];
    let c = match (&views.c, &views.b2) {
        (Some(c), _) => numbers(c),
        // b2 goes by the strides of b.
        (None, Some(b2)) => [b2.offset as u32, 0, 0, 0],
        (None, None) => none,
    };
    let [a, b, d] = [&views.a, &views.b, &views.d].map(numbers);
    let residual = views.residual.as_ref().map_or(none, numbers);
    let params = |grid: [u32; 3]| Params {
        m: problem.m as u32,
        n: problem.n as u32,
        k: problem.k as u32,
        flags: problem.flags(),
        grid_x: grid[0],
        batches: batches as u32,
        batch1: problem.batch[1] as u32,
        part_k,
        a_offset: a[0],
        a_s0: a[1],
        a_s1: a[2],
        a_ld: a[3],
        b_offset: b[0],
        b_s0: b[1],
        b_s1: b[2],
        b_ld: b[3],
        d_offset: d[0],
        d_s0: d[1],
        d_s1: d[2],
        d_ld: d[3],
        c_offset: c[0],
        c_s0: c[1],
        c_s1: c[2],
        c_ld: c[3],
        residual_offset: residual[0],
        residual_s0: residual[1],
        residual_s1: residual[2],
        residual_ld: residual[3],
        bias_offset: views.bias.as_ref().map_or(0, |view| view.offset as u32),
        scale_offset: views.scale.as_ref().map_or(0, |view| view.offset as u32),
        alpha: problem.alpha,
        beta: problem.beta,
    };
    let mut steps = Vec::with_capacity(2);
    for (i, pass) in config.passes().into_iter().enumerate() {
        let workgroups = if i == 0 { config.workgroups(problem) } else { chunks.div_ceil(SPLIT_WG.into()) };
        let grid = fold(OP, &caps, workgroups)?;
        let pipeline = kernels.pipeline(OP, &pass)?;
        steps.push(Dispatch::new(OP, kernels, &args, &params(grid), vec![(pipeline, grid)]));
    }
    Ok(Dispatch::sequence(OP, steps))
}

/// Offset and strides, as parameters.
fn numbers(view: &View<3>) -> [u32; 4] {
    [view.offset as u32, view.stride(0), view.stride(1), view.stride(2)]
}

/// Whether the bindings of a, of b and b2, and of the epilogue's arguments must be declared read_write: each group is
/// declared alike, so that one that shares a buffer with what is written may draw the next in.
fn writable(args: &[Arg]) -> [bool; 3] {
    let groups: [&[u32]; 3] = [&[A], &[B, B2], &[C, RESIDUAL, BIAS, SCALE]];
    let mut writable = [false; 3];
    loop {
        let before = writable;
        let written = |arg: &Arg| {
            arg.writes || groups.iter().zip(before).any(|(slots, writable)| writable && slots.contains(&arg.slot))
        };
        for (group, slots) in writable.iter_mut().zip(groups) {
            let mut own = args.iter().filter(|arg| slots.contains(&arg.slot));
            *group |= own.any(|own| args.iter().any(|arg| written(arg) && arg.same_buffer(own)));
        }
        if writable == before {
            return writable;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_told_as_a_row() {
        let column = Problem { n: 1, k: 7, ..Problem::default() };
        assert!(column.normal().trans_b);
        let strided = Matrix::strided(Dtype::F32, 3, [0, 0, 1]);
        let normal = Problem { b: strided, ..column }.normal();
        assert_eq!((normal.trans_b, normal.b.layout), (true, Layout::strided(3, [0, 0, 7])));
        let apart = Problem { b: Matrix::strided(Dtype::F32, 0, [0, 0, 2]), ..column };
        assert!(!apart.normal().trans_b);
        let row = Problem { m: 1, k: 7, trans_a: true, ..Problem::default() };
        assert!(!row.normal().trans_a);
    }

    #[test]
    fn parts_cover_k_in_whole_steps() {
        let caps = crate::caps::presets().pop().unwrap();
        let problem = Problem::new(4, 64, 5000, Dtype::F32);
        let config = Config {
            parts: 7,
            ..*candidates(&caps, &problem).unwrap().iter().find(|c| c.algorithm == Algorithm::Tiled).unwrap()
        };
        let (parts, part) = parts(&problem, &config);
        assert!(part.is_multiple_of(config.tile[2]) && parts * part >= 5000 && (parts - 1) * part < 5000);
    }
}
