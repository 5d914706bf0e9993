//! What VQ assign brings to the commands: checks, case files, benchmarks.

use std::rc::Rc;

use tileloom::Dtype;
use tileloom::vq_assign::{self, Buffers, Metric, Problem, Quantized};

use super::Call;
use crate::Gpu;
use crate::case::{self, Case, Expected, Fault, Reader, Tensor};
use crate::kernels::vq::vq_lookup::codebook_shape;
use crate::kernels::{Bench, Check, Kernel, Outputs, Replay, Rule};
use crate::memory::POISON;
use crate::pool::{Pool, Prepared};

/// VQ assign, for the commands.
pub struct VqAssign;

pub const KERNEL: VqAssign = VqAssign;

impl Kernel for VqAssign {
    fn name(&self) -> &'static str {
        "vq_assign"
    }

    fn ops(&self) -> &'static [&'static str] {
        &["vq_assign"]
    }

    fn checks(&self) -> Vec<Check> {
        let base = Problem { n: 70, num_codes: 300, code_dim: 32, ..Problem::default() };
        let cases = [
            ("l2", base),
            ("cosine", Problem { metric: Metric::Cosine, ..base }),
            ("dot", Problem { metric: Metric::Dot, ..base }),
            ("two books", Problem { books: 2, ..base }),
            ("residual", Problem { books: 3, residual: true, ..base }),
            ("f16, top 4", Problem { x: Dtype::F16, codebook: Dtype::F16, top: 4, ..base }),
            ("odd", Problem { code_dim: 7, ..base }),
        ];
        let check = |(name, problem): (&'static str, Problem)| {
            Check::new(name, move |gpu| {
                let call = Call::random(problem, 1).with_everything();
                Ok(call.judge(&call.run(gpu, &gpu.kernels, None)?))
            })
        };
        cases.into_iter().map(check).collect()
    }

    fn replay(&self, case: &Case) -> Result<Replay, Fault> {
        let (call, expected, shapes) = understand(case)?;
        let call = Rc::new(call);
        let ruled = call.clone();
        let wanted = expected.tensors.get("indices").and_then(|tensor| tensor.integers());
        let run = move |gpu: &Gpu| {
            let output = call.run(gpu, &gpu.kernels, None)?;
            let [each, values, usage] = &shapes;
            let tensors = vec![
                ("indices", Tensor::indices(each, &output.indices)),
                ("quantized", Tensor::values(dtype(&call), values, &output.quantized.unwrap_or_default())),
                ("distance", Tensor::values(Dtype::F32, each, &output.distance.unwrap_or_default())),
                ("usage", Tensor::indices(usage, &output.usage.unwrap_or_default())),
            ];
            Ok(Outputs { tensors, config: output.steps.join("; ") })
        };
        let rules = move || {
            // Judged on the codes that the case expects, where it says which.
            let given = wanted.as_ref().map(|all| all.iter().map(|&k| k as u32).collect::<Vec<_>>());
            let most = ruled.problem.num_codes as u32;
            let given = given.filter(|all| all.iter().all(|&k| k < most));
            let of =
                [tileloom::reference::vq_assign::reference::<f64>, tileloom::reference::vq_assign::reference::<f32>];
            let [oracle, low] = of.map(|of| of(&ruled.problem, &ruled.x, &ruled.codebook, given.as_deref()));
            let cols = ruled.problem.code_dim;
            let mag = oracle.quantized.chunks(cols).map(|row| row.iter().fold(0f64, |m, v| m.max(v.abs()))).collect();
            let mags = ruled.mags(&oracle);
            let chosen = ruled.clone();
            vec![
                ("indices", Rule::By(Box::new(move |out, expected| chosen.judge_choices(out, expected)))),
                (
                    "quantized",
                    Rule::Rows { cols, dtype: dtype(&ruled), oracle: oracle.quantized, low: low.quantized, mag },
                ),
                (
                    "distance",
                    Rule::Rows { cols: 1, dtype: Dtype::F32, oracle: oracle.distance, low: low.distance, mag: mags },
                ),
                ("usage", Rule::Exact),
            ]
        };
        Ok(Replay { expected, run: Box::new(run), rules: Box::new(rules) })
    }

    fn benches(&self) -> Vec<Bench> {
        let of = |n, num_codes, code_dim| Problem { n, num_codes, code_dim, ..Problem::default() };
        vec![
            bench("4096x64 to 8192", of(4096, 8192, 64)),
            bench("4096x64 to 8192 cosine", Problem { metric: Metric::Cosine, ..of(4096, 8192, 64) }),
            bench("1024x256 to 8192", of(1024, 8192, 256)),
            bench("16384x8 to 1024", of(16_384, 1024, 8)),
        ]
    }
}

fn dtype(call: &Call) -> Dtype {
    call.problem.quantized.map_or(Dtype::F32, |q| q.dtype)
}

fn understand(case: &Case) -> Result<(Call, Expected, [Vec<usize>; 3]), Fault> {
    let mut reader = Reader::new(case);
    let codebook = reader.tensor("codebook", "[num_codes, dim] or [books, num_codes, dim]")?;
    let [books, num_codes, code_dim] = codebook_shape(codebook)?;
    let x = reader.tensor("x", "[n, dim] or [n, books, dim]")?;
    let residual = reader.option("residual", false)?;
    let one = residual || codebook.shape.len() == 2;
    let n = match x.shape[..] {
        [n, dim] if one && dim == code_dim => n,
        [n, have, dim] if !residual && have == books && dim == code_dim => n,
        _ => {
            let expected =
                if one { format!("[n, {code_dim}]") } else { format!("[n, {books}, {code_dim}], a vector per book") };
            return Err(Fault::BadShape { name: "x".into(), have: x.shape.clone(), expected });
        }
    };
    let metric = match reader.word("metric", &["l2", "cosine", "dot"])? {
        "l2" => Metric::L2,
        "cosine" => Metric::Cosine,
        _ => Metric::Dot,
    };
    let dtype = case::float("x", x)?;
    let problem = Problem {
        n,
        books,
        num_codes,
        code_dim,
        metric,
        residual,
        x: dtype,
        codebook: case::float("codebook", codebook)?,
        distance: Some(0),
        quantized: Some(Quantized { dtype: reader.option("out_dtype", dtype)?, offset: 0 }),
        usage: Some(0),
        ..Problem::default()
    };
    let each = if codebook.shape.len() == 2 && x.shape.len() == 2 { vec![n] } else { vec![n, books] };
    let shapes = [each, x.shape.clone(), vec![books, num_codes]];
    let expected = reader.finish(&[
        ("indices", shapes[0].clone()),
        ("quantized", shapes[1].clone()),
        ("distance", shapes[0].clone()),
        ("usage", shapes[2].clone()),
    ])?;
    let values = |tensor: &Tensor| tensor.numbers().unwrap_or_default();
    Ok((Call { problem, x: values(x), codebook: values(codebook) }, expected, shapes))
}

fn bench(shape: &str, problem: Problem) -> Bench {
    let Problem { n, num_codes, code_dim, .. } = problem;
    Bench {
        shape: shape.into(),
        quick: shape == "4096x64 to 8192",
        // As a product of matrices counts.
        flops: 2.0 * (n * num_codes * code_dim) as f64,
        bytes: 4.0 * ((n + num_codes) * code_dim + n) as f64,
        prepare: Box::new(move |gpu: &Gpu, pool: &Pool, sets: usize| {
            let caps = gpu.kernels.caps();
            let config = vq_assign::choose(&caps, &problem).map_err(|error| error.to_string())?;
            let codebook = gpu.buffer(&pool.bytes(problem.codebook, num_codes * code_dim, 7));
            let mut dispatches = Vec::with_capacity(sets);
            let mut first = None;
            for set in 0..sets.min(4) {
                let x = gpu.buffer(&pool.bytes(problem.x, n * code_dim, set));
                let indices = gpu.buffer(&vec![POISON; 4 * n]);
                let buffers = Buffers::new(&x, &codebook, &indices);
                let dispatch = vq_assign::prepare_with(&gpu.kernels, &problem, &config, buffers);
                dispatches.push(dispatch.map_err(|error| error.to_string())?);
                first.get_or_insert(indices);
            }
            let indices = first.ok_or("no input set was asked for")?;
            let x = pool.values(problem.x, n * code_dim, 0);
            let codebook = pool.values(problem.codebook, num_codes * code_dim, 7);
            let check = move |gpu: &Gpu| {
                // Some vectors: the oracle goes through all codes of each.
                let words: Vec<u32> = bytemuck::pod_collect_to_vec(&gpu.read(&indices)?);
                let few = Problem { n: n.min(128), ..problem };
                let skip = n - few.n;
                let call = Call { problem: few, x: x[skip * code_dim..].to_vec(), codebook: codebook.clone() };
                Ok(call.judge_indices(&words[skip..n]))
            };
            Ok(Prepared { dispatches, config: config.to_string(), check: Box::new(check) })
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_what_is_wrong() {
        let of = |codebook: &[usize], x: &[usize]| {
            let zeros = |shape: &[usize]| Tensor::values(Dtype::F32, shape, &vec![0.0; shape.iter().product()]);
            Case::new("vq_assign").tensor("codebook", zeros(codebook)).tensor("x", zeros(x))
        };
        let fault = |case: &Case| understand(case).map_or_else(|fault| fault.to_string(), |(_, _, s)| format!("{s:?}"));
        assert_eq!(fault(&of(&[5, 4], &[3, 4])), "[[3], [3, 4], [1, 5]]");
        assert_eq!(fault(&of(&[2, 5, 4], &[3, 2, 4])), "[[3, 2], [3, 2, 4], [2, 5]]");
        assert_eq!(fault(&of(&[2, 5, 4], &[3, 4]).option("residual", true)), "[[3, 2], [3, 4], [2, 5]]");
        assert!(fault(&of(&[5, 4], &[3, 5])).contains("expected [n, 4]"));
        assert!(fault(&of(&[2, 5, 4], &[3, 4])).contains("a vector per book"));
        assert!(fault(&of(&[5, 4], &[3, 4]).option("metric", "l1")).contains("l2 or cosine or dot"));
    }
}
