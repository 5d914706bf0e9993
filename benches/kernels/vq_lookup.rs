//! VQ lookup: an image's codes, and token embeddings.

use criterion::{BenchmarkId, Criterion, Throughput};
use loom::Gpu;
use loom::kernels::vq_lookup::{Call, index_bytes};
use tileloom::vq_lookup::{Buffers, Problem, prepare};
use tileloom::{Dtype, wgpu};

pub fn benches(gpu: &Gpu, criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("vq_lookup");
    for (spatial, num_codes, code_dim, dtype) in [(65_536, 8192, 64, Dtype::F32), (4096, 16_384, 256, Dtype::F16)] {
        let problem = Problem { spatial, num_codes, code_dim, x: dtype, y: dtype, ..Problem::default() };
        // A wrong kernel has no speed.
        let call = Call::random(problem, 1);
        call.check(gpu, &gpu.kernels, None).expect("a right result");
        let words: Vec<u32> = call.indices.iter().map(|&i| i as u32).collect();
        let (indices, codebook) =
            (gpu.buffer(&index_bytes(problem.index, &words)), gpu.buffer(&dtype.encode(&call.codebook)));
        let y = gpu.buffer(&vec![0; spatial * code_dim * dtype.bytes() as usize]);
        let buffers = Buffers::new(&indices, &codebook, &y);
        let dispatch = prepare(&gpu.kernels, &problem, buffers).expect("a dispatch");
        group.throughput(Throughput::Bytes(2 * y.size()));
        group.bench_function(
            BenchmarkId::from_parameter(format!("{spatial} of {num_codes}x{code_dim} {dtype}")),
            |bencher| {
                bencher.iter(|| {
                    let mut encoder = gpu.device.create_command_encoder(&Default::default());
                    dispatch.record(&mut encoder);
                    gpu.queue.submit([encoder.finish()]);
                    gpu.device.poll(wgpu::PollType::wait_indefinitely()).expect("a device")
                });
            },
        );
    }
    group.finish();
}
