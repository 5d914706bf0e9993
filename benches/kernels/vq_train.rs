//! VQ training: a step of moving averages.

use criterion::Criterion;
use loom::Gpu;
use tileloom::vq_train::{Buffers, Problem, prepare};
use tileloom::wgpu;

pub fn benches(gpu: &Gpu, criterion: &mut Criterion) {
    let (n, num_codes, code_dim) = (4096, 8192, 64);
    let problem = Problem { n, num_codes, code_dim, least: 1.0, ..Problem::default() };
    let buffer = |words: usize| gpu.buffer(&vec![1; 4 * words]);
    let (counts, ema_counts, stats) = (buffer(num_codes), buffer(num_codes), buffer(2));
    let [sums, ema_sums, codebook] = [(); 3].map(|()| buffer(num_codes * code_dim));
    let x = buffer(n * code_dim);
    let buffers = Buffers {
        counts: (&counts).into(),
        sums: (&sums).into(),
        x: (&x).into(),
        ema_counts: (&ema_counts).into(),
        ema_sums: (&ema_sums).into(),
        codebook: (&codebook).into(),
        stats: (&stats).into(),
    };
    let dispatch = prepare(&gpu.kernels, &problem, buffers).expect("a dispatch");
    let mut group = criterion.benchmark_group("vq_train");
    group.bench_function("moving averages 8192x64", |bencher| {
        bencher.iter(|| {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            dispatch.record(&mut encoder);
            gpu.queue.submit([encoder.finish()]);
            gpu.device.poll(wgpu::PollType::wait_indefinitely()).expect("a device")
        });
    });
    group.finish();
}
