//! Gradients of slopes and tables on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use loom::kernels::attention::attention_bias;
use tileloom::attention_bias::Buckets;
use tileloom::attention_bias_backward::{Buffers, Kind, Problem, prepare};
use tileloom::{Context, Dtype, Error, ErrorKind, Layout};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("attention_bias_backward", cases);

fn cases(suite: &mut Suite) {
    suite.case("errors", errors);
    suite.case("tensors", tensors);
    suite.case("of a forward Problem", |gpu| {
        let alibi = attention_bias::alibi(3, 9, 17);
        for forward in [alibi, attention_bias::t5(Dtype::F16, Buckets::t5(true), alibi)] {
            Call::random(tileloom::attention_bias::backward(&forward), 3).check(gpu, &gpu.kernels, None)?;
        }
        Ok(())
    });
}

/// Two queries at the last two of three keys: distances -1, 0, 1 and -2, -1, 0.
fn tensors(gpu: &Gpu) -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
        let dbias = context.upload(&[1f32, 2.0, 4.0, 8.0, 16.0, 32.0], &[1, 2, 3])?;
        let read = |t: tileloom::Tensor<f32>| pollster::block_on(t.read());
        assert_eq!(read(dbias.alibi_bias_backward()?)?, [-37.0]);
        let buckets = Buckets { num_buckets: 4, max_distance: 8, bidirectional: true };
        assert_eq!(read(dbias.t5_bias_backward(buckets)?)?, [34.0, 25.0, 0.0, 4.0]);
        let flat = context.upload(&[1f32], &[1])?;
        let error = flat.alibi_bias_backward().unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Shape { arg: "dbias", .. }));
        Ok(())
    };
    run().map_err(|error| error.to_string())
}

/// Every way to be refused, once.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [dbias, dslopes, dtable] = [24, 2, 64].map(|words| gpu.buffer(&vec![0; words * 4]));
    let alibi = Problem { heads: 2, seq_q: 3, seq_kv: 4, ..Problem::default() };
    let t5 = Problem { kind: Kind::T5 { buckets: Buckets::t5(true), layout: Layout::default() }, ..alibi };
    let tried = |problem: &Problem, buffers| prepare(&gpu.kernels, problem, buffers);
    tried(&alibi, Buffers::alibi(&dbias, &dslopes)).map_err(|error| error.to_string())?;
    tried(&t5, Buffers::t5(&dbias, &dtable)).map_err(|error| error.to_string())?;
    let buckets = Buckets { num_buckets: 5, ..Buckets::t5(true) };
    let odd = Problem { kind: Kind::T5 { buckets, layout: Layout::default() }, ..alibi };
    let same = Problem { kind: Kind::T5 { buckets: Buckets::t5(true), layout: Layout::strided(0, [1, 1]) }, ..alibi };
    for (arg, problem, buffers) in [
        ("num_buckets", odd, Buffers::t5(&dbias, &dtable)),
        ("dtable", same, Buffers::t5(&dbias, &dtable)),
        ("seq_q", Problem { seq_q: 1 << 29, ..alibi }, Buffers::alibi(&dbias, &dslopes)),
    ] {
        invalid(arg, tried(&problem, buffers))?;
    }
    refused("no slopes", tried(&alibi, Buffers::new(&dbias)), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "dslopes" })
    })?;
    refused("a table", tried(&alibi, Buffers::t5(&dbias, &dtable).dslopes(&dslopes)), |error| {
        matches!(error.kind, ErrorKind::UnusedBuffer { buffer: "dtable" })
    })?;
    refused("small", tried(&Problem { seq_kv: 5, ..alibi }, Buffers::alibi(&dbias, &dslopes)), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "dbias", need: 120, have: 96 })
    })?;
    refused("aliased", tried(&t5, Buffers::t5(&dtable, &dtable)), |error| {
        matches!(error.kind, ErrorKind::Aliased { .. })
    })
}
