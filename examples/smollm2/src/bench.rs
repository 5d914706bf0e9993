//! How fast: prompts, decoding, the host's part, and the time of each op.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tileloom::wgpu::PollType;
use tileloom::{Dispatch, Sequence};

use crate::Result;
use crate::gpu::Gpu;
use crate::model::Model;
use crate::session::{Options, Session};
use crate::step::{Heads, Rows};
use crate::tokens::Tokens;

/// The text that is read; as long as is wanted.
const TEXT: &str =
    "A canal boat carries coal to the mill and flour back to the town, and its keeper knows each lock by name. ";
const DECODE_PROMPT: usize = 32;
const DECODE: usize = 64;

/// Measures and prints: prompts of these lengths, then decoding; `runs` of each after one that compiles, of which the median counts.
pub fn run(gpu: &Gpu, model: &Model, tokens: &Tokens, options: Options, prompts: &[usize], runs: usize) -> Result<()> {
    let ids = tokens.encode(&TEXT.repeat(100))?;
    let mut session = Session::new(gpu, model, options)?;
    for &len in prompts {
        let rates = rates(runs, || {
            session.clear();
            let start = Instant::now();
            session.prefill(&[&ids[..len]])?;
            Ok(len as f64 / start.elapsed().as_secs_f64())
        })?;
        println!("prompt of {len}: {rates} tokens/s");
    }
    for steps in [1, 8] {
        let rates = rates(runs, || {
            session.clear();
            session.prefill(&[&ids[..DECODE_PROMPT]])?;
            let start = Instant::now();
            for _ in 0..DECODE / steps {
                session.next(steps)?;
            }
            Ok(DECODE as f64 / start.elapsed().as_secs_f64())
        })?;
        println!("decode: {rates} tokens/s ({DECODE} after {DECODE_PROMPT}, {steps} per submit)");
    }
    for (rows, step) in session.passes() {
        println!(
            "{} rows of {}: {} calls, {} pipelines in all",
            rows.total,
            rows.batch,
            step.cost().dispatches,
            gpu.kernels().pipeline_count()
        );
    }
    println!("memory: {:.1} MB", gpu.bytes() as f64 / 1e6);
    for &len in prompts.iter().filter(|&&len| len <= options.chunk) {
        println!("\nprompt of {len}, by op");
        session.clear();
        session.prefill(&[&ids[..len]])?;
        by_op(&session, Rows::of(len, session.keys(0), Heads::Last), runs)?;
    }
    println!("\ndecode, by op");
    session.next(1)?;
    by_op(&session, Rows::next(1, session.keys(0)), 10 * runs)?;
    host(&session)
}

/// Rates of runs, the first of which is left out: the median, and all of them.
fn rates(runs: usize, mut run: impl FnMut() -> Result<f64>) -> Result<String> {
    run()?;
    let mut rates = (0..runs).map(|_| run()).collect::<Result<Vec<_>>>()?;
    let all: Vec<_> = rates.iter().map(|rate| format!("{rate:.1}")).collect();
    rates.sort_by(f64::total_cmp);
    Ok(format!("{:.1} of {}", rates[rates.len() / 2], all.join(" ")))
}

fn find<'s>(session: &'s Session, rows: Rows) -> Result<&'s Sequence> {
    let found = session.passes().find(|(of, _)| **of == rows);
    Ok(found.ok_or("no such pass was prepared")?.1)
}

/// Seconds until a recording has run.
fn wall(gpu: &Gpu, record: impl Fn(&mut tileloom::wgpu::CommandEncoder)) -> Result<f64> {
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    record(&mut encoder);
    let commands = encoder.finish();
    let start = Instant::now();
    gpu.queue().submit([commands]);
    gpu.device().poll(PollType::wait_indefinitely())?;
    Ok(start.elapsed().as_secs_f64())
}

/// The wall time of each dispatch by itself, less that of an empty submit, added up by op and shape.
fn by_op(session: &Session, rows: Rows, runs: usize) -> Result<()> {
    let (gpu, step) = (session.gpu, find(session, rows)?);
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let many = |record: &dyn Fn(&mut tileloom::wgpu::CommandEncoder)| -> Result<f64> {
        Ok(median((0..runs).map(|_| wall(gpu, record)).collect::<Result<Vec<_>>>()?))
    };
    let empty = many(&|_| {})?;
    let whole = many(&|encoder| step.record(encoder))?;
    let mut sums = BTreeMap::<String, (usize, f64)>::new();
    for dispatch in step.dispatches() {
        let time = many(&|encoder| dispatch.record(encoder))? - empty;
        let label = dispatch.steps().map(|(label, grid)| format!("{label} {grid:?}")).collect::<Vec<_>>().join("; ");
        let sum = sums.entry(format!("{} {label}", dispatch.op())).or_default();
        *sum = (sum.0 + 1, sum.1 + time);
    }
    let all: f64 = sums.values().map(|(_, time)| time).sum();
    println!("whole pass {:.2} ms, sum of ops {:.2} ms, an empty submit {:.3} ms", whole * 1e3, all * 1e3, empty * 1e3);
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    for (label, (count, time)) in sums {
        println!("{:8.3} ms {:5.1} % {count:4} x {label}", time * 1e3, time / all * 100.0);
    }
    Ok(())
}

/// What the host does for a token, and the same calls through bare wgpu, in turns: nothing is waited for.
fn host(session: &Session) -> Result<()> {
    let (gpu, step) = (session.gpu, find(session, Rows::next(1, session.keys(0)))?);
    let bare: Vec<_> = step.dispatches().iter().flat_map(Dispatch::calls).collect();
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..40 {
        for (which, times) in times.iter_mut().enumerate() {
            let start = Instant::now();
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            if which == 0 {
                step.record(&mut encoder);
            } else {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                for (pipeline, group, immediates, [x, y, z]) in &bare {
                    pass.set_pipeline(pipeline);
                    pass.set_bind_group(0, *group, &[]);
                    if !immediates.is_empty() {
                        pass.set_immediates(0, immediates);
                    }
                    pass.dispatch_workgroups(*x, *y, *z);
                }
            }
            gpu.queue().submit([encoder.finish()]);
            times.push(start.elapsed());
            gpu.device().poll(PollType::wait_indefinitely())?;
        }
    }
    let [ours, bare] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2]
    });
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "\nhost per token, {} calls: {:.0} us; through bare wgpu {:.0} us, {:.2} times",
        step.cost().dispatches,
        us(ours),
        us(bare),
        us(ours) / us(bare)
    );
    Ok(())
}
