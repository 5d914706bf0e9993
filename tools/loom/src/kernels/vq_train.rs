//! Training of a codebook: a step of moving averages with its oracle.

use tileloom::reference::vq_train::{State, gradient, update};
use tileloom::reference::{Judge, Verdict};
use tileloom::vq_train::{self, Buffers, Gradient, GradientBuffers, Problem};
use tileloom::{Dispatch, Dtype, Error, Op, wgpu};

use super::{Bench, Check, Checked, Kernel, Replay};
use crate::Gpu;
use crate::case::{Case, Fault};
use crate::memory::POISON;
use crate::pool::{Pool, Prepared};
use crate::random::Random;

/// Training, for the commands; case files have no op of it.
pub struct VqTrain;

pub const KERNEL: VqTrain = VqTrain;

/// Records and submits.
///
/// # Errors
/// What `prepare` says.
pub fn submit(gpu: &Gpu, dispatch: Result<Dispatch, Error>) -> Result<(), String> {
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    dispatch.map_err(|error| error.to_string())?.record(&mut encoder);
    gpu.queue.submit([encoder.finish()]);
    Ok(())
}

/// The values of a buffer.
///
/// # Errors
/// A lost device.
pub fn f32s(gpu: &Gpu, buffer: &wgpu::Buffer) -> Result<Vec<f64>, String> {
    Ok(Dtype::F32.decode(&gpu.read(buffer)?))
}

/// A buffer of f32.
pub fn upload(gpu: &Gpu, values: &[f64]) -> wgpu::Buffer {
    gpu.buffer(&Dtype::F32.encode(values))
}

/// Holds rows against their oracle by the numerics rule.
///
/// # Errors
/// What is wrong.
pub fn judge(what: &str, cols: usize, dtype: Dtype, oracle: &[f64], low: &[f64], out: &[f64]) -> Result<(), String> {
    let verdict = rows(cols, dtype, oracle, low, out);
    if verdict.ok() { Ok(()) } else { Err(format!("{what}: {verdict}")) }
}

fn rows(cols: usize, dtype: Dtype, oracle: &[f64], low: &[f64], out: &[f64]) -> Verdict {
    let mag: Vec<f64> = oracle.chunks(cols).map(|row| row.iter().fold(0f64, |m, v| m.max(v.abs()))).collect();
    Judge { cols, dtype, oracle, low, mag: &mag, widen: (0.0, 0.0) }.judge(out)
}

/// Everything that a step goes by.
pub struct Memory {
    pub counts: wgpu::Buffer,
    pub sums: wgpu::Buffer,
    pub x: wgpu::Buffer,
    /// Running counts and sums, codebook, stats.
    pub state: [wgpu::Buffer; 4],
}

impl Memory {
    pub fn buffers(&self) -> Buffers<'_> {
        let [ema_counts, ema_sums, codebook, stats] = &self.state;
        Buffers {
            counts: (&self.counts).into(),
            sums: (&self.sums).into(),
            x: (&self.x).into(),
            ema_counts: ema_counts.into(),
            ema_sums: ema_sums.into(),
            codebook: codebook.into(),
            stats: stats.into(),
        }
    }
}

/// A step on random statistics, some codes of which are dead.
///
/// # Errors
/// What `prepare` says, a lost device, or what is wrong.
pub fn check(gpu: &Gpu, problem: &Problem) -> Result<(), String> {
    let Problem { n, books, num_codes, code_dim, least, .. } = *problem;
    let mut random = Random::new(4);
    let codes = books * num_codes;
    let mut normal =
        |len: usize, dtype: Dtype| -> Vec<f64> { (0..len).map(|_| dtype.round(2.0 + random.normal())).collect() };
    let x = normal(n * books * code_dim, problem.x);
    let sums = normal(codes * code_dim, Dtype::F32);
    let ema_sums = normal(codes * code_dim, Dtype::F32);
    let codebook = normal(codes * code_dim, Dtype::F32);
    let counts: Vec<u32> = (0..codes as u32).map(|k| (k * 7 + 1) % 4).collect();
    let ema_counts: Vec<f64> = (0..codes).map(|k| (k % 3) as f64 * 0.5).collect();
    let begin = State { ema_counts, ema_sums, codebook, stats: vec![0.0; 2 * books] };
    let (mut oracle, mut low) = (begin.clone(), begin.clone());
    update::<f64>(problem, &counts, &sums, &x, &mut oracle);
    update::<f32>(problem, &counts, &sums, &x, &mut low);
    let memory = Memory {
        counts: gpu.buffer(&counts.iter().flat_map(|c| c.to_le_bytes()).collect::<Vec<_>>()),
        sums: upload(gpu, &sums),
        x: gpu.buffer(&problem.x.encode(&x)),
        state: [&begin.ema_counts, &begin.ema_sums, &begin.codebook, &begin.stats].map(|v| upload(gpu, v)),
    };
    submit(gpu, vq_train::prepare(&gpu.kernels, problem, memory.buffers()))?;
    let [counted, summed, book, stats] = memory.state.each_ref().map(|buffer| f32s(gpu, buffer));
    judge("counts", 1, Dtype::F32, &oracle.ema_counts, &low.ema_counts, &counted?)?;
    judge("sums", code_dim, Dtype::F32, &oracle.ema_sums, &low.ema_sums, &summed?)?;
    judge("codebook", code_dim, Dtype::F32, &oracle.codebook, &low.codebook, &book?)?;
    judge("stats", 2, Dtype::F32, &oracle.stats, &low.stats, &stats?)?;
    // What was drawn is drawn bit by bit.
    let drawn = (0..codes).filter(|&i| oracle.ema_counts[i] == f64::from(least) && least > 0.0).count();
    if num_codes > 1 && drawn == 0 {
        return Err("no code was dead".into());
    }
    Ok(())
}

impl Kernel for VqTrain {
    fn name(&self) -> &'static str {
        "vq_train"
    }

    fn ops(&self) -> &'static [&'static str] {
        &[]
    }

    fn checks(&self) -> Vec<Check> {
        let base =
            Problem { n: 50, num_codes: 40, code_dim: 8, least: 0.5, decay: 0.75, seed: 9, ..Problem::default() };
        let cases = [("moving averages", base), ("two books, f16", Problem { books: 2, x: Dtype::F16, ..base })];
        let check = |(name, problem): (&'static str, Problem)| {
            let run = move |gpu: &Gpu| match check(gpu, &problem) {
                Ok(()) => Checked::Ran(Verdict { checked: problem.books * problem.num_codes, ..Verdict::default() }),
                Err(reason) => Checked::Failed(reason),
            };
            Check { name, run: Box::new(run) }
        };
        cases.into_iter().map(check).collect()
    }

    fn replay(&self, _: &Case) -> Result<Replay, Fault> {
        Err(Fault::NoOp { known: self.ops().to_vec() })
    }

    fn benches(&self) -> Vec<Bench> {
        vec![step("moving averages 4096 to 8192x64", 4096, 8192, 64), descent("gradient 4096x64 f32", 4096 * 64)]
    }
}

/// A step of moving averages, on counts that leave no code dead.
fn step(shape: &str, n: usize, num_codes: usize, code_dim: usize) -> Bench {
    let problem = Problem { n, num_codes, code_dim, ..Problem::default() };
    let elements = num_codes * code_dim;
    Bench {
        shape: shape.into(),
        quick: true,
        flops: 4.0 * elements as f64,
        // Counts, and running ones in and out; sums, running ones in and out, the codebook.
        bytes: 4.0 * (3 * num_codes + 4 * elements) as f64,
        prepare: Box::new(move |gpu: &Gpu, pool: &Pool, sets: usize| {
            let config = problem.choose(&gpu.kernels.caps()).map_err(|error| error.to_string())?;
            let counts: Vec<u32> = (0..num_codes as u32).map(|k| 1 + k % 4).collect();
            let begin = |set: usize| State {
                ema_counts: counts.iter().map(|&c| f64::from(c)).collect(),
                ema_sums: pool.values(Dtype::F32, elements, set + 1),
                codebook: pool.values(Dtype::F32, elements, set + 2),
                stats: vec![0.0; 2],
            };
            let mut dispatches = Vec::with_capacity(sets);
            let mut first = None;
            for set in 0..sets {
                let state = begin(set);
                let memory = Memory {
                    counts: gpu.buffer(&counts.iter().flat_map(|c| c.to_le_bytes()).collect::<Vec<_>>()),
                    sums: gpu.buffer(&pool.bytes(Dtype::F32, elements, set)),
                    x: gpu.buffer(&pool.bytes(Dtype::F32, n * code_dim, set)),
                    state: [&state.ema_counts, &state.ema_sums, &state.codebook, &state.stats].map(|v| upload(gpu, v)),
                };
                let dispatch = vq_train::prepare(&gpu.kernels, &problem, memory.buffers());
                dispatches.push(dispatch.map_err(|error| error.to_string())?);
                first.get_or_insert((memory, state));
            }
            let (memory, begin) = first.ok_or("no input set was asked for")?;
            let (sums, x) = (pool.values(Dtype::F32, elements, 0), pool.values(Dtype::F32, n * code_dim, 0));
            // Set 0 has run once then.
            let check = move |gpu: &Gpu| {
                let (mut oracle, mut low) = (begin.clone(), begin.clone());
                update::<f64>(&problem, &counts, &sums, &x, &mut oracle);
                update::<f32>(&problem, &counts, &sums, &x, &mut low);
                let book = f32s(gpu, &memory.state[2])?;
                Ok(rows(code_dim, Dtype::F32, &oracle.codebook, &low.codebook, &book))
            };
            Ok(Prepared { dispatches, config: config.to_string(), check: Box::new(check) })
        }),
    }
}

/// The gradients of both losses.
fn descent(shape: &str, elements: usize) -> Bench {
    let problem = Gradient { elements, dtype: Dtype::F32, commit: 0.5, pull: Some(2.0) };
    Bench {
        shape: shape.into(),
        quick: true,
        flops: 4.0 * elements as f64,
        bytes: 4.0 * 5.0 * elements as f64,
        prepare: Box::new(move |gpu: &Gpu, pool: &Pool, sets: usize| {
            let config = problem.choose(&gpu.kernels.caps()).map_err(|error| error.to_string())?;
            let mut dispatches = Vec::with_capacity(sets);
            let mut first = None;
            for set in 0..sets {
                let [x, q, dy] = [0, 1, 2].map(|which| gpu.buffer(&pool.bytes(Dtype::F32, elements, set + which)));
                let [dx, dq] = [(); 2].map(|()| gpu.buffer(&vec![POISON; 4 * elements]));
                let buffers = GradientBuffers {
                    x: (&x).into(),
                    q: (&q).into(),
                    dy: (&dy).into(),
                    dx: (&dx).into(),
                    dq: Some((&dq).into()),
                };
                let dispatch = vq_train::prepare_gradient(&gpu.kernels, &problem, buffers);
                dispatches.push(dispatch.map_err(|error| error.to_string())?);
                first.get_or_insert([dx, dq]);
            }
            let [dx, dq] = first.ok_or("no input set was asked for")?;
            let [x, q, dy] = [0, 1, 2].map(|set| pool.values(Dtype::F32, elements, set));
            let check = move |gpu: &Gpu| {
                let (oracle, oracle_dq) = gradient::<f64>(0.5, 2.0, &x, &q, &dy);
                let (low, low_dq) = gradient::<f32>(0.5, 2.0, &x, &q, &dy);
                let mut verdict = rows(64, Dtype::F32, &oracle, &low, &f32s(gpu, &dx)?);
                verdict.merge(rows(64, Dtype::F32, &oracle_dq, &low_dq, &f32s(gpu, &dq)?));
                Ok(verdict)
            };
            Ok(Prepared { dispatches, config: config.to_string(), check: Box::new(check) })
        }),
    }
}
