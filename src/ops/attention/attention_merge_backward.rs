//! The gradient of [`attention_merge`](super::attention_merge): of the parts and of their log-sum-exps.
//!
//! With `w_s` the weight of part `s` as there, divided by the sum of all, `g_s = do . o_s` and `delta = sum_s w_s g_s`:
//! `do_s = w_s do` and `dlse_s = w_s (g_s - delta + dlse)`. [`attention_backward`](super::attention_backward) takes both of them for the call
//! that gave the part. A part that counts nothing gets 0, whatever its `o`. Sums are f32 whatever the dtypes.

use super::attention_merge;
use crate::ops::prelude::*;

defaults! {
    /// What is computed: `d_parts [splits, rows, dim]` and `dlse_parts [splits, rows]`.
    ///
    /// The default is that of attention_merge's default.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// The call that has been made; `lse_out` and `sum_out` say nothing here. The gradient of its result has the dtype of that, the gradients
        /// of parts have the dtype of parts.
        pub forward: attention_merge::Problem = attention_merge::Problem::default(),
        /// Where the gradient of the result lies: as `forward.out_layout`.
        pub do_layout: Layout<3> = Layout::default(),
        /// The gradient of the joint log-sum-exp, contiguous f32 `[rows]`, from this element of its binding.
        pub dlse: Option<usize> = None,
        /// Where the gradients of parts lie: strides of split and row. Rows must not overlap.
        pub d_parts_layout: Layout<2> = Layout::default(),
        /// The element at which `dlse_parts`, contiguous f32, starts.
        pub dlse_parts: usize = 0,
    }
}

config! {
    /// How it is computed.
    pub struct Config {
        /// Invocations per workgroup, each with a row.
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
        d_o: Strides = views.d_o.params(),
        d_parts: Strides = views.d_parts.params(),
        splits: u32 = p.forward.splits as u32,
        rows: u32 = p.forward.rows as u32,
        dim: u32 = p.forward.dim as u32,
        chunks: u32 = p.forward.dim as u32 / views.vec,
        n1: u32 = p.forward.dims[0] as u32,
        n2: u32 = p.forward.dims[1] as u32,
        lse_offset: u32 = p.forward.lse as u32,
        sum_offset: u32 = p.forward.sum.unwrap_or(0) as u32,
        dlse_offset: u32 = p.dlse.unwrap_or(0) as u32,
        dlse_parts_offset: u32 = p.dlse_parts as u32,
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
    dlse: bool,
    /// Words of a packed output are shared by rows, or with what lies beside them.
    edge: bool,
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    o: View<2>,
    lse: View<2>,
    sum: Option<View<2>>,
    d_o: View<3>,
    dlse: Option<View<1>>,
    d_parts: View<2>,
    dlse_parts: View<2>,
    /// Elements per chunk.
    vec: u32,
}

impl Problem {
    /// Of this call of attention_merge, without options of its own.
    pub fn new(forward: attention_merge::Problem) -> Problem {
        Problem { forward, ..Problem::default() }
    }

    fn pass(&self, views: &Views, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let (x, y) =
            (Storage::held(self.forward.x, config.native_f16), Storage::held(self.forward.y, config.native_f16));
        let (vec, sum, dlse) = (views.vec, self.forward.sum.is_some(), self.dlse.is_some());
        let form = Form { vec, x, y, sum, dlse, edge: vec == 1 && x.packed() };
        Pass { stem: "attention_merge_backward", config: *config, form, writable }
    }

    fn has_f16(&self) -> bool {
        [self.forward.x, self.forward.y].contains(&Dtype::F16)
    }
}

slots!(O, LSE, SUM, D_O, DLSE, D_PARTS, DLSE_PARTS);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { vec, x, y, sum, dlse, edge } = self.form;
        self.begin(self.config.wg_size, 0, if edge { 2 } else { vec })
            .params::<Params>()
            .input(O, "o", x)
            .reads(LSE, "lse", "f32")
            .table(SUM, "sum", "f32", sum)
            .input(D_O, "d_o", y)
            .table(DLSE, "dlse", "f32", dlse)
            .output(D_PARTS, "d_parts", x, edge)
            .writes(DLSE_PARTS, "dlse_parts", "f32")
            .import(if edge { "attention_merge_backward_halves" } else { "attention_merge_backward_chunks" })
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `o` and `lse` (or maxima) of the parts and the gradient of the result are read; the gradients of parts and of their
        /// log-sum-exps are written.
        o, lse, d_o, d_parts, dlse_parts;
        /// The sums of the parts that the Problem has; they may lie in the buffer of the maxima.
        sum,
        /// The gradient of the joint log-sum-exp that the Problem has.
        dlse,
    }
}

functions!("attention_merge_backward");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let attention_merge::Problem { splits, rows, dim, .. } = self.forward;
        self.forward.resolve()?;
        let sizes = [splits, rows];
        let o = self.forward.o_layout.view("o", sizes, dim)?;
        let d_o = self.do_layout.view("do", self.forward.sizes(), dim)?;
        let d_parts = self.d_parts_layout.view("d_parts", sizes, dim)?.apart("d_parts_layout")?;
        let fours = o.multiple_of(4) && d_o.multiple_of(4) && d_parts.multiple_of(4);
        Ok(Views {
            lse: Layout::at(self.forward.lse).view("lse", sizes, 1)?,
            sum: self.forward.sum.map(|at| Layout::at(at).view("sum", sizes, 1)).transpose()?,
            dlse: self.dlse.map(|at| Layout::at(at).view("dlse", [rows], 1)).transpose()?,
            dlse_parts: Layout::at(self.dlse_parts).view("dlse_parts", sizes, 1)?,
            vec: if fours { 4 } else { 1 },
            o,
            d_o,
            d_parts,
        })
    }

    /// A kernel of loads and few sums: the size hardly counts.
    fn list(&self, _: &Views, caps: &Caps) -> Vec<Config> {
        let wg_size = if caps.class() == Class::Software { 8 } else { 64 };
        let native_f16 = caps.prefers_native_f16(self.has_f16());
        vec![Config { wg_size: wg_size.min(caps.most_invocations()), native_f16 }]
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        caps.check_wg_size(config.wg_size)?;
        caps.check_native_f16(config.native_f16, self.has_f16())?;
        let splits = self.forward.splits as u64;
        let row = Rounds::nest(splits, Rounds::plain(self.forward.dim as u64 / u64::from(views.vec)));
        caps.check_rounds(Rounds::plain(splits) + row.times(2))
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![self.pass(views, config, writable).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let (x, y) = (self.forward.x, self.forward.y);
        let mut args = Args::new(kernels);
        args.read(O, "o", buffers.o, views.o.of(x))?;
        args.read(LSE, "lse", buffers.lse, views.lse.of(WORD))?;
        args.read(SUM, "sum", buffers.sum, views.sum.map(|view| view.of(WORD)))?;
        args.read(D_O, "do", buffers.d_o, views.d_o.of(y))?;
        args.read(DLSE, "dlse", buffers.dlse, views.dlse.map(|view| view.of(WORD)))?;
        args.write(D_PARTS, "d_parts", buffers.d_parts, views.d_parts.of(x))?;
        args.write(DLSE_PARTS, "dlse_parts", buffers.dlse_parts, views.dlse_parts.of(WORD))?;
        if self.forward.rows == 0 || self.forward.splits == 0 {
            return Ok(Dispatch::default());
        }
        args.check()?;
        let grid = args.fold((self.forward.rows as u64).div_ceil(config.wg_size.into()))?;
        args.dispatch(&[self.pass(views, config, args.writable())], &Params::of(self, views, grid), grid)
    }
}
