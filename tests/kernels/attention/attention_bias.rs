//! Attention biases on a GPU: what is more than a Problem of the list.

use loom::kernels::attention::attention_bias::{alibi, t5};
use tileloom::attention_bias::{self, Buckets, Buffers, Problem, alibi_slopes};
use tileloom::{Context, Dtype, Error, ErrorKind, Layout};

use crate::{Depth, Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("attention_bias", cases);

pub fn cases(suite: &mut Suite) {
    errors(suite);
    if suite.depth >= Depth::Wide {
        wide(suite);
    }
}

fn wide(suite: &mut Suite) {
    suite.case("tensors", |gpu| {
        let run = async {
            let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
            let slopes = context.upload(&alibi_slopes(2), &[2])?;
            let alibi = slopes.alibi_bias::<f32>(1, 3)?;
            let buckets = Buckets { num_buckets: 4, max_distance: 8, bidirectional: true };
            let table = context.upload(&[7.0f32, 8.0, 9.0, 10.0], &[4, 1])?;
            let t5 = table.t5_bias(buckets, 2, 2)?;
            let refused = slopes.t5_bias(buckets, 2, 2);
            assert!(matches!(refused, Err(Error { kind: ErrorKind::Shape { arg: "table", .. }, .. })), "{refused:?}");
            Ok::<_, Error>((alibi.read().await?, t5.read().await?))
        };
        let (alibi, t5) = pollster::block_on(run).map_err(|error| error.to_string())?;
        let near = alibi == [-0.125, -0.0625, 0.0, -0.0078125, -0.00390625, 0.0];
        if near && t5 == [7.0, 10.0, 8.0, 7.0] { Ok(()) } else { Err(format!("{alibi:?} {t5:?}")) }
    });
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(suite: &mut Suite) {
    suite.case("errors", |gpu| {
        let buffer = |elements: usize| gpu.buffer(&vec![0; elements * 4]);
        let (table, bias) = (buffer(64), buffer(64));
        let prepare = |problem: &Problem, buffers: Buffers| attention_bias::prepare(&gpu.kernels, problem, buffers);
        let good = alibi(2, 4, 8);
        let t5 = |num_buckets, max_distance, bidirectional| {
            t5(Dtype::F32, Buckets { num_buckets, max_distance, bidirectional }, good)
        };
        for (problem, arg) in [
            (t5(2, 128, true), "num_buckets"),
            (t5(7, 128, true), "num_buckets"),
            (t5(1, 128, false), "num_buckets"),
            (t5(32, 8, true), "max_distance"),
            (t5(32, 1 << 21, true), "max_distance"),
            (Problem { bias_layout: Layout::strided(0, [8, 7]), ..good }, "bias_layout"),
            (Problem { heads: 1 << 31, ..good }, "heads"),
        ] {
            invalid(arg, prepare(&problem, Buffers::t5(&table, &bias)))?;
        }
        refused("no slopes", prepare(&good, Buffers::t5(&table, &bias)), |e| {
            matches!(e, Error { kind: ErrorKind::MissingBuffer { buffer: "slopes", .. }, .. })
        })?;
        refused("a short table", prepare(&t5(64, 128, true), Buffers::t5(&table, &bias)), |e| {
            matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "table", need: 512, have: 256, .. }, .. })
        })?;
        refused("slopes in the bias", prepare(&good, Buffers::alibi(&bias, &bias)), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { first: "bias", second: "slopes", .. }, .. })
        })?;
        gpu.read(&bias).map(drop)
    });
}
