//! Criterion benchmarks, one module per kernel: GPU work by wall time with a wait per call, and host time
//! of `prepare` and `record_in`. `loom bench` measures GPU time and the share of the roofline.
//!
//! `TILELOOM_ADAPTER` and `WGPU_BACKEND` choose the adapter; the first is taken.

mod attention;
mod rope;
mod softmax;

use criterion::Criterion;

fn main() {
    let adapter = loom::gpu::adapters().into_iter().next().expect(loom::gpu::NO_ADAPTER);
    let gpu = loom::Gpu::open(&adapter).expect("a device");
    println!("{}", gpu.kernels.caps().label());
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    attention::benches(&gpu, &mut criterion);
    rope::benches(&gpu, &mut criterion);
    softmax::benches(&gpu, &mut criterion);
    criterion.final_summary();
}
