//! VQ scatter on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use tileloom::vq_scatter::{self, Buffers, Problem};
use tileloom::{Dtype, ErrorKind};

use super::refused;
use crate::Suite;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("vq_scatter", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("more positions of one code than an invocation may loop over everywhere", |gpu| {
        let shape = Problem { batch: 2, spatial: 3001, code_dim: 64, counts: Some(0), ..Problem::default() };
        let (output, _) = Call::random(shape, 6).check(gpu, &gpu.kernels, None)?;
        // 16 chunks: 17 rounds to begin with the sums, and per four positions 4 * 18 + 2 and one.
        let rounds = gpu.kernels.caps().loop_rounds();
        let runs = rounds.map_or(1, |limit| 6002usize.div_ceil((limit as usize - 17 - 3) / 75 * 4));
        let said = output.steps.iter().all(|step| step.contains("vec: 4") && step.contains("count: true"));
        match output.steps.len() == runs && said {
            true => Ok(()),
            false => Err(format!("meant {runs} runs of vec: 4 that count, ran {:?}", output.steps)),
        }
    });
    suite.case("f16 and bf16 at the end of a run", |gpu| {
        for x in [Dtype::F16, Dtype::Bf16] {
            for spatial in [3492, 3493] {
                let shape = Problem { spatial, code_dim: 64, counts: Some(0), x, ..Problem::default() };
                Call::random(shape, 7).check(gpu, &gpu.kernels, None)?;
            }
        }
        Ok(())
    });
    suite.case("no positions, in buffers of a word", nothing);
    suite.case("errors", errors);
}

/// Sums and counts are 0.
fn nothing(gpu: &Gpu) -> Result<(), String> {
    let shape = Problem { spatial: 0, num_codes: 3, code_dim: 4, counts: Some(0), ..Problem::default() };
    let [empty, word] = [0, 4].map(|size| {
        let usage = tileloom::wgpu::BufferUsages::STORAGE;
        gpu.device.create_buffer(&tileloom::wgpu::BufferDescriptor {
            label: None,
            size,
            usage,
            mapped_at_creation: false,
        })
    });
    for small in [&empty, &word] {
        let [sums, counts] = [12, 3].map(|words| gpu.buffer(&vec![0xa5; words * 4]));
        let dispatch = vq_scatter::prepare(&gpu.kernels, &shape, Buffers::new(small, small, &sums).counts(&counts));
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.map_err(|error| error.to_string())?.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        let (sums, counts) = (gpu.read(&sums)?, gpu.read(&counts)?);
        if sums.iter().chain(&counts).any(|&byte| byte != 0) {
            return Err(format!("sums {sums:?}, counts {counts:?}"));
        }
    }
    Ok(())
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [indices, x, sums] = [8, 64, 64].map(|words| gpu.buffer(&vec![0; words * 4]));
    let good = Problem { spatial: 8, num_codes: 8, code_dim: 8, ..Problem::default() };
    let prepare =
        |problem: &Problem| vq_scatter::prepare(&gpu.kernels, problem, Buffers::new(&indices, &x, &sums)).map(drop);
    prepare(&good).map_err(|error| error.to_string())?;
    let none = prepare(&Problem { num_codes: 0, ..good });
    refused("no codes", none, |kind| matches!(kind, ErrorKind::InvalidProblem { arg: "num_codes", .. }))?;
    let large = prepare(&Problem { num_codes: 9, ..good });
    refused("large sums", large, |kind| matches!(kind, ErrorKind::BufferTooSmall { buffer: "sums", .. }))?;
    let counted = prepare(&Problem { counts: Some(0), ..good });
    refused("no counts", counted, |kind| matches!(kind, ErrorKind::MissingBuffer { buffer: "counts", .. }))
}
