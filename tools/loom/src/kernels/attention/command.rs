//! What attention brings to the commands: checks, case files, benchmarks.

use std::rc::Rc;

use tileloom::Dtype;
use tileloom::attention::{self, Buffers, Packed, Paged, Problem, bshd};
use tileloom::reference::Verdict;
use tileloom::softmax::{Mask, MaskKind};

use super::{Call, Output};
use crate::Gpu;
use crate::case::{self, Case, Fault, Reader, Tensor};
use crate::kernels::{Bench, Check, Kernel, Outputs, Replay, Rule};
use crate::memory::POISON;
use crate::pool::{Pool, Prepared};

/// Attention, for the commands.
pub struct Attention;

pub const KERNEL: Attention = Attention;

impl Kernel for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn ops(&self) -> &'static [&'static str] {
        &["attention"]
    }

    fn checks(&self) -> Vec<Check> {
        let shape = |heads, kv_heads, seq_q, seq_kv, d| Problem {
            seq_q,
            seq_kv,
            lse: Some(0),
            ..Problem::new(2, heads, kv_heads, d)
        };
        let typed = |dtype, problem| Problem { x: dtype, o: dtype, ..problem };
        let causal = |problem| Problem { causal: true, ..problem };
        let gqa = shape(9, 3, 65, 130, 64);
        let cases: Vec<(&'static str, Call)> = vec![
            ("9 heads over 3", Call::random(gqa, 1)),
            ("causal", Call::random(causal(gqa), 2)),
            ("causal, more queries than keys", Call::random(causal(shape(9, 3, 70, 33, 64)), 3)),
            ("window, softcap", Call::random(Problem { window: [Some(20), Some(3)], softcap: 5.0, ..gqa }, 4)),
            ("alibi, sinks", Call::random(gqa, 5).with_alibi(true).with_sinks()),
            ("boolean mask", {
                let mask = Some(Mask::new(MaskKind::Bytes));
                Call::random(Problem { mask, ..gqa }, 6).with_random_mask(1)
            }),
            ("f16, head dim 40", Call::random(typed(Dtype::F16, shape(4, 2, 33, 70, 40)), 7)),
            ("bf16, odd head dim", Call::random(typed(Dtype::Bf16, shape(2, 1, 19, 40, 59)), 8)),
            ("decode", Call::random(typed(Dtype::F16, shape(8, 2, 1, 1000, 64)), 9)),
            ("tree", {
                let parents = [u32::MAX, 0, 0, 1, 2, 2, 3];
                Call::random(shape(4, 2, 7, 50, 64), 10).with_tree(&parents)
            }),
            ("packed", Call::random(causal(shape(9, 3, 40, 70, 64)), 11).packed(&[[40, 70], [17, 17]])),
            ("paged", Call::random(causal(shape(9, 3, 5, 70, 64)), 12).paged(16, &[70, 33])),
        ];
        let check = |(name, call): (&'static str, Call)| {
            Check::new(name, move |gpu| Ok(call.judge(&call.run(gpu, &gpu.kernels, None)?)))
        };
        cases.into_iter().map(check).collect()
    }

    fn replay(&self, case: &Case) -> Result<Replay, Fault> {
        let (call, expected, outputs) = understand(case)?;
        let [(_, o_shape), (_, lse_shape)] = outputs;
        let call = Rc::new(call);
        let ruled = call.clone();
        let run = move |gpu: &Gpu| {
            let p = &call.problem;
            let output = call.run(gpu, &gpu.kernels, None)?;
            // As the file has it: packed rows one after the other, tokens first where the layout says so.
            let o = in_file(&call, &call.q_memory(&output.o, p.value_dim), p.value_dim);
            let lse = call.q_memory(&output.lse.unwrap_or_default(), 1);
            let o = Tensor::values(p.o, &o_shape, &o);
            let lse = Tensor::values(Dtype::F32, &lse_shape, &lse);
            let config = if output.steps.is_empty() { "nothing to compute".into() } else { output.steps.join("; ") };
            Ok(Outputs { tensors: vec![("o", o), ("lse", lse)], config })
        };
        let rules = move || {
            let (p, (oracle, low)) = (&ruled.problem, ruled.references());
            let dv = p.value_dim;
            let o = |values: &[f64]| in_file(&ruled, &ruled.q_memory(values, dv), dv);
            let mag = in_file(&ruled, &ruled.q_memory(&oracle.mag, 1), 1);
            let row = |values: &[f64]| ruled.q_memory(values, 1);
            let rows = Rule::Rows { cols: dv, dtype: p.o, oracle: o(&oracle.o), low: o(&low.o), mag };
            let (oracle, low, mag) = (row(&oracle.lse), row(&low.lse), row(&oracle.lse_mag));
            vec![("o", rows), ("lse", Rule::Rows { cols: 1, dtype: Dtype::F32, oracle, low, mag })]
        };
        Ok(Replay { expected, run: Box::new(run), rules: Box::new(rules) })
    }

    fn benches(&self) -> Vec<Bench> {
        let dense = |seq, causal| Problem { seq_q: seq, seq_kv: seq, causal, ..Problem::new(1, 8, 8, 64) };
        let decode = |heads, kv_heads, d| Problem {
            seq_kv: 8192,
            x: Dtype::F16,
            o: Dtype::F16,
            ..Problem::new(1, heads, kv_heads, d)
        };
        let d128 = Problem { seq_q: 512, seq_kv: 512, x: Dtype::F16, o: Dtype::F16, ..Problem::new(1, 8, 2, 128) };
        [
            ("8x128x64 f32", dense(128, false)),
            ("8x128x64 f32 causal", dense(128, true)),
            ("8x512x64 f32", dense(512, false)),
            ("8x512x64 f32 causal", dense(512, true)),
            ("8x1024x64 f32", dense(1024, false)),
            ("8x1024x64 f32 causal", dense(1024, true)),
            ("8x2048x64 f32", dense(2048, false)),
            ("8x2048x64 f32 causal", dense(2048, true)),
            ("8/2x512x128 f16", d128),
            ("8x1 over 8192x64 f16", decode(8, 8, 64)),
            ("32/8x1 over 8192x128 f16", decode(32, 8, 128)),
        ]
        .map(|(shape, problem)| bench(shape, problem))
        .into()
    }
}

type Shapes = [(&'static str, Vec<usize>); 2];

/// Values of the file, `[batch, seq, heads, dim]` where tokens come first, as `[batch, heads, seq, dim]`; or back.
fn turn(values: &[f64], [batch, heads, seq]: [usize; 3], dim: usize, to_file: bool) -> Vec<f64> {
    let mut turned = vec![0.0; values.len()];
    for row in 0..batch * heads * seq {
        let (b, h, s) = (row / seq / heads, row / seq % heads, row % seq);
        let other = (b * seq + s) * heads + h;
        let (from, to) = if to_file { (row, other) } else { (other, row) };
        turned[to * dim..][..dim].copy_from_slice(&values[from * dim..][..dim]);
    }
    turned
}

/// Whether q and o of the file have tokens before heads.
fn tokens_first(p: &Problem) -> bool {
    p.packed.is_some() || p.q_layout.strides.is_some()
}

/// Rows in the order of memory as the file has them.
fn in_file(call: &Call, memory: &[f64], dim: usize) -> Vec<f64> {
    match tokens_first(&call.problem) {
        true => turn(memory, call.problem.q_sizes(), dim, true),
        false => memory.to_vec(),
    }
}

/// A case file as a call, with the shapes of its outputs.
fn understand(case: &Case) -> Result<(Call, case::Expected, Shapes), Fault> {
    let mut reader = Reader::new(case);
    let bad = |name: &str, tensor: &Tensor, expected: String| Fault::BadShape {
        name: name.into(),
        have: tensor.shape.clone(),
        expected,
    };
    let q = reader.tensor("q", "[b, hq, sq, d] by layout, packed [total_q, hq, d]")?;
    let k = reader.tensor("k", "[b, hkv, skv, d] by layout, paged [pages, page_size, hkv, d]")?;
    let v = reader.tensor("v", "as k")?;
    let dtype = case::float("q", q)?;
    for (name, tensor) in [("k", k), ("v", v)] {
        if case::float(name, tensor)? != dtype {
            let expected = "the dtype of q";
            return Err(Fault::BadDtype { name: name.into(), have: tensor.dtype.to_string(), expected });
        }
    }
    let mut integers = |name: &'static str| -> Result<Option<(&Tensor, Vec<u32>)>, Fault> {
        let Some(tensor) = reader.optional(name) else { return Ok(None) };
        let values = tensor.integers().ok_or_else(|| Fault::BadDtype {
            name: name.into(),
            have: tensor.dtype.to_string(),
            expected: case::INDICES,
        })?;
        // What does not fit a word is beyond every tensor.
        Ok(Some((tensor, values.into_iter().map(|v| u32::try_from(v).unwrap_or(u32::MAX)).collect())))
    };
    let (cu_q, cu_k) = (integers("cu_seqlens_q")?, integers("cu_seqlens_k")?);
    let (table, used) = (integers("block_table")?, integers("seqused_k")?);
    let layout = reader.word("layout", &["bhsd", "bshd"])?;
    let first = layout == "bshd";

    let (batch, heads, mut seq_q, d) = match (&cu_q, &q.shape[..]) {
        (Some((cu, words)), &[_, h, d]) if !words.is_empty() && cu.shape.len() == 1 => (words.len() - 1, h, 0, d),
        (None, &[b, n1, n2, d]) => (b, if first { n2 } else { n1 }, if first { n1 } else { n2 }, d),
        (Some(_), _) => return Err(bad("q", q, "[total_q, hq, d], by cu_seqlens_q [b + 1]".into())),
        (None, _) => return Err(bad("q", q, "[b, hq, sq, d], by layout".into())),
    };
    let packed_kv = cu_q.is_some() && table.is_none();
    if packed_kv && cu_k.is_none() {
        return Err(Fault::MissingTensor { name: "cu_seqlens_k", expected: "[b + 1], by cu_seqlens_q" });
    }
    let (kv_heads, mut seq_kv, dv) = {
        let shape = |name, tensor: &Tensor, last: Option<usize>| -> Result<[usize; 3], Fault> {
            let (have, expected) = match (&tensor.shape[..], &table) {
                (&[pages, page_size, h, d], Some(_)) => (Some([h, pages * page_size, d]), "[pages, page_size, hkv, d]"),
                (&[total, h, d], None) if packed_kv => (Some([h, total, d]), "[total_k, hkv, d]"),
                (&[b, n1, n2, d], None) if !packed_kv && b == batch => {
                    (Some(if first { [n2, n1, d] } else { [n1, n2, d] }), "")
                }
                (_, Some(_)) => (None, "[pages, page_size, hkv, d]"),
                _ if packed_kv => (None, "[total_k, hkv, d]"),
                _ => (None, "[b, hkv, skv, d] by layout, with q's b"),
            };
            have.filter(|&[.., d]| last.is_none_or(|last| d == last)).ok_or_else(|| bad(name, tensor, expected.into()))
        };
        let [h, s, _] = shape("k", k, Some(d))?;
        let [v_h, v_s, dv] = shape("v", v, None)?;
        if [v_h, v_s] != [h, s] {
            return Err(bad("v", v, format!("{h} heads and {s} keys, by k")));
        }
        (h, s, dv)
    };
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(bad("k", k, format!("a number of heads that divides {heads}")));
    }
    // Starts must be those of the tensor: a case is not hostile.
    let starts = |name: &str, tensor: &Tensor, words: &[u32], total: usize| -> Result<Vec<usize>, Fault> {
        let rising = words.windows(2).all(|pair| pair[0] <= pair[1]);
        match rising && words.len() == batch + 1 && words[0] == 0 && words[batch] as usize == total {
            true => Ok(words.windows(2).map(|pair| (pair[1] - pair[0]) as usize).collect()),
            false => Err(bad(name, tensor, format!("{} rising starts from 0 to {total}", batch + 1))),
        }
    };
    let mut lengths: Option<Vec<[usize; 2]>> = None;
    if let Some((tensor, words)) = &cu_q {
        let queries = starts("cu_seqlens_q", tensor, words, q.shape[0])?;
        seq_q = queries.iter().copied().max().unwrap_or(0);
        let keys = match &cu_k {
            Some((tensor, words)) if packed_kv => starts("cu_seqlens_k", tensor, words, seq_kv)?,
            _ => vec![0; batch],
        };
        if packed_kv {
            seq_kv = keys.iter().copied().max().unwrap_or(0);
        }
        lengths = Some(queries.into_iter().zip(keys).map(|(q, k)| [q, k]).collect());
    }
    let mut max_pages = 0;
    if let Some((tensor, words)) = &table {
        let &[b, pages] = &tensor.shape[..] else { return Err(bad("block_table", tensor, "[b, max_pages]".into())) };
        if b != batch || words.len() != b * pages {
            return Err(bad("block_table", tensor, format!("[{batch}, max_pages]")));
        }
        max_pages = pages;
        seq_kv = pages * k.shape[1];
    }
    if let Some((tensor, words)) = &used {
        if words.len() != batch {
            return Err(bad("seqused_k", tensor, format!("[{batch}]")));
        }
        let keys = words.iter().map(|&n| (n as usize).min(seq_kv));
        let queries = |b: usize| lengths.as_ref().map_or(seq_q, |lengths| lengths[b][0]);
        lengths = Some(keys.enumerate().map(|(b, keys)| [queries(b), keys]).collect());
    } else if table.is_some() {
        return Err(Fault::MissingTensor { name: "seqused_k", expected: "[b], by block_table" });
    }

    let window = |n: i64, name| match n {
        -1 => Ok(None),
        n if n >= 0 => Ok(Some(n as usize)),
        n => Err(Fault::BadOption { name, value: n.to_string(), expected: "-1 or more".into() }),
    };
    let mut problem = Problem {
        seq_q,
        seq_kv,
        value_dim: dv,
        x: dtype,
        o: reader.option("out_dtype", dtype)?,
        causal: reader.option("causal", false)?,
        window: [
            window(reader.option("window_left", -1i64)?, "window_left")?,
            window(reader.option("window_right", -1i64)?, "window_right")?,
        ],
        softcap: reader.option("softcap", 0.0)?,
        lse: Some(0),
        ..Problem::new(batch, heads, kv_heads, d)
    };
    problem.scale = reader.option("scale", problem.scale)?;
    if problem.softcap < 0.0 {
        let value = problem.softcap.to_string();
        return Err(Fault::BadOption { name: "softcap", value, expected: "0 or more".into() });
    }
    for (name, tensor, n) in [("q", q, d), ("v", v, dv)] {
        if !(1..=576).contains(&n) {
            return Err(bad(name, tensor, "a last axis of 1 to 576".into()));
        }
    }
    if first && cu_q.is_none() {
        problem.q_layout = bshd(heads, seq_q, d);
        problem.o_layout = bshd(heads, seq_q, dv);
        if table.is_none() {
            problem.k_layout = bshd(kv_heads, seq_kv, d);
            problem.v_layout = bshd(kv_heads, seq_kv, dv);
        }
    }

    // Integer tables, and values by sequence.
    let mut call = Call::new(problem, Vec::new(), Vec::new(), Vec::new());
    let at = |call: &mut Call, words: &[u32]| {
        let at = call.indices.len();
        call.indices.extend(words);
        at
    };
    if let Some((_, words)) = &cu_q {
        let cu_q = at(&mut call, words);
        let cu_kv = cu_k.as_ref().map_or(0, |(_, words)| at(&mut call, words));
        let total_kv = if packed_kv { k.shape[0] } else { 0 };
        call.problem.packed = Some(Packed { cu_q, cu_kv, total_q: q.shape[0], total_kv });
    }
    if let Some((_, words)) = &used {
        call.problem.lengths = Some(at(&mut call, words));
    }
    if let Some((_, words)) = &table {
        let (pages, page_size) = (k.shape[0], k.shape[1]);
        let block_table = at(&mut call, words);
        call.problem.paged = Some(Paged { pages, page_size, block_table, max_pages });
        if page_size == 0 || pages == 0 {
            return Err(bad("k", k, "pages with keys".into()));
        }
        if let Some(&page) = words.iter().enumerate().find_map(|(i, page)| {
            let keys = lengths.as_ref().map_or(0, |lengths| lengths[i / max_pages.max(1)][1]);
            (i % max_pages.max(1) * page_size < keys && *page as usize >= pages).then_some(page)
        }) {
            return Err(bad(
                "block_table",
                &table.as_ref().unwrap().0.clone(),
                format!("pages below {pages}, not {page}"),
            ));
        }
    }
    call.lengths = lengths;
    let numbers = |tensor: &Tensor| tensor.numbers().unwrap_or_default();
    let p = call.problem;
    let rows = |tensor: &Tensor, sizes: [usize; 3], dim: usize, tokens: bool| match tokens {
        true => turn(&numbers(tensor), sizes, dim, false),
        false => numbers(tensor),
    };
    call.q = call.q_back(&rows(q, p.q_sizes(), d, first || cu_q.is_some()), d);
    let kv_first = first || packed_kv || table.is_some();
    call.k = call.kv_back(&rows(k, p.kv_sizes(), d, kv_first), d);
    call.v = call.kv_back(&rows(v, p.kv_sizes(), dv, kv_first), dv);

    if let Some(tensor) = reader.optional("alibi_slopes") {
        case::float("alibi_slopes", tensor)?;
        let per_batch = tensor.shape == [batch, heads];
        if !per_batch && tensor.shape != [heads] {
            return Err(bad("alibi_slopes", tensor, format!("[{heads}] or [{batch}, {heads}]")));
        }
        call = call.with_slopes(numbers(tensor), per_batch);
    }
    if let Some(tensor) = reader.optional("sinks") {
        case::float("sinks", tensor)?;
        if tensor.shape != [heads] {
            return Err(bad("sinks", tensor, format!("[{heads}]")));
        }
        call = call.with_sinks_of(numbers(tensor));
    }
    if let Some(mask) = reader.optional("mask") {
        let kind = match mask.float() {
            Some(dtype) => MaskKind::Additive(dtype),
            None if mask.is_boolean() => MaskKind::Bytes,
            None => {
                let have = mask.dtype.to_string();
                return Err(Fault::BadDtype { name: "mask".into(), have, expected: case::VALUES_OR_BOOLEANS });
            }
        };
        let full = [batch, heads, seq_q, seq_kv];
        let Some(own) = attention::broadcast(kind, &mask.shape, full) else {
            return Err(bad("mask", mask, format!("one that broadcasts to {full:?}")));
        };
        if !mask.data.is_empty() {
            call.problem.mask = Some(own);
            call.mask = Some(numbers(mask));
        }
    }
    let total_q = p.q_sizes()[2];
    let outputs = match p.packed {
        Some(_) => [("o", vec![total_q, heads, dv]), ("lse", vec![heads, total_q])],
        None if first => [("o", vec![batch, seq_q, heads, dv]), ("lse", vec![batch, heads, seq_q])],
        None => [("o", vec![batch, heads, seq_q, dv]), ("lse", vec![batch, heads, seq_q])],
    };
    let expected = reader.finish(&outputs)?;
    for (name, tensor) in &expected.tensors {
        case::float(&format!("expected.{name}"), tensor)?;
    }
    Ok((call, expected, outputs))
}

/// Query rows that a benchmark's check looks at.
const SAMPLE: usize = 24;

fn bench(shape: &str, problem: Problem) -> Bench {
    let Problem { batch, heads, kv_heads, seq_q, seq_kv, head_dim, value_dim, .. } = problem;
    let (q, kv) = (batch * heads * seq_q, batch * kv_heads * seq_kv);
    let halved = if problem.causal { 0.5 } else { 1.0 };
    let values = (q * head_dim + kv * (head_dim + value_dim)) as f64;
    Bench {
        shape: shape.into(),
        quick: matches!(shape, "8x512x64 f32" | "8x512x64 f32 causal" | "32/8x1 over 8192x128 f16"),
        flops: 2.0 * (q * seq_kv * (head_dim + value_dim)) as f64 * halved,
        bytes: values * problem.x.bytes() as f64 + (q * value_dim) as f64 * problem.o.bytes() as f64,
        prepare: Box::new(move |gpu: &Gpu, pool: &Pool, sets: usize| {
            let config = attention::choose(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())?;
            let mut dispatches = Vec::with_capacity(sets);
            let mut first = None;
            for set in 0..sets {
                let buffer = |n, seed| gpu.buffer(&pool.bytes(problem.x, n, seed));
                let q_buffer = buffer(q * head_dim, 3 * set);
                let k = buffer(kv * head_dim, 3 * set + 1);
                let v = buffer(kv * value_dim, 3 * set + 2);
                let o_bytes = (q * value_dim) as u64 * problem.o.bytes();
                let o = gpu.buffer(&vec![POISON; o_bytes.next_multiple_of(4) as usize]);
                let buffers = Buffers::new(&q_buffer, &k, &v, &o);
                let dispatch = attention::prepare_with(&gpu.kernels, &problem, &config, buffers);
                dispatches.push(dispatch.map_err(|error| error.to_string())?);
                first.get_or_insert((q_buffer, k, v, o));
            }
            let (q_buffer, k, v, o) = first.ok_or("no input set was asked for")?;
            let check = move |gpu: &Gpu| -> Result<Verdict, String> {
                let read = |buffer, dtype: Dtype| Ok::<_, String>(dtype.decode(&gpu.read(buffer)?));
                let (q, k, v) = (read(&q_buffer, problem.x)?, read(&k, problem.x)?, read(&v, problem.x)?);
                let o = read(&o, problem.o)?;
                // A few queries from the first to the last, each as a call of one head and what it sees.
                let rows = batch * heads * seq_q;
                let mut verdict = Verdict::default();
                for n in 0..SAMPLE.min(rows) {
                    let row = n * (rows - 1) / (SAMPLE.min(rows) - 1).max(1);
                    let (i, h, b) = (row % seq_q, row / seq_q % heads, row / seq_q / heads);
                    let seen = if problem.causal { (i + 1 + seq_kv).saturating_sub(seq_q) } else { seq_kv };
                    let head = (b * kv_heads + h / (heads / kv_heads)) * seq_kv;
                    let keys = |values: &[f64], dim: usize| values[head * dim..][..seen * dim].to_vec();
                    let one = Problem { batch: 1, heads: 1, kv_heads: 1, seq_q: 1, seq_kv: seen, ..problem };
                    let q = q[row * head_dim..][..head_dim].to_vec();
                    let call = Call::new(one, q, keys(&k, head_dim), keys(&v, value_dim));
                    let o = o[row * value_dim..][..value_dim].to_vec();
                    verdict.merge(call.judge(&Output { o, lse: None, steps: Vec::new() }));
                }
                Ok(verdict)
            };
            Ok(Prepared { dispatches, config: format!("{config}"), check: Box::new(check) })
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(case: &Case) -> String {
        match KERNEL.replay(case) {
            Ok(_) => "understood".into(),
            Err(fault) => fault.to_string(),
        }
    }

    fn values(shape: &[usize]) -> Tensor {
        Tensor::values(Dtype::F32, shape, &vec![0.5; shape.iter().product()])
    }

    fn dense(q: &[usize], k: &[usize], v: &[usize]) -> Case {
        Case::new("attention").tensor("q", values(q)).tensor("k", values(k)).tensor("v", values(v))
    }

    #[test]
    fn faults_name_what_is_wrong() {
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
    fn a_benchmark_counts_halves_of_causal() {
        let problem = Problem { seq_q: 4, seq_kv: 4, causal: true, ..Problem::new(1, 2, 1, 8) };
        let bench = bench("", problem);
        assert_eq!((bench.flops, bench.bytes), (512.0, 4.0 * (64.0 + 64.0 + 64.0)));
    }
}
