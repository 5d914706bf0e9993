//! The gradients of what [`attention_bias`](crate::attention_bias) is made of, from that of the bias, `dbias [heads, seq_q, seq_kv]`: with
//! the distance `r = j - (i + seq_kv - seq_q)` of key j and query i,
//! * T5: `dtable[bucket, head]` = sum of `dbias[head, i, j]` over all pairs whose distance falls into the bucket;
//! * ALiBi: `dslopes[head]` = -sum of `|r| dbias[head, i, j]`;
//!
//! f32, written or added to what is there, as layers that share a table need it. dbias is the gradient of an additive mask
//! ([`attention_backward`](crate::attention_backward)'s `dmask`), or of scores ([`softmax_backward`](crate::softmax_backward)).
//!
//! # Algorithm
//! A distance is a diagonal of dbias. A first step adds up diagonals within blocks of queries, neighbours having neighbouring diagonals, so
//! that dbias is read once and in runs. A bucket is a run of distances: a workgroup per bucket and head adds up its sums of the blocks. No
//! atomics: the same input gives the same bits.

use super::attention_bias::Buckets;
use crate::ops::prelude::*;

defaults! {
    /// What is computed.
    ///
    /// The default is ALiBi of one query and one key: sizes are yours to set.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// With slopes or tables per batch, batch times heads.
        pub heads: usize = 1,
        /// Queries.
        pub seq_q: usize = 1,
        /// Keys.
        pub seq_kv: usize = 1,
        /// Dtype of the gradient of the bias.
        pub dbias: Dtype = Dtype::F32,
        /// Strides of head and query.
        pub dbias_layout: Layout<2> = Layout::default(),
        /// What the bias is made of.
        pub kind: Kind = Kind::Alibi { offset: 0 },
        /// The gradient is added to what `dslopes` or `dtable` holds.
        pub add: bool = false,
    }
}

/// What the bias is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// ALiBi.
    Alibi {
        /// The element of their binding at which the gradients of the slopes, f32 `[heads]`, start.
        offset: usize,
    },
    /// T5.
    T5 {
        /// How distances are sorted.
        buckets: Buckets,
        /// Where the gradient of the table `[num_buckets, heads]`, f32, lies: strides of both. Elements must not overlap.
        layout: Layout<2>,
    },
}

/// Distances beyond are those of no pair.
const FAR: i32 = 1 << 29;

/// Of each bucket the first of its distances, and one past the last.
fn runs(buckets: &Buckets) -> Vec<u32> {
    let reach = buckets.max_distance as i32;
    let mut all = vec![[0i32; 2]; buckets.num_buckets];
    for distance in -reach..=reach {
        let run = &mut all[buckets.bucket(distance.into())];
        let first = if distance == -reach { -FAR } else { distance };
        let end = if distance == reach { FAR } else { distance + 1 };
        *run = if run[0] == run[1] { [first, end] } else { [run[0].min(first), run[1].max(end)] };
    }
    all.as_flattened().iter().map(|&distance| distance as u32).collect()
}

config! {
    /// How it is computed.
    pub struct Config {
        /// Invocations per workgroup, a power of two.
        pub wg_size: u32,
        /// Queries of a block.
        pub queries: u32,
        /// An f16 dbias is held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

crate::params! {
    /// What one run tells the shaders.
    pub struct Params;
    fn of(p: &Problem, views: &Views, config: &Config, grid: [u32; 3]) {
        dbias: Strides = views.dbias.params(),
        out: Strides = views.out.params(),
        heads: u32 = p.heads as u32,
        seq_q: u32 = p.seq_q as u32,
        seq_kv: u32 = p.seq_kv as u32,
        queries: u32 = config.queries,
        blocks: u32 = p.seq_q.div_ceil(config.queries as usize) as u32,
        width: u32 = p.width(config) as u32,
        sums: u32 = views.sums as u32,
        add: u32 = p.add.into(),
        grid_x: u32 = grid[0],
    }
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    dbias: View<2>,
    /// `[num_buckets, heads]`, or slopes `[1, heads]`.
    out: View<2>,
    /// Sums of a head: buckets, or 1.
    sums: usize,
}

/// A row of the table: the tiles of one class of adapters.
struct Row {
    adapters: Adapters,
    wg_size: u32,
    queries: u32,
}

/// Not measured.
const TABLE: [Row; 3] = [
    Row { adapters: Class::Software.any(), wg_size: 8, queries: 128 },
    Row { adapters: Class::Integrated.any(), wg_size: 64, queries: 64 },
    Row { adapters: Class::Discrete.any(), wg_size: 128, queries: 64 },
];

slots!(DBIAS, SUMS, OUT, RUNS);

/// What the pipeline of the first step depends on besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Diagonals(Storage);

impl Pipeline for Pass<Config, Diagonals> {
    fn shader(&self) -> Shader {
        let shader = self.begin(self.config.wg_size, 0, 1).params::<Params>();
        shader.input(DBIAS, "dbias", self.form.0).writes(SUMS, "sums", "f32")
    }
}

/// What the pipeline of the second step depends on besides: whether it is T5's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Bucketed(bool);

impl Pipeline for Pass<Config, Bucketed> {
    fn shader(&self) -> Shader {
        let wg_size = self.config.wg_size;
        let shader = self.begin(wg_size, wg_size.saturating_mul(4), 1).params::<Params>().constant("LANES", wg_size);
        let shader = shader.writes(SUMS, "sums", "f32").writes(OUT, "out", "f32").import("reduce_tree");
        match self.form.0 {
            true => shader.reads(RUNS, "runs", "u32").import("attention_bias_backward_t5"),
            false => shader.import("attention_bias_backward_alibi"),
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `dbias` is read.
        dbias;
        /// The gradient of the slopes, which ALiBi asks for.
        dslopes,
        /// The gradient of the table, which T5 asks for.
        dtable,
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

impl<'a> Buffers<'a> {
    /// ALiBi: `dslopes` is written.
    pub fn alibi(dbias: impl Into<Binding<'a>>, dslopes: impl Into<Binding<'a>>) -> Self {
        Buffers::new(dbias).dslopes(dslopes)
    }

    /// T5: `dtable` is written.
    pub fn t5(dbias: impl Into<Binding<'a>>, dtable: impl Into<Binding<'a>>) -> Self {
        Buffers::new(dbias).dtable(dtable)
    }
}

functions!("attention_bias_backward");

impl Problem {
    /// Diagonals of a block of queries.
    fn width(&self, config: &Config) -> usize {
        self.seq_kv.saturating_add(config.queries as usize).saturating_sub(1)
    }

    /// Sums of diagonals: none without elements.
    fn diagonals(&self, config: &Config) -> u64 {
        match self.seq_kv {
            0 => 0,
            _ => product!(self.heads, self.seq_q.div_ceil(config.queries.max(1) as usize), self.width(config)),
        }
    }

    fn first(&self, config: &Config, writable: Slots) -> Pass<Config, Diagonals> {
        let form = Diagonals(Storage::held(self.dbias, config.native_f16));
        // Queries of a block are a parameter.
        let config = Config { queries: 1, ..*config };
        Pass { stem: "attention_bias_backward_diagonals", config, form, writable }
    }

    fn second(&self, config: &Config, writable: Slots) -> Pass<Config, Bucketed> {
        let form = Bucketed(matches!(self.kind, Kind::T5 { .. }));
        let config = Config { queries: 1, native_f16: false, ..*config };
        Pass { stem: "attention_bias_backward", config, form, writable }
    }
}

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        for (arg, n) in [("heads", self.heads), ("seq_q", self.seq_q), ("seq_kv", self.seq_kv)] {
            ErrorKind::unless(n < FAR as usize, arg, format_args!("{n} is more than 2^29 - 1"))?;
        }
        let dbias = self.dbias_layout.view("dbias", [self.heads, self.seq_q], self.seq_kv)?;
        let (out, sums) = match self.kind {
            Kind::Alibi { offset } => (Layout::at(offset).view("dslopes", [1, self.heads], 1)?, 1),
            Kind::T5 { buckets, layout } => {
                buckets.check()?;
                let view = layout.view("dtable", [buckets.num_buckets, self.heads], 1)?;
                (view.apart("dtable")?, buckets.num_buckets)
            }
        };
        Ok(Views { dbias, out, sums })
    }

    fn list(&self, _: &Views, caps: &Caps) -> Vec<Config> {
        let row = caps.row(&TABLE, |row| row.adapters);
        let native_f16 = caps.prefers_native_f16(self.dbias == Dtype::F16);
        vec![Config { wg_size: row.wg_size.min(caps.most_invocations()), queries: row.queries, native_f16 }]
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        let Config { wg_size, queries, native_f16 } = *config;
        caps.check_wg_size(wg_size)?;
        caps.check_native_f16(native_f16, self.dbias == Dtype::F16)?;
        Misfit::unless(wg_size.is_power_of_two(), "wg_size must be a power of two", wg_size)?;
        Misfit::unless((1..=1 << 16).contains(&queries), "queries must be 1 to 2^16", queries)?;
        let bytes = wg_size.saturating_mul(4);
        Misfit::at_most("bytes of workgroup memory", bytes, caps.limits.max_compute_workgroup_storage_size)?;
        // Numbers of sums are u32, those past the end of the grid included.
        let room = u64::from(u32::MAX).saturating_sub(u64::from(wg_size) << 16);
        let most = self.diagonals(config).max(product!(views.sums, self.heads));
        Misfit::at_most("sums of diagonals", most, room)?;
        let each = Rounds::plain((self.width(config) as u64).div_ceil(wg_size.into()));
        let blocks = Rounds::nest(self.seq_q.div_ceil(queries as usize) as u64, each);
        caps.check_rounds(Rounds::plain(queries))?;
        caps.check_rounds(blocks + Rounds::plain(wg_size.ilog2()))
    }

    fn scratch(&self, _: &Views, config: &Config) -> u64 {
        product!(self.diagonals(config).max(1), 4u32)
    }

    fn compose(&self, _: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![self.first(config, writable).shader(), self.second(config, writable).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let (dslopes, dtable) = match self.kind {
            Kind::Alibi { .. } => (Some(views.out.of(WORD)), None),
            Kind::T5 { .. } => (None, Some(views.out.of(WORD))),
        };
        let mut args = Args::new(kernels);
        args.read(DBIAS, "dbias", buffers.dbias, views.dbias.of(self.dbias))?;
        args.write(OUT, "dslopes", buffers.dslopes, dslopes)?;
        args.write(OUT, "dtable", buffers.dtable, dtable)?;
        args.scratch(SUMS, buffers.scratch, self.scratch(views, config))?;
        if self.heads == 0 {
            return Ok(Dispatch::default());
        }
        if let Kind::T5 { buckets, .. } = self.kind {
            args.table(RUNS, "buckets", &runs(&buckets))?;
        }
        args.check()?;

        let mut steps = Vec::new();
        let diagonals = self.diagonals(config);
        if diagonals > 0 {
            let grid = args.fold(diagonals.div_ceil(config.wg_size.into()))?;
            let params = Params::of(self, views, config, grid);
            steps.push(args.step(&self.first(config, args.writable()), &params, grid)?);
        }
        // Without elements the sums are 0.
        let grid = args.fold(product!(views.sums, self.heads))?;
        let none = Problem { seq_q: if diagonals > 0 { self.seq_q } else { 0 }, ..*self };
        let params = Params::of(&none, views, config, grid);
        steps.push(args.step(&self.second(config, args.writable()), &params, grid)?);
        Ok(Dispatch::of(steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_a_run_of_distances() {
        for num_buckets in [4, 6, 32, 64, 320] {
            for max_distance in [81, 128, 800, 5000] {
                for bidirectional in [true, false] {
                    let buckets = Buckets { num_buckets, max_distance, bidirectional };
                    if buckets.check().is_err() {
                        continue;
                    }
                    let runs = runs(&buckets);
                    let inside = |bucket: usize, distance: i32| {
                        (runs[2 * bucket] as i32..runs[2 * bucket + 1] as i32).contains(&distance)
                    };
                    for distance in -6000..6000 {
                        let own = buckets.bucket(distance.into());
                        let all: Vec<usize> = (0..num_buckets).filter(|&b| inside(b, distance)).collect();
                        assert_eq!(all, [own], "{buckets:?} {distance}");
                    }
                }
            }
        }
    }
}
