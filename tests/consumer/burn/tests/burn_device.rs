//! A network's step by turns: burn's product, tileloom's softmax and attention in burn's buffers, burn's product of what they gave.

use burn::tensor::{Device, Tensor, TensorData};
use consumer_burn::{Held, open};
use tileloom::{Caps, Dispatch, Kernels, Result, attention, softmax, wgpu};

const ROWS: usize = 24;
const INNER: usize = 40;
const COLS: usize = 50;

fn values(len: usize, step: usize) -> Vec<f32> {
    (0..len).map(|i| (i * step % 101) as f32 / 50.0 - 1.0).collect()
}

fn upload<const D: usize>(device: &Device, values: &[f32], shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// [m, k] by [k, n], in f64.
fn product(a: &[f64], b: &[f64], [m, n, k]: [usize; 3]) -> Vec<f64> {
    (0..m * n).map(|i| (0..k).map(|l| a[i / n * k + l] * b[l * n + i % n]).sum()).collect()
}

fn softmax_rows(x: &[f64], cols: usize) -> Vec<f64> {
    let rows = x.chunks(cols).map(|row| {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exp: Vec<f64> = row.iter().map(|x| (x - most).exp()).collect();
        let sum: f64 = exp.iter().sum();
        exp.into_iter().map(move |x| x / sum).collect::<Vec<_>>()
    });
    rows.flatten().collect()
}

fn close<const D: usize>(found: Tensor<D>, expected: &[f64]) {
    let found = found.into_data().try_into_vec::<f32>().expect("f32");
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(*found) - expected).abs() < 1e-5, "element {i}: {found}, expected {expected}");
    }
}

/// Submits on burn's own queue.
fn run(device: &wgpu::Device, queue: &wgpu::Queue, dispatch: Result<Dispatch>) {
    let mut encoder = device.create_command_encoder(&Default::default());
    dispatch.expect("burn's buffers do").record(&mut encoder);
    queue.submit([encoder.finish()]);
}

#[test]
fn in_burns_buffers() {
    let setup = open();
    let kernels = Kernels::new(&setup.device, Caps::of(&setup.adapter, &setup.device));
    let device = Device::default();
    let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();

    // softmax(a b) v
    let [a, b, v] = [values(ROWS * INNER, 37), values(INNER * COLS, 53), values(COLS * INNER, 29)];
    let scores = upload(&device, &a, [ROWS, INNER]).matmul(upload(&device, &b, [INNER, COLS]));
    let (scores, weights) = (Held::of(scores), Held::of(Tensor::<2>::zeros([ROWS, COLS], &device)));
    let problem = softmax::Problem { rows: ROWS, cols: COLS, ..Default::default() };
    let buffers = softmax::Buffers::new(scores.binding(), weights.binding());
    run(&setup.device, &setup.queue, softmax::prepare(&kernels, &problem, buffers));
    let found = weights.back::<2>().matmul(upload(&device, &v, [COLS, INNER]));
    let soft = softmax_rows(&product(&wide(&a), &wide(&b), [ROWS, COLS, INNER]), COLS);
    close(found, &product(&soft, &wide(&v), [ROWS, INNER, COLS]));
    close(scores.back::<2>(), &product(&wide(&a), &wide(&b), [ROWS, COLS, INNER]));

    // Two heads, whose queries burn has scaled.
    let (heads, dim) = (2, 32);
    let [q, k, v] = [values(heads * ROWS * dim, 41), values(heads * COLS * dim, 61), values(heads * COLS * dim, 23)];
    let queries = upload(&device, &q, [1, heads, ROWS, dim]) * 0.5;
    let [queries, keys] = [queries, upload(&device, &k, [1, heads, COLS, dim])].map(Held::of);
    let [vs, o] =
        [upload(&device, &v, [1, heads, COLS, dim]), Tensor::zeros([1, heads, ROWS, dim], &device)].map(Held::of);
    let problem = attention::Problem {
        heads,
        kv_heads: heads,
        seq_q: ROWS,
        seq_kv: COLS,
        head_dim: dim,
        value_dim: dim,
        scale: 1.0,
        ..Default::default()
    };
    let buffers = attention::Buffers::new(queries.binding(), keys.binding(), vs.binding(), o.binding());
    run(&setup.device, &setup.queue, attention::prepare(&kernels, &problem, buffers));
    let mut expected = Vec::new();
    for head in 0..heads {
        let of = |x: &[f32], len: usize| wide(&x[head * len * dim..(head + 1) * len * dim]);
        let (q, k, v) = (of(&q, ROWS), of(&k, COLS), of(&v, COLS));
        let keys: Vec<f64> = (0..dim * COLS).map(|i| k[i % COLS * dim + i / COLS] * 0.5).collect();
        let soft = softmax_rows(&product(&q, &keys, [ROWS, COLS, dim]), COLS);
        expected.extend(product(&soft, &v, [ROWS, dim, COLS]).iter().map(|x| 2.0 * x));
    }
    close(o.back::<4>() * 2.0, &expected);
}
