//! The update of the bias on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use tileloom::moe_bias::{self, Buffers, Problem};
use tileloom::{Context, Error, ErrorKind, Layout};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("moe_bias", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", tensors);
}

fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let counts = context.upload(&[1u32, 2, 3], &[3])?;
        let bias = context.upload(&[0f32, 1.0, 2.0], &[3])?;
        bias.moe_bias(&counts, 0.25)?;
        assert_eq!(pollster::block_on(bias.read())?, [0.25, 1.0, 1.75]);
        let few = context.upload(&[1u32, 2], &[2])?;
        let error = bias.moe_bias(&few, 0.25).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "counts", .. }));
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [counts, bias] = [12, 12].map(|words| gpu.buffer(&vec![0; words * 4]));
    let good = Problem { rows: 3, experts: 4, ..Problem::default() };
    let prepare = |problem: &Problem| moe_bias::prepare(&gpu.kernels, problem, Buffers::new(&counts, &bias));
    prepare(&good).map_err(|error| error.to_string())?;
    invalid("experts", prepare(&Problem { experts: 0, ..good }))?;
    invalid("experts", prepare(&Problem { experts: 65_537, ..good }))?;
    invalid("gamma", prepare(&Problem { gamma: f32::INFINITY, ..good }))?;
    invalid("bias", prepare(&Problem { bias: Layout::strided(0, [3]), ..good }))?;
    refused("many rows", prepare(&Problem { rows: 4, ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "counts", need: 64, have: 48 })
    })?;
    refused("in place", moe_bias::prepare(&gpu.kernels, &good, Buffers::new(&counts, &counts)), |error| {
        matches!(error.kind, ErrorKind::Aliased { .. })
    })
}
