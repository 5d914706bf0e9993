//! What must be refused. Sizes that 32 bits cannot hold: `usize` has 32 bits here, and a product that wraps comes out small, and would
//! pass. A shader that the browser does not take.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use tileloom::kernels::Rewrite;
use tileloom::{
    Error, ErrorKind, KernelsOptions, Op, attention, gemm, gemm_quant, rope, softmax, vq_assign, vq_lookup, wgpu,
};
use wasm_bindgen::JsError;

use crate::Refusal;
use crate::gpu::Gpu;

const SIDE: usize = 1 << 16;

/// The size that an error tells of.
fn size(kind: &ErrorKind) -> Option<u128> {
    match kind {
        ErrorKind::IndexOverflow { last, .. } => Some(*last),
        ErrorKind::BufferTooSmall { need, .. } | ErrorKind::BindingTooLarge { need, .. } => Some((*need).into()),
        _ => None,
    }
}

/// What came of a call, which must tell a size of 2^32 or more.
fn refusal<T>(call: String, result: Result<T, Error>) -> Refusal {
    let right = result.as_ref().err().and_then(|error| size(&error.kind)).is_some_and(|size| size >= 1 << 32);
    let told = result.err().map_or("it was not refused".into(), |error| error.to_string());
    Refusal { call, told, right }
}

/// Calls whose buffers have 4096 bytes each.
pub fn sizes(gpu: &Gpu) -> Vec<Refusal> {
    let buffers: Vec<wgpu::Buffer> = (0..4).map(|_| gpu.buffer(&[0; 4096])).collect();
    let [a, b, c, d] = [&buffers[0], &buffers[1], &buffers[2], &buffers[3]];
    let kernels = &gpu.kernels;

    let rows = |rows: usize, cols: usize| {
        let problem = softmax::Problem { rows, cols, ..Default::default() };
        let result = problem.prepare(kernels, softmax::Buffers::new(a, b));
        refusal(format!("softmax of {rows} x {cols}"), result)
    };
    let product = gemm::Problem { m: SIDE + 1, n: SIDE, k: 1, ..Default::default() };
    let packed = gemm_quant::Problem { n: 1024 * SIDE, k: 1024, ..Default::default() };
    let turned = rope::Problem { batch: SIDE, seq: SIDE / 2 + 1, ..Default::default() };
    let (heads, seq_q, head_dim) = (1 << 12, SIDE, 64);
    let (kv_heads, value_dim) = (heads, head_dim);
    let heads = attention::Problem { heads, kv_heads, seq_q, head_dim, value_dim, ..Default::default() };
    let codes = vq_assign::Problem { num_codes: SIDE * 16, code_dim: SIDE / 8 + 1, ..Default::default() };
    let vectors = vq_lookup::Problem { spatial: SIDE * 16, code_dim: SIDE / 8 + 1, ..Default::default() };
    vec![
        rows(SIDE, SIDE),
        rows(SIDE + 1, SIDE),
        rows(1 << 30, 5),
        refusal("gemm of 65537 x 65536 x 1".into(), product.prepare(kernels, gemm::Buffers::new(a, b, c))),
        refusal(
            "gemm_quant of 1 x 67108864 x 1024".into(),
            packed.prepare(kernels, gemm_quant::Buffers::new(a, b, c, d)),
        ),
        refusal("rope of 65536 x 32769 x 2".into(), turned.prepare(kernels, rope::Buffers::new(a, b))),
        refusal(
            "attention, 4096 heads of 65536 x 1 x 64".into(),
            heads.prepare(kernels, attention::Buffers::new(a, b, c, d)),
        ),
        refusal("vq_assign, 1048576 codes of 8193".into(), codes.prepare(kernels, vq_assign::Buffers::new(a, b, c))),
        refusal(
            "vq_lookup, 1048576 vectors of 8193".into(),
            vectors.prepare(kernels, vq_lookup::Buffers::new(a, b, c)),
        ),
    ]
}

/// On a device of its own, whose kernels have a fault: `prepare_async` tells it each time, also of two at once and after `prepare`, which cannot
/// wait: the handler of the device hears of it.
pub async fn shader() -> Result<Refusal, JsError> {
    let heard = Arc::new(AtomicUsize::new(0));
    let count = heard.clone();
    let rewrite = Rewrite(Arc::new(|_, source| source + "fault"));
    let options = KernelsOptions { rewrite: Some(rewrite), ..Default::default() };
    let hear = move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    };
    let gpu = Gpu::open(options, hear).await?;
    let [x, y] = [gpu.buffer(&[0; 4096]), gpu.buffer(&[0; 4096])];
    let problem = softmax::Problem { rows: 4, cols: 256, ..Default::default() };
    let buffers = softmax::Buffers::new(&x, &y);
    let asked = || softmax::prepare_async(&gpu.kernels, &problem, buffers);
    let first = asked().await;
    let second = asked().await;
    let (third, fourth) = both(asked(), asked()).await;
    let before = heard.load(Ordering::Relaxed);
    let at_once = softmax::prepare(&gpu.kernels, &problem, buffers);
    let behind = asked().await;
    gpu.read(&y).await?;
    let after = heard.load(Ordering::Relaxed);
    let each = [&second, &third, &fourth, &behind].into_iter().all(Result::is_err);
    Ok(Refusal {
        call: "a shader with a fault".into(),
        right: first.is_err() && each && at_once.is_ok() && before == 0 && after > 0,
        told: format!(
            "prepare_async, {}: {}; prepare: the device's handler has heard of it {after} times",
            if each { "each time" } else { "the first time" },
            first.err().map_or("nothing".into(), |error| error.to_string()),
        ),
    })
}

/// Two futures by turns.
async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    poll_fn(|context| {
        if of_a.is_none()
            && let Poll::Ready(output) = a.as_mut().poll(context)
        {
            of_a = Some(output);
        }
        if of_b.is_none()
            && let Poll::Ready(output) = b.as_mut().poll(context)
        {
            of_b = Some(output);
        }
        match (of_a.take(), of_b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            waiting => {
                (of_a, of_b) = waiting;
                Poll::Pending
            }
        }
    })
    .await
}
