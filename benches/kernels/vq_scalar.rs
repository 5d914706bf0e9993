//! Scalar quantisation: FSQ of an image's vectors.

use criterion::{Criterion, Throughput};
use loom::Gpu;
use loom::random::Random;
use tileloom::vq_scalar::{Buffers, Problem, prepare};
use tileloom::{Dtype, wgpu};

pub fn benches(gpu: &Gpu, criterion: &mut Criterion) {
    let problem = Problem { n: 65_536, levels: &[8, 5, 5, 5], ..Problem::default() };
    let mut random = Random::new(1);
    let values: Vec<f64> = (0..4 * problem.n).map(|_| random.normal()).collect();
    let (x, y) = (gpu.buffer(&Dtype::F32.encode(&values)), gpu.buffer(&vec![0; 16 * problem.n]));
    let indices = gpu.buffer(&vec![0; 4 * problem.n]);
    let dispatch = prepare(&gpu.kernels, &problem, Buffers::new(&indices, &y).x(&x)).expect("a dispatch");
    let mut group = criterion.benchmark_group("vq_scalar");
    group.throughput(Throughput::Bytes(36 * problem.n as u64));
    group.bench_function("encode 65536 of 8x5x5x5", |bencher| {
        bencher.iter(|| {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            dispatch.record(&mut encoder);
            gpu.queue.submit([encoder.finish()]);
            gpu.device.poll(wgpu::PollType::wait_indefinitely()).expect("a device")
        });
    });
    group.finish();
}
