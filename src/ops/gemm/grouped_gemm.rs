//! Products of rows that are sorted by group, in one call: `d[i] = act(a[i] b[g]^T + bias[g])` for the rows i of group g, which are
//! those from `offsets[g]` to `offsets[g + 1]`. The experts of a mixture: their tokens are sorted, each has a matrix of weights.
//! With a second right-hand side the product is gated, as in [`gemm`](crate::gemm).
//!
//! Offsets come from a buffer and may be anything: each counts as at least those before it, and as at most m; so no row is of two
//! groups. Rows of no group are 0.
//!
//! # Algorithms
//! A first step writes a table of tiles, each with rows of one group: at most `m / tile + groups + 2` of them. Then the
//! algorithms of [`gemm`](crate::gemm) run, whose workgroups find their rows in the table; those of tiles that are not there end at once. An
//! empty group has no tile. Tiles are chosen by rows per group: one to eight go by [`Algorithm::Vector`].
//!
//! Where the binding of b is too large for the device, groups are taken in several parts; packed weights are refused then.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 shared cores: 4096 rows, drawn for 64 groups of 512 x 1024 f16, took 1.34, 0.96, 1.31 and 0.82 of the time of one product of
//! as many rows (four runs in turns, under load; 30 to 52 GFLOP/s).

use super::gemm_quant::{self, Weights};
use super::grouped_gemm_backward;
use super::pipeline::{A, B, B2, C, D, Role, SCALE, SCRATCH, passes_of};
use super::prepare::Product;
use super::{Activation, Epilogue, Matrix, Operand, Views as ProductViews, choose as of_gemm};
use crate::args::Memory;
use crate::caps::LEAST_INVOCATIONS;
use crate::dispatch::Step;
use crate::norm::Vector;
use crate::ops::prelude::*;
use crate::weights::{Format, Scales};

pub use super::{Algorithm, Config};

defaults! {
    /// What is computed: `d [m, n]` of `a [m, k]` and `b [groups, n, k]`.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Rows of a and d, of all groups.
        pub m: usize = 1,
        /// Columns of d.
        pub n: usize = 1,
        /// Columns of a.
        pub k: usize = 1,
        /// Groups, at least 1.
        pub groups: usize = 1,
        /// b is stored `[groups, n, k]`, as weights are; else `[groups, k, n]`.
        pub trans_b: bool = true,
        /// Dtype of a.
        pub a: Dtype = Dtype::F32,
        /// Where its rows lie.
        pub a_layout: Layout<1> = Layout::default(),
        /// Dtype of b.
        pub b: Dtype = Dtype::F32,
        /// Strides of groups and of rows of b.
        pub b_layout: Layout<2> = Layout::default(),
        /// b is packed weights `[n, k]` of this format per group, or where gated `[2 n, k]` with the gate above: all codes, one matrix after
        /// the other, in the buffer of b, all scales likewise in that of the scales. Its dtype and layout have no say then.
        pub format: Option<Format> = None,
        /// Dtype of d.
        pub d: Dtype = Dtype::F32,
        /// Where its rows lie. They must not overlap.
        pub d_layout: Layout<1> = Layout::default(),
        /// The first of the `groups + 1` offsets in their binding.
        pub offsets: usize = 0,
        /// Offsets are i32, of which negative ones count as 0; else u32.
        pub signed: bool = false,
        /// `[groups, n]`, added before the activation. Not where gated.
        pub bias: Option<Vector> = None,
        /// Applied to the sum of product and bias.
        pub activation: Activation = Activation::None,
        /// The second right-hand side, in the dtype and strides of b, from this element of its binding: the activated
        /// product of b is multiplied by that of b2. Of packed weights 0, without a binding.
        pub gate: Option<usize> = None,
    }
}

/// What [`backward`] gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backward {
    /// The gradient of a, in its dtype and layout: another product of the same groups; not where b is packed. Buffers: (dd, b, offsets, da).
    pub da: Option<Problem>,
    /// Those of b, contiguous, and of the bias, if there is one; f32. Buffers: (a, dd, offsets, db), and dbias.
    pub db: grouped_gemm_backward::Problem,
}

/// The gradients of a Problem without activation and gate, where that of d lies as d does.
///
/// # Errors
/// Of a Problem with an activation or a gate: multiply its derivative in before ([`grouped_gemm_backward`](crate::grouped_gemm_backward)).
pub fn backward(problem: &Problem) -> Result<Backward> {
    let Problem { m, n, k, groups, a, a_layout, d, d_layout, trans_b, offsets, signed, .. } = *problem;
    crate::ops::named::<Problem, _>(|| {
        if problem.activation != Activation::None || problem.gate.is_some() {
            return Err(ErrorKind::invalid("activation", "gradients are those of a plain product"));
        }
        let turned = Problem { n: k, k: n, trans_b: !trans_b, bias: None, ..*problem };
        let da = Problem { a: d, a_layout: d_layout, d: a, d_layout: a_layout, ..turned };
        let db = grouped_gemm_backward::Problem { m, n, k, groups, trans_b, offsets, signed, ..Default::default() };
        let dbias = problem.bias.map(|_| 0);
        let db = grouped_gemm_backward::Problem { a, a_layout, dd: d, dd_layout: d_layout, dbias, ..db };
        Ok(Backward { da: problem.format.is_none().then_some(da), db })
    })
}

/// What follows from the Problem.
pub(crate) struct Views {
    /// The product of all rows; its second batch axis is that of the groups.
    all: super::Problem,
    /// Products of as many rows as a group has in the mean: what tiles are chosen by.
    mean: super::Problem,
    product: ProductViews,
    offsets: View<1>,
    bias: Option<View<2>>,
}

crate::params! {
    /// What one run tells the first step.
    pub struct TableParams;
    fn of(p: &Ranges, first: usize, groups: usize, slots: u64) {
        offset: u32 = p.offsets as u32,
        m: u32 = p.m as u32,
        // Items of the groups before these, and those of all offsets that count.
        first: u32 = first as u32,
        last: u32 = (first + groups + 1) as u32,
        each: u32 = (first + groups + 2).div_ceil(TABLE_WG as usize) as u32,
        rest: u32 = u32::from(first + groups == p.groups),
        is_signed: u32 = p.signed.into(),
        slots: u32 = slots as u32,
    }
}

/// The slots of the first step, and that of the offsets in the second, which does not declare them.
const OFFSETS: u32 = 0;
const TABLE: u32 = 1;
const OFFSETS_LATER: u32 = 9;

/// Invocations of the first step.
const TABLE_WG: u32 = LEAST_INVOCATIONS;

/// The first step: rows of a tile are its form.
impl Pipeline for Pass<(), u32> {
    fn shader(&self) -> Shader {
        self.begin(TABLE_WG, 4 * TABLE_WG, 1)
            .params::<TableParams>()
            .constant("ROWS", self.form)
            .reads(OFFSETS, "offsets", "u32")
            .writes(TABLE, "scratch", "vec4<u32>")
    }
}

/// What the first step reads. Without slots of tiles it writes the range of rows of each group only: group g is number g + 1, as
/// (.., first row, end, g).
#[derive(Clone, Copy)]
pub(super) struct Ranges {
    pub m: usize,
    pub groups: usize,
    pub offsets: usize,
    pub signed: bool,
}

impl Ranges {
    /// Its pipeline, where there are no tiles.
    pub fn pass(writable: Slots) -> Pass<(), u32> {
        Pass { stem: "grouped_gemm", config: (), form: 1, writable }
    }

    /// Bytes of the ranges: of the groups, and of what is before and behind them.
    pub fn bytes(&self) -> u64 {
        product!((self.groups as u64).saturating_add(2), 16u32)
    }

    /// The step that writes them.
    pub fn step(&self, kernels: &Kernels, offsets: Binding, memory: Memory) -> Checked<Step> {
        let view = Layout::<1>::at(self.offsets).view("offsets", [1], self.groups.saturating_add(1))?;
        let mut args = Args::new(kernels);
        args.read(OFFSETS, "offsets", offsets, view.of(WORD))?;
        args.write(TABLE, "scratch", memory, Reach::to(self.bytes() / 4, WORD))?;
        args.check()?;
        args.step(&Ranges::pass(args.writable()), &TableParams::of(self, 0, self.groups, 0), [1, 1, 1])
    }
}

/// Whether the loops of the first step fit.
pub(super) fn ends_fit(caps: &Caps, groups: usize, slots: u64) -> Result<(), Misfit> {
    let (each, wg) = ((groups as u64 + 2).div_ceil(TABLE_WG.into()), u64::from(TABLE_WG));
    let steps = Rounds::plain(TABLE_WG.ilog2()).times(2);
    let items = Rounds::plain(each).times(3);
    let search = Rounds::nest(slots.div_ceil(wg), Rounds::plain(32u32));
    caps.check_rounds(steps + items + search)
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `a`, `b` and `offsets` are read, `d` is written.
        a, b, offsets, d;
        /// The second right-hand side of a gated product.
        b2,
        /// Scales of packed weights, whose codes are b.
        scales,
        /// The bias that the Problem asks for.
        bias,
        /// The caller's scratch of [`scratch_bytes`]; without it, or where it lies in the buffer of d, that of `Kernels` is used.
        scratch,
    }
}

functions!("grouped_gemm");

impl Problem {
    /// Rows of one group of b as it is stored, and the elements of a row.
    pub fn b_sizes(&self) -> ([usize; 2], usize) {
        let (rows, cols) = if self.trans_b { (self.n, self.k) } else { (self.k, self.n) };
        ([self.groups, rows], cols)
    }

    fn products(&self) -> usize {
        1 + usize::from(self.gate.is_some())
    }

    /// Refuses packed weights that a group cannot have.
    fn check_format(&self, format: &Format) -> Checked {
        format.check(self.k)?;
        if !self.trans_b || self.b_layout != Layout::default() || self.gate.is_some_and(|offset| offset > 0) {
            return Err(ErrorKind::invalid("format", "packed weights are [n, k], one matrix after the other"));
        }
        let flat = format.scales == Scales::Flat && self.groups > 1;
        if format.order > 0 || flat {
            let reason = "groups have neither an order of columns nor scales that run across rows";
            return Err(ErrorKind::invalid("format", reason));
        }
        let rows = self.n.saturating_mul(self.products());
        let words = format.code_bytes(rows, self.k).max(format.scale_bytes(rows, self.k)) / 4;
        match product!(words, self.groups).max(product!(rows, self.k)) {
            last if last > u32::MAX.into() => Err(ErrorKind::IndexOverflow { arg: "b", last: last.into() }),
            _ => Ok(()),
        }
    }

    /// The product of packed weights of as many rows as a group has in the mean.
    fn quant(&self, views: &Views) -> Option<gemm_quant::Problem> {
        let super::Problem { m, n, k, a, d, .. } = views.mean;
        let (format, gated) = (self.format?, self.gate.is_some());
        Some(gemm_quant::Problem { m, n, k, format, a, d, gated, ..Default::default() })
    }

    /// The product of a group, `all` being that of all rows by each group.
    fn mean(&self, all: &super::Problem) -> super::Problem {
        super::Problem { m: self.m.div_ceil(self.groups), batch: [1, self.groups.min(self.m)], ..*all }
    }

    /// Packed weights, and the Config as gemm has it.
    fn weights(&self, config: &Config) -> (Option<Weights>, Config) {
        let quant = gemm_quant::Config::within(config);
        let weights = self.format.map(|format| Weights::of(format, self.k, self.groups, quant));
        (weights, if weights.is_some() { quant.inner() } else { *config })
    }

    /// Operations of the product, should every row be of a group.
    pub fn flops(&self) -> f64 {
        [2, self.products(), self.m, self.n, self.k].iter().map(|&size| size as f64).product()
    }

    fn ranges(&self) -> Ranges {
        Ranges { m: self.m, groups: self.groups, offsets: self.offsets, signed: self.signed }
    }

    /// Tiles of rows of `groups` groups and of none, at most.
    fn slots(&self, config: &Config, groups: usize) -> u64 {
        let rows = u64::from(config.tile[0].max(1));
        ((self.m as u64 + (groups as u64 + 2) * (rows - 1)) / rows).min(self.m as u64)
    }
}

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let Problem { m, n, k, groups, trans_b, gate, activation, .. } = *self;
        sizes_fit([("m", m), ("n", n), ("k", k), ("groups", groups)])?;
        if groups == 0 {
            return Err(ErrorKind::invalid("groups", "there must be at least one"));
        }
        if gate.is_some() && self.bias.is_some() {
            return Err(ErrorKind::invalid("bias", "a gated product has none"));
        }
        let operand = |arg, dtype, strides: Layout<3>, sizes: [usize; 3], inner| {
            Checked::Ok(Operand { view: strides.view(arg, sizes, inner)?, dtype })
        };
        let rows =
            |layout: Layout<1>| Layout { offset: layout.offset, strides: layout.strides.map(|[row]| [0, 0, row]) };
        let ([_, b_rows], b_cols) = self.b_sizes();
        let of_b = |offset| {
            let strides = self.b_layout.strides.map(|[group, row]| [0, group, row]);
            (Layout { offset, strides }, [1, groups, b_rows], b_cols)
        };
        let (layout, sizes, cols) = of_b(self.b_layout.offset);
        let a = operand("a", self.a, rows(self.a_layout), [1, 1, m], k)?;
        let b = match self.format {
            None => operand("b", self.b, layout, sizes, cols)?,
            // Rows of weights are counted: a matrix has so many.
            Some(format) => {
                self.check_format(&format)?;
                let rows = format.rows(n.saturating_mul(self.products())) as usize;
                operand("b", Dtype::F32, Layout::strided(0, [0, rows, 0]), [1, groups, 1], 1)?
            }
        };
        let d = operand("d", self.d, rows(self.d_layout), [1, 1, m], n)?;
        d.view.apart("d")?;
        let gate_of_b = gate.filter(|_| self.format.is_none());
        let b2 = gate_of_b.map(|offset| operand("b2", self.b, of_b(offset).0, sizes, cols)).transpose()?;
        let bias = self.bias.map(|bias| Layout::<2>::at(bias.offset).view("bias", [1, groups], n)).transpose()?;
        // A row of the bias for all rows of a group: that is a c.
        let c = self.bias.map(|Vector { dtype, offset }| {
            operand("bias", dtype, Layout::strided(offset, [0, n, 0]), [1, groups, m.max(1)], n)
        });
        let c = c.transpose()?;
        let packed = self.format.map(|format| format.coded(gate.is_none() || n.is_multiple_of(4)));
        let right = Some(b).filter(|_| packed.is_none());
        let by = |n: usize| k > 0 && [Some(a), right, b2].iter().flatten().all(|operand| operand.view.multiple_of(n));
        let (by_fours, by_eights) = (by(4) && k.is_multiple_of(4), by(8));
        let of = Matrix::new;
        let (a_matrix, b_matrix, d_matrix) = (of(self.a), of(self.b), of(self.d));
        let all = super::Problem {
            m,
            n,
            k,
            batch: [1, groups],
            trans_b,
            a: a_matrix,
            b: b_matrix,
            d: d_matrix,
            c: self.bias.map(|bias| Matrix::new(bias.dtype)),
            epilogue: Epilogue { activation, gate, ..Epilogue::default() },
            ..super::Problem::default()
        };
        let mean = self.mean(&all);
        let (residual, no_bias, scale) = (None, None, None);
        let product = ProductViews {
            trans_a: false,
            trans_b,
            by_fours,
            by_eights,
            packed,
            a,
            b,
            d,
            b2,
            c,
            residual,
            bias: no_bias,
            scale,
        };
        let offsets = Layout::<1>::at(self.offsets).view("offsets", [1], groups.saturating_add(1))?;
        Ok(Views { all, mean, product, offsets, bias })
    }

    /// So many rows in each group.
    fn without_batch(&self) -> Problem {
        Problem { m: BATCH.saturating_mul(self.groups), ..*self }
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let mean = self.mean(&views.all);
        let quant = self.quant(views).map(|quant| gemm_quant::Problem { m: mean.m, ..quant });
        let few = quant.map_or(Vec::new(), |quant| quant.few(caps));
        let few = few.into_iter().map(|config| Config { algorithm: Algorithm::Vector, ..config.inner() });
        let found = of_gemm::candidates(&mean, &views.product, caps);
        few.chain(found).filter(|config| config.parts == 1).collect()
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        match self.quant(views) {
            Some(quant) => quant.check(&views.product, caps, &gemm_quant::Config::within(config))?,
            None => {
                of_gemm::check(&views.mean, &views.product, caps, config)?;
                Misfit::unless(!config.few_columns(&views.mean), "few columns of d must not be taken for rows", 1u32)?;
            }
        }
        Misfit::unless(config.parts == 1, "k must be one part", config.parts)?;
        ends_fit(caps, self.groups, self.slots(config, self.groups))
    }

    /// The table of tiles, and the ranges of rows that it is made of.
    fn scratch(&self, _: &Views, config: &Config) -> u64 {
        product!(self.slots(config, self.groups).saturating_add(self.groups as u64 + 2), 16u32)
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let first = Pass { stem: "grouped_gemm", config: (), form: config.tile[0], writable };
        let (weights, inner) = self.weights(config);
        let (second, _) = passes_of(&views.mean, &views.product, &inner, writable, Role::Grouped);
        vec![first.shader(), weights.map_or_else(|| second.shader(), |weights| weights.pass(second).shader())]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let Call { args, .. } = self.call(views, config, kernels, buffers, None)?;
        if self.m == 0 || self.n == 0 {
            return Ok(Dispatch::default());
        }
        args.check_apart()?;
        let limit = args.caps.binding_bytes();
        let mut steps = Vec::new();
        let mut first = 0;
        while first < self.groups {
            // As many groups as a binding holds, but at least one.
            let fits = |groups: usize| {
                let view = views.product.b.view;
                let own = view.inner as u64 + (view.sizes[2] as u64 - 1) * view.strides[2] as u64;
                let reach = own.saturating_add(product!(groups - 1, view.strides[1]));
                // A binding starts up to an alignment before its first element.
                let align = u64::from(args.caps.limits.min_storage_buffer_offset_alignment.max(4));
                product!(reach, self.b.bytes()).saturating_add(if groups == self.groups { 0 } else { align }) <= limit
            };
            let left = self.groups - first;
            let groups = if self.format.is_some() || self.k == 0 || fits(left) {
                left
            } else {
                (1..left).rev().find(|&n| fits(n)).unwrap_or(1)
            };
            let part = if groups == self.groups { None } else { Some((first, groups)) };
            steps.extend(self.call(views, config, kernels, buffers, part)?.steps(self, views, config)?);
            first += groups;
        }
        Ok(Dispatch::of(steps))
    }
}

/// Both steps of some groups, and their arguments.
struct Call<'a, 'k> {
    first: usize,
    groups: usize,
    product: Product<'a>,
    /// Of the first step.
    table: Args<'k>,
    /// Of the second.
    args: Args<'k>,
}

impl Problem {
    /// The call of `part`, which is a first group and how many there are, or of all of them.
    fn call<'a, 'k>(
        &self,
        views: &Views,
        config: &Config,
        kernels: &'k Kernels,
        buffers: &Buffers<'a>,
        part: Option<(usize, usize)>,
    ) -> Checked<Call<'a, 'k>> {
        let Buffers { a, mut b, offsets, d, mut b2, scales, bias, scratch } = *buffers;
        let (first, groups) = part.unwrap_or((0, self.groups));
        let (mut problem, mut product) = (views.all, views.product);
        problem.batch = [1, groups];
        if part.is_some() {
            let caps = kernels.caps();
            let align = u64::from(caps.limits.min_storage_buffer_offset_alignment.max(4));
            // b moves on to its first group, its binding as far as may be.
            let moved = |operand: &Operand, binding: &mut Binding<'a>| {
                let Operand { view, dtype } = *operand;
                let offset = view.offset + first * view.strides[1];
                let bytes = offset as u64 * dtype.bytes() / align * align;
                *binding = binding.after(bytes);
                let layout = Layout::strided(offset - (bytes / dtype.bytes()) as usize, view.strides);
                let [_, _, rows] = view.sizes;
                Checked::Ok(Operand { view: layout.view("b", [1, groups, rows], view.inner)?, dtype })
            };
            product.b = moved(&product.b, &mut b)?;
            if let (Some(operand), Some(binding)) = (&mut product.b2, &mut b2) {
                *operand = moved(operand, binding)?;
            }
            if let Some(c) = &mut product.c {
                c.view.offset += first * self.n;
            }
        }
        let reach = |operand: Operand| operand.view.of(operand.dtype);
        let bias_reach = views.bias.zip(self.bias).map(|(view, bias)| view.of(bias.dtype));
        let mut args = Args::new(kernels);
        args.read(A, "a", a, reach(product.a))?;
        let (weights, inner) = self.weights(config);
        match weights {
            None => {
                args.read(B, "b", b, reach(product.b))?;
                args.read(B2, "b2", b2, product.b2.map(reach))?;
                args.read(SCALE, "scales", scales, None)?;
            }
            Some(weights) => {
                args.read(B, "b", b, Reach::to(weights.code_bytes(&problem) / 4, WORD))?;
                args.read(B2, "scales", scales, Reach::to(weights.scale_bytes(&problem) / 4, WORD))?;
                args.read(SCALE, "b2", b2, None)?;
            }
        }
        args.read(C, "bias", bias, bias_reach)?;
        args.read(OFFSETS_LATER, "offsets", offsets, views.offsets.of(WORD))?;
        args.write(D, "d", d, reach(product.d))?;
        let bytes = self.scratch(views, config);
        let (mut memory, words) = (args.scratch_memory(scratch, bytes)?, Reach::to(bytes / 4, WORD));
        if scratch.is_some() {
            // The first step writes what the second reads.
            let mut trial = args.clone();
            trial.write(SCRATCH, "scratch", memory.clone(), words.clone())?;
            trial.check_apart()?;
        }
        // Control flow by the table must be uniform to see: nothing of its buffer is written beside it.
        let mut trial = args.clone();
        trial.read(SCRATCH, "scratch", memory.clone(), words.clone())?;
        if trial.writable().has(SCRATCH) {
            memory = args.scratch_memory(None, bytes)?;
        }
        args.read(SCRATCH, "scratch", memory.clone(), words.clone())?;
        let mut table = Args::new(kernels);
        table.read(OFFSETS, "offsets", offsets, views.offsets.of(WORD))?;
        table.write(TABLE, "scratch", memory, words)?;
        let buffers = super::Buffers::new(a, b, d);
        let product = Product { problem, views: product, config: inner, buffers, weights };
        Ok(Call { first, groups, product, table, args })
    }
}

impl Call<'_, '_> {
    fn steps(&self, problem: &Problem, views: &Views, config: &Config) -> Checked<[Step; 2]> {
        let Call { first, groups, product, table, args } = self;
        table.check()?;
        args.check()?;
        let slots = problem.slots(config, *groups);
        let form = config.tile[0];
        let tables = Pass { stem: "grouped_gemm", config: (), form, writable: table.writable() };
        let params = TableParams::of(&problem.ranges(), *first, *groups, slots);
        let one = table.step(&tables, &params, [1, 1, 1])?;
        let workgroups = product!(slots, problem.n.div_ceil(config.tile[1].max(1) as usize));
        if workgroups > u64::from(u32::MAX) - (1 << 26) {
            return Err(ErrorKind::TooManyWorkgroups { need: workgroups, limit: u32::MAX.into() });
        }
        let grid = args.fold(workgroups)?;
        let (pass, _) = passes_of(&views.mean, &product.views, &product.config, args.writable(), Role::Grouped);
        let params = product.params(slots as u32, grid);
        let two = match product.weights {
            Some(weights) => args.step(&weights.pass(pass), &params, grid)?,
            None => args.step(&pass, &params, grid)?,
        };
        Ok([one, two])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_follow_the_rows_of_a_group() {
        for caps in crate::caps::presets() {
            let of = |m| choose(&caps, &Problem { m, n: 512, k: 1024, groups: 64, ..Problem::default() }).unwrap();
            for m in [8, 64, 256] {
                assert_eq!(of(m).algorithm, Algorithm::Vector, "{} {m}", caps.name);
            }
            assert!(of(2048).tile[0] <= 32 && of(1 << 16).tile[0] >= 16, "{}", caps.name);
        }
    }

    #[test]
    fn the_table_has_room_for_what_groups_waste() {
        let problem = Problem { m: 100, groups: 4, ..Problem::default() };
        let caps = crate::caps::presets().pop().unwrap();
        let config = Config { tile: [16, 32, 4], ..choose(&caps, &problem).unwrap() };
        // Ranges of 1 row each, and one of all others.
        assert_eq!(problem.slots(&config, 4), 11);
        assert_eq!(Problem { m: 3, ..problem }.slots(&config, 4), 3);
    }
}
