//! VQ scatter on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use tileloom::ErrorKind;
use tileloom::vq_scatter::{self, Buffers, Problem};

use super::refused;
use crate::Suite;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("vq_scatter", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("more positions of one code than an invocation may loop over everywhere", |gpu| {
        let shape = Problem { batch: 2, spatial: 3001, code_dim: 64, counts: Some(0), ..Problem::default() };
        let (output, _) = Call::random(shape, 6).check(gpu, &gpu.kernels, None)?;
        let rounds = gpu.kernels.caps().loop_rounds();
        let runs = rounds.map_or(1, |limit| 6002usize.div_ceil((limit as usize - 16) / 18 / 4 * 4));
        let said = output.steps.iter().all(|step| step.contains("vec: 4") && step.contains("count: true"));
        match output.steps.len() == runs && said {
            true => Ok(()),
            false => Err(format!("meant {runs} runs of vec: 4 that count, ran {:?}", output.steps)),
        }
    });
    suite.case("errors", errors);
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
