//! VQ scatter: a codebook's gradient.

use criterion::{BenchmarkId, Criterion};
use loom::Gpu;
use loom::kernels::vq_lookup::index_bytes;
use loom::kernels::vq_scatter::Call;
use tileloom::vq_scatter::{Buffers, Problem, prepare};
use tileloom::wgpu;

pub fn benches(gpu: &Gpu, criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("vq_scatter");
    for (spatial, num_codes, code_dim) in [(4096, 8192, 64), (65_536, 1024, 64)] {
        let problem = Problem { spatial, num_codes, code_dim, ..Problem::default() };
        let call = Call::random(problem, 1);
        // A wrong kernel has no speed.
        call.check(gpu, &gpu.kernels, None).expect("a right result");
        let words: Vec<u32> = call.indices.iter().map(|&i| i as u32).collect();
        let (indices, x) = (gpu.buffer(&index_bytes(problem.index, &words)), gpu.buffer(&problem.x.encode(&call.x)));
        let sums = gpu.buffer(&vec![0; num_codes * code_dim * 4]);
        let dispatch = prepare(&gpu.kernels, &problem, Buffers::new(&indices, &x, &sums)).expect("a dispatch");
        group.bench_function(BenchmarkId::from_parameter(format!("{spatial} to {num_codes}x{code_dim}")), |bencher| {
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
