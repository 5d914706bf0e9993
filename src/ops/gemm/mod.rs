//! The matrix product: `d = act(alpha * scale * op(a) op(b) + beta * c + bias) + residual`, batched, in f32 sums.
//!
//! `op` transposes or not; the scale is per row or column, as is the bias; with a second right-hand side the
//! product is gated, `act(a b + ..) * (a b2 + ..)`: SwiGLU and GeGLU in one pass. `k = 0` and `alpha = 0` leave
//! `act(beta * c + bias) + residual`, whatever a, b and the scale hold.
//!
//! # Algorithms
//! * [`Algorithm::Direct`]: an invocation has some rows and columns of d and loads from storage, without workgroup
//!   memory. For software adapters: they run a workgroup on one core, and caches do the rest.
//! * [`Algorithm::Tiled`]: tiles of a and b go through workgroup memory.
//! * [`Algorithm::Vector`]: d has at most eight rows or eight columns; the larger operand is read once, which is what
//!   takes the time.
//! * [`Algorithm::Coop`]: cooperative matrices, f16 in and f32 sums; only after [`Kernels::probe`]. f32 and bf16 go this way
//!   where [`Problem::inputs`] lets them be rounded to f16.
//! * With [`field@Config::parts`] above 1, k is split, for few tiles of d and a long k: the sums of each part go to scratch, and
//!   a second step adds them in their order, so that the result is the same run after run.
//!
//! Where a binding is too large for the device, the product is made in several: `split.rs`.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 shared cores, where a chain of f32 FMA reached 31 to 77 GFLOP/s: f32 512^3 38.8, 1024^3 37.8;
//! f16 512^3 37.2. One row of 4096 x 4096 weights in GB/s: f32 along k 13.8, across k 7.6; f16 along k 3.9, bound by
//! unpacking. What counts:
//! * columns across the subgroup, so that a is loaded once for all invocations: 34 to 49;
//! * 16 rows rather than 4 per invocation: 29 to 49; four vec4 of columns rather than one: 27 to 39;
//! * each invocation loads two of the 16 rows of a, and the subgroup hands them round: one checked and branching load per
//!   element before; 0.90 of the time, in turns. What is left by the machine code: per 1024 FMA 256 blends, since sums that a
//!   loop carries are stored under its mask, and 64 gathers of b;
//! * no barrier: tiles through workgroup memory reached 15;
//! * one row, weights across k: 512 columns at a time, of which all invocations have the same k: 2.6 to 7.6 GB/s;
//! * weights along k: eight columns share the k of the row: 2048 x 8192 f16 from 4.34 to 3.91 ms.
//!
//! # By the compilers
//! Nothing here ran on a GPU. `gemm_coop`, f16 of 4096^3, tiles of 128 x 128, per trip of the main loop and subgroup, b stored
//! `[n, k]` / `[k, n]`; the share of the matrix peak that the instructions leave at most (neither latency nor caches are in it);
//! `tools/drivers compile-for`, Mesa 26.2, on NVIDIA with robustness, which wgpu asks for. No spills, no scratch.
//!
//! | GPU | registers | LDS | instructions per multiply | share |
//! |---|---|---|---|---|
//! | navi31 (RDNA3) | 192 | 29,696 | 5.2 / 6.0 | 94 / 93 % |
//! | gfx1201 (RDNA4) | 108 / 120 | 29,696 | 3.4 / 4.1 | 93 / 91 % |
//! | strix1 (RDNA3.5) | 128 | 29,696 | 6.1 / 8.3 | 91 / 83 % |
//! | Ampere, Ada, Blackwell | 216 | 29,696 | 11.4 / 11.9; d of f32 13.0 / 13.5 | 100 % |
//!
//! Tiles of 128 x 64 take 6.8 / 7.4 on navi31 and 9.9 / 10.4 on Ada, 64 x 64 9.0 / 10.5 and 13.4 / 14.2; with guards, 128 x 64
//! takes 22.6 and 27.9; f32 and bf16 that are rounded, 128 x 128, 6.4 and 7.2 on navi31, 12.9 on Ada. Half of those of 128 x 128
//! on NVIDIA are moves that NVK makes round its multiplies.
//!
//! `gemm_tiled` f32 leaves, of the f32 peak, 78 % on navi31 and 66 % on Ada by tiles of 128 x 128; 59 and 57 % by 64 x 64 with 8 x 4
//! per invocation, 44 % with 4 x 4.

use crate::compose::{Shader, Slots};
use crate::config::{config, defaults, words};
use crate::error::Checked;
use crate::kernels::Pipeline;
use crate::layout::{View, product, sizes_fit};
use crate::ops::{BATCH, Plan};
use crate::weights::Coded;
use crate::{Binding, Caps, Dispatch, Dtype, ErrorKind, Kernels, Layout, Misfit, Result};

mod backward;
mod choose;
pub mod gemm_quant;
pub mod grouped_gemm;
pub mod grouped_gemm_backward;
pub mod lora;
pub mod lora_backward;
mod pipeline;
mod prepare;
mod split;

use prepare::Product;

pub use backward::{Backward, backward};

defaults! {
    /// What is computed: `d [.., m, n]` of `op(a) [.., m, k]` and `op(b) [.., k, n]`.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Rows of d.
        pub m: usize = 1,
        /// Columns of d.
        pub n: usize = 1,
        /// Columns of `op(a)`, which are rows of `op(b)`.
        pub k: usize = 1,
        /// Sizes of two batch axes; a stride of 0 broadcasts over one.
        pub batch: [usize; 2] = [1, 1],
        /// `a` is stored `[k, m]`.
        pub trans_a: bool = false,
        /// `b` is stored `[n, k]`.
        pub trans_b: bool = false,
        /// The left operand.
        pub a: Matrix = Matrix::new(Dtype::F32),
        /// The right operand.
        pub b: Matrix = Matrix::new(Dtype::F32),
        /// The result. Rows must not overlap.
        pub d: Matrix = Matrix::new(Dtype::F32),
        /// Multiplies the product; a, b and the scale are not read where this is 0.
        pub alpha: f32 = 1.0,
        /// Multiplies c, which is not read where this is 0.
        pub beta: f32 = 1.0,
        /// `beta * c` is added: `[.., m, n]`. May be the view of `d`.
        pub c: Option<Matrix> = None,
        /// What happens to the product before it is stored.
        pub epilogue: Epilogue = Epilogue::default(),
        /// What a and b may be rounded to before they are multiplied.
        pub inputs: Precision = Precision::Exact,
    }
}

/// A matrix argument: strides of two batch axes and of rows; columns have stride 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Matrix {
    /// Dtype of its elements.
    pub dtype: Dtype,
    /// Where its rows lie.
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
    /// Dtype of its elements.
    pub dtype: Dtype,
    /// Whether it has a value per row or per column.
    pub along: Along,
    /// The first element in its binding.
    pub offset: usize,
}

/// What a [`Vector`] has a value for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Along {
    /// Each row of d.
    Rows,
    /// Each column of d.
    Columns,
}

/// What happens to the product before it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Epilogue {
    /// Multiplies the product, as alpha does.
    pub scale: Option<Vector>,
    /// Added before the activation. Where gated it holds those of b, then those of b2.
    pub bias: Option<Vector>,
    /// Applied to the sum of product, c and bias.
    pub activation: Activation,
    /// The second right-hand side, in the dtype and strides of b, from this element of its binding: the
    /// activated product of b is multiplied by the product of b2. Not with c.
    pub gate: Option<usize>,
    /// Added last: `[.., m, n]`. May be the view of `d`.
    pub residual: Option<Matrix>,
}

words! {
    /// What a product may take of its inputs.
    #[derive(Default)]
    pub enum Precision {
        /// Their values.
        #[default]
        Exact = "exact",
        /// Their values rounded to f16, so that products of f32 and bf16 may go by cooperative matrices, where the device has
        /// them; elsewhere they are taken as they are. What is beyond 65504 may become infinite.
        F16 = "f16",
    }
}

words! {
    /// A function of one value. A new one has its line here, in `reference::gemm` and in `gemm_activate.wgsl`.
    #[derive(Default)]
    pub enum Activation {
        /// `x`.
        #[default]
        None = "none",
        /// `max(x, 0)`.
        Relu = "relu",
        /// `x Phi(x)`, by the error function.
        Gelu = "gelu",
        /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`.
        GeluTanh = "gelu_tanh",
        /// `x / (1 + exp(-x))`, swish.
        Silu = "silu",
    }
}

config! {
    /// How it is computed.
    pub struct Config {
        /// The algorithm.
        pub algorithm: Algorithm,
        /// Rows, columns and k of d that a workgroup works on at a time; `Vector`: of the shorter side of d, of the longer
        /// one. `Direct`, `Vector`: k is 4.
        pub tile: [u32; 3],
        /// Rows and columns of an invocation (`Vector`: of the shorter side of d, of the longer one; `Coop`: of a
        /// subgroup).
        pub thread: [u32; 2],
        /// `Vector`: invocations that share a column's k. `Coop`: the subgroup's width. `Direct`: that of the subgroup that
        /// hands rows of a round, or 1. Else 1.
        pub lanes: u32,
        /// `Tiled`: buffers of a tile. `Coop`: the size of a matrix. Else 1.
        pub stages: u32,
        /// Parts that k is split into.
        pub parts: u32,
        /// f16 tensors are held natively, not packed in u32; needs `SHADER_F16`. `Coop` needs it.
        pub native_f16: bool,
    }
}

words! {
    /// The algorithm; each has a shader file of its name.
    pub enum Algorithm {
        /// From storage into registers.
        Direct = "direct",
        /// Through workgroup memory.
        Tiled = "tiled",
        /// Few rows or few columns.
        Vector = "vector",
        /// Cooperative matrices.
        Coop = "coop",
    }
}

/// An argument's dtype, and the view that its layout resolves to; a vector's is of products, rows and columns of d.
#[derive(Debug, Clone, Copy)]
struct Operand {
    view: View<3>,
    dtype: Dtype,
}

/// The arguments of a Problem.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Views {
    /// Whether a and b are transposed, once operands of one column are treated as their transpose.
    trans_a: bool,
    trans_b: bool,
    /// a and b are read by fours: k, their offsets and their strides are multiples of 4.
    by_fours: bool,
    /// The same of 8, but that k only has to be a multiple where it lies along rows.
    by_eights: bool,
    /// b is packed weights, `[n, k]`; its view says nothing then.
    packed: Option<Coded>,
    a: Operand,
    b: Operand,
    d: Operand,
    b2: Option<Operand>,
    c: Option<Operand>,
    residual: Option<Operand>,
    bias: Option<Operand>,
    scale: Option<Operand>,
}

impl Views {
    /// All of them, by their slots.
    fn all(&self) -> [Option<Operand>; 8] {
        let Views { a, b, d, b2, c, residual, bias, scale, .. } = *self;
        [Some(a), Some(b), Some(d), b2, c, residual, bias, scale]
    }
}

impl Problem {
    /// `[m, k] x [k, n]`, contiguous, all of one dtype.
    pub fn new(m: usize, n: usize, k: usize, dtype: Dtype) -> Problem {
        let of = Matrix::new(dtype);
        Problem { m, n, k, a: of, b: of, d: of, ..Problem::default() }
    }

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

    /// Operations of the product.
    pub fn flops(&self) -> f64 {
        let sizes = [2, self.products(), self.m, self.n, self.k, self.batch[0], self.batch[1]];
        sizes.iter().map(|&s| s as f64).product()
    }

    /// Products: that of b, and where gated that of b2.
    fn products(&self) -> usize {
        1 + usize::from(self.epilogue.gate.is_some())
    }

    fn is_empty(&self) -> bool {
        self.m == 0 || self.n == 0 || self.batch.contains(&0)
    }

    fn has_f16(&self) -> bool {
        [self.a, self.b, self.d].iter().any(|matrix| matrix.dtype == Dtype::F16)
    }

    /// Treats a `k x 1` operand whose elements follow each other as its transpose.
    fn normal(&self) -> Problem {
        let mut problem = *self;
        for (is_column, matrix, trans) in [
            (self.m == 1 && self.trans_a, &mut problem.a, &mut problem.trans_a),
            (self.n == 1 && !self.trans_b, &mut problem.b, &mut problem.trans_b),
        ] {
            let strides = &mut matrix.layout.strides;
            if is_column && strides.is_none_or(|strides| strides[2] == 1 || self.k <= 1) {
                *trans = !*trans;
                strides.iter_mut().for_each(|strides| strides[2] = self.k);
            }
        }
        problem
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `a` and `b` are read, `d` written.
        a, b, d;
        /// The second right-hand side of a gated product; it may lie in the buffer of b.
        b2,
        /// The c that the Problem asks for.
        c,
        /// The residual that the Problem asks for.
        residual,
        /// The bias that the Problem asks for.
        bias,
        /// The scale that the Problem asks for.
        scale,
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("gemm");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let [b0, b1] = self.batch;
        sizes_fit([("m", self.m), ("n", self.n), ("k", self.k), ("batch", b0), ("batch", b1)])?;
        for (arg, value) in [("alpha", self.alpha), ("beta", self.beta)] {
            if !value.is_finite() {
                return Err(ErrorKind::invalid(arg, format!("{value} is not finite")));
            }
        }
        let Epilogue { scale, bias, gate, residual, .. } = self.epilogue;
        if gate.is_some() && self.c.is_some() {
            return Err(ErrorKind::invalid("c", "a gated product has none: add the bias or the residual"));
        }
        let matrix = |arg, Matrix { dtype, layout }, (sizes, inner): ([usize; 3], usize)| {
            Checked::Ok(Operand { view: layout.view(arg, sizes, inner)?, dtype })
        };
        let vector = |arg, Vector { dtype, along, offset }, products| {
            let (strides, sizes) = match along {
                Along::Rows => ([self.m, 1, 0], [products, self.m, 1]),
                Along::Columns => ([self.n, 0, 1], [products, 1, self.n]),
            };
            matrix(arg, Matrix::strided(dtype, offset, strides), (sizes, 1))
        };
        let normal = self.normal();
        let Problem { trans_a, trans_b, .. } = normal;
        let a = matrix("a", normal.a, normal.a_sizes())?;
        let b = matrix("b", normal.b, normal.b_sizes())?;
        let d = matrix("d", self.d, self.d_sizes())?;
        d.view.apart("d")?;
        let like_b = |offset| Matrix { layout: Layout { offset, ..normal.b.layout }, ..normal.b };
        let b2 = gate.map(|offset| matrix("b2", like_b(offset), normal.b_sizes())).transpose()?;
        let c = self.c.map(|c| matrix("c", c, self.d_sizes())).transpose()?;
        let residual = residual.map(|residual| matrix("residual", residual, self.d_sizes())).transpose()?;
        let bias = bias.map(|bias| vector("bias", bias, self.products())).transpose()?;
        let scale = scale.map(|scale| vector("scale", scale, 1)).transpose()?;
        // Nothing is read of a and b where k is 0.
        let by = |n: usize| self.k > 0 && [a, b].iter().chain(&b2).all(|operand| operand.view.multiple_of(n));
        let (by_fours, by_eights) = (by(4) && self.k.is_multiple_of(4), by(8));
        Ok(Views { trans_a, trans_b, by_fours, by_eights, packed: None, a, b, d, b2, c, residual, bias, scale })
    }

    fn without_batch(&self) -> Problem {
        Problem { m: BATCH, batch: [1; 2], ..*self }
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        choose::candidates(self, views, caps)
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        choose::check(self, views, caps, config)
    }

    /// The sums of each part.
    fn scratch(&self, _: &Views, config: &Config) -> u64 {
        match config.parts {
            0 | 1 => 0,
            parts => product!(parts, self.products(), self.batch[0], self.batch[1], self.m, self.n.div_ceil(4), 16u32),
        }
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let (first, second) = pipeline::passes(self, views, config, writable);
        [first.shader()].into_iter().chain(second.map(|pass| pass.shader())).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        Product { problem: *self, views: *views, config: *config, buffers: *buffers, weights: None }.bind(kernels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_treated_as_a_row() {
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
}
