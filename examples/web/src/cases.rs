//! The kernels that the page runs: each prepared as a program does it, and held against its CPU reference.

use tileloom::reference::weights::decode;
use tileloom::reference::{self, Judge, Real, Verdict, Worst};
use tileloom::verify::Subject;
use tileloom::weights::{Format, Packed};
use tileloom::{Dispatch, Dtype, Error, Op, attention, gemm, gemm_quant, rope, softmax, vq_assign, vq_lookup};
use wasm_bindgen::JsError;

use crate::gpu::{Gpu, Number, Written};

use Dtype::{F16, F32};

/// What a call does, for its rate.
pub enum Work {
    Operations(f64),
    Bytes(f64),
}

/// By what outputs are judged: one list of values per output.
type Rule = Box<dyn Fn(&[Vec<f64>]) -> Verdict>;

/// A call, ready to run.
pub struct Case {
    pub kernel: &'static str,
    pub shape: String,
    /// Its Config, as text.
    pub config: String,
    pub work: Work,
    pub dispatch: Dispatch,
    pub written: Vec<Written>,
    pub judge: Rule,
}

/// How many there are.
pub const COUNT: usize = 9;

/// Case `i`.
pub async fn case(gpu: &Gpu, i: usize) -> Result<Case, JsError> {
    let case = match i {
        0 => softmax(gpu).await,
        1 => rope(gpu).await,
        2 => gemm(gpu, F32).await,
        3 => gemm(gpu, F16).await,
        4 => attention(gpu, F32).await,
        5 => attention(gpu, F16).await,
        6 => vq_assign(gpu).await,
        7 => vq_lookup(gpu).await,
        _ => gemm_quant(gpu).await,
    };
    Ok(case?)
}

type Made = Result<Case, Error>;

/// The Config that `prepare` takes.
fn chosen(gpu: &Gpu, problem: &impl Op) -> Result<String, Error> {
    Ok(problem.chosen(&gpu.kernels)?.to_string())
}

/// The Problems of all of them, for `verify`.
pub fn subjects() -> Result<Vec<Box<dyn Subject>>, Error> {
    Ok(vec![
        Box::new(softmax_problem()),
        Box::new(rope_problem()?),
        Box::new(gemm_problem(F32)),
        Box::new(gemm_problem(F16)),
        Box::new(attention_problem(F32)),
        Box::new(attention_problem(F16)),
        Box::new(assign_problem()),
        Box::new(lookup_problem()),
        Box::new(quant_problem()),
    ])
}

/// Numbers about `shift` that are roughly normal, the same for the same seed.
fn random(len: usize, seed: u32, shift: f64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut uniform = move || {
        // xorshift32
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f64::from(state) / f64::from(u32::MAX) - 0.5
    };
    (0..len).map(|_| shift + 2.0 * (uniform() + uniform() + uniform())).collect()
}

/// The numerics rule.
fn judge(cols: usize, dtype: Dtype, [oracle, low]: [&[f64]; 2], mag: &[f64], out: &[f64]) -> Verdict {
    Judge { cols, dtype, oracle, low, mag, slack: &[], widen: (0.0, 0.0) }.judge(out)
}

/// Bytes of values.
fn bytes(dtype: Dtype, len: usize) -> f64 {
    (dtype.bytes() * len as u64) as f64
}

fn softmax_problem() -> softmax::Problem {
    softmax::Problem { rows: 1024, cols: 1000, scale: 3.0, ..Default::default() }
}

async fn softmax(gpu: &Gpu) -> Made {
    let problem = softmax_problem();
    let len = problem.rows * problem.cols;
    let x = gpu.filled(F32, &random(len, 1, -20.0));
    let y = gpu.written(Number::F(F32), len);
    let buffers = softmax::Buffers::new(&x.buffer, &y.buffer);
    Ok(Case {
        kernel: "softmax",
        shape: format!("{} x {}", problem.rows, problem.cols),
        config: chosen(gpu, &problem)?,
        work: Work::Bytes(2.0 * bytes(F32, len)),
        dispatch: softmax::prepare_async(&gpu.kernels, &problem, buffers).await?,
        written: vec![y],
        judge: Box::new(move |out| {
            let exact = reference::softmax::reference::<f64>(&problem, &x.values, None);
            let low = reference::softmax::reference::<f32>(&problem, &x.values, None);
            judge(problem.cols, F32, [&exact.y, &low.y], &exact.mag, &out[0])
        }),
    })
}

/// q and k of a language model, far from its first token.
fn rope_problem() -> Result<rope::Problem, Error> {
    Ok(rope::Problem {
        seq: 256,
        head_dim: 64,
        rotary_dim: 64,
        q: rope::Heads::new(8),
        k: Some(rope::Heads::new(2)),
        positions: rope::Positions::Offset(100_000),
        angles: rope::Angles::Frequencies(rope::Frequencies::new(64, 10_000.0)?),
        ..Default::default()
    })
}

async fn rope(gpu: &Gpu) -> Made {
    let problem = rope_problem()?;
    let vector = problem.seq * problem.head_dim;
    let [q, k] = [8 * vector, 2 * vector].map(|len| gpu.filled(F32, &random(len, 2, 0.5)));
    let [q_out, k_out] = [8 * vector, 2 * vector].map(|len| gpu.written(Number::F(F32), len));
    let buffers = rope::Buffers::new(&q.buffer, &q_out.buffer).k(&k.buffer).k_out(&k_out.buffer);
    Ok(Case {
        kernel: "rope",
        shape: format!("{} tokens, 8 + 2 heads of {}", problem.seq, problem.head_dim),
        config: chosen(gpu, &problem)?,
        work: Work::Bytes(2.0 * bytes(F32, 10 * vector)),
        dispatch: rope::prepare_async(&gpu.kernels, &problem, buffers).await?,
        written: vec![q_out, k_out],
        judge: Box::new(move |out| {
            let mut verdict = Verdict::default();
            for (heads, x, out) in [(8, &q.values, &out[0]), (2, &k.values, &out[1])] {
                let exact = reference::rope::reference::<f64>(&problem, heads, x, None, None);
                let low = reference::rope::reference::<f32>(&problem, heads, x, None, None);
                verdict.merge(judge(problem.head_dim, F32, [&exact.y, &low.y], &exact.mag, out));
            }
            verdict
        }),
    })
}

/// `d [m, n]` of `a [m, k]` and `b [k, n]`, all of this dtype.
fn gemm_problem(dtype: Dtype) -> gemm::Problem {
    let matrix = gemm::Matrix::new(dtype);
    gemm::Problem { m: 192, n: 256, k: 320, a: matrix, b: matrix, d: matrix, ..Default::default() }
}

async fn gemm(gpu: &Gpu, dtype: Dtype) -> Made {
    let problem = gemm_problem(dtype);
    let gemm::Problem { m, n, k, .. } = problem;
    let [a, b] = [(m * k, 3), (k * n, 4)].map(|(len, seed)| gpu.filled(dtype, &random(len, seed, 0.2)));
    let d = gpu.written(Number::F(dtype), m * n);
    let buffers = gemm::Buffers::new(&a.buffer, &b.buffer, &d.buffer);
    Ok(Case {
        kernel: if dtype == F16 { "gemm f16" } else { "gemm f32" },
        shape: format!("{m} x {n} x {k}"),
        config: chosen(gpu, &problem)?,
        work: Work::Operations(2.0 * (m * n * k) as f64),
        dispatch: gemm::prepare_async(&gpu.kernels, &problem, buffers).await?,
        written: vec![d],
        judge: Box::new(move |out| {
            let inputs = reference::gemm::Inputs { a: &a.values, b: &b.values, ..Default::default() };
            let exact = reference::gemm::reference::<f64>(&problem, &inputs);
            let low = reference::gemm::reference::<f32>(&problem, &inputs);
            judge(n, dtype, [&exact.d, &low.d], &exact.mag, &out[0])
        }),
    })
}

/// Causal, two heads of q to each of k and v, the queries being the last tokens.
fn attention_problem(x: Dtype) -> attention::Problem {
    attention::Problem {
        heads: 8,
        kv_heads: 4,
        seq_q: 96,
        seq_kv: 160,
        head_dim: 64,
        value_dim: 64,
        x,
        o: x,
        scale: 0.125,
        causal: true,
        ..Default::default()
    }
}

async fn attention(gpu: &Gpu, dtype: Dtype) -> Made {
    let problem = attention_problem(dtype);
    let attention::Problem { heads, kv_heads, seq_q, seq_kv, head_dim, .. } = problem;
    let (q_len, kv_len) = (heads * seq_q * head_dim, kv_heads * seq_kv * head_dim);
    let [q, k, v] =
        [(q_len, 5), (kv_len, 6), (kv_len, 7)].map(|(len, seed)| gpu.filled(dtype, &random(len, seed, 0.3)));
    let o = gpu.written(Number::F(dtype), q_len);
    let buffers = attention::Buffers::new(&q.buffer, &k.buffer, &v.buffer, &o.buffer);
    // Pairs of a query and a key that it sees.
    let pairs: usize = (0..seq_q).map(|i| i + 1 + seq_kv - seq_q).sum();
    Ok(Case {
        kernel: if dtype == F16 { "attention f16" } else { "attention f32" },
        shape: format!("{heads} heads on {kv_heads}, {seq_q} x {seq_kv} x {head_dim}, causal"),
        config: chosen(gpu, &problem)?,
        work: Work::Operations(4.0 * (heads * pairs * head_dim) as f64),
        dispatch: attention::prepare_async(&gpu.kernels, &problem, buffers).await?,
        written: vec![o],
        judge: Box::new(move |out| {
            let inputs =
                reference::attention::Inputs { q: &q.values, k: &k.values, v: &v.values, ..Default::default() };
            let exact = reference::attention::reference::<f64>(&problem, &inputs, |p| p);
            // The weights are rounded to v's dtype.
            let low = reference::attention::reference::<f32>(&problem, &inputs, |p| dtype.round(p));
            judge(head_dim, dtype, [&exact.o, &low.o], &exact.mag, &out[0])
        }),
    })
}

fn assign_problem() -> vq_assign::Problem {
    vq_assign::Problem { n: 500, num_codes: 512, code_dim: 64, ..Default::default() }
}

/// A choice may be worse than the best one by this share of its distance.
const REGRET: f64 = 1e-6;

async fn vq_assign(gpu: &Gpu) -> Made {
    let problem = assign_problem();
    let vq_assign::Problem { n, num_codes, code_dim, metric, .. } = problem;
    let [x, codes] = [(n, 8), (num_codes, 9)].map(|(rows, seed)| gpu.filled(F32, &random(rows * code_dim, seed, 0.1)));
    let indices = gpu.written(Number::U32, n);
    let buffers = vq_assign::Buffers::new(&x.buffer, &codes.buffer, &indices.buffer);
    Ok(Case {
        kernel: "vq_assign",
        shape: format!("{n} vectors, {num_codes} codes of {code_dim}"),
        config: chosen(gpu, &problem)?,
        work: Work::Operations(2.0 * (n * num_codes * code_dim) as f64),
        dispatch: vq_assign::prepare_async(&gpu.kernels, &problem, buffers).await?,
        written: vec![indices],
        judge: Box::new(move |out| {
            let mut verdict = Verdict { checked: n, ..Default::default() };
            for (index, (x, &out)) in x.values.chunks(code_dim).zip(&out[0]).enumerate() {
                let distance = |code: usize| {
                    let code = &codes.values[code * code_dim..][..code_dim];
                    reference::vq_assign::distance::<f64>(metric, x, code)
                };
                let best = reference::vq_assign::nearest::<f64>(metric, x, &codes.values, 1)[0];
                let ratio = match out as usize {
                    taken if taken < num_codes => (distance(taken) / distance(best) - 1.0) / REGRET,
                    _ => f64::INFINITY,
                };
                verdict.wrong += usize::from(ratio > 1.0);
                if ratio > verdict.ratio || verdict.worst.is_none() {
                    verdict.ratio = ratio;
                    verdict.worst = Some(Worst { index, out, expected: best as f64, bound: REGRET });
                }
            }
            verdict
        }),
    })
}

fn lookup_problem() -> vq_lookup::Problem {
    vq_lookup::Problem { spatial: 3000, num_codes: 512, code_dim: 64, ..Default::default() }
}

/// Vectors of codes; some indices are out of range, and give zeros.
async fn vq_lookup(gpu: &Gpu) -> Made {
    let problem = lookup_problem();
    let vq_lookup::Problem { spatial, num_codes, code_dim, .. } = problem;
    let codes = gpu.filled(F32, &random(num_codes * code_dim, 9, 0.1));
    let indices: Vec<u32> = (0..spatial as u32).map(|i| i.wrapping_mul(0x9e37_79b9) >> 22).collect();
    let taken = gpu.buffer(bytemuck::cast_slice(&indices));
    let y = gpu.written(Number::F(F32), spatial * code_dim);
    let buffers = vq_lookup::Buffers::new(&taken, &codes.buffer, &y.buffer);
    Ok(Case {
        kernel: "vq_lookup",
        shape: format!("{spatial} of {num_codes} codes of {code_dim}"),
        config: chosen(gpu, &problem)?,
        work: Work::Bytes(2.0 * bytes(F32, spatial * code_dim) + 4.0 * spatial as f64),
        dispatch: vq_lookup::prepare_async(&gpu.kernels, &problem, buffers).await?,
        written: vec![y],
        judge: Box::new(move |out| {
            let indices: Vec<i64> = indices.iter().copied().map(i64::from).collect();
            let exact = reference::vq_lookup::reference::<f64>(&problem, &indices, &codes.values);
            let low = reference::vq_lookup::reference::<f32>(&problem, &indices, &codes.values);
            judge(code_dim, F32, [&exact.y, &low.y], &exact.mag, &out[0])
        }),
    })
}

/// A row by weights of 4 bits.
fn quant_problem() -> gemm_quant::Problem {
    gemm_quant::Problem { m: 1, n: 1024, k: 1024, format: Format::Q4_0, ..Default::default() }
}

async fn gemm_quant(gpu: &Gpu) -> Made {
    let problem = quant_problem();
    let gemm_quant::Problem { m, n, k, format, .. } = problem;
    let plain = F32.encode(&random(n * k, 10, 0.0));
    let (packed, _) = format.quantize("weights", n, k, (&plain[..]).into(), F32)?;
    let a = gpu.filled(F32, &random(m * k, 11, 0.1));
    let [codes, scales] = [&packed.codes, &packed.scales].map(|words| gpu.buffer(bytemuck::cast_slice(words)));
    let d = gpu.written(Number::F(F32), m * n);
    let buffers = gemm_quant::Buffers::new(&a.buffer, &codes, &scales, &d.buffer);
    Ok(Case {
        kernel: "gemm_quant",
        shape: format!("{m} x {n} x {k}, q4_0"),
        config: chosen(gpu, &problem)?,
        work: Work::Operations(2.0 * (m * n * k) as f64),
        dispatch: gemm_quant::prepare_async(&gpu.kernels, &problem, buffers).await?,
        written: vec![d],
        judge: Box::new(move |out| {
            // The product of the weights as they are decoded.
            let plain = gemm::Problem { m, n, k, trans_b: true, ..Default::default() };
            fn product<R: Real>(plain: &gemm::Problem, a: &[f64], packed: &Packed) -> reference::gemm::Output {
                let b = &decode::<R>(&packed.format, packed.n, packed.k, &packed.codes, &packed.scales);
                reference::gemm::reference::<R>(plain, &reference::gemm::Inputs { a, b, ..Default::default() })
            }
            let exact = product::<f64>(&plain, &a.values, &packed);
            let low = product::<f32>(&plain, &a.values, &packed);
            judge(n, F32, [&exact.d, &low.d], &exact.mag, &out[0])
        }),
    })
}
