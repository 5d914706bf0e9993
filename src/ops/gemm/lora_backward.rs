//! Gradients of the factors of [`lora`](crate::lora): `da = (scale dy b)^T x` and `db = dy^T (scale x a^T)`, f32, each adapter's over the rows
//! that name it, in their order: the same input gives the same bits. They are written, or added to what is there. Rows whose adapter does not exist have no part, and an
//! adapter without rows has gradients of 0.
//!
//! Two steps write `scale x a^T` and `scale dy b`, f32 `[m, rank]` each, to scratch; two more go through the rows.

use super::lora::{Down, check_sizes};
use crate::caps::LEAST_INVOCATIONS;
use crate::ops::prelude::*;

defaults! {
    /// What is computed: `da [adapters, rank, k]` and `db [adapters, n, rank]`, f32, contiguous.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Rows of x and dy.
        pub m: usize = 1,
        /// Columns of dy.
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
        /// Gradients are added to what `da` and `db` hold.
        pub add: bool = false,
        /// Dtype of x.
        pub x: Dtype = Dtype::F32,
        /// Where its rows lie.
        pub x_layout: Layout<1> = Layout::default(),
        /// Dtype of dy.
        pub dy: Dtype = Dtype::F32,
        /// Where its rows lie.
        pub dy_layout: Layout<1> = Layout::default(),
        /// Dtype of a.
        pub a: Dtype = Dtype::F32,
        /// Strides of adapters and of rows of a, `[adapters, rank, k]`.
        pub a_layout: Layout<2> = Layout::default(),
        /// Dtype of b.
        pub b: Dtype = Dtype::F32,
        /// Strides of adapters and of rows of b, `[adapters, n, rank]`.
        pub b_layout: Layout<2> = Layout::default(),
        /// The first element of da in its binding.
        pub da: usize = 0,
        /// The first element of db in its binding.
        pub db: usize = 0,
    }
}

config! {
    /// How it is computed.
    pub struct Config {
        /// Invocations per workgroup, each with four columns of x or dy.
        pub wg_size: u32,
        /// Ranks of an invocation, fours.
        pub ranks: u32,
        /// f16 tensors are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

/// What the pipeline of the sums depends on besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    vec: u32,
    x: Storage,
}

/// What follows from the Problem.
pub(crate) struct Views {
    /// t of x and a, and t of dy and b.
    downs: [Down; 2],
    da: View<1>,
    db: View<1>,
}

crate::params! {
    /// What one run tells the sums.
    pub struct Params;
    fn of(p: &Problem, x: &View<1>, out_offset: usize, steps: [usize; 2], grid: [u32; 3]) {
        x: Strides = x.params(),
        m: u32 = p.m as u32,
        cols: u32 = x.inner as u32,
        ranks: u32 = p.rank as u32,
        quads: u32 = p.rank.div_ceil(4) as u32,
        adapters: u32 = p.adapters as u32,
        out_offset: u32 = out_offset as u32,
        step_rank: u32 = steps[0] as u32,
        step_col: u32 = steps[1] as u32,
        add: u32 = p.add.into(),
        grid_x: u32 = grid[0],
    }
}

slots!(X, T, OUT);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        self.begin(self.config.wg_size, 0, self.form.vec)
            .params::<Params>()
            .constant("RANKS", self.config.ranks)
            .input(X, "x", self.form.x)
            .reads(T, "t", "vec4<u32>")
            .writes(OUT, "out", "f32")
            .import(if self.form.vec == 4 { "lora_rows4" } else { "lora_rows1" })
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x`, `dy`, `a` and `b` are read, `da` and `db` written.
        x, dy, a, b, da, db;
        /// The number of each row's adapter.
        adapter,
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("lora_backward");

impl Problem {
    /// Operations.
    pub fn flops(&self) -> f64 {
        4.0 * self.m as f64 * self.rank as f64 * (self.n as f64 + self.k as f64)
    }

    fn pass(&self, down: &Down, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let fours = down.x.multiple_of(4);
        let form = Form { vec: if fours { 4 } else { 1 }, x: Storage::held(down.x_dtype, config.native_f16) };
        Pass { stem: "lora_backward", config: *config, form, writable }
    }
}

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let Problem { m, n, k, rank, adapters, scale, adapter, .. } = *self;
        check_sizes(m, n, k, rank, adapters, scale)?;
        let down = |x: View<1>, x_dtype, left: View<2>, left_dtype, along_k, k| Down {
            x,
            left,
            x_dtype,
            left_dtype,
            along_k,
            m,
            k,
            rank,
            adapters,
            scale,
            adapter,
        };
        let x = self.x_layout.view("x", [m], k)?;
        let dy = self.dy_layout.view("dy", [m], n)?;
        let a = self.a_layout.view("a", [adapters, rank], k)?;
        let b = self.b_layout.view("b", [adapters, n], rank)?;
        let downs = [down(x, self.x, a, self.a, true, k), down(dy, self.dy, b, self.b, false, n)];
        Layout::<1>::default().view("scratch", [m], 4 * (rank.div_ceil(4) + 1))?;
        if let Some(first) = adapter {
            Layout::<1>::at(first).view("adapter", [1], m)?;
        }
        let flat = |arg, offset, rows: usize, cols: usize| {
            let rows = adapters.saturating_mul(rows);
            Layout::<1>::at(offset).view(arg, [rows], cols)
        };
        Ok(Views { downs, da: flat("da", self.da, rank, k)?, db: flat("db", self.db, n, rank)? })
    }

    fn list(&self, _: &Views, caps: &Caps) -> Vec<Config> {
        // Software adapters: a vector of their CPU. Not measured elsewhere.
        let wg_size = if caps.class() == Class::Software { 8 } else { LEAST_INVOCATIONS };
        let f16 = [self.x, self.dy, self.a, self.b].contains(&Dtype::F16);
        let ranks = if self.rank <= 4 { 4 } else { 8 };
        vec![Config { wg_size, ranks, native_f16: caps.prefers_native_f16(f16) }]
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let Config { wg_size, ranks, native_f16 } = *config;
        caps.check_wg_size(wg_size)?;
        caps.check_native_f16(native_f16, [self.x, self.dy, self.a, self.b].contains(&Dtype::F16))?;
        Misfit::unless(ranks > 0 && ranks.is_multiple_of(4), "ranks must be fours", ranks)?;
        Misfit::at_most("ranks", ranks, 32u32)?;
        let (each, vecs) = (Rounds::plain(ranks), Rounds::nest(ranks / 4, Rounds::plain(4u32)));
        caps.check_rounds(each + Rounds::nest(self.m as u64, vecs) + Rounds::nest(ranks, Rounds::plain(4u32)))?;
        views.downs.iter().try_for_each(|down| down.check(caps))
    }

    /// t of both.
    fn scratch(&self, views: &Views, _: &Config) -> u64 {
        2 * (views.downs[0].bytes().saturating_add(255) / 256 * 256).min(u64::MAX / 2)
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let down = |down: &Down| down.pass(config.native_f16, writable).shader();
        let sums = |down: &Down| self.pass(down, config, writable).shader();
        let [t, u] = &views.downs;
        vec![down(t), down(u), sums(t), sums(u)]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let Buffers { x, dy, a, b, da, db, adapter, scratch } = *buffers;
        let Views { downs: [of_x, of_dy], da: da_view, db: db_view } = views;
        let bytes = self.scratch(views, config);
        let memory = Args::new(kernels).scratch_memory(scratch, bytes)?;
        let part = |i: u64| memory.part(i * bytes / 2, of_x.bytes());
        // All arguments, whichever step they are of.
        let mut all = Args::new(kernels);
        all.read(0, "x", x, of_x.x.of(self.x))?;
        all.read(1, "dy", dy, of_dy.x.of(self.dy))?;
        all.read(2, "a", a, of_x.left.of(self.a))?;
        all.read(3, "b", b, of_dy.left.of(self.b))?;
        let end = self.adapter.map(|first| first.saturating_add(self.m) as u64);
        all.read(4, "adapter", adapter, end.map(|end| Reach::to(end, WORD)))?;
        all.write(5, "da", da, da_view.of(Dtype::F32))?;
        all.write(6, "db", db, db_view.of(Dtype::F32))?;
        all.write(7, "scratch", memory.clone(), Reach::to(bytes / 4, WORD))?;
        all.check()?;
        let mut steps = Vec::new();
        if self.m > 0 {
            for (down, names, given, t) in [(of_x, ["x", "a"], [x, a], 0), (of_dy, ["dy", "b"], [dy, b], 1)] {
                let args = down.args(kernels, names, given, adapter, part(t))?;
                steps.push(down.step(&args, config.native_f16)?);
            }
        }
        // Of a, the sums of x by t of dy; of b, those of dy by t of x.
        let of_a = (of_x, "x", x, 1, "da", da, da_view, self.da, [self.k, 1]);
        let of_b = (of_dy, "dy", dy, 0, "db", db, db_view, self.db, [1, self.rank]);
        for (down, name, wide, t, out_name, out, out_view, offset, strides) in [of_a, of_b] {
            if down.k == 0 {
                continue;
            }
            let mut args = Args::new(kernels);
            args.read(X, name, wide, down.x.of(down.x_dtype))?;
            args.read(T, "scratch", part(t), Reach::to(of_x.bytes() / 4, WORD))?;
            args.write(OUT, out_name, out, out_view.of(Dtype::F32))?;
            let cols = down.k.div_ceil(4 * config.wg_size as usize);
            let blocks = product!(self.adapters, cols, down.quads().div_ceil(config.ranks as usize / 4));
            let grid = args.fold(blocks)?;
            let params = Params::of(self, &down.x, offset, strides, grid);
            steps.push(args.step(&self.pass(down, config, args.writable()), &params, grid)?);
        }
        Ok(Dispatch::of(steps))
    }
}
