//! Attention: prefill and decode.

use criterion::{BenchmarkId, Criterion, Throughput};
use loom::Gpu;
use loom::kernels::attention::Call;
use tileloom::attention::{Buffers, Problem, choose, prepare_with};
use tileloom::{Dtype, wgpu};

pub fn benches(gpu: &Gpu, criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention");
    for (heads, kv_heads, seq_q, seq_kv, d, x, causal) in [
        (8, 8, 128, 128, 64, Dtype::F32, false),
        (8, 8, 512, 512, 64, Dtype::F32, false),
        (8, 8, 512, 512, 64, Dtype::F32, true),
        (32, 8, 1, 8192, 128, Dtype::F16, false),
    ] {
        let problem = Problem { seq_q, seq_kv, x, o: x, causal, ..Problem::new(1, heads, kv_heads, d) };
        // A wrong kernel has no speed: the Config that is timed is checked on few keys.
        let config = choose(&gpu.kernels.caps(), &problem).expect("a Config");
        let few = Problem { seq_q: seq_q.min(40), seq_kv: seq_kv.min(300), ..problem };
        Call::random(few, 1).check(gpu, &gpu.kernels, Some(&config)).expect("a right result");
        let call = Call::random(problem, 2);
        let (q, k, v) = (x.encode(&call.q), x.encode(&call.k), x.encode(&call.v));
        let (q, k, v, o) = (gpu.buffer(&q), gpu.buffer(&k), gpu.buffer(&v), gpu.buffer(&q));
        let dispatch = prepare_with(&gpu.kernels, &problem, &config, Buffers::new(&q, &k, &v, &o)).expect("a dispatch");
        let flops = 4 * heads * seq_q * seq_kv * d / if causal { 2 } else { 1 };
        group.throughput(Throughput::Elements(flops as u64));
        let name = format!("{heads}/{kv_heads}x{seq_q}x{seq_kv}x{d} {x}{}", if causal { " causal" } else { "" });
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
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
