//! Products by group on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use loom::kernels::gemm::DIRECT;
use loom::kernels::gemm::grouped_gemm::of;
use tileloom::gemm::Activation;
use tileloom::grouped_gemm::{self, Buffers, Problem, backward};
use tileloom::norm::Vector;
use tileloom::weights::Format;
use tileloom::{Caps, Context, Dtype, Error, ErrorKind, GroupedOptions, Kernels};

use crate::{Depth, Suite, refused};

use Dtype::F32;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("grouped_gemm", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    if suite.depth >= Depth::Wide {
        suite.case("tensors", tensors);
        suite.case("nothing to compute takes no step", nothing);
        suite.case("limits of bindings: several groups at a time", limits);
        suite.case("the gradient of a", gradient);
    }
}

/// The high level: rows 0 and 1 are of group 0, row 2 of group 1, row 3 of none.
fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let read = |t: &tileloom::Tensor<f32>| pollster::block_on(t.read());
        let a = context.upload(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &[4, 2])?;
        let b = context.upload(&[1f32, 0.0, 0.0, -1.0], &[2, 1, 2])?;
        let offsets = context.upload(&[0i32, 2, 3], &[3])?;
        let bias = context.upload(&[0.5f32, 1.0], &[2, 1])?;
        let options = GroupedOptions { bias: Some(&bias), activation: Activation::Relu, ..Default::default() };
        assert_eq!(read(&a.grouped_matmul(&b, &offsets, &options)?)?, [1.5, 3.5, 0.0, 0.0]);
        let gated = GroupedOptions { gate: Some(&b), ..Default::default() };
        assert_eq!(read(&a.grouped_matmul(&b, &offsets, &gated)?)?, [1.0, 9.0, 36.0, 0.0]);
        let few = context.upload(&[0u32, 2], &[2])?;
        let error = a.grouped_matmul(&b, &few, &GroupedOptions::default()).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "offsets", .. }));
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

fn nothing(gpu: &Gpu) -> Result<(), String> {
    for (m, n) in [(0, 9), (5, 0)] {
        let output = Call::random(of(3, m, n, 7, F32), 1).run(gpu, &gpu.kernels, None)?;
        if !output.steps.is_empty() {
            return Err(format!("{:?} ran", output.steps));
        }
    }
    Ok(())
}

/// A device that binds 16 KiB takes as many groups of b as fit; what one group or the rows make larger is refused.
fn limits(gpu: &Gpu) -> Result<(), String> {
    let mut caps: Caps = (*gpu.kernels.caps()).clone();
    caps.limits.max_storage_buffer_binding_size = 1 << 14;
    let kernels = Kernels::new(&gpu.device, caps);
    let bias = Problem { bias: Some(Vector::of(F32)), activation: Activation::Relu, ..of(11, 50, 36, 24, F32) };
    let odd = Problem { trans_b: false, ..of(30, 50, 17, 21, Dtype::F16) };
    for problem in [bias, odd, Problem { gate: Some(4), ..of(11, 50, 36, 24, F32) }] {
        let (output, _) = Call::random(problem, 4).check(gpu, &kernels, None)?;
        if output.steps.len() < 4 {
            return Err(format!("{problem:?} ran in one piece"));
        }
    }
    for (problem, name) in [(of(2, 8, 128, 64, F32), "b"), (of(2, 128, 4, 64, F32), "a")] {
        match Call::random(problem, 1).run(gpu, &kernels, None) {
            Err(error) if error.contains(&format!("`{name}` needs a binding of 32768 bytes")) => {}
            other => return Err(format!("{name}: {other:?}")),
        }
    }
    Ok(())
}

/// Of the sum of d * dd: for linear d another product, whose rows of no group are 0.
fn gradient(gpu: &Gpu) -> Result<(), String> {
    for trans_b in [true, false] {
        let problem = Problem { trans_b, ..of(3, 20, 6, 9, F32) };
        let da = backward(&problem).map_err(|error| error.to_string())?.da.ok_or("b is not packed")?;
        let call = Call::random(da, 3);
        call.check(gpu, &gpu.kernels, Some(&DIRECT))?;
    }
    Ok(())
}

fn errors(gpu: &Gpu) -> Result<(), String> {
    let [a, b, offsets, d] = [64, 64, 5, 64].map(|words| gpu.buffer(&vec![0; words * 4]));
    let good = of(4, 8, 4, 4, F32);
    let buffers = Buffers::new(&a, &b, &offsets, &d);
    let prepare = |problem: &Problem, buffers| grouped_gemm::prepare(&gpu.kernels, problem, buffers).map(drop);
    prepare(&good, buffers).map_err(|error| error.to_string())?;
    let none = prepare(&Problem { groups: 0, ..good }, buffers);
    refused("no groups", none, |error| matches!(error.kind, ErrorKind::InvalidProblem { arg: "groups", .. }))?;
    let small = prepare(&Problem { groups: 5, n: 2, ..good }, buffers);
    refused("offsets", small, |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "offsets", need: 24, .. })
    })?;
    let large = prepare(&Problem { n: 5, ..good }, buffers);
    refused("b", large, |error| matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "b", .. }))?;
    let missing = prepare(&Problem { bias: Some(Vector::of(F32)), ..good }, buffers);
    refused("no bias", missing, |error| matches!(error.kind, ErrorKind::MissingBuffer { buffer: "bias" }))?;
    let gated = Problem { gate: Some(0), bias: Some(Vector::of(F32)), ..good };
    refused("both", prepare(&gated, buffers), |error| {
        matches!(error.kind, ErrorKind::InvalidProblem { arg: "bias", .. })
    })?;
    let aliased = prepare(&good, Buffers::new(&a, &b, &offsets, &a));
    refused("aliased", aliased, |error| matches!(error.kind, ErrorKind::Aliased { .. }))?;
    let over = prepare(&good, Buffers::new(&a, &b, &d, &d));
    refused("offsets in d", over, |error| matches!(error.kind, ErrorKind::Aliased { .. }))?;
    let over = gpu.buffer(&vec![0; 1 << 12]);
    let scratch = prepare(&good, Buffers::new(&over, &b, &offsets, &d).scratch(&over));
    refused("scratch in a", scratch, |error| matches!(error.kind, ErrorKind::Aliased { .. }))?;
    let packed = |format| Problem { format: Some(format), k: 64, m: 1, ..good };
    let missing = prepare(&packed(Format::Q4_0), buffers);
    refused("no scales", missing, |error| matches!(error.kind, ErrorKind::MissingBuffer { buffer: "scales" }))?;
    for format in [Format { order: 2, group: 32, ..Format::GPTQ }, Format::NF4_FLAT] {
        let none = prepare(&packed(format), buffers.scales(&a));
        refused("format", none, |error| matches!(error.kind, ErrorKind::InvalidProblem { arg: "format", .. }))?;
    }
    let turned = prepare(&Problem { trans_b: false, ..packed(Format::Q4_0) }, buffers.scales(&a));
    refused("transposed", turned, |error| matches!(error.kind, ErrorKind::InvalidProblem { arg: "format", .. }))?;
    let active = Problem { activation: Activation::Relu, ..good };
    match backward(&active) {
        Err(error) if matches!(error.kind, ErrorKind::InvalidProblem { arg: "activation", .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
