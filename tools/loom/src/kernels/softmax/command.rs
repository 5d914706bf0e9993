//! What softmax brings to the commands: checks, case files, benchmarks.

use std::rc::Rc;

use tileloom::Dtype;
use tileloom::reference::Verdict;
use tileloom::softmax::{self, Buffers, Mask, MaskKind, Problem};

use super::{Call, Memory, Output};
use crate::Gpu;
use crate::bench::Pool;
use crate::case::{self, Case, Fault, Reader, Tensor};
use crate::kernels::{Bench, Check, Kernel, Outputs, Prepared, Replay, Rule};
use crate::memory::POISON;

/// Softmax, for the commands.
pub struct Softmax;

pub const KERNEL: Softmax = Softmax;

impl Kernel for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn ops(&self) -> &'static [&'static str] {
        &["softmax"]
    }

    fn checks(&self) -> Vec<Check> {
        let base = Problem { lse: Some(0), ..Problem::default() };
        let rows = |rows, cols| Problem { rows, cols, ..base };
        let typed = |dtype, problem| Problem { x: dtype, y: dtype, ..problem };
        let masked = |kind, problem: Problem| Problem { mask: Some(Mask::new(kind)), ..problem };
        // [b, h, sq, skv] with one mask [sq, skv] for all heads.
        let heads = |problem: Problem| Problem { dims: [3, 24], ..problem };
        let shared =
            |kind, problem: Problem| Problem { mask: Some(Mask::shared(kind, problem.cols)), ..heads(problem) };
        let f32_mask = MaskKind::Additive(Dtype::F32);
        let cases = [
            ("short rows", rows(33, 8), Memory::Separate),
            ("odd cols", rows(37, 111), Memory::Separate),
            ("one column", rows(5, 1), Memory::Separate),
            ("4096 cols", rows(9, 4096), Memory::Separate),
            ("long row, split", rows(2, 100_003), Memory::Separate),
            ("f16, odd cols", typed(Dtype::F16, rows(37, 111)), Memory::Separate),
            ("bf16, odd cols", typed(Dtype::Bf16, rows(37, 111)), Memory::Separate),
            ("f16, 4096 cols", typed(Dtype::F16, rows(9, 4096)), Memory::Separate),
            ("additive mask", masked(f32_mask, rows(35, 111)), Memory::Separate),
            ("boolean mask", masked(MaskKind::Bytes, rows(35, 111)), Memory::Separate),
            ("bit mask, shared by heads", shared(MaskKind::Bits, rows(2 * 72, 111)), Memory::Separate),
            ("causal", Problem { causal: true, ..heads(rows(2 * 72, 40)) }, Memory::Separate),
            ("causal, more queries than keys", Problem { causal: true, ..heads(rows(72, 8)) }, Memory::Separate),
            ("log, scaled", Problem { log: true, scale: 0.125, ..rows(37, 111) }, Memory::Separate),
            ("in place", rows(37, 111), Memory::InPlace),
            ("70,001 rows", rows(70_001, 8), Memory::Separate),
        ];
        let check = |(name, problem, memory): (&'static str, Problem, Memory)| {
            Check::new(name, move |gpu| {
                let mut call = Call::random(problem, 1).in_memory(memory);
                if problem.mask.is_some() {
                    call = call.with_random_mask(2);
                }
                Ok(call.judge(&call.run(gpu, &gpu.kernels, None)?))
            })
        };
        cases.into_iter().map(check).collect()
    }

    fn replay(&self, case: &Case) -> Result<Replay, Fault> {
        let mut reader = Reader::new(case);
        let x = reader.tensor("x", "[.., cols]")?;
        let dtype = case::float("x", x)?;
        let Some((&cols, outer)) = x.shape.split_last() else {
            return Err(Fault::BadShape { name: "x".into(), have: Vec::new(), expected: "[.., cols]".into() });
        };
        let problem = Problem {
            rows: outer.iter().product(),
            cols,
            dims: [1, outer.last().copied().unwrap_or(1)],
            x: dtype,
            y: reader.option("out_dtype", dtype)?,
            scale: reader.option("scale", 1.0)?,
            log: reader.option("log", false)?,
            causal: reader.option("causal", false)?,
            lse: Some(0),
            ..Problem::default()
        };
        if problem.causal && outer.is_empty() {
            let expected = "at least two axes, by `causal`".into();
            return Err(Fault::BadShape { name: "x".into(), have: x.shape.clone(), expected });
        }
        let mut call = Call::new(problem, x.numbers().unwrap_or_default());
        if let Some(mask) = reader.optional("mask") {
            add_mask(&mut call, mask, &x.shape)?;
        }
        let outputs = [("y", x.shape.clone()), ("lse", outer.to_vec())];
        let expected = reader.finish(&outputs)?;
        for (name, tensor) in &expected.tensors {
            case::float(&format!("expected.{name}"), tensor)?;
        }

        let [(_, y_shape), (_, lse_shape)] = outputs;
        let call = Rc::new(call);
        let ruled = call.clone();
        let run = move |gpu: &Gpu| {
            let output = if call.x.is_empty() {
                // Nothing to dispatch; a row without columns has an LSE of minus infinity.
                let lse = Some(vec![f64::NEG_INFINITY; call.problem.rows]);
                Output { y: Vec::new(), lse, steps: vec!["nothing to compute".into()] }
            } else {
                call.run(gpu, &gpu.kernels, None)?
            };
            let y = Tensor::values(call.problem.y, &y_shape, &output.y);
            let lse = Tensor::values(Dtype::F32, &lse_shape, &output.lse.unwrap_or_default());
            Ok(Outputs { tensors: vec![("y", y), ("lse", lse)], config: output.steps.join("; ") })
        };
        let rules = move || {
            let (oracle, low) = ruled.references();
            let Problem { cols, y: dtype, .. } = ruled.problem;
            let y = Rule::Rows { cols, dtype, oracle: oracle.y, low: low.y, mag: oracle.mag };
            let (oracle, low, mag) = (oracle.lse, low.lse, oracle.lse_mag);
            vec![("y", y), ("lse", Rule::Rows { cols: 1, dtype: Dtype::F32, oracle, low, mag })]
        };
        Ok(Replay { expected, run: Box::new(run), rules: Box::new(rules) })
    }

    fn benches(&self) -> Vec<Bench> {
        let rows = |rows, cols| Problem { rows, cols, ..Problem::default() };
        let scores = Problem { dims: [16, 512], ..rows(8 * 16 * 512, 512) };
        let mask = Mask::shared(MaskKind::Additive(Dtype::F32), 512);
        [
            ("4096x4096 f32", rows(4096, 4096)),
            ("4096x4096 f16", Problem { x: Dtype::F16, y: Dtype::F16, ..rows(4096, 4096) }),
            ("65536x64 f32", rows(65536, 64)),
            ("8192x1000 f32", rows(8192, 1000)),
            ("1x152064 f32", rows(1, 152_064)),
            ("16x50257 f32", rows(16, 50257)),
            ("8x16x512x512 f32 causal", Problem { causal: true, ..scores }),
            ("8x16x512x512 f32 masked", Problem { mask: Some(mask), ..scores }),
        ]
        .map(|(shape, problem)| bench(shape, problem))
        .into()
    }
}

/// Gives the call a mask as stored, broadcast to `x` by NumPy's rules.
fn add_mask(call: &mut Call, mask: &Tensor, x: &[usize]) -> Result<(), Fault> {
    let kind = match mask.float() {
        Some(dtype) => MaskKind::Additive(dtype),
        None if mask.is_boolean() => MaskKind::Bytes,
        None => {
            let have = mask.dtype.to_string();
            return Err(Fault::BadDtype { name: "mask".into(), have, expected: case::VALUES_OR_BOOLEANS });
        }
    };
    let fits =
        mask.shape.len() <= x.len() && mask.shape.iter().rev().zip(x.iter().rev()).all(|(&m, &n)| m == n || m == 1);
    if !fits {
        let expected = format!("one that broadcasts to x, {x:?}");
        return Err(Fault::BadShape { name: "mask".into(), have: mask.shape.clone(), expected });
    }
    let values = mask.numbers().unwrap_or_default();
    if call.x.is_empty() {
        return Ok(());
    }
    let (mask, values) = match softmax::broadcast(kind, &mask.shape, x) {
        Some((dims, broadcast)) => {
            call.problem.dims = dims;
            (broadcast, values)
        }
        // More alternations than strides can say: written out.
        None => (Mask::new(kind), expand(&mask.shape, &values, x)),
    };
    call.problem.mask = Some(mask);
    call.mask = Some(values);
    Ok(())
}

/// `values` of shape `from`, broadcast to shape `to`.
fn expand(from: &[usize], values: &[f64], to: &[usize]) -> Vec<f64> {
    let at = |i: usize| {
        let index = case::place(to, i);
        let own = &index[to.len() - from.len()..];
        own.iter().zip(from).fold(0, |at, (&i, &size)| at * size + if size == 1 { 0 } else { i })
    };
    (0..to.iter().product()).map(|i| values[at(i)]).collect()
}

/// Elements that a benchmark's check looks at.
const SAMPLE: usize = 1 << 18;

/// Measures `problem`; input set `i` is set `i` of the pool.
pub fn bench(shape: &str, problem: Problem) -> Bench {
    let Problem { rows, cols, dims: [n1, n2], .. } = problem;
    let elements = (rows * cols) as f64;
    // Of a causal x, only what is visible need be read.
    let seen = if problem.causal {
        (0..n2).map(|i| (i + 1 + cols).saturating_sub(n2).min(cols)).sum::<usize>() as f64 / (n2 * cols) as f64
    } else {
        1.0
    };
    let mask_bytes = if problem.mask.is_some() { (n2 * cols * 4) as f64 } else { 0.0 };
    Bench {
        shape: shape.into(),
        quick: matches!(shape, "4096x4096 f32" | "8192x1000 f32" | "16x50257 f32"),
        // Scale, maximum, exponential of a difference, sum, product.
        flops: 5.0 * elements * seen,
        bytes: elements * (seen * problem.x.bytes() as f64 + problem.y.bytes() as f64) + mask_bytes,
        prepare: Box::new(move |gpu: &Gpu, pool: &Pool, sets: usize| {
            let config = softmax::choose(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())?;
            // Normal values with a hidden third, one mask for all sets.
            let bias: Vec<f64> = pool.values(Dtype::F32, n2 * cols, 17);
            let bias: Vec<f64> = bias.into_iter().map(|v| if v > 1.2 { f64::NEG_INFINITY } else { v }).collect();
            let mask = problem.mask.map(|_| gpu.buffer(&Dtype::F32.encode(&bias)));
            let y_bytes = (rows * cols) as u64 * problem.y.bytes();
            let mut dispatches = Vec::with_capacity(sets);
            let mut first = None;
            for set in 0..sets {
                let x = gpu.buffer(&pool.bytes(problem.x, rows * cols, set));
                let y = gpu.buffer(&vec![POISON; y_bytes.next_multiple_of(4) as usize]);
                let mut buffers = Buffers::new(&x, &y);
                if let Some(mask) = &mask {
                    buffers = buffers.mask(mask);
                }
                let dispatch = softmax::prepare_with(&gpu.kernels, &problem, &config, buffers);
                dispatches.push(dispatch.map_err(|error| error.to_string())?);
                first.get_or_insert((x, y));
            }
            let (x, y) = first.ok_or("no input set was asked for")?;
            let check = move |gpu: &Gpu| -> Result<Verdict, String> {
                let group = n2 * cols; // rows that a mask and `causal` tell apart
                let groups = rows / n2;
                let few = (SAMPLE / group).clamp(2, groups.max(2)).min(groups);
                let (x, y) = (gpu.read(&x)?, gpu.read(&y)?);
                // From the first to the last, evenly.
                let picked = (0..few).map(|i| if few == 1 { 0 } else { i * (groups - 1) / (few - 1) });
                let (mut xs, mut ys) = (Vec::new(), Vec::new());
                for at in picked {
                    let take = |bytes: &[u8], dtype: Dtype| {
                        let width = dtype.bytes() as usize;
                        dtype.decode(&bytes[at * group * width..][..group * width])
                    };
                    xs.extend(take(&x, problem.x));
                    ys.extend(take(&y, problem.y));
                }
                let part = Problem { rows: few * n2, dims: [if n1 == 1 { 1 } else { few }, n2], ..problem };
                let mut call = Call::new(part, xs);
                call.mask = part.mask.map(|_| bias.clone());
                Ok(call.judge(&Output { y: ys, lse: None, steps: Vec::new() }))
            };
            Ok(Prepared { dispatches, config: format!("{config:?}"), check: Box::new(check) })
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

    fn x(shape: &[usize]) -> Case {
        let values: Vec<f64> = (0..shape.iter().product()).map(|i: usize| i as f64).collect();
        Case::new("softmax").tensor("x", Tensor::values(Dtype::F32, shape, &values))
    }

    #[test]
    fn faults_name_what_is_wrong() {
        assert_eq!(fault(&Case::new("softmax")), "tensor `x` is missing, expected [.., cols]");
        let integers = Case::new("softmax").tensor("x", Tensor::indices(&[2], &[1, 2]));
        assert_eq!(fault(&integers), "tensor `x` has dtype U32, expected F32, F16 or BF16");
        assert_eq!(fault(&x(&[])), "tensor `x` has shape [], expected [.., cols]");
        assert_eq!(
            fault(&x(&[3]).option("causal", true)),
            "tensor `x` has shape [3], expected at least two axes, by `causal`"
        );
        assert_eq!(
            fault(&x(&[3]).option("out_dtype", "f64")),
            "option `out_dtype` is \"f64\", expected f32, f16 or bf16"
        );
        assert_eq!(fault(&x(&[3]).option("log", "yes")), "option `log` is \"yes\", expected true or false");
        assert!(fault(&x(&[3]).option("axis", 0)).starts_with("option `axis` is not known, expected one of: causal,"));
        let mask = |shape: &[usize]| Tensor::bools(shape, &vec![true; shape.iter().product()]);
        assert_eq!(
            fault(&x(&[2, 3]).tensor("mask", mask(&[2]))),
            "tensor `mask` has shape [2], expected one that broadcasts to x, [2, 3]"
        );
        assert_eq!(
            fault(&x(&[2, 3]).tensor("mask", Tensor::indices(&[3], &[1, 2, 3]))),
            "tensor `mask` has dtype U32, expected F32, F16, BF16, BOOL or U8"
        );
        assert_eq!(
            fault(&x(&[2, 3]).tensor("bias", mask(&[3]))),
            "tensor `bias` is not used by this op, expected only: mask, x, expected.y, expected.lse"
        );
        assert_eq!(
            fault(&x(&[2, 3]).tensor("expected.lse", mask(&[2, 3]))),
            "tensor `expected.lse` has shape [2, 3], expected [2]"
        );
        assert_eq!(fault(&x(&[2, 3]).tensor("mask", mask(&[1, 3])).option("format", "pt")), "understood");
        assert_eq!(fault(&x(&[2, 0]).tensor("mask", mask(&[2, 0]))), "understood");
    }

    #[test]
    fn masks_that_strides_cannot_say_are_written_out() {
        let shape = [2, 3, 2, 3, 2, 4];
        let from = [2, 1, 2, 1, 2, 1];
        assert!(softmax::broadcast(MaskKind::Bytes, &from, &shape).is_none());
        let values: Vec<f64> = (0..8).map(f64::from).collect();
        let all = expand(&from, &values, &shape);
        for (i, &v) in all.iter().enumerate() {
            let at = case::place(&shape, i);
            assert_eq!(v, (at[0] * 4 + at[2] * 2 + at[4]) as f64);
        }
        let call = x(&shape).tensor("mask", Tensor::bools(&from, &[true; 8]));
        assert_eq!(fault(&call), "understood");
    }

    #[test]
    fn a_causal_benchmark_counts_what_is_visible() {
        let problem = Problem { rows: 4, cols: 4, dims: [1, 4], causal: true, ..Problem::default() };
        let bench = bench("", problem);
        assert_eq!((bench.flops, bench.bytes), (50.0, 40.0 + 64.0));
    }
}
