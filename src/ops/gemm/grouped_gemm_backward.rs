//! The gradients of the matrices of [`grouped_gemm`](crate::grouped_gemm), and of its bias: over the rows i of each group,
//! `db[g] = sum dd[i]^T a[i]` and `dbias[g] = sum dd[i]`, f32, written or added to what is there. That of a is another call of
//! grouped_gemm ([`backward`](crate::grouped_gemm::backward)).
//!
//! Offsets count as in grouped_gemm, whatever they are; rows of no group have no part, and a group without rows has gradients of 0. Sums
//! run in the order of the rows: the same input gives the same bits.
//!
//! # Activations and gates
//! Multiply their derivatives in before: [`activation_backward`](crate::activation_backward) of the products, kept or made again without
//! the activation, gives dd from the gradient of d. Of a gated product its `dx` is the dd of b and its `dup` that of b2: two calls of this
//! op, and for a two of grouped_gemm, whose results are added.
//!
//! # Algorithms
//! A first step writes the range of rows of each group. Then the algorithms of [`gemm`](crate::gemm) run, but
//! [`Algorithm::Vector`]: workgroups have tiles of the groups' matrices, and walk the rows of their group. A group of many rows, next to
//! others of few, is not split. Where the binding of db is too large for the device, groups are taken in several parts.

use super::grouped_gemm::{Ranges, ends_fit};
use super::pipeline::{A, B, D, Role, SCRATCH, passes_of};
use super::prepare::Product;
use super::{Matrix, Operand, Views as ProductViews, choose as of_gemm};
use crate::args::Memory;
use crate::caps::LEAST_INVOCATIONS;
use crate::dispatch::Step;
use crate::ops::prelude::*;

pub use super::{Algorithm, Config};

defaults! {
    /// What is computed: `db` f32 of `a [m, k]` and `dd [m, n]`.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Rows of a and dd, of all groups.
        pub m: usize = 1,
        /// Columns of dd.
        pub n: usize = 1,
        /// Columns of a.
        pub k: usize = 1,
        /// Groups, at least 1.
        pub groups: usize = 1,
        /// db is `[groups, n, k]`; else `[groups, k, n]`.
        pub trans_b: bool = true,
        /// Dtype of a.
        pub a: Dtype = Dtype::F32,
        /// Where its rows lie.
        pub a_layout: Layout<1> = Layout::default(),
        /// Dtype of dd.
        pub dd: Dtype = Dtype::F32,
        /// Where its rows lie.
        pub dd_layout: Layout<1> = Layout::default(),
        /// The first of the `groups + 1` offsets in their binding.
        pub offsets: usize = 0,
        /// Offsets are i32, of which negative ones count as 0; else u32.
        pub signed: bool = false,
        /// Strides of groups and of rows of db. Rows must not overlap.
        pub db_layout: Layout<2> = Layout::default(),
        /// Write the gradient of a bias `[groups, n]`, f32, from this element of its binding on.
        pub dbias: Option<usize> = None,
        /// Gradients are added to what `db` and `dbias` hold.
        pub add: bool = false,
    }
}

/// What follows from the Problem.
pub(crate) struct Views {
    /// The product of all rows for each group; its second batch axis is that of the groups.
    all: super::Problem,
    /// That of as many rows as a group has in the mean: what tiles are chosen by.
    mean: super::Problem,
    product: ProductViews,
    a: View<1>,
    dd: View<1>,
    offsets: View<1>,
    dbias: Option<View<1>>,
}

crate::params! {
    /// What one run tells the sums of the bias.
    pub struct BiasParams;
    fn of(p: &Problem, dd: &View<1>, grid: [u32; 3]) {
        x: Strides = dd.params(),
        m: u32 = p.m as u32,
        cols: u32 = p.n as u32,
        groups: u32 = p.groups as u32,
        dbias_offset: u32 = p.dbias.unwrap_or(0) as u32,
        add: u32 = p.add.into(),
        grid_x: u32 = grid[0],
    }
}

/// What the pipeline of the bias depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct BiasForm {
    vec: u32,
    dd: Storage,
}

/// Slots of the step of the bias.
const DD: u32 = 0;
const RANGES: u32 = 1;
const DBIAS: u32 = 2;

/// Invocations of its workgroups.
const BIAS_WG: u32 = LEAST_INVOCATIONS;

impl Pipeline for Pass<(), BiasForm> {
    fn shader(&self) -> Shader {
        self.begin(BIAS_WG, 0, self.form.vec)
            .params::<BiasParams>()
            .input(DD, "x", self.form.dd)
            .reads(RANGES, "row_ranges", "vec4<u32>")
            .writes(DBIAS, "dbias", "f32")
            .import(if self.form.vec == 4 { "lora_rows4" } else { "lora_rows1" })
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `a`, `dd` and `offsets` are read, `db` is written.
        a, dd, offsets, db;
        /// The gradient of the bias that the Problem asks for.
        dbias,
        /// The caller's scratch of [`scratch_bytes`]; without it, or where it lies in a buffer that is written, that of `Kernels` is used.
        scratch,
    }
}

functions!("grouped_gemm_backward");

impl Problem {
    /// Rows of one group of db as it is stored, and the elements of a row.
    pub fn db_sizes(&self) -> ([usize; 2], usize) {
        let (rows, cols) = if self.trans_b { (self.n, self.k) } else { (self.k, self.n) };
        ([self.groups, rows], cols)
    }

    /// Operations of the product, should every row be of a group.
    pub fn flops(&self) -> f64 {
        [2, self.m, self.n, self.k].iter().map(|&size| size as f64).product()
    }

    fn ranges(&self) -> Ranges {
        Ranges { m: self.m, groups: self.groups, offsets: self.offsets, signed: self.signed }
    }

    fn bias_pass(&self, views: &Views, config: &Config, writable: Slots) -> Pass<(), BiasForm> {
        let vec = if views.dd.multiple_of(4) { 4 } else { 1 };
        let form = BiasForm { vec, dd: Storage::held(self.dd, config.native_f16) };
        Pass { stem: "grouped_gemm_backward_bias", config: (), form, writable }
    }
}

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let Problem { m, n, k, groups, trans_b, .. } = *self;
        sizes_fit([("m", m), ("n", n), ("k", k), ("groups", groups)])?;
        if groups == 0 {
            return Err(ErrorKind::invalid("groups", "there must be at least one"));
        }
        let a_view = self.a_layout.view("a", [m], k)?;
        let dd_view = self.dd_layout.view("dd", [m], n)?;
        let of_rows = |arg, layout: Layout<1>, dtype, inner| {
            let strides = layout.strides.map(|[row]| [0, 0, row]);
            let layout = Layout { offset: layout.offset, strides };
            Checked::Ok(Operand { view: layout.view(arg, [1, 1, m], inner)?, dtype })
        };
        let of_a = of_rows("a", self.a_layout, self.a, k)?;
        let of_dd = of_rows("dd", self.dd_layout, self.dd, n)?;
        // A product whose k are the rows: both sides are stored k by k.
        let (left, right) = if trans_b { (of_dd, of_a) } else { (of_a, of_dd) };
        let ([_, rows], cols) = self.db_sizes();
        let strides = self.db_layout.strides.map(|[group, row]| [0, group, row]);
        let layout = Layout { offset: self.db_layout.offset, strides };
        let db = Operand { view: layout.view("db", [1, groups, rows], cols)?, dtype: Dtype::F32 };
        db.view.apart("db")?;
        let by = |n: usize| m > 0 && [left, right].iter().all(|operand| operand.view.multiple_of(n));
        let f32 = Matrix::new(Dtype::F32);
        let all = super::Problem {
            m: rows,
            n: cols,
            k: m,
            batch: [1, groups],
            trans_a: true,
            a: Matrix::new(left.dtype),
            b: Matrix::new(right.dtype),
            d: f32,
            c: self.add.then_some(f32),
            ..super::Problem::default()
        };
        let product = ProductViews {
            trans_a: true,
            trans_b: false,
            by_fours: by(4),
            by_eights: by(8),
            packed: None,
            a: left,
            b: right,
            d: db,
            b2: None,
            c: self.add.then_some(db),
            residual: None,
            bias: None,
            scale: None,
        };
        let dbias = |at| Layout::<1>::at(at).view("dbias", [groups], n);
        Ok(Views {
            all,
            mean: super::Problem { k: m.div_ceil(groups), batch: [1, groups], ..all },
            product,
            a: a_view,
            dd: dd_view,
            offsets: Layout::<1>::at(self.offsets).view("offsets", [1], groups.saturating_add(1))?,
            dbias: self.dbias.map(dbias).transpose()?,
        })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let found = of_gemm::candidates(&views.mean, &views.product, caps);
        found.into_iter().filter(|config| config.parts == 1 && config.algorithm != Algorithm::Vector).collect()
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        of_gemm::check(&views.mean, &views.product, caps, config)?;
        let walks = u32::from(config.algorithm != Algorithm::Vector);
        Misfit::unless(walks == 1, "the algorithm must be direct, tiled or coop", walks)?;
        Misfit::unless(config.parts == 1, "k must be one part", config.parts)?;
        // One group may have all rows.
        caps.check_rounds(config.rounds(&views.all))?;
        caps.check_rounds(Rounds::plain(self.m as u64))?;
        ends_fit(caps, self.groups, 0)
    }

    /// The ranges of rows.
    fn scratch(&self, _: &Views, _: &Config) -> u64 {
        self.ranges().bytes()
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let (product, _) = passes_of(&views.mean, &views.product, config, writable, Role::ByGroup);
        let bias = self.dbias.map(|_| self.bias_pass(views, config, writable).shader());
        [Ranges::pass(writable).shader(), product.shader()].into_iter().chain(bias).collect()
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let Buffers { a, dd, offsets, db, dbias, scratch } = *buffers;
        let Problem { n, k, groups, .. } = *self;
        let bytes = self.scratch(views, config);
        let of_db = views.product.d.view.of(Dtype::F32);
        let of_dbias = views.dbias.map(|view| view.of(Dtype::F32));
        let words = || Reach::to(bytes / 4, WORD);
        // All arguments, whichever step they are of: the first writes the ranges, the others read them.
        let all = |memory: Memory, writes: bool| {
            let mut args = Args::new(kernels);
            args.read(0, "a", a, views.a.of(self.a))?;
            args.read(1, "dd", dd, views.dd.of(self.dd))?;
            args.read(2, "offsets", offsets, views.offsets.of(WORD))?;
            args.write(3, "db", db, of_db.clone())?;
            args.write(4, "dbias", dbias, of_dbias.clone())?;
            match writes {
                true => args.write(5, "scratch", memory, words())?,
                false => args.read(5, "scratch", memory, words())?,
            }
            args.check_apart()?;
            Checked::Ok(args)
        };
        let mut memory = Args::new(kernels).scratch_memory(scratch, bytes)?;
        all(memory.clone(), true)?;
        // Control flow by the ranges must be uniform to see: nothing of their buffer is written beside them.
        if all(memory.clone(), false)?.writable().has(5) {
            memory = Args::new(kernels).scratch_memory(None, bytes)?;
        }
        if n == 0 || (k == 0 && self.dbias.is_none()) {
            return Ok(Dispatch::default());
        }
        let mut steps = vec![self.ranges().step(kernels, offsets, memory.clone())?];
        let mut first = 0;
        while k > 0 && first < groups {
            let some = self.groups_of_a_binding(views, kernels, groups - first);
            steps.push(self.product(views, config, kernels, buffers, memory.clone(), (first, some))?);
            first += some;
        }
        if let Some(of_dbias) = of_dbias {
            let mut args = Args::new(kernels);
            args.read(DD, "dd", dd, views.dd.of(self.dd))?;
            args.read(RANGES, "scratch", memory, words())?;
            args.write(DBIAS, "dbias", dbias, of_dbias)?;
            args.check()?;
            let pass = self.bias_pass(views, config, args.writable());
            let chunks = product!(groups, n.div_ceil(4));
            let grid = args.fold(chunks.div_ceil(BIAS_WG.into()))?;
            steps.push(args.step(&pass, &BiasParams::of(self, &views.dd, grid), grid)?);
        }
        Ok(Dispatch::of(steps))
    }
}

impl Problem {
    /// How many of the `left` groups a binding of db holds, at least one.
    fn groups_of_a_binding(&self, views: &Views, kernels: &Kernels, left: usize) -> usize {
        let caps = kernels.caps();
        let view = views.product.d.view;
        let own = view.inner as u64 + (view.sizes[2] as u64 - 1) * view.strides[2] as u64;
        // A binding starts up to an alignment before its first element.
        let align = u64::from(caps.limits.min_storage_buffer_offset_alignment.max(4));
        let fits = |groups: usize| {
            let reach = own.saturating_add(product!(groups - 1, view.strides[1]));
            product!(reach, 4u32).saturating_add(if groups == self.groups { 0 } else { align }) <= caps.binding_bytes()
        };
        if fits(left) { left } else { (1..left).rev().find(|&groups| fits(groups)).unwrap_or(1) }
    }

    /// The step of `groups` groups from `first` on.
    fn product(
        &self,
        views: &Views,
        config: &Config,
        kernels: &Kernels,
        buffers: &Buffers,
        memory: Memory,
        (first, groups): (usize, usize),
    ) -> Checked<Step> {
        let Buffers { a, dd, mut db, .. } = *buffers;
        let (mut problem, mut product) = (views.all, views.product);
        if groups < self.groups {
            // db moves on to its first group, its binding as far as may be.
            let align = u64::from(kernels.caps().limits.min_storage_buffer_offset_alignment.max(4));
            let view = product.d.view;
            let offset = view.offset + first * view.strides[1];
            let bytes = offset as u64 * 4 / align * align;
            db = db.after(bytes);
            let layout = Layout::strided(offset - (bytes / 4) as usize, view.strides);
            product.d.view = layout.view("db", [1, groups, view.sizes[2]], view.inner)?;
        }
        // Groups up to the last of these: their number tells the first.
        problem.batch = [1, first + groups];
        let (left, right) = if self.trans_b { (("dd", dd), ("a", a)) } else { (("a", a), ("dd", dd)) };
        let mut args = Args::new(kernels);
        args.read(A, left.0, left.1, product.a.view.of(product.a.dtype))?;
        args.read(B, right.0, right.1, product.b.view.of(product.b.dtype))?;
        args.write(D, "db", db, product.d.view.of(Dtype::F32))?;
        args.read(SCRATCH, "scratch", memory, Reach::to(self.ranges().bytes() / 4, WORD))?;
        args.check()?;
        let tiles = config.workgroups(&super::Problem { batch: [1, groups], ..problem });
        if tiles > u64::from(u32::MAX) - (1 << 26) {
            return Err(ErrorKind::TooManyWorkgroups { need: tiles, limit: u32::MAX.into() });
        }
        let grid = args.fold(tiles)?;
        let (pass, _) = passes_of(&views.mean, &product, config, args.writable(), Role::ByGroup);
        let buffers = super::Buffers::new(left.1, right.1, db);
        let whole = Product { problem, views: product, config: *config, buffers, weights: None };
        args.step(&pass, &whole.params(groups as u32, grid), grid)
    }
}
