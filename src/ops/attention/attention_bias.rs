//! Attention biases that depend on the distance of query and key, written out as `[heads, seq_q, seq_kv]`: for
//! attention that cannot take them directly, and as an additive mask of [`softmax`](crate::softmax).
//!
//! Query `i` stands at `i + seq_kv - seq_q`, so that the last query is at the last key.
//! * ALiBi (Press et al., "Train short, test long", 2022): `-slope[head] * |i + seq_kv - seq_q - j|`. The paper's
//!   slopes: [`alibi_slopes`].
//! * T5 (Raffel et al., 2020): `table[bucket(j - i - seq_kv + seq_q), head]`, a learned table of [`Buckets`].

use crate::compose::{Shader, Storage, Tensor, write_flags};
use crate::dispatch::{Arg, check_all, fold, given, read_write};
use crate::kernels::Pipeline;
use crate::layout::View;
use crate::layout::chunks;
use crate::{Binding, Caps, Dispatch, Dtype, Error, ErrorKind, Kernels, Layout, Misfit, Result, caps::Class};

const OP: &str = "attention_bias";

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Problem {
    /// With slopes or tables per batch, batch times heads.
    pub heads: usize,
    pub seq_q: usize,
    pub seq_kv: usize,
    /// Dtype of the bias.
    pub bias: Dtype,
    /// Strides of head and query. Rows must not overlap.
    pub bias_layout: Layout<2>,
    pub kind: Kind,
}

/// The rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Slopes are f32 `[heads]`, from this element of their binding.
    Alibi { offset: usize },
    /// `[num_buckets, heads]` of this dtype, strides of both.
    T5 { buckets: Buckets, dtype: Dtype, layout: Layout<2> },
}

/// How T5 sorts distances: small ones each for itself, larger ones by their logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Buckets {
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
        let (buckets, first) = match self.bidirectional {
            true => (self.num_buckets / 2, if relative_position > 0 { self.num_buckets / 2 } else { 0 }),
            false => (self.num_buckets, 0),
        };
        let distance = match self.bidirectional {
            true => relative_position.unsigned_abs() as usize,
            false => relative_position.min(0).unsigned_abs() as usize,
        };
        let exact = buckets / 2;
        if distance < exact {
            return first + distance;
        }
        let ln = |value: f64| value.ln() as f32;
        let far = ln(f64::from(distance as f32 / exact as f32)) / ln(self.max_distance as f64 / exact as f64);
        first + (exact + (far * (buckets - exact) as f32) as usize).min(buckets - 1)
    }

    fn check(&self) -> Result<()> {
        let invalid = |arg, reason| Err(Error { op: OP, kind: ErrorKind::InvalidProblem { arg, reason } });
        let Buckets { num_buckets, max_distance, bidirectional } = *self;
        let least = if bidirectional { 4 } else { 2 };
        if num_buckets < least || num_buckets > 1 << 20 || (bidirectional && num_buckets % 2 == 1) {
            let kind = if bidirectional { "an even number" } else { "a number" };
            return invalid("num_buckets", format!("{num_buckets} is not {kind} from {least} to 2^20"));
        }
        let exact = num_buckets / least;
        match max_distance > exact && max_distance <= 1 << 20 {
            true => Ok(()),
            false => invalid("max_distance", format!("{max_distance} is not from {} to 2^20", exact + 1)),
        }
    }

    /// The buckets of `-max_distance` to `max_distance`; beyond, nothing changes.
    fn words(&self) -> Vec<u32> {
        let reach = self.max_distance as i64;
        (-reach..=reach).map(|distance| self.bucket(distance) as u32).collect()
    }
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

impl Default for Problem {
    /// ALiBi of one query and one key: sizes are yours to set.
    fn default() -> Self {
        let kind = Kind::Alibi { offset: 0 };
        Problem { heads: 1, seq_q: 1, seq_kv: 1, bias: Dtype::F32, bias_layout: Layout::default(), kind }
    }
}

/// How it is computed. `queries` is a parameter, the rest names a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    /// Invocations per workgroup.
    pub wg_size: u32,
    /// Queries that an invocation writes a chunk of.
    pub queries: u32,
    pub form: Form,
}

/// What the Problem, the device and the buffers decide of a Config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    /// Elements per chunk: 4, 2 (a word of packed 16-bit output) or 1.
    pub vec: u32,
    pub bias: Storage,
    /// Of T5's table; none for ALiBi.
    pub table: Option<Dtype>,
    /// Words of a packed bias are shared by rows, or with what lies beside them.
    pub edge: bool,
    /// Slopes or table lie in a buffer that is written. Set by `prepare`.
    pub table_writable: bool,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params {
        heads: u32,
        seq_q: u32,
        seq_kv: u32,
        chunks: u32,
        groups: u32,
        queries_per: u32,
        grid_x: u32,
        bias_offset: u32,
        bias_s0: u32,
        bias_s1: u32,
        table_offset: u32,
        table_s0: u32,
        table_s1: u32,
        num_buckets: u32,
        reach: i32,
    }
}

/// The views that a Problem's layouts resolve to.
struct Views {
    bias: View<2>,
    table: View<2>,
}

impl Problem {
    fn is_empty(&self) -> bool {
        [self.heads, self.seq_q, self.seq_kv].contains(&0)
    }

    fn views(&self) -> Result<Views> {
        for (arg, n) in [("heads", self.heads), ("seq_q", self.seq_q), ("seq_kv", self.seq_kv)] {
            if n > u32::MAX as usize / 4 {
                return Err(Error {
                    op: OP,
                    kind: ErrorKind::InvalidProblem { arg, reason: format!("{n} is more than 2^30 - 1") },
                });
            }
        }
        let bias = self.bias_layout.resolve(OP, "bias", [self.heads, self.seq_q], self.seq_kv)?;
        if bias.overlaps_itself() && !self.is_empty() {
            let reason = format!("rows overlap: strides {:?} for sizes {:?}", bias.strides, bias.sizes);
            return Err(Error { op: OP, kind: ErrorKind::InvalidProblem { arg: "bias_layout", reason } });
        }
        let table = match self.kind {
            Kind::Alibi { offset } => Layout::<2>::at(offset).resolve(OP, "slopes", [1, self.heads], 1)?,
            Kind::T5 { buckets, layout, .. } => {
                buckets.check()?;
                layout.resolve(OP, "table", [buckets.num_buckets, self.heads], 1)?
            }
        };
        Ok(Views { bias, table })
    }

    /// The form of the Problem; `wish` may hold a dtype otherwise than is usual on this device.
    fn form(&self, caps: &Caps, views: &Views, wish: Option<Form>) -> Form {
        let wish = wish.map(|form| form.bias).filter(|storage| storage.holds(self.bias, caps));
        let bias = wish.unwrap_or_else(|| Storage::of(self.bias, caps));
        let vec = match bias {
            _ if views.bias.multiple_of(4) => 4,
            bias if bias.packed() => 2,
            _ => 1,
        };
        let table = match self.kind {
            Kind::Alibi { .. } => None,
            Kind::T5 { dtype, .. } => Some(dtype),
        };
        Form { vec, bias, table, edge: vec == 2 && !views.bias.multiple_of(2), table_writable: false }
    }
}

/// A row of the table: the tiles of one class of adapters.
struct Row {
    class: Class,
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
    Row { class: Class::Software, wg_size: 64, queries: 64, fill: 256 },
    Row { class: Class::Integrated, wg_size: 128, queries: 4, fill: 1 << 14 },
    Row { class: Class::Discrete, wg_size: 256, queries: 4, fill: 1 << 17 },
];

/// The Config for this Problem on this device.
///
/// # Errors
/// Those of the Problem: sizes, layouts, buckets.
pub fn choose(caps: &Caps, problem: &Problem) -> Result<Config> {
    let form = problem.form(caps, &problem.views()?, None);
    let row = TABLE.iter().find(|row| row.class == caps.class()).unwrap_or(&TABLE[0]);
    let most = caps.most_invocations();
    let mut queries = row.queries;
    while queries > 1 && invocations(problem, &form, queries) < row.fill {
        queries /= 2;
    }
    let config = Config { wg_size: row.wg_size.min(most), queries, form };
    crate::kernels::print_choice(OP, problem, &config);
    Ok(config)
}

fn invocations(problem: &Problem, form: &Form, queries: u32) -> u64 {
    let groups = problem.heads as u128 * problem.seq_q.div_ceil(queries as usize) as u128;
    (groups * u128::from(chunks(problem.seq_kv, form.vec))).min(u64::MAX.into()) as u64
}

/// `wg64 queries4 f16packedx4 t5_bf16`: what differs, in a line.
impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config { wg_size, queries, form } = self;
        write!(f, "wg{wg_size} ")?;
        if *queries > 0 {
            write!(f, "queries{queries} ")?;
        }
        f.write_str(&format!("{:?}x{}", form.bias, form.vec).to_lowercase())?;
        match form.table {
            None => f.write_str(" alibi")?,
            Some(dtype) => write!(f, " t5_{dtype}")?,
        }
        write_flags(f, &[("edge", form.edge), ("table_writable", form.table_writable)])
    }
}

impl Config {
    /// Whether the Config can run this Problem on this device.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn fits(&self, caps: &Caps, problem: &Problem) -> Result<(), Misfit> {
        let most = caps.most_invocations().min(1024);
        // Numbers of invocations are u32, those past the end of the grid included.
        let room = u64::from(u32::MAX) - (1 << 26);
        match invocations(problem, &self.form, self.queries.max(1)) {
            _ if self.wg_size == 0 || self.wg_size > most => {
                Err(Misfit::old("wg_size must be at least 1 and at most", self.wg_size, most))
            }
            _ if self.queries == 0 => Err(Misfit::old("queries must be at least", 0, 1)),
            need if need > room => Err(Misfit::old("invocations", need.min(u32::MAX.into()) as u32, room as u32)),
            _ => Ok(()),
        }
    }

    /// The pipeline that it names.
    pub fn pass(&self) -> Pass {
        Pass { config: Config { queries: 0, ..*self } }
    }
}

/// The pipeline of a Config.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pass {
    config: Config,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.config)
    }
}

const BIAS: u32 = 0;
const SLOPES_OR_TABLE: u32 = 1;
const BUCKETS: u32 = 2;

impl Pipeline for Pass {
    fn shader(&self) -> Shader {
        let Config { wg_size, form, .. } = self.config;
        let bias =
            Tensor { binding: BIAS, name: "bias", storage: form.bias, writable: true, output: true, edge: form.edge };
        let shader = Shader::new(OP, wg_size, 0, form.vec).params::<Params>().tensor(bias).gather("distance_bias");
        match form.table {
            None => shader.buffer(SLOPES_OR_TABLE, "slopes", "f32", form.table_writable).import("attention_bias_alibi"),
            Some(dtype) => shader
                .constant("TABLE_KIND", Dtype::ALL.iter().position(|&d| d == dtype).unwrap_or(0) as u32)
                .buffer(SLOPES_OR_TABLE, "table", "u32", form.table_writable)
                .buffer(BUCKETS, "buckets", "u32", false)
                .import("attention_bias_t5"),
        }
    }
}

/// Which memory.
#[derive(Debug, Clone, Copy)]
pub struct Buffers<'a> {
    bias: Binding<'a>,
    slopes: Option<Binding<'a>>,
    table: Option<Binding<'a>>,
}

impl<'a> Buffers<'a> {
    /// `bias` is written.
    pub fn alibi(slopes: impl Into<Binding<'a>>, bias: impl Into<Binding<'a>>) -> Self {
        Buffers { bias: bias.into(), slopes: Some(slopes.into()), table: None }
    }

    /// `bias` is written.
    pub fn t5(table: impl Into<Binding<'a>>, bias: impl Into<Binding<'a>>) -> Self {
        Buffers { bias: bias.into(), slopes: None, table: Some(table.into()) }
    }
}

prepare_by!(plan);

fn plan(kernels: &Kernels, problem: &Problem, config: Option<&Config>, buffers: &Buffers) -> Result<Dispatch> {
    let caps = kernels.caps();
    let views = problem.views()?;
    let alibi = matches!(problem.kind, Kind::Alibi { .. });
    given(OP, "slopes", alibi, buffers.slopes.is_some())?;
    given(OP, "table", !alibi, buffers.table.is_some())?;
    if problem.is_empty() {
        return Ok(Dispatch::nothing(OP));
    }
    let mut config = match config {
        Some(config) => Config { form: problem.form(&caps, &views, Some(config.form)), ..*config },
        None => choose(&caps, problem)?,
    };
    config.fits(&caps, problem).map_err(|misfit| misfit.error(OP))?;

    let bits = |dtype: Dtype| 8 * dtype.bytes();
    let mut args = vec![Arg::new(BIAS, "bias", buffers.bias, bits(problem.bias), &views.bias, true)];
    let (name, table_bits, buckets) = match problem.kind {
        Kind::Alibi { .. } => ("slopes", 32, None),
        Kind::T5 { buckets, dtype, .. } => ("table", bits(dtype), Some(buckets)),
    };
    if let Some(binding) = buffers.slopes.or(buffers.table) {
        args.push(Arg::new(SLOPES_OR_TABLE, name, binding, table_bits, &views.table, false));
    }
    check_all(OP, &caps, &args, |_, _| false)?;
    config.form.table_writable = read_write(&args, SLOPES_OR_TABLE);

    let grid = fold(OP, &caps, invocations(problem, &config.form, config.queries).div_ceil(config.wg_size.into()))?;
    let params = Params {
        heads: problem.heads as u32,
        seq_q: problem.seq_q as u32,
        seq_kv: problem.seq_kv as u32,
        chunks: chunks(problem.seq_kv, config.form.vec),
        groups: (problem.seq_q as u32).div_ceil(config.queries),
        queries_per: config.queries,
        grid_x: grid[0],
        bias_offset: views.bias.offset as u32,
        bias_s0: views.bias.stride(0),
        bias_s1: views.bias.stride(1),
        table_offset: views.table.offset as u32,
        table_s0: views.table.stride(0),
        table_s1: views.table.stride(1),
        num_buckets: buckets.map_or(0, |b| b.num_buckets as u32),
        reach: buckets.map_or(0, |b| b.max_distance as i32),
    };
    let words;
    if let Some(buckets) = buckets {
        let table = buckets.words();
        let elements = 0..table.len() as u64;
        words = kernels.table_of(OP, table)?;
        let binding = Binding::from(&words);
        args.push(Arg { slot: BUCKETS, name: "buckets", binding, element_bits: 32, elements, writes: false });
    }
    let pipeline = kernels.pipeline(OP, &config.pass())?;
    Ok(Dispatch::new(OP, kernels, &args, &params, vec![(pipeline, grid)]))
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
