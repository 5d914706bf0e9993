//! Position encodings: sinusoidal and learned.

use criterion::{BenchmarkId, Criterion, Throughput};
use loom::Gpu;
use loom::kernels::position_encoding::Call;
use tileloom::position_encoding::{Buffers, Encoding, Order, Problem, Table, prepare};
use tileloom::rope::Frequencies;
use tileloom::{Dtype, wgpu};

pub fn benches(gpu: &Gpu, criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("position_encoding");
    let frequencies = Frequencies::new(1024, 10_000.0).expect("an even number").per_pair;
    let table = Table { len: 1024, offset: 0 };
    for (name, dtype, encoding) in [
        ("waves", Dtype::F32, Encoding::sequence(&frequencies, Order::Interleaved)),
        ("waves", Dtype::F16, Encoding::sequence(&frequencies, Order::Interleaved)),
        ("learned", Dtype::F32, Encoding::Learned { dtype: Dtype::F32, table, row_table: None }),
    ] {
        let problem = Problem { batch: 8, cols: 1024, dim: 1024, x: dtype, y: dtype, encoding, ..Problem::default() };
        // A wrong kernel has no speed.
        let few = Call::random(Problem { cols: 64, ..problem.clone() }, 1, 1);
        few.check(gpu, &gpu.kernels, None).expect("a right result");
        let call = Call::random(problem.clone(), 2, 1);
        let [x, y] = [(); 2].map(|()| gpu.buffer(&dtype.encode(&call.x)));
        let learned = call.tables.first().map(|table| gpu.buffer(&dtype.encode(table)));
        let mut buffers = Buffers::new(&x, &y);
        if let Some(learned) = &learned {
            buffers = buffers.table(learned);
        }
        let dispatch = prepare(&gpu.kernels, &problem, buffers).expect("a dispatch");
        group.throughput(Throughput::Bytes(2 * x.size()));
        group.bench_function(BenchmarkId::from_parameter(format!("8x1024x1024 {dtype} {name}")), |bencher| {
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
