//! The matrix product: squares, prefill and decode.

use criterion::{BenchmarkId, Criterion, Throughput};
use loom::Gpu;
use loom::kernels::gemm::{Call, plain};
use tileloom::gemm::{Buffers, Problem, choose, prepare_with};
use tileloom::{Dtype, wgpu};

pub fn benches(gpu: &Gpu, criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gemm");
    for (m, n, k, dtype) in [
        (256, 256, 256, Dtype::F32),
        (512, 512, 512, Dtype::F32),
        (1024, 1024, 1024, Dtype::F32),
        (512, 512, 512, Dtype::F16),
        (1, 2048, 2048, Dtype::F16),
        (128, 2048, 2048, Dtype::F16),
    ] {
        let problem = Problem { trans_b: m != n, ..plain(m, n, k, [dtype; 3]) };
        // A wrong kernel has no speed: the Config that is timed is checked on few rows.
        let config = choose(&gpu.kernels.caps(), &problem).expect("a Config");
        let few = Problem { m: m.min(16), ..problem };
        Call::random(few, 1).check(gpu, &gpu.kernels, Some(&config)).expect("a right result");
        let call = Call::random(problem, 2);
        let (a, b) = (gpu.buffer(&dtype.encode(&call.a)), gpu.buffer(&dtype.encode(&call.b)));
        let d = gpu.buffer(&vec![0; m * n * dtype.bytes() as usize]);
        let dispatch = prepare_with(&gpu.kernels, &problem, &config, Buffers::new(&a, &b, &d)).expect("a dispatch");
        group.throughput(Throughput::Elements(problem.flops() as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{m}x{n}x{k} {dtype}")), |bencher| {
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
