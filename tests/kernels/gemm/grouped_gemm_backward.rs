//! Gradients of matrices by group on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use loom::kernels::gemm::grouped_gemm_backward::of;
use loom::kernels::gemm::{DIRECT, grouped_gemm};
use tileloom::gemm::{Activation, Algorithm};
use tileloom::grouped_gemm_backward::{Buffers, Problem, prepare, prepare_with};
use tileloom::norm::Vector;
use tileloom::{Caps, Context, Dtype, Error, ErrorKind, Kernels};

use crate::{Depth, Suite, refused};

use Dtype::F32;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("grouped_gemm_backward", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("those of a product", product);
    if suite.depth >= Depth::Wide {
        suite.case("tensors", tensors);
        suite.case("no k: the bias alone", |gpu| {
            let call = Call::random(Problem { dbias: Some(0), ..of(3, 20, 12, 0, F32) }, 1);
            call.check(gpu, &gpu.kernels, None).map(drop)
        });
        suite.case("limits of bindings: several groups at a time", limits);
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
        let dd = context.upload(&[1f32, 2.0, 3.0, 4.0], &[4, 1])?;
        let gradients = a.grouped_matmul_backward(&b, &offsets, &dd)?;
        assert_eq!(read(&gradients.a)?, [1.0, 0.0, 2.0, 0.0, 0.0, -3.0, 0.0, 0.0]);
        assert_eq!(read(&gradients.b)?, [7.0, 10.0, 15.0, 18.0]);
        assert_eq!(read(&gradients.bias)?, [3.0, 3.0]);
        let error = a.grouped_matmul_backward(&b, &offsets, &a).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "dd", .. }));
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// What `grouped_gemm::backward` gives.
fn product(gpu: &Gpu) -> Result<(), String> {
    for trans_b in [true, false] {
        let forward = tileloom::grouped_gemm::Problem {
            trans_b,
            bias: Some(Vector::of(F32)),
            ..grouped_gemm::of(3, 40, 6, 9, F32)
        };
        let backward = tileloom::grouped_gemm::backward(&forward).map_err(|error| error.to_string())?;
        Call::random(backward.db, 3).check(gpu, &gpu.kernels, None)?;
        Call::random(backward.db, 4).check(gpu, &gpu.kernels, Some(&DIRECT))?;
    }
    let active = tileloom::grouped_gemm::Problem { activation: Activation::Relu, ..grouped_gemm::of(3, 40, 6, 9, F32) };
    refused("activation", tileloom::grouped_gemm::backward(&active).map(drop), |error| {
        matches!(error.kind, ErrorKind::InvalidProblem { arg: "activation", .. })
    })
}

/// A device that binds 16 KiB takes as many groups of db as fit; what one group or the rows make larger is refused.
fn limits(gpu: &Gpu) -> Result<(), String> {
    let mut caps: Caps = (*gpu.kernels.caps()).clone();
    caps.limits.max_storage_buffer_binding_size = 1 << 14;
    let kernels = Kernels::new(&gpu.device, caps);
    for add in [false, true] {
        let bias = Problem { dbias: Some(0), add, ..of(11, 50, 36, 24, F32) };
        let odd = Problem { trans_b: false, add, ..of(30, 50, 17, 21, Dtype::F16) };
        for problem in [bias, odd] {
            let (output, _) = Call::random(problem, 4).check(gpu, &kernels, None)?;
            if output.steps.len() < 4 {
                return Err(format!("{problem:?} ran in one piece"));
            }
        }
    }
    for (problem, name) in [(of(2, 8, 128, 64, F32), "db"), (of(2, 128, 4, 64, F32), "a")] {
        match Call::random(problem, 1).run(gpu, &kernels, None) {
            Err(error) if error.contains(&format!("`{name}` needs a binding of 32768 bytes")) => {}
            other => return Err(format!("{name}: {other:?}")),
        }
    }
    Ok(())
}

fn errors(gpu: &Gpu) -> Result<(), String> {
    let [a, dd, offsets, db] = [64, 64, 5, 64].map(|words| gpu.buffer(&vec![0; words * 4]));
    let good = of(4, 8, 4, 4, F32);
    let with = Buffers::new(&a, &dd, &offsets, &db);
    let tried = |problem: &Problem, buffers| prepare(&gpu.kernels, problem, buffers).map(drop);
    tried(&good, with).map_err(|error| error.to_string())?;
    let none = tried(&Problem { groups: 0, ..good }, with);
    refused("no groups", none, |error| matches!(error.kind, ErrorKind::InvalidProblem { arg: "groups", .. }))?;
    let small = tried(&Problem { groups: 5, n: 2, ..good }, with);
    refused("offsets", small, |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "offsets", need: 24, .. })
    })?;
    let large = tried(&Problem { k: 5, ..good }, with);
    refused("db", large, |error| matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "db", .. }))?;
    let missing = tried(&Problem { dbias: Some(0), ..good }, with);
    refused("no dbias", missing, |error| matches!(error.kind, ErrorKind::MissingBuffer { buffer: "dbias" }))?;
    for over in [Buffers::new(&a, &dd, &offsets, &a), Buffers::new(&a, &dd, &db, &db)] {
        refused("aliased", tried(&good, over), |error| matches!(error.kind, ErrorKind::Aliased { .. }))?;
    }
    let scratch = tried(&good, with.scratch(&a));
    refused("scratch in a", scratch, |error| matches!(error.kind, ErrorKind::Aliased { .. }))?;
    let both = tried(&Problem { dbias: Some(0), ..good }, with.dbias(&db));
    refused("dbias in db", both, |error| matches!(error.kind, ErrorKind::Aliased { .. }))?;
    let vector = tileloom::gemm::Config { algorithm: Algorithm::Vector, ..DIRECT };
    let unfit = prepare_with(&gpu.kernels, &good, &vector, with);
    refused("vector", unfit.map(drop), |error| matches!(error.kind, ErrorKind::ConfigUnfit { .. }))
}
