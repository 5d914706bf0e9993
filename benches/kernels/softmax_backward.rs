//! The gradient of softmax: rows by columns.

use criterion::{BenchmarkId, Criterion, Throughput};
use loom::Gpu;
use loom::kernels::softmax_backward::Call;
use tileloom::softmax_backward::{Buffers, Problem, choose, prepare_with};
use tileloom::{Dtype, wgpu};

pub fn benches(gpu: &Gpu, criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("softmax_backward");
    for (rows, cols, dtype) in [(4096, 4096, Dtype::F32), (4096, 4096, Dtype::F16), (65_536, 64, Dtype::F32)] {
        let problem = Problem { rows, cols, y: dtype, dy: dtype, dx: dtype, ..Default::default() };
        // A wrong kernel has no speed: the Config that is timed is checked on few rows.
        let config = choose(&gpu.kernels.caps(), &problem).expect("a Config");
        let few = Call::random(Problem { rows: 70, ..problem }, 1, false);
        few.check(gpu, &gpu.kernels, Some(&config)).expect("a right result");
        let call = Call::random(problem, 2, false);
        let [y, dy] = [&call.y, &call.dy].map(|values| gpu.buffer(&dtype.encode(values)));
        let dx = gpu.buffer(&dtype.encode(&call.y));
        let dispatch = prepare_with(&gpu.kernels, &problem, &config, Buffers::new(&y, &dy, &dx)).expect("a dispatch");
        group.throughput(Throughput::Bytes(3 * dx.size()));
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
}
