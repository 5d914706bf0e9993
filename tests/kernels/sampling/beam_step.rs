//! A step of beam search on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use tileloom::ErrorKind;
use tileloom::beam_step::{self, Buffers, Problem};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("beam_step", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [logits, scores, a, b, c] = [60, 6, 12, 12, 12].map(|words: usize| gpu.buffer(&vec![0; words * 4]));
    let good = Problem { batch: 2, beams: 3, vocab: 10, top: 6, ..Problem::default() };
    let buffers = Buffers::new(&logits, &scores, &a, &b, &c);
    let prepare = |problem: &Problem| beam_step::prepare(&gpu.kernels, problem, buffers).map(drop);
    prepare(&good).map_err(|error| error.to_string())?;
    invalid("top", prepare(&Problem { top: 0, ..good }))?;
    invalid("top", prepare(&Problem { top: 1025, ..good }))?;
    invalid("beams", prepare(&Problem { beams: 0, ..good }))?;
    invalid("vocab", prepare(&Problem { vocab: 0, ..good }))?;
    invalid("beams", prepare(&Problem { beams: 1 << 20, vocab: 1 << 20, ..good }))?;
    refused("many batches", prepare(&Problem { batch: 3, ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "logits", need: 360, have: 240 })
    })?;
    refused("a larger top", prepare(&Problem { top: 7, ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "out_scores", need: 56, have: 48 })
    })?;
    let scratch = gpu.buffer(&[0; 4]);
    refused("little scratch", beam_step::prepare(&gpu.kernels, &good, buffers.scratch(&scratch)), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "scratch", have: 4, .. })
    })?;
    let twice = Buffers::new(&logits, &scores, &a, &b, &b);
    refused("one buffer twice", beam_step::prepare(&gpu.kernels, &good, twice), |error| {
        matches!(error.kind, ErrorKind::Aliased { .. })
    })
}
