//! What the matrix product brings to the commands: checks, case files, benchmarks.

use std::rc::Rc;

use tileloom::Dtype;
use tileloom::gemm::{self, Activation, Algorithm, Along, Buffers, Epilogue, Matrix, Problem, Vector};

use super::{Call, Output, plain};
use crate::Gpu;
use crate::case::{self, Case, Fault, Reader, Tensor};
use crate::kernels::{Bench, Check, Checked, Kernel, Outputs, Replay, Rule};
use crate::memory::POISON;
use crate::pool::{Pool, Prepared};

/// The matrix product, for the commands.
pub struct Gemm;

pub const KERNEL: Gemm = Gemm;

impl Kernel for Gemm {
    fn name(&self) -> &'static str {
        "gemm"
    }

    fn ops(&self) -> &'static [&'static str] {
        &["gemm"]
    }

    fn checks(&self) -> Vec<Check> {
        use Dtype::{Bf16, F16, F32};
        let base = |m, n, k| plain(m, n, k, [F32; 3]);
        let along = |along| Some(Vector { dtype: F32, along, offset: 0 });
        let c = Some(Matrix::new(F32));
        let epilogue = Epilogue {
            scale: along(Along::Rows),
            bias: along(Along::Columns),
            activation: Activation::Gelu,
            residual: c,
            ..Epilogue::default()
        };
        let gated = Epilogue { gate: Some(0), activation: Activation::Silu, ..Epilogue::default() };
        let cases = [
            ("NN", base(68, 100, 72), None),
            ("NT", Problem { trans_b: true, ..base(68, 100, 72) }, None),
            ("TN", Problem { trans_a: true, ..base(68, 100, 72) }, None),
            ("primes", base(37, 101, 53), None),
            ("epilogue", Problem { alpha: 0.5, beta: -2.0, c, epilogue, ..base(37, 100, 64) }, None),
            ("no k", Problem { c, ..base(5, 9, 0) }, None),
            ("SwiGLU", Problem { epilogue: gated, ..base(40, 72, 64) }, None),
            ("f16", plain(68, 100, 72, [F16; 3]), None),
            ("bf16, odd columns", plain(37, 101, 53, [Bf16; 3]), None),
            ("one row", Problem { trans_b: true, ..base(1, 200, 512) }, Some(Algorithm::Vector)),
            ("one column", base(200, 1, 512), Some(Algorithm::Vector)),
            ("long k", base(12, 20, 4096), None),
            ("tiled", base(70, 72, 100), Some(Algorithm::Tiled)),
            ("cooperative matrices", plain(68, 100, 72, [F16, F16, F32]), Some(Algorithm::Coop)),
        ];
        let check = |(name, problem, algorithm): (&'static str, Problem, Option<Algorithm>)| {
            let run = move |gpu: &Gpu| {
                let kernels = &gpu.kernels;
                if algorithm == Some(Algorithm::Coop)
                    && let Err(error) = pollster::block_on(kernels.probe(&gpu.queue))
                {
                    return Checked::Failed(error.to_string());
                }
                let candidates = match gemm::candidates(&kernels.caps(), &problem) {
                    Ok(candidates) => candidates,
                    Err(error) => return Checked::Failed(error.to_string()),
                };
                let wanted = |config: &&gemm::Config| algorithm.is_none_or(|wanted| config.algorithm == wanted);
                let Some(config) = candidates.iter().find(wanted) else {
                    return match algorithm {
                        Some(Algorithm::Coop) if kernels.caps().coop.is_empty() => {
                            Checked::Skipped("the device has no cooperative matrices".into())
                        }
                        _ => Checked::Failed("no Config fits".into()),
                    };
                };
                let call = Call::random(problem, 1);
                match call.run(gpu, kernels, Some(config)) {
                    Ok(output) => Checked::Ran(call.judge(&output)),
                    Err(reason) => Checked::Failed(reason),
                }
            };
            Check { name, run: Box::new(run) }
        };
        cases.into_iter().map(check).collect()
    }

    fn replay(&self, case: &Case) -> Result<Replay, Fault> {
        let (call, expected, shape) = understand(case)?;
        let call = Rc::new(call);
        let ruled = call.clone();
        let run = move |gpu: &Gpu| {
            let output = match shape.contains(&0) {
                true => Output { d: Vec::new(), steps: vec!["nothing to compute".into()] },
                false => call.run(gpu, &gpu.kernels, None)?,
            };
            let d = Tensor::values(call.problem.d.dtype, &shape, &output.d);
            Ok(Outputs { tensors: vec![("d", d)], config: output.steps.join("; ") })
        };
        let rules = move || {
            let [oracle, low] = ruled.references();
            let (cols, dtype) = (ruled.problem.n, ruled.problem.d.dtype);
            vec![("d", Rule::Rows { cols, dtype, oracle: oracle.d, low: low.d, mag: oracle.mag })]
        };
        Ok(Replay { expected, run: Box::new(run), rules: Box::new(rules) })
    }

    fn benches(&self) -> Vec<Bench> {
        use Dtype::{F16, F32};
        // A Llama of 1B: hidden 2048, intermediate 8192, weights stored [n, k].
        let llama = |m, n, k| Problem { trans_b: true, ..plain(m, n, k, [F16; 3]) };
        vec![
            bench("256x256x256 f32", plain(256, 256, 256, [F32; 3])),
            bench("512x512x512 f32", plain(512, 512, 512, [F32; 3])),
            bench("1024x1024x1024 f32", plain(1024, 1024, 1024, [F32; 3])),
            bench("512x512x512 f16", plain(512, 512, 512, [F16; 3])),
            bench("1024x1024x1024 f16", plain(1024, 1024, 1024, [F16; 3])),
            bench("1x2048x2048 f32 NT", Problem { trans_b: true, ..plain(1, 2048, 2048, [F32; 3]) }),
            bench("1x2048x2048 f32", plain(1, 2048, 2048, [F32; 3])),
            bench("1x2048x2048 f16 NT decode", llama(1, 2048, 2048)),
            bench("1x8192x2048 f16 NT decode", llama(1, 8192, 2048)),
            bench("1x2048x8192 f16 NT decode", llama(1, 2048, 8192)),
            bench("128x2048x2048 f16 NT prefill", llama(128, 2048, 2048)),
            bench("128x8192x2048 f16 NT prefill", llama(128, 8192, 2048)),
            bench("16x16x16384 f32 long k", plain(16, 16, 16384, [F32; 3])),
        ]
    }
}

fn bench(shape: &str, problem: Problem) -> Bench {
    let Problem { m, n, k, a, b, d, .. } = problem;
    let bytes = [(m * k, a.dtype), (k * n, b.dtype), (m * n, d.dtype)];
    Bench {
        shape: shape.into(),
        quick: matches!(shape, "512x512x512 f32" | "512x512x512 f16" | "1x2048x2048 f32 NT"),
        flops: problem.flops(),
        bytes: bytes.iter().map(|&(n, dtype)| n as f64 * dtype.bytes() as f64).sum(),
        prepare: Box::new(move |gpu: &Gpu, pool: &Pool, sets: usize| {
            let config = gemm::choose(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())?;
            let mut dispatches = Vec::with_capacity(sets);
            let mut first = None;
            for set in 0..sets {
                let a = gpu.buffer(&pool.bytes(a.dtype, m * k, set));
                let b = gpu.buffer(&pool.bytes(b.dtype, k * n, set + 1000));
                let d = gpu.buffer(&vec![POISON; (m * n * d.dtype.bytes() as usize).next_multiple_of(4)]);
                let dispatch = gemm::prepare_with(&gpu.kernels, &problem, &config, Buffers::new(&a, &b, &d));
                dispatches.push(dispatch.map_err(|error| error.to_string())?);
                first.get_or_insert((a, b, d));
            }
            let (a_buffer, b_buffer, d_buffer) = first.ok_or("no input set was asked for")?;
            let check = move |gpu: &Gpu| {
                let [a_values, b_values, d_values] = [(&a_buffer, a.dtype), (&b_buffer, b.dtype), (&d_buffer, d.dtype)]
                    .map(|(buffer, dtype): (_, Dtype)| gpu.read(buffer).map(|bytes| dtype.decode(&bytes)));
                let (a_values, b_values, d_values) = (a_values?, b_values?, d_values?);
                // The last rows: the ends of all three are seen.
                let rows = m.min(5);
                let few = Problem { m: rows, ..problem };
                let call = Call {
                    a: a_values[(m - rows) * k..m * k].to_vec(),
                    b: b_values[..k * n].to_vec(),
                    ..Call::with(Problem { m: 0, ..few }, 0, |_, _| 0.0)
                };
                let call = Call { problem: few, ..call };
                let d = d_values[(m - rows) * n..m * n].to_vec();
                Ok(call.judge(&Output { d, steps: Vec::new() }))
            };
            Ok(Prepared { dispatches, config: format!("{config}"), check: Box::new(check) })
        }),
    }
}

fn bad_shape(name: &str, tensor: &Tensor, expected: impl Into<String>) -> Fault {
    Fault::BadShape { name: name.into(), have: tensor.shape.clone(), expected: expected.into() }
}

/// The leading axes of both by NumPy's rules.
fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    let of = |i| match (at(a, i), at(b, i)) {
        (x, y) if x == y => Some(x),
        (1, y) => Some(y),
        (x, 1) => Some(x),
        _ => None,
    };
    (0..rank).map(of).collect()
}

/// The matrices of `tensor`, repeated to the batches of `to`.
fn expand(tensor: &Tensor, matrix: usize, to: &[usize]) -> Vec<f64> {
    let values = tensor.numbers().unwrap_or_default();
    let from = &tensor.shape[..tensor.shape.len() - 2];
    let skip = to.len() - from.len();
    let mut out = Vec::with_capacity(to.iter().product::<usize>() * matrix);
    for batch in 0..to.iter().product::<usize>() {
        let place = case::place(to, batch);
        let own = from.iter().zip(&place[skip..]).fold(0, |own, (&n, &i)| own * n + if n == 1 { 0 } else { i });
        out.extend_from_slice(&values[own * matrix..][..matrix]);
    }
    out
}

fn understand(case: &Case) -> Result<(Call, case::Expected, Vec<usize>), Fault> {
    let mut reader = Reader::new(case);
    let a = reader.tensor("a", "[.., m, k]")?;
    let b = reader.tensor("b", "[.., k, n]")?;
    let (trans_a, trans_b) = (reader.option("trans_a", false)?, reader.option("trans_b", false)?);
    let (a_dtype, b_dtype) = (case::float("a", a)?, case::float("b", b)?);
    let dims = |name, tensor: &Tensor, trans| match tensor.shape[..] {
        [.., x, y] => Ok(if trans { (y, x) } else { (x, y) }),
        _ => Err(bad_shape(name, tensor, "at least two axes")),
    };
    let ((m, k), (k2, n)) = (dims("a", a, trans_a)?, dims("b", b, trans_b)?);
    if k != k2 {
        return Err(bad_shape("b", b, format!("k of {k}, as `a` has it")));
    }
    let outer = |tensor: &Tensor| tensor.shape[..tensor.shape.len() - 2].to_vec();
    let batch = broadcast(&outer(a), &outer(b))
        .ok_or_else(|| bad_shape("b", b, format!("leading axes that broadcast with {:?}", outer(a))))?;
    let shape: Vec<usize> = batch.iter().copied().chain([m, n]).collect();
    let batches: usize = batch.iter().product();
    let mut problem = plain(m, n, k, [a_dtype, b_dtype, reader.option("out_dtype", a_dtype)?]);
    (problem.trans_a, problem.trans_b, problem.batch) = (trans_a, trans_b, [1, batches]);
    problem.alpha = reader.option("alpha", 1.0)?;
    problem.beta = reader.option("beta", 1.0)?;
    let names: Vec<&str> = Activation::ALL.iter().map(|activation| activation.name()).collect();
    let word = reader.word("activation", &names)?;
    problem.epilogue.activation = Activation::ALL.iter().copied().find(|a| a.name() == word).unwrap_or_default();
    let (mut c_values, mut bias_values) = (None, None);
    if let Some(c) = reader.optional("c") {
        if broadcast(&c.shape, &shape).as_ref() != Some(&shape)
            || c.shape.len() < 2
            || c.shape[c.shape.len() - 2..] != [m, n]
        {
            return Err(bad_shape("c", c, format!("{shape:?}")));
        }
        problem.c = Some(Matrix::new(case::float("c", c)?));
        c_values = Some(expand(c, m * n, &batch));
    }
    if let Some(bias) = reader.optional("bias") {
        if bias.shape != [n] {
            return Err(bad_shape("bias", bias, format!("[{n}]")));
        }
        problem.epilogue.bias = Some(Vector { dtype: case::float("bias", bias)?, along: Along::Columns, offset: 0 });
        bias_values = bias.numbers();
    }
    let expected = reader.finish(&[("d", shape.clone())])?;
    let call = Call {
        a: expand(a, m * k, &batch),
        b: expand(b, k * n, &batch),
        c: c_values,
        bias: bias_values,
        b2: None,
        residual: None,
        scale: None,
        in_place: false,
        problem,
    };
    Ok((call, expected, shape))
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
        Tensor::values(Dtype::F32, shape, &vec![1.0; shape.iter().product()])
    }

    #[test]
    fn faults_name_what_is_wrong() {
        let of = |a: &[usize], b: &[usize]| Case::new("gemm").tensor("a", values(a)).tensor("b", values(b));
        assert_eq!(fault(&of(&[2, 1, 3, 4], &[5, 4, 6])), "understood");
        assert_eq!(fault(&of(&[3, 4], &[5, 6])), "tensor `b` has shape [5, 6], expected k of 4, as `a` has it");
        assert_eq!(fault(&of(&[3, 4], &[6, 4]).option("trans_b", true)), "understood");
        assert!(fault(&of(&[4], &[4, 6])).contains("expected at least two axes"));
        assert!(fault(&of(&[2, 3, 4], &[3, 4, 6])).contains("leading axes that broadcast with [2]"));
        assert!(fault(&of(&[3, 4], &[4, 6]).tensor("bias", values(&[5]))).contains("expected [6]"));
        assert!(fault(&of(&[3, 4], &[4, 6]).tensor("c", values(&[6, 3]))).contains("expected [3, 6]"));
        let fault = fault(&of(&[3, 4], &[4, 6]).option("activation", "swish"));
        assert!(fault.contains("none or relu or gelu or gelu_tanh or silu"), "{fault}");
    }

    #[test]
    fn batches_are_repeated() {
        let tensor = Tensor::values(Dtype::F32, &[2, 1, 1, 1], &[5.0, 6.0]);
        assert_eq!(expand(&tensor, 1, &[2, 3]), [5.0, 5.0, 5.0, 6.0, 6.0, 6.0]);
        assert_eq!(expand(&Tensor::values(Dtype::F32, &[1, 1], &[7.0]), 1, &[2]), [7.0, 7.0]);
    }
}
