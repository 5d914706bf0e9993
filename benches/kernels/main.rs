//! Criterion benchmarks, one module per kernel: GPU work by wall time with a wait per call, and host time
//! of `prepare` and `record_in`. `loom bench` measures GPU time and the share of the roofline.
//!
//! `TILELOOM_ADAPTER` and `WGPU_BACKEND` choose the adapter; the first is taken.

mod attention;
mod attention_bias;
mod attention_merge;
mod gemm;
mod position_encoding;
mod rope;
mod softmax;
mod softmax_backward;
mod vq_assign;
mod vq_lookup;
mod vq_scalar;
mod vq_scatter;
mod vq_train;

use criterion::Criterion;

fn main() {
    let adapter = loom::gpu::adapters().into_iter().next().expect(loom::gpu::NO_ADAPTER);
    let gpu = loom::Gpu::open(&adapter).expect("a device");
    println!("{}", gpu.kernels.caps().label());
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    attention_bias::benches(&gpu, &mut criterion);
    attention_merge::benches(&gpu, &mut criterion);
    attention::benches(&gpu, &mut criterion);
    gemm::benches(&gpu, &mut criterion);
    position_encoding::benches(&gpu, &mut criterion);
    rope::benches(&gpu, &mut criterion);
    softmax_backward::benches(&gpu, &mut criterion);
    softmax::benches(&gpu, &mut criterion);
    vq_assign::benches(&gpu, &mut criterion);
    vq_lookup::benches(&gpu, &mut criterion);
    vq_scalar::benches(&gpu, &mut criterion);
    vq_scatter::benches(&gpu, &mut criterion);
    vq_train::benches(&gpu, &mut criterion);
    criterion.final_summary();
}
