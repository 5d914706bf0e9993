//! VQ lookup on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use tileloom::vq_lookup::{self, Buffers, Combine, Config, Order, Problem};
use tileloom::weights::{Data, Format, Source};
use tileloom::{Caps, Context, Dtype, Error, ErrorKind, Kernels, Layout};

use super::refused;
use crate::{Depth, Suite};

fn shape(batch: usize, spatial: usize, books: usize, num_codes: usize, code_dim: usize) -> Problem {
    Problem { batch, spatial, books, num_codes, code_dim, bad: Some(0), ..Problem::default() }
}

/// Runs and judges with tiles of the caller's.
fn with_tiles(gpu: &Gpu, problem: Problem, seed: u64, tiles: &[(Option<[u32; 2]>, u32)]) -> Result<(), String> {
    let call = Call::random(problem, seed);
    let chosen = call.chosen(&gpu.kernels.caps())?;
    for &(tile, rows) in tiles {
        let [wg_size, lanes] = tile.unwrap_or([chosen.wg_size, chosen.lanes]);
        call.check(gpu, &gpu.kernels, Some(&Config { wg_size, lanes, rows, ..chosen }))?;
    }
    Ok(())
}

/// Elements of these bits, 65,536 of them and more, in one book: as many codes as hold them, looked up out of order in two
/// batches, come back as they are, and nothing else is written.
fn moves(gpu: &Gpu, shape: Problem, bits: impl Fn(usize) -> u32) -> Result<(), String> {
    let (dim, bytes) = (shape.code_dim, shape.x.bytes() as usize);
    let spatial = (1usize << 16).div_ceil(dim).div_ceil(2);
    let n = 2 * spatial;
    let problem = Problem { batch: 2, spatial, num_codes: n, ..shape };
    let code_of = |i: usize| i * 577 % n;
    let image = |offset: usize, element: &dyn Fn(usize) -> u32| {
        let elements = (0..offset + n * dim + 3)
            .map(|i| i.checked_sub(offset).filter(|&i| i < n * dim).map_or(0x5a5a_5a5a, element));
        let mut all: Vec<u8> = elements.flat_map(|word| word.to_le_bytes()[..bytes].to_vec()).collect();
        all.resize(all.len().next_multiple_of(4), 0x5a);
        all
    };
    let looked_up = |i: usize| {
        let (row, col) = match shape.order {
            Order::ChannelsLast => (i / dim, i % dim),
            Order::ChannelsFirst => (i / dim / spatial * spatial + i % spatial, i / spatial % dim),
        };
        bits(code_of(row) * dim + col)
    };
    let indices: Vec<u8> = (0..n).flat_map(|i| (code_of(i) as u32).to_le_bytes()).collect();
    let (indices, codebook) = (gpu.buffer(&indices), gpu.buffer(&image(shape.codebook.offset, &bits)));
    let y = gpu.buffer(&image(shape.y_layout.offset, &|_| 0x5a5a_5a5a));
    let dispatch = vq_lookup::prepare(&gpu.kernels, &problem, Buffers::new(&indices, &codebook, &y));
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    dispatch.map_err(|error| error.to_string())?.record(&mut encoder);
    gpu.queue.submit([encoder.finish()]);
    let (after, want) = (gpu.read(&y)?, image(shape.y_layout.offset, &looked_up));
    let wrong = (0..want.len()).find(|&i| after[i] != want[i]);
    wrong.map_or(Ok(()), |at| Err(format!("{problem:?}: element {} differs", at / bytes)))
}

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("vq_lookup", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("every bit pattern of 16 bits moves", |gpu| {
        for x in [Dtype::F16, Dtype::Bf16] {
            let even = Problem { x, y: x, code_dim: 64, ..Problem::default() };
            let odd = Problem { code_dim: 63, codebook: Layout::at(1), y_layout: Layout::at(1), ..even };
            let apart = Problem { code_dim: 62, codebook: Layout::at(3), y_layout: Layout::at(2), ..even };
            for problem in [even, odd, apart] {
                moves(gpu, problem, |i| i as u32)?;
                moves(gpu, Problem { order: Order::ChannelsFirst, ..problem }, |i| i as u32)?;
            }
        }
        Ok(())
    });
    suite.case("NaN and subnormals of 32 bits move", |gpu| {
        let bits = |i: usize| (i as u32).wrapping_mul(0x9e37_79b9) | [0, 0x7f80_0000][i / 2 % 2];
        let bits = move |i: usize| if i.is_multiple_of(2) { bits(i) } else { bits(i) & 0x807f_ffff };
        for (code_dim, offset) in [(64, 4), (63, 1)] {
            let (codebook, y_layout) = (Layout::at(offset), Layout::at(offset));
            let problem = Problem { code_dim, codebook, y_layout, ..Problem::default() };
            moves(gpu, problem, bits)?;
            moves(gpu, Problem { order: Order::ChannelsFirst, ..problem }, bits)?;
        }
        Ok(())
    });
    // Vectors that the rounds of a workgroup do not divide; one book with batches apart.
    suite.case("rows of a workgroup's own", |gpu| {
        let problem = Problem { y_layout: Layout::strided(4, [4000, 100]), ..shape(2, 33, 1, 13, 64) };
        with_tiles(gpu, problem, 13, &[(None, 1), (None, 5), (None, 7)])
    });
    suite.case("errors", errors);
    suite.case("packed weights: errors", packed_errors);
    suite.case("packed weights: a table in parts", packed_parts);
    if suite.depth >= Depth::Wide {
        wide(suite);
    }
}

fn wide(suite: &mut Suite) {
    suite.case("every Config of a kind", |gpu| {
        let tiles = [(64, 8, 1), (64, 4, 4), (8, 8, 64), (16, 1, 2), (128, 32, 1)];
        with_tiles(
            gpu,
            shape(3, 75, 2, 19, 48),
            10,
            &tiles.map(|(wg_size, lanes, rows)| (Some([wg_size, lanes]), rows)),
        )
    });
    suite.case("packed weights: tensors", |gpu| {
        let run = async {
            let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
            // Two rows of q8_0: scale 0.5 and codes 0 to 31, scale 2 and codes -1.
            let blocks =
                [&[0, 0x38][..], &std::array::from_fn::<u8, 32, _>(|i| i as u8), &[0, 0x40], &[0xff; 32]].concat();
            let packed = Format::Q8_0.pack("w", 2, 32, Source::Ggml(Data::Bytes(&blocks)))?;
            let weights = context.upload_weights(&packed)?;
            let y = weights.vq_lookup::<f32, _>(&context.upload(&[1u32, 0, 7], &[3, 1])?)?;
            Ok::<_, Error>((y.shape().to_vec(), y.read().await?))
        };
        let (shape, y) = pollster::block_on(run).map_err(|error| error.to_string())?;
        match (&shape[..], &y[..32], y[32 + 5], &y[64..]) {
            ([3, 1, 32], ones, 2.5, none) if ones == [-2.0; 32] && none == [0.0; 32] => Ok(()),
            _ => Err(format!("{shape:?} {y:?}")),
        }
    });
    suite.case("tensors", |gpu| {
        let run = async {
            let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
            let book = context.upload(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[3, 2])?;
            let indices = context.upload(&[2u16, 0, 9, 1], &[2, 2])?;
            let y = book.vq_lookup(&indices, Combine::Concat)?;
            let books = context.upload(&[1.0f32, 2.0, 3.0, 4.0], &[2, 2, 1])?;
            let sum = books.vq_lookup(&context.upload(&[1, 0, 0, 1], &[2, 2])?, Combine::Sum)?;
            let refused = books.vq_lookup(&context.upload(&[1u32, 0, 0], &[3])?, Combine::Sum);
            assert!(matches!(refused, Err(Error { kind: ErrorKind::Shape { arg: "indices", .. }, .. })), "{refused:?}");
            Ok::<_, Error>((y.shape().to_vec(), y.read().await?, sum.read().await?))
        };
        let got = pollster::block_on(run).map_err(|error| error.to_string())?;
        let want = (vec![2, 2, 2], vec![5.0, 6.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0], vec![5.0, 5.0]);
        if got == want { Ok(()) } else { Err(format!("{got:?}")) }
    });
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let buffer = |words: usize| gpu.buffer(&vec![0; words * 4]);
    let (indices, codebook, y) = (buffer(8), buffer(64), buffer(64));
    let prepare = |problem: &Problem, y| {
        vq_lookup::prepare(&gpu.kernels, problem, Buffers::new(&indices, &codebook, y)).map(drop)
    };
    let good = Problem { bad: None, ..shape(1, 8, 1, 8, 8) };
    prepare(&good, &y).map_err(|error| error.to_string())?;
    let invalid = |kind: &ErrorKind| matches!(kind, ErrorKind::InvalidProblem { .. });
    refused("no books", prepare(&Problem { books: 0, ..good }, &y), invalid)?;
    refused("no codes", prepare(&Problem { num_codes: 0, ..good }, &y), invalid)?;
    refused("overlap", prepare(&Problem { y_layout: Layout::strided(0, [0, 7]), ..good }, &y), invalid)?;
    refused("a large book", prepare(&Problem { num_codes: 9, ..good }, &y), |kind| {
        matches!(kind, ErrorKind::BufferTooSmall { buffer: "codebook", need: 288, have: 256, .. })
    })?;
    refused("y is the codebook", prepare(&good, &codebook), |kind| matches!(kind, ErrorKind::Aliased { .. }))?;
    refused("no count", prepare(&Problem { bad: Some(0), ..good }, &y), |kind| {
        matches!(kind, ErrorKind::MissingBuffer { buffer: "bad", .. })
    })?;
    let none = prepare(&Problem { spatial: 0, ..good }, &y);
    none.map_err(|error| format!("nothing to do: {error}"))?;
    gpu.read(&y).map(drop)
}

fn table(format: Format, num_codes: usize, code_dim: usize) -> Problem {
    Problem { format: Some(format), ..shape(1, 100, 1, num_codes, code_dim) }
}

/// Every way to be refused with packed weights, once.
fn packed_errors(gpu: &Gpu) -> Result<(), String> {
    let buffer = |words: usize| gpu.buffer(&vec![0; words * 4]);
    let [indices, codes, scales, y, bad] = [100, 64, 16, 3200, 1].map(buffer);
    let plain = Buffers::new(&indices, &codes, &y).bad(&bad);
    let prepare = |problem: &Problem| vq_lookup::prepare(&gpu.kernels, problem, plain.scales(&scales)).map(drop);
    let good = table(Format::Q4_0, 16, 32);
    prepare(&good).map_err(|error| error.to_string())?;
    let invalid = |kind: &ErrorKind| matches!(kind, ErrorKind::InvalidProblem { .. });
    refused("two books", prepare(&Problem { books: 2, ..good }), invalid)?;
    refused("channels first", prepare(&Problem { order: Order::ChannelsFirst, ..good }), invalid)?;
    refused("a layout", prepare(&Problem { codebook: Layout::at(4), ..good }), invalid)?;
    let odd = Format { interleave: 3, ..Format::Q4_0 };
    refused("interleaved by three", prepare(&Problem { format: Some(odd), ..good }), invalid)?;
    refused("k of no blocks", prepare(&Problem { format: Some(Format::Q4_K), ..good }), invalid)?;
    refused("a large table", prepare(&Problem { num_codes: 17, ..good }), |kind| {
        matches!(kind, ErrorKind::BufferTooSmall { buffer: "scales", need: 96, have: 64 })
    })?;
    let none = vq_lookup::prepare(&gpu.kernels, &good, plain).map(drop);
    refused("no scales", none, |kind| matches!(kind, ErrorKind::MissingBuffer { buffer: "scales" }))?;
    let unused = prepare(&Problem { format: None, num_codes: 2, code_dim: 32, ..good });
    refused("scales of plain codes", unused, |kind| matches!(kind, ErrorKind::UnusedBuffer { buffer: "scales" }))
}

/// A device that binds 64 KiB: codes are bound in parts, scales must fit.
fn packed_parts(gpu: &Gpu) -> Result<(), String> {
    let mut caps: Caps = (*gpu.kernels.caps()).clone();
    caps.limits.max_storage_buffer_binding_size = 1 << 16;
    let kernels = Kernels::new(&gpu.device, caps);
    for (format, num_codes, code_dim) in [
        (Format::Q4_0, 10_000, 32),
        (Format { interleave: 1, ..Format::FP8 }, 1100, 100),
        (Format::NF4_FLAT, 1500, 100),
    ] {
        let (output, _) = Call::random(table(format, num_codes, code_dim), 4).check(gpu, &kernels, None)?;
        // The first step clears the count.
        if output.steps.len() < 3 {
            return Err(format!("{format:?} ran in one piece"));
        }
    }
    match Call::random(table(Format::Q4_0, 40_000, 32), 1).run(gpu, &kernels, None) {
        Err(error) if error.contains("`scales` needs a binding of") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
