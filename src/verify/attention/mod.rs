//! How a call of attention is made and judged.

pub mod attention_backward;
pub mod attention_bias;
pub mod attention_bias_backward;
pub mod attention_merge;
pub mod attention_merge_backward;
pub mod kv_append;
pub mod kv_move;

use crate::attention::{Alibi, Buffers, Codes, Config, Packed, Paged, Problem, Segments, Tree};
use crate::kv_append::Cache;
use crate::quantize::Format;
use crate::reference::attention::{Inputs, Output, reference};
use crate::reference::kv_append::{byte, worth};
use crate::reference::quantize;
use crate::softmax::Mask;
use crate::verify::call::{Arg, Bound, Describe, Rule, Telling, Values};
use crate::verify::image::{Number, Rows};
use crate::verify::mask::Masked;
use crate::verify::random::Random;
use crate::verify::small;
use crate::{Dtype, Layout};

/// First element and length of a small table.
pub type Table = Option<(usize, usize)>;

/// Slopes and sinks, and scales of k and v.
pub fn f32_tables(p: &Problem) -> [Table; 4] {
    let slopes = |alibi: Alibi| (alibi.slopes, if alibi.per_batch { p.batch * p.heads } else { p.heads });
    // Of strides all that they reach over.
    let reach = |at: Layout<3>| {
        let rows = p.kv_sizes().iter().product::<usize>();
        (0..rows).map(|row| scale_at(p, at, row) + 1).max().unwrap_or(at.offset) - at.offset
    };
    let [k_scale, v_scale] = [p.codes.map(|codes| codes.k_scale), p.codes.map(|codes| codes.v_scale)]
        .map(|at| at.map(|at| (at.offset, reach(at))));
    [p.alibi.map(slopes), p.sinks.map(|at| (at, p.heads)), k_scale, v_scale]
}

/// Where in the tables the scale of a row of `[batch, kv_heads, seq]` of a view is: without strides, in the order of k.
pub fn scale_at(p: &Problem, scales: Layout<3>, row: usize) -> usize {
    p.kv_strides(scales, 1).row_start(p.kv_sizes(), 1, row)
}

/// k or v, `[batch, kv_heads, seq]` of a view, as what their codes stand for.
fn decoded(p: &Problem, x: &[f64], scales: &[f64], at: impl Fn(Codes) -> Layout<3>, dim: usize) -> Vec<f64> {
    let Some(codes) = p.codes else { return x.to_vec() };
    let (cache, at) = (cache(codes), at(codes));
    let scale = |row: usize| scales[scale_at(p, at, row) - at.offset];
    x.iter().enumerate().map(|(i, &code)| worth(cache, code) * scale(i / dim)).collect()
}

/// The cache that these are codes of.
pub fn cache(codes: Codes) -> Cache {
    if codes.format == Format::Int8 { Cache::Int8 } else { Cache::E4m3 }
}

/// Parents, starts of queries and of keys, lengths, pages, numbers and flags of segments.
pub fn u32_tables(p: &Problem) -> [Table; 7] {
    let parents = |tree: Tree| (tree.parents, if tree.per_batch { p.batch * p.seq_q } else { p.seq_q });
    let packed_kv = p.packed.filter(|_| p.paged.is_none());
    [
        p.tree.map(parents),
        p.packed.map(|packed| (packed.cu_q, p.batch + 1)),
        packed_kv.map(|packed| (packed.cu_kv, p.batch + 1)),
        p.lengths.map(|at| (at, p.batch)),
        p.paged.map(|paged| (paged.block_table, p.batch * paged.max_pages)),
        p.segments.map(|segments| (segments.numbers, p.segment_numbers().iter().product())),
        p.segments.map(|segments| (segments.flags, segments.count)),
    ]
}

/// Small tables one after the other: slopes and sinks; parents, starts, lengths, pages and segments.
pub fn placed(mut p: Problem) -> Problem {
    fn starts<const N: usize>(tables: [Table; N]) -> [usize; N] {
        let mut end = 0;
        tables.map(|table| {
            end += table.map_or(0, |(_, len)| len);
            end - table.map_or(0, |(_, len)| len)
        })
    }
    let [slopes, sinks, k_scale, v_scale] = starts(f32_tables(&p));
    let [parents, cu_q, cu_kv, lengths, block_table, numbers, flags] = starts(u32_tables(&p));
    p.alibi = p.alibi.map(|alibi| Alibi { slopes, ..alibi });
    p.sinks = p.sinks.map(|_| sinks);
    let at = |offset, layout: Layout<3>| Layout { offset, ..layout };
    let scales =
        |codes: Codes| Codes { k_scale: at(k_scale, codes.k_scale), v_scale: at(v_scale, codes.v_scale), ..codes };
    p.codes = p.codes.map(scales);
    p.tree = p.tree.map(|tree| Tree { parents, ..tree });
    p.packed = p.packed.map(|packed| Packed { cu_q, cu_kv, ..packed });
    p.lengths = p.lengths.map(|_| lengths);
    p.paged = p.paged.map(|paged| Paged { block_table, ..paged });
    p.segments = p.segments.map(|segments| Segments { numbers, flags, ..segments });
    p
}

/// All of these tables in one row.
pub fn table_arg(name: &'static str, tables: &[Table], number: Number) -> Option<Arg> {
    let end = tables.iter().flatten().map(|(at, len)| at + len).max().filter(|&end| end > 0)?;
    Some(Arg::read(name, Rows::flat(0, end, number)))
}

/// What the tables hold; nothing where there is none.
pub fn held<'a, const N: usize>(values: &'a Values, name: &str, tables: [Table; N]) -> [&'a [f64]; N] {
    tables.map(|table| table.map_or(&[][..], |(at, len)| &values[name][at..at + len]))
}

/// Queries and keys that each sequence has, as the kernel sees them.
pub fn lengths(p: &Problem, values: &Values) -> Vec<[usize; 2]> {
    let [_, cu_q, cu_kv, used, ..] = held(values, "indices", u32_tables(p));
    let between = |cu: &[f64], b: usize, most: usize| match cu {
        [] => most,
        cu => (cu[b + 1] as usize).saturating_sub(cu[b] as usize).min(most),
    };
    let keys = |b: usize| between(cu_kv, b, p.seq_kv).min(used.get(b).map_or(usize::MAX, |&keys| keys as usize));
    (0..p.batch).map(|b| [between(cu_q, b, p.seq_q), keys(b)]).collect()
}

/// Where the rows of sequences, `[batch, heads, seq]`, stand among those of a view.
pub struct Places {
    pairs: Vec<(usize, usize)>,
    sequences: usize,
    view: usize,
}

impl Places {
    /// Those of q, and those of k and v.
    pub fn of(p: &Problem, values: &Values) -> [Places; 2] {
        let [_, cu_q, cu_kv, _, pages, ..] = held(values, "indices", u32_tables(p));
        let q = |b: usize, h: usize, i: usize| match p.packed {
            Some(packed) => h * packed.total_q + cu_q[b] as usize + i,
            None => (b * p.heads + h) * p.seq_q + i,
        };
        let kv = |b: usize, h: usize, j: usize| match (p.paged, p.packed) {
            (Some(Paged { page_size, max_pages, .. }), _) => {
                let page = pages[b * max_pages + j / page_size] as usize;
                (page * p.kv_heads + h) * page_size + j % page_size
            }
            (None, Some(packed)) => h * packed.total_kv + cu_kv[b] as usize + j,
            (None, None) => (b * p.kv_heads + h) * p.seq_kv + j,
        };
        let lengths = lengths(p, values);
        let all =
            |[heads, seq]: [usize; 2], which: usize, view: [usize; 3], at: &dyn Fn(usize, usize, usize) -> usize| {
                let mut pairs = Vec::new();
                for (b, h) in (0..p.batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
                    pairs.extend((0..lengths[b][which]).map(|i| ((b * heads + h) * seq + i, at(b, h, i))));
                }
                Places { pairs, sequences: p.batch * heads * seq, view: view.iter().product() }
            };
        [all([p.heads, p.seq_q], 0, p.q_sizes(), &q), all([p.kv_heads, p.seq_kv], 1, p.kv_sizes(), &kv)]
    }

    /// Rows by sequence of those of a view, NaN where a sequence has none.
    pub fn gather(&self, view: &[f64], dim: usize) -> Vec<f64> {
        let mut all = vec![f64::NAN; self.sequences * dim];
        for &(to, from) in &self.pairs {
            all[to * dim..][..dim].copy_from_slice(&view[from * dim..][..dim]);
        }
        all
    }

    /// And back, NaN where there is no token.
    pub fn scatter(&self, sequences: &[f64], dim: usize) -> Vec<f64> {
        let mut all = vec![f64::NAN; self.view * dim];
        for &(from, to) in &self.pairs {
            all[to * dim..][..dim].copy_from_slice(&sequences[from * dim..][..dim]);
        }
        all
    }
}

/// Starts, lengths and pages of sequences of so many queries and keys each. Pages lie in no order, with garbage in the
/// table where a sequence has none.
pub fn write_indices(p: &Problem, indices: &mut [f64], lengths: &[[usize; 2]]) {
    let [_, cu_q, cu_kv, used, table, ..] = u32_tables(p);
    for (which, cu) in [cu_q, cu_kv].into_iter().enumerate() {
        let Some((at, _)) = cu else { continue };
        let mut end = 0;
        indices[at] = 0.0;
        for (start, length) in indices[at + 1..].iter_mut().zip(lengths) {
            end += length[which];
            *start = end as f64;
        }
    }
    if let Some((at, _)) = used {
        indices[at..].iter_mut().zip(lengths).for_each(|(keys, length)| *keys = length[1] as f64);
    }
    let (Some((at, _)), Some(Paged { pages, page_size, max_pages, .. })) = (table, p.paged) else { return };
    // Page n is page n * step % pages, with a step that has no divisor in common.
    let prime = |&step: &usize| (2..=step).all(|d| step % d != 0 || pages % d != 0);
    let step = (2..).find(prime).unwrap_or(1);
    let mut next = 0;
    for (row, length) in indices[at..].chunks_exact_mut(max_pages.max(1)).zip(lengths) {
        let own = length[1].div_ceil(page_size);
        for (n, page) in row.iter_mut().enumerate() {
            *page = if n < own { ((next + n) * step % pages) as f64 } else { f64::from(0xdead_beef_u32) };
        }
        next += own;
    }
}

/// The number of each key's segment, `[batch, seq_kv]`, 0 where a sequence has no key, and the flags of segments; none without.
pub fn segments(p: &Problem, values: &Values) -> Option<[Vec<u32>; 2]> {
    let [_, _, cu_kv, _, _, numbers, flags] = held(values, "indices", u32_tables(p));
    p.segments?;
    let rows = p.segment_numbers()[0];
    let number = |i: usize| {
        let (b, j) = (i / p.seq_kv, i % p.seq_kv);
        let at = if cu_kv.is_empty() { b % rows * p.seq_kv + j } else { cu_kv[b] as usize + j };
        numbers.get(at).map_or(0, |&number| number as u32)
    };
    let flags = flags.iter().map(|&flags| flags as u32).collect();
    Some([(0..p.batch * p.seq_kv).map(number).collect(), flags])
}

impl Masked for Problem {
    fn mask(&self) -> Option<Mask> {
        self.mask
    }

    fn scores(&self) -> [usize; 2] {
        [self.batch * self.heads * self.seq_q, self.seq_kv]
    }

    fn mask_at(&self, row: usize, col: usize) -> usize {
        self.mask_index(row, col)
    }
}

/// Log-sum-exps; or maxima, and from `sum` on the sums.
pub fn statistics(offset: usize, sum: Option<usize>, rows: usize) -> Rows {
    match sum {
        None => Rows::flat(offset, rows, Dtype::F32),
        Some(sum) => Rows::new(Layout::strided(offset, [sum.saturating_sub(offset)]), [2], rows, Dtype::F32),
    }
}

/// Judges log-sum-exps; or maxima, and sums. `mag` is that of log-sum-exps and maxima, and that of sums.
pub fn statistics_rule(oracle: [Vec<f64>; 3], low: [Vec<f64>; 3], mag: [Vec<f64>; 2], sum: Option<usize>) -> Rule {
    let ([lse, max, exp_sum], [low_lse, low_max, low_sum]) = (oracle, low);
    let (oracle, low, mag) = match sum {
        None => (lse, low_lse, mag.into_iter().next().unwrap_or_default()),
        Some(_) => ([max, exp_sum].concat(), [low_max, low_sum].concat(), mag.concat()),
    };
    Rule::Rows { cols: 1, dtype: Dtype::F32, oracle, low, mag }
}

/// Both results, side by side where there are threads.
pub(super) fn both<A, B: Send>(a: impl FnOnce() -> A, b: impl FnOnce() -> B + Send) -> (A, B) {
    #[cfg(target_family = "wasm")]
    return (a(), b());
    #[cfg(not(target_family = "wasm"))]
    std::thread::scope(|scope| {
        let b = scope.spawn(b);
        (a(), b.join().expect("a formula does not panic"))
    })
}

impl Describe for Problem {
    fn args(&self) -> Vec<Arg> {
        let (d, dv) = (self.head_dim, self.value_dim);
        let q_rows = |layout, dim, dtype| Rows::new(self.q_strides(layout, dim), self.q_sizes(), dim, dtype);
        let stored = self.codes.map_or(self.x.into(), |codes| kv_append::number(cache(codes)));
        let kv_rows = |layout, dim| Rows::new(self.kv_strides(layout, dim), self.kv_sizes(), dim, stored);
        // What is read through the indices follows them.
        let mut args: Vec<Arg> = table_arg("indices", &u32_tables(self), Number::U32).into_iter().collect();
        args.extend(table_arg("tables", &f32_tables(self), Dtype::F32.into()));
        args.push(Arg::read("q", q_rows(self.q_layout, d, self.x)));
        args.push(Arg::read("k", kv_rows(self.k_layout, d)));
        args.push(Arg::read("v", kv_rows(self.v_layout, dv)));
        args.extend(self.mask_arg());
        args.push(Arg::write("o", q_rows(self.o_layout, dv, self.o)));
        let rows = self.q_sizes().iter().product();
        args.extend(self.lse.map(|offset| Arg::write("lse", statistics(offset, self.sum, rows))));
        args
    }

    fn fill(&self, name: &str, len: usize, _: &Values, random: &mut Random) -> Vec<f64> {
        let mut all = vec![f64::NAN; len];
        match name {
            // Rows that make scores flat, steep and all negative.
            "q" => {
                for (i, v) in all.iter_mut().enumerate() {
                    let row = i / self.head_dim;
                    let (spread, shift) = [(1.0, 0.0), (3.0, 0.0), (0.5, -1.0), (0.01, 0.0)][row % 4];
                    *v = shift + spread * random.normal();
                }
            }
            "mask" => return self.fill_mask(len, random),
            // Slopes fall, sinks rise by head.
            "tables" => {
                let [slopes, sinks, k_scale, v_scale] = f32_tables(self);
                // Of codes of about 40.
                for (at, len) in [k_scale, v_scale].into_iter().flatten() {
                    (0..len).for_each(|i| all[at + i] = (0.5 + random.uniform()) / 40.0);
                }
                let (at, len) = slopes.unwrap_or_default();
                (0..len).for_each(|i| all[at + i] = 0.5 / (1 + i) as f64);
                let (at, len) = sinks.unwrap_or_default();
                (0..len).for_each(|i| all[at + i] = i as f64 - 1.5);
            }
            // As long as there is room.
            "indices" => {
                let [total_q, total_kv] =
                    self.packed.map_or([usize::MAX; 2], |packed| [packed.total_q, packed.total_kv]);
                let left = |b: usize, seq: usize, total: usize| seq.min(total.saturating_sub(b * seq));
                let keys = if self.paged.is_some() { usize::MAX } else { total_kv };
                let lengths: Vec<_> =
                    (0..self.batch).map(|b| [left(b, self.seq_q, total_q), left(b, self.seq_kv, keys)]).collect();
                write_indices(self, &mut all, &lengths);
                let (at, len) = u32_tables(self)[0].unwrap_or_default();
                (0..len).for_each(|i| all[at + i] = random.below(i % self.seq_q + 2) as f64);
                // About six segments of a sequence.
                let [.., numbers, flags] = u32_tables(self);
                let (at, len) = numbers.unwrap_or_default();
                let (most, [rows, _]) = (self.segments.map_or(1, |segments| segments.count), self.segment_numbers());
                let (row, mut rising) = (len / rows.max(1), 0);
                for (i, number) in all[at..at + len].iter_mut().enumerate() {
                    rising = if i % row == 0 { 0 } else { rising };
                    *number = rising.min(most - 1) as f64;
                    rising += usize::from(random.below(self.seq_kv / 6 + 1) == 0);
                }
                let (at, len) = flags.unwrap_or_default();
                (0..len).for_each(|i| all[at + i] = random.below(4) as f64);
            }
            name => {
                let shift = if name == "k" { 0.25 } else { 0.5 };
                let mut one = || shift + random.normal() * if random.below(97) == 0 { 4.0 } else { 1.0 };
                all.fill_with(&mut one);
                if let Some(codes) = self.codes {
                    let code = |v: f64| byte(cache(codes), quantize::code(codes.format, 40.0 * v));
                    all.iter_mut().for_each(|v| *v = code(*v));
                }
            }
        }
        all
    }

    fn buffers<'a>(&self, bound: &Bound<'a>) -> Buffers<'a> {
        let buffers = Buffers::new(bound.get("q"), bound.get("k"), bound.get("v"), bound.get("o"));
        bound.with(
            buffers,
            [
                ("mask", Buffers::mask),
                ("tables", Buffers::tables),
                ("indices", Buffers::indices),
                ("lse", Buffers::lse),
                ("scratch", Buffers::scratch),
            ],
        )
    }

    fn rules(&self, values: &Values, _: &Values) -> Vec<(&'static str, Rule)> {
        let (d, dv) = (self.head_dim, self.value_dim);
        let [q_places, kv_places] = Places::of(self, values);
        let [_, _, k_scale, v_scale] = held(values, "tables", f32_tables(self));
        let k = kv_places.gather(&decoded(self, &values["k"], k_scale, |codes| codes.k_scale, d), d);
        let v = kv_places.gather(&decoded(self, &values["v"], v_scale, |codes| codes.v_scale, dv), dv);
        let q = q_places.gather(&values["q"], d);
        let bias = values.get("mask").map(|mask| self.bias(mask));
        // One for each batch, or one for all.
        let repeated = |table: &[f64], per: usize| -> Option<Vec<f64>> {
            (!table.is_empty()).then(|| (0..self.batch * per).map(|i| table[i % table.len()]).collect())
        };
        let [slopes, sinks, ..] = held(values, "tables", f32_tables(self));
        let slopes = repeated(slopes, self.heads);
        let parents = repeated(held(values, "indices", u32_tables(self))[0], self.seq_q);
        let parents: Option<Vec<u32>> = parents.map(|all| all.into_iter().map(|parent| parent as u32).collect());
        let lengths = lengths(self, values);
        let segments = segments(self, values);
        let inputs = Inputs {
            segments: segments.as_ref().map(|[numbers, _]| &numbers[..]),
            segment_flags: segments.as_ref().map_or(&[], |[_, flags]| &flags[..]),
            q: &q,
            k: &k,
            v: &v,
            bias: bias.as_deref(),
            slopes: slopes.as_deref(),
            sinks: self.sinks.map(|_| sinks),
            parents: parents.as_deref(),
            lengths: Some(&lengths),
        };
        // Weights are rounded to v's dtype; where v is codes they stay f32.
        let rounded = |v: f64| if self.codes.is_some() { v } else { self.x.round(v) };
        // Most of a sweep's time is here.
        let (oracle, low): (Output, Output) =
            both(|| reference::<f64>(self, &inputs, |v| v), || reference::<f32>(self, &inputs, rounded));
        let [o, low_o] = [&oracle.o, &low.o].map(|all| q_places.scatter(all, dv));
        let mag = q_places.scatter(&oracle.mag, 1);
        let mut rules = vec![("o", Rule::Rows { cols: dv, dtype: self.o, oracle: o, low: low_o, mag })];
        if self.lse.is_some() {
            let of = |out: &Output| [&out.lse, &out.max, &out.sum].map(|all| q_places.scatter(all, 1));
            let mag = [&oracle.lse_mag, &oracle.sum_mag].map(|mag| q_places.scatter(mag, 1));
            rules.push(("lse", statistics_rule(of(&oracle), of(&low), mag, self.sum)));
        }
        rules
    }

    fn telling(&self, config: &Config) -> Vec<Telling<Problem>> {
        let group = self.heads.checked_div(self.kv_heads).unwrap_or(0);
        let small = |[batch, kv_heads, heads]: [usize; 3], seq_q: usize, seq_kv: usize| {
            let (batch, kv_heads) = (self.batch.min(batch), self.kv_heads.min(kv_heads));
            let heads = kv_heads * group.min(heads);
            let (seq_q, seq_kv) = (small::like(self.seq_q, seq_q), small::like(self.seq_kv, seq_kv));
            let mut p = Problem { batch, kv_heads, heads, seq_q, seq_kv, ..*self };
            // The last sequences are short.
            let total = |all: usize, seq: usize| all.min(batch * seq - (seq / 3).min(batch * seq));
            p.packed = self.packed.map(|packed| Packed {
                total_q: total(packed.total_q, seq_q),
                total_kv: total(packed.total_kv, seq_kv),
                ..packed
            });
            p.paged = self.paged.map(|paged| {
                let page_size = small::like(paged.page_size, 16);
                let max_pages = seq_kv.div_ceil(page_size);
                Paged { pages: 3 + batch * max_pages, page_size, max_pages, ..paged }
            });
            let (q_sizes, kv_sizes) = (p.q_sizes(), p.kv_sizes());
            p.q_layout = small::laid(self.q_layout, q_sizes, self.head_dim);
            p.codes = self.codes.map(|codes| Codes {
                k_scale: small::laid(codes.k_scale, kv_sizes, 1),
                v_scale: small::laid(codes.v_scale, kv_sizes, 1),
                ..codes
            });
            p.k_layout = small::laid(self.k_layout, kv_sizes, self.head_dim);
            p.v_layout = small::laid(self.v_layout, kv_sizes, self.value_dim);
            p.o_layout = small::laid(self.o_layout, q_sizes, self.value_dim);
            p.mask = self.mask.map(|mask| small::mask(mask, [batch, heads, seq_q], seq_kv));
            p.segments = self.segments.map(|segments| Segments { count: segments.count.min(7), ..segments });
            p.lse = self.lse.map(|at| at % 8);
            p.sum = self.sum.map(|_| p.lse.unwrap_or(0) + q_sizes.iter().product::<usize>());
            placed(p)
        };
        let rows = (config.wg_size / config.lanes.max(1) * config.rows) as usize;
        let keys = (config.keys * config.slots * config.splits) as usize;
        let work = |p: Problem| (p.batch * p.heads * p.seq_q * p.seq_kv * (p.head_dim + p.value_dim) / 32, p);
        small::few([
            work(small([2, 2, 3], 20, 72)),
            work(small([1, 1, 2], (rows + rows / 2).clamp(8, 100), 200)),
            work(small([1, 1, 8], 3, (2 * keys + 8).clamp(40, 2000))),
        ])
    }
}
