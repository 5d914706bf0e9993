//! What a call costs the host: `prepare` of a kernel that is compiled, and `record_in`. Buffers are tiny and nothing is
//! submitted; `loom bench` measures the GPU. A `Sequence` beside the same calls of wgpu by hand. How fast weights are packed, in bytes of the
//! checkpoint. And with `compile` among the arguments only this: seconds until the pipelines of all quick benchmarks are there, one after
//! another, together, and together from the cache on disk, in turns.
//!
//! `TILELOOM_ADAPTER` and `WGPU_BACKEND` choose the adapter; the first is taken.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use loom::Gpu;
use loom::kernel::{Run, Use};
use tileloom::verify::Subject;
use tileloom::weights::{Format, Source};
use tileloom::{Dispatch, Error, Kernels, KernelsOptions, Op, Sequence, gemm, softmax, softmax_backward, wgpu};

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

/// A step of twenty calls, of three kernels, beside the same by hand.
fn sequence(gpu: &Gpu, criterion: &mut Criterion, [a, b, c]: [&wgpu::Buffer; 3]) {
    let mut sequence = Sequence::new(&gpu.kernels);
    let rows = softmax::Problem { rows: 4, cols: 16, ..Default::default() };
    let product = gemm::Problem { m: 4, n: 4, k: 4, ..Default::default() };
    for i in 0..20 {
        let call = match i % 2 {
            0 => rows.prepare(&gpu.kernels, softmax::Buffers::new(a, b)),
            _ => product.prepare(&gpu.kernels, gemm::Buffers::new(a, b, c)),
        };
        sequence.push(call.expect("a dispatch")).expect("one of these Kernels");
    }
    let by_hand = |pass: &mut wgpu::ComputePass<'_>| {
        for (pipeline, bind_group, immediates, [x, y, z]) in sequence.dispatches().iter().flat_map(Dispatch::calls) {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, bind_group, &[]);
            if !immediates.is_empty() {
                pass.set_immediates(0, immediates);
            }
            pass.dispatch_workgroups(x, y, z);
        }
    };
    let mut group = criterion.benchmark_group("sequence of 20");
    group.bench_function("record_in", |b| b.iter_custom(|steps| recorded(gpu, steps, |pass| sequence.record_in(pass))));
    group.bench_function("by hand", |b| b.iter_custom(|steps| recorded(gpu, steps, by_hand)));
    group.finish();
}

/// Seconds until the pipelines of all quick benchmarks are there.
fn compile(adapter: &wgpu::Adapter) {
    let quick = |run: &dyn Run| matches!(run.what(), Use::Bench { quick: true });
    let runs: Vec<_> =
        loom::registry::all().iter().flat_map(|kernel| kernel.list()).filter(|run| quick(&**run)).collect();
    let subjects: Vec<&dyn Subject> = runs.iter().map(|run| run.subject()).collect();
    let dir = std::env::temp_dir().join(format!("tileloom-host-{}", std::process::id()));
    let seconds = |name: &str, cached: bool, work: &dyn Fn(&Kernels) -> Result<(), Error>| {
        let options = KernelsOptions { cache_dir: cached.then(|| dir.clone()), ..Default::default() };
        let gpu = Gpu::open_with(adapter, options).expect("a device");
        let start = Instant::now();
        work(&gpu.kernels).expect("pipelines");
        let spent = start.elapsed();
        gpu.kernels.save_pipeline_cache().expect("a file");
        println!("{name:24} {:8.3} s  {} pipelines", spent.as_secs_f64(), gpu.kernels.pipeline_count());
    };
    let together = |kernels: &Kernels| kernels.compile(&subjects);
    let in_turn = |kernels: &Kernels| subjects.iter().try_for_each(|subject| kernels.compile(&[*subject]));
    for _ in 0..3 {
        let _ = std::fs::remove_dir_all(&dir);
        seconds("one after another", false, &in_turn);
        seconds("together", false, &together);
        seconds("together, kept on disk", true, &together);
        seconds("together, from disk", true, &together);
    }
    let _ = std::fs::remove_dir_all(&dir);
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
    if std::env::args().any(|arg| arg == "compile") {
        return compile(&adapter);
    }
    let gpu = Gpu::open(&adapter).expect("a device");
    println!("{}", gpu.kernels.caps().label());
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    let [a, b, c] = [0; 3].map(|byte| gpu.buffer(&[byte; 256]));
    let rows = softmax::Problem { rows: 4, cols: 16, ..Default::default() };
    host(&gpu, &mut criterion, rows, softmax::Buffers::new(&a, &b));
    let rows = softmax_backward::Problem { rows: 4, cols: 16, ..Default::default() };
    host(&gpu, &mut criterion, rows, softmax_backward::Buffers::new(&a, &b, &c));
    sequence(&gpu, &mut criterion, [&a, &b, &c]);
    packed(&mut criterion);
    criterion.final_summary();
}
