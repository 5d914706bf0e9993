//! RoPE: prefill and decode.

use criterion::{BenchmarkId, Criterion, Throughput};
use loom::Gpu;
use loom::kernels::rope::Call;
use tileloom::rope::{Angles, Buffers, Frequencies, Heads, Problem, prepare};
use tileloom::{Dtype, wgpu};

pub fn benches(gpu: &Gpu, criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rope");
    for (batch, heads, seq, dtype) in
        [(4, 32, 512, Dtype::F32), (4, 32, 512, Dtype::F16), (32, 32, 1, Dtype::F32), (32, 32, 1, Dtype::F16)]
    {
        let problem = Problem {
            batch,
            seq,
            head_dim: 128,
            rotary_dim: 128,
            q: Heads::new(heads),
            x: dtype,
            y: dtype,
            angles: Angles::Frequencies(Frequencies::new(128, 10_000.0).expect("an even number")),
            ..Problem::default()
        };
        // A wrong kernel has no speed: its Config is checked on one batch.
        let few = Call::random(Problem { batch: 1, seq: seq.min(64), ..problem.clone() }, 1, 1);
        few.check(gpu, &gpu.kernels, None).expect("a right result");
        let x = dtype.encode(&Call::random(problem.clone(), 2, 1).q);
        let (x, y) = (gpu.buffer(&x), gpu.buffer(&x));
        let dispatch = prepare(&gpu.kernels, &problem, Buffers::new(&x, &y)).expect("a dispatch");
        group.throughput(Throughput::Bytes(2 * x.size()));
        group.bench_function(BenchmarkId::from_parameter(format!("{batch}x{heads}x{seq}x128 {dtype}")), |bencher| {
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
