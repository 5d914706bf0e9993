//! VQ lookup on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use tileloom::vq_lookup::{self, Buffers, Combine, Config, Problem};
use tileloom::{Context, Dtype, Error, ErrorKind, Layout};

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

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("vq_lookup", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("every bit pattern of 16 bits moves", |gpu| {
        let problem = Problem { bad: None, x: Dtype::F16, y: Dtype::F16, ..shape(1, 1024, 1, 1024, 64) };
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let indices: Vec<u8> = (0..1024u32).flat_map(|i| (i * 577 % 1024).to_le_bytes()).collect();
        let (indices, codebook) = (gpu.buffer(&indices), gpu.buffer(&bytes));
        let y = gpu.buffer(&vec![0; bytes.len()]);
        let dispatch = vq_lookup::prepare(&gpu.kernels, &problem, Buffers::new(&indices, &codebook, &y));
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.map_err(|error| error.to_string())?.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        let after = gpu.read(&y)?;
        let wrong = (0..1024).find(|i| after[i * 128..][..128] != bytes[i * 577 % 1024 * 128..][..128]);
        wrong.map_or(Ok(()), |row| Err(format!("bits of row {row} differ")))
    });
    // Vectors that the rounds of a workgroup do not divide; one book with batches apart.
    suite.case("rows of a workgroup's own", |gpu| {
        let problem = Problem { y_layout: Layout::strided(4, [4000, 100]), ..shape(2, 33, 1, 13, 64) };
        with_tiles(gpu, problem, 13, &[(None, 1), (None, 5), (None, 7)])
    });
    suite.case("errors", errors);
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
