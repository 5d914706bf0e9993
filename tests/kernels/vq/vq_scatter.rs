//! VQ scatter on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use tileloom::vq_lookup::{Index, Order};
use tileloom::vq_scatter::{self, Buffers, Config, Problem};
use tileloom::{Dtype, ErrorKind, Kernels, Layout};

use super::refused;
use crate::Suite;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("vq_scatter", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("more positions of one code than an invocation may loop over everywhere", |gpu| {
        let shape = Problem { batch: 2, spatial: 3001, code_dim: 64, counts: Some(0), ..Problem::default() };
        Call::random(shape, 6).check(gpu, &gpu.kernels, None).map(drop)
    });
    suite.case("blocks of a few positions", blocks);
    suite.case("vectors that no binding holds", parts);
    suite.case("f16 and bf16 at the end of a run", |gpu| {
        for x in [Dtype::F16, Dtype::Bf16] {
            for spatial in [3492, 3493] {
                let shape = Problem { spatial, code_dim: 64, counts: Some(0), x, ..Problem::default() };
                Call::random(shape, 7).check(gpu, &gpu.kernels, None)?;
            }
        }
        Ok(())
    });
    suite.case("no positions, in buffers of a word", nothing);
    suite.case("errors", errors);
}

/// Runs begin and end anywhere in blocks, at their ends, and reach over several.
fn blocks(gpu: &Gpu) -> Result<(), String> {
    for (spatial, num_codes, code_dim, books) in [(500, 3, 8, 1), (129, 40, 5, 2), (64, 1, 4, 1), (65, 1, 3, 1)] {
        let shape = Problem { spatial, num_codes, code_dim, books, counts: Some(0), ..Problem::default() };
        let all = vq_scatter::candidates(&gpu.kernels.caps(), &shape).map_err(|error| error.to_string())?;
        // Those that differ in more than their blocks.
        let bits = all[0].block_bits;
        for config in all.into_iter().filter(|config| config.block_bits == bits) {
            for block_bits in [0, 3, 5] {
                let config = Config { block_bits, ..config };
                Call::random(shape, 8).check(gpu, &gpu.kernels, Some(&config))?;
            }
        }
    }
    Ok(())
}

/// By batches and by positions; what no part helps is refused by name.
fn parts(gpu: &Gpu) -> Result<(), String> {
    let mut caps = (*gpu.kernels.caps()).clone();
    caps.limits.max_storage_buffer_binding_size = 1 << 14;
    let kernels = Kernels::new(&gpu.device, caps);
    let base = Problem { num_codes: 9, code_dim: 16, counts: Some(0), ..Problem::default() };
    let first = Problem { order: Order::ChannelsFirst, batch: 9, spatial: 70, x: Dtype::F16, ..base };
    let strided = Problem {
        spatial: 700,
        books: 2,
        index: Index::U16,
        indices: Layout::strided(5, [3, 1]),
        x_layout: Layout::strided(3, [0, 40]),
        ..base
    };
    for shape in [Problem { spatial: 1500, ..base }, Problem { batch: 7, spatial: 150, ..base }, first, strided] {
        let (output, _) = Call::random(shape, 9).check(gpu, &kernels, None)?;
        let runs = output.steps.iter().filter(|step| step.contains("vq_scatter_sum")).count();
        if runs < 2 {
            return Err(format!("meant several runs, ran {:?}", output.steps));
        }
    }
    let [indices, x, sums] = [4 * 5000, 4 * 5000 * 16, 4 * 5000].map(|bytes| gpu.buffer(&vec![0; bytes]));
    let wide = Problem { order: Order::ChannelsFirst, spatial: 5000, ..base };
    let wide = Problem { counts: None, ..wide };
    let result = vq_scatter::prepare(&kernels, &wide, Buffers::new(&indices, &x, &sums)).map(drop);
    refused("no part", result, |kind| matches!(kind, ErrorKind::BindingTooLarge { buffer: "indices" | "x", .. }))?;
    let many = Problem { num_codes: 300, counts: None, ..base };
    let result = vq_scatter::prepare(&kernels, &many, Buffers::new(&indices, &x, &sums)).map(drop);
    refused("large sums", result, |kind| matches!(kind, ErrorKind::BindingTooLarge { buffer: "sums", .. }))
}

/// Sums and counts are 0.
fn nothing(gpu: &Gpu) -> Result<(), String> {
    let shape = Problem { spatial: 0, num_codes: 3, code_dim: 4, counts: Some(0), ..Problem::default() };
    let [empty, word] = [0, 4].map(|size| {
        let usage = tileloom::wgpu::BufferUsages::STORAGE;
        gpu.device.create_buffer(&tileloom::wgpu::BufferDescriptor {
            label: None,
            size,
            usage,
            mapped_at_creation: false,
        })
    });
    for small in [&empty, &word] {
        let [sums, counts] = [12, 3].map(|words| gpu.buffer(&vec![0xa5; words * 4]));
        let dispatch = vq_scatter::prepare(&gpu.kernels, &shape, Buffers::new(small, small, &sums).counts(&counts));
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.map_err(|error| error.to_string())?.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        let (sums, counts) = (gpu.read(&sums)?, gpu.read(&counts)?);
        if sums.iter().chain(&counts).any(|&byte| byte != 0) {
            return Err(format!("sums {sums:?}, counts {counts:?}"));
        }
    }
    Ok(())
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [indices, x, sums] = [8, 64, 64].map(|words| gpu.buffer(&vec![0; words * 4]));
    let good = Problem { spatial: 8, num_codes: 8, code_dim: 8, ..Problem::default() };
    let prepare =
        |problem: &Problem| vq_scatter::prepare(&gpu.kernels, problem, Buffers::new(&indices, &x, &sums)).map(drop);
    prepare(&good).map_err(|error| error.to_string())?;
    let none = prepare(&Problem { num_codes: 0, ..good });
    refused("no codes", none, |kind| matches!(kind, ErrorKind::InvalidProblem { arg: "num_codes", .. }))?;
    let large = prepare(&Problem { num_codes: 9, ..good });
    refused("large sums", large, |kind| matches!(kind, ErrorKind::BufferTooSmall { buffer: "sums", .. }))?;
    let counted = prepare(&Problem { counts: Some(0), ..good });
    refused("no counts", counted, |kind| matches!(kind, ErrorKind::MissingBuffer { buffer: "counts", .. }))
}
