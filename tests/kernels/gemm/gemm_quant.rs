//! The product with packed weights: what is more than a Problem of the list.

use loom::Gpu;
use loom::case::{Case, Tensor};
use loom::harness::Call;
use loom::kernels::gemm::gemm_quant::{DIRECT, TILED, odd_k, of};
use loom::packed::FORMATS;
use loom::registry;
use loom::weights::{packed, write};
use tileloom::gemm::Matrix;
use tileloom::gemm_quant::{Activations, Problem, choose};
use tileloom::weights::Format;
use tileloom::{Caps, Dtype, Kernels};

use crate::{Suite, invalid};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("gemm_quant", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("nothing to compute takes no step", |gpu| {
        for (m, n) in [(0, 9), (5, 0)] {
            let output = Call::random(of(m, n, 64, Format::Q4_0), 1).run(gpu, &gpu.kernels, None)?;
            if !output.steps.is_empty() {
                return Err(format!("{:?} ran", output.steps));
            }
        }
        Ok(())
    });
    suite.case("case files with the tensors of checkpoints", checkpoints);
    suite.case("a scale of the next row does not show", next_row);
    suite.case("limits of bindings: rows of weights in pieces", limits);
    suite.case("columns that are not there count nothing", hostile_order);
    suite.case("errors name what is wrong", |gpu| {
        let caps = gpu.kernels.caps();
        let q4 = of(1, 8, 64, Format::Q4_0);
        invalid("format", choose(&caps, &Problem { format: Format { interleave: 4, ..Format::Q4_0 }, ..q4 }))?;
        invalid("format", choose(&caps, &Problem { format: Format::Q4_K, ..q4 }))?;
        invalid("format", choose(&caps, &Problem { format: Format { group: 12, ..Format::Q4_0 }, ..q4 }))?;
        invalid("format", choose(&caps, &Problem { format: Format { order: 2, ..Format::Q4_0 }, ..q4 }))?;
        let int8 = Activations::Int8;
        invalid("activations", choose(&caps, &Problem { activations: int8, format: Format::Q5_0, ..q4 }))?;
        invalid("k", choose(&caps, &Problem { k: 1 << 22, ..q4 }))?;
        invalid("d", choose(&caps, &Problem { m: 2, d: Matrix::strided(Dtype::F32, 0, [0, 0, 7]), ..q4 }))
    });
}

/// Scales that run across rows: padding behind the last column of a row has none of the next one's.
fn next_row(gpu: &Gpu) -> Result<(), String> {
    for (m, config) in [(1, None), (9, Some(TILED)), (9, Some(DIRECT))] {
        let mut call = Call::random(of(m, 20, 100, Format::NF4_FLAT), 5);
        // Row 16 starts with element 1600, the first of scale 25.
        let mut run = |scale: f32| {
            let mut scales = call.values["scales"].clone();
            scales[25] = f64::from(scale.to_bits());
            call = call.clone().with("scales", scales);
            call.run(gpu, &gpu.kernels, config.as_ref())
        };
        let (whole, broken) = (run(1.0)?, run(f32::NAN)?);
        let pairs = whole.values["d"].iter().zip(&broken.values["d"]).enumerate();
        if let Some((i, _)) = pairs.filter(|(i, _)| i % 20 != 16).find(|(_, (x, y))| x.to_bits() != y.to_bits()) {
            return Err(format!("column {} of {m} rows shows a scale of row 16", i % 20));
        }
    }
    Ok(())
}

/// A case file may hold W as a checkpoint does: the product is that of the packed matrix, to the bit unless columns are sorted again.
fn checkpoints(gpu: &Gpu) -> Result<(), String> {
    for (name, format) in FORMATS {
        if format.name().is_none() {
            return Err(format!("{name} has no tensors of a checkpoint"));
        }
        // Blocks of GGML are whole.
        let k = odd_k(&format);
        let problem = of(2, 24, if format.ggml_block().is_some() { k.next_multiple_of(32) } else { k }, format);
        let call = Call::random(problem, 3);
        let [codes, scales] = ["codes", "scales"].map(|name| &call.values[name]);
        let whole = packed(format, problem.n, problem.k, codes, scales);
        let a = Tensor::numbers_of(Dtype::F32.into(), &[2, problem.k], &call.values["a"]);
        let case = write(Case::new("gemm_quant").tensor("a", a), &whole);
        let replayed = registry::replay(&case).map(|replay| replay.run(gpu));
        let ran = replayed.map_err(|fault| format!("{name}: {fault}"))?.map_err(|error| format!("{name}: {error}"))?;
        let (_, d) = ran.tensors.into_iter().find(|(output, _)| *output == "d").ok_or("no d came out")?;
        let own = call.run(gpu, &gpu.kernels, None)?;
        let d = d.numbers().ok_or("d has no numbers")?;
        let bound = if format.order > 0 { 1e-5 } else { 0.0 };
        let near = |(x, y): (&f64, &f64)| {
            (x - y).abs() <= bound * own.values["d"].iter().fold(0.0, |most, v| v.abs().max(most))
        };
        if !d.iter().zip(&own.values["d"]).all(near) {
            return Err(format!("{name}: the product of its tensors is another one"));
        }
    }
    Ok(())
}

/// A device that binds 64 KiB: rows of W go in pieces, which start at whole blocks of scales.
fn limits(gpu: &Gpu) -> Result<(), String> {
    let mut caps: Caps = (*gpu.kernels.caps()).clone();
    caps.limits.max_storage_buffer_binding_size = 1 << 16;
    let kernels = Kernels::new(&gpu.device, caps);
    for (format, k) in [(Format::Q4_0, 544), (Format::FP8, 300), (Format::NF4_FLAT, 501)] {
        for m in [1, 9] {
            let call = Call::random(of(m, 600, k, format), 4);
            let config = (m > 8).then_some(DIRECT);
            let (output, _) = call.check(gpu, &kernels, config.as_ref())?;
            if output.steps.len() < 2 {
                return Err(format!("{format:?} ran in one piece"));
            }
        }
    }
    // Tokens have no rows that a piece could start with.
    let int8 = Problem { activations: Activations::Int8, ..of(64, 600, 128, Format::Q4_0) };
    match Call::random(int8, 1).run(gpu, &kernels, None) {
        Err(error) if error.contains("`d` needs a binding of") => {}
        other => return Err(format!("int8: {other:?}")),
    }
    let gated = Problem { gated: true, ..of(1, 600, 544, Format::Q4_0) };
    match Call::random(gated, 1).run(gpu, &kernels, None) {
        Err(error) if error.contains("`codes` needs a binding of") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// An order of columns that names none that exists: all sums are 0.
fn hostile_order(gpu: &Gpu) -> Result<(), String> {
    let problem = of(2, 16, 64, Format { group: 32, order: 3, ..Format::GPTQ });
    let mut call = Call::random(problem, 1);
    let mut scales = call.values["scales"].clone();
    let garbage = [64.0, 65.0, f64::from(u32::MAX), f64::from(1u32 << 31)];
    scales[..96].iter_mut().enumerate().for_each(|(i, word)| *word = garbage[i % 4]);
    call = call.with("scales", scales);
    let output = call.run(gpu, &gpu.kernels, None)?;
    match output.values["d"].iter().find(|&&v| v != 0.0) {
        None => Ok(()),
        Some(v) => Err(format!("a sum is {v}")),
    }
}
