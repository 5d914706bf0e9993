//! Attention biases: ALiBi's and T5's.

use criterion::{BenchmarkId, Criterion, Throughput};
use loom::Gpu;
use loom::kernels::attention_bias::Call;
use tileloom::attention_bias::{Buckets, Buffers, Kind, Problem, prepare};
use tileloom::{Dtype, Layout, wgpu};

pub fn benches(gpu: &Gpu, criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention_bias");
    let t5 = Kind::T5 { buckets: Buckets::t5(true), dtype: Dtype::F32, layout: Layout::default() };
    for (name, kind) in [("alibi", Kind::Alibi { offset: 0 }), ("t5", t5)] {
        let problem = Problem { heads: 16, seq_q: 1024, seq_kv: 1024, kind, ..Problem::default() };
        // A wrong kernel has no speed.
        let few = Call::random(Problem { seq_q: 64, ..problem }, 1);
        few.check(gpu, &gpu.kernels, None).expect("a right result");
        let table = gpu.buffer(&Dtype::F32.encode(&few.table));
        let bias = gpu.buffer(&vec![0; 16 << 22]);
        let buffers = match kind {
            Kind::Alibi { .. } => Buffers::alibi(&table, &bias),
            Kind::T5 { .. } => Buffers::t5(&table, &bias),
        };
        let dispatch = prepare(&gpu.kernels, &problem, buffers).expect("a dispatch");
        group.throughput(Throughput::Bytes(bias.size()));
        group.bench_function(BenchmarkId::from_parameter(format!("16x1024x1024 f32 {name}")), |bencher| {
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
