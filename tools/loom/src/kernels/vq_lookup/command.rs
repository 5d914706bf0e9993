//! What VQ lookup brings to the commands: checks, case files, benchmarks.

use std::rc::Rc;

use tileloom::Dtype;
use tileloom::vq_lookup::{self, Buffers, Combine, Index, Order, OutOfRange, Problem};

use super::{Call, index_bytes};
use crate::Gpu;
use crate::bench::Pool;
use crate::case::{self, Case, Fault, Reader, Tensor};
use crate::kernels::{Bench, Check, Kernel, Outputs, Prepared, Replay, Rule};
use crate::memory::POISON;
use crate::random::Random;

/// VQ lookup, for the commands.
pub struct VqLookup;

pub const KERNEL: VqLookup = VqLookup;

impl Kernel for VqLookup {
    fn name(&self) -> &'static str {
        "vq_lookup"
    }

    fn ops(&self) -> &'static [&'static str] {
        &["vq_lookup"]
    }

    fn checks(&self) -> Vec<Check> {
        let base = Problem { batch: 2, spatial: 21, num_codes: 50, code_dim: 64, bad: Some(0), ..Problem::default() };
        let odd = Problem { code_dim: 7, x: Dtype::F16, y: Dtype::F16, ..base };
        let two = Problem { books: 2, ..base };
        let cases = [
            ("f32", base),
            ("two books", Problem { index: Index::I32, ..two }),
            ("two books added", Problem { combine: Combine::Sum, out_of_range: OutOfRange::First, ..two }),
            ("f16", Problem { x: Dtype::F16, y: Dtype::F16, index: Index::U16, ..base }),
            ("f16, odd rows", odd),
            ("channels first", Problem { order: Order::ChannelsFirst, ..two }),
            ("f16 channels first, odd rows", Problem { order: Order::ChannelsFirst, ..odd }),
        ];
        let check = |(name, problem): (&'static str, Problem)| {
            Check::new(name, move |gpu| {
                let call = Call::random(problem, 1);
                Ok(call.judge(&call.run(gpu, &gpu.kernels, None)?))
            })
        };
        cases.into_iter().map(check).collect()
    }

    fn replay(&self, case: &Case) -> Result<Replay, Fault> {
        let (call, expected, shape) = understand(case)?;
        let call = Rc::new(call);
        let ruled = call.clone();
        let run = move |gpu: &Gpu| {
            let output = call.run(gpu, &gpu.kernels, None)?;
            let y = Tensor::values(call.problem.y, &shape, &output.y);
            Ok(Outputs { tensors: vec![("y", y)], config: output.steps.join("; ") })
        };
        let rules = move || {
            let [oracle, low] = ruled.references();
            let rule = match ruled.moves() {
                true => Rule::Exact,
                false => Rule::Rows {
                    cols: ruled.problem.channels(),
                    dtype: ruled.problem.y,
                    oracle: oracle.y,
                    low: low.y,
                    mag: oracle.mag,
                },
            };
            vec![("y", rule)]
        };
        Ok(Replay { expected, run: Box::new(run), rules: Box::new(rules) })
    }

    fn benches(&self) -> Vec<Bench> {
        let of = |spatial, num_codes, code_dim, dtype| Problem {
            spatial,
            num_codes,
            code_dim,
            x: dtype,
            y: dtype,
            ..Problem::default()
        };
        vec![
            bench("65536 of 8192x64 f32", of(65_536, 8192, 64, Dtype::F32)),
            bench("65536 of 16384x256 f32", of(65_536, 16_384, 256, Dtype::F32)),
            bench("8192 of 32000x1024 f16", of(8192, 32_000, 1024, Dtype::F16)),
            bench(
                "65536 of 8192x64 f32 channels first",
                Problem { order: Order::ChannelsFirst, ..of(65_536, 8192, 64, Dtype::F32) },
            ),
        ]
    }
}

/// `[num_codes, dim]` or `[books, num_codes, dim]`.
pub fn codebook_shape(tensor: &Tensor) -> Result<[usize; 3], Fault> {
    match tensor.shape[..] {
        [num_codes, dim] if num_codes > 0 && dim > 0 => Ok([1, num_codes, dim]),
        [books, num_codes, dim] if books > 0 && num_codes > 0 && dim > 0 => Ok([books, num_codes, dim]),
        _ => Err(Fault::BadShape {
            name: "codebook".into(),
            have: tensor.shape.clone(),
            expected: "[num_codes, dim] or [books, num_codes, dim], none of them 0".into(),
        }),
    }
}

fn understand(case: &Case) -> Result<(Call, case::Expected, Vec<usize>), Fault> {
    let mut reader = Reader::new(case);
    let codebook = reader.tensor("codebook", "[num_codes, dim] or [books, num_codes, dim]")?;
    let x = case::float("codebook", codebook)?;
    let [books, num_codes, code_dim] = codebook_shape(codebook)?;
    let indices = reader.tensor("indices", "[.., (books)]")?;
    let values = indices.integers().ok_or_else(|| Fault::BadDtype {
        name: "indices".into(),
        have: indices.dtype.to_string(),
        expected: case::INDICES,
    })?;
    let mut shape = indices.shape.clone();
    if codebook.shape.len() == 3 && shape.pop() != Some(books) {
        let (have, expected) = (indices.shape.clone(), format!("[.., {books}], one index per book"));
        return Err(Fault::BadShape { name: "indices".into(), have, expected });
    }
    // All that do not fit in 32 bits are out of range alike.
    let values: Vec<i64> = values.into_iter().map(|v| u32::try_from(v).map_or(-1, i64::from)).collect();
    let combine = match reader.word("combine", &["concat", "sum"])? {
        "concat" => Combine::Concat,
        _ => Combine::Sum,
    };
    let out_of_range = match reader.word("out_of_range", &["zero", "first"])? {
        "zero" => OutOfRange::Zero,
        _ => OutOfRange::First,
    };
    let problem = Problem {
        spatial: values.len() / books,
        books,
        num_codes,
        code_dim,
        combine,
        out_of_range,
        x,
        y: reader.option("out_dtype", x)?,
        ..Problem::default()
    };
    shape.push(problem.channels());
    let expected = reader.finish(&[("y", shape.clone())])?;
    let codebook = codebook.numbers().unwrap_or_default();
    Ok((Call { problem, indices: values, codebook }, expected, shape))
}

fn bench(shape: &str, problem: Problem) -> Bench {
    let Problem { num_codes, code_dim, .. } = problem;
    let n = problem.positions();
    let elements = n * problem.channels();
    Bench {
        shape: shape.into(),
        quick: shape.ends_with("x64 f32"),
        flops: 0.0,
        // A gathered row counts as often as it is read.
        bytes: (elements as u64 * (problem.x.bytes() + problem.y.bytes()) + n as u64 * 4) as f64,
        prepare: Box::new(move |gpu: &Gpu, pool: &Pool, sets: usize| {
            let caps = gpu.kernels.caps();
            let config = vq_lookup::choose(&caps, &problem).map_err(|error| error.to_string())?;
            let codebook = gpu.buffer(&pool.bytes(problem.x, num_codes * code_dim, 0));
            let mut dispatches = Vec::with_capacity(sets);
            let mut first = None;
            for set in 0..sets {
                let mut random = Random::new(set as u64);
                let words: Vec<u32> = (0..n).map(|_| random.below(num_codes) as u32).collect();
                let indices = gpu.buffer(&index_bytes(problem.index, &words));
                let y = gpu.buffer(&vec![POISON; elements * problem.y.bytes() as usize]);
                let buffers = Buffers::new(&indices, &codebook, &y);
                let dispatch = vq_lookup::prepare_with(&gpu.kernels, &problem, &config, buffers);
                dispatches.push(dispatch.map_err(|error| error.to_string())?);
                first.get_or_insert((words, y));
            }
            let (words, y) = first.ok_or("no input set was asked for")?;
            let codebook = pool.values(problem.x, num_codes * code_dim, 0);
            let check = move |gpu: &Gpu| {
                let indices = words.iter().map(|&w| i64::from(w)).collect();
                let call = Call { problem, indices, codebook: codebook.clone() };
                let y = problem.y.decode(&gpu.read(&y)?);
                Ok(call.judge(&super::Output { y, bad: None, steps: Vec::new() }))
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
        let of = |codebook: &[usize], indices: &[usize]| {
            let zeros = |shape: &[usize]| vec![0.0; shape.iter().product()];
            Case::new("vq_lookup")
                .tensor("codebook", Tensor::values(Dtype::F32, codebook, &zeros(codebook)))
                .tensor("indices", Tensor::indices(indices, &vec![0; indices.iter().product()]))
        };
        let fault = |case: &Case| understand(case).map_or_else(|fault| fault.to_string(), |(_, _, s)| format!("{s:?}"));
        assert_eq!(fault(&of(&[5, 4], &[2, 3])), "[2, 3, 4]");
        assert_eq!(fault(&of(&[2, 5, 4], &[3, 2])), "[3, 8]");
        assert_eq!(fault(&of(&[2, 5, 4], &[3, 2]).option("combine", "sum")), "[3, 4]");
        assert!(fault(&of(&[2, 5, 4], &[3, 3])).contains("[.., 2], one index per book"));
        assert!(fault(&of(&[0, 4], &[3])).contains("none of them 0"));
        assert!(fault(&of(&[5, 4], &[3]).option("out_of_range", "last")).contains("zero or first"));
    }
}
