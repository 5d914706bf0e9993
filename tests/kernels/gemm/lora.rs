//! Products with adapters and their gradients on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use loom::kernels::gemm::DIRECT;
use loom::kernels::gemm::lora::of;
use tileloom::gemm::Activation;
use tileloom::lora::{self, Buffers, Problem, backward};
use tileloom::{Context, Dtype, Error, ErrorKind, LoraOptions};

use crate::{Depth, Suite, refused};

use Dtype::F32;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("lora", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    if suite.depth >= Depth::Wide {
        suite.case("tensors", tensors);
        suite.case("nothing to compute takes no step", |gpu| {
            for (m, n) in [(0, 9), (5, 0)] {
                let output = Call::random(of(m, n, 7, 3, 2, F32), 1).run(gpu, &gpu.kernels, None)?;
                if !output.steps.is_empty() {
                    return Err(format!("{:?} ran", output.steps));
                }
            }
            Ok(())
        });
        suite.case("the gradient of x is another product", |gpu| {
            for adapters in [1, 3] {
                let gradients = backward(&of(20, 12, 36, 5, adapters, F32)).map_err(|error| error.to_string())?;
                Call::random(gradients.dx.ok_or("none")?, 3).check(gpu, &gpu.kernels, Some(&DIRECT))?;
            }
            Ok(())
        });
    }
}

/// The high level: the example of the reference, and gradients of ones.
fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let read = |t: &tileloom::Tensor<f32>| pollster::block_on(t.read());
        let x = context.upload(&[1f32, 2.0, 1.0, 2.0, 1.0, 2.0], &[3, 2])?;
        let weight = context.upload(&[3f32, 4.0], &[1, 2])?;
        let a = context.upload(&[1f32, 1.0, 2.0, 0.0], &[2, 1, 2])?;
        let b = context.upload(&[4f32, -1.0], &[2, 1, 1])?;
        let adapter = context.upload(&[0i32, 1, -1], &[3])?;
        let options = LoraOptions { scale: 0.5, adapter: Some(&adapter), ..Default::default() };
        let y = x.lora(&weight, &a, &b, &options)?;
        assert_eq!((y.shape(), read(&y)?), (&[3, 1][..], vec![17.0, 10.0, 11.0]));
        let ones = context.upload(&[1f32; 3], &[3, 1])?;
        let mut batch = context.batch();
        let gradients = batch.lora_backward(&x, &weight, &a, &b, &ones, &options)?;
        batch.submit()?;
        assert_eq!(read(&gradients.x)?, [5.0, 6.0, 2.0, 4.0, 3.0, 4.0]);
        assert_eq!(read(&gradients.a)?, [2.0, 4.0, -0.5, -1.0]);
        assert_eq!(read(&gradients.b)?, [1.5, 1.0]);
        let error = x.lora(&weight, &b, &b, &options).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "a", .. }));
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

fn errors(gpu: &Gpu) -> Result<(), String> {
    let [x, weight, a, b, y, adapter] = [64, 64, 64, 64, 64, 8].map(|words| gpu.buffer(&vec![0; words * 4]));
    let good = of(8, 8, 8, 4, 2, F32);
    let with = Buffers::new(&x, &weight, &a, &b, &y).adapter(&adapter);
    let prepare = |problem: &Problem, buffers| lora::prepare(&gpu.kernels, problem, buffers).map(drop);
    prepare(&good, with).map_err(|error| error.to_string())?;
    for rank in [0, 257] {
        let none = prepare(&Problem { rank, ..good }, with);
        refused("rank", none, |error| matches!(error.kind, ErrorKind::InvalidProblem { arg: "rank", .. }))?;
    }
    let none = prepare(&Problem { adapters: 0, ..good }, with);
    refused("no adapters", none, |error| matches!(error.kind, ErrorKind::InvalidProblem { arg: "adapters", .. }))?;
    let few = prepare(&Problem { m: 9, n: 7, k: 7, ..good }, with);
    refused("adapters", few, |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "adapter", need: 36, have: 32 })
    })?;
    let missing = prepare(&good, Buffers::new(&x, &weight, &a, &b, &y));
    refused("missing", missing, |error| matches!(error.kind, ErrorKind::MissingBuffer { buffer: "adapter" }))?;
    let large = prepare(&Problem { rank: 5, ..good }, with);
    refused("b", large, |error| matches!(error.kind, ErrorKind::BufferTooSmall { need: 320, .. }))?;
    for over in [Buffers::new(&x, &weight, &y, &b, &y), Buffers::new(&x, &weight, &a, &y, &y)] {
        let aliased = prepare(&good, over.adapter(&adapter));
        refused("aliased", aliased, |error| matches!(error.kind, ErrorKind::Aliased { .. }))?;
    }
    match backward(&Problem { activation: Activation::Relu, ..good }) {
        Err(error) if matches!(error.kind, ErrorKind::InvalidProblem { arg: "activation", .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
