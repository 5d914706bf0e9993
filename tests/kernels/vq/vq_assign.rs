//! VQ assign on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::{Call, Output};
use loom::kernels::vq::vq_assign::everything;
use tileloom::vq_assign::{self, Algorithm, Buffers, Config, Metric, Problem};
use tileloom::{Context, Dtype, Error, ErrorKind, VqAssignOptions};

use super::refused;
use crate::{Depth, Suite};

fn shape(n: usize, num_codes: usize) -> Problem {
    Problem { n, num_codes, code_dim: 32, ..Problem::default() }
}

/// Runs on these values, and judges; the indices must be `want`.
fn expect_indices(
    gpu: &Gpu,
    problem: Problem,
    x: Vec<f64>,
    codebook: Vec<f64>,
    want: &[u32],
) -> Result<Output, String> {
    let call = Call::new(problem, [("x", x), ("codebook", codebook)].into());
    let (output, _) = call.check(gpu, &gpu.kernels, None)?;
    let (found, want) = (&output.values["indices"], want.iter().map(|&k| f64::from(k)).collect::<Vec<_>>());
    if *found == want { Ok(output) } else { Err(format!("{found:?}, expected {want:?}")) }
}

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("vq_assign", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("residual books", |gpu| {
        for books in [1, 2, 4] {
            let problem = everything(Problem { residual: true, books, ..shape(43, 50) });
            let (output, _) = Call::random(problem, 6).check(gpu, &gpu.kernels, None)?;
            // Per book a search and what follows; before, usage is cleared, behind, loss and vectors.
            assert_eq!(output.steps.len(), 2 * books + 3);
        }
        Ok(())
    });
    suite.case("ties go to the lowest index", |gpu| {
        // Codes 1, -1, 1, -1, .. in each element: all as near to 0.
        let codebook = (0..70 * 32).map(|i| if i / 32 % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let x = [0.0, 1.0, -1.0].map(|v| [v; 32]).concat();
        expect_indices(gpu, shape(3, 70), x, codebook, &[0, 0, 1]).map(drop)
    });
    suite.case("zeros at right angles", |gpu| {
        let problem = everything(Problem { metric: Metric::Cosine, ..shape(2, 3) });
        let [x, codebook] =
            [&[0.0, 2.0][..], &[-1.0, 0.0, 1e-9]].map(|all| all.iter().flat_map(|&v| [v; 32]).collect());
        let output = expect_indices(gpu, problem, x, codebook, &[0, 2])?;
        let distance = &output.values["distance"];
        if distance[0] == 1.0 { Ok(()) } else { Err(format!("{distance:?}")) }
    });
    suite.case("the length of a large vector", |gpu| {
        // Its square is beyond f32, and that of the reference in f32: the rule allows for a distance of 1.
        let problem = everything(Problem { metric: Metric::Cosine, ..shape(1, 1) });
        let row = |start: [f64; 2]| start.into_iter().chain([0.0; 30]).collect();
        let least = 2f64.powi(-16);
        let output = expect_indices(gpu, problem, row([2f64.powi(65), 0.0]), row([least, 1.0]), &[0])?;
        let distance = output.values["distance"][0];
        if (distance - (1.0 - least)).abs() < 1e-6 { Ok(()) } else { Err(format!("{distance}")) }
    });
    suite.case("far from the origin", |gpu| {
        // At 4096 a square has 24 bits for 2^24 * 32; neighbours differ by 2^-10: |c|^2 - 2xc knows nothing of them.
        let code = |i: usize| (0..32).map(move |d| 4096.0 + ((i * 37 + d * 11) % 64) as f64 / 1024.0);
        let codebook: Vec<f64> = (0..64).flat_map(code).collect();
        let x: Vec<f64> = (0..64).flat_map(|i| code(63 - i)).collect();
        let naive = |a: &[f64], b: &[f64]| {
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0f32, |s, (&a, &b)| s + a as f32 * b as f32);
            dot(b, b) - 2.0 * dot(a, b)
        };
        let found = |i: usize| {
            let of = |k: usize| naive(&x[i * 32..][..32], &codebook[k * 32..][..32]);
            (0..64).min_by(|&a, &b| of(a).total_cmp(&of(b))) == Some(63 - i)
        };
        if (0..64).all(found) {
            return Err("the data do not tell".into());
        }
        let want: Vec<u32> = (0..64).rev().collect();
        expect_indices(gpu, shape(64, 64), x, codebook, &want).map(drop)
    });
    suite.case("errors", errors);
    if suite.depth >= Depth::Wide {
        suite.case("every Config of a kind", every_kind);
        suite.case("tensors", tensors);
    }
}

/// They find the same.
fn every_kind(gpu: &Gpu) -> Result<(), String> {
    let call = Call::random(shape(70, 133), 10);
    let chosen = call.chosen(&gpu.kernels.caps())?;
    let found =
        |config: Config| Ok::<_, String>(call.check(gpu, &gpu.kernels, Some(&config))?.0.values.remove("indices"));
    let want = found(chosen)?;
    for config in [
        Config { algorithm: Algorithm::Staged, wg_size: 64, rows: 2, codes: 2, tile: 16, parts: 1, ..chosen },
        Config { algorithm: Algorithm::Registers, wg_size: 16, rows: 2, codes: 2, tile: 1, parts: 3, ..chosen },
        Config { algorithm: Algorithm::Reread, wg_size: 8, rows: 4, codes: 4, tile: 1, parts: 7, ..chosen },
    ] {
        if found(config)? != want {
            return Err(format!("{config} finds other codes than {chosen}"));
        }
    }
    Ok(())
}

fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = async {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let x = context.upload(&[1.0f32, 0.0, 0.0, 3.0], &[2, 2])?;
        let book = context.upload(&[0.0f32, 4.0, 2.0, 0.0, 0.0, 2.5], &[3, 2])?;
        let found = x.vq_assign(&book, &VqAssignOptions::default())?;
        let short = x.vq_assign(&context.upload(&[0.0f32; 3], &[1, 3])?, &VqAssignOptions::default());
        assert!(matches!(short, Err(Error { kind: ErrorKind::Shape { arg: "x", .. }, .. })), "{:?}", short.err());
        Ok::<_, Error>((found.indices.read().await?, found.quantized.read().await?, found.loss.read().await?))
    };
    let got = pollster::block_on(run).map_err(|error| error.to_string())?;
    if got == (vec![1, 2], vec![2.0, 0.0, 0.0, 2.5], vec![1.25]) { Ok(()) } else { Err(format!("{got:?}")) }
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [x, codebook, indices, small] = [64, 64, 8, 1].map(|words| gpu.buffer(&vec![0; words * 4]));
    let buffers = Buffers::new(&x, &codebook, &indices);
    let prepare = |problem: &Problem, buffers| vq_assign::prepare(&gpu.kernels, problem, buffers).map(drop);
    let good = shape(2, 2);
    prepare(&good, buffers).map_err(|error| error.to_string())?;
    let none = prepare(&Problem { num_codes: 0, ..good }, buffers);
    refused("no codes", none, |kind| matches!(kind, ErrorKind::InvalidProblem { arg: "num_codes", .. }))?;
    let many = prepare(&Problem { top: 3, ..good }, buffers);
    refused("top 3 of 2", many, |kind| matches!(kind, ErrorKind::InvalidProblem { arg: "top", .. }))?;
    let large = prepare(&Problem { num_codes: 3, ..good }, buffers);
    refused("a large book", large, |kind| matches!(kind, ErrorKind::BufferTooSmall { buffer: "codebook", .. }))?;
    let aliased = |kind: &ErrorKind| matches!(kind, ErrorKind::Aliased { .. });
    refused("indices in x", prepare(&good, Buffers::new(&x, &codebook, &x)), aliased)?;
    let told = prepare(&Problem { usage: Some(0), ..good }, buffers);
    refused("no usage", told, |kind| matches!(kind, ErrorKind::MissingBuffer { buffer: "usage", .. }))?;
    let both = gpu.buffer(&[0; 256]);
    let quantized = Some(vq_assign::Quantized { dtype: Dtype::F32, offset: 0 });
    let over = Problem { quantized, distance: Some(0), ..good };
    refused("quantized over distances", prepare(&over, buffers.quantized(&both).distance(&both)), aliased)?;
    let scratch = prepare(&good, buffers.scratch(&small));
    refused("little scratch", scratch, |kind| matches!(kind, ErrorKind::BufferTooSmall { buffer: "scratch", .. }))
}
