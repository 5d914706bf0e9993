//! Merging the parts of attention.

use criterion::{BenchmarkId, Criterion, Throughput};
use loom::Gpu;
use loom::kernels::attention_merge::Call;
use tileloom::attention_merge::{Buffers, Problem, prepare};
use tileloom::wgpu;

pub fn benches(gpu: &Gpu, criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention_merge");
    for (splits, rows, dim) in [(8, 4096, 128), (32, 32, 128)] {
        let call = Call::random(Problem { splits, rows, dim, ..Problem::default() }, 1);
        // A wrong kernel has no speed.
        call.check(gpu, &gpu.kernels).expect("a right result");
        let Call { problem, o, lse } = call;
        let (o, lse) = (gpu.buffer(&problem.x.encode(&o)), gpu.buffer(&tileloom::Dtype::F32.encode(&lse)));
        let merged = gpu.buffer(&vec![0; rows * dim * problem.y.bytes() as usize]);
        let dispatch = prepare(&gpu.kernels, &problem, Buffers::new(&o, &lse, &merged)).expect("a dispatch");
        group.throughput(Throughput::Elements((splits * rows * dim) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{splits}x{rows}x{dim}")), |bencher| {
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
