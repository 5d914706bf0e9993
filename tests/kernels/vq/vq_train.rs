//! Training of a codebook on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::random::Random;
use tileloom::reference::vq_assign::{distance, nearest};
use tileloom::vq_assign::Metric;
use tileloom::vq_train::{self, Buffers, KMeansBuffers, Problem};
use tileloom::{Dtype, ErrorKind, wgpu};

use super::refused;
use crate::Suite;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("vq_train", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("k-means finds clusters", kmeans);
    suite.case("no batch", nothing);
    suite.case("errors", errors);
}

/// Buffers of no bytes for the batch: a step moves what runs, k-means leaves the codebook.
fn nothing(gpu: &Gpu) -> Result<(), String> {
    let problem = Problem { n: 0, num_codes: 2, code_dim: 2, decay: 0.5, epsilon: 0.0, ..Problem::default() };
    let usage = wgpu::BufferUsages::STORAGE;
    let empty =
        gpu.device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 0, usage, mapped_at_creation: false });
    let floats = |all: &[f64]| gpu.buffer(&Dtype::F32.encode(all));
    for means in [false, true] {
        let [counts, sums] = [2, 4].map(|words| gpu.buffer(&vec![if means { 0x7f } else { 0 }; words * 4]));
        let (ema_counts, stats) = (floats(&[2.0, 6.0]), floats(&[f64::NAN; 2]));
        let [ema_sums, codebook] = [[4.0, 8.0, 12.0, 6.0], [7.0, 8.0, 9.0, 10.0]].map(|all| floats(&all));
        let step = buffers([&counts, &sums, &empty, &ema_counts, &ema_sums, &codebook, &stats]);
        let dispatch = match means {
            false => vq_train::prepare(&gpu.kernels, &problem, step),
            true => {
                vq_train::prepare_kmeans(&gpu.kernels, &problem, 3, KMeansBuffers { indices: (&empty).into(), step })
            }
        };
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.map_err(|error| error.to_string())?.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        let read = |buffer: &wgpu::Buffer| Ok::<_, String>(Dtype::F32.decode(&gpu.read(buffer)?));
        let found = [read(&ema_counts)?, read(&ema_sums)?, read(&codebook)?, read(&stats)?];
        let want = match means {
            false => [vec![1.0, 3.0], vec![2.0, 4.0, 6.0, 3.0], vec![2.0, 4.0, 2.0, 1.0], vec![4.0, 0.0]],
            true => [vec![0.0; 2], vec![0.0; 4], vec![7.0, 8.0, 9.0, 10.0], vec![0.0; 2]],
        };
        if found != want {
            return Err(format!("k-means {means}: {found:?}, expected {want:?}"));
        }
    }
    Ok(())
}

/// Buffers of `counts`, `sums`, `x`, then of the running counts and sums, the codebook and stats.
fn buffers(all: [&wgpu::Buffer; 7]) -> Buffers<'_> {
    let [counts, sums, x, ema_counts, ema_sums, codebook, stats] = all.map(|buffer| buffer.into());
    Buffers { counts, sums, x, ema_counts, ema_sums, codebook, stats }
}

/// 240 vectors around 6 places far apart: the mean of each is found, whatever is drawn first.
fn kmeans(gpu: &Gpu) -> Result<(), String> {
    let (n, num_codes, code_dim) = (240, 12, 4);
    let mut random = Random::new(6);
    let place = |i: usize, d: usize| 100.0 * ((i * 7 + d * 3) % 6) as f64;
    let x: Vec<f64> = (0..n * code_dim)
        .map(|at| Dtype::F32.round(place(at / code_dim % 6, at % code_dim) + random.normal()))
        .collect();
    let problem = Problem { n, num_codes, code_dim, seed: 3, ..Problem::default() };
    let batch = gpu.buffer(&Dtype::F32.encode(&x));
    // Averages and codes that hold anything: nothing of them may show.
    let [counts, sums, indices] = [num_codes, num_codes * code_dim, n].map(|words| gpu.buffer(&vec![0x7f; words * 4]));
    let [ema_counts, ema_sums, codebook, stats] = [num_codes, num_codes * code_dim, num_codes * code_dim, 2]
        .map(|len| gpu.buffer(&Dtype::F32.encode(&vec![f64::NAN; len])));
    let step = buffers([&counts, &sums, &batch, &ema_counts, &ema_sums, &codebook, &stats]);
    let dispatch =
        vq_train::prepare_kmeans(&gpu.kernels, &problem, 8, KMeansBuffers { indices: (&indices).into(), step });
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    dispatch.map_err(|error| error.to_string())?.record(&mut encoder);
    gpu.queue.submit([encoder.finish()]);
    let codes = Dtype::F32.decode(&gpu.read(&codebook)?);
    let least = |x: &[f64]| {
        let best = nearest::<f64>(Metric::L2, x, &codes, 1)[0];
        distance::<f64>(Metric::L2, x, &codes[best * code_dim..][..code_dim])
    };
    let spread = x.chunks(code_dim).map(least).sum::<f64>() / n as f64;
    // Within a cluster a vector is 4 from the mean, squared.
    if spread < 5.0 { Ok(()) } else { Err(format!("vectors are {spread} from their codes")) }
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let buffer = gpu.buffer(&[0; 256]);
    let prepare = |problem: Problem| vq_train::prepare(&gpu.kernels, &problem, buffers([&buffer; 7])).map(drop);
    let bad = prepare(Problem { decay: 1.5, ..Problem::default() });
    refused("decay", bad, |kind| matches!(kind, ErrorKind::InvalidProblem { arg: "decay", .. }))?;
    let large = prepare(Problem { num_codes: 1000, ..Problem::default() });
    refused("size", large, |kind| matches!(kind, ErrorKind::BufferTooSmall { buffer: "counts", .. }))?;
    refused("one buffer for all", prepare(Problem::default()), |kind| matches!(kind, ErrorKind::Aliased { .. }))
}
