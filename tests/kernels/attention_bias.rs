//! Attention biases on a GPU. Shapes, layouts and buckets are parameters.

use loom::Gpu;
use loom::kernels::attention_bias::{Call, Output};
use tileloom::attention_bias::{self, Buckets, Buffers, Kind, Problem, alibi_slopes};
use tileloom::{Context, Dtype, Error, ErrorKind, Layout};

use crate::{Depth, Suite};

fn alibi(heads: usize, seq_q: usize, seq_kv: usize) -> Problem {
    Problem { heads, seq_q, seq_kv, ..Problem::default() }
}

fn t5(dtype: Dtype, buckets: Buckets, problem: Problem) -> Problem {
    Problem { kind: Kind::T5 { buckets, dtype, layout: Layout::default() }, ..problem }
}

/// Runs and judges; the step's form must say all of `words`.
fn check(gpu: &Gpu, call: &Call, words: &[&str]) -> Result<Output, String> {
    let (output, _) = call.check(gpu, &gpu.kernels, None)?;
    match words.iter().all(|word| output.steps[0].contains(word)) {
        true => Ok(output),
        false => Err(format!("meant to run {words:?}, ran {}", output.steps[0])),
    }
}

pub fn cases(suite: &mut Suite) {
    suite.case("alibi", |gpu| {
        for (heads, seq_q, seq_kv) in [(1, 1, 4), (12, 40, 40), (3, 1, 300), (5, 33, 8), (7, 2, 4096)] {
            check(gpu, &Call::random(alibi(heads, seq_q, seq_kv), 1), &["vec: 4, bias: F32, table: None"])?;
            let kind = Kind::Alibi { offset: 3 };
            let bias_layout = Layout::strided(5, [seq_q * (seq_kv + 3), seq_kv + 3]);
            let problem = Problem { kind, bias_layout, ..alibi(heads, seq_q, seq_kv) };
            check(gpu, &Call::random(problem, 1), &["vec: 1, bias: F32, table: None"])?;
        }
        Ok(())
    });
    suite.case("t5", |gpu| {
        let few = Buckets { num_buckets: 6, max_distance: 20, bidirectional: false };
        for buckets in [Buckets::t5(true), Buckets::t5(false), few] {
            for (heads, seq_q, seq_kv) in [(1, 1, 4), (8, 150, 300), (8, 300, 12), (2, 1, 1024)] {
                let problem = t5(Dtype::F32, buckets, alibi(heads, seq_q, seq_kv));
                check(gpu, &Call::random(problem, 2), &["vec: 4, bias: F32, table: Some(F32)"])?;
                // Heads first: the table's transpose.
                let layout = Layout::strided(2, [1, buckets.num_buckets + 1]);
                let kind = Kind::T5 { buckets, dtype: Dtype::F32, layout };
                check(gpu, &Call::random(Problem { kind, ..problem }, 3), &["vec: 4, bias: F32, table: Some(F32)"])?;
            }
        }
        Ok(())
    });
    suite.case("16 bits, rows that share words", |gpu| {
        for (bias, dtype, word) in
            [(Dtype::F16, Dtype::Bf16, "table: Some(Bf16)"), (Dtype::Bf16, Dtype::F16, "table: Some(F16)")]
        {
            let problem = Problem { bias, ..t5(dtype, Buckets::t5(true), alibi(3, 21, 33)) };
            // Words of its own where f16 is native.
            let words = if bias == Dtype::Bf16 { &[word, "edge: true"][..] } else { &[word] };
            check(gpu, &Call::random(problem, 2), words)?;
        }
        check(gpu, &Call::random(Problem { bias: Dtype::F16, ..alibi(12, 40, 64) }, 2), &["table: None"]).map(drop)
    });
    suite.case("nothing to compute", |gpu| {
        for (heads, seq_q, seq_kv) in [(0, 3, 3), (2, 0, 3), (2, 3, 0)] {
            let output = Call::random(alibi(heads, seq_q, seq_kv), 1).run(gpu, &gpu.kernels, None)?;
            if !output.steps.is_empty() {
                return Err(format!("dispatched {:?}", output.steps));
            }
        }
        Ok(())
    });
    errors(suite);
    if suite.depth >= Depth::Wide {
        wide(suite);
    }
}

fn wide(suite: &mut Suite) {
    suite.case("checked modules give the same", |gpu| {
        for problem in [alibi(3, 9, 33), t5(Dtype::F32, Buckets::t5(true), alibi(3, 200, 333))] {
            let call = Call::random(problem, 1);
            let (unchecked, _) = call.check(gpu, &gpu.kernels, None)?;
            let (checked, _) = call.check(gpu, gpu.checked(), None)?;
            if gpu.is_software() && unchecked.bias != checked.bias {
                return Err("bits differ".into());
            }
        }
        Ok(())
    });
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
            match prepare(&problem, Buffers::t5(&table, &bias)) {
                Err(Error { kind: ErrorKind::InvalidProblem { arg: have, .. }, .. }) if have == arg => {}
                other => return Err(format!("{arg}: {:?}", other.err())),
            }
        }
        let expect = |what: &str, result: Result<_, Error>, ok: fn(&Error) -> bool| match result {
            Err(error) if ok(&error) => Ok(()),
            Err(error) => Err(format!("{what}: {error:?}")),
            Ok(_) => Err(format!("{what} was accepted")),
        };
        expect("no slopes", prepare(&good, Buffers::t5(&table, &bias)), |e| {
            matches!(e, Error { kind: ErrorKind::MissingBuffer { buffer: "slopes", .. }, .. })
        })?;
        expect("a short table", prepare(&t5(64, 128, true), Buffers::t5(&table, &bias)), |e| {
            matches!(e, Error { kind: ErrorKind::BufferTooSmall { buffer: "table", need: 512, have: 256, .. }, .. })
        })?;
        expect("slopes in the bias", prepare(&good, Buffers::alibi(&bias, &bias)), |e| {
            matches!(e, Error { kind: ErrorKind::Aliased { first: "bias", second: "slopes", .. }, .. })
        })?;
        gpu.read(&bias).map(drop)
    });
}
