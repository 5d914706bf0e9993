//! Calls that are recorded together, and pipelines that are compiled together.

use loom::Gpu;
use tileloom::sample::{self, Settings, Step, Uniform};
use tileloom::verify::Subject;
use tileloom::{Dispatch, Error, ErrorKind, Kernels, Sequence, SequenceCost, advance, gemm, norm, softmax, wgpu};

use crate::{Suite, allocations, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("sequence", cases);

fn cases(suite: &mut Suite) {
    suite.case("steps in one pass, and in passes of their own", steps);
    suite.case("calls of other Kernels", foreign);
    suite.case("what it costs", costs);
    suite.case("compiled together", compiled);
}

const VOCAB: usize = 40;
const MOST: usize = 12;

/// A token is drawn from the same logits in each step, and kept; and where the tokens lie.
fn drawn(gpu: &Gpu, kernels: &Kernels) -> Result<(Sequence, [wgpu::Buffer; 2]), Error> {
    let logits: Vec<f32> = (0..VOCAB).map(|i| (i as f32 * 0.7).sin()).collect();
    let logits = gpu.buffer(bytemuck::cast_slice(&logits));
    // Length 1, step 3, not done, no token ends it but the last one.
    let state = gpu.buffer(bytemuck::cast_slice(&[1u32, 3, 0, VOCAB as u32]));
    let token = gpu.buffer(&[0; 4]);
    let history = gpu.buffer(&[0xff; MOST * 4]);
    let draw = sample::Problem {
        vocab: VOCAB,
        settings: Settings { top_k: 30, ..Settings::default() },
        uniform: Uniform::Philox { seed: 7, step: Step::Buffer(1) },
        ..sample::Problem::default()
    };
    let next = advance::Problem {
        most: MOST,
        step: Some(1),
        done: Some(2),
        stops: Some(3),
        num_stops: 1,
        history: Some(Default::default()),
        ..advance::Problem::default()
    };
    let mut sequence = Sequence::new(kernels);
    sequence.push(sample::prepare(kernels, &draw, sample::Buffers::new(&logits).step(&state).token(&token))?)?;
    sequence.push(advance::prepare(kernels, &next, advance::Buffers::new(&state, &token).history(&history))?)?;
    Ok((sequence, [state, history]))
}

fn steps(gpu: &Gpu) -> Result<(), String> {
    let run = |passes: usize, each: usize| -> Result<Vec<Vec<u8>>, String> {
        let (sequence, buffers) = drawn(gpu, &gpu.kernels).map_err(|error| error.to_string())?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        (0..passes).for_each(|_| sequence.record_steps(each, &mut encoder));
        gpu.queue.submit([encoder.finish()]);
        buffers.iter().map(|buffer| gpu.read(buffer)).collect()
    };
    let together = run(1, 9)?;
    let state: &[u32] = bytemuck::cast_slice(&together[0]);
    let history: &[i32] = bytemuck::cast_slice(&together[1]);
    if state != [10, 12, 0, VOCAB as u32] || history[0] != -1 || history[10..] != [-1, -1] {
        return Err(format!("{state:?}, {history:?}"));
    }
    let first = history[1];
    if !history[1..10].iter().all(|token| (0..VOCAB as i32).contains(token))
        || history[1..10].iter().all(|&t| t == first)
    {
        return Err(format!("tokens {history:?}"));
    }
    if run(9, 1)? != together || run(3, 3)? != together {
        return Err("other passes have other tokens".into());
    }
    // The last place ends it.
    let all = run(1, 20)?;
    match bytemuck::cast_slice::<u8, u32>(&all[0]) {
        [12, 23, 1, _] => Ok(()),
        state => Err(format!("{state:?} after 20 steps")),
    }
}

fn foreign(gpu: &Gpu) -> Result<(), String> {
    let others = Kernels::new(&gpu.device, (*gpu.kernels.caps()).clone());
    let buffer = gpu.buffer(&[0; 64]);
    let problem = softmax::Problem { rows: 4, cols: 4, ..Default::default() };
    let prepare = |kernels: &Kernels| softmax::prepare(kernels, &problem, softmax::Buffers::new(&buffer, &buffer));
    let of = |kernels: &Kernels| prepare(kernels).map_err(|error| error.to_string());
    let mut sequence = Sequence::new(&gpu.kernels);
    let meant = |error: &Error| {
        matches!(error, Error { op: "softmax", kind: ErrorKind::InvalidProblem { arg: "dispatch", .. } })
    };
    refused("a call of other Kernels", sequence.push(of(&others)?), meant)?;
    // Clones are the same.
    sequence.push(of(&gpu.kernels.clone())?).map_err(|error| error.to_string())?;
    refused("a call of none", sequence.push(Dispatch::default()), |error| {
        matches!(error.kind, ErrorKind::InvalidProblem { arg: "dispatch", .. })
    })?;
    match sequence.dispatches() {
        [one] if one.op() == "softmax" => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn costs(gpu: &Gpu) -> Result<(), String> {
    let fault = |error: Error| error.to_string();
    let (sequence, _buffers) = drawn(gpu, &gpu.kernels).map_err(fault)?;
    let calls: Vec<_> = sequence.dispatches().iter().flat_map(Dispatch::calls).collect();
    let pipelines = 1 + calls.windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
    let immediate_bytes = calls.iter().map(|call| call.2.len()).sum();
    let expected = SequenceCost { dispatches: calls.len(), pipelines, immediate_bytes };
    if sequence.cost() != expected || pipelines < 3 {
        return Err(format!("{:?}, {expected:?}", sequence.cost()));
    }
    // Scratch is one buffer, as long as it does not grow.
    let kernels = Kernels::new(&gpu.device, (*gpu.kernels.caps()).clone());
    kernels.reserve_scratch(1_000_000).map_err(fault)?;
    let (small, _buffers) = drawn(gpu, &kernels).map_err(fault)?;
    if small.scratch_bytes() != 1 << 20 {
        return Err(format!("{} bytes of scratch", small.scratch_bytes()));
    }
    // As many allocations as by hand: those are wgpu's.
    let count = |record: &dyn Fn(&mut wgpu::ComputePass)| {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        record(&mut pass);
        allocations::count(|| (0..50).for_each(|_| record(&mut pass)))
    };
    let by_hand = |pass: &mut wgpu::ComputePass| {
        for &(pipeline, bind_group, immediates, [x, y, z]) in &calls {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, bind_group, &[]);
            if !immediates.is_empty() {
                pass.set_immediates(0, immediates);
            }
            pass.dispatch_workgroups(x, y, z);
        }
    };
    let (ours, theirs) = (count(&|pass| sequence.record_in(pass)), count(&by_hand));
    if ours <= theirs { Ok(()) } else { Err(format!("50 steps made {ours} allocations, {theirs} by hand")) }
}

fn compiled(gpu: &Gpu) -> Result<(), String> {
    let fault = |error: Error| error.to_string();
    let kernels = Kernels::new(&gpu.device, (*gpu.kernels.caps()).clone());
    let rows = softmax::Problem { rows: 4, cols: 5, ..Default::default() };
    let normed = norm::Problem { rows: 4, cols: 12, ..Default::default() };
    let product = gemm::Problem { m: 3, n: 5, k: 7, ..Default::default() };
    let wrong = softmax::Problem { dims: [0, 3], ..rows };
    let all: [&dyn Subject; 5] = [&rows, &wrong, &normed, &product, &rows];
    let meant = |error: &Error| error.op == "softmax" && !matches!(error.kind, ErrorKind::Gpu { .. });
    refused("one that is wrong", kernels.compile(&all), meant)?;
    // The others are there.
    let count = kernels.pipeline_count();
    kernels.compile(&[&rows, &normed, &product]).map_err(fault)?;
    let [a, b, c] = [0; 3].map(|byte| gpu.buffer(&[byte; 1024]));
    softmax::prepare(&kernels, &rows, softmax::Buffers::new(&a, &b)).map_err(fault)?;
    norm::prepare(&kernels, &normed, norm::Buffers::new(&a, &b)).map_err(fault)?;
    gemm::prepare(&kernels, &product, gemm::Buffers::new(&a, &b, &c)).map_err(fault)?;
    match (count, kernels.pipeline_count()) {
        (3.., after) if after == count => Ok(()),
        (before, after) => Err(format!("{before} pipelines, then {after}")),
    }
}
