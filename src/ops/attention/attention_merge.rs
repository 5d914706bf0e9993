//! Joins partial results of attention: splits of the keys, a shared prefix (cascade), shards on other devices (ring
//! attention; Liu et al., 2023).
//!
//! `o = sum_s w_s o_s / sum w` and `lse = max lse + ln(sum w)`, where `w_s = exp(lse_s - max lse)`. A part with an
//! LSE of minus infinity is the identity, and so is one whose weight is less than the smallest f32: its `o` is not looked at.
//! Sums are f32 whatever the dtypes.
//!
//! An f32 LSE loses the sum where scores are large: near 1e8 its neighbours are 8 apart. Parts may tell their maximum and
//! sum instead ([`Problem::sum`]): `w_s = sum_s exp(max_s - max)`. Then large scores cost nothing.

use super::statistics;
use crate::args::Reach;
use crate::layout::{rows_divide, split_rows};
use crate::ops::prelude::*;

defaults! {
    /// What is computed: `o [splits, rows, dim]` and `lse [splits, rows]` to `[rows, dim]` and `[rows]`, where
    /// `rows = n0 * n1 * n2` and `dims = [n1, n2]`.
    ///
    /// The default is one part of one row of one f32: sizes are yours to set.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Parts that are joined.
        pub splits: usize = 1,
        /// Rows of the result: queries of all heads and batches.
        pub rows: usize = 1,
        /// Elements per row.
        pub dim: usize = 1,
        /// Sizes of the two innermost row axes, for `out_layout`.
        pub dims: [usize; 2] = [1, 1],
        /// Dtype of the parts.
        pub x: Dtype = Dtype::F32,
        /// Dtype of the result.
        pub y: Dtype = Dtype::F32,
        /// Where the parts lie: strides of split and row.
        pub o_layout: Layout<2> = Layout::default(),
        /// The element at which `lse`, contiguous f32, starts; or the maxima, where there are sums.
        pub lse: usize = 0,
        /// The parts have maxima and sums, and these, contiguous f32 `[splits, rows]`, start at this element of their binding.
        pub sum: Option<usize> = None,
        /// Where the result lies: strides of `n0, n1, n2`. Rows must not overlap.
        pub out_layout: Layout<3> = Layout::default(),
        /// Write the joint log-sum-exp, f32 `[rows]`, from this element of its binding.
        pub lse_out: Option<usize> = None,
        /// In place of the joint log-sum-exp, write its maximum where [`lse_out`](Self::lse_out) says, and its sum from
        /// this element of the same binding.
        pub sum_out: Option<usize> = None,
    }
}

config! {
    /// How it is computed.
    pub struct Config {
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// f16 tensors are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, grid: [u32; 3]) {
        o: Strides = views.o.params(),
        o_out: Strides = views.out.params(),
        splits: u32 = p.splits as u32,
        rows: u32 = p.rows as u32,
        dim: u32 = p.dim as u32,
        chunks: u32 = p.dim as u32 / views.vec,
        n1: u32 = p.dims[0] as u32,
        n2: u32 = p.dims[1] as u32,
        lse_offset: u32 = p.lse as u32,
        sum_offset: u32 = p.sum.unwrap_or(0) as u32,
        lse_out_offset: u32 = p.lse_out.unwrap_or(0) as u32,
        has_sums_out: u32 = p.sum_out.is_some().into(),
        sums_out: u32 = (p.sum_out.unwrap_or(0) as u32).wrapping_sub(p.lse_out.unwrap_or(0) as u32),
        grid_x: u32 = grid[0],
        neg_inf: f32 = f32::NEG_INFINITY,
    }
}

/// What follows from the Problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Elements per chunk: 4 or 1.
    vec: u32,
    x: Storage,
    y: Storage,
    /// Parts have maxima and sums.
    sum: bool,
    lse_out: bool,
    /// Words of a packed output are shared by rows, or with what lies beside them.
    edge: bool,
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    o: View<2>,
    lse: View<2>,
    sum: Option<View<2>>,
    out: View<3>,
    lse_out: Option<Reach>,
    /// Elements per chunk.
    vec: u32,
    /// Chunks of all rows: an invocation each.
    chunks: u64,
}

impl Problem {
    /// `[n0, n1, n2]`, whose product is `rows`.
    pub fn sizes(&self) -> [usize; 3] {
        split_rows(self.rows, self.dims)
    }

    fn has_f16(&self) -> bool {
        [self.x, self.y].contains(&Dtype::F16)
    }

    fn pass(&self, views: &Views, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let (x, y) = (Storage::held(self.x, config.native_f16), Storage::held(self.y, config.native_f16));
        let (vec, sum, lse_out) = (views.vec, self.sum.is_some(), self.lse_out.is_some());
        let form = Form { vec, x, y, sum, lse_out, edge: vec == 1 && y.packed() };
        Pass { stem: "attention_merge", config: *config, form, writable }
    }
}

/// Rounds of an invocation's loops.
pub(super) fn rounds(splits: u64) -> Rounds {
    Rounds::plain(splits).times(2)
}

slots!(O, LSE, O_OUT, LSE_OUT, SUM);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { vec, x, y, sum, lse_out, edge } = self.form;
        self.begin(self.config.wg_size, 0, if edge { 2 } else { vec })
            .params::<Params>()
            .input(O, "o", x)
            .output(O_OUT, "o_out", y, edge)
            .reads(LSE, "lse", "f32")
            .table(SUM, "sum", "f32", sum)
            .import(if edge { "attention_merge_halves" } else { "attention_merge_chunks" })
            .writes_if(lse_out, LSE_OUT, "lse_out", "f32", "attention_merge_lse")
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `o` and `lse` (or maxima) of the parts are read, `o_out` is written.
        o, lse, o_out;
        /// The sums of the parts that the Problem asks for; they may lie in the buffer of the maxima.
        sum,
        /// The joint log-sum-exp that the Problem asks for.
        lse_out,
    }
}

functions!("attention_merge");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let Problem { splits, rows, dim, .. } = *self;
        rows_divide(rows, self.dims)?;
        sizes_fit([("splits", splits), ("rows", rows), ("dim", dim)])?;
        ErrorKind::unless(splits > 0 || rows == 0 || dim == 0, "splits", format_args!("there is nothing to join"))?;
        let o = self.o_layout.view("o", [splits, rows], dim)?;
        let lse = Layout::at(self.lse).view("lse", [splits, rows], 1)?;
        let out = self.out_layout.view("o_out", self.sizes(), dim)?.apart("out_layout")?;
        let sum = self.sum.map(|offset| Layout::at(offset).view("sum", [splits, rows], 1)).transpose()?;
        let lse_out = statistics(["lse_out", "sum_out"], [rows], self.lse_out, self.sum_out)?;
        let vec = if o.multiple_of(4) && out.multiple_of(4) { 4 } else { 1 };
        let chunks = product!(rows, dim as u64 / u64::from(vec));
        Ok(Views { o, lse, sum, out, lse_out, vec, chunks })
    }

    /// A kernel of loads and few sums: the size hardly counts.
    fn list(&self, _: &Views, caps: &Caps) -> Vec<Config> {
        let wg_size = if caps.class() == Class::Software { 8 } else { 128 };
        let native_f16 = caps.prefers_native_f16(self.has_f16());
        vec![Config { wg_size: wg_size.min(caps.most_invocations()), native_f16 }]
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        caps.check_wg_size(config.wg_size)?;
        caps.check_native_f16(config.native_f16, self.has_f16())?;
        Misfit::at_most("invocations", views.chunks, u32::MAX)?;
        caps.check_rounds(rounds(self.splits as u64))
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![self.pass(views, config, writable).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(O, "o", buffers.o, views.o.of(self.x))?;
        args.read(LSE, "lse", buffers.lse, views.lse.of(WORD))?;
        args.read(SUM, "sum", buffers.sum, views.sum.map(|view| view.of(WORD)))?;
        args.write(O_OUT, "o_out", buffers.o_out, views.out.of(self.y))?;
        args.write(LSE_OUT, "lse_out", buffers.lse_out, views.lse_out.clone())?;
        if self.rows == 0 || self.dim == 0 {
            return Ok(Dispatch::default());
        }
        args.check()?;

        let grid = args.fold(views.chunks.div_ceil(config.wg_size.into()))?;
        args.dispatch(&[self.pass(views, config, args.writable())], &Params::of(self, views, grid), grid)
    }
}
