//! Attention, described.

pub mod attention_backward;
pub mod attention_bias;
pub mod attention_bias_backward;
pub mod attention_merge;
pub mod attention_merge_backward;
pub mod kv_append;
pub mod kv_move;
pub mod list;

use tileloom::attention::{self, Algorithm, Alibi, Codes, Packed, Paged, Problem, Reduce, Segments, Tree, bshd};
use tileloom::gemm::Precision;
use tileloom::quantize::Format;
use tileloom::reference::attention::sees;
use tileloom::softmax::{Mask, MaskKind};
use tileloom::verify::Describe;
use tileloom::verify::attention::{Places, f32_tables, held, placed, scale_at, segments, u32_tables, write_indices};
use tileloom::{Dtype, Layout};

use crate::case::{self, Case, Fault, Options, Reader, Shown, Tensor};
use crate::harness::Call;
use crate::image::{Number, Rows};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};
use crate::kernels::mask;

/// ALiBi slopes and sinks.
pub fn alibi_and_sinks(per_batch: bool, problem: Problem) -> Problem {
    placed(Problem { alibi: Some(Alibi { slopes: 0, per_batch }), sinks: Some(0), ..problem })
}

/// k and v in 8 bits.
pub fn codes(format: Format, problem: Problem) -> Problem {
    let (k_scale, v_scale) = (Layout::default(), Layout::default());
    placed(Problem { codes: Some(Codes { format, k_scale, v_scale }), ..problem })
}

/// The last queries are a tree.
pub fn tree(per_batch: bool, problem: Problem) -> Problem {
    placed(Problem { tree: Some(Tree { parents: 0, per_batch }), ..problem })
}

/// Keys are in segments, of which so many have flags.
pub fn segmented(count: usize, per_batch: bool, problem: Problem) -> Problem {
    let segments = Segments { numbers: 0, per_batch, flags: 0, count, ordered: true };
    placed(Problem { segments: Some(segments), ..problem })
}

/// Sequences of so many queries and keys each, without padding.
pub fn packed(lengths: &[[usize; 2]], problem: Problem) -> Problem {
    let [total_q, total_kv] = [0, 1].map(|which| lengths.iter().map(|length| length[which]).sum());
    placed(Problem { packed: Some(Packed { cu_q: 0, cu_kv: 0, total_q, total_kv }), ..problem })
}

/// Keys of these sequences in pages, of which three hold nothing.
pub fn paged(page_size: usize, lengths: &[[usize; 2]], problem: Problem) -> Problem {
    let pages = 3 + lengths.iter().map(|length| length[1].div_ceil(page_size)).sum::<usize>();
    let paged = Paged { pages, page_size, block_table: 0, max_pages: problem.seq_kv.div_ceil(page_size) };
    placed(Problem { lengths: Some(0), paged: Some(paged), ..problem })
}

/// Each sequence has its own number of keys.
pub fn cut(problem: Problem) -> Problem {
    placed(Problem { lengths: Some(0), ..problem })
}

const F32_TABLES: [&str; 4] = ["alibi_slopes", "sinks", "k_scale", "v_scale"];
const U32_TABLES: [&str; 7] =
    ["parents", "cu_seqlens_q", "cu_seqlens_k", "seqused_k", "block_table", "segments", "segment_flags"];

/// Sets sequences of so many queries and keys each, with poison where no sequence has a token.
pub fn sequences(lengths: &[[usize; 2]]) -> impl Fn(&Problem, &mut Values) + Send + Sync + 'static {
    let lengths = lengths.to_vec();
    move |p, values| {
        write_indices(p, values.get_mut("indices").expect("sequences have indices"), &lengths);
        let own = Call::new(*p, values.clone());
        relaid(&own, p, values);
    }
}

/// Sets the tokens of another call, wherever `p` has them.
pub fn relaid(from: &Call<Problem>, p: &Problem, values: &mut Values) {
    let (old, new) = (Places::of(&from.problem, &from.values), Places::of(p, values));
    for (name, i, dim) in [("q", 0, p.head_dim), ("k", 1, p.head_dim), ("v", 1, p.value_dim)] {
        values.insert(name, new[i].scatter(&old[i].gather(&from.values[name], dim), dim));
    }
    // A code may be no poison: the scales of what no sequence has are.
    let hidden = new[1].scatter(&vec![0.0; p.batch * p.kv_heads * p.seq_kv], 1);
    for at in p.codes.iter().flat_map(|codes| [codes.k_scale, codes.v_scale]) {
        let tables = values.get_mut("tables").expect("codes have scales");
        for (row, _) in hidden.iter().enumerate().filter(|(_, v)| v.is_nan()) {
            tables[scale_at(p, at, row)] = f64::NAN;
        }
    }
}

/// Sets the parents of a tree.
pub fn parents(parents: &[u32]) -> impl Fn(&Problem, &mut Values) + Send + Sync + 'static {
    let parents: Vec<f64> = parents.iter().map(|&parent| parent.into()).collect();
    move |p, values| {
        let at = p.tree.expect("there is a tree").parents;
        values.get_mut("indices").expect("a tree has indices")[at..][..parents.len()].copy_from_slice(&parents);
    }
}

/// Sets segments of so many keys and these flags each, the last as long as there are keys, for each row of numbers.
pub fn runs(runs: &[(usize, u32)]) -> impl Fn(&Problem, &mut Values) + Send + Sync + 'static + use<> {
    let runs = runs.to_vec();
    move |p, values| {
        let [.., numbers, flags] = u32_tables(p);
        let ((at, len), (flags, count)) = (numbers.expect("there are segments"), flags.expect("they have flags"));
        let indices = values.get_mut("indices").expect("segments are indices");
        let ends: Vec<usize> =
            runs.iter().scan(0, |end, (keys, _)| Some(*end + keys).inspect(|to| *end = *to)).collect();
        for i in 0..len {
            let key = i % p.seq_kv.max(1);
            indices[at + i] = ends.iter().position(|&end| key < end).unwrap_or(runs.len() - 1) as f64;
        }
        (0..count).for_each(|i| indices[flags + i] = runs.get(i).map_or(0.0, |(_, flags)| f64::from(*flags)));
    }
}

/// Queries by keys that they see, causal or in a window: of all heads and batches.
pub fn pairs(problem: &Problem) -> f64 {
    let Problem { seq_q, seq_kv, window, causal, .. } = *problem;
    let [before, behind] =
        [window[0], if causal { Some(0) } else { window[1] }].map(|far| far.map_or(i64::MAX / 2, |n| n as i64));
    let seen = |query: usize| {
        let at = query as i64 + seq_kv as i64 - seq_q as i64;
        ((at + behind).min(seq_kv as i64 - 1) - (at - before).max(0) + 1).max(0) as f64
    };
    let rows = problem.q_sizes().iter().product::<usize>();
    rows as f64 / seq_q.max(1) as f64 * (0..seq_q).map(seen).sum::<f64>()
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    /// The number of splits is a parameter.
    const RUNTIME: &'static [&'static str] = &["splits"];

    fn list(list: &mut List<Problem>) {
        list::all(list);
    }

    fn cost(&self) -> Cost {
        let (d, dv) = (self.head_dim, self.value_dim);
        let [q, kv] = [self.q_sizes(), self.kv_sizes()].map(|sizes| sizes.iter().product::<usize>());
        let stored = self.codes.map_or(self.x.bytes(), |_| 1);
        let scales = self.codes.map_or(0, |_| 2 * 4 * kv as u64);
        let kv = (kv * (d + dv)) as u64 * stored + scales;
        let values = (q * d) as u64 * self.x.bytes() + kv + (q * dv) as u64 * self.o.bytes();
        Cost { flops: 2.0 * pairs(self) * (d + dv) as f64, bytes: values as f64 }
    }

    fn shipped() -> Vec<String> {
        let algorithms = Algorithm::ALL.iter().map(|algorithm| format!("algorithm={}", algorithm.name()));
        let reductions = Reduce::ALL.iter().map(|reduce| format!("reduce={}", reduce.name()));
        let loads = ["load=direct", "load=staged(24)", "load=broadcast(8)"].map(str::to_string);
        algorithms.chain(reductions).chain(loads).collect()
    }

    /// A few queries from the first to the last, each as a call of one head and what it sees.
    fn parts(&self, values: Values, outputs: Values) -> Vec<(Problem, Values, Values)> {
        const SAMPLE: usize = 24;
        let Problem { batch, heads, kv_heads, seq_q, seq_kv, head_dim, value_dim, .. } = *self;
        let rows = batch * heads * seq_q;
        let by_segment = segments(self, &values);
        let part = |n: usize| {
            let row = n * (rows - 1) / (SAMPLE.min(rows) - 1).max(1);
            let (i, h, b) = (row % seq_q, row / seq_q % heads, row / seq_q / heads);
            let seen = if self.causal { (i + 1 + seq_kv).saturating_sub(seq_q) } else { seq_kv };
            let head = (b * kv_heads + h / (heads / kv_heads)) * seq_kv;
            let keys = |name, dim: usize| values[name][head * dim..][..seen * dim].to_vec();
            let mut one = Problem { batch: 1, heads: 1, kv_heads: 1, seq_q: 1, seq_kv: seen, segments: None, ..*self };
            let q = values["q"][row * head_dim..][..head_dim].to_vec();
            let o = outputs["o"][row * value_dim..][..value_dim].to_vec();
            let mut results: Values = [("o", o)].into();
            if let Some(statistics) = outputs.get("lse") {
                results.insert("lse", statistics.chunks(rows).map(|all| all[row]).collect());
                (one.lse, one.sum) = (Some(0), self.sum.map(|_| 1));
            }
            let mut inputs: Values = [("q", q), ("k", keys("k", head_dim)), ("v", keys("v", value_dim))].into();
            if let Some(codes) = self.codes {
                let scales = |at| (0..seen).map(|j| values["tables"][scale_at(self, at, head + j)]).collect::<Vec<_>>();
                one.codes = Some(Codes { k_scale: Layout::at(0), v_scale: Layout::at(seen), ..codes });
                inputs.insert("tables", [scales(codes.k_scale), scales(codes.v_scale)].concat());
            }
            if let Some([numbers, flags]) = &by_segment {
                one.mask = Some(Mask::new(MaskKind::Bytes));
                let (numbers, t) = (&numbers[b * seq_kv..][..seq_kv], (i + seq_kv) as i64 - seq_q as i64);
                inputs.insert("mask", (0..seen).map(|j| f64::from(sees(numbers, flags, t, j))).collect());
            }
            (one, inputs, results)
        };
        (0..SAMPLE.min(rows)).map(part).collect()
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("out_dtype", &mut self.o)?;
        options.value("scale", &mut self.scale)?;
        options.value("causal", &mut self.causal)?;
        for (name, keys) in ["window_left", "window_right"].into_iter().zip(&mut self.window) {
            let mut number = keys.map_or(-1, |keys| i64::try_from(keys).unwrap_or(i64::MAX));
            options.value(name, &mut number)?;
            *keys = match number {
                -1 => None,
                n => Some(usize::try_from(n).map_err(|_| bad_option(name, n, "-1 or more"))?),
            };
        }
        options.value("softcap", &mut self.softcap)?;
        if self.softcap < 0.0 {
            return Err(bad_option("softcap", self.softcap, "0 or more"));
        }
        let precisions: Vec<_> = Precision::ALL.iter().map(|&precision| (precision.name(), precision)).collect();
        options.word("inputs", &mut self.inputs, &precisions)?;
        // The most that any sequence has, where no shape says it.
        if self.packed.is_some() {
            options.value("seq_q", &mut self.seq_q)?;
        }
        if self.packed.is_some() || self.paged.is_some() {
            options.value("seq_kv", &mut self.seq_kv)?;
        }
        options.value("q_layout", &mut self.q_layout)?;
        options.value("k_layout", &mut self.k_layout)?;
        options.value("v_layout", &mut self.v_layout)?;
        options.value("o_layout", &mut self.o_layout)?;
        options.value("lse_offset", &mut self.lse)?;
        options.value("sum_offset", &mut self.sum)?;
        after(self.lse, self.sum, "sum_offset")?;
        mask::options(&mut self.mask, options)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let (q, dtype) = reader.values("q", "[b, hq, sq, d] by layout, packed [total_q, hq, d]")?;
        let k = reader.tensor("k", "[b, hkv, skv, d] by layout, paged [pages, page_size, hkv, d]")?;
        let v = reader.tensor("v", "as k")?;
        let codes = read_codes(reader, k)?;
        for (name, tensor) in [("k", k), ("v", v)] {
            let alike = if codes.is_some() { tensor.dtype == k.dtype } else { case::float(name, tensor)? == dtype };
            if !alike {
                let (name, have) = (name.into(), tensor.dtype.to_string());
                return Err(Fault::BadDtype { name, have, expected: "the dtype of q, or both of 8 bits" });
            }
        }
        let first = reader.word("layout", &["bhsd", "bshd"])? == "bshd";
        let mut words = |name| reader.optional(name).map(|tensor| Words::of(name, tensor)).transpose();
        let [tree, cu_q, cu_k, used, table, numbers, flags] = U32_TABLES.map(&mut words);
        let (tree, cu_q, cu_k, used, table, numbers, flags) = (tree?, cu_q?, cu_k?, used?, table?, numbers?, flags?);
        let packed_kv = cu_q.is_some() && table.is_none();

        let [q_batch, heads, mut seq_q, d] = sizes("q", q, cu_q.is_some(), first)?;
        let [kv_batch, kv_heads, mut seq_kv, k_dim] = sizes("k", k, packed_kv, first || table.is_some())?;
        let [v_batch, v_heads, v_seq, dv] = sizes("v", v, packed_kv, first || table.is_some())?;
        let batch = cu_q.as_ref().map_or(q_batch, |cu| cu.values.len().saturating_sub(1));
        if k_dim != d || (table.is_none() && kv_batch != q_batch) {
            return Err(case::bad_shape("k", k, format!("{d} elements per key and {q_batch} batches, by q")));
        }
        if [v_batch, v_heads, v_seq] != [kv_batch, kv_heads, seq_kv] {
            return Err(case::bad_shape("v", v, format!("{kv_heads} heads and {seq_kv} keys, by k")));
        }
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            return Err(case::bad_shape("k", k, format!("a number of heads that divides {heads}")));
        }
        for (name, tensor, n) in [("q", q, d), ("v", v, dv)] {
            if !(1..=576).contains(&n) {
                return Err(case::bad_shape(name, tensor, "a last axis of 1 to 576"));
            }
        }
        // Starts must be those of the tensor: a case is not hostile.
        let total_kv = seq_kv;
        if let Some(cu) = &cu_q {
            let total_q = seq_q;
            seq_q = cu.longest(batch, total_q)?;
            if packed_kv {
                let expected = "[b + 1], by cu_seqlens_q";
                let cu = cu_k.as_ref().ok_or(Fault::MissingTensor { name: "cu_seqlens_k", expected })?;
                seq_kv = cu.longest(batch, total_kv)?;
            }
        }
        if let Some(used) = &used {
            used.check(&[&[batch]])?;
            // k is [pages, page_size, ..] where there is a table.
            let pages = table.as_ref().map_or(1, |table| table.tensor.shape.get(1).copied().unwrap_or(0));
            used.within(|b| match cu_k.as_ref().filter(|_| packed_kv) {
                Some(cu) => (cu.values[b + 1] - cu.values[b]) as usize,
                None => pages.saturating_mul(total_kv),
            })?;
        }
        let base = Problem { x: dtype, o: dtype, value_dim: dv, lse: Some(0), codes, ..Problem::default() };
        let Problem { scale, head_dim, .. } = Problem::new(batch, heads, kv_heads, d);
        let mut problem = Problem { batch, heads, kv_heads, head_dim, scale, ..base };
        if let Some(table) = &table {
            let paged = table.pages(k, batch, used.as_ref())?;
            seq_kv = paged.max_pages * paged.page_size;
            problem.paged = Some(paged);
        }
        (problem.seq_q, problem.seq_kv) = (seq_q, seq_kv);
        if cu_q.is_some() {
            let total_kv = if packed_kv { total_kv } else { 0 };
            problem.packed = Some(Packed { cu_q: 0, cu_kv: 0, total_q: q.shape[0], total_kv });
        } else if first {
            problem.q_layout = bshd(heads, seq_q, d);
            problem.o_layout = bshd(heads, seq_q, dv);
            if table.is_none() {
                problem.k_layout = bshd(kv_heads, seq_kv, d);
                problem.v_layout = bshd(kv_heads, seq_kv, dv);
            }
        }
        problem.lengths = used.as_ref().map(|_| 0);
        problem.options(&mut Options::Read(reader))?;
        // What no shape bounds.
        if problem.packed.is_some() || problem.paged.is_some() {
            let Problem { seq_q, seq_kv, .. } = problem;
            for (name, heads, seq) in [("seq_q", heads, seq_q), ("seq_kv", kv_heads, seq_kv)] {
                let padded = [batch, heads, seq, d.max(dv)].into_iter().fold(1, usize::saturating_mul);
                if padded > MOST_PADDED {
                    let expected = format!("at most {MOST_PADDED} elements of {batch} sequences, not {padded}");
                    return Err(bad_option(name, seq, &expected));
                }
            }
        }
        if let Some(tree) = &tree {
            let per_batch = tree.check(&[&[problem.seq_q], &[batch, problem.seq_q]])? == 1;
            problem.tree = Some(Tree { parents: 0, per_batch });
        }
        if numbers.is_some() || flags.is_some() {
            let missing = |name, expected| Fault::MissingTensor { name, expected };
            let numbers = numbers.as_ref().ok_or(missing("segments", "[skv], by segment_flags"))?;
            let flags = flags.as_ref().ok_or(missing("segment_flags", "[n], by segments"))?;
            problem.segments = Some(numbers.segments(&problem, flags, cu_k.as_ref().filter(|_| packed_kv))?);
        }
        let mut values = Values::new();
        values.insert("tables", read_tables(reader, &mut problem, first)?);
        problem = placed(problem);
        let held_kv = cu_k.filter(|_| packed_kv);
        let indices =
            [tree, cu_q, held_kv, used, table, numbers, flags].into_iter().flatten().flat_map(|words| words.values);
        values.insert("indices", indices.collect());
        values.retain(|_, values| !values.is_empty());
        read_mask(reader, &mut problem, &mut values)?;
        let args = problem.args();
        for (name, tensor) in [("q", q), ("k", k), ("v", v)] {
            let numbers = tensor.numbers().unwrap_or_default();
            let swapped = first || tokens_first(&problem, name);
            let turned =
                args.iter().find(|arg| arg.name == name && swapped).map(|arg| arg.view.swapped(true, &numbers));
            values.insert(name, turned.unwrap_or(numbers));
        }
        let swapped = first || problem.packed.is_some();
        let [q_batch, _, seq] = problem.q_sizes();
        let o = match (problem.packed, first) {
            (Some(_), _) => vec![seq, heads, dv],
            (None, true) => vec![q_batch, seq, heads, dv],
            (None, false) => vec![q_batch, heads, seq, dv],
        };
        let lse = shape_of_lse(&problem);
        let outputs = vec![Shown { name: "o", shape: o, swapped }, Shown::new("lse", lse)];
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        let [batch, heads, seq] = if matches!(arg.name, "k" | "v") { self.kv_sizes() } else { self.q_sizes() };
        let packed = self.packed.is_some();
        match arg.name {
            "q" | "o" if packed => vec![seq, heads, arg.view.cols],
            "k" | "v" if self.paged.is_some() => vec![batch, seq, heads, arg.view.cols],
            "k" | "v" if packed => vec![seq, heads, arg.view.cols],
            "q" | "o" | "k" | "v" => vec![batch, heads, seq, arg.view.cols],
            "lse" => shape_of_lse(self),
            // As it lies in memory.
            _ => vec![arg.view.len()],
        }
    }

    fn tensor(&self, arg: &Arg, values: &[f64]) -> Tensor {
        match tokens_first(self, arg.name) {
            true => Tensor::numbers_of(arg.view.number, &self.shape(arg), &arg.view.swapped(false, values)),
            false => Tensor::numbers_of(arg.view.number, &self.shape(arg), values),
        }
    }

    /// Small tables are tensors of their own.
    fn write(&self, values: &Values) -> Case {
        let mut case = self.header();
        for arg in self.args().iter().filter(|arg| ["q", "k", "v", "mask"].contains(&arg.name)) {
            case = case.tensor(arg.name, self.tensor(arg, &values[arg.name]));
        }
        let own = held(values, "tables", f32_tables(self));
        let words = held(values, "indices", u32_tables(self));
        let all = F32_TABLES.into_iter().zip(own).map(|(name, values)| (name, Number::F(Dtype::F32), values));
        let all = all.chain(U32_TABLES.into_iter().zip(words).map(|(name, values)| (name, Number::U32, values)));
        for (name, number, values) in all {
            // Without keys there are no numbers of segments.
            if values.is_empty() && !(name == "segments" && self.segments.is_some()) {
                continue;
            }
            if let Some(codes) = self.codes.filter(|_| name.ends_with("_scale")) {
                let [n, heads, seq] = self.kv_sizes();
                let shape = match (self.paged.is_some(), self.packed.is_some()) {
                    (true, _) => vec![n, seq, heads],
                    (false, true) => vec![seq, heads],
                    (false, false) => vec![n, heads, seq],
                };
                // Of each number in this order, its row of [n, heads, seq].
                let row = |i: usize| match self.paged.is_some() || self.packed.is_some() {
                    true => (i / heads / seq * heads + i % heads) * seq + i / heads % seq,
                    false => i,
                };
                let layout = if name == "k_scale" { codes.k_scale } else { codes.v_scale };
                let scale = |i: usize| values[scale_at(self, layout, row(i)) - layout.offset];
                let scales: Vec<f64> = (0..n * heads * seq).map(scale).collect();
                case = case.tensor(name, Tensor::numbers_of(number, &shape, &scales));
                continue;
            }
            let per_batch = match name {
                "alibi_slopes" => self.alibi.is_some_and(|alibi| alibi.per_batch),
                "parents" => self.tree.is_some_and(|tree| tree.per_batch),
                "segments" => values.len() != self.seq_kv && (self.packed.is_none() || self.paged.is_some()),
                name => name == "block_table",
            };
            let shape = if per_batch { vec![self.batch, values.len() / self.batch] } else { vec![values.len()] };
            case = case.tensor(name, Tensor::numbers_of(number, &shape, values));
        }
        if self.codes.is_some_and(|codes| codes.format == Format::E4m3) { case.option("cache", "e4m3") } else { case }
    }
}

/// `[batch, heads, seq_q]`, packed `[heads, total_q]`; two of these where there are sums.
fn shape_of_lse(p: &Problem) -> Vec<usize> {
    let rows = &p.q_sizes()[usize::from(p.packed.is_some())..];
    [if p.sum.is_some() { &[2][..] } else { &[] }, rows].concat()
}

/// The view of both takes the sums behind the maxima.
fn after(maxima: Option<usize>, sums: Option<usize>, name: &'static str) -> Result<(), Fault> {
    match sums.filter(|&sums| maxima.is_none_or(|maxima| sums < maxima)) {
        Some(sums) => Err(bad_option(name, sums, "sums after the maxima")),
        None => Ok(()),
    }
}

/// Whether the tensor of a case has tokens before heads, whatever its `layout`.
fn tokens_first(p: &Problem, name: &str) -> bool {
    match name {
        "q" | "o" => p.packed.is_some(),
        "k" | "v" => p.packed.is_some() || p.paged.is_some(),
        _ => false,
    }
}

/// `[batch, heads, seq, dim]` of a tensor; packed, `[tokens, heads, dim]`.
fn sizes(name: &str, tensor: &Tensor, packed: bool, tokens_first: bool) -> Result<[usize; 4], Fault> {
    match tensor.shape[..] {
        [total, heads, dim] if packed => Ok([1, heads, total, dim]),
        [batch, seq, heads, dim] if !packed && tokens_first => Ok([batch, heads, seq, dim]),
        [batch, heads, seq, dim] if !packed => Ok([batch, heads, seq, dim]),
        _ if packed => Err(case::bad_shape(name, tensor, "[total, heads, dim], by cu_seqlens_q")),
        _ => Err(case::bad_shape(name, tensor, "four axes, by layout")),
    }
}

fn bad_option(name: &'static str, value: impl ToString, expected: &str) -> Fault {
    Fault::BadOption { name, value: value.to_string(), expected: expected.into() }
}

/// The most elements of sequences that are padded to the longest one, as the reference takes them.
const MOST_PADDED: usize = 1 << 28;

/// A small table of a case.
struct Words<'a> {
    name: &'static str,
    tensor: &'a Tensor,
    values: Vec<f64>,
}

impl<'a> Words<'a> {
    /// Integers; what does not fit a word is beyond every tensor.
    fn of(name: &'static str, tensor: &'a Tensor) -> Result<Words<'a>, Fault> {
        let word = |v: i64| f64::from(u32::try_from(v).unwrap_or(u32::MAX));
        Ok(Words { name, tensor, values: case::integers(name, tensor)?.into_iter().map(word).collect() })
    }

    /// Which of the shapes it has.
    fn check(&self, shapes: &[&[usize]]) -> Result<usize, Fault> {
        let expected = || shapes.iter().map(|shape| format!("{shape:?}")).collect::<Vec<_>>().join(" or ");
        let found = shapes.iter().position(|shape| self.tensor.shape == *shape);
        found.ok_or_else(|| case::bad_shape(self.name, self.tensor, expected()))
    }

    /// Whether no sequence uses more keys than there are of it.
    fn within(&self, there: impl Fn(usize) -> usize) -> Result<(), Fault> {
        let fits = |(b, used): &(usize, i64)| usize::try_from(*used).is_ok_and(|used| used <= there(*b));
        match case::integers(self.name, self.tensor)?.into_iter().enumerate().find(|one| !fits(one)) {
            None => Ok(()),
            Some((b, used)) => {
                let expected = format!("0 to {} keys of sequence {b}, not {used}", there(b));
                Err(case::bad_shape(self.name, self.tensor, expected))
            }
        }
    }

    /// Pages of k, by a table for sequences of so many keys.
    fn pages(&self, k: &Tensor, batch: usize, used: Option<&Words>) -> Result<Paged, Fault> {
        let max_pages = self.tensor.shape.get(1).copied().unwrap_or(0);
        self.check(&[&[batch, max_pages]])?;
        let (pages, page_size) = (k.shape[0], k.shape[1]);
        if page_size == 0 || pages == 0 {
            return Err(case::bad_shape("k", k, "pages with keys"));
        }
        let expected = "[b], by block_table";
        let used = used.ok_or(Fault::MissingTensor { name: "seqused_k", expected })?;
        let needed = |i: usize| i % max_pages * page_size < used.values[i / max_pages] as usize;
        let bad = |&(i, &page): &(usize, &f64)| needed(i) && page as usize >= pages;
        match self.values.iter().enumerate().find(bad) {
            None => Ok(Paged { pages, page_size, block_table: 0, max_pages }),
            Some((_, page)) => Err(case::bad_shape(self.name, self.tensor, format!("pages below {pages}, not {page}"))),
        }
    }

    /// Segments by these numbers, and by the starts of packed keys.
    fn segments(&self, p: &Problem, flags: &Words, cu: Option<&Words>) -> Result<Segments, Fault> {
        let count = flags.values.len();
        flags.check(&[&[count.max(1)]])?;
        let starts: Vec<usize> = match cu {
            Some(cu) => cu.values.iter().map(|&start| start as usize).collect(),
            None => (0..=p.batch).map(|b| b * p.seq_kv).collect(),
        };
        let total = starts.last().copied().unwrap_or(0);
        let per_batch = match cu {
            Some(_) => self.check(&[&[total]])? == 1,
            None => self.check(&[&[p.seq_kv], &[p.batch, p.seq_kv]])? == 1,
        };
        let rising = |pair: &[usize]| self.values.get(pair[0]..pair[1]).is_none_or(|all| all.is_sorted());
        let ordered = starts.windows(2).all(rising);
        Ok(Segments { numbers: 0, per_batch, flags: 0, count, ordered })
    }

    /// The longest sequence, of rising starts.
    fn longest(&self, batch: usize, total: usize) -> Result<usize, Fault> {
        let expected = format!("{} rising starts from 0 to {total}", batch + 1);
        let rising = self.values.windows(2).all(|pair| pair[0] <= pair[1]);
        let ends = [self.values.first(), self.values.last()].map(|end| end.copied());
        match rising && self.tensor.shape == [batch + 1] && ends == [Some(0.0), Some(total as f64)] {
            true => Ok(self.values.windows(2).map(|pair| (pair[1] - pair[0]) as usize).max().unwrap_or(0)),
            false => Err(case::bad_shape(self.name, self.tensor, expected)),
        }
    }
}

/// Slopes and sinks, one after the other.
fn read_tables(reader: &mut Reader, problem: &mut Problem, first: bool) -> Result<Vec<f64>, Fault> {
    let Problem { batch, heads, .. } = *problem;
    let mut all = Vec::new();
    for (name, shapes) in F32_TABLES.into_iter().zip([&[&[heads][..], &[batch, heads]][..], &[&[heads]]]) {
        let Some(tensor) = reader.optional(name) else { continue };
        case::float(name, tensor)?;
        let table = Words { name, tensor, values: tensor.numbers().unwrap_or_default() };
        let per_batch = table.check(shapes)? == 1;
        match name {
            "sinks" => problem.sinks = Some(0),
            _ => problem.alibi = Some(Alibi { slopes: 0, per_batch }),
        }
        all.extend(table.values);
    }
    if problem.codes.is_none() {
        return Ok(all);
    }
    // In the order of k without strides.
    let sizes = problem.kv_sizes();
    let [n, h, s] = sizes;
    let swapped = first && problem.packed.is_none() && problem.paged.is_none();
    let shape = match (problem.paged.is_some(), problem.packed.is_some()) {
        (true, _) => vec![n, s, h],
        (false, true) => vec![s, h],
        _ if swapped => vec![n, s, h],
        _ => vec![n, h, s],
    };
    for name in ["k_scale", "v_scale"] {
        let tensor = reader.tensor(name, "F32, as k without its last axis")?;
        if tensor.shape != shape || tensor.float() != Some(Dtype::F32) {
            return Err(case::bad_shape(name, tensor, format!("{shape:?}, F32")));
        }
        let numbers = tensor.numbers().unwrap_or_default();
        let view = Rows::new(Layout::default(), sizes, 1, Dtype::F32);
        all.extend(if swapped { view.swapped(true, &numbers) } else { numbers });
    }
    Ok(all)
}

/// What k and v are in 8 bits, by the dtype of k and option `cache`.
fn read_codes(reader: &mut Reader, k: &Tensor) -> Result<Option<Codes>, Fault> {
    let cache = reader.option("cache", String::new())?;
    let format = match (k.dtype.to_string().as_str(), cache.as_str()) {
        ("I8", "") => Format::Int8,
        ("U8", "e4m3") => Format::E4m3,
        (_, "") => return Ok(None),
        _ => return Err(Fault::BadOption { name: "cache", value: cache, expected: "e4m3, with k and v of U8".into() }),
    };
    Ok(Some(Codes { format, k_scale: Layout::default(), v_scale: Layout::default() }))
}

/// A mask, broadcast to the scores by NumPy's rules, or by the layout that the options give it.
fn read_mask(reader: &mut Reader, problem: &mut Problem, values: &mut Values) -> Result<(), Fault> {
    let Some(tensor) = reader.optional("mask") else { return Ok(()) };
    let kind = mask::kind(tensor, problem.mask)?;
    if let Some(laid) = problem.mask {
        problem.mask = Some(Mask { kind, ..laid });
        mask::check_laid(problem, tensor)?;
    } else {
        let full = [problem.batch, problem.heads, problem.seq_q, problem.seq_kv];
        let own = attention::broadcast(kind, &tensor.shape, full);
        let own = own.ok_or_else(|| case::bad_shape("mask", tensor, format!("one that broadcasts to {full:?}")))?;
        problem.mask = Some(own).filter(|_| !tensor.data.is_empty());
    }
    if problem.mask.is_some() {
        values.insert("mask", tensor.numbers().unwrap_or_default());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(shape: &[usize]) -> Tensor {
        Tensor::values(Dtype::F32, shape, &vec![0.5; shape.iter().product()])
    }

    fn dense(q: &[usize], k: &[usize], v: &[usize]) -> Case {
        Case::new("attention").tensor("q", values(q)).tensor("k", values(k)).tensor("v", values(v))
    }

    #[test]
    fn faults_name_what_is_wrong() {
        let fault = crate::kernel::fault::<Problem>;
        let good = || dense(&[1, 4, 3, 8], &[1, 2, 5, 8], &[1, 2, 5, 6]);
        assert_eq!(fault(&good()), "understood");
        assert!(fault(&Case::new("attention")).starts_with("tensor `q` is missing"));
        assert!(fault(&dense(&[4, 3, 8], &[1, 2, 5, 8], &[1, 2, 5, 6])).starts_with("tensor `q` has shape [4, 3, 8]"));
        assert!(fault(&dense(&[1, 4, 3, 8], &[1, 2, 5, 7], &[1, 2, 5, 6])).starts_with("tensor `k` has shape"));
        assert!(fault(&dense(&[1, 4, 3, 8], &[1, 3, 5, 8], &[1, 3, 5, 8])).contains("divides 4"));
        assert!(fault(&dense(&[1, 4, 3, 8], &[1, 2, 5, 8], &[1, 2, 4, 8])).contains("by k"));
        assert!(fault(&good().option("window_left", -2)).contains("-1 or more"));
        assert!(fault(&good().option("softcap", -1)).contains("0 or more"));
        assert!(fault(&good().tensor("mask", values(&[2, 3, 5]))).contains("broadcasts to [1, 4, 3, 5]"));
        assert_eq!(fault(&good().tensor("mask", Tensor::bools(&[3, 5], &[true; 15]))), "understood");
        assert!(fault(&good().tensor("sinks", values(&[3]))).contains("expected [4]"));
        assert!(fault(&good().tensor("parents", Tensor::indices(&[2], &[0, 0]))).contains("expected [3] or [1, 3]"));
        let segments =
            |shape: &[usize]| good().tensor("segments", Tensor::indices(shape, &vec![0; shape.iter().product()]));
        assert!(fault(&segments(&[5])).starts_with("tensor `segment_flags` is missing"));
        assert!(
            fault(&segments(&[2]).tensor("segment_flags", Tensor::indices(&[1], &[3])))
                .contains("expected [5] or [1, 5]")
        );
        assert_eq!(fault(&segments(&[1, 5]).tensor("segment_flags", Tensor::indices(&[1], &[3]))), "understood");
        assert!(fault(&good().tensor("expected.lse", values(&[4, 3]))).contains("expected [1, 4, 3]"));
        let packed = |k: &[u32]| {
            dense(&[7, 4, 8], &[9, 2, 8], &[9, 2, 8])
                .tensor("cu_seqlens_q", Tensor::indices(&[3], &[0, 3, 7]))
                .tensor("cu_seqlens_k", Tensor::indices(&[k.len()], k))
        };
        assert_eq!(fault(&packed(&[0, 5, 9])), "understood");
        assert!(fault(&packed(&[0, 5, 10])).contains("rising starts from 0 to 9"));
        let paged = |pages: &[u32]| {
            dense(&[1, 4, 3, 8], &[4, 2, 2, 8], &[4, 2, 2, 8])
                .tensor("block_table", Tensor::indices(&[1, 2], pages))
                .tensor("seqused_k", Tensor::indices(&[1], &[3]))
        };
        assert_eq!(fault(&paged(&[3, 1])), "understood");
        assert!(fault(&paged(&[3, 4])).contains("pages below 4, not 4"));
    }

    #[test]
    fn a_benchmark_counts_what_queries_see() {
        let problem = Problem { seq_q: 4, seq_kv: 4, causal: true, ..Problem::new(1, 2, 1, 8) };
        // 10 of 16 pairs of each head, and two products of 8.
        assert_eq!(problem.cost(), Cost { flops: 640.0, bytes: 4.0 * (64.0 + 64.0 + 64.0) });
        let of = |seq_q, seq_kv, causal, window| pairs(&Problem { seq_q, seq_kv, causal, window, ..problem });
        assert_eq!(of(1, 8, true, [None; 2]), 16.0);
        assert_eq!(of(5, 3, true, [None; 2]), 12.0);
        assert_eq!(of(4, 4, false, [None; 2]), 32.0);
        assert_eq!(of(4, 4, false, [Some(1), Some(0)]), 14.0);
    }
}
