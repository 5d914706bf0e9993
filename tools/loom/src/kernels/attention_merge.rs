//! The merge of attention's partial results: calls with their oracle.

use std::rc::Rc;

use tileloom::attention_merge::{self, Buffers, Problem};
use tileloom::reference::attention_merge::{Output as Reference, reference};
use tileloom::reference::{Judge, Verdict};
use tileloom::{Dtype, Kernels, Layout};

use crate::Gpu;
use crate::case::{self, Case, Fault, Reader, Tensor};
use crate::kernels::{Bench, Check, Kernel, Outputs, Replay, Rule};
use crate::memory::{Image, POISON, Rows};
use crate::pool::{Pool, Prepared};
use crate::random::Random;

/// The merge, for the commands.
pub struct AttentionMerge;

pub const KERNEL: AttentionMerge = AttentionMerge;

/// One call, in separate memory; parts are contiguous.
#[derive(Debug, Clone)]
pub struct Call {
    pub problem: Problem,
    /// `[splits, rows, dim]`, as stored.
    pub o: Vec<f64>,
    /// `[splits, rows]`.
    pub lse: Vec<f64>,
}

/// What a call gave, contiguous.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    pub o: Vec<f64>,
    pub lse: Option<Vec<f64>>,
    pub steps: Vec<String>,
}

impl Call {
    /// Normal values; LSEs some of which are minus infinity, for one row all of them.
    pub fn random(problem: Problem, seed: u64) -> Call {
        let mut random = Random::new(seed);
        let n = problem.splits * problem.rows;
        let o = (0..n * problem.dim).map(|_| problem.x.round(0.5 + random.normal())).collect();
        let lse = (0..n).map(|i| match i % problem.rows == 4 || random.below(5) == 0 {
            true => f64::NEG_INFINITY,
            false => Dtype::F32.round(3.0 * random.normal() - 20.0 * (i % 2) as f64),
        });
        Call { problem, o, lse: lse.collect() }
    }

    /// Runs the call; see the other kernels.
    ///
    /// # Errors
    /// What `prepare` says, a lost device, or what spilled where.
    pub fn run(&self, gpu: &Gpu, kernels: &Kernels) -> Result<Output, String> {
        let p = &self.problem;
        let line = |offset, cols, dtype| Rows { layout: Layout::at(offset), sizes: [1, 1, 1], cols, dtype };
        let input = |view: Rows, values: &[f64]| {
            let mut image = Image::with_room(&[view]);
            image.scatter(&view, values);
            image
        };
        let o_image = input(line(p.o_layout.offset, self.o.len(), p.x), &self.o);
        let lse_image = input(line(p.lse, self.lse.len(), Dtype::F32), &self.lse);
        let out_view = Rows { layout: p.out_layout, sizes: p.sizes(), cols: p.dim, dtype: p.y };
        let lse_view = p.lse_out.map(|offset| line(offset, p.rows, Dtype::F32));
        let out_image = Image::with_room(&[out_view]);
        let lse_out_image = lse_view.map(|view| Image::with_room(&[view]));
        let (o, lse, out) = (gpu.buffer(&o_image.bytes), gpu.buffer(&lse_image.bytes), gpu.buffer(&out_image.bytes));
        let lse_out = lse_out_image.as_ref().map(|image| gpu.buffer(&image.bytes));
        let mut buffers = Buffers::new(o_image.binding(&o), lse_image.binding(&lse), out_image.binding(&out));
        if let (Some(image), Some(buffer)) = (&lse_out_image, &lse_out) {
            buffers = buffers.lse_out(image.binding(buffer));
        }
        let dispatch = attention_merge::prepare(kernels, p, buffers).map_err(|error| error.to_string())?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);

        let after = Image { bytes: gpu.read(&out)? };
        if let Some(byte) = after.spilled(&out_image, &out_view) {
            return Err(format!("byte {byte} outside o_out was written"));
        }
        let mut lse_values = None;
        if let (Some(before), Some(buffer), Some(view)) = (&lse_out_image, &lse_out, &lse_view) {
            let after = Image { bytes: gpu.read(buffer)? };
            if let Some(byte) = after.spilled(before, view) {
                return Err(format!("byte {byte} outside lse_out was written"));
            }
            lse_values = Some(after.gather(view));
        }
        let steps = dispatch.steps().map(|(label, grid)| format!("{label} on {grid:?}")).collect();
        Ok(Output { o: after.gather(&out_view), lse: lse_values, steps })
    }

    fn references(&self) -> (Reference, Reference) {
        let Problem { splits, rows, dim, .. } = self.problem;
        let oracle = reference::<f64>(splits, rows, dim, &self.o, &self.lse);
        (oracle, reference::<f32>(splits, rows, dim, &self.o, &self.lse))
    }

    /// Holds an output against the oracle by the numerics rule.
    pub fn judge(&self, output: &Output) -> Verdict {
        let (p, (oracle, low)) = (&self.problem, self.references());
        let widen = (0.0, 0.0);
        let mut verdict =
            Judge { cols: p.dim, dtype: p.y, oracle: &oracle.o, low: &low.o, mag: &oracle.mag, widen }.judge(&output.o);
        if let Some(lse) = &output.lse {
            let (oracle, low, mag) = (&oracle.lse, &low.lse, &oracle.lse_mag);
            verdict.merge(Judge { cols: 1, dtype: Dtype::F32, oracle, low, mag, widen }.judge(lse));
        }
        verdict
    }

    /// Runs and judges.
    ///
    /// # Errors
    /// As [`run`](Self::run), and the verdict if anything is wrong.
    pub fn check(&self, gpu: &Gpu, kernels: &Kernels) -> Result<(Output, Verdict), String> {
        let output = self.run(gpu, kernels)?;
        let verdict = self.judge(&output);
        match verdict.ok() {
            true => Ok((output, verdict)),
            false => Err(format!("{verdict}\n  {:?}\n  {}", self.problem, output.steps.join("\n  "))),
        }
    }
}

impl Kernel for AttentionMerge {
    fn name(&self) -> &'static str {
        "attention_merge"
    }

    fn ops(&self) -> &'static [&'static str] {
        &["attention_merge"]
    }

    fn checks(&self) -> Vec<Check> {
        let shape = |splits, rows, dim, dtype| Problem {
            splits,
            rows,
            dim,
            x: dtype,
            y: dtype,
            lse_out: Some(0),
            ..Problem::default()
        };
        [("5 parts", shape(5, 37, 128, Dtype::F32)), ("f16, odd dim", shape(3, 37, 59, Dtype::F16))]
            .map(|(name, problem)| {
                Check::new(name, move |gpu| {
                    let call = Call::random(problem, 1);
                    Ok(call.judge(&call.run(gpu, &gpu.kernels)?))
                })
            })
            .into()
    }

    fn replay(&self, case: &Case) -> Result<Replay, Fault> {
        let mut reader = Reader::new(case);
        let o = reader.tensor("o", "[splits, .., dv]")?;
        let lse = reader.tensor("lse", "[splits, ..]")?;
        let dtype = case::float("o", o)?;
        case::float("lse", lse)?;
        let bad = |name: &str, tensor: &Tensor, expected: &str| {
            Err(Fault::BadShape { name: name.into(), have: tensor.shape.clone(), expected: expected.into() })
        };
        let &[splits, ref outer @ .., dim] = &o.shape[..] else {
            return bad("o", o, "[splits, .., dv]");
        };
        if lse.shape != o.shape[..o.shape.len() - 1] {
            return bad("lse", lse, "that of o without its last axis");
        }
        if splits == 0 {
            return bad("o", o, "one part or more");
        }
        let problem = Problem {
            splits,
            rows: outer.iter().product(),
            dim,
            x: dtype,
            y: reader.option("out_dtype", dtype)?,
            lse_out: Some(0),
            ..Problem::default()
        };
        let outputs = [("o", [outer, &[dim]].concat()), ("lse", outer.to_vec())];
        let expected = reader.finish(&outputs)?;
        for (name, tensor) in &expected.tensors {
            case::float(&format!("expected.{name}"), tensor)?;
        }
        let numbers = |tensor: &Tensor| tensor.numbers().unwrap_or_default();
        let lse = numbers(lse).into_iter().map(|v| Dtype::F32.round(v)).collect();
        let call = Rc::new(Call { problem, o: numbers(o), lse });
        let ruled = call.clone();
        let [(_, o_shape), (_, lse_shape)] = outputs;
        let run = move |gpu: &Gpu| {
            let nothing = || Output { o: Vec::new(), lse: None, steps: vec!["nothing to compute".into()] };
            let output = if call.o.is_empty() { nothing() } else { call.run(gpu, &gpu.kernels)? };
            // Without elements there is still an LSE per row.
            let lse = output.lse.unwrap_or_else(|| call.references().0.lse);
            let o = Tensor::values(call.problem.y, &o_shape, &output.o);
            let lse = Tensor::values(Dtype::F32, &lse_shape, &lse);
            Ok(Outputs { tensors: vec![("o", o), ("lse", lse)], config: output.steps.join("; ") })
        };
        let rules = move || {
            let (oracle, low) = ruled.references();
            let Problem { dim: cols, y: dtype, .. } = ruled.problem;
            let o = Rule::Rows { cols, dtype, oracle: oracle.o, low: low.o, mag: oracle.mag };
            let (oracle, low, mag) = (oracle.lse, low.lse, oracle.lse_mag);
            vec![("o", o), ("lse", Rule::Rows { cols: 1, dtype: Dtype::F32, oracle, low, mag })]
        };
        Ok(Replay { expected, run: Box::new(run), rules: Box::new(rules) })
    }

    fn benches(&self) -> Vec<Bench> {
        [("8x4096x128 f32", Problem { splits: 8, rows: 4096, dim: 128, ..Problem::default() })]
            .map(|(shape, problem)| bench(shape, problem))
            .into()
    }
}

fn bench(shape: &str, problem: Problem) -> Bench {
    let Problem { splits, rows, dim, .. } = problem;
    let n = splits * rows;
    Bench {
        shape: shape.into(),
        quick: true,
        // A weight per part and row, a product and a sum per element.
        flops: (n * (2 * dim + 3)) as f64,
        bytes: 4.0 * (n * (dim + 1) + rows * dim) as f64,
        prepare: Box::new(move |gpu: &Gpu, pool: &Pool, sets: usize| {
            let config = attention_merge::choose(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())?;
            let (mut dispatches, mut first) = (Vec::with_capacity(sets), None);
            for set in 0..sets {
                let o = gpu.buffer(&pool.bytes(Dtype::F32, n * dim, 2 * set));
                let lse = gpu.buffer(&pool.bytes(Dtype::F32, n, 2 * set + 1));
                let out = gpu.buffer(&vec![POISON; rows * dim * 4]);
                let dispatch =
                    attention_merge::prepare_with(&gpu.kernels, &problem, &config, Buffers::new(&o, &lse, &out));
                dispatches.push(dispatch.map_err(|error| error.to_string())?);
                first.get_or_insert((o, lse, out));
            }
            let (o, lse, out) = first.ok_or("no input set was asked for")?;
            let check = move |gpu: &Gpu| -> Result<Verdict, String> {
                let read = |buffer| Ok::<_, String>(Dtype::F32.decode(&gpu.read(buffer)?));
                let call = Call { problem, o: read(&o)?, lse: read(&lse)? };
                Ok(call.judge(&Output { o: read(&out)?, lse: None, steps: Vec::new() }))
            };
            Ok(Prepared { dispatches, config: format!("{config}"), check: Box::new(check) })
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_what_is_wrong() {
        let values = |shape: &[usize]| Tensor::values(Dtype::F32, shape, &vec![0.5; shape.iter().product()]);
        let fault = |o: &[usize], lse: &[usize]| {
            let case = Case::new("attention_merge").tensor("o", values(o)).tensor("lse", values(lse));
            KERNEL.replay(&case).err().map_or("understood".into(), |fault| fault.to_string())
        };
        assert_eq!(fault(&[2, 3, 4, 8], &[2, 3, 4]), "understood");
        assert_eq!(fault(&[2, 8], &[2]), "understood");
        assert!(fault(&[8], &[]).contains("[splits, .., dv]"));
        assert!(fault(&[2, 3, 8], &[2, 4]).contains("without its last axis"));
        assert!(fault(&[0, 3, 8], &[0, 3]).contains("one part or more"));
    }
}
