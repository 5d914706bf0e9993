//! Speculative decoding on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use tileloom::ErrorKind;
use tileloom::speculative_verify::{self, Buffers, Problem};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("speculative_verify", cases);

fn cases(suite: &mut Suite) {
    suite.case("worked out", worked_out);
    suite.case("errors", errors);
}

/// Three tokens, two of them proposed.
fn worked_out(gpu: &Gpu) -> Result<(), String> {
    let floats = |values: &[f32]| gpu.buffer(bytemuck::cast_slice(values));
    let draft = floats(&[0.5, 0.5, 0.0, 0.25, 0.5, 0.25]);
    let target = floats(&[0.25, 0.5, 0.25, 0.5, 0.25, 0.25, 0.125, 0.25, 0.625]);
    let problem = Problem { len: 2, vocab: 3, ..Problem::default() };
    for (proposed, uniform, accepted, tokens) in [
        ([0i32, 1], [0.5f32, 0.5, 0.125], 2u32, [0i32, 1, 1]),
        ([0, 1], [0.5, 0.51, 0.99], 1, [0, 0, -1]),
        ([0, 1], [0.51, 0.0, 0.0], 0, [2, -1, -1]),
        ([2, 1], [0.0, 0.0, 0.0], 0, [2, -1, -1]),
        ([-1, 1], [0.0, 0.0, 0.0], 0, [2, -1, -1]),
        ([1, 3], [0.9, 0.0, 0.9], 1, [1, 0, -1]),
    ] {
        let [given, count, out] = [bytemuck::cast_slice(&proposed), &[0; 4], &[0; 12]].map(|bytes| gpu.buffer(bytes));
        let uniforms = floats(&uniform);
        let buffers = Buffers::new(&draft, &target, &given, &uniforms, &count, &out);
        let dispatch =
            speculative_verify::prepare(&gpu.kernels, &problem, buffers).map_err(|error| error.to_string())?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        let n: Vec<u32> = bytemuck::pod_collect_to_vec(&gpu.read(&count)?);
        let found: Vec<i32> = bytemuck::pod_collect_to_vec(&gpu.read(&out)?);
        if n != [accepted] || found != tokens {
            return Err(format!("{proposed:?} by {uniform:?}: {n:?} {found:?} instead of {accepted} {tokens:?}"));
        }
    }
    Ok(())
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [draft, target, given, uniform, count, out] =
        [60, 80, 6, 8, 2, 8].map(|words: usize| gpu.buffer(&vec![0; words * 4]));
    let good = Problem { batch: 2, len: 3, vocab: 10, ..Problem::default() };
    let buffers = Buffers::new(&draft, &target, &given, &uniform, &count, &out);
    let prepare = |problem: &Problem| speculative_verify::prepare(&gpu.kernels, problem, buffers).map(drop);
    prepare(&good).map_err(|error| error.to_string())?;
    invalid("vocab", prepare(&Problem { vocab: 0, ..good }))?;
    invalid("vocab", prepare(&Problem { vocab: (1 << 20) + 1, ..good }))?;
    refused("many batches", prepare(&Problem { batch: 3, ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "draft", need: 360, have: 240 })
    })?;
    refused("few numbers", prepare(&Problem { uniform: 1, ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "uniform", need: 36, have: 32 })
    })?;
    let scratch = gpu.buffer(&[0; 4]);
    refused("little scratch", speculative_verify::prepare(&gpu.kernels, &good, buffers.scratch(&scratch)), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "scratch", have: 4, .. })
    })?;
    let twice = Buffers::new(&draft, &target, &given, &uniform, &count, &given);
    let good = Problem { len: 2, ..good };
    refused("one buffer twice", speculative_verify::prepare(&gpu.kernels, &good, twice), |error| {
        matches!(error.kind, ErrorKind::Aliased { .. })
    })
}
