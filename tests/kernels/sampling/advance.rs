//! Sequences moved on, on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use tileloom::ErrorKind;
use tileloom::Layout;
use tileloom::advance::{self, Buffers, Problem};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("advance", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [state, tokens, accepted, history] = [40, 6, 3, 30].map(|words: usize| gpu.buffer(&vec![0; words * 4]));
    let good = Problem { batch: 3, width: 2, most: 10, slots: Some(3), pages: 3, page_size: 10, ..Problem::default() };
    let buffers = Buffers::new(&state, &tokens);
    let prepare = |problem: &Problem| advance::prepare(&gpu.kernels, problem, buffers).map(drop);
    prepare(&good).map_err(|error| error.to_string())?;
    invalid("width", prepare(&Problem { width: 0, ..good }))?;
    invalid("width", prepare(&Problem { width: 1025, ..good }))?;
    invalid("most", prepare(&Problem { most: 1, ..good }))?;
    invalid("stops", prepare(&Problem { stops: Some(20), num_stops: 1, ..good }))?;
    invalid("num_stops", prepare(&Problem { stops: Some(20), num_stops: 65, done: Some(30), ..good }))?;
    invalid("page_size", prepare(&Problem { page_size: 0, ..good }))?;
    invalid("page_size", prepare(&Problem { pages: 1 << 20, page_size: 1 << 20, ..good }))?;
    invalid("pages", prepare(&Problem { pages: 2, ..good }))?;
    invalid("slots", prepare(&Problem { slots: Some(2), ..good }))?;
    invalid("table", prepare(&Problem { table: Some(8), max_pages: 1, ..good }))?;
    refused("positions past the end", prepare(&Problem { positions: Some(20), axes: 4, ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "state", need: 176, have: 160 })
    })?;
    refused("more sequences", prepare(&Problem { batch: 4, pages: 4, slots: Some(4), ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "tokens", need: 32, have: 24 })
    })?;
    let with = Problem { accepted: Some(0), history: Some(Layout::default()), ..good };
    refused("nothing accepted", prepare(&with), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "accepted" })
    })?;
    let all = buffers.accepted(&accepted).history(&history);
    advance::prepare(&gpu.kernels, &with, all).map_err(|error| error.to_string())?;
    refused("one buffer twice", advance::prepare(&gpu.kernels, &with, all.history(&state)), |error| {
        matches!(error.kind, ErrorKind::Aliased { .. })
    })
}
