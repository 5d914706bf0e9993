//! A program with a device of WebGPU's defaults, one buffer for all, and passes before and behind the kernels'.

use consumer::{Gpu, part};
use tileloom::{Caps, Kernels, gemm, softmax};

const ROWS: usize = 24;
const COLS: usize = 50;
const OUT: usize = 33;

/// Scores that the program's own pass computes, in places of its own choice in one buffer: element offsets.
const SCORES: u64 = 1024;
const WEIGHTS: u64 = SCORES + 4 * (ROWS * COLS) as u64 + 64;

fn score(i: usize) -> f64 {
    (i * 37 % 101) as f64 / 10.0 - 5.0
}

fn value(i: usize) -> f64 {
    (i * 53 % 97) as f64 / 48.0 - 1.0
}

/// The squares of softmax(scores) values, in f64.
fn expected() -> Vec<f64> {
    let mut all = Vec::new();
    for row in 0..ROWS {
        let exp: Vec<f64> = (0..COLS).map(|c| score(row * COLS + c).exp()).collect();
        let sum: f64 = exp.iter().sum();
        for n in 0..OUT {
            let d: f64 = (0..COLS).map(|c| exp[c] / sum * value(c * OUT + n)).sum();
            all.push(d * d);
        }
    }
    all
}

/// Fills, softmax, product, squares: in one encoder, the kernels by turns in passes of theirs and of the program.
fn run(gpu: &Gpu, kernels: &Kernels) -> Vec<f32> {
    let storage = wgpu::BufferUsages::STORAGE;
    let align = u64::from(gpu.device.limits().min_storage_buffer_offset_alignment);
    let weights = WEIGHTS.next_multiple_of(align);
    let arena = gpu.buffer(&vec![f32::NAN; (weights / 4) as usize + ROWS * COLS + 16], storage);
    let values: Vec<f32> = (0..COLS * OUT).map(|i| value(i) as f32).collect();
    let values = gpu.buffer(&values, storage);
    let result = gpu.buffer(&vec![f32::NAN; ROWS * OUT + 2], storage);

    let fill = gpu.pipeline(
        "@group(0) @binding(0) var<storage, read_write> scores: array<f32>;
        @compute @workgroup_size(64) fn fill(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < arrayLength(&scores) { scores[id.x] = f32(id.x * 37u % 101u) / 10.0 - 5.0; }
        }",
    );
    let square = gpu.pipeline(
        "@group(0) @binding(0) var<storage, read_write> x: array<f32>;
        @compute @workgroup_size(64) fn square(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < arrayLength(&x) { x[id.x] *= x[id.x]; }
        }",
    );
    let scores = SCORES..SCORES + 4 * (ROWS * COLS) as u64;
    let filled = gpu.bind(&fill.get_bind_group_layout(0), &[part(&arena, scores.clone())]);
    let squared = gpu.bind(&square.get_bind_group_layout(0), &[part(&result, 0..4 * (ROWS * OUT) as u64)]);

    let weighed = weights..weights + 4 * (ROWS * COLS) as u64;
    let problem = softmax::Problem { rows: ROWS, cols: COLS, ..Default::default() };
    let buffers = softmax::Buffers::new(part(&arena, scores), part(&arena, weighed.clone()));
    let softmax = softmax::prepare(kernels, &problem, buffers).expect("softmax");
    let problem = gemm::Problem { m: ROWS, n: OUT, k: COLS, ..Default::default() };
    let buffers = gemm::Buffers::new(part(&arena, weighed), &values, &result);
    let product = gemm::prepare(kernels, &problem, buffers).expect("gemm");

    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    let own = |encoder: &mut wgpu::CommandEncoder, pipeline, group, count: usize| {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, group, &[]);
        pass.dispatch_workgroups(count.div_ceil(64) as u32, 1, 1);
        // A kernel in a pass of the program: dispatches of a pass that share a buffer run in order.
        if count == ROWS * COLS {
            softmax.record_in(&mut pass);
        }
    };
    own(&mut encoder, &fill, &filled, ROWS * COLS);
    product.record(&mut encoder);
    own(&mut encoder, &square, &squared, ROWS * OUT);
    gpu.queue.submit([encoder.finish()]);
    let read = gpu.read(&result, 0..4 * (ROWS * OUT + 2) as u64);
    assert!(read[ROWS * OUT..].iter().all(|canary: &f32| canary.is_nan()), "written behind the result");
    read[..ROWS * OUT].to_vec()
}

#[test]
fn between_passes_of_its_own() {
    let gpu = Gpu::open();
    let caps = Caps::of(&gpu.adapter, &gpu.device);
    assert!(!caps.f16 && gpu.device.features().is_empty());
    let read = run(&gpu, &Kernels::new(&gpu.device, caps));
    for (i, (have, want)) in read.iter().zip(expected()).enumerate() {
        assert!((f64::from(*have) - want).abs() <= 1e-5, "element {i}: {have}, expected {want}");
    }
}

/// Kernels are shared, pipelines compiled once, encoders of two threads submitted as they come.
#[test]
fn on_two_threads() {
    let gpu = Gpu::open();
    let kernels = Kernels::new(&gpu.device, Caps::of(&gpu.adapter, &gpu.device));
    let first = run(&gpu, &kernels);
    let pipelines = kernels.pipeline_count();
    let all: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| (0..4).map(|_| run(&gpu, &kernels)).collect())).collect();
        let results = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        results.collect::<Vec<Vec<Vec<f32>>>>().concat()
    });
    assert!(all.len() == 8 && all.iter().all(|other| *other == first), "other bits on another thread");
    assert_eq!(kernels.pipeline_count(), pipelines);
}

/// What is wrong comes back from `prepare`: nothing reaches the handler of the device, which would panic.
#[test]
fn errors_come_back() {
    let gpu = Gpu::open();
    let kernels = Kernels::new(&gpu.device, Caps::of(&gpu.adapter, &gpu.device));
    let small = gpu.buffer(&[0f32; 8], wgpu::BufferUsages::STORAGE);
    let other = gpu.buffer(&[0f32; 64], wgpu::BufferUsages::VERTEX);
    let problem = softmax::Problem { rows: 4, cols: 8, ..Default::default() };
    let fail = |buffers| softmax::prepare(&kernels, &problem, buffers).expect_err("it does not fit").to_string();
    let told = fail(softmax::Buffers::in_place(&small));
    assert!(told.contains("softmax") && told.contains("128") && told.contains("32"), "{told}");
    let told = fail(softmax::Buffers::in_place(&other));
    assert!(told.contains("softmax") && told.contains("STORAGE"), "{told}");
}
