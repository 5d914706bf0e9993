//! DeepSeek-V3's multi-token prediction: `M [norm(h); norm(e)]`. Each norm writes its half of one buffer, of which gemm and gemm_quant then read
//! whole rows, bit by bit what they read of a copy that puts the halves together.

use loom::Gpu;
use loom::harness::Call;
use tileloom::norm::{self, Kind, Vector};
use tileloom::weights::{Data, Format};
use tileloom::{Dtype, Layout, gemm, gemm_quant, wgpu};

use crate::Suite;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("mtp", cases);

fn cases(suite: &mut Suite) {
    suite.case("two norms into the halves of one product", halves);
}

fn halves(gpu: &Gpu) -> Result<(), String> {
    let fail = |error: tileloom::Error| error.to_string();
    let (rows, d) = (9, 64);
    let of = norm::Problem { rows, cols: d, weight: Some(Vector::of(Dtype::F32)), ..norm::Problem::of(Kind::Rms) };
    let norms = [1, 2].map(|seed| Call::random(of, seed));
    let matrix: Vec<f32> = (0..d * 2 * d).map(|i| ((i * 37 % 101) as f32 - 50.0) / 400.0).collect();
    let floats =
        |values: &[f64]| gpu.buffer(bytemuck::cast_slice(&values.iter().map(|&v| v as f32).collect::<Vec<_>>()));
    let zeros = |n: usize| gpu.buffer(&vec![0; 4 * n]);

    // Apart, and put together on the host.
    let apart: Vec<Vec<f64>> = norms
        .iter()
        .map(|call| Ok(call.check(gpu, &gpu.kernels, None)?.0.values["y"].clone()))
        .collect::<Result<_, String>>()?;
    let copied: Vec<f64> =
        (0..rows).flat_map(|row| apart.iter().flat_map(move |y| y[row * d..][..d].to_vec())).collect();
    let copied = floats(&copied);

    let both = zeros(rows * 2 * d);
    let inputs: Vec<[wgpu::Buffer; 2]> =
        norms.iter().map(|call| ["x", "weight"].map(|name| floats(&call.values[name]))).collect();
    let mut steps = Vec::new();
    for (half, [x, weight]) in inputs.iter().enumerate() {
        let y_layout = Layout::strided(half * d, [2 * d, 0, 0]);
        let buffers = norm::Buffers::new(x, &both).weight(weight);
        steps.push(norm::prepare(&gpu.kernels, &norm::Problem { y_layout, ..of }, buffers).map_err(fail)?);
    }

    let plain = gemm::Problem { trans_b: true, ..gemm::Problem::new(rows, d, 2 * d, Dtype::F32) };
    let m = gpu.buffer(bytemuck::cast_slice(&matrix));
    let format = Format::INT8;
    let (packed, _) =
        format.quantize("m", d, 2 * d, Data::Bytes(bytemuck::cast_slice(&matrix)), Dtype::F32).map_err(fail)?;
    let [codes, scales] = [&packed.codes, &packed.scales].map(|words| gpu.buffer(bytemuck::cast_slice(words)));
    let quant = gemm_quant::Problem { m: rows, n: d, k: 2 * d, format: packed.format, ..Default::default() };
    let outs: Vec<wgpu::Buffer> = (0..4).map(|_| zeros(rows * d)).collect();
    for (i, a) in [&both, &copied].into_iter().enumerate() {
        let buffers = gemm::Buffers::new(a, &m, &outs[i]);
        steps.push(gemm::prepare(&gpu.kernels, &plain, buffers).map_err(fail)?);
        let buffers = gemm_quant::Buffers::new(a, &codes, &scales, &outs[2 + i]);
        steps.push(gemm_quant::prepare(&gpu.kernels, &quant, buffers).map_err(fail)?);
    }
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    steps.iter().for_each(|step| step.record(&mut encoder));
    gpu.queue.submit([encoder.finish()]);

    let read = |buffer| Ok::<Vec<f32>, String>(bytemuck::pod_collect_to_vec(&gpu.read(buffer)?));
    for (name, pair) in [("gemm", &outs[..2]), ("gemm_quant", &outs[2..])] {
        let (own, copy) = (read(&pair[0])?, read(&pair[1])?);
        if own.iter().any(|v| v.to_bits() == 0 || !v.is_finite()) || own != copy {
            return Err(format!("{name}: {own:?}\n{copy:?}"));
        }
    }
    // And what they should be, of the first row.
    let first: Vec<f64> = apart.iter().flat_map(|y| y[..d].to_vec()).collect();
    for (column, have) in read(&outs[0])?[..d].iter().enumerate() {
        let row = &matrix[column * 2 * d..][..2 * d];
        let want: f64 = first.iter().zip(row).map(|(a, &b)| a * f64::from(b)).sum();
        if (f64::from(*have) - want).abs() > 1e-4 {
            return Err(format!("column {column}: {have} instead of {want}"));
        }
    }
    Ok(())
}
