//! The counting sort on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use tileloom::ErrorKind;
use tileloom::counting_sort::{self, Buffers, Problem};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("counting_sort", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [keys, order, offsets] = [8, 8, 9].map(|words| gpu.buffer(&vec![0; words * 4]));
    let good = Problem { n: 8, num_keys: 8, ..Problem::default() };
    let buffers = Buffers::new(&keys, &order, &offsets);
    let prepare = |problem: &Problem| counting_sort::prepare(&gpu.kernels, problem, buffers);
    prepare(&good).map_err(|error| error.to_string())?;
    invalid("num_keys", prepare(&Problem { num_keys: 0, ..good }))?;
    invalid("segments", prepare(&Problem { segments: 0, ..good }))?;
    invalid("n", prepare(&Problem { n: (1 << 30) + 1, ..good }))?;
    invalid("num_keys", prepare(&Problem { num_keys: 1 << 16, segments: 1 << 15, n: 1, ..good }))?;
    refused("many keys", prepare(&Problem { num_keys: 9, ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "offsets", need: 40, have: 36 })
    })?;
    refused("many positions", prepare(&Problem { n: 9, ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "keys", need: 36, have: 32 })
    })?;
    refused("no counts", prepare(&Problem { counts: Some(0), ..good }), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "counts" })
    })?;
    let scratch = gpu.buffer(&[0; 4]);
    refused("little scratch", counting_sort::prepare(&gpu.kernels, &good, buffers.scratch(&scratch)), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "scratch", have: 4, .. })
    })?;
    refused("in place", counting_sort::prepare(&gpu.kernels, &good, Buffers::new(&keys, &keys, &offsets)), |error| {
        matches!(error.kind, ErrorKind::Aliased { .. })
    })
}
