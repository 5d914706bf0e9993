//! What a call costs the host: `prepare` of a kernel that is compiled, and `record_in`. Buffers are tiny and nothing is
//! submitted; `loom bench` measures the GPU.
//!
//! `TILELOOM_ADAPTER` and `WGPU_BACKEND` choose the adapter; the first is taken.

use std::time::{Duration, Instant};

use criterion::Criterion;
use loom::Gpu;
use tileloom::{Op, softmax, softmax_backward, wgpu};

/// Seconds of `calls` of `record`, in passes of a thousand.
fn recorded(gpu: &Gpu, calls: u64, record: impl Fn(&mut wgpu::ComputePass<'_>)) -> Duration {
    let (mut spent, passes) = (Duration::ZERO, calls.div_ceil(1000));
    for _ in 0..passes {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        let start = Instant::now();
        (0..1000).for_each(|_| record(&mut pass));
        spent += start.elapsed();
    }
    spent.mul_f64(calls as f64 / (passes * 1000) as f64)
}

fn host<P: Op>(gpu: &Gpu, criterion: &mut Criterion, problem: P, buffers: P::Buffers<'_>) {
    let prepare = || problem.prepare(&gpu.kernels, buffers).expect("a dispatch");
    let dispatch = prepare();
    let mut group = criterion.benchmark_group(P::NAME);
    group.bench_function("prepare", |bencher| bencher.iter(prepare));
    let record = |calls| recorded(gpu, calls, |pass| dispatch.record_in(pass));
    group.bench_function("record_in", |bencher| bencher.iter_custom(record));
    let both = |calls| recorded(gpu, calls, |pass| prepare().record_in(pass));
    group.bench_function("prepare and record_in", |bencher| bencher.iter_custom(both));
    group.finish();
}

fn main() {
    let adapter = loom::gpu::adapters().into_iter().next().expect(loom::gpu::NO_ADAPTER);
    let gpu = Gpu::open(&adapter).expect("a device");
    println!("{}", gpu.kernels.caps().label());
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    let [a, b, c] = [0; 3].map(|byte| gpu.buffer(&[byte; 256]));
    let rows = softmax::Problem { rows: 4, cols: 16, ..Default::default() };
    host(&gpu, &mut criterion, rows, softmax::Buffers::new(&a, &b));
    let rows = softmax_backward::Problem { rows: 4, cols: 16, ..Default::default() };
    host(&gpu, &mut criterion, rows, softmax_backward::Buffers::new(&a, &b, &c));
    criterion.final_summary();
}
