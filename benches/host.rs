//! What a call costs the host: `prepare` of a kernel that is compiled, and `record_in`. Buffers are tiny and nothing is
//! submitted; `loom bench` measures the GPU. And how fast weights are packed, in bytes of the checkpoint.
//!
//! `TILELOOM_ADAPTER` and `WGPU_BACKEND` choose the adapter; the first is taken.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use loom::Gpu;
use tileloom::weights::{Format, Source};
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

/// A matrix of 4096 x 4096 from memory, into memory that is there.
fn packed(criterion: &mut Criterion) {
    let (n, k) = (4096, 4096);
    let mut group = criterion.benchmark_group("pack");
    for name in ["q4_0", "q4_1", "q5_0", "q8_0", "mxfp4", "q4_k", "q5_k", "q6_k"] {
        let format = Format::ggml(name).expect("a type of GGML");
        let (bytes, of) = format.ggml_block().expect("a type of GGML");
        let file: Vec<u8> = (0..n * k / of * bytes).map(|i| ((i * 31) >> 3) as u8).collect();
        let [mut codes, mut scales] =
            [format.code_bytes(n, k), format.scale_bytes(n, k)].map(|bytes| vec![0; bytes as usize / 4]);
        group.throughput(Throughput::Bytes(file.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| format.pack_into(name, [n, k], Source::Ggml((&file).into()), &mut codes, &mut scales));
        });
    }
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
    packed(&mut criterion);
    criterion.final_summary();
}
