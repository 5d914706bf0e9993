//! VQ assign: an image's vectors against a codebook.

use criterion::{BenchmarkId, Criterion};
use loom::Gpu;
use loom::kernels::vq_assign::Call;
use tileloom::vq_assign::{Buffers, Problem, prepare};
use tileloom::wgpu;

pub fn benches(gpu: &Gpu, criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("vq_assign");
    group.sample_size(10);
    for (n, num_codes, code_dim) in [(4096, 8192, 64), (1024, 1024, 256)] {
        let problem = Problem { n, num_codes, code_dim, ..Problem::default() };
        // A wrong kernel has no speed.
        let few = Call::random(Problem { n: 64, ..problem }, 1);
        few.check(gpu, &gpu.kernels, None).expect("a right result");
        let call = Call::random(problem, 2);
        let (x, codebook) = (gpu.buffer(&problem.x.encode(&call.x)), gpu.buffer(&problem.x.encode(&call.codebook)));
        let indices = gpu.buffer(&vec![0; 4 * n]);
        let dispatch = prepare(&gpu.kernels, &problem, Buffers::new(&x, &codebook, &indices)).expect("a dispatch");
        group.bench_function(BenchmarkId::from_parameter(format!("{n}x{code_dim} to {num_codes}")), |bencher| {
            bencher.iter(|| {
                let mut encoder = gpu.device.create_command_encoder(&Default::default());
                dispatch.record(&mut encoder);
                gpu.queue.submit([encoder.finish()]);
                gpu.device.poll(wgpu::PollType::wait_indefinitely()).expect("a device")
            });
        });
    }
    group.finish();
}
