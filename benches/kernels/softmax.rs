//! Softmax: rows by columns, and what a call costs the host.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use loom::Gpu;
use loom::kernels::softmax::Call;
use tileloom::softmax::{Buffers, Problem, choose, prepare, prepare_with};
use tileloom::{Dtype, wgpu};

pub fn benches(gpu: &Gpu, criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("softmax");
    for (rows, cols, dtype) in [
        (4096, 4096, Dtype::F32),
        (4096, 4096, Dtype::F16),
        (65_536, 64, Dtype::F32),
        (8192, 1000, Dtype::F32),
        (1, 152_064, Dtype::F32),
    ] {
        let problem = Problem { rows, cols, x: dtype, y: dtype, ..Default::default() };
        // A wrong kernel has no speed: the Config that is timed is checked on few rows.
        let config = choose(&gpu.kernels.caps(), &problem).expect("a Config");
        let few = Call::random(Problem { rows: rows.min(70), ..problem }, 1);
        few.check(gpu, &gpu.kernels, Some(&config)).expect("a right result");
        let x = Call::random(problem, 2).x;
        let (x, y) = (gpu.buffer(&dtype.encode(&x)), gpu.buffer(&dtype.encode(&x)));
        let dispatch = prepare_with(&gpu.kernels, &problem, &config, Buffers::new(&x, &y)).expect("a dispatch");
        let bytes = 2 * (rows * cols) as u64 * dtype.bytes();
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(BenchmarkId::from_parameter(format!("{rows}x{cols} {dtype}")), |bencher| {
            bencher.iter(|| {
                let mut encoder = gpu.device.create_command_encoder(&Default::default());
                dispatch.record(&mut encoder);
                gpu.queue.submit([encoder.finish()]);
                gpu.device.poll(wgpu::PollType::wait_indefinitely()).expect("a device")
            });
        });
    }
    group.finish();

    // Host time of a kernel that is compiled: buffers are tiny, nothing is submitted.
    let problem = Problem { rows: 4, cols: 16, ..Default::default() };
    let (x, y) = (gpu.buffer(&[0; 256]), gpu.buffer(&[0; 256]));
    let mut group = criterion.benchmark_group("softmax host");
    group.bench_function("prepare", |bencher| {
        bencher.iter(|| prepare(&gpu.kernels, &problem, Buffers::new(&x, &y)).expect("a dispatch"));
    });
    let record = |prepare_each: bool, calls: u64| -> Duration {
        let dispatch = prepare(&gpu.kernels, &problem, Buffers::new(&x, &y)).expect("a dispatch");
        let mut spent = Duration::ZERO;
        for _ in 0..calls.div_ceil(1000) {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            let start = Instant::now();
            for _ in 0..1000 {
                match prepare_each {
                    false => dispatch.record_in(&mut pass),
                    true => {
                        prepare(&gpu.kernels, &problem, Buffers::new(&x, &y)).expect("a dispatch").record_in(&mut pass)
                    }
                }
            }
            spent += start.elapsed();
        }
        spent.mul_f64(calls as f64 / (calls.div_ceil(1000) * 1000) as f64)
    };
    group.bench_function("record_in", |bencher| bencher.iter_custom(|calls| record(false, calls)));
    group.bench_function("prepare and record_in", |bencher| bencher.iter_custom(|calls| record(true, calls)));
    group.finish();
}
