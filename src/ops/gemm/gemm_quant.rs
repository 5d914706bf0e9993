//! The product with packed weights: `d = act(a W^T + bias) + residual`, W `[n, k]` in a [`Format`]; gated,
//! `act(a Wg^T + bg) * (a Wu^T + bu) + residual`, W `[2 n, k]` with the gate above.
//!
//! # Algorithms
//! * [`Algorithm::Vector`]: at most eight rows of a. A group of invocations has four neighbouring rows of W, of which a load of 16
//!   bytes has the same word each; every weight is read and decoded once, for all rows of a.
//! * [`Algorithm::Direct`], [`Algorithm::Tiled`], [`Algorithm::Coop`]: those of [`gemm`](super), whose loads of b decode. `Direct` decodes
//!   each weight once per 16 rows, `Tiled` and `Coop` once per tile, on the way into workgroup memory.
//!
//! With [`Activations::Int8`] a first step rounds a to int8 ([`quantize`](crate::quantize)), and products are integer dots, whatever
//! the rows; with [`Activations::Fp8`] a is rounded to e4m3 and the product is that of the rounded values in f32.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 shared cores, in one run, one row by 4096 x 4096, ms: f16 by gemm 4.4; q4_0 2.2, q4_1 2.3, q8_0 2.3, GPTQ of 128 2.8, q6_k
//! 2.9, q5_0 3.5, MXFP4 3.8, FP8 5.0, NF4 5.7. 49152 x 576: f16 12.1, q4_0 4.5. Eight rows by q4_0 8.9; 128 rows 102, by f16 113. What counts:
//! * columns in runs of 32 whose loops have constant bounds, so that they are unrolled: 2.2 to 1.2 in a kernel without an epilogue;
//! * scales decoded once per 128 columns where they are as many;
//! * one and two rows: the zero of codes times a sum of a, instead of an offset per weight: 2.4 to 2.1, in turns.
//!
//! Eight rows: products alone take 4.0 at the rate of a chain of fma, and decoding takes as long as for one row.
//!
//! # By the compilers
//! Main loop of one row, RDNA3 (navi31), vector instructions per weight: q4_0 3.4, q4_1 4.0, GPTQ 4.2, q8_0 3.6, q4_0 with int8 activations 1.7, with
//! eight rows of these 1.1 per weight and row; loads of codes of 16 bytes, no spills. A conversion and a multiply-add are 2 of them.
//!
//! # Limits
//! Where a binding is too large for the device, rows of W go in pieces; not those of a gated product. Where columns are in an order of their
//! own ([`Format::order`]), a first step brings those of a into it.

use super::choose::{FEW, candidates as larger, check as check_larger};
use super::pipeline::{A, B, B2, BIAS, D, Form, RESIDUAL, SCRATCH};
use super::prepare::Product;
use super::{
    Activation, Along, Config as Inner, Epilogue, Matrix, Operand, Precision, Problem as Plain, Vector, Views,
};
use crate::args::{Args, Reach, WORD};
use crate::caps::{Class, LEAST_INVOCATIONS};
use crate::compose::{Shader, Slots, Storage, Strides};
use crate::config::{config, defaults, words};
use crate::error::Checked;
use crate::kernels::{Pass, Pipeline};
use crate::layout::{padded, product};
use crate::ops::{BATCH, Plan};
use crate::rounds::Rounds;
use crate::weights::{Format, Place, Scales};
use crate::{Binding, Caps, Dispatch, Dtype, ErrorKind, Kernels, Layout, Misfit, Result, quantize};

pub use super::Algorithm;
pub use crate::softmax::Reduce;

defaults! {
    /// What is computed: `d [m, n]` of `a [m, k]` and `W [n, k]`, or where gated `W [2 n, k]`.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Rows of a and d.
        pub m: usize = 1,
        /// Columns of d.
        pub n: usize = 1,
        /// Columns of a and W.
        pub k: usize = 1,
        /// How W lies in its buffers.
        pub format: Format = Format::Q4_0,
        /// The left operand.
        pub a: Matrix = Matrix::new(Dtype::F32),
        /// The result. Rows must not overlap.
        pub d: Matrix = Matrix::new(Dtype::F32),
        /// Added before the activation; where gated it holds those of the gate, then those of the other half.
        pub bias: Option<Vector> = None,
        /// Applied to the sum of product and bias; where gated, of the gate.
        pub activation: Activation = Activation::None,
        /// The activated product of the upper half of W is multiplied by that of the lower one.
        pub gated: bool = false,
        /// Added last: `[m, n]`. May be the view of `d`.
        pub residual: Option<Matrix> = None,
        /// What a is rounded to, token by token, before it is multiplied.
        pub activations: Activations = Activations::Float,
        /// What a may be rounded to before it is multiplied; W is rounded to f16 where matrices take it.
        pub inputs: Precision = Precision::Exact,
    }
}

words! {
    /// How a product takes its activations, as [`quantize`](crate::quantize) makes them: each is wrong by half a step of its token's codes.
    #[derive(Default)]
    pub enum Activations {
        /// As they are.
        #[default]
        Float = "float",
        /// int8, a scale of max|a| / 127 per token. Products are integer dots (`dot4I8Packed`): for codes of 4 bits that are numbers,
        /// and of int8.
        Int8 = "int8",
        /// e4m3, a scale of max|a| / 448 per token and 128 of k.
        Fp8 = "fp8",
        /// The same, whose scale is the next power of two.
        Fp8Power = "fp8_power",
    }
}

config! {
    /// How it is computed.
    pub struct Config {
        /// The algorithm.
        pub algorithm: Algorithm,
        /// Rows, columns and k of d that a workgroup works on at a time, as in gemm. `Vector`: all rows, and k is 4.
        pub tile: [u32; 3],
        /// Rows and columns of an invocation, as in gemm. `Vector`: all rows by 4.
        pub thread: [u32; 2],
        /// `Vector`: invocations that share k. Else as in gemm.
        pub lanes: u32,
        /// `Vector`: how these add their sums; else none.
        pub reduce: Reduce,
        /// As in gemm.
        pub stages: u32,
        /// Parts that k is split into; `Vector`: 1.
        pub parts: u32,
        /// f16 tensors are held natively, not packed in u32; needs `SHADER_F16`. `Coop` needs it.
        pub native_f16: bool,
    }
}

impl Config {
    /// As gemm has it; few rows as a tile without workgroup memory of its own.
    pub(super) fn inner(&self) -> Inner {
        let Config { algorithm, tile, thread, lanes, stages, parts, native_f16, .. } = *self;
        let algorithm = if algorithm == Algorithm::Vector { Algorithm::Tiled } else { algorithm };
        Inner { algorithm, tile, thread, lanes, stages, parts, native_f16 }
    }

    /// Of a product that is part of another op, whose Config is gemm's.
    pub(super) fn within(config: &Inner) -> Config {
        let few = config.algorithm == Algorithm::Vector && config.lanes > 1;
        Config { reduce: if few { Reduce::Tree } else { Reduce::None }, ..Config::of(*config) }
    }

    fn of(inner: Inner) -> Config {
        let Inner { algorithm, tile, thread, lanes, stages, parts, native_f16 } = inner;
        Config { algorithm, tile, thread, lanes, reduce: Reduce::None, stages, parts, native_f16 }
    }

    /// Invocations per workgroup.
    pub fn wg_size(&self) -> u32 {
        self.inner().wg_size()
    }

    /// Bytes of workgroup memory, without those that decoding takes.
    fn wg_bytes(&self, products: u32) -> u32 {
        match self.algorithm {
            Algorithm::Vector if self.reduce == Reduce::Tree => self.wg_size().saturating_mul(4),
            Algorithm::Vector => 0,
            _ => self.inner().wg_bytes(products),
        }
    }

    /// `Vector`: k that an invocation takes with the same scales. Where lanes share k, more of them have some if it is small.
    fn step(&self, format: &Format) -> u32 {
        format.step(if self.lanes > 1 { 32 } else { 128 })
    }

    /// Rounds of the loops of an invocation, at most, of few rows.
    fn rounds(&self, problem: &Problem) -> Rounds {
        let step = u64::from(self.step(&problem.format));
        let each = Rounds::plain(self.thread[0]);
        let take = (each + Rounds::nest(step.div_ceil(32), Rounds::nest(step.min(32) / 8, each)) + each)
            .times(problem.products() as u64);
        let lanes = u64::from(self.lanes.max(1));
        let over_lanes = Rounds::plain(u64::from(lanes.ilog2())).times(8);
        each + Rounds::nest((problem.k as u64).div_ceil(step * lanes), take)
            + take
            + Rounds::nest(self.thread[0], over_lanes)
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `a`, `codes` and `scales` are read, `d` written.
        a, codes, scales, d;
        /// The bias that the Problem asks for.
        bias,
        /// The residual that the Problem asks for.
        residual,
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("gemm_quant");

impl Problem {
    /// Operations of the product.
    pub fn flops(&self) -> f64 {
        [2, self.products(), self.m, self.n, self.k].iter().map(|&size| size as f64).product()
    }

    /// Rows of W.
    pub fn rows(&self) -> usize {
        self.n.saturating_mul(self.products())
    }

    fn products(&self) -> usize {
        1 + usize::from(self.gated)
    }

    /// Whether the columns of a are brought into the order of those of W first.
    fn sorts(&self) -> bool {
        self.format.order > 0
    }

    /// k of the product of packed columns.
    fn inner_k(&self) -> usize {
        if self.sorts() && self.k > 0 { self.format.packed_k(self.k) as usize } else { self.k }
    }

    /// The product whose b is the packed weights; of b it says no more than that it is stored `[n, k]`.
    fn inner(&self) -> Plain {
        let Problem { m, n, d, bias, activation, gated, residual, inputs, .. } = *self;
        let a = match self.activations {
            // Words, of which it says nothing.
            Activations::Int8 => Matrix::strided(Dtype::F32, 0, [0, 0, 0]),
            Activations::Fp8 | Activations::Fp8Power => {
                Matrix::strided(Dtype::F32, 0, [0, 0, padded(self.inner_k(), 4) as usize])
            }
            Activations::Float => self.sorted(),
        };
        let b = Matrix::strided(a.dtype, 0, [0, 0, 0]);
        let scale = match self.activations {
            Activations::Int8 => Some(Vector { dtype: Dtype::F32, along: Along::Rows, offset: 0 }),
            _ => None,
        };
        let epilogue = Epilogue { scale, bias, activation, gate: gated.then_some(0), residual };
        Plain { m, n, k: self.inner_k(), trans_b: true, a, b, d, epilogue, inputs, ..Plain::default() }
    }

    /// a with its columns in order.
    fn sorted(&self) -> Matrix {
        if self.sorts() { Matrix::new(self.a.dtype) } else { self.a }
    }

    fn int8(&self) -> bool {
        self.activations == Activations::Int8
    }

    /// Tokens in 8 bits of a with its columns in order.
    pub(crate) fn quantize(&self) -> Option<quantize::Problem> {
        let (format, power_of_two) = match self.activations {
            Activations::Float => return None,
            Activations::Int8 => (quantize::Format::Int8, false),
            Activations::Fp8 => (quantize::Format::E4m3, false),
            Activations::Fp8Power => (quantize::Format::E4m3, true),
        };
        let Matrix { dtype, layout } = self.sorted();
        let x_layout = Layout { offset: layout.offset, strides: layout.strides.map(|strides| [strides[2]]) };
        let (rows, cols) = (self.m, self.inner_k());
        Some(quantize::Problem { rows, cols, x: dtype, x_layout, format, power_of_two, ..Default::default() })
    }

    /// Bytes of what lies in scratch: a with its columns in order, codes of tokens, their scales, tokens as f32.
    fn parts(&self) -> [u64; 4] {
        let of = |words: u64| padded(product!(words, 4u32), 256);
        let Some(tokens) = self.quantize() else { return [self.sorted_bytes(), 0, 0, 0] };
        let words = product!(self.m, tokens.words());
        let floats = if self.int8() { 0 } else { of(words.saturating_mul(4)) };
        [self.sorted_bytes(), of(words), of(product!(self.m, tokens.groups())), floats]
    }

    /// Bytes of a with its columns in order.
    fn sorted_bytes(&self) -> u64 {
        match self.sorts() {
            true => padded(product!(self.m, self.inner_k(), self.a.dtype.bytes()), 256),
            false => 0,
        }
    }

    /// Candidates for few rows.
    pub(super) fn few(&self, caps: &Caps) -> Vec<Config> {
        if self.m > FEW && !self.int8() {
            return Vec::new();
        }
        let software = caps.class() == Class::Software;
        // By the compiler of Honeykrisp (M1): integer dots of eight rows spill, of four they do not.
        let most_rows = if self.int8() && caps.class() == Class::Integrated { FEW / 2 } else { FEW };
        let rows = self.m.clamp(1, most_rows).next_power_of_two() as u32;
        // Each lane has a step at least.
        let steps = (self.inner_k() as u64 / u64::from(self.format.step(32))).max(1);
        let (wg_size, most) = if software { (8, 1) } else { (LEAST_INVOCATIONS.min(128), 32) };
        let lanes = 1 << (steps.ilog2()).min(u32::ilog2(most));
        let reduce = match caps.least_subgroup() {
            _ if lanes == 1 => Reduce::None,
            Some(least) if least >= lanes => Reduce::Shuffle,
            _ => Reduce::Tree,
        };
        let native_f16 = caps.prefers_native_f16(self.inner().has_f16());
        let config = Config {
            algorithm: Algorithm::Vector,
            tile: [rows, wg_size / lanes * 4, 4],
            thread: [rows, 4],
            lanes,
            reduce,
            stages: 1,
            parts: 1,
            native_f16,
        };
        vec![config]
    }
}

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        self.format.check(self.k)?;
        let words = product!(self.format.rows(self.rows()), self.format.code_words(self.k));
        let elements = if self.format.scales == Scales::Flat { product!(self.rows(), self.k) } else { 0 };
        let last = words.max(elements).max(self.format.scale_bytes(self.rows(), self.k) / 4);
        if last > u32::MAX.into() {
            return Err(ErrorKind::IndexOverflow { arg: "codes", last: last.into() });
        }
        if self.parts() != [0; 4] {
            // The view of a itself.
            self.a.layout.view("a", [1, 1, self.m], self.k)?;
        }
        // Words of four rows are read together; those of the lower half start at n.
        let aligned = !self.gated || self.n.is_multiple_of(4);
        if self.int8() && !self.format.coded(aligned).whole() {
            let codes = self.format.code.name();
            return Err(ErrorKind::invalid("activations", format!("int8 takes codes bits4 and int8, not {codes}")));
        }
        Ok(Views { packed: Some(self.format.coded(aligned)), ..self.inner().resolve()? })
    }

    fn without_batch(&self) -> Problem {
        Problem { m: BATCH, ..*self }
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        if self.int8() {
            return self.few(caps);
        }
        let larger = larger(&self.inner(), views, caps).into_iter().map(Config::of);
        self.few(caps).into_iter().chain(larger).collect()
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let Config { algorithm, tile, thread, lanes, reduce, stages, parts, native_f16 } = *config;
        if algorithm != Algorithm::Vector {
            Misfit::unless(!self.int8(), "integer dots go by vector", lanes)?;
            Misfit::unless(reduce == Reduce::None, "only few rows add sums of lanes", lanes)?;
            return check_larger(&self.inner(), views, caps, &config.inner());
        }
        caps.check_native_f16(native_f16, self.inner().has_f16())?;
        Misfit::at_most("rows of an invocation", thread[0], FEW as u32)?;
        if !self.int8() {
            Misfit::at_most("rows", self.m as u64, thread[0])?;
        }
        Misfit::unless(tile[0] == thread[0] && tile[2] == 4, "few rows must be one tile, by 4 of k", tile[0])?;
        Misfit::unless(
            thread[1] == 4 && tile[1] % 4 == 0 && tile[1] > 0,
            "columns of a thread must be four",
            thread[1],
        )?;
        Misfit::unless(lanes.is_power_of_two(), "lanes must be a power of two", lanes)?;
        Misfit::unless(parts == 1 && stages == 1, "few rows must be one part, in one stage", parts)?;
        let fits = match reduce {
            Reduce::None => lanes == 1,
            Reduce::Tree => true,
            Reduce::Shuffle => caps.least_subgroup().is_some_and(|least| least >= lanes),
            Reduce::Subgroup => false,
        };
        Misfit::unless(fits, "lanes must be those of the reduction", lanes)?;
        caps.check_wg_size(config.wg_size())?;
        let bytes = config.wg_bytes(1) + views.packed.map_or(0, |packed| packed.wg_bytes());
        Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)?;
        caps.check_rounds(config.rounds(self))
    }

    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        let inner = self.inner().scratch(views, &config.inner());
        self.parts().into_iter().fold(inner, u64::saturating_add)
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let (first, second) = super::pipeline::passes(&self.inner(), views, &config.inner(), writable);
        let order = self.sorts().then(|| self.order_pass(writable).shader());
        let first = self.weights(config).pass(first).shader();
        let unscale =
            (self.quantize().is_some() && !self.int8()).then(|| Pass::new("gemm_quant_unscale", (), ()).shader());
        order.into_iter().chain(unscale).chain([first]).chain(second.map(|pass| pass.shader())).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let Buffers { a, codes, scales, d, bias, residual, scratch } = *buffers;
        let product = |a, scale, scratch| Product {
            problem: self.inner(),
            views: *views,
            config: config.inner(),
            buffers: super::Buffers { a, b: codes, d, b2: Some(scales), c: None, residual, bias, scale, scratch },
            weights: Some(self.weights(config)),
        };
        if self.parts() == [0; 4] {
            return product(a, None, scratch).bind(kernels);
        }
        if self.m == 0 || self.n == 0 {
            return Ok(Dispatch::default());
        }
        // Steps go by parts of scratch: here the arguments have their own names.
        let mut args = Args::new(kernels);
        let view = self.a.layout.view("a", [1, 1, self.m], self.k)?;
        args.read(A, "a", a, view.of(self.a.dtype))?;
        let bytes = self.scratch(views, config);
        let memory = args.scratch_memory(scratch, bytes)?;
        args.write(SCRATCH, "scratch", memory.clone(), Reach::to(bytes / 4, WORD))?;
        args.check()?;
        let (weights, plain) = (self.weights(config), self.inner());
        args.read(B, "codes", codes, Reach::to(weights.code_bytes(&plain) / 4, WORD))?;
        args.read(B2, "scales", scales, Reach::to(weights.scale_bytes(&plain) / 4, WORD))?;
        let of = |operand: Operand| operand.view.of(operand.dtype);
        args.read(BIAS, "bias", bias, views.bias.map(of))?;
        args.read(RESIDUAL, "residual", residual, views.residual.map(of))?;
        args.write(D, "d", d, of(views.d))?;
        args.in_place(RESIDUAL, D);
        args.check_apart()?;
        let mut at = 0;
        let [sorted, tokens, token_scales, floats] = self.parts().map(|bytes| {
            at += bytes;
            memory.part(at - bytes, bytes)
        });
        let rest = memory.part(at, u64::MAX);
        let mut steps = Vec::new();
        if self.sorts() {
            let mut args = Args::new(kernels);
            args.read(A, "a", a, view.of(self.a.dtype))?;
            args.read(B2, "scales", scales, Reach::to(self.format.order_words(self.k), WORD))?;
            args.write(SORTED, "scratch", sorted.clone(), Reach::to(self.sorted_bytes() / 4, WORD))?;
            args.check()?;
            let order = self.order_pass(args.writable());
            let chunks = product!(self.m, self.inner_k() as u64 / u64::from(order_vec(order.form)));
            let grid = args.fold(fits(chunks)?.div_ceil(ORDER_WG.into()))?;
            let params = OrderParams::of(self, view.params(), self.k, grid);
            steps.push(args.step(&order, &params, grid)?);
        }
        let sorted: Binding = if self.sorts() { (&sorted).into() } else { a };
        let Some(quantize) = self.quantize() else {
            steps.extend(product(sorted, None, Some((&rest).into())).bind(kernels)?.into_steps());
            return Ok(Dispatch::of(steps));
        };
        let buffers = quantize::Buffers::new(sorted, &tokens, &token_scales);
        steps.extend(crate::ops::plan(kernels, &quantize, None, &buffers)?.into_steps());
        let product = match self.int8() {
            true => product((&tokens).into(), Some((&token_scales).into()), Some((&rest).into())),
            false => {
                let mut args = Args::new(kernels);
                let words = product!(self.m, quantize.words());
                args.read(0, "tokens", tokens.clone(), Reach::to(words, WORD))?;
                args.read(1, "scales", token_scales.clone(), Reach::to(product!(self.m, quantize.groups()), WORD))?;
                args.write(2, "scratch", floats.clone(), Reach::to(words.saturating_mul(4), WORD))?;
                let grid = args.fold(fits(words)?.div_ceil(ORDER_WG.into()))?;
                let pass = Pass { writable: args.writable(), ..Pass::new("gemm_quant_unscale", (), ()) };
                steps.push(args.step(&pass, &OrderParams::of(self, [0; 4], self.inner_k(), grid), grid)?);
                product((&floats).into(), None, Some((&rest).into()))
            }
        };
        steps.extend(product.bind(kernels)?.into_steps());
        Ok(Dispatch::of(steps))
    }
}

/// As many invocations as a shader can count.
fn fits(count: u64) -> Checked<u64> {
    match count > u64::from(u32::MAX) - (1 << 26) {
        true => Err(ErrorKind::TooManyWorkgroups { need: count, limit: u32::MAX.into() }),
        false => Ok(count),
    }
}

impl Pipeline for Pass<(), ()> {
    fn shader(&self) -> Shader {
        self.begin(ORDER_WG, 0, 4).params::<OrderParams>().reads(0, "tokens", "u32").reads(1, "scales", "f32").writes(
            2,
            "y",
            "vec4<f32>",
        )
    }
}

/// The slot of a with its columns in order.
const SORTED: u32 = 8;
/// Invocations of a workgroup of the steps on a.
const ORDER_WG: u32 = LEAST_INVOCATIONS;

crate::params! {
    /// What one run tells the step that sorts columns, or that which unscales tokens.
    pub struct OrderParams;
    fn of(problem: &Problem, a: Strides, k: usize, grid: [u32; 3]) {
        a: Strides = a,
        m: u32 = problem.m as u32,
        k: u32 = k as u32,
        packed_k: u32 = problem.inner_k() as u32,
        grid_x: u32 = grid[0],
    }
}

impl Problem {
    fn order_pass(&self, writable: Slots) -> Pass<(), Storage> {
        Pass { writable, ..Pass::new("gemm_quant_order", (), Storage::held(self.a.dtype, false)) }
    }

    fn weights(&self, config: &Config) -> Weights {
        Weights {
            format: self.format,
            k: self.k,
            first: self.format.order_words(self.k),
            config: *config,
            int8: self.int8(),
            matrices: 1,
        }
    }
}

impl Pipeline for Pass<(), Storage> {
    fn shader(&self) -> Shader {
        self.begin(ORDER_WG, 0, order_vec(self.form))
            .params::<OrderParams>()
            .input(A, "a", self.form)
            .reads(B2, "scales", "u32")
            .output(SORTED, "y", self.form, false)
            .gather("column")
    }
}

/// Columns that an invocation of the step that sorts them has.
fn order_vec(storage: Storage) -> u32 {
    if storage.packed() { 2 } else { 1 }
}

/// The weights of a [`Product`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    format: Format,
    k: usize,
    /// Words of the scales' binding in front of those of the first row.
    first: u64,
    config: Config,
    /// Matrices, one after the other.
    matrices: usize,
    /// a is tokens of int8.
    int8: bool,
}

/// What follows from the Problem, beside what gemm knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Packing {
    form: Form,
    /// `Vector`: k that share their scales, and whether the last lacks some.
    few: Option<(u32, bool)>,
}

impl Weights {
    /// So many matrices, without an order of columns.
    pub fn of(format: Format, k: usize, matrices: usize, config: Config) -> Weights {
        Weights { format, k, first: 0, config, matrices, int8: false }
    }

    fn rows(problem: &Plain) -> usize {
        problem.n.saturating_mul(problem.products())
    }

    /// Bytes of the codes of all rows.
    pub fn code_bytes(&self, problem: &Plain) -> u64 {
        product!(self.format.code_bytes(Self::rows(problem), self.k), self.matrices)
    }

    /// Bytes of the scales' binding.
    pub fn scale_bytes(&self, problem: &Plain) -> u64 {
        let own = self.format.scale_bytes(Self::rows(problem), self.k) / 4 - self.format.order_words(self.k);
        product!(self.first.saturating_add(product!(own, self.matrices)), 4u32)
    }

    /// Whether a is tokens of int8, and their words.
    pub fn tokens(&self) -> bool {
        self.int8
    }

    pub fn token_words(&self, problem: &Plain) -> u64 {
        product!(problem.m, problem.k.div_ceil(4))
    }

    pub fn place(&self, problem: &Plain) -> Place {
        self.format.place(Self::rows(problem), self.k, self.matrices, self.first)
    }

    /// Moves on by `rows`, a multiple of 128: bytes by which the bindings of codes and scales start later.
    pub fn skip(&mut self, rows: usize, align: u64) -> [u64; 2] {
        let Weights { format, k, .. } = *self;
        let scales = format.scale_bytes(rows, k) - product!(format.order_words(k), 4u32);
        let start = product!(self.first, 4u32) + scales;
        let moved = start / align * align;
        self.first = (start - moved) / 4;
        [format.code_bytes(rows, k), moved]
    }

    /// The pass of a Config, given that of gemm.
    pub fn pass(&self, pass: Pass<Inner, Form>) -> Pass<Config, Packing> {
        let Pass { stem, form, writable, .. } = pass;
        let mut form = form;
        let few = (self.config.algorithm == Algorithm::Vector).then(|| {
            form.packed = form.packed.map(|packed| packed.of_few(self.config.lanes, self.config.thread[0]));
            form.tokens = self.int8;
            let step = if self.int8 { self.format.step(32) } else { self.config.step(&self.format) };
            (step, !self.columns().is_multiple_of(step as usize))
        });
        let stem = match few {
            Some(_) if self.int8 => "gemm_quant_int8",
            Some(_) => "gemm_quant_rows",
            None => stem,
        };
        Pass { stem, config: Config { parts: 1, ..self.config }, form: Packing { form, few }, writable }
    }

    /// k of the product.
    fn columns(&self) -> usize {
        if self.format.order > 0 { self.format.packed_k(self.k) as usize } else { self.k }
    }

    /// Whether the Config fits a piece of the product that it fits.
    pub fn check(&self, problem: &Plain, views: &Views, caps: &Caps) -> Result<(), Misfit> {
        match self.config.algorithm {
            Algorithm::Vector => Ok(()),
            _ => check_larger(problem, views, caps, &self.config.inner()),
        }
    }
}

impl Pipeline for Pass<Config, Packing> {
    fn shader(&self) -> Shader {
        let Packing { form, few } = self.form;
        let decoder = form.packed.map_or(0, |packed| packed.wg_bytes());
        let bytes = self.config.wg_bytes(if form.gated { 2 } else { 1 }) + decoder;
        let shader = form.of(&self.config.inner(), self.begin(self.config.wg_size(), bytes, form.vec));
        let Some((step, tail)) = few else { return shader };
        shader.constant("STEP", step).flag("TAIL", tail).import(match self.config.reduce {
            Reduce::Shuffle => "reduce_shuffle",
            Reduce::Tree => "reduce_tree",
            _ => "reduce_none",
        })
    }
}
