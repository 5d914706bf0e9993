//! Training of a codebook on a GPU.

use loom::Gpu;
use loom::random::Random;
use tileloom::reference::vq_train::{State, gradient, update};
use tileloom::reference::{Judge, vq_assign};
use tileloom::vq_train::{self, Buffers, Gradient, GradientBuffers, KMeansBuffers, Problem};
use tileloom::{Dispatch, Dtype, Error, wgpu};

use crate::Suite;

fn submit(gpu: &Gpu, dispatch: Result<Dispatch, Error>) -> Result<(), String> {
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    dispatch.map_err(|error| error.to_string())?.record(&mut encoder);
    gpu.queue.submit([encoder.finish()]);
    Ok(())
}

fn f32s(gpu: &Gpu, buffer: &wgpu::Buffer) -> Result<Vec<f64>, String> {
    Ok(Dtype::F32.decode(&gpu.read(buffer)?))
}

fn upload(gpu: &Gpu, values: &[f64]) -> wgpu::Buffer {
    gpu.buffer(&Dtype::F32.encode(values))
}

fn judge(what: &str, cols: usize, dtype: Dtype, oracle: &[f64], low: &[f64], out: &[f64]) -> Result<(), String> {
    let mag: Vec<f64> = oracle.chunks(cols).map(|row| row.iter().fold(0f64, |m, v| m.max(v.abs()))).collect();
    let verdict = Judge { cols, dtype, oracle, low, mag: &mag, widen: (0.0, 0.0) }.judge(out);
    if verdict.ok() { Ok(()) } else { Err(format!("{what}: {verdict}")) }
}

/// Everything that a step goes by.
struct Memory {
    counts: wgpu::Buffer,
    sums: wgpu::Buffer,
    x: wgpu::Buffer,
    state: [wgpu::Buffer; 4],
}

impl Memory {
    fn buffers(&self) -> Buffers<'_> {
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

pub fn cases(suite: &mut Suite) {
    suite.case("moving averages, dead codes, perplexity", |gpu| {
        for (n, books, num_codes, code_dim, least) in [(50, 1, 40, 8, 0.5), (7, 2, 9, 5, 0.3), (1, 1, 1, 1, 0.0)] {
            let problem = Problem {
                n,
                books,
                num_codes,
                code_dim,
                least,
                decay: 0.75,
                seed: 9,
                x: Dtype::F16,
                ..Default::default()
            };
            let mut random = Random::new(4);
            let codes = books * num_codes;
            let mut normal = |len: usize, dtype: Dtype| -> Vec<f64> {
                (0..len).map(|_| dtype.round(2.0 + random.normal())).collect()
            };
            let x = normal(n * books * code_dim, Dtype::F16);
            let sums = normal(codes * code_dim, Dtype::F32);
            let ema_sums = normal(codes * code_dim, Dtype::F32);
            let codebook = normal(codes * code_dim, Dtype::F32);
            let counts: Vec<u32> = (0..codes as u32).map(|k| (k * 7 + 1) % 4).collect();
            let ema_counts: Vec<f64> = (0..codes).map(|k| (k % 3) as f64 * 0.5).collect();
            let begin = State { ema_counts, ema_sums, codebook, stats: vec![0.0; 2 * books] };
            let (mut oracle, mut low) = (begin.clone(), begin.clone());
            update::<f64>(&problem, &counts, &sums, &x, &mut oracle);
            update::<f32>(&problem, &counts, &sums, &x, &mut low);
            let memory = Memory {
                counts: gpu.buffer(&counts.iter().flat_map(|c| c.to_le_bytes()).collect::<Vec<_>>()),
                sums: upload(gpu, &sums),
                x: gpu.buffer(&Dtype::F16.encode(&x)),
                state: [&begin.ema_counts, &begin.ema_sums, &begin.codebook, &begin.stats].map(|v| upload(gpu, v)),
            };
            submit(gpu, vq_train::prepare(&gpu.kernels, &problem, memory.buffers()))?;
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
        }
        Ok(())
    });
    suite.case("gradients", |gpu| {
        for (elements, dtype) in [(640, Dtype::F32), (37, Dtype::F32), (37, Dtype::Bf16), (64, Dtype::F16)] {
            let mut random = Random::new(5);
            let [x, q, dy] =
                [(); 3].map(|()| (0..elements).map(|_| dtype.round(3.0 * random.normal())).collect::<Vec<f64>>());
            let problem = Gradient { elements, dtype, commit: 0.5, pull: 2.0 };
            let inputs = [&x, &q, &dy].map(|values| gpu.buffer(&dtype.encode(values)));
            let poison = [elements * dtype.bytes() as usize, elements * 4].map(|n| vec![0xff; n.next_multiple_of(4)]);
            let [dx, dq] = poison.each_ref().map(|bytes| gpu.buffer(bytes));
            let buffers = GradientBuffers {
                x: (&inputs[0]).into(),
                q: (&inputs[1]).into(),
                dy: (&inputs[2]).into(),
                dx: (&dx).into(),
                dq: Some((&dq).into()),
            };
            submit(gpu, vq_train::prepare_gradient(&gpu.kernels, &problem, buffers))?;
            let (oracle, oracle_dq) = gradient::<f64>(0.5, 2.0, &x, &q, &dy);
            let (low, low_dq) = gradient::<f32>(0.5, 2.0, &x, &q, &dy);
            let out = dtype.decode(&gpu.read(&dx)?)[..elements].to_vec();
            judge("dx", elements, dtype, &oracle, &low, &out)?;
            judge("dq", elements, Dtype::F32, &oracle_dq, &low_dq, &f32s(gpu, &dq)?)?;
        }
        Ok(())
    });
    suite.case("k-means finds clusters", |gpu| {
        // 240 vectors around 6 places far apart: the mean of each is found, whatever is drawn first.
        let (n, num_codes, code_dim) = (240, 12, 4);
        let mut random = Random::new(6);
        let place = |i: usize, d: usize| 100.0 * ((i * 7 + d * 3) % 6) as f64;
        let x: Vec<f64> = (0..n * code_dim)
            .map(|at| Dtype::F32.round(place(at / code_dim % 6, at % code_dim) + random.normal()))
            .collect();
        let problem = Problem { n, num_codes, code_dim, seed: 3, ..Problem::default() };
        let poison = |words: usize| gpu.buffer(&vec![0x7f; words * 4]);
        let memory = Memory {
            counts: poison(num_codes),
            sums: poison(num_codes * code_dim),
            x: upload(gpu, &x),
            state: [num_codes, num_codes * code_dim, num_codes * code_dim, 2].map(|n| upload(gpu, &vec![0.0; n])),
        };
        let indices = poison(n);
        let buffers = KMeansBuffers { indices: (&indices).into(), step: memory.buffers() };
        submit(gpu, vq_train::prepare_kmeans(&gpu.kernels, &problem, 8, buffers))?;
        let codebook = f32s(gpu, &memory.state[2])?;
        let spread: f64 = x
            .chunks(code_dim)
            .map(|x| {
                let best = vq_assign::nearest::<f64>(Default::default(), x, &codebook, 1)[0];
                vq_assign::distance::<f64>(Default::default(), x, &codebook[best * code_dim..][..code_dim])
            })
            .sum::<f64>()
            / n as f64;
        // Within a cluster a vector is 4 from the mean, squared.
        if spread < 5.0 { Ok(()) } else { Err(format!("vectors are {spread} from their codes")) }
    });
    suite.case("errors", |gpu| {
        let buffer = gpu.buffer(&[0; 256]);
        let buffers = || Buffers {
            counts: (&buffer).into(),
            sums: (&buffer).into(),
            x: (&buffer).into(),
            ema_counts: (&buffer).into(),
            ema_sums: (&buffer).into(),
            codebook: (&buffer).into(),
            stats: (&buffer).into(),
        };
        let refused = |problem: Problem| vq_train::prepare(&gpu.kernels, &problem, buffers()).map(drop);
        let bad = refused(Problem { decay: 1.5, ..Problem::default() });
        if !matches!(bad, Err(Error::InvalidProblem { arg: "decay", .. })) {
            return Err(format!("decay: {bad:?}"));
        }
        let large = refused(Problem { num_codes: 1000, ..Problem::default() });
        if !matches!(large, Err(Error::BufferTooSmall { buffer: "counts", .. })) {
            return Err(format!("size: {large:?}"));
        }
        let aliased = refused(Problem::default());
        if matches!(aliased, Err(Error::Aliased { .. })) { Ok(()) } else { Err(format!("{aliased:?}")) }
    });
}
