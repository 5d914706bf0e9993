//! Attention biases that depend on the distance of query and key, written out as `[heads, seq_q, seq_kv]`: for
//! attention that cannot take them directly, and as an additive mask of [`softmax`](crate::softmax).
//!
//! Query `i` stands at `i + seq_kv - seq_q`, so that the last query is at the last key.
//! * ALiBi (Press et al., "Train short, test long", 2022): `-slope[head] * |i + seq_kv - seq_q - j|`. The paper's
//!   slopes: [`alibi_slopes`].
//! * T5 (Raffel et al., 2020): `table[bucket(j - i - seq_kv + seq_q), head]`, a learned table of [`Buckets`].

use super::attention_bias_backward;
use crate::layout::chunks;
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
        /// Dtype of the bias.
        pub bias: Dtype = Dtype::F32,
        /// Strides of head and query. Rows must not overlap.
        pub bias_layout: Layout<2> = Layout::default(),
        /// The rule that the bias follows.
        pub kind: Kind = Kind::Alibi { offset: 0 },
    }
}

/// The rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// ALiBi.
    Alibi {
        /// The element of their binding at which the slopes, f32 `[heads]`, start.
        offset: usize,
    },
    /// T5.
    T5 {
        /// How distances are sorted.
        buckets: Buckets,
        /// Dtype of the table.
        dtype: Dtype,
        /// Where the table `[num_buckets, heads]` lies: strides of both.
        layout: Layout<2>,
    },
}

impl Kind {
    fn buckets(&self) -> Option<Buckets> {
        match *self {
            Kind::Alibi { .. } => None,
            Kind::T5 { buckets, .. } => Some(buckets),
        }
    }
}

/// How T5 sorts distances: small ones each for itself, larger ones by their logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Buckets {
    /// Rows of the table; even where keys on both sides have buckets.
    pub num_buckets: usize,
    /// From here on all are in the last one.
    pub max_distance: usize,
    /// Half of the buckets are for keys behind their query; without, all of these are in bucket 0 (a decoder).
    pub bidirectional: bool,
}

impl Buckets {
    /// T5's own: 32 buckets up to a distance of 128.
    pub const fn t5(bidirectional: bool) -> Buckets {
        Buckets { num_buckets: 32, max_distance: 128, bidirectional }
    }

    /// The bucket of a key so far behind (positive) or before (negative) its query, as `_relative_position_bucket` of
    /// Hugging Face's T5 has it, which computes in f32.
    pub fn bucket(&self, relative_position: i64) -> usize {
        let half = self.num_buckets / 2;
        let (buckets, first, distance) = match self.bidirectional {
            true => (half, if relative_position > 0 { half } else { 0 }, relative_position),
            false => (self.num_buckets, 0, relative_position.min(0)),
        };
        let (distance, exact) = (distance.unsigned_abs() as usize, buckets / 2);
        if distance < exact {
            return first + distance;
        }
        let ln = |value: f64| value.ln() as f32;
        let far = ln(f64::from(distance as f32 / exact as f32)) / ln(self.max_distance as f64 / exact as f64);
        first + (exact + (far * (buckets - exact) as f32) as usize).min(buckets.saturating_sub(1))
    }

    pub(super) fn check(&self) -> Checked {
        let Buckets { num_buckets, max_distance, bidirectional } = *self;
        let (least, kind) = if bidirectional { (4, "an even number") } else { (2, "a number") };
        let fits = (least..=1 << 20).contains(&num_buckets) && !(bidirectional && num_buckets % 2 == 1);
        ErrorKind::unless(fits, "num_buckets", format_args!("{num_buckets} is not {kind} from {least} to 2^20"))?;
        let first = num_buckets / least + 1;
        let fits = (first..=1 << 20).contains(&max_distance);
        ErrorKind::unless(fits, "max_distance", format_args!("{max_distance} is not from {first} to 2^20"))
    }

    /// The buckets of `-max_distance` to `max_distance`; beyond, nothing changes.
    fn words(&self) -> Vec<u32> {
        let reach = self.max_distance as i64;
        (-reach..=reach).map(|distance| self.bucket(distance) as u32).collect()
    }
}

/// The gradient of the slopes or of the table, contiguous, where that of the bias lies as the bias does.
pub fn backward(problem: &Problem) -> attention_bias_backward::Problem {
    let Problem { heads, seq_q, seq_kv, bias, bias_layout, kind } = *problem;
    let kind = match kind {
        Kind::Alibi { .. } => attention_bias_backward::Kind::Alibi { offset: 0 },
        Kind::T5 { buckets, .. } => attention_bias_backward::Kind::T5 { buckets, layout: Layout::default() },
    };
    attention_bias_backward::Problem { heads, seq_q, seq_kv, dbias: bias, dbias_layout: bias_layout, kind, add: false }
}

/// ALiBi's slopes: `2^(-8 i / n)` for i from 1 to n heads where n is a power of two; else those of the next smaller
/// power of two, and then each second one of twice that.
pub fn alibi_slopes(heads: usize) -> Vec<f32> {
    let of = |n: usize| (1..=n).map(move |i| (-8.0 * i as f64 / n as f64).exp2() as f32);
    let power = (heads + 1).next_power_of_two() / 2;
    match power {
        0 => Vec::new(),
        power => of(power).chain(of(2 * power).step_by(2)).take(heads).collect(),
    }
}

config! {
    /// How it is computed.
    pub struct Config {
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// Queries that an invocation writes a chunk of.
        pub queries: u32,
        /// An f16 bias is held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, config: &Config, chunks: u32, grid: [u32; 3]) {
        bias: Strides = views.bias.params(),
        table: Strides = views.table.params(),
        heads: u32 = p.heads as u32,
        seq_q: u32 = p.seq_q as u32,
        seq_kv: u32 = p.seq_kv as u32,
        chunks: u32 = chunks,
        groups: u32 = (p.seq_q as u32).div_ceil(config.queries),
        queries_per: u32 = config.queries,
        grid_x: u32 = grid[0],
        num_buckets: u32 = p.kind.buckets().map_or(0, |buckets| buckets.num_buckets as u32),
        reach: i32 = p.kind.buckets().map_or(0, |buckets| buckets.max_distance as i32),
    }
}

/// What follows from the Problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Elements per chunk: 4, 2 (a word of packed 16-bit output) or 1.
    vec: u32,
    bias: Storage,
    /// Of T5's table; none for ALiBi.
    table: Option<Dtype>,
    /// Words of a packed bias are shared by rows, or with what lies beside them.
    edge: bool,
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    bias: View<2>,
    /// `[num_buckets, heads]`, or slopes `[1, heads]`.
    table: View<2>,
}

impl Problem {
    fn has_f16(&self) -> bool {
        self.bias == Dtype::F16
    }

    fn form(&self, views: &Views, native_f16: bool) -> Form {
        let bias = Storage::held(self.bias, native_f16);
        let vec = match bias {
            _ if views.bias.multiple_of(4) => 4,
            bias if bias.packed() => 2,
            _ => 1,
        };
        let table = match self.kind {
            Kind::Alibi { .. } => None,
            Kind::T5 { dtype, .. } => Some(dtype),
        };
        Form { vec, bias, table, edge: vec == 2 && !views.bias.multiple_of(2) }
    }

    /// An invocation per chunk of `queries` rows.
    fn invocations(&self, views: &Views, config: &Config) -> u64 {
        let chunks = chunks(self.seq_kv, self.form(views, config.native_f16).vec);
        product!(self.heads, self.seq_q.div_ceil(config.queries as usize), chunks)
    }

    /// `queries` is a parameter, the rest of the Config names the pipeline.
    fn pass(&self, views: &Views, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let form = self.form(views, config.native_f16);
        Pass { stem: "attention_bias", config: Config { queries: 1, ..*config }, form, writable }
    }
}

/// A row of the table: the tiles of one class of adapters.
struct Row {
    adapters: Adapters,
    wg_size: u32,
    /// Queries per invocation, at most.
    queries: u32,
    /// Invocations to reach by giving each fewer queries.
    fill: u64,
}

/// Measured on: Software, Mesa 26.2 lavapipe on 2 cores, where finding one's place by divisions costs more than a chunk:
/// `[16, 1024, 1024]` ALiBi takes 37 ms in f32 and 39 ms in f16 with one query per invocation, 29 ms and 10 ms with 64. The
/// others are not measured yet.
const TABLE: [Row; 3] = [
    Row { adapters: Class::Software.any(), wg_size: 64, queries: 64, fill: 256 },
    Row { adapters: Class::Integrated.any(), wg_size: 128, queries: 4, fill: 1 << 14 },
    Row { adapters: Class::Discrete.any(), wg_size: 256, queries: 4, fill: 1 << 17 },
];

slots!(BIAS, SLOPES_OR_TABLE, BUCKETS);

/// Dtypes of T5's table, as the shader calls them.
const TABLE_KINDS: [(&str, Dtype); 3] =
    [("TABLE_F32", Dtype::F32), ("TABLE_F16", Dtype::F16), ("TABLE_BF16", Dtype::Bf16)];

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { vec, bias, table, edge } = self.form;
        let shader = self.begin(self.config.wg_size, 0, vec).params::<Params>().output(BIAS, "bias", bias, edge);
        let shader = shader.gather("distance_bias");
        match table {
            None => shader.reads(SLOPES_OR_TABLE, "slopes", "f32").import("attention_bias_alibi"),
            Some(dtype) => shader
                .constants(TABLE_KINDS.map(|(name, kind)| (name, kind as u32)))
                .constant("TABLE_KIND", dtype as u32)
                .reads(SLOPES_OR_TABLE, "table", "u32")
                .reads(BUCKETS, "buckets", "u32")
                .import("attention_bias_t5"),
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `bias` is written.
        bias;
        /// The slopes that ALiBi asks for.
        slopes,
        /// The table that T5 asks for.
        table,
    }
}

impl<'a> Buffers<'a> {
    /// ALiBi: `bias` is written.
    pub fn alibi(slopes: impl Into<Binding<'a>>, bias: impl Into<Binding<'a>>) -> Self {
        Buffers::new(bias).slopes(slopes)
    }

    /// T5: `bias` is written.
    pub fn t5(table: impl Into<Binding<'a>>, bias: impl Into<Binding<'a>>) -> Self {
        Buffers::new(bias).table(table)
    }
}

functions!("attention_bias");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        for (arg, n) in [("heads", self.heads), ("seq_q", self.seq_q), ("seq_kv", self.seq_kv)] {
            ErrorKind::unless(n <= u32::MAX as usize / 4, arg, format_args!("{n} is more than 2^30 - 1"))?;
        }
        let bias = self.bias_layout.view("bias", [self.heads, self.seq_q], self.seq_kv)?.apart("bias_layout")?;
        let table = match self.kind {
            Kind::Alibi { offset } => Layout::at(offset).view("slopes", [1, self.heads], 1)?,
            Kind::T5 { buckets, layout, .. } => {
                buckets.check()?;
                layout.view("table", [buckets.num_buckets, self.heads], 1)?
            }
        };
        Ok(Views { bias, table })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let row = caps.row(&TABLE, |row| row.adapters);
        let native_f16 = caps.prefers_native_f16(self.has_f16());
        let wg_size = row.wg_size.min(caps.most_invocations());
        let mut config = Config { wg_size, queries: row.queries, native_f16 };
        while config.queries > 1 && self.invocations(views, &config) < row.fill {
            config.queries /= 2;
        }
        vec![config]
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        caps.check_wg_size(config.wg_size)?;
        caps.check_native_f16(config.native_f16, self.has_f16())?;
        Misfit::unless(config.queries > 0, "queries must be at least 1", config.queries)?;
        // Numbers of invocations are u32, those past the end of the grid included.
        let room = u64::from(u32::MAX).saturating_sub(u64::from(config.wg_size) << 16);
        Misfit::at_most("invocations", self.invocations(views, config), room)?;
        caps.check_rounds(Rounds::plain((self.seq_q as u64).min(config.queries.into())))
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![self.pass(views, config, writable).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let (slopes, table) = match self.kind {
            Kind::Alibi { .. } => (Some(views.table.of(WORD)), None),
            Kind::T5 { dtype, .. } => (None, Some(views.table.of(dtype))),
        };
        let mut args = Args::new(kernels);
        args.write(BIAS, "bias", buffers.bias, views.bias.of(self.bias))?;
        args.read(SLOPES_OR_TABLE, "slopes", buffers.slopes, slopes)?;
        args.read(SLOPES_OR_TABLE, "table", buffers.table, table)?;
        if [self.heads, self.seq_q, self.seq_kv].contains(&0) {
            return Ok(Dispatch::default());
        }
        if let Some(buckets) = self.kind.buckets() {
            args.table(BUCKETS, "buckets", &buckets.words())?;
        }
        args.check()?;

        let grid = args.fold(self.invocations(views, config).div_ceil(config.wg_size.into()))?;
        let pass = self.pass(views, config, args.writable());
        let params = Params::of(self, views, config, chunks(self.seq_kv, pass.form.vec), grid);
        args.dispatch(&[pass], &params, grid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_of_the_paper() {
        assert_eq!(alibi_slopes(8), [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625]);
        // 16 heads start at 2^-0.5.
        let sixteen = alibi_slopes(16);
        assert_eq!((sixteen.len(), sixteen[0], sixteen[1]), (16, std::f32::consts::FRAC_1_SQRT_2, 0.5));
        // 12 heads: those of 8, and 2^-0.5, 2^-1.5, 2^-2.5, 2^-3.5.
        let twelve = alibi_slopes(12);
        assert_eq!(twelve[..8], alibi_slopes(8));
        assert_eq!(twelve[8..], [-0.5f32, -1.5, -2.5, -3.5].map(|e| (f64::from(e)).exp2() as f32));
        assert_eq!(alibi_slopes(1), [1.0 / 256.0]);
        assert_eq!(alibi_slopes(3), [1.0 / 16.0, 1.0 / 256.0, 0.25]);
        assert_eq!(alibi_slopes(0), []);
    }

    #[test]
    fn buckets_of_t5() {
        // Encoder: 16 buckets each way, 8 exact, then floor(8 ln(d / 8) / ln 16): 12 makes 1.17, 16 makes 2, 90 makes
        // 6.98, 91 makes 7.02.
        let encoder = Buckets::t5(true);
        for (distance, bucket) in [(0, 0), (1, 1), (7, 7), (8, 8), (11, 8), (12, 9), (15, 9), (16, 10), (31, 11)] {
            assert_eq!(encoder.bucket(-distance), bucket, "{distance}");
        }
        for (distance, bucket) in [(32, 12), (64, 14), (90, 14), (91, 15), (127, 15), (128, 15), (100_000, 15)] {
            assert_eq!(encoder.bucket(-distance), bucket, "{distance}");
            assert_eq!(encoder.bucket(distance), 16 + bucket, "{distance}");
        }
        assert_eq!(encoder.bucket(1), 17);
        // Decoder: 16 exact, then 16 floor(16 ln(d / 16) / ln 8): 18 makes 0.91, 19 makes 1.32, 113 makes 15.04.
        let decoder = Buckets::t5(false);
        for (distance, bucket) in [(0, 0), (15, 15), (16, 16), (18, 16), (19, 17), (112, 30), (113, 31), (4096, 31)] {
            assert_eq!(decoder.bucket(-distance), bucket, "{distance}");
        }
        assert_eq!(decoder.bucket(5), 0);
        let words = encoder.words();
        assert_eq!((words.len(), words[0], words[128], words[129], words[256]), (257, 15, 0, 17, 31));
    }
}
