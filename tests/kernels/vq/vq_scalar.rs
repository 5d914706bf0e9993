//! Scalar quantisation on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use tileloom::vq_scalar::{self, Buffers, Config, Direction, Problem};
use tileloom::{ErrorKind, Op};

use super::refused;
use crate::Suite;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("vq_scalar", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let buffer = gpu.buffer(&[0; 64]);
    let prepare = |problem: Problem| {
        vq_scalar::prepare(&gpu.kernels, &problem, Buffers::new(&buffer, &buffer).x(&buffer)).map(drop)
    };
    for levels in [&[][..], &[1], &[4096, 4096, 4096]] {
        let result = prepare(Problem { levels, ..Problem::default() });
        refused("levels", result, |kind| matches!(kind, ErrorKind::InvalidProblem { arg: "levels", .. }))?;
    }
    let decoded = prepare(Problem { direction: Direction::Decode, ..Problem::default() });
    refused("x of indices", decoded, |kind| matches!(kind, ErrorKind::UnusedBuffer { buffer: "x", .. }))?;
    let caps = gpu.kernels.caps();
    let problem = Problem { levels: &[8, 5, 5, 5], ..Problem::default() };
    let chosen = problem.choose(&caps).map_err(|error| error.to_string())?;
    let fits = |wg_size| problem.fits(&caps, &Config { wg_size, ..chosen });
    fits(8).map_err(|error| error.to_string())?;
    for wg_size in [0, caps.most_invocations() + 1] {
        refused("invocations", fits(wg_size), |kind| matches!(kind, ErrorKind::ConfigUnfit { .. }))?;
    }
    Ok(())
}
